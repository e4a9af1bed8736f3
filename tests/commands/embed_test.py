"""The command that embeds training images."""

import shutil

import numpy as np
import pytest

from advbct_jax.commands.embed import main
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


def test_an_unfinished_run_is_refused(config, run, capsys):
  inputs = run / 'inputs.json'
  inputs.write_text(inputs.read_text().replace('"steps": 8', '"steps": 9'))
  with pytest.raises(SystemExit):
    main([str(run)])
  assert 'at step 8 of 9' in capsys.readouterr().err
