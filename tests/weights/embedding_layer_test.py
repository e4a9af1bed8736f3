import ml_dtypes
import numpy as np
import pytest
import torch

from advbct_jax.errors import InputError
from advbct_jax.weights.embedding_layer import settle_embedding
from advbct_jax.weights.layouts import PUBLISHED, TIMM

E = 6
RANDOM = np.random.default_rng(0)
# What is looked at of a backbone is that its names are known.
BACKBONE = {
  'conv1.weight': np.ones((E, 3, 3, 3), np.float32),
  'bn1.running_mean': np.ones(E, np.float32),
  'layer1.0.conv1.weight': np.ones((E, E, 3, 3), np.float32),
}


def _linear(name, width, inputs=E, bias=True):
  tensors = {f'{name}.weight': RANDOM.normal(size=(width, inputs))}
  if bias:
    tensors[f'{name}.bias'] = RANDOM.normal(size=width)
  return {key: array.astype(np.float32) for key, array in tensors.items()}


def _norm(name, width, affine=True):
  leaves = ['running_mean', 'running_var', *(['weight', 'bias'] * affine)]
  tensors = {
    f'{name}.{leaf}': RANDOM.uniform(0.5, 1, width).astype(np.float32)
    for leaf in leaves
  }
  return tensors | {f'{name}.num_batches_tracked': np.asarray(7)}


def _settle(beside, embedding=None, layout=TIMM):
  backbone = {layout.backbone + name: BACKBONE[name] for name in BACKBONE}
  return settle_embedding(backbone | beside, layout, E, embedding, 'some.pth')


def _refusal(beside, embedding=None):
  with pytest.raises(InputError) as refusal:
    _settle(beside, embedding)
  message = str(refusal.value)
  assert message.startswith('some.pth: ')
  assert '\n' not in message
  return message


@pytest.mark.parametrize(
  ('beside', 'answers'),
  [
    (_linear('fc', 4), ['fc']),
    (_linear('fc', 4, bias=False), ['fc']),
    (_linear('fc', E), ['fc']),
    (_linear('head', 4), ['head']),
    (_linear('classifier', 4), ['classifier']),
    (_linear('criterion', 4, bias=False), ['criterion']),
    (_linear('embedding', 4), ['embedding']),
    (_linear('embedding', 2 * E), ['embedding']),
    (_linear('embedder/0', 4), ['embedder']),
    (_linear('proj', 4, bias=False), ['proj']),
    (_linear('fc.0', 4) | _norm('fc.1', 4), ['fc', 'fc,relu']),
    (
      _linear('last_linear', 4, bias=False) | _norm('last_bn', 4),
      ['last_linear', 'last_linear,last_bn'],
    ),
    (_norm('bottleneck', E), ['bottleneck', 'bottleneck,relu']),
    (_linear('fc', 4) | _linear('embedding', 3), ['fc', 'embedding']),
    (_linear('head.0', 9) | _linear('head.2', 4, 9), []),
    ({'proj': np.ones((E, 4), np.float32)}, []),
    ({'fc.weight': np.ones((1000, E)), **_linear('neck', 4)}, ['neck']),
  ],
  ids=lambda given: ' '.join(given),
)
def test_what_may_be_the_embedding_is_asked_about(beside, answers):
  message = _refusal(beside)
  assert 'may be the embedding, or a classifier. Say which: ' in message
  for answer in [*answers, 'none']:
    assert f'--embedding={answer} ' in message
    if answer != 'last_linear':  # whose BatchNorm would be left over
      _settle(beside, answer)


@pytest.mark.parametrize(
  'beside',
  [
    _linear('fc', 1000),
    _linear('head', 1000),
    _linear('head.fc', 7),
    _linear('classifier', 7, bias=False),
    _linear('heads.head', 7),
    _linear('head.mlp.0', 9)
    | _linear('head.mlp.2', 4, 9)
    | _linear('head.x', 99, 4),
  ],
  ids=lambda given: ' '.join(given),
)
def test_a_classifier_of_many_classes_is_left_out_unasked(beside):
  settled = _settle(beside)
  assert settled.left_out == list(beside)
  assert settled.tensors == BACKBONE


@pytest.mark.parametrize(
  'beside',
  [
    _linear('neck', 4, 5),
    _norm('neck', 4),
    {'neck.weight': np.ones((4, E, 1, 1))},
    {'layer5.weight': np.ones(E)},
  ],
  ids=['of other inputs', 'a BatchNorm', 'a convolution', 'a vector'],
)
def test_what_cannot_stand_on_the_features_is_left_for_others_to_judge(beside):
  assert _settle(beside).tensors == BACKBONE | beside


def _embed(settled, features):
  """What `Encoder` makes of features by these tensors."""
  tensors = {name: torch.from_numpy(a) for name, a in settled.tensors.items()}
  linear = settled.layout.parts['encoder/projection']
  norm = settled.layout.parts.get('encoder/bn')
  found = features @ tensors[f'{linear}.weight'].T
  if norm is None:
    return found + tensors[f'{linear}.bias']
  assert f'{linear}.bias' not in tensors
  names = ('running_mean', 'running_var', 'weight', 'bias')
  return torch.nn.functional.batch_norm(
    found, *(tensors[f'{norm}.{name}'] for name in names)
  )


@pytest.mark.parametrize(
  ('name', 'modules', 'rewritten'),
  [
    ('fc', torch.nn.Linear(E, 4), False),
    ('fc', torch.nn.Linear(E, 4, bias=False), True),
    ('fc', torch.nn.Sequential(torch.nn.Linear(E, 4)), False),
    (
      'fc',
      torch.nn.Sequential(
        torch.nn.Linear(E, 4, bias=False), torch.nn.BatchNorm1d(4)
      ),
      False,
    ),
    (
      'fc',
      torch.nn.Sequential(torch.nn.Linear(E, 4), torch.nn.BatchNorm1d(4)),
      True,
    ),
    (
      'net.head',
      torch.nn.Sequential(
        torch.nn.Dropout(),
        torch.nn.Linear(E, 4),
        torch.nn.BatchNorm1d(4, affine=False),
      ),
      True,
    ),
    ('bottleneck', torch.nn.BatchNorm1d(E), True),
  ],
  ids=str,
)
def test_an_embedding_layer_embeds_as_it_did(name, modules, rewritten):
  for value in [*modules.parameters(), *modules.buffers()]:
    if value.is_floating_point():
      value.data.uniform_(0.5, 1)
  beside = {
    f'{name}.{key}': tensor.numpy()
    for key, tensor in modules.state_dict().items()
  }
  settled = _settle(beside, name)
  features = torch.rand(3, E)
  with torch.no_grad():
    wanted = modules.eval()(features)
  torch.testing.assert_close(_embed(settled, features), wanted)
  assert settled.rewritten == rewritten
  assert not settled.left_out
  assert 'weights cannot tell' in settled.assumed


def test_layers_of_more_than_nine_are_taken_in_their_order():
  beside = _linear('fc.9', 4, bias=False) | _norm('fc.10', 4)
  parts = _settle(beside, 'fc').layout.parts
  assert parts == {'encoder/projection': 'fc.9', 'encoder/bn': 'fc.10'}


def test_half_weights_are_put_together_in_single_precision():
  beside = _linear('fc.0', 4) | _norm('fc.1', 4)
  half = {key: a.astype(ml_dtypes.bfloat16) for key, a in beside.items()}
  mean = _settle(half, 'fc').tensors['fc.1.running_mean']
  assert mean.dtype == np.float32
  np.testing.assert_array_equal(
    mean,
    half['fc.1.running_mean'].astype('f4') - half['fc.0.bias'].astype('f4'),
  )


def test_a_relu_is_told_and_never_guessed():
  beside = _linear('fc.0', 4) | _norm('fc.1', 4)
  assert _settle(beside, 'fc,relu').relu
  assert not _settle(beside, 'fc').relu
  assert 'a ReLU has a place here only after' in _refusal(
    _linear('fc', 4), 'fc,relu'
  )


@pytest.mark.parametrize('embedding', ['fc', 'fc.0,fc.1', 'fc, relu'])
def test_classifiers_on_the_embedding_or_the_features_are_left_out(embedding):
  layer = _linear('fc.0', 4) | _norm('fc.1', 4)
  others = _linear('classifier', 751, 4) | _linear('arc', 9, E, bias=False)
  settled = _settle(layer | others, embedding)
  assert settled.left_out == list(others)


def test_what_may_change_the_embedding_stays_to_be_refused():
  beside = _linear('fc', 4) | _norm('bn', 4)
  assert 'bn.running_mean' in _settle(beside, 'fc').tensors


@pytest.mark.parametrize(
  ('beside', 'embedding', 'message'),
  [
    (_linear('fc', 4), 'head', r'no module head .* stands fc\.'),
    ({}, 'head', r'no module head .* stands nothing\.'),
    (_linear('fc', 4), 'layer1', 'no module layer1 beside'),
    (_linear('fc', 4, 5), 'fc', 'fc takes 5 values, but .* 6 features'),
    (
      _linear('head.0', 9) | _linear('head.1', 4, 9),
      'head',
      r'head\.0 \(Linear\), head\.1 \(Linear\); wanted: a Linear, a BatchNorm',
    ),
    (
      _linear('fc', 4) | _norm('bn', 5),
      'fc,bn',
      r'bn\.bias is \(5,\), but fc gives 4',
    ),
    (
      {'ln.weight': np.ones(E), 'ln.bias': np.ones(E)},
      'ln',
      'ln .neither Linear nor BatchNorm.',
    ),
    (
      _linear('fc.0', 4) | _norm('fc.2', 4),
      'fc',
      'a layer without weights.*--embedding=fc.0,fc.2; a ReLU',
    ),
  ],
)
def test_an_embedding_that_cannot_be_is_refused(beside, embedding, message):
  with pytest.raises(InputError, match=message):
    _settle(beside, embedding)


def test_a_layer_between_that_is_consented_to_is_none():
  beside = _linear('fc.0', 4) | _norm('fc.2', 4)
  parts = _settle(beside, 'fc.0,fc.2').layout.parts
  assert parts == {'encoder/projection': 'fc.0', 'encoder/bn': 'fc.2'}


def test_a_layout_with_an_embedding_layer_is_never_asked_about():
  beside = _linear('projection_dim', 4, bias=False) | _linear('fc', 3)
  settled = _settle(beside, layout=PUBLISHED)
  assert settled.left_out == ['fc.weight', 'fc.bias']
  with pytest.raises(InputError, match='layer is projection_dim, by the names'):
    _settle(beside, 'fc', PUBLISHED)
