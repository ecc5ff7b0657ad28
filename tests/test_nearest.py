"""The nearest points, against a sorted oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_derivatives as core

import oracle
from conftest import refusals
from jax_edm import nearest


def sorted_neighbours(squared, k):
  """By distance, ties to the lower index."""
  order = np.argsort(squared, axis=-1, kind="stable")[..., :k]
  return np.take_along_axis(squared, order, -1), order


def without_itself(squared):
  return np.where(np.eye(len(squared), dtype=bool), np.inf, squared)


@pytest.mark.parametrize("method", [None, "difference", "gram"])
@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize(
  ("n", "m", "d", "k", "block"), [(40, 300, 3, 3, 7), (33, 1000, 9, 5, None), (50, 60, 2, 59, 16), (4, 2, 20, 1, 1)]
)
def test_order_and_ties(n, m, d, k, block, sets, method, rng):
  """Points of a small lattice: everything is exact, and most distances are tied."""
  x, y = (rng.integers(0, 4, size=(size, d)).astype(np.float32) for size in (n, m))
  squared = without_itself(oracle.edm(y)) if sets == 1 else oracle.edm(x, y)
  k = min(k, m - (sets == 1))
  expected, order = sorted_neighbours(squared, k)
  z = (y,) if sets == 1 else (x, y)
  run = lambda *z: nearest(*z, k=k, method=method, block_size=block)  # noqa: E731
  for found in (run(*z), jax.jit(run)(*z)):
    np.testing.assert_array_equal(found.squared, expected)
    np.testing.assert_array_equal(found.indices, order)
    assert found.indices.dtype == np.int32


@pytest.mark.parametrize("d", [3, 64])
def test_random_points(d, rng):
  x = rng.normal(size=(1200, d)).astype(np.float32)
  found = jax.jit(lambda x: nearest(x, k=10))(x)
  expected, order = sorted_neighbours(without_itself(oracle.edm(x)), 10)
  np.testing.assert_allclose(found.squared, expected, rtol=(d + 2) * 1.2e-7)
  assert np.mean(found.indices != order) < 1e-3  # where two distances agree to the last digits


def test_tight_clusters_far_apart(rng):
  """The products cannot tell the members of a cluster from each other; the candidates are measured by differences."""
  centres = 100 * rng.normal(size=(30, 10))
  x = (centres[:, None] + 1e-2 * rng.normal(size=(30, 12, 10))).reshape(360, 10).astype(np.float32)
  expected, order = sorted_neighbours(without_itself(oracle.edm(x)), 5)
  found = nearest(x, k=5)
  np.testing.assert_array_equal(found.indices, order)
  np.testing.assert_allclose(found.squared, expected, rtol=12 * 1.2e-7)


def test_values_that_are_not_finite_come_last():
  x = jnp.array([[0.0], [1.0], [jnp.nan], [3.0], [jnp.inf]])
  found = nearest(x[:2], x, k=5)
  np.testing.assert_array_equal(found.indices, [[0, 1, 3, 2, 4], [1, 0, 3, 2, 4]])
  np.testing.assert_array_equal(found.squared[0], [0, 1, 9, np.nan, np.inf])


@pytest.mark.parametrize("method", [None, "gram"])
@pytest.mark.parametrize("sets", [1, 2])
def test_masks(sets, method, rng):
  """A missing point is nobody's neighbour and has none; NaN in it reaches no value and no gradient."""
  x, y = rng.normal(size=(30, 3)).astype(np.float32), rng.normal(size=(40, 3)).astype(np.float32)
  here, here_y = rng.random(30) < 0.5, np.arange(40) < 2
  x[~here], y[~here_y] = np.nan, np.inf
  z, masks = ((x,), {"where": here}) if sets == 1 else ((x, y), {"where": here, "where_y": here_y})

  def run(*z):
    return nearest(*z, k=4, method=method, **masks)

  found = jax.jit(run)(*z)
  squared = np.full((30, (30, 40)[sets - 1]), np.inf)
  kept = np.ix_(here, here if sets == 1 else here_y)
  squared[kept] = without_itself(oracle.edm(x[here])) if sets == 1 else oracle.edm(x[here], y[here_y])
  expected, order = sorted_neighbours(squared, 4)
  np.testing.assert_array_equal(found.indices, np.where(np.isfinite(expected), order, -1))
  np.testing.assert_allclose(found.squared, expected, rtol=1e-5)
  bars = jax.grad(lambda z: jnp.where(jnp.isfinite(run(*z).squared), run(*z).squared, 0).sum())(z)
  for bar, mask in zip(bars, (here, here_y), strict=False):
    assert np.isfinite(bar).all()
    np.testing.assert_array_equal(bar[~mask], 0)
    assert np.abs(bar[mask]).max() > 0


def chosen(x, y=None, method=None):
  return nearest(x, y, 3, method=method, block_size=3).squared


def naive_chosen(x, y=None):
  squared = core.naive_edm(x, y)
  if y is None:
    squared = jnp.where(jnp.eye(len(x), dtype=bool), jnp.inf, squared)
  return jnp.sort(squared, 1)[:, :3]


@pytest.mark.parametrize("name", {**core.FIRST_ORDER, **core.SECOND_ORDER})
@pytest.mark.usefixtures("double_precision")
def test_every_transformation(name):
  transform = {**core.FIRST_ORDER, **core.SECOND_ORDER}[name]
  if "shard_map" in name:  # four devices share the points of one set, two each: too few for three neighbours
    core.check(chosen, transform, [(8, 3), (5, 3)], jnp.float64, None, jitted=True, naive=naive_chosen)
  else:
    core.check(chosen, transform, [(8, 3)], jnp.float64, None, jitted=True, naive=naive_chosen)


@pytest.mark.parametrize("d", [3, 20])
def test_the_gradient_goes_through_the_chosen_pairs_only(d, rng):
  x, y = (rng.normal(size=(size, d)).astype(np.float32) for size in (25, 200))
  g = rng.normal(size=(25, 4)).astype(np.float32)
  _, order = sorted_neighbours(oracle.edm(x, y), 4)
  cotangent = np.zeros((25, 200))
  np.put_along_axis(cotangent, order, g, 1)
  bars = jax.vjp(lambda x, y: nearest(x, y, 4).squared, x, y)[1](g)
  for bar, expected in zip(bars, oracle.vjp(cotangent, x, y), strict=True):
    np.testing.assert_allclose(bar, expected, atol=64 * 1.2e-7 * np.abs(expected).max())
  flops = [
    jax.jit(f).lower(x, y).compile().cost_analysis()["flops"]
    for f in (lambda x, y: nearest(x, y, 4).squared.sum(), jax.grad(lambda x, y: nearest(x, y, 4).squared.sum()))
  ]
  assert flops[1] < 1.5 * flops[0] + 40 * 25 * 4 * (d + 30)


def test_memory():
  n = 16384
  x = jax.ShapeDtypeStruct((n, 3), jnp.float32)
  for f in (lambda x: nearest(x, k=10).squared.sum(), jax.grad(lambda x: nearest(x, k=10).squared.sum())):
    assert jax.jit(f).lower(x).compile().memory_analysis().temp_size_in_bytes < 24 * 2**20 < n * n * 4


def test_batches_and_dtypes(rng):
  x, y = rng.normal(size=(2, 1, 5, 3)).astype(np.float32), rng.normal(size=(3, 40, 3)).astype(np.float32)
  found = nearest(x, y, 2)
  assert found.squared.shape == found.indices.shape == (2, 3, 5, 2)
  expected, order = sorted_neighbours(oracle.edm(x, y), 2)
  np.testing.assert_array_equal(found.indices, order)
  np.testing.assert_allclose(found.squared, expected, rtol=1e-5)
  half = nearest(x.astype(np.float16), y.astype(np.float16))
  assert half.squared.dtype == np.float16
  assert nearest(np.arange(6).reshape(3, 2)).squared.dtype == np.float32


BAD = {
  "k too large": (
    ValueError,
    r"nearest: k must be at least 1, and at most the number of candidates. Got 5 of 4",
    lambda x: nearest(x, x, 5),
  ),
  "k too large, one set": (ValueError, r"Got 4 of 3", lambda x: nearest(x, k=4)),
  "no points": (ValueError, r"Got 1 of 0", lambda x: nearest(x[:0])),
  "k of 0": (ValueError, r"k must be at least 1.*Got 0", lambda x: nearest(x, k=0)),
  "k of another type": (TypeError, r"k must be an integer. Got float", lambda x: nearest(x, k=1.0)),
  "block": (ValueError, r"nearest: block_size must be at least 1. Got -1", lambda x: nearest(x, block_size=-1)),
  "different d": (ValueError, r"nearest: x and y must have the same number", lambda x: nearest(x, x[:, :1])),
  "where": (TypeError, r"nearest: where must be boolean", lambda x: nearest(x, where=x[:, 0])),
}


test_bad_input = refusals(BAD)
