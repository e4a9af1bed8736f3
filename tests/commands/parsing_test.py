"""How command lines are read, and what a wrong one is told."""

from absl import flags
import pytest

from advbct_jax.commands.parsing import Parser, parse_flags


@pytest.fixture
def values():
  """Flags of which one is required."""
  values = flags.FlagValues()
  flags.DEFINE_integer('count', None, 'how many', flag_values=values)
  flags.DEFINE_bool('dry_run', False, 'say it alone', flag_values=values)
  flags.mark_flag_as_required('count', flag_values=values)
  return values


def test_flags_are_read(values):
  parse_flags(values, 'advbct count', 'Counts.', ['--count=3', '--dry_run'])

  assert (values.count, values.dry_run) == (3, True)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'flag --count=None: Flag --count must have a value other than None.'),
    (['--count=many'], 'flag --count=many: invalid literal for int()'),
    (['--cuont=3'], "Unknown command line flag 'cuont'. Did you mean: count ?"),
    (['--count=3', 'rest'], 'unknown arguments: rest'),
  ],
)
def test_wrong_flags_end_the_program_with_a_sentence(
  values, capsys, arguments, message
):
  with pytest.raises(SystemExit) as ended:
    parse_flags(values, 'advbct count', 'Counts.', arguments)

  assert ended.value.code == 2
  error = capsys.readouterr().err
  assert error.startswith('error: ')
  assert message in error
  assert error.endswith('\nSee advbct count --help.\n')


@pytest.mark.parametrize('flag', ['--help', '-h'])
def test_help_shows_the_own_flags_alone(values, capsys, flag):
  with pytest.raises(SystemExit) as ended:
    parse_flags(values, 'advbct count', 'Counts.', [flag])

  assert ended.value.code == 0
  assert capsys.readouterr().out == (
    'usage: advbct count [--FLAG=VALUE …]\n\nCounts.\n\nflags:\n'
    '  --count=VALUE\n      how many\n'
    '  --[no]dry_run\n      say it alone\n'
  )


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'the following arguments are required: command'),
    (['add', '--amount=two'], "argument --amount: invalid int value: 'two'"),
    # Never shortened: another flag may begin like this one some day.
    (['add', '--amo=2'], 'unrecognized arguments: --amo=2'),
    (['take'], "argument command: invalid choice: 'take'"),
  ],
)
def test_a_parser_fails_as_flags_do(capsys, arguments, message):
  parser = Parser(prog='advbct sum')
  commands = parser.add_subparsers(dest='command', required=True)
  commands.add_parser('add').add_argument('--amount', type=int)
  with pytest.raises(SystemExit) as ended:
    parser.parse_args(arguments)

  assert ended.value.code == 2
  error = capsys.readouterr().err
  assert error.startswith(f'error: {message}')
  assert 'See advbct sum' in error
