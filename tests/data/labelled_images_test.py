import pathlib
import unicodedata

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


@pytest.mark.parametrize(
  'another',
  [
    ' owl é',
    'owl é\t',
    'owl  é',
    'owl\u00a0é',
    'owl e\u0301',
    '\ufeffowl é',
    'owl\u200b é',
  ],
)
def test_labels_that_look_the_same_are_one_class(tmp_path, another):
  touch(tmp_path, 'a.jpg', 'b.jpg')
  table = tmp_path / 'birds.csv'
  table.write_text(f'path,label\na.jpg,owl é\nb.jpg,{another}\n')
  assert list_labelled_images(table)[1] == {'owl é': ['a.jpg', 'b.jpg']}


def test_folders_that_look_the_same_are_one_class(tmp_path):
  touch(tmp_path, 'é/a.jpg', 'e\u0301/b.jpg')
  [(label, paths)] = list_labelled_images(tmp_path)[1].items()
  assert label == 'é'
  assert sorted(paths) == ['e\u0301/b.jpg', 'é/a.jpg']


def test_labels_that_differ_in_case_stay_two_which_is_said(tmp_path, capsys):
  touch(tmp_path, 'Owl/a.jpg', 'Owl/b.jpg', 'owl/c.jpg', 'owl/d.jpg')
  assert set(list_labelled_images(tmp_path)[1]) == {'Owl', 'owl'}
  said = capsys.readouterr().out
  assert said == 'taken as 2 classes, since they differ in case: Owl, owl\n'


def test_a_table_made_on_windows_has_backslashes(tmp_path):
  touch(tmp_path, 'owl/a.jpg', 'owl/2024/b.jpg')
  table = tmp_path / 'birds.csv'
  table.write_bytes(
    b'\xef\xbb\xbfpath,label\r\nowl\\a.jpg,owl\r\n.\\owl\\2024\\b.jpg,owl\r\n'
  )
  assert list_labelled_images(table)[1] == {
    'owl': ['owl/a.jpg', 'owl/2024/b.jpg']
  }


def test_backslashes_don_t_name_an_image_twice(tmp_path):
  touch(tmp_path, 'owl/a.jpg')
  table = tmp_path / 'birds.csv'
  table.write_text('path,label\nowl\\a.jpg,owl\nowl/a.jpg,owl\n')
  with pytest.raises(InputError, match=r'line 3: owl/a\.jpg has a row already'):
    list_labelled_images(table)


@pytest.mark.parametrize('form', ['NFC', 'NFD'])
def test_a_table_may_compose_letters_otherwise_than_the_disk(tmp_path, form):
  names = [unicodedata.normalize(form, name) for name in ('é.jpg', 'ü.jpg')]
  touch(tmp_path, *names)
  table = tmp_path / 'birds.csv'
  other = unicodedata.normalize('NFD' if form == 'NFC' else 'NFC', 'é.jpg')
  table.write_text(f'path,label\n{other},owl\n{names[1]},owl\n')
  assert list_labelled_images(table)[1] == {'owl': names}


def test_what_is_passed_over_is_said_in_one_line(tmp_path, capsys):
  touch(tmp_path, 'owl/a.jpg', 'owl/b.jpg', 'owl/notes.txt', 'owl/.c.jpg')
  touch(
    tmp_path, 'owl/.ipynb_checkpoints/a.jpg', 'owl/.ipynb_checkpoints/b.jpg'
  )
  list_labelled_images(tmp_path)
  assert capsys.readouterr().out == (
    f'{tmp_path}: passed over: 4 files (1 hidden, as owl/.c.jpg; 2 in '
    'hidden folders, as owl/.ipynb_checkpoints; 1 with no suffix of an image, '
    'as owl/notes.txt)\n'
  )


def test_nothing_is_said_where_nothing_is_passed_over(tmp_path, capsys):
  touch(tmp_path, 'owl/a.jpg', 'owl/b.jpg')
  list_labelled_images(tmp_path)
  assert capsys.readouterr().out == ''
