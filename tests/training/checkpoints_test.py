import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from advbct_jax.errors import InputError
from advbct_jax.training.checkpoints import (
  Checkpoints,
  latest_step,
  load_encoder,
  load_trained,
  read_config,
  save_state,
)
from advbct_jax.training.state import TrainState


def _state(step):
  return TrainState(
    step=jnp.asarray(step, jnp.int32),
    params={'kernel': jnp.full((2, 3), step / 4)},
    batch_stats={},
    opt_state=(),
  )


def _open(workdir, **options):
  defaults = {'every_steps': 2, 'keep': 2, 'keep_every_steps': 0}
  return Checkpoints(workdir, **(defaults | options))


def _saved_steps(workdir):
  return sorted(int(path.name) for path in (workdir / 'checkpoints').iterdir())


def test_the_newest_state_comes_back(tmp_path):
  checkpoints = _open(tmp_path)
  for step in (1, 3):
    checkpoints.save(_state(step))
  checkpoints.close()

  checkpoints = _open(tmp_path)
  state = checkpoints.restore(_state(0))

  assert checkpoints.latest_step == latest_step(tmp_path) == 3
  assert int(state.step) == 3
  np.testing.assert_array_equal(state.params['kernel'], np.full((2, 3), 0.75))


def test_a_state_from_before_there_was_a_memory_comes_back(tmp_path):
  # As the earlier layout stored it: the fields of its state, without one.
  earlier = {
    'step': jnp.asarray(3, jnp.int32),
    'params': {'kernel': jnp.full((2, 3), 0.75)},
    'batch_stats': {},
    'opt_state': (),
  }
  with ocp.CheckpointManager(tmp_path / 'checkpoints') as manager:
    manager.save(
      3, args=ocp.args.Composite(state=ocp.args.StandardSave(earlier))
    )

  state = _open(tmp_path).restore(_state(0))

  assert (int(state.step), state.memory) == (3, {})
  np.testing.assert_array_equal(state.params['kernel'], np.full((2, 3), 0.75))
  assert load_trained(tmp_path).memory == {}


def test_a_memory_comes_back(tmp_path):
  queue = {'method': {'queue': jnp.arange(4.0)}}
  checkpoints = _open(tmp_path)
  checkpoints.save(_state(2).replace(memory=queue))
  checkpoints.close()

  empty = jax.tree.map(jnp.zeros_like, queue)
  state = _open(tmp_path).restore(_state(0).replace(memory=empty))

  np.testing.assert_array_equal(state.memory['method']['queue'], np.arange(4.0))
  found = load_trained(tmp_path).memory['method']['queue']
  np.testing.assert_array_equal(found, np.arange(4.0))


def test_the_latest_are_kept_and_some_for_good(tmp_path):
  checkpoints = _open(tmp_path, keep=2, keep_every_steps=4)
  for step in range(2, 15, 2):
    checkpoints.save(_state(step))
  checkpoints.close()

  assert _saved_steps(tmp_path) == [4, 8, 12, 14]


def test_checkpoints_are_due_at_multiples(tmp_path):
  checkpoints = _open(tmp_path, every_steps=3)

  assert [step for step in range(1, 10) if checkpoints.due(step)] == [3, 6, 9]


def test_a_step_is_saved_once(tmp_path):
  checkpoints = _open(tmp_path)
  for _ in range(2):
    checkpoints.save(_state(2))
  checkpoints.close()

  assert _saved_steps(tmp_path) == [2]


def test_a_run_without_checkpoints_has_no_latest_step(tmp_path):
  assert latest_step(tmp_path) is None
  _open(tmp_path).close()
  assert latest_step(tmp_path) is None


def test_an_encoder_is_taken_from_the_newest_checkpoint(finished, config):
  encoder = load_encoder(finished / 'old')

  assert (encoder.name, encoder.image_size) == ('tiny', 16)
  shapes = {
    name: np.shape(value)
    for name, value in encoder.variables['params']['bn'].items()
  }
  assert shapes == {'bias': (8,), 'scale': (8,)}
  card = json.loads(
    (finished / 'old' / 'embeddings' / 'tiny-train' / 'card.json').read_text()
  )
  assert encoder.digest == card['weights']


@pytest.mark.parametrize('backend', ['cpu', 'gpu', 'tpu'])
@pytest.mark.parametrize('trained_in', ['auto', 'float32', 'bfloat16'])
def test_an_encoder_embeds_in_float32_whatever_it_was_trained_in(
  finished, config, tmp_path, monkeypatch, trained_in, backend
):
  run = shutil.copytree(finished / 'old', tmp_path / 'old')
  settings = json.loads((run / 'config.json').read_text())
  settings['model']['dtype'] = trained_in
  (run / 'config.json').write_text(json.dumps(settings))
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  assert load_encoder(run).compute_dtype == 'float32'
  asked = load_encoder(run, 'bfloat16')
  assert asked.compute_dtype == 'bfloat16'
  assert asked.digest == load_encoder(run).digest


def test_an_encoder_of_an_untrained_run_is_refused(tmp_path, finished):
  config_file = (finished / 'config.json').read_text()
  (tmp_path / 'config.json').write_text(config_file)
  with pytest.raises(InputError, match=r'no checkpoint here yet\. Train the'):
    load_encoder(tmp_path)


@pytest.mark.parametrize('load', [load_encoder, load_trained])
def test_a_damaged_checkpoint_is_named(finished, config, tmp_path, load):
  shutil.copytree(finished / 'old', tmp_path / 'old')
  for path in (tmp_path / 'old/checkpoints').rglob('*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[:20])
  with pytest.raises(InputError, match=r'2: this checkpoint is damaged \('):
    load(tmp_path / 'old')


def _flip_a_bit(checkpoint):
  """Of the largest file, which has the numbers: Orbax would not notice."""
  files = [path for path in checkpoint.rglob('*') if path.is_file()]
  largest = max(files, key=lambda path: path.stat().st_size)
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 1
  largest.write_bytes(content)


def _save_two(workdir):
  checkpoints = _open(workdir)
  for step in (2, 4):
    checkpoints.save(_state(step))
  checkpoints.close()


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(
  tmp_path, capsys
):
  _save_two(tmp_path)
  _flip_a_bit(tmp_path / 'checkpoints/4')
  with pytest.raises(InputError, match=r'4: this checkpoint is damaged \(.*d/'):
    load_trained(tmp_path)

  checkpoints = _open(tmp_path)
  assert 'checkpoints/4: this checkpoint is damaged' in capsys.readouterr().out
  assert int(checkpoints.restore(_state(0)).step) == 2
  checkpoints.save(_state(4))
  checkpoints.close()
  assert int(load_trained(tmp_path).step) == 4
  assert (tmp_path / 'damaged_checkpoints/4').exists()


def test_a_run_without_any_whole_checkpoint_says_what_to_do(tmp_path):
  _save_two(tmp_path)
  for step in (2, 4):
    _flip_a_bit(tmp_path / 'checkpoints' / str(step))
  with pytest.raises(InputError, match=r'none before it\. Bring a copy'):
    _open(tmp_path)


def test_a_checkpoint_from_before_there_were_checksums_is_read(tmp_path):
  _save_two(tmp_path)
  (tmp_path / 'checkpoints/4/state/SHA256SUMS').unlink()
  assert int(load_trained(tmp_path).step) == 4
  save_state(tmp_path / 'other', _state(7))
  assert (tmp_path / 'other/checkpoints/7/state/SHA256SUMS').exists()


@pytest.mark.parametrize('content', [None, '{"seed": ', '[]'])
def test_what_is_no_workdir_is_refused(tmp_path, content):
  if content:
    (tmp_path / 'config.json').write_text(content)
  with pytest.raises(InputError, match='cannot read the config of a run'):
    read_config(tmp_path)


def test_workdirs_from_before_a_field_have_its_former_value(finished, tmp_path):
  config = json.loads((finished / 'config.json').read_text())
  wanted = json.dumps(config)
  for model in (config['model'], config['old']['model']):
    for name in ('pooling', 'head', 'compatible_dimension'):
      del model[name]
  del config['data']['normalization']
  del config['evaluation']['dtype']
  del config['unibct']['refinement_epochs']
  del config['old']['method']
  (tmp_path / 'config.json').write_text(json.dumps(config))
  assert read_config(tmp_path).to_dict() == json.loads(wanted)


def test_encoders_that_pool_differently_have_different_names(
  finished, config, tmp_path
):
  shutil.copytree(finished / 'old', tmp_path / 'old')
  settings = json.loads((tmp_path / 'old/config.json').read_text())
  settings['model']['pooling'] = 'gem'
  (tmp_path / 'old/config.json').write_text(json.dumps(settings))
  mean, gem = load_encoder(finished / 'old'), load_encoder(tmp_path / 'old')
  assert mean.digest == gem.digest
  assert (mean.name, gem.name) == ('tiny', 'tiny-gem')


@pytest.mark.parametrize('name', ['x[1]', '[a]', 'w[', 'lr=[0.1]', 'a*b?'])
@pytest.mark.parametrize('place', ['workdir', 'above'])
def test_a_workdir_may_be_called_anything(tmp_path, name, place):
  workdir = tmp_path / name / ('' if place == 'workdir' else 'run')
  checkpoints = _open(workdir)
  for step in range(1, 5):
    checkpoints.save(_state(step))
  checkpoints.close()
  assert _saved_steps(workdir) == [3, 4]

  assert int(_open(workdir).restore(_state(0)).step) == latest_step(workdir)
  np.testing.assert_array_equal(
    load_trained(workdir).params['kernel'], np.ones((2, 3))
  )
  save_state(tmp_path / name / 'other', _state(7))
  assert int(load_trained(tmp_path / name / 'other').step) == 7


def _save_nothing(manager, step, **_):
  # As Orbax has done: a warning, and no error.
  (pathlib.Path(manager.directory) / str(step) / 'state').mkdir(parents=True)
  manager.reload()


def test_the_first_checkpoint_is_not_called_saved_when_it_cannot_be_read(
  tmp_path, monkeypatch
):
  checkpoints = _open(tmp_path)
  monkeypatch.setattr(ocp.CheckpointManager, 'save', _save_nothing)
  with pytest.raises(InputError, match='cannot read the newest checkpoint'):
    checkpoints.save(_state(1))


def test_the_newest_checkpoint_is_read_when_it_is_waited_for(
  tmp_path, monkeypatch
):
  checkpoints = _open(tmp_path)
  checkpoints.save(_state(1))
  monkeypatch.setattr(ocp.CheckpointManager, 'save', _save_nothing)
  checkpoints.save(_state(2))
  with pytest.raises(InputError, match='cannot read the newest checkpoint'):
    checkpoints.wait()
