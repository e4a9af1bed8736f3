"""The tiny upgrade in a process of its own, which may be killed."""

import os
import pathlib
import subprocess
import sys

_REPOSITORY = pathlib.Path(__file__).parents[2]


def run_tiny(
  landmarks: pathlib.Path,
  workdir: pathlib.Path,
  *options: str,
  devices: int = 1,
) -> subprocess.CompletedProcess:
  """Runs `tests.training.tiny_run` on some CPU devices."""
  return subprocess.run(
    [
      *(sys.executable, '-m', 'tests.training.tiny_run'),
      *(landmarks, workdir, *options),
    ],
    cwd=_REPOSITORY,
    env=os.environ
    | {
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
    },
    capture_output=True,
    text=True,
    check=False,
  )
