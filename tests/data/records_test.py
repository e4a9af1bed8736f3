import io
import os
import pathlib
import pickle
import subprocess
import sys

from array_record.python import array_record_module
import numpy as np
from PIL import Image
import pytest

from advbct_jax.data import gldv2, records, revisited
from advbct_jax.data.images import ImageSet
from advbct_jax.errors import InputError
from tests.data.pictures import encode, exif

_NAMES = (b'id', b'image', b'landmark_id')


@pytest.fixture(autouse=True)
def _two_images_a_shard(monkeypatch):
  monkeypatch.setattr(records, 'IMAGES_PER_SHARD', 2)


def assert_same(packed: ImageSet, original: ImageSet) -> None:
  assert packed.name == original.name
  assert list(packed.ids) == list(original.ids)
  assert packed.images[0] == original.images[0]
  for index in range(len(original)):
    assert packed.images[index] == original.images[index]


def size_of(encoded: bytes) -> tuple[int, int]:
  with Image.open(io.BytesIO(encoded)) as image:
    return image.size


def test_gldv2_records_keep_order_labels_and_bytes(gldv2_root, tmp_path):
  out = tmp_path / 'packed'
  records.prepare_gldv2(gldv2_root, out)
  packed, original = gldv2.load_train(out), gldv2.load_train(gldv2_root)
  assert_same(packed, original)
  np.testing.assert_array_equal(packed.labels, original.labels)
  packed_set = gldv2.load_retrieval(out)
  retrieval_set = gldv2.load_retrieval(gldv2_root)
  assert_same(packed_set.gallery, retrieval_set.gallery)
  assert_same(packed_set.queries, retrieval_set.queries)
  assert not list(out.rglob('*.jpg'))
  assert len(list(out.rglob('*train*'))) == 1 + 3  # the table, three shards


def test_a_part_without_a_table_is_left_out(gldv2_root, tmp_path):
  (gldv2_root / 'index.csv').unlink()
  records.prepare_gldv2(gldv2_root, tmp_path / 'packed')
  assert len(gldv2.load_train(tmp_path / 'packed').images) == 5
  assert not (tmp_path / 'packed' / 'index.csv').exists()


def test_revisited_records_keep_order_boxes_and_bytes(revisited_root, tmp_path):
  out = tmp_path / 'packed'
  records.prepare_revisited(revisited_root, 'rtiny', out)
  packed = revisited.load_retrieval(out, 'rtiny')
  original = revisited.load_retrieval(revisited_root, 'rtiny')
  assert_same(packed.gallery, original.gallery)
  assert_same(packed.queries, original.queries)
  np.testing.assert_array_equal(packed.queries.boxes, original.queries.boxes)
  assert not list(out.rglob('*.jpg'))


def test_larger_images_are_shrunk_and_smaller_ones_kept(gldv2_root, tmp_path):
  large = io.BytesIO()
  Image.new('L', (30, 60), 7).save(large, 'JPEG')
  (gldv2_root / 'train/a/a/a/aaa2.jpg').write_bytes(large.getvalue())
  records.prepare_gldv2(gldv2_root, tmp_path / 'packed', longest_side=16)
  packed = gldv2.load_train(tmp_path / 'packed')
  original = gldv2.load_train(gldv2_root)
  assert size_of(packed.images[1]) == (8, 16)
  assert packed.images[0] == original.images[0]


def test_records_are_turned_as_the_folder_is(gldv2_root, tmp_path):
  gldv2.write_traits(gldv2_root, upright=True)
  halves = np.zeros((40, 80, 3), np.uint8)
  halves[:, 40:] = 255
  for name in ('aaa1', 'aaa2'):  # One is shrunk, one keeps its EXIF.
    size = 80 if name == 'aaa1' else 16
    picture = Image.fromarray(halves).resize((size, size // 2))
    (gldv2_root / f'train/a/a/a/{name}.jpg').write_bytes(
      encode(picture, 'JPEG', exif=exif(6))
    )
  records.prepare_gldv2(gldv2_root, tmp_path / 'packed', longest_side=16)
  packed, original = (
    gldv2.load_train(root) for root in (tmp_path / 'packed', gldv2_root)
  )
  assert packed.upright
  assert size_of(packed.images[0]) == (8, 16)
  for index in range(2):
    found, wanted = packed.load(index, 8), original.load(index, 8)
    assert wanted[0].max() < 50 < 200 < wanted[-1].min()
    np.testing.assert_allclose(found.astype(int), wanted, atol=30)


def test_a_record_has_its_fields_in_an_order_that_no_process_draws(
  gldv2_root, tmp_path
):
  records.prepare_gldv2(gldv2_root, tmp_path / 'packed')
  for shard in tmp_path.rglob('*.array_record-*'):
    for record in array_record_module.ArrayRecordReader(str(shard)).read_all():
      places = [
        record.index(b'\n' + bytes([len(name)]) + name) for name in _NAMES
      ]
      assert places == sorted(places)


def test_records_of_an_earlier_folder_are_taken_as_stored(gldv2_root, tmp_path):
  records.prepare_gldv2(gldv2_root, tmp_path / 'packed')
  assert not gldv2.load_train(tmp_path / 'packed').upright


def test_queries_with_boxes_are_never_shrunk(revisited_root, tmp_path):
  out = tmp_path / 'packed'
  records.prepare_revisited(revisited_root, 'rtiny', out, longest_side=8)
  packed = revisited.load_retrieval(out, 'rtiny')
  original = revisited.load_retrieval(revisited_root, 'rtiny')
  assert size_of(packed.gallery.images[0]) == (8, 6)
  assert_same(packed.queries, original.queries)


def test_shrinking_keeps_the_picture():
  halves = np.zeros((40, 80, 3), np.uint8)
  halves[:, 40:] = 255
  encoded = io.BytesIO()
  Image.fromarray(halves).save(encoded, 'PNG')
  shrunk = records.shrink(encoded.getvalue(), 20)
  with Image.open(io.BytesIO(shrunk)) as image:
    assert (image.format, image.size) == ('JPEG', (20, 10))
    pixels = np.asarray(image.convert('RGB'))
  assert pixels[:, :6].max() < 20
  assert pixels[:, -6:].min() > 235


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (None, 'cannot read'),
    (b'\xff\xd8\xff\xe0 the end is missing', 'cannot decode'),
    (b'\xff\xd8 no JPEG but its ends \xff\xd9', 'cannot decode'),
    (b'\xff\xd8' + bytes(20_000) + b'\xff\xd9', 'cannot shrink'),
  ],
)
def test_an_unusable_image_is_named_and_nothing_is_left(
  gldv2_root, tmp_path, content, message
):
  path = gldv2_root / 'index/d/d/d/ddd2.jpg'
  path.unlink() if content is None else path.write_bytes(content)
  with pytest.raises(InputError, match=rf'ddd2\.jpg: {message}'):
    records.prepare_gldv2(gldv2_root, tmp_path / 'packed', longest_side=8)
  assert not list(tmp_path.glob('packed*'))


def test_records_are_read_in_another_process(gldv2_root, tmp_path):
  records.prepare_gldv2(gldv2_root, tmp_path / 'packed')
  train = gldv2.load_train(tmp_path / 'packed')
  first = train.images[0]  # The files are open here by now.
  again = pickle.loads(pickle.dumps(train))
  assert '_records' not in vars(again.images)
  assert again.images[0] == first


def test_packing_and_reading_need_no_tensorflow(gldv2_root, tmp_path):
  program = (
    'import pathlib, sys\n'
    'from advbct_jax.data import gldv2, records\n'
    'root, out = map(pathlib.Path, sys.argv[1:])\n'
    'records.prepare_gldv2(root, out)\n'
    'gldv2.load_train(out).load(0, 8)\n'
    "assert 'tensorflow' not in sys.modules\n"
  )
  subprocess.run(
    [sys.executable, '-c', program, gldv2_root, tmp_path / 'packed'],
    check=True,
    cwd=pathlib.Path(__file__).parents[2],
    env={**os.environ, 'PYTHONPATH': '.'},
  )


def test_a_table_that_grew_since_is_refused(gldv2_root, tmp_path):
  out = tmp_path / 'packed'
  records.prepare_gldv2(gldv2_root, out)
  table = out / 'train_clean.csv'
  table.write_text(table.read_text() + '200,zzz1\n')
  with pytest.raises(InputError, match='found 5 train images, wanted the 6'):
    gldv2.load_train(out)


def test_a_table_in_another_order_is_refused_when_read(gldv2_root, tmp_path):
  out = tmp_path / 'packed'
  records.prepare_gldv2(gldv2_root, out)
  table = out / 'train_clean.csv'
  table.write_text(table.read_text().replace('bbb1 bbb2', 'bbb2 bbb1'))
  train = gldv2.load_train(out)
  with pytest.raises(InputError, match=r'record 3 \(bbb2\): found .* bbb1'):
    train.load(3, 8)


@pytest.mark.parametrize('damage', ['missing', 'truncated', 'garbled'])
def test_a_damaged_shard_is_refused(gldv2_root, tmp_path, damage):
  out = tmp_path / 'packed'
  records.prepare_gldv2(gldv2_root, out)
  [shard] = out.rglob('*train.array_record-00001*')
  whole = shard.read_bytes()
  if damage == 'missing':
    shard.unlink()
  elif damage == 'truncated':
    shard.write_bytes(whole[: len(whole) // 2])
  else:
    shard.write_bytes(bytes(len(whole)))
  train = gldv2.load_train(out)
  train.load(0, 8)
  with pytest.raises(InputError, match=r'record 2 \(aaa3\): cannot read'):
    train.load(2, 8)


def test_a_folder_of_records_without_its_description_is_refused(
  gldv2_root, tmp_path
):
  out = tmp_path / 'packed'
  records.prepare_gldv2(gldv2_root, out)
  (out / 'gldv2' / '1.0.0' / 'dataset_info.json').unlink()
  with pytest.raises(InputError, match='holds no whole records'):
    gldv2.load_train(out)
