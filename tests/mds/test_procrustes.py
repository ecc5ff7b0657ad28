"""``procrustes``: the best motion, its derivatives, and what leaves it open."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import procrustes as scipy_procrustes

from jax_edm import procrustes
from mds_problems import RANDOM, SQUARE, check_both_orders
from transformations import quick_jit


def best_motion(x, y, scale, reflection):
  """Kabsch, in float64: aligned, and the root mean square distance."""
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  from_x, from_y = x - x.mean(0), y - y.mean(0)
  u, s, vt = np.linalg.svd(from_x.T @ from_y)
  signs = np.ones(len(s))
  if not reflection and np.linalg.det(u @ vt) < 0:
    signs[-1] = -1
  factor = (s * signs).sum() / (from_x**2).sum() if scale else 1
  aligned = factor * from_x @ (u * signs) @ vt + y.mean(0)
  return aligned, np.sqrt(np.mean(np.sum((aligned - y) ** 2, 1)))


@pytest.mark.parametrize("reflection", [False, True])
@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize(
  ("n", "d"), [(10, 3), (3, 5), *(pytest.param(*s, marks=pytest.mark.slow) for s in ((2, 1), (40, 2)))]
)
def test_procrustes_is_the_best_motion(n, d, scale, reflection, rng):
  x, y = (rng.normal(size=(4, n, d)).astype(np.float32) for _ in "xy")
  found = procrustes(x, y, scale=scale, reflection=reflection)
  for i in range(4):
    aligned, rmsd = best_motion(x[i], y[i], scale, reflection)
    if not (d == 1 and scale and not reflection):  # a negative factor would be the reflection that is not allowed
      np.testing.assert_allclose(found.aligned[i], aligned, atol=1e-4)
      np.testing.assert_allclose(found.rmsd[i], rmsd, rtol=1e-5, atol=1e-5)
    rotation = np.asarray(found.rotation[i])
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(d), atol=1e-5)
    if not reflection:
      np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-5)
    moved = found.scale[i] * x[i] @ rotation + found.translation[i]
    np.testing.assert_allclose(moved, found.aligned[i], atol=1e-5)
    assert scale or found.scale[i] == 1
  assert bool((found.scale >= 0).all())


@pytest.mark.usefixtures("double_precision")
def test_procrustes_is_that_of_scipy(rng):
  x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 3))
  standard_y, matched, disparity = scipy_procrustes(y, x)
  standard_x = (x - x.mean(0)) / np.linalg.norm(x - x.mean(0))
  found = procrustes(standard_x, standard_y, scale=True)
  np.testing.assert_allclose(found.aligned, matched, atol=1e-6)
  np.testing.assert_allclose(len(x) * found.rmsd**2, disparity, atol=1e-6)


# The derivatives are those along x + s dx + s^2 ddx and y + s dy.


def along(rng, x, y, dx=None, ddx=None, translation=1):
  """``translation``: 0 where it is not unique."""
  w, any_dx, dy = (rng.normal(size=x.shape) for _ in "wxy")
  return x, any_dx if dx is None else dx, np.zeros(x.shape) if ddx is None else ddx, y, dy, w, float(translation)


def along_lines(rng, x_direction, y):
  """Points that stay on a line, which turns: a rotation about it is open, and moves none of them."""
  (a, da), turn = rng.normal(size=(2, len(y), 1)), rng.normal(size=3)
  return along(rng, a * x_direction, y, da * x_direction + a * turn, da * turn, translation=0)


COPLANAR = np.concatenate([RANDOM[:6, :2], np.zeros((6, 1))], 1)
# By the shape of x and y; and whether x may be mirrored, where it has a best motion if so.
MOTIONS = {
  "random points and the square in a plane": (
    True,
    lambda rng: [along(rng, RANDOM[:4, :2], RANDOM[4:8, :2]), along(rng, SQUARE, SQUARE[[1, 2, 3, 0]] + 2)],
  ),
  "fewer points than coordinates": (True, lambda rng: [along(rng, RANDOM[:3], RANDOM[3:6], translation=0)]),
  "points in space, in a plane, both in a plane, on a line": (
    False,
    lambda rng: [
      along(rng, RANDOM[:6, :3], RANDOM[:6, 1:]),
      along(rng, COPLANAR, RANDOM[:6, 1:]),
      along(rng, COPLANAR, COPLANAR[:, [2, 0, 1]] + 1),
      along_lines(rng, np.array([1.0, 2, 3]), rng.normal(size=(6, 3))),
    ],
  ),
}


@pytest.mark.parametrize(("name", "scale"), [(name, True) for name in MOTIONS] + [(list(MOTIONS)[-1], False)])
@pytest.mark.usefixtures("double_precision")
def test_derivatives(name, scale, rng):
  """Also where singular values repeat or are zero, as long as the best motion is unique on the points."""
  reflection, cases = MOTIONS[name]

  def measure(s, x, dx, ddx, y, dy, w, translation):
    found = procrustes(x + s * dx + s**2 * ddx, y + s * dy, scale=scale, reflection=reflection)
    return (w * jnp.sin(found.aligned)).sum() + found.scale + translation * found.translation.sum()

  slopes = check_both_orders(measure, cases(rng), 1e-6)
  assert min(map(abs, slopes)) > 1e-3


@pytest.mark.slow
def test_what_leaves_the_motion_open(rng):
  """One point, points that coincide, points on a line: proper, finite in every derivative; the fit is exact."""

  @quick_jit
  def everything(x, y):
    gradient = jax.grad(lambda x: procrustes(x, y, scale=True).aligned[0].sum() + procrustes(x, y).rmsd)
    return procrustes(x, y, scale=True), *jax.jvp(gradient, (x,), (x + 1,))

  line = rng.normal(size=(5, 1)) * np.array([[1.0, 2.0, 3.0]])
  for x, y in (
    (np.ones((1, 3)), np.zeros((1, 3))),
    (np.ones((5, 3)), np.zeros((5, 3))),
    (line, line[:, ::-1]),
  ):
    found, gradient, second = everything(x.astype(np.float32), y.astype(np.float32))
    np.testing.assert_allclose(found.aligned, y, atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(found.rotation), 1, atol=1e-5)
    np.testing.assert_allclose(found.scale, 1, atol=1e-5)
    assert np.isfinite(gradient).all()
    assert np.isfinite(second).all()


def test_the_rotation_is_proper_where_it_may_be(rng):
  """Points in a plane: a mirror image in it is as good, and is not taken."""
  y = rng.normal(size=(8, 6, 3)).astype(np.float32)
  found = procrustes(np.broadcast_to(COPLANAR, y.shape).astype(np.float32), y)
  np.testing.assert_allclose(jnp.linalg.det(found.rotation), 1, atol=1e-5)


@pytest.mark.parametrize("flat", [[[0, 0], [1, 0], [0, 1], [1, 1], [2, 1]], [[0], [1], [2], [3]]])
def test_nearly_flat_points_are_mirrored_where_that_is_better(flat):
  """The square of their thickness is rounding beside their size; the thickness itself is not."""
  flat = np.array(flat, np.float32)
  sides = np.array([1, -1, -1, 1, 1][: len(flat)], np.float32)[:, None]
  run = jax.jit(jax.vmap(lambda x, y: [procrustes(x, y, scale=s).rmsd for s in (False, True)]))
  x = np.array([np.hstack([flat, t * sides]) for t in (0.1, 3e-3, 1e-3, 1e-4, 1e-5, 0.0)], np.float32)
  y = x * np.append(np.ones(flat.shape[1]), -1).astype(np.float32)
  for rmsd in run(x, y):
    np.testing.assert_allclose(rmsd, 0, atol=2e-6)
  found = procrustes(x[-1], y[-1])
  np.testing.assert_allclose(np.linalg.det(found.rotation), 1, rtol=1e-5)  # the proper one of two that are as good


def test_points_at_an_offset_keep_their_digits(rng):
  """Their mean is rounded as they are: what is left of it is taken off once more."""
  for offset in (1e3, 1e5, 1e6):
    x = (rng.normal(size=(100, 3)) + offset).astype(np.float32)
    assert float(procrustes(x, x - np.float32(offset)).rmsd) < 2e-6
