"""Files of vectors as they lie in a folder become stores, once.

A folder holds files of one encoder's vectors, such as train.npz, index.npz and
test.npz. Each becomes a store of its name; those whose names differ in numbers
at their end alone (train-00000-of-00002.parquet) become one.
"""

from collections.abc import Mapping, Sequence
import json
import pathlib
import re
import shutil

from advbct_jax.atomic_files import write_text
from advbct_jax.convert.cards_beside import card_beside
from advbct_jax.convert.stores import Filled, vectors_to_store
from advbct_jax.convert.vector_columns import VectorColumns
from advbct_jax.convert.vector_files import SUFFIXES
from advbct_jax.embeddings.store import is_store
from advbct_jax.errors import InputError
from advbct_jax.locks import hold_name

# Says in a folder of stores which files they were made from.
_MADE_FROM = 'files.json'
_PART_NUMBER = re.compile(r'[-_.]?\d+([-_.]?of[-_.]?\d+)?$')


def group_files(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """Finds the files of vectors in a folder, by what they have vectors of.

  Args:
    folder: is not searched deeper.

  Returns:
    The files of each name, in the order of their numbers; nothing where there
    are none.

  Raises:
    InputError: if files of one name are of two formats.
  """
  groups: dict[str, list[pathlib.Path]] = {}
  for path in sorted(folder.iterdir(), key=_by_number):
    # NAME.ids.npy lies beside vectors, and has none.
    if path.suffix in SUFFIXES and not path.stem.endswith(('.ids', '.labels')):
      name = _PART_NUMBER.sub('', path.stem) or path.stem
      groups.setdefault(name, []).append(path)
  for name, paths in groups.items():
    if len({path.suffix for path in paths}) > 1:
      raise InputError(
        f'{folder}: found {" and ".join(path.name for path in paths)}, wanted '
        f'one file of the vectors of {name}, or several of one format. Take '
        'the others away.'
      )
  return groups


def store_groups(
  groups: Mapping[str, Sequence[pathlib.Path]],
  out: pathlib.Path,
  *,
  encoder: str,
  data_name: str = '',
  columns: VectorColumns | None = None,
  metric: str | None = None,
) -> dict[str, Filled]:
  """Makes a store of each group of files.

  Args:
    groups: the files of each name.
    out: the folder of the stores; it may be there.
    encoder: what made the vectors, where no card beside them says it.
    data_name: of the data set that they are of, for the cards; '' for none.
    columns: the names of columns and arrays, where they aren't the usual ones.
    metric: see `vectors_to_store`.

  Returns:
    The stores by name.

  Raises:
    InputError: as `vectors_to_store` does, or if the widths differ.
  """
  out.mkdir(parents=True, exist_ok=True)
  filled: dict[str, Filled] = {}
  for name, paths in groups.items():
    known = any(card_beside(path) for path in paths)
    filled[name] = vectors_to_store(
      paths,
      out / name,
      encoder=None if known else encoder,
      images=f'{data_name}-{name}' if data_name else None,
      columns=columns,
      metric=metric,
    )
    _require_one_space(filled, groups)
  return filled


def find_stores(path: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
  """Where the stores of a path are, made first where it has files of vectors.

  Args:
    path: of anything that vectors are taken from: a file of vectors or a
      folder of such become stores; a workdir, a store, a folder of stores and
      whatever else there may be stay as they are.
    out: the folder for stores that are made here. Those of an earlier call are
      kept as long as the files are the same.

  Returns:
    `path`, or `out`.

  Raises:
    InputError: if vectors, ids or labels are damaged, missing or don't belong
      together.
  """
  groups = _vectors_at(path)
  if not groups:
    return path
  stats = {
    str(file.resolve()): file.stat()
    for files in groups.values()
    for file in files
  }
  made_from = json.dumps(
    {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()},
    indent=2,
  )
  out.parent.mkdir(parents=True, exist_ok=True)
  note = out / _MADE_FROM

  def is_made() -> bool:
    return note.exists() and note.read_bytes() == made_from.encode()

  # Runs side by side may all come to find them here.
  if is_made():
    return out
  with hold_name(out, 'makes the stores'):
    if is_made():
      return out
    shutil.rmtree(out, ignore_errors=True)
    place = path.resolve()
    store_groups(groups, out, encoder=f'{place.parent.name}/{place.stem}')
    write_text(note, made_from)
  return out


def _vectors_at(path: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """Files of vectors where there is nothing that says more."""
  if path.is_file() and path.suffix in SUFFIXES:
    return {path.stem: [path]}
  if not path.is_dir() or (path / 'config.json').exists() or is_store(path):
    return {}
  if any(map(is_store, path.iterdir())):
    return {}
  return group_files(path)


def _require_one_space(
  filled: Mapping[str, Filled], groups: Mapping[str, Sequence[pathlib.Path]]
) -> None:
  (first, one), *others = filled.items()
  for name, other in others:
    here, there = other.store.card, one.store.card
    if here.dimension != there.dimension:
      raise InputError(
        f'{groups[name][0]}: found vectors of width {here.dimension}, but '
        f'those of {groups[first][0]} have {there.dimension}. A side has '
        'vectors of one encoder; name the files of one.'
      )
    if here.identity() != there.identity():
      raise InputError(
        f'{groups[name][0]}: by the cards, the vectors are of '
        f'{here.encoder} ({here.weights}), but those of {groups[first][0]} '
        f'are of {there.encoder} ({there.weights}). A side has vectors of '
        'one encoder; name the files of one.'
      )


def _by_number(path: pathlib.Path) -> list[tuple[int, str]]:
  """Sorts 2 before 10."""
  return [
    (int(piece or 0), '') if number % 2 else (0, piece)
    for number, piece in enumerate(re.split(r'(\d+)', path.name))
  ]
