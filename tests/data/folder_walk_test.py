import os
import pathlib

import pytest

from advbct_jax.data.folder_walk import FolderWalk
from advbct_jax.errors import InputError


def touch(root: pathlib.Path, *paths: str) -> None:
  for path in paths:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).touch()


def listed(root: pathlib.Path) -> tuple[dict[str, list[str]], FolderWalk]:
  """The images by folder, and the walk that has found them."""
  walk = FolderWalk(root)
  images = {
    folder.name: sorted(
      path.relative_to(folder).as_posix() for path in walk.images(folder)
    )
    for folder in walk.folders()
  }
  return images, walk


@pytest.fixture
def birds(tmp_path: pathlib.Path) -> pathlib.Path:
  touch(tmp_path / 'birds', 'owl/a.jpg', 'owl/2024/b.PNG', 'wren/c.webp')
  touch(tmp_path / 'disk', 'd.jpg', 'deeper/e.jpg')
  return tmp_path / 'birds'


def test_a_link_to_a_folder_is_followed(birds, tmp_path):
  (birds / 'owl' / 'more').symlink_to(tmp_path / 'disk')
  images, walk = listed(birds)
  assert images == {
    'owl': ['2024/b.PNG', 'a.jpg', 'more/d.jpg', 'more/deeper/e.jpg'],
    'wren': ['c.webp'],
  }
  assert walk.describe() is None


def test_a_class_may_be_a_link_and_its_image_too(birds, tmp_path):
  (birds / 'kite').symlink_to(tmp_path / 'disk', target_is_directory=True)
  (birds / 'wren' / 'f.jpg').symlink_to(tmp_path / 'disk' / 'd.jpg')
  images, _ = listed(birds)
  assert images['kite'] == ['d.jpg', 'deeper/e.jpg']
  assert images['wren'] == ['c.webp', 'f.jpg']


@pytest.mark.parametrize('target', ['owl', '.', '..', '/', 'wren', 'owl/2024'])
def test_a_link_to_what_is_listed_anyway_is_not_followed(birds, target):
  before, _ = listed(birds)
  (birds / 'owl' / 'zz').symlink_to((birds / target).resolve())
  images, walk = listed(birds)
  assert images == before
  assert walk.describe() == (
    'passed over: 1 file (1 linking to a folder that is listed anyway, as '
    'owl/zz)'
  )


def test_two_links_to_each_other_come_to_an_end(birds, tmp_path):
  (birds / 'owl' / 'more').symlink_to(tmp_path / 'disk')
  (tmp_path / 'disk' / 'again').symlink_to(tmp_path / 'disk')
  (tmp_path / 'disk' / 'back').symlink_to(birds / 'owl')
  images, walk = listed(birds)
  assert len(images['owl']) == 4
  assert sum(walk.passed_over.values()) == 2


@pytest.mark.parametrize(
  'hidden',
  [
    *('.ipynb_checkpoints', '.git', '__MACOSX', '@eaDir', '$RECYCLE.BIN'),
    *('#recycle', '.Trashes', 'lost+found', 'System Volume Information'),
  ],
)
def test_hidden_folders_are_passed_over_wherever_they_lie(birds, hidden):
  before, _ = listed(birds)
  touch(
    birds, f'{hidden}/x.jpg', f'owl/{hidden}/y.jpg', f'owl/{hidden}/z/u.jpg'
  )
  images, walk = listed(birds)
  assert images == before
  assert walk.describe() == (
    f'passed over: 3 files (3 in hidden folders, as {hidden})'
  )


def test_links_that_lead_nowhere_are_passed_over(birds):
  (birds / 'owl' / 'gone.jpg').symlink_to(birds / 'nowhere.jpg')
  (birds / 'owl' / 'itself').symlink_to(birds / 'owl' / 'itself')
  _, walk = listed(birds)
  assert walk.passed_over == {'linking to nothing': 2}


def test_a_name_in_another_encoding_is_said_in_unicode(birds):
  touch(birds, os.fsdecode(b'owl/caf\xe9.txt'))
  _, walk = listed(birds)
  assert r'owl/caf\xe9.txt' in walk.describe().encode('utf-8').decode()


def test_a_folder_that_cannot_be_listed_is_named(birds, monkeypatch):
  def refuse(path: object) -> None:
    raise PermissionError(13, 'Permission denied')

  walk = FolderWalk(birds)
  folders = walk.folders()
  monkeypatch.setattr(os, 'scandir', refuse)
  with pytest.raises(InputError, match='owl: cannot list the folder'):
    list(walk.images(folders[0]))
