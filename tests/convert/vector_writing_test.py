import numpy as np
import pytest

from advbct_jax.convert.vector_files import open_vectors
from advbct_jax.convert.vector_writing import write_vectors
from advbct_jax.errors import InputError

N, D = 11, 3
VECTORS = np.random.default_rng(0).standard_normal((N, D), np.float32)
IDS = [f'π{row}' for row in range(N)]
LABELS = ['cat', '', 'dog', *[''] * 7, 'cat']


def all_of(path):
  return np.concatenate(list(open_vectors(path).blocks(0, 4)))


@pytest.mark.parametrize('suffix', ['.npy', '.npz', '.parquet'])
@pytest.mark.parametrize('labels', [LABELS, None, [''] * N])
def test_what_is_written_is_read_again(tmp_path, suffix, labels):
  path = tmp_path / f'v{suffix}'
  chunks = iter([VECTORS[:4], VECTORS[4:8], VECTORS[8:]])
  write_vectors(path, suffix, (N, D), chunks, IDS, labels)
  np.testing.assert_array_equal(all_of(path), VECTORS)
  if suffix != '.npy':
    file = open_vectors(path)
    assert (file.ids(), file.labels()) == (IDS, labels)


def test_npy_and_npz_files_are_those_of_numpy(tmp_path):
  for suffix in ('.npy', '.npz'):
    write_vectors(
      tmp_path / f'v{suffix}', suffix, (N, D), iter([VECTORS]), IDS, LABELS
    )
  np.testing.assert_array_equal(np.load(tmp_path / 'v.npy'), VECTORS)
  loaded = np.load(tmp_path / 'v.npz')
  np.testing.assert_array_equal(loaded['embeddings'], VECTORS)
  assert loaded['ids'].tolist() == IDS
  assert loaded['labels'].tolist() == LABELS


@pytest.mark.parametrize('suffix', ['.npz', '.parquet'])
def test_any_text_is_kept_as_an_id(tmp_path, suffix):
  path = tmp_path / f'v{suffix}'
  ids = ['a\x85b', 'c\u2028', 'd\re', 'f\r', '\x1c', '\ufeffg', ' ', *IDS[7:]]
  write_vectors(path, suffix, (N, D), iter([VECTORS]), ids, None)
  assert open_vectors(path).ids() == ids


def test_an_end_that_a_format_would_lose_is_refused(tmp_path):
  ids = ['a\0', *IDS[1:]]
  with pytest.raises(InputError, match='ends in a NUL'):
    write_vectors(
      tmp_path / 'v.npz', '.npz', (N, D), iter([VECTORS]), ids, None
    )
