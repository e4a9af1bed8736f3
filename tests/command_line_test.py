import os
import pathlib
import subprocess
import sys

from absl import logging
import jax
import pytest

from advbct_jax import command_line
from advbct_jax.atomic_files import write_text
from advbct_jax.errors import InputError


def test_input_errors_end_the_program_with_their_message(capsys):
  with pytest.raises(SystemExit) as ended, command_line.exit_with_message():
    raise InputError('x.csv: found a, wanted b. Mend the row.')

  assert ended.value.code == 2
  assert capsys.readouterr().err == (
    'error: x.csv: found a, wanted b. Mend the row.\n'
  )


@pytest.mark.parametrize(
  'error',
  [
    ZeroDivisionError(),
    AssertionError(),
    RuntimeError('a fault'),
    ValueError('a fault'),
    OSError('of a library, not of the operating system'),
  ],
  ids=repr,
)
def test_errors_of_the_program_itself_keep_their_traceback(error):
  with pytest.raises(type(error)) as raised, command_line.exit_with_message():
    raise error
  assert raised.value is error


def _message(capsys, fail):
  """The one line that a command ends with."""
  with pytest.raises(SystemExit) as ended, command_line.exit_with_message():
    fail()
  assert ended.value.code == 2
  error = capsys.readouterr().err
  assert error.startswith('error: ')
  assert error.count('\n') == 1
  return error


def test_what_the_operating_system_refuses_is_a_line_with_its_path(
  capsys, tmp_path
):
  (tmp_path / 'file').touch()
  for use, reason in (
    (lambda: (tmp_path / 'none').read_text(), 'none: No such file'),
    (lambda: (tmp_path / 'file' / 'a').touch(), 'file/a: Not a directory'),
    (lambda: os.rename(tmp_path / 'none', 'b'), 'none and b: No such file'),
  ):
    assert reason in _message(capsys, use)


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='is of Linux')
def test_a_full_disk_is_told_of_by_the_name_of_the_file(
  capsys, tmp_path, monkeypatch
):
  monkeypatch.setattr(os, 'getpid', lambda: 1)
  (tmp_path / 'a.json.1.unfinished').symlink_to('/dev/full')
  message = _message(capsys, lambda: write_text(tmp_path / 'a.json', 'a'))
  assert message == f'error: {tmp_path / "a.json"}: No space left on device.\n'
  assert not list(tmp_path.iterdir())


def test_a_full_disk_under_a_checkpoint_is_told_of_by_its_folder(capsys):
  def fail():
    raise ValueError(
      'RESOURCE_EXHAUSTED: Error writing "a/0.0" in OCDBT database at local '
      'file "/runs/x/": Failed writing: "/runs/x/d/66": Failed to write 7 '
      "bytes to file 4: No space left on device [os_error_code='28']"
    )

  assert _message(capsys, fail) == 'error: /runs/x/: No space left on device.\n'


@pytest.mark.parametrize(
  ('error', 'reason'),
  [
    (AssertionError(), 'no such device, or its plugin is not installed'),
    (
      RuntimeError("Backend 'x' is unknown. (set JAX_PLATFORMS='' to choose)"),
      "Backend 'x' is unknown)",
    ),
  ],
)
def test_a_platform_that_jax_cannot_use_is_a_line(
  capsys, monkeypatch, error, reason
):
  def fail():
    raise error

  monkeypatch.setattr(jax, 'devices', fail)
  message = _message(capsys, fail)
  assert 'JAX_PLATFORMS' in message
  assert reason in message


@pytest.mark.parametrize('platform', ['cuda', 'nonsense'])
def test_jax_without_the_platform_asked_for_ends_in_a_line(platform):
  if platform == jax.default_backend():
    pytest.skip('it is here')
  program = (
    'from advbct_jax.command_line import exit_with_message\n'
    'import jax.numpy\n'
    'with exit_with_message():\n'
    '  jax.numpy.zeros(3)\n'
  )
  ended = subprocess.run(
    [sys.executable, '-c', program],
    env=os.environ | {'JAX_PLATFORMS': platform},
    cwd=pathlib.Path(__file__).parents[1],
    capture_output=True,
    text=True,
    check=False,
  )
  assert ended.returncode == 2
  assert ended.stderr.startswith(f'error: JAX_PLATFORMS is {platform}, and JAX')
  assert 'Traceback' not in ended.stderr


def test_a_reader_who_has_had_enough_ends_a_command_quietly():
  program = (
    'from advbct_jax.command_line import exit_with_message\n'
    'with exit_with_message():\n'
    '  for line in range(100_000):\n'
    '    print(line)\n'
  )
  with subprocess.Popen(
    [sys.executable, '-c', program],
    cwd=pathlib.Path(__file__).parents[1],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  ) as process:
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b''
  assert process.returncode == 141


def test_only_warnings_that_are_noise_are_hidden(caplog):
  with command_line.exit_with_message():
    logging.warning('Given directory is read only=%s', 'x')
    logging.warning('CheckpointManagerOptions.read_only=True, setting create.')
    logging.warning('Skipping merge of OCDBT checkpoints: none found in x')
  assert [record.getMessage()[:8] for record in caplog.records] == ['Skipping']
