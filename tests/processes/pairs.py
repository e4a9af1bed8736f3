"""Two processes of two CPU devices each, and one process of four."""

from collections.abc import Sequence
import os
import pathlib
import socket
import subprocess
import sys

_REPOSITORY = pathlib.Path(__file__).parents[2]
# A process that hangs shall not hang the tests.
_LONGEST = 300
_COMMAND = 'tests.processes.tiny_command'


def free_address() -> str:
  """Where nobody listens."""
  with socket.socket() as place:
    place.bind(('127.0.0.1', 0))
    return f'127.0.0.1:{place.getsockname()[1]}'


def start(devices: int, module: str, *line: object) -> subprocess.Popen:
  """Starts a module in a process that sees so many devices."""
  return subprocess.Popen(
    [sys.executable, '-m', module, *map(str, line)],
    cwd=_REPOSITORY,
    env=os.environ
    | {
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(*started: subprocess.Popen) -> list[subprocess.CompletedProcess]:
  """Waits for the end of processes."""
  ended = []
  try:
    for process in started:
      out, error = process.communicate(timeout=_LONGEST)
      ended.append(
        subprocess.CompletedProcess(
          process.args, process.returncode, out, error
        )
      )
  finally:
    for process in started:
      process.kill()
  return ended


def run_alone(*line: object) -> subprocess.CompletedProcess:
  """Runs the tiny command in one process of four devices."""
  return finish(start(4, _COMMAND, *line))[0]


def run_pair(
  *line: object, second: Sequence[object] = ()
) -> list[subprocess.CompletedProcess]:
  """Runs the tiny command in two processes of two devices.

  Args:
    *line: of both.
    second: what the second is told besides.
  """
  joined = (f'--coordinator={free_address()}', '--processes=2')
  return finish(
    start(2, _COMMAND, *line, *joined, '--process=0'),
    start(2, _COMMAND, *second, *line, *joined, '--process=1'),
  )
