import json
import pathlib
import subprocess
import sys

import pytest

from advbct_jax.convert.__main__ import main

COMMANDS = (
  'to-pytorch',
  'from-pytorch',
  'subnetworks',
  'to-store',
  'from-store',
  'to-faiss',
)


@pytest.mark.parametrize('command', COMMANDS)
def test_each_command_has_a_help(command, capsys):
  with pytest.raises(SystemExit) as ended:
    main([command, '--help'])
  assert ended.value.code == 0
  assert f'advbct convert {command}' in capsys.readouterr().out


def test_a_help_waits_for_no_library_that_takes_long():
  program = (
    'import contextlib, io, json, sys\n'
    'from advbct_jax.convert.__main__ import main\n'
    f'for command in {COMMANDS}:\n'
    '  with contextlib.suppress(SystemExit):\n'
    '    with contextlib.redirect_stdout(io.StringIO()):\n'
    '      main([command, "--help"])\n'
    'print(json.dumps(list(sys.modules)))\n'
  )
  ended = subprocess.run(
    [sys.executable, '-c', program],
    cwd=pathlib.Path(__file__).parents[2],
    capture_output=True,
    text=True,
    check=True,
  )
  imported = set(json.loads(ended.stdout))
  slow = {'jax', 'flax', 'orbax', 'optax', 'torch', 'grain', 'scipy'}
  assert not imported & slow
