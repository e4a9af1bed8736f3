"""What is judged while an encoder trains, and that it changes nothing."""

import json
import shutil

from PIL import Image
import pytest

from advbct_jax.experiment import train_and_judge
from advbct_jax.training.logging import read_figures, read_metrics
from advbct_jax.training.run import Run

METRIC = 'private/map@100'


@pytest.fixture
def new_run(config, finished):
  """The config of a new encoder whose old one is there already."""
  config.old.path = str(finished / 'old')
  config.evaluation.every_epochs = 1
  return config


def _logged(workdir):
  """All that was logged of each step but the speed."""
  return [
    {name: value for name, value in line.items() if name != 'images_per_second'}
    for line in read_metrics(workdir)
  ]


def _final(workdir):
  """The main metrics of the whole evaluation."""
  datasets = json.loads((workdir / 'results.json').read_text())['datasets']
  return {
    name: {
      side: {METRIC: pytest.approx(figures[side][METRIC])}
      for side in ('old', 'self', 'cross')
      if side in figures
    }
    for name, figures in datasets.items()
  }


@pytest.fixture(scope='module')
def judged(request, landmarks, finished, tmp_path_factory):
  """A workdir whose encoder was judged after both epochs."""
  workdir = tmp_path_factory.mktemp('judged')
  with pytest.MonkeyPatch.context() as patch:
    from advbct_jax.models.resnet import RESNETS
    from tests.tiny_upgrade import TINY, tiny_config

    patch.setitem(RESNETS, 'tiny', TINY)
    config = tiny_config(landmarks)
    config.old.path = str(finished / 'old')
    config.evaluation.every_epochs = 1
    train_and_judge(config, workdir)
  return workdir


def test_judging_changes_nothing_of_the_training(judged, finished):
  assert _logged(judged) == _logged(finished)
  # Among them a digest of all weights.
  results = (judged / 'results.json').read_text()
  assert results == (finished / 'results.json').read_text()


def test_a_part_that_is_all_of_it_has_the_figures_of_the_evaluation(judged):
  first, last = read_figures(judged)

  assert (first['step'], first['epoch']) == (4, 1)
  assert (last['step'], last['epoch']) == (8, 2)
  assert last['datasets'] == _final(judged)
  old, self_test, cross = last['datasets']['tiny'].values()
  assert old == first['datasets']['tiny']['old']
  assert self_test != first['datasets']['tiny']['self']
  assert old != cross != self_test


def test_an_encoder_is_judged_as_it_is_after_the_epoch(
  judged, new_run, tmp_path
):
  """A run of one epoch takes the same steps, and ends after them."""
  new_run.epochs = 1
  new_run.method = 'bct'
  train_and_judge(new_run, tmp_path / 'short')
  new_run.epochs = 2
  train_and_judge(new_run, tmp_path / 'long')

  first, _ = read_figures(tmp_path / 'long')
  assert _logged(tmp_path / 'short') == _logged(tmp_path / 'long')[:4]
  assert first['datasets'] == _final(tmp_path / 'short')


def test_nothing_is_judged_unasked(finished):
  assert read_figures(finished) == []
  assert not (finished / 'evaluations.jsonl').exists()


@pytest.mark.parametrize(('every', 'steps'), [(2, [8, 12]), (5, [12])])
def test_the_last_epoch_is_judged_whatever_its_number(
  new_run, tmp_path, every, steps
):
  new_run.epochs = 3
  new_run.evaluation.every_epochs = every
  train_and_judge(new_run, tmp_path)

  assert [line['step'] for line in read_figures(tmp_path)] == steps


def test_a_run_that_is_killed_and_goes_on_has_each_judged_epoch_once(
  judged, new_run, tmp_path, monkeypatch
):
  new_run.checkpoint.every_steps = 3
  steps = iter(range(1, 9))
  complete = Run.complete_batch

  def die_in_sixth_step(run, batch):
    if next(steps) == 6:
      raise RuntimeError('killed')
    return complete(run, batch)

  with monkeypatch.context() as patch:
    patch.setattr(Run, 'complete_batch', die_in_sixth_step)
    with pytest.raises(RuntimeError, match='killed'):
      train_and_judge(new_run, tmp_path)
  assert [line['step'] for line in read_figures(tmp_path)] == [4]

  train_and_judge(new_run, tmp_path)  # from step 3
  assert read_figures(tmp_path) == read_figures(judged)


def test_a_run_may_be_judged_more_often_when_it_goes_on(
  judged, new_run, tmp_path
):
  """How often is no part of what a run is."""
  workdir = shutil.copytree(judged, tmp_path / 'workdir')
  shutil.rmtree(workdir / 'checkpoints' / '8')
  new_run.evaluation.every_epochs = 2
  new_run.evaluation.part_queries = 2
  train_and_judge(new_run, workdir)

  assert [line['step'] for line in read_figures(workdir)] == [4, 8]


def test_an_encoder_without_an_old_one_is_judged_alone(new_run, tmp_path):
  new_run.method = 'independent'
  train_and_judge(new_run, tmp_path)

  assert list(read_figures(tmp_path)[-1]['datasets']['tiny']) == ['self']
  assert read_figures(tmp_path)[-1]['datasets'] == _final(tmp_path)


def test_old_vectors_in_stores_are_as_good_as_their_encoder(
  judged, finished, new_run, tmp_path
):
  new_run.old.path = str(finished / 'old/embeddings')
  # Only the old model's classes must be the same, and the store has no labels.
  train_and_judge(new_run, tmp_path)

  old = [line['datasets']['tiny']['old'] for line in read_figures(tmp_path)]
  assert old == [
    line['datasets']['tiny']['old'] for line in read_figures(judged)
  ]
  assert read_figures(tmp_path)[-1]['datasets'] == _final(tmp_path)


def test_an_old_encoder_that_cannot_be_judged_is_left_out(
  finished, new_run, tmp_path
):
  new_run.old.path = str(finished / 'old/embeddings/tiny-train')
  train_and_judge(new_run, tmp_path)

  assert list(read_figures(tmp_path)[-1]['datasets']['tiny']) == ['self']


def test_the_old_encoder_may_be_trained_first(new_run, judged, tmp_path):
  new_run.old.path = ''
  train_and_judge(new_run, tmp_path)

  assert read_figures(tmp_path) == read_figures(judged)
  assert not (tmp_path / 'old/evaluations.jsonl').exists()


def test_of_a_wider_encoder_only_the_compatible_part_meets_old_vectors(
  new_run, tmp_path
):
  new_run.model.dimension = 12
  new_run.model.compatible_dimension = 8
  train_and_judge(new_run, tmp_path)

  assert read_figures(tmp_path)[-1]['datasets'] == _final(tmp_path)


def test_the_curves_are_drawn_at_the_end(judged):
  with Image.open(judged / 'curves.png') as image:
    assert min(image.size) > 300
