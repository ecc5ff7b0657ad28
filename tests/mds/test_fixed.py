"""``smacof`` with points that are fixed: where the others go, what they hang on, and the derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from conftest import x64
from jax_edm import distances, smacof
from mds_problems import EPS, check_both_orders, incomplete, symmetric


def anchored(rng, n, d, fixed, noise=0.0, missing=0.3):
  """Distances, weights, which points are fixed, and their places, with NaN for the others."""
  x, t, w = incomplete(rng, n, d, noise, missing)
  is_fixed = np.arange(n) < fixed
  return x, t, w, is_fixed, np.where(is_fixed[:, None], x, np.nan)


def localisation(seed, sensors=500, anchors=20, reach=0.2, noise=0.05):
  """Sensors in the unit square, and their distances to each other within reach, with proportional noise."""
  rng = np.random.default_rng(seed)
  x = rng.random((sensors, 2))
  D = oracle.distances(x)
  error = np.triu(noise * rng.normal(size=D.shape), 1)
  known = (reach > D) & ~np.eye(sensors, dtype=bool)
  return x, D * (1 + error + error.T), known, np.arange(sensors) < anchors


def cramer_rao(x, known, fixed, deviation):
  """The least root mean square error of free points, where distances have these standard deviations."""
  n, d = x.shape
  r = np.where(known, oracle.distances(x), 1)
  along = (x[:, None] - x) / r[..., None]
  information = np.where(known, 1 / np.where(known, deviation, 1) ** 2, 0)
  blocks = information[..., None, None] * along[..., :, None] * along[..., None, :]
  J = -blocks.transpose(0, 2, 1, 3)
  J[np.arange(n), :, np.arange(n)] += blocks.sum(1)
  free = np.flatnonzero(~fixed)
  J = J[free][:, :, free].reshape(d * len(free), -1)
  return np.sqrt(np.trace(np.linalg.inv(J)) / len(free))


@pytest.mark.slow
def test_sensors_are_where_the_cramer_rao_bound_lets_them_be():
  """Weights from the distances of a first fit: those from noisy distances are too large where these are too short."""
  ratios = []
  fit = jax.jit(lambda t, w, fixed, places: smacof(t, 2, weights=w, fixed=fixed, initial=places))
  for seed in range(2):
    x, t, known, fixed = localisation(seed)
    t, places = t.astype(np.float32), np.where(fixed[:, None], x, np.nan).astype(np.float32)
    w = known.astype(np.float32)
    for _ in range(2):
      found = fit(t, w, fixed, places)
      assert bool(found.converged)
      places, r = found.points, np.asarray(distances(found.points))
      w = np.where(known, 1 / np.where(known, r, 1) ** 2, 0).astype(np.float32)
    error = np.sqrt(((np.asarray(places) - x)[~fixed] ** 2).sum(1).mean())
    ratios.append(error / cramer_rao(x, known, fixed, 0.05 * oracle.distances(x)))
  assert max(ratios) < 1.1, ratios


def test_exact_distances_give_the_free_points(rng):
  """Wherever the origin is, from random starts too; what is fixed stays to the last digit."""
  x, t, w, fixed, places = anchored(rng, 14, 2, 4)
  fit = jax.jit(
    lambda t, places: smacof(t, 2, weights=w, fixed=fixed, initial=places, key=jax.random.key(0), restarts=4)
  )
  for offset, unit in ((0, 1.0), (1000, 1.0), (0, 2.0**-60), (0, 2.0**60)):
    given = ((places + offset) * unit).astype(np.float32)
    found = fit((t * unit).astype(np.float32), given)
    assert bool(found.converged)
    np.testing.assert_array_equal(found.points[:4], given[:4])
    scale = np.abs(given[:4]).max() / unit + np.abs(x).max()
    np.testing.assert_allclose(found.points / unit, x + offset, atol=64 * EPS * scale)


@pytest.mark.slow
@pytest.mark.usefixtures("double_precision")
def test_the_result_is_a_minimum_and_a_row_that_is_given_is_the_start(rng):
  x, t, w, fixed, places = anchored(rng, 10, 2, 3, noise=0.2)
  places[5] = x[5]
  found = smacof(t, 2, weights=w, fixed=fixed, initial=places, tolerance=1e-13, max_steps=20_000)
  assert bool(found.converged)
  y = np.asarray(found.points)
  r = oracle.distances(y) + np.eye(10)
  force = ((w * (1 - t / r))[..., None] * (y[:, None] - y)).sum(1)
  np.testing.assert_allclose(force[~fixed], 0, atol=1e-9)
  assert np.abs(force[fixed]).max() > 1e-3
  upper = np.triu(np.ones((10, 10), bool), 1)
  np.testing.assert_allclose(found.stress, (w * (oracle.distances(y) - t) ** 2)[upper].sum(), rtol=1e-9)
  one = smacof(
    t, 2, weights=w, fixed=fixed, initial=np.where(np.isnan(places), x, places) + 0, max_steps=1, tolerance=0.0
  )
  V = np.diag(w.sum(1)) - w
  r = oracle.distances(x) + np.eye(10)
  force = ((w * (1 - t / r))[..., None] * (x[:, None] - x)).sum(1)
  expected = x[~fixed] - np.linalg.solve(V[~fixed][:, ~fixed], force[~fixed])  # the Guttman transform of the free block
  np.testing.assert_allclose(one.points[~fixed], expected, atol=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("double_precision")
def test_derivatives_with_respect_to_places_targets_and_weights(rng):
  """By central differences of solutions: to 1e-5 of the largest, at both orders, with noise in the anchors."""
  _x, t, w, fixed, places = anchored(rng, 12, 2, 4, noise=0.1)
  places[:4] += 0.05 * rng.normal(size=(4, 2))
  c, dp = rng.normal(size=(12, 2)), rng.normal(size=(12, 2))
  dt, dw = symmetric(rng, 12) * t, symmetric(rng, 12) * (w > 0) / 10
  start = smacof(t, 2, weights=w, fixed=fixed, initial=places, tolerance=1e-13, max_steps=20_000)
  near = np.where(fixed[:, None], places, start.points)
  for weighted, (of_places, of_target, of_weights) in ((True, (1, 0, 0)), (True, (1, 1, 1)), (False, (1, 1, 0))):
    if not weighted:
      near = smacof(t, 2, fixed=fixed, initial=places, tolerance=1e-13, max_steps=20_000).points

    def measure(s, weighted=weighted, near=near, parts=(of_places, of_target, of_weights)):
      weights = w + s * parts[2] * dw if weighted else None
      initial = jnp.where(fixed[:, None], near + s * parts[0] * dp, near)
      options = {"tolerance": 1e-14, "max_steps": 20_000}
      found = smacof(t + s * parts[1] * dt, 2, weights=weights, fixed=fixed, initial=initial, **options)
      return (c * jnp.sin(found.points)).sum() + found.stress

    slopes = check_both_orders(measure, [()], 1e-5)
    assert abs(slopes[0]) > 0.1


@pytest.mark.slow
def test_what_the_free_points_hang_on(rng):
  """Outside jit an error that names them, inside it a flag."""
  x, t, _, fixed, places = anchored(rng, 9, 2, 4, missing=0)
  run = jax.jit(lambda w: smacof(t.astype(np.float32), 2, weights=w, fixed=fixed, initial=places).converged)

  def weights(*pairs):
    w = np.zeros((9, 9), np.float32)
    for a, b in pairs:
      w[a, b] = w[b, a] = 1
    return w

  # Two parts, (4, 5, 6) and (7, 8).
  enough = [(4, 5), (5, 6), (4, 6), (0, 4), (1, 5), (2, 6), (7, 8), (0, 7), (1, 8), (2, 7)]
  assert bool(run(weights(*enough)))
  smacof(t, 2, weights=weights(*enough), fixed=fixed, initial=places)
  too_few = [pair for pair in enough if pair not in ((1, 8), (2, 7))]
  assert not bool(run(weights(*too_few)))
  with pytest.raises(ValueError, match=r"at least 2 fixed ones.*Got 1 for the points \(7, 8\), which can turn"):
    smacof(t, 2, weights=weights(*too_few), fixed=fixed, initial=places)
  none = [pair for pair in too_few if pair != (0, 7)]
  assert not bool(run(weights(*none)))
  assert not bool(jax.jit(lambda f: smacof(t, 2, fixed=f, initial=x).converged)(np.arange(9) < 1))
  assert bool(jax.jit(lambda f: smacof(t, 2, fixed=f, initial=x).converged)(np.arange(9) < 2))


@pytest.mark.slow
def test_batches_and_maps(rng):
  problems = [anchored(rng, 8, 2, k, missing=0.1) for k in (4, 5)]
  t, w, fixed, places = (np.stack([p[k] for p in problems]) for k in (1, 2, 3, 4))
  together = smacof(t, 2, weights=w, fixed=fixed, initial=places)
  mapped = jax.vmap(lambda *a: smacof(a[0], 2, weights=a[1], fixed=a[2], initial=a[3]))(t, w, fixed, places)
  for k, (x, *_) in enumerate(problems):
    np.testing.assert_allclose(together.points[k], x, atol=1e-4)
    np.testing.assert_allclose(mapped.points[k], x, atol=1e-4)
  assert bool(together.converged.all())


def test_refusals(rng):
  _, t, w, fixed, places = anchored(rng, 6, 2, 3)
  holes = places.copy()
  holes[1] = np.nan
  for error, message, options in (
    (ValueError, "fixed points need places. Got fixed without initial", {"fixed": fixed}),
    (ValueError, "fixed must have one entry for each point", {"fixed": fixed[:5], "initial": places}),
    (TypeError, "fixed must be boolean", {"fixed": fixed.astype(int), "initial": places}),
    (
      ValueError,
      "initial must be finite where points are fixed. Got other numbers for point 1",
      {"fixed": fixed, "initial": holes},
    ),
  ):
    with pytest.raises(error, match=message):
      smacof(t, 2, weights=w, **options)


@pytest.mark.slow
def test_small_tolerances_sizes_and_strict_modes(rng):
  """A small tolerance leaves steps for Newton; as many coordinates as points; targets far smaller than the anchors."""
  x, t, w, fixed, places = anchored(rng, 9, 2, 3, noise=0.1)
  with x64(True):
    fit = jax.jit(lambda t, w: smacof(t, 2, weights=w, fixed=fixed, initial=places, tolerance=1e-13))
    for seed in range(20):
      problem = np.random.default_rng(seed)
      _, t, w = incomplete(problem, 9, 2, noise=0.3)
      assert bool(fit(t, w).converged)
  for n, dim in ((2, 2), (3, 3), (4, 6), (1, 1)):
    y = rng.normal(size=(n, dim)).astype(np.float32)
    all_fixed = smacof(oracle.distances(y), dim, fixed=np.ones(n, bool), initial=y)
    assert bool(all_fixed.converged)
    np.testing.assert_array_equal(all_fixed.points, y)
  near = smacof((oracle.distances(x) * 1e-30).astype(np.float32), 2, fixed=fixed, initial=places.astype(np.float32))
  none = smacof((oracle.distances(x) * 0).astype(np.float32), 2, fixed=fixed, initial=places.astype(np.float32))
  assert bool(near.converged)
  np.testing.assert_allclose(near.stress, none.stress, rtol=1e-5)
  with jax.numpy_dtype_promotion("strict"):
    assert bool(
      smacof(oracle.distances(x).astype(np.float32), 2, fixed=fixed, initial=places.astype(np.float32)).converged
    )
