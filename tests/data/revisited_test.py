import copy
import os
import pathlib
import pickle

import numpy as np
import pytest

from advbct_jax.data import revisited
from advbct_jax.errors import InputError
from tests.real_data import real_data

CONTENT = {
  'imlist': ['tower_1', 'tower_2', 'bridge_1', 'bridge_2'],
  'qimlist': ['tower_q', 'bridge_q'],
  'gnd': [
    {'bbx': [2.0, 1.0, 12.5, 9], 'easy': [0], 'hard': [1], 'junk': [3]},
    {'bbx': [0, 0, 16, 8], 'easy': [], 'hard': [2, 3], 'junk': []},
  ],
}


def load(tmp_path: pathlib.Path, content: object) -> object:
  (tmp_path / 'gnd_rtiny.pkl').write_bytes(pickle.dumps(content))
  return revisited.load_retrieval(tmp_path, 'rtiny')


def test_lists_boxes_and_grades_are_those_of_the_pickle(revisited_root):
  retrieval_set = revisited.load_retrieval(revisited_root, 'rtiny')
  assert retrieval_set.name == 'rtiny'
  assert retrieval_set.gallery.name == 'rtiny-gallery'
  assert retrieval_set.queries.name == 'rtiny-queries'
  assert list(retrieval_set.gallery.ids) == [
    *('tower_1', 'tower_2', 'bridge_1', 'bridge_2')
  ]
  assert list(retrieval_set.queries.ids) == ['tower_q', 'bridge_q']
  assert retrieval_set.queries.boxes.tolist() == [
    [2, 1, 12.5, 9],
    [0, 0, 16, 8],
  ]
  assert retrieval_set.queries.boxes.dtype == np.float32
  assert retrieval_set.gallery.boxes is None
  truth = retrieval_set.ground_truth
  assert [grade.tolist() for grade in truth.easy] == [[0], []]
  assert [grade.tolist() for grade in truth.hard] == [[1], [2, 3]]
  assert [grade.tolist() for grade in truth.junk] == [[3], []]
  assert truth.easy[1].dtype == np.int64


def test_queries_stay_whole_when_they_are_not_to_be_cropped(revisited_root):
  retrieval_set = revisited.load_retrieval(revisited_root, 'rtiny', False)
  assert retrieval_set.queries.boxes is None


def test_images_lie_in_the_folder_of_the_set(revisited_root):
  retrieval_set = revisited.load_retrieval(revisited_root, 'rtiny')
  path = revisited_root / 'rtiny' / 'jpg' / 'bridge_1.jpg'
  assert retrieval_set.gallery.images.where(2) == str(path)
  assert retrieval_set.gallery.images[2] == path.read_bytes()


def test_images_may_lie_beside_the_pickle(revisited_root):
  (revisited_root / 'rtiny' / 'jpg').rename(revisited_root / 'jpg')
  retrieval_set = revisited.load_retrieval(revisited_root, 'rtiny')
  assert retrieval_set.queries.images.where(1) == str(
    revisited_root / 'jpg' / 'bridge_q.jpg'
  )


def test_the_pickle_may_lie_in_the_folder_of_the_set(revisited_root):
  pickled = revisited_root / 'gnd_rtiny.pkl'
  pickled.rename(revisited_root / 'rtiny' / 'gnd_rtiny.pkl')
  retrieval_set = revisited.load_retrieval(revisited_root, 'rtiny')
  assert len(retrieval_set.queries.images[0]) > 0


def test_a_set_without_images_loads_and_fails_when_one_is_read(tmp_path):
  retrieval_set = load(tmp_path, CONTENT)
  assert len(retrieval_set.gallery) == 4
  with pytest.raises(InputError, match=r'tower_1\.jpg: cannot read'):
    retrieval_set.gallery.load(0, 8)


def test_a_missing_pickle_is_looked_for_in_both_places(tmp_path):
  with pytest.raises(InputError) as error:
    revisited.load_retrieval(tmp_path, 'rtiny')
  assert str(tmp_path / 'gnd_rtiny.pkl') in str(error.value)
  assert str(tmp_path / 'rtiny' / 'gnd_rtiny.pkl') in str(error.value)


class Attack:
  """Runs a command when it is unpickled."""

  def __init__(self, path: pathlib.Path):
    self.path = path

  def __reduce__(self) -> tuple:
    return os.system, (f'touch {self.path}',)


def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path):
  content = {**CONTENT, 'extra': Attack(tmp_path / 'ran')}
  with pytest.raises(InputError, match=r'asks for (posix|nt)\.system'):
    load(tmp_path, content)
  assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
  'opcodes',
  [
    b"cos\nsystem\n(S'touch ran'\ntR.",  # GLOBAL, REDUCE
    b"(S'touch ran'\nios\nsystem\n.",  # INST
    b'\x80\x04\x8c\x08builtins\x8c\x04eval\x93.',  # STACK_GLOBAL
    b'\x80\x04\x8c\x0bcollections\x8c\x0bOrderedDict\x93.',  # harmless, too
  ],
)
def test_every_way_to_name_a_global_is_refused(tmp_path, opcodes):
  (tmp_path / 'gnd_rtiny.pkl').write_bytes(opcodes)
  with pytest.raises(InputError, match='the pickle asks for'):
    revisited.load_retrieval(tmp_path, 'rtiny')


@pytest.mark.parametrize(
  'opcodes',
  [
    b"S'os.system'\n(S'x'\ntR.",  # REDUCE of a string
    b']}(S"append"\nK\x01ub.',  # BUILD on a list
    b'Psomething\n.',  # PERSID
    b'\x82\x01.',  # EXT1
    b'\x80\x04\x95',
    b'',
  ],
)
def test_a_damaged_pickle_is_refused(tmp_path, opcodes):
  (tmp_path / 'gnd_rtiny.pkl').write_bytes(opcodes)
  with pytest.raises(InputError, match=r'gnd_rtiny\.pkl: cannot be unpickled'):
    revisited.load_retrieval(tmp_path, 'rtiny')


def test_arrays_are_refused_with_the_way_out(tmp_path):
  content = copy.deepcopy(CONTENT)
  content['gnd'][0]['easy'] = np.array([0])
  with pytest.raises(InputError, match=r'numpy.*save arrays with `\.tolist'):
    load(tmp_path, content)


@pytest.mark.parametrize('key', ['imlist', 'qimlist', 'gnd'])
def test_a_missing_key_is_refused(tmp_path, key):
  content = {k: v for k, v in CONTENT.items() if k != key}
  with pytest.raises(InputError, match='wanted the keys imlist, qimlist, gnd'):
    load(tmp_path, content)


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('imlist', ['a', 'b', 'c', 'a'], "imlist: found 'a twice'"),
    ('imlist', ['a', 'b', 'c', '../d'], r"imlist: found '\.\./d'"),
    ('imlist', ['a', 'b', 'c', b'd'], "imlist: found b'd'"),
    ('imlist', 'abcd', "imlist: found 'abcd'"),
    ('imlist', [], r'imlist: found \[\]'),
    ('qimlist', ['q', 'q'], "qimlist: found 'q twice'"),
    ('qimlist', ['q'], 'gnd: found .* wanted a list of 1 dicts'),
    ('gnd', {}, r'gnd: found \{\}'),
  ],
)
def test_malformed_lists_are_refused(tmp_path, key, value, message):
  with pytest.raises(InputError, match=message):
    load(tmp_path, {**CONTENT, key: value})


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('easy', [4], 'easy: found 4, wanted indices from 0 to 3'),
    ('hard', [-1], 'hard: found -1'),
    ('junk', [1.0], r'junk: found 1\.0'),
    ('junk', [True], 'junk: found True'),
    ('hard', [2, 2], "'index 2 in hard and in hard'"),
    ('junk', [2], "'index 2 in hard and in junk'"),
    ('easy', 3, 'easy: found 3'),
    ('bbx', [1, 2, 3], r'bbx: found \[1, 2, 3\]'),
    ('bbx', [5, 0, 5, 8], 'with x1 < x2'),
    ('bbx', [0, 8, 5, 0], 'y1 < y2'),
    ('bbx', [0, 0, float('nan'), 8], 'bbx: found .*nan'),
    ('bbx', [0, 0, float('inf'), 8], 'bbx: found .*inf'),
    ('bbx', [0, 0, '5', 8], 'bbx: found'),
    ('bbx', None, 'bbx: found None'),
  ],
)
def test_a_malformed_query_is_named(tmp_path, key, value, message):
  content = copy.deepcopy(CONTENT)
  content['gnd'][1][key] = value
  with pytest.raises(InputError, match=f'query bridge_q.*{message}'):
    load(tmp_path, content)


def test_a_query_without_a_grade_is_named(tmp_path):
  content = copy.deepcopy(CONTENT)
  del content['gnd'][1]['hard']
  with pytest.raises(InputError, match=r'query bridge_q: .* wanted the keys'):
    load(tmp_path, content)


_PICKLES = real_data('gnd_*.pkl')

if _PICKLES:

  @pytest.mark.parametrize('path', _PICKLES, ids=lambda path: path.stem)
  def test_published_ground_truth_loads(path):
    name = path.stem.removeprefix('gnd_')
    retrieval_set = revisited.load_retrieval(path.parent, name)
    sizes = {'roxford5k': (4993, 70), 'rparis6k': (6322, 70)}
    found = len(retrieval_set.gallery), len(retrieval_set.queries)
    assert found == sizes.get(name, found)
    assert retrieval_set.queries.boxes.shape == (found[1], 4)
