"""The command that embeds training images."""

import dataclasses
import shutil

import numpy as np
import pytest

from advbct_jax.commands.embed import main
from advbct_jax.data import gldv2
from advbct_jax.data.decoding import MAX_PIXELS
from advbct_jax.data.ground_truth import RetrievalSet
from advbct_jax.embeddings.store import open_store
from tests.tiny_upgrade import contents


@pytest.fixture
def run(finished, tmp_path):
  shutil.copytree(finished, tmp_path / 'run')
  return tmp_path / 'run'


def test_the_training_images_of_the_config_are_embedded_once(
  config, finished, run, capsys
):
  main([str(run)])
  store = open_store(run / 'embeddings' / 'tiny-train')
  assert f'{store.path}: 32 × 8' in capsys.readouterr().out
  old = open_store(finished / 'old/embeddings/tiny-train')
  assert store.ids() == old.ids()
  assert not np.allclose(store.read(), old.read())
  before = contents(store.path)
  main([str(run)])
  assert contents(store.path) == before


def test_other_images_are_embedded_under_their_own_name(config, landmarks, run):
  shutil.rmtree(run / 'embeddings', ignore_errors=True)
  main([str(run), f'--data_root={landmarks}', '--data_name=mine'])
  assert open_store(run / 'embeddings' / 'mine-train').card.count == 32


def test_index_and_queries_are_embedded_as_an_evaluation_does(
  config, landmarks, finished, run, capsys
):
  shutil.rmtree(run / 'embeddings')
  main([str(run), f'--data=tiny:{landmarks}'])
  made = sorted(path.name for path in (run / 'embeddings').iterdir())
  assert made == ['tiny-index', 'tiny-test']
  output = capsys.readouterr().out
  for name in made:
    there = open_store(finished / 'embeddings' / name)
    store = open_store(run / 'embeddings' / name)
    assert store.card == there.card
    np.testing.assert_array_equal(store.read(), there.read())
    assert f'{store.path}: 8 × 8' in output


def test_retrieval_sets_lie_where_the_config_says_unless_told(
  config, landmarks, run, tmp_path
):
  shutil.rmtree(run / 'embeddings')
  main([str(run), '--data=tiny'])
  moved = shutil.copytree(landmarks, tmp_path / 'moved/other')
  main([str(run), '--data=other', f'--data_root={moved.parent}'])
  assert {path.name for path in (run / 'embeddings').iterdir()} == {
    f'{name}-{part}' for name in ('tiny', 'other') for part in ('index', 'test')
  }


@pytest.mark.parametrize(
  ('flags', 'folder'), [([], 'boxed-cropped'), (['--nocrop_queries'], 'boxed')]
)
def test_queries_are_cropped_unless_told(
  config, landmarks, run, monkeypatch, flags, folder
):
  def open_sets(specs, data_root, crop_queries, max_pixels):
    assert specs == ['boxed:here']
    assert max_pixels == MAX_PIXELS
    images = gldv2.load_train(landmarks, 'tiny')
    boxes = np.tile(np.array([0, 0, 9, 9], np.float32), (len(images), 1))
    queries = dataclasses.replace(
      images, name='boxed', boxes=boxes if crop_queries else None
    )
    return [RetrievalSet('boxed', queries, images, None)]

  monkeypatch.setattr(
    'advbct_jax.training.run_stores.open_retrieval_sets', open_sets
  )
  main([str(run), '--data=boxed:here', *flags])
  assert (run / 'embeddings' / folder / 'card.json').exists()


def test_embedding_is_in_float32_unless_asked_and_the_two_are_not_mixed(
  config, run, capsys
):
  store = run / 'embeddings' / 'tiny-train'
  main([str(run), '--dtype=bfloat16'])
  assert open_store(store).card.compute_dtype == 'bfloat16'
  rounded = open_store(store).read()
  with pytest.raises(SystemExit):
    main([str(run)])
  assert 'compute_dtype: float32 here, bfloat16 there' in (
    capsys.readouterr().err
  )
  shutil.rmtree(store)
  main([str(run)])
  assert open_store(store).card.compute_dtype == 'float32'
  difference = np.abs(rounded - open_store(store).read()).max()
  assert 0 < difference < 0.1 * np.abs(rounded).max()


def test_an_unfinished_run_is_refused(config, run, capsys):
  inputs = run / 'inputs.json'
  inputs.write_text(inputs.read_text().replace('"steps": 8', '"steps": 9'))
  with pytest.raises(SystemExit):
    main([str(run)])
  assert 'at step 8 of 9' in capsys.readouterr().err
