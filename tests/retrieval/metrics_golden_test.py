"""Metrics against the figures of the published implementations."""

import json
import os
import pathlib

import numpy as np
import pytest

from advbct_jax.data.ground_truth import Gldv2GroundTruth, RevisitedGroundTruth
from advbct_jax.data.revisited import load_retrieval
from advbct_jax.retrieval import metrics
from tests.goldens_folder import golden_files

_COPIES = pathlib.Path(__file__).parents[1] / 'goldens'


def _revisited_ground_truth(name):
  """From the published pickle in $ADVBCT_DATA, else from our plain copy."""
  folder = pathlib.Path(os.environ.get('ADVBCT_DATA', _COPIES))
  if (folder / f'gnd_{name}.pkl').exists():
    return load_retrieval(folder, name).ground_truth
  plain = json.loads((_COPIES / f'gnd_{name}.json').read_text())
  return RevisitedGroundTruth(
    **{
      grade: [np.array(images, np.int64) for images in queries]
      for grade, queries in plain.items()
    }
  )


@pytest.mark.golden
@pytest.mark.parametrize(
  'path', golden_files('revisited_*.npz'), ids=lambda path: path.stem
)
def test_revisited_figures_are_the_published_ones(path):
  golden = np.load(path)
  truth = _revisited_ground_truth(path.stem.removeprefix('revisited_'))
  ranks = golden['ranks'].T

  by_query = metrics.revisited_by_query(ranks, truth)
  means = metrics.revisited_metrics(ranks, truth)

  assert golden['kappas'].tolist() == list(metrics.PRECISION_DEPTHS)
  for level in ('easy', 'medium', 'hard'):
    np.testing.assert_allclose(
      by_query[f'{level}/map'], golden[f'{level}/aps'], rtol=1e-4
    )
    np.testing.assert_allclose(
      means[f'{level}/map'], golden[f'{level}/map'], rtol=1e-4
    )
    np.testing.assert_allclose(
      [means[f'{level}/mp@{k}'] for k in metrics.PRECISION_DEPTHS],
      golden[f'{level}/mpk'],
      rtol=1e-4,
    )


@pytest.mark.golden
@pytest.mark.parametrize(
  'path', golden_files('gldv2_*.npz'), ids=lambda path: path.stem
)
def test_gldv2_figures_are_the_published_ones(path):
  golden = np.load(path)
  relevant = np.split(golden['relevant'], golden['offsets'][1:-1])
  truth = Gldv2GroundTruth(relevant, ['Private'] * len(relevant))

  measured = metrics.gldv2_metrics(golden['ranked'], truth)

  np.testing.assert_allclose(
    measured['private/map@100'], golden['map100'], rtol=1e-4
  )


@pytest.mark.golden
@pytest.mark.parametrize(
  'path', golden_files('market1501_*.npz'), ids=lambda path: path.stem
)
def test_person_figures_are_the_published_ones(path):
  golden = np.load(path)

  curve, mean_ap = metrics.person_metrics(
    np.argsort(golden['distance'], axis=1),
    golden['query_id'],
    golden['query_camera'],
    golden['gallery_id'],
    golden['gallery_camera'],
    depth=len(golden['cmc']),
  )

  np.testing.assert_allclose(curve, golden['cmc'], rtol=1e-4)
  np.testing.assert_allclose(mean_ap, golden['map'], rtol=1e-4)
