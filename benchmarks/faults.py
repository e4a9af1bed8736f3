"""Kills, stops and interrupts every command at random moments.

  python -m benchmarks.faults FOLDER [--faults=12 --seed=0 --only=train,embed]

Each command runs on tiny inputs, twice undisturbed, to see that it always
leaves the same. Then it is hit up to three times one after the other: by
SIGKILL, SIGTERM or SIGINT at a moment within the seconds that it takes. Then
the same line is run in peace. It has survived if that ends well and leaves what
the undisturbed one left, bit for bit (`tests/faults/outputs.py` says what is
compared); it is lost if it does not end well, and differs if it leaves
something else. The time lost by a fault is what all runs took together, more
than the undisturbed one, a fault; without the seconds that Python and its
imports take, since all processes are forked from one that has imported them.

With --damage, files of each kind are cut short and bits of them flipped, and it
is counted whether that is noticed by what reads them.

With --cost, the checksums of a checkpoint are timed beside reading it.

Killed itself, the same line goes on where it stopped: FOLDER has the results.
What was lost or differs is left in FOLDER, with all that was said.
"""

import argparse
from collections.abc import Iterator, Sequence
import dataclasses
import json
import os
import pathlib
import shutil
import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
  from tests.faults.commands import Command
  from tests.faults.scenario import Undisturbed

# At most so many faults one after the other.
_IN_A_ROW = 3


def main(arguments: Sequence[str] | None = None) -> None:
  """Reads the command line, and prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('folder', type=pathlib.Path)
  parser.add_argument(
    '--faults', type=int, default=12, help='of each command (%(default)s)'
  )
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--only', default='', help='commands, with commas')
  parser.add_argument(
    '--damage', type=int, default=0, help='damages of each kind of file'
  )
  parser.add_argument(
    '--special', action='store_true', help='faults that are no signals'
  )
  parser.add_argument(
    '--cost', type=int, default=0, help='megabytes of a checkpoint to time'
  )
  flags = parser.parse_args(arguments)
  folder = flags.folder.absolute()
  folder.mkdir(parents=True, exist_ok=True)
  if flags.cost:
    _measure_cost(_new(folder / 'cost'), flags.cost)
    return
  # What was compiled once is not compiled in each process. LLVM's passes
  # take the most of it, and a fault is the same without them.
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(folder / 'compiled'))
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
  # Only now, for JAX reads these when it is imported.
  from tests.faults.commands import make_small
  from tests.faults.forked import import_commands

  import_commands()
  make_small()
  inputs = _make_inputs(folder)
  only = [name for name in flags.only.split(',') if name]
  if flags.damage:
    _measure_damage(folder, inputs, flags.seed, flags.damage)
  elif flags.special:
    _meet_special(folder, inputs, flags.seed, only)
  else:
    _measure_faults(folder, inputs, flags.seed, flags.faults, only)


def _make_inputs(folder: pathlib.Path) -> pathlib.Path:
  """What the commands work on, made once."""
  from tests.faults.commands import write_inputs
  from tests.faults.forked import Forked, run_line

  inputs, begun = folder / 'inputs', folder / 'inputs.begun'
  if inputs.exists():
    return inputs
  shutil.rmtree(begun, ignore_errors=True)
  begun.mkdir()

  def run(line: str) -> None:
    log = folder / 'inputs.txt'
    status, _ = Forked(run_line(line), begun, log).end()
    if status:
      sys.exit(f'{line}: status {status}; see {log}')

  write_inputs(begun, run)
  begun.rename(inputs)
  return inputs


def _measure_faults(
  folder: pathlib.Path,
  inputs: pathlib.Path,
  seed: int,
  faults: int,
  only: Sequence[str],
) -> None:
  from tests.faults.commands import COMMANDS
  from tests.faults.scenario import Outcome, disturb

  results = folder / 'results.jsonl'
  rows = []
  for command in COMMANDS:
    if only and command.name not in only:
      continue
    place = _place_of(folder, command)
    undisturbed = _run_undisturbed(folder, inputs, command)
    known = [line for line in _read(results) if line['command'] == command.name]
    outcomes = [Outcome(**line) for line in known if 'faults' in line]
    while sum(len(outcome.faults) for outcome in outcomes) < faults:
      left = faults - sum(len(outcome.faults) for outcome in outcomes)
      number = seed + len(outcomes)
      outcome = disturb(
        command,
        undisturbed,
        inputs,
        _new(place.with_name(f'{place.name}.{number}')),
        number,
        min(left, _IN_A_ROW),
      )
      outcomes.append(outcome)
      _append(results, command.name, dataclasses.asdict(outcome))
      if outcome.lost or outcome.differing:
        print(f'{outcome}', file=sys.stderr)
      if outcome.lost and not outcome.faults:
        sys.exit(f'{command.name}: fails by itself')
    rows.append((command.name, outcomes, undisturbed.seconds))
    print(f'{command.name}: done', file=sys.stderr)
  for line in _table(rows):
    print(line)


def _run_undisturbed(
  folder: pathlib.Path, inputs: pathlib.Path, command: 'Command'
) -> 'Undisturbed':
  """What a command leaves each time, and how long it takes the second time."""
  from tests.faults.scenario import Undisturbed, run_undisturbed

  results = folder / 'results.jsonl'
  found = [
    Undisturbed(line['outputs'], line['seconds'])
    for line in _read(results)
    if line['command'] == command.name and 'outputs' in line
  ]
  while len(found) < 2:
    found.append(
      run_undisturbed(command, inputs, _new(_place_of(folder, command)))
    )
    _append(results, command.name, dataclasses.asdict(found[-1]))
  if found[0].outputs != found[1].outputs:
    sys.exit(f'{command.name}: leaves something else each time')
  return found[1]


def _place_of(folder: pathlib.Path, command: 'Command') -> pathlib.Path:
  return folder / command.name.replace(' ', '_')


def _meet_special(
  folder: pathlib.Path, inputs: pathlib.Path, seed: int, only: Sequence[str]
) -> None:
  """Prints how many commands get over each fault that is no signal."""
  from tests.faults.commands import COMMANDS
  from tests.faults.special import SPECIAL, meet, special_faults

  results = folder / 'special.jsonl'
  print('| fault | commands | survived |')
  print('| --- | ---: | ---: |')
  for fault in special_faults():
    _, names = SPECIAL[fault]
    met = well = 0
    for command in COMMANDS:
      if command.name not in names or (only and command.name not in only):
        continue
      known = [
        line['problem']
        for line in _read(results)
        if (line['command'], line['fault']) == (command.name, fault)
      ]
      if known:
        [problem] = known
      else:
        undisturbed = _run_undisturbed(folder, inputs, command)
        place = _new(folder / f'{fault}, {command.name}'.replace(' ', '_'))
        problem = meet(fault, command, undisturbed, inputs, place, seed)
        fields = {'fault': fault, 'problem': problem}
        _append(results, command.name, fields)
      met += 1
      well += not problem
      if problem:
        print(f'{fault}, {command.name}: {problem}', file=sys.stderr)
    print(f'| {fault} | {met} | {well} |', flush=True)


def _table(rows: Sequence[tuple]) -> Iterator[str]:
  """The table of docs/reliability.md."""
  head = (
    *('command', 'undisturbed', 'faults', 'survived', 'lost', 'differing'),
    'time lost by a fault',
  )
  yield f'| {" | ".join(head)} |'
  yield f'| --- |{" ---: |" * (len(head) - 1)}'
  totals = np.zeros(4, int)
  shares = []
  for name, outcomes, seconds in rows:
    counts = np.zeros(4, int)
    lost = []
    for outcome in outcomes:
      hits = len(outcome.faults)
      well = not outcome.lost and not outcome.differing
      counts += hits * np.array(
        [1, well, bool(outcome.lost), bool(outcome.differing)]
      )
      if hits:
        lost.append((outcome.seconds - seconds) / hits)
    median = float(np.median(lost))
    shares.append(median / seconds)
    totals += counts
    yield (
      f'| {name} | {seconds:.1f} s | {" | ".join(map(str, counts))} | '
      f'{median:.1f} s ({median / seconds:.0%}) |'
    )
  yield (
    f'| **all** | | {" | ".join(map(str, totals))} | {np.median(shares):.0%} |'
  )


def _measure_damage(
  folder: pathlib.Path, inputs: pathlib.Path, seed: int, count: int
) -> None:
  """Prints what is noticed of each kind of file."""
  from tests.faults.damage import KINDS, damage, prepare
  from tests.faults.forked import Forked, run_line

  place = _new(folder / 'damage') / 'place'
  shutil.copytree(inputs, place)
  log = folder / 'damage.txt'

  def run(line: str) -> None:
    status, _ = Forked(run_line(line), place, log).end()
    if status:
      sys.exit(f'{line}: status {status}; see {log}')

  prepare(run)
  print('| file | damaged | noticed | meant nothing | unnoticed |')
  print('| --- | ---: | ---: | ---: | ---: |')
  for kind in KINDS:
    found = folder / 'damage.json'

    def look() -> None:
      done = damage(kind, seed, count)  # noqa: B023
      found.write_text(json.dumps([one.__dict__ for one in done]))  # noqa: B023

    status, _ = Forked(look, place, log).end()
    if status:
      sys.exit(f'{kind.name}: status {status}; see {log}')
    done = json.loads(found.read_text())
    results = [one['result'] for one in done]
    known = [results.count(name) for name in ('noticed', 'the same')]
    print(
      f'| {kind.name} | {len(results)} | {" | ".join(map(str, known))} | '
      f'{len(results) - sum(known)} |',
      flush=True,
    )
    for one in done:
      if one['result'] not in ('noticed', 'the same'):
        print(one, file=sys.stderr)


def _measure_cost(workdir: pathlib.Path, megabytes: int) -> None:
  """Prints what the checksums of a checkpoint take."""
  import jax.numpy as jnp

  from advbct_jax.checksums import find_damage, write_checksums
  from advbct_jax.training.checkpoints import load_trained, save_state
  from advbct_jax.training.state import TrainState
  from benchmarks.timing import spread, time_in_turns

  draws = np.random.default_rng(0)
  numbers = draws.normal(size=megabytes * 250_000).astype(np.float32)
  save_state(workdir, TrainState(jnp.asarray(1), {'layer': numbers}, {}, {}))
  state = workdir / 'checkpoints/1/state'
  seconds = time_in_turns(
    {
      'writing its checksums': lambda: write_checksums(state),
      'checking them': lambda: find_damage(state),
      'reading it, checked': lambda: load_trained(workdir).params,
    },
    rounds=5,
  )
  print(f'a checkpoint of {megabytes} MB, in seconds (quartiles):')
  for name, values in seconds.items():
    print(f'  {name}: {spread(values, 2)}')


def _new(folder: pathlib.Path) -> pathlib.Path:
  """A folder that is not there, whatever a killed run has left of it."""
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir()
  return folder


def _append(results: pathlib.Path, name: str, fields: dict) -> None:
  with results.open('a') as file:
    file.write(json.dumps({'command': name, **fields}) + '\n')


def _read(results: pathlib.Path) -> Iterator[dict]:
  """What is done already; a kill may have cut the last line short."""
  lines = results.read_text().splitlines() if results.exists() else []
  for line in lines:
    try:
      yield json.loads(line)
    except ValueError:
      continue


if __name__ == '__main__':
  main()
