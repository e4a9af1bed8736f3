import dataclasses
import fcntl
import hashlib
import json
import pathlib

import faiss
import numpy as np
import pytest

from advbct_jax.convert import faiss_export
from advbct_jax.convert.__main__ import main
from advbct_jax.embeddings.store import (
  EmbeddingStore,
  create_store,
  read_card,
  write_store,
)
from advbct_jax.retrieval import index_quality, service_index
from advbct_jax.retrieval.index import read_index
from tests.retrieval.small_sets import card_of

_COUNT, _WIDTH = 300, 4


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  """Few rounds, and no threads that wait for each other over tiny work."""
  monkeypatch.setattr(service_index, '_ROUNDS', 2)
  monkeypatch.setattr(index_quality, '_TIMED_ROUNDS', 1)
  threads = faiss.omp_get_max_threads()
  faiss.omp_set_num_threads(1)
  yield
  faiss.omp_set_num_threads(threads)


def _ids(count=_COUNT):
  return [str(1000 + 7 * row) for row in range(count)]


def _vectors(count=_COUNT, width=_WIDTH):
  rows = np.random.default_rng(0).normal(size=(count, width))
  return rows.astype(np.float32)


def _store(path, ids, vectors, **facts):
  card = card_of(ids, dimension=vectors.shape[1], chunk_rows=120, **facts)
  return write_store(path, card, ids, vectors)


@pytest.fixture
def gallery(tmp_path):
  return _store(tmp_path / 'gallery', _ids(), _vectors())


@pytest.fixture
def out(tmp_path):
  return tmp_path / 'service' / 'images.faiss'


def _export(gallery, out, *flags, kind='flat'):
  path = getattr(gallery, 'path', gallery)
  main(['to-faiss', str(path), str(out), f'--kind={kind}', *flags])


def _refusal(capsys, *arguments, **options):
  with pytest.raises(SystemExit) as stopped:
    _export(*arguments, **options)
  assert stopped.value.code == 2
  return capsys.readouterr().err


@pytest.mark.parametrize('kind', service_index.OPTIONS)
def test_plain_faiss_and_lines_of_ids_name_the_nearest_image(
  kind, gallery, out
):
  _export(gallery, out, kind=kind)

  names = out.with_suffix('.ids.txt').read_text().splitlines()
  assert names == _ids()
  index = faiss.read_index(str(out))
  assert isinstance(index, faiss.IndexIDMap2)
  rows = _vectors() / np.linalg.norm(_vectors(), axis=1, keepdims=True)
  found = index.search(rows, 10)[1]
  among_ten = (found == np.arange(_COUNT)[:, None]).any(axis=1)
  assert among_ten.mean() > 0.9


def test_the_card_says_who_filled_the_index(gallery, out):
  _export(gallery, out, '--noreport')
  card = read_card(out.with_suffix('.json'))
  assert card == dataclasses.replace(
    gallery.card, file_sha256=hashlib.sha256(out.read_bytes()).hexdigest()
  )


def test_ids_of_the_store_can_be_those_of_faiss(gallery, out):
  _export(gallery, out, '--integer_ids', '--lists=2', kind='ivf_flat')

  index = faiss.read_index(str(out))
  row = _vectors()[5:6] / np.linalg.norm(_vectors()[5])
  assert index.search(row, 1)[1].item() == 1035
  assert out.with_suffix('.ids.txt').read_text().splitlines() == _ids()


def test_flags_reach_the_index(gallery, out):
  flags = ('--lists=5', '--probes=3', '--bytes=2', '--noreport')
  _export(gallery, out, *flags, kind='ivf_pq')

  index = faiss.read_index(str(out))
  inverted = faiss.downcast_index(index.index)
  assert (inverted.nlist, inverted.nprobe) == (5, 3)
  assert inverted.pq.M == 2


def test_the_report_is_printed_and_saved(gallery, out, tmp_path, capsys):
  queries = _store(tmp_path / 'queries', _ids(20), _vectors(20)[:, ::-1])
  flags = ('--lists=5', '--probes=1', f'--queries={queries.path}')
  _export(gallery, out, *flags, kind='ivf_flat')

  report = json.loads(out.with_suffix('.report.json').read_text())
  assert (report['kind'], report['lists'], report['probes']) == (
    *('ivf_flat', 5, 1),
  )
  assert (report['vectors'], report['dimension']) == (_COUNT, _WIDTH)
  assert (report['queries'], report['asked_with']) == (20, str(queries.path))
  assert report['recall'].keys() == {'1', '10', '100'}
  assert 0 < report['recall']['100'] < 1
  assert report['bytes_a_vector'] == {
    'index': out.stat().st_size / _COUNT,
    'exact': 4 * _WIDTH,
  }
  many, single = report['speeds']
  assert (many['queries'], single['queries']) == (20, 1)
  assert many['exact']['median'] > 0
  printed = capsys.readouterr().out
  assert f'{out}: ivf_flat (5 lists, 1 probes), 300 × 4' in printed
  assert '20 at once on 1 thread, 1 at once on 1 thread' in printed
  share = f'{report["recall"]["100"]:.4f}'
  assert ['recall@100', share, '1.0000'] in [
    line.split() for line in printed.splitlines()
  ]


def test_without_a_report_no_old_one_is_left(gallery, out, capsys):
  _export(gallery, out)
  assert 'recall@1 ' in capsys.readouterr().out
  _export(gallery, out, '--noreport', kind='hnsw')

  assert 'recall' not in capsys.readouterr().out
  assert sorted(path.name for path in out.parent.iterdir()) == [
    'images.faiss',
    'images.ids.txt',
    'images.json',
  ]


def test_an_index_that_is_there_is_replaced(gallery, out, tmp_path):
  _export(gallery, out)
  _export(_store(tmp_path / 'few', _ids(9), _vectors(9)), out)

  assert faiss.read_index(str(out)).ntotal == 9
  assert json.loads(out.with_suffix('.json').read_text())['count'] == 9


def _stop_reading(monkeypatch):
  read = EmbeddingStore.chunks

  def stopped(self):
    yield next(read(self))
    raise KeyboardInterrupt

  monkeypatch.setattr(EmbeddingStore, 'chunks', stopped)


def _fail_writing(monkeypatch, error):
  def failing(index, path):
    pathlib.Path(path).write_bytes(b'half')
    raise error

  monkeypatch.setattr(faiss, 'write_index', failing)


def test_a_build_that_is_stopped_leaves_the_old_index_alone(
  gallery, out, monkeypatch
):
  _export(gallery, out)
  before = {path: path.read_bytes() for path in out.parent.iterdir()}
  _stop_reading(monkeypatch)
  with pytest.raises(SystemExit):
    _export(gallery, out, kind='hnsw')
  assert {p: p.read_bytes() for p in out.parent.iterdir()} == before


def test_a_first_build_that_is_stopped_leaves_nothing(
  gallery, out, monkeypatch
):
  _stop_reading(monkeypatch)
  with pytest.raises(SystemExit):
    _export(gallery, out)
  assert list(out.parent.iterdir()) == []


def test_writing_that_is_stopped_leaves_nothing(gallery, out, monkeypatch):
  _fail_writing(monkeypatch, KeyboardInterrupt)
  with pytest.raises(SystemExit):
    _export(gallery, out)
  assert list(out.parent.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_no_card(
  gallery, out, monkeypatch, capsys
):
  _export(gallery, out)
  _fail_writing(monkeypatch, RuntimeError('No space left on device'))
  message = _refusal(capsys, gallery, out)

  assert 'images.faiss: cannot be written (No space left' in message
  assert not out.with_suffix('.json').exists()
  assert not out.with_suffix('.report.json').exists()
  assert not list(out.parent.glob('*.unfinished'))


def test_a_place_that_cannot_be_is_said_before_building(
  gallery, tmp_path, monkeypatch, capsys
):
  (tmp_path / 'file').write_text('')
  monkeypatch.setattr(service_index, 'build_service_index', None)
  message = _refusal(capsys, gallery, tmp_path / 'file' / 'x.faiss')
  assert 'x.faiss: cannot be written' in message


def test_a_report_that_cannot_be_written_is_said(
  gallery, out, monkeypatch, capsys
):
  def failing(path, text):
    raise OSError('No space left')

  monkeypatch.setattr(faiss_export, 'write_text', failing)
  message = _refusal(capsys, gallery, out)
  assert 'images.report.json: cannot be written (No space left' in message


@pytest.mark.parametrize(
  'name', ['images.npy', 'images.npz', 'images.parquet', 'images.ids.txt']
)
def test_the_ids_and_card_of_other_vectors_are_left_alone(
  gallery, out, name, monkeypatch, capsys
):
  out.parent.mkdir()
  (out.parent / name).write_text('mine')
  monkeypatch.setattr(service_index, 'build_service_index', None)
  message = _refusal(capsys, gallery, out)
  assert f'{out}: {name} is there' in message
  assert 'Choose another name' in message
  assert [path.name for path in out.parent.iterdir()] == [name]


@pytest.mark.parametrize('kind', service_index.OPTIONS)
def test_the_compatible_part_alone_can_be_exported(kind, tmp_path, out):
  narrow = _vectors()
  wide = _store(
    tmp_path / 'wide',
    _ids(),
    np.hstack([narrow, 9 * _vectors(width=3)]),
    compatible_dimension=_WIDTH,
  )
  old = _store(tmp_path / 'old', _ids(20), narrow[:20])
  _export(wide, out, '--compatible', f'--queries={old.path}', kind=kind)

  index = faiss.read_index(str(out))
  assert index.d == _WIDTH
  rows = narrow / np.linalg.norm(narrow, axis=1, keepdims=True)
  scores, found = index.search(rows, 1)
  if kind in ('flat', 'hnsw'):
    assert (found[:, 0] == np.arange(_COUNT)).all()
    np.testing.assert_allclose(scores, 1, atol=1e-5)
  card = read_card(out.with_suffix('.json'))
  narrowed = dataclasses.replace(
    wide.card, dimension=_WIDTH, compatible_dimension=0
  )
  assert card.differences(narrowed) == []
  report = json.loads(out.with_suffix('.report.json').read_text())
  assert report['dimension'] == _WIDTH
  if kind == 'flat':
    assert report['recall'] == {'1': 1, '10': 1, '100': 1}


def test_a_store_without_a_compatible_part_has_none_to_export(
  gallery, out, capsys
):
  message = _refusal(capsys, gallery, out, '--compatible')
  assert f'--compatible: {gallery.path} has vectors of width 4' in message
  assert not out.parent.exists()


@pytest.mark.parametrize(
  ('kind', 'flags', 'message'),
  [
    ('flat', ['--lists=3'], '--lists: belongs to ivf_flat and ivf_pq'),
    ('ivf_pq', ['--bytes=3'], '--bytes: found 3, wanted a divisor'),
    ('hnsw', ['--integer_ids'], "found the id 'b' in row 1"),
    ('flat', ['--queries=nowhere'], 'nowhere: no embedding store here'),
  ],
)
def test_what_does_not_do_is_refused(
  kind, flags, message, tmp_path, out, capsys
):
  ids = ['7', 'b', *_ids(298)]
  gallery = _store(tmp_path / 'named', ids, _vectors())
  assert message in _refusal(capsys, gallery, out, *flags, kind=kind)
  assert not out.parent.exists()


def test_queries_of_another_width_are_refused_before_building(
  gallery, tmp_path, out, capsys
):
  queries = _store(tmp_path / 'queries', _ids(5), _vectors(5, width=6))
  message = _refusal(capsys, gallery, out, f'--queries={queries.path}')
  assert 'queries of width 6' in message
  assert not out.parent.exists()


@pytest.mark.parametrize('name', ['images', 'images.index'])
def test_another_suffix_is_refused(gallery, out, name, capsys):
  message = _refusal(capsys, gallery, out.with_name(name))
  assert "wanted '.faiss'" in message


def test_a_store_that_is_missing_or_incomplete_is_refused(
  tmp_path, out, capsys
):
  card = card_of(_ids(), dimension=_WIDTH, chunk_rows=120, complete=False)
  store = create_store(tmp_path / 'half', card, _ids())
  store.write_chunk(0, _vectors()[:120])

  assert 'incomplete (2 of 3 chunks' in _refusal(capsys, store, out)
  message = _refusal(capsys, tmp_path / 'nowhere', out)
  assert 'no embedding store here' in message


def test_a_name_that_another_process_builds_under_is_refused(
  gallery, out, capsys
):
  out.parent.mkdir()
  with (out.parent / f'.{out.name}.lock').open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert 'another process is at it' in _refusal(capsys, gallery, out)
  assert not out.exists()
  _export(gallery, out)
  assert out.exists()


def test_ids_with_any_ends_of_lines_but_line_feeds_are_kept(tmp_path, out):
  ids = ['a\x85b', 'c\u2028', 'd\re', 'f\r', '\x1cg', 'π', ' ']
  gallery = _store(tmp_path / 'odd', ids, _vectors(len(ids)))
  _export(gallery, out, '--noreport')
  assert read_index(out.parent, out.stem, gallery.card)[1] == ids
