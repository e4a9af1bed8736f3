import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest

from advbct_jax.errors import InputError
from advbct_jax.locks import hold, hold_name

_HOLDER = """
import pathlib, sys, time
from advbct_jax import locks
with getattr(locks, sys.argv[1])(pathlib.Path(sys.argv[2]), 'trains'):
  print('held', flush=True)
  time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
  """Another process that holds `tmp_path/thing` until it is killed."""
  processes = []

  def start(function):
    process = subprocess.Popen(
      [sys.executable, '-c', _HOLDER, function, tmp_path / 'thing'],
      stdout=subprocess.PIPE,
      cwd=pathlib.Path(__file__).parents[1],
    )
    processes.append(process)
    process.stdout.readline()
    return process

  yield start
  for process in processes:
    process.kill()
    process.wait()


@pytest.mark.parametrize('take', [hold, hold_name])
def test_the_second_process_is_told_who_the_first_is_and_what_to_do(
  take, holder, tmp_path
):
  process = holder(take.__name__)
  with (
    pytest.raises(
      InputError,
      match=f'thing: process {process.pid} on .* trains here since 20.*'
      'import locks.*Wait for its end, or stop it',
    ),
    take(tmp_path / 'thing', 'trains'),
  ):
    pass


@pytest.mark.parametrize('take', [hold, hold_name])
@pytest.mark.parametrize('end', [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_holders_lock_is_taken_over(take, end, holder, tmp_path):
  process = holder(take.__name__)
  process.send_signal(end)
  process.wait()
  with take(tmp_path / 'thing', 'trains'):
    pass


@pytest.mark.parametrize('take', [hold, hold_name])
def test_nothing_is_left_behind_by_a_holder_that_ends(take, tmp_path):
  with take(tmp_path / 'place' / 'thing', 'trains'):
    pass
  assert not [path for path in tmp_path.rglob('*') if path.is_file()]


def test_a_thread_may_hold_a_folder_twice_under_any_of_its_names(tmp_path):
  (tmp_path / 'link').symlink_to(tmp_path / 'folder')
  (tmp_path / 'folder').mkdir()
  with hold(tmp_path / 'folder', 'trains'):
    with hold(tmp_path / 'link', 'embeds'):
      pass
    # The inner one has not let go for the outer one.
    assert _refused_elsewhere(tmp_path / 'folder')
  assert not _refused_elsewhere(tmp_path / 'folder')


def test_folders_beside_each_other_are_held_by_themselves(tmp_path):
  with hold(tmp_path / 'one', 'trains'):
    assert not _refused_elsewhere(tmp_path / 'two')


@pytest.mark.filterwarnings('ignore:os.fork')
def test_a_forked_child_that_outlives_the_holder_does_not_hold(tmp_path):
  with hold(tmp_path, 'trains'):
    read, write = os.pipe()
    child = os.fork()
    if not child:
      os.close(write)
      os.read(read, 1)  # until the test lets it go
      os._exit(0)
  os.close(read)
  assert not _refused_elsewhere(tmp_path)
  os.close(write)
  os.waitpid(child, 0)


def test_a_lock_that_its_holder_removes_meanwhile_is_not_taken_for_the_lock(
  tmp_path, monkeypatch
):
  lock = tmp_path / '.lock'
  opened = os.open

  def open_before_it_is_removed(path, *arguments):
    file = opened(path, *arguments)
    if not removed:
      removed.append(path)
      lock.unlink()
    return file

  removed = []
  monkeypatch.setattr(os, 'open', open_before_it_is_removed)
  with hold(tmp_path, 'trains'):
    assert _refused_elsewhere(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
  (tmp_path / 'file').touch()
  with (
    pytest.raises(InputError, match='cannot be written to'),
    hold(tmp_path / 'file', 'trains'),
  ):
    pass


def test_without_locks_in_the_file_system_one_is_warned(tmp_path, monkeypatch):
  def flock(file, operation):
    raise OSError(38, 'Function not implemented')

  monkeypatch.setattr('fcntl.flock', flock)
  with (
    pytest.warns(UserWarning, match='has no locks'),
    hold(tmp_path, 'trains'),
  ):
    pass


def _refused_elsewhere(folder):
  """Whether another thread may not hold a folder."""
  refused = []

  def take():
    try:
      with hold(folder, 'trains'):
        pass
    except InputError as error:
      refused.append(error)

  thread = threading.Thread(target=take)
  thread.start()
  thread.join()
  return bool(refused)
