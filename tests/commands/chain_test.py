"""`advbct chain`: its line, and how it fails."""

import pytest

# Of ml_collections, which imports a config by its file.
pytestmark = pytest.mark.filterwarnings('ignore:the load_module')


@pytest.fixture
def ran(monkeypatch):
  """What the command hands over."""
  calls = []
  monkeypatch.setattr(
    'advbct_jax.chains.run.run_chain', lambda *call: calls.append(call)
  )
  return calls


def test_fields_of_the_base_are_flags_and_the_workdir_is_called_as_the_config(
  command, ran
):
  command('chain', '--config=chain_glyphs', '--config.base.epochs=7')
  ((config, root),) = ran
  assert config.base.epochs == 7
  assert len(config.steps) == 3
  assert str(root) == 'runs/chain_glyphs'


def test_a_config_without_data_ends_in_a_line(command, tmp_path, capsys):
  with pytest.raises(SystemExit) as ended:
    command('chain', '--config=chain_vectors', f'--workdir={tmp_path}')
  assert ended.value.code == 2
  assert '--config.base.data.root=FOLDER' in capsys.readouterr().err
