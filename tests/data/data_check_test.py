import pathlib

import numpy as np
from PIL import Image
import pytest

from advbct_jax.commands.prepare import main
from advbct_jax.data.data_check import check_data
from advbct_jax.data.images import ImageFiles, ImageSet
from advbct_jax.data.problem_tables import (
  Problem,
  read_problems,
  write_problems,
)
from advbct_jax.errors import InputError
from tests.data.conftest import jpeg
from tests.data.pictures import encode, exif

_IMAGES = 11  # that are trained on, searched or searched with


def _path(root: pathlib.Path, part: str, image_id: str) -> pathlib.Path:
  return root / part / '/'.join(image_id[:3]) / f'{image_id}.jpg'


def _check(root: pathlib.Path, *flags: str) -> list[Problem]:
  main(['check', f'gldv2:{root}', *flags])
  return read_problems(root / 'checked.csv')


def _kinds(problems: list[Problem]) -> list[tuple[str, ...]]:
  return [(it.part, it.id, it.problem, it.other) for it in problems]


def test_a_sound_data_set_has_no_problem(gldv2_root, capsys):
  assert _check(gldv2_root) == []
  said = capsys.readouterr().out
  assert 'train: 5 images; no problem' in said
  assert 'test: 2 images; no problem' in said
  assert 'on_problem' not in said


def test_each_problem_is_a_line(gldv2_root, capsys):
  _path(gldv2_root, 'train', 'aaa1').write_bytes(jpeg('aaa1')[:300])
  _path(gldv2_root, 'train', 'aaa3').write_bytes(jpeg('aaa2'))
  _path(gldv2_root, 'train', 'bbb1').write_bytes(jpeg('aaa2'))
  _path(gldv2_root, 'train', 'bbb2').write_bytes(jpeg('bbb2', 7, 40))
  _path(gldv2_root, 'index', 'ccc1').write_bytes(jpeg('aaa2'))
  _path(gldv2_root, 'index', 'ddd1').unlink()
  _path(gldv2_root, 'test', 'qqq2').write_bytes(jpeg('ccc2'))
  problems = _check(gldv2_root)
  assert _kinds(problems) == [
    ('train', 'aaa1', 'unreadable', ''),
    ('train', 'aaa2', 'shared', 'index/ccc1'),
    ('train', 'aaa3', 'duplicate', 'train/aaa2'),
    ('train', 'aaa3', 'shared', 'index/ccc1'),
    ('train', 'bbb1', 'duplicate', 'train/aaa2'),
    ('train', 'bbb1', 'shared', 'index/ccc1'),
    ('train', 'bbb2', 'too_small', ''),
    ('index', 'ddd1', 'unreadable', ''),
    ('test', 'qqq2', 'duplicate', 'index/ccc2'),
  ]
  details = {(it.id, it.problem): it.detail for it in problems}
  assert 'aaa1.jpg: cannot decode' in details['aaa1', 'unreadable']
  assert details['aaa3', 'duplicate'] == 'same bytes'
  assert details['bbb1', 'duplicate'] == 'same bytes; of another class'
  assert details['bbb2', 'too_small'] == '7 × 40 pixels'
  said = capsys.readouterr().out
  assert '5 images; 1 unreadable, 1 too_small, 2 duplicate, 3 shared' in said
  assert f'--config.data.checked={gldv2_root / "checked.csv"}' in said


def test_a_check_that_was_killed_goes_on(gldv2_root, monkeypatch):
  _path(gldv2_root, 'train', 'bbb1').write_bytes(jpeg('aaa2'))
  undisturbed = _check(gldv2_root)
  read = ImageFiles.__getitem__
  taken = []

  def breaking_down(files, row):
    taken.append(files.where(row))
    if len(taken) == 4:
      raise KeyboardInterrupt
    return read(files, row)

  monkeypatch.setattr(ImageFiles, '__getitem__', breaking_down)
  monkeypatch.setattr('advbct_jax.data.seen_images._WRITTEN_AT_ONCE', 1)
  with pytest.raises(SystemExit):
    _check(gldv2_root)
  progress = gldv2_root / 'checked.csv.progress'
  known = progress.read_text().splitlines()[1:]
  assert known
  # As a kill may leave it.
  progress.write_text(progress.read_text() + '["train", 4')
  taken[:] = [''] * 4
  assert _check(gldv2_root) == undisturbed
  assert len(taken) - 4 == _IMAGES - len(known)
  assert not progress.exists()


@pytest.mark.parametrize(
  'written', ['[]\n', '{"checked": "else"}\n["train", 0]\n', '\xff\n', '{']
)
def test_what_something_else_has_written_is_not_gone_on_from(
  gldv2_root, written
):
  undisturbed = _check(gldv2_root)
  (gldv2_root / 'checked.csv.progress').write_text(written, 'latin-1')
  assert _check(gldv2_root) == undisturbed


def test_pictures_that_look_the_same_are_named(gldv2_root):
  def stripes(**options):
    columns = np.linspace(0, 40, 96) ** 1.5
    grey = np.uint8(127 + 120 * np.sin(columns)[None] * np.ones((64, 1)))
    return encode(Image.fromarray(grey).convert('RGB'), 'JPEG', **options)

  _path(gldv2_root, 'train', 'aaa1').write_bytes(stripes(quality=95))
  _path(gldv2_root, 'train', 'bbb1').write_bytes(stripes(quality=80))
  _path(gldv2_root, 'train', 'bbb2').write_bytes(stripes(quality=70))
  _path(gldv2_root, 'test', 'qqq1').write_bytes(stripes(quality=60))
  problems = _check(gldv2_root)
  assert _kinds(problems) == [
    ('train', 'aaa1', 'near_shared', 'test/qqq1'),
    ('train', 'bbb1', 'near_duplicate', 'train/aaa1'),
    ('train', 'bbb1', 'near_shared', 'test/qqq1'),
    # Rather one of its own class than the first.
    ('train', 'bbb2', 'near_duplicate', 'train/bbb1'),
    ('train', 'bbb2', 'near_shared', 'test/qqq1'),
  ]
  assert problems[1].detail.endswith('of 64 bits; of another class')
  assert problems[3].detail.endswith('of 64 bits')


def test_a_turned_image_looks_as_a_viewer_shows_it(tmp_path):
  with Image.open(_write(tmp_path / 'a.jpg', jpeg('a', 64, 48))) as image:
    turned = image.transpose(Image.Transpose.ROTATE_90)
  _write(tmp_path / 'b.jpg', encode(turned, 'PNG', exif=exif(6)))
  files = ImageFiles(tmp_path, ['a.jpg', 'b.jpg'])
  for upright in (False, True):
    image_set = ImageSet('few', ['a', 'b'], files, upright=upright)
    assert len(check_data({'train': image_set})) == upright


def _write(path: pathlib.Path, content: bytes) -> pathlib.Path:
  path.write_bytes(content)
  return path


def test_a_revisited_set_is_checked(revisited_root, tmp_path):
  jpegs = revisited_root / 'rtiny' / 'jpg'
  (jpegs / 'bridge_q.jpg').write_bytes((jpegs / 'tower_1.jpg').read_bytes())
  out = tmp_path / 'found.csv'
  main(['check', f'rtiny:{revisited_root}', f'--out={out}'])
  assert _kinds(read_problems(out)) == [
    ('queries', 'bridge_q', 'duplicate', 'gallery/tower_1')
  ]


def test_a_folder_will_do_for_a_name(gldv2_root, capsys):
  main(['check', str(gldv2_root), '--least_size=13'])
  assert 'train: 5 images; 5 too_small' in capsys.readouterr().out
  assert len(read_problems(gldv2_root / 'checked.csv')) == 11


@pytest.mark.parametrize(
  ('flag', 'message'),
  [
    ('--distance=8', 'distance: found 8, wanted from 0 to 7'),
    ('--least_size=-1', 'least_size: found -1'),
    ('--max_pixels=0', '--max_pixels: found 0'),
    (
      '--out=nowhere/at/all.csv',
      'all.csv: found no folder that can be written',
    ),
  ],
)
def test_options_that_mean_nothing_are_refused(
  gldv2_root, capsys, flag, message
):
  with pytest.raises(SystemExit) as ended:
    main(['check', f'gldv2:{gldv2_root}', flag])
  assert ended.value.code == 2
  assert message in capsys.readouterr().err


def test_a_table_that_is_none_is_refused(tmp_path):
  path = tmp_path / 'checked.csv'
  write_problems(path, [Problem('train', 'a', 'blurred')])
  with pytest.raises(InputError, match="line 2: found the problem 'blurred'"):
    read_problems(path)
