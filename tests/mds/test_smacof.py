"""``smacof``: the points, complete or not; its steps, its starts and its flags."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from benchmarks import points
from jax_edm import classical_mds, distances, edm, smacof, stress
from jax_edm._mds.starts import shortest_path_completion
from mds_problems import EPS, guttman_by_definition, incomplete, stress_by_definition


@pytest.mark.parametrize(("n", "dim"), [(12, 3), (4, 3), (2, 1), (30, 2)])
def test_complete_distances_give_the_points(n, dim, rng):
  x = rng.normal(size=(n, dim))
  t = oracle.distances(x).astype(np.float32)
  found = smacof(t, dim)
  assert bool(found.converged)
  np.testing.assert_allclose(distances(found.points), t, atol=1e-4 * t.max())
  np.testing.assert_allclose(found.points.mean(0), 0, atol=1e-5)
  moments = found.points.T @ found.points
  np.testing.assert_allclose(moments, np.diag(np.diag(moments)), atol=1e-3 * moments.max())  # principal axes
  assert found.stress < 1e-6 * (t**2).sum()


def recover(squared, known):
  """The relative errors of the squared distances, and the points."""
  target = np.where(known, np.sqrt(squared), np.nan)
  target[:, range(20), range(20)] = 0
  solve = jax.jit(lambda t, w: smacof(t, 2, weights=w, key=jax.random.key(0), restarts=10).points)
  found = np.asarray(solve(target, known))
  return np.linalg.norm(edm(found) - squared, axis=(1, 2)) / np.linalg.norm(squared, axis=(1, 2)), found


@pytest.mark.slow
def test_missing_distances(rng):
  """20 points in a square, 10 problems with 100 of the 190 pairs deleted and 30 with 120: the missing ones are found.

  Of the latter 87 of 100 are solved (59 without the over-dimensional start), and of the former all but one in fifty.
  """
  deleted = [100] * 10 + [120] * 30
  squared, known = map(np.stack, zip(*(points.problem(seed, k) for seed, k in enumerate(deleted)), strict=True))
  error, found = recover(squared, known)
  assert (error[:10] < 1e-2).sum() >= 9
  assert (error[10:] < 1e-2).sum() >= 23
  _, one = recover(squared[:1], known[:1])  # a batch is its members
  np.testing.assert_allclose(edm(one), edm(found[:1]), atol=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.usefixtures("double_precision")
def test_steps_from_given_points_are_those_of_smacof(weighted, rng):
  _, t, w = incomplete(rng, 10, 2)
  start = rng.normal(size=(10, 2))
  w = w if weighted else np.ones((10, 10))
  expected = start - start.mean(0)
  for _ in range(7):
    expected = guttman_by_definition(expected, t, w)
  found = smacof(t, 2, weights=w if weighted else None, initial=start + 3, max_steps=7, tolerance=0.0)
  np.testing.assert_allclose(found.points, expected, atol=1e-12)
  np.testing.assert_allclose(found.stress, stress_by_definition(expected, t, w), rtol=1e-12)
  assert (int(found.steps), bool(found.converged)) == (7, False)


@pytest.mark.slow
def test_more_starts_find_no_worse_a_minimum(rng):
  _, t, _ = incomplete(rng, 15, 4, noise=0.5, missing=0)
  one = smacof(t, 2)
  assert one.stress < stress(classical_mds(t**2, 2).points, t)
  bad = smacof(t, 2, initial=rng.normal(size=(15, 2)), max_steps=1)
  for initial, at_most in ((None, one), (bad.points, bad)):
    many = smacof(t, 2, initial=initial, key=jax.random.key(1), restarts=12)
    assert many.stress <= at_most.stress * (1 + 64 * EPS)  # one minimum, from two starts, differs in the last digits
  assert many.stress < bad.stress


@pytest.mark.slow
def test_inside_jit_the_flags_tell(rng):
  x, t, w = incomplete(rng, 8, 2, 0, 0)
  run = jax.jit(lambda t, w, x: smacof(t, 2, weights=w, initial=x, key=jax.random.key(0), restarts=2).converged)
  parts = w.copy()
  parts[:3, 3:] = parts[3:, :3] = 0
  broken, negative = t.copy(), t.copy()
  broken[0, 1] = broken[1, 0] = np.nan
  negative[0, 1] = negative[1, 0] = -1
  without = np.where(np.isnan(broken), 0, w)
  for start in (None, x):
    assert bool(run(t, w, start))
    assert bool(run(broken, without, start))
    assert bool(run(negative, without, start))
    for target, weights in ((t, parts), (broken, w), (negative, w)):
      assert not bool(run(target, weights, start))
  many = rng.random((40, 8, 8)) * 10.0 ** rng.integers(-3, 4, (40, 8, 8))  # rounding makes some of these look regular
  many[:, :3, 3:] = many[:, 3:, :3] = 0
  assert not run(t, many + np.swapaxes(many, 1, 2), x).any()  # the points do not move, and are not determined


def test_points_that_coincide():
  """They are a minimum only for distances that are all zero."""
  t = np.array(oracle.distances(np.random.default_rng(0).normal(size=(6, 2))))
  run = jax.jit(lambda t, x: smacof(t, 2, initial=x))
  assert not bool(run(t, np.zeros((6, 2))).converged)
  for found in (smacof(0 * t, 2), run(0 * t, np.full((6, 2), 0.1))):
    np.testing.assert_allclose(found.points, 0, atol=1e-7)
    np.testing.assert_allclose(found.stress, 0, atol=1e-12)
    assert bool(found.converged)


def test_shortest_paths(rng):
  """Of more points than are admitted at a time, and of fewer; one at a time gives the same lengths."""
  for n in (3, 16, 37, 64):
    _, t, w = incomplete(rng, n, 2, missing=0.8)
    expected = np.where(np.eye(n, dtype=bool), 0, np.where(w == 0, np.inf, t))
    for k in range(n):
      expected = np.minimum(expected, expected[:, k, None] + expected[k])
    found = shortest_path_completion(jnp.asarray(t, jnp.float32), jnp.asarray(w, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=n * EPS)


@pytest.mark.slow
def test_units_and_missing_targets_of_any_size(rng):
  """The stress, relative to the units; what is missing may be the largest number."""
  x = rng.normal(size=(12, 2))
  t = oracle.distances(x) * (1 + 0.1 * rng.random((12, 12)))
  t, w = (t + t.T) / 2, np.ones((12, 12), np.float32)
  w[0, 1] = w[1, 0] = 0

  def fit(unit, missing, of_weights):
    given = (t * unit).astype(np.float32)
    given[0, 1] = given[1, 0] = missing
    found = smacof(given, 2, weights=w * np.float32(of_weights))
    assert bool(found.converged)
    by_definition = stress_by_definition(np.asarray(found.points, np.float64) / unit, t, w)
    np.testing.assert_allclose(float(found.stress) / unit**2 / of_weights, by_definition, rtol=2**10 * EPS)
    return by_definition

  expected = fit(1.0, 0.0, 1.0)
  for unit, missing, of_weights in ((1, 3e38, 1), (1e-17, 1e-17, 1), (1e17, np.nan, 1), (1, 1, 1e-36), (1, 1, 1e36)):
    np.testing.assert_allclose(fit(unit, missing, of_weights), expected, rtol=1e-3)
  large = np.where(w == 0, np.float32(1e30), t.astype(np.float32))
  value, bar = jax.value_and_grad(lambda x: stress(x, large, weights=w, normalized=True))(x.astype(np.float32))
  np.testing.assert_allclose(value, stress(x.astype(np.float32), t.astype(np.float32), weights=w, normalized=True))
  assert np.isfinite(bar).all()


def test_what_only_jit_lets_in_has_not_converged(rng):
  t = oracle.distances(rng.normal(size=(8, 2))).astype(np.float32)
  fit = jax.jit(lambda t, w, tolerance: smacof(t, 2, weights=w, tolerance=tolerance).converged)
  ones = np.ones((8, 8), np.float32)
  assert bool(fit(t, ones, 1e-6))
  for w, tolerance in ((-ones, 1e-6), (ones - 2 * np.eye(8, dtype=np.float32)[::-1], 1e-6), (ones, np.nan)):
    assert not bool(fit(t, w, tolerance))


@pytest.mark.slow
def test_whatever_stands_where_an_entry_is_missing(rng):
  _, t, w = incomplete(rng, 7, 2, missing=0.2)
  w[0, 1] = w[1, 0] = 0
  run = jax.jit(jax.value_and_grad(lambda t: smacof(t, 2, weights=w).stress))
  values = []
  for sentinel in (-1.0, np.nan, np.inf, 0.0):
    t[0, 1] = t[1, 0] = sentinel
    smacof(t, 2, weights=w, max_steps=1)  # is no bad input
    value, gradient = run(t.astype(np.float32))
    values.append(value)
    assert bool(jnp.isfinite(gradient).all())
    np.testing.assert_array_equal(gradient[w == 0], 0)
  np.testing.assert_array_equal(values, values[0])


@pytest.mark.slow
def test_weights_of_a_batch_for_one_matrix(rng):
  x, t, w = incomplete(rng, 6, 2, noise=0)
  found = smacof(t, 2, weights=np.stack([w, w.astype(bool), 2 * w]), initial=x)
  np.testing.assert_allclose(distances(found.points), [t] * 3, atol=1e-4)
  assert bool(found.converged.all())


def test_a_point_with_very_small_weights(rng):
  w = np.ones((6, 6))
  w[0] = w[:, 0] = 1e-6  # any smaller, and rounding, divided by the weight, is a large step of this point
  assert bool(jnp.isfinite(smacof(oracle.distances(rng.normal(size=(6, 2))), 2, weights=w).stress))
