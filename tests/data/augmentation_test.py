from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advbct_jax.data.augmentation import augment, normalize, warp

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (4, 9, 9, 3), np.uint8)
KEYS = jax.random.split(jax.random.key(0), 4)
IDENTITY = jnp.eye(2)
distort = jax.jit(partial(augment, normalization='imagenet'), static_argnums=2)
# A ramp to the right: where a pixel came from can be read from its value.
COLUMNS = np.tile(np.arange(9, dtype=np.uint8)[None, :, None] * 20, (9, 1, 3))


def _columns_of(augmented):
  """The place that each pixel of augmented COLUMNS was taken from, 0 to 8."""
  blue = augmented[..., 2] * (0.225 * 255) + 0.406 * 255
  return blue / 20


def test_normalising_brings_imagenets_mean_to_0_and_its_deviation_to_1():
  mean = np.array([123.675, 116.28, 103.53])
  std = np.array([58.395, 57.12, 57.375])
  found = normalize(
    jnp.asarray(np.stack([mean, mean + std, mean - 2 * std])), 'imagenet'
  )
  np.testing.assert_allclose(
    found, [[0, 0, 0], [1, 1, 1], [-2, -2, -2]], atol=1e-5
  )


def test_an_efficientnet_lite_sees_pixels_less_127_in_parts_of_128():
  found = normalize(
    jnp.asarray([[0, 127, 255]], jnp.uint8), 'efficientnet_lite'
  )
  np.testing.assert_allclose(found, [[-127 / 128, 0, 1]], atol=1e-6)


def test_no_augmentation_is_normalising_and_nothing_else():
  np.testing.assert_array_equal(
    augment(IMAGES, KEYS, 'none', 'half'),
    normalize(jnp.asarray(IMAGES), 'half'),
  )


def test_the_identity_moves_no_pixel():
  found = warp(jnp.asarray(IMAGES[0]), IDENTITY, jnp.zeros(2))
  np.testing.assert_allclose(found, IMAGES[0], atol=1e-3)


def test_a_shift_moves_pixels_and_repeats_the_edge():
  # Half a side is 4 pixels: 0.5 takes each pixel from 2 columns to the right.
  found = warp(jnp.asarray(IMAGES[0]), IDENTITY, jnp.array([0.0, 0.5]))
  np.testing.assert_allclose(found[:, :7], IMAGES[0][:, 2:], atol=1e-3)
  for column in (7, 8):
    np.testing.assert_allclose(found[:, column], IMAGES[0][:, 8], atol=1e-3)
  downwards = warp(jnp.asarray(IMAGES[0]), IDENTITY, jnp.array([0.5, 0.0]))
  np.testing.assert_allclose(downwards[:7], IMAGES[0][2:], atol=1e-3)


def test_between_two_pixels_lies_their_mean():
  found = warp(jnp.asarray(IMAGES[0]), IDENTITY, jnp.array([0.0, 0.125]))
  wanted = (IMAGES[0][:, :8].astype(float) + IMAGES[0][:, 1:]) / 2
  np.testing.assert_allclose(found[:, :8], wanted, atol=1e-3)


def test_a_matrix_turns_and_mirrors_about_the_centre():
  quarter = jnp.array([[0.0, -1.0], [1.0, 0.0]])
  found = warp(jnp.asarray(IMAGES[0]), quarter, jnp.zeros(2))
  # Result (row, column) comes from image (−column, row).
  np.testing.assert_allclose(
    found, IMAGES[0][::-1].transpose(1, 0, 2), atol=1e-3
  )
  mirrored = warp(
    jnp.asarray(IMAGES[0]), jnp.diag(jnp.array([1.0, -1.0])), jnp.zeros(2)
  )
  np.testing.assert_allclose(mirrored, IMAGES[0][:, ::-1], atol=1e-3)


@pytest.fixture(scope='module')
def crops():
  """The columns that 400 random crops of a ramp show."""
  keys = jax.random.split(jax.random.key(1), 400)
  ramps = jnp.asarray(np.broadcast_to(COLUMNS, (400, *COLUMNS.shape)))
  return np.asarray(_columns_of(distort(ramps, keys, 'crop_flip'))[:, 4])


def test_crop_flip_mirrors_half_of_the_images(crops):
  mirrored = crops[:, 0] > crops[:, -1]
  # ± 4 deviations of 10.
  assert 160 < mirrored.sum() < 240


def test_crop_flip_shows_a_part_inside_the_image_from_edge_to_edge(crops):
  assert crops.min() > -1e-3
  assert crops.max() < 8 + 1e-3
  assert crops.min() < 0.2
  assert crops.max() > 7.8
  width = np.abs(crops[:, -1] - crops[:, 0]) / 8
  # √(25% · 3/4) is the narrowest, and some fill the width.
  assert 0.43 < width.min() < 0.55
  assert width.max() == pytest.approx(1, abs=1e-3)


def test_affine_turns_scales_and_shifts_a_little():
  keys = jax.random.split(jax.random.key(2), 400)
  # A wide plateau-free ramp: 41 pixels, so that edges stay out of the middle.
  ramp = np.tile(np.arange(41, dtype=np.uint8)[None, :, None] * 6, (41, 1, 3))
  ramps = jnp.asarray(np.broadcast_to(ramp, (400, *ramp.shape)))
  blue = distort(ramps, keys, 'affine')[..., 2] * (0.225 * 255) + 0.406 * 255
  column = np.asarray(blue) / 6
  across = (column[:, 20, 24] - column[:, 20, 16]) / 8
  down = (column[:, 24, 20] - column[:, 16, 20]) / 8
  scale, angle = (
    1 / np.hypot(across, down),
    np.degrees(np.arctan2(down, across)),
  )
  shift = (column[:, 20, 20] - 20) / 40
  for found, (low, high) in {
    'scale': (scale, (0.8, 1.2)),
    'angle': (angle, (-10, 10)),
    'shift': (shift, (-0.1, 0.1)),
  }.values():
    slack = 0.02 * (high - low)
    assert low - slack < found.min() < low + 3 * slack
    assert high - 3 * slack < found.max() < high + slack


@pytest.mark.parametrize('kind', ['crop_flip', 'affine'])
def test_an_image_is_distorted_by_its_key_whatever_its_place(kind):
  together = distort(IMAGES, KEYS, kind)
  order = np.array([2, 0, 3, 1])
  np.testing.assert_allclose(
    distort(IMAGES[order], KEYS[order], kind), together[order], atol=1e-5
  )
  alike = distort(IMAGES[[0, 0, 0, 0]], KEYS, kind)
  np.testing.assert_allclose(alike[0], together[0], atol=1e-5)
  assert float(jnp.abs(alike[0] - alike[1]).max()) > 0.1
