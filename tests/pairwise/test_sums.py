"""The contract of ``pairwise_sum``, for every implementation: values, gradients with respect to everything, dtypes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import definitions
import oracle
from conftest import equations, x64
from implementations import EPS, IMPLEMENTATIONS, KERNELS, interpreted
from implementations import sums as sums
from jax_edm import pairwise_logsumexp, pairwise_sum, safe_root
from transformations import quick_jit

ALL = list(definitions.VARIANTS)
# (n, m, d, method, block_size), and the variants: blocks and tiles that divide n and that do not, of one row, of all.
OF_BLOCKS = {
  "blocks that do not divide": ((37, 53, 3, None, 7), ALL),
  "blocks that divide": ((48, 64, 20, None, 16), ["two sets", "one symmetric set", "no diagonal"]),
  "one block": ((37, 53, 9, None, None), ["two sets", "one symmetric set", "symmetric, no diagonal"]),
  "rows": ((5, 9, 3, "gram", 1), ["two sets", "one symmetric set"]),
  "differences": ((37, 53, 20, "difference", 8), ["two sets", "one symmetric set"]),
  "one coordinate": ((37, 53, 1, "gram", 8), ["one set"]),
}
# Sizes that no tile divides; one chunk of coordinates, several, and a chunk that is filled up.
OF_KERNELS = {
  "d=3": ((37, 53, 3, None, None), ["two sets", "one symmetric set", "no diagonal"]),
  "d=9": ((37, 53, 9, None, None), ["two sets"]),
  "d=20": ((37, 53, 20, "difference", None), ["one symmetric set"]),
  "d=100": ((37, 53, 100, None, None), ["symmetric, no diagonal"]),
}
CASES = [("xla", case) for case in OF_BLOCKS] + [(route, case) for route in KERNELS for case in OF_KERNELS]
QUICK = [("xla", "rows"), *((route, "d=9") for route in KERNELS)]


@pytest.mark.parametrize(
  ("name", "case"),
  [case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow) for case in CASES],
  ids=[": ".join(case) for case in CASES],
)
def test_the_sum_and_its_gradient_with_respect_to_everything(name, case, rng):
  """Arguments of every kind, two columns of values, a number that f closes over."""
  (n, m, d, method, block), variants = (OF_BLOCKS if name == "xla" else OF_KERNELS)[case]
  p, implementation = definitions.problem(rng, n, m, d), IMPLEMENTATIONS[name]

  def everything(p, theta):
    run = partial(definitions.sum_and_cotangents, implementation.sum, method=method, block_size=block)
    return {v: run(definitions.of_variant(p, v), theta, p["g"], v) for v in variants}

  with interpreted(name):
    actual = implementation.jit(everything)(p, np.float32(definitions.THETA))
  for v in variants:
    definitions.agree(actual[v], definitions.expected(definitions.of_variant(p, v), p["g"], v), v)


@pytest.mark.slow
def test_without_jit(rng):
  """Arguments of NumPy, everywhere."""
  p = definitions.problem(rng, 37, 53, 3)
  where, where_y = rng.random(37) < 0.8, rng.random(53) < 0.8
  for v in ("two sets", "one symmetric set"):
    own = definitions.of_variant(p, v)
    masks = {"where": where} | ({"where_y": where_y} if "y" in own else {})
    actual = definitions.sum_and_cotangents(pairwise_sum, own, np.float32(0.3), p["g"], v, block_size=7, **masks)
    pairs = where[:, None] * (where_y if "y" in own else where)
    definitions.agree(actual, definitions.expected(own, p["g"], v, pairs), v)


def test_the_numbers_that_rounding_would_spoil(sums, rng):
  """Points far from the origin, which products want centred; and a root whose slope is 5e5 at the diagonal."""
  far = (rng.normal(size=(21, 20)) + 1000).astype(np.float32)
  near = rng.normal(size=(21, 20)).astype(np.float32)

  @sums.jit
  def run(far, near):
    out, back = jax.vjp(lambda x: sums.sum(lambda D: jnp.exp(-D / 20), x, method="gram"), far)
    steep = jax.grad(lambda x: sums.sum(lambda D: jnp.sqrt(D + 1e-12), x, method="gram").sum())(near)
    return out, back(jnp.ones(21))[0], steep

  out, bar, steep = run(far, near)
  kernel = np.exp(-oracle.edm(far) / 20)
  np.testing.assert_allclose(out, kernel.sum(1), rtol=1e-3)  # without the centre nothing is left of D
  expected = oracle.vjp(-kernel / 20, far)[0]
  np.testing.assert_allclose(bar, expected, atol=1e-3 * np.abs(expected).max())
  expected = oracle.vjp(0.5 / (oracle.distances(near) + np.eye(21)) - 0.5 * np.eye(21), near)[0]
  np.testing.assert_allclose(steep, expected, atol=64 * EPS * np.abs(expected).max())


@pytest.mark.parametrize("d", [3, 20])
def test_points_that_coincide_contribute_nothing_to_a_steep_loss(sums, d, rng):
  """One set with a duplicate, and two sets that share points: the exact derivative is that of the other pairs."""
  x, y = (rng.normal(size=(21, d)).astype(np.float32) for _ in range(2))
  x[5], y[[3, 17]] = x[1], x[[8, 1]]

  @sums.jit
  def run(x, y):
    steep = lambda D: 1 / (D + 1e-6)  # noqa: E731
    one = jax.grad(lambda x: sums.sum(steep, x).sum())(x)
    return one, *jax.grad(lambda x, y: sums.sum(steep, x, y).sum(), (0, 1))(x, y)

  def slope(D):
    return -1 / np.square(D + 1e-6)

  expected = *oracle.vjp(slope(oracle.edm(x)), x), *oracle.vjp(slope(oracle.edm(x, y)), x, y)
  for actual, right in zip(run(x, y), expected, strict=True):
    np.testing.assert_allclose(actual, right, atol=2**10 * EPS * np.abs(right).max())


def test_the_diagonal_of_one_set_is_zero_for_points_at_infinity_too(sums):
  x = np.arange(18.0, dtype=np.float32).reshape(9, 2)
  x[2], x[7] = np.inf, np.nan

  @sums.jit
  def run(x, row):
    """By tiles, and by rows: with an argument of the rows the matrix of pairs is not symmetric."""
    f = lambda D, *_: D == 0  # noqa: E731
    ways = [(method, args) for method in ("difference", "gram") for args in ((), (row,))]
    return [sums.sum(f, x, args=args, method=method, block_size=4) for method, args in ways]

  for zeros in run(x, np.ones((9, 1), np.float32)):
    np.testing.assert_array_equal(zeros, 1)


def test_batches(sums, rng):
  x, y = rng.normal(size=(4, 1, 5, 3)).astype(np.float32), rng.normal(size=(3, 6, 3)).astype(np.float32)
  T, v = rng.normal(size=(3, 5, 1)).astype(np.float32), rng.normal(size=(4, 1, 6, 2)).astype(np.float32)
  where = rng.random((3, 5)) < 0.5

  def f(D, t):
    return jnp.exp(-D) * t

  for block in sums.blocks:

    @sums.jit
    def run(x, y, T, block=block):
      out = sums.sum(f, x, y, args=(T,), values=v, where=where, block_size=block)
      logs = sums.logsumexp(lambda D: -D, x, y, weights=np.abs(v[..., 0]), block_size=block)
      one = lambda x: sums.sum(f, x[0], y[0], args=(T[0],), values=v[0, 0], where=where[0], block_size=block)  # noqa: E731
      return out, logs, jax.vmap(one)(x)

    out, logs, mapped = run(x, y, T)
    assert out.shape == (4, 3, 5, 2)
    for i in range(4):
      for j in range(3):
        dense = np.exp(-oracle.edm(x[i, 0], y[j]))
        np.testing.assert_allclose(out[i, j], (dense * T[j]) @ v[i, 0] * where[j][:, None], atol=1e-5)
        np.testing.assert_allclose(logs[i, j], np.log(dense @ np.abs(v[i, 0, :, 0])), atol=1e-5)
    np.testing.assert_allclose(mapped[0], out[0, 0], atol=1e-6)


def test_no_points_and_single_ones(sums):
  sizes = (0, 4), (4, 0), (0, 0), (1, 1)
  sets = [(jnp.ones((n, 3)), jnp.zeros((m, 3))) for n, m in sizes]

  @sums.jit
  def run(sets):
    total = [sums.sum(lambda D: D, x, y, values=jnp.ones((len(y), 2))) for x, y in sets]
    logs = [jax.vjp(lambda x: sums.logsumexp(lambda D: D, x, y), x) for x, y in sets]  # noqa: B023
    bars = [back(jnp.ones(len(x)))[0] for (_, back), (x, _) in zip(logs, sets, strict=True)]
    return total, [out for out, _ in logs], bars, sums.sum(lambda D: D, jnp.ones((0, 4, 3)))

  *found, of_no_member = run(sets)
  assert of_no_member.shape == (0, 4)
  for (n, m), total, logs, bar in zip(sizes, *found, strict=True):
    np.testing.assert_array_equal(total, np.full((n, 2), 3 * m))
    np.testing.assert_allclose(logs, np.full(n, 3 if m else -np.inf))
    assert bar.shape == (n, 3)


def test_dtypes(sums, rng):
  """16 bits compute in 32; labels stay integers; predicates count."""
  x = (rng.integers(-8, 8, size=(37, 3)) / 4).astype(jnp.bfloat16)
  column, labels = jnp.ones((1, 37), jnp.bfloat16), rng.integers(0, 3, 37).astype(np.int32)
  wide, near = np.asarray(x, np.float64), 2 * float(jnp.finfo(jnp.bfloat16).eps)
  kernel = np.exp(-oracle.edm(wide)) * (labels[:, None] == labels)
  count = (oracle.edm(wide) < 1).sum(1)
  for bits in (32, 64):
    with x64(bits == 64):

      @sums.jit
      def run(x, column):
        def weighted(x, column):
          f = lambda D, a, p, q: jnp.where(p == q, a * jnp.exp(-D), 0)  # noqa: E731
          return sums.sum(f, x, args=(column, labels[:, None], labels[None, :]))

        out, back = jax.vjp(weighted, x, column)
        slope = jax.grad(lambda x: sums.sum(lambda D: D < 3, x).astype(jnp.float32).sum())(x)
        counts = sums.sum(lambda D: D < 1, x), sums.sum(lambda D: jnp.where(D < 1, 1.0, 0.0), x)
        return out, back(jnp.ones_like(out)), slope, counts

      out, (of_x, of_column), slope, (counts, ones) = run(x, column)
    assert (out.dtype, of_x.dtype, of_column.dtype) == (jnp.bfloat16,) * 3
    assert counts.dtype == f"int{bits}"
    np.testing.assert_allclose(np.asarray(out, np.float64), kernel.sum(1), rtol=near)
    np.testing.assert_allclose(np.asarray(of_column, np.float64)[0], kernel.sum(0), rtol=near)
    of_wide = oracle.vjp(-kernel, wide)[0]
    np.testing.assert_allclose(np.asarray(of_x, np.float64), of_wide, atol=near * kernel.sum(1).max())
    np.testing.assert_array_equal(slope, 0)
    np.testing.assert_array_equal(counts, count)
    np.testing.assert_allclose(np.asarray(ones, np.float64), count, rtol=near)


def test_dtypes_of_points(either_precision, rng):
  """The result has that of the points; f sees float32, or float64."""
  seen, points = [], rng.integers(0, 4, size=(9, 3))
  names = ["float16", "bfloat16", "float32", "int32", *(["float64"] if either_precision else [])]
  arrays = {name: jnp.asarray(points, name) for name in names}

  def total(x):
    return pairwise_sum(lambda D: seen.append(D.dtype) or D, x, block_size=4)

  @jax.jit
  def run(arrays):
    return {name: (total(x), pairwise_logsumexp(lambda D: -D * 0, x)) for name, x in arrays.items()}

  found = run(arrays)
  for name, (out, log) in found.items():
    own = jnp.result_type(arrays[name], float)
    eps = float(jnp.finfo(own).eps)
    assert out.dtype == log.dtype == own
    np.testing.assert_allclose(np.asarray(out, np.float64), oracle.edm(points).sum(1), rtol=2 * eps)
    np.testing.assert_allclose(np.asarray(log, np.float64), np.log(9), rtol=2 * eps)
  assert set(seen) == {np.dtype(np.float32), np.dtype(np.float64 if either_precision else np.float32)}


def test_sums_of_narrow_integers_do_not_overflow():
  x, twos = jnp.ones((200, 2)), jnp.full((200, 200), 2, jnp.uint8)
  out = jax.jit(lambda x: pairwise_sum(lambda D: (D >= 0).astype(jnp.int8), x))(x)
  np.testing.assert_array_equal(out, 200)
  np.testing.assert_array_equal(jax.jit(lambda a: pairwise_sum(lambda D, a: a, x, args=(a,)))(twos), 400)


def test_linear_in_its_values(sums, rng):
  """What linear solvers ask for, of kernel matrices: the transpose, and the transpose of that."""
  x, y, v = (rng.normal(size=s).astype(np.float32) for s in ((20, 3), (30, 3), (30, 2)))
  kernel = np.exp(-oracle.edm(x, y))
  g = kernel @ v.astype(np.float64)

  @sums.jit
  def run(v, g):
    times = lambda v: sums.sum(lambda D: jnp.exp(-D), x, y, values=v)  # noqa: E731
    back = lambda g: jax.linear_transpose(times, v)(g)[0]  # noqa: E731
    return back(g), jax.linear_transpose(back, g)(v)[0]

  back, again = run(v, g.astype(np.float32))
  expected = kernel.T @ g
  np.testing.assert_allclose(back, expected, atol=64 * EPS * np.abs(expected).max())
  np.testing.assert_allclose(again, g, atol=64 * EPS * np.abs(g).max())


@pytest.mark.slow
def test_more_pairs_than_an_int32_counts():
  n = 46_500  # n * n > 2**31
  x = np.linspace(-1, 1, n, dtype=np.float32)[:, None]
  wide = x.astype(np.float64)
  out = jax.jit(lambda x: pairwise_sum(lambda D: D, x))(x)
  np.testing.assert_allclose(out, n * wide[:, 0] ** 2 + (wide**2).sum(), rtol=1e-3)


@pytest.mark.parametrize("d", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_roots_at_coincident_points(d, rng):
  """Weighted stress of distances, with duplicated points: finite derivatives of both orders, and the right ones."""
  x = rng.normal(size=(12, d))
  x[5] = x[2]
  T, v = np.abs(rng.normal(size=(12, 12))), rng.normal(size=(12, d))

  def naive(x, T):
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    return ((jnp.where(squared == 0, 0, jnp.sqrt(jnp.where(squared == 0, 1, squared))) - T) ** 2).sum()

  def ours(x, T):
    return pairwise_sum(lambda D, t: (safe_root(D) - t) ** 2, x, args=(T,), block_size=5).sum()

  def derivatives(f):
    def run(x, T, v):
      return jax.jvp(lambda x: jax.grad(f)(x, T), (x,), (v,))

    return jax.jit(run)

  with x64(True):
    expected = derivatives(naive)(x, T, v)
    for a, e in zip(derivatives(ours)(x, T, v), expected, strict=True):
      np.testing.assert_allclose(a, e, atol=1e-10)
  single = derivatives(ours)(*(a.astype(np.float32) for a in (x, T, v)))
  for a, e in zip(single, expected, strict=True):
    np.testing.assert_allclose(a, e, atol=2e-3 * np.abs(e).max())


def test_every_product_is_in_full_precision():
  x = jnp.ones((20, 9), jnp.bfloat16)

  def loss(x):
    return pairwise_sum(lambda D: jnp.exp(-D), x, values=x, block_size=8).sum()

  for f in (loss, jax.grad(loss)):
    dots = [e for e in equations(jax.make_jaxpr(f)(x).jaxpr) if e.primitive is jax.lax.dot_general_p]
    assert dots
    for dot in dots:
      assert dot.params["precision"] == (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
      assert all(v.aval.dtype == np.float32 for v in (*dot.invars, *dot.outvars))


def test_the_gradient_runs_the_hand_derived_rule_in_each_block():
  def loss(x):
    return pairwise_sum(lambda D: jnp.exp(-D), x, block_size=16).sum()

  text = quick_jit(jax.grad(loss)).lower(jnp.ones((64, 3))).compile().as_text()
  assert "edm_adjoint" in text
  assert "edm_bilinear" not in text
