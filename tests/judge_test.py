"""Workdirs and stores, as the commands name them, judged together."""

import json
import math
import shutil

import pytest

from advbct_jax.data.named_sets import open_retrieval_set
from advbct_jax.errors import InputError
from advbct_jax.judge import judge


@pytest.fixture
def tiny_set(landmarks):
  return open_retrieval_set(f'tiny:{landmarks}')


def _judge(paths, retrieval_set, workdir):
  return judge(paths, [retrieval_set], workdir, batch_size=8, workers=0)


def test_a_workdir_and_the_stores_that_it_filled_are_judged_alike(
  config, finished, tiny_set, tmp_path
):
  stores = {'old': finished / 'old/embeddings', 'new': finished / 'embeddings'}
  results = _judge(stores, tiny_set, tmp_path / 'judged')

  assert results == json.loads((finished / 'results.json').read_text())
  assert (tmp_path / 'judged/report.md').exists()


def test_embeddings_of_a_workdir_are_kept_in_it_and_used_again(
  config, finished, tiny_set, tmp_path, monkeypatch
):
  new = shutil.copytree(finished, tmp_path / 'new')
  shutil.rmtree(new / 'embeddings' / 'tiny-test')
  results = _judge({'old': None, 'new': new}, tiny_set, tmp_path / 'first')
  assert (new / 'embeddings/tiny-test/card.json').exists()

  monkeypatch.setattr('advbct_jax.embeddings.extract.make_loader', None)
  again = _judge({'old': None, 'new': new}, tiny_set, tmp_path / 'again')

  assert again == results
  assert list(results['datasets']['tiny']) == ['self']


def test_an_independent_encoder_gives_the_scores(
  config, finished, tiny_set, tmp_path
):
  results = _judge(
    {'old': finished / 'old', 'new': finished, 'independent': finished},
    tiny_set,
    tmp_path,
  )

  figures = {
    side: results['datasets']['tiny'][side]['private/map@100']
    for side in ('old', 'self', 'cross', 'independent')
  }
  assert figures['independent'] == figures['self'] != figures['old']
  gain = figures['cross'] - figures['old']
  relative = gain / (figures['independent'] - figures['old'])
  assert results['scores']['p_up'] == 50.0
  assert results['scores']['p_comp'] == pytest.approx(
    100 / (1 + math.exp(-relative))
  )


def test_encoders_are_judged_in_float32_unless_asked(
  config, finished, tiny_set, tmp_path
):
  new = shutil.copytree(finished, tmp_path / 'new')
  shutil.rmtree(new / 'embeddings')

  def run(**options):
    return judge(
      {'new': new},
      [tiny_set],
      tmp_path / 'judged',
      batch_size=8,
      workers=0,
      **options,
    )

  results = run(dtype='bfloat16')
  assert results['encoders']['new']['compute_dtype'] == 'bfloat16'
  with pytest.raises(InputError, match='float32 here, bfloat16 there'):
    run()
  shutil.rmtree(new / 'embeddings')
  assert run()['encoders']['new']['compute_dtype'] == 'float32'


def test_a_workdir_of_unfinished_training_is_refused(
  finished, tiny_set, tmp_path
):
  shutil.copy(finished / 'config.json', tmp_path)
  with pytest.raises(InputError, match='is at step None of unknown'):
    _judge({'new': tmp_path}, tiny_set, tmp_path / 'judged')
