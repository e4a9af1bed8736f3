"""What is judged while an encoder trains, and that it changes nothing."""

import json
import shutil

from PIL import Image
import pytest

from advbct_jax.data.named_sets import open_retrieval_set
from advbct_jax.experiment import train_and_judge
from advbct_jax.judge import judge
from advbct_jax.models.resnet import RESNETS
from advbct_jax.training.logging import read_figures, read_metrics
from advbct_jax.training.run import Run
from tests.tiny_upgrade import TINY, tiny_config

METRIC = 'private/map@100'


@pytest.fixture(scope='module')
def judged(landmarks, tmp_path_factory):
  """A workdir whose encoder was judged after both epochs."""
  workdir = tmp_path_factory.mktemp('judged')
  config = tiny_config(landmarks)
  config.evaluation.every_epochs = 1
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(RESNETS, 'tiny', TINY)
    train_and_judge(config, workdir)
  return workdir


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


def _main_metrics(results):
  """What a whole evaluation says in the form of what is logged."""
  return {
    name: {
      side: {METRIC: pytest.approx(figures[side][METRIC])}
      for side in ('old', 'self', 'cross')
      if side in figures
    }
    for name, figures in results['datasets'].items()
  }


def _final(workdir):
  return _main_metrics(json.loads((workdir / 'results.json').read_text()))


def test_judging_changes_nothing_of_the_training(judged, finished):
  assert _logged(judged) == _logged(finished)
  # Among them a digest of all weights.
  results = (judged / 'results.json').read_text()
  assert results == (finished / 'results.json').read_text()


def test_nothing_is_judged_unasked(finished):
  assert read_figures(finished) == []
  assert not (finished / 'evaluations.jsonl').exists()


def test_a_part_that_is_all_of_it_has_the_figures_of_the_evaluation(judged):
  first, last = read_figures(judged)

  assert (first['step'], first['epoch']) == (4, 1)
  assert (last['step'], last['epoch']) == (8, 2)
  assert last['datasets'] == _final(judged)


def test_an_encoder_is_judged_as_it_is_after_the_epoch(
  judged, config, tmp_path
):
  halfway = shutil.copytree(
    judged, tmp_path / 'halfway', ignore=shutil.ignore_patterns('embeddings')
  )
  shutil.rmtree(halfway / 'checkpoints' / '8')
  inputs = json.loads((halfway / 'inputs.json').read_text())
  (halfway / 'inputs.json').write_text(json.dumps(inputs | {'steps': 4}))
  results = judge(
    {'old': judged / 'old', 'new': halfway},
    [open_retrieval_set('tiny', config.data.root)],
    tmp_path / 'judged',
    batch_size=8,
    workers=0,
  )

  first, last = (line['datasets'] for line in read_figures(judged))
  assert first == _main_metrics(results)
  assert first['tiny']['cross'] != last['tiny']['cross']
  assert first['tiny']['old'] == last['tiny']['old']


def test_the_old_encoder_that_is_trained_first_is_not_judged_itself(judged):
  assert read_metrics(judged / 'old')
  assert read_figures(judged / 'old') == []


def test_the_last_epoch_is_judged_whatever_its_number(new_run, tmp_path):
  new_run.epochs = 3
  new_run.evaluation.every_epochs = 2
  train_and_judge(new_run, tmp_path)

  assert [line['step'] for line in read_figures(tmp_path)] == [8, 12]


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


def test_how_often_is_judged_may_change_when_a_run_goes_on(
  judged, config, tmp_path
):
  workdir = shutil.copytree(judged, tmp_path / 'workdir')
  shutil.rmtree(workdir / 'checkpoints' / '8')
  (workdir / 'results.json').unlink()
  config.evaluation.every_epochs = 0
  train_and_judge(config, workdir)

  assert [line['step'] for line in read_figures(workdir)] == [4]
  assert _logged(workdir) == _logged(judged)


def test_the_compatible_part_of_a_wider_encoder_meets_the_vectors_of_a_store(
  judged, finished, new_run, tmp_path
):
  new_run.old.path = str(finished / 'old/embeddings')
  new_run.model.dimension = 12
  new_run.model.compatible_dimension = 8
  train_and_judge(new_run, tmp_path)

  first, last = (line['datasets'] for line in read_figures(tmp_path))
  assert last == _final(tmp_path)
  assert first['tiny']['old'] == _final(judged)['tiny']['old']


def test_an_old_encoder_that_cannot_be_judged_is_left_out(
  finished, new_run, tmp_path
):
  new_run.old.path = str(finished / 'old/embeddings/tiny-train')
  train_and_judge(new_run, tmp_path)

  assert list(read_figures(tmp_path)[-1]['datasets']['tiny']) == ['self']


def test_the_curves_are_drawn_at_the_end(judged):
  with Image.open(judged / 'curves.png') as image:
    assert min(image.size) > 300
