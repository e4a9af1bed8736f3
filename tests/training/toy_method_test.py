"""A method that exists in this file alone: what a new one has to write.

It draws, keeps a queue, prepares on the host, refreshes its memory, reads a
second store, and combines the gradients of two losses. Everything else, its
options on the command line included, comes from its class and its entry.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import ClassVar

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.methods import METHODS
from advbct_jax.methods.method import MEMORY, Method, Outcome, similarities
from advbct_jax.models.encoder import l2_normalize
from advbct_jax.models.resnet import RESNETS
from advbct_jax.parallel import gather, global_mean
from advbct_jax.training.checkpoints import load_trained
from advbct_jax.training.logging import read_metrics
from tests.tiny_upgrade import TINY, write_landmarks

_REPOSITORY = pathlib.Path(__file__).parents[2]
_STEPS = 8  # 2 epochs of 4
_UNJUDGED = '--config.evaluation.data=()'


class Toy(Method):
  """Draws old embeddings near, and away from those in a queue."""

  label: ClassVar[str] = 'Toy'
  color: ClassVar[str] = '#117733'
  stores: ClassVar[tuple[str, ...]] = ('second',)

  queue: int = 12
  weight: float = 0.1
  refreshes: tuple[int, ...] = (1,)

  @property
  def refresh_epochs(self):
    return self.refreshes

  def prepare(self, side):
    assert side.others['second'].shape == side.embeddings.shape
    return {'mean': side.embeddings.mean(axis=0)}

  def refresh(self, memory, side, embed):
    embeddings = embed()
    assert embeddings.shape == side.embeddings.shape
    return {**memory, 'anchor': embeddings.mean(axis=0)}

  def combine_gradients(self, stacked):
    # Not their sum: the second only where it doesn't oppose the first.
    return jax.tree.map(
      lambda g: g[0] + jnp.where((g[0] * g[1]).sum() >= 0, g[1], 0), stacked
    )

  @nn.compact
  def __call__(self, batch, old, progress):
    embeddings = self.encoder.project(
      self.encoder.features(batch.images, train=True), train=True
    )
    classification, metrics = self.classify(embeddings, batch.labels)
    width = batch.old_embeddings.shape[1]
    queue = self.variable(MEMORY, 'queue', jnp.zeros, (self.queue, width))
    anchor = self.variable(MEMORY, 'anchor', jnp.zeros, (width,))
    drawn = jax.vmap(jax.random.bernoulli)(batch.sample_keys())
    target = jnp.where(
      drawn[:, None],
      batch.old_embeddings - old.prepared['mean'],
      batch.other_embeddings['second'] + anchor.value,
    )
    away = similarities(l2_normalize(embeddings), l2_normalize(queue.value))
    near = jnp.square(l2_normalize(embeddings) - l2_normalize(target))
    tie = global_mean(
      near.sum(axis=1) + away.mean(axis=1), axis_name=self.axis_name
    )
    if not self.is_initializing():
      entries = gather(batch.old_embeddings, self.axis_name)
      queue.value = jnp.concatenate([entries, queue.value])[: self.queue]
    return Outcome(
      jnp.stack([classification, self.weight * tie]),
      embeddings,
      metrics
      | {
        'tie': tie,
        'drawn': global_mean(
          drawn.astype(jnp.float32), axis_name=self.axis_name
        ),
        'anchor': jnp.abs(anchor.value).max(),
      },
    )


def _command(
  landmarks: pathlib.Path,
  workdir: pathlib.Path,
  *options: str,
  devices: int = 1,
  kill_before_step: int = 0,
) -> subprocess.CompletedProcess:
  """Runs `advbct train` with the toy's entry in a process of its own."""
  return subprocess.run(
    [
      *(sys.executable, '-m', 'tests.training.toy_method_test'),
      str(kill_before_step),
      '--config=configs/glyphs.py',
      f'--workdir={workdir}',
      f'--config.data.root={landmarks}',
      '--config.data.name=tiny',
      '--config.data.image_size=16',
      '--config.data.split.old_fraction=0.5',
      "--config.evaluation.data=('tiny',)",
      '--config.evaluation.batch_size=8',
      '--config.batch_size=8',
      '--config.checkpoint.every_steps=2',
      '--config.epochs=2',
      '--config.old.epochs=1',
      '--config.optimizer.learning_rate=0.01',
      *(
        f'--config.{part}.{field}'
        for part in ('model', 'old.model')
        for field in ('architecture=tiny', 'width=0.0625', 'dimension=8')
      ),
      '--config.method=toy',
      '--config.toy.weight=0.5',
      f'--config.stores.second={workdir.parent / "second"}',
      *options,
    ],
    cwd=_REPOSITORY,
    env=os.environ
    | {
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
    },
    capture_output=True,
    text=True,
    check=False,
  )


def _logged(workdir):
  return [
    {name: value for name, value in line.items() if name != 'images_per_second'}
    for line in read_metrics(workdir)
  ]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder with data and with the store of a second encoder."""
  from advbct_jax.data import gldv2
  from advbct_jax.embeddings.store import Card, write_store

  folder = tmp_path_factory.mktemp('toy')
  write_landmarks(folder / 'landmarks')
  images = gldv2.load_train(folder / 'landmarks', 'tiny')
  card = Card(
    encoder='second',
    weights='2',
    dimension=8,
    preprocessing='made up',
    images=images.name,
    ids_digest=images.ids_digest(),
    count=len(images),
  )
  random = np.random.default_rng(0)
  vectors = random.normal(size=(len(images), 8)).astype(np.float32)
  write_store(folder / 'second', card, images.ids, vectors)
  return folder


@pytest.fixture(scope='module')
def whole(folder):
  """The workdir of the toy's training, undisturbed."""
  ran = _command(folder / 'landmarks', folder / 'whole')
  assert ran.returncode == 0, ran.stderr
  return folder / 'whole'


def test_a_toy_trains_with_all_that_a_method_can_do(whole):
  lines = _logged(whole)
  assert len(lines) == _STEPS
  # The refresh comes before the fifth step.
  assert [line['anchor'] > 0 for line in lines] == [False] * 4 + [True] * 4
  assert 0 < np.mean([line['drawn'] for line in lines]) < 1
  memory = load_trained(whole).memory['method']
  assert memory['queue'].shape == (12, 8)
  assert np.abs(memory['queue']).min(axis=1).all()
  assert set(json.loads((whole / 'results.json').read_text())['encoders']) == {
    'old',
    'new',
  }


def test_an_option_is_overridden_from_the_command_line(whole):
  config = json.loads((whole / 'config.json').read_text())
  assert config['toy'] == {'queue': 12, 'weight': 0.5, 'refreshes': [1]}


def test_a_killed_toy_ends_bit_for_bit_as_one_that_was_not(whole, folder):
  workdir = folder / 'killed'
  options = (f'--config.old.path={whole / "old"}', _UNJUDGED)
  # Before the refresh and after it; the second begins at step 3.
  for batches in (4, 5):
    killed = _command(
      folder / 'landmarks', workdir, *options, kill_before_step=batches
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
  assert _logged(workdir)[-1]['step'] == 6
  resumed = _command(folder / 'landmarks', workdir, *options)
  assert resumed.returncode == 0, resumed.stderr

  assert _logged(workdir) == _logged(whole)
  jax.tree.map(
    np.testing.assert_array_equal,
    load_trained(workdir).memory,
    load_trained(whole).memory,
  )


def test_four_devices_keep_the_memory_of_one(whole, folder):
  workdir = folder / 'four'
  ran = _command(
    folder / 'landmarks',
    workdir,
    f'--config.old.path={whole / "old"}',
    _UNJUDGED,
    devices=4,
  )
  assert ran.returncode == 0, ran.stderr
  for wanted, found in zip(_logged(whole), _logged(workdir), strict=True):
    for name in ('loss', 'tie', 'drawn', 'anchor', 'cosine_to_old'):
      assert found[name] == pytest.approx(wanted[name], rel=1e-4, abs=1e-5)


def _main() -> None:
  """The training command, with one more entry, killed where told."""
  from advbct_jax.commands.train import main
  from advbct_jax.training.run import Run

  METHODS['toy'] = Toy
  RESNETS['tiny'] = TINY
  kill, *line = sys.argv[1:]
  complete, taken = Run.complete_batch, []

  def complete_batch(run, batch):
    taken.append(run.old is not None)
    if taken[-1] and sum(taken) == int(kill):
      os.kill(os.getpid(), signal.SIGKILL)
    return complete(run, batch)

  Run.complete_batch = complete_batch
  main(line)


if __name__ == '__main__':
  _main()
