"""`import advbct_jax`: what is public, and what it does."""

import ast
import doctest
import inspect
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
from PIL import ExifTags, Image
import pytest

import advbct_jax
from advbct_jax.errors import InputError

_NAMES = advbct_jax.__all__


@pytest.fixture
def encoder(example_folder):
  return advbct_jax.load_encoder('runs/demo')


@pytest.fixture
def photos(example_folder):
  """Pictures of several sizes, as files without any loss."""
  random = np.random.default_rng(0)
  paths = []
  for number, (height, width) in enumerate([(16, 16), (20, 30), (33, 9)]):
    pixels = random.integers(0, 256, (height, width, 3), np.uint8)
    paths.append(example_folder / f'{number}.png')
    Image.fromarray(pixels).save(paths[-1])
  return paths


def test_every_public_name_is_there_and_listed():
  assert sorted(_NAMES) == sorted(advbct_jax._MODULES)
  assert set(_NAMES) <= set(dir(advbct_jax))
  for name in _NAMES:
    assert getattr(advbct_jax, name).__name__ == name


@pytest.mark.parametrize('name', _NAMES)
def test_every_public_name_has_an_example(name):
  found = inspect.getdoc(getattr(advbct_jax, name))
  examples = doctest.DocTestParser().get_examples(found)

  assert any('advbct_jax.' in example.source for example in examples)


def test_type_checkers_see_the_same_names():
  tree = ast.parse(pathlib.Path(advbct_jax.__file__).read_text())
  seen = {
    alias.name: node.module.removeprefix('advbct_jax.')
    for node in ast.walk(tree)
    if isinstance(node, ast.ImportFrom) and node.module.startswith('advbct_jax')
    for alias in node.names
  }

  assert seen == advbct_jax._MODULES


def test_a_name_that_is_not_there_is_an_attribute_error():
  with pytest.raises(AttributeError, match="no attribute 'serach'"):
    advbct_jax.serach  # noqa: B018


def test_the_package_alone_imports_nothing_slow():
  program = 'import sys, advbct_jax; print(*sys.modules)'
  ran = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, check=True
  )

  assert not {'jax', 'numpy', 'faiss'}.intersection(ran.stdout.split())


def test_images_are_embedded_alike_however_they_are_given(encoder, photos):
  from_paths = advbct_jax.embed_images(encoder, photos)
  images = [Image.open(path) for path in photos]
  arrays = [np.asarray(image) for image in images]
  mixed = [str(photos[0]), images[1], arrays[2]]

  for given in (images, arrays, mixed):
    np.testing.assert_array_equal(
      advbct_jax.embed_images(encoder, given), from_paths
    )
  np.testing.assert_allclose(
    advbct_jax.embed_images(encoder, arrays[0][None]),
    from_paths[:1],
    atol=1e-5,
  )


def test_images_are_embedded_as_those_of_a_run(encoder, landmarks):
  stored = advbct_jax.open_store('runs/demo/embeddings/tiny-index')
  paths = [
    landmarks / 'index' / '/'.join(image_id[:3]) / f'{image_id}.jpg'
    for image_id in stored.ids()
  ]

  np.testing.assert_array_equal(
    advbct_jax.embed_images(encoder, paths), stored.read()
  )
  filled = advbct_jax.fill_store('again', encoder, paths, stored.ids())
  np.testing.assert_array_equal(filled.read(), stored.read())
  assert filled.card.identity() == stored.card.identity()


@pytest.mark.parametrize('batch_size', [1, 2, 3, 100])
def test_vectors_do_not_depend_on_the_batch(encoder, photos, batch_size):
  np.testing.assert_allclose(
    advbct_jax.embed_images(encoder, photos, batch_size=batch_size),
    advbct_jax.embed_images(encoder, photos),
    rtol=1e-4,
    atol=1e-5,
  )


@pytest.mark.parametrize(
  'mode', ['L', 'RGBA', 'P', '1', 'CMYK', 'YCbCr', 'LA', 'F']
)
def test_images_of_every_mode_are_embedded(encoder, photos, mode):
  image = Image.open(photos[1]).convert(mode)
  suffix = 'tif' if mode in ('CMYK', 'YCbCr', 'F') else 'png'
  image.save(f'other.{suffix}')

  np.testing.assert_array_equal(
    advbct_jax.embed_images(encoder, [image]),
    advbct_jax.embed_images(encoder, [f'other.{suffix}']),
  )


def test_a_picture_is_turned_as_a_viewer_turns_it(encoder, photos):
  image = Image.open(photos[1])
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = 6
  image.save('lying.png', exif=exif)
  upright = image.transpose(Image.Transpose.ROTATE_270)
  lying = Image.open('lying.png')

  for given in ('lying.png', lying):
    for turned, wanted in ((True, upright), (False, image)):
      np.testing.assert_array_equal(
        advbct_jax.embed_images(encoder, [given], upright=turned),
        advbct_jax.embed_images(encoder, [wanted]),
      )
  store = advbct_jax.fill_store('turned', encoder, ['lying.png'])
  np.testing.assert_array_equal(
    store.read(), advbct_jax.embed_images(encoder, [upright])
  )


@pytest.mark.parametrize(
  ('images', 'message'),
  [
    ('photo.jpg', r'found one str, wanted a list of images. Write \[image\]'),
    ([], 'found none'),
    (['nowhere.jpg'], 'nowhere.jpg: cannot read the image'),
    (['card.json'], 'card.json: cannot decode the image'),
    (
      [np.zeros((4, 4, 3))],
      r'image 0: found an array of float64',
    ),
    ([np.zeros((4, 4, 4), np.uint8)], r'the shape \[4, 4, 4\]'),
    (np.zeros((4, 4, 3), np.uint8)[None, None], r'the shape \[1, 4, 4, 3\]'),
    (['photo.jpg', 7], 'image 1: found int'),
  ],
)
def test_what_is_no_image_is_refused(encoder, images, message):
  pathlib.Path('card.json').write_text('{}')
  with pytest.raises(InputError, match=message):
    advbct_jax.embed_images(encoder, images)


def test_an_encoder_of_a_file_is_that_of_its_run(encoder, photos):
  loaded = advbct_jax.load_encoder('encoder.safetensors')

  assert loaded.digest == encoder.digest
  np.testing.assert_array_equal(
    advbct_jax.embed_images(loaded, photos),
    advbct_jax.embed_images(encoder, photos),
  )


def test_what_is_no_encoder_is_refused(example_folder):
  with pytest.raises(InputError, match='nowhere'):
    advbct_jax.load_encoder('nowhere')
  unfinished = shutil.copytree('runs/demo', 'unfinished')
  inputs = pathlib.Path(unfinished, 'inputs.json')
  inputs.write_text(inputs.read_text().replace('"steps": 8', '"steps": 9'))
  with pytest.raises(InputError, match='at step 8 of 9'):
    advbct_jax.load_encoder(unfinished)


def test_a_store_is_made_and_opened_again(example_folder):
  vectors = np.random.default_rng(0).normal(size=(3, 4))
  ids = ['a', 'b', 'c']
  made = advbct_jax.make_store(
    'old', vectors, ids, 'ours', version='2', labels=['1', '', '2']
  )
  store = advbct_jax.open_store('old')

  assert store.card == made.card
  assert (store.card.weights, store.card.images) == ('2', 'old')
  assert (store.ids(), store.labels()) == (ids, ['1', '', '2'])
  np.testing.assert_array_equal(store.read(), vectors.astype(np.float32))


@pytest.mark.parametrize(
  ('shape', 'ids', 'labels'),
  [
    ((3,), 'abc', None),
    ((3, 2), 'ab', None),
    ((3, 2), 'aba', None),
    ((3, 2), 'abc', ['1']),
  ],
)
def test_what_makes_no_store_is_refused(example_folder, shape, ids, labels):
  with pytest.raises(InputError, match=r'old: found vectors of the shape'):
    advbct_jax.make_store(
      'old', np.zeros(shape), list(ids), 'ours', labels=labels
    )
  assert not pathlib.Path('old').exists()


def test_a_search_finds_what_is_most_alike(example_folder):
  random = np.random.default_rng(0)
  gallery, queries = random.normal(size=(20, 4)), random.normal(size=(3, 4))
  ids = [f'image{number}' for number in range(20)]
  unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
  cosines = queries @ unit.T / np.linalg.norm(queries, axis=1, keepdims=True)
  wanted = np.argsort(-cosines, axis=1)[:, :5]
  store = advbct_jax.make_store('gallery', gallery, ids, 'ours')

  of_array = advbct_jax.Index(gallery).search(queries, k=5)
  of_store = advbct_jax.Index(store).search(
    advbct_jax.make_store('queries', queries, ['q', 'r', 's'], 'ours'), k=5
  )

  for matches in (of_array, of_store):
    np.testing.assert_array_equal(matches.positions, wanted)
    np.testing.assert_allclose(
      matches.scores, np.take_along_axis(cosines, wanted, 1), rtol=1e-5
    )
  assert of_array.ids is None
  assert of_store.ids == [[ids[at] for at in row] for row in wanted]
  assert len(advbct_jax.Index(store)) == 20


def test_a_small_gallery_is_found_whole(example_folder):
  matches = advbct_jax.Index(np.eye(2), ['a', 'b']).search(np.eye(2)[:1])

  assert matches.ids == [['a', 'b']]


def test_wider_vectors_are_searched_by_their_compatible_part(example_folder):
  old = advbct_jax.make_store('old', np.eye(2), ['a', 'b'], 'ours')
  wide = advbct_jax.make_store('new', np.eye(3)[:2], ['c', 'd'], 'theirs')
  with pytest.raises(InputError, match='width 3'):
    advbct_jax.Index(old).search(wide)

  card = json.loads(pathlib.Path('new/card.json').read_text())
  pathlib.Path('new/card.json').write_text(
    json.dumps(card | {'compatible_dimension': 2, 'sha256': None})
  )
  matches = advbct_jax.Index(old).search(advbct_jax.open_store('new'), k=1)
  assert matches.ids == [['a'], ['b']]


def test_other_ids_than_vectors_are_refused():
  with pytest.raises(InputError, match='found 1 of 2 vectors'):
    advbct_jax.Index(np.eye(2), ['a'])


def test_an_adapter_makes_an_independent_encoder_search_the_old_index(
  example_folder,
):
  random = np.random.default_rng(0)
  old_vectors = random.normal(size=(40, 4))
  turn = np.linalg.qr(random.normal(size=(4, 4)))[0]
  ids = [f'image{number}' for number in range(40)]
  old = advbct_jax.make_store('old', old_vectors, ids, 'old')
  new = advbct_jax.make_store('new', old_vectors @ turn, ids, 'new')
  adapter = advbct_jax.fit_adapter('procrustes', new, old)
  advbct_jax.save_adapter(adapter, 'turn')
  mapped = advbct_jax.adapt_store(advbct_jax.load_adapter('turn'), new, 'map')

  matches = advbct_jax.Index(old).search(mapped, k=1)
  assert matches.positions.ravel().tolist() == list(range(40))
  np.testing.assert_allclose(adapter.apply(new.read()), mapped.read())


def test_an_evaluation_gives_what_the_command_writes(
  example_folder, command, capsys
):
  results = advbct_jax.evaluate(
    'runs/demo', ['tiny'], 'judged', old='runs/demo/old', data_root='data'
  )
  assert capsys.readouterr().out == ''
  command(
    *('evaluate', '--new=runs/demo', '--old=runs/demo/old'),
    *('--data=tiny', '--data_root=data', '--workdir=by_command'),
  )

  written = json.loads(pathlib.Path('judged/results.json').read_text())
  again = json.loads(pathlib.Path('by_command/results.json').read_text())
  assert json.loads(json.dumps(results)) == written
  assert written['datasets'] == again['datasets']
  assert 'report: by_command/report.md' in capsys.readouterr().out


def test_an_evaluation_is_told_how_many_pixels_an_image_may_have(
  example_folder, command, capsys
):
  shutil.rmtree('runs/demo/embeddings', ignore_errors=True)
  with pytest.raises(SystemExit):
    command(
      *('evaluate', '--new=runs/demo', '--data=tiny:data'),
      *('--workdir=by_command', '--max_pixels=9'),
    )
  assert 'pixels, more than 9' in capsys.readouterr().err
