"""The tiny upgrade as fixtures, commands as functions, examples in a folder."""

from collections.abc import Callable, Iterator
import contextlib
import fcntl
import pathlib
import shutil

import jax
from jax.experimental.compilation_cache import compilation_cache
import ml_collections
import pytest

from advbct_jax import commands
from advbct_jax.api import evaluate
from advbct_jax.convert.faiss_export import export_index
from advbct_jax.convert.to_pytorch import export_weights
from advbct_jax.embeddings.store import open_store
from advbct_jax.experiment import train_and_judge
from advbct_jax.models.resnet import RESNETS
from advbct_jax.retrieval.service_index import Recipe
from tests.tiny_upgrade import TINY, tiny_config, write_landmarks


@pytest.fixture(scope='session')
def shared_folder(
  pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
  """A folder of this session that all worker processes see."""
  folder = tmp_path_factory.getbasetemp()
  # A worker's own lies in that of the session.
  return folder.parent if hasattr(pytestconfig, 'workerinput') else folder


@contextlib.contextmanager
def _alone(shared_folder: pathlib.Path, name: str) -> Iterator[pathlib.Path]:
  """A folder that one worker at a time is at."""
  with (shared_folder / f'{name}.lock').open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield shared_folder / name


@pytest.fixture(scope='session', autouse=True)
def _compilation(shared_folder: pathlib.Path) -> Iterator[None]:
  """Has each program compiled once a session, in processes of tests as well."""
  with pytest.MonkeyPatch.context() as patch:
    for name, value in (
      ('jax_compilation_cache_dir', str(shared_folder / 'compiled')),
      ('jax_persistent_cache_min_compile_time_secs', 0.05),
    ):
      jax.config.update(name, value)
      patch.setenv(name.upper(), str(value))
    patch.setenv('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
    compilation_cache.reset_cache()
    yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
  """Has programs compiled fast, but for those of published figures.

  XLA's passes are the same either way (the compiled programs read alike); it is
  LLVM that leaves their loops as they are. Most run a few times, on little.
  """
  # A hook, since fixtures of a module come before any of a test.
  fast = 'golden' not in item.keywords
  jax.config.update('jax_disable_most_optimizations', fast)


@pytest.fixture(scope='session')
def landmarks(shared_folder: pathlib.Path) -> pathlib.Path:
  """The tiny landmarks; not to be changed."""
  with _alone(shared_folder, 'landmarks') as folder:
    if not folder.exists():
      write_landmarks(folder)
  return folder


@pytest.fixture
def config(
  landmarks: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> ml_collections.ConfigDict:
  """The config of the tiny upgrade, whose backbone it makes known."""
  monkeypatch.setitem(RESNETS, 'tiny', TINY)
  return tiny_config(landmarks)


@pytest.fixture(scope='session')
def finished(
  landmarks: pathlib.Path,
  shared_folder: pathlib.Path,
  tmp_path_factory: pytest.TempPathFactory,
) -> pathlib.Path:
  """The workdir of a tiny upgrade that is all done; not to be changed."""
  with _alone(shared_folder, 'finished') as workdir:
    with pytest.MonkeyPatch.context() as patch:
      patch.setitem(RESNETS, 'tiny', TINY)
      train_and_judge(tiny_config(landmarks), workdir)
    # Two workers must not be at one workdir.
    own = tmp_path_factory.mktemp('finished')
    shutil.copytree(workdir, own, dirs_exist_ok=True)
  return own


@pytest.fixture(scope='session')
def run_of_examples(
  finished: pathlib.Path,
  landmarks: pathlib.Path,
  tmp_path_factory: pytest.TempPathFactory,
) -> pathlib.Path:
  """What the documentation's examples name, made small.

  A finished upgrade in `runs/demo`, which was judged on `runs/landmarks` too;
  its data in `data`, its encoder in `encoder.safetensors`, an index in
  `index.faiss`, and the picture `photo.jpg`.
  """
  folder = tmp_path_factory.mktemp('examples')
  shutil.copytree(finished, folder / 'runs/demo')
  shutil.copytree(landmarks, folder / 'data')
  (folder / 'runs/landmarks').symlink_to(folder / 'data')
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(RESNETS, 'tiny', TINY)
    export_weights(finished, folder / 'encoder.safetensors')
    evaluate(
      folder / 'runs/demo',
      [f'landmarks:{folder / "data"}'],
      folder / 'judged',
      old=folder / 'runs/demo/old',
    )
  export_index(
    open_store(folder / 'runs/demo/embeddings/landmarks-index'),
    folder / 'index.faiss',
    Recipe('flat'),
    report=False,
  )
  shutil.copy(next(landmarks.rglob('*.jpg')), folder / 'photo.jpg')
  return folder


@pytest.fixture
def example_folder(
  run_of_examples: pathlib.Path,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> pathlib.Path:
  """The working directory of one example, with what it may name."""
  # What an example makes goes beside the links, not into what is shared.
  (tmp_path / 'runs').mkdir()
  for path in run_of_examples.glob('runs/*'):
    (tmp_path / 'runs' / path.name).symlink_to(path)
  for path in run_of_examples.glob('*'):
    if path.name not in ('runs', 'judged'):
      (tmp_path / path.name).symlink_to(path)
  monkeypatch.setitem(RESNETS, 'tiny', TINY)
  monkeypatch.chdir(tmp_path)
  return tmp_path


@pytest.fixture(autouse=True)
def _folder_of_doctests(request: pytest.FixtureRequest) -> None:
  """Runs the examples of what is public where there is something to run on."""
  item = request.node
  if isinstance(item, pytest.DoctestItem) and any(
    'import advbct_jax' in example.source for example in item.dtest.examples
  ):
    request.getfixturevalue('example_folder')


@pytest.fixture
def command(
  monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., None]:
  """Runs `advbct` in this process: `command('train', '--config=…')`.

  Where the command would end, `SystemExit` is raised.
  """
  monkeypatch.setattr('absl.logging.set_verbosity', lambda level: None)
  return lambda *line: commands.main(line)
