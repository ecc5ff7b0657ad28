"""Reductions over all pairs: values, gradients with respect to everything, memory, masks, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_derivatives as core

import oracle
from conftest import equations, refusals
from jax_edm import pairwise_logsumexp, pairwise_sum, safe_root

EPS = float(np.finfo(np.float32).eps)
THETA = 0.3


def function(D, pair, row, column, scalar, theta=THETA):
  return pair * jnp.exp(-theta * D) + scalar * row * column * D


def problem(rng, n, m, d, k=2, dtype=np.float32):
  shapes = {"x": (n, d), "y": (m, d), "pair": (n, m), "row": (n, 1), "column": (1, m), "scalar": (), "values": (m, k)}
  scale = {"x": d**-0.5, "y": d**-0.5}
  return {name: (scale.get(name, 1) * rng.normal(size=shape)).astype(dtype) for name, shape in shapes.items()}


def expected_sum(p, g, one_set=False):
  """The sum, and the gradient of ``<g, sum>`` with respect to everything, from the definitions."""
  p = {name: np.asarray(a, np.float64) for name, a in p.items()}
  y = None if one_set else p["y"]
  D = oracle.edm(p["x"], y)
  decay = np.exp(-THETA * D)
  linear = p["scalar"] * p["row"] * p["column"]
  f = p["pair"] * decay + linear * D
  pull = g @ p["values"].T
  moved = oracle.vjp(pull * (-THETA * p["pair"] * decay + linear), p["x"], y)
  return f @ p["values"], {
    "x": moved[0],
    "y": None if one_set else moved[1],
    "pair": pull * decay,
    "row": (pull * p["scalar"] * p["column"] * D).sum(1, keepdims=True),
    "column": (pull * p["scalar"] * p["row"] * D).sum(0, keepdims=True),
    "scalar": (pull * p["row"] * p["column"] * D).sum(),
    "values": f.T @ g,
    "theta": -(pull * p["pair"] * D * decay).sum(),
  }


def our_sum(p, theta=THETA, one_set=False, **options):
  closed = lambda *blocks: function(*blocks, theta)  # noqa: E731
  operands = [p[name] for name in ("pair", "row", "column", "scalar")]
  return pairwise_sum(closed, p["x"], None if one_set else p["y"], *operands, values=p["values"], **options)


@pytest.mark.parametrize("one_set", [False, True], ids=["two sets", "one set"])
@pytest.mark.parametrize(
  ("n", "m", "d", "block", "jitted"),
  [
    (37, 53, 3, 8, True),
    (37, 53, 20, 7, True),
    (64, 64, 3, 64, True),
    (64, 48, 20, 16, True),
    (5, 9, 3, 1, True),
    (37, 53, 3, 1000, True),
    (96, 40, 7, None, False),
    (37, 53, 3, 7, False),
  ],
)
def test_sum_and_its_gradient_with_respect_to_everything(n, m, d, block, one_set, jitted, rng):
  p = problem(rng, n, n if one_set else m, d)
  g = rng.normal(size=(n, 2)).astype(np.float32)
  value, gradients = expected_sum(p, g, one_set)

  def run(p, theta):
    out, back = jax.vjp(lambda p, theta: our_sum(p, theta, one_set, block_size=block), p, theta)
    return out, *back(g)

  actual, bars, theta_bar = (jax.jit(run) if jitted else run)(jax.tree.map(jnp.asarray, p), jnp.float32(THETA))
  bars["theta"] = theta_bar
  np.testing.assert_allclose(actual, value, atol=64 * EPS * np.abs(value).max())
  for name, expected in gradients.items():
    if expected is not None:
      np.testing.assert_allclose(
        bars[name], expected, atol=128 * EPS * max(np.abs(expected).max(), np.abs(expected).sum() / n), err_msg=name
      )


def energy(x, y=None, method=None):
  return pairwise_sum(lambda D: jnp.exp(-D), x, y, method=method, block_size=3)


def soft_minimum(x, y=None, method=None):
  return pairwise_logsumexp(lambda D: -2 * D, x, y, method=method, block_size=3)


NAIVE = {
  energy: lambda *z: jnp.exp(-core.naive_edm(*z)).sum(1),
  soft_minimum: lambda *z: jax.nn.logsumexp(-2 * core.naive_edm(*z), axis=1),
}


@pytest.mark.parametrize("name", core.ALL)
@pytest.mark.usefixtures("double_precision")
def test_every_transformation(name):
  """One set, in tiles, and two, in blocks of rows, in turns; soft minima, whose rows are other blocks, in some."""
  sets = 1 + list(core.ALL).index(name) % 2
  core.check(energy, core.ALL[name], [(8, 3), (5, 3)][:sets], jnp.float64, None, jitted=True, naive=NAIVE[energy])


@pytest.mark.parametrize(
  "name",
  ["value", "jvp", "grad", "vmap of grad", "shard_map of an HVP", "reverse over reverse", "third order, forward"],
)
@pytest.mark.usefixtures("double_precision")
def test_transformations_of_logsumexp(name):
  core.check(soft_minimum, core.ALL[name], [(8, 3), (5, 3)], jnp.float64, None, jitted=True, naive=NAIVE[soft_minimum])


@pytest.mark.parametrize("shapes", [[(64, 3)], [(37, 20), (53, 20)]], ids=str)
@pytest.mark.parametrize(
  ("name", "jitted"),
  [("forward over reverse", False)]
  + [(name, True) for name in ("value", "jvp", "grad", "grad of vmap", "forward over reverse", "reverse over reverse")],
)
def test_transformations_where_compilers_fuse(name, jitted, shapes):
  core.check(energy, core.ALL[name], shapes, jnp.float32, None, jitted, naive=NAIVE[energy])


def programs(n, d, block, sets, outer=lambda sums: sums, reduction=pairwise_sum):
  """Of one set, half of whose matrix is enough, and of two; with what they may take, in MiB, for n = 16384."""
  x = jax.ShapeDtypeStruct((n, d), jnp.float32)

  def loss(x):
    return outer(reduction(lambda D: jnp.exp(-D), x, x if sets == 2 else None, block_size=block)).sum()

  modes = {
    "forward": (loss, 24),
    "gradient": (jax.grad(loss), 100),
    "jvp": (lambda x: jax.jvp(loss, (x,), (x,)), 80),
    "hvp": (lambda x: jax.jvp(jax.grad(loss), (x,), (x,)), 128),
    "grad of grad": (jax.grad(lambda x: (jax.grad(loss)(x) ** 2).sum()), 200),
  }
  for name, (f, limit) in modes.items():
    yield name, jax.jit(f).lower(x).compile().memory_analysis().temp_size_in_bytes / 2**20, limit


@pytest.mark.parametrize("d", [3, 16])
@pytest.mark.parametrize("sets", [1, 2])
def test_memory(sets, d):
  """The promise: a gigabyte's worth of pairs in a few megabytes, in every mode."""
  for name, used, limit in programs(16384, d, None, sets):
    assert used < limit, name


@pytest.mark.parametrize(("sets", "block"), [(1, 512), (2, 64)])
def test_memory_is_linear_in_n(sets, block):
  for (name, once, _), (_, twice, _) in zip(
    programs(8192, 3, block, sets), programs(16384, 3, block, sets), strict=True
  ):
    assert twice <= 2 * once, name


@pytest.mark.parametrize(("f", "sets"), [(pairwise_sum, 1), (pairwise_sum, 2), (pairwise_logsumexp, 2)])
def test_memory_under_a_loss_that_is_not_linear_in_the_sums(f, sets):
  """Then the second order needs the blocks of the first once more."""
  for name, used, limit in programs(16384, 3, None, sets, jnp.log1p, f):
    assert used < limit, name


def test_memory_of_a_batch_and_of_small_blocks():
  loss = lambda x, block=None: pairwise_sum(lambda D: jnp.exp(-D), x, block_size=block).sum()  # noqa: E731
  for shape, block, limit in (((512, 1024, 3), None, 64), ((8192, 3), 4, 4)):
    program = jax.jit(jax.grad(lambda x: loss(x, block)))  # noqa: B023
    used = program.lower(jax.ShapeDtypeStruct(shape, jnp.float32)).compile().memory_analysis().temp_size_in_bytes
    assert used < limit * 2**20


def test_memory_of_logsumexp_and_of_a_block_that_does_not_divide():
  x = jax.ShapeDtypeStruct((16411, 3), jnp.float32)  # a prime
  for f in (pairwise_logsumexp, pairwise_sum):
    loss = lambda x: f(lambda D: -D, x).sum()  # noqa: B023, E731
    for program, limit in ((loss, 24), (jax.grad(loss), 100), (lambda x: jax.jvp(jax.grad(loss), (x,), (x,)), 128)):  # noqa: B023
      assert jax.jit(program).lower(x).compile().memory_analysis().temp_size_in_bytes < limit * 2**20


@pytest.mark.parametrize("method", ["difference", "gram"])
@pytest.mark.parametrize("operands", [(), (np.ones((9, 1)),)], ids=["tiles", "rows"])
def test_the_diagonal_of_one_set_is_zero_for_points_at_infinity_too(operands, method):
  x = np.arange(18.0, dtype=np.float32).reshape(9, 2)
  x[2], x[7] = np.inf, np.nan
  zeros = pairwise_sum(lambda D, *_: D == 0, x, None, *operands, method=method, block_size=4)
  np.testing.assert_array_equal(zeros, 1)


def test_more_pairs_than_an_int32_counts():
  n = 46_500  # n * n > 2**31
  x = np.linspace(-1, 1, n, dtype=np.float32)[:, None]
  wide = x.astype(np.float64)
  out = jax.jit(lambda x: pairwise_sum(lambda D: D, x))(x)
  np.testing.assert_allclose(out, n * wide[:, 0] ** 2 + (wide**2).sum(), rtol=1e-3)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("d", [3, 20])
def test_roots_at_coincident_points(d, order, rng):
  """Weighted stress of distances, with duplicated points: finite derivatives of both orders, and the right ones."""
  x = rng.normal(size=(12, d))
  x[5] = x[2]
  T, v = np.abs(rng.normal(size=(12, 12))), rng.normal(size=(12, d))
  ours = lambda x, T: pairwise_sum(lambda D, T: (safe_root(D) - T) ** 2, x, None, T, block_size=5).sum()  # noqa: E731

  def naive(x, T):
    D = core.naive_edm(x)
    zero = D == 0
    return ((jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, D))) - T) ** 2).sum()

  def derivative(f):
    gradient = jax.grad(f)
    return gradient if order == 1 else lambda x, T: jax.jvp(lambda x: gradient(x, T), (x,), (v.astype(x.dtype),))[1]

  with core.x64(True):
    expected = derivative(naive)(jnp.asarray(x), jnp.asarray(T))
    actual = jax.jit(derivative(ours))(jnp.asarray(x), jnp.asarray(T))
    np.testing.assert_allclose(actual, expected, atol=1e-10)
  single = jax.jit(derivative(ours))(x.astype(np.float32), T.astype(np.float32))
  np.testing.assert_allclose(single, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("f", [pairwise_sum, pairwise_logsumexp])
@pytest.mark.parametrize(("sets", "d"), [(1, 3), (2, 20)])
@pytest.mark.usefixtures("double_precision")
def test_what_is_missing_reaches_nothing(sets, d, f, rng):
  """NaN in the padding of points, operands and values: values, gradients and HVPs are those of the points there are."""
  n, m = 11, (11, 9)[sets - 1]
  here = rng.random(n) < 0.7
  here_y = here if sets == 1 else rng.random(m) < 0.7
  full = {
    "x": rng.normal(size=(n, d)),
    "y": rng.normal(size=(m, d)),
    "T": rng.normal(size=(n, m)),
    "v": rng.random(m) + 1,
  }
  full = {name: a / (d**0.5 if name in "xy" else 1) for name, a in full.items()}
  short = {"x": full["x"][here], "y": full["y"][here_y], "T": full["T"][here][:, here_y], "v": full["v"][here_y]}
  full["x"][~here], full["y"][~here_y], full["v"][~here_y] = np.nan, np.inf, np.nan
  full["T"][~here], full["T"][:, ~here_y] = np.nan, np.nan

  def loss(p, theta, masks):
    name = "values" if f is pairwise_sum else "weights"
    y = None if sets == 1 else p["y"]
    out = f(lambda D, T: theta * T - D, p["x"], y, p["T"], block_size=4, **{name: p["v"]}, **masks)
    return jnp.where(jnp.isfinite(out), jnp.sin(out), 0).sum(), out

  def derivatives(p, masks):
    tangent = jax.tree.map(lambda a: jnp.where(jnp.isfinite(a), a, 0), p)
    gradient = jax.grad(lambda p, theta: loss(p, theta, masks)[0], (0, 1))
    return loss(p, 0.5, masks)[1], gradient(p, 0.5), jax.jvp(lambda p: gradient(p, 0.5), (p,), (tangent,))[1]

  masks = {"where": jnp.asarray(here)} | ({"where_y": jnp.asarray(here_y)} if sets == 2 else {})
  out, *bars = jax.jit(derivatives)(full, masks)
  expected_out, *expected = jax.jit(derivatives)(short, {})
  np.testing.assert_array_equal(out[~here], 0 if f is pairwise_sum else -np.inf)
  np.testing.assert_allclose(out[here], expected_out, rtol=1e-12)
  for (bar, bar_theta), (want, want_theta) in zip(bars, expected, strict=True):
    np.testing.assert_allclose(bar_theta, want_theta, atol=1e-11)
    for name, kept in (("x", (here,)), ("y", (here_y,)), ("v", (here_y,)), ("T", np.ix_(here, here_y))):
      a = np.array(bar[name])
      np.testing.assert_allclose(a[kept], want[name], atol=1e-12 * np.abs(want[name]).max(), err_msg=name)
      a[kept] = 0
      np.testing.assert_array_equal(a, 0, err_msg=name)


def test_what_is_missing_has_no_derivative_of_its_own(rng):
  """A function that is singular somewhere, and a cotangent that is not finite on the row of a missing point."""
  x = (0.2 * rng.normal(size=(5, 3))).astype(np.float32)  # distances below 1
  here = np.array([True, True, True, False, True])
  slope = lambda x, t, **options: jax.grad(lambda t: pairwise_sum(lambda D: (t - D) ** 0.5, x, **options).sum())(t)  # noqa: E731
  expected = (0.5 / np.sqrt(1 - oracle.edm(x))).sum()
  for block in (5, 2, 3):  # 2 and 3 do not divide 5: the last tile is filled up
    np.testing.assert_allclose(slope(x, 1.0, block_size=block), expected, rtol=1e-5)
  np.testing.assert_allclose(slope(x, 1.0, where=here), slope(x[here], 1.0), rtol=1e-5)
  for y in (None, x):
    masked = lambda v: pairwise_sum(lambda D: jnp.exp(-D), x, y, values=v, where=here)  # noqa: B023, E731
    bar = jax.grad(lambda v: jnp.where(here, jnp.log(masked(v)), 0).sum())(jnp.ones(5))  # noqa: B023
    kept = np.exp(-oracle.edm(x[here], x if y is not None else x[here]))
    expected = (kept / kept.sum(1, keepdims=True)).sum(0)
    np.testing.assert_allclose(bar if y is not None else bar[here], expected, rtol=1e-5)


@pytest.mark.parametrize("block", [None, 2])
def test_batches(block, rng):
  x, y = rng.normal(size=(4, 1, 5, 3)).astype(np.float32), rng.normal(size=(3, 6, 3)).astype(np.float32)
  T, v = rng.normal(size=(3, 5, 1)).astype(np.float32), rng.normal(size=(4, 1, 6, 2)).astype(np.float32)
  where = rng.random((3, 5)) < 0.5
  f = lambda D, T: jnp.exp(-D) * T  # noqa: E731
  out = jax.jit(lambda *z: pairwise_sum(f, *z, values=v, where=where, block_size=block))(x, y, T)
  logs = jax.jit(lambda *z: pairwise_logsumexp(lambda D: -D, *z, weights=np.abs(v[..., 0]), block_size=block))(x, y)
  assert out.shape == (4, 3, 5, 2)
  for i in range(4):
    for j in range(3):
      dense = np.exp(-oracle.edm(x[i, 0], y[j]))
      np.testing.assert_allclose(out[i, j], (dense * T[j]) @ v[i, 0] * where[j][:, None], atol=1e-5)
      np.testing.assert_allclose(logs[i, j], np.log(dense @ np.abs(v[i, 0, :, 0])), atol=1e-5)
  one = lambda x: pairwise_sum(f, x[0], y[0], T[0], values=v[0, 0], where=where[0], block_size=block)  # noqa: E731
  mapped = jax.jit(jax.vmap(one))(x)
  np.testing.assert_allclose(mapped[0], out[0, 0], atol=1e-6)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64", "int32"])
def test_dtypes(name, either_precision, rng):
  x = rng.integers(0, 4, size=(9, 3)).astype(jnp.dtype(name))
  own = jnp.result_type(jnp.asarray(x), float)
  out = pairwise_sum(lambda D: D, x, block_size=4)
  assert out.dtype == own
  np.testing.assert_allclose(np.asarray(out, np.float64), oracle.edm(x).sum(1), rtol=2 * float(jnp.finfo(own).eps))
  assert pairwise_logsumexp(lambda D: -D, x).dtype == own
  np.testing.assert_allclose(pairwise_logsumexp(lambda D: D < 0, x), np.log(9), rtol=2 * float(jnp.finfo(own).eps))
  seen = []
  pairwise_sum(lambda D: seen.append(D.dtype) or D, x)
  assert seen[0] == max(own, jnp.dtype("float32"), key=lambda t: t.itemsize)
  assert pairwise_sum(lambda D: D > 2, x).dtype == jnp.dtype("int64" if either_precision else "int32")  # counts


@pytest.mark.parametrize(("n", "m"), [(0, 4), (4, 0), (0, 0), (1, 1)])
def test_empty_and_single(n, m):
  x, y = jnp.ones((n, 3)), jnp.zeros((m, 3))
  np.testing.assert_array_equal(pairwise_sum(lambda D: D, x, y, values=jnp.ones((m, 2))), np.full((n, 2), 3 * m))
  np.testing.assert_allclose(pairwise_logsumexp(lambda D: D, x, y), 3 if m else -np.inf)
  assert jax.grad(lambda x: pairwise_logsumexp(lambda D: D, x, y).sum())(x).shape == x.shape


def test_every_product_is_in_full_precision():
  x = jnp.ones((20, 9), jnp.bfloat16)
  loss = lambda x: pairwise_sum(lambda D: jnp.exp(-D), x, values=x, block_size=8).sum()  # noqa: E731
  for f in (loss, jax.grad(loss)):
    dots = [e for e in equations(jax.make_jaxpr(f)(x).jaxpr) if e.primitive is jax.lax.dot_general_p]
    assert dots
    for dot in dots:
      assert dot.params["precision"] == (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
      assert all(v.aval.dtype == np.float32 for v in (*dot.invars, *dot.outvars))


def test_the_gradient_runs_the_hand_derived_rule_in_each_block():
  loss = lambda x: pairwise_sum(lambda D: jnp.exp(-D), x, block_size=16).sum()  # noqa: E731
  text = jax.jit(jax.grad(loss)).lower(jnp.ones((64, 3))).compile().as_text()
  assert "edm_adjoint" in text
  assert "edm_bilinear" not in text


# logsumexp


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4, 1e30])
def test_logsumexp_over_any_range(scale, rng):
  x, y = (rng.normal(size=(k, 2)).astype(np.float32) for k in (7, 9))
  w = (rng.random(9) + 0.1).astype(np.float32)
  exponents = -scale * oracle.edm(x, y)
  top = exponents.max(1, keepdims=True)
  terms = w * np.exp(exponents - top)
  run = jax.jit(lambda x, w: pairwise_logsumexp(lambda D: -scale * D, x, y, weights=w, block_size=3))
  out, back = jax.vjp(run, x, w)
  np.testing.assert_allclose(out, np.log(terms.sum(1)) + top[:, 0], rtol=8 * EPS, atol=64 * EPS * min(scale, 1e4) + EPS)
  of_x, of_w = back(jnp.ones(7))
  softmax = terms / terms.sum(1, keepdims=True)
  error = 64 * EPS * (1 + min(scale, 100) * np.abs(exponents / scale).max())
  np.testing.assert_allclose(of_w, (softmax / w).sum(0), atol=error * 10)
  pull = oracle.vjp(-softmax, x, y)[0]
  np.testing.assert_allclose(of_x / scale, pull, atol=error * 10)


def test_a_row_of_minus_infinity():
  x, mask = jnp.arange(8.0).reshape(4, 2), jnp.zeros((4, 4)).at[1].set(-jnp.inf)
  run = jax.jit(lambda x, mask, w: pairwise_logsumexp(lambda D, b: b - D, x, None, mask, weights=w, block_size=3))
  for w in (None, jnp.ones(4)):
    out, back = jax.vjp(lambda x, mask: run(x, mask, w), x, mask)  # noqa: B023
    assert out[1] == -jnp.inf
    assert bool(jnp.isfinite(out[jnp.array([0, 2, 3])]).all())
    for bar in back(jnp.zeros(4).at[1].set(1.0)):
      np.testing.assert_array_equal(bar, 0)
    hvp = jax.jit(lambda x: jax.jvp(jax.grad(lambda x: jnp.exp(run(x, mask, w)).sum()), (x,), (x,))[1])(x)  # noqa: B023
    assert bool(jnp.isfinite(hvp).all())
  np.testing.assert_array_equal(run(x, mask, jnp.zeros(4)), -jnp.inf)
  np.testing.assert_array_equal(jax.grad(lambda x: run(x, mask, jnp.zeros(4))[0])(x), 0)


def test_what_has_no_weight_does_not_set_the_scale():
  x, y = jnp.zeros((1, 1)), jnp.array([[0.0], [2.0]])
  w = jnp.array([1.0, 0.0])
  run = lambda w, c: pairwise_logsumexp(lambda D: c * D, x, y, weights=w)[0]  # noqa: E731
  np.testing.assert_allclose(run(w, 1e4), 0)  # exp(4e4) would overflow, and exp(-4e4) would leave nothing of the other
  np.testing.assert_allclose(jax.grad(run)(w, 1.0), [1, np.exp(4)], rtol=1e-6)  # the derivative exists, and is right
  assert bool(jnp.isfinite(jax.grad(run)(w, 1e4)).all())
  infinite = lambda w: pairwise_logsumexp(lambda D: jnp.where(D > 1, jnp.inf, D), x, y, weights=w)[0]  # noqa: E731
  assert infinite(w) == 0
  assert infinite(jnp.ones(2)) == jnp.inf


def test_weights_of_any_size_set_the_scale():
  x, y = jnp.zeros((1, 1)), jnp.array([[0.0], [10.0]])
  run = lambda w: pairwise_logsumexp(lambda D: -D, x, y, weights=w)[0]  # noqa: E731
  w = np.array([1e-30, 1e30])
  np.testing.assert_allclose(run(jnp.asarray(w, jnp.float32)), np.log(1e-30 + np.exp(-100.0 + np.log(1e30))), rtol=1e-6)
  np.testing.assert_allclose(run(jnp.array([1e-30, 0.0])), np.log(1e-30), rtol=1e-6)


def test_sums_of_narrow_integers_do_not_overflow():
  x = jnp.ones((200, 2))
  np.testing.assert_array_equal(pairwise_sum(lambda D: (D >= 0).astype(jnp.int8), x), 200)
  np.testing.assert_array_equal(pairwise_sum(lambda D, a: a, x, None, jnp.full((200, 200), 2, jnp.uint8)), 400)


BAD = {
  "f": (TypeError, r"pairwise_sum: f must be a function", lambda x: pairwise_sum(x, x)),
  "f reduces": (
    ValueError,
    r"f must be elementwise.*shape \(4,\) for a block of \(4, 4\)",
    lambda x: pairwise_sum(lambda D: D.sum(1), x),
  ),
  "f returns a number": (TypeError, r"f must return one array. Got float", lambda x: pairwise_sum(lambda D: 1.0, x)),
  "f returns a pair": (TypeError, r"f must return one array. Got tuple", lambda x: pairwise_sum(lambda D: (D, D), x)),
  "operand": (
    ValueError,
    r"operand 1 must broadcast to the shape of the matrix. Got \(3, 4\) for \(4, 4\)",
    lambda x: pairwise_sum(lambda D, a, b: D, x, None, 1.0, jnp.ones((3, 4))),
  ),
  "operand larger": (
    ValueError,
    r"operand 0 must broadcast",
    lambda x: pairwise_sum(lambda D, a: D, x[:1], None, jnp.ones((3, 1))),
  ),
  "operand's batch": (
    ValueError,
    r"operand 0 must broadcast",
    lambda x: pairwise_sum(lambda D, a: D, jnp.ones((2, 4, 3)), None, jnp.ones((3, 4, 4))),
  ),
  "operand of text": (
    TypeError,
    r"operand 0 must be an array or a number. Got str",
    lambda x: pairwise_sum(lambda D, a: D, x, None, "a"),
  ),
  "values": (
    ValueError,
    r"values must have the shape \(m,\) or \(..., m, k\).*\(3,\) for 4 points",
    lambda x: pairwise_sum(lambda D: D, x, values=jnp.ones(3)),
  ),
  "values as a list": (
    TypeError,
    r"values must be a JAX or NumPy array",
    lambda x: pairwise_sum(lambda D: D, x, values=[1.0] * 4),
  ),
  "values' batch": (
    ValueError,
    r"leading axes of values",
    lambda x: pairwise_sum(lambda D: D, jnp.ones((2, 4, 3)), values=jnp.ones((3, 4, 1))),
  ),
  "values' batch, of x": (
    ValueError,
    r"leading axes of values",
    lambda x: pairwise_sum(lambda D: D, jnp.ones((2, 4, 3)), x, values=jnp.ones((3, 4, 1))),
  ),
  "values of text": (
    TypeError,
    r"values must hold numbers",
    lambda x: pairwise_sum(lambda D: D, x, values=np.array(["a"] * 4)),
  ),
  "values of a batch of vectors": (
    ValueError,
    r"Write values\[..., None\]",
    lambda x: pairwise_sum(lambda D: D, x, values=jnp.ones((2, 4))),
  ),
  "values, and wrong points": (
    ValueError,
    r"pairwise_sum: x must have the shape",
    lambda x: pairwise_sum(lambda D: D, x[0], values=jnp.ones(4)),
  ),
  "operands' batches": (
    ValueError,
    r"operand 1 must broadcast",
    lambda x: pairwise_sum(lambda D, a, b: D, x, None, jnp.ones((2, 4, 4)), jnp.ones((3, 4, 4))),
  ),
  "weights": (
    ValueError,
    r"pairwise_logsumexp: weights must have the shape \(..., m\)",
    lambda x: pairwise_logsumexp(lambda D: D, x, weights=jnp.ones((4, 1))),
  ),
  "block": (ValueError, r"block_size must be at least 1. Got 0", lambda x: pairwise_sum(lambda D: D, x, block_size=0)),
  "block of another type": (
    TypeError,
    r"block_size must be an integer. Got float",
    lambda x: pairwise_sum(lambda D: D, x, block_size=2.0),
  ),
  "different d": (
    ValueError,
    r"pairwise_sum: x and y must have the same number",
    lambda x: pairwise_sum(lambda D: D, x, x[:, :2]),
  ),
  "rank": (ValueError, r"pairwise_logsumexp: x must have the shape", lambda x: pairwise_logsumexp(lambda D: D, x[0])),
  "method": (ValueError, r"method must be", lambda x: pairwise_sum(lambda D: D, x, method="fast")),
}


test_bad_input = refusals(BAD)
