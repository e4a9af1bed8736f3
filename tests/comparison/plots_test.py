import itertools

from matplotlib.backends.backend_agg import FigureCanvasAgg
import numpy as np
import pytest

from advbct_jax.comparison.averages import average, tabulate
from advbct_jax.comparison.labels import row_label
from advbct_jax.comparison.plots import plot_tradeoff
from advbct_jax.errors import InputError
from tests.comparison.made_up_cells import (
  METRIC,
  METRICS,
  make_cell,
  make_grid,
)


@pytest.fixture
def figures(monkeypatch):
  """The figures that are written, as matplotlib holds them."""
  written = []
  print_png = FigureCanvasAgg.print_png

  def keep(canvas, path):
    written.append(canvas.figure)
    print_png(canvas, path)

  monkeypatch.setattr(FigureCanvasAgg, 'print_png', keep)
  return written


@pytest.mark.parametrize('seeds', [1, 3])
def test_each_row_that_competes_is_a_labelled_point_at_its_means(
  figures, tmp_path, seeds
):
  table = tabulate(make_grid(seeds), METRICS)
  plot_tradeoff(table, tmp_path / 'tradeoff.png')

  (axes,) = figures[0].axes
  means = average(table, ['method', 'start']).drop([('independent', 'fresh')])
  points = dict(
    zip(
      (row_label(*key) for key in means.index),
      zip(means['self', 'mean'], means['cross', 'mean'], strict=True),
      strict=True,
    )
  )
  assert {text.get_text() for text in axes.texts} == set(points)
  drawn = {
    (line.get_xdata()[0], line.get_ydata()[0])
    for line in axes.lines
    if len(line.get_xdata()) == 1
  }
  assert drawn == set(points.values())
  # A label is no farther from its own point than two of the others.
  for text in axes.texts:
    at = axes.transData.transform(text.get_position())
    away = {
      label: np.hypot(*(axes.transData.transform(point) - at))
      for label, point in points.items()
    }
    assert away[text.get_text()] <= sorted(away.values())[2]
  assert (tmp_path / 'tradeoff.png').read_bytes()[:4] == b'\x89PNG'
  # An independent encoder's cross near zero would squeeze all the others.
  assert axes.get_ylim()[0] > 10
  left, right = axes.get_xlim()
  bottom, top = axes.get_ylim()
  assert all(left < x < right and bottom < y < top for x, y in drawn)


def test_of_very_many_rows_those_have_labels_that_few_others_dominate(
  figures, tmp_path
):
  cells = [
    make_cell(f'made_{row}', self_test=40.0 + row, cross=10.0 + row)
    for row in range(60)
  ]
  plot_tradeoff(tabulate(cells, METRICS), tmp_path / 'tradeoff.png')

  (axes,) = figures[0].axes
  labels = {text.get_text() for text in axes.texts}
  assert labels == {row_label(f'made_{row}', 'fresh') for row in range(20, 60)}


def test_labels_lie_neither_on_each_other_nor_on_a_marker(figures, tmp_path):
  table = tabulate(make_grid(), METRICS)
  plot_tradeoff(table, tmp_path / 'tradeoff.png')

  boxes = [text.get_window_extent() for text in figures[0].axes[0].texts]
  assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
  (axes,) = figures[0].axes
  markers = [line for line in axes.lines if len(line.get_xdata()) == 1]
  points = axes.transData.transform([line.get_xydata()[0] for line in markers])
  assert not any(box.contains(*point) for box in boxes for point in points)


def test_the_old_and_the_independent_encoder_are_lines(figures, tmp_path):
  cells = [make_cell('independent', self_test=50.0), make_cell(old=31.5)]
  cells[0].figures['glyphs']['old'][METRIC] = 31.5
  plot_tradeoff(tabulate(cells, METRICS), tmp_path / 'plot.png')

  lines = {
    line.get_label().split(':')[0]: line for line in figures[0].axes[0].lines
  }
  assert set(lines['old encoder'].get_ydata()) == {31.5}
  assert lines['old encoder'].get_linestyle() == '--'
  assert set(lines['independent encoder'].get_xdata()) == {50.0}
  assert lines['independent encoder'].get_linestyle() == ':'


def test_the_frontier_steps_down_through_what_nothing_beats(figures, tmp_path):
  cells = [
    make_cell('l2', self_test=40.0, cross=35.0),
    make_cell('bct', self_test=41.0, cross=31.0),
    make_cell('advbct', self_test=45.0, cross=33.0),
  ]
  plot_tradeoff(tabulate(cells, METRICS), tmp_path / 'plot.png')

  (line,) = [
    line
    for line in figures[0].axes[0].lines
    if line.get_label().startswith('frontier')
  ]
  points = list(zip(*line.get_data(), strict=True))
  left, bottom = figures[0].axes[0].viewLim.min
  assert points == [(left, 35), (40, 35), (45, 33), (45, bottom)]
  # Down at the better cross, then to the right.
  assert line.get_drawstyle() == 'steps-pre'


def test_methods_differ_in_colour_and_starts_in_marker(figures, tmp_path):
  table = tabulate(make_grid(), METRICS)
  plot_tradeoff(table, tmp_path / 'plot.png')

  looks = {
    tuple(line.get_xdata()): (line.get_color(), line.get_marker())
    for line in figures[0].axes[0].lines
    if len(line.get_xdata()) == 1
  }
  means = average(table, ['method', 'start'])['self', 'mean'].iloc[3:]
  by_row = {row_label(*key): looks[(mean,)] for key, mean in means.items()}
  assert len({colour for colour, _ in by_row.values()}) == 6
  assert by_row['L2'][0] == by_row['L2 (old)'][0]
  assert by_row['L2'][1] == by_row['BCT'][1] != by_row['L2 (old)'][1]


def test_names_that_are_not_known_are_drawn_as_well(figures, tmp_path):
  table = tabulate([make_cell('my_method', 'my_start')], METRICS)
  plot_tradeoff(table, tmp_path / 'plot.png')

  (text,) = figures[0].axes[0].texts
  assert text.get_text() == 'my method (my start)'


def test_the_independent_encoder_alone_is_refused(tmp_path):
  table = tabulate([make_cell('independent')], METRICS)

  with pytest.raises(InputError, match='no method or adapter among 1 rows'):
    plot_tradeoff(table, tmp_path / 'plot.png')
