"""The example embeds real images as the encoder here does."""

import pathlib
import shutil
import subprocess
import sys
import zipfile

import numpy as np
from PIL import Image
import pytest
import safetensors.torch
import torch

from advbct_jax.convert.__main__ import main
from advbct_jax.data.decoding import decode_image
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.training.checkpoints import load_encoder
from examples.pytorch_encoder import build_encoder
from tests.real_data import real_data

_EXAMPLE = pathlib.Path(__file__).parents[2] / 'examples/embed_image.py'
_SIZE = 48
_CARD = {
  'architecture': 'resnet18',
  'width': 0.125,
  'stem': 'small',
  'pooling': 'mean',
  'head': 'batch_norm',
  'dimension': 16,
  'image_size': _SIZE,
}


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
  """A workdir with an encoder, and its weights for PyTorch."""
  folder = tmp_path_factory.mktemp('exported')
  torch.manual_seed(0)
  encoder = build_encoder(_CARD).train()
  for _ in range(3):  # moves the running statistics from 0 and 1
    encoder(torch.randn(8, 3, _SIZE, _SIZE))
  safetensors.torch.save_file(encoder.state_dict(), folder / 'in.safetensors')
  main(
    [
      'from-pytorch',
      str(folder / 'in.safetensors'),
      str(folder / 'workdir'),
      f'--image_size={_SIZE}',
    ]
  )
  out = folder / 'out.safetensors'
  main(['to-pytorch', str(folder / 'workdir'), str(out)])
  return folder / 'workdir', out


def _images(folder):
  """Images of several shapes and modes, photographs among them if there are."""
  random = np.random.default_rng(0)
  noise = random.integers(0, 256, (9, 13, 3), np.uint8)
  drawn = Image.fromarray(noise).resize((301, 157), Image.Resampling.BICUBIC)
  drawn.save(folder / 'colour.jpg')
  drawn.convert('L').save(folder / 'grey.png')
  for archive in real_data('gldv2_photos.zip'):
    with zipfile.ZipFile(archive) as photos:
      name = next(name for name in photos.namelist() if name.endswith('.jpg'))
      (folder / 'photo.jpg').write_bytes(photos.read(name))
  return sorted(folder.iterdir())


def test_the_example_refuses_a_file_that_its_card_does_not_speak_of(
  exported, tmp_path
):
  _, weights = exported
  changed = bytearray(weights.read_bytes())
  changed[-1] ^= 1
  (tmp_path / 'changed.safetensors').write_bytes(changed)
  shutil.copy(weights.with_suffix('.json'), tmp_path / 'changed.json')
  ran = subprocess.run(
    [sys.executable, _EXAMPLE, tmp_path / 'changed.safetensors', 'any.jpg'],
    capture_output=True,
    text=True,
  )
  assert ran.returncode == 1
  assert 'not the file that its card speaks of' in ran.stderr


def test_the_example_gives_our_vectors(exported, tmp_path):
  workdir, weights = exported
  (tmp_path / 'images').mkdir()
  paths = _images(tmp_path / 'images')
  out = tmp_path / 'vectors.npy'
  ran = subprocess.run(
    [sys.executable, _EXAMPLE, weights, *paths, f'--out={out}'],
    check=True,
    capture_output=True,
    text=True,
  )
  encoder = load_encoder(workdir)
  pixels = np.stack([decode_image(path.read_bytes(), _SIZE) for path in paths])
  ours = unit_rows(np.asarray(encoder.embed(pixels[None]))[0])
  np.testing.assert_allclose(np.load(out), ours, atol=1e-4 * np.abs(ours).max())
  lines = ran.stdout.splitlines()
  assert [line.partition(':')[0] for line in lines] == list(map(str, paths))
