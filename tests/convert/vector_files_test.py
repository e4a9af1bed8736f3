import io
import zipfile

import faiss
import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from advbct_jax.convert import vector_files
from advbct_jax.convert.ids_and_labels import spell_class
from advbct_jax.convert.vector_columns import VectorColumns
from advbct_jax.convert.vector_files import open_vectors, read_rows
from advbct_jax.convert.vector_writing import write_vectors
from advbct_jax.errors import InputError

N, D = 11, 3
VECTORS = np.random.default_rng(0).standard_normal((N, D), np.float32)
IDS = [f'π{row}' for row in range(N)]
LABELS = ['cat', '', 'dog', *[''] * 7, 'cat']


def write_parquet(path, vectors=VECTORS, kind=None, **columns):
  columns = {'id': IDS, 'label': LABELS} | columns
  if 'embedding' not in columns:
    columns['embedding'] = pa.array(
      list(vectors), kind or pa.list_(pa.float32())
    )
  pq.write_table(pa.table(columns), path, row_group_size=4)


def write_index(path, factory='IDMap2,Flat', keys=None, vectors=VECTORS):
  index = faiss.index_factory(vectors.shape[1], factory)
  index.train(vectors)
  if keys is None:
    index.add(vectors)
  else:
    index.add_with_ids(vectors, np.array(keys))
  faiss.write_index(index, str(path))


def write(path):
  """Writes the vectors in the format of a suffix, by the format's library."""
  match path.suffix:
    case '.npy':
      np.save(path, VECTORS)
    case '.npz':
      np.savez(path, embeddings=VECTORS, ids=IDS, labels=LABELS)
    case '.parquet':
      write_parquet(path)
    case '.faiss':
      write_index(path, keys=range(100, 100 + N))
  return path


def refused(path, read=lambda file: list(file.blocks(0, 4))):
  with pytest.raises(InputError) as refusal:
    read(open_vectors(path))
  assert str(path.with_suffix('')) in str(refusal.value)
  return str(refusal.value)


def all_of(path):
  return np.concatenate(list(open_vectors(path).blocks(0, 4)))


@pytest.mark.parametrize('suffix', ['.npy', '.npz', '.parquet', '.faiss'])
def test_vectors_are_read_from_any_row_in_blocks_of_at_most_a_size(
  tmp_path, suffix
):
  file = open_vectors(write(tmp_path / f'vectors{suffix}'))
  assert (file.count, file.dimension, file.exact) == (N, D, True)
  for start in (0, 3, 4, 10, N):
    blocks = list(file.blocks(start, 4))
    assert all(0 < len(block) <= 4 for block in blocks)
    np.testing.assert_array_equal(
      np.concatenate([np.empty((0, D)), *blocks]), VECTORS[start:]
    )


@pytest.mark.parametrize('rows_a_group', [1000, 20000])
def test_a_parquet_file_is_never_in_memory_as_a_whole(tmp_path, rows_a_group):
  vectors = np.random.default_rng(0).standard_normal((20000, 256), np.float32)
  embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 256)
  table = pa.table({'embedding': embedding})
  pq.write_table(table, tmp_path / 'v.parquet', row_group_size=rows_a_group)
  before = pa.total_allocated_bytes()
  most = max(
    pa.total_allocated_bytes() - before
    for _ in open_vectors(tmp_path / 'v.parquet').blocks(0, 1000)
  )
  assert most < vectors.nbytes / 2


def test_files_are_read_as_one_in_float32_blocks_of_one_size(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(vector_files, '_BLOCK_VALUES', 2 * D)
  for name, part in (('a', VECTORS[:5]), ('b', VECTORS[5:6])):
    np.save(tmp_path / f'{name}.npy', part.astype(np.float64))
  write_parquet(tmp_path / 'c.parquet', VECTORS[6:], id=IDS[6:], label=IDS[6:])
  files = [
    open_vectors(tmp_path / name) for name in ('a.npy', 'b.npy', 'c.parquet')
  ]
  for start in (0, 4, 5, 7):
    blocks = [block.copy() for block in read_rows(files, start, 4)]
    assert {len(block) for block in blocks[:-1]} <= {4}
    assert {block.dtype for block in blocks} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.concatenate(blocks), VECTORS[start:])


@pytest.mark.parametrize('dtype', ['<f2', '>f4', '<f8'])
def test_floats_of_any_width_are_read(tmp_path, dtype):
  np.save(tmp_path / 'v.npy', VECTORS.astype(dtype))
  np.testing.assert_array_equal(
    all_of(tmp_path / 'v.npy'), VECTORS.astype(dtype)
  )


@pytest.mark.parametrize(
  ('suffix', 'ids', 'labels'),
  [
    ('.npy', None, None),
    ('.npz', IDS, LABELS),
    ('.parquet', IDS, LABELS),
    ('.faiss', [str(key) for key in range(100, 100 + N)], None),
  ],
)
def test_ids_and_labels_are_read_where_the_format_has_them(
  tmp_path, suffix, ids, labels
):
  file = open_vectors(write(tmp_path / f'vectors{suffix}'))
  assert (file.ids(), file.labels()) == (ids, labels)


@pytest.mark.parametrize('suffix', ['.npy', '.npz', '.parquet', '.faiss'])
def test_ids_and_labels_may_lie_beside(tmp_path, suffix):
  path = tmp_path / f'v{suffix}'
  match suffix:
    case '.npy':
      np.save(path, VECTORS)
    case '.npz':
      np.savez_compressed(path, VECTORS)
    case '.parquet':
      table = pa.table({'embedding': list(VECTORS)})
      pq.write_table(table, path)
    case '.faiss':
      write_index(path, 'Flat')
  assert (open_vectors(path).ids(), open_vectors(path).labels()) == (None, None)
  (tmp_path / 'v.ids.txt').write_text('\n'.join(IDS))
  (tmp_path / 'v.labels.txt').write_bytes('\r\n'.join(LABELS).encode())
  file = open_vectors(path)
  assert (file.ids(), file.labels()) == (IDS, LABELS)
  np.testing.assert_array_equal(all_of(path), VECTORS)


@pytest.mark.parametrize(
  ('ids', 'texts'),
  [
    (np.array(['a', 'é']), ['a', 'é']),
    (np.array(['a', 'é'], object), None),
    (np.array([b'a', 'é'.encode()]), ['a', 'é']),
    (np.array([3, -7]), ['3', '-7']),
    (np.array([3.5, 7]), None),
    (np.array([b'a', b'\xff']), None),
  ],
  ids=['str', 'object', 'bytes', 'int', 'float', 'not UTF-8'],
)
def test_ids_are_strings_or_integers(tmp_path, ids, texts):
  path = tmp_path / 'v.npz'
  np.savez(path, vectors=VECTORS[:2], ids=ids)
  if texts is None:
    assert f'{path}, ids.npy: ' in refused(path, lambda file: file.ids())
  else:
    assert open_vectors(path).ids() == texts


def test_the_only_matrix_of_an_npz_file_is_taken(tmp_path):
  np.savez(tmp_path / 'v.npz', np.arange(4), other=VECTORS)
  np.testing.assert_array_equal(all_of(tmp_path / 'v.npz'), VECTORS)
  np.savez(tmp_path / 'w.npz', a=VECTORS, b=VECTORS)
  assert 'found the arrays a, b; wanted `embeddings`' in refused(
    tmp_path / 'w.npz'
  )


class Payload:
  def __reduce__(self):
    return (pytest.fail, ('the pickle was run',))


@pytest.mark.parametrize('suffix', ['.npy', '.npz'])
def test_a_pickle_is_refused_and_not_run(tmp_path, suffix):
  path = tmp_path / f'v{suffix}'
  array = np.array([[Payload()]], object)
  (np.save if suffix == '.npy' else np.savez)(path, array)
  assert 'pickle can run code' in refused(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
  for name in ('v.npy', 'v.npz', 'v.parquet', 'v.faiss', 'v.pkl'):
    path = tmp_path / name
    assert 'no such file' in refused(path)
    path.write_bytes(b'\x80\x04N.' * 9)
    wanted = 'can run code' if name == 'v.pkl' else str(path)
    assert wanted in refused(path)


@pytest.mark.parametrize(
  ('array', 'found'),
  [
    (VECTORS[0], r'found float32 of shape (3,)'),
    (np.zeros((2, 3), np.uint8), 'found uint8 of shape (2, 3)'),
    (np.zeros((2, 3), np.int16), 'found int16, wanted'),
    (np.zeros((2, 3), ml_dtypes.float8_e4m3fn), 'found |V1 of shape (2, 3)'),
    (np.zeros((2, 3), np.complex64), 'found complex64'),
    (np.zeros((0, 3)), 'found 0 vectors of width 3'),
    (np.zeros((3, 0)), 'found 3 vectors of width 0'),
  ],
  ids=lambda array: array if isinstance(array, str) else '',
)
def test_another_array_is_refused_with_what_it_is(tmp_path, array, found):
  np.save(tmp_path / 'v.npy', array)
  assert found in refused(tmp_path / 'v.npy')


@pytest.mark.parametrize('suffix', ['.npy', '.npz', '.parquet', '.faiss'])
@pytest.mark.parametrize('kept', [0, 7, 0.5, -1, -4, -9])
def test_a_truncated_file_is_refused(tmp_path, suffix, kept):
  path = write(tmp_path / f'v{suffix}')
  content = path.read_bytes()
  path.write_bytes(content[: int(kept * len(content)) if kept == 0.5 else kept])
  refused(path)


@pytest.mark.parametrize(
  ('old', 'new'),
  [(b'(11, 3), }  ', b'(9911, 3), }'), (b'(11, 3), }', b'(9, 3), } ')],
)
def test_a_header_of_another_shape_is_refused_with_the_bytes_it_wants(
  tmp_path, old, new
):
  path = tmp_path / 'v.npy'
  np.save(path, VECTORS)
  path.write_bytes(path.read_bytes().replace(old, new))
  assert 'found 260 bytes, but its header speaks of' in refused(path)


@pytest.mark.parametrize('suffix', ['.npz', '.parquet'])
def test_a_changed_byte_is_found_by_its_checksum(tmp_path, suffix):
  path = tmp_path / f'v{suffix}'
  write_vectors(path, suffix, (N, D), iter([VECTORS]), IDS, LABELS)
  np.testing.assert_array_equal(all_of(path), VECTORS)
  content = bytearray(path.read_bytes())
  content[content.index(VECTORS[5].tobytes()) + 2] ^= 1
  path.write_bytes(content)
  refused(path)


@pytest.mark.parametrize(
  'kind',
  [
    pa.list_(pa.float32(), D),
    pa.large_list(pa.float64()),
    pa.list_(pa.float16()),
  ],
  ids=str,
)
def test_any_list_of_floats_is_a_vector_in_parquet(tmp_path, kind):
  wanted = VECTORS.astype(np.float16)
  write_parquet(tmp_path / 'v.parquet', wanted.astype(float), kind)
  np.testing.assert_array_equal(all_of(tmp_path / 'v.parquet'), wanted)


def test_integer_ids_and_missing_labels_are_read_from_parquet(tmp_path):
  write_parquet(
    tmp_path / 'v.parquet',
    id=range(N),
    label=pa.array(['a', None, *LABELS[2:]]).dictionary_encode(),
  )
  file = open_vectors(tmp_path / 'v.parquet')
  assert file.ids() == [str(row) for row in range(N)]
  assert file.labels() == ['a', '', *LABELS[2:]]


@pytest.mark.parametrize(
  'labels',
  [
    pa.array([3.0, np.nan, None, -1.0]),
    pa.array([3, -1, None, -7], pa.int8()),
    pa.array(['3', '-1', '', None]),
  ],
  ids=lambda labels: str(labels.type),
)
def test_numbers_and_gaps_are_labels_in_parquet(tmp_path, labels):
  columns = {'id': IDS[:4], 'embedding': list(VECTORS[:4]), 'label': labels}
  pq.write_table(pa.table(columns), tmp_path / 'v.parquet')
  found = open_vectors(tmp_path / 'v.parquet').labels()
  assert [spell_class(label) for label in found] == ['3', '', '', '']


@pytest.mark.parametrize('first', [None, []])
def test_a_first_vector_that_is_missing_is_refused_with_its_row(
  tmp_path, first
):
  rows = [first, *VECTORS.tolist()[1:]]
  path = tmp_path / 'v.parquet'
  write_parquet(path, embedding=pa.array(rows, pa.list_(pa.float32())))
  assert f'{path}, row 0: found no vector' in refused(path)


@pytest.mark.parametrize(
  ('kind', 'wrong', 'width'),
  [
    (pa.list_(pa.float32()), None, 0),
    (pa.list_(pa.float32()), [1.0, 2.0], 2),
    (pa.list_(pa.float32(), D), None, 0),
  ],
  ids=str,
)
def test_a_vector_of_another_width_is_refused_with_its_row(
  tmp_path, kind, wrong, width
):
  rows = [*VECTORS.tolist()[:6], wrong, *VECTORS.tolist()[7:]]
  path = tmp_path / 'v.parquet'
  write_parquet(path, embedding=pa.array(rows, kind))
  assert f'row 6: found a vector of {width} numbers' in refused(path)


def test_other_columns_are_refused_with_what_they_are(tmp_path):
  pq.write_table(pa.table({'name': ['a'], 'x': [1.0]}), tmp_path / 'v.parquet')
  assert 'found the columns name (string), x (double)' in refused(
    tmp_path / 'v.parquet'
  )


def test_fewer_rows_than_a_file_says_are_refused(tmp_path):
  file = open_vectors(write(tmp_path / 'v.parquet'))
  file.count += 1
  with pytest.raises(InputError, match='found 11 vectors, but it says'):
    list(read_rows([file], 0, 4))


@pytest.mark.parametrize(
  ('keys', 'lines', 'ids'),
  [
    ([2, 0, 1], ['a', 'b', 'c'], ['c', 'a', 'b']),
    ([2, 0, 1], ['2', '0', '1'], ['2', '0', '1']),
    ([0, 1, 2], ['2', '0', '1'], ['2', '0', '1']),
    ([7, 0, 1], ['a', 'b', 'c'], None),
    ([-1, 0, 1], ['a', 'b', 'c'], None),
  ],
)
def test_a_line_beside_an_index_names_the_id_of_faiss(
  tmp_path, keys, lines, ids
):
  path = tmp_path / 'v.faiss'
  write_index(path, keys=keys, vectors=VECTORS[:3])
  (tmp_path / 'v.ids.txt').write_text(''.join(f'{line}\n' for line in lines))
  if ids is None:
    message = refused(path, lambda file: file.ids())
    assert f'none of them for the id {keys[0]} of FAISS (row 0)' in message
  else:
    assert open_vectors(path).ids() == ids


@pytest.mark.parametrize(
  ('keys', 'ids', 'labels'),
  [
    ([2, 0, 1], ['a', 'b', 'c'], ['z', 'x', 'y']),
    # FAISS's ids are the names, which no line is the number of.
    ([2, 0, 1], ['2', '0', '1'], ['x', 'y', 'z']),
    ([2, 0, 1], None, ['x', 'y', 'z']),
    (None, ['a', 'b', 'c'], ['x', 'y', 'z']),
  ],
)
def test_labels_beside_an_index_are_those_of_the_ids_beside(
  tmp_path, keys, ids, labels
):
  path = tmp_path / 'v.faiss'
  factory = 'Flat' if keys is None else 'IDMap2,Flat'
  write_index(path, factory, keys, vectors=VECTORS[:3])
  if ids:
    (tmp_path / 'v.ids.txt').write_text('\n'.join(ids))
  (tmp_path / 'v.labels.txt').write_text('x\ny\nz\n')
  assert open_vectors(path).labels() == labels


def test_too_few_labels_beside_an_index_are_refused_with_their_file(tmp_path):
  path = tmp_path / 'v.faiss'
  write_index(path, keys=[2, 0, 1], vectors=VECTORS[:3])
  (tmp_path / 'v.ids.txt').write_text('a\nb\nc\n')
  (tmp_path / 'v.labels.txt').write_text('x\ny\n')
  message = refused(path, lambda file: file.labels())
  assert message.startswith(f'{tmp_path / "v.labels.txt"}: it has 2 lines')


def test_a_zip_file_with_other_things_is_no_npz(tmp_path):
  with zipfile.ZipFile(tmp_path / 'v.npz', 'w') as archive:
    archive.writestr('a.txt', 'b')
  assert 'found the arrays none' in refused(tmp_path / 'v.npz')


def test_a_structured_array_with_unicode_names_is_refused(tmp_path):
  buffer = io.BytesIO()
  array = np.zeros(2, [('é' * 3 + 'π', np.float32)])
  with pytest.warns(UserWarning, match='format 3.0'):
    np.save(buffer, array)
  (tmp_path / 'v.npy').write_bytes(buffer.getvalue())
  assert 'found version (3, 0)' in refused(tmp_path / 'v.npy')


@pytest.mark.parametrize('suffix', ['.npy', '.npz', 'compressed'])
@pytest.mark.parametrize('dtype', [np.float32, np.float16, np.int8])
def test_a_matrix_that_lies_column_by_column_is_read(tmp_path, suffix, dtype):
  rows = np.asfortranarray((9 * VECTORS).astype(dtype))
  path = tmp_path / ('v.npy' if suffix == '.npy' else 'v.npz')
  save = {'.npy': np.save, '.npz': np.savez}.get(suffix, np.savez_compressed)
  save(path, rows)
  assert np.load(path)['arr_0' if path.suffix == '.npz' else ...].flags.fnc
  file = open_vectors(path)
  for start in (0, 3, 10, N):
    blocks = list(file.blocks(start, 4))
    np.testing.assert_array_equal(
      np.concatenate([np.empty((0, D)), *blocks]), rows[start:]
    )


@pytest.mark.parametrize('kept', [-1, -4, 0.5])
def test_a_truncated_matrix_of_columns_is_refused(tmp_path, kept):
  np.save(tmp_path / 'v.npy', np.asfortranarray(VECTORS))
  content = (tmp_path / 'v.npy').read_bytes()
  end = int(kept * len(content)) if kept == 0.5 else kept
  (tmp_path / 'v.npy').write_bytes(content[:end])
  refused(tmp_path / 'v.npy')


@pytest.mark.parametrize('suffix', ['.npy', '.npz'])
def test_bfloat16_is_read_though_numpy_has_no_name_for_it(tmp_path, suffix):
  rows = VECTORS.astype(ml_dtypes.bfloat16)
  path = tmp_path / f'v{suffix}'
  (np.save if suffix == '.npy' else np.savez)(path, rows)
  (block,) = read_rows([open_vectors(path)], 0, N)
  np.testing.assert_array_equal(block, rows.astype(np.float32))


INTEGERS = np.clip(np.round(40 * VECTORS), -127, 127).astype(np.int8)


@pytest.mark.parametrize(
  'scale',
  [
    0.25,
    np.linspace(1, 2, N, dtype=np.float32),
    np.linspace(1, 2, N)[:, None],
    np.linspace(1, 2, D, dtype=np.float16),
    np.linspace(1, 2, D)[None],
  ],
  ids=lambda scale: f'{np.shape(scale)}',
)
def test_int8_vectors_are_multiplied_by_the_scale_beside_them(tmp_path, scale):
  path = tmp_path / 'v.npz'
  np.savez(path, q=INTEGERS, scale=scale)
  shaped = np.asarray(scale, np.float32)
  shaped = shaped[:, None] if shaped.shape == (N,) else shaped
  file = open_vectors(path)
  assert (file.integers, file.scaled) == (True, True)
  for start in (0, 5):
    np.testing.assert_allclose(
      np.concatenate(list(file.blocks(start, 4))),
      (INTEGERS * shaped)[start:],
      rtol=1e-3,
    )
  # Said by its name, or as a number.
  np.savez(path, q=INTEGERS, factor=scale)
  assert not open_vectors(path, VectorColumns(vector='q')).scaled
  assert open_vectors(path, VectorColumns(vector='q', scale='factor')).scaled
  halves = open_vectors(path, VectorColumns(vector='q', scale='0.5'))
  np.testing.assert_array_equal(next(halves.blocks(0, N)), INTEGERS * 0.5)


def test_int8_vectors_of_parquet_have_a_scale_each_or_one_for_all(tmp_path):
  path = tmp_path / 'v.parquet'
  scale = np.linspace(1, 2, N, dtype=np.float32)
  table = {'q': pa.array(list(INTEGERS), pa.list_(pa.int8())), 'scale': scale}
  pq.write_table(pa.table(table), path)
  np.testing.assert_array_equal(
    np.concatenate(list(open_vectors(path).blocks(3, 4))),
    (INTEGERS * scale[:, None])[3:],
  )
  halves = open_vectors(path, VectorColumns(scale='0.5'))
  np.testing.assert_array_equal(next(halves.blocks(0, N)), INTEGERS * 0.5)


@pytest.mark.parametrize(
  ('scale', 'message'),
  [
    (np.ones(5), 'scales of shape (5,)'),
    (np.zeros(D), 'found a scale of 0.0'),
    (np.full(N, np.nan), 'found a scale of nan'),
  ],
)
def test_a_scale_that_cannot_be_is_refused(tmp_path, scale, message):
  np.savez(tmp_path / 'v.npz', vectors=INTEGERS, scale=scale)
  assert message in refused(tmp_path / 'v.npz')


def test_a_scale_of_as_many_vectors_as_components_must_say_which(tmp_path):
  square = INTEGERS[:D]
  for scale, fine in ((np.ones(D), False), (np.ones((D, 1)), True)):
    np.savez(tmp_path / 'v.npz', vectors=square, scale=scale)
    if fine:
      all_of(tmp_path / 'v.npz')
    else:
      assert 'wanted a number, [3, 1] for' in refused(tmp_path / 'v.npz')


@pytest.mark.parametrize('suffix', ['.npy', '.npz', '.parquet', '.faiss'])
def test_floats_have_no_scale(tmp_path, suffix):
  path = write(tmp_path / f'v{suffix}')
  with pytest.raises(
    InputError, match=r'found --scale=0\.5, which is for int8'
  ):
    open_vectors(path, VectorColumns(scale='0.5'))


@pytest.mark.parametrize('name', ['features', 'embeddings', 'vector'])
def test_a_lone_column_of_lists_is_found_in_parquet(tmp_path, name):
  tags = pa.array([['a', 'b']] * N)
  table = pa.table({'id': IDS, 'tags': tags, name: list(VECTORS)})
  pq.write_table(table, tmp_path / 'v.parquet')
  np.testing.assert_array_equal(all_of(tmp_path / 'v.parquet'), VECTORS)
  assert open_vectors(tmp_path / 'v.parquet').ids() == IDS


def test_one_of_several_columns_of_lists_must_be_named(tmp_path):
  path = tmp_path / 'v.parquet'
  pq.write_table(pa.table({'a': list(VECTORS), 'b': list(-VECTORS)}), path)
  assert 'Name them by --id_column, --vector_column' in refused(path)
  file = open_vectors(path, VectorColumns(vector='b'))
  np.testing.assert_array_equal(
    np.concatenate(list(file.blocks(0, 4))), -VECTORS
  )


@pytest.mark.parametrize('suffix', ['.npz', '.parquet'])
def test_columns_and_arrays_have_the_names_that_are_said(tmp_path, suffix):
  path = tmp_path / f'v{suffix}'
  named = {'k': np.array(IDS), 'x': VECTORS, 'y': VECTORS + 1, 'c': LABELS}
  if suffix == '.npz':
    np.savez(path, **named)
  else:
    named = {name: list(values) for name, values in named.items()}
    pq.write_table(pa.table(named), path)
  file = open_vectors(path, VectorColumns('k', 'x', 'c'))
  assert (file.ids(), file.labels()) == (IDS, LABELS)
  np.testing.assert_array_equal(
    np.concatenate(list(file.blocks(0, 4))), VECTORS
  )
  for field in ('id', 'vector', 'label'):
    said = {'vector': 'x'} | {field: 'nothing'}
    with pytest.raises(InputError, match=f'--{field}_column=nothing is not in'):
      open_vectors(path, VectorColumns(**said))
