"""`advbct train`: dry runs, defaults, and how it fails."""

import re
import shutil
import signal

import pytest

from advbct_jax.errors import DivergedError, InputError, StoppedError
from tests.tiny_upgrade import contents

# Of ml_collections, which imports a config by its file.
pytestmark = pytest.mark.filterwarnings('ignore:the load_module')

_TRAIN = 'advbct_jax.experiment.train_upgrade'
_STOPPED = StoppedError(3, 8, signal.SIGTERM)


@pytest.fixture
def config_file(config, tmp_path):
  """A file with the tiny config, as `--config` takes it."""
  path = tmp_path / 'tiny.py'
  path.write_text(
    'from tests.tiny_upgrade import tiny_config\n'
    f'def get_config():\n  return tiny_config({config.data.root!r})\n'
  )
  return path


@pytest.fixture
def broken(landmarks, tmp_path):
  """A copy of the landmarks, to be broken."""
  return shutil.copytree(landmarks, tmp_path / 'broken')


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
  command, config_file, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  before = contents(tmp_path)
  command('train', f'--config={config_file}', '--dry_run')

  assert contents(tmp_path) == before
  output = capsys.readouterr().out
  facts = (
    'tiny-train: 32 images of 8 classes; the old model knows 16 of 4',
    'old encoder: none is named, so runs/tiny/old is trained first',
    'method      independent',
    'data        16 images of 4 classes (tiny-train), 16 pixels',
    'steps       2 (1 epochs of 2)',
    'then the new encoder',
    'method      advbct',
    'data        32 images of 8 classes',
    'steps       8 (2 epochs of 4), a checkpoint every 4',
    'method/boundary                       8',
    'all parameters',
  )
  in_this_order = '.*'.join(map(re.escape, facts))
  assert re.search(in_this_order, output, re.DOTALL), output


def test_the_workdir_is_called_as_the_config_by_default(
  command, config_file, tmp_path, monkeypatch
):
  runs = []
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(_TRAIN, lambda *call: runs.append(call))
  for name in ('judge', 'print_judgement'):
    monkeypatch.setattr(f'advbct_jax.experiment.{name}', lambda *_, **__: None)
  command('train', f'--config={config_file}', '--config.epochs=5')

  ((config, workdir, _),) = runs
  assert str(workdir) == 'runs/tiny'
  assert config.epochs == 5


@pytest.mark.parametrize(
  ('raised', 'status', 'message'),
  [
    (_STOPPED, 143, str(_STOPPED)),
    (DivergedError('loss is nan at step 5'), 1, 'error: loss is nan at step 5'),
    (InputError('this cannot be used'), 2, 'error: this cannot be used'),
  ],
)
def test_a_training_that_ends_early_says_so_by_its_exit_status(
  command, config_file, tmp_path, monkeypatch, capsys, raised, status, message
):
  def train_upgrade(config, workdir, judge):
    raise raised

  monkeypatch.setattr(_TRAIN, train_upgrade)
  with pytest.raises(SystemExit) as ended:
    command('train', f'--config={config_file}', f'--workdir={tmp_path}')

  assert ended.value.code == status
  assert capsys.readouterr().err.splitlines()[-1] == message


def _drop_image(root):
  (root / 'train/0/1/0/0102.jpg').unlink()


def _truncate_image(root):
  path = root / 'train/0/1/0/0102.jpg'
  path.write_bytes(path.read_bytes()[:300])


def _rename_column(root):
  table = root / 'train_clean.csv'
  table.write_text(table.read_text().replace('landmark_id', 'label'))


@pytest.mark.parametrize(
  ('break_it', 'parts'),
  [
    (
      _drop_image,
      ('1 of 32 images cannot be used', '0102.jpg: cannot read the image'),
    ),
    (
      _truncate_image,
      ('1 of 32 images cannot be used', '0102.jpg: cannot decode the image'),
    ),
    (
      _rename_column,
      ('train_clean.csv: found the columns label,images', 'landmark_id'),
    ),
    (shutil.rmtree, ('found none of', 'broken/train_clean.csv', 'Check')),
  ],
)
def test_unusable_data_is_reported_before_anything_is_trained(
  command, config_file, broken, tmp_path, capsys, break_it, parts
):
  break_it(broken)
  with pytest.raises(SystemExit) as ended:
    command(
      'train',
      f'--config={config_file}',
      f'--config.data.root={broken}',
      f'--workdir={tmp_path / "workdir"}',
    )

  assert ended.value.code == 2
  _, message = capsys.readouterr().err.split('error: ')
  for part in parts:
    assert part in message
  assert not list(tmp_path.rglob('metrics.jsonl'))


@pytest.mark.parametrize(
  ('arguments', 'parts'),
  [
    (['--config.batch_sise=4'], ('batch_sise', 'batch_size')),
    (['--config.optimizer.momentun=1'], ('momentun', 'momentum')),
    (['--config.batch_size=many'], ('batch_size', 'many')),
    (['--worker=3'], ('worker', 'Did you mean: workdir')),
    (['--config=nowhere.py'], ('nowhere.py', 'no such file')),
    (['--config.data.root='], ('config.data.root is empty', 'train_clean.csv')),
    (['--config.method=magic'], ("'magic'", 'wanted: one of advbct')),
  ],
)
def test_a_wrong_flag_is_named_with_the_nearest_right_one(
  command, config_file, tmp_path, capsys, arguments, parts
):
  with pytest.raises(SystemExit) as ended:
    command(
      'train',
      f'--config={config_file}',
      f'--workdir={tmp_path / "workdir"}',
      *arguments,
    )

  assert ended.value.code == 2
  _, message = capsys.readouterr().err.split('error: ')
  for part in parts:
    assert part in message


def test_a_config_is_required(command, capsys):
  with pytest.raises(SystemExit) as ended:
    command('train')

  assert ended.value.code == 2
  assert '--config' in capsys.readouterr().err
