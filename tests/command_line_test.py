import pytest

from advbct_jax import command_line
from advbct_jax.errors import InputError


def test_input_errors_end_the_program_with_their_message(capsys):
  with pytest.raises(SystemExit) as ended, command_line.exit_with_message():
    raise InputError('x.csv: found a, wanted b. Mend the row.')

  assert ended.value.code == 2
  assert capsys.readouterr().err == (
    'error: x.csv: found a, wanted b. Mend the row.\n'
  )


def test_errors_of_the_program_itself_keep_their_traceback():
  with pytest.raises(ZeroDivisionError), command_line.exit_with_message():
    raise ZeroDivisionError
