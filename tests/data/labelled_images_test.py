import pathlib

import pytest

from advbct_jax.data.labelled_images import list_labelled_images
from advbct_jax.errors import InputError


def touch(root: pathlib.Path, *paths: str) -> None:
  for path in paths:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).touch()


def test_each_folder_is_a_class_with_all_images_below_it(tmp_path):
  touch(tmp_path, 'owl/a.jpg', 'owl/2024/b.PNG', 'wren/c.webp', 'wren/d.heic')
  touch(tmp_path, 'wren/notes.txt', 'wren/.d.jpg', '.cache/e.jpg', 'README.md')
  root, paths_of = list_labelled_images(tmp_path)
  assert root == tmp_path
  assert {label: sorted(paths) for label, paths in paths_of.items()} == {
    'owl': ['owl/2024/b.PNG', 'owl/a.jpg'],
    'wren': ['wren/c.webp', 'wren/d.heic'],
  }


def test_a_table_names_paths_relative_to_itself(tmp_path):
  touch(tmp_path, 'a.jpg', 'deep/b.jpg', 'c.jpg', 'd.jpg')
  table = tmp_path / 'birds.csv'
  table.write_text(
    'label,path\n"owl, barn",a.jpg\nwren,./c.jpg\n"owl, barn",deep/b.jpg\n'
    'wren,d.jpg\n'
  )
  root, paths_of = list_labelled_images(table)
  assert root == tmp_path
  assert paths_of == {
    'owl, barn': ['a.jpg', 'deep/b.jpg'],
    'wren': ['c.jpg', 'd.jpg'],
  }


def test_classes_with_fewer_than_two_images_are_named(tmp_path):
  touch(tmp_path, 'owl/a.jpg', 'wren/b.jpg', 'wren/c.jpg', 'kite/notes.txt')
  with pytest.raises(InputError, match='fewer than two images of kite, owl,'):
    list_labelled_images(tmp_path)


def test_an_image_outside_of_a_class_is_named(tmp_path):
  touch(tmp_path, 'owl/a.jpg', 'owl/b.jpg', 'stray.jpg')
  with pytest.raises(InputError, match=r'stray\.jpg: found an image outside'):
    list_labelled_images(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path):
  touch(tmp_path, 'owl/notes.txt')
  with pytest.raises(InputError, match='found no images'):
    list_labelled_images(tmp_path)


def test_a_missing_source_is_named(tmp_path):
  with pytest.raises(InputError, match='birds: no such folder or file'):
    list_labelled_images(tmp_path / 'birds')


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('path,label\na.jpg,owl\nb.jpg,owl\n', r'line 3: found no image .*b\.jpg'),
    ('path,label\n,owl\n', 'line 2: found no image'),
    ('path,label\na.jpg,\n', r'line 2: found no label for a\.jpg'),
    ('path,label\na.jpg,owl\n./a.jpg,wren\n', r'a\.jpg has a row already'),
    ('path,class\na.jpg,owl\n', 'found the columns path,class'),
    ('path,label\na.jpg,owl\n', 'fewer than two images of owl'),
  ],
)
def test_a_malformed_table_is_refused(tmp_path, content, message):
  touch(tmp_path, 'a.jpg')
  table = tmp_path / 'birds.csv'
  table.write_text(content)
  with pytest.raises(InputError, match=message):
    list_labelled_images(table)
