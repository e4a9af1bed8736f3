"""Weights that nobody trains: what they say of a data set, as stores."""

from collections.abc import Iterable
import pathlib

from advbct_jax import processes
from advbct_jax.convert.from_pytorch import import_weights
from advbct_jax.data.images import ImageSet
from advbct_jax.errors import InputError
from advbct_jax.training.checkpoints import is_workdir, read_config
from advbct_jax.training.run_stores import open_run


def embed_by_weights(
  weights: str,
  workdir: pathlib.Path,
  image_sets: Iterable[ImageSet],
  *,
  image_size: int,
  batch_size: int,
  workers: int,
  dtype: str,
) -> pathlib.Path:
  """Embeds sets of images by the encoder of a file of weights.

  What an earlier call has made is kept; a killed one is gone on with.

  Args:
    weights: a path, `hf://OWNER/REPO/FILE` or `package://NAME`.
    workdir: becomes that of the encoder, as if it had been trained here.
    image_sets: what to embed.
    image_size: side in pixels that images are squashed to.
    batch_size: images at a time.
    workers: processes that decode images; 0 takes threads.
    dtype: what the encoder computes in.

  Returns:
    The folder of the stores.

  Raises:
    InputError: if the weights cannot be used, an image cannot be read, or the
      workdir is of other weights or of images of another size.
  """

  def imported() -> str:
    if is_workdir(workdir):
      return ''
    return import_weights(weights, workdir, image_size)

  if summary := processes.from_first(imported):
    processes.say(summary)
  config = read_config(workdir)
  found = config.get('converted_from'), config.data.image_size
  if found != (weights.rpartition('/')[2], image_size):
    raise InputError(
      f'{workdir}: the encoder of {found[0]} for images of {found[1]} pixels; '
      f'wanted: that of {weights} for images of {image_size}. Name another '
      '--workdir, or remove this folder.'
    )
  _, source = open_run(
    workdir, batch_size=batch_size, workers=workers, dtype=dtype
  )
  for image_set in image_sets:
    source(image_set)
  return workdir / 'embeddings'
