import json

import numpy as np
import pytest

from advbct_jax.commands import main
from tests.adapters.small_stores import write
from tests.made_up_upgrade import make_vectors


def write_folder(root, widths=(28, 32), solution=True):
  """Two encoders' vectors in the layout of published pairs; returns ROOT."""
  old, new, labels = make_vectors(600, 20, widths)
  parts = {
    'train': range(240),
    'index': range(240, 560),
    'test': range(560, 600),
  }
  for part, rows in parts.items():
    for side, vectors in (('old', old), ('new', new)):
      (root / side).mkdir(parents=True, exist_ok=True)
      np.savez(
        root / side / f'{part}.npz',
        embeddings=vectors[list(rows)],
        ids=[f'{part}{row}' for row in rows],
      )
  named = {
    part: [f'{part}{row}' for row in rows] for part, rows in parts.items()
  }
  (root / 'train_clean.csv').write_text(
    'landmark_id,images\n1,' + ' '.join(named['train']) + '\n'
  )
  for part in ('index', 'test'):
    (root / f'{part}.csv').write_text('\n'.join(['id', *named[part]]) + '\n')
  lines = ['id,images,Usage']
  for query in parts['test']:
    answers = [
      f'index{row}' for row in parts['index'] if labels[row] == labels[query]
    ]
    lines.append(f'test{query},{" ".join(answers)},Private')
  (root / 'retrieval_solution_v2.1.csv').write_text('\n'.join(lines) + '\n')
  return root


def evaluate(root, *flags):
  main(
    [
      'evaluate',
      f'--old={root / "old"}',
      f'--new={root / "new"}',
      f'--data=made-up:{root}',
      f'--workdir={root / "judged"}',
      *flags,
    ]
  )


@pytest.mark.parametrize('widths', [(28, 32), (32, 28), (32, 32)])
def test_policies_are_measured_between_encoders_of_any_widths(
  tmp_path, capsys, widths
):
  evaluate(write_folder(tmp_path, widths), '--refresh=old,auto,cascade:20')
  out = capsys.readouterr().out
  assert 'auto, both encoders' in out
  assert 'cascade, 20' in out
  written = json.loads(
    (tmp_path / 'judged' / 'refresh_policies.json').read_text('utf-8')
  )
  for curve in written['made-up']['curves']:
    assert curve['mean'][-1] == written['made-up']['self']


@pytest.mark.parametrize(
  ('flag', 'message'),
  [
    ('--refresh=best', "the policy 'best' was asked for"),
    ('--refresh_order=best', "the order 'best' was asked for"),
    ('--adapter=somewhere', 'takes no --adapter, --side or --ind'),
  ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, capsys, flag, message):
  with pytest.raises(SystemExit) as ended:
    evaluate(write_folder(tmp_path), '--refresh=old', flag)
  assert ended.value.code == 2
  assert message in capsys.readouterr().err


def test_policies_need_an_old_encoder(tmp_path, capsys):
  root = write_folder(tmp_path)
  with pytest.raises(SystemExit):
    main(
      [
        'evaluate',
        f'--new={root / "new"}',
        f'--data=made-up:{root}',
        f'--workdir={root / "judged"}',
        '--refresh=auto',
      ]
    )
  assert 'no old encoder was named' in capsys.readouterr().err


def test_a_plan_is_printed_with_days_and_bytes(tmp_path, capsys):
  old, new, labels = make_vectors()
  names = [str(label) for label in labels]
  write(tmp_path / 'old', old, labels=names)
  write(tmp_path / 'new', new)
  main(
    [
      'refresh',
      'plan',
      str(tmp_path / 'old'),
      str(tmp_path / 'new'),
      '--sample=500',
      '--gallery_size=8640000',
      '--rate=50',
    ]
  )
  out = capsys.readouterr().out
  assert '500 things in both spaces' in out
  assert 'new vectors of 8640000 things: 1.1 GB' in out
  assert '2.0 days at 50 a second' in out
  assert 'Take the policy auto' in out


def test_a_plan_takes_files_of_vectors(tmp_path, capsys):
  root = write_folder(tmp_path)
  paths = [str(root / side / 'train.npz') for side in ('old', 'new')]
  main(['refresh', 'plan', *paths])
  assert '240 things in both spaces' in capsys.readouterr().out


def test_a_plan_of_several_files_is_refused(tmp_path, capsys):
  root = write_folder(tmp_path)
  with pytest.raises(SystemExit, match='2'):
    main(['refresh', 'plan', str(root / 'old'), str(root / 'new')])
  assert 'index, test, train' in capsys.readouterr().err


@pytest.mark.parametrize('side', ['old', 'new'])
def test_an_encoder_that_says_one_thing_is_refused(tmp_path, capsys, side):
  root = write_folder(tmp_path)
  path = root / side / 'index.npz'
  with np.load(path) as read:
    constant = np.repeat(read['embeddings'][:1], len(read['ids']), axis=0)
    np.savez(path, embeddings=constant, ids=read['ids'])
  with pytest.raises(SystemExit, match='2'):
    evaluate(root, '--refresh=auto')
  assert f"only 1 of 320 {side} gallery's vectors" in capsys.readouterr().err
