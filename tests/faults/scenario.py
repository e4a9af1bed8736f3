"""One command, disturbed some times at random moments, then left in peace."""

import dataclasses
import json
import pathlib
import random
import shutil
import signal

from tests.faults.commands import Command
from tests.faults.forked import Forked, run_line
from tests.faults.outputs import describe_outputs, leftovers

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclasses.dataclass(frozen=True)
class Undisturbed:
  """What a command leaves and says if nothing happens.

  Attributes:
    outputs: see `describe_outputs`.
    seconds: that it takes.
  """

  outputs: dict[str, str]
  seconds: float


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of a command that was disturbed.

  Attributes:
    command: its name.
    seed: of the moments.
    faults: signal and second of each fault that met it.
    lost: why the same command did not end well; empty if it did.
    differing: what is there, or is not, or is other than undisturbed.
    seconds: of all its processes together.
    left: what lies about for good.
  """

  command: str
  seed: int
  faults: list[tuple[str, float]]
  lost: str
  differing: list[str]
  seconds: float
  left: list[str]


def run_undisturbed(
  command: Command, inputs: pathlib.Path, folder: pathlib.Path
) -> Undisturbed:
  """Runs a command in a copy of the inputs.

  Raises:
    RuntimeError: if it fails.
  """
  place = copy_inputs(inputs, folder)
  status, seconds = Forked(
    run_line(command.line), place, folder / 'log.txt'
  ).end()
  if status:
    raise RuntimeError(f'{command.line}: status {status}; {folder}/log.txt')
  return Undisturbed(_look(place, folder), seconds)


def disturb(
  command: Command,
  undisturbed: Undisturbed,
  inputs: pathlib.Path,
  folder: pathlib.Path,
  seed: int,
  faults: int,
) -> Outcome:
  """Disturbs a command some times, then runs it to its end, and compares.

  Args:
    command: which one.
    undisturbed: what it should leave.
    inputs: from `write_inputs`.
    folder: for this scenario; made, and removed if all went well.
    seed: of signals and moments.
    faults: how many at most; fewer where it ends before.
  """
  place = copy_inputs(inputs, folder)
  draws = random.Random(f'{command.name} {seed}')
  met: list[tuple[str, float]] = []
  total, lost, differing = 0.0, '', []
  try:
    for turn in range(faults + 1):
      process = Forked(run_line(command.line), place, folder / 'log.txt')
      if turn < faults:
        number = draws.choice(SIGNALS)
        moment = draws.uniform(0, undisturbed.seconds)
        hit = process.disturb(number, moment)
        if hit:
          met.append((number.name, round(moment, 3)))
      status, seconds = process.end()
      total += seconds
      # Done, or what has hit it came too late to be noticed.
      if turn == faults or not hit:
        break
    said = (folder / 'log.txt').read_text(errors='replace')
    if status and command.done not in said.rpartition('error:')[2]:
      lost = f'status {status}: {said[-400:]}'
    else:
      differing = compare(undisturbed, place, folder)
  except TimeoutError as error:
    lost = str(error)
  left = leftovers(place)
  if not lost and not differing:
    shutil.rmtree(folder)
  return Outcome(
    command.name, seed, met, lost, differing, round(total, 3), left
  )


def compare(
  undisturbed: Undisturbed, place: pathlib.Path, folder: pathlib.Path
) -> list[str]:
  """Names what is there, or is not, or is other than undisturbed."""
  there, wanted = _look(place, folder), undisturbed.outputs
  return sorted(
    name
    for name in there.keys() | wanted.keys()
    if there.get(name) != wanted.get(name)
  )


def copy_inputs(inputs: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  """Copies the inputs into a folder; returns the copy."""
  place = folder / 'place'
  shutil.copytree(inputs, place, symlinks=True)
  return place


def _look(place: pathlib.Path, folder: pathlib.Path) -> dict[str, str]:
  """What lies in a folder, found out by a process of its own."""
  found = folder / 'found.json'

  def look() -> None:
    found.write_text(json.dumps(describe_outputs(place)))

  status, _ = Forked(look, place, folder / 'look.txt').end()
  if status:
    said = (folder / 'look.txt').read_text(errors='replace')
    return {'cannot be read': said[-400:]}
  return json.loads(found.read_text())
