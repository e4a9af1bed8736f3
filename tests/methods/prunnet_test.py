"""PrunNet, derived again in NumPy."""

from functools import partial

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.errors import InputError
from advbct_jax.methods import make_method
from advbct_jax.methods.method import Progress
from advbct_jax.methods.prunnet import statistics_name
from advbct_jax.models.encoder import make_encoder
from tests.methods.given_embeddings import GivenEmbeddings, batch_of

PROGRESS = Progress(jnp.asarray(7), steps=20, steps_per_epoch=5)
RANDOM = np.random.default_rng(1)
LABELS, INPUTS, WIDTH = np.arange(9) % 4, 6, 5
IMAGES = RANDOM.normal(size=(9, INPUTS)).astype(np.float32)
BATCH = batch_of(IMAGES, LABELS, np.zeros((9, 0), np.float32))
CAPACITIES = (30, 50, 70, 100)


class Product(nn.Module):
  """An encoder of one kernel and a bias, as of one layer or of another."""

  kernel_shape: tuple[int, ...]

  @nn.compact
  def __call__(self, images, train):
    return _Layer(self.kernel_shape, name='backbone')(images)


class _Layer(nn.Module):
  kernel_shape: tuple[int, ...]

  @nn.compact
  def __call__(self, x):
    kernel = self.param('kernel', nn.initializers.normal(), self.kernel_shape)
    bias = self.param('bias', nn.initializers.normal(), (WIDTH,))
    return x @ kernel.reshape(-1, WIDTH) + bias


def make(kernel_shape, **options):
  options = {'capacities': CAPACITIES} | options
  return make_method('prunnet', Product(kernel_shape), 4, options)


def differentiate(method, *keys):
  """Of each key outcome, and gradients by name; the parameters by name."""
  # A draw of which several losses oppose each other over a whole kernel.
  random = np.random.default_rng(197)
  params = jax.tree.map(
    lambda leaf: random.normal(size=leaf.shape).astype(np.float32),
    jax.eval_shape(
      lambda: method.init(jax.random.key(0), BATCH, None, PROGRESS)['params']
    ),
  )

  @jax.jit
  def gradients_of(params, batch):
    def loss(params):
      outcome, _ = method.apply(
        {'params': params}, batch, None, PROGRESS, mutable=['batch_stats']
      )
      return outcome.loss, outcome

    return jax.grad(loss, has_aux=True)(params)

  found = []
  for key in keys:
    batch = BATCH.replace(key=jax.random.key(key))
    gradients, outcome = gradients_of(params, batch)
    found.append((outcome, named(gradients)))
  return found, named(params)


def named(params):
  return {
    'kernel': np.float64(params['encoder']['backbone']['kernel']),
    'bias': np.float64(params['encoder']['backbone']['bias']),
    'scores': np.float64(params['scores']['backbone']['kernel']),
    'classifier': np.float64(params['classifier']['kernel']),
  }


def derive(params):
  """Of each capacity its loss, embeddings and gradients, layer by layer."""
  derived = []
  scores = np.abs(params['scores'])
  for capacity in CAPACITIES:
    place = round((1 - capacity / 100) * (scores.size - 1))
    kept = scores >= np.sort(scores, axis=None)[place]
    pruned = (params['kernel'] * kept).reshape(INPUTS, WIDTH)
    embeddings = IMAGES @ pruned + params['bias']
    logits = embeddings @ params['classifier']
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    picked = np.arange(9), LABELS
    of_logits = softmax.copy()
    of_logits[picked] -= 1
    of_embeddings = of_logits @ params['classifier'].T / 9
    of_pruned = (IMAGES.T @ of_embeddings).reshape(kept.shape) * kept
    derived.append(
      {
        'loss': -np.log(softmax[picked]).mean(),
        'embeddings': embeddings,
        'kernel': of_pruned,
        'scores': of_pruned * params['kernel'] * np.sign(params['scores']),
        'bias': of_embeddings.sum(axis=0),
        'classifier': embeddings.T @ of_logits / 9,
      }
    )
  return derived


def combine(gradients, order, going_on, exponent, by_channel):
  """One gradient of four, pair by pair."""
  flat = [
    one.reshape(-1, WIDTH if by_channel else 1).copy() for one in gradients
  ]
  projected = []
  for number, own in enumerate(flat):
    left = own.copy()
    for group in range(own.shape[1]):
      for place in order:
        other = flat[place][:, group]
        start = (left if going_on else own)[:, group]
        if place != number and start @ other < 0:
          left[:, group] = (
            start - (start @ other) / (other @ other + 1e-8) * other
          )
    projected.append(left)
  cosines = [
    (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other)
    for one, other in zip(projected, flat, strict=True)
  ]
  weights = ((np.array(cosines) + 1) / 2) ** exponent
  weights *= len(flat) / weights.sum()
  return sum(
    weight * one for weight, one in zip(weights, projected, strict=True)
  ).reshape(gradients[0].shape)


@pytest.mark.parametrize('projection', ['published', 'pcgrad'])
@pytest.mark.parametrize('kernel_shape', [(1, 1, INPUTS, WIDTH), (6, 5)])
def test_losses_and_gradients_are_those_of_the_paper(kernel_shape, projection):
  method = make(kernel_shape, projection=projection, exponent=0.7)
  [(outcome, found)], params = differentiate(method, 3)
  wanted = derive(params)
  for capacity, one in zip(CAPACITIES, wanted, strict=True):
    assert float(outcome.metrics[f'loss_{capacity}']) == pytest.approx(
      one['loss'], rel=1e-5
    )
  assert float(outcome.loss) == pytest.approx(
    sum(one['loss'] for one in wanted), rel=1e-5
  )
  whole = wanted[-1]
  np.testing.assert_allclose(
    outcome.embeddings, whole['embeddings'], rtol=1e-4, atol=1e-5
  )
  for name in ('bias', 'classifier'):  # of the whole network's loss alone
    np.testing.assert_allclose(found[name], whole[name], rtol=1e-3, atol=1e-6)
  kernels = {('backbone', 'kernel'): params['kernel']}
  orders = method._draw_orders(jax.random.key(3), (kernels, kernels))
  for name, order in zip(('kernel', 'scores'), orders, strict=True):
    gradients = [one[name] for one in wanted]
    combined = combine(
      gradients,
      order['backbone', 'kernel'],
      projection == 'pcgrad',
      0.7,
      by_channel=len(kernel_shape) == 4,
    )
    np.testing.assert_allclose(found[name], combined, rtol=1e-3, atol=1e-6)
    # Or there would have been nothing to see.
    assert np.abs(combined - sum(gradients)).max() > 1e-3


def test_the_order_is_drawn_anew_in_each_step():
  method = make((6, 5))
  found, _ = differentiate(method, 3, 3, 4, 5, 6, 7)
  kernels = [gradients['kernel'] for _, gradients in found]
  np.testing.assert_array_equal(kernels[0], kernels[1])
  assert len({kernel.tobytes() for kernel in kernels}) > 1


def test_each_subnetwork_has_running_statistics_of_its_own():
  encoder = make_encoder('features_mlp', dimension=4, dtype='float32')
  method = make_method('prunnet', encoder, 4, {'capacities': (30, 100)})
  variables = jax.jit(method.init)(jax.random.key(0), BATCH, None, PROGRESS)
  params = variables['params']
  # The perceptron starts at 0, where subnetworks don't differ.
  params['encoder']['backbone']['fc2']['kernel'] += 1
  _, updated = jax.jit(partial(method.apply, mutable=['batch_stats']))(
    variables, BATCH, None, PROGRESS
  )
  statistics = updated['batch_stats']
  whole = statistics['encoder']['bn']
  small = statistics[statistics_name(30)]['bn']
  _, alone = encoder.apply(
    {
      'params': params['encoder'],
      'batch_stats': variables['batch_stats']['encoder'],
    },
    IMAGES,
    train=True,
    mutable=['batch_stats'],
  )
  for name in ('mean', 'var'):
    np.testing.assert_allclose(
      whole[name], alone['batch_stats']['bn'][name], rtol=1e-5, atol=1e-6
    )
    assert np.abs(whole[name] - small[name]).max() > 1e-3


@pytest.mark.parametrize(
  ('options', 'said'),
  [
    ({'capacities': (20, 20, 100)}, r'capacities is \(20, 20, 100\); wanted:'),
    ({'capacities': (40, 20, 100)}, 'each more than the one before it'),
    ({'capacities': (20, 80)}, '100 as the last'),
    ({'capacities': (0, 100)}, 'percentages above 0'),
    ({'capacities': ()}, 'wanted: percentages'),
    ({'projection': 'pcgard'}, "'pcgard'; wanted: one of published, pcgrad"),
    ({'exponent': -1.0}, 'exponent is -1.0; wanted: 0 or more'),
  ],
)
def test_options_that_mean_nothing_are_refused(options, said):
  with pytest.raises(InputError, match=said):
    make((6, 5), **options).init(jax.random.key(0), BATCH, None, PROGRESS)


def test_an_encoder_without_kernels_is_refused():
  method = make_method('prunnet', GivenEmbeddings(), 4, {})
  with pytest.raises(InputError, match='has no kernels'):
    method.init(jax.random.key(0), BATCH, None, PROGRESS)
