"""Cells of a made-up comparison, with figures where real ones lie."""

from collections.abc import Sequence

import numpy as np

from advbct_jax.comparison.results import CellResult

METRIC = 'private/map@100'
METRICS = (METRIC,)

# Method, start, self, cross.
PLACES = (
  ('independent', 'fresh', 50.8, 0.8),
  ('independent', 'procrustes', 50.8, 25.2),
  ('independent', 'ridge', 50.8, 26.8),
  ('advbct', 'fresh', 44.9, 24.6),
  ('advbct', 'old', 42.5, 28.6),
  ('advbct', 'aligned', 47.1, 27.5),
  ('bct', 'fresh', 42.4, 22.8),
  ('lce', 'fresh', 48.1, 22.1),
  ('unibct', 'fresh', 37.5, 25.0),
  ('hot_refresh', 'fresh', 34.3, 27.0),
  ('l2', 'fresh', 37.7, 30.4),
  ('l2', 'old', 38.2, 31.4),
  ('l2', 'aligned', 40.3, 30.8),
)


def make_cell(
  method: str = 'advbct',
  start: str = 'fresh',
  seed: int = 0,
  old: float = 30.0,
  self_test: float = 40.0,
  cross: float = 35.0,
  upgrade: str = 'extended_class',
  datasets: Sequence[str] = ('glyphs',),
) -> CellResult:
  """A cell with the same figures on each data set."""
  return CellResult(
    upgrade,
    method,
    start,
    seed,
    {
      dataset: {
        'old': {METRIC: old},
        'self': {METRIC: self_test},
        'cross': {METRIC: cross},
      }
      for dataset in datasets
    },
  )


def make_grid(seeds: int = 3) -> list[CellResult]:
  """All of `PLACES`, scattered by 0.5 to 2 percent over seeds."""
  random = np.random.default_rng(0)
  own = {seed: 50.8 + random.normal(0, 0.6) for seed in range(seeds)}
  cells = []
  for method, start, self_test, cross in PLACES:
    spread = random.uniform(0.5, 2)
    for seed in range(seeds):
      scattered = self_test + random.normal(0, spread)
      cells.append(
        make_cell(
          method,
          start,
          seed,
          old=31.7,
          # An adapter leaves the independent encoder's self-test as it is.
          self_test=own[seed] if method == 'independent' else scattered,
          cross=max(0.5, cross + random.normal(0, spread)),
        )
      )
  return cells
