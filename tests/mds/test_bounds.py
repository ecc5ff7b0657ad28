"""Bounds of distances: ``stress`` and ``smacof`` with them, and what follows from them by the triangle inequality."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from jax_edm import distances, smacof, smooth_bounds, stress
from mds_problems import EPS, check_both_orders, incomplete, symmetric


def random_bounds(rng, n, d=3):
  """Bounds of the distances of points, of which many are not known."""
  r = oracle.distances(rng.normal(size=(n, d)))
  slack = np.abs(symmetric(rng, n))
  known = np.triu(rng.random((2, n, n)) < 0.3, 1)
  low, high = (k | k.T for k in known)
  return np.where(low, r / (1 + slack), 0), np.where(
    high | (np.abs(np.subtract.outer(range(n), range(n))) == 1), r * (1 + slack), np.inf
  )


def smoothed_by_paths(lower, upper):
  """Independently: shortest paths in a graph with two copies of each point. Edges within a copy are upper bounds, and
  an edge from the first to the second has the length -lower: a path between the copies is minus a lower bound.
  """
  n = len(lower)
  far = np.full((n, n), np.inf)
  np.fill_diagonal(upper := upper.copy(), 0)
  np.fill_diagonal(lower := lower.copy(), 0)
  length = np.block([[upper, -lower], [far, upper]])
  for k in range(2 * n):
    length = np.minimum(length, length[:, k, None] + length[k])
  smooth = np.maximum(-length[:n, n:], 0)
  np.fill_diagonal(smooth, 0)
  return smooth, length[:n, :n]


def test_smooth_bounds_are_the_exact_ones(rng):
  """Against another computation, in any unit; distances between bounds stay between them; twice changes nothing."""
  run = jax.jit(smooth_bounds)
  for unit in (1.0, 2.0**-60, 2.0**60):
    lower, upper = random_bounds(rng, 24)
    expected = smoothed_by_paths(lower, upper)
    found = run((lower * unit).astype(np.float32), (upper * unit).astype(np.float32))
    for a, b in zip(found, expected, strict=True):
      np.testing.assert_allclose(a / unit, b, atol=64 * EPS * expected[1].max())
      np.testing.assert_allclose(a, run(*found)[0 if a is found[0] else 1], atol=64 * EPS * float(found[1].max()))
    assert (expected[0] > lower + 1e-3).any()
    assert (expected[1] < upper - 1e-3).any()
  batch = jax.vmap(smooth_bounds)(lower[None].astype(np.float32), upper[None].astype(np.float32))
  np.testing.assert_allclose(batch[0][0], expected[0], atol=64 * EPS * expected[1].max())


def test_the_stress_of_bounds(rng):
  """By the definition; one bound alone is beside the target, and infinity is none."""
  x, t, w = incomplete(rng, 9, 2, noise=0.5)
  lower, upper = t * 0.95, t * 1.1
  r, above = oracle.distances(x), np.triu(np.ones((9, 9), bool), 1)

  def by_definition(low, high, r=r, w=w):
    return (w * np.square(np.maximum(np.maximum(low - r, r - high), 0)))[above].sum()

  x32 = x.astype(np.float32)
  for options, low, high in (
    ({"target": None, "lower": lower, "upper": upper}, lower, upper),
    ({"target": t, "upper": upper}, t, upper),
    ({"target": t, "lower": lower}, lower, t),
    ({"target": None, "lower": lower}, lower, np.inf),
    ({"target": None, "upper": upper}, 0, upper),
    ({"target": t, "upper": np.where(t > 1, np.inf, t)}, t, np.where(t > 1, np.inf, t)),
  ):
    expected = by_definition(low, high)
    assert expected > 1e-3
    np.testing.assert_allclose(stress(x32, **options, weights=w), expected, rtol=64 * EPS)
  squared = stress(x32, None, lower=lower**2, upper=upper**2, weights=w, squared=True)
  np.testing.assert_allclose(squared, by_definition(lower**2, upper**2, r**2), rtol=64 * EPS)


@pytest.mark.slow
@pytest.mark.usefixtures("double_precision")
def test_derivatives_with_respect_to_bounds(rng):
  """Of a minimum at which some bounds are broken; those that are not have none."""
  _x, t, w = incomplete(rng, 9, 2, noise=0.4, missing=0.1)
  lower, upper, c = t * 0.97, t * 1.03, rng.normal(size=(9, 9))
  dl, du, dw = symmetric(rng, 9) * t, symmetric(rng, 9) * t, symmetric(rng, 9) * (w > 0) / 10
  options = {"tolerance": 1e-14, "max_steps": 20_000}
  start = smacof(None, 2, lower=lower, upper=upper, weights=w, **options)
  assert bool(start.converged)

  def measure(s):
    bounds = {"lower": lower + s * dl, "upper": upper + s * du}
    found = smacof(None, 2, **bounds, weights=w + s * dw, initial=start.points, **options)
    return (c * jnp.sin(distances(found.points))).sum() + found.stress

  assert abs(check_both_orders(measure, [()], 4e-4)[0]) > 0.1
  r = np.asarray(distances(start.points))
  gradient = jax.grad(
    lambda u: smacof(None, 2, lower=lower, upper=u, weights=w, initial=start.points, **options).stress
  )(upper)
  kept = (r < upper - 1e-6) & ~np.eye(9, dtype=bool)
  np.testing.assert_allclose(gradient[kept], 0, atol=1e-9)
  assert np.abs(gradient).max() > 1e-2


def chain(rng, n=300, bond=0.38, near=0.38):
  """A compact chain in a ball, of which no two points come closer than ``near``, in nanometres."""
  radius, x = 0.62 * bond * n ** (1 / 3) * 1.4, [np.zeros(3)]
  while len(x) < n:
    steps = rng.normal(size=(200, 3))
    ends = x[-1] + bond * steps / np.linalg.norm(steps, axis=1, keepdims=True)
    far = np.linalg.norm(ends[:, None] - np.array(x[:-1] or [[9.0] * 3]), axis=2).min(1) > near
    good = ends[far & (np.linalg.norm(ends, axis=1) < radius)]
    x = [*x, good[0]] if len(good) else x[: max(1, len(x) - 25)]
  return np.array(x)


@pytest.mark.slow
def test_a_chain_from_intervals(rng):
  """300 points: bonds are exact, and neighbours within 0.6 nm are between 0.2 and 0.6. From five random starts."""
  D = oracle.distances(chain(rng))
  bond = np.abs(np.subtract.outer(range(300), range(300))) == 1
  near = (D < 0.6) & ~np.eye(300, dtype=bool)
  lower = np.where(bond, D, np.where(near, 0.2, 0)).astype(np.float32)
  upper = np.where(bond, D, np.where(near, 0.6, np.inf)).astype(np.float32)
  fit = jax.jit(lambda x: smacof(None, 3, lower=lower, upper=upper, weights=near | bond, initial=x, max_steps=2000))
  for seed in range(5):
    found = fit(np.random.default_rng(seed).normal(size=(300, 3)).astype(np.float32))
    r = oracle.distances(found.points)
    broken = np.maximum(lower - r, r - upper)[near | bond] / upper[near | bond]
    assert bool(found.converged)
    assert broken.max() < 0.01


def test_refusals(rng):
  _, t, _w = incomplete(rng, 6, 2)
  wrong = t.copy()
  wrong[1, 2] = wrong[2, 1] = 3 * t.max()
  for error, message, target, options in (
    (TypeError, "there must be a target or bounds", None, {}),
    (ValueError, "of which the target may be one. Got target, lower and upper", t, {"lower": t, "upper": t}),
    (ValueError, r"lower must not be larger than upper. Got .* at \(1, 2\)", None, {"lower": wrong, "upper": t}),
    (ValueError, r"lower must not be larger than target. Got .* at \(1, 2\)", t, {"lower": wrong}),
    (ValueError, "must be of one size", None, {"lower": t, "upper": t[:5, :5]}),
    (ValueError, "lower must be finite", None, {"lower": t + np.inf, "upper": t}),
    (ValueError, "upper must not be NaN", None, {"upper": t * np.nan}),
    (ValueError, "upper must not be negative", None, {"upper": -t}),
  ):
    with pytest.raises(error, match=message):
      smacof(target, 2, **options)
  with pytest.raises(ValueError, match="normalized needs a target"):
    stress(np.ones((6, 2)), None, upper=t, normalized=True)


@pytest.mark.slow
def test_bounds_that_contradict_each_other(rng):
  """Where the weight is 0 they may; inside jit the result has not converged."""
  _, t, _ = incomplete(rng, 6, 2)
  wrong = t.copy()
  wrong[1, 2] = wrong[2, 1] = 3 * t.max()
  off = np.where((wrong == wrong.max()), 0, 1)  # where the weight is 0, anything may stand
  assert bool(jnp.isfinite(smacof(None, 2, lower=wrong, upper=t, weights=off, max_steps=5).stress))
  contradictory = jax.jit(lambda low: smacof(None, 2, lower=low, upper=t.astype(np.float32)))(wrong.astype(np.float32))
  assert not bool(contradictory.converged)
