"""The tiny upgrade as fixtures, and commands as functions."""

from collections.abc import Callable, Iterator
import importlib.util
import pathlib
import sys
import types

from absl.testing import flagsaver
import jax
from jax.experimental.compilation_cache import compilation_cache
import ml_collections
import pytest

from advbct_jax.command_line import parse_flags
from advbct_jax.models.resnet import RESNETS
from tests.tiny_upgrade import TINY, tiny_config, write_landmarks

_REPOSITORY = pathlib.Path(__file__).parents[1]


def load_command(name: str) -> types.ModuleType:
  """Imports `train.py` or `evaluate.py` afresh; both define some flags."""
  spec = importlib.util.spec_from_file_location(name, _REPOSITORY / name)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope='session', autouse=True)
def compilation_folder(
  tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[pathlib.Path]:
  """Where compiled steps lie, so that each is compiled once a session."""
  folder = tmp_path_factory.mktemp('compiled')
  with pytest.MonkeyPatch.context() as patch:
    for name, value in (
      ('jax_compilation_cache_dir', str(folder)),
      ('jax_persistent_cache_min_compile_time_secs', 0.1),
    ):
      jax.config.update(name, value)
      patch.setenv(name.upper(), str(value))  # for processes of tests
    compilation_cache.reset_cache()
    yield folder


@pytest.fixture(scope='session')
def landmarks(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """The tiny landmarks; not to be changed."""
  return write_landmarks(tmp_path_factory.mktemp('landmarks'))


@pytest.fixture
def config(
  landmarks: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> ml_collections.ConfigDict:
  """The config of the tiny upgrade, whose backbone it makes known."""
  monkeypatch.setitem(RESNETS, 'tiny', TINY)
  return tiny_config(landmarks)


@pytest.fixture(scope='session')
def finished(
  landmarks: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
  """The workdir of a tiny upgrade that is all done; not to be changed."""
  workdir = tmp_path_factory.mktemp('finished')
  with pytest.MonkeyPatch.context() as patch, flagsaver.flagsaver():
    patch.setitem(RESNETS, 'tiny', TINY)
    load_command('train.py').run(tiny_config(landmarks), workdir)
  return workdir


@pytest.fixture
def train() -> Iterator[types.ModuleType]:
  """`train.py` as a module."""
  with flagsaver.flagsaver():
    yield load_command('train.py')


@pytest.fixture
def command(
  monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., None]:
  """Runs a command line in this process: `command('train.py', '--config=…')`.

  Where the command would end, `SystemExit` is raised.
  """
  monkeypatch.setattr('absl.logging.set_verbosity', lambda level: None)

  def run(name: str, *arguments: str) -> None:
    with flagsaver.flagsaver():
      # Config flags look at the command line by themselves.
      monkeypatch.setattr(sys, 'argv', [name, *arguments])
      load_command(name).main(parse_flags(sys.argv))

  return run
