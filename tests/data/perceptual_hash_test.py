import io
import itertools

import numpy as np
from PIL import Image
import pytest

from advbct_jax.data.perceptual_hash import close_pairs, perceptual_hash
from tests.data.pictures import encode


def _picture(seed: int) -> Image.Image:
  coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
  return Image.fromarray(coarse).resize((96, 72), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
  'change',
  [
    lambda picture: Image.open(io.BytesIO(encode(picture, 'JPEG', quality=60))),
    lambda picture: picture.resize((48, 36)),
    lambda picture: picture.resize((200, 170)),
    lambda picture: picture.convert('L'),
    lambda picture: picture.point(lambda value: value * 0.9),
  ],
)
def test_a_changed_picture_keeps_most_bits(change):
  for seed in range(5):
    before = perceptual_hash(_picture(seed))
    assert (before ^ perceptual_hash(change(_picture(seed)))).bit_count() <= 4


def test_other_pictures_have_other_hashes():
  hashes = [perceptual_hash(_picture(seed)) for seed in range(20)]
  for one, other in itertools.combinations(hashes, 2):
    assert (one ^ other).bit_count() > 10


def test_plain_pictures_all_look_the_same():
  colours = ('white', 'red', (3, 5, 7))
  hashes = {perceptual_hash(Image.new('RGB', (40, 30), at)) for at in colours}
  assert len(hashes) == 1


@pytest.mark.parametrize('distance', range(8))
def test_close_pairs_are_those_of_all_pairs(distance):
  random = np.random.default_rng(distance)
  hashes = random.integers(0, 2**64, 10, np.uint64)
  flips = [
    hashes[row] ^ np.uint64(sum(1 << int(bit) for bit in bits))
    for row in range(10)
    for bits in (random.permutation(64)[:row],)
  ]
  hashes = np.unique(np.concatenate([hashes, flips]))
  wanted = [
    [one, other]
    for one, other in itertools.combinations(range(len(hashes)), 2)
    if (int(hashes[one]) ^ int(hashes[other])).bit_count() <= distance
  ]
  assert len(wanted) == distance
  assert close_pairs(hashes, distance).tolist() == wanted
