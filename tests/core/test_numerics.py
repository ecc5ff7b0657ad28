"""Each sentence of docs/numerics.md, held to a number computed from the dtype and the scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from conftest import quick_jit
from jax_edm import distances, edm, edm_jacobian, edm_jvp, edm_vjp

EPS = float(np.finfo(np.float32).eps)
DIMENSIONS = [3, 20]  # differences, products
METHODS = (None, "difference", "gram")


def cloud(rng, n, d, offset=0.0, scale=1.0):
  return (scale * rng.normal(size=(n, d)) + offset).astype(np.float32)


def of_each_method(f, jit=jax.jit):
  """``f(method, *arrays)`` of all ``METHODS``, in one program."""
  return jit(lambda *arrays: [f(method, *arrays) for method in METHODS])


def pull(method, g, *z):
  return jax.vjp(lambda *z: edm(*z, method=method), *z)[1](g)


def assert_relative(actual, expected, error):
  expected = np.asarray(expected)
  off = expected != 0
  np.testing.assert_allclose(np.asarray(actual, np.float64)[off], expected[off], rtol=error)


@pytest.mark.parametrize("d", [1, 2, 3, 8, 20, 257])
def test_differences_are_right_in_every_entry(d, rng):
  """Relative error of every entry: d + 2 roundings of terms that do not cancel."""
  x, y = cloud(rng, 64, d, 10), cloud(rng, 50, d, 10)
  few = x[:10]
  f = jax.jit(lambda x, y, few: (edm(x, y, method="difference"), distances(x, method="difference"), edm(few)))
  of_two, roots, of_few = f(x, y, few)
  assert_relative(of_two, oracle.edm(x, y), (d + 2) * EPS)
  assert_relative(roots, oracle.distances(x), (d + 3) * EPS)
  assert_relative(of_few, oracle.edm(few), (d + 2) * EPS)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_products_are_right_to_the_size_of_the_cloud(d, rng):
  """The error of an entry: that of |x - c|^2 + |y - c|^2, whichever entry it is."""
  x, y = cloud(rng, 64, d), cloud(rng, 50, d)
  middle = x.mean(0)
  bound = oracle.edm(x, middle[None]) + oracle.edm(y, middle[None]).T + d
  assert np.all(np.abs(edm(x, y, method="gram") - oracle.edm(x, y)) <= (8 + d**0.5) * EPS * bound)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_translation_costs_only_the_rounding_of_the_points(d, rng):
  """Forward, reverse and forward-mode: as accurate as if the cloud stood at the origin."""

  @of_each_method
  def results(method, x, v, g):
    f = lambda x: edm(x, method=method)  # noqa: E731
    return f(x), pull(method, g, x)[0], jax.jvp(f, (x,), (v,))[1]

  for offset in (1e3, 1e5):
    x, v, g = cloud(rng, 70, d, offset), cloud(rng, 70, d), cloud(rng, 70, 70)
    squared = oracle.edm(x)
    widest = np.sqrt(squared.max() * oracle.edm(v).max())
    reach = np.abs(g).sum(1).max() * np.sqrt(squared.max())
    for value, bar, tangent in results(x, v, g):
      np.testing.assert_allclose(value, squared, atol=64 * EPS * squared.max())
      np.testing.assert_allclose(bar, oracle.vjp(g, x)[0], atol=16 * EPS * reach)
      np.testing.assert_allclose(tangent, oracle.jvp(x, x, v, v), atol=32 * EPS * widest)


@pytest.mark.parametrize("n", [12, 66])
@pytest.mark.parametrize("d", DIMENSIONS)
def test_a_shared_translation_changes_nothing(d, n, rng):
  """To the last bit, where the translation is exact in the dtype: integer points, a power of two."""
  x, g = rng.integers(-8, 8, size=(n, d)).astype(np.float32), cloud(rng, n, n)
  results = of_each_method(lambda method, x: (edm(x, method=method), pull(method, g, x)))
  jax.tree.map(np.testing.assert_array_equal, results(x + 4096), results(x))


@pytest.mark.parametrize("d", DIMENSIONS)
def test_tight_clusters_far_apart(d, rng):
  """Differences keep every digit of an entry, and of a gradient, inside a cluster; products keep the large ones."""
  inside = cloud(rng, 60, d, 0, 1e-2)
  x = (inside + np.where(np.arange(60) < 30, -1e3, 1e3)[:, None]).astype(np.float32)
  g = np.kron(np.eye(2), np.ones((30, 30))).astype(np.float32) * cloud(rng, 60, 60)  # within the clusters only
  squared = oracle.edm(x)
  exact, bar, products = jax.jit(
    lambda x: (edm(x, method="difference"), *pull("difference", g, x), edm(x, method="gram"))
  )(x)
  assert_relative(exact, squared, (d + 2) * EPS)
  scale = np.abs(g).sum(1).max() * np.sqrt(squared[:30, :30].max())
  np.testing.assert_allclose(bar, oracle.vjp(g, x)[0], atol=16 * EPS * scale)
  np.testing.assert_allclose(products, squared, atol=16 * EPS * squared.max())
  # Why "difference" is there: the products have lost the inside of the clusters, as the docs say.
  assert np.all(products[:30, :30] == 0)


@pytest.mark.parametrize("scale", [1e-18, 1e18])
@pytest.mark.parametrize("d", DIMENSIONS)
def test_extreme_scales(d, scale, rng):
  """Squares of 1e-36 and 1e+36 are within float32; what is lost are products below the smallest normal number."""
  x, g = cloud(rng, 70, d, 0, scale), cloud(rng, 70, 70)
  squared = oracle.edm(x)
  lost = 4 * d * float(np.finfo(np.float32).tiny)
  off = squared != 0
  cotangent = np.divide(g, 2 * np.sqrt(squared), out=np.zeros(g.shape), where=off)
  expected = oracle.vjp(cotangent, x)[0]
  relative = 1e-4 + lost / np.quantile(squared[off], 0.01)  # the closest pairs lose most, and are few

  @of_each_method
  def results(method, x):
    return edm(x, method=method), *jax.vjp(lambda x: distances(x, method=method), x)[1](g)

  for value, bar in results(x):
    np.testing.assert_allclose(value, squared, rtol=0, atol=16 * EPS * squared.max() + lost)
    np.testing.assert_allclose(bar, expected, rtol=0, atol=min(relative, 0.05) * np.abs(expected).max())


@pytest.mark.parametrize(("n", "d"), [(12, 3), (70, 3), (70, 20)])
def test_derivatives_are_linear_in_tangents_of_any_size(n, d, rng):
  """To the last bit, of a power of two: their squares, which overflow or are zero, have no part in them."""
  x, v = cloud(rng, n, d), cloud(rng, n, d)

  def derivatives(method, v):
    f = lambda x: edm(x, method=method)  # noqa: E731
    return jax.jvp(f, (x,), (v,))[1], jax.jvp(jax.grad(lambda x: jnp.cos(f(x)).sum()), (x,), (v,))[1]

  results = of_each_method(derivatives, quick_jit)
  for scale in (np.float32(2**-80), np.float32(2**80)):
    for scaled, plain in zip(*map(jax.tree.leaves, (results(v * scale), results(v))), strict=True):
      np.testing.assert_array_equal(scaled, plain * scale)


@pytest.mark.parametrize("n", [12, 70])
@pytest.mark.parametrize("d", DIMENSIONS)
def test_a_bad_point_spoils_its_row_and_column_only(d, n, rng):
  """The first, one in the middle or the last, at an offset: the others keep their digits.

  The squared distance to an infinite point is infinite, and so is one that overflows.
  """

  def matrices(method, x):
    return edm(x, method=method), edm(x, x[::-1], method=method)[:, ::-1]

  results = of_each_method(matrices, quick_jit)
  for row in (0, n // 2 - 1, n - 1):
    for bad in (np.nan, np.inf, -np.inf, 1e30):
      x = cloud(rng, n, d, 100)
      rest = np.delete(x, row, 0)
      expected = oracle.edm(rest)
      x[row, 0] = bad
      for a in map(np.asarray, jax.tree.leaves(results(x))):
        np.testing.assert_allclose(np.delete(np.delete(a, row, 0), row, 1), expected, atol=64 * EPS * expected.max())
        others = np.delete(a[row], row), np.delete(a[:, row], row)
        np.testing.assert_array_equal(others, np.nan if np.isnan(bad) else np.inf)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_an_infinite_point_that_a_loss_does_not_feel_has_no_gradient(d, rng):
  """By differences: where the cotangent is zero nothing is multiplied by infinity. On the diagonal as well."""
  x = cloud(rng, 40, d)
  x[7, 0] = np.inf
  for loss in (lambda x: jnp.exp(-edm(x, method="difference")).sum(), lambda x: edm(x, method="difference")[7, 7]):
    gradient = np.asarray(jax.grad(loss)(x))
    assert np.isfinite(gradient).all()
    assert not gradient[7].any()
  rest = jnp.asarray(np.delete(x, 7, 0))
  expected = jax.grad(lambda x: jnp.exp(-edm(x, method="difference")).sum())(rest)
  gradient = jax.grad(lambda x: jnp.exp(-edm(x, method="difference")).sum())(x)
  np.testing.assert_allclose(np.delete(gradient, 7, 0), expected, atol=64 * EPS * float(np.abs(expected).max()))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_point_among_equal_ones_shows(bad):
  """Where all coordinates are zero but for the centre: a word of zeros is no mark of a point that is not finite."""
  for x in (np.zeros((40, 20), np.float32), np.ones((20, 8), np.float32)):
    for row in (0, 1, len(x) - 1):
      spoiled = x.copy()
      spoiled[row, 0] = bad
      one, two = quick_jit(lambda x, y: (edm(x), edm(x, y)))(spoiled, x)
      assert not np.isfinite(np.delete(one[row], row)).any()
      assert not np.isfinite(two[row]).any()
      assert not np.delete(np.asarray(one), row, 0)[:, :row].any()


@pytest.mark.parametrize("n", [12, 40])
@pytest.mark.parametrize("d", DIMENSIONS)
def test_finite_points_never_give_nan(d, n, rng):
  """Where squares overflow, a result is infinite; also where their difference is zero, as on the diagonal."""
  results = of_each_method(lambda method, x, y: (edm(x, method=method), edm(x, y, method=method)), quick_jit)
  for scale in (1e18, 1e19, 1e20, 1e38):
    x, y = cloud(rng, n, d), cloud(rng, n, d)
    x, y = np.clip(x, -3, 3) * np.float32(scale), np.clip(y, -3, 3) * np.float32(scale)
    y[3] = x[3]
    for a in jax.tree.leaves(results(x, y)):
      assert not np.isnan(a).any()
    far = oracle.edm(x, y) > 1.001 * float(np.finfo(np.float32).max)
    for _, of_two in results(x, y):
      assert np.isinf(of_two[far]).all()


@pytest.mark.parametrize("d", DIMENSIONS)
def test_zero_coordinates_change_nothing(d, rng):
  """Padding of the coordinates with zeros, as people do to fill a tile."""
  x, y, g = cloud(rng, 40, d), cloud(rng, 33, d), cloud(rng, 40, 33)
  results = of_each_method(lambda method, x, y: (edm(x, y, method=method), pull(method, g, x, y)), quick_jit)
  wide = results(*(np.pad(a, ((0, 0), (0, 13))) for a in (x, y)))
  for (squared, bars), (of_wide, bars_of_wide) in zip(results(x, y), wide, strict=True):
    np.testing.assert_allclose(of_wide, squared, atol=16 * EPS * oracle.edm(x, y).max())
    for a, b in zip(bars_of_wide, bars, strict=True):
      np.testing.assert_array_equal(a[:, d:], 0)
      np.testing.assert_allclose(a[:, :d], b, atol=16 * EPS * np.abs(g).sum() ** 0.5 * np.abs(x).max() * 8)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_entries_are_never_negative(d, rng):
  x = cloud(rng, 300, d, 1e3, 1e-2)
  y = x + cloud(rng, 300, d, 0, 1e-3)
  results = of_each_method(lambda method, x, y: (edm(x, y, method=method), distances(x, y, method=method)))
  for squared, roots in results(x, y):
    assert squared.min() >= 0
    assert np.isfinite(roots).all()


@pytest.mark.parametrize("n", [12, 40, 100])  # differences; one product of G + G'; two products
@pytest.mark.parametrize("d", DIMENSIONS)
def test_invariants_of_the_gradient(d, n, rng):
  """Columns sum to zero, X'Xbar is symmetric, <X, Xbar> = 2 <G, D>."""
  x, g = cloud(rng, n, d), cloud(rng, n, n)
  matrix, bar = jax.jit(lambda x: (edm(x), *pull(None, g, x)))(x)
  bar = np.asarray(bar, np.float64)
  scale = np.abs(g).sum() * np.abs(x).max() * EPS
  np.testing.assert_allclose(bar.sum(0), 0, atol=scale)
  moment = x.T.astype(np.float64) @ bar
  np.testing.assert_allclose(moment, moment.T, atol=scale * np.abs(x).max())
  np.testing.assert_allclose((x * bar).sum(), 2 * (g * oracle.edm(x)).sum(), atol=2 * d * scale * np.abs(x).max())
  rank = np.linalg.matrix_rank(np.asarray(matrix, np.float64), tol=1e-3)
  assert rank == min(d + 2, n)


@pytest.mark.parametrize("n", [12, 40, 100])
@pytest.mark.parametrize("d", DIMENSIONS)
def test_the_diagonal_of_the_cotangent_does_not_matter(d, n, rng):
  """Not to the last bit: it is 5e5 for the root of D + 1e-12, and infinite for 1 / D with its diagonal masked."""
  x, g = cloud(rng, n, d), cloud(rng, n, n)
  results = of_each_method(lambda method, g, x: pull(method, g, x)[0], quick_jit)
  plain = results(g * (1 - np.eye(n, dtype=np.float32)), x)
  tolerance = 16 * EPS * np.abs(g).sum(1).max() * np.abs(x).max()
  for bar in plain:
    np.testing.assert_allclose(bar, oracle.vjp(g, x)[0], atol=tolerance)
  for value in (30, 1e4, 1e8, np.inf, np.nan):
    of_value = results(np.where(np.eye(n, dtype=bool), np.float32(value), g), x)
    jax.tree.map(np.testing.assert_array_equal, of_value, plain)


@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize("d", DIMENSIONS)
def test_the_closed_forms_as_functions(d, sets, rng):
  """edm_jvp and edm_vjp against the oracle, batched; and equal to what JAX gives through edm."""
  x, v = cloud(rng, 5 * 37, d).reshape(5, 37, d), cloud(rng, 5 * 37, d).reshape(5, 37, d)
  y, w = (cloud(rng, 23, d) for _ in range(2))
  z, t = ((x,), (v,)) if sets == 1 else ((x, y), (v, w))
  tangent = edm_jvp(x, v) if sets == 1 else edm_jvp(x, v, y, w)
  expected = oracle.jvp(z[0], z[-1], t[0], t[-1])
  np.testing.assert_allclose(tangent, expected, atol=16 * EPS * np.abs(expected).max())
  by_jax = quick_jit(lambda *z: jax.jvp(edm, z, t)[1])(*z)
  np.testing.assert_allclose(tangent, by_jax, atol=16 * EPS * np.abs(expected).max())
  g = rng.normal(size=expected.shape).astype(np.float32)
  bars = edm_vjp(x, g, *z[1:])
  for bar, reference in zip(bars if sets == 2 else (bars,), oracle.vjp(g, *z), strict=True):
    np.testing.assert_allclose(bar, reference, atol=16 * EPS * np.abs(g).sum(-1).max() * np.abs(x).max())


def test_the_closed_forms_transpose_into_each_other(rng):
  x, g = cloud(rng, 12, 3), cloud(rng, 12, 12)
  (pulled,) = jax.linear_transpose(lambda v: edm_jvp(x, v), x)(g)
  np.testing.assert_allclose(pulled, edm_vjp(x, g), atol=1e-5)
  (pushed,) = jax.linear_transpose(lambda g: edm_vjp(x, g), g)(x)
  np.testing.assert_allclose(pushed, edm_jvp(x, x), atol=1e-4)


def test_the_dense_jacobian(rng):
  x, y = cloud(rng, 6, 3), cloud(rng, 4, 3)
  np.testing.assert_allclose(edm_jacobian(x), oracle.jacobian(x), atol=4 * EPS * np.abs(x).max())
  of_x, of_y = edm_jacobian(x, y)
  assert of_x.shape == (6, 4, 6, 3)
  assert of_y.shape == (6, 4, 4, 3)
  for a, b in zip((of_x, of_y), quick_jit(jax.jacrev(edm, (0, 1)))(x, y), strict=True):
    np.testing.assert_allclose(a, b, atol=8 * EPS * np.abs(x).max() * 4)
  assert edm_jacobian(np.stack([x, x])).shape == (2, 6, 6, 6, 3)
  x[2] = np.nan
  wrong = np.argwhere(np.isnan(edm_jacobian(x)).any(-1))
  assert all(2 in (i, j) and k in (i, j) and i != j for i, j, k in wrong)
