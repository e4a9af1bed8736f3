import os
import types

import pytest

from advbct_jax.data.worker_processes import (
  explain_failures,
  require_shared_memory,
)
from advbct_jax.errors import InputError

BATCH = 256 * 224 * 224 * 3


def space_of(free: int):
  """A stand-in for `os.statvfs`."""
  return lambda _: types.SimpleNamespace(f_bavail=free, f_frsize=1)


def test_a_container_s_64_mb_are_too_few_for_gldv2(monkeypatch):
  monkeypatch.setattr(os, 'statvfs', space_of(64 * 2**20))
  with pytest.raises(InputError) as refusal:
    require_shared_memory(BATCH, workers=8)
  assert str(refusal.value) == (
    '/dev/shm: found 67 MB free, but 8 workers with batches of 38.5 MB want '
    '1390 MB. Give it more (docker run --shm-size=1390m), or say '
    'config.data.workers=0 (--workers=0), which takes threads.'
  )


def test_as_many_workers_as_fit_are_proposed(monkeypatch):
  monkeypatch.setattr(os, 'statvfs', space_of(10**9))
  with pytest.raises(InputError, match=r'config\.data\.workers=5 ') as refusal:
    require_shared_memory(BATCH, workers=8)
  assert 'threads' not in str(refusal.value)
  require_shared_memory(BATCH, workers=5)


def test_few_batches_want_no_more_than_they_are(monkeypatch):
  monkeypatch.setattr(os, 'statvfs', space_of(64 * 2**20))
  require_shared_memory(BATCH, workers=8, batches=1)


def test_enough_is_enough(monkeypatch):
  monkeypatch.setattr(os, 'statvfs', space_of(2 * 10**9))
  require_shared_memory(BATCH, workers=8)


def test_a_system_without_such_memory_has_no_limit(monkeypatch):
  def fail(_: object) -> None:
    raise FileNotFoundError

  monkeypatch.setattr(os, 'statvfs', fail)
  require_shared_memory(BATCH, workers=8)
  monkeypatch.delattr(os, 'statvfs')
  require_shared_memory(BATCH, workers=8)


@pytest.mark.parametrize(
  ('code', 'ended', 'cause'),
  [
    (-7, 'by SIGBUS (exit code -7)', 'docker run --shm-size'),
    (-9, 'by SIGKILL (exit code -9)', 'the memory ran out'),
    (-11, 'by SIGSEGV (exit code -11)', 'a damaged image'),
    (-6, 'by SIGABRT (exit code -6)', 'a library crashed'),
    (-250, 'by signal 250 (exit code -250)', 'a library crashed'),
    (1, 'with exit code 1', 'could not start'),
  ],
)
def test_a_dead_worker_is_explained(code, ended, cause):
  with pytest.raises(InputError) as explained, explain_failures(workers=2):
    raise RuntimeError(
      f'Worker process was terminated unexpectedly with exit code {code}. '
      'Search the logs above for the source of the crash.'
    )
  message = str(explained.value)
  assert f'a worker process that decodes images ended {ended}.' in message
  assert cause in message
  assert 'config.data.workers' in message
  assert '\n' not in message


@pytest.mark.parametrize(
  'error', [OSError(28, 'No space left on device'), OSError(24), MemoryError()]
)
def test_what_processes_lack_is_explained(error):
  with (
    pytest.raises(InputError, match='2 worker processes cannot run'),
    explain_failures(workers=2),
  ):
    raise error


@pytest.mark.parametrize(
  ('error', 'workers'),
  [
    (RuntimeError('exit code -9'), 0),
    (OSError(28, 'No space left on device'), 0),
    (RuntimeError('something else'), 2),
    (InputError('a.jpg: cannot decode the image'), 2),
    (KeyError('row'), 2),
  ],
)
def test_other_errors_pass(error, workers):
  with pytest.raises(type(error)) as raised, explain_failures(workers):
    raise error
  assert raised.value is error
