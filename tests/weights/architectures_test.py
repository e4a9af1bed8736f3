import dataclasses
from functools import partial
import re

from flax import traverse_util
import jax
import pytest

from advbct_jax.errors import InputError
from advbct_jax.models.efficientnet_lite import EFFICIENTNET_LITES
from advbct_jax.models.encoder import make_encoder
from advbct_jax.models.resnet import RESNETS
from advbct_jax.models.vit import VITS, VisionTransformer
from advbct_jax.weights.architectures import (
  describe_assumptions,
  find_features,
  find_image_size,
  infer_beside_encoder,
  infer_model,
)
from advbct_jax.weights.layouts import (
  OPENCOMPATIBLE,
  PUBLISHED,
  TIMM,
  pytorch_shape,
)


def _shapes(layout, image_size=32, **model):
  """Shapes under PyTorch's names of an encoder of ours."""
  encoder = make_encoder(**model)
  variables = jax.eval_shape(
    lambda key, images: encoder.init(key, images, train=False),
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, image_size, image_size, 3), 'float32'),
  )
  return {
    layout.pytorch_name(f'{collection}/encoder/{path}'): pytorch_shape(
      leaf.shape
    )
    for collection, tree in variables.items()
    for path, leaf in traverse_util.flatten_dict(tree, sep='/').items()
  }


def _resnet(**fields):
  return {
    'architecture': 'resnet18',
    'width': 1.0,
    'stem': 'imagenet',
    'pooling': 'mean',
    'head': 'batch_norm',
    'dimension': 16,
  } | fields


def _lite(**fields):
  return _resnet(architecture='efficientnet_lite2') | fields


PACKAGE_OF_LITE2 = dataclasses.replace(TIMM, stage_sizes=(1, 3, 3, 4, 4, 5, 1))


@pytest.mark.parametrize(
  ('layout', 'model'),
  [
    *((PUBLISHED, _resnet(architecture=name)) for name in RESNETS),
    (PUBLISHED, _resnet(width=0.3, stem='small')),
    (PUBLISHED, _resnet(width=1 / 16, dimension=8)),
    (OPENCOMPATIBLE, _resnet(width=0.25, pooling='gem', head='linear')),
    (TIMM, _resnet(head='none', dimension=512)),
    (TIMM, _resnet(architecture='resnet50', head='none', dimension=2048)),
    *(
      (
        TIMM,
        _resnet(
          architecture='vit_small_patch16',
          pooling=pooling,
          head='none',
          dimension=384,
        ),
      )
      for pooling in ('cls', 'mean')
    ),
    (PUBLISHED, _resnet(architecture='vit_base_patch16', pooling='cls')),
    *((PUBLISHED, _resnet(architecture=name)) for name in EFFICIENTNET_LITES),
    (PUBLISHED, _resnet(architecture='efficientnet_lite2', width=0.3)),
    *(
      (layout, _lite(head='none', dimension=1280))
      for layout in (TIMM, PACKAGE_OF_LITE2)
    ),
    (OPENCOMPATIBLE, _lite(head='linear')),
  ],
)
def test_an_encoder_is_told_from_its_tensors(layout, model):
  shapes = _shapes(layout, **model)
  found = infer_model(shapes, layout, 'some')
  assert _shapes(layout, **found) == shapes
  assert found | {'width': 0} == model | {'width': 0}
  assert found['width'] == pytest.approx(model['width'], abs=0.002)


def test_position_embeddings_tell_the_image_size(monkeypatch):
  tiny = partial(VisionTransformer, depth=1, heads=2, channels=8)
  monkeypatch.setitem(VITS, 'vit_tiny', tiny)
  model = {'architecture': 'vit_tiny', 'head': 'none', 'dimension': 8}
  assert find_image_size(_shapes(TIMM, 48, **model), TIMM, 'some') == 48
  assert find_image_size({'conv1.weight': (64, 3, 7, 7)}, TIMM, 'some') is None


@pytest.mark.parametrize(
  ('model', 'told'),
  [
    (_resnet(), r'^$'),
    (_resnet(stem='small'), 'stride 2 and no pooling .* stride 1, as CIFAR'),
    (_resnet(architecture='vit_small_patch16'), 'to have 6 heads, as timm'),
    (_resnet(architecture='vit_base_patch16'), 'to have 12 heads, as timm'),
    (_lite(), 'images of 260×260, .* calls tf_efficientnet_lite2, which'),
  ],
)
def test_what_weights_cannot_tell_is_told_as_assumed(model, told):
  assert re.search(told, describe_assumptions(model))


def _beside(shapes, layout, source):
  return infer_beside_encoder(shapes, layout, 16, source)


@pytest.mark.parametrize(
  ('find', 'name', 'shape', 'axes'),
  [
    (infer_model, 'convnet.pos_embed', (), 3),
    (infer_model, 'convnet.pos_embed', (1, 384), 3),
    (infer_model, 'convnet.patch_embed.proj.weight', (384,), 4),
    (infer_model, 'convnet.conv1.weight', (), 4),
    (infer_model, 'convnet.conv1.weight', (64,), 4),
    (infer_model, 'convnet.layer2.0.conv1.weight', (64,), 4),
    (infer_model, 'projection_dim.weight', (), 2),
    (find_image_size, 'convnet.pos_embed', (), 3),
    (_beside, 'projection_cls.weight', (5,), 2),
    (_beside, 'discriminator.d_fc1.weight', (100,), 2),
  ],
)
def test_tensors_of_another_rank_are_refused_by_name(find, name, shape, axes):
  architecture = 'vit_small_patch16' if 'embed' in name else 'resnet18'
  shapes = _shapes(
    PUBLISHED, **_resnet(architecture=architecture, pooling='auto')
  )
  found = f'{name.removeprefix("convnet.")} is {shape}; wanted: {axes} axes'
  with pytest.raises(InputError, match=rf'^some: .*{re.escape(found)}'):
    find(shapes | {name: shape}, PUBLISHED, 'some')


def test_a_stage_without_a_first_block_is_refused():
  shapes = _shapes(PUBLISHED, **_resnet())
  name = 'convnet.layer1.{}.conv1.weight'
  shapes[name.format(2)] = shapes.pop(name.format(0))
  with pytest.raises(InputError, match=r'layer1\.0\.conv1\.weight is missing'):
    infer_model(shapes, PUBLISHED, 'some')


DENSENET = {
  'features.conv0.weight': (64, 3, 7, 7),
  'features.norm0.weight': (64,),
}


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda shapes: DENSENET, r'no architecture .* features\.conv0\.weight, '),
    (
      # As in wide_resnet50_2: the inner channels doubled, the outer ones not.
      lambda shapes: {
        name: (shape[0] * 2, *shape[1:])
        if name.endswith('.0.conv1.weight')
        else shape
        for name, shape in shapes.items()
      },
      '64, 128, 256, 512, 1024 channels; wanted: 64, 64, 128',
    ),
    (
      lambda shapes: shapes | {'layer3.6.conv1.weight': (256, 1024, 1, 1)},
      'a ResNet with 3-4-7-3 blocks .BottleneckBlock.* wanted: resnet18, ',
    ),
    (
      lambda shapes: shapes | {'conv1.weight': (64, 3, 5, 5)},
      'a first kernel of 5×5',
    ),
    (
      # timm's vit_tiny, whose heads are not to be told.
      lambda shapes: {
        'pos_embed': (1, 197, 192),
        'patch_embed.proj.weight': (192, 3, 16, 16),
        'blocks.0.norm1.weight': (192,),
      },
      'transformer of 1 blocks and 192 channels',
    ),
  ],
)
def test_other_architectures_are_refused_by_what_they_are(change, message):
  model = _resnet(architecture='resnet50', head='none', dimension=2048)
  with pytest.raises(InputError, match=f'some: .*{message}'):
    infer_model(change(_shapes(TIMM, **model)), TIMM, 'some')


@pytest.mark.parametrize('layout', [TIMM, PACKAGE_OF_LITE2])
@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      lambda name, shape: [(name, shape), (_squeezing(name), (8, 16, 1, 1))],
      'is of squeeze-and-excitation, which an EfficientNet-Lite has none of',
    ),
    (
      # One block less.
      lambda name, shape: (
        [] if re.search(r'\.(6\.0|20)\.', name) else [(name, shape)]
      ),
      'an EfficientNet of 20 blocks; wanted: resnet18, ',
    ),
    (
      lambda name, shape: [
        (name, (2 * shape[0], *shape[1:]) if 'conv_stem' in name else shape)
      ],
      r'21 blocks and 64, 16, 24, .*; wanted: .*, with 32, 16, .* '
      r'\(efficientnet_lite1\) or 32, 16, .* \(efficientnet_lite2\), all times',
    ),
    (
      lambda name, shape: [(name, () if 'conv_head' in name else shape)],
      r'conv_head.weight is \(\); wanted: 4 axes',
    ),
  ],
)
def test_efficientnets_that_are_no_lite_are_refused_by_what_they_are(
  layout, change, message
):
  shapes = _shapes(layout, **_lite(head='none', dimension=1280))
  changed = dict(
    item for name, shape in shapes.items() for item in change(name, shape)
  )
  with pytest.raises(InputError, match=f'some: .*{message}'):
    infer_model(changed, layout, 'some')


def _squeezing(name):
  block = re.match(r'_?blocks\.(\d+\.)+', name)
  layer = '_se_' if name.startswith('_') else 'se.conv_'
  return f'{block[0] if block else "blocks.0."}{layer}reduce.weight'


def test_classifier_and_method_are_found_beside_an_encoder():
  shapes = {
    'projection_cls.weight': (5, 8),
    'eboundary.weight': (5,),
    'discriminator.d_fc1.weight': (100, 6),
    'discriminator.d_bn1.weight': (100,),
  }
  found = infer_beside_encoder(shapes, PUBLISHED, 8, 'some')
  assert found == {
    'params/classifier/kernel': (8, 5),
    'params/method/boundary': (5,),
    'params/method/discriminator/fc1/kernel': (6, 100),
    'params/method/discriminator/fc1/bias': (100,),
    'params/method/discriminator/bn1/scale': (100,),
    'params/method/discriminator/bn1/bias': (100,),
    'batch_stats/method/discriminator/bn1/mean': (100,),
    'batch_stats/method/discriminator/bn1/var': (100,),
    'params/method/discriminator/fc2/kernel': (100, 2),
    'params/method/discriminator/fc2/bias': (2,),
  }
  assert infer_beside_encoder(shapes, TIMM, 8, 'some') == {}


@pytest.mark.parametrize(
  ('model', 'features'),
  [
    (_resnet(), 512),
    (_resnet(architecture='resnet50', width=0.25), 512),
    (_resnet(architecture='resnet34', width=0.3), 154),
    (_resnet(architecture='vit_small_patch16', pooling='cls'), 384),
    (_resnet(architecture='vit_small_patch16', pooling='mean'), 384),
    (_lite(), 1280),
    (_lite(width=0.25), 320),
  ],
)
@pytest.mark.parametrize('layout', [PUBLISHED, PUBLISHED.under('model.')])
def test_the_features_are_as_wide_as_the_backbone_ends(model, features, layout):
  shapes = _shapes(layout, **model | {'head': 'batch_norm'})
  assert find_features(shapes, layout) == features


@pytest.mark.parametrize(
  'shapes',
  [{}, {'conv1.weight': (4, 3, 3, 3)}, {'layer1.0.conv1.weight': ()}],
)
def test_where_no_backbone_is_known_there_are_no_features(shapes):
  assert find_features(shapes, TIMM) is None
