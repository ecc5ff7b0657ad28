"""Each sentence of docs/numerics.md, held to a number computed from the dtype and the scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import oracle
from jax_edm import distances, edm, edm_jacobian, edm_jvp, edm_vjp

pytestmark = pytest.mark.usefixtures("one_precision")

EPS = float(np.finfo(np.float32).eps)
DIMENSIONS = [3, 20]  # differences, products
METHODS = [None, "difference", "gram"]


def cloud(rng, n, d, offset=0.0, scale=1.0):
  return (scale * rng.normal(size=(n, d)) + offset).astype(np.float32)


def both(f, *z):
  """Eager, and jitted."""
  return [f(*z), jax.jit(f)(*z)]


def assert_relative(actual, expected, error):
  expected = np.asarray(expected)
  off = expected != 0
  np.testing.assert_allclose(np.asarray(actual, np.float64)[off], expected[off], rtol=error)


@pytest.mark.parametrize("d", [1, 2, 3, 8, 20, 257])
def test_differences_are_right_in_every_entry(d, rng):
  """Relative error of every entry: d + 2 roundings of terms that do not cancel."""
  x, y = cloud(rng, 64, d, 10), cloud(rng, 50, d, 10)
  for a in both(lambda x, y: edm(x, y, method="difference"), x, y):
    assert_relative(a, oracle.edm(x, y), (d + 2) * EPS)
  for a in both(lambda x: distances(x, method="difference"), x):
    assert_relative(a, oracle.distances(x), (d + 3) * EPS)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_products_are_right_to_the_size_of_the_cloud(d, rng):
  """The error of an entry: that of |x - c|^2 + |y - c|^2, whichever entry it is."""
  x, y = cloud(rng, 64, d), cloud(rng, 50, d)
  middle = x.mean(0)
  bound = oracle.edm(x, middle[None]) + oracle.edm(y, middle[None]).T + d
  for a in both(lambda x, y: edm(x, y, method="gram"), x, y):
    assert np.all(np.abs(a - oracle.edm(x, y)) <= (8 + d**0.5) * EPS * bound)


@pytest.mark.parametrize("offset", [1e3, 1e5])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("d", DIMENSIONS)
def test_translation_costs_only_the_rounding_of_the_points(d, method, offset, rng):
  """Forward, reverse and forward-mode: as accurate as if the cloud stood at the origin."""
  x, v = cloud(rng, 70, d, offset), cloud(rng, 70, d)
  g = cloud(rng, 70, 70)
  squared = oracle.edm(x)
  tolerance = 64 * EPS * squared.max()
  for a in both(lambda x: edm(x, method=method), x):
    np.testing.assert_allclose(a, squared, atol=tolerance)
  for a in both(lambda x: jax.vjp(lambda x: edm(x, method=method), x)[1](g)[0], x):
    scale = np.abs(g).sum(1).max() * np.sqrt(squared.max())
    np.testing.assert_allclose(a, oracle.vjp(g, x)[0], atol=16 * EPS * scale)
  for a in both(lambda x: jax.jvp(lambda x: edm(x, method=method), (x,), (v,))[1], x):
    np.testing.assert_allclose(a, oracle.jvp(x, x, v, v), atol=32 * EPS * np.sqrt(squared.max() * oracle.edm(v).max()))


@pytest.mark.parametrize("d", DIMENSIONS)
def test_a_shared_translation_changes_nothing(d, rng):
  """To the last bit, where the translation is exact in the dtype: integer points, a power of two."""
  x = rng.integers(-8, 8, size=(66, d)).astype(np.float32)
  for method in METHODS:
    np.testing.assert_array_equal(edm(x + 4096, method=method), edm(x, method=method))
    g = cloud(rng, 66, 66)
    pull = lambda x: jax.vjp(lambda x: edm(x, method=method), x)[1](g)[0]  # noqa: B023, E731
    np.testing.assert_array_equal(pull(x + 4096), pull(x))


@pytest.mark.parametrize("d", DIMENSIONS)
def test_tight_clusters_far_apart(d, rng):
  """Differences keep every digit of an entry, and of a gradient, inside a cluster; products keep the large ones."""
  inside = cloud(rng, 60, d, 0, 1e-2)
  x = (inside + np.where(np.arange(60) < 30, -1e3, 1e3)[:, None]).astype(np.float32)
  g = np.kron(np.eye(2), np.ones((30, 30))).astype(np.float32) * cloud(rng, 60, 60)  # within the clusters only
  squared = oracle.edm(x)
  for a in both(lambda x: edm(x, method="difference"), x):
    assert_relative(a, squared, (d + 2) * EPS)
  for a in both(lambda x: jax.vjp(lambda x: edm(x, method="difference"), x)[1](g)[0], x):
    scale = np.abs(g).sum(1).max() * np.sqrt(squared[:30, :30].max())
    np.testing.assert_allclose(a, oracle.vjp(g, x)[0], atol=16 * EPS * scale)
  np.testing.assert_allclose(edm(x, method="gram"), squared, atol=16 * EPS * squared.max())
  # Why "difference" is there: the products have lost the inside of the clusters, as the docs say.
  assert np.all(edm(x, method="gram")[:30, :30] == 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("d", [2, 20, 128, 768])
def test_coincident_points_are_at_distance_zero(d, method, rng):
  """Within one set and across two, for any d and either method, at an offset too."""
  base = cloud(rng, 40, d, 5)
  x, y = base[rng.integers(0, 40, 90)], base
  for a in [*both(lambda x, y: distances(x, y, method=method), x, y), distances(x, method=method)]:
    expected = oracle.distances(x, y if a.shape[1] == 40 else x)
    np.testing.assert_array_equal(np.asarray(a) == 0, expected == 0)


@pytest.mark.parametrize(("d", "method"), [(2, None), (20, "gram"), (20, "difference")])
def test_derivatives_at_coincident_points(d, method, rng):
  """First derivative zero, second finite, in every mode, jitted or not; the other pairs do not notice."""
  base = cloud(rng, 6, d)
  x = jnp.asarray(np.concatenate([base, base[:3], base[:1]]))
  v = jnp.asarray(cloud(rng, len(x), d))
  same = oracle.edm(x) == 0

  def r(x):
    return distances(x, method=method)

  (alone,) = jax.vjp(r, x)[1](jnp.asarray(same, jnp.float32))
  np.testing.assert_array_equal(alone, 0)
  (gradient,) = jax.vjp(r, x)[1](jnp.ones(same.shape, jnp.float32))
  with np.errstate(divide="ignore"):
    cotangent = np.where(same, 0, 1 / (2 * oracle.distances(x)))
  np.testing.assert_allclose(gradient, oracle.vjp(cotangent, x)[0], atol=1e-3 if method == "gram" else 2e-5)

  loss = lambda x: (r(x) ** 2).sum() + r(x).sum()  # noqa: E731
  scanned = lambda x: lax.scan(lambda total, x: (total + loss(x), None), 0.0, x[None])[0]  # noqa: E731
  modes = {
    "jvp": lambda x: jax.jvp(r, (x,), (v,))[1],
    "hvp of a scan": lambda x: jax.jvp(jax.grad(scanned), (x,), (v,))[1],
    "hvp": lambda x: jax.jvp(jax.grad(loss), (x,), (v,))[1],
    "grad of jvp": jax.grad(lambda x: jax.jvp(loss, (x,), (v,))[1]),
    "grad of grad": jax.grad(lambda x: (jax.grad(loss)(x) * v).sum()),
    "jvp of jvp": lambda x: jax.jvp(lambda x: jax.jvp(r, (x,), (v,))[1], (x,), (v,))[1],
  }
  results = {name: both(f, x) for name, f in modes.items()}
  for name, (eager, jitted) in results.items():
    assert np.isfinite(eager).all(), name
    np.testing.assert_allclose(eager, jitted, rtol=1e-3, atol=1e-3 * np.max(np.abs(eager)), err_msg=name)
  for name in ("jvp", "jvp of jvp"):
    np.testing.assert_array_equal(np.asarray(results[name][0])[same], 0, err_msg=name)
  for name in ("grad of jvp", "grad of grad", "hvp of a scan"):
    reference = np.asarray(results["hvp"][0])
    np.testing.assert_allclose(results[name][0], reference, rtol=1e-3, atol=2e-3 * np.max(np.abs(reference)))


@pytest.mark.parametrize("scale", [1e-18, 1e18])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("d", DIMENSIONS)
def test_extreme_scales(d, method, scale, rng):
  """Squares of 1e-36 and 1e+36 are within float32; what is lost are products below the smallest normal number."""
  x, g = cloud(rng, 70, d, 0, scale), cloud(rng, 70, 70)
  squared = oracle.edm(x)
  lost = 4 * d * float(np.finfo(np.float32).tiny)
  for a in both(lambda x: edm(x, method=method), x):
    np.testing.assert_allclose(a, squared, rtol=0, atol=16 * EPS * squared.max() + lost)
  off = squared != 0
  cotangent = np.divide(g, 2 * np.sqrt(squared), out=np.zeros(g.shape), where=off)
  expected = oracle.vjp(cotangent, x)[0]
  relative = 1e-4 + lost / np.quantile(squared[off], 0.01)  # the closest pairs lose most, and are few
  for a in both(lambda x: jax.vjp(lambda x: distances(x, method=method), x)[1](g)[0], x):
    np.testing.assert_allclose(a, expected, rtol=0, atol=min(relative, 0.05) * np.abs(expected).max())


@pytest.mark.parametrize("bad", [np.nan, -np.inf, 1e30])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("row", [0, 33, 69])
@pytest.mark.parametrize("d", DIMENSIONS)
def test_a_bad_point_spoils_its_row_and_column_only(d, row, method, bad, rng):
  """The first, the middle or the last row, at an offset: the others keep their digits."""
  x = cloud(rng, 70, d, 100)
  rest = np.delete(x, row, 0)
  expected = oracle.edm(rest)
  x[row, 0] = bad
  for f in (lambda x: edm(x, method=method), lambda x: edm(x, x[::-1], method=method)[:, ::-1]):
    for a in both(f, x):
      a = np.asarray(a)
      np.testing.assert_allclose(np.delete(np.delete(a, row, 0), row, 1), expected, atol=64 * EPS * expected.max())
      others = np.delete(a[row], row), np.delete(a[:, row], row)
      assert not np.isfinite(others).any()


@pytest.mark.parametrize("d", DIMENSIONS)
@pytest.mark.parametrize("method", METHODS)
def test_zero_coordinates_change_nothing(method, d, rng):
  """Padding of the coordinates with zeros, as people do to fill a tile."""
  x, y, g = cloud(rng, 40, d), cloud(rng, 33, d), cloud(rng, 40, 33)
  wide_x, wide_y = (np.pad(a, ((0, 0), (0, 13))) for a in (x, y))
  np.testing.assert_allclose(
    edm(wide_x, wide_y, method=method), edm(x, y, method=method), atol=16 * EPS * oracle.edm(x, y).max()
  )
  narrow = jax.vjp(lambda x, y: edm(x, y, method=method), x, y)[1](g)
  wide = jax.vjp(lambda x, y: edm(x, y, method=method), wide_x, wide_y)[1](g)
  for a, b in zip(wide, narrow, strict=True):
    np.testing.assert_array_equal(a[:, d:], 0)
    np.testing.assert_allclose(a[:, :d], b, atol=16 * EPS * np.abs(g).sum() ** 0.5 * np.abs(x).max() * 8)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_entries_are_never_negative(d, rng):
  x = cloud(rng, 300, d, 1e3, 1e-2)
  y = x + cloud(rng, 300, d, 0, 1e-3)
  for method in METHODS:
    assert edm(x, y, method=method).min() >= 0
    assert np.isfinite(distances(x, y, method=method)).all()


@pytest.mark.parametrize("n", [40, 100])  # one product of G + G', and two products
@pytest.mark.parametrize("d", DIMENSIONS)
def test_invariants_of_the_gradient(d, n, rng):
  """Columns sum to zero, X'Xbar is symmetric, <X, Xbar> = 2 <G, D>, the diagonal of G does not matter."""
  x, g = cloud(rng, n, d), cloud(rng, n, n)
  bar = np.asarray(jax.vjp(edm, x)[1](g)[0], np.float64)
  scale = np.abs(g).sum() * np.abs(x).max() * EPS
  np.testing.assert_allclose(bar.sum(0), 0, atol=scale)
  moment = x.T.astype(np.float64) @ bar
  np.testing.assert_allclose(moment, moment.T, atol=scale * np.abs(x).max())
  np.testing.assert_allclose((x * bar).sum(), 2 * (g * oracle.edm(x)).sum(), atol=2 * d * scale * np.abs(x).max())
  rank = np.linalg.matrix_rank(np.asarray(edm(x), np.float64), tol=1e-3)
  assert rank == d + 2


@pytest.mark.parametrize("n", [40, 100, 128, 129, 300])  # one block, one odd block, several
@pytest.mark.parametrize(("d", "method"), [(3, None), (20, None), (3, "difference")])
def test_the_diagonal_of_the_cotangent_does_not_matter(d, method, n, rng):
  """Not even to rounding: it is 5e5 for the root of D + 1e-12, and infinite for 1 / D with its diagonal masked."""
  x, g = cloud(rng, n, d), cloud(rng, n, n)
  pull = jax.jit(lambda g: jax.vjp(lambda x: edm(x, method=method), x)[1](g)[0])
  plain = pull(g * (1 - np.eye(n, dtype=np.float32)))
  tolerance = 16 * EPS * np.abs(g).sum(1).max() * np.abs(x).max()
  np.testing.assert_allclose(plain, oracle.vjp(g, x)[0], atol=tolerance)
  for value in (30, 1e4, 1e8, np.inf, np.nan):
    np.testing.assert_allclose(pull(np.where(np.eye(n, dtype=bool), np.float32(value), g)), plain, atol=tolerance)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_losses_that_are_steep_at_zero(d, rng):
  """First and second order of 1 / (D + 1e-6) and of a root made smooth by hand."""
  x, v = cloud(rng, 150, d), cloud(rng, 150, d)
  squared, tangent = oracle.edm(x), oracle.jvp(x, x, v, v)
  off = ~np.eye(150, dtype=bool)
  for loss, first, second in (
    (lambda D: 1 / (D + 1e-6), -1 / (squared + 1e-6) ** 2, 2 / (squared + 1e-6) ** 3),
    (lambda D: jnp.sqrt(D + 1e-12), 0.5 / np.sqrt(squared + 1e-12), -0.25 / (squared + 1e-12) ** 1.5),
  ):
    gradient = jax.grad(lambda x: loss(edm(x)).sum())  # noqa: B023
    expected = oracle.vjp(first * off, x)[0]
    np.testing.assert_allclose(gradient(x), expected, atol=1e-4 * np.abs(expected).max())
    expected = oracle.vjp(first * off, v)[0] + oracle.vjp(second * off * tangent, x)[0]
    hvp = jax.jit(lambda x: jax.jvp(gradient, (x,), (v,))[1])  # noqa: B023
    np.testing.assert_allclose(hvp(x), expected, atol=1e-3 * np.abs(expected).max())


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
  by_jax = jax.jit(lambda *z: jax.jvp(edm, z, t)[1])(*z)
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
  for a, b in zip((of_x, of_y), jax.jacrev(edm, (0, 1))(x, y), strict=True):
    np.testing.assert_allclose(a, b, atol=8 * EPS * np.abs(x).max() * 4)
  assert edm_jacobian(np.stack([x, x])).shape == (2, 6, 6, 6, 3)
  x[2] = np.nan
  wrong = np.argwhere(np.isnan(edm_jacobian(x)).any(-1))
  assert all(2 in (i, j) and k in (i, j) and i != j for i, j, k in wrong)
