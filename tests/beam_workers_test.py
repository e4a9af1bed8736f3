"""Work on Beam's workers, here threads of this process."""

import functools
import pathlib
import sys

import pytest

from advbct_jax.beam_workers import do_all
from advbct_jax.errors import InputError

IN_THREADS = '--direct_running_mode=multi_threading --direct_num_workers=2'


def open_work(folder: pathlib.Path, opened: str):
  (folder / f'opened_{opened}').touch()

  def do(task: int) -> None:
    if task % 4 == 3:
      raise InputError(f'task {task}: cannot be done')
    (folder / str(task)).write_text(str(task))

  return do


def test_without_beam_a_line_says_how_to_install_it(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  with pytest.raises(InputError, match=r"pip install 'advbct_jax\[beam\]'"):
    do_all(functools.partial(open_work, tmp_path, 'x'), [0], '', tmp_path)


def test_every_task_is_done(tmp_path):
  pytest.importorskip('apache_beam')
  work = functools.partial(open_work, tmp_path, 'once')
  do_all(work, [0, 1, 2, 4, 5], IN_THREADS, tmp_path)
  made = sorted(path.name for path in tmp_path.iterdir())
  assert made == ['0', '1', '2', '4', '5', 'opened_once']


def test_what_cannot_be_done_is_named_after_all_else_is_done(tmp_path):
  pytest.importorskip('apache_beam')
  work = functools.partial(open_work, tmp_path, 'here')
  with pytest.raises(InputError) as raised:
    do_all(work, range(8), IN_THREADS, tmp_path)
  assert str(raised.value) == (
    '2 of 8 tasks could not be done:\n'
    '  task 3: cannot be done\n'
    '  task 7: cannot be done'
  )
  assert len(list(tmp_path.iterdir())) == 6 + 1
  with pytest.raises(InputError, match=r'^task 3: cannot be done$'):
    do_all(work, [3], IN_THREADS, tmp_path)


def test_options_that_beam_refuses_are_named(tmp_path):
  pytest.importorskip('apache_beam')
  work = functools.partial(open_work, tmp_path, 'x')
  with pytest.raises(InputError, match=r'refuses the options .*=many'):
    do_all(work, [0], '--direct_num_workers=many', tmp_path)
