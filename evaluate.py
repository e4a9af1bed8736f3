"""Judges encoders on retrieval sets.

  python evaluate.py --old=RUN --new=RUN --data=roxford5k,rparis6k \
    --data_root=FOLDER

An encoder is the workdir of a run, an embedding store, or a folder of stores.
"""

from collections.abc import Sequence
import pathlib

from absl import app, flags

from advbct_jax.command_line import exit_with_message, parse_flags
from advbct_jax.data.named_sets import open_retrieval_sets
from advbct_jax.embeddings.store import is_store
from advbct_jax.errors import InputError
from advbct_jax.judge import judge

_OLD = flags.DEFINE_string('old', None, 'The encoder that filled the index.')
_NEW = flags.DEFINE_string('new', None, 'The encoder to upgrade to.')
_INDEPENDENT = flags.DEFINE_string(
  'independent',
  None,
  'The new model trained without any tie to the old one; gives the scores.',
)
_ADAPTER = flags.DEFINE_string(
  'adapter',
  None,
  "The folder of an adapter, which maps the new encoder's vectors where they "
  'are compared with old ones (python -m advbct_jax.adapters fit).',
)
_DATA = flags.DEFINE_list(
  'data', None, 'Data sets: NAME or NAME:ROOT, …', required=True
)
_DATA_ROOT = flags.DEFINE_string('data_root', None, 'Where each NAME lies.')
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where results go; NEW/evaluation by default.'
)
_CROP_QUERIES = flags.DEFINE_bool(
  'crop_queries',
  True,
  'Crop queries to their boxes, which is the standard of ROxford and RParis; '
  '--nocrop_queries is the protocol of the AdvBCT paper.',
)
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 256, 'Images at a time.')
_WORKERS = flags.DEFINE_integer('workers', 0, 'Processes that decode images.')
_DTYPE = flags.DEFINE_enum(
  'dtype',
  'float32',
  ['float32', 'bfloat16'],
  'What the encoders of runs compute in. Stores of the two are not mixed.',
)
flags.mark_flag_as_required('new')


def main(argv: Sequence[str]) -> None:
  """Runs the command line."""
  if len(argv) > 1:
    raise app.UsageError(f'unknown arguments: {" ".join(argv[1:])}')
  workdir = pathlib.Path(_WORKDIR.value or f'{_NEW.value}/evaluation')
  with exit_with_message():
    if not _WORKDIR.value and is_store(str(_NEW.value)):
      raise InputError(
        f'--new={_NEW.value}: a store, in which results have no place. Name a '
        'folder for them by --workdir.'
      )
    judge(
      {
        'old': _OLD.value,
        'new': _NEW.value,
        'independent': _INDEPENDENT.value,
      },
      open_retrieval_sets(_DATA.value, _DATA_ROOT.value, _CROP_QUERIES.value),
      workdir,
      batch_size=_BATCH_SIZE.value,
      workers=_WORKERS.value,
      dtype=_DTYPE.value,
      adapter=_ADAPTER.value,
    )


if __name__ == '__main__':
  app.run(main, flags_parser=parse_flags)
