import pytest

from advbct_jax.convert.vector_data import prepare_vectors
from tests.tiny_vectors import write_files


@pytest.fixture(scope='session')
def vectors(tmp_path_factory):
  """A data set of vectors; not to be changed."""
  folder = tmp_path_factory.mktemp('vectors')
  files = write_files(folder / 'files')
  prepare_vectors(files / 'old', files / 'new', folder / 'set')
  return folder / 'set'
