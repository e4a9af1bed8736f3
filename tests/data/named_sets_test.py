import pytest

from advbct_jax.data import records
from advbct_jax.data.named_sets import find_data, open_retrieval_set
from advbct_jax.errors import InputError


def test_a_set_in_the_data_root_is_found_by_name(gldv2_root, revisited_root):
  assert open_retrieval_set('mine', str(gldv2_root)).queries.name == 'mine-test'
  retrieval_set = open_retrieval_set('rtiny', str(revisited_root))
  assert retrieval_set.queries.name == 'rtiny-queries'


def test_a_set_in_a_folder_of_its_name_is_found(gldv2_root, tmp_path):
  found = find_data('landmarks', str(tmp_path))
  assert (found.layout, found.root) == ('gldv2', gldv2_root)


def test_a_set_is_found_under_a_root_of_its_own(revisited_root):
  retrieval_set = open_retrieval_set(f'rtiny:{revisited_root}', '/elsewhere')
  assert len(retrieval_set.gallery) == 4


def test_records_are_recognised(gldv2_root, revisited_root, tmp_path):
  records.prepare_gldv2(gldv2_root, tmp_path / 'packed' / 'mine')
  records.prepare_revisited(
    revisited_root, 'rtiny', tmp_path / 'packed' / 'rtiny'
  )
  for name, spec in (
    ('mine', f'mine:{gldv2_root}'),
    ('rtiny', f'rtiny:{revisited_root}'),
  ):
    packed = open_retrieval_set(name, str(tmp_path / 'packed'))
    original = open_retrieval_set(spec)
    assert 'packed' in packed.gallery.images.where(0)
    assert packed.gallery.images[3] == original.gallery.images[3]


def test_queries_are_cropped_only_when_asked(revisited_root):
  spec = f'rtiny:{revisited_root}'
  assert open_retrieval_set(spec, crop_queries=True).queries.boxes is not None
  assert open_retrieval_set(spec, crop_queries=False).queries.boxes is None


def test_an_unknown_set_lists_what_was_looked_for(tmp_path):
  with pytest.raises(
    InputError, match='data set birds: found none of'
  ) as error:
    open_retrieval_set('birds', str(tmp_path))
  for path in (
    'gnd_birds.pkl',
    'birds/gnd_birds.pkl',
    'index.csv',
    'birds/index.csv',
  ):
    assert str(tmp_path / path) in str(error.value)


def test_gldv2_does_not_pass_for_oxford(gldv2_root):
  with pytest.raises(InputError, match='data set roxford5k: found none of'):
    open_retrieval_set('roxford5k', str(gldv2_root))


@pytest.mark.parametrize('spec', ['', ':/data', 'birds:'])
def test_half_a_name_is_refused(spec):
  with pytest.raises(InputError, match='wanted NAME or NAME:ROOT'):
    find_data(spec, '/data')


def test_a_name_without_a_data_root_is_refused():
  with pytest.raises(InputError, match='give --data_root'):
    open_retrieval_set('roxford5k')
