"""``standard_errors``: against repetitions of the measurements, and against the formula in NumPy, float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import oracle
from conftest import x64
from jax_edm import procrustes, smacof, standard_errors
from mds_problems import check_both_orders, guttman_by_definition, incomplete, symmetric
from transformations import quick_jit

REPETITIONS = 500
NOISE = 0.02  # of a distance, relative to it
SIGMAS = 5  # that a mean of repetitions may be away


def upper(a):
  """The entries of the pairs i < j, ``(..., pairs)``."""
  i, j = np.triu_indices(a.shape[-1], 1)
  return a[..., i, j]


def system(x, t, w):
  """Of half of the stress: the gradient, the Hessian, and ``J' W J``, by the incidence of points and pairs."""
  n, d = x.shape[-2:]
  i, j = np.triu_indices(n, 1)
  t, w = (np.broadcast_to(upper(a), (*x.shape[:-2], len(i))) for a in (t, w))
  incidence = np.eye(n)[i] - np.eye(n)[j]
  r = upper(oracle.distances(x))
  apart = r > 0
  u = np.divide(incidence @ x, r[..., None], where=apart[..., None], out=np.zeros((*r.shape, d)))
  q = np.divide(t, r, where=apart, out=np.zeros(r.shape))
  J = np.einsum("pi,...pa->...pia", incidence, u).reshape(*r.shape, n * d)
  plain = np.einsum("...p,pi,pj->...ij", w * (1 - q), incidence, incidence)
  plain = np.einsum("...ij,ab->...iajb", plain, np.eye(d)).reshape(*r.shape[:-1], n * d, n * d)
  transposed = J.swapaxes(-1, -2)
  gradient = transposed @ (w * np.where(apart, r - t, 0))[..., None]
  return gradient[..., 0], transposed @ ((w * q)[..., None] * J) + plain, transposed @ (w[..., None] * J)


def free_coordinates(x, fixed):
  return np.repeat(np.ones(x.shape[-2], bool) if fixed is None else ~fixed, x.shape[-1])


def minimum(x, t, w, fixed=None, steps=30):
  """Newton's steps from ``x``; without fixed points, those that are orthogonal to the motions."""
  free = np.flatnonzero(free_coordinates(x, fixed))
  for _ in range(steps):
    gradient, H, _ = system(x, t, w)
    H, gradient = H[..., free[:, None], free], gradient[..., free]
    inverse = np.linalg.inv(H) if fixed is not None else np.linalg.pinv(H, rcond=1e-6, hermitian=True)
    move = np.zeros(x.shape).reshape(*x.shape[:-2], -1)
    move[..., free] = (inverse @ gradient[..., None])[..., 0]
    x = x - move.reshape(x.shape)
  return x


def by_definition(x, t, w, fixed=None):
  """The covariance of all coordinates for the variance 1, ``(n d, n d)``, and the estimated variance."""
  d = x.shape[1]
  free = free_coordinates(x, fixed)
  _, H, G = system(x, t, w)
  H, G = (np.where(free[:, None] & free, a, 0) for a in (H, G))
  inverse = np.linalg.pinv(H, rcond=1e-8, hermitian=True)
  counted = (w > 0) if fixed is None else (w > 0) & ~(fixed[:, None] & fixed)
  stress = np.where(
    upper(counted), upper(w) * (upper(oracle.distances(x)) - np.where(upper(counted), upper(t), 0)) ** 2, 0
  )
  coordinates = free.sum() - (d * (d + 1) // 2 if fixed is None else 0)
  return inverse @ G @ inverse, stress.sum() / (upper(counted).sum() - coordinates)


def own_blocks(covariance, d):
  """Those of each point, ``(n, d, d)``."""
  n = len(covariance) // d
  return covariance.reshape(n, d, n, d)[range(n), :, range(n)]


@functools.cache
def problem():
  """15 points in the plane; distances of 2 % noise, of which a quarter are missing; and those of points in space."""
  rng = np.random.default_rng(3)
  x, _, w = incomplete(rng, 15, 2, missing=0.25)
  fits = oracle.distances(x)
  higher = oracle.distances(np.concatenate([x, 0.3 * rng.normal(size=(15, 1))], 1))
  w = np.where(w > 0, 1 / (fits**2 + np.eye(15)), 0)
  noise = NOISE / np.sqrt(np.where(w > 0, w, 1)) * np.stack([symmetric(rng, 15) for _ in range(REPETITIONS)])
  return x, np.stack([fits, higher]), w, noise


def check_repetitions(deviations, found):
  """The covariance of each point, ``(n, d, d)``, is that of the deviations, ``(repetitions, n, d)``."""
  covariance, errors = (np.asarray(a, np.float64) for a in (found.covariance, found.errors))
  deviations = deviations - deviations.mean(0)
  free = errors[:, 0] > 0
  ratios = (deviations.std(0, ddof=1) / np.where(errors > 0, errors, 1))[free]
  np.testing.assert_allclose(ratios.mean(), 1, atol=0.1)
  # A sum of N - 1 squares has the relative deviation sqrt(2 / (N - 1)), and its root half of that.
  np.testing.assert_allclose(ratios, 1, atol=SIGMAS / np.sqrt(2 * (REPETITIONS - 1)))
  empirical = np.einsum("kia,kib->iab", deviations, deviations) / (REPETITIONS - 1)
  own = errors**2
  spread = np.sqrt((own[:, :, None] * own[:, None] + covariance**2) / (REPETITIONS - 1))
  assert (np.abs(empirical - covariance) <= SIGMAS * spread).all()


def check_variance(estimates, distances_more_than_coordinates):
  spread = NOISE**2 * np.sqrt(2 / distances_more_than_coordinates / REPETITIONS)
  np.testing.assert_allclose(np.mean(estimates), NOISE**2, atol=SIGMAS * spread)


@pytest.mark.slow
def test_of_repetitions():
  """What SMACOF finds for 500 repetitions: of distances that fit, and of some that need a dimension more."""
  x, targets, w, noise = problem()
  start = functools.reduce(lambda x, _: guttman_by_definition(x, targets[1], w), range(300), x)
  maps = np.stack([minimum(a, t, w) for a, t in zip((x, start), targets, strict=True)])
  repeated = np.maximum(targets + noise[:, None], 0)

  @jax.jit
  def run(maps, targets, repeated):
    fits = smacof(repeated, 2, weights=w, initial=maps, max_steps=5000)
    found = standard_errors(maps, targets, weights=w, variance=NOISE**2)
    estimates = standard_errors(fits.points, repeated, weights=w)
    return fits.converged, procrustes(fits.points, maps).aligned, found, estimates

  converged, aligned, found, estimates = run(maps, targets, repeated)
  assert bool(converged.all())
  for k in range(2):
    of_map = jax.tree.map(lambda a, k=k: a[k] if a.ndim else a, found)
    check_repetitions(np.asarray(aligned, np.float64)[:, k] - maps[k], of_map)
  known = (upper(w) > 0).sum()
  check_variance(estimates.variance[:, 0], known - (2 * 15 - 3))
  mean = np.sqrt((np.asarray(estimates.errors[:, 0]) ** 2).mean(0))
  np.testing.assert_allclose(mean, found.errors[0], rtol=0.1)
  _, _, G = system(maps[1], targets[1], w)
  without_residuals = np.sqrt(np.diagonal(np.linalg.pinv(G, rcond=1e-8)))  # of Gauss and Newton
  assert np.abs(without_residuals * NOISE / found.errors[1].ravel() - 1).max() > 0.3  # so the Hessian is seen


@pytest.mark.slow
def test_of_repetitions_with_fixed_points():
  x, targets, w, noise = problem()
  fixed = np.arange(15) < 4
  t = targets[0]
  fits = minimum(np.broadcast_to(x, (REPETITIONS, *x.shape)), t + noise, w, fixed, steps=8)
  assert np.abs(system(fits, t + noise, w)[0][:, 8:]).max() < 1e-9
  found = standard_errors(x, t, weights=w, fixed=fixed, variance=NOISE**2)
  check_repetitions(fits - x, found)
  np.testing.assert_array_equal(found.errors[fixed], 0)
  estimates = standard_errors(fits, t + noise, weights=w, fixed=fixed)
  known = (upper(w) > 0).sum() - (upper(w[:4, :4]) > 0).sum()
  check_variance(estimates.variance, known - 2 * 11)


def a_map(rng, n, d, weighted=True, fixed=None):
  """A minimum of distances with noise, the distances, and the weights."""
  x, t, w = incomplete(rng, n, d, noise=0.1, missing=0.2 if weighted else 0.0)
  w = w if weighted else 1 - np.eye(n)
  return minimum(x, t, w, fixed), t, w


# n, d, weighted, the number of fixed points
CASES = {
  "complete": (7, 2, False, 0),
  "on a line": (6, 1, True, 0),
  "in space": (9, 3, True, 0),
  "fixed": (9, 2, True, 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_formula(case, rng):
  """In float64 to rounding, and in float32 to four digits; the variance estimated, and given."""
  n, d, weighted, count = CASES[case]
  fixed = np.arange(n) % 3 == 0 if count else None
  x, t, w = a_map(rng, n, d, weighted, fixed)
  covariance, variance = by_definition(x, t, w, fixed)
  expected = own_blocks(covariance, d)
  t[w == 0] = np.nan
  np.fill_diagonal(t, 0)

  @quick_jit
  def run(x, t, w):
    options = {"weights": w if weighted else None, "fixed": fixed}
    return standard_errors(x, t, **options), standard_errors(x, t, variance=4, **options)

  for wide, rtol in ((False, 1e-4), (True, 1e-9)):
    with x64(wide):
      results = run(*(jnp.asarray(a, float) for a in (x, t, w)))
    for found, factor in zip(results, (variance, 4), strict=True):
      scale = np.sqrt(factor * np.einsum("iaa->ia", expected))
      np.testing.assert_allclose(found.variance, factor, rtol=rtol)
      np.testing.assert_allclose(found.errors, scale, rtol=rtol, atol=1e-12)
      np.testing.assert_allclose(found.covariance, factor * expected, rtol=rtol, atol=rtol * scale.max() ** 2)
      np.testing.assert_array_equal(found.covariance, found.covariance.swapaxes(1, 2))
      if fixed is not None:
        np.testing.assert_array_equal(found.covariance[fixed], 0)


@pytest.mark.slow
def test_a_motion_turns_the_result(rng):
  x, t, w = a_map(rng, 8, 2)
  turn = np.linalg.qr(rng.normal(size=(2, 2)))[0]
  motions = ((np.eye(2), np.zeros(2)), (turn, rng.normal(size=2)), (np.eye(2), np.array([2000, -1000])))
  plain, moved, far = (standard_errors(x @ turn + shift, t, weights=w) for turn, shift in motions)
  np.testing.assert_allclose(moved.covariance, turn.T @ np.asarray(plain.covariance) @ turn, rtol=1e-3, atol=1e-6)
  np.testing.assert_allclose(moved.variance, plain.variance, rtol=1e-4)
  np.testing.assert_allclose(far.errors, plain.errors, rtol=1e-2)  # of coordinates with four digits less


@pytest.mark.slow
def test_units(rng):
  """Points from 1e-19 to 1e19, weights from 1e-36 to 1e36; the variance is a normal number."""
  x, t, w = a_map(rng, 8, 2)
  run = jax.jit(lambda x, t, w, v: (standard_errors(x, t, weights=w), standard_errors(x, t, weights=w, variance=v)))
  expected = run(x, t, w, NOISE**2)
  for size, of_weights in ((1e-17, 1.0), (1e17, 1.0), (1.0, 1e-33), (1.0, 1e36), (1e-19, 1e36), (1e19, 1e-36)):
    arrays = [a.astype(np.float32) for a in (x * size, t * size, w * of_weights)]
    for found, e in zip(run(*arrays, NOISE**2 * size**2 * of_weights), expected, strict=True):
      np.testing.assert_allclose(np.float64(found.errors) / size, e.errors, rtol=1e-3)
      for a, b, unit in ((found.covariance, e.covariance, size**2), (found.variance, e.variance, size**2 * of_weights)):
        if unit > 1e-30:  # else the last digits are less than the least normal number
          np.testing.assert_allclose(np.float64(a) / unit, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())


@pytest.mark.slow
def test_batches(rng):
  """Leading axes broadcast, also where JAX promotes neither ranks nor dtypes by itself."""
  x, t, w = a_map(rng, 7, 2, weighted=False)
  ts, ws, variances = np.stack([t, t * 1.1, t]), np.stack([w, 2 * w])[:, None], np.array([1.0, 2.0, 3.0])
  fixed = np.stack([np.arange(7) < 3, np.arange(7) > 3])[:, None]
  for fixed, variances in ((None, None), (fixed, variances)):  # noqa: B020
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
      found = standard_errors(x.astype(np.float32), ts, weights=ws, fixed=fixed, variance=variances)
    assert [a.shape for a in found] == [(2, 3, 7, 2, 2), (2, 3, 7, 2), (2, 3)]
    for i in range(2):
      own = {} if fixed is None else {"fixed": fixed[i, 0], "variance": variances[2]}
      for a, b in zip(found, standard_errors(x, ts[2], weights=ws[i, 0], **own), strict=True):
        np.testing.assert_allclose(a[i, 2], b, rtol=1e-3, atol=1e-5 * float(jnp.abs(b).max()))


@pytest.mark.slow
def test_derivatives_in_strict_modes(rng):
  x, t, w = (a.astype(np.float32) for a in a_map(rng, 7, 2))
  for options in ({}, {"fixed": np.arange(7) < 3}, {"variance": 2}):
    gradient = jax.grad(lambda x, o=options: standard_errors(x, t, weights=w, **o).errors.sum())
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
      jax.make_jaxpr(lambda x, f=gradient: jax.jvp(f, (x,), (x,)))(x)


@pytest.mark.slow
def test_boolean_weights_and_small_dtypes(rng):
  x, t, w = a_map(rng, 7, 2, weighted=False)
  expected = standard_errors(x, t).errors
  for weights in (w, w > 0, 1 / oracle.distances(x) ** 0):
    np.testing.assert_allclose(standard_errors(x, t, weights=weights).errors, expected, rtol=1e-5)
  found = standard_errors(jnp.asarray(x, jnp.bfloat16), jnp.asarray(t, jnp.bfloat16))
  assert {a.dtype for a in found} == {jnp.dtype(jnp.bfloat16)}
  assert np.isfinite(np.asarray(found.errors, np.float32)).all()
  corners = 1_000_000_000 * np.array([[0, 0], [4, 0], [0, 3]])  # 64-bit integers, whose distances need more than 32
  whole, real = (
    standard_errors(a, oracle.distances(corners).astype(a.dtype), variance=10**10) for a in (corners, 1.0 * corners)
  )
  np.testing.assert_allclose(whole.errors, real.errors, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("double_precision")
def test_points_that_coincide(rng):
  """The distance of two that coincide tells nothing of either: t / r is zero there."""
  x = rng.normal(size=(7, 2))
  x[1] = x[0]
  t, w = oracle.distances(x), 1 - np.eye(7)
  found = standard_errors(x, t, variance=1.0)
  np.testing.assert_allclose(found.covariance, own_blocks(by_definition(x, t, w)[0], 2), atol=1e-9)
  assert bool(jnp.isfinite(jax.grad(lambda x: standard_errors(x, t, variance=1.0).errors.sum())(jnp.asarray(x))).all())


@pytest.mark.slow
def test_inside_jit_the_triangles_are_averaged(rng):
  x, t, w = a_map(rng, 7, 2)
  half = np.triu(np.ones((7, 7)), 1)
  run = jax.jit(lambda t, w: standard_errors(x, t, weights=w).errors)
  np.testing.assert_allclose(run(t * (2 * half), w * (0.5 + half)), run(t, w), rtol=1e-4)


@pytest.mark.slow
def test_the_number_of_points_must_be_known():
  (n,) = export.symbolic_shape("n")
  types = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((n, 2), (n, n))]
  with pytest.raises(ValueError, match="standard_errors: the number of points must be known"):
    export.export(jax.jit(standard_errors))(*types)


@pytest.mark.slow
def test_inside_jit_too_few_distances_have_an_infinite_variance():
  x = np.array([[0.0, 0], [1, 0], [0, 1]])
  t = np.array(oracle.distances(x))
  found = jax.jit(lambda w: standard_errors(x, t, weights=w))(np.ones((3, 3)))
  assert np.isinf(found.variance)
  assert np.isinf(found.errors).all()
  fixed = np.array([True, True, False])
  found = jax.jit(lambda fixed: standard_errors(x, t, fixed=fixed))(fixed)
  assert np.isinf(found.variance)
  np.testing.assert_array_equal(found.errors[fixed], 0)
  np.testing.assert_array_equal(found.covariance[fixed], 0)
  assert np.isinf(found.errors[~fixed]).all()
  assert np.isfinite(standard_errors(x, t, variance=1.0).errors).all()  # the distances determine the points


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.usefixtures("double_precision")
def test_derivatives(count, rng):
  fixed = np.arange(7) < count if count else None
  x, t, w = a_map(rng, 7, 2, fixed=fixed)
  dx, dt, dw, c = (
    rng.normal(size=x.shape) / 10,
    symmetric(rng, 7) / 10,
    symmetric(rng, 7) * (w > 0) / 10,
    rng.random(x.shape),
  )

  def measure(s):
    found = standard_errors(x + s * dx, t + s * dt, weights=w + s * dw, fixed=fixed)
    return (c * jnp.sin(found.errors)).sum() + jnp.cos(found.covariance).sum() + found.variance

  slopes = check_both_orders(measure, [()], 1e-6)
  assert abs(slopes[0]) > 0.01


@pytest.mark.slow
@pytest.mark.usefixtures("double_precision")
def test_derivatives_through_smacof(rng):
  """Of the errors as functions of the targets, by central differences of the oracle."""
  x, t, w = a_map(rng, 7, 2)
  dt = symmetric(rng, 7) * t

  def measure(t):
    found = smacof(t, 2, weights=w, initial=x, tolerance=1e-14, max_steps=20_000).points
    return (standard_errors(found, t, weights=w).errors ** 2).sum()

  def by_oracle(t):
    covariance, variance = by_definition(minimum(x, t, w), t, w)
    return variance * np.trace(covariance)

  value, slope = quick_jit(lambda t: jax.jvp(measure, (t,), (dt,)))(t)
  np.testing.assert_allclose(value, by_oracle(t), rtol=1e-8)
  expected = (by_oracle(t + 1e-5 * dt) - by_oracle(t - 1e-5 * dt)) / 2e-5
  np.testing.assert_allclose(slope, expected, rtol=1e-5)


X = np.asarray(np.random.default_rng(5).normal(size=(6, 2)), np.float32)
T = np.asarray(oracle.distances(X), np.float32)
MASK = np.arange(6) < 3
PARTS = np.kron(np.eye(2), np.ones((3, 3)))
FEW = np.where(np.abs(np.subtract.outer(range(6), range(6))) < 3, 1, 0)  # 9 distances, 9 coordinates

BAD = {
  "target": (ValueError, "target must be a square matrix", {"target": T[:4]}),
  "other points": (ValueError, "target must have one row for each point", {"x": X[:4]}),
  "weights": (ValueError, "weights must have one entry for each entry of target", {"weights": np.ones(6)}),
  "coordinates": (
    ValueError,
    r"x must have at least 1 coordinate and at most n - 1.* Got shape \(6, 6\). Pass the points of smacof",
    {"x": np.ones((6, 6))},
  ),
  "no coordinates": (ValueError, r"x must have at least 1 coordinate", {"x": X[:, :0]}),
  "fixed numbers": (
    TypeError,
    "fixed must be boolean, True where the position.* Pass fixed != 0",
    {"fixed": np.ones(6)},
  ),
  "fixed of other points": (
    ValueError,
    r"fixed must have one entry for each point of x. Got fixed \(3,\) and x \(6, 2\)",
    {"fixed": MASK[:3]},
  ),
  "batch of fixed": (ValueError, "leading axes of fixed", {"x": np.stack([X] * 2), "fixed": np.stack([MASK] * 3)}),
  "batch of weights": (ValueError, "leading axes of weights", {"x": np.stack([X] * 2), "weights": np.ones((3, 6, 6))}),
  "batch of variances": (ValueError, "leading axes of variance", {"x": np.stack([X] * 2), "variance": np.ones(3)}),
  "batches of weights and variances": (
    ValueError,
    "leading axes of variance",
    {"weights": np.ones((2, 6, 6)), "variance": np.ones(3)},
  ),
  "type of variance": (TypeError, "variance must hold real numbers. Got dtype complex", {"variance": np.ones(()) * 1j}),
  "variance in words": (TypeError, "variance must be a JAX or NumPy array. Got str", {"variance": "a"}),
  "few fixed points": (
    ValueError,
    "fixed must hold at least as many points as x has coordinates.* Got 1 for 2 coordinates. Leave fixed out",
    {"fixed": np.arange(6) < 1},
  ),
  "negative variance": (ValueError, "variance must be finite and not negative. Got -1. Leave it out", {"variance": -1}),
  "infinite variance": (ValueError, "Got inf", {"variance": np.array([1, np.inf])}),
  "two parts": (ValueError, "the known entries of target must connect all points", {"weights": PARTS}),
  "few distances": (
    ValueError,
    "more known distances than free coordinates. Got 9 distances and 9 free coordinates. Pass variance=",
    {"weights": FEW},
  ),
  "few distances, with fixed points": (
    ValueError,
    "Got 2 distances and 2 free coordinates",
    {"weights": PARTS, "fixed": np.arange(6) < 5},
  ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
  error, message, change = BAD[case]
  with pytest.raises(error, match=f"standard_errors: .*{message}" if not message.startswith("Got") else message):
    standard_errors(**{"x": X, "target": T} | change)


def test_distances_between_parts_of_which_both_hold_fixed_points():
  """Their positions connect the parts."""
  fixed = np.array([True, True, False, True, True, False])
  found = standard_errors(X, T, weights=PARTS, fixed=fixed, variance=1.0)
  assert bool((found.errors[~fixed] > 0).all())
  assert bool(jnp.isfinite(found.errors).all())
