"""Records that Beam's workers pack, here threads of this process."""

import pytest

from advbct_jax.data import records
from advbct_jax.errors import InputError
from tests.beam_workers_test import IN_THREADS

pytest.importorskip('apache_beam')


@pytest.fixture(autouse=True)
def _two_images_a_shard(monkeypatch):
  monkeypatch.setattr(records, 'IMAGES_PER_SHARD', 2)


def bytes_of(folder):
  return {
    path.relative_to(folder): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def test_records_are_those_of_one_process_bit_for_bit(gldv2_root, tmp_path):
  here, there = tmp_path / 'here', tmp_path / 'there'
  records.prepare_gldv2(gldv2_root, here, longest_side=12)
  records.prepare_gldv2(gldv2_root, there, longest_side=12, beam=IN_THREADS)
  assert bytes_of(there) == bytes_of(here)


def test_a_revisited_set_is_packed_bit_for_bit_too(revisited_root, tmp_path):
  here, there = tmp_path / 'here', tmp_path / 'there'
  records.prepare_revisited(revisited_root, 'rtiny', here)
  records.prepare_revisited(revisited_root, 'rtiny', there, beam=IN_THREADS)
  assert bytes_of(there) == bytes_of(here)


def test_an_unusable_image_is_named_and_nothing_is_left(gldv2_root, tmp_path):
  path = gldv2_root / 'index/d/d/d/ddd2.jpg'
  path.write_bytes(b'\xff\xd8\xff\xe0 the end is missing')
  with pytest.raises(InputError, match=r'^[^\n]*ddd2\.jpg: cannot decode'):
    records.prepare_gldv2(gldv2_root, tmp_path / 'packed', beam=IN_THREADS)
  assert not list(tmp_path.glob('packed*'))
