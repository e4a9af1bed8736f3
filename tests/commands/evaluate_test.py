"""`advbct evaluate` on the ground truth of ROxford, with made-up vectors."""

import json
import pathlib
import pickle

import numpy as np
import pytest

from advbct_jax.data.ground_truth import RevisitedGroundTruth
from advbct_jax.data.images import digest_ids
from advbct_jax.embeddings.store import Card, write_store
from advbct_jax.retrieval.metrics import PRECISION_DEPTHS, revisited_metrics

GOLDENS = pathlib.Path(__file__).parents[1] / 'goldens'
QUERIES, GALLERY = 70, 4993
QUERY_IDS = [f'query_{number}' for number in range(QUERIES)]
GALLERY_IDS = [f'image_{number}' for number in range(GALLERY)]


@pytest.fixture(scope='module')
def grades():
  """{easy, hard, junk: lists of gallery positions, one a query}."""
  return json.loads((GOLDENS / 'gnd_roxford5k.json').read_text())


@pytest.fixture(scope='module')
def data_root(grades, tmp_path_factory):
  """A folder with the ground truth alone: vectors need no images."""
  root = tmp_path_factory.mktemp('revisited')
  truth = {
    'imlist': GALLERY_IDS,
    'qimlist': QUERY_IDS,
    'gnd': [
      {'bbx': [0, 0, 9, 9]} | {grade: grades[grade][query] for grade in grades}
      for query in range(QUERIES)
    ],
  }
  (root / 'gnd_roxford5k.pkl').write_bytes(pickle.dumps(truth))
  return root


@pytest.fixture(scope='module')
def golden():
  with np.load(GOLDENS / 'revisited_roxford5k.npz') as figures:
    return dict(figures)


def vectors_of(ranks):
  """Embeddings whose cosine similarity gives a ranking.

  Query i looks along axis i, where a gallery image is the further out the
  earlier it comes. One axis more brings all images to one length, so that
  normalising changes no order.

  Args:
    ranks: [N, Q] gallery positions, best first.
  """
  count, queries = ranks.shape
  places = np.argsort(ranks, axis=0)
  nearness = (count - places) / count
  rest = np.sqrt(queries - np.square(nearness).sum(axis=1, keepdims=True))
  return np.eye(queries, queries + 1), np.hstack([nearness, rest])


def write_vectors(folder, name, ids, embeddings):
  card = Card(
    encoder='made up',
    weights=folder.name,
    dimension=embeddings.shape[1],
    preprocessing='none',
    images=name,
    ids_digest=digest_ids(ids),
    count=len(ids),
    cropped=True if name.endswith('-cropped') else None,
  )
  write_store(folder / name, card, ids, embeddings.astype(np.float32))


def random_vectors(folder, seed):
  """Writes the stores of an encoder that sees nothing."""
  random = np.random.default_rng(seed)
  queries = random.normal(size=(QUERIES, 16)).astype(np.float32)
  gallery = random.normal(size=(GALLERY, 16)).astype(np.float32)
  write_vectors(folder, 'roxford5k-queries', QUERY_IDS, queries)
  write_vectors(folder, 'roxford5k-gallery', GALLERY_IDS, gallery)
  return queries, gallery


def ranked(queries, gallery):
  unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
  return np.argsort(-(queries @ unit.T), axis=1, kind='stable')


def assert_golden(figures, golden):
  for level in ('easy', 'medium', 'hard'):
    wanted = {
      'map': golden[f'{level}/map'],
      **{
        f'mp@{depth}': golden[f'{level}/mpk'][at]
        for at, depth in enumerate(PRECISION_DEPTHS)
      },
    }
    for name, value in wanted.items():
      assert figures[f'{level}/{name}'] == pytest.approx(
        100 * float(value), rel=1e-6
      ), (level, name)


def test_random_vectors_give_the_figures_of_their_sorted_similarities(
  command, grades, data_root, tmp_path, capsys
):
  old_queries, old_gallery = random_vectors(tmp_path / 'old', 1)
  new_queries, new_gallery = random_vectors(tmp_path / 'new', 2)
  command(
    'evaluate',
    f'--old={tmp_path / "old"}',
    f'--new={tmp_path / "new"}',
    '--data=roxford5k',
    f'--data_root={data_root}',
    f'--workdir={tmp_path / "judged"}',
  )

  results = json.loads((tmp_path / 'judged/results.json').read_text())
  figures = results['datasets']['roxford5k']
  truth = RevisitedGroundTruth(**grades)
  for side, queries, gallery in (
    ('old', old_queries, old_gallery),
    ('cross', new_queries, old_gallery),
    ('self', new_queries, new_gallery),
  ):
    wanted = revisited_metrics(ranked(queries, gallery), truth)
    assert figures[side] == pytest.approx(
      {name: 100 * value for name, value in wanted.items()}, rel=1e-6
    ), side
  assert figures['refresh']['0'] == figures['cross']['medium/map']
  assert figures['refresh']['100'] == figures['self']['medium/map']
  output = capsys.readouterr().out
  assert f'{figures["cross"]["medium/map"]:.2f}' in output
  assert f'report: {tmp_path / "judged" / "report.md"}' in output


@pytest.mark.golden
@pytest.mark.parametrize(
  ('flags', 'right', 'wrong'),
  [
    ([], 'roxford5k-queries-cropped', 'roxford5k-queries'),
    (['--nocrop_queries'], 'roxford5k-queries', 'roxford5k-queries-cropped'),
  ],
)
def test_the_published_ranking_gives_the_published_figures(
  command, golden, data_root, tmp_path, flags, right, wrong
):
  queries, gallery = vectors_of(golden['ranks'])
  folder = tmp_path / 'new'
  write_vectors(folder, 'roxford5k-gallery', GALLERY_IDS, gallery)
  write_vectors(folder, right, QUERY_IDS, queries)
  write_vectors(folder, wrong, QUERY_IDS, queries[::-1])
  command(
    'evaluate', f'--new={folder}', f'--data=roxford5k:{data_root}', *flags
  )

  results = json.loads((folder / 'evaluation/results.json').read_text())
  assert_golden(results['datasets']['roxford5k']['self'], golden)
  assert results['protocol']['roxford5k'] == {
    'kind': 'revisited',
    'main_metric': 'medium/map',
    'queries': QUERIES,
    'gallery': GALLERY,
    'query_crop': not flags,
  }


@pytest.mark.parametrize(
  ('arguments', 'parts'),
  [
    (['--data=roxford5k'], ('--new', '--encoders')),
    (['--encoders=x,y', '--new=x', '--data=a'], ('--new has no meaning',)),
    (['--encoders=x,y', '--data=a'], ('--workdir',)),
    (
      ['--encoders=a/x,b/x', '--data=', '--workdir=w'],
      ('a/x, b/x', 'different names'),
    ),
    (['--new=x'], ('--data',)),
    (['--new=x', '--data=roxford5k'], ('--data_root', 'roxford5k:ROOT')),
    (
      ['--new=x', '--data=roxford5k:nowhere'],
      ('nowhere/gnd_roxford5k.pkl', 'Check the name and the folder'),
    ),
    (['--new=x', '--data=a', '--old_encoder=y'], ('old_encoder',)),
    (['--new=x', '--data=a', '--batch_size=ten'], ('batch_size', 'ten')),
  ],
)
def test_a_wrong_command_line_says_what_is_wanted(
  command, tmp_path, monkeypatch, capsys, arguments, parts
):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(SystemExit) as ended:
    command('evaluate', *arguments)

  assert ended.value.code == 2
  message = capsys.readouterr().err
  assert message.startswith('error: ')
  for part in parts:
    assert part in message
  assert not list(tmp_path.iterdir())


def test_an_encoder_that_is_nowhere_is_refused(
  command, data_root, tmp_path, capsys
):
  with pytest.raises(SystemExit) as ended:
    command(
      'evaluate',
      f'--new={tmp_path / "nowhere"}',
      f'--data=roxford5k:{data_root}',
    )

  assert ended.value.code == 2
  message = capsys.readouterr().err
  assert 'nowhere: neither the workdir of a run (no config.json), nor an' in (
    message
  )
