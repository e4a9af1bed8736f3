"""Embeds the training images with a trained encoder, into a store.

  advbct embed WORKDIR [--data_root=FOLDER] [--data_name=NAME]

The store is WORKDIR/embeddings/NAME-train. Another training can be tied to it,
and an adapter fitted to it. A killed call goes on where it stopped.
"""

import pathlib

from advbct_jax.data import gldv2
from advbct_jax.embeddings.extract import extract
from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.errors import InputError
from advbct_jax.training.checkpoints import load_encoder, read_config
from advbct_jax.training.workdir import require_finished


def embed_training_set(
  workdir: pathlib.Path,
  data_root: str = '',
  data_name: str = '',
  *,
  batch_size: int = 256,
  workers: int = 0,
) -> EmbeddingStore:
  """Fills or opens a run's store of training images.

  Args:
    workdir: of a finished run.
    data_root: a folder in GLDv2's layout; '' for that of the run's config.
    data_name: what it is called; '' for the name in the run's config.
    batch_size: images at a time.
    workers: processes that decode images; 0 takes threads.

  Returns:
    The complete store.

  Raises:
    InputError: if the run is not finished, or nobody says where the data are.
  """
  data = read_config(workdir).data
  require_finished(workdir)
  root, name = data_root or data.get('root'), data_name or data.get('name')
  if not root or not name:
    raise InputError(
      f'{workdir}: its config names no training images; wanted: --data_root, '
      'the folder with train_clean.csv, and --data_name.'
    )
  image_set = gldv2.load_train(pathlib.Path(root), name)
  return extract(
    load_encoder(workdir),
    image_set,
    workdir / 'embeddings' / image_set.name,
    batch_size=batch_size,
    workers=workers,
  )


if __name__ == '__main__':
  from advbct_jax.commands.embed import main

  main()
