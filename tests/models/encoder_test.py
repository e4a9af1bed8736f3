from functools import partial

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.errors import InputError
from advbct_jax.models import resnet
from advbct_jax.models.encoder import (
  HEADS,
  Encoder,
  classifier,
  l2_normalize,
  make_encoder,
)
from advbct_jax.models.resnet import BasicBlock, ResNet
from tests.products import products


@pytest.fixture(autouse=True)
def _tiny_architecture(monkeypatch):
  monkeypatch.setitem(resnet.RESNETS, 'tiny', partial(ResNet, (1,), BasicBlock))


def _tiny(**options):
  return make_encoder(
    'tiny', width=1 / 16, stem='small', dimension=8, **options
  )


@pytest.fixture(scope='module')
def images():
  return jax.random.normal(jax.random.key(0), (6, 16, 16, 3))


def test_in_training_an_embedding_is_normalised_over_the_batch(images):
  module = _tiny()
  variables = module.init(jax.random.key(1), images, train=False)
  embeddings, updated = module.apply(
    variables, images, train=True, mutable=['batch_stats']
  )
  # BatchNorm comes last: not of unit length, but of mean 0 and variance 1.
  np.testing.assert_allclose(embeddings.mean(axis=0), np.zeros(8), atol=1e-5)
  np.testing.assert_allclose(embeddings.var(axis=0), np.ones(8), rtol=0.1)
  # Then scale and bias move it.
  variables['params']['bn'] = {
    'scale': jnp.full(8, 2.0),
    'bias': jnp.arange(8.0),
  }
  moved, _ = module.apply(
    variables, images, train=True, mutable=['batch_stats']
  )
  np.testing.assert_allclose(moved, 2 * embeddings + jnp.arange(8), atol=1e-5)
  # A tenth of the batch's statistics goes into the running ones.
  assert float(jnp.abs(updated['batch_stats']['bn']['mean']).max()) > 0
  bottom = updated['batch_stats']['backbone']['bn1']
  assert float(jnp.abs(bottom['mean']).max()) > 0


def test_in_evaluation_an_embedding_depends_on_its_image_only(images):
  module = _tiny()
  variables = module.init(jax.random.key(1), images, train=False)
  together = module.apply(variables, images, train=False)
  alone = module.apply(variables, images[2:3], train=False)
  np.testing.assert_allclose(alone, together[2:3], atol=1e-5)


def test_projection_and_classifier_have_no_bias(images):
  variables = jax.eval_shape(
    partial(_tiny().init, train=False), jax.random.key(0), images
  )
  assert jax.tree.map(jnp.shape, variables['params']['projection']) == {
    'kernel': (4, 8)
  }
  head = classifier(5).init(jax.random.key(0), jnp.ones((2, 8)))
  assert jax.tree.map(jnp.shape, head['params']) == {'kernel': (8, 5)}


@pytest.mark.parametrize(
  ('dtype', 'backend', 'wanted'),
  [
    ('auto', 'cpu', 'float32'),
    ('auto', 'gpu', 'bfloat16'),
    ('auto', 'tpu', 'bfloat16'),
    ('float32', 'gpu', 'float32'),
    ('bfloat16', 'cpu', 'bfloat16'),
  ],
)
def test_auto_computes_in_bfloat16_where_that_is_fast(
  dtype, backend, wanted, monkeypatch
):
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  assert _tiny(dtype=dtype).backbone.dtype == jnp.dtype(wanted)


def test_embeddings_are_float32_even_where_the_backbone_is_bfloat16(images):
  module = _tiny(dtype='bfloat16')
  embeddings, variables = jax.eval_shape(
    partial(module.init_with_output, train=True), jax.random.key(0), images
  )
  assert embeddings.dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
    jnp.dtype('float32')
  }


def test_options_reach_backbone_and_encoder():
  module = make_encoder(
    'resnet18', width=0.5, stem='small', dimension=32, axis_name='batch'
  )
  assert isinstance(module, Encoder)
  assert (module.dimension, module.axis_name) == (32, 'batch')
  backbone = module.backbone
  assert (backbone.width, backbone.stem) == (0.5, 'small')
  assert (backbone.stage_sizes, backbone.axis_name) == ((2, 2, 2, 2), 'batch')


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'architecture': 'resnet19'},
      "config.model.architecture is 'resnet19'; wanted: one of resnet18, "
      'resnet34, resnet50, resnet101',
    ),
    (
      {'architecture': 'resnet18', 'stem': 'large'},
      "config.model.stem is 'large'; wanted: one of imagenet, small for",
    ),
    (
      {'architecture': 'resnet18', 'dtype': 'float16'},
      "config.model.dtype is 'float16'; wanted: auto, float32 or bfloat16.",
    ),
  ],
)
def test_unknown_names_are_refused_with_the_known_ones(options, message):
  with pytest.raises(InputError) as refusal:
    make_encoder(**options)
  assert str(refusal.value).startswith(message)


def test_normalising_scales_to_unit_length_and_leaves_zeros():
  found = l2_normalize(jnp.array([[3.0, 4.0], [0.0, 0.0], [-1e-6, 0.0]]))
  np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0], [-1, 0]], atol=1e-6)


def test_the_gradient_of_normalising_is_finite_at_zero():
  gradient = jax.grad(lambda x: l2_normalize(x).sum())(jnp.zeros(2))
  assert np.isfinite(gradient).all()


class _InOnePiece(nn.Module):
  """The encoder as it was before it had parts."""

  backbone: nn.Module
  head: str

  @nn.compact
  def __call__(self, images, train):
    features = self.backbone(images, train).astype(jnp.float32)
    if self.head == 'none':
      return features
    projected = nn.Dense(8, use_bias=self.head == 'linear', name='projection')(
      features
    )
    if self.head == 'linear':
      return projected
    embeddings = nn.BatchNorm(
      use_running_average=not train, momentum=0.9, epsilon=1e-5, name='bn'
    )(projected)
    return nn.relu(embeddings) if self.head.endswith('relu') else embeddings


@pytest.mark.parametrize('head', HEADS)
def test_parts_have_the_layers_and_the_draws_of_an_encoder_in_one_piece(
  images, head
):
  backbone = ResNet((1,), BasicBlock, 1 / 8, 'small')
  for train in (False, True):
    wanted, found = (
      module.init_with_output(jax.random.key(7), images, train)
      for module in (_InOnePiece(backbone, head), Encoder(backbone, 8, head))
    )
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize('train', [False, True])
@pytest.mark.parametrize('head', HEADS)
def test_projected_features_are_the_embedding(images, head, train):
  module = Encoder(ResNet((1,), BasicBlock, 1 / 8, 'small'), 8, head)
  variables = module.init(jax.random.key(1), images, train=False)
  wanted, changed = module.apply(
    variables, images, train, mutable=['batch_stats']
  )
  features, of_backbone = module.apply(
    variables, images, train, method='features', mutable=['batch_stats']
  )
  embeddings, of_head = module.apply(
    variables, features, train, method='project', mutable=['batch_stats']
  )
  assert (features.shape, features.dtype) == ((6, 8), jnp.float32)
  np.testing.assert_allclose(embeddings, wanted, atol=1e-6)
  # Each part changes the statistics of its own layers alone.
  bottom, top = of_backbone['batch_stats'], of_head['batch_stats']
  jax.tree.map(
    partial(np.testing.assert_allclose, atol=1e-6),
    {'backbone': bottom['backbone']}
    | ({'bn': top['bn']} if 'bn' in top else {}),
    changed['batch_stats'],
  )


def test_features_are_float32_even_where_the_backbone_is_bfloat16(images):
  module = _tiny(dtype='bfloat16')
  variables = module.init(jax.random.key(0), images, train=False)
  features = jax.eval_shape(
    partial(module.apply, train=True, method='features', mutable=True),
    variables,
    images,
  )[0]
  assert features.dtype == jnp.float32


def test_classifier_and_head_multiply_in_full_float32_in_training_too(images):
  module = _tiny(dtype='bfloat16')
  variables = module.init(jax.random.key(0), images, train=False)
  features = jnp.ones((6, 4))
  logits = classifier(5)
  for found in (
    products(
      partial(module.apply, train=True, method='project', mutable=True),
      variables,
      features,
    ),
    products(logits.apply, logits.init(jax.random.key(0), features), features),
  ):
    assert found == [('dot_general', 'float32', True)]
