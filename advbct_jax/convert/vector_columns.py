"""Which columns or arrays of a file are vectors, ids and labels."""

import argparse
from collections.abc import Collection, Sequence
import dataclasses
import pathlib

from advbct_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class VectorColumns:
  """What a user says of the columns of Parquet and CSV files and .npz arrays.

  Attributes:
    id: the name of the ids; None for the usual ones, `id` and `ids`.
    vector: of the vectors; None for the usual ones, or the only one that could
      be it.
    label: of the labels; None for `label` and `labels`.
    scale: what int8 vectors are multiplied by: a number, or the name of a
      column or array; None for `scale`, where there is one.
  """

  id: str | None = None
  vector: str | None = None
  label: str | None = None
  scale: str | None = None


def add_column_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags that `read_column_flags` reads."""
  parser.add_argument(
    '--id_column',
    help='the column (.parquet, .csv) or array (.npz) of ids (id, ids)',
  )
  parser.add_argument(
    '--vector_column',
    help='the column or array of vectors (embedding, embeddings, vectors, or '
    'the only one that could be it)',
  )
  parser.add_argument(
    '--label_column', help='the column or array of labels (label, labels)'
  )
  parser.add_argument(
    '--scale',
    help='what int8 vectors are multiplied by: a number, or the column or '
    'array that has a number for each vector or each component (scale)',
  )


def read_column_flags(flags: argparse.Namespace) -> VectorColumns:
  """What the flags of `add_column_flags` say."""
  return VectorColumns(
    flags.id_column, flags.vector_column, flags.label_column, flags.scale
  )


def find_column(
  path: pathlib.Path,
  flag: str,
  given: str | None,
  usual: Sequence[str],
  there: Collection[str],
) -> str | None:
  """Finds a column by the name that a user says, or by its usual names.

  Args:
    path: of the file.
    flag: by which the user says it.
    given: what the user says, if anything.
    usual: the names to try otherwise, the likeliest first.
    there: the names in the file.

  Returns:
    The name; None where nobody said it and no usual one is there.

  Raises:
    InputError: if what the user says is not there.
  """
  if given is None:
    return next((name for name in usual if name in there), None)
  if given not in there:
    raise InputError(
      f'{path}: --{flag}={given} is not in it; found '
      f'{", ".join(there) or "nothing"}. Name one of these.'
    )
  return given
