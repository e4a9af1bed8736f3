"""How plots look: colours, bare axes, files."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers tell apart.
SIDE_COLOURS = {
  'old': '#8C8C8C',
  'cross': '#E69F00',
  'self': '#0072B2',
  'independent': '#009E73',
}
LINE_COLOURS = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#56B4E9')


def strip_axes(axes: Axes) -> None:
  """Takes from axes what says nothing, and adds a faint grid."""
  axes.spines[['top', 'right']].set_visible(False)
  axes.grid(axis='y', color='#E5E5E5')
  axes.set_axisbelow(True)


def save_figure(figure: Figure, path: pathlib.Path) -> None:
  """Writes a figure as a .png."""
  # Imported here: it takes half a second, which every command would pay for.
  from matplotlib.backends.backend_agg import FigureCanvasAgg

  # Without pyplot: no global state, and no window where there is no screen.
  figure.set_dpi(150)
  figure.set_layout_engine('constrained')
  FigureCanvasAgg(figure).print_png(path)
