"""The curves of a training: what is drawn of what was logged."""

import json

import pytest

from advbct_jax.training import curves

LINE = {
  'loss': 2.0,
  'boundary_loss': 0.5,
  'accuracy': 0.1,
  'cosine_to_old': 0.3,
  'learning_rate': 0.1,
  'gradient_norm': 1.0,
}


@pytest.fixture
def draw(tmp_path, monkeypatch):
  """Draws logs, and returns the curves of each panel by their labels."""

  def draw(lines, judged=()):
    for name, logged in (('metrics', lines), ('evaluations', judged)):
      text = ''.join(json.dumps(line) + '\n' for line in logged)
      (tmp_path / f'{name}.jsonl').write_text(text)
    figures = []
    monkeypatch.setattr(
      curves, 'save_figure', lambda figure, path: figures.append(figure)
    )
    curves.plot_curves(tmp_path)
    return [
      {
        axes.get_title(loc='left'): {
          line.get_label(): list(zip(*line.get_data(), strict=True))
          for line in axes.get_lines()
          if not line.get_label().startswith('_')
        }
        for axes in figure.axes
        if axes.get_visible()
      }
      for figure in figures
    ]

  return draw


def test_each_step_is_a_point_of_the_curves_of_its_panel(draw):
  lines = [LINE | {'step': 1}, LINE | {'step': 2, 'loss': 1.0}]
  (panels,) = draw(lines)

  assert {title: list(panel) for title, panel in panels.items()} == {
    'losses': ['loss', 'boundary_loss'],
    'accuracy in the batch': ['accuracy'],
    'new to old in the batch': ['cosine_to_old'],
    'learning rate': ['learning_rate'],
  }
  assert panels['losses']['loss'] == [(1, 2.0), (2, 1.0)]


def test_what_was_judged_has_a_panel_a_data_set(draw):
  judged = [
    {'step': 2, 'datasets': {'a': {'self': {'map': 1.0}}}},
    {
      'step': 4,
      'datasets': {
        'a': {'old': {'map': 9.0}, 'self': {'map': 2.0}, 'cross': {'map': 3.0}},
        'b': {'self': {'map@100': 4.0}},
      },
    },
  ]
  (panels,) = draw([LINE | {'step': 4}], judged)

  assert panels['part of a: map (%)'] == {
    'old': [(4, 9.0)],
    'self': [(2, 1.0), (4, 2.0)],
    'cross': [(4, 3.0)],
  }
  assert panels['part of b: map@100 (%)'] == {'self': [(4, 4.0)]}


def test_a_run_without_an_old_encoder_has_no_panel_of_the_two(draw):
  line = {name: LINE[name] for name in ('loss', 'accuracy', 'learning_rate')}
  (panels,) = draw([line | {'step': 1}])

  assert len(panels) == 3


def test_steps_that_lack_a_metric_are_left_out_of_its_curve(draw):
  (panels,) = draw([{'step': 1, 'loss': 3.0}, LINE | {'step': 2}])

  assert panels['losses']['loss'] == [(1, 3.0), (2, 2.0)]
  assert panels['accuracy in the batch']['accuracy'] == [(2, 0.1)]


def test_long_curves_are_smoothed_without_bending_at_their_ends(draw):
  lines = [
    LINE
    | {
      'step': step,
      'loss': step % 2,
      'learning_rate': 0.1 + 0.1 * (step > 500),
    }
    for step in range(1, 1001)
  ]
  (panels,) = draw(lines)

  values = [value for _, value in panels['losses']['loss']]
  assert len(values) == 1000
  assert values == pytest.approx([0.5] * 1000, abs=0.05)
  assert panels['learning rate']['learning_rate'][499:501] == [
    (500, 0.1),
    (501, 0.2),
  ]


def test_nothing_is_drawn_of_a_run_that_has_logged_nothing(draw):
  assert draw([]) == []
