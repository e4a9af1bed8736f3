"""An adapter as a refresh policy."""

import numpy as np
import pytest

from advbct_jax.adapters.fitting import fit_adapter
from advbct_jax.api import make_store
from advbct_jax.embeddings.unit_vectors import unit_rows
from advbct_jax.refresh.curve import measure_curves
from advbct_jax.refresh.policies import find_policies
from advbct_jax.refresh.policies.adapted import Adapted
from tests.made_up_upgrade import make_upgrade, make_vectors


def fit(folder, kind, direction):
  old, new, _ = make_vectors(300, 15, seed=2)
  ids = [str(row) for row in range(len(old))]
  return fit_adapter(
    kind,
    make_store(folder / 'new', new, ids, 'made up', version='new'),
    make_store(folder / 'old', old, ids, 'made up', version='old'),
    direction=direction,
  )


@pytest.mark.parametrize('direction', ['backward', 'forward'])
def test_the_side_that_an_adapter_maps_is_mapped(tmp_path, direction):
  upgrade = make_upgrade()
  adapter = fit(tmp_path, 'ridge', direction)
  part = Adapted(adapter).fit(upgrade.pairs)

  rows, queries = part.rows(upgrade.old), part.queries(upgrade.queries, None)
  if direction == 'forward':
    assert queries is upgrade.queries.new
    np.testing.assert_allclose(rows, unit_rows(adapter.apply(upgrade.old)))
  else:
    assert rows is upgrade.old
    np.testing.assert_allclose(
      queries, unit_rows(adapter.apply(upgrade.queries.new))
    )


def test_a_rotation_of_wider_vectors_is_searched_by_its_first_part(tmp_path):
  upgrade = make_upgrade()
  part = Adapted(fit(tmp_path, 'procrustes', 'backward')).fit(upgrade.pairs)
  queries = part.queries(upgrade.queries, None)

  assert queries.shape == (60, 28)
  np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, rtol=1e-6)


def test_an_adapter_is_measured_beside_other_policies(tmp_path):
  policies = {
    **find_policies(['old']),
    'adapter': Adapted(fit(tmp_path, 'ridge', 'forward')),
  }
  measured = measure_curves(
    make_upgrade(), policies, seeds=[0], shares=(0, 100)
  )
  old, adapter = measured['curves']

  assert (adapter['policy'], adapter['label']) == ('adapter', 'adapter')
  assert adapter['gain'][1] == old['gain'][1] == 1
  assert adapter['mean'][0] != old['mean'][0]
