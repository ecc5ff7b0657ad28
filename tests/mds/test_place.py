"""``place``: new points in a known map, their derivatives, and what leaves them open."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares

import oracle
from conftest import refusals
from jax_edm import place
from jax_edm._mds.multilateration import search
from mds_problems import EPS, changed, check_both_orders
from transformations import quick_jit

MODES = (lambda: jax.numpy_dtype_promotion("strict"), lambda: jax.numpy_rank_promotion("raise"))


def weighted(t, p, w):
  return place(t, p, weights=w)


def problem(rng, k, m, d, noise=0.0, missing=0.0):
  """New points, distances, anchors, and weights of which some are zero; d + 1 anchors are always there."""
  x, p = rng.normal(size=(k, d)), rng.normal(size=(m, d))
  t = oracle.distances(x, p) * np.exp(noise * rng.normal(size=(k, m)))
  w = rng.random((k, m)) + 0.2
  w[:, d + 1 :][rng.random((k, m - d - 1)) < missing] = 0
  return x, t, p, w


def single(*arrays):
  return [np.asarray(a, np.float32) for a in arrays]


def minimum(t, p, w, start):
  """Of the stress of one point, in float64, by SciPy."""
  root, t, p, start = np.sqrt(w), *(np.asarray(a, np.float64) for a in (t, p, start))
  found = least_squares(lambda x: root * (np.linalg.norm(x - p, axis=1) - t), start, xtol=1e-15, ftol=1e-15, gtol=1e-15)
  return found.x


def rounding(x, t, p, w):
  """Of each point: what an error of one eps in each distance and each anchor moves the minimum by, to first order."""
  away, root = x[:, None] - p, np.sqrt(w)
  slopes = root[..., None] * away / np.linalg.norm(away, axis=-1, keepdims=True)
  errors = EPS * (t.max() + np.abs(p).max()) * np.linalg.norm(root, axis=1)
  return errors / np.linalg.svd(slopes, compute_uv=False)[:, -1]


@pytest.mark.parametrize("d", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
def test_exact_distances_give_the_points_back(d, rng):
  run, run_weighted = quick_jit(place), quick_jit(weighted)
  for m in (d + 1, 50):
    x, t, p, w = problem(rng, 40, m, d, missing=0.5)
    for found, weights in (
      (run(*single(t, p)), np.ones_like(w)),
      (run_weighted(*single(np.where(w == 0, np.nan, t), p, w)), w),
    ):
      assert (np.linalg.norm(found - x, axis=1) <= 2 * rounding(x, t, p, weights)).all()


@pytest.mark.slow
def test_noise_gives_the_minimum(rng):
  run, run_weighted = quick_jit(place), quick_jit(weighted)
  for d, m in ((2, 6), (3, 20)):
    x, t, p, w = problem(rng, 30, m, d, noise=0.1, missing=0.3)
    t, p, w = single(t, p, w)
    for found, weights in ((run(t, p), np.ones_like(w)), (run_weighted(t, p, w), w)):
      polished = [minimum(t[i], p, weights[i], found[i]) for i in range(len(x))]
      np.testing.assert_allclose(found, polished, atol=4 * rounding(x, t, p, weights).max())
      # Not just any stationary point: nearly always the minimum that is next to the true point.
      nearby = np.array([minimum(t[i], p, weights[i], x[i]) for i in range(len(x))])
      assert (np.linalg.norm(found - nearby, axis=1) < 1e-4).mean() >= 0.9


@pytest.mark.slow
def test_distances_that_are_mostly_noise(rng):
  """Starts are far off: Newton's steps alone would end at saddles and maxima, or nowhere."""
  _, t, p, w = problem(rng, 300, 5, 2, noise=1.0)
  t, p, w = single(t, p, w)
  found = np.asarray(jax.jit(weighted)(t, p, w), np.float64)
  for i in range(0, 300, 5):
    expected = minimum(t[i], p, w[i], found[i])
    np.testing.assert_allclose(found[i], expected, atol=1e-3 * np.abs(t[i]).max())


PLANE = np.array([[0.0, 0, 0], [1, 0, 1], [0, 1, 1], [1, 1, 2], [2, -1, 1]])
FLAT = {
  "a line in the plane": np.array([[0.0, 0], [1, 2], [2, 4], [-1, -2]]),
  "two anchors in the plane": np.array([[0.0, 0], [1, 2]]),
  "an anchor": np.array([[0.5, 1]]),
  "a plane in space": PLANE,
  "a thin plane in space": PLANE + 1e-2 * np.eye(5, 3),
  "a line in space": np.array([[0.0, 0, 0], [1, 2, 1], [2, 4, 2]]),
  "anchors that coincide": np.full((7, 3), 0.1),
}


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", [c if c == "a plane in space" else pytest.param(c, marks=pytest.mark.slow) for c in FLAT]
)
def test_flat_anchors(name, rng):
  """The distances are reproduced, those of points in the span too; anchors without weights may be anywhere."""
  p = FLAT[name]
  x = np.concatenate([rng.normal(size=(20, p.shape[1])), rng.normal(size=(5, len(p))) @ (p - p[0]) + p[0]])
  t = oracle.distances(x, p)
  more, missing = np.concatenate([p, rng.normal(size=(4, p.shape[1]))]), np.full((len(t), 4), np.nan)
  w = np.concatenate([rng.random(t.shape) + 0.5, 0 * np.nan_to_num(missing)], 1)
  for found in (place(*single(t, p)), weighted(*single(np.concatenate([t, missing], 1), more, w))):
    np.testing.assert_allclose(oracle.distances(found, p), t, atol=32 * EPS * t.max())


@pytest.mark.slow
def test_the_side_of_a_mirror_image():
  """The axis y makes a larger angle with this line than the axis x: the point lies above it."""
  p = np.array([[0, 0], [4, 1], [8, 2]], np.float32)
  x = np.array([[1, 3], [1, -3], [7, 0]], np.float32)
  found = np.asarray(place(*single(oracle.distances(x, p), p)))
  assert (found[:, 1] > found[:, 0] / 4).all()


@pytest.mark.slow
def test_a_saddle_in_the_span_of_the_anchors_is_left():
  """The squared distances imply no height, and yet the stress falls on both sides of the line."""
  (p, t) = single([[-1, 0], [0, 0], [2, 0]], [0.4, 1.7, 1.2])
  found = place(t[None], p)[0]
  expected = minimum(t, p, np.ones(3), [0.0, 0.3])
  assert expected[1] > 0.3
  np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_a_distance_that_is_nan_stays_in_its_row(rng):
  _, t, p, w = problem(rng, 6, 7, 2, noise=0.1)
  t, p, w = single(t, p, w)
  bad, bad_w = changed(t, np.nan, (2, 3)), changed(w, 0, (4, 1))
  others = [0, 1, 3, 4, 5]
  for run in (weighted, jax.jit(weighted)):
    found = np.asarray(run(changed(bad, np.nan, (4, 1)), p, bad_w))
    assert np.isnan(found[2]).all()
    np.testing.assert_array_equal(found[others], np.asarray(run(t, p, bad_w))[others])
  # Under jit also infinite distances, and a point without weights.
  found = np.asarray(jax.jit(weighted)(changed(t, np.inf, (2, 3)), p, changed(w, 0, 0)))
  assert np.isnan(found[[0, 2]]).all()
  np.testing.assert_array_equal(found[[1, 3, 4, 5]], np.asarray(weighted(t, p, w))[[1, 3, 4, 5]])
  gradients = jax.jit(jax.grad(lambda *a: jnp.nansum(weighted(*a) ** 2), (0, 1, 2)))(bad, p, changed(w, 0, 0))
  assert all(np.isfinite(g).all() for g in gradients)
  assert not np.asarray(gradients[0])[[0, 2]].any()


@pytest.mark.slow
def test_the_search_ends_when_all_have_their_last_digit(rng):
  """A point that is NaN does not keep the loop running, and rounding does not."""
  for d, m, noise, most in ((2, 30, 0.0, 3), (2, 30, 0.05, 6), (3, 30, 0.05, 6), (2, 5, 1.0, 40)):
    _, t, p, _ = problem(rng, 200, m, d, noise)
    t, p = single(changed(t, np.nan, (2, 3)), p)
    assert int(jax.jit(search)(p, t.T).steps) <= most


@pytest.mark.slow
def test_anchors_far_from_the_origin_and_any_unit(rng):
  x, t, p, w = problem(rng, 50, 8, 3, noise=0.05)
  run = jax.jit(weighted)
  t, p, w = single(t, p, w)
  near = np.asarray(run(t, p, w))
  for unit in (2.0**-57, 2.0**57):  # about 1e-17 and 1e17
    np.testing.assert_array_equal(run(*single(t * unit, p * unit, w)), near * np.float32(unit))
  np.testing.assert_array_equal(run(*single(t, p, w * 2.0 ** rng.integers(-120, 120, (50, 1)))), near)
  for unit in (2.0**-80, 2.0**80):  # one anchor has no size
    np.testing.assert_allclose(place(*single([[unit]], [[0, 0]])), [[unit, 0]], rtol=4 * EPS)
  p = np.round(p * 2**10) / 2**10  # exact, far away too
  for offset in (2.0**9, 2.0**13):
    error = np.asarray(run(t, p + np.float32(offset), w)) - offset - np.asarray(run(t, p, w))
    assert np.abs(error).max() <= EPS * offset + 2 * rounding(x, t, p, w).max()


def path(rng, k, m, d, noise=0.1):
  """A case of ``check_both_orders``: distances, anchors, weights, their directions, and a cotangent."""
  x, t, p, w = problem(rng, k, m, d, noise)
  return t, p, w, *(rng.normal(size=a.shape) / 10 for a in (t, p, w)), rng.normal(size=x.shape)


@pytest.mark.parametrize(
  "d",
  [
    pytest.param(2, marks=pytest.mark.slow),
    pytest.param(3, marks=pytest.mark.slow),
    pytest.param(1, marks=pytest.mark.slow),
  ],
)
@pytest.mark.usefixtures("double_precision")
def test_derivatives(d, rng):
  """With respect to distances, anchors and weights, each by itself and all together."""

  def measure(s, t, p, w, dt, dp, dw, c):
    found = place(t + s * dt, p + s * dp, weights=w + s * dw)
    return (c * jnp.sin(found)).sum()

  case = path(rng, 3, 7, d)
  one = [[a if i == j else 0 * a for j, a in enumerate(case[3:6])] for i in range(3)]
  slopes = check_both_orders(measure, [case, *((*case[:3], *some, case[6]) for some in one)], 1e-6)
  assert min(map(abs, slopes)) > 1e-3


@pytest.mark.slow
@pytest.mark.usefixtures("double_precision")
def test_derivatives_without_weights_in_a_batch_and_of_third_order(rng):
  t, p, _, dt, dp, _, c = path(rng, 4, 6, 2)

  def measure(s, t, p):
    return (c * jnp.sin(jax.vmap(place, (0, None))(jnp.stack([t + s * dt, t - s * dt]), p + s * dp))).sum()

  check_both_orders(measure, [(t, p)], 1e-6)
  second = quick_jit(jax.grad(jax.grad(measure)))
  third = quick_jit(jax.grad(jax.grad(jax.grad(measure))))(0.0, t, p)
  np.testing.assert_allclose(third, (second(1e-5, t, p) - second(-1e-5, t, p)) / 2e-5, atol=1e-5)


@pytest.mark.slow
def test_derivatives_are_finite_where_there_are_none(rng):
  """In the span of flat anchors, and exactly at an anchor."""
  flat = np.array([[0, 0, 0], [1, 0, 1], [0, 1, 1], [1, 1, 2], [2, 0, 2]])
  star = np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
  gradient = jax.grad(lambda t, p: jnp.sin(place(t, p)).sum(), (0, 1))
  both = quick_jit(lambda *a: jax.jvp(gradient, a, (a[0] + 1, a[1] + 1)))
  for p in (flat, star):
    x = np.array([[0.5, 0.5, 1], [0, 0, 0], [0, 0, 3]])
    first, second = both(*single(oracle.distances(x, p), p))
    assert all(np.isfinite(a).all() for a in (*first, *second))
  p = star[:, :2].astype(np.float32)
  t = np.array([[0, 1, 1, 1, 1]], np.float32)
  np.testing.assert_array_equal(place(t, p), [[0, 0]])
  first = quick_jit(jax.grad(lambda t: place(t, p)[0, 0]))(t)[0]
  np.testing.assert_allclose(first, [0, -1 / 3, 1 / 3, 0, 0], atol=4 * EPS)


@pytest.mark.slow
def test_batches_and_dtypes(rng):
  _, t, p, w = problem(rng, 5, 6, 2, noise=0.1)
  t, p, w = single(np.stack([t, 1.5 * t]), np.stack([p, -p, 2 * p])[:, None], w)
  found = place(t, p, weights=w)
  assert found.shape == (3, 2, 5, 2)
  for i in range(3):
    for j in range(2):
      np.testing.assert_allclose(found[i, j], place(t[j], p[i, 0], weights=w), atol=1e-5)
  boolean = place(t[0], p[0, 0], weights=w > 0.5)
  np.testing.assert_array_equal(boolean, place(t[0], p[0, 0], weights=(w > 0.5).astype(np.float32)))
  half = place(t[0].astype(jnp.bfloat16), p[0, 0].astype(jnp.bfloat16))
  assert half.dtype == jnp.bfloat16
  np.testing.assert_allclose(half.astype(np.float32), place(t[0], p[0, 0]), atol=0.1)
  assert place(t[0, :0], p[0, 0]).shape == (0, 2)


@pytest.mark.slow
def test_many_points_are_placed_in_blocks(rng):
  """The odd block too; beside the result there is memory for a block, and for distances and weights in their units."""
  x, t, p, w = problem(rng, 20_001, 40, 3)
  t, p, w = single(t, p, w)
  program = jax.jit(weighted).lower(t, p, w).compile()
  np.testing.assert_allclose(program(t, p, w), x, atol=2e-5)
  memory = program.memory_analysis()
  assert memory is None or memory.temp_size_in_bytes < 2 * t.nbytes + 2**21


@pytest.mark.slow
def test_strict_modes(rng):
  _, t, p, w = problem(rng, 4, 5, 2, noise=0.1)
  t, p, w = map(jnp.asarray, single(t, p, w))

  def run(t, p, w):
    gradient = jax.grad(lambda *a: weighted(*a).sum() + place(*a[:2]).sum(), (0, 1, 2))
    return jax.jvp(gradient, (t, p, w), (t, p, w)), place(t, p, weights=w > 0.5)

  for mode in MODES:
    with mode():
      jax.make_jaxpr(run)(t, p, w)
      jax.make_jaxpr(run)(*(a.astype(jnp.bfloat16) for a in (t, p, w)))


T, P, W = np.ones((5, 4), np.float32), np.eye(4, 3, dtype=np.float32), np.ones((5, 4), np.float32)
test_refusals = refusals(
  {
    "no matrix of distances": (ValueError, r"use distances\[None, :\]", lambda x: place(x[:, 0], x)),
    "columns": (
      ValueError,
      r"place: distances must have one column for each anchor. Got \(5, 4\)",
      lambda x: place(T, x[:3]),
    ),
    "no anchors": (ValueError, "place: there must be anchors", lambda x: place(T[:, :0], x[:0])),
    "list": (TypeError, "place: distances must be a JAX or NumPy array", lambda x: place([[1.0]], x)),
    "complex": (TypeError, "place: weights must hold real", lambda x: place(T, x, weights=W * 1j)),
    "shape of weights": (ValueError, "place: weights must have one entry", lambda x: place(T, x, weights=W[:4])),
    "leading axes": (ValueError, "leading axes of distances", lambda x: place(T[None][[0, 0]], P[None][[0, 0, 0]])),
  }
)


@pytest.mark.slow
def test_values_are_checked_outside_jit():
  for message, t, w in (
    (r"distances must be finite. Got inf at \(1, 2\)", changed(T, np.inf, (1, 2)), None),
    (r"distances must not be negative. Got -1 at \(1, 2\)", changed(T, -1, (1, 2)), W),
    (r"weights must be finite and not negative. Got -1 at \(0, 3\)", T, changed(W, -1, (0, 3))),
    (r"distance with a weight. Got only 0 for point 3", T, changed(W, 0, 3) > 0),
  ):
    with pytest.raises(ValueError, match=message):
      place(t, P, weights=w)
  assert np.isfinite(place(changed(T, -1, (1, 2)), P, weights=changed(W, 0, (1, 2)))).all()
