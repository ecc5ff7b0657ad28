"""Stress, the Guttman transform and points from any distances: oracles, derivatives, missing entries, bad input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from test_points import check_both_orders, symmetric_hollow

import oracle
from benchmarks import points
from conftest import x64
from jax_edm import classical_mds, edm, guttman_inverse, guttman_transform, points_from_edm, stress

EPS = float(np.finfo(np.float32).eps)


def problem(rng, n, d, noise=0.1, missing=0.3, batch=()):
  """Points, squared distances with noise, and weights of which some are zero; a chain through all points is not."""
  x = rng.normal(size=(*batch, n, d))
  D = oracle.edm(x) * np.exp(noise * rng.normal(size=(*batch, n, n)))
  w = rng.random((*batch, n, n)) + 0.2
  w[(rng.random(w.shape) < missing) & (np.abs(np.subtract.outer(range(n), range(n))) > 1)] = 0
  upper = lambda a: np.triu(a, 1) + np.triu(a, 1).swapaxes(-1, -2)  # noqa: E731
  return x, upper(D), upper(w)


def stress_by_definition(x, t, w=None, squared=False):
  r = oracle.edm(x) if squared else oracle.distances(x)
  i, j = np.triu_indices(x.shape[-2], 1)
  residual = (r - t)[..., i, j] ** 2
  return (residual if w is None else np.where(w[..., i, j] == 0, 0, w[..., i, j] * residual)).sum(-1)


def guttman_by_definition(x, t, w):
  """V+ B(X) X with a pseudoinverse."""
  r = oracle.distances(x)
  B = -np.divide(w * t, r, out=np.zeros_like(r), where=r > 0)
  np.fill_diagonal(B, 0)
  V = np.diag(w.sum(1) - np.diag(w)) - (w - np.diag(np.diag(w)))
  return np.linalg.pinv(V) @ (B - np.diag(B.sum(1))) @ x


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_stress(weighted, squared, rng):
  x, D, w = problem(rng, 9, 3, batch=(2,))
  t, w = (D if squared else np.sqrt(D)), (w if weighted else None)
  single = lambda a: None if a is None else a.astype(np.float32)  # noqa: E731
  run = partial(stress, single(x), single(t), weights=single(w), squared=squared)
  expected = stress_by_definition(x, t, w, squared)
  np.testing.assert_allclose(run(), expected, rtol=64 * EPS)
  scale = ((1 if w is None else w) * t**2).sum((1, 2)) / 2
  np.testing.assert_allclose(run(normalized=True), np.sqrt(expected / scale), rtol=64 * EPS)


@pytest.mark.usefixtures("double_precision")
def test_derivatives_of_stress(rng):
  x, D, w = problem(rng, 6, 2)
  for options in ({}, {"squared": True}, {"normalized": True}):
    f = lambda x, t, w: stress(x, t, weights=w, **options)  # noqa: B023, E731
    check_grads(jax.jit(f), (x, np.sqrt(D), w), order=2, modes=("fwd", "rev"), atol=1e-4, rtol=1e-4)


def test_a_zero_distance_counts_and_a_missing_one_does_not():
  x = jnp.array([[0.0], [3.0], [3.0]])
  t = jnp.array([[0.0, 0.0, 1.0], [0.0, 0.0, 2.0], [1.0, 2.0, 0.0]])
  assert stress(x, t) == 9 + 4 + 4
  for missing in (0.0, jnp.nan, jnp.inf):
    t = t.at[0, 1].set(missing).at[1, 0].set(missing)
    w = jnp.ones((3, 3)).at[0, 1].set(0).at[1, 0].set(0)
    run = lambda x, t, w: stress(x, t, weights=w)  # noqa: E731
    assert run(x, t, w) == run(x, t, w != 0) == 4 + 4
    bars = jax.grad(run, (0, 1, 2))(x, t, w)
    assert all(bool(jnp.isfinite(bar).all()) for bar in bars)
    np.testing.assert_array_equal(bars[0], [[-4], [0], [4]])  # and zero for the two points that coincide
    assert bool(jnp.isfinite(jax.hessian(run)(x, t, w)).all())
    assert bool(jnp.isfinite(guttman_transform(x, t, weights=w)).all())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.usefixtures("double_precision")
def test_guttman_transform(weighted, rng):
  x, D, w = problem(rng, 8, 2, batch=(2,))
  x = x - x.mean(1, keepdims=True)
  if not weighted:
    w = np.ones_like(w)
  t, given = np.sqrt(D), w if weighted else None
  out = guttman_transform(x, t, weights=given)
  for i in range(2):
    np.testing.assert_allclose(out[i], guttman_by_definition(x[i], t[i], w[i]), atol=1e-12)
  np.testing.assert_allclose(guttman_transform(x + 5, t, weights=given), out + 5, atol=1e-12)  # the mean stays
  np.testing.assert_allclose(guttman_transform(x, t, weights=w, inverse=guttman_inverse(w)), out, atol=1e-12)
  once = stress(x, t, weights=given)
  for _ in range(20):
    x = guttman_transform(x, t, weights=given)
    before, once = once, stress(x, t, weights=given)
    assert bool((once < before).all())
  if weighted:
    f = lambda x, t, w: guttman_transform(x, t, weights=(w + 0.1) ** 2)  # noqa: E731
    check_grads(jax.jit(f), (x[0], t[0], w[0]), order=2, modes=("fwd", "rev"), atol=1e-4, rtol=1e-4)


def test_guttman_inverse(rng):
  w = problem(rng, 12, 2)[2] + np.diag(rng.random(12))  # the diagonal is of no account
  off = w - np.diag(np.diag(w))
  expected = np.linalg.pinv(np.diag(off.sum(1)) - off)
  np.testing.assert_allclose(guttman_inverse(w.astype(np.float32)), expected, atol=64 * EPS * np.abs(expected).max())


# the fit


@pytest.mark.parametrize(("n", "dim"), [(12, 3), (4, 3), (2, 1), (30, 2)])
def test_complete_distances_give_the_points(n, dim, rng):
  x = rng.normal(size=(n, dim))
  D = oracle.edm(x).astype(np.float32)
  found = jax.jit(lambda D: points_from_edm(D, dim))(D)
  assert bool(found.converged)
  np.testing.assert_allclose(edm(found.points), D, atol=1e-4 * D.max())
  np.testing.assert_allclose(found.points.mean(0), 0, atol=1e-5)
  moments = found.points.T @ found.points
  np.testing.assert_allclose(moments, np.diag(np.diag(moments)), atol=1e-3 * moments.max())  # principal axes
  assert found.stress < 1e-6 * D.sum()


def test_points_walk_around_each_other_in_one_more_dimension():
  """Few distances are known: without the detour through three dimensions, 59 of 100 problems are solved, with it 87."""
  squared, known = map(np.stack, zip(*(points.problem(seed, 120) for seed in range(40)), strict=True))
  solve = jax.jit(lambda D, w: points_from_edm(D, 2, weights=w, key=jax.random.key(0), restarts=10).points)
  error = np.linalg.norm(edm(solve(squared, known)) - squared, axis=(1, 2)) / np.linalg.norm(squared, axis=(1, 2))
  assert (error < 1e-2).sum() >= 30


def test_missing_distances(rng):
  """Points in the unit square with 100 of the 190 pairs deleted, a batch of problems: what is missing is found."""
  x = np.stack([np.random.default_rng(seed).random((20, 2)) for seed in range(10)])
  w = np.zeros((10, 20, 20))
  i, j = np.triu_indices(20, 1)
  for k in range(10):
    kept = np.random.default_rng(k).permutation(190)[100:]
    w[k, i[kept], j[kept]] = w[k, j[kept], i[kept]] = 1
  D = oracle.edm(x)
  given = np.where(w == 0, np.nan, D) + np.where(np.eye(20), -D, 0)
  given[:, range(20), range(20)] = 0
  found = jax.jit(lambda D, w: points_from_edm(D, 2, weights=w, key=jax.random.key(0), restarts=10))(given, w)
  error = np.linalg.norm(edm(found.points) - D, axis=(1, 2)) / np.linalg.norm(D, axis=(1, 2))
  assert (error < 1e-2).sum() >= 9  # one in fifty of these has another solution
  mapped = jax.jit(jax.vmap(lambda D, w: points_from_edm(D, 2, weights=w, key=jax.random.key(0), restarts=10)))(
    given, w
  )
  np.testing.assert_allclose(edm(mapped.points), edm(found.points), atol=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.usefixtures("double_precision")
def test_steps_from_a_given_start_are_those_of_smacof(weighted, rng):
  D, w = problem(rng, 10, 2)[1:]
  start = rng.normal(size=(10, 2))
  w = w if weighted else np.ones((10, 10))
  expected = start - start.mean(0)
  for _ in range(7):
    expected = guttman_by_definition(expected, np.sqrt(D), w)
  given = w if weighted else None
  found = points_from_edm(D, 2, weights=given, initial=start + 3, max_steps=7, tolerance=0.0)
  np.testing.assert_allclose(found.points, expected, atol=1e-12)
  np.testing.assert_allclose(found.stress, stress_by_definition(expected, np.sqrt(D), w), rtol=1e-12)
  assert (int(found.steps), bool(found.converged)) == (7, False)


def test_more_starts_find_no_worse_an_end(rng):
  D = problem(rng, 15, 4, noise=0.5, missing=0)[1]
  run = lambda restarts, **options: points_from_edm(D, 2, key=jax.random.key(1), restarts=restarts, **options)  # noqa: E731
  one, many = run(1), run(12)
  assert many.stress <= one.stress * (1 + 64 * EPS)  # the same minimum, from another start, has other last digits
  worst = points_from_edm(D, 2, initial=jnp.asarray(rng.normal(size=(15, 2))), max_steps=1)
  assert run(12, initial=worst.points).stress < worst.stress
  assert one.stress < stress(classical_mds(D, 2).points, np.sqrt(D))


CASES = {"complete": (7, 2, 0.1, 0.0, False), "weighted": (11, 2, 0.1, 0.3, True), "on a line": (8, 1, 0.02, 0.0, True)}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("double_precision")
def test_derivative_of_the_solution(name, rng):
  """By the implicit function theorem, with respect to D and the weights, against central differences of solutions."""
  n, d, noise, missing, weighted = CASES[name]
  _, D, w = problem(rng, n, d, noise, missing)
  dD, dw, c = symmetric_hollow(rng, n) * D, symmetric_hollow(rng, n) * (w > 0) / 10, rng.normal(size=(n, n))
  solve = jax.jit(
    lambda D, w, start: points_from_edm(D, d, weights=w, initial=start, tolerance=1e-14, max_steps=20_000)
  )
  w, dw = (w, dw) if weighted else (None, None)
  start = points_from_edm(D, d, weights=w, tolerance=1e-13, max_steps=20_000)
  assert bool(start.converged)

  def measure(s):
    found = solve(D + s * dD, None if w is None else w + s * dw, start.points)
    return (c * jnp.sin(edm(found.points))).sum() + found.stress

  check_both_orders(measure, 2e-5 * n)


@pytest.mark.usefixtures("double_precision")
def test_what_turns_the_points_has_no_part_in_the_derivative(rng):
  """A cotangent along a rigid motion of the solution gives zero, and one that is not gives no more for it."""
  _, D, w = problem(rng, 9, 3, 0.05, 0.2)
  x, back = jax.vjp(lambda D: points_from_edm(D, 3, weights=w, tolerance=1e-14, max_steps=20_000).points, D)
  turn = rng.normal(size=(3, 3))
  motion = x @ (turn - turn.T) + rng.normal(size=3)
  g = rng.normal(size=x.shape)
  np.testing.assert_allclose(back(motion)[0], 0, atol=1e-9)
  np.testing.assert_allclose(back(g + motion)[0], back(jnp.asarray(g))[0], atol=1e-9)
  np.testing.assert_array_equal(back(jnp.asarray(g))[0][w == 0], 0)


def test_derivatives_in_float32_and_through_a_scan(rng):
  _, D, w = problem(rng, 10, 2, 0.05)
  D, w = D.astype(np.float32), w.astype(np.float32)
  c = rng.normal(size=(10, 10)).astype(np.float32)
  measure = lambda D: (c * edm(points_from_edm(D, 2, weights=w, max_steps=5000).points)).sum()  # noqa: E731
  gradient = jax.jit(jax.grad(measure))(D)
  with x64(True):
    precise = jax.jit(
      jax.grad(
        lambda D: (
          c * edm(points_from_edm(D, 2, weights=w.astype(np.float64), max_steps=20_000, tolerance=1e-13).points)
        ).sum()
      )
    )(D.astype(np.float64))
  np.testing.assert_allclose(gradient, precise, atol=2e-2 * np.abs(precise).max())
  scanned = lambda D: jax.lax.scan(lambda _, D: (None, jnp.sin(measure(D))), None, D[None])[1].sum()  # noqa: E731
  np.testing.assert_allclose(
    jax.jit(jax.grad(scanned))(D), np.cos(measure(D)) * gradient, atol=1e-2 * np.abs(gradient).max()
  )
  tangent = symmetric_hollow(rng, 10).astype(np.float32)
  plain = jax.jit(lambda D: jax.jvp(jax.grad(lambda D: jnp.sin(measure(D))), (D,), (tangent,))[1])(D)
  hvp = jax.jit(lambda D: jax.jvp(jax.grad(scanned), (D,), (tangent,))[1])
  if jax.__version_info__ >= (0, 11):
    np.testing.assert_allclose(hvp(D), plain, atol=5e-2 * np.abs(plain).max())
  else:  # JAX drops the rule there, and must not find a zero in its place
    with pytest.raises(TypeError, match="custom_vjp"):
      hvp(D)


def test_inside_jit_the_flags_tell(rng):
  x, D, w = problem(rng, 8, 2, 0, 0)
  run = jax.jit(lambda D, w: points_from_edm(D, 2, weights=w, key=jax.random.key(0), restarts=2))
  assert bool(run(D, w).converged)
  parts = w.copy()
  parts[:3, 3:] = parts[3:, :3] = 0
  assert not bool(run(D, parts).converged)
  begun = jax.jit(lambda D, w: points_from_edm(D, 2, weights=w, initial=jnp.asarray(x, jnp.float32)).converged)
  assert bool(begun(D, w))
  many = rng.random((40, 8, 8)) * 10.0 ** rng.integers(-3, 4, (40, 8, 8))  # rounding makes some of these look regular
  many[:, :3, 3:] = many[:, 3:, :3] = 0
  assert not begun(D, many + np.swapaxes(many, 1, 2)).any()  # the points do not move, and are not determined
  broken = D.copy()
  broken[0, 1] = broken[1, 0] = np.nan
  assert not bool(run(broken, w).converged)
  assert bool(run(broken, np.where(np.isnan(broken), 0, w)).converged)


def test_weights_of_a_batch_for_one_matrix(rng):
  x, D, w = problem(rng, 6, 2)
  w = np.stack([w, w.astype(bool), 2 * w])
  np.testing.assert_allclose(
    stress(x, np.sqrt(D), weights=w), [stress_by_definition(x, np.sqrt(D), a) for a in w], rtol=1e-5
  )
  assert points_from_edm(D, 2, weights=w).points.shape == guttman_transform(x, np.sqrt(D), weights=w).shape == (3, 6, 2)
  np.testing.assert_allclose(guttman_inverse(w[1] != 0), guttman_inverse(w[1]), atol=1e-5)
  rounded = w[0].astype(np.float32)
  rounded[0, 1] *= 1 + 2e-7
  guttman_inverse(rounded)


@pytest.mark.parametrize("weak", [1e-3, 1e-6, 1e-12])
def test_points_that_are_weakly_attached(weak, rng):
  w = np.ones((6, 6))
  w[0] = w[:, 0] = weak
  off = w - np.eye(6) * w
  expected = np.linalg.inv(np.diag(off.sum(1)) - off + np.outer(e := np.full(6, 6**-0.5), e)) - np.outer(e, e)
  if weak < 1e-9:  # out of reach of that in float64: the star of one weak point
    expected = np.full((6, 6), np.nan)
    expected[0, 0] = 25 / 36 / (5 * weak)
  found = np.asarray(guttman_inverse(w.astype(np.float32)), np.float64)
  given = np.isfinite(expected)
  np.testing.assert_allclose(found[given], expected[given], atol=1e-5 * np.nanmax(expected))
  if weak > 1e-9:  # below, a step of the weak point is rounding over its weight
    assert bool(jnp.isfinite(points_from_edm(oracle.edm(rng.normal(size=(6, 2))), 2, weights=w).stress))


def test_one_point():
  one = jnp.ones((1, 1))
  np.testing.assert_array_equal(guttman_inverse(one), 0)
  np.testing.assert_array_equal(guttman_transform(jnp.ones((1, 2)), 0 * one, weights=one), 1)


@pytest.mark.parametrize("sentinel", [-1.0, np.nan, np.inf, 0.0])
def test_whatever_stands_where_an_entry_is_missing(sentinel, rng):
  _, D, w = problem(rng, 7, 2, missing=0.2)
  w[0, 1] = w[1, 0] = 0
  D[0, 1] = D[1, 0] = sentinel
  value, gradient = jax.value_and_grad(lambda D: points_from_edm(D, 2, weights=w).stress)(jnp.asarray(D, jnp.float32))
  assert bool(jnp.isfinite(value))
  assert bool(jnp.isfinite(gradient).all())
  np.testing.assert_array_equal(gradient[w == 0], 0)


def test_a_collapsed_start_has_not_converged():
  assert not bool(points_from_edm(D, 2, initial=np.zeros((6, 2))).converged)


def test_normalized_stress_of_nothing():
  assert stress(0 * X, 0 * D, normalized=True) == 0
  assert stress(np.arange(12.0).reshape(6, 2), 0 * D, normalized=True) == np.inf


def test_all_points_coincide():
  found = points_from_edm(jnp.zeros((4, 4)), 2)
  np.testing.assert_array_equal(found.points, 0)
  assert found.stress == 0
  assert bool(found.converged)


D = np.asarray(oracle.edm(np.random.default_rng(0).normal(size=(6, 2))), np.float32)
W = np.ones((6, 6))
X = np.ones((6, 2))


def changed(a, value, *index):
  out = a.copy()
  for i in index:
    out[i] = value
  return out


TWO_PARTS = changed(
  W, 0, *((i, j) for i in (0, 1) for j in range(2, 6)), *((j, i) for i in (0, 1) for j in range(2, 6))
)
BAD = {
  "not square": (ValueError, "points_from_edm: D must be a square matrix", lambda: points_from_edm(D[:4], 2)),
  "dim": (ValueError, "dim must be at least 1 and at most n - 1.*Got 6 for 6", lambda: points_from_edm(D, 6)),
  "initial": (
    ValueError,
    r"initial must have dim coordinates. Got initial \(6, 2\) and dim=3",
    lambda: points_from_edm(D, 3, initial=X),
  ),
  "points of initial": (ValueError, "D must have one row for each point", lambda: points_from_edm(D, 2, initial=X[:3])),
  "no key": (ValueError, "key must be given for random starts", lambda: points_from_edm(D, 2, restarts=3)),
  "restarts": (ValueError, "restarts must be at least 1. Got 0", lambda: points_from_edm(D, 2, restarts=0)),
  "steps": (TypeError, "max_steps must be an integer", lambda: points_from_edm(D, 2, max_steps=1.5)),
  "weights' shape": (
    ValueError,
    r"weights must have one entry for each entry of D. Got weights \(6,\) and D \(6, 6\)",
    lambda: points_from_edm(D, 2, weights=W[0]),
  ),
  "weights' type": (TypeError, "weights must hold real numbers", lambda: points_from_edm(D, 2, weights=W * 1j)),
  "stress of other points": (ValueError, "target must have one row for each point", lambda: stress(X[:4], D)),
  "inverse alone": (
    ValueError,
    "guttman_transform: inverse needs weights",
    lambda: guttman_transform(X, D, inverse=W),
  ),
  "inverse of other points": (
    ValueError,
    "inverse must have one row for each point",
    lambda: guttman_transform(X, D, weights=W, inverse=W[:3, :3]),
  ),
  "batch of weights, of x": (
    ValueError,
    "leading axes of weights",
    lambda: stress(np.stack([X] * 3), D, weights=np.stack([W, W])),
  ),
  "batch of weights": (
    ValueError,
    "leading axes of weights",
    lambda: stress(X, np.stack([D, D]), weights=np.stack([W, W, W])),
  ),
}
BAD_VALUES = {
  "asymmetric": ("D must be symmetric", lambda: points_from_edm(changed(D, 9, (0, 1)), 2)),
  "diagonal": ("D must have a zero diagonal", lambda: points_from_edm(changed(D, 9, (1, 1)), 2)),
  "negative": ("D must not be negative", lambda: points_from_edm(changed(D, -1, (0, 1), (1, 0)), 2)),
  "NaN": (
    r"D must be finite. Got nan at \(0, 1\). Where D is not known pass weights=, 0 there",
    lambda: points_from_edm(changed(D, np.nan, (0, 1), (1, 0)), 2),
  ),
  "negative weights": (
    "weights must be finite and not negative",
    lambda: points_from_edm(D, 2, weights=changed(W, -1, (0, 1), (1, 0))),
  ),
  "asymmetric weights": ("weights must be symmetric", lambda: stress(X, D, weights=changed(W, 2, (0, 1)))),
  "two parts": (
    r"known entries of D must connect all points. Got 2 separate parts: \(0, 1\) and \(2, 3, 4, 5\)",
    lambda: points_from_edm(D, 2, weights=TWO_PARTS),
  ),
  "two parts of a batch": (
    r"guttman_inverse: .* 2 separate parts of matrix 1: ",
    lambda: guttman_inverse(np.stack([W, TWO_PARTS])),
  ),
  "parts, in a step": (
    "guttman_transform: .*connect all points",
    lambda: guttman_transform(X, D, weights=TWO_PARTS),
  ),
  "tolerance": ("tolerance must not be negative", lambda: points_from_edm(D, 2, tolerance=-1.0)),
}


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, jitted):
  error, message, call = BAD[case]
  with pytest.raises(error, match=message):
    (jax.jit(call) if jitted else call)()


@pytest.mark.parametrize("case", BAD_VALUES)
def test_bad_values(case):
  message, call = BAD_VALUES[case]
  with pytest.raises(ValueError, match=message):
    call()
