"""Values, shapes, dtypes, batches, masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from conftest import equations
from jax_edm import distances, edm

pytestmark = pytest.mark.usefixtures("one_precision")

METHODS = [None, "difference", "gram"]


def close(actual, expected, dtype=np.float32, scale=None, factor=8):
  """Equal to within a small multiple of eps, relative to the largest squared distance."""
  expected = np.asarray(expected)
  scale = np.max(np.abs(expected), initial=0) if scale is None else scale
  error = factor * float(jnp.finfo(dtype).eps) * scale
  np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=0, atol=error)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "m", "d"), [(5, 4, 3), (37, 53, 6), (37, 53, 7), (64, 64, 17), (96, 33, 128), (1, 7, 2)])
def test_values(n, m, d, method, rng):
  x, y = (rng.normal(size=(k, d)).astype(np.float32) for k in (n, m))
  for f in (edm, jax.jit(edm, static_argnames="method")):
    close(f(x, y, method=method), oracle.edm(x, y))
    close(f(x, method=method), oracle.edm(x))
  # The error of r is that of D divided by 2 r.
  r = oracle.distances(x, y)
  np.testing.assert_allclose(distances(x, y, method=method), r, atol=8 * 6e-8 * np.max(r) ** 2 / np.min(r))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("d", [3, 17, 40])
@pytest.mark.parametrize("n", [1, 31, 64, 257])
def test_one_set_is_symmetric_and_hollow_to_the_last_bit(n, d, method, rng):
  x = (100 + rng.normal(size=(n, d))).astype(np.float32)
  for f in (edm, distances):
    for matrix in (f(x, method=method), jax.vmap(lambda x: f(x, method=method))(jnp.stack([x, 2 * x, x]))[1]):  # noqa: B023
      np.testing.assert_array_equal(matrix, matrix.T)
      np.testing.assert_array_equal(jnp.diagonal(matrix), 0)
      assert matrix.min() >= 0


def test_products_are_mirrored_where_the_hardware_promises_no_symmetry():
  from jax_edm._core.distance import mirrored

  skew = jnp.arange(9.0).reshape(3, 3)
  np.testing.assert_array_equal(mirrored(skew), [[0, 3, 6], [3, 4, 7], [6, 7, 8]])
  lowered = jax.jit(lambda x: edm(x, method="gram")).trace(jnp.ones((40, 9))).lower
  assert "transpose" not in lowered(lowering_platforms=("cpu",)).as_text().split("dot_general")[-1]
  for platform in ("tpu", "cuda", "rocm"):
    assert "transpose" in lowered(lowering_platforms=(platform,)).as_text().split("dot_general")[-1]


@pytest.mark.parametrize("f", [edm, distances])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
  ("n", "m", "d"), [(0, 0, 0), (0, 4, 3), (4, 0, 3), (4, 5, 0), (1, 1, 1), (3, 1, 1), (0, 0, 20)]
)
def test_empty_and_single(n, m, d, method, f):
  x, y = jnp.ones((n, d)), jnp.zeros((m, d))
  assert f(x, y, method=method).shape == (n, m)
  np.testing.assert_allclose(edm(x, y, method=method), d, rtol=1e-6)
  np.testing.assert_array_equal(f(x, method=method), np.zeros((n, n)))
  gradient = jax.grad(lambda x, y: f(x, y, method=method, where=jnp.ones(n, bool)).sum(), (0, 1))(x, y)
  assert [g.shape for g in gradient] == [x.shape, y.shape]
  assert jax.grad(lambda x: f(x, method=method).sum())(x).shape == x.shape


@pytest.mark.parametrize("f", [edm, distances])
@pytest.mark.parametrize(
  "name", ["float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "int8", "uint8", "int32", "int64"]
)
def test_dtypes(name, f, either_precision, rng):
  x, y = (rng.integers(0, 4, size=(k, 3)).astype(jnp.dtype(name)) for k in (9, 7))
  expected = jnp.result_type(x, float)
  result, root = edm(x, y), distances(x, y)
  assert result.dtype == root.dtype == expected
  assert f(x).dtype == f(x, method="gram").dtype == expected
  assert (expected == np.float64) == (either_precision and ("int" in name or name == "float64"))
  close(result, oracle.edm(x, y), expected)
  close(root, oracle.distances(x, y), expected)
  if "int" not in name:
    gradient = jax.grad(lambda x: f(x, y).astype(jnp.float32).sum())(x)
    assert gradient.dtype == expected


def test_low_precision_computes_in_float32(rng):
  x = jnp.asarray(rng.normal(size=(20, 64)), jnp.bfloat16)
  close(edm(x), oracle.edm(x), jnp.bfloat16, factor=1)
  products = [e for e in equations(jax.make_jaxpr(edm)(x).jaxpr) if e.primitive.name == "dot_general"]
  assert [v.aval.dtype for e in products for v in (*e.invars, *e.outvars)] == [np.float32] * 3


def test_mixed_dtypes_promote(rng):
  x = jnp.ones((3, 2), jnp.float16)
  assert edm(x, jnp.ones((4, 2), jnp.float32)).dtype == np.float32
  assert edm(x, jnp.ones((4, 2), jnp.bfloat16)).dtype == np.float32
  assert edm(x, jnp.ones((4, 2), jnp.int32)).dtype == np.float16


@pytest.mark.parametrize("method", METHODS)
def test_batches_broadcast(method, rng):
  x = rng.normal(size=(2, 1, 9, 4)).astype(np.float32)
  y = rng.normal(size=(3, 5, 4)).astype(np.float32)
  close(edm(x, y, method=method), oracle.edm(x, y))
  close(edm(x, method=method), oracle.edm(x))
  close(jax.vmap(jax.vmap(edm, (0, None)), (None, 0), 1)(x[:, 0], y), oracle.edm(x, y))
  where = rng.random((2, 1, 9)) > 0.4
  expected = oracle.edm(x, y) * where[..., None]
  close(edm(x, y, where=where, method=method), expected)
  close(edm(x, y, where=where[0, 0], method=method), oracle.edm(x, y) * where[0, 0, :, None])


def test_large_batches_of_small_sets_jitted(rng):
  """96 sets of 32: where a compiler has fused a row sum into a product, wrongly."""
  x, y = (rng.normal(size=(96, 32, 3)).astype(np.float32) for _ in range(2))
  for method in METHODS:
    close(jax.jit(lambda x, y: edm(x, y, method=method))(x, y), oracle.edm(x, y))  # noqa: B023
    close(jax.jit(jax.vmap(lambda x: edm(x, method=method)))(x), oracle.edm(x))  # noqa: B023


MASK_X = np.array([True, False, True, True, False, True, True])
MASK_Y = np.array([False, True, True, True, False])


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
@pytest.mark.parametrize("method", [None, "gram"])
@pytest.mark.parametrize("f", [edm, distances])
def test_missing_points_reach_nothing(f, method, bad, rng):
  """In any mode and order: the same as if they were not there, and zero where they are."""
  x, y, v, w = (1000 + rng.normal(size=(k, 4)).astype(np.float32) for k in (7, 5, 7, 5))
  for a, mask in ((x, MASK_X), (y, MASK_Y), (v, MASK_X), (w, MASK_Y)):
    a[~mask] = bad

  def results(f, masks):
    """``f`` and its derivatives; ``masks`` is empty where the points are all there."""

    def two(x, y):
      return f(x, y, method=method, **masks)

    def one(x):
      return f(x, method=method, **{k: m for k, m in masks.items() if k == "where"})

    def loss(g):
      return lambda *z: jnp.cos(g(*z)).sum()

    def penalty(g):
      return lambda *z: (jax.grad(loss(g))(*z) ** 2).sum()

    @jax.jit
    def all_of_them(x, y, v, w):
      return [
        (two(x, y), jax.jvp(two, (x, y), (v, w))[1]),
        (one(x), jax.jvp(one, (x,), (v,))[1]),
        (jax.grad(loss(two))(x, y), jax.grad(loss(one))(x), jax.jacfwd(loss(one))(x), jax.grad(penalty(one))(x)),
        (jax.grad(loss(two), 1)(x, y), jax.grad(penalty(two), 1)(x, y)),
        (jax.jvp(jax.grad(loss(one)), (x,), (v,))[1], jax.grad(penalty(two))(x, y)),
      ]

    return all_of_them

  arrays, masks = (x, y, v, w), (MASK_X, MASK_Y, MASK_X, MASK_Y)
  padded = results(f, {"where": MASK_X, "where_y": MASK_Y})(*arrays)
  plain = results(f, {})(*(a[mask] for a, mask in zip(arrays, masks, strict=True)))
  axes = [(MASK_X, MASK_Y), (MASK_X, MASK_X), (MASK_X,), (MASK_Y,), (MASK_X,)]
  for index, group, expected_group in zip(axes, padded, plain, strict=True):
    for actual, expected in zip(group, expected_group, strict=True):
      inside = np.zeros(actual.shape, bool)
      inside[np.ix_(*index)] = True
      np.testing.assert_array_equal(np.asarray(actual)[~inside], 0)
      tolerance = 2e-3 * np.max(np.abs(expected))  # the centre differs, at an offset of 1000
      np.testing.assert_allclose(actual[np.ix_(*index)], expected, rtol=0, atol=tolerance)


def test_a_bad_cotangent_of_a_missing_entry_reaches_nothing(rng):
  """A root taken by hand sends infinity back from the zero entries."""
  x = rng.normal(size=(5, 3)).astype(np.float32)
  where = np.array([True, True, True, False, False])
  g = np.where(where[:, None] & where[None], 1, np.inf).astype(np.float32)
  (gradient,) = jax.vjp(lambda x: edm(x, where=where), x)[1](g)
  np.testing.assert_allclose(gradient[:3], oracle.vjp(np.ones((3, 3)), x[:3])[0], rtol=1e-5)
  np.testing.assert_array_equal(gradient[3:], 0)


@pytest.mark.parametrize("f", [edm, distances])
def test_second_order_of_nothing(f):
  for shape in ((0, 3), (2, 0), (0, 0), (0, 9)):
    hessian = jax.hessian(lambda x: f(x).sum())(jnp.ones(shape))
    assert hessian.shape == shape * 2
    np.testing.assert_array_equal(hessian, 0)


def test_a_strict_rank_promotion_is_fine():
  with jax.numpy_rank_promotion("raise"):
    x, where = jnp.ones((2, 4, 9)), jnp.arange(4)[None] < 3
    assert jax.grad(lambda x: distances(x, x[:1], where=where, where_y=where).sum())(x).shape == x.shape


def test_all_points_missing(rng):
  x = np.full((3, 2), np.nan, np.float32)
  none = np.zeros(3, bool)
  huge, y = np.full((3, 2), np.finfo(np.float32).max), np.float32(-1e38) + np.zeros((4, 2), np.float32)
  gradient = jax.grad(lambda y: edm(huge, y, where=none).sum())(y)
  np.testing.assert_array_equal(gradient, 0)
  for f in (edm, distances):
    np.testing.assert_array_equal(f(x, where=none), np.zeros((3, 3)))
    np.testing.assert_array_equal(jax.grad(lambda x: f(x, where=none).sum())(x), np.zeros((3, 2)))  # noqa: B023
