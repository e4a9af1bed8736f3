"""A data set made from files of vectors alone."""

import csv
import fcntl
import json

import numpy as np
import pytest

from advbct_jax.convert.vector_data import prepare_vectors
from advbct_jax.convert.vector_folders import find_stores
from advbct_jax.data.gldv2 import load_retrieval, load_train
from advbct_jax.embeddings.store import open_store
from advbct_jax.errors import InputError
from tests.tiny_vectors import draw_vectors, write_files


@pytest.fixture
def files(tmp_path):
  return write_files(tmp_path / 'files')


def change(files, side, part, **arrays):
  path = files / side / f'{part}.npz'
  np.savez(path, **{**np.load(path), **arrays})


def make(files, out, **options):
  return prepare_vectors(files / 'old', files / 'new', out, **options)


def test_the_set_has_the_vectors_and_tables_of_all_things(files, tmp_path):
  out = tmp_path / 'texts'
  make(files, out)
  for part, arrays in draw_vectors().items():
    for side in ('old', 'new'):
      store = open_store(out / side / part)
      assert store.ids() == list(arrays['ids'])
      assert store.card.images == f'texts-{part}'
      assert store.card.encoder == f'texts-{side}'
      np.testing.assert_array_equal(store.read(), arrays[side])
  assert len(load_train(out)) == 32
  found = load_retrieval(out)
  assert found.gallery.ids == list(draw_vectors()['index']['ids'])
  # Things of equal labels answer each other.
  assert [list(at) for at in found.ground_truth.relevant] == [
    [0, 1, 2, 3],
    [4, 5, 6, 7],
    [8, 9, 10, 11],
    [12, 13, 14, 15],
  ]


def test_ids_may_come_in_another_order_on_the_other_side(files, tmp_path):
  arrays = draw_vectors()['index']
  change(
    files,
    'old',
    'index',
    embeddings=arrays['old'][::-1],
    ids=arrays['ids'][::-1],
  )
  make(files, tmp_path / 'out')
  assert load_retrieval(tmp_path / 'out').gallery.ids == list(arrays['ids'])


def test_without_labels_there_is_one_class_and_no_ground_truth(tmp_path):
  files = write_files(tmp_path / 'files', labelled=())
  said = make(files, tmp_path / 'out')
  assert 'without labels' in said
  assert 'no ground truth' in said
  assert set(load_train(tmp_path / 'out').labels) == {0}
  assert not list((tmp_path / 'out').glob('retrieval*'))


def test_labels_and_ground_truth_may_be_files_of_their_own(tmp_path):
  files = write_files(tmp_path / 'files', labelled=())
  parts = draw_vectors()
  with (tmp_path / 'labels.csv').open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['id', 'label'])
    for arrays in parts.values():
      writer.writerows(zip(arrays['ids'], arrays['labels'], strict=True))
  make(files, tmp_path / 'one', labels=tmp_path / 'labels.csv')
  assert len(set(load_train(tmp_path / 'one').labels)) == 4
  truth = tmp_path / 'one/retrieval_solution_v2.1.csv'
  make(files, tmp_path / 'two', solution=truth)
  assert (tmp_path / 'two' / truth.name).read_text() == truth.read_text()


def test_queries_without_an_answer_are_ignored(files, tmp_path):
  labels = draw_vectors()['test']['labels'].copy()
  labels[0] = 'of its own'
  for side in ('old', 'new'):
    change(files, side, 'test', labels=labels)
  assert '1 are ignored' in make(files, tmp_path / 'out')
  assert len(load_retrieval(tmp_path / 'out').queries) == 3


def _other_ids(arrays):
  return {'ids': np.array(['stranger', *arrays['ids'][1:]])}


def _twice(arrays):
  return {'ids': np.array([arrays['ids'][1], *arrays['ids'][1:]])}


def _narrower(arrays):
  return {'embeddings': arrays['old'][:, :3]}


def _not_a_number(arrays):
  vectors = arrays['old'].copy()
  vectors[2, 1] = np.nan
  return {'embeddings': vectors}


def _blank(arrays):
  return {'ids': np.array(['two words', *arrays['ids'][1:]])}


@pytest.mark.parametrize('part', ['train', 'index', 'test'])
@pytest.mark.parametrize(
  ('fault', 'said'),
  [
    (_other_ids, "'train/0.txt'|'index/0.txt'|'test/0.txt'|'stranger'"),
    (_twice, 'is also that of'),
    (_narrower, 'width'),
    (_not_a_number, 'not finite'),
  ],
)
def test_vectors_that_cannot_be_used_are_refused(
  files, tmp_path, part, fault, said
):
  change(files, 'old', part, **fault(draw_vectors()[part]))
  with pytest.raises(InputError, match=said):
    make(files, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_ids_that_no_table_can_list_are_refused(files, tmp_path):
  for side in ('old', 'new'):
    change(files, side, 'test', **_blank(draw_vectors()['test']))
  with pytest.raises(InputError, match='two words'):
    make(files, tmp_path / 'out')


def test_both_sides_have_the_same_parts(files, tmp_path):
  (files / 'new/test.npz').unlink()
  with pytest.raises(InputError, match='the same of both'):
    make(files, tmp_path / 'out')


def test_two_sides_of_one_encoder_are_refused(files, tmp_path):
  with pytest.raises(InputError, match='two encoders'):
    prepare_vectors(
      files / 'new',
      files / 'new',
      tmp_path / 'out',
      old_encoder='ours',
      new_encoder='ours',
    )


def test_a_set_of_vectors_says_that_it_has_no_pictures(files, tmp_path):
  make(files, tmp_path / 'out')
  with pytest.raises(InputError, match='no pictures'):
    load_train(tmp_path / 'out').load(0, 8)


@pytest.mark.parametrize('side', ['old', 'new'])
def test_files_of_a_folder_are_taken_where_stores_are(
  files, tmp_path, command, side
):
  out = tmp_path / 'out'
  make(files, out)
  found = {}
  for root in (out, files):
    workdir = tmp_path / 'judged' / root.name
    command(
      'evaluate',
      f'--new={root}/{side}',
      f'--data=texts:{out}',
      f'--workdir={workdir}',
    )
    found[root] = json.loads((workdir / 'results.json').read_text())['datasets']
  assert found[out] == found[files]
  assert found[out]['texts']['self']['all/map@100'] > 50


def test_files_that_changed_become_stores_again(files, tmp_path):
  out = tmp_path / 'stores'
  assert find_stores(files / 'old', out) == out
  before = (out / 'index/card.json').stat().st_mtime_ns
  find_stores(files / 'old', out)
  assert (out / 'index/card.json').stat().st_mtime_ns == before
  change(files, 'old', 'index', embeddings=np.ones((16, 6), np.float32))
  find_stores(files / 'old', out)
  assert (open_store(out / 'index').read() == 1).all()


def test_files_that_are_stores_already_are_found_while_another_run_looks(
  files, tmp_path
):
  out = tmp_path / 'stores' / 'old'
  find_stores(files / 'old', out)

  with (out.parent / '.old.lock').open('a') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert find_stores(files / 'old', out) == out
