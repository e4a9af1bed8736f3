"""Buildings: façades whose architecture follows from a seed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

_CANVAS = 144  # side of the canvas that a façade is drawn on, in pixels
GROUND = 0.97  # where buildings stand on their canvas, from its top

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]  # left, top, right, bottom


def palette(*colours: str) -> list[Colour]:
  """Colours from their hexadecimal digits, RRGGBB."""
  return [
    (red, green, blue) for red, green, blue in map(bytes.fromhex, colours)
  ]


# Brick, sandstone, limestone, granite; ochre, terracotta, brownstone, plaster.
_WALLS = palette('ac5c48', 'ccae84', 'dad0b8', '989694')
_WALLS += palette('deb876', 'c8866a', '7c5c4c', 'eae6de')
_ROOFS = palette('545c6a', 'a4543c', '6c9884', '7e7a7c')
_TRIMS = palette('f0ece2', 'ceb692', '605852', '965444')
_GLASS = palette('2e384a', '222022', '62788e')
(_IRON,) = palette('3c3632')


def _arc(turns: float, points: int = 15) -> np.ndarray:
  angles = np.linspace(0, turns, points) * 2 * np.pi
  return np.stack([0.5 - 0.5 * np.cos(angles), np.sin(angles)], axis=1)


def _steps(xs: Sequence[float], heights: Sequence[float]) -> np.ndarray:
  """A skyline with heights[i] between xs[i] and xs[i + 1]."""
  tops = [
    (x, height)
    for left, right, height in zip(xs, xs[1:], heights, strict=False)
    for x, height in ((left, height), (right, height))
  ]
  return np.array([(xs[0], 0), *tops, (xs[-1], 0)])


def _mirror(*left_half: tuple[float, float]) -> np.ndarray:
  right_half = [(1 - x, y) for x, y in reversed(left_half)]
  return np.array([*left_half, *right_half])


# [P, 2] outlines in the unit square with y upwards, to be scaled to a box.
_OUTLINES = {
  'flat': _mirror((0, 0), (0, 1)),
  'gable': _mirror((0, 0), (0.5, 1)),
  'hip': _mirror((0, 0), (0.2, 1)),
  'mansard': _mirror((0, 0), (0.06, 0.75), (0.2, 1)),
  'stepped': _steps((0, 0.17, 0.35, 0.65, 0.83, 1), (0.3, 0.65, 1, 0.65, 0.3)),
  'crenels': _steps(np.linspace(0, 1, 10).tolist(), [1, 0.4] * 4 + [1]),
  'dome': _arc(0.5),
  'onion': _mirror((0.1, 0), (0, 0.3), (0.35, 0.65), (0.5, 1)),
  'arch': np.array([(0, 0), *(_arc(0.5) * (1, 0.4) + (0, 0.6)), (1, 0)]),
  'pointed': _mirror((0, 0), (0, 0.5), (0.15, 0.8), (0.5, 1)),
  'round': _arc(1, 21) * (1, 0.5) + (0, 0.5),
}
_MAIN_ROOFS = ('flat', 'gable', 'hip', 'mansard', 'stepped', 'crenels', 'dome')
_TOWER_ROOFS = (*_MAIN_ROOFS, 'gable', 'onion')
_OPENINGS = ('flat', 'arch', 'pointed', 'round')
# Centres of the towers in shares of the main body's width.
_TOWERS: Sequence[Sequence[float]] = (
  *((), (), (0.5,), (0.5,), (0, 1), (0, 1), (0.05,), (0.95,), (0.3,)),
  *((0.25, 0.75), (0, 0.5, 1)),
)


class _Body(NamedTuple):
  """One box of a building, in shares of the canvas."""

  box: Box
  roof: str
  roof_height: float
  bays: int
  storeys: int


class _Storey(NamedTuple):
  """How the openings of a storey look, in shares of a bay."""

  opening: str
  width: float
  height: float
  panes: int
  frame: bool
  hood: str | None
  pilasters: bool
  course: bool
  blind: int  # each so-many-th bay has no opening


class _Materials(NamedTuple):
  masonry: Image.Image
  tiles: Image.Image
  trim: Colour
  glass: Colour


class Landmark(NamedTuple):
  """A building's façade and side wall; lengths in shares of the canvas."""

  front: Image.Image
  side: Image.Image
  left: float
  right: float
  depth: float


def pick(rng: np.random.Generator, choices: Sequence[Any]) -> Any:
  """One of several things, all as likely."""
  return choices[int(rng.integers(len(choices)))]


def tint(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
  """A colour near another; `spread` is the deviation of a channel's factor."""
  tinted = np.array(colour) * (1 + rng.normal(0, spread, 3))
  red, green, blue = tinted.clip(0, 255).astype(int).tolist()
  return red, green, blue


def scale_outline(outline: str, box: Box) -> list[tuple[float, float]]:
  """The corners of a named outline, stretched to fill a box."""
  left, top, right, bottom = box
  corners = (left, bottom) + _OUTLINES[outline] * (right - left, top - bottom)
  return [(x, y) for x, y in corners.tolist()]


def _draw_masonry(
  rng: np.random.Generator, colour: Colour, second: Colour
) -> Image.Image:
  """Courses of blocks, some with bands, a lattice or checks of a second hue."""
  y, x = np.indices((_CANVAS, _CANVAS))
  course, length = rng.integers(3, 12), rng.integers(5, 26)
  row = y // course
  x_bonded = x + row % 2 * (length // 2)
  blocks = rng.normal(1, rng.uniform(0.02, 0.1), (_CANVAS // 3, _CANVAS // 4))
  tone = blocks[row, x_bonded // length]
  joints = (y % course == 0) | (x_bonded % length == 0)
  tone[joints] *= rng.uniform(0.65, 1.1)
  period = rng.integers(8, 24)
  pattern = pick(
    rng,
    (
      np.zeros_like(joints),
      np.zeros_like(joints),
      row % rng.integers(2, 5) == 0,
      ((x + y) % period < 3) | ((x - y) % period < 3),
      (x // period + y // period) % 2 == 0,
      x % period < 3,
    ),
  )
  stone = np.where(pattern[..., None], second, colour) * tone[..., None]
  rgb = stone.clip(0, 255).astype(np.uint8)
  return Image.fromarray(rgb).convert('RGBA')


def _paste(
  canvas: Image.Image, outline: str, box: Box, material: Image.Image
) -> None:
  mask = Image.new('L', canvas.size)
  ImageDraw.Draw(mask).polygon(scale_outline(outline, box), fill=255)
  canvas.paste(material, mask=mask)


def _design_storey(rng: np.random.Generator, opening: str) -> _Storey:
  return _Storey(
    opening=opening,
    width=rng.uniform(0.3, 0.8),
    height=rng.uniform(0.4, 0.85),
    panes=int(rng.integers(1, 4)),
    frame=bool(rng.random() < 0.6),
    hood=pick(rng, (None, None, 'flat', 'gable', 'dome')),
    pilasters=bool(rng.random() < 0.3),
    course=bool(rng.random() < 0.5),
    blind=int(pick(rng, (0, 0, 0, 2, 3))),
  )


def _draw_opening(
  draw: ImageDraw.ImageDraw, design: _Storey, box: Box, materials: _Materials
) -> None:
  left, top, right, bottom = box
  if design.frame:
    frame = (left - 1.5, top - 1.5, right + 1.5, bottom + 1.5)
    draw.polygon(scale_outline(design.opening, frame), fill=materials.trim)
  draw.polygon(scale_outline(design.opening, box), fill=materials.glass)
  for pane in range(1, design.panes):
    x = left + (right - left) * pane / design.panes
    draw.line((x, top + 1, x, bottom), fill=materials.trim)
  if design.hood:
    rise = 2 + 0.2 * (right - left)
    hood = (left - 2, top - 2 - rise, right + 2, top - 2)
    draw.polygon(scale_outline(design.hood, hood), fill=materials.trim)


def _draw_storey(
  draw: ImageDraw.ImageDraw,
  design: _Storey,
  box: Box,
  bays: int,
  materials: _Materials,
) -> None:
  left, top, right, bottom = box
  width, height = (right - left) / bays, bottom - top
  for bay in range(bays):
    if design.blind and bay % design.blind == 1:
      continue
    centre = left + (bay + 0.5) * width
    half = design.width * width / 2
    rise = min(design.height * height, 5 * half)
    sill = bottom - 0.08 * height
    opening = (centre - half, sill - rise, centre + half, sill)
    _draw_opening(draw, design, opening, materials)
  if design.pilasters:
    for x in np.linspace(left + 1, right - 1, bays + 1):
      draw.rectangle((x - 1, top, x + 1, bottom), fill=materials.trim)
  if design.course:
    draw.rectangle((left, top - 1, right, top + 1), fill=materials.trim)


def _draw_body(
  canvas: Image.Image,
  body: _Body,
  designs: Sequence[_Storey],
  materials: _Materials,
) -> None:
  left, top, right, bottom = (_CANVAS * edge for edge in body.box)
  roof = (left - 2, top - _CANVAS * body.roof_height, right + 2, top)
  _paste(canvas, body.roof, roof, materials.tiles)
  _paste(canvas, 'flat', (left, top, right, bottom), materials.masonry)
  draw = ImageDraw.Draw(canvas)
  height = (bottom - top) / body.storeys
  for storey in range(body.storeys):
    # The ground floor has a design of its own, the rest take turns.
    design = designs[1 + storey % (len(designs) - 1) if storey else 0]
    floor = bottom - storey * height
    box = (left, floor - height, right, floor)
    _draw_storey(draw, design, box, body.bays, materials)
  draw.rectangle((left - 2, top - 1, right + 2, top + 1), fill=materials.trim)
  for x in (left, right):  # so that bodies of one masonry stand apart
    draw.line((x, top, x, bottom), fill=_IRON)


def _mass(rng: np.random.Generator) -> list[_Body]:
  """The bodies of a building from the back to the front, the main one first."""
  width, top = rng.uniform(0.45, 0.8), rng.uniform(0.35, 0.68)
  left, right = 0.5 - width / 2, 0.5 + width / 2
  storeys = int(rng.integers(1, 6))
  bays = int(rng.integers(2, 9))
  rise = rng.uniform(0.04, 0.22)
  box = (left, top, right, GROUND)
  bodies = [_Body(box, pick(rng, _MAIN_ROOFS), rise, bays, storeys)]
  centres = pick(rng, _TOWERS)
  half = width * rng.uniform(0.07, 0.3 if len(centres) == 1 else 0.14)
  tower_top = rng.uniform(0.15, top + 0.02)
  roof_height = min(rng.uniform(0.04, 0.3), tower_top - 0.02)
  tower_roof = pick(rng, _TOWER_ROOFS)
  tower_storeys = storeys + int(rng.integers(0, 3))
  for centre in centres:
    middle = left + centre * width
    edges = max(middle - half, 0.02), min(middle + half, 0.98)
    box = (edges[0], tower_top, edges[1], GROUND)
    bays = 1 + int(half > 0.09) + int(half > 0.16)
    bodies.append(_Body(box, tower_roof, roof_height, bays, tower_storeys))
  return bodies


def _draw_portal(
  draw: ImageDraw.ImageDraw, rng: np.random.Generator, materials: _Materials
) -> None:
  """A door, perhaps under a portico."""
  ground = GROUND * _CANVAS
  middle = _CANVAS * pick(rng, (0.5, 0.5, 0.5, 0.36, 0.64))
  half, rise = rng.uniform(5, 14), rng.uniform(14, 34)
  design = _design_storey(rng, pick(rng, _OPENINGS[:3]))
  if rng.random() < 0.35:
    wide = half + rng.uniform(6, 20)
    left, eaves, right = middle - wide, ground - rise - 4, middle + wide
    porch = tint(rng, materials.trim, 0.08)
    draw.rectangle((left, eaves, right, ground), fill=porch)
    pediment = (left - 2, eaves - wide / 2, right + 2, eaves)
    draw.polygon(scale_outline('gable', pediment), fill=materials.trim)
    for x in np.linspace(left, right, int(rng.integers(4, 8))):
      draw.line((x, eaves, x, ground), fill=_IRON, width=2)
  door = (middle - half, ground - rise, middle + half, ground)
  _draw_opening(draw, design, door, materials)


def draw_disc(
  draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, paint: Colour
) -> None:
  """Draws a filled circle about x, y."""
  draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=paint)


def _draw_rose(
  draw: ImageDraw.ImageDraw,
  rng: np.random.Generator,
  body: _Body,
  materials: _Materials,
) -> None:
  """A rose window or a clock at the top of a body."""
  left, top, right, _ = body.box
  x, y = _CANVAS * (left + right) / 2, _CANVAS * (top + 0.09)
  radius = rng.uniform(4, 11)
  draw_disc(draw, x, y, radius + 2, materials.trim)
  draw_disc(draw, x, y, radius, materials.glass)
  draw_disc(draw, x, y, radius / 3, materials.trim)


def draw_landmark(rng: np.random.Generator) -> Landmark:
  """Designs a building and draws its walls; all of it follows from `rng`."""
  wall = tint(rng, pick(rng, _WALLS), 0.04)
  roof = tint(rng, pick(rng, _ROOFS), 0.04)
  materials = _Materials(
    masonry=_draw_masonry(rng, wall, pick(rng, _WALLS)),
    tiles=_draw_masonry(rng, roof, tint(rng, roof, 0.2)),
    trim=pick(rng, _TRIMS),
    glass=pick(rng, _GLASS),
  )
  openings = [pick(rng, _OPENINGS) for _ in range(3)]
  designs = [_design_storey(rng, opening) for opening in openings]
  tower_designs = [_design_storey(rng, opening) for opening in openings]
  bodies = _mass(rng)
  # Of the wall's colour where it is transparent, lest edges be dark-fringed.
  front = Image.new('RGBA', (_CANVAS, _CANVAS), (*wall, 0))
  for body in bodies:
    body_designs = designs if body is bodies[0] else tower_designs
    _draw_body(front, body, body_designs, materials)
  draw = ImageDraw.Draw(front)
  _draw_portal(draw, rng, materials)
  if rng.random() < 0.45:
    _draw_rose(draw, rng, bodies[-1], materials)

  main = bodies[0]
  left, top, right, bottom = main.box
  depth = rng.uniform(0.2, 0.5)
  side = Image.new('RGBA', (_CANVAS, _CANVAS), (*wall, 0))
  wall_body = main._replace(
    box=(0.0, top, 1.0, bottom),
    roof=main.roof if main.roof in ('flat', 'crenels') else 'hip',
    bays=max(1, round(main.bays * depth / (right - left))),
  )
  _draw_body(side, wall_body, designs, materials)
  return Landmark(front, side, left, right, depth)
