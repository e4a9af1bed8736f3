import dataclasses
import json
import pathlib
import shutil
import threading

import numpy as np
import orbax.checkpoint as ocp
import pytest

from advbct_jax.data.images import digest_ids
from advbct_jax.embeddings.store import (
  DEFAULT_CHUNK_ROWS,
  Card,
  create_store,
  is_store,
  open_store,
  write_store,
)
from advbct_jax.errors import InputError
from advbct_jax.locks import hold

IDS = [f'image{number}' for number in range(10)]
EMBEDDINGS = np.arange(30, dtype=np.float32).reshape(10, 3) / 7
# Ten rows in chunks of 4, 4 and 2.
CARD = Card(
  encoder='resnet18',
  weights='ab12',
  dimension=3,
  preprocessing='squashed to 224x224',
  images='gldv2-train',
  ids_digest=digest_ids(IDS),
  count=10,
  chunk_rows=4,
)


def filled(path):
  return write_store(path, CARD, IDS, EMBEDDINGS)


def refused(call, *args):
  with pytest.raises(InputError) as refusal:
    call(*args)
  return str(refusal.value)


def test_what_was_written_is_read(tmp_path):
  filled(tmp_path / 'store')
  store = open_store(tmp_path / 'store')
  assert store.card == dataclasses.replace(CARD, complete=True)
  assert store.ids() == IDS
  np.testing.assert_array_equal(store.read(), EMBEDDINGS)
  chunks = list(store.chunks())
  assert [len(chunk) for chunk in chunks] == [4, 4, 2]
  np.testing.assert_array_equal(np.concatenate(chunks), EMBEDDINGS)


def test_chunks_may_be_written_in_any_order(tmp_path):
  store = create_store(tmp_path / 'store', CARD, IDS)
  for chunk in (2, 0, 1):
    store.write_chunk(chunk, EMBEDDINGS[store.rows_of(chunk)])
  np.testing.assert_array_equal(store.finish().read(), EMBEDDINGS)


def test_embeddings_are_stored_in_the_dtype_of_the_card(tmp_path):
  store = write_store(tmp_path / 'store', CARD, IDS, EMBEDDINGS.astype(float))
  assert store.read().dtype == np.float32


def test_ids_may_have_any_character_but_line_breaks(tmp_path):
  ids = [
    'a b',
    'π',
    'x\x0cy',
    'x\u2028y\x85\r',
    '',
    'z/ß.jpg',
    '6',
    '7',
    '8',
    '9',
  ]
  card = dataclasses.replace(CARD, ids_digest=digest_ids(ids))
  write_store(tmp_path / 'store', card, ids, EMBEDDINGS)
  assert open_store(tmp_path / 'store').ids() == ids


def test_the_store_of_a_killed_writer_is_refused_and_gone_on_with(tmp_path):
  path = tmp_path / 'store'
  create_store(path, CARD, IDS).write_chunk(0, EMBEDDINGS[:4])
  # The writer was killed inside of the second chunk.
  torn = path / 'chunks' / '000001.orbax-checkpoint-tmp'
  shutil.copytree(path / 'chunks' / '000000', torn)
  assert is_store(path)
  assert refused(open_store, path).startswith(
    f'{path}: the store is incomplete (2 of 3 chunks are missing).'
  )

  store = create_store(path, CARD, IDS)
  assert (store.missing_chunks(), store.card.complete) == ([1, 2], False)
  assert '2 of 3 chunks are missing' in refused(store.finish)
  for chunk in store.missing_chunks():
    store.write_chunk(chunk, EMBEDDINGS[store.rows_of(chunk)])
  store.finish()
  np.testing.assert_array_equal(open_store(path).read(), EMBEDDINGS)


def test_a_store_with_every_chunk_is_incomplete_until_it_is_finished(tmp_path):
  store = create_store(tmp_path / 'store', CARD, IDS)
  for chunk in store.missing_chunks():
    store.write_chunk(chunk, EMBEDDINGS[store.rows_of(chunk)])
  assert '(0 of 3 chunks are missing)' in refused(open_store, store.path)


def test_an_unfinished_store_keeps_the_chunk_size_that_it_was_begun_with(
  tmp_path,
):
  create_store(tmp_path / 'store', CARD, IDS)
  larger = dataclasses.replace(CARD, chunk_rows=100)
  assert create_store(tmp_path / 'store', larger, IDS).chunk_count == 3


@pytest.mark.parametrize(
  ('change', 'difference'),
  [
    ({'encoder': 'resnet50'}, 'encoder: resnet50 here, resnet18 there'),
    ({'weights': 'cd34'}, 'weights: cd34 here, ab12 there'),
    ({'dimension': 5}, 'dimension: 5 here, 3 there'),
    ({'images': 'rparis6k'}, 'images: rparis6k here, gldv2-train there'),
    (
      {'ids_digest': digest_ids(IDS[::-1])},
      f'ids_digest: {digest_ids(IDS[::-1])} here, {digest_ids(IDS)} there',
    ),
    ({'count': 9}, 'count: 9 here, 10 there'),
    (
      {'compute_dtype': 'bfloat16'},
      'compute_dtype: bfloat16 here, float32 there',
    ),
    ({'cropped': True}, 'cropped: True here, None there'),
    ({'upright': True}, 'upright: True here, False there'),
    (
      {'preprocessing': 'squashed to 64x64'},
      'preprocessing: squashed to 64x64 here, squashed to 224x224 there',
    ),
  ],
  ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_a_store_with_another_card_is_refused_with_what_differs(
  tmp_path, change, difference
):
  path = tmp_path / 'store'
  filled(path)
  other = dataclasses.replace(CARD, **change)
  for message in (
    refused(create_store, path, other, IDS),
    refused(write_store, path, other, IDS, EMBEDDINGS),
  ):
    assert str(path) in message
    # This and nothing else.
    assert [
      line.strip() for line in message.splitlines() if line.startswith('  ')
    ] == [difference]
  np.testing.assert_array_equal(open_store(path).read(), EMBEDDINGS)


def test_changed_ids_are_refused(tmp_path):
  store = filled(tmp_path / 'store')
  ids = [*IDS[1:], IDS[0]]
  (store.path / 'ids.txt').write_text('\n'.join(ids) + '\n')
  assert 'ids.txt is not the list' in refused(open_store, store.path)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_an_embedding_that_is_not_finite_is_refused_by_its_image(
  tmp_path, value
):
  store = create_store(tmp_path / 'store', CARD, IDS)
  embeddings = EMBEDDINGS[4:8].copy()
  embeddings[2, 1] = value
  message = refused(store.write_chunk, 1, embeddings)
  assert 'the embedding of image image6 (row 6) is not finite' in message
  assert store.missing_chunks() == [0, 1, 2]


def test_a_chunk_of_another_shape_is_refused(tmp_path):
  store = create_store(tmp_path / 'store', CARD, IDS)
  with pytest.raises(ValueError, match=r'chunk 2: \(4, 3\), wanted \(2, 3\)'):
    store.write_chunk(2, EMBEDDINGS[:4])


def _truncate(chunk):
  for file in chunk.rglob('*'):
    if file.is_file():
      file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _flip_a_byte(chunk):
  for file in chunk.rglob('d/*'):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)


def _empty(chunk):
  shutil.rmtree(chunk)
  chunk.mkdir()


def _replace_by_the_last(chunk):
  shutil.rmtree(chunk)
  shutil.copytree(chunk.parent / '000002', chunk)


@pytest.mark.parametrize(
  'damage', [_truncate, _flip_a_byte, _empty, _replace_by_the_last]
)
def test_a_damaged_chunk_is_named_and_made_anew_once_deleted(tmp_path, damage):
  store = filled(tmp_path / 'store')
  chunk = store.path / 'chunks' / '000001'
  damage(chunk)
  assert refused(open_store(store.path).read).startswith(
    f'{chunk}: cannot read this chunk of the store'
  )

  shutil.rmtree(chunk)
  assert '(1 of 3 chunks are missing)' in refused(open_store, store.path)
  refilled = create_store(store.path, CARD, IDS)
  assert (refilled.missing_chunks(), refilled.card.complete) == ([1], False)
  refilled.write_chunk(1, EMBEDDINGS[4:8])
  refilled.finish()
  np.testing.assert_array_equal(open_store(store.path).read(), EMBEDDINGS)


def test_a_folder_without_card_is_no_store(tmp_path):
  assert not is_store(tmp_path)
  assert refused(open_store, tmp_path).startswith(
    f'{tmp_path}: no embedding store here'
  )


def test_an_earlier_card_is_of_images_as_they_are_stored(tmp_path):
  path = filled(tmp_path / 'store').path / 'card.json'
  card = json.loads(path.read_text())
  del card['upright'], card['sha256']
  path.write_text(json.dumps(card))
  assert open_store(path.parent).card.upright is False


@pytest.mark.parametrize('content', ['{"enc', '{}', json.dumps({'a': 1}), '[]'])
def test_a_damaged_card_is_named(tmp_path, content):
  store = filled(tmp_path / 'store')
  (store.path / 'card.json').write_text(content)
  assert refused(open_store, store.path).startswith(
    f'{store.path / "card.json"}: not the card of an embedding store'
  )


def test_rows_are_read_in_any_order(tmp_path):
  rows = np.array([9, 0, 5, 4, 5])
  np.testing.assert_array_equal(
    filled(tmp_path / 'store').read_rows(rows), EMBEDDINGS[rows]
  )


def test_labels_are_kept_and_a_change_of_them_is_noticed(tmp_path):
  labels = ['church', '', *['a b'] * 8]
  card = dataclasses.replace(CARD, labels_digest=digest_ids(labels))
  path = tmp_path / 'store'
  write_store(path, card, IDS, EMBEDDINGS, labels)
  assert open_store(path).labels() == labels
  (path / 'labels.txt').write_text('\n'.join(labels[::-1]) + '\n')
  assert 'labels.txt: not the labels that' in refused(open_store(path).labels)
  (path / 'labels.txt').unlink()
  assert 'labels.txt: not the labels that' in refused(open_store(path).labels)


def test_a_store_without_labels_says_so(tmp_path):
  assert filled(tmp_path / 'store').labels() is None


def test_a_card_that_does_not_say_the_compute_dtype_is_taken_for_float32(
  tmp_path,
):
  path = filled(tmp_path / 'store').path
  card = json.loads((path / 'card.json').read_text())
  del card['compute_dtype'], card['sha256']
  (path / 'card.json').write_text(json.dumps(card))
  said = dataclasses.replace(CARD, compute_dtype='float32')
  store = create_store(path, said, IDS)
  assert store.card.complete
  assert store.card.identity() == said.identity()
  assert store.card.identity()['compute_dtype'] == 'float32'


CARD_TEXT = json.dumps(dataclasses.asdict(CARD))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'colour': 'red', 'shape': 'b'}, 'colour, shape: unknown here'),
    ({'count': '10'}, "count is '10', wanted int"),
    ({'count': 10.5}, 'count is 10.5, wanted int'),
    ({'count': True}, 'count is True, wanted int'),
    ({'count': -1}, 'count -1 cannot be'),
    ({'encoder': 7}, 'encoder is 7, wanted str'),
    ({'encoder': None}, 'encoder is None, wanted str'),
    ({'cropped': 'no'}, "cropped is 'no', wanted bool | None"),
    ({'labels_digest': 5}, 'labels_digest is 5, wanted str | None'),
    ({'complete': 'yes'}, "complete is 'yes', wanted bool"),
    ({'chunk_rows': 0}, 'chunk_rows 0'),
    ({'dimension': 0}, 'dimension 0'),
    ({'compatible_dimension': 4}, 'compatible_dimension is 4 of 3'),
    ({'dtype': 'float33'}, 'float33'),
    ({'ids_digest': ['a']}, "ids_digest is ['a'], wanted str"),
  ],
)
def test_a_card_that_says_what_cannot_be_is_refused_in_one_sentence(
  tmp_path, change, message
):
  store = filled(tmp_path / 'store')
  card = json.loads(CARD_TEXT) | change
  (store.path / 'card.json').write_text(json.dumps(card))
  said = refused(open_store, store.path)
  assert said.startswith(f'{store.path / "card.json"}: not the card')
  assert message in said
  assert said == refused(create_store, store.path, CARD, IDS)


@pytest.mark.parametrize(
  'missing',
  ['cropped', 'compatible_dimension', 'labels_digest', 'dtype', 'chunk_rows'],
)
def test_a_card_from_before_a_field_was_there_is_read(tmp_path, missing):
  card = dataclasses.replace(CARD, chunk_rows=DEFAULT_CHUNK_ROWS)
  store = write_store(tmp_path / 'store', card, IDS, EMBEDDINGS)
  described = json.loads((store.path / 'card.json').read_text())
  del described[missing], described['sha256']
  (store.path / 'card.json').write_text(json.dumps(described))
  np.testing.assert_array_equal(open_store(store.path).read(), EMBEDDINGS)


def test_a_card_with_another_value_than_was_written_is_refused(tmp_path):
  path = filled(tmp_path / 'store').path / 'card.json'
  path.write_text(path.read_text().replace(CARD.encoder, 'other'))
  assert 'it was changed after it was written' in refused(
    open_store, path.parent
  )


@pytest.mark.parametrize('missing', ['encoder', 'ids_digest', 'count'])
def test_a_card_without_a_field_that_all_have_is_refused(tmp_path, missing):
  store = filled(tmp_path / 'store')
  described = json.loads(CARD_TEXT)
  del described[missing]
  (store.path / 'card.json').write_text(json.dumps(described))
  assert f'({missing}: missing)' in refused(open_store, store.path)


def test_a_card_that_is_not_utf_8_is_refused(tmp_path):
  store = filled(tmp_path / 'store')
  (store.path / 'card.json').write_bytes(b'\xff{}')
  assert 'not the card' in refused(open_store, store.path)


@pytest.mark.parametrize(
  'name',
  ['S[v2]', '[a]', 'x[', ']x', 's[!a]', 'a*?', 'ü {b} ~c %20 #', '[ab]c'],
)
@pytest.mark.parametrize('place', ['store', 'above'])
def test_a_store_may_be_called_anything(tmp_path, name, place):
  path = tmp_path / name / ('' if place == 'store' else 'store')
  # What the name would match as a pattern.
  (tmp_path / 'ac').mkdir()
  filled(path)
  np.testing.assert_array_equal(open_store(path).read(), EMBEDDINGS)


def test_a_name_that_is_not_utf_8_is_refused_before_anything_is_written(
  tmp_path,
):
  path = tmp_path / 'caf\udce9'
  assert 'not UTF-8' in refused(create_store, path, CARD, IDS)
  assert not path.exists()


@pytest.mark.parametrize('ids', [['a\nb'], ['caf\udce9']], ids=repr)
def test_an_id_that_is_no_line_is_refused(tmp_path, ids):
  refused(create_store, tmp_path / 'store', CARD, ids + IDS[1:])
  assert not is_store(tmp_path / 'store')


def _keep_nothing(self, path, item, **_):
  # As Orbax has done: a warning, and no error.
  pathlib.Path(path).mkdir(parents=True)


def _keep_other_values(self, path, item, **_):
  saved(self, path, {'embeddings': item['embeddings'] + 1})


saved = ocp.StandardCheckpointer.save


@pytest.mark.parametrize('save', [_keep_nothing, _keep_other_values])
def test_a_chunk_that_cannot_be_read_back_is_not_taken_for_stored(
  tmp_path, monkeypatch, save
):
  store = create_store(tmp_path / 'store', CARD, IDS)
  monkeypatch.setattr(ocp.StandardCheckpointer, 'save', save)
  assert f'{store.path}/chunks/000000: ' in refused(
    store.write_chunk, 0, EMBEDDINGS[:4]
  )
  assert store.missing_chunks() == [0, 1, 2]


def test_a_chunk_of_another_store_is_noticed(tmp_path):
  store = filled(tmp_path / 'store')
  other = write_store(tmp_path / 'other', CARD, IDS, EMBEDDINGS + 1)
  for part in ('d', 'manifest.ocdbt', 'ocdbt.process_0'):
    here, there = (
      one.path / 'chunks' / '000001' / part for one in (store, other)
    )
    if there.is_dir():
      shutil.rmtree(here)
      shutil.copytree(there, here)
    else:
      shutil.copy(there, here)
  assert 'changed or damaged after it was written' in refused(store.read)


def test_a_chunk_of_an_earlier_version_has_no_digest_and_is_read(tmp_path):
  store = filled(tmp_path / 'store')
  for digest in store.path.rglob('sha256'):
    digest.unlink()
  np.testing.assert_array_equal(open_store(store.path).read(), EMBEDDINGS)


def test_a_missing_list_of_ids_is_said(tmp_path):
  store = filled(tmp_path / 'store')
  (store.path / 'ids.txt').unlink()
  assert 'ids.txt: cannot be read' in refused(open_store, store.path)


def test_two_cannot_fill_a_store_at_once(tmp_path):
  with create_store(tmp_path / 'store', CARD, IDS).filling():
    message = in_a_thread(filled, tmp_path / 'store')
  assert 'fills the store here since' in message
  assert in_a_thread(filled, tmp_path / 'store') is None


def test_two_cannot_make_a_store_at_once(tmp_path):
  with hold(tmp_path / 'store', 'makes the store'):
    message = in_a_thread(create_store, tmp_path / 'store', CARD, IDS)
  assert 'makes the store here since' in message


def test_a_complete_store_is_opened_by_any_number(tmp_path):
  store = filled(tmp_path / 'store')
  with store.filling():
    assert in_a_thread(filled, tmp_path / 'store') is None
    assert in_a_thread(open_store, tmp_path / 'store') is None


def in_a_thread(call, *args):
  """What another holder is told; None if it isn't refused."""
  said = []

  def run():
    try:
      call(*args)
    except InputError as error:
      said.append(str(error))

  thread = threading.Thread(target=run)
  thread.start()
  thread.join()
  return said[0] if said else None


def test_a_chunk_that_a_killed_writer_has_not_read_back_is_read_at_the_end(
  tmp_path,
):
  store = filled(tmp_path / 'store')
  chunk = store.path / 'chunks' / '000001'
  (chunk / 'sha256').unlink()
  _flip_a_byte(chunk)
  assert f'{chunk}: cannot read this chunk' in refused(store.finish)
