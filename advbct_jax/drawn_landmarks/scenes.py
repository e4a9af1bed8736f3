"""Views of buildings: camera, backdrop, occluders and light."""

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from advbct_jax.drawn_landmarks.buildings import (
  GROUND,
  Box,
  Landmark,
  draw_disc,
  palette,
  pick,
  scale_outline,
  tint,
)

_OVERSAMPLING = 2  # a view is drawn this many times larger than it is stored
_MAX_OCCLUDERS = 12

_WOOD, _SKIN, _RUBBER = palette('4a382a', 'c49678', '18181a')
_POLES, _PLANKS, _NET = palette('5a5a5e', '847054', '78968c')
_GROUNDS = palette('a69e94', '6c8450', 'cab894', '68686c')
_LEAVES = palette('365c2c', '547434', '9c702c', '26422e')
_PAINTS = palette('b22828', '2c4684', 'e0e0de', '242428', 'd6b03c')
# Overcast, clear, dusk, and night before it is darkened; overhead and below.
_SKIES_ABOVE = palette('aab0b6', '588cce', '6c70a0', '2c3258')
_SKIES_BELOW = palette('d4d6d6', 'bcd4e8', 'eeb280', '5c5e80')
_WEATHER = (0.35, 0.4, 0.15, 0.1)
_OVERCAST, _NIGHT = 0, 3


@dataclasses.dataclass(frozen=True)
class Difficulty:
  """How much the images of one landmark differ.

  Attributes:
    max_angle: the camera stands up to this many degrees to either side of the
      façade's normal; at most 75.
    light: strength of sun, shadows, colour temperature, haze and night, from 0
      (even, white) to 1.
    occlusion: share of the landmark, from 0 to 1, that trees, people, cars and
      scaffolds are drawn to hide at most; the last of them may hide more.
    framing: strength of zoom, shift and tilt, from 0 (centred) to 1.
  """

  max_angle: float = 50.0
  light: float = 0.8
  occlusion: float = 0.3
  framing: float = 0.8


DEFAULT_DIFFICULTY = Difficulty()


class View(NamedTuple):
  """An image, its angle in degrees, and the landmark's box and hidden share."""

  image: Image.Image
  angle: float
  hidden: float
  box: Box


def _rotate(axis: int, degrees: float) -> np.ndarray:
  rotation = np.eye(3)
  plane = [(axis + 1) % 3, (axis + 2) % 3]
  cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
  rotation[np.ix_(plane, plane)] = [[cos, -sin], [sin, cos]]
  return rotation


def _aim_camera(
  rng: np.random.Generator, angle: float, size: int, framing: float
) -> np.ndarray:
  """A [3, 4] projection of façade coordinates (x, y down, z away) to pixels."""
  tilt, roll = framing * rng.uniform((-14, -7), (5, 7))
  distance = rng.uniform(1.5, 3.5)
  zoom = size * distance * (1.15 + framing * rng.uniform(-0.35, 0.35))
  x, y = size * (0.5 + framing * rng.uniform(-0.12, 0.12, 2))
  lens = np.array([[zoom, 0, x], [0, zoom, y], [0, 0, 1]])
  pose = _rotate(2, roll) @ _rotate(0, tilt) @ _rotate(1, angle)
  centre = pose @ (-0.5, -0.5, 0.0) + (0.0, 0.0, distance)
  return lens @ np.column_stack([pose, centre])


def _stand(
  scene: Image.Image,
  wall: Image.Image,
  camera: np.ndarray,
  origin: tuple[float, float, float],
  across: tuple[float, float, float],
) -> None:
  """Draws a vertical wall into a scene, unless it is seen from behind.

  Args:
    scene: RGBA, drawn upon.
    wall: RGBA canvas of the wall.
    camera: [3, 4] projection.
    origin: where the wall's left top corner stands.
    across: from there to its right top corner.
  """
  corners = np.zeros((4, 3))
  corners[:3, 0] = np.array(across) / wall.width
  corners[1, 1] = 1 / wall.height
  corners[:, 2] = (*origin, 1)
  homography = camera @ corners
  if np.linalg.det(homography) <= 0:
    return
  inverse = np.linalg.inv(homography)
  warped = wall.transform(
    scene.size,
    Image.Transform.PERSPECTIVE,
    (inverse / inverse[2, 2]).ravel()[:8].tolist(),
    Image.Resampling.BILINEAR,
  )
  scene.alpha_composite(warped)


def _draw_backdrop(
  rng: np.random.Generator,
  size: int,
  weather: int,
  horizon: float,
  neighbours: Sequence[Image.Image],
) -> Image.Image:
  height = np.linspace(0, 1, size)[:, None, None]
  clouds = Image.fromarray(rng.integers(0, 40, (5, 5), np.uint8))
  soft = np.asarray(clouds.resize((size, size), Image.Resampling.BICUBIC))
  above, below = np.array([_SKIES_ABOVE[weather], _SKIES_BELOW[weather]])
  air = (1 - height) * above + height * below + soft[..., None]
  ground = np.array(tint(rng, pick(rng, _GROUNDS), 0.06))
  grain = rng.normal(1, 0.05, (size, size, 1))
  rgb = np.where(height * size < horizon, air, ground * grain)
  backdrop = Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).convert('RGBA')
  for _ in range(rng.integers(0, 5)):
    neighbour = pick(rng, neighbours)
    width, rise = (rng.uniform(0.3, 0.8, 2) * size).astype(int).tolist()
    small = neighbour.resize((width, rise), Image.Resampling.BILINEAR)
    x = int(pick(rng, (0, size)) + rng.normal(0, 0.2) * size - width / 2)
    foot = int(horizon + 0.04 * size - GROUND * rise)
    backdrop.paste(small, (x, foot), small)
  return backdrop


def _draw_tree(
  draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, size: int
) -> None:
  rise, foot = size * rng.uniform(0.25, 0.75), size * rng.uniform(0.85, 1.05)
  trunk = 1 + size * 0.02
  draw.line((x, foot, x, foot - rise), fill=_WOOD, width=int(trunk))
  leaves = pick(rng, _LEAVES)
  radius = rise * rng.uniform(0.15, 0.28)
  for dx, dy in rng.normal(0, 0.55 * radius, (16, 2)):
    blob = radius * rng.uniform(0.35, 0.7)
    shade = tint(rng, leaves, 0.15)
    draw_disc(draw, x + dx, foot - rise + dy, blob, shade)


def _draw_person(
  draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, size: int
) -> None:
  rise, foot = size * rng.uniform(0.12, 0.4), size * rng.uniform(0.9, 1.1)
  waist, neck, head = foot - 0.45 * rise, foot - 0.85 * rise, foot - rise
  half = 0.13 * rise
  legs = (x - 0.7 * half, waist, x + 0.7 * half, foot)
  draw.rectangle(legs, fill=tint(rng, pick(rng, _PAINTS), 0.1))
  torso = (x - half, neck, x + half, waist)
  draw.rectangle(torso, fill=tint(rng, pick(rng, _PAINTS), 0.1))
  draw.ellipse((x - 0.6 * half, head, x + 0.6 * half, neck), fill=_SKIN)


def _draw_car(
  draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, size: int
) -> None:
  half, foot = size * rng.uniform(0.12, 0.28), size * rng.uniform(0.88, 1.02)
  paint = tint(rng, pick(rng, _PAINTS), 0.1)
  cabin = (x - 0.6 * half, foot - 0.85 * half, x + 0.5 * half, foot)
  draw.polygon(scale_outline('hip', cabin), fill=_RUBBER)
  draw.rectangle((x - half, foot - 0.5 * half, x + half, foot), fill=paint)
  for wheel in (x - 0.55 * half, x + 0.55 * half):
    draw_disc(draw, wheel, foot, 0.18 * half, _RUBBER)


def _draw_scaffold(
  draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, size: int
) -> None:
  half, top = size * rng.uniform(0.08, 0.2), size * rng.uniform(0.2, 0.6)
  foot, gap = size * 0.92, size * rng.uniform(0.05, 0.09)
  if rng.random() < 0.5:
    net = tint(rng, _NET, 0.15)
    draw.rectangle((x - half, top, x + half, foot), fill=(*net, 200))
  for y in np.arange(top, foot, gap):
    draw.line((x - half, y, x + half, y), fill=_PLANKS, width=2)
  for pole in np.arange(x - half, x + half + 1, gap):
    draw.line((pole, top, pole, foot), fill=_POLES)


_OCCLUDERS = (_draw_tree, _draw_tree, _draw_person, _draw_car, _draw_scaffold)


def _occlude(
  rng: np.random.Generator, landmark: np.ndarray, occlusion: float
) -> tuple[Image.Image, float]:
  """Occluders for a landmark, and the share of it that they hide.

  Args:
    rng: where chance comes from.
    landmark: [R, R] bool, where the landmark is.
    occlusion: largest share wanted.

  Returns:
    The RGBA layer of occluders; the share of the landmark behind it.
  """
  size = len(landmark)
  layer = Image.new('RGBA', (size, size))
  draw = ImageDraw.Draw(layer)
  columns = np.flatnonzero(landmark.any(axis=0))
  wanted, hidden = rng.uniform(0, occlusion), 0.0
  for _ in range(_MAX_OCCLUDERS):
    if hidden >= wanted:
      break
    x = rng.uniform(columns[0], columns[-1])
    pick(rng, _OCCLUDERS)(draw, rng, x, size)
    covered = np.asarray(layer.getchannel('A')) > 0
    hidden = float(covered[landmark].mean())
  return layer, hidden


def _shine(
  rng: np.random.Generator,
  rgb: np.ndarray,
  sky: np.ndarray,
  light: float,
  night: bool,
) -> np.ndarray:
  """Lights a scene.

  Args:
    rng: where chance comes from.
    rgb: [S, S, 3] colours of the things themselves, 0 to 255.
    sky: [S, S] bool, where no shadow falls.
    light: strength, 0 for even white light.
    night: whether lamps light it from below.

  Returns:
    [S, S, 3] uint8.
  """
  y, x = np.mgrid[-1 : 1 : len(rgb) * 1j, -1 : 1 : len(rgb) * 1j]
  towards = rng.uniform(0, 2 * np.pi)
  slope = np.cos(towards) * x + np.sin(towards) * y
  shade = 1 + light * rng.uniform(0, 0.35) * slope
  if rng.random() < 0.5:  # another building's shadow
    shadow = (slope < rng.uniform(-0.7, 0.3)) & ~sky
    shade[shadow] *= 1 - light * rng.uniform(0.2, 0.55)
  warmth = light * rng.normal(0, 0.16)
  tone = np.array([1 + warmth, 1 + light * rng.normal(0, 0.05), 1 - warmth])
  brightness = 1 + light * rng.uniform(-0.35, 0.25)
  if night:
    brightness *= 0.7
    shade = shade * (1 + 0.6 * y)
    tone = tone * np.where(y > 0, 1.15, 0.85)[..., None] ** (1, 0, -1)
  lit = rgb * shade[..., None] * tone * brightness
  grey = lit.mean(axis=2, keepdims=True)
  lit = grey + (lit - grey) * (1 + light * rng.uniform(-0.7, 0.3))
  haze = light * rng.uniform(0, 0.35) * (rng.random() < 0.4)
  lit = lit * (1 - haze) + 200 * haze * brightness
  lit += rng.normal(0, 3, lit.shape)
  return lit.clip(0, 255).astype(np.uint8)


def draw_view(
  landmark: Landmark,
  neighbours: Sequence[Image.Image],
  rng: np.random.Generator,
  image_size: int,
  difficulty: Difficulty,
) -> View:
  """Draws one view of a building.

  Args:
    landmark: what is looked at.
    neighbours: façades, some of which stand beside it.
    rng: where all that differs between views comes from.
    image_size: side of the image in pixels.
    difficulty: how far views may differ.

  Returns:
    The image, with what the ground truth has to know about it.
  """
  size = image_size * _OVERSAMPLING
  angle = rng.uniform(-difficulty.max_angle, difficulty.max_angle)
  camera = _aim_camera(rng, angle, size, difficulty.framing)
  building = Image.new('RGBA', (size, size))
  left, right, depth = landmark.left, landmark.right, landmark.depth
  _stand(building, landmark.side, camera, (left, 0, depth), (0, 0, -depth))
  _stand(building, landmark.side, camera, (right, 0, 0), (0, 0, depth))
  _stand(building, landmark.front, camera, (0, 0, 0), (1, 0, 0))
  seen = np.asarray(building.getchannel('A')) > 127

  weather = int(rng.choice(len(_WEATHER), p=_WEATHER))
  if not difficulty.light:
    weather = _OVERCAST
  foot = camera @ (0.5, GROUND, 0, 1)
  horizon = foot[1] / foot[2] - size * rng.uniform(0.02, 0.12)
  scene = _draw_backdrop(rng, size, weather, horizon, neighbours)
  scene.alpha_composite(building)
  occluders, hidden = _occlude(rng, seen, difficulty.occlusion)
  scene.alpha_composite(occluders)

  small = scene.convert('RGB').reduce(_OVERSAMPLING)
  rgb = np.asarray(small, np.float32)
  things = seen | (np.arange(size)[:, None] >= horizon)
  sky = ~things[::_OVERSAMPLING, ::_OVERSAMPLING]
  lit = _shine(rng, rgb, sky, difficulty.light, weather == _NIGHT)
  rows, columns = np.nonzero(seen)
  edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
  x1, y1, x2, y2 = (float(edge) / _OVERSAMPLING for edge in edges)
  return View(Image.fromarray(lit), angle, hidden, (x1, y1, x2, y2))
