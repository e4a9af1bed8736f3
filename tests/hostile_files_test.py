"""Files that were made to do harm, or that only look as if they were.

Each is refused in a line, with no more memory or time than an honest one takes.
"""

import hashlib
import io
import json
import pathlib
import pickle
import re
import resource
import struct
import zipfile

import faiss
import hypothesis
from hypothesis import strategies
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from advbct_jax.adapters.adapter import load_adapter
from advbct_jax.convert.ids_and_labels import read_ids, read_labels
from advbct_jax.convert.vector_files import open_vectors
from advbct_jax.data import gldv2
from advbct_jax.data.images import digest_ids
from advbct_jax.data.record_images import open_records
from advbct_jax.data.revisited import load_retrieval
from advbct_jax.embeddings.features import read_or_map
from advbct_jax.embeddings.store import Card, open_store, read_card, write_store
from advbct_jax.errors import InputError
from advbct_jax.header_sizes import VARIABLE
from advbct_jax.refresh.known_pairs import load_pairs
from advbct_jax.training.checkpoints import read_config
from advbct_jax.training.workdir import read_inputs
from advbct_jax.weights.cards import read_card as read_weights_card
from advbct_jax.weights.files import read_tensors
from advbct_jax.weights.hub import locate

_MORE_MEMORY = 2**29
_DEEP = '[' * 10**5

VECTORS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
IDS = [f'image{number}' for number in range(20)]
TRUTH = {
  'imlist': ['a', 'b'],
  'qimlist': ['q'],
  'gnd': [{'bbx': [0, 0, 8, 8], 'easy': [0], 'hard': [1], 'junk': []}],
}


@pytest.fixture
def little_memory():
  """What asks for much more than there is in use now is given none."""
  limits = resource.getrlimit(resource.RLIMIT_AS)
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[0])
  most = pages * resource.getpagesize() + _MORE_MEMORY
  resource.setrlimit(resource.RLIMIT_AS, (most, limits[1]))
  yield
  resource.setrlimit(resource.RLIMIT_AS, limits)


def refused(read, *arguments) -> str:
  """The one line that a reader says of what it refuses."""
  with pytest.raises(InputError) as error:
    read(*arguments)
  said = str(error.value)
  assert '\n' not in said
  assert len(said) < 2500
  return said


def read_all(path: pathlib.Path) -> None:
  file = open_vectors(path)
  file.ids()
  file.labels()
  for block in file.blocks(0, 7):
    block.sum()


def archive(**members: bytes) -> bytes:
  packed = io.BytesIO()
  with zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED) as file:
    for name, content in members.items():
      file.writestr(
        name.replace('__', '/').replace('_npy', '.npy').replace('_pkl', '.pkl'),
        content,
      )
  return packed.getvalue()


def npy(array: np.ndarray) -> bytes:
  written = io.BytesIO()
  np.save(written, array)
  return written.getvalue()


def npy_that_claims(shape: str, dtype: str = '<f4') -> bytes:
  header = f"{{'descr':'{dtype}','fortran_order':False,'shape':{shape}}}"
  return b'\x93NUMPY\1\0' + struct.pack('<H', len(header)) + header.encode()


def safetensors_that_claim(header: str | bytes, length: int = 0) -> bytes:
  text = header.encode() if isinstance(header, str) else header
  return struct.pack('<Q', length or len(text)) + text + bytes(64)


def twice(make: bytes, count: int = 60) -> bytes:
  """Instructions for a thing with twice a thing with twice a thing …"""
  steps = b''.join(
    b'h' + bytes([one]) + b'h' + bytes([one]) + make + bytes([one + 1])
    for one in range(1, count)
  )
  return b'\x80\x02()q\x01' + steps


PICKLES = {
  'a place far away': (
    b'\x80\x02]r\xff\xff\xff\x1f.',
    r'found \[\], wanted a dict',
  ),
  'endless text': (
    b'\x80\x04\x8d' + struct.pack('<Q', 2**60) + b'a.',
    'cannot be unpickled',
  ),
  'endless bytes': (
    b'\x80\x05\x96' + struct.pack('<Q', 2**40) + b'a.',
    'cannot be unpickled',
  ),
  'a key without a hash in a lifetime': (
    twice(b'\x86q') + b'}h\x3cK\x01sl.',
    'found tuple, wanted str',
  ),
  'a list of nearly endless lists': (
    b'\x80\x02(]q\x01'
    + b''.join(
      b'](' + (b'h' + bytes([one])) * 8 + b'eq' + bytes([one + 1])
      for one in range(1, 40)
    )
    + b'l.',
    r'found .*\.\.\.',
  ),
  'very deep': (b'\x80\x02' + b']' * 10**4 + b'a' * 9999 + b'.', 'found'),
  'a huge number': (
    pickle.dumps(TRUTH | {'gnd': [TRUTH['gnd'][0] | {'easy': [1 << 40000]}]}),
    'found a number of 40001 bits',
  ),
  'no text': (
    pickle.dumps(TRUTH | {'imlist': ['a', '\ud800']}),
    'wanted the name of an image file',
  ),
  'a long text': (pickle.dumps({'x' * 10**6: 1}), 'wanted the keys imlist'),
}


@pytest.mark.usefixtures('little_memory')
@pytest.mark.parametrize('kind', PICKLES)
def test_a_pickle_is_no_program(tmp_path, kind):
  pickled, message = PICKLES[kind]
  (tmp_path / 'gnd_x.pkl').write_bytes(pickled)
  assert re.search(message, refused(load_retrieval, tmp_path, 'x'))


ARRAYS = {
  'endless rows': (
    npy_that_claims('(1000000000000000,3)'),
    'its header speaks',
  ),
  'rows below zero': (npy_that_claims('(-4,-4)') + bytes(64), 'cannot be read'),
  'true rows': (npy_that_claims('(True,16)') + bytes(64), 'cannot be read'),
  'an endless header': (
    b'\x93NUMPY\2\0' + struct.pack('<I', 2**32 - 1) + b' ' * 100,
    'cannot be read',
  ),
  'a long header': (
    b'\x93NUMPY\1\0' + struct.pack('<H', 60000) + b' ' * 60064,
    'cannot be read',
  ),
  'an open bracket': (npy_that_claims('((4,4)') + bytes(64), 'cannot be read'),
  'many brackets': (npy_that_claims('(' * 5000 + ')' * 5000), 'cannot be read'),
}


@pytest.mark.usefixtures('little_memory')
@pytest.mark.parametrize('suffix', ['.npy', '.npz'])
@pytest.mark.parametrize('kind', ARRAYS)
def test_an_array_has_what_it_claims(tmp_path, kind, suffix):
  written, message = ARRAYS[kind]
  path = tmp_path / f'a{suffix}'
  packed = archive(embeddings_npy=written) if suffix == '.npz' else written
  path.write_bytes(packed)
  assert message in refused(read_all, path)


@pytest.mark.usefixtures('little_memory')
def test_a_packed_header_is_not_unpacked_whatever_its_length(tmp_path):
  header = b'\x93NUMPY\2\0' + struct.pack('<I', 2**30) + bytes(2**25)
  (tmp_path / 'a.npz').write_bytes(archive(embeddings_npy=header))
  assert 'cannot be read' in refused(read_all, tmp_path / 'a.npz')


def test_characters_that_there_are_not_are_no_ids(tmp_path):
  (tmp_path / 'a.npy').write_bytes(npy_that_claims('(2,)', '<U1') + b'\xff' * 8)
  assert 'cannot be read' in refused(read_ids, tmp_path / 'a.npy')


def test_texts_without_characters_do_not_fill_the_memory(tmp_path):
  (tmp_path / 'a.npy').write_bytes(npy_that_claims('(1000000000000,)', '<U0'))
  assert 'without characters' in refused(read_ids, tmp_path / 'a.npy')


def test_an_archive_writes_nothing_wherever_its_names_lead(tmp_path):
  inside = tmp_path / 'inside'
  inside.mkdir()
  (inside / 'a.npz').write_bytes(
    archive(**{'..__..__embeddings_npy': npy(VECTORS), '__x_npy': npy(VECTORS)})
  )
  refused(read_all, inside / 'a.npz')
  assert [path.name for path in tmp_path.rglob('*')] == ['inside', 'a.npz']


def with_rows(**columns) -> bytes:
  written = io.BytesIO()
  pq.write_table(
    pa.table(columns), written, compression='zstd', store_schema=False
  )
  return written.getvalue()


def test_a_text_that_unpacks_to_gigabytes_is_not(tmp_path, monkeypatch):
  monkeypatch.setattr('advbct_jax.convert.parquet_files._UNASKED', 2**20)
  path = tmp_path / 'a.parquet'
  path.write_bytes(with_rows(id=['x' * 2**21], embedding=[[1.0, 2.0]]))
  assert 'would unpack to 2097' in refused(read_all, path)


def test_a_vector_of_millions_of_numbers_is_not_unpacked(tmp_path):
  path = tmp_path / 'a.parquet'
  numbers = pa.array(np.zeros(2**20 + 1, np.float32))
  vectors = pa.ListArray.from_arrays([0, len(numbers)], numbers)
  path.write_bytes(with_rows(id=['a'], embedding=vectors))
  assert 'found 1048577 numbers in 1 rows' in refused(read_all, path)


def test_a_list_is_no_id(tmp_path):
  path = tmp_path / 'a.parquet'
  path.write_bytes(with_rows(id=[['a']], embedding=[[1.0, 2.0]]))
  assert 'cannot be read' in refused(read_all, path)


@pytest.mark.usefixtures('little_memory')
def test_a_long_text_in_many_rows_is_in_memory_once(tmp_path):
  path, text = tmp_path / 'a.parquet', 'x' * 10**6
  ids = pa.DictionaryArray.from_arrays(pa.array([0] * 2000), [text])
  vectors = np.arange(4000.0).reshape(2000, 2).tolist()
  path.write_bytes(with_rows(id=ids, embedding=vectors))
  found = open_vectors(path).ids()
  assert len(found) == 2000
  assert set(found) == {text}


def with_shared_parts(**columns) -> bytes:
  """Parquet whose ids say what they share with the one before."""
  written = io.BytesIO()
  pq.write_table(
    pa.table(columns),
    written,
    use_dictionary=False,
    column_encoding={
      'id': 'DELTA_BYTE_ARRAY',
      'embedding.list.element': 'PLAIN',
    },
  )
  return written.getvalue()


def test_ids_that_share_parts_are_read(tmp_path):
  path = tmp_path / 'a.parquet'
  path.write_bytes(with_shared_parts(id=IDS, embedding=VECTORS.tolist()))
  assert open_vectors(path).ids() == IDS


def test_shared_parts_do_not_fill_the_memory(tmp_path, monkeypatch):
  monkeypatch.setattr('advbct_jax.convert.parquet_files._UNASKED', 2**20)
  path = tmp_path / 'a.parquet'
  ids = ['x' * 10**4] * 500
  path.write_bytes(with_shared_parts(id=ids, embedding=[[1.0, 2.0]] * 500))
  assert 'which no ids do' in refused(read_all, path)


def test_there_are_not_more_rows_than_bytes(tmp_path):
  path = tmp_path / 'a.parquet'
  rows = 50_000
  path.write_bytes(with_rows(id=['a'] * rows, embedding=[[1.0, 2.0]] * rows))
  assert 'found 50000 rows in' in refused(read_all, path)


def test_damaged_parquet_is_told_of_in_a_line(tmp_path):
  whole = with_rows(id=['a'], embedding=[[1.0, 2.0]])
  path = tmp_path / 'a.parquet'
  path.write_bytes(whole[:-20] + b'\xff' * 12 + whole[-8:])
  refused(read_all, path)


@pytest.mark.parametrize(
  'factory', ['Flat', 'SQ8', 'IVF2,Flat', 'IDMap2,Flat', 'HNSW4,SQ8']
)
@pytest.mark.parametrize('claimed', [2**34, 2**40, 2**62])
def test_an_index_has_the_vectors_that_it_claims(tmp_path, factory, claimed):
  index = faiss.index_factory(3, factory)
  index.train(VECTORS)
  if factory.startswith('IDMap'):
    index.add_with_ids(VECTORS, np.arange(20))
  else:
    index.add(VECTORS)
  path = tmp_path / 'a.faiss'
  faiss.write_index(index, str(path))
  whole = path.read_bytes()
  path.write_bytes(whole[:8] + struct.pack('<Q', claimed) + whole[16:])
  assert 'not a FAISS index' in refused(read_all, path)


@pytest.mark.parametrize('kept', [3, 20, 28, 40, 65])
def test_an_index_that_ends_within_its_header_is_refused(tmp_path, kept):
  index = faiss.IndexIDMap2(faiss.IndexFlatIP(3))
  index.add_with_ids(VECTORS, np.arange(20))
  path = tmp_path / 'a.faiss'
  faiss.write_index(index, str(path))
  path.write_bytes(path.read_bytes()[:kept])
  assert 'not a FAISS index' in refused(read_all, path)


@pytest.mark.parametrize('factory', ['SQ8', 'PQ3x4np', 'IVF2,Flat'])
def test_an_index_of_another_width_than_its_codes_is_refused(tmp_path, factory):
  index = faiss.index_factory(3, factory)
  index.train(VECTORS)
  index.add(VECTORS)
  path = tmp_path / 'a.faiss'
  faiss.write_index(index, str(path))
  whole = path.read_bytes()
  path.write_bytes(whole[:4] + struct.pack('<I', 300) + whole[8:])
  assert 'not a FAISS index' in refused(read_all, path)


def changed(part: str) -> tuple[bytes, bytes, bytes]:
  """An index with a graph, and a part of it before and after a change."""
  index = faiss.index_factory(3, 'HNSW4,Flat')
  index.add(VECTORS)
  graph = index.hnsw
  written = faiss.serialize_index(index).tobytes()
  if part == 'start':
    start = (graph.entry_point, graph.max_level)
    return written, struct.pack('<2i', *start), struct.pack('<2i', 999, 1)
  array = faiss.vector_to_array(getattr(graph, part))
  lying = array.copy()
  lying[2:4] = 2**20
  return written, array.tobytes(), lying.tobytes()


@pytest.mark.parametrize('part', ['neighbors', 'offsets', 'levels', 'start'])
def test_a_graph_leads_to_no_vector_that_there_is_not(tmp_path, part):
  written, was, lies = changed(part)
  assert written.count(was) == 1
  path = tmp_path / 'a.faiss'
  path.write_bytes(written.replace(was, lies))
  assert 'not a FAISS index' in refused(read_all, path)


TABLES = {
  'many columns': (
    b','.join(b'c%d' % one for one in range(10**5)),
    'found the',
  ),
  'a long name': (b'x' * 10**6 + b'\na\n', 'found the columns xxx'),
  'many cells': (b'id,label\n' + b',' * 10**5, 'found 100001 cells, wanted 2'),
  'a long id': (b'id,label\n' + b'x' * 10**6 + b',1\n', 'of no vector'),
  'an endless line': (b'id,label\n' + b'x' * 65, 'a line of more than 64 char'),
  'an endless cell': (b'id,label\n"' + b'\n' * 65, 'field larger than'),
  'an open quote': (b'id,label\n"a,1\n', 'unexpected end of data'),
  'utf-16': ('id,label\na,1\n'.encode('utf-16'), 'not a CSV file in UTF-8'),
}


@pytest.mark.parametrize('kind', TABLES)
def test_a_table_is_as_long_as_tables_are(tmp_path, monkeypatch, kind):
  written, message = TABLES[kind]
  if 'endless' in kind:
    monkeypatch.setenv(VARIABLE, '64')
  (tmp_path / 'a.csv').write_bytes(written)
  assert message in refused(read_labels, tmp_path / 'a.csv', ['a'])


def test_quotes_a_mark_and_windows_lines_are_read(tmp_path):
  (tmp_path / 'a.csv').write_bytes(
    b'\xef\xbb\xbfid,label\r\n"a,b","x ""y"""\r\n'
  )
  assert read_labels(tmp_path / 'a.csv', ['a,b']) == ['x "y"']


NOTES = {
  'deep': _DEEP,
  'deep objects': '{"a":' * 10**5,
  'a long number': '{"a": ' + '9' * 5000 + '}',
  'no object': '7',
  'nothing': '',
  'no text': b'\xff\xfe{}',
}
READERS = {
  'card.json': lambda folder: read_card(folder / 'card.json'),
  'config.json': read_config,
  'inputs.json': read_inputs,
  'dataset.json': gldv2.load_train,
}


@pytest.mark.parametrize('name', READERS)
@pytest.mark.parametrize('kind', NOTES)
def test_json_of_another_shape_is_refused(tmp_path, kind, name):
  content = NOTES[kind]
  if name == 'dataset.json':
    (tmp_path / 'train_clean.csv').write_text('landmark_id,images\n1,aaa\n')
    name = gldv2.TRAITS_FILE
  raw = content if isinstance(content, bytes) else content.encode()
  (tmp_path / name).write_bytes(raw)
  read = READERS.get(name, gldv2.load_train)
  assert name in refused(read, tmp_path)


@pytest.mark.parametrize('text', [_DEEP, '{"a": ' + '9' * 5000 + '}'])
def test_a_card_of_weights_that_is_too_deep_is_refused(tmp_path, text):
  (tmp_path / 'a.json').write_text(text)
  assert 'cannot read the card' in refused(
    read_weights_card, tmp_path / 'a.safetensors'
  )


def test_json_without_an_end_is_not_read_to_its_end(tmp_path, monkeypatch):
  monkeypatch.setenv(VARIABLE, '100')
  (tmp_path / 'card.json').write_text('{' + ' ' * 100 + '}')
  assert 'more than 100 bytes' in refused(read_card, tmp_path / 'card.json')


CARD = Card('a', 'b', 3, 'c', 'tiny', digest_ids(IDS), 20)


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  path = tmp_path_factory.mktemp('hostile') / 'store'
  return write_store(path, CARD, IDS, VECTORS)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'count': 10**18}, 'count 1000000000000000000 cannot be'),
    ({'count': 10**12, 'chunk_rows': 1}, 'ids.txt is not the list'),
    ({'dimension': 10**12}, 'dimension 1000000000000,'),
    ({'dimension': 2**20, 'count': 20}, None),
    ({'dtype': 'V1000000000'}, 'wanted floats of 64 bits at most'),
    ({'dtype': 'O'}, 'wanted floats of 64 bits at most'),
    ({'encoder': 'x' * 10**6, 'count': 'x' * 10**6}, "count is 'xxx"),
    ({'x' * 10**6: 1}, 'unknown here'),
  ],
)
def test_a_store_has_what_its_card_claims(store, monkeypatch, change, message):
  monkeypatch.setattr('advbct_jax.embeddings.store._UNASKED', 2**20)
  path = store.path / 'card.json'
  honest = path.read_text()
  # As earlier versions did, or whoever wants harm.
  card = json.loads(honest)
  del card['sha256']
  path.write_text(json.dumps(card | change))
  try:
    assert (message or 'but the chunks have') in refused(open_store, store.path)
  finally:
    path.write_text(honest)


def test_what_images_are_called_leads_out_of_no_folder(tmp_path):
  card = Card('a', 'b', 3, 'c', '../../out/tiny', digest_ids(IDS), 20)
  store = write_store(tmp_path / 'store', card, IDS, VECTORS)
  rows = read_or_map(store, np.arange(20), tmp_path / 'in' / 'features', 0)
  np.testing.assert_array_equal(rows, VECTORS)
  assert not (tmp_path / 'out').exists()
  [laid_out] = (tmp_path / 'in' / 'features').glob('*.npy')
  assert laid_out.name.startswith('.._.._out_tiny-')


IDENTITY = {'encoder': 'a', 'weights': 'b', 'dimension': 3}
ADAPTER = {
  'kind': 'procrustes',
  'one_space': True,
  'new': IDENTITY,
  'old': IDENTITY,
  'images': {},
  'options': {},
}


def adapter(folder: pathlib.Path, weights: bytes = b'', **changes) -> None:
  weights = weights or safetensors.numpy.save({'rotation': np.eye(3)})
  card = ADAPTER | {'weights_sha256': hashlib.sha256(weights).hexdigest()}
  (folder / 'weights.safetensors').write_bytes(weights)
  (folder / 'card.json').write_text(json.dumps(card | changes))


@pytest.mark.parametrize(
  'changes',
  [
    {'kind': ['a']},
    {'kind': 'x' * 10**6},
    {'new': 'x'},
    {'new': {}},
    {'old': IDENTITY | {'dimension': 'x'}},
    {'old': IDENTITY | {'dimension': -1}},
    {'options': []},
    {'direction': 'sideways'},
    {'weights_sha256': 'x' * 10**6},
  ],
  ids=lambda changes: f'{changes!r:.30}',
)
def test_an_adapter_of_another_shape_is_refused(tmp_path, changes):
  adapter(tmp_path, **changes)
  assert 'card.json' in refused(load_adapter, tmp_path)


def test_a_deep_card_of_an_adapter_is_refused(tmp_path):
  adapter(tmp_path)
  (tmp_path / 'card.json').write_text(_DEEP)
  assert 'not the card of an adapter' in refused(load_adapter, tmp_path)


@pytest.mark.parametrize('shape', [(), (0,), (5, 5), None])
def test_parameters_that_map_nothing_are_refused(tmp_path, shape):
  name = 'rotation' if shape is not None else 'other'
  array = np.zeros(shape or (), np.float32)
  adapter(tmp_path, safetensors.numpy.save({name: array}))
  assert 'which map no vectors' in refused(
    load_adapter(tmp_path).apply, VECTORS
  )


@pytest.mark.parametrize(
  'card',
  [_DEEP, '[]', 'null', '{}', '{"gallery_size": 5, "encoders": "x"}'],
  ids=lambda card: card[:20],
)
def test_pairs_with_another_card_are_refused(tmp_path, card):
  saved = safetensors.numpy.save({'a': VECTORS}, metadata={'card': card})
  (tmp_path / 'sums.safetensors').write_bytes(saved)
  assert 'no pairs can be read' in refused(load_pairs, tmp_path)


WEIGHTS = {
  'endless header': safetensors_that_claim('{}', 2**60),
  'deep header': safetensors_that_claim(_DEEP),
  'endless tensor': safetensors_that_claim(
    '{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,64]}}'
  ),
  'product of 2**64': safetensors_that_claim(
    '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'
  ),
  'backwards': safetensors_that_claim(
    '{"a":{"dtype":"F32","shape":[16],"data_offsets":[64,0]}}'
  ),
}


@pytest.mark.parametrize('kind', WEIGHTS)
def test_a_header_of_safetensors_that_lies_is_refused(tmp_path, kind):
  (tmp_path / 'a.safetensors').write_bytes(WEIGHTS[kind])
  assert 'not a whole safetensors file' in refused(
    read_tensors, tmp_path / 'a.safetensors'
  )


def checkpoint(pickled: bytes) -> bytes:
  return archive(a__version=b'3\n', **{'a__data.pkl': pickled})


@pytest.mark.parametrize(
  ('pickled', 'message'),
  [
    (
      b'\x80\x02' + b'}X\1\0\0\0a' * 5000 + b'}' + b's' * 5000 + b'.',
      'dicts in dicts',
    ),
    (b'\x80\x02}q\x01X\1\0\0\0ah\x01s.', 'dicts in dicts'),
    (pickle.dumps({'x' * 10**4: 1}, 2), 'no tensors by name'),
    (pickle.dumps({'a\nb': 1}, 2), 'no tensors by name'),
    (b'\x80\x02' + bytes(2**24), 'would unpack to 16777'),
  ],
  ids=['deep', 'in itself', 'a long name', 'two lines', 'packed'],
)
def test_a_checkpoint_of_another_shape_is_refused(
  tmp_path, monkeypatch, pickled, message
):
  monkeypatch.setenv(VARIABLE, str(2**16))
  (tmp_path / 'a.pth').write_bytes(checkpoint(pickled))
  assert message in refused(read_tensors, tmp_path / 'a.pth')


ENDLESS = twice(b'\x86q') + b'}'


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize(
  'pickled',
  [
    ENDLESS + b'h\x3cK\x01s.',
    ENDLESS + b'(h\x3cK\x01u.',
    ENDLESS + b'K\x01h\x3cQs.',
  ],
  ids=['a key', 'keys', 'a place'],
)
def test_no_tuple_of_a_checkpoint_is_nearly_endless(tmp_path, pickled, zipped):
  path = tmp_path / 'a.pth'
  path.write_bytes(archive(a__data_pkl=pickled) if zipped else pickled)
  assert 'of more than 65536 parts' in refused(read_tensors, path)


@pytest.mark.parametrize(
  'file',
  [
    '../../x.safetensors',
    'a/../../x.safetensors',
    '/etc/x.safetensors',
    '..\\x.safetensors',
    './x.safetensors',
    'x\n.safetensors',
    'x\0.safetensors',
    'x' * 5000 + '.safetensors',
  ],
  ids=lambda file: f'{file!r:.25}',
)
def test_an_address_leads_out_of_no_folder(file):
  assert 'not the address of a file' in refused(locate, f'hf://a/b/{file}')


@pytest.mark.parametrize(
  'name', ['__main__', 'x' * 10**5, 'a\nb', 'a\0b', '../x']
)
def test_a_package_has_the_name_of_one(name):
  assert 'no package' in refused(locate, f'package://{name}')


def test_records_import_no_module_that_they_name(tmp_path, monkeypatch):
  (tmp_path / 'hostile_module.py').write_text('open("ran", "w").close()')
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  features = {'pythonClassName': 'hostile_module.Feature', 'text': {}}
  (tmp_path / 'features.json').write_text(json.dumps(features))
  (tmp_path / 'dataset_info.json').write_text('{"name": "gldv2"}')
  said = refused(open_records, tmp_path, 'train', ['a'])
  assert "asks for 'hostile_module.Feature'" in said
  assert not (tmp_path / 'ran').exists()


def _table() -> bytes:
  return with_rows(id=IDS, embedding=VECTORS.tolist(), label=IDS)


WHOLE = {
  'gnd_x.pkl': (
    lambda: pickle.dumps(TRUTH, 2),
    lambda path: load_retrieval(path.parent, 'x'),
  ),
  'a.csv': (
    lambda: b'id,label\na,1\n"b,c",2\r\n"x""y",3\n',
    lambda path: read_labels(path, read_ids(path)),
  ),
  'a.npy': (lambda: npy(VECTORS), read_all),
  'a.npz': (
    lambda: archive(embeddings_npy=npy(VECTORS), ids_npy=npy(np.array(IDS))),
    read_all,
  ),
  'a.parquet': (_table, read_all),
  'a.safetensors': (
    lambda: safetensors.numpy.save({'a': VECTORS}),
    read_tensors,
  ),
  'card.json': (
    lambda: json.dumps(CARD.__dict__).encode(),
    read_card,
  ),
}


@pytest.mark.parametrize('name', WHOLE)
def test_whatever_is_damaged_is_read_or_refused(tmp_path, name):
  make, read = WHOLE[name]
  whole = make()
  path = tmp_path / name
  places = strategies.integers(0, len(whole) - 1)

  @hypothesis.settings(
    derandomize=True, database=None, deadline=None, max_examples=40
  )
  @hypothesis.given(
    strategies.lists(
      strategies.tuples(places, strategies.binary(max_size=8)), max_size=4
    ),
    places,
    strategies.booleans(),
  )
  def read_damaged(changes, end, cut):
    damaged = bytearray(whole)
    for place, inserted in changes:
      damaged[place : place + len(inserted)] = inserted
    path.write_bytes(damaged[:end] if cut else damaged)
    said = ''
    try:
      read(path)
    except InputError as error:
      said = str(error)
    assert '\n' not in said

  read_damaged()
