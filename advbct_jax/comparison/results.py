"""What a comparison measured, cell by cell, and its file."""

from collections.abc import Sequence
import dataclasses
import json
import pathlib
from typing import Any

from advbct_jax.atomic_files import write_text
from advbct_jax.errors import InputError

SIDES = ['old', 'self', 'cross']


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
    figures: data set -> 'old', 'self' or 'cross' -> metric -> percent. There is
      no cross where two given encoders have two widths.
    seconds: wall time of the cell, None where it was not taken.
    refresh: data set -> policy -> metric -> percent of the gallery that is
      re-embedded -> percent; empty where no policy was asked for.
  """

  upgrade: str
  method: str
  start: str
  seed: int
  figures: dict[str, dict[str, dict[str, float]]]
  seconds: float | None = None
  refresh: dict[str, dict[str, dict[str, dict[str, float]]]] = (
    dataclasses.field(default_factory=dict)
  )

  @property
  def row(self) -> str:
    """Its place in the grid but for the seed."""
    return f'{self.upgrade}/{self.method}/{self.start}'

  @property
  def name(self) -> str:
    """The cell's place in the grid, as messages name it."""
    return f'{self.row}/seed {self.seed}'


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
    records = json.loads(path.read_text('utf-8'))['cells']
    return [
      _read_cell(record, f'cell {place}')
      for place, record in enumerate(records)
    ]
  except (OSError, ValueError, KeyError, TypeError) as error:
    found = {
      FileNotFoundError: 'no such file',
      json.JSONDecodeError: f'not JSON ({error})',
      KeyError: "nothing under 'cells'",
      TypeError: "no list under 'cells'",
    }.get(type(error), str(error))
    raise InputError(
      f'{path}: {found}; wanted: results.json as a comparison wrote it. Run '
      'the comparison, or name its file.'
    ) from error


def leave_out(
  cells: Sequence[CellResult], parts: Sequence[str]
) -> list[CellResult]:
  """Takes cells out, for tables and plots that shall show fewer.

  Args:
    cells: of a comparison.
    parts: of UPGRADE/METHOD/START, whole ones, such as 'bct' or 'bct/old'.

  Returns:
    The others, in their order.

  Raises:
    InputError: if a part fits no cell, or nothing is left.
  """
  left = list(cells)
  for part in parts:
    named = {cell.row for cell in cells if f'/{part}/' in f'/{cell.row}/'}
    if not named:
      raise InputError(
        f'{part!r} fits none of the {len(cells)} cells; wanted: a part of '
        f'UPGRADE/METHOD/START, such as {cells[0].row}.'
      )
    left = [cell for cell in left if cell.row not in named]
  if not left:
    raise InputError(f'{", ".join(parts)}: that leaves no cell to show.')
  return left


def _read_cell(record: Any, where: str) -> CellResult:
  fields = {field.name for field in dataclasses.fields(CellResult)}
  found = set(record) if isinstance(record, dict) else set()
  # An older file may lack the fields that have a default.
  if found | {'seconds', 'refresh'} != fields:
    raise ValueError(f'{where} has the fields {sorted(found)}')
  cell = CellResult(**record)
  try:
    figures = [
      *(
        figure
        for sides in cell.figures.values()
        for metrics in sides.values()
        for figure in metrics.values()
      ),
      *(
        figure
        for policies in cell.refresh.values()
        for metrics in policies.values()
        for shares in metrics.values()
        for figure in shares.values()
      ),
    ]
    well_formed = type(cell.seed) is int and all(
      type(figure) in (int, float) for figure in figures
    )
  except AttributeError:  # of what should be a dict
    well_formed = False
  if not well_formed:
    raise ValueError(
      f'{where} holds seed {cell.seed!r} and figures {str(cell.figures)[:80]}'
    )
  return cell
