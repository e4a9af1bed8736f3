import pathlib
import pickle
import zipfile

import numpy as np
import pytest

from advbct_jax.data import gldv2
from advbct_jax.errors import InputError
from tests.real_data import real_data

TABLES = (
  'train_clean.csv',
  'index.csv',
  'test.csv',
  'retrieval_solution_v2.1.csv',
)


def replace(path: pathlib.Path, old: str, new: str) -> None:
  content = path.read_text()
  assert old in content
  path.write_text(content.replace(old, new))


def test_training_images_keep_the_order_and_the_labels_of_the_table(gldv2_root):
  train = gldv2.load_train(gldv2_root)
  assert train.name == 'gldv2-train'
  assert list(train.ids) == ['aaa1', 'aaa2', 'aaa3', 'bbb1', 'bbb2']
  assert train.labels.tolist() == [69, 69, 69, 174, 174]
  assert train.labels.dtype == np.int64
  assert train.boxes is None


def test_queries_in_use_come_in_the_order_of_the_solution(gldv2_root):
  retrieval_set = gldv2.load_retrieval(gldv2_root, 'birds')
  assert retrieval_set.name == 'birds'
  assert retrieval_set.gallery.name == 'birds-index'
  assert retrieval_set.queries.name == 'birds-test'
  assert list(retrieval_set.gallery.ids) == ['ccc1', 'ddd1', 'ccc2', 'ddd2']
  assert list(retrieval_set.queries.ids) == ['qqq2', 'qqq1']
  truth = retrieval_set.ground_truth
  assert [sorted(r.tolist()) for r in truth.relevant] == [[0, 2], [1, 3]]
  assert list(truth.usage) == ['Public', 'Private']


def test_images_are_read_from_their_nested_folders(gldv2_root):
  train = gldv2.load_train(gldv2_root)
  retrieval_set = gldv2.load_retrieval(gldv2_root)
  for image_set, index, path in (
    (train, 3, 'train/b/b/b/bbb1.jpg'),
    (retrieval_set.gallery, 2, 'index/c/c/c/ccc2.jpg'),
    (retrieval_set.queries, 1, 'test/q/q/q/qqq1.jpg'),
  ):
    assert image_set.images.where(index) == str(gldv2_root / path)
    assert image_set.images[index] == (gldv2_root / path).read_bytes()


def test_images_are_upright_where_the_folder_says_so(gldv2_root):
  def found() -> set[bool]:
    retrieval_set = gldv2.load_retrieval(gldv2_root)
    sets = (retrieval_set.queries, retrieval_set.gallery)
    return {
      image_set.upright for image_set in (*sets, gldv2.load_train(gldv2_root))
    }

  assert found() == {False}
  for upright in (True, False):
    gldv2.write_traits(gldv2_root, upright=upright)
    assert found() == {upright}


@pytest.mark.parametrize('text', ['{}', '[]', '7', '{"upright": "yes"}', '{'])
def test_a_folder_that_says_it_wrongly_is_refused(gldv2_root, text):
  (gldv2_root / 'images.json').write_text(text)
  with pytest.raises(InputError, match=r'images\.json: found no "upright"'):
    gldv2.load_train(gldv2_root)


def test_a_missing_image_shows_when_it_is_read(gldv2_root):
  (gldv2_root / 'train/b/b/b/bbb1.jpg').unlink()
  train = gldv2.load_train(gldv2_root)
  with pytest.raises(InputError, match=r'bbb1\.jpg: cannot read'):
    train.load(3, 8)


def test_a_loaded_set_survives_pickling(gldv2_root):
  train = gldv2.load_train(gldv2_root)
  again = pickle.loads(pickle.dumps(train))
  assert again.images[4] == train.images[4]


def test_a_slice_of_the_paths_is_paths():
  paths = gldv2.ImagePaths('index', ['abcd', 'efgh', 'ijkl'])
  assert list(paths[1:]) == ['index/e/f/g/efgh.jpg', 'index/i/j/k/ijkl.jpg']


@pytest.mark.parametrize(
  ('old', 'new', 'message'),
  [
    ('174,', '69,', 'line 3: landmark 69 has a row already'),
    ('bbb1', 'aaa2', 'found the image aaa2 2 times'),
    ('174,', 'castle,', "line 3: found the landmark id 'castle'"),
    ('174,', '-4,', "line 3: found the landmark id '-4'"),
    ('bbb1 bbb2', '', 'line 3: landmark 174 has no images'),
    ('bbb1', '../etc/passwd', "found the image id '../etc/passwd'"),
    ('bbb1', 'bb', "found the image id 'bb'"),
    ('landmark_id', 'label', 'found the columns label,images'),
  ],
)
def test_a_malformed_training_table_is_refused(gldv2_root, old, new, message):
  replace(gldv2_root / 'train_clean.csv', old, new)
  with pytest.raises(InputError, match=message) as error:
    gldv2.load_train(gldv2_root)
  assert 'train_clean.csv' in str(error.value)


@pytest.mark.parametrize(
  ('table', 'old', 'new', 'message'),
  [
    ('index.csv', 'ddd1', 'ccc1', r'index\.csv: found the image ccc1 2 times'),
    ('test.csv', 'qqq1', 'qqq2', r'test\.csv: found the image qqq2 2 times'),
    ('test.csv', 'qqq1', 'qqq9', 'line 4: query qqq1 is not in test.csv'),
    ('index.csv', 'ddd2', 'ddd9', r"query qqq1: found .*\['ddd2'\]"),
    ('retrieval_solution_v2.1.csv', 'ccc1 ccc2', '', r'qqq2: found .*\(none\)'),
    ('retrieval_solution_v2.1.csv', 'Public', 'public', "Usage 'public'"),
    ('retrieval_solution_v2.1.csv', 'qqq1', 'qqq2', 'the image qqq2 2 times'),
    ('retrieval_solution_v2.1.csv', ',Usage', '', 'wanted id,images,Usage'),
  ],
)
def test_a_malformed_retrieval_set_is_refused(
  gldv2_root, table, old, new, message
):
  replace(gldv2_root / table, old, new)
  with pytest.raises(InputError, match=message):
    gldv2.load_retrieval(gldv2_root)


def test_a_solution_that_ignores_every_query_is_refused(gldv2_root):
  table = gldv2_root / 'retrieval_solution_v2.1.csv'
  table.write_text('id,images,Usage\nqqq1,None,Ignored\n')
  with pytest.raises(InputError, match='no query with the Usage'):
    gldv2.load_retrieval(gldv2_root)


@pytest.mark.parametrize('table', TABLES)
def test_a_missing_table_is_named(gldv2_root, table):
  (gldv2_root / table).unlink()
  trains = table == 'train_clean.csv'
  load = gldv2.load_train if trains else gldv2.load_retrieval
  with pytest.raises(InputError, match=f'{table}: no such file'):
    load(gldv2_root)


_ARCHIVES = real_data('gldv2_*.zip')

if _ARCHIVES:

  @pytest.mark.parametrize('archive', _ARCHIVES, ids=lambda path: path.stem)
  def test_real_tables_load(archive, tmp_path):
    with zipfile.ZipFile(archive) as packed:
      packed.extractall(tmp_path)
    train = gldv2.load_train(tmp_path)
    retrieval_set = gldv2.load_retrieval(tmp_path)
    for image_set in (train, retrieval_set.gallery, retrieval_set.queries):
      assert all((tmp_path / p).is_file() for p in image_set.images.paths)
    assert len(retrieval_set.ground_truth.relevant) == len(
      retrieval_set.queries
    )
