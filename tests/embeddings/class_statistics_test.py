import numpy as np
import pytest

from advbct_jax.embeddings import class_statistics as module
from advbct_jax.embeddings.class_statistics import class_statistics
from tests.goldens_folder import golden_files

# arccos near 1 turns a rounding error e of float32 into √(2e): the published
# angle of an embedding to itself is anything up to 5e-4, where ours is 0.
ARCCOS_NOISE = 5e-4


def on_circle(*degrees, lengths=1.0):
  """Embeddings at given angles."""
  radians = np.deg2rad(degrees)
  unit = np.stack([np.cos(radians), np.sin(radians)], axis=1)
  return (unit * np.reshape(lengths, (-1, 1))).astype(np.float32)


def keep(values):
  """The sorted values inside the fences of their quartiles."""
  r = sorted(values)
  n = len(r)
  if n < 4:
    return r
  q1, q3 = r[n // 4], r[3 * n // 4]
  reach = 1.5 * (q3 - q1)
  return [v for v in r if q1 - reach <= v <= q3 + reach] or r


def class_by_class(embeddings, labels, classes):
  """The definition, one class after the other, in double precision."""
  rows = []
  for number in range(classes):
    members = embeddings[labels == number].astype(float)
    unit = members / np.linalg.norm(members, axis=1, keepdims=True)
    center = unit.mean(axis=0) if len(unit) else np.zeros(embeddings.shape[1])
    radii = keep(np.linalg.norm(unit - center, axis=1))
    cosines = unit @ center / (np.linalg.norm(center) or 1)
    thetas = keep(np.arccos(np.clip(cosines, -1, 1)))
    rows.append(
      (
        center,
        max(radii, default=0),
        min(radii, default=0),
        len(radii),
        max(thetas, default=0),
        len(thetas),
      )
    )
  return [np.array(column) for column in zip(*rows, strict=True)]


def assert_statistics(found, wanted):
  center, radius_max, radius_min, radius_count, theta_max, theta_count = wanted
  np.testing.assert_array_equal(found.radius_count, radius_count)
  np.testing.assert_array_equal(found.theta_count, theta_count)
  np.testing.assert_allclose(found.center, center, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(found.radius_max, radius_max, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(found.radius_min, radius_min, rtol=1e-4, atol=1e-6)
  single = np.asarray(theta_count) < 2
  np.testing.assert_allclose(
    found.theta_max[~single], theta_max[~single], rtol=1e-4
  )
  np.testing.assert_allclose(
    found.theta_max[single], theta_max[single], atol=ARCCOS_NOISE
  )


@pytest.mark.golden
@pytest.mark.parametrize(
  'path', golden_files('step_*.npz'), ids=lambda path: path.stem
)
def test_statistics_are_those_of_the_published_code(path):
  golden = np.load(path)
  found = class_statistics(
    golden['old_embeddings'], golden['old_labels'], int(golden['C_old'])
  )
  names = (
    'center',
    'radius_max',
    'radius_min',
    'radius_count',
    'theta_max',
    'theta_count',
  )
  assert_statistics(found, [golden[name] for name in names])


@pytest.mark.parametrize('block_rows', [65536, 7, 1])
@pytest.mark.parametrize('seed', range(3))
def test_statistics_are_those_of_a_loop_over_the_classes(
  seed, block_rows, monkeypatch
):
  monkeypatch.setattr(module, '_BLOCK_ROWS', block_rows)
  random = np.random.default_rng(seed)
  sizes = [0, 1, 2, 3, *[4, 5, 20] * 10, 0]
  labels = np.repeat(np.arange(len(sizes)), sizes)
  # Classes with members far off, images of no class, all in any order.
  centers = random.normal(size=(len(sizes), 5))
  spread = random.exponential(0.5, size=(len(labels), 1)) ** 2
  embeddings = centers[labels] + spread * random.normal(size=(len(labels), 5))
  embeddings *= random.uniform(0.1, 10, (len(labels), 1))
  embeddings = np.concatenate([embeddings, random.normal(size=(6, 5))])
  labels = np.concatenate([labels, np.full(6, -1)])
  order = random.permutation(len(labels))
  embeddings, labels = embeddings[order].astype(np.float32), labels[order]

  found = class_statistics(embeddings, labels, len(sizes))

  wanted = class_by_class(embeddings, labels, len(sizes))
  assert wanted[3].sum() < sum(sizes)  # some are outliers indeed
  assert_statistics(found, wanted)


def test_two_members_have_their_centre_between_them_and_not_on_the_sphere():
  found = class_statistics(
    on_circle(0, 90, lengths=[7, 0.1]), np.array([0, 0]), 1
  )
  np.testing.assert_allclose(found.center, [[0.5, 0.5]], atol=1e-6)
  # √½ from each; 45° of angle.
  assert found.radius_max[0] == pytest.approx(0.7071068)
  assert found.radius_min[0] == pytest.approx(0.7071068)
  assert found.theta_max[0] == pytest.approx(np.pi / 4)


def test_a_member_far_off_is_dropped_from_four_members_on():
  near = [-1.0, 1.0]
  for degrees, count in {
    (*near, 60.0): 3,  # too few for quartiles
    (*near, *near, *near, 60.0): 6,
  }.items():
    labels = np.zeros(len(degrees), int)
    found = class_statistics(on_circle(*degrees), labels, 1)
    assert found.radius_count[0] == count
    assert found.theta_count[0] == count
    farthest = np.linalg.norm(on_circle(60.0) - found.center)
    assert (found.radius_max[0] < farthest - 0.1) == (count == 6)


def test_of_four_members_one_much_nearer_to_the_centre_is_dropped():
  # q1 and q3 are the second and the fourth radius.
  corners = [[1, 0, 0.5], [-0.5, 0.75**0.5, 0.5], [-0.5, -(0.75**0.5), 0.5]]
  found = class_statistics(
    np.array([*corners, [0, 0, 1]], np.float32), np.zeros(4, int), 1
  )
  assert (found.radius_count[0], found.theta_count[0]) == (3, 3)
  # Unit vectors (0.894, 0.447) from the axis; the centre is 0.5854 up it.
  assert found.radius_min[0] == pytest.approx(0.9050, abs=1e-4)
  assert found.radius_max[0] == pytest.approx(0.9050, abs=1e-4)


def test_dropped_members_still_move_the_centre():
  degrees = (-1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 60.0)
  found = class_statistics(on_circle(*degrees), np.zeros(7, int), 1)
  np.testing.assert_allclose(
    found.center[0], on_circle(*degrees).mean(axis=0), atol=1e-6
  )


def test_without_any_member_everything_is_zero():
  found = class_statistics(on_circle(0, 90), np.array([-1, -1]), 2)
  np.testing.assert_array_equal(found.center, np.zeros((2, 2)))
  for name in ('radius_max', 'radius_min', 'radius_count', 'theta_max'):
    np.testing.assert_array_equal(getattr(found, name), [0, 0])


def test_statistics_are_float32_whatever_comes_in():
  found = class_statistics(on_circle(0, 9).astype(float), np.zeros(2, int), 1)
  for name in ('center', 'radius_max', 'radius_min', 'theta_max'):
    assert getattr(found, name).dtype == np.float32
