"""Every file in `configs/` gives a config that can be trained."""

import importlib
import inspect
import json
import pathlib

import jax
import pytest

from advbct_jax.drawn_landmarks.data_set import draw_landmarks
from advbct_jax.training.checkpoints import read_config
from advbct_jax.training.old_side import old_config
from advbct_jax.training.workdir import require_same_run
from configs import base
from tests.made_up_run import make_run

_FOLDER = pathlib.Path(__file__).parents[1] / 'configs'
_NAMES = sorted(
  '.'.join(path.relative_to(_FOLDER).with_suffix('').parts)
  for path in _FOLDER.rglob('[!_]*.py')
  # Several configs in one.
  if not path.stem.startswith(('comparison', 'chain'))
)


@pytest.fixture(params=_NAMES)
def config(request):
  module = importlib.import_module(f'configs.{request.param}')
  config = module.get_config()
  if not config.model.dimension:  # where vectors say how wide they are
    config.model.dimension = config.old.model.dimension = 16
  return config


def _fields(values, path=''):
  """The dotted names and the types of all fields, the drawing's aside."""
  if isinstance(values, dict) and path != 'data.drawing':
    return {
      name: kind
      for key, value in values.items()
      for name, kind in _fields(value, f'{path}.{key}'.lstrip('.')).items()
    }
  return {path: type(values)}


def test_a_config_has_the_fields_of_the_base_and_no_others(config):
  assert _fields(config.to_dict()) == _fields(base.get_config().to_dict())


def test_both_encoders_of_a_config_can_be_built(config):
  for each in (config, old_config(config)):
    run = make_run(each)
    params = jax.eval_shape(run.fresh_state).params

    width = each.model.dimension
    assert params['encoder']['projection']['kernel'].shape[1] == width
    assert params['classifier']['kernel'].shape == (width, 20)


def test_both_encoders_have_one_width(config):
  assert config.model.dimension == config.old.model.dimension


def test_the_learning_rate_drops_before_the_training_ends(config):
  for each in (config, old_config(config)):
    drops = each.optimizer.drop_epochs
    assert list(drops) == sorted(drops)
    assert drops[0] > 0
    assert drops[-1] < each.epochs


def test_what_is_drawn_is_known_to_the_drawing(config):
  inspect.signature(draw_landmarks).bind('root', **config.data.drawing)


def test_a_config_comes_back_from_its_workdir(config, tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(config.to_dict()))
  # A checkpoint, without which nothing is compared.
  (tmp_path / 'checkpoints' / '1').mkdir(parents=True)
  found = read_config(tmp_path)

  require_same_run(tmp_path, config)
  assert found.to_dict() == json.loads(json.dumps(config.to_dict()))
  assert found.data.split == config.data.split
  assert found.model == config.model


def test_the_base_is_the_published_training():
  config = base.get_config()

  assert (config.method, config.advbct.threshold) == ('advbct', 1.0)
  assert config.advbct.discriminator_norm == 'per_domain'
  assert config.optimizer.to_dict() == {
    'name': 'sgd',
    'learning_rate': 0.1,
    'momentum': 0.9,
    'weight_decay': 5e-4,
    'schedule': 'drops',
    'warmup_epochs': 0.0,
    'drop_epochs': (5, 10, 20),
    'drop_factor': 0.1,
  }
  assert (config.batch_size, config.epochs) == (256, 30)
  assert (config.model.dimension, config.data.image_size) == (256, 224)
  assert config.data.split.kind == 'extended_class'
  assert config.data.split.old_fraction == 0.3
