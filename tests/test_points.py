"""Gram matrices, classical MDS, Procrustes and the condensed form: oracles, derivatives, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import distance as scipy_distance
from scipy.spatial import procrustes as scipy_procrustes

import oracle
from conftest import x64
from jax_edm import classical_mds, edm, edm_from_gram, embedding_dimension, gram_from_edm, is_edm, pdist, procrustes, squareform

EPS = float(np.finfo(np.float32).eps)
TRIANGLE = np.array([[0, 0], [1, 0], [0.5, 0.75**0.5]])
SQUARE = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
CUBE = np.stack(np.meshgrid([0.0, 1], [0.0, 1], [0.0, 1]), -1).reshape(8, 3)
GRID = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), -1).reshape(25, 2)
RANDOM = np.random.default_rng(5).normal(size=(9, 4))


def symmetric_hollow(rng, n):
  a = np.triu(rng.normal(size=(n, n)), 1)
  return a + a.T


def slope(f, h=1e-5):
  """The central difference of ``f`` at 0."""
  return (f(h) - f(-h)) / (2 * h)


def check_both_orders(f, atol):
  """Of a function of one number: both modes against central differences, the second order of the gradient's."""
  f, gradient = jax.jit(f), jax.jit(jax.grad(f))
  expected, second = slope(f), slope(gradient)
  np.testing.assert_allclose(gradient(0.0), expected, atol=atol)
  np.testing.assert_allclose(jax.jvp(f, (0.0,), (1.0,))[1], expected, atol=atol)
  np.testing.assert_allclose(jax.jvp(gradient, (0.0,), (1.0,))[1], second, atol=atol)
  np.testing.assert_allclose(jax.grad(gradient)(0.0), second, atol=atol)
  return expected


# Gram matrices


def test_gram_and_edm_undo_each_other(rng):
  x = rng.normal(size=(2, 7, 3)).astype(np.float32) + 1000
  centred = x.astype(np.float64) - x.mean(1, keepdims=True, dtype=np.float64)
  D = oracle.edm(x).astype(np.float32)
  B = gram_from_edm(D)
  np.testing.assert_allclose(B, centred @ centred.swapaxes(1, 2), atol=8 * EPS * D.max())
  np.testing.assert_allclose(edm_from_gram(B), D, atol=16 * EPS * D.max())
  np.testing.assert_array_equal(jnp.diagonal(edm_from_gram(B), axis1=1, axis2=2), 0)
  kernel = rng.normal(size=(5, 5))
  J = np.eye(5) - 1 / 5
  np.testing.assert_allclose(
    gram_from_edm(edm_from_gram(kernel)), J @ (kernel + kernel.T) / 2 @ J, atol=32 * EPS * np.abs(kernel).max()
  )


def test_derivatives_of_gram_and_edm(rng):
  a, v = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
  J = np.eye(4) - 1 / 4
  for f, adjoint in (
    (gram_from_edm, lambda g: -J @ g @ J / 2),
    (edm_from_gram, lambda g: np.diag(g.sum(1) + g.sum(0)) - g - g.T),
  ):
    np.testing.assert_allclose(jax.vjp(f, a.astype(np.float32))[1](v.astype(np.float32))[0], adjoint(v), atol=1e-5)
    np.testing.assert_allclose(jax.jvp(f, (a,), (v,))[1], f(v), atol=1e-5)


# classical MDS


@pytest.mark.parametrize(
  ("x", "dim"), [(TRIANGLE, 2), (SQUARE, 2), (CUBE, 3), (GRID, 2), (RANDOM, 4), (RANDOM, 2)], ids=str
)
@pytest.mark.usefixtures("double_precision")
def test_derivative_of_mds(x, dim, rng):
  """Of a function of the distances, where eigenvalues repeat, against central differences, at both orders."""
  D, tangent, w = edm(jnp.asarray(x)), symmetric_hollow(rng, len(x)), rng.normal(size=(len(x), len(x)))
  measure = lambda s: (w * jnp.sin(edm(classical_mds(D + s * tangent, dim).points))).sum()  # noqa: E731
  expected = check_both_orders(measure, 1e-6 * len(x))
  assert abs(expected) > 1e-2


@pytest.mark.parametrize("x", [TRIANGLE, SQUARE, CUBE])
def test_plain_autodiff_would_not_do(x, rng):
  """The data hold what the rule is for."""
  w = rng.normal(size=(len(x), len(x)))

  def measure(D):
    values, vectors = jnp.linalg.eigh(gram_from_edm(D))
    points = vectors[:, -2:] * jnp.sqrt(values[-2:])
    return (w * jnp.sin(edm(points))).sum()

  gradient = lambda f: jax.grad(f)(jnp.asarray(oracle.edm(x), jnp.float32))  # noqa: E731
  ours = gradient(lambda D: (w * jnp.sin(edm(classical_mds(D, 2).points))).sum())
  assert bool(jnp.isfinite(ours).all())
  assert not np.allclose(gradient(measure), ours, atol=0.1)


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
  """Negative kept eigenvalues: zero columns, counted, never NaN, with a finite and right gradient."""
  D = np.abs(symmetric_hollow(rng, 6)) ** 3
  found = classical_mds(D, 5)
  values, fit = cmdscale(D, 5)
  np.testing.assert_allclose(found.eigenvalues, values, atol=1e-12)
  np.testing.assert_allclose(found.goodness_of_fit, fit, atol=1e-12)
  negative = int((values[:5] < -1e-9).sum())
  assert found.negative_count == negative > 0
  np.testing.assert_array_equal(found.points[:, 5 - negative :], 0)
  np.testing.assert_allclose(found.points.T @ found.points, np.diag(np.maximum(values[:5], 0)), atol=1e-12)
  tangent, w = symmetric_hollow(rng, 6), rng.normal(size=(6, 6))
  # Two of the kept eigenvalues are negative, and the zero of all centred matrices is among them.
  check_both_orders(lambda s: (w * jnp.sin(edm(classical_mds(D + s * tangent, 2).points))).sum(), 1e-5)
  for dim in (2, 5):
    bar = jax.grad(lambda D: (w * edm(classical_mds(D, dim).points)).sum())(jnp.asarray(D))  # noqa: B023
    assert bool(jnp.isfinite(bar).all())


def test_mds_where_there_is_no_derivative(rng):
  """A kept and a dropped eigenvalue coincide, or a kept one is zero, or all are: finite."""
  for x, dim in ((CUBE, 2), (TRIANGLE, 1), (SQUARE, 3), (np.ones((4, 2)), 2)):
    D = jnp.asarray(oracle.edm(x), jnp.float32)
    w = jnp.asarray(rng.normal(size=D.shape), jnp.float32)
    measure = lambda D: (w * jnp.sin(edm(classical_mds(D, dim).points))).sum()  # noqa: B023, E731
    gradient = jax.grad(measure)
    assert bool(jnp.isfinite(gradient(D)).all())
    assert bool(jnp.isfinite(jax.jvp(gradient, (D,), (w + w.T,))[1]).all())
  same = classical_mds(jnp.zeros((4, 4)), 2)
  np.testing.assert_array_equal(same.points, 0)
  np.testing.assert_array_equal(same.goodness_of_fit, 1)
  assert same.negative_count == 0


def test_mds_in_a_scan_and_in_batches(rng):
  """Forward over reverse of a scan, where JAX up to 0.10 drops rules: there the derivative is JAX's own."""
  D = oracle.edm(rng.normal(size=(3, 6, 4))).astype(np.float32)
  v = np.stack([symmetric_hollow(rng, 6) for _ in range(3)]).astype(np.float32)
  measure = lambda D: jnp.sin(edm(classical_mds(D, 2).points)).sum()  # noqa: E731
  scanned = lambda D: jnp.cos(jax.lax.scan(lambda _, D: (None, measure(D)), None, D)[1]).sum()  # noqa: E731
  batched = lambda D: jnp.cos(jax.vmap(measure)(D)).sum()  # noqa: E731
  own_axes = lambda D: jnp.cos(jnp.sin(edm(classical_mds(D, 2).points)).sum((1, 2))).sum()  # noqa: E731
  hvp = lambda f: jax.jit(lambda D: jax.jvp(jax.grad(f), (D,), (v,))[1])(D)  # noqa: E731
  expected = hvp(batched)
  for f in (scanned, own_axes):
    np.testing.assert_allclose(f(D), batched(D), rtol=1e-5)
    np.testing.assert_allclose(hvp(f), expected, atol=1e-3 * np.abs(expected).max())


# Procrustes


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
@pytest.mark.parametrize(("n", "d"), [(10, 3), (3, 5), (2, 1), (40, 2)])
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
    own = found.scale[i] * x[i] @ rotation + found.translation[i]
    np.testing.assert_allclose(own, found.aligned[i], atol=1e-5)
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


COPLANAR = np.concatenate([RANDOM[:6, :2], np.zeros((6, 1))], 1)
MOTIONS = {  # x, y, and whether a mirror image may be as good: then x must stay a proper one
  "random": (RANDOM[:, :3], RANDOM[:, 1:], True),
  "the square onto itself": (SQUARE, SQUARE[[1, 2, 3, 0]] + 2, True),
  "fewer points than coordinates": (RANDOM[:3], RANDOM[3:6], True),
  "in a plane": (COPLANAR, RANDOM[:6, 1:], False),
  "both in a plane": (COPLANAR, COPLANAR[:, [2, 0, 1]] + 1, False),
}


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("name", MOTIONS)
@pytest.mark.usefixtures("double_precision")
def test_derivative_of_procrustes(name, scale, rng):
  x, y, unique = MOTIONS[name]
  w, *tangents = (rng.normal(size=x.shape) for _ in "wxy")

  def measure(s):
    found = procrustes(x + s * tangents[0], y + s * tangents[1], scale=scale, reflection=unique)
    # The translation is unique where the rotation is, on all of space.
    return (w * jnp.sin(found.aligned)).sum() + found.scale + (found.translation.sum() if len(x) > 3 else 0)

  check_both_orders(measure, 1e-6)


@pytest.mark.usefixtures("double_precision")
def test_derivative_of_procrustes_on_a_line(rng):
  """Along motions of x that keep it on its line nothing is open."""
  direction, w = np.array([1.0, 2, 3]), rng.normal(size=(5, 3))
  a, da, turn = rng.normal(size=(5, 1)), rng.normal(size=(5, 1)), rng.normal(size=3)
  y = rng.normal(size=(5, 3))

  def measure(s):
    return (w * jnp.sin(procrustes((a + s * da) * (direction + s * turn), y).aligned)).sum()

  check_both_orders(measure, 1e-6)


def test_procrustes_of_what_leaves_it_open(rng):
  """One point, points that coincide, points on a line: proper, finite in every derivative; the fit is exact."""
  line = rng.normal(size=(5, 1)).astype(np.float32) * np.array([[1.0, 2.0, 3.0]], np.float32)
  for x, y in ((np.ones((1, 3)), np.zeros((1, 3))), (np.ones((4, 3)), np.zeros((4, 3))), (line, line[:, ::-1])):
    x, y = (jnp.asarray(a, jnp.float32) for a in (x, y))
    found = procrustes(x, y, scale=True)
    np.testing.assert_allclose(found.aligned, y, atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.det(found.rotation), 1, atol=1e-5)
    np.testing.assert_allclose(found.scale, 1, atol=1e-5)
    gradient = jax.grad(lambda x: procrustes(x, y, scale=True).aligned[0].sum() + procrustes(x, y).rmsd)  # noqa: B023
    assert bool(jnp.isfinite(gradient(x)).all())
    assert bool(jnp.isfinite(jax.jvp(gradient, (x,), (x + 1,))[1]).all())


def test_the_rotation_is_proper_where_it_may_be(rng):
  """Points in a plane: a mirror image in it is as good, and is not taken."""
  y = rng.normal(size=(8, 6, 3)).astype(np.float32)
  found = procrustes(np.broadcast_to(COPLANAR, y.shape).astype(np.float32), y)
  np.testing.assert_allclose(jnp.linalg.det(found.rotation), 1, atol=1e-5)


# is_edm, embedding_dimension


@pytest.mark.parametrize("method", [None, "difference", "gram"])
@pytest.mark.parametrize(("n", "d"), [(4, 2), (30, 3), (200, 1), (50, 40), (3, 768)])
def test_edms_are_edms(n, d, method, rng):
  D = edm(rng.normal(size=(n, d)).astype(np.float32), method=method)
  assert bool(is_edm(D))
  assert int(embedding_dimension(D)) == min(d, n - 1)


def test_what_is_no_edm():
  D = edm(jnp.asarray(GRID, jnp.float32))
  wrong = {
    "negative": D.at[0, 1].set(-1).at[1, 0].set(-1),
    "asymmetric": D.at[0, 1].add(0.1),
    "diagonal": D.at[2, 2].set(0.1),
    "triangle inequality": D**2,
    "NaN": D.at[0, 1].set(jnp.nan).at[1, 0].set(jnp.nan),
    "infinity": D.at[0, 1].set(jnp.inf).at[1, 0].set(jnp.inf),
  }
  for name, matrix in wrong.items():
    assert not bool(is_edm(matrix)), name
  found = jax.jit(is_edm)(jnp.stack([D, *wrong.values()]))
  np.testing.assert_array_equal(found, [True] + [False] * len(wrong))
  noisy = D * (1 + 1e-3 * jnp.asarray(symmetric_hollow(np.random.default_rng(0), 25)))
  assert not bool(is_edm(noisy))
  assert bool(is_edm(noisy, tolerance=0.1))
  assert int(embedding_dimension(noisy)) > 2
  assert int(embedding_dimension(noisy, tolerance=0.1)) == 2
  for size in (0, 1):
    assert bool(is_edm(jnp.zeros((size, size))))
    assert int(embedding_dimension(jnp.zeros((size, size)))) == 0


# the condensed form


@pytest.mark.parametrize("n", [0, 1, 2, 9])
def test_condensed_form_is_that_of_scipy(n, rng):
  x = rng.normal(size=(n, 3)).astype(np.float32)
  condensed = pdist(x)
  if n >= 2:
    np.testing.assert_allclose(condensed, scipy_distance.pdist(x), rtol=1e-5)
    np.testing.assert_array_equal(squareform(condensed), scipy_distance.squareform(np.asarray(condensed)))
  np.testing.assert_array_equal(squareform(squareform(condensed)) if n else condensed, condensed)
  assert squareform(condensed).shape == ((n, n) if n else (1, 1))  # no entry: one point, as SciPy has it


def test_derivatives_of_the_condensed_form(rng):
  x = rng.normal(size=(2, 5, 3)).astype(np.float32)
  x[0, 1] = x[0, 0]
  g = rng.normal(size=(2, 10)).astype(np.float32)
  i, j = np.triu_indices(5, 1)
  matrix = np.zeros((2, 5, 5))
  matrix[:, i, j] = g
  r = np.sqrt(oracle.edm(x))
  expected = oracle.vjp(np.divide(matrix, 2 * r, out=np.zeros_like(r), where=r > 0), x)[0]
  np.testing.assert_allclose(jax.vjp(pdist, x)[1](g)[0], expected, atol=1e-5)
  bars = jax.vmap(lambda a, g: jax.vjp(squareform, a)[1](g)[0])(g, jnp.asarray(matrix, jnp.float32))
  np.testing.assert_array_equal(bars, g)


D = np.asarray(oracle.edm(RANDOM), np.float32)


def changed(value, *index):
  out = D.copy()
  for i in index:
    out[i] = value
  return out


BAD = {
  "not square": (ValueError, r"D must be a square matrix, \(..., n, n\). Got shape \(9, 4\)", D[:, :4]),
  "vector": (ValueError, r"For SciPy's condensed form use jax_edm.squareform", D[0]),
  "complex": (TypeError, r"D must hold real numbers. Got dtype complex64", D.astype(np.complex64)),
  "list": (TypeError, r"D must be a JAX or NumPy array. Got list", D.tolist()),
}
BAD_VALUES = {
  "asymmetric": (r"D must be symmetric. Got 3 at \(1, 2\) and .* at \(2, 1\)", changed(3, (1, 2))),
  "diagonal": (r"D must have a zero diagonal. Got 3 at \(2, 2\)", changed(3, (2, 2))),
  "negative": (r"D must not be negative. Got -1 at \(0, 1\)", changed(-1, (0, 1), (1, 0))),
  "NaN": (r"D must be finite. Got nan at \(0, 1\)", changed(np.nan, (0, 1), (1, 0))),
  "of a batch": (r"Got inf at \(0, 1\) of matrix 1", np.stack([D, changed(np.inf, (0, 1), (1, 0))])),
}


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("f", [gram_from_edm, lambda D: classical_mds(D, 2), is_edm, embedding_dimension])
@pytest.mark.parametrize("case", BAD)
def test_bad_matrices(case, f, jitted):
  error, message, matrix = BAD[case]
  if isinstance(matrix, list) and jitted:
    return
  with pytest.raises(error, match=message):
    (jax.jit(f) if jitted else f)(matrix)


@pytest.mark.parametrize("case", BAD_VALUES)
def test_bad_values(case):
  """Outside jit an error; inside, flags."""
  message, matrix = BAD_VALUES[case]
  with pytest.raises(ValueError, match=message):
    classical_mds(matrix, 2)
  found = jax.jit(lambda D: classical_mds(D, 2))(matrix)
  assert found.points.shape == (*matrix.shape[:-1], 2)
  if case in ("NaN", "of a batch"):
    assert bool(jnp.isnan(found.goodness_of_fit).any())


@pytest.mark.parametrize(
  ("call", "error", "message"),
  [
    (lambda: classical_mds(D, 0), ValueError, "classical_mds: dim must be at least 1 and at most n - 1.*Got 0 for 9"),
    (lambda: classical_mds(D, 9), ValueError, "Got 9 for 9 points"),
    (lambda: classical_mds(D, 2.0), TypeError, "dim must be an integer. Got float"),
    (lambda: procrustes(D, D[:4]), ValueError, "procrustes: x and y must have as many points and coordinates"),
    (lambda: procrustes(D[:0], D[:0]), ValueError, "there must be points to match"),
    (lambda: procrustes(D[None].repeat(2, 0), D[None].repeat(3, 0)), ValueError, "leading axes of y"),
    (lambda: procrustes(D > 0, D), TypeError, "procrustes: x must hold real numbers"),
    (lambda: squareform(np.ones(4)), ValueError, r"squareform: a must be a vector of n \(n - 1\) / 2 entries"),
    (lambda: squareform(np.ones((2, 3, 3))), ValueError, r"jax.vmap\(squareform\)"),
    (lambda: squareform(changed(3, (1, 2))), ValueError, "a must be symmetric"),
    (lambda: squareform(changed(3, (2, 2))), ValueError, "a must have a zero diagonal"),
    (lambda: squareform(changed(np.nan, (2, 2))), ValueError, "a must have a zero diagonal"),
    (lambda: squareform(changed(np.inf, (1, 2))), ValueError, "a must be symmetric"),
    (lambda: squareform(D[0] > 0), TypeError, "a must hold real numbers"),
    (lambda: squareform(np.float32(1)), ValueError, "squareform: a must be a vector"),
    (lambda: pdist(D[0]), ValueError, "pdist: x must have the shape"),
  ],
)
def test_bad_input(call, error, message):
  with pytest.raises(error, match=message):
    call()


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float64", "int32"])
def test_dtypes(name):
  with x64(name == "float64"):
    x = jnp.asarray(GRID[:8]).astype(name)
    own = jnp.result_type(x, float)
    D = edm(x)
    found = classical_mds(D, 2)
    assert found.points.dtype == found.eigenvalues.dtype == found.goodness_of_fit.dtype == own
    assert procrustes(x, x).aligned.dtype == own
    assert gram_from_edm(D).dtype == edm_from_gram(D).dtype == pdist(x).dtype == own
    assert bool(is_edm(D))
    assert int(embedding_dimension(D)) == 2
    np.testing.assert_allclose(edm(found.points).astype(float), D.astype(float), atol=50 * float(jnp.finfo(own).eps))
