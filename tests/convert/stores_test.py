import dataclasses
import fcntl
import json
import os
import shlex

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from advbct_jax.convert import vector_rows
from advbct_jax.convert.__main__ import main
from advbct_jax.convert.stores import store_to_files, vectors_to_store
from advbct_jax.convert.vector_columns import VectorColumns
from advbct_jax.convert.vector_files import open_vectors
from advbct_jax.data.images import digest_ids
from advbct_jax.embeddings.store import (
  Card,
  EmbeddingStore,
  open_store,
  write_store,
)
from advbct_jax.errors import InputError

N, D = 10, 3
VECTORS = np.random.default_rng(0).standard_normal((N, D), np.float32)
IDS = [f'image {row}' for row in range(N)]
LABELS = ['cat', '', 'dog', *[''] * 6, 'cat']


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
  """Four rows a chunk."""
  monkeypatch.setattr(vector_rows, '_CHUNK_VALUES', 4 * D)


def write(path, vectors=VECTORS, ids=IDS, labels=None):
  """Writes NAME.npy, and what is given beside it."""
  np.save(path, vectors)
  for what, lines in (('ids', ids), ('labels', labels)):
    if lines is not None:
      text = ''.join(f'{line}\n' for line in lines)
      path.with_suffix(f'.{what}.txt').write_text(text)
  return path


def write_lines(path, lines):
  path.write_text(''.join(f'{line}\n' for line in lines))
  return path


def fill(path, *vectors, **options):
  return vectors_to_store(vectors, path, **{'encoder': 'theirs'} | options)


def refused(path, *vectors, **options):
  """The message of a refusal that leaves nothing behind."""
  before = sorted(path.parent.iterdir())
  with pytest.raises(InputError) as refusal:
    fill(path, *vectors, **options)
  assert sorted(path.parent.iterdir()) == before
  return str(refusal.value)


def test_vectors_become_a_store_with_a_card(tmp_path):
  vectors = write(tmp_path / 'v.npy', labels=LABELS)
  filled = fill(tmp_path / 'deep' / 'store', vectors)
  store = open_store(tmp_path / 'deep' / 'store')
  assert filled.store.card == store.card
  assert store.card == Card(
    encoder='theirs',
    weights='unversioned',
    dimension=D,
    preprocessing='unknown',
    images='store',
    ids_digest=digest_ids(IDS),
    count=N,
    labels_digest=digest_ids(LABELS),
    chunk_rows=4,
    complete=True,
  )
  assert (store.ids(), store.labels()) == (IDS, LABELS)
  np.testing.assert_array_equal(store.read(), VECTORS)
  assert (filled.labelled, filled.classes, filled.lengths.zeros) == (3, 2, 0)
  # Nothing of the way there is left.
  assert sorted(p.name for p in store.path.iterdir()) == [
    'card.json',
    'chunks',
    'ids.txt',
    'labels.txt',
  ]
  assert [p.name for p in store.path.parent.iterdir()] == ['store']


def test_shards_are_taken_in_the_order_given(tmp_path):
  second = write(tmp_path / 'a.npy', VECTORS[5:], IDS[5:], LABELS[5:])
  first = tmp_path / 'b.npz'
  np.savez(first, vectors=VECTORS[:5], ids=IDS[:5], labels=LABELS[:5])
  fill(tmp_path / 'store', first, second)
  store = open_store(tmp_path / 'store')
  assert (store.ids(), store.labels()) == (IDS, LABELS)
  np.testing.assert_array_equal(store.read(), VECTORS)


def test_what_the_user_says_is_on_the_card(tmp_path):
  said = {'encoder': 'e', 'images': 'i', 'preprocessing': 'p'}
  vectors = write(tmp_path / 'v.npy')
  card = fill(tmp_path / 'store', vectors, version='v', **said).store.card
  assert dataclasses.asdict(card) | said | {'weights': 'v'} == (
    dataclasses.asdict(card)
  )


@pytest.mark.parametrize('suffix', ['.txt', '.npy', '.csv'])
def test_ids_may_be_in_a_file_of_their_own(tmp_path, suffix):
  ids = tmp_path / f'names{suffix}'
  match suffix:
    case '.txt':
      write_lines(ids, IDS)
    case '.npy':
      np.save(ids, IDS)
    case '.csv':
      write_lines(ids, ['number,id', *(f'1,{name}' for name in IDS)])
  fill(tmp_path / 'store', write(tmp_path / 'v.npy', ids=None), ids=ids)
  assert open_store(tmp_path / 'store').ids() == IDS


@pytest.mark.parametrize('suffix', ['.txt', '.npy', '.csv'])
def test_labels_may_be_in_a_file_of_their_own(tmp_path, suffix):
  labels = tmp_path / f'classes{suffix}'
  match suffix:
    case '.txt':
      write_lines(labels, LABELS)
    case '.npy':
      np.save(labels, LABELS)
    case '.csv':
      # In any order, and without those of no class.
      known = ['image 9,cat', 'image 2,dog', 'image 0,cat']
      write_lines(labels, ['id,label', *known, 'image 3,', 'image 4,-1'])
  fill(tmp_path / 'store', write(tmp_path / 'v.npy'), labels=labels)
  assert open_store(tmp_path / 'store').labels() == LABELS


def test_vectors_without_labels_become_a_store_without(tmp_path):
  fill(tmp_path / 'store', write(tmp_path / 'v.npy'))
  assert open_store(tmp_path / 'store').labels() is None


@pytest.mark.parametrize('value', [np.nan, np.inf, 1e300])
def test_a_vector_that_is_not_finite_is_refused_with_its_row_and_id(
  tmp_path, value
):
  first = write(tmp_path / 'a.npy', VECTORS[:4], IDS[:4])
  wrong = VECTORS[4:].astype(np.float64)
  wrong[3, 1] = value
  second = write(tmp_path / 'b.npy', wrong, IDS[4:])
  message = refused(tmp_path / 'store', first, second)
  assert message.startswith(
    f"{second}, row 3: the vector of image 'image 7' is not finite"
  )


@pytest.mark.parametrize(
  ('ids', 'found'),
  [
    (['a', 'b', *IDS[2:-1], 'b'], "v.npy, row 9: the id 'b' is also that of"),
    (['', *IDS[1:]], 'v.npy, row 0: the id is empty'),
    (IDS[:-1], 'found 9 ids for 10 vectors'),
    ([*IDS, 'x'], 'found 11 ids for 10 vectors'),
    (None, 'v.npy: no ids with it'),
  ],
  ids=['twice', 'empty', 'one less', 'one more', 'none'],
)
def test_unusable_ids_are_refused(tmp_path, ids, found):
  vectors = write(tmp_path / 'v.npy', ids=ids)
  assert found in refused(tmp_path / 'store', vectors)


def test_an_id_in_two_shards_is_refused_with_both_places(tmp_path):
  first = write(tmp_path / 'a.npy', VECTORS[:4], IDS[:4])
  second = write(tmp_path / 'b.npy', VECTORS[4:], [*IDS[4:9], IDS[1]])
  assert (
    f'{second}, row 5: the id {IDS[1]!r} is also that of {first}, row 1'
    in (refused(tmp_path / 'store', first, second))
  )


@pytest.mark.parametrize('bad', ['a\nb', '\ud800'])
@pytest.mark.parametrize('what', ['ids', 'labels'])
def test_a_text_that_is_not_one_line_is_refused(tmp_path, what, bad):
  texts = {'ids': IDS, 'labels': LABELS} | {what: [*IDS[:9], 'x']}
  texts[what][3] = bad
  vectors = tmp_path / 'v.npz'
  np.savez(vectors, embeddings=VECTORS, **texts)
  assert f'v.npz, row 3: the {what[:-1]} ' in refused(
    tmp_path / 'store', vectors
  )


def test_a_text_file_that_is_not_utf_8_is_refused(tmp_path):
  vectors = write(tmp_path / 'v.npy')
  (tmp_path / 'v.ids.txt').write_bytes('é\n'.encode('latin-1') * N)
  message = refused(tmp_path / 'store', vectors)
  assert message.startswith(f'{tmp_path / "v.ids.txt"}: cannot be read')


def test_another_order_of_ids_is_refused_with_the_first_difference(tmp_path):
  vectors = tmp_path / 'v.npz'
  np.savez(vectors, embeddings=VECTORS, ids=IDS)
  swapped = [*IDS[:6], IDS[7], IDS[6], *IDS[8:]]
  ids = write_lines(tmp_path / 'names.txt', swapped)
  message = refused(tmp_path / 'store', vectors, ids=ids)
  assert message.startswith(f'{ids}: another order of ids')
  assert f"{vectors}, row 6 is 'image 6', here it is 'image 7'" in message

  write_lines(ids, [*IDS[:9], 'x'])
  message = refused(tmp_path / 'store', vectors, ids=ids)
  assert message.startswith(f'{ids}: other ids')

  write_lines(ids, IDS)
  fill(tmp_path / 'store', vectors, ids=ids)


def test_another_width_is_refused_with_both_files(tmp_path):
  first = write(tmp_path / 'a.npy')
  second = write(tmp_path / 'b.npy', VECTORS[:, :2])
  assert f'{second}: found vectors of width 2, but those of {first} have 3' in (
    refused(tmp_path / 'store', first, second)
  )


@pytest.mark.parametrize(
  ('lines', 'found'),
  [
    (['id,label', 'image 3,a', 'image x,b'], "line 3: the id 'image x'"),
    (['id,label', 'image 3,a', 'image 3,b'], 'comes a second time'),
    (['id,class', 'image 3,a'], 'wanted id,label'),
  ],
)
def test_a_table_of_labels_that_does_not_belong_is_refused(
  tmp_path, lines, found
):
  labels = write_lines(tmp_path / 'classes.csv', lines)
  message = refused(
    tmp_path / 'store', write(tmp_path / 'v.npy'), labels=labels
  )
  assert message.startswith(str(labels))
  assert found in message


def test_labels_with_one_of_two_shards_are_refused(tmp_path):
  first = write(tmp_path / 'a.npy', VECTORS[:4], IDS[:4])
  second = write(tmp_path / 'b.npy', VECTORS[4:], IDS[4:], LABELS[4:])
  message = refused(tmp_path / 'store', first, second)
  assert message.startswith(f'{first}: no labels with it')


def test_an_unnamed_encoder_is_refused(tmp_path):
  vectors = write(tmp_path / 'v.npy')
  assert 'Name it by --encoder' in refused(
    tmp_path / 'store', vectors, encoder=None
  )


def test_a_store_that_is_there_is_left_alone(tmp_path):
  vectors = write(tmp_path / 'v.npy')
  fill(tmp_path / 'store', vectors)
  assert 'is there already' in refused(tmp_path / 'store', vectors)
  open_store(tmp_path / 'store')


@pytest.fixture
def written(monkeypatch):
  """The numbers of the chunks that are written; a kill may be planned."""
  chunks = []
  write_chunk = EmbeddingStore.write_chunk

  def write_or_die(store, chunk, embeddings):
    if chunk == written.killed_at:
      raise KeyboardInterrupt
    chunks.append(chunk)
    write_chunk(store, chunk, embeddings)

  monkeypatch.setattr(EmbeddingStore, 'write_chunk', write_or_die)
  written.killed_at = None
  written.chunks = chunks
  return written


def kill(written, chunk, path, *vectors, **options):
  written.killed_at = chunk
  with pytest.raises(KeyboardInterrupt):
    fill(path, *vectors, **options)
  written.killed_at = None
  written.chunks.clear()
  # Only the unfinished store is there.
  assert not path.exists()
  assert path.with_name(f'{path.name}.unfinished').exists()


def test_a_killed_command_goes_on_at_the_first_missing_chunk(tmp_path, written):
  rows = VECTORS.copy()
  rows[[1, 9]] = 0
  shards = [
    write(tmp_path / 'a.npy', rows[:7], IDS[:7]),
    write(tmp_path / 'b.npy', rows[7:], IDS[7:]),
  ]
  kill(written, 1, tmp_path / 'store', *shards)
  filled = fill(tmp_path / 'store', *shards)
  assert written.chunks == [1, 2]
  # One was counted before the kill.
  assert filled.lengths.zeros == 2
  np.testing.assert_array_equal(open_store(tmp_path / 'store').read(), rows)
  assert not (tmp_path / 'store.unfinished').exists()


@pytest.mark.parametrize('change', ['vectors', 'ids', 'version'])
def test_a_killed_command_starts_over_with_other_inputs(
  tmp_path, written, change
):
  vectors = write(tmp_path / 'v.npy')
  kill(written, 2, tmp_path / 'store', vectors)
  rows, ids, options = VECTORS, IDS, {}
  match change:
    case 'vectors':
      rows = -VECTORS
      write(vectors, rows)
      os.utime(vectors, ns=(1, 1))
    case 'ids':
      ids = [f'other {row}' for row in range(N)]
      write_lines(tmp_path / 'v.ids.txt', ids)
    case 'version':
      options = {'version': '2'}
  fill(tmp_path / 'store', vectors, **options)
  assert written.chunks == [0, 1, 2]
  store = open_store(tmp_path / 'store')
  assert store.ids() == ids
  np.testing.assert_array_equal(store.read(), rows)


def test_refused_vectors_take_the_unfinished_store_away(tmp_path, written):
  rows = VECTORS.copy()
  rows[9] = np.nan
  vectors = write(tmp_path / 'v.npy', rows)
  kill(written, 1, tmp_path / 'store', vectors)
  with pytest.raises(InputError, match='not finite'):
    fill(tmp_path / 'store', vectors)
  assert not (tmp_path / 'store.unfinished').exists()


def test_a_mistyped_flag_leaves_what_a_killed_command_has_stored(
  tmp_path, written
):
  vectors = write(tmp_path / 'v.npy')
  kill(written, 2, tmp_path / 'store', vectors)
  with pytest.raises(InputError, match='no such file'):
    fill(tmp_path / 'store', vectors, ids=tmp_path / 'typo.txt')
  fill(tmp_path / 'store', vectors)
  assert written.chunks == [2]


@pytest.mark.parametrize('content', ['file', 'folder', None])
def test_what_somebody_else_has_under_the_unfinished_name_is_left_alone(
  tmp_path, content
):
  unfinished = tmp_path / 'store.unfinished'
  if content != 'file':
    unfinished.mkdir()
  theirs = {'file': unfinished, 'folder': unfinished / 'theirs'}.get(content)
  if theirs is None:  # An empty folder is nobody's.
    fill(tmp_path / 'store', write(tmp_path / 'v.npy'))
    return
  theirs.write_text('mine')
  message = refused(tmp_path / 'store', write(tmp_path / 'v.npy'))
  assert message.startswith(f'{unfinished}: is there already')
  assert theirs.read_text() == 'mine'


@pytest.mark.parametrize(
  'error', [OSError('No space left'), ValueError('No space left')]
)
def test_a_full_disk_is_said_and_the_same_command_goes_on(
  tmp_path, monkeypatch, written, error
):
  vectors = write(tmp_path / 'v.npy')
  write_chunk = EmbeddingStore.write_chunk

  def write_or_fail(store, chunk, embeddings):
    if chunk == 1:
      raise error
    write_chunk(store, chunk, embeddings)

  with monkeypatch.context() as full:
    full.setattr(EmbeddingStore, 'write_chunk', write_or_fail)
    with pytest.raises(InputError, match=r'No space left.*Make room and run'):
      fill(tmp_path / 'store', vectors)
  assert written.chunks == [0]
  fill(tmp_path / 'store', vectors)
  assert written.chunks == [0, 1, 2]


def test_a_folder_that_is_a_file_is_refused(tmp_path):
  (tmp_path / 'file').write_text('')
  vectors = write(tmp_path / 'v.npy')
  with pytest.raises(InputError, match='file/store: cannot be written'):
    fill(tmp_path / 'file' / 'store', vectors)
  fill(tmp_path / 'store', vectors)
  with pytest.raises(InputError, match=r'file/v\.npy: cannot be written'):
    store_to_files(tmp_path / 'store', tmp_path / 'file' / 'v.npy')


CARD = Card(
  encoder='resnet18',
  weights='ab12',
  dimension=D,
  preprocessing='squashed',
  images='gldv2-train',
  ids_digest=digest_ids(IDS),
  count=N,
  cropped=True,
  upright=True,
  compatible_dimension=2,
  labels_digest=digest_ids(LABELS),
  chunk_rows=4,
)


@pytest.fixture
def store(tmp_path):
  return write_store(tmp_path / 'from', CARD, IDS, VECTORS, LABELS).path


@pytest.mark.parametrize('suffix', ['.npy', '.npz', '.parquet'])
def test_a_store_and_its_files_are_the_same_there_and_back(
  tmp_path, store, suffix
):
  out = tmp_path / 'deep' / f'v{suffix}'
  files = store_to_files(store, out)
  assert sorted(files) == sorted(out.parent.iterdir())
  fill(tmp_path / 'to', out, encoder=None)
  back = open_store(tmp_path / 'to')
  assert back.card == dataclasses.replace(CARD, complete=True)
  assert (back.ids(), back.labels()) == (IDS, LABELS)
  np.testing.assert_array_equal(back.read(), VECTORS)


def test_a_store_without_labels_has_none_there_and_back(tmp_path):
  card = dataclasses.replace(CARD, labels_digest=None)
  write_store(tmp_path / 'from', card, IDS, VECTORS)
  store_to_files(tmp_path / 'from', tmp_path / 'v.npy')
  assert not (tmp_path / 'v.labels.txt').exists()
  assert fill(tmp_path / 'to', tmp_path / 'v.npy').store.labels() is None


def test_what_the_user_says_goes_before_the_card_beside(tmp_path, store):
  store_to_files(store, tmp_path / 'v.npy')
  card = fill(tmp_path / 'to', tmp_path / 'v.npy', images='mine').store.card
  assert (card.encoder, card.images, card.weights) == ('theirs', 'mine', 'ab12')


@pytest.mark.parametrize(
  ('what', 'texts'),
  [('ids', IDS[::-1]), ('labels', ['dog', *LABELS[1:]])],
)
def test_what_is_not_as_the_card_beside_says_is_refused(
  tmp_path, store, what, texts
):
  store_to_files(store, tmp_path / 'v.npy')
  write_lines(tmp_path / f'v.{what}.txt', texts)
  message = refused(tmp_path / 'to', tmp_path / 'v.npy')
  assert f'v.npy: found {what}_digest' in message


def test_shards_with_cards_of_two_encoders_are_refused(tmp_path, store):
  store_to_files(store, tmp_path / 'a.npz')
  ids = [f'more {row}' for row in range(N)]
  card = dataclasses.replace(
    CARD, weights='cd34', ids_digest=digest_ids(ids), labels_digest=None
  )
  write_store(tmp_path / 'other', card, ids, VECTORS)
  store_to_files(tmp_path / 'other', tmp_path / 'b.npz')
  labels = write_lines(tmp_path / 'l.txt', LABELS + LABELS)
  shards = tmp_path / 'a.npz', tmp_path / 'b.npz'
  message = refused(tmp_path / 'to', *shards, labels=labels)
  assert "found weights 'cd34', but the vectors before have 'ab12'" in message


@pytest.mark.parametrize('said', [{}, {'images': 'mine'}])
def test_shards_of_several_image_sets_become_one(tmp_path, said):
  paths = []
  for name, rows in (('train', slice(6)), ('index', slice(6, N))):
    card = dataclasses.replace(
      CARD,
      images=name,
      ids_digest=digest_ids(IDS[rows]),
      count=len(IDS[rows]),
      labels_digest=None,
    )
    write_store(tmp_path / name, card, IDS[rows], VECTORS[rows])
    paths.append(tmp_path / f'{name}.npy')
    store_to_files(tmp_path / name, paths[-1])
  card = fill(tmp_path / 'all', *paths, encoder=None, **said).store.card
  assert (card.images, card.encoder) == (said.get('images', 'all'), 'resnet18')


@pytest.mark.parametrize(
  'damage',
  [
    lambda text: text[: len(text) // 2],
    lambda text: text.replace('"cropped"', '"shape"'),
  ],
  ids=['truncated', 'newer'],
)
def test_an_unusable_card_is_refused(tmp_path, store, damage):
  store_to_files(store, tmp_path / 'v.npy')
  card = tmp_path / 'v.json'
  card.write_text(damage(card.read_text()))
  message = refused(tmp_path / 'to', tmp_path / 'v.npy')
  assert message.startswith(f'{card}: cannot be read as the card of v.npy')


def test_a_folder_in_the_place_of_a_card_is_refused(tmp_path):
  (tmp_path / 'v.json').mkdir()
  message = refused(tmp_path / 'store', write(tmp_path / 'v.npy'))
  assert message.startswith(f'{tmp_path / "v.json"}: cannot be read')


def test_approximated_vectors_are_of_other_weights(tmp_path):
  card = dataclasses.asdict(dataclasses.replace(CARD, labels_digest=None))
  index = faiss.index_factory(D, 'SQ8')
  index.train(VECTORS)
  index.add(VECTORS)
  faiss.write_index(index, str(tmp_path / 'v.faiss'))
  write_lines(tmp_path / 'v.ids.txt', IDS)
  (tmp_path / 'v.json').write_text(json.dumps(card))
  rough = fill(
    tmp_path / 'rough', tmp_path / 'v.faiss', encoder=None, metric='cosine'
  ).store
  assert rough.card.weights == 'ab12 (approximated)'
  # Also after they went through another file.
  store_to_files(rough.path, tmp_path / 'w.npy')
  again = fill(tmp_path / 'again', tmp_path / 'w.npy', encoder=None).store
  assert again.card.weights == 'ab12 (approximated)'


def test_a_json_file_that_is_no_card_is_somebodys_own(tmp_path):
  (tmp_path / 'v.json').write_text(json.dumps({'encoder': 'x'}))
  vectors = write(tmp_path / 'v.npy')
  assert fill(tmp_path / 'store', vectors).store.card.encoder == 'theirs'


@pytest.mark.parametrize('name', ['v.npy', 'v.ids.txt', 'v.json'])
def test_files_that_are_there_are_left_alone(tmp_path, store, name):
  (tmp_path / name).write_text('mine')
  with pytest.raises(InputError, match=f'{name}: is there already'):
    store_to_files(store, tmp_path / 'v.npy')
  assert (tmp_path / name).read_text() == 'mine'
  assert sorted(tmp_path.iterdir()) == sorted([store, tmp_path / name])


@pytest.mark.parametrize('suffix', ['.npy', '.npz', '.parquet'])
def test_a_damaged_store_leaves_no_file(tmp_path, store, suffix):
  for file in (store / 'chunks' / '000001').rglob('d/*'):
    file.write_bytes(b'')
  with pytest.raises(InputError, match='cannot read this chunk'):
    store_to_files(store, tmp_path / f'v{suffix}')
  assert list(tmp_path.iterdir()) == [store]


def test_an_unknown_suffix_is_refused(tmp_path, store):
  with pytest.raises(InputError, match=r'wanted \.npy, \.npz, \.parquet'):
    store_to_files(store, tmp_path / 'v.pkl')


def test_the_commands_say_what_was_made(tmp_path, capsys):
  index = faiss.index_factory(D, 'SQ8')
  index.train(VECTORS)
  rows = VECTORS.copy()
  rows[3] = 0
  index.add(rows)
  vectors = tmp_path / 'v.faiss'
  faiss.write_index(index, str(vectors))
  write_lines(tmp_path / 'v.ids.txt', IDS)
  labels = write_lines(tmp_path / 'l.txt', LABELS)
  store = tmp_path / 'store'
  main(
    [
      'to-store',
      str(vectors),
      str(store),
      '--encoder=theirs',
      '--version=7',
      '--metric=cosine',
      f'--labels={labels}',
    ]
  )
  said = capsys.readouterr().out
  assert (
    f'{store}: 10 vectors of width 3 of theirs (7 (approximated)), ' in said
  )
  assert '3 images have one of 2 classes' in said
  assert f'{vectors}: the index does not keep the vectors as they were' in said
  assert f'--config.old.path={store}' in said

  main(['from-store', str(store), str(tmp_path / 'w.npz')])
  assert 'w.npz; beside it w.json' in capsys.readouterr().out
  assert open_vectors(tmp_path / 'w.npz').labels() == LABELS


def test_zero_vectors_are_counted_aloud(tmp_path, capsys):
  rows = VECTORS.copy()
  rows[[3, 8]] = 0
  write(tmp_path / 'v.npy', rows)
  main(
    ['to-store', str(tmp_path / 'v.npy'), str(tmp_path / 's'), '--encoder=e']
  )
  said = capsys.readouterr().out
  assert '2 vectors are all zero' in said
  assert 'no labels' in said


def test_a_refusal_ends_the_command_with_status_2(tmp_path, capsys):
  with pytest.raises(SystemExit) as end:
    main(['to-store', str(tmp_path / 'v.npy'), str(tmp_path / 'store')])
  assert end.value.code == 2
  assert f'error: {tmp_path / "v.npy"}: no such file' in capsys.readouterr().err


def test_any_text_but_a_line_feed_is_kept_as_an_id_there_and_back(tmp_path):
  ids = ['a\x85b', 'c\u2028', 'd\re', 'f\r', '\ufeffg', '\x1ch', ' ', *IDS[7:]]
  np.savez(tmp_path / 'v.npz', embeddings=VECTORS, ids=ids)
  fill(tmp_path / 'store', tmp_path / 'v.npz')
  assert open_store(tmp_path / 'store').ids() == ids
  for suffix in ('.npy', '.npz', '.parquet'):
    store_to_files(tmp_path / 'store', tmp_path / f'w{suffix}')
    fill(tmp_path / suffix, tmp_path / f'w{suffix}', encoder=None)
    assert open_store(tmp_path / suffix).ids() == ids
    (tmp_path / 'w.json').unlink()


@pytest.mark.parametrize(
  'content', ['\ufeffid{}\r\n', '\ufeffid{}\n', 'id{}\r\n', 'id{}\n']
)
@pytest.mark.parametrize('place', ['given', 'beside'])
def test_ids_of_any_editor_are_taken(tmp_path, content, place):
  text = ''.join(content.format(row) for row in range(N))
  text = text[0] + text[1:].replace('\ufeff', '')
  vectors = write(tmp_path / 'v.npy', ids=None)
  name = 'ids.txt' if place == 'given' else 'v.ids.txt'
  (tmp_path / name).write_bytes(text.encode())
  ids = tmp_path / name if place == 'given' else None
  store = fill(tmp_path / 'store', vectors, ids=ids).store
  assert store.ids() == [f'id{row}' for row in range(N)]


MISSING = ['nan', 'NaN', 'None', '<NA>', '-1', '-1.0', '', ' ', 'null', 'N/A']


@pytest.mark.parametrize('missing', MISSING)
@pytest.mark.parametrize('form', ['txt', 'npy', 'csv', 'npz', 'parquet'])
def test_a_missing_label_is_no_class_however_it_is_spelt(
  tmp_path, missing, form
):
  labels = ['3', missing, '5', *[missing] * 5, '3', '5']
  vectors, given = write(tmp_path / 'v.npy'), tmp_path / f'l.{form}'
  match form:
    case 'txt':
      write_lines(given, labels)
    case 'npy':
      np.save(given, np.array(labels))
    case 'csv':
      write_lines(
        given,
        [
          'id,label',
          *(f'{i},{one}' for i, one in zip(IDS, labels, strict=True)),
        ],
      )
    case 'npz':
      vectors, given = tmp_path / 'w.npz', None
      np.savez(vectors, embeddings=VECTORS, ids=IDS, labels=labels)
    case 'parquet':
      vectors, given = tmp_path / 'w.parquet', None
      table = {'id': IDS, 'embedding': list(VECTORS), 'label': labels}
      pq.write_table(pa.table(table), vectors)
  filled = fill(tmp_path / 'store', vectors, labels=given)
  wanted = ['3', '', '5', *[''] * 5, '3', '5']
  assert filled.store.labels() == wanted
  assert (filled.labelled, filled.classes) == (4, 2)
  # Cells of a table are stripped before anybody looks at them.
  found = missing.strip() if form == 'csv' else missing
  assert filled.missing == {found: 6}


@pytest.mark.parametrize(
  'labels',
  [
    np.array([3, 3, np.nan, np.nan, 5, 5, -1, -1, 3, 5]),
    np.array([3, 3, np.nan, np.nan, 5, 5, -1, -1, 3, 5]).astype(str),
    np.array(['3', '3.0', '', 'nan', ' 5', '5 ', '-1', '-1.0', '3.', '5.00']),
    np.array([3, 3, -1, -1, 5, 5, -1, -1, 3, 5], np.int32),
    np.array([3, 3, -1, -1, 5, 5, -1, -1, 3, 5], np.float16),
  ],
  ids=lambda labels: str(labels.dtype),
)
def test_numbers_of_any_spelling_are_one_class(tmp_path, labels):
  np.save(tmp_path / 'l.npy', labels)
  filled = fill(
    tmp_path / 'store', write(tmp_path / 'v.npy'), labels=tmp_path / 'l.npy'
  )
  assert filled.store.labels() == [
    '3',
    '3',
    *['', ''],
    '5',
    '5',
    *['', '', '3'],
    '5',
  ]


def test_a_space_or_another_form_of_a_letter_makes_no_second_class(tmp_path):
  labels = ['class0', ' class0', 'class0 ', '\tclass0', 'class0\xa0']
  labels += ['caf\xe9', 'cafe\u0301', 'a  b', 'a b', ' a b']
  given = write_lines(tmp_path / 'l.txt', labels)
  filled = fill(tmp_path / 'store', write(tmp_path / 'v.npy'), labels=given)
  assert filled.store.labels() == (
    ['class0'] * 5 + ['caf\xe9'] * 2 + ['a b'] * 3
  )
  assert filled.respelt[' class0'] == 'class0'
  assert len(filled.respelt) == 7


def parts(folder, names):
  """Vectors in files of one row each, without ids."""
  folder.mkdir(exist_ok=True)
  for row, name in enumerate(names):
    (folder / name).parent.mkdir(exist_ok=True)
    np.save(folder / name, VECTORS[row : row + 1])
  return [folder / name for name in names]


@pytest.mark.parametrize(
  'names',
  [
    ['emb_0.npy', 'emb_1.npy', 'emb_10.npy', 'emb_2.npy'],
    ['10/v.npy', '9/v.npy'],
    ['p1_s10.npy', 'p1_s9.npy'],
    ['a2.npy', 'b1.npy', 'a1.npy'],
    ['emb-2.npy', 'emb-1.npy'],
  ],
  ids=' '.join,
)
@pytest.mark.parametrize('what', ['ids', 'labels'])
def test_numbered_files_in_another_order_are_refused_unless_told(
  tmp_path, names, what
):
  files = parts(tmp_path / 'parts', names)
  options = {}
  if what == 'labels':
    for file, name in zip(files, IDS, strict=False):
      write_lines(file.with_suffix('.ids.txt'), [name])
  else:
    options['ids'] = write_lines(tmp_path / 'ids.txt', IDS[: len(names)])
  if what == 'labels':
    options['labels'] = write_lines(tmp_path / 'l.txt', LABELS[: len(names)])
  said = refused(tmp_path / 'store', *files, **options)
  assert 'its number is lower, but it comes after' in said
  assert '--keep_order' in said
  fill(tmp_path / 'store', *files, **options, keep_order=True)
  np.testing.assert_array_equal(
    open_store(tmp_path / 'store').read(), VECTORS[: len(names)]
  )


@pytest.mark.parametrize(
  'names',
  [
    ['emb_0.npy', 'emb_1.npy', 'emb_2.npy', 'emb_10.npy'],
    ['emb_000.npy', 'emb_001.npy', 'emb_010.npy'],
    ['train_3.npy', 'test_1.npy', 'test_2.npy'],
    ['b.npy', 'a.npy'],
  ],
  ids=' '.join,
)
def test_files_in_the_order_of_their_numbers_are_taken(tmp_path, names, capsys):
  files = parts(tmp_path / 'parts', names)
  ids = write_lines(tmp_path / 'ids.txt', IDS[: len(names)])
  filled = fill(tmp_path / 'store', *files, ids=ids)
  assert filled.spans == [
    (file, name, name) for file, name in zip(files, IDS, strict=False)
  ]


def test_numbered_files_with_ids_of_their_own_may_be_in_any_order(tmp_path):
  files = parts(tmp_path / 'parts', ['emb_10.npy', 'emb_2.npy'])
  for file, name in zip(files, IDS, strict=False):
    write_lines(file.with_suffix('.ids.txt'), [name])
  labels = write_lines(tmp_path / 'l.csv', ['id,label', f'{IDS[1]},x'])
  store = fill(tmp_path / 'store', *files, labels=labels).store
  assert store.labels() == ['', 'x']


def index_of(path, vectors, metric, factory='Flat'):
  index = faiss.index_factory(D, factory, metric)
  index.train(vectors)
  index.add(vectors)
  faiss.write_index(index, str(path))
  write_lines(path.with_suffix('.ids.txt'), IDS[: len(vectors)])
  return path


UNIT = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)


@pytest.mark.parametrize(
  ('metric', 'name'),
  [
    (faiss.METRIC_L2, 'l2'),
    (faiss.METRIC_INNER_PRODUCT, 'inner_product'),
    (faiss.METRIC_L1, "FAISS's metric 2"),
  ],
)
def test_an_index_that_ranks_otherwise_than_cosine_is_refused_unless_told(
  tmp_path, metric, name
):
  path = index_of(tmp_path / 'v.faiss', VECTORS, metric)
  said = refused(tmp_path / 'store', path)
  assert f'{path}: compared by {name} where it comes from' in said
  assert '--metric=cosine' in said
  fill(tmp_path / 'store', path, metric='cosine')


@pytest.mark.parametrize('scale', [1, 7])
@pytest.mark.parametrize(
  ('metric', 'factory'),
  [
    (faiss.METRIC_L2, 'Flat'),
    (faiss.METRIC_INNER_PRODUCT, 'Flat'),
    (faiss.METRIC_INNER_PRODUCT, 'SQ8'),
    (faiss.METRIC_INNER_PRODUCT, 'L2norm,Flat'),
  ],
)
def test_an_index_of_vectors_of_one_length_ranks_as_cosine_does(
  tmp_path, metric, factory, scale
):
  rows = scale * UNIT
  if factory != 'SQ8':
    rows[4] = 0  # has no direction, and no length to differ by
  fill(
    tmp_path / 'store', index_of(tmp_path / 'v.faiss', rows, metric, factory)
  )


@pytest.mark.parametrize('metric', ['l2', 'inner_product'])
def test_what_arrays_are_compared_by_can_be_said(tmp_path, metric):
  vectors = write(tmp_path / 'v.npy')
  assert f'compared by {metric}' in refused(
    tmp_path / 'store', vectors, metric=metric
  )
  fill(tmp_path / 'store', vectors)
  fill(tmp_path / 'unit', write(tmp_path / 'u.npy', UNIT), metric=metric)


def test_what_is_compared_is_said(tmp_path, capsys):
  for name, rows in (('raw', VECTORS), ('unit', UNIT)):
    vectors = write(tmp_path / f'{name}.npy', rows)
    main(['to-store', str(vectors), str(tmp_path / name), '--encoder=e'])
    said = capsys.readouterr().out
    assert 'compared by cosine' in said
    assert ('whatever their lengths (0.' in said) == (name == 'raw')


def test_int8_vectors_are_taken_and_said_to_have_no_scale(tmp_path, capsys):
  rows = np.clip(np.round(VECTORS * 40), -127, 127).astype(np.int8)
  vectors = write(tmp_path / 'v.npy', rows)
  main(['to-store', str(vectors), str(tmp_path / 's'), '--encoder=e'])
  assert 'int8 without a scale' in capsys.readouterr().out
  np.testing.assert_array_equal(open_store(tmp_path / 's').read(), rows)
  main(
    ['to-store', str(vectors), str(tmp_path / 't'), '--encoder=e', '--scale=.5']
  )
  assert 'without a scale' not in capsys.readouterr().out
  np.testing.assert_array_equal(open_store(tmp_path / 't').read(), rows * 0.5)


def test_columns_are_named_by_flags(tmp_path):
  table = {'key': IDS, 'v': list(VECTORS), 'w': list(-VECTORS), 'kind': LABELS}
  pq.write_table(pa.table(table), tmp_path / 'v.parquet')
  flags = ['--id_column=key', '--vector_column=v', '--label_column=kind']
  paths = [str(tmp_path / 'v.parquet'), str(tmp_path / 'store')]
  main(['to-store', *paths, '--encoder=e', *flags])
  store = open_store(tmp_path / 'store')
  assert (store.ids(), store.labels()) == (IDS, LABELS)
  np.testing.assert_array_equal(store.read(), VECTORS)


def test_columns_of_tables_of_ids_and_labels_are_named_by_the_same_flags(
  tmp_path,
):
  vectors = write(tmp_path / 'v.npy', ids=None)
  rows = [f'{one},{label}' for one, label in zip(IDS, LABELS, strict=True)]
  table = write_lines(tmp_path / 't.csv', ['key,kind', *rows])
  columns = VectorColumns(id='key', label='kind')
  store = fill(
    tmp_path / 'store', vectors, ids=table, labels=table, columns=columns
  ).store
  assert (store.ids(), store.labels()) == (IDS, LABELS)


def test_a_store_that_another_process_fills_is_left_to_it(tmp_path):
  vectors = write(tmp_path / 'v.npy')
  with (tmp_path / '.store.lock').open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert 'another process is at it' in refused(tmp_path / 'store', vectors)
  fill(tmp_path / 'store', vectors)


@pytest.mark.parametrize('name', ['S[v2]', 'a store', "it's"])
def test_printed_commands_can_be_pasted(tmp_path, capsys, name):
  vectors = write(tmp_path / 'v.npy')
  main(['to-store', str(vectors), str(tmp_path / name), '--encoder=e'])
  command = capsys.readouterr().out.splitlines()[-1]
  assert shlex.split(command)[-1] == f'--config.old.path={tmp_path / name}'
