"""Values, shapes, dtypes, batches, masks."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from conftest import quick_jit
from jax_edm import distances, edm, nearest, pairwise_sum
from jax_edm._core.distance import mirrored

METHODS = (None, "difference", "gram")
EPS = float(np.finfo(np.float32).eps)


def close(actual, expected, dtype=np.float32, scale=None, factor=8):
  """Equal to within a small multiple of eps, relative to the largest squared distance."""
  expected = np.asarray(expected)
  scale = np.max(np.abs(expected), initial=0) if scale is None else scale
  error = factor * float(jnp.finfo(dtype).eps) * scale
  np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=0, atol=error)


def assert_values(results, x, y):
  squared, roots = oracle.edm(x, y), oracle.distances(x, y)
  for of_two, of_one, root in results:
    close(of_two, squared, x.dtype)
    close(of_one, oracle.edm(x), x.dtype)
    # The error of r is that of D divided by 2 r.
    np.testing.assert_allclose(root, roots, atol=4 * np.finfo(x.dtype).eps * np.max(squared) / np.min(roots))
    assert {a.dtype for a in (of_two, of_one, root)} == {x.dtype}


def values(x, y):
  return [one_method(x, y, method) for method in METHODS]


def one_method(x, y, method=None):
  return edm(x, y, method=method), edm(x, method=method), distances(x, y, method=method)


@pytest.mark.parametrize(("n", "m", "d"), [(5, 4, 3), (37, 53, 6), (37, 53, 7), (16, 17, 1), (96, 33, 128), (1, 7, 2)])
def test_values(n, m, d, rng):
  x, y = (rng.normal(size=(k, d)).astype(np.float32) for k in (n, m))
  assert_values(jax.jit(values)(x, y), x, y)


@pytest.mark.parametrize(("n", "m", "d"), [(5, 4, 3), (37, 53, 3), (37, 53, 7)])
@pytest.mark.usefixtures("double_precision")
def test_values_in_float64(n, m, d, rng):
  x, y = (rng.normal(size=(k, d)) for k in (n, m))
  assert_values(jax.jit(values)(x, y), x, y)


def test_values_without_jit(rng):
  x, y = (rng.normal(size=(k, 7)).astype(np.float32) for k in (37, 53))
  assert_values([one_method(x, y)], x, y)


@pytest.mark.parametrize(("n", "d"), [(1, 3), (12, 10), (16, 40), (31, 3), (257, 1), (257, 40)])
def test_one_set_is_symmetric_with_a_zero_diagonal_to_the_last_bit(n, d, rng):
  @jax.jit
  def matrices(x):
    batch = jnp.stack([x, 2 * x, x])
    alone = [edm(x, method=method) for method in METHODS]
    mapped = [jax.vmap(lambda x: edm(x, method=method))(batch)[1] for method in METHODS]  # noqa: B023
    return [*alone, *mapped, distances(x)]

  for matrix in matrices((100 + rng.normal(size=(n, d))).astype(np.float32)):
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(jnp.diagonal(matrix), 0)
    assert matrix.min() >= 0


def test_products_are_mirrored_where_the_hardware_promises_no_symmetry():
  skew = jnp.arange(9.0).reshape(3, 3)
  np.testing.assert_array_equal(mirrored(skew), [[0, 3, 6], [3, 4, 7], [6, 7, 8]])
  lowered = jax.jit(lambda x: edm(x, method="gram")).trace(jnp.ones((40, 9))).lower
  assert "transpose" not in lowered(lowering_platforms=("cpu",)).as_text().split("dot_general")[-1]
  for platform in ("tpu", "cuda", "rocm"):
    assert "transpose" in lowered(lowering_platforms=(platform,)).as_text().split("dot_general")[-1]


@pytest.mark.parametrize(("n", "m", "d"), [(0, 0, 0), (0, 4, 3), (4, 0, 3), (4, 5, 0), (1, 1, 1), (0, 40, 20)])
def test_empty_and_single(n, m, d):
  def of_each(f, method):
    def total(x, y):
      return f(x, y, method=method, where=jnp.ones(n, bool)).sum()

    of_one = jax.grad(lambda x: f(x, method=method).sum())
    return lambda x, y: (f(x, y, method=method), f(x, method=method), jax.grad(total, (0, 1))(x, y), of_one(x))

  x, y = jnp.ones((n, d)), jnp.zeros((m, d))
  all_of_them = [of_each(f, method) for f in (edm, distances) for method in METHODS]
  for k, (of_two, of_one, gradients, gradient) in enumerate(quick_jit(lambda *z: [f(*z) for f in all_of_them])(x, y)):
    np.testing.assert_allclose(of_two, np.full((n, m), d if k < 3 else d**0.5), rtol=1e-6)
    np.testing.assert_array_equal(of_one, np.zeros((n, n)))
    assert [g.shape for g in gradients] == [x.shape, y.shape]
    assert gradient.shape == x.shape
  assert edm(x, y).shape == distances(x, y).shape == (n, m)


def test_second_order_of_nothing():
  points = [jnp.ones(shape) for shape in ((0, 3), (2, 0), (0, 0), (0, 9))]
  for f in (edm, distances):
    hessians = jax.jit(lambda points: [jax.hessian(lambda x: f(x).sum())(x) for x in points])(points)  # noqa: B023
    for x, hessian in zip(points, hessians, strict=True):
      assert hessian.shape == x.shape * 2
      np.testing.assert_array_equal(hessian, 0)


TYPES = ["float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "int8", "uint8", "int32", "int64"]


def test_dtypes(either_precision, rng):
  """The result has the dtype of the points, or the default floating type for integers; the gradient, too."""
  points = {name: [rng.integers(0, 4, size=(k, 3)).astype(jnp.dtype(name)) for k in (9, 7)] for name in TYPES}

  def of_each(name, x, y):
    results = {"edm": edm(x, y), "distances": distances(x, y), "one": edm(x), "gram": distances(x, method="gram")}
    if "int" not in name:
      results["gradient"] = jax.grad(lambda x: sum(f(x, y).astype(jnp.float32).sum() for f in (edm, distances)))(x)
    return results

  compiled = quick_jit(lambda points: {name: of_each(name, *z) for name, z in points.items()})
  for name, results in compiled(points).items():
    x, y = points[name]
    expected = jnp.result_type(x, float)
    assert {a.dtype for a in results.values()} == {expected}, name
    assert (expected == np.float64) == (either_precision and ("int" in name or name == "float64"))
    close(results["edm"], oracle.edm(x, y), expected)
    close(results["distances"], oracle.distances(x, y), expected)


def test_low_precision_computes_in_float32(rng):
  x = jnp.asarray(rng.normal(size=(20, 64)), jnp.bfloat16)
  close(edm(x), oracle.edm(x), jnp.bfloat16, factor=1)
  products = re.findall(r"stablehlo\.dot_general.*", jax.jit(edm).lower(x).as_text())
  assert len(products) == 1
  assert re.findall(r"x([a-z]+\d+)>", products[0]) == ["f32"] * 3


def test_mixed_dtypes_promote():
  x = jnp.ones((3, 2), jnp.float16)
  assert edm(x, jnp.ones((4, 2), jnp.float32)).dtype == np.float32
  assert edm(x, jnp.ones((4, 2), jnp.bfloat16)).dtype == np.float32
  assert edm(x, jnp.ones((4, 2), jnp.int32)).dtype == np.float16


@pytest.mark.parametrize("n", [9, 19])
def test_batches_broadcast(n, rng):
  x = rng.normal(size=(2, 1, n, 4)).astype(np.float32)
  y = rng.normal(size=(3, 5, 4)).astype(np.float32)
  where = rng.random((2, 1, n)) > 0.4

  @quick_jit
  def matrices(x, y, where):
    of_each = [
      (edm(x, y, method=m), edm(x, method=m), edm(x, y, where=where, method=m), edm(x, y, where=where[0, 0], method=m))
      for m in METHODS
    ]
    return of_each, jax.vmap(jax.vmap(edm, (0, None)), (None, 0), 1)(x[:, 0], y)

  of_each, mapped = matrices(x, y, where)
  expected = oracle.edm(x, y)
  for of_two, of_one, masked, masked_alike in of_each:
    close(of_two, expected)
    close(of_one, oracle.edm(x))
    close(masked, expected * where[..., None])
    close(masked_alike, expected * where[0, 0, :, None])
  close(mapped, expected)


MASK_X = np.array([True, False, True, True, False, True, True])
MASK_Y = np.array([False, True, True, True, False])


@pytest.mark.parametrize(("f", "method", "copies"), [(edm, "gram", 1), (distances, None, 4)])
def test_missing_points_reach_nothing(f, method, copies, rng):
  """In any mode and order: the same as if they were not there, and zero where they are."""
  mask_x, mask_y = np.tile(MASK_X, copies), np.tile(MASK_Y, copies)
  masks = (mask_x, mask_y, mask_x, mask_y)
  arrays = [1000 + rng.normal(size=(mask.size, 4)).astype(np.float32) for mask in masks]

  def results(f, masks):
    """``f`` and its derivatives; ``masks`` is empty where the points are all there."""

    def two(x, y):
      return f(x, y, method=method, **masks)

    def one(x):
      return f(x, method=method, **{k: m for k, m in masks.items() if k == "where"})

    def loss(g):
      return lambda *z: jnp.cos(g(*z)).sum()

    def penalty(g):
      return lambda *z: sum((bar**2).sum() for bar in jax.grad(loss(g), tuple(range(len(z))))(*z))

    @quick_jit
    def all_of_them(x, y, v, w):
      of_x, of_y = zip(jax.grad(loss(two), (0, 1))(x, y), jax.grad(penalty(two), (0, 1))(x, y), strict=True)
      return [
        (two(x, y), jax.jvp(two, (x, y), (v, w))[1]),
        (one(x), jax.jvp(one, (x,), (v,))[1]),
        (*of_x, jax.grad(loss(one))(x), jax.jacfwd(loss(one))(x), jax.grad(penalty(one))(x)),
        of_y,
        (jax.jvp(jax.grad(loss(one)), (x,), (v,))[1],),
      ]

    return all_of_them

  plain = results(f, {})(*(a[mask] for a, mask in zip(arrays, masks, strict=True)))
  of_padded = results(f, {"where": mask_x, "where_y": mask_y})
  axes = [(mask_x, mask_y), (mask_x, mask_x), (mask_x,), (mask_y,), (mask_x,)]
  for bad in (np.nan, -np.inf):
    padded = of_padded(*(np.where(mask[:, None], a, bad) for a, mask in zip(arrays, masks, strict=True)))
    for index, group, expected_group in zip(axes, padded, plain, strict=True):
      for actual, expected in zip(group, expected_group, strict=True):
        inside = np.zeros(actual.shape, bool)
        inside[np.ix_(*index)] = True
        np.testing.assert_array_equal(np.asarray(actual)[~inside], 0)
        tolerance = 2e-3 * np.max(np.abs(expected))  # the centre differs, at an offset of 1000
        np.testing.assert_allclose(actual[np.ix_(*index)], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("n", [5, 20])
def test_a_bad_cotangent_of_a_missing_entry_reaches_nothing(n, rng):
  """A root taken by hand sends infinity back from the zero entries."""
  x = rng.normal(size=(n, 3)).astype(np.float32)
  where = np.arange(n) < n - 2
  g = np.where(where[:, None] & where[None], 1, np.inf).astype(np.float32)
  (gradient,) = jax.jit(lambda x, g: jax.vjp(lambda x: edm(x, where=where), x)[1](g))(x, g)
  expected = oracle.vjp(np.ones((n - 2, n - 2)), x[:-2])[0]
  np.testing.assert_allclose(gradient[:-2], expected, atol=16 * EPS * np.abs(expected).max())
  np.testing.assert_array_equal(gradient[-2:], 0)


def test_a_strict_rank_promotion_is_fine():
  with jax.numpy_rank_promotion("raise"):
    x, where = jnp.ones((2, 4, 9)), jnp.arange(4)[None] < 3
    assert jax.grad(lambda x: distances(x, x[:1], where=where, where_y=where).sum())(x).shape == x.shape


def test_all_points_missing():
  x = np.full((3, 2), np.nan, np.float32)
  none = np.zeros(3, bool)
  huge, y = np.full((3, 2), np.finfo(np.float32).max), np.float32(-1e38) + np.zeros((4, 2), np.float32)

  @jax.jit
  def results(x, y):
    of_each = [(f(x, where=none), jax.grad(lambda x: f(x, where=none).sum())(x)) for f in (edm, distances)]  # noqa: B023
    return of_each, jax.grad(lambda y: edm(huge, y, where=none).sum())(y)

  of_each, gradient = results(x, y)
  np.testing.assert_array_equal(gradient, 0)
  for matrix, bar in of_each:
    np.testing.assert_array_equal(matrix, np.zeros((3, 3)))
    np.testing.assert_array_equal(bar, np.zeros((3, 2)))


def test_without_compiling(rng):
  """Under ``jax.disable_jit``, in both modes."""
  x = rng.normal(size=(6, 20)).astype(np.float32)
  with jax.disable_jit():
    D, gradient = edm(x), jax.grad(lambda x: distances(x).sum())(x)
    tangent = jax.jvp(lambda x: edm(x, method="gram"), (x,), (x,))[1]
  np.testing.assert_allclose(D, oracle.edm(x), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(tangent, 2 * oracle.edm(x), rtol=1e-5, atol=1e-4)
  np.testing.assert_allclose(gradient, jax.jit(jax.grad(lambda x: distances(x).sum()))(x), atol=1e-5)


def test_integers_of_64_bits_keep_their_digits():
  """Time stamps, say: without 64-bit types JAX takes such an array for one of 32 bits."""
  x = np.array([[0], [3_000_000_000], [10]])
  expected = oracle.edm(x.astype(float))
  for a in (x, x.astype(np.uint64)):
    np.testing.assert_allclose(edm(a), expected, rtol=1e-6)
    np.testing.assert_allclose(distances(a, a[:2]), np.sqrt(expected[:, :2]), rtol=1e-6)
    np.testing.assert_array_equal(nearest(a).indices[[0, 2], 0], [2, 0])
    np.testing.assert_allclose(pairwise_sum(lambda D: D, a), expected.sum(1), rtol=1e-6)
