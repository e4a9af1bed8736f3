import importlib

import jax.numpy as jnp
import pytest

from advbct_jax.errors import DivergedError, InputError
from advbct_jax.training.logging import MetricsLog, read_figures, read_metrics


def _log(workdir, start=0, tensorboard=False):
  return MetricsLog(
    workdir, start=start, steps=9, batch_size=4, tensorboard=tensorboard
  )


def _metrics(loss):
  return {'loss': jnp.asarray(loss), 'accuracy': jnp.asarray(0.5)}


def _write(workdir, steps, start=0):
  log = _log(workdir, start)
  for step in steps:
    log.add(step, _metrics(step / 2))
  log.flush()
  log.close()


def test_every_step_is_a_line(tmp_path):
  log = _log(tmp_path)
  log.add(1, _metrics(2.5))
  log.add(2, _metrics(1.5))
  assert read_metrics(tmp_path) == []  # until they are asked for
  log.flush()

  first, second = read_metrics(tmp_path)
  assert first.pop('images_per_second') > 0
  assert first == {'step': 1, 'loss': 2.5, 'accuracy': 0.5}
  assert (second['step'], second['loss']) == (2, 1.5)


def test_steps_that_are_taken_again_replace_what_was_logged_of_them(tmp_path):
  _write(tmp_path, [1, 2, 3, 4])
  _write(tmp_path, [3], start=2)

  assert [line['step'] for line in read_metrics(tmp_path)] == [1, 2, 3]


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path):
  _write(tmp_path, [1, 2])
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 3, "los')
  _write(tmp_path, [4], start=3)

  assert [line['step'] for line in read_metrics(tmp_path)] == [1, 2, 4]


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_metric_that_is_not_finite_stops_after_the_steps_before(
  tmp_path, value
):
  log = _log(tmp_path)
  for step, loss in enumerate((1.0, value, 3.0), start=1):
    log.add(step, _metrics(loss))
  with pytest.raises(DivergedError, match=f'loss is {value} at step 2'):
    log.flush()

  # On disk already, though nobody has closed the log.
  assert [line['step'] for line in read_metrics(tmp_path)] == [1]


def test_tensorboard_gets_every_metric_of_every_step(tmp_path):
  log = _log(tmp_path, tensorboard=True)
  log.add(1, _metrics(2.5))
  log.add(2, _metrics(1.5))
  log.flush()
  log.close()

  (events,) = (tmp_path / 'tensorboard').iterdir()
  values = [
    (event.step, value.tag, value.simple_value)
    for event in _read_events(events)
    for value in event.summary.value
    if value.tag != 'images_per_second'
  ]
  assert values == [
    (1, 'accuracy', 0.5),
    (1, 'loss', 2.5),
    (2, 'accuracy', 0.5),
    (2, 'loss', 1.5),
  ]


def _figures(value):
  return {'tiny': {'old': {'map': 1.0}, 'cross': {'map': value}}}


def test_steps_that_are_judged_again_replace_what_was_judged_of_them(tmp_path):
  for start, steps in ((0, (2, 4, 6)), (3, (4,))):
    log = _log(tmp_path, start)
    for step in steps:
      log.add_figures(step, step // 2, _figures(start + step))
    log.close()

  assert read_figures(tmp_path) == [
    {'step': 2, 'epoch': 1, 'datasets': _figures(2)},
    {'step': 4, 'epoch': 2, 'datasets': _figures(7)},
  ]


def test_what_was_judged_is_said_and_goes_to_tensorboard(tmp_path, capsys):
  log = _log(tmp_path, tensorboard=True)
  log.add_figures(4, 2, _figures(3.456))
  log.close()

  said = capsys.readouterr().out
  assert 'epoch 2, part of tiny, map: old 1.00, cross 3.46' in said
  (events,) = (tmp_path / 'tensorboard').iterdir()
  values = {
    value.tag: (event.step, pytest.approx(value.simple_value))
    for event in _read_events(events)
    for value in event.summary.value
  }
  assert values == {'tiny/map/old': (4, 1.0), 'tiny/map/cross': (4, 3.456)}


def test_nothing_is_written_for_tensorboard_unasked(tmp_path):
  _write(tmp_path, [1])

  assert [path.name for path in tmp_path.iterdir()] == ['metrics.jsonl']


def test_missing_tensorboard_is_an_error_that_says_what_to_install(
  tmp_path, monkeypatch
):
  def import_module(name):
    raise ModuleNotFoundError(f"No module named '{name}'")

  monkeypatch.setattr(importlib, 'import_module', import_module)
  with pytest.raises(InputError, match=r"install 'advbct_jax\[tensorboard\]'"):
    _log(tmp_path, tensorboard=True)


def _read_events(path):
  """Reads TensorBoard's records: length, 4 bytes, event, 4 bytes."""
  from tensorboardX.proto.event_pb2 import Event

  content = path.read_bytes()
  at = 0
  while at < len(content):
    length = int.from_bytes(content[at : at + 8], 'little')
    yield Event.FromString(content[at + 12 : at + 12 + length])
    at += 16 + length
