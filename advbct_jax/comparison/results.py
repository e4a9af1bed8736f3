"""What a comparison measured, cell by cell, and its file."""

from collections.abc import Sequence
import dataclasses
import json
import pathlib
from typing import Any

from advbct_jax.atomic_files import write_text
from advbct_jax.errors import InputError

SIDES = ('old', 'self', 'cross')


@dataclasses.dataclass(frozen=True)
class CellResult:
  """What one training, or one adapter, of a comparison reached.

  Attributes:
    upgrade: from which old encoder to which new one, such as
      'extended_class'.
    method: how the new encoder is tied to the old one, such as 'advbct'.
    start: what it was trained from ('fresh', 'old', 'aligned'), or for method
      'independent' also the adapter between the encoders ('ridge').
    seed: of the training.
    figures: data set -> 'old', 'self' or 'cross' -> metric -> percent.
    seconds: wall time of the cell, None where it was not taken.
  """

  upgrade: str
  method: str
  start: str
  seed: int
  figures: dict[str, dict[str, dict[str, float]]]
  seconds: float | None = None

  @property
  def name(self) -> str:
    """The cell's place in the grid, as messages name it."""
    return f'{self.upgrade}/{self.method}/{self.start}/seed {self.seed}'


def write_results(cells: Sequence[CellResult], path: pathlib.Path) -> None:
  """Writes cells as JSON, whole or not at all.

  Args:
    cells: in the order in which they shall lie in the file.
    path: of `results.json`; its folder is made.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  records = [dataclasses.asdict(cell) for cell in cells]
  write_text(path, json.dumps({'cells': records}, indent=2) + '\n')


def read_results(path: pathlib.Path) -> list[CellResult]:
  """Reads what `write_results` wrote.

  Args:
    path: of `results.json`.

  Returns:
    Its cells, in the file's order.

  Raises:
    InputError: if there is no such file, or it holds something else.
  """
  try:
    contents = json.loads(path.read_text())
  except FileNotFoundError as error:
    raise InputError(
      f'{path}: no such file; wanted: the results of a comparison. Run '
      'it first.'
    ) from error
  except ValueError as error:
    raise InputError(
      f'{path}: not JSON ({error}); wanted: the results of a comparison. Run '
      'it again, into a new folder.'
    ) from error
  if not isinstance(contents, dict) or not isinstance(
    contents.get('cells'), list
  ):
    raise InputError(
      f"{path}: no list under 'cells'; wanted: the results of a comparison. "
      'Give the file that it wrote.'
    )
  return [
    _read_cell(record, f'{path}: cell {place}')
    for place, record in enumerate(contents['cells'])
  ]


def _read_cell(record: Any, where: str) -> CellResult:
  fields = {field.name for field in dataclasses.fields(CellResult)}
  found = set(record) if isinstance(record, dict) else set()
  # An older file may lack the one field that has a default.
  if found | {'seconds'} != fields:
    raise InputError(
      f'{where} has the fields {sorted(found)}; wanted: {sorted(fields)}. Give '
      'the file as the comparison wrote it.'
    )
  figures = record['figures']
  well_formed = isinstance(figures, dict) and all(
    isinstance(sides, dict)
    and all(
      isinstance(metrics, dict)
      and all(_is_number(value) for value in metrics.values())
      for metrics in sides.values()
    )
    for sides in figures.values()
  )
  if not well_formed or type(record['seed']) is not int:
    raise InputError(
      f'{where} holds seed {record["seed"]!r} and figures '
      f'{str(figures)[:80]}; wanted: a whole number, and figures as data set '
      '-> old, self or cross -> metric -> percent. Give the file as the '
      'comparison wrote it.'
    )
  return CellResult(**record)


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)
