"""A data set without images, made from files of vectors.

    old/ new/         with the stores train, index and test
    train_clean.csv   index.csv   test.csv   retrieval_solution_v2.1.csv

The tables are those of GLDv2's layout, so that all that takes a data set takes
this one; a part that the vectors don't have has no table.
"""

from collections.abc import Mapping, Sequence
import csv
import pathlib
import shutil

from advbct_jax.convert.ids_and_labels import read_labels, spell_class
from advbct_jax.convert.vector_columns import VectorColumns
from advbct_jax.convert.vector_folders import group_files, store_groups
from advbct_jax.data import gldv2
from advbct_jax.data.new_folder import new_folder
from advbct_jax.embeddings.store import EmbeddingStore
from advbct_jax.errors import InputError

_PARTS = ('train', 'index', 'test')
_TABLES = {'index': gldv2.INDEX_TABLE, 'test': gldv2.TEST_TABLE}


def prepare_vectors(
  old: pathlib.Path,
  new: pathlib.Path,
  out: pathlib.Path,
  *,
  labels: pathlib.Path | None = None,
  solution: pathlib.Path | None = None,
  old_encoder: str | None = None,
  new_encoder: str | None = None,
  columns: VectorColumns | None = None,
  metric: str | None = None,
) -> str:
  """Makes a data set of what an old and a new encoder said of the same things.

  Args:
    old: a folder of the old encoder's files: train, index and test, or names
      that end so (texts-train.npz), each a file or numbered ones. What is not
      there is left out.
    new: the same of the new encoder, of the same ids in any order.
    out: the new folder; its name is that of the data set.
    labels: a CSV file `id,label` with the class of each thing, where the new or
      old files have none; an empty one, or no line, for none.
    solution: the ground truth, `id,images,Usage` as GLDv2 has it; without it
      things of equal labels answer each other, if index and test have labels.
    old_encoder: its name, where no card beside the vectors says it.
    new_encoder: the same of the new one.
    columns: the names of columns and arrays, where they aren't the usual ones.
    metric: what the vectors are compared by where they come from.

  Returns:
    What was made, as text.

  Raises:
    InputError: if the two sides have other parts or ids, if ids come twice,
      widths differ within a side, or a vector is not finite; nothing is made.
  """
  groups = {'old': _find_parts(old), 'new': _find_parts(new)}
  if groups['old'].keys() != groups['new'].keys():
    raise InputError(
      f'{new}: found vectors of {", ".join(groups["new"])}, but {old} has '
      f'{", ".join(groups["old"])}; wanted the same of both encoders.'
    )
  name = out.name
  out.parent.mkdir(parents=True, exist_ok=True)
  with new_folder(out) as folder:
    stores: dict[str, dict[str, EmbeddingStore]] = {}
    for side, encoder in (('old', old_encoder), ('new', new_encoder)):
      filled = store_groups(
        groups[side],
        folder / side,
        encoder=encoder or f'{name}-{side}',
        data_name=name,
        columns=columns,
        metric=metric,
      )
      stores[side] = {part: each.store for part, each in filled.items()}
    for part in groups['old']:
      _require_two_encoders(stores['old'][part], stores['new'][part])
      _require_same_ids(
        groups['old'][part][0],
        groups['new'][part][0],
        stores['old'][part].ids(),
        stores['new'][part].ids(),
      )
    lines = _write_tables(folder, stores, labels, solution)
  return '\n'.join(f'{out}: {line}' for line in lines)


def _find_parts(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """The files of each part."""
  if not folder.is_dir():
    raise InputError(
      f'{folder}: no such folder; wanted one with files of vectors called '
      'train, index and test.'
    )
  found: dict[str, list[pathlib.Path]] = {}
  groups = group_files(folder)
  for name, files in groups.items():
    for part in _PARTS:
      if not name.lower().endswith(part):
        continue
      if part in found:
        raise InputError(
          f'{folder}: found {found[part][0].name} and {files[0].name}, which '
          f'both are of {part}; wanted one name for each part. Take one away.'
        )
      found[part] = files
  if not found:
    raise InputError(
      f'{folder}: found {", ".join(groups) or "no files of vectors"}, wanted '
      'files whose names end in train, index and test, such as train.npz. '
      'Rename them.'
    )
  return {part: found[part] for part in _PARTS if part in found}


def _require_two_encoders(old: EmbeddingStore, new: EmbeddingStore) -> None:
  if old.card.identity() == new.card.identity():
    raise InputError(
      f'old and new vectors are both of {old.card.encoder} '
      f'({old.card.weights}) by their cards; wanted those of two encoders.'
    )


def _require_same_ids(
  old: pathlib.Path,
  new: pathlib.Path,
  old_ids: Sequence[str],
  new_ids: Sequence[str],
) -> None:
  for here, there, ids, others in (
    (new, old, new_ids, set(old_ids)),
    (old, new, old_ids, set(new_ids)),
  ):
    if alone := [one for one in ids if one not in others]:
      raise InputError(
        f'{here}: {len(alone)} of its {len(ids)} ids are not in {there}, such '
        f'as {alone[0]!r}; wanted the same ids on both sides, in any order. '
        'Leave these vectors out, or add the others.'
      )


def _write_tables(
  folder: pathlib.Path,
  stores: Mapping[str, Mapping[str, EmbeddingStore]],
  labels: pathlib.Path | None,
  solution: pathlib.Path | None,
) -> list[str]:
  """Writes the tables; returns what is in them, in lines."""
  ids = {part: store.ids() for part, store in stores['new'].items()}
  for part, listed in ids.items():
    _require_listable(part, listed)
  label_of = _read_labels(stores, ids, labels)
  lines = []
  if 'train' in ids:
    lines.append(_write_train(folder, ids['train'], label_of.get('train')))
  for part, table in _TABLES.items():
    if part in ids:
      _write(folder / table, ['id'], [[one] for one in ids[part]])
      lines.append(f'{len(ids[part])} things in {table}')
  truth = folder / gldv2.SOLUTION_TABLE
  if solution is not None:
    if not solution.is_file():
      raise InputError(f'{solution}: no such file of the ground truth.')
    shutil.copyfile(solution, truth)
    gldv2.load_retrieval(folder)  # refuses one of other things
    lines.append(f'the ground truth is that of {solution}')
  elif 'index' in label_of and 'test' in label_of:
    lines.append(_write_truth(truth, ids, label_of))
  else:
    lines.append(
      'no ground truth, so nothing can be judged, only planned and trained '
      "(--config.evaluation.data='()'); it is a table (--solution), or labels "
      'of index and test things (--labels)'
    )
  return lines


def _read_labels(
  stores: Mapping[str, Mapping[str, EmbeddingStore]],
  ids: Mapping[str, Sequence[str]],
  path: pathlib.Path | None,
) -> dict[str, dict[str, str]]:
  """The class of each id, by part; '' for none."""
  if path is not None:
    every = [one for part in ids.values() for one in part]
    unique = list(dict.fromkeys(every))
    told = dict(zip(unique, read_labels(path, unique), strict=False))
    if len(told) != len(unique):
      raise InputError(
        f'{path}: found {len(told)} labels for {len(unique)} things; wanted a '
        'CSV file with the columns id,label.'
      )
    return {
      part: {one: spell_class(told[one]) for one in listed}
      for part, listed in ids.items()
    }
  found: dict[str, dict[str, str]] = {}
  for side in ('old', 'new'):  # what the new side says counts
    for part, store in stores[side].items():
      if (own := store.labels()) is not None:
        found[part] = dict(zip(store.ids(), own, strict=True))
  return found


def _write_train(
  folder: pathlib.Path,
  ids: Sequence[str],
  label_of: Mapping[str, str] | None,
) -> str:
  members: dict[str, list[str]] = {}
  for one in ids:
    # Without labels all are of one class, which says nothing of any.
    label = label_of[one] if label_of else 'none'
    if label:
      members.setdefault(label, []).append(one)
  if not members:
    raise InputError(
      'training things: none of them has a label; wanted a class of some, or '
      'no labels at all.'
    )
  _write(
    folder / gldv2.TRAIN_TABLE,
    ['landmark_id', 'images'],
    [
      [str(number), ' '.join(members[label])]
      for number, label in enumerate(sorted(members))
    ],
  )
  count = sum(map(len, members.values()))
  if not label_of:
    return (
      f'{count} training things without labels: ties image by image (l2) can '
      'be trained, ties by class cannot'
    )
  left_out = len(ids) - count
  return f'{count} training things of {len(members)} classes' + (
    f'; {left_out} without a class are left out' if left_out else ''
  )


def _write_truth(
  path: pathlib.Path,
  ids: Mapping[str, Sequence[str]],
  label_of: Mapping[str, Mapping[str, str]],
) -> str:
  """Things of equal labels answer each other; who has no answer is ignored."""
  members: dict[str, list[str]] = {}
  for one in ids['index']:
    members.setdefault(label_of['index'][one], []).append(one)
  members.pop('', None)
  rows, ignored = [], 0
  for one in ids['test']:
    answers = members.get(label_of['test'][one])
    ignored += not answers
    rows.append(
      [one, ' '.join(answers), 'Private']
      if answers
      else [one, 'None', 'Ignored']
    )
  if ignored == len(rows):
    raise InputError(
      f'labels: none of the {len(rows)} test things has the label of an index '
      'thing; wanted some, or no labels of them and a --solution.'
    )
  _write(path, ['id', 'images', 'Usage'], rows)
  return (
    f'the ground truth is equal labels; {len(rows) - ignored} queries have an '
    f'answer' + (f', {ignored} are ignored' if ignored else '')
  )


def _require_listable(part: str, ids: Sequence[str]) -> None:
  """Refuses ids that a list in one cell of a table cannot hold."""
  for one in ids:
    if one.split() != [one]:
      raise InputError(
        f'{part}: found the id {one!r}, wanted ids without blanks: tables '
        'list them with blanks between. Replace the blanks on both sides.'
      )


def _write(
  path: pathlib.Path, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
  with path.open('w', encoding='utf-8', newline='') as file:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(header)
    writer.writerows(rows)
