import argparse
import dataclasses
import json
import os
import pickle
import struct
import sys
import warnings

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch

from advbct_jax.errors import InputError
from advbct_jax.weights.cards import WeightsCard, read_card, write_card
from advbct_jax.weights.files import read_tensors, write_weights

TENSORS = {
  'conv1.weight': np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
  'bn1.num_batches_tracked': np.asarray(7, np.int64),
}
CARD = WeightsCard(
  file='',
  architecture='resnet18',
  width=1.0,
  stem='imagenet',
  pooling='mean',
  head='none',
  dimension=512,
  compatible_dimension=0,
  layout='timm',
  image_size=224,
  weights='ab12',
  sha256='',
  mean=(0.485, 0.456, 0.406),
  standard_deviation=(0.229, 0.224, 0.225),
  training='advbct',
)


class _Malicious:
  def __init__(self, marker):
    self.marker = marker

  def __reduce__(self):
    return os.system, (f'touch {self.marker}',)


def _torch_tensors():
  return {name: torch.from_numpy(array) for name, array in TENSORS.items()}


def _require_same(found):
  assert found.keys() == TENSORS.keys()
  for name, tensor in TENSORS.items():
    assert found[name].dtype == tensor.dtype
    np.testing.assert_array_equal(found[name], tensor)


@pytest.mark.parametrize(
  'name', ['a.safetensors', 'a.pth', 'a.pt', 'a.bin', 'a.pth.tar']
)
def test_what_is_written_is_read(tmp_path, name):
  path = tmp_path / name
  card = write_weights(path, TENSORS, CARD)

  _require_same(read_tensors(path))
  assert read_card(path) == card
  assert (card.file, len(card.sha256)) == (name, 64)
  assert set(os.listdir(tmp_path)) == {'a.json', name}


@pytest.mark.parametrize('name', ['a.safetensors', 'a.pth'])
def test_a_file_is_written_with_the_mode_of_a_new_one(tmp_path, name):
  write_weights(tmp_path / name, TENSORS, CARD)
  (tmp_path / 'new').touch()
  assert (tmp_path / name).stat().st_mode == (tmp_path / 'new').stat().st_mode


@pytest.mark.parametrize('beside', [None, '{}', 'another'])
def test_a_file_that_was_not_written_here_stays(tmp_path, beside):
  path = tmp_path / 'a.safetensors'
  if beside == 'another':
    write_card(path, dataclasses.replace(CARD, file='a.pth'))
  elif beside:
    (tmp_path / 'a.json').write_text(beside)
  path.write_text('theirs')
  before = {file: file.read_text() for file in tmp_path.iterdir()}
  with pytest.raises(InputError, match='was not written here') as error:
    write_weights(path, TENSORS, CARD)
  assert str(error.value).startswith(str(path))
  assert {file: file.read_text() for file in tmp_path.iterdir()} == before


def test_a_file_that_was_written_here_is_replaced(tmp_path):
  path = tmp_path / 'a.safetensors'
  write_weights(path, {'b': np.ones(2, np.float32)}, CARD)
  write_weights(path, TENSORS, CARD)
  _require_same(read_tensors(path))


@pytest.mark.parametrize(
  ('wrap', 'before'),
  [
    (dict, ''),
    (lambda tensors: {'epoch': 3, 'model': tensors, 'lr': [0.1]}, 'model/'),
    (lambda tensors: {'a': {'b.c': tensors}, 'best': 0.5}, 'a/b.c/'),
    (lambda tensors: {**tensors, 'epoch': 3, 4: torch.ones(2)}, ''),
    (
      lambda tensors: {
        'net': tensors,
        'optimizer': {'state': {0: {'exp_avg': torch.ones(2)}}},
      },
      'net/',
    ),
  ],
)
@pytest.mark.parametrize('zipped', [True, False])
def test_tensors_have_the_names_on_the_way_to_them(
  tmp_path, wrap, before, zipped
):
  path = tmp_path / 'a.pth'
  torch.save(
    wrap(_torch_tensors()), path, _use_new_zipfile_serialization=zipped
  )
  found = read_tensors(path)
  assert all(name.startswith(before) for name in found)
  _require_same({name.removeprefix(before): found[name] for name in found})


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_parameters_that_were_to_be_trained_are_read(tmp_path, dtype):
  parameter = torch.nn.Parameter(torch.ones(2, dtype=dtype))
  torch.save({'a': parameter}, tmp_path / 'a.pth')
  assert read_tensors(tmp_path / 'a.pth')['a'].tolist() == [1, 1]


def test_bfloat16_is_read_as_the_numbers_that_it_is(tmp_path):
  half = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
  torch.save({'a': half}, tmp_path / 'a.pth')
  found = read_tensors(tmp_path / 'a.pth')['a']
  assert found.dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(found.astype(np.float32), [1.5, -2])


def test_a_checkpoint_that_would_run_code_runs_none(tmp_path):
  path, marker = tmp_path / 'a.pth', tmp_path / 'marker'
  torch.save({'model': _torch_tensors(), 'x': _Malicious(marker)}, path)
  with pytest.raises(InputError, match=r'could run code.*\n.*posix') as error:
    read_tensors(path)
  assert not marker.exists()
  assert 'save its weights alone' in str(error.value)
  assert 'found.state_dict() if found is a module' in str(error.value)
  # It would have, had it been trusted.
  torch.load(path, weights_only=False)
  assert marker.exists()


def test_a_checkpoint_with_other_objects_is_refused_by_their_class(tmp_path):
  path = tmp_path / 'a.pth'
  config = argparse.Namespace(lr=1)
  torch.save({'model': _torch_tensors(), 'config': config}, path)
  with pytest.raises(InputError, match=r'argparse\.Namespace'):
    read_tensors(path)


@pytest.mark.parametrize('protocol', [4, 5])
def test_a_newer_pickle_is_told_from_a_damaged_one(tmp_path, protocol):
  path, marker = tmp_path / 'a.pth', tmp_path / 'marker'
  path.write_bytes(pickle.dumps({'x': _Malicious(marker)}, protocol))
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    with pytest.raises(InputError, match='a pickle of protocol 4') as error:
      read_tensors(path)
  assert 'save its weights alone' in str(error.value)
  assert not marker.exists()


def test_a_page_saved_as_weights_is_told_by_its_beginning(tmp_path):
  (tmp_path / 'a.pth').write_text('<!DOCTYPE html><html>')
  found = r"\(at position 0, .*; it begins with b'<!DOCTYPE html><'\)"
  with pytest.raises(InputError, match=found):
    read_tensors(tmp_path / 'a.pth')


@pytest.mark.filterwarnings('ignore:`torch.jit:DeprecationWarning')
def test_a_program_is_refused_with_how_to_take_its_weights(tmp_path):
  path = tmp_path / 'a.pt'
  traced = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
  torch.jit.save(traced, path)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    with pytest.raises(InputError, match='a TorchScript archive') as error:
      read_tensors(path)
  assert "torch.save(torch.jit.load('FILE').state_dict()," in str(error.value)


@pytest.mark.parametrize('dtype', ['F8_E4M3', 'F8_E5M2', 'F4'])
def test_a_dtype_that_numpy_lacks_is_refused(tmp_path, dtype):
  size = 2 if dtype == 'F4' else 4
  tensor = {'dtype': dtype, 'shape': [4], 'data_offsets': [0, size]}
  header = json.dumps({'a': tensor}).encode()
  content = struct.pack('<Q', len(header)) + header + bytes(size)
  (tmp_path / 'a.safetensors').write_bytes(content)
  with pytest.raises(InputError, match=r'not supported .*wanted: float16, bf'):
    read_tensors(tmp_path / 'a.safetensors')


@pytest.mark.parametrize(
  ('content', 'found'),
  [
    ({'epoch': 3}, r'epoch \(int\)'),
    ({'a': [torch.ones(2)], 'b': {'c': 1}}, r'a \(list\), b \(dict\)'),
    ({1: torch.ones(2)}, r'1 \(Tensor\)'),
    ([torch.ones(2)], 'list'),
    ({}, 'nothing'),
  ],
)
def test_a_checkpoint_without_tensors_by_name_is_refused(
  tmp_path, content, found
):
  torch.save(content, tmp_path / 'a.pth')
  with pytest.raises(
    InputError, match=f'no tensors by name in it, but {found}'
  ):
    read_tensors(tmp_path / 'a.pth')


@pytest.mark.parametrize('name', ['a.safetensors', 'a.pth'])
@pytest.mark.parametrize(
  'content', [b'\x80\x04}q\x00.', b'PK\x03\x04' * 9, b'\x00' * 64]
)
def test_what_is_no_file_of_weights_is_refused(tmp_path, name, content):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(InputError, match='not a whole') as error:
    read_tensors(tmp_path / name)
  assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize('name', ['a.safetensors', 'a.pth'])
def test_a_truncated_file_is_refused(tmp_path, name):
  path = tmp_path / name
  write_weights(path, TENSORS, CARD)
  (tmp_path / 'a.json').unlink()
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(InputError, match='not a whole'):
    read_tensors(path)


def test_an_empty_file_is_refused(tmp_path):
  (tmp_path / 'a.pth').touch()
  with pytest.raises(InputError, match='the file is empty'):
    read_tensors(tmp_path / 'a.pth')


def test_a_file_that_was_changed_under_its_card_is_refused(tmp_path):
  path = tmp_path / 'a.safetensors'
  write_weights(path, TENSORS, CARD)
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)
  with pytest.raises(
    InputError, match=r'its card a\.json says .* changed since'
  ):
    read_tensors(path)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('{"sha256": ', 'cannot read the card'),
    ('{"sha256": "0", "architecture": "resnet18"}', 'file is missing, wanted'),
    ('[' * 100000, 'cannot read the card'),
    ('{"file": "\udce4"}', 'cannot read the card'),
  ],
)
def test_a_damaged_card_is_refused(tmp_path, text, message):
  safetensors.numpy.save_file(TENSORS, tmp_path / 'a.safetensors')
  (tmp_path / 'a.json').write_bytes(text.encode('utf-8', 'surrogateescape'))
  with pytest.raises(InputError, match=message):
    read_tensors(tmp_path / 'a.safetensors')


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('mean', None, 'mean is null, wanted a list of numbers'),
    ('mean', 'abc', 'mean is "abc", wanted a list of numbers'),
    ('standard_deviation', [0.5, '0.5'], 'standard_deviation is .0.5, "0.5".,'),
    ('image_size', '48', 'image_size is "48", wanted a whole number'),
    ('image_size', 48.0, r'image_size is 48\.0, wanted a whole number'),
    ('dimension', True, 'dimension is true, wanted a whole number'),
    ('width', '0.25', r'width is "0\.25", wanted a number'),
    ('architecture', ['resnet18'], r'architecture is .*, wanted a text'),
    ('width', float('nan'), r'width is NaN, wanted more than 0'),
    ('width', 0, r'width is 0, wanted more than 0'),
    ('dimension', -8, r'dimension is -8, wanted more than 0'),
    ('image_size', 0, r'image_size is 0, wanted more than 0'),
    ('compatible_dimension', 513, 'is 513 of 512, wanted 0'),
    ('compatible_dimension', -1, 'is -1 of 512, wanted 0'),
  ],
)
def test_a_card_that_says_what_cannot_be_is_refused(
  tmp_path, field, value, message
):
  path = tmp_path / 'a.safetensors'
  write_card(path, dataclasses.replace(CARD, file=path.name, **{field: value}))
  with pytest.raises(InputError, match=message) as error:
    read_card(path)
  assert str(tmp_path / 'a.json') in str(error.value)


@pytest.mark.parametrize('field', ['sha256', 'architecture', 'mean'])
def test_a_card_that_lacks_a_field_is_refused(tmp_path, field):
  path = tmp_path / 'a.safetensors'
  card = dataclasses.asdict(CARD)
  del card[field]
  (tmp_path / 'a.json').write_text(json.dumps(card))
  with pytest.raises(InputError, match=f'{field} is missing, wanted'):
    read_card(path)


def test_a_card_is_utf_8_wherever_it_is_read(tmp_path, monkeypatch):
  card = dataclasses.replace(CARD, file='ä.safetensors', training='größer')
  write_card(tmp_path / 'ä.safetensors', card)
  text = (tmp_path / 'ä.json').read_bytes().decode('utf-8')
  assert 'größer' in text
  monkeypatch.setattr('locale.getpreferredencoding', lambda *_: 'ascii')
  assert read_card(tmp_path / 'ä.safetensors') == card


def test_a_whole_number_does_for_a_width(tmp_path):
  write_card(tmp_path / 'a.pth', dataclasses.replace(CARD, width=1))
  assert read_card(tmp_path / 'a.pth').width == 1


def test_a_json_file_of_others_is_no_card(tmp_path):
  safetensors.numpy.save_file(TENSORS, tmp_path / 'a.safetensors')
  (tmp_path / 'a.json').write_text('{"epochs": 3}')
  _require_same(read_tensors(tmp_path / 'a.safetensors'))


@pytest.mark.parametrize('failing', ['replace', 'write_card'])
def test_a_broken_export_leaves_no_card_beside_other_weights(
  tmp_path, monkeypatch, failing
):
  path = tmp_path / 'a.safetensors'
  write_weights(path, TENSORS, CARD)

  def fail(*arguments):
    raise OSError('disk full')

  monkeypatch.setattr(
    {
      'replace': 'os.replace',
      'write_card': 'advbct_jax.weights.files.write_card',
    }[failing],
    fail,
  )
  others = {'b': np.ones(2, np.float32)}
  with pytest.raises(InputError, match=r'cannot be written .*disk full'):
    write_weights(path, others, dataclasses.replace(CARD, weights='cd34'))

  assert os.listdir(tmp_path) == ['a.safetensors']
  assert read_tensors(path).keys() == (
    TENSORS.keys() if failing == 'replace' else others.keys()
  )


def test_without_pytorch_its_extra_is_named(tmp_path, monkeypatch):
  (tmp_path / 'a.pth').write_bytes(b'content')
  monkeypatch.setitem(sys.modules, 'torch', None)
  for use in (
    lambda: read_tensors(tmp_path / 'a.pth'),
    lambda: write_weights(tmp_path / 'b.pth', TENSORS, CARD),
  ):
    with pytest.raises(InputError, match=r"pip install 'advbct_jax\[torch\]'"):
      use()
  assert os.listdir(tmp_path) == ['a.pth']
