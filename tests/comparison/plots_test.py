import itertools

from matplotlib.backends.backend_agg import FigureCanvasAgg
import pytest

from advbct_jax.comparison.plots import plot_tradeoff
from advbct_jax.comparison.summary import summarize
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
  rows = summarize(make_grid(seeds), METRICS)
  plot_tradeoff(rows, 'glyphs', tmp_path / 'tradeoff.png')

  (axes,) = figures[0].axes
  drawn = {text.get_text(): text.xy for text in axes.texts}
  assert drawn == {
    row.label: (
      row.figures['glyphs']['self'].mean,
      row.figures['glyphs']['cross'].mean,
    )
    for row in rows
    if (row.method, row.start) != ('independent', 'fresh')
  }
  assert (tmp_path / 'tradeoff.png').read_bytes()[:4] == b'\x89PNG'
  # An independent encoder's cross near zero would squeeze all the others.
  assert axes.get_ylim()[0] > 10
  left, right = axes.get_xlim()
  bottom, top = axes.get_ylim()
  assert all(left < x < right and bottom < y < top for x, y in drawn.values())


def test_labels_do_not_lie_on_each_other(figures, tmp_path):
  rows = summarize(make_grid(), METRICS)
  plot_tradeoff(rows, 'glyphs', tmp_path / 'tradeoff.png')

  boxes = [
    super(type(text), text).get_window_extent()
    for text in figures[0].axes[0].texts
  ]
  assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_the_old_and_the_independent_encoder_are_lines(figures, tmp_path):
  cells = [make_cell('independent', self_test=50.0), make_cell(old=31.5)]
  cells[0].figures['glyphs']['old'][METRIC] = 31.5
  plot_tradeoff(summarize(cells, METRICS), 'glyphs', tmp_path / 'plot.png')

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
  plot_tradeoff(summarize(cells, METRICS), 'glyphs', tmp_path / 'plot.png')

  (line,) = [
    line
    for line in figures[0].axes[0].lines
    if line.get_label().startswith('frontier')
  ]
  corners = list(zip(*line.get_data(), strict=True))
  assert corners[1:-1] == [(40, 35), (40, 33), (45, 33)]


def test_methods_differ_in_colour_and_starts_in_marker(figures, tmp_path):
  rows = summarize(make_grid(), METRICS)
  plot_tradeoff(rows, 'glyphs', tmp_path / 'plot.png')

  looks = {
    tuple(line.get_xdata()): (line.get_color(), line.get_marker())
    for line in figures[0].axes[0].lines
    if len(line.get_xdata()) == 1
  }
  by_row = {
    row.label: looks[(row.figures['glyphs']['self'].mean,)] for row in rows[3:]
  }
  assert len({colour for colour, _ in by_row.values()}) == 6
  assert by_row['L2'][0] == by_row['L2 (old)'][0]
  assert by_row['L2'][1] == by_row['BCT'][1] != by_row['L2 (old)'][1]


def test_names_that_are_not_known_are_drawn_as_well(figures, tmp_path):
  rows = summarize([make_cell('my_method', 'my_start')], METRICS)
  plot_tradeoff(rows, 'glyphs', tmp_path / 'plot.png')

  (text,) = figures[0].axes[0].texts
  assert text.get_text() == 'my method (my start)'


def test_the_independent_encoder_alone_is_refused(tmp_path):
  rows = summarize([make_cell('independent')], METRICS)

  with pytest.raises(InputError, match='no method or adapter among 1 rows'):
    plot_tradeoff(rows, 'glyphs', tmp_path / 'plot.png')
