"""What happens to a batch of images on the device, before the encoder."""

from functools import partial

import jax
import jax.numpy as jnp

from advbct_jax.data.images import NORMALIZATIONS

AUGMENTATIONS = ('none', 'crop_flip', 'affine')


def normalize(images: jax.Array, kind: str) -> jax.Array:
  """Normalises [..., 3] images of 0 to 255 by one of `NORMALIZATIONS`."""
  mean = jnp.asarray(NORMALIZATIONS[kind].mean) * 255
  deviation = jnp.asarray(NORMALIZATIONS[kind].deviation) * 255
  return (images.astype(jnp.float32) - mean) / deviation


def augment(
  images: jax.Array, keys: jax.Array, kind: str, normalization: str
) -> jax.Array:
  """Distorts each image in its own way, then normalises.

  Args:
    images: [B, H, W, 3] uint8.
    keys: [B] random keys, one an image.
    kind: `none` (the paper's), `crop_flip` (a random part of 25% to 100% of
      the area and 3:4 to 4:3 in shape, mirrored half of the time) or `affine`
      (turned by up to 10°, scaled by 0.8 to 1.2, shifted by up to 10%).
    normalization: a key of `NORMALIZATIONS`.

  Returns:
    [B, H, W, 3] float32 normalised images.
  """
  if kind != 'none':
    draw = {'crop_flip': _draw_crop_flip, 'affine': _draw_affine}[kind]
    matrices, offsets = jax.vmap(draw)(keys)
    images = jax.vmap(warp)(images, matrices, offsets)
  return normalize(images, normalization)


def warp(image: jax.Array, matrix: jax.Array, offset: jax.Array) -> jax.Array:
  """Samples an image at affinely moved places, bilinearly.

  Args:
    image: [H, W, C].
    matrix: [2, 2] maps a place (row, column) in the result, measured from the
      centre in units of half a side, to a place in the image.
    offset: [2] is added to it.

  Returns:
    [H, W, C] float32; beyond its edge the image goes on as its edge.
  """
  height, width = image.shape[:2]
  half = jnp.array([height - 1, width - 1]) / 2
  rows, columns = jnp.meshgrid(
    jnp.linspace(-1, 1, height), jnp.linspace(-1, 1, width), indexing='ij'
  )
  places = jnp.stack([rows, columns], axis=-1) @ matrix.T + offset
  coordinates = (places + 1) * half
  sample = partial(jax.scipy.ndimage.map_coordinates, order=1, mode='nearest')
  return jax.vmap(
    lambda channel: sample(channel, [coordinates[..., 0], coordinates[..., 1]]),
    in_axes=-1,
    out_axes=-1,
  )(image.astype(jnp.float32))


def _draw_crop_flip(key: jax.Array) -> tuple[jax.Array, jax.Array]:
  area_key, shape_key, place_key, flip_key = jax.random.split(key, 4)
  area = jax.random.uniform(area_key, minval=0.25, maxval=1.0)
  log_ratio = jax.random.uniform(shape_key, minval=-1, maxval=1) * jnp.log(
    4 / 3
  )
  sides = jnp.sqrt(area * jnp.exp(jnp.array([log_ratio, -log_ratio])))
  # An oblong part of nearly all of the area would stick out.
  sides = jnp.minimum(sides, 1.0)
  offset = jax.random.uniform(place_key, (2,), minval=-1, maxval=1)
  mirror = jnp.where(jax.random.bernoulli(flip_key), -1.0, 1.0)
  matrix = jnp.diag(sides * jnp.array([1.0, mirror]))
  return matrix, offset * (1 - sides)


def _draw_affine(key: jax.Array) -> tuple[jax.Array, jax.Array]:
  angle_key, scale_key, offset_key = jax.random.split(key, 3)
  angle = jnp.deg2rad(jax.random.uniform(angle_key, minval=-10, maxval=10))
  scale = jax.random.uniform(scale_key, minval=0.8, maxval=1.2)
  cosine, sine = jnp.cos(angle), jnp.sin(angle)
  matrix = jnp.array([[cosine, -sine], [sine, cosine]]) / scale
  # Half a side is the unit, so 10% of a side is 0.2.
  return matrix, jax.random.uniform(offset_key, (2,), minval=-0.2, maxval=0.2)
