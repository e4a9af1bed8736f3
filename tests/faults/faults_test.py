"""A few faults of each kind; `benchmarks/faults.py` has hundreds."""

import pathlib
import subprocess
import sys

import pytest

from advbct_jax.checksums import NAME, find_damage, write_checksums
from tests.faults.special import special_faults

_REPOSITORY = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def measure(tmp_path_factory):
  """Runs `benchmarks.faults`, whose inputs are made once."""
  folder = tmp_path_factory.mktemp('faults')

  def run(*options):
    # In a process of its own, for it forks, which this one's threads forbid.
    done = subprocess.run(
      [sys.executable, '-m', 'benchmarks.faults', folder, *options],
      cwd=_REPOSITORY,
      capture_output=True,
      text=True,
      check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split('|')[1:-1] for line in done.stdout.splitlines()]
    table = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    return table, done.stderr

  return run


def test_commands_that_are_killed_end_with_what_they_leave_undisturbed(measure):
  names = 'train a head,embed,prepare own,adapters apply,convert to-store'
  table, said = measure('--faults=2', f'--only={names}')
  _, hits, survived, lost, differing, _ = table['**all**']
  assert (lost, differing) == ('0', '0'), said
  assert int(survived) == int(hits) == 2 * len(names.split(','))


def test_commands_get_over_faults_that_are_no_signals(measure):
  table, said = measure('--special', '--only=embed,convert to-store')
  assert len(table) == 2 + len(special_faults())
  for met, survived in list(table.values())[2:]:
    assert met == survived, said


def test_a_damaged_file_is_noticed_by_what_reads_it(measure):
  table, said = measure('--damage=12')
  assert len(table) > 10
  for damaged, *_, unnoticed in list(table.values())[2:]:
    assert (damaged, unnoticed) == ('12', '0'), said


@pytest.fixture
def noted(tmp_path):
  (tmp_path / 'd').mkdir()
  (tmp_path / 'd/one').write_bytes(b'1')
  (tmp_path / 'two').write_bytes(b'2')
  write_checksums(tmp_path)
  return tmp_path


def test_checksums_are_those_that_sha256sum_reads(noted):
  subprocess.run(['sha256sum', '--quiet', '-c', NAME], cwd=noted, check=True)
  assert find_damage(noted) is None


@pytest.mark.parametrize(
  ('damage', 'found'),
  [
    (lambda folder: (folder / 'd/one').write_bytes(b'0'), 'd/one was changed'),
    (lambda folder: (folder / 'two').unlink(), 'two is missing'),
    (lambda folder: (folder / 'new').touch(), f'new is not in {NAME}'),
    (lambda folder: (folder / NAME).write_bytes(b''), 'd/one is not in'),
  ],
)
def test_what_is_not_as_it_was_noted_is_named(noted, damage, found):
  damage(noted)
  assert find_damage(noted).startswith(found)


def test_what_a_file_system_leaves_is_no_damage(noted):
  (noted / 'd/.nfs01').touch()
  assert find_damage(noted) is None
