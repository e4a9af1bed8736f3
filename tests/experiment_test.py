"""`train_and_judge`: a whole upgrade, and what is left to do after it."""

import dataclasses
import json
import math
import shutil

import pytest

from advbct_jax.embeddings.store import open_store, write_store
from advbct_jax.errors import InputError
from advbct_jax.experiment import train_and_judge
from advbct_jax.training.checkpoints import latest_step
from advbct_jax.training.logging import read_metrics
from tests.tiny_upgrade import contents


def test_an_upgrade_trains_both_encoders_and_judges_them(finished):
  assert (latest_step(finished / 'old'), latest_step(finished)) == (2, 8)
  assert (finished / 'old/embeddings/tiny-train/card.json').exists()
  results = json.loads((finished / 'results.json').read_text())
  assert results['scores'] == {}
  figures = results['datasets']['tiny']
  for side in ('old', 'self', 'cross'):
    assert 0 < figures[side]['private/map@100'] <= 100
  assert list(figures['refresh']) == ['0', '25', '50', '75', '100']
  assert '### tiny' in (finished / 'report.md').read_text()


def test_a_finished_upgrade_is_printed_and_nothing_is_made(
  finished, config, monkeypatch, capsys
):
  before = contents(finished)
  for name in ('train_upgrade', 'judge'):
    monkeypatch.setattr(f'advbct_jax.experiment.{name}', None)
  train_and_judge(config, finished)

  assert contents(finished) == before
  output = capsys.readouterr().out
  assert f'{finished}: all done' in output
  assert 'private/map@100' in output


def test_other_data_sets_are_judged_without_training_again(
  finished, config, tmp_path
):
  workdir = shutil.copytree(finished, tmp_path / 'workdir')
  metrics = (workdir / 'metrics.jsonl').read_text()
  config.evaluation.data = ('tiny', f'other:{config.data.root}')
  train_and_judge(config, workdir)

  results = json.loads((workdir / 'results.json').read_text())
  assert list(results['datasets']) == ['tiny', 'other']
  assert (workdir / 'metrics.jsonl').read_text() == metrics


def test_results_in_one_precision_are_not_those_of_another(
  finished, config, tmp_path
):
  workdir = shutil.copytree(finished, tmp_path / 'workdir')
  config.evaluation.dtype = 'bfloat16'
  with pytest.raises(InputError, match='bfloat16 here, float32 there'):
    train_and_judge(config, workdir)


def test_every_step_is_logged_whole(finished):
  lines = read_metrics(finished)

  assert [line['step'] for line in lines] == list(range(1, 9))
  for line in lines:
    assert set(line) == {
      'step',
      'loss',
      'classification_loss',
      'boundary_loss',
      'adversarial_loss',
      'accuracy',
      'violators',
      'discriminator_accuracy',
      'boundary_radius',
      'cosine_to_old',
      'cross_recall_at_1',
      'gradient_norm',
      'parameter_norm',
      'update_norm',
      'learning_rate',
      'images_per_second',
    }
    weight = 1.5 if line['step'] <= 4 else 1.0  # (E − e + 1)/E of 2 epochs
    assert line['loss'] == pytest.approx(
      line['classification_loss']
      + line['boundary_loss']
      + weight * line['adversarial_loss'],
      rel=1e-5,
    )
  rates = [line['learning_rate'] for line in lines]
  assert rates == pytest.approx([0.1] * 4 + [0.01] * 4)
  # Momentum has nothing to remember at the first step, and the updates are
  # in proportion to the gradient with its decay of 5e-4.
  first = lines[0]
  assert first['update_norm'] == pytest.approx(
    0.1 * first['gradient_norm'],
    abs=0.1 * 5e-4 * 1.1 * first['parameter_norm'],
  )


def test_losses_are_finite_and_fall(finished):
  losses = [line['classification_loss'] for line in read_metrics(finished)]

  assert all(map(math.isfinite, losses))
  assert losses[-1] < losses[0]


def test_an_old_encoder_known_by_its_training_vectors_alone_is_not_judged(
  finished, config, tmp_path, capsys
):
  config.old.path = str(finished / 'old/embeddings/tiny-train')
  train_and_judge(config, tmp_path)

  results = json.loads((tmp_path / 'results.json').read_text())
  assert list(results['datasets']['tiny']) == ['self']
  assert 'the old encoder will not be judged' in capsys.readouterr().out


def test_an_old_encoder_is_judged_once_its_vectors_are_there(
  finished, config, tmp_path
):
  stores = tmp_path / 'stores'
  theirs = finished / 'old/embeddings'
  shutil.copytree(theirs / 'tiny-train', stores / 'tiny-train')
  config.old.path = str(stores)
  train_and_judge(config, tmp_path / 'new')
  for name in ('tiny-index', 'tiny-test'):
    shutil.copytree(theirs / name, stores / name)
  train_and_judge(config, tmp_path / 'new')

  results = json.loads((tmp_path / 'new/results.json').read_text())
  wanted = json.loads((finished / 'results.json').read_text())
  assert results['datasets'] == wanted['datasets']


def test_stores_of_two_encoders_are_not_one_old_side(
  finished, config, tmp_path
):
  stores = tmp_path / 'stores'
  shutil.copytree(finished / 'old/embeddings', stores)
  card = json.loads((stores / 'tiny-index/card.json').read_text())
  changed = json.dumps(card | {'weights': 'others', 'sha256': None})
  (stores / 'tiny-index/card.json').write_text(changed)
  config.old.path = str(stores)
  with pytest.raises(InputError, match='weights: others there'):
    train_and_judge(config, tmp_path / 'new')
  assert not (tmp_path / 'new/checkpoints').exists()


def test_a_finished_run_is_held_against_the_old_encoder_that_is_named(
  finished, config, tmp_path
):
  workdir = shutil.copytree(finished, tmp_path / 'workdir')
  theirs = open_store(finished / 'old/embeddings/tiny-train')
  card = dataclasses.replace(theirs.card, complete=False)
  write_store(tmp_path / 'other', card, theirs.ids(), 2 * theirs.read())
  config.old.path = str(tmp_path / 'other')
  with pytest.raises(InputError, match=r'old_side: .* there, .* here'):
    train_and_judge(config, workdir)


def test_a_finished_run_whose_checkpoint_is_damaged_is_not_all_done(
  finished, config, tmp_path
):
  workdir = shutil.copytree(finished, tmp_path / 'workdir')
  for sums in workdir.glob('checkpoints/*/state/SHA256SUMS'):
    sums.write_bytes(b'')
  with pytest.raises(InputError, match=r'is damaged .* none before it'):
    train_and_judge(config, workdir)


def test_without_a_retrieval_set_nothing_is_judged(config, tmp_path, capsys):
  config.evaluation.data = ()
  train_and_judge(config, tmp_path)

  assert not (tmp_path / 'results.json').exists()
  output = capsys.readouterr().out
  assert 'so nothing is judged' in output
  assert 'report:' not in output


@pytest.mark.parametrize(
  'field', ['batch_size', 'epochs', 'log.every_steps', 'model.width']
)
def test_what_must_be_positive_is_refused_before_training(
  config, tmp_path, field
):
  config.update_from_flattened_dict({field: 0})
  with pytest.raises(InputError, match=f'config.{field} is 0'):
    train_and_judge(config, tmp_path)
