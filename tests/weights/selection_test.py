import pytest

from advbct_jax.errors import InputError
from advbct_jax.weights.selection import select_encoder

RESNET = ('conv1.weight', 'layer1.0.conv1.weight')
VIT = ('pos_embed', 'patch_embed.proj.weight')
LITE = ('conv_stem.weight', 'blocks.0.0.conv_dw.weight')
LITE_OF_PACKAGE = ('_conv_stem.weight', '_blocks.0._depthwise_conv.weight')


def _under(prefix, names=RESNET):
  return [prefix + name for name in names]


def _select(names, **options):
  """Of tensors that are their own names in the file."""
  return select_encoder({name: name for name in names}, 'some.pth', **options)


def _taken(selection):
  return {
    name.removeprefix(selection.layout.backbone)
    for name in selection.tensors
    if name.startswith(selection.layout.backbone)
  }


@pytest.mark.parametrize('names', [RESNET, VIT, LITE, LITE_OF_PACKAGE])
@pytest.mark.parametrize(
  'prefix',
  [
    '',
    'module.',
    '_orig_mod.module.',
    'model.',
    'backbone.',
    'encoder.trunk.',
    'state_dict/',
    'anything/',
    'model/state_dict/module.',
    'checkpoint/a.b/net.',
  ],
)
def test_wrappers_of_any_name_are_taken_off(prefix, names):
  selection = _select(_under(prefix, names))
  assert selection.tensors == {name: prefix + name for name in names}
  assert (selection.layout.backbone, selection.left_out) == ('', {})


def test_a_module_beside_the_backbone_stays_beside_it():
  names = [*_under('net.backbone.'), 'net.fc.weight', 'criterion.weight']
  selection = _select([f'state_dict/{name}' for name in names])
  assert list(selection.tensors) == names
  assert selection.layout.backbone == 'net.backbone.'
  assert not selection.left_out


def test_an_entry_beside_the_encoders_stays_beside_it():
  names = [*_under('trunk/module.'), 'embedder/0.weight', 'random_state']
  selection = _select(names)
  assert list(selection.tensors) == [*RESNET, 'embedder/0.weight']
  assert selection.layout.backbone == ''
  assert selection.left_out == {'in no entry': ['random_state']}


@pytest.mark.parametrize(
  'names',
  [
    ['convnet.conv1.weight', 'convnet.layer1.0.conv1.weight', 'bn.weight'],
    [*_under('backbone.'), 'fc_emb.weight'],
    [*RESNET, 'projection_dim.weight'],
  ],
)
@pytest.mark.parametrize('prefix', ['', 'model.', 'model/module.'])
def test_layouts_with_modules_of_their_own_are_kept_whole(prefix, names):
  assert list(_select(_under(prefix, names)).tensors) == names


def test_such_a_layout_is_found_beside_others():
  names = [*_under('model.backbone.'), 'model.fc_emb.weight', 'loss.weight']
  layout = _select(names).layout
  assert layout.name == 'opencompatible'
  assert layout.parts['encoder/projection'] == 'model.fc_emb'


def test_of_an_old_and_a_new_model_the_new_one_is_taken():
  old = [*_under('old_model.'), 'old_classifier.weight']
  names = [f'module.{name}' for name in (*_under('new_model.'), *old)]
  selection = _select(names)
  assert set(selection.tensors) == set(RESNET)
  assert selection.left_out == {'of the old model': old}


@pytest.mark.parametrize('entry', ['state_dict', 'model_state_dict', 'model'])
def test_of_a_trained_model_and_its_average_the_trained_one_is_taken(entry):
  average = _under('ema/module.')
  selection = _select([*average, *_under(f'{entry}/')])
  assert selection.tensors == {name: f'{entry}/{name}' for name in RESNET}
  assert selection.left_out == {'of other models': average}


@pytest.mark.parametrize(
  ('names', 'flags'),
  [
    (['student/module.', 'teacher/'], '--key=student or --key=teacher.'),
    (['encoder_q.', 'encoder_k.'], '--key=encoder_q or --key=encoder_k.'),
    (['a/online.', 'a/target.'], '--key=online or --key=target.'),
  ],
)
def test_which_of_several_models_is_asked(names, flags):
  names = [name for prefix in names for name in _under(prefix)]
  with pytest.raises(
    InputError, match=r'^some\.pth: .*several models'
  ) as error:
    _select(names)
  assert str(error.value).endswith(flags)
  for flag in flags.rstrip('.').split(' or '):
    name = flag.removeprefix('--key=')
    assert _taken(_select(names, under=[name])) == set(RESNET)


@pytest.mark.parametrize(
  'under',
  [
    ['teacher', 'backbone.'],
    ['teacher.backbone'],
    ['teacher/backbone/'],
    ['student', 'backbone'],
    ['student', 'module.', 'backbone.'],
  ],
)
def test_what_lies_under_a_name_is_taken_alone(under):
  names = [
    *_under('teacher/backbone.'),
    'teacher/head.weight',
    *_under('student/module.backbone.'),
    'student/module.head.weight',
  ]
  selection = _select(names, under=under)
  entry = under[0].split('.')[0].split('/')[0]
  assert list(selection.tensors) == list(RESNET)
  assert all(name.startswith(entry) for name in selection.tensors.values())
  *_, last = selection.left_out
  assert last == f'not under {under[-1]}'


def test_a_beginning_is_one_of_whole_modules():
  names = [*_under('model.'), 'model_ema.weight', 'model2.weight']
  assert list(_select(names, under=['model']).tensors) == list(RESNET)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (
      {'under': ['tacher']},
      r'nothing .* under tacher; it has teacher \(2\), s',
    ),
    (
      {'under': ['backbone.']},
      r'several times\. .*--key=teacher or --key=student\.module\.',
    ),
    ({'under': ['teacher'], 'ignored': ['x.*']}, r'--ignore=x\.\* is no name'),
  ],
)
def test_names_that_are_not_there_are_refused_with_those_that_are(
  options, message
):
  names = [*_under('teacher/backbone.'), *_under('student/module.backbone.')]
  with pytest.raises(InputError, match=message):
    _select(names, **options)


@pytest.mark.parametrize(
  'pattern',
  ['criterion', 'criterion.*', 'state_dict.criterion', '*.weight_of_classes'],
)
def test_what_is_ignored_does_not_stand_in_the_way_of_a_wrapper(pattern):
  names = [*_under('model.'), 'criterion.weight_of_classes']
  selection = _select(
    [f'state_dict/{name}' for name in names], ignored=[pattern]
  )
  assert list(selection.tensors) == list(RESNET)
  assert len(selection.left_out['as told']) == 1


def test_weights_of_no_known_backbone_are_left_as_they_are():
  assert list(_select(['a.weight', 'b.weight']).tensors) == [
    'a.weight',
    'b.weight',
  ]
