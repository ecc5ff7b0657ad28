"""Weights over many decades, as ``1 / D`` for clusters far apart in float32; and weights whose diagonal is infinite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from jax_edm import distances, guttman_inverse, guttman_transform, smacof, stress
from mds_problems import EPS, pseudoinverse_of_laplacian, stress_by_definition, symmetric
from transformations import quick_jit


def clusters(rng, close):
  """40 points in four clusters, 300 to 3000 apart, of which two are as close as that; distances, and weights 1 / D."""
  centres = rng.normal(size=(4, 2))
  centres *= np.array([[300], [600], [1500], [3000]]) / np.linalg.norm(centres, axis=1, keepdims=True)
  x = (centres[:, None] + rng.normal(size=(4, 10, 2))).reshape(40, 2)
  x[1] = x[0] + close
  x = x.astype(np.float32)
  t = oracle.distances(x)
  w = 1 / (t + np.eye(40)) ** 2 - np.eye(40)
  return x, t.astype(np.float32), w.astype(np.float32)


def rounding_of_points(x, w):
  """What the stress may change by, where all coordinates are rounded."""
  return (w * (4 * EPS * np.abs(x).max()) ** 2).sum()


CLOSE = [1.0, 1e-1, 1e-2, 1e-3]  # the weights span 7 to 13 decades


@pytest.mark.parametrize("given", [False, True])
def test_a_step_from_the_solution_stays_there(given, rng):
  step = jax.jit(lambda x, t, w: guttman_transform(x, t, weights=w, inverse=guttman_inverse(w) if given else None))
  for close in CLOSE:
    x, t, w = clusters(rng, close)
    np.testing.assert_allclose(step(x, t, w), x, atol=2 * EPS * np.abs(x).max())


@pytest.mark.parametrize("given", [False, True])
def test_the_stress_never_rises(given, rng):
  """Also where the pseudoinverse has no digits for the near pairs: then a step with it is short, and none is wrong."""
  inverse = jax.jit(guttman_inverse)
  step = jax.jit(lambda x, t, w, inverse: guttman_transform(x, t, weights=w, inverse=inverse))
  for close in CLOSE:
    x, t, w = clusters(rng, close)
    t = t * np.exp(0.05 * symmetric(rng, 40)).astype(np.float32)
    x = x + 100 * rng.normal(size=x.shape).astype(np.float32)
    before = first = stress_by_definition(x, t, w)
    for _ in range(20):
      x = step(x, t, w, inverse(w) if given else None)
      after = stress_by_definition(np.asarray(x), t, w)
      assert after <= before * (1 + 64 * EPS) + rounding_of_points(x, w)
      before = after
    assert given or before < 1e-3 * first


@pytest.mark.slow
def test_clusters_far_apart_are_found(rng):
  solve = jax.jit(lambda t, w: smacof(t, 2, weights=w, max_steps=2000))
  for close in CLOSE[:3]:
    x, t, w = clusters(rng, close)
    found = solve(t, w)
    assert bool(found.converged)
    assert found.stress < 16 * rounding_of_points(x, w)
    np.testing.assert_allclose(distances(found.points), t, atol=1e-4 * t.max())  # a step was less than 1e-6


def test_what_is_not_finite_has_not_converged(rng):
  """The points have, but their stress overflows; and so do the squares of the largest distances."""
  t = (oracle.distances(rng.normal(size=(6, 2))) * np.exp(symmetric(rng, 6))).astype(np.float32)
  w = np.ones((6, 6), np.float32)
  assert bool(smacof(t, 1, weights=w, max_steps=5000).converged)
  for size, weight in ((1e5, 1e30), (1e25, 1.0), (1e38 / t.max(), 1.0)):
    for weights in (weight * w, None) if weight == 1 else (weight * w,):
      found = smacof(np.float32(size) * t, 1, weights=weights, max_steps=5000)
      assert not bool(jnp.isfinite(found.stress))
      assert not bool(found.converged)


def test_inverse_of_weights_over_many_decades(rng):
  w = np.abs(symmetric(rng, 70)) * 10.0 ** np.round(2 * symmetric(rng, 70))
  expected = pseudoinverse_of_laplacian(w)
  found = guttman_inverse(w.astype(np.float32))
  np.testing.assert_allclose(found, expected, atol=64 * EPS * np.abs(expected).max())


@pytest.mark.slow
def test_the_diagonal_of_weights_does_not_count(rng):
  """Outside ``jit`` and inside, in values and derivatives."""
  x = rng.normal(size=(8, 2)).astype(np.float32)
  t = (oracle.distances(x) * np.exp(0.1 * symmetric(rng, 8))).astype(np.float32)
  plain = 1 / (t + np.eye(8, dtype=np.float32)) ** 2 * (1 - np.eye(8, dtype=np.float32))
  functions = (
    lambda w: stress(x, t, weights=w),
    lambda w: stress(x, t, weights=w, normalized=True),
    lambda w: guttman_transform(x, t, weights=w),
    lambda w: guttman_transform(x, t, weights=w, inverse=guttman_inverse(w)),
    lambda w: smacof(t, 2, weights=w).points,
  )
  gradient = quick_jit(jax.grad(lambda w: sum((f(w) ** 2).sum() for f in functions)))
  expected, expected_gradient = [f(plain) for f in functions], gradient(plain)
  for diagonal in (np.inf, np.nan, -1.0, 7.0):
    other = plain + np.diag(np.full(8, diagonal, np.float32))
    for f, value in zip(functions, expected, strict=True):
      np.testing.assert_array_equal(f(other), value)
    np.testing.assert_array_equal(gradient(other), expected_gradient)
  np.testing.assert_array_equal(np.diag(expected_gradient), 0)


@pytest.mark.slow
def test_weights_of_the_inverse_square(rng):
  """What docs/points.md advises."""
  x = jnp.asarray(rng.normal(size=(20, 2)), jnp.float32)
  target = distances(x)
  found = smacof(target, 2, weights=1 / target**2)
  assert bool(found.converged)
  np.testing.assert_allclose(distances(found.points), target, atol=1e-3)


def test_a_step_of_a_chain(rng):
  """Six points, light and heavy links in turn, and targets that are twice the distances: every link is doubled.

  Over eight decades to the last digits, over ten to four digits, over twelve to a few per cent.
  """
  x = rng.normal(size=(10, 6, 2)).astype(np.float32)
  links = np.diff(x.astype(np.float64), axis=1)
  t = (2 * oracle.distances(x)).astype(np.float32)
  step = jax.jit(lambda x, t, w: guttman_transform(x, t, weights=w))
  for decades, rtol in ((2, 16 * EPS), (8, 64 * EPS), (10, 2e-4), (12, 5e-2)):
    for first in (0, 1):
      of_links = 10.0 ** (decades * (np.arange(5) % 2 - first) / 2)
      w = np.diag(of_links, 1) + np.diag(of_links, -1)
      found = np.diff(np.asarray(step(x, t, w.astype(np.float32)), np.float64), axis=1)
      error = np.linalg.norm(found - 2 * links, axis=-1) / np.linalg.norm(links, axis=-1)
      assert error.max() < rtol, (decades, error.max())
