"""The nearest points, against a sorted oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from conftest import refusals
from jax_edm import nearest
from transformations import ALL, FIRST_ORDER, SECOND_ORDER, Case, check_cases, naive_edm, quick_jit


def sorted_neighbours(squared, k):
  """By distance, ties to the lower index."""
  order = np.argsort(squared, axis=-1, kind="stable")[..., :k]
  return np.take_along_axis(squared, order, -1), order


def without_itself(squared):
  return np.where(np.eye(len(squared), dtype=bool), np.inf, squared)


@pytest.mark.parametrize(
  ("n", "m", "d", "k", "block"), [(40, 300, 3, 3, 7), (33, 1000, 9, 5, None), (50, 60, 2, 59, 16), (4, 2, 20, 1, 1)]
)
def test_order_and_ties(n, m, d, k, block, rng):
  """Points of a small lattice: everything is exact, and most distances are tied. One set and two, by every method."""
  x, y = (rng.integers(0, 4, size=(size, d)).astype(np.float32) for size in (n, m))
  ways = [(method, sets) for method in (None, "difference", "gram") for sets in (1, 2)]
  most = [min(k, m - (sets == 1)) for _, sets in ways]

  def run(x, y):
    return [
      nearest(*((y,) if sets == 1 else (x, y)), k=k, method=method, block_size=block)
      for (method, sets), k in zip(ways, most, strict=True)
    ]

  for found, (_, sets), k in zip(quick_jit(run)(x, y), ways, most, strict=True):
    squared, order = sorted_neighbours(without_itself(oracle.edm(y)) if sets == 1 else oracle.edm(x, y), k)
    np.testing.assert_array_equal(found.squared, squared)
    np.testing.assert_array_equal(found.indices, order)
    assert found.indices.dtype == np.int32


def test_without_jit(rng):
  """Arguments of NumPy; the second call compiles nothing, and k is a keyword."""
  x, y = rng.normal(size=(10, 3)).astype(np.float32), rng.normal(size=(40, 3)).astype(np.float32)
  where, where_y = rng.random(10) < 0.8, rng.random(40) < 0.8
  found = nearest(x, y, k=3, where=where, where_y=where_y)
  squared, order = sorted_neighbours(np.where(where[:, None] & where_y, oracle.edm(x, y), np.inf), 3)
  np.testing.assert_array_equal(found.indices, np.where(np.isfinite(squared), order, -1))
  np.testing.assert_allclose(found.squared, squared, rtol=1e-5)
  with pytest.raises(TypeError, match="positional"):
    nearest(x, y, 3)


@pytest.mark.parametrize("d", [3, 64])
def test_random_points(d, rng):
  x = rng.normal(size=(600, d)).astype(np.float32)
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


@pytest.mark.parametrize("sets", [1, 2])
def test_a_point_that_is_not_finite_reaches_no_gradient_of_others(sets, rng):
  """Issue 14. It reaches the points that chose it, where there was nothing better, and itself."""
  x, y = rng.normal(size=(6, 3)).astype(np.float32), rng.normal(size=(7, 3)).astype(np.float32)
  second = x if sets == 1 else y

  def run(x, y, k):
    def total(x, y):
      found = nearest(x, y if sets == 2 else None, k=k)
      return found.squared.sum(), found

    return jax.grad(total, (0, 1), has_aux=True)(x, y)

  few, all_of_them = (jax.jit(lambda x, y, k=k: run(x, y, k)) for k in (2, len(second) - (sets == 1)))
  for bad in (np.nan, np.inf):
    second[4, 1] = bad
    (of_x, of_y), found = few(x, y)
    chose = (np.asarray(found.indices) == 4).any(1)
    chose[4] |= sets == 1
    assert not chose[np.arange(6) != 4].any() or sets == 2
    bars = (of_x,) if sets == 1 else (of_x, of_y)
    assert np.isfinite(of_x[~chose]).all()
    assert all(np.isfinite(np.delete(bar, 4, 0)).all() for bar in bars)
    (of_x, _), found = all_of_them(x, y)
    others = np.delete(np.asarray(found.indices), 4, 0) if sets == 1 else np.asarray(found.indices)
    np.testing.assert_array_equal(others[:, -1], 4)


@pytest.mark.parametrize("sets", [1, 2])
def test_masks(sets, rng):
  """A missing point is nobody's neighbour and has none; NaN in it reaches no value and no gradient."""
  x, y = rng.normal(size=(30, 3)).astype(np.float32), rng.normal(size=(40, 3)).astype(np.float32)
  here, here_y = rng.random(30) < 0.5, np.arange(40) < 2
  x[~here], y[~here_y] = np.nan, np.inf
  z, masks = ((x,), {"where": here}) if sets == 1 else ((x, y), {"where": here, "where_y": here_y})
  squared = np.full((30, (30, 40)[sets - 1]), np.inf)
  kept = np.ix_(here, here if sets == 1 else here_y)
  squared[kept] = without_itself(oracle.edm(x[here])) if sets == 1 else oracle.edm(x[here], y[here_y])
  expected, order = sorted_neighbours(squared, 4)

  def run(z, method):
    def total(z):
      found = nearest(*z, k=4, method=method, **masks)
      return jnp.where(jnp.isfinite(found.squared), found.squared, 0).sum(), found

    return jax.grad(total, has_aux=True)(z)

  for bars, found in quick_jit(lambda z: [run(z, method) for method in (None, "gram")])(z):
    np.testing.assert_array_equal(found.indices, np.where(np.isfinite(expected), order, -1))
    np.testing.assert_allclose(found.squared, expected, rtol=1e-5)
    for bar, mask in zip(bars, (here, here_y), strict=False):
      assert np.isfinite(bar).all()
      np.testing.assert_array_equal(bar[~mask], 0)
      assert np.abs(bar[mask]).max() > 0


def chosen(x, y=None, method=None):
  return nearest(x, y, k=3, method=method, block_size=3).squared


def naive_chosen(x, y=None):
  squared = naive_edm(x, y)
  if y is None:
    squared = jnp.where(jnp.eye(len(x), dtype=bool), jnp.inf, squared)
  return jnp.sort(squared, 1)[:, :3]


@pytest.mark.parametrize("name", {**FIRST_ORDER, **SECOND_ORDER})
@pytest.mark.usefixtures("double_precision")
def test_every_transformation(name):
  # Four devices share the points of one set, two each: too few for three neighbours.
  shapes = ((8, 3), (5, 3)) if "shard_map" in name else ((8, 3),)
  check_cases(ALL[name], [Case(chosen, shapes, jnp.float64, naive=naive_chosen)])


@pytest.mark.parametrize("d", [3, 20])
def test_the_gradient_goes_through_the_chosen_pairs_only(d, rng):
  x, y = (rng.normal(size=(size, d)).astype(np.float32) for size in (25, 200))
  g = rng.normal(size=(25, 4)).astype(np.float32)
  _, order = sorted_neighbours(oracle.edm(x, y), 4)
  cotangent = np.zeros((25, 200))
  np.put_along_axis(cotangent, order, g, 1)

  def squared(x, y):
    return nearest(x, y, k=4).squared

  value = jax.jit(squared).lower(x, y).compile()
  gradient = jax.jit(lambda x, y, g: jax.vjp(squared, x, y)[1](g)).lower(x, y, g).compile()
  for bar, expected in zip(gradient(x, y, g), oracle.vjp(cotangent, x, y), strict=True):
    np.testing.assert_allclose(bar, expected, atol=64 * 1.2e-7 * np.abs(expected).max())
  flops = [program.cost_analysis()["flops"] for program in (value, gradient)]
  assert flops[1] < 1.5 * flops[0] + 40 * 25 * 4 * (d + 30)


def test_batches_and_dtypes(rng):
  x, y = rng.normal(size=(2, 1, 5, 3)).astype(np.float32), rng.normal(size=(3, 40, 3)).astype(np.float32)
  found = nearest(x, y, k=2)
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
    lambda x: nearest(x, x, k=5),
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
