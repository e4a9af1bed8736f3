import dataclasses
import itertools
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest

from advbct_jax import processes
from advbct_jax.data import pipeline
from advbct_jax.data.images import ImageFiles, ImageSet
from advbct_jax.data.pipeline import (
  make_loader,
  ordered_batches,
  training_batches,
)
from advbct_jax.errors import InputError
from tests.data.conftest import jpeg
from tests.data.worker_processes_test import space_of

COUNT = 11
BATCHES = [np.array(rows) for rows in ([1, 2, 3, 4], [8, 6], [9])]


@pytest.fixture
def image_set(tmp_path) -> ImageSet:
  names = [f'{number}.jpg' for number in range(COUNT)]
  for name in names:
    (tmp_path / name).write_bytes(jpeg(name))
  return ImageSet('few', names, ImageFiles(tmp_path, names))


def _rows(batches, count):
  return [batch['row'].tolist() for batch in itertools.islice(batches, count)]


def _epoch(batches, count):
  return list(itertools.chain(*_rows(batches, count)))


def _assert_equal(found, wanted):
  for key in ('image', 'row'):
    np.testing.assert_array_equal(found[key], wanted[key])


def test_a_batch_has_the_images_of_its_rows(image_set):
  batch = next(
    training_batches(
      make_loader(image_set, 8), np.arange(COUNT), batch_size=4, seed=0
    )
  )
  assert (batch['image'].shape, batch['image'].dtype) == (
    (4, 8, 8, 3),
    np.uint8,
  )
  assert batch['row'].dtype == np.int32
  for image, row in zip(batch['image'], batch['row'], strict=True):
    np.testing.assert_array_equal(image, image_set.load(row, 8))


def test_every_epoch_sees_each_row_once_in_another_order(image_set):
  rows = np.array([0, 2, 3, 5, 7, 10])
  batches = training_batches(
    make_loader(image_set, 8), rows, batch_size=3, seed=0
  )
  epochs = [_epoch(batches, 2) for _ in range(4)]
  for epoch in epochs:
    assert sorted(epoch) == rows.tolist()
  assert len({tuple(epoch) for epoch in epochs}) == 4


def test_rows_beyond_the_last_whole_batch_have_their_turn_later(image_set):
  batches = training_batches(
    make_loader(image_set, 8), np.arange(COUNT), batch_size=4, seed=0
  )
  epochs = [_epoch(batches, 2) for _ in range(20)]
  for epoch in epochs:
    assert len(set(epoch)) == 8
  assert set(itertools.chain(*epochs)) == set(range(COUNT))


def test_the_seed_decides_the_order(image_set):
  load = make_loader(image_set, 8)
  first, again, other = (
    _rows(training_batches(load, np.arange(COUNT), batch_size=4, seed=seed), 4)
    for seed in (0, 0, 1)
  )
  assert first == again != other


def test_batches_go_on_wherever_one_starts(image_set):
  def batches(start):
    return training_batches(
      make_loader(image_set, 8),
      np.arange(COUNT),
      batch_size=4,
      seed=0,
      start=start,
    )

  wanted = list(itertools.islice(batches(0), 7))[3:]  # in the second epoch
  for found, want in zip(itertools.islice(batches(3), 4), wanted, strict=True):
    _assert_equal(found, want)


def test_two_processes_make_up_the_one_global_batch(image_set, monkeypatch):
  def batches(process, count):
    monkeypatch.setattr(processes, 'index', lambda: process)
    monkeypatch.setattr(processes, 'count', lambda: count)
    return _rows(
      training_batches(
        make_loader(image_set, 8), np.arange(COUNT), batch_size=4, seed=0
      ),
      6,
    )

  alone, first, second = batches(0, 1), batches(0, 2), batches(1, 2)
  assert {len(batch) for batch in first + second} == {2}
  # In the order of the processes, so that each device has the same rows.
  assert [
    ours + theirs for ours, theirs in zip(first, second, strict=True)
  ] == alone


def test_images_kept_in_memory_are_those_decoded_on_demand(image_set):
  kept = make_loader(image_set, 8, memory_mib=1)
  on_demand = make_loader(image_set, 8)
  assert kept.decoded.shape == (COUNT, 8, 8, 3)
  assert on_demand.decoded is None
  for found, wanted in zip(
    ordered_batches(kept, BATCHES),
    ordered_batches(on_demand, BATCHES),
    strict=True,
  ):
    _assert_equal(found, wanted)


def test_a_set_is_kept_in_memory_only_where_it_fits(image_set):
  # 11 images of 178 · 178 · 3 bytes are a little less than 1 MiB.
  assert make_loader(image_set, 178, memory_mib=1).decoded is not None
  assert make_loader(image_set, 179, memory_mib=1).decoded is None


def test_ordered_batches_have_the_rows_that_were_asked_for(image_set):
  batches = ordered_batches(make_loader(image_set, 8), BATCHES)
  assert _rows(batches, 9) == [[1, 2, 3, 4], [8, 6], [9]]


def test_a_batch_larger_than_the_set_is_refused(image_set):
  with pytest.raises(InputError) as refusal:
    training_batches(
      make_loader(image_set, 8), np.arange(3), batch_size=4, seed=0
    )
  assert str(refusal.value) == (
    'few: 3 training images are fewer than one batch of 4. '
    'Lower config.batch_size.'
  )


@pytest.mark.parametrize('kind', ['training', 'ordered'])
def test_too_little_shared_memory_is_said_before_workers_start(
  image_set, monkeypatch, kind
):
  monkeypatch.setattr(os, 'statvfs', space_of(free=2**12))
  load = make_loader(image_set, 8)
  if kind == 'training':
    batches = training_batches(
      load, np.arange(COUNT), batch_size=4, seed=0, workers=2
    )
  else:
    batches = ordered_batches(load, BATCHES, workers=2)
  with pytest.raises(InputError, match='/dev/shm: found 0 MB free'):
    next(batches)


def test_images_in_memory_and_threads_need_no_shared_memory(
  image_set, monkeypatch
):
  monkeypatch.setattr(os, 'statvfs', space_of(free=0))
  kept = make_loader(image_set, 8, memory_mib=1)
  assert len(_rows(ordered_batches(kept, BATCHES, workers=2), 9)) == 3
  on_demand = make_loader(image_set, 8)
  assert len(_rows(ordered_batches(on_demand, BATCHES), 9)) == 3


def test_worker_processes_give_the_batches_that_threads_give(image_set):
  # In a process of its own: Grain's workers import its main module again.
  script = pathlib.Path(__file__).parent / 'batches_of_workers.py'
  ran = subprocess.run(
    [sys.executable, script, image_set.images.root],
    cwd=script.parents[2],
    capture_output=True,
    text=True,
    check=False,
    start_new_session=True,
  )
  assert ran.returncode == 0, ran.stderr
  assert ran.stdout.split() == [
    'training',
    'ordered',
    'interrupted',
    'killed',
  ]


@dataclasses.dataclass(frozen=True)
class _Meeting:
  """Encoded images that can be read by so many threads at once alone."""

  encoded: bytes
  barrier: threading.Barrier

  def __len__(self):
    return 10**6

  def __getitem__(self, index):
    self.barrier.wait()
    return self.encoded

  def where(self, index):
    return str(index)


@pytest.mark.parametrize('cores', [3, 6, 9])
def test_as_many_threads_as_cores_decode_one_batch(cores, monkeypatch):
  monkeypatch.setattr(pipeline, 'usable_cores', lambda: cores)
  threads = max(cores, 4)
  images = _Meeting(jpeg('x'), threading.Barrier(threads, timeout=60))
  rows = np.arange(8 * threads)
  load = make_loader(ImageSet('meeting', rows, images), 8)
  (batch,) = ordered_batches(load, [rows])
  assert batch['row'].tolist() == rows.tolist()


def test_an_unreadable_image_among_threads_is_named(image_set):
  (image_set.images.root / '6.jpg').write_bytes(b'torn')
  batches = ordered_batches(make_loader(image_set, 8), BATCHES)
  assert next(batches)['row'].tolist() == [1, 2, 3, 4]
  with pytest.raises(InputError, match=r'6\.jpg: cannot decode'):
    next(batches)


def test_threads_end_with_the_batches(image_set):
  def decoding():
    return [
      thread for thread in threading.enumerate() if 'decode' in thread.name
    ]

  batches = training_batches(
    make_loader(image_set, 8), np.arange(COUNT), batch_size=4, seed=0
  )
  next(batches)
  assert decoding()
  batches.close()
  assert not decoding()


@pytest.mark.skipif(sys.platform != 'linux', reason='affinity is of Linux')
def test_cores_that_this_process_may_not_use_do_not_count(monkeypatch):
  monkeypatch.setattr(os, 'cpu_count', lambda: 64)
  allowed = sorted(os.sched_getaffinity(0))
  try:
    os.sched_setaffinity(0, allowed[:1])
    assert pipeline.usable_cores() == 1
  finally:
    os.sched_setaffinity(0, allowed)
