"""Drawn landmarks: a retrieval data set that needs no download.

Each landmark is a building whose architecture follows from a seed: massing,
roofs, towers, openings, masonry, colours. Each image shows one from its own
viewpoint, in its own light, with occluders and neighbouring buildings. Palettes
are shared and light shifts hues, so that neither colours nor pixels tell
landmarks apart; their structure does.

A folder of them is laid out as Google Landmarks v2 and as Revisited Oxford and
Paris at once. To draw one with the default parameters, and a sheet of it:

    advbct prepare landmarks ROOT [--sheet=SHEET.png]
"""

import collections
from collections.abc import Iterable, Sequence
import csv
import dataclasses
import hashlib
import json
import pathlib
import pickle
import shutil
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
import tqdm

from advbct_jax.data.gldv2 import image_path
from advbct_jax.data.new_folder import new_folder
from advbct_jax.drawn_landmarks.buildings import Box, draw_landmark
from advbct_jax.drawn_landmarks.scenes import (
  DEFAULT_DIFFICULTY,
  Difficulty,
  draw_view,
)
from advbct_jax.errors import InputError

# What its Revisited ground truth is called, as in gnd_landmarks.pkl.
NAME = 'landmarks'

# To be raised with every change that moves a pixel.
_DRAWING = 1

_JPEG_QUALITY = 90
_NEIGHBOURS = 40  # buildings that stand beside landmarks and are none

# Independent random streams of one seed.
_TRAIN, _HELD_OUT, _NEIGHBOUR = range(3)

# One image in four of a held-out landmark is a query; a gallery image of which
# occluders hide more than this share answers no query, nor is it a mistake.
_IMAGES_PER_QUERY = 4
_JUNK_HIDDEN = 0.4

_VIEWS = 'views.csv'
_PARAMETERS = 'landmarks.json'


class _Record(NamedTuple):
  """What the lists and the ground truth say about one image."""

  name: str
  landmark_id: int
  split: str
  angle: float
  hidden: float
  box: Box


def _draw_images(
  folder: pathlib.Path, parameters: dict[str, Any]
) -> list[_Record]:
  """Draws all images; each landmark and each view has its own stream."""
  seed, size = parameters['seed'], parameters['image_size']
  difficulty = Difficulty(**parameters['difficulty'])
  images = parameters['images_per_class']
  queries = max(1, images // _IMAGES_PER_QUERY)
  held_out = ['test'] * queries + ['index'] * (images - queries)
  plan = [
    (kind, number, splits)
    for kind, count, splits in (
      (_TRAIN, parameters['classes'], ['train'] * images),
      (_HELD_OUT, parameters['held_out_classes'], held_out),
    )
    for number in range(count)
  ]
  neighbours = [
    draw_landmark(np.random.default_rng([seed, _NEIGHBOUR, number])).front
    for number in range(_NEIGHBOURS)
  ]
  records = []
  for landmark_id, (kind, number, splits) in enumerate(
    tqdm.tqdm(plan, desc='drawing landmarks', unit=' landmarks')
  ):
    landmark = draw_landmark(np.random.default_rng([seed, kind, number]))
    for nth, split in enumerate(splits, start=1):
      stream = [seed, kind, number, nth]
      rng = np.random.default_rng(stream)
      view = draw_view(landmark, neighbours, rng, size, difficulty)
      name = hashlib.sha256(repr(stream).encode()).hexdigest()[:16]
      path = folder / split / image_path(name)
      path.parent.mkdir(parents=True, exist_ok=True)
      view.image.save(path, quality=_JPEG_QUALITY)
      # Sparse, as the published ids are.
      sparse_id = 3 + 17 * landmark_id
      records.append(
        _Record(name, sparse_id, split, view.angle, view.hidden, view.box)
      )
  return records


def _write_rows(
  path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
  with path.open('w', newline='') as file:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(header)
    writer.writerows(rows)


def _write_gldv2(folder: pathlib.Path, records: Sequence[_Record]) -> None:
  names: dict[tuple[str, int], list[str]] = collections.defaultdict(list)
  for record in records:
    names[record.split, record.landmark_id].append(record.name)
  train = [
    (landmark_id, ' '.join(images))
    for (split, landmark_id), images in names.items()
    if split == 'train'
  ]
  _write_rows(folder / 'train_clean.csv', ('landmark_id', 'images'), train)
  for split in ('index', 'test'):
    ids = [(record.name,) for record in records if record.split == split]
    _write_rows(folder / f'{split}.csv', ('id',), ids)
  solution = [
    (
      record.name,
      ' '.join(names['index', record.landmark_id]),
      # The first query of a landmark is for validation.
      'Public'
      if record.name == names['test', record.landmark_id][0]
      else 'Private',
    )
    for record in records
    if record.split == 'test'
  ]
  _write_rows(
    folder / 'retrieval_solution_v2.1.csv', ('id', 'images', 'Usage'), solution
  )


def _grade(query: _Record, image: _Record, max_angle: float) -> str:
  if image.hidden > _JUNK_HIDDEN:
    return 'junk'
  return 'easy' if abs(query.angle - image.angle) <= max_angle / 2 else 'hard'


def _write_revisited(
  folder: pathlib.Path, records: Sequence[_Record], max_angle: float
) -> None:
  gallery = [record for record in records if record.split == 'index']
  queries = [record for record in records if record.split == 'test']
  jpg = folder / NAME / 'jpg'
  jpg.mkdir(parents=True)
  for record in (*gallery, *queries):
    path = folder / record.split / image_path(record.name)
    shutil.copyfile(path, jpg / path.name)
  truths = []
  for query in queries:
    truth: dict[str, Any] = {'bbx': list(query.box)}
    truth |= {'easy': [], 'hard': [], 'junk': []}
    for position, image in enumerate(gallery):
      if image.landmark_id == query.landmark_id:
        truth[_grade(query, image, max_angle)].append(position)
    truths.append(truth)
  ground_truth = {
    'imlist': [image.name for image in gallery],
    'qimlist': [query.name for query in queries],
    'gnd': truths,
  }
  with (folder / f'gnd_{NAME}.pkl').open('wb') as file:
    pickle.dump(ground_truth, file, protocol=2)


def _write_views(folder: pathlib.Path, records: Sequence[_Record]) -> None:
  views = [
    (name, landmark_id, split, f'{angle:.1f}', f'{hidden:.3f}')
    for name, landmark_id, split, angle, hidden, _ in records
  ]
  _write_rows(
    folder / _VIEWS, ('id', 'landmark_id', 'split', 'angle', 'hidden'), views
  )


def _check(parameters: dict[str, Any]) -> None:
  lowest = {
    'classes': 1,
    'images_per_class': 2,
    'held_out_classes': 1,
    'image_size': 16,
    'seed': 0,
  }
  for name, least in lowest.items():
    if parameters[name] < least:
      raise InputError(
        f'{name} is {parameters[name]}; {least} or more is wanted.'
      )
  highest = {'max_angle': 75, 'light': 1, 'occlusion': 1, 'framing': 1}
  for name, most in highest.items():
    value = parameters['difficulty'][name]
    if not 0 <= value <= most:
      raise InputError(f'{name} is {value}; 0 to {most} is wanted.')


def _is_drawn(root: pathlib.Path, parameters: dict[str, Any]) -> bool:
  """Whether a folder holds what these parameters draw; refuses any other."""
  if not root.exists():
    return False
  path = root / _PARAMETERS
  try:
    found = json.loads(path.read_text('utf-8'))
  except (OSError, ValueError) as error:
    raise InputError(
      f'{root}: something else lies here, without a readable {_PARAMETERS} '
      f'({error}). Landmarks are drawn into a new folder; name one.'
    ) from error
  if not isinstance(found, dict):
    found = {}
  differences = [
    f'{name} {found.get(name)} (wanted {wanted})'
    for name, wanted in parameters.items()
    if found.get(name) != wanted
  ]
  if differences:
    raise InputError(
      f'{path}: these landmarks were drawn with other parameters: '
      f'{", ".join(differences)}. Delete the folder to draw them anew, or name '
      'another one.'
    )
  return True


def draw_landmarks(
  root: str | pathlib.Path,
  *,
  classes: int = 300,
  images_per_class: int = 12,
  held_out_classes: int = 60,
  image_size: int = 48,
  seed: int = 0,
  difficulty: Difficulty = DEFAULT_DIFFICULTY,
) -> None:
  """Draws a data set of landmarks into a folder, whole or not at all.

  The folder gets `train_clean.csv`, `index.csv`, `test.csv`,
  `retrieval_solution_v2.1.csv` and the images as Google Landmarks v2 has them;
  `gnd_landmarks.pkl` and `landmarks/jpg` as Revisited Oxford has them;
  `views.csv` with each image's viewpoint; and `landmarks.json` with the
  parameters. Index and test images show the held-out landmarks. Each query is
  relevant to its own landmark alone. In the Revisited ground truth, a gallery
  image is easy if its angle is at most half of `max_angle` away from the
  query's, and hard beyond; it is junk if occluders hide over 40% of it.

  The same parameters draw the same files, byte for byte, with the same releases
  of NumPy and Pillow. More classes leave the images of the first ones as they
  are, and the held-out ones too. Where the folder was drawn already, nothing is
  done.

  Args:
    root: the folder, which is new or was drawn by these parameters.
    classes: training landmarks.
    images_per_class: images of each landmark, at least 2; of a held-out one,
      each fourth (at least one) is a query.
    held_out_classes: landmarks of the index and test images.
    image_size: side of an image in pixels; façades have detail for up to 96.
    seed: where all chance comes from, 0 or more.
    difficulty: how much the images of one landmark differ.

  Raises:
    InputError: if a parameter is out of range, or the folder holds anything
      but landmarks of these parameters.
  """
  root = pathlib.Path(root)
  parameters: dict[str, Any] = {
    'drawing': _DRAWING,
    'classes': classes,
    'images_per_class': images_per_class,
    'held_out_classes': held_out_classes,
    'image_size': image_size,
    'seed': seed,
    'difficulty': dataclasses.asdict(difficulty),
  }
  _check(parameters)
  if _is_drawn(root, parameters):
    return
  with new_folder(root) as folder:
    records = _draw_images(folder, parameters)
    _write_gldv2(folder, records)
    _write_revisited(folder, records, difficulty.max_angle)
    _write_views(folder, records)
    (folder / _PARAMETERS).write_text(json.dumps(parameters, indent=2) + '\n')


def contact_sheet(
  root: str | pathlib.Path, classes: int = 8, views: int = 10
) -> Image.Image:
  """A sheet of drawn landmarks, at twice their size.

  Args:
    root: a folder that `draw_landmarks` filled.
    classes: rows, the first training landmarks.
    views: columns, spread evenly from the most frontal view of each landmark
      on the left to the most oblique one on the right.

  Returns:
    The RGB sheet.

  Raises:
    InputError: if the folder is not one of drawn landmarks, or holds fewer
      landmarks or images of each than wanted.
  """
  root = pathlib.Path(root)
  try:
    size = 2 * json.loads((root / _PARAMETERS).read_text('utf-8'))['image_size']
    with (root / _VIEWS).open(newline='') as file:
      rows = [row for row in csv.DictReader(file) if row['split'] == 'train']
  except (OSError, ValueError, KeyError) as error:
    raise InputError(
      f'{root}: not a folder of drawn landmarks ({error}). Draw them first: '
      f'advbct prepare landmarks {root}'
    ) from error
  landmarks: dict[str, list[dict[str, str]]] = collections.defaultdict(list)
  for row in rows:
    landmarks[row['landmark_id']].append(row)
  fewest = min(map(len, landmarks.values()))
  if not (1 <= classes <= len(landmarks) and 1 <= views <= fewest):
    raise InputError(
      f'{root}: a sheet of {classes} landmarks with {views} views each is '
      f'wanted; there are {len(landmarks)} with {fewest}. Ask for fewer.'
    )
  step = size + 2
  sheet = Image.new('RGB', (views * step - 2, classes * step - 2), 'white')
  for row_number, images in enumerate(list(landmarks.values())[:classes]):
    images.sort(key=lambda row: abs(float(row['angle'])))
    chosen = np.linspace(0, len(images) - 1, views).round().astype(int)
    for column, position in enumerate(chosen.tolist()):
      path = root / 'train' / image_path(images[position]['id'])
      with Image.open(path) as image:
        large = image.resize((size, size), Image.Resampling.LANCZOS)
      sheet.paste(large, (column * step, row_number * step))
  return sheet
