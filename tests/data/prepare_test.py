import pathlib
import re
import shlex

from PIL import Image
import pytest

from advbct_jax.commands.prepare import main
from advbct_jax.data import gldv2, revisited
from advbct_jax.data.splits import split_training_set


@pytest.fixture
def birds(tmp_path: pathlib.Path) -> pathlib.Path:
  for label in ('kite', 'owl', 'wren', 'crane'):
    (tmp_path / 'birds' / label).mkdir(parents=True)
    for shade in range(5):
      Image.new('RGB', (9, 9), (shade, 0, 0)).save(
        tmp_path / 'birds' / label / f'{shade}.jpg'
      )
  return tmp_path / 'birds'


def test_own_images_then_records_then_load(birds, tmp_path, capsys):
  out, packed = tmp_path / 'out', tmp_path / 'packed'
  main(['own', str(birds), str(out), '--held_out=0.5'])
  printed = capsys.readouterr().out
  assert '10 images to train on' in printed
  assert '8 index images and 2 queries' in printed
  assert f'advbct train --config=gldv2 --config.data.root={out} ' in printed
  arguments = ['records', f'gldv2:{out}', str(packed), '--longest_side=4']
  main(arguments)
  assert f'--config.data.root={packed}' in capsys.readouterr().out
  train = gldv2.load_train(packed)
  assert len(train) == 10
  assert train.load(9, 4).shape == (4, 4, 3)


@pytest.mark.parametrize(
  ('flags', 'upright'),
  [([], True), (['--upright'], True), (['--noupright'], False)],
)
def test_a_flag_says_whether_images_are_turned(birds, tmp_path, flags, upright):
  out = tmp_path / 'out'
  main(['own', str(birds), str(out), *flags])
  assert gldv2.load_train(out).upright == upright


@pytest.mark.parametrize('classes', [2, 3, 4, 5])
def test_the_command_that_is_printed_trains_on_few_classes(
  tmp_path, capsys, classes
):
  for label in range(classes):
    (tmp_path / 'few' / str(label)).mkdir(parents=True)
    for shade in range(4):
      Image.new('RGB', (9, 9), (shade, 0, 0)).save(
        tmp_path / 'few' / str(label) / f'{shade}.jpg'
      )
  out = tmp_path / 'out'
  main(['own', str(tmp_path / 'few'), str(out)])
  printed = capsys.readouterr().out
  if classes == 2:
    assert 'One class is left to train on, and training needs two' in printed
    assert 'advbct train' not in printed
    assert f'advbct evaluate --old=… --new=… --data=out:{out}' in printed
    return
  fraction = float(
    (re.findall(r'--config.data.split.old_fraction=(\S+)', printed) or [0.3])[0]
  )
  labels = gldv2.load_train(out).labels
  split = split_training_set(labels, 'extended_class', fraction, seed=666)
  assert split.old_classes >= 1


def test_printed_commands_survive_a_blank_in_a_path(birds, tmp_path, capsys):
  out = tmp_path / 'my birds'
  main(['own', str(birds), str(out)])
  [command] = [
    line
    for line in capsys.readouterr().out.splitlines()
    if 'advbct train' in line
  ]
  assert f'--config.data.root={out}' in shlex.split(command)
  assert "--config.evaluation.data=('my birds',)" in shlex.split(command)


def test_a_revisited_set_is_packed(revisited_root, tmp_path, capsys):
  out = tmp_path / 'packed'
  main(['records', f'rtiny:{revisited_root}', str(out)])
  assert f'--data=rtiny:{out}' in capsys.readouterr().out
  assert revisited.load_retrieval(out, 'rtiny').gallery.images[3]


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['own', 'nowhere', 'out'], 'nowhere: no such folder or file'),
    (['own', '{birds}', 'out', '--held_out=2'], 'held_out: found 2.0'),
    (['records', 'gldv2', 'out'], 'data set gldv2: found no folder'),
    (['records', 'gldv2:{birds}', 'out'], 'data set gldv2: found none of'),
    (
      ['records', 'gldv2:x', 'out', '--longest_side=0'],
      'longest_side: found 0',
    ),
  ],
)
def test_input_to_be_mended_is_one_line_and_status_2(
  birds, tmp_path, capsys, monkeypatch, arguments, message
):
  monkeypatch.chdir(tmp_path)
  arguments = [argument.format(birds=birds) for argument in arguments]
  with pytest.raises(SystemExit) as ended:
    main(arguments)

  assert ended.value.code == 2
  printed = capsys.readouterr()
  assert printed.err.startswith('error: ')
  assert message in printed.err
  assert printed.out == ''
  assert not (tmp_path / 'out').exists()
