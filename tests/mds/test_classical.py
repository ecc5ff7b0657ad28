"""``classical_mds``: the points, the numbers of R's ``cmdscale``, and derivatives where eigenvalues repeat."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from jax_edm import classical_mds, edm, gram_from_edm
from jax_edm._mds import subspace
from mds_problems import CUBE, EPS, GRID, RANDOM, SQUARE, TRIANGLE, check_both_orders, symmetric
from transformations import quick_jit

N = 12  # points of each case below: those of the figure, more than once or with its centre


def repeated(x):
  return np.resize(x, (N, x.shape[1]))


def with_centre(x):
  return np.concatenate([x, np.broadcast_to(x.mean(0), (N - len(x), x.shape[1]))])


# By the number of coordinates that are asked for. Eigenvalues repeat for all but the random points, which come last.
FIGURES = {
  2: [repeated(TRIANGLE), repeated(SQUARE), with_centre(GRID[[0, 1, 2, 5, 6, 7, 10, 11, 12]]), with_centre(RANDOM)],
  3: [with_centre(CUBE), with_centre(RANDOM[:, :3])],
}


def measure(D, w, dim):
  """A function of the distances between the points."""
  return (w * jnp.sin(edm(classical_mds(D, dim).points))).sum()


@pytest.mark.parametrize("dim", FIGURES)
@pytest.mark.usefixtures("double_precision")
def test_derivatives(dim, rng):
  """Also where eigenvalues repeat, and of a matrix that is no EDM, where the negative eigenvalues are dropped."""
  matrices = [*map(oracle.edm, FIGURES[dim]), np.abs(symmetric(rng, N)) ** 3]
  cases = [(D, symmetric(rng, N), rng.normal(size=(N, N))) for D in matrices]
  slopes = check_both_orders(lambda s, D, dD, w: measure(D + s * dD, w, dim), cases, 1e-6 * N)
  assert min(map(abs, slopes)) > 1e-2


@pytest.mark.usefixtures("double_precision")
def test_derivatives_of_a_triangle(rng):
  """As many coordinates as points can have."""
  cases = [(oracle.edm(TRIANGLE), symmetric(rng, 3), rng.normal(size=(3, 3)))]
  check_both_orders(lambda s, D, dD, w: measure(D + s * dD, w, 2), cases, 1e-6)


@pytest.mark.parametrize("dim", FIGURES)
def test_plain_autodiff_would_not_do(dim, rng):
  """It is right for the random points only: the figures above contain the case that the rule is for."""

  def plain(D, w):
    values, vectors = jnp.linalg.eigh(gram_from_edm(D))
    points = vectors[:, -dim:] * jnp.sqrt(values[-dim:])
    return (w * jnp.sin(edm(points))).sum()

  gradients = quick_jit(lambda D, w: (jax.grad(measure)(D, w, dim), jax.grad(plain)(D, w)))
  is_right = []
  for x in FIGURES[dim]:
    found, other = gradients(oracle.edm(x).astype(np.float32), rng.normal(size=(N, N)).astype(np.float32))
    assert np.isfinite(found).all()
    is_right.append(bool(np.abs(other - found).max() < 1e-3))
  assert not any(is_right[:-1])
  assert is_right[-1] or jax.default_backend() != "cpu"  # eigenvectors of a GPU are less exact


@pytest.mark.parametrize("n", [5, 40])
def test_mds_finds_the_points(n, rng):
  x = rng.normal(size=(3, n, 3)).astype(np.float32)
  found = classical_mds(edm(x), 3)
  scale = oracle.edm(x).max()
  np.testing.assert_allclose(edm(found.points), oracle.edm(x), atol=64 * EPS * scale)
  np.testing.assert_allclose(found.points.mean(1), 0, atol=16 * EPS * scale**0.5)
  np.testing.assert_allclose(found.goodness_of_fit, 1, atol=64 * EPS)
  np.testing.assert_array_equal(found.negative_count, 0)
  moments = np.linalg.svd(x - x.mean(1, keepdims=True), compute_uv=False) ** 2
  np.testing.assert_allclose(found.eigenvalues[:, :3], moments, atol=64 * EPS * scale)
  assert found.eigenvalues.shape == (3, n)
  assert bool((jnp.diff(found.eigenvalues) <= 0).all())


def cmdscale(D, k):
  """Eigenvalues and goodness of fit, as R's cmdscale computes them."""
  J = np.eye(len(D)) - 1 / len(D)
  values = np.sort(np.linalg.eigvalsh(-J @ D @ J / 2))[::-1]
  kept = values[:k][values[:k] > 0].sum()
  return values, [kept / np.abs(values).sum(), kept / values[values > 0].sum()]


@pytest.mark.usefixtures("double_precision")
def test_mds_of_what_is_no_edm(rng):
  """Negative kept eigenvalues: zero columns, counted, never NaN, with a finite gradient."""
  D = np.abs(symmetric(rng, 6)) ** 3
  found = classical_mds(D, 5)
  values, fit = cmdscale(D, 5)
  np.testing.assert_allclose(found.eigenvalues, values, atol=1e-12)
  np.testing.assert_allclose(found.goodness_of_fit, fit, atol=1e-12)
  negative = int((values[:5] < -1e-9).sum())
  assert found.negative_count == negative > 0
  np.testing.assert_array_equal(found.points[:, 5 - negative :], 0)
  np.testing.assert_allclose(found.points.T @ found.points, np.diag(np.maximum(values[:5], 0)), atol=1e-12)
  assert bool(jnp.isfinite(quick_jit(jax.grad(lambda D: measure(D, D, 5)))(D)).all())


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_mds_where_there_is_no_derivative(dim, rng):
  """A kept and a dropped eigenvalue coincide, or a kept one is zero, or all are: finite."""

  @quick_jit
  def gradient_and_second(D, w):
    return jax.jvp(jax.grad(lambda D: measure(D, w, dim)), (D,), (w + w.T,))

  figures = {1: [repeated(TRIANGLE)], 2: [with_centre(CUBE), np.ones((N, 2))], 3: [repeated(SQUARE)]}
  for x in figures[dim]:
    found = gradient_and_second(oracle.edm(x).astype(np.float32), rng.normal(size=(N, N)).astype(np.float32))
    assert np.isfinite(found).all()


def test_mds_of_points_that_coincide():
  same = classical_mds(jnp.zeros((4, 4)), 2)
  np.testing.assert_array_equal(same.points, 0)
  np.testing.assert_array_equal(same.goodness_of_fit, 1)
  assert same.negative_count == 0


def test_mds_in_a_scan_and_in_batches(rng):
  """Forward over reverse of a scan, where JAX up to 0.10 drops the rules of a ``custom_jvp``: these are none."""
  D = oracle.edm(rng.normal(size=(3, 6, 4))).astype(np.float32)
  v = np.stack([symmetric(rng, 6) for _ in range(3)]).astype(np.float32)
  one = lambda D: measure(D, 1, 2)  # noqa: E731
  functions = {
    "vmap": lambda D: jnp.cos(jax.vmap(one)(D)).sum(),
    "scan": lambda D: jnp.cos(jax.lax.scan(lambda _, D: (None, one(D)), None, D)[1]).sum(),
    "leading axes": lambda D: jnp.cos(jnp.sin(edm(classical_mds(D, 2).points)).sum((1, 2))).sum(),
  }
  (expected, expected_hvp), *others = (
    quick_jit(lambda D: (f(D), jax.jvp(jax.grad(f), (D,), (v,))[1]))(D)  # noqa: B023
    for f in functions.values()
  )
  for value, hvp in others:
    np.testing.assert_allclose(value, expected, rtol=512 * float(np.finfo(np.float32).eps))
    np.testing.assert_allclose(hvp, expected_hvp, atol=1e-3 * np.abs(expected_hvp).max())


def matrices_of_many_points(rng, n):
  """Symmetric matrices by what is hard about their eigenvalues, of which the first three are wanted."""
  basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
  of = lambda *values: (basis * np.concatenate([values, np.linspace(0.3, -0.3, n - len(values))])) @ basis.T  # noqa: E731
  return {
    "points": np.asarray(gram_from_edm(oracle.edm(rng.normal(size=(n, 3))))),
    "points on a line": np.asarray(gram_from_edm(oracle.edm(rng.normal(size=(n, 1))))),
    "noise": np.asarray(gram_from_edm(oracle.edm(rng.normal(size=(n, 3))) * np.exp(0.3 * symmetric(rng, n)))),
    "equal": of(2, 1, 1, 1, 1),
    "nearly equal": of(1, 1 - 1e-6, 1 - 2e-6, 1 - 3e-6, 1 - 1e-3),
    "large negative ones": of(3, 2, 1, *[-10.0] * 20),
    "no gap": (basis * np.linspace(1, 0, n)) @ basis.T,
    "all equal": np.eye(n) - 1 / n,
    "zero": np.zeros((n, n)),
  }


@pytest.mark.slow
def test_largest_eigenvalues(rng):
  """As exact as a full decomposition, whatever the spectrum."""
  n = subspace.SMALL + 20
  largest = jax.jit(lambda B: subspace.largest_eigenvalues(B, 3))
  for name, B in matrices_of_many_points(rng, n).items():
    values, vectors = (np.asarray(a, np.float64) for a in largest(B.astype(np.float32)))
    expected = np.linalg.eigvalsh(B)[::-1]
    atol = 64 * EPS * np.abs(expected).max()
    np.testing.assert_allclose(values, expected[:3], atol=atol, err_msg=name)
    np.testing.assert_allclose(B @ vectors, vectors * values, atol=atol, err_msg=name)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=64 * EPS, err_msg=name)
  assert not np.isfinite(largest(np.full((n, n), np.nan, np.float32))[0]).any()


@pytest.mark.slow
def test_many_points(rng):
  """More than the limit: the points, their eigenvalues, and both modes."""
  x, g = rng.normal(size=(540, 3)), symmetric(rng, 540)
  D = oracle.edm(x).astype(np.float32)
  found = classical_mds(D, 3)
  np.testing.assert_allclose(edm(found.points), D, atol=64 * EPS * D.max())
  expected = np.linalg.eigvalsh(np.asarray(gram_from_edm(D), np.float64))[::-1]
  np.testing.assert_allclose(found.eigenvalues, expected, atol=64 * EPS * expected[0])
  # Of exact distances in three dimensions all changes that keep the dimension pass: those of the points.
  v = rng.normal(size=x.shape)
  tangent = oracle.jvp(x, x, v, v).astype(np.float32)
  _, moved = jax.jit(lambda D, t: jax.jvp(lambda D: edm(classical_mds(D, 3).points), (D,), (t,)))(D, tangent)
  np.testing.assert_allclose(moved, tangent, atol=1e-3 * np.abs(tangent).max())
  (pulled,) = jax.jit(lambda D, g: jax.vjp(lambda D: edm(classical_mds(D, 3).points), D)[1](g))(D, g.astype(np.float32))
  np.testing.assert_allclose((pulled * tangent).sum(), (g * tangent).sum(), rtol=1e-2)
