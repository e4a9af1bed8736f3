"""`advbct tables`."""

import subprocess
import sys

import pytest

from advbct_jax.commands.tables import main
from advbct_jax.comparison.results import read_results, write_results
from tests.comparison.made_up_cells import METRIC, make_cell, make_grid


def test_results_of_several_folders_become_one_table(tmp_path, capsys):
  cells = make_grid()
  first, second = tmp_path / 'a.json', tmp_path / 'b.json'
  write_results([cell for cell in cells if cell.seed < 2], first)
  write_results([cell for cell in cells if cell.seed == 2], second)

  main([str(first), str(second), str(tmp_path / 'out')])

  table = (tmp_path / 'out/table.md').read_text()
  assert table in capsys.readouterr().out
  assert 'over 3 seeds' in table
  assert len(read_results(tmp_path / 'out/results.json')) == len(cells)
  assert (tmp_path / 'out/extended_class-glyphs.png').exists()


def test_the_others_are_held_against_a_row_where_an_upgrade_has_it(
  tmp_path, capsys
):
  other = make_cell('l2', 'old', upgrade='extended_data')
  write_results([*make_grid(), other], tmp_path / 'a.json')
  out = tmp_path / 'out'

  main([str(tmp_path / 'a.json'), str(out), '--against=advbct/aligned'])

  table = (out / 'table.md').read_text()
  assert table.count('more than AdvBCT (aligned) on glyphs') == 1

  with pytest.raises(SystemExit, match='2'):
    main([str(tmp_path / 'a.json'), str(out), '--against=advbct'])
  assert '--against=advbct: there is no such row' in capsys.readouterr().err


def test_a_metric_that_was_not_measured_is_refused(tmp_path, capsys):
  write_results([make_cell()], tmp_path / 'results.json')

  with pytest.raises(SystemExit, match='2'):
    main([str(tmp_path / 'results.json'), str(tmp_path), '--metrics=hard/map'])

  assert METRIC in capsys.readouterr().err


@pytest.mark.parametrize(
  ('cells', 'message'), [([], 'no cells'), ([make_cell()] * 2, 'twice')]
)
def test_results_that_make_no_table_are_refused(
  tmp_path, capsys, cells, message
):
  write_results(cells, tmp_path / 'results.json')

  with pytest.raises(SystemExit, match='2'):
    main([str(tmp_path / 'results.json'), str(tmp_path / 'out')])

  assert message in capsys.readouterr().err
  assert not (tmp_path / 'out').exists()


def test_help_needs_no_library_that_takes_seconds_to_import():
  script = (
    'import sys\n'
    'from advbct_jax.comparison.__main__ import main\n'
    'try:\n'
    "  main(['--help'])\n"
    'except SystemExit:\n'
    '  print(*sys.modules, file=sys.stderr)\n'
  )
  shown = subprocess.run(
    [sys.executable, '-c', script], capture_output=True, text=True, check=True
  )

  assert '--against' in shown.stdout
  assert {'jax', 'matplotlib', 'pandas', 'scipy'}.isdisjoint(
    shown.stderr.split()
  )
