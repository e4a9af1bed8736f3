"""`advbct adapters`, and `--adapter` of the evaluation."""

import json

import numpy as np
import pytest

from advbct_jax.commands.adapters import main
from advbct_jax.embeddings.store import open_store
from tests.adapters.small_stores import random_rotation, write

_NEW = np.random.default_rng(0).normal(size=(100, 5))


@pytest.fixture(autouse=True)
def stores(tmp_path, monkeypatch):
  monkeypatch.setattr('absl.logging.set_verbosity', lambda level: None)
  monkeypatch.chdir(tmp_path)
  write(tmp_path / 'new', _NEW)
  write(tmp_path / 'old', _NEW @ random_rotation(5))


def _refusal(capsys, *arguments):
  with pytest.raises(SystemExit) as ended:
    main(arguments)
  assert ended.value.code == 2
  return capsys.readouterr().err


def test_an_adapter_is_fitted_and_a_store_mapped(capsys):
  main(['fit', 'procrustes', 'new', 'old', 'turn'])
  main(['apply', 'turn', 'new', 'mapped'])

  out = capsys.readouterr().out
  assert 'turn: procrustes, width 5 to 5, fitted to 100 images' in out
  assert 'a mean cosine of 1.000' in out
  assert 'mapped: 100 vectors of width 5 of net+procrustes' in out
  unit = _NEW / np.linalg.norm(_NEW, axis=1, keepdims=True)
  np.testing.assert_allclose(
    open_store('mapped').read(), unit @ random_rotation(5), atol=1e-5
  )


@pytest.mark.parametrize(
  'line',
  [
    'fit new old map',
    'fit --seed=0 new old map',
    'fit new --seed 0 old map',
    'fit new old map --direction=backward',
    'fit procrustes new --seed=0 old map',
  ],
)
def test_the_rotation_is_the_kind_that_need_not_be_named(tmp_path, line):
  main(line.split())
  card = json.loads((tmp_path / 'map/card.json').read_text())
  assert card['kind'] == 'procrustes'
  assert card['options'] == {'seed': 0}


@pytest.mark.parametrize('line', ['fit new old', 'fit ridge new old map more'])
def test_too_few_or_too_many_names_are_refused(capsys, line):
  assert 'wanted: [KIND] NEW_STORE' in _refusal(capsys, *line.split())


@pytest.mark.parametrize(
  'line',
  [
    'fit new old map --turn=1',
    'fit new old map --seed=1 --turn more',
    'apply map new mapped more',
  ],
)
def test_what_a_line_may_not_hold_is_refused(capsys, line):
  assert 'unrecognized arguments' in _refusal(capsys, *line.split())


def test_a_map_forward_is_fitted_and_maps_old_stores(tmp_path, capsys):
  main(['fit', 'ridge', 'new', 'old', 'map', '--direction=forward'])
  main(['apply', 'map', 'old', 'mapped'])

  out = capsys.readouterr().out
  assert 'mapped and new vectors have a mean cosine of 1.000' in out
  assert json.loads((tmp_path / 'map/card.json').read_text())['direction'] == (
    'forward'
  )
  assert 'it is forward, and maps to the vectors of net' in _refusal(
    capsys, 'apply', 'map', 'new', 'elsewhere'
  )


def test_few_pairs_are_said_in_a_line(tmp_path, capsys):
  write(tmp_path / 'few' / 'new', np.eye(12, 16))
  write(tmp_path / 'few' / 'old', np.eye(12, 16) + 0.1)
  main(['fit', 'few/new', 'few/old', 'small'])
  err = capsys.readouterr().err
  assert err.startswith('warning: 12 pairs are few for 16 components')
  assert len(err.splitlines()) == 1


def test_few_pairs_shrink_towards_an_earlier_adapter(tmp_path):
  main(['fit', 'new', 'old', 'earlier'])
  main(['fit', 'new', 'old', 'later', '--prior=earlier', '--shrinkage=2'])
  options = json.loads((tmp_path / 'later/card.json').read_text())['options']
  assert options['shrinkage'] == 2
  assert len(options['prior']) == 64


def test_the_same_fit_again_is_fine_and_does_nothing(capsys, monkeypatch):
  main(['fit', 'ridge', 'new', 'old', 'map', '--penalty=0.1', '--seed=2'])
  monkeypatch.setattr('advbct_jax.adapters.fitting.fit_adapter', None)
  main(['fit', 'ridge', 'new', 'old', 'map', '--penalty=0.1', '--seed=2'])

  assert 'map: is there already' in capsys.readouterr().out


def test_another_fit_is_refused(capsys):
  main(['fit', 'ridge', 'new', 'old', 'map'])

  assert 'another adapter' in _refusal(
    capsys, 'fit', 'ridge', 'new', 'old', 'map', '--seed=1'
  )


def test_options_reach_the_fit(tmp_path):
  main(
    [
      *('fit', 'residual_mlp', 'new', 'old', 'map', '--steps=2', '--hidden=3'),
      *('--batch_size=4', '--learning_rate=0.1', '--penalty=1', '--seed=5'),
    ]
  )

  assert json.loads((tmp_path / 'map/card.json').read_text())['options'] == {
    'seed': 5,
    'penalty': 1.0,
    'hidden': 3,
    'steps': 2,
    'batch_size': 4,
    'learning_rate': 0.1,
  }


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['fit', 'cubic', 'new', 'old', 'map'], 'wanted: one of procrustes'),
    (['fit', 'ridge', 'nowhere', 'old', 'map'], 'no embedding store here'),
    (['fit', 'procrustes', 'new', 'old', 'map', '--steps=1'], 'told steps'),
    (['apply', 'nowhere', 'new', 'mapped'], 'no adapter here'),
  ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
  capsys, arguments, message
):
  refusal = _refusal(capsys, *arguments)
  assert refusal.startswith('error: ')
  assert message in refusal


def _write_retrieval_set(tmp_path, encoders):
  """A set of ten queries, and what encoders say of vectors [N, 5] of it."""
  vectors = np.random.default_rng(1).normal(size=(40, 5))
  said = np.concatenate([vectors[:10], vectors[:10] + 0.01, vectors[20:]])
  ids = [f'image{number}' for number in range(40)]
  root = tmp_path / 'data'
  root.mkdir()
  (root / 'index.csv').write_text('id\n' + '\n'.join(ids[10:]) + '\n')
  (root / 'test.csv').write_text('id\n' + '\n'.join(ids[:10]) + '\n')
  (root / 'retrieval_solution_v2.1.csv').write_text(
    'id,images,Usage\n'
    + ''.join(f'{ids[row]},{ids[10 + row]},Private\n' for row in range(10))
  )
  for role, say in encoders.items():
    for part, rows in (('index', slice(10, 40)), ('test', slice(0, 10))):
      folder = tmp_path / f'{role}-stores'
      write(
        folder / f'mine-{part}',
        say(said[rows]),
        ids[rows],
        weights=role,
        images=f'mine-{part}',
      )
  return root


@pytest.mark.parametrize('kind', ['procrustes', 'ridge'])
def test_evaluation_takes_an_adapter(command, tmp_path, kind):
  root = _write_retrieval_set(
    tmp_path, {'old': lambda x: x @ random_rotation(5), 'new': lambda x: x}
  )
  main(['fit', kind, 'new', 'old', 'map'])
  command(
    'evaluate',
    '--old=old-stores',
    '--new=new-stores',
    f'--data=mine:{root}',
    '--workdir=judged',
    '--adapter=map',
  )

  results = json.loads((tmp_path / 'judged/results.json').read_text())
  assert results['datasets']['mine']['cross']['private/map@100'] == 100
  assert results['encoders']['adapted']['encoder'] == f'net+{kind}'
  assert f'net+{kind}' in (tmp_path / 'judged/report.md').read_text()


def test_images_that_are_left_out_are_counted_aloud(tmp_path, capsys):
  rows = _NEW.copy()
  rows[[5, 9]] = 0
  write(tmp_path / 'zeros', rows)
  main(['fit', 'ridge', 'zeros', 'old', 'map'])

  out = capsys.readouterr().out
  assert 'fitted to 98 images' in out
  assert '2 images were left out' in out


def test_side_vectors_are_fitted_applied_and_evaluated(
  command, tmp_path, capsys
):
  """What the old encoder leaves out of a thing, the third one says."""
  encoders = {
    'narrow': lambda x: x[:, :3],
    'side': lambda x: x[:, 3:],
    'new': lambda x: x,
  }
  root = _write_retrieval_set(tmp_path, encoders)
  for role in ('narrow', 'side'):
    write(tmp_path / role, encoders[role](_NEW))
  fit = ['fit', 'ridge', 'new', 'narrow', 'map', '--direction=forward']
  main([*fit, '--side=side'])
  main(['apply', 'map', 'narrow', 'mapped', '--side=side'])
  assert 'width 5 to 5' in capsys.readouterr().out
  assert open_store('mapped').card.encoder == 'net+ridge'
  assert 'there are no side vectors, ' in _refusal(
    capsys, 'apply', 'map', 'narrow', 'more'
  )
  assert 'side: {' in _refusal(capsys, *fit)

  evaluate = (
    *('evaluate', '--old=narrow-stores', '--new=new-stores'),
    *(f'--data=mine:{root}', '--workdir=judged'),
  )
  command(*evaluate, '--adapter=map', '--side=side-stores')
  results = json.loads((tmp_path / 'judged/results.json').read_text())
  assert results['datasets']['mine']['cross']['private/map@100'] > 90
  for flag, message in (
    ('--adapter=map', 'there are no side vectors, and this one (ridge)'),
    ('--side=side-stores', 'side vectors were named, but no adapter'),
  ):
    with pytest.raises(SystemExit):
      command(*evaluate, flag)
    assert message in capsys.readouterr().err
