from absl import flags
import absl.logging
import pytest

from advbct_jax import command_line
from advbct_jax.errors import InputError


@pytest.fixture
def given(monkeypatch):
  """Flags of which one is required, in the place of the program's."""
  values = flags.FlagValues()
  flags.DEFINE_integer('count', None, 'How many.', flag_values=values)
  flags.mark_flag_as_required('count', flag_values=values)
  monkeypatch.setattr(command_line.flags, 'FLAGS', values)
  return values


def test_flags_are_read_and_the_rest_is_given_back(given):
  assert command_line.parse_flags(['program', '--count=3', 'rest']) == [
    'program',
    'rest',
  ]
  assert given.count == 3


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'flag --count=None: Flag --count must have a value other than None.'),
    (['--count=many'], 'flag --count=many: invalid literal for int()'),
    (['--cuont=3'], "Unknown command line flag 'cuont'. Did you mean: count ?"),
  ],
)
def test_wrong_flags_end_the_program_with_a_sentence(
  given, capsys, arguments, message
):
  with pytest.raises(SystemExit) as ended:
    command_line.parse_flags(['program', *arguments])

  assert ended.value.code == 2
  error = capsys.readouterr().err
  assert error.startswith('error: ')
  assert message in error
  assert error.endswith('\nSee --help.\n')


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


def test_warnings_of_libraries_are_shown_unless_they_say_what_was_asked(caplog):
  with command_line.exit_with_message():
    absl.logging.warning('Skipping merge: nothing found in %s', 'S[v2]')
    absl.logging.warning('Given directory is read only=%s', 'W')
    absl.logging.warning('Options.read_only=True, setting create=False.')
    absl.logging.info('that it goes on')
    absl.logging.error('the directory is read only=W, and was written to')

  assert caplog.messages == [
    'Skipping merge: nothing found in S[v2]',
    'the directory is read only=W, and was written to',
  ]
