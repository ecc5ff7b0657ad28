"""Points that coincide: at distance zero exactly, in any dimension, and without a part in any derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import oracle
from conftest import quick_jit
from jax_edm import distances, edm, edm_jvp, edm_vjp
from jax_edm._core import distance
from jax_edm._core.distance import Form

EPS = float(np.finfo(np.float32).eps)
METHODS = (None, "difference", "gram")
PRODUCTS = Form("gram", "gram")


def cloud(rng, n, d, offset=0.0):
  return (rng.normal(size=(n, d)) + offset).astype(np.float32)


def of_each_method(f):
  """``f(method, *arrays)`` of all ``METHODS``, in one program."""
  return quick_jit(lambda *arrays: [f(method, *arrays) for method in METHODS])


@pytest.mark.parametrize("d", [2, 20, 128, 768])
def test_coincident_points_are_at_distance_zero(d, rng):
  """Within one set and across two, for any d and any method, at an offset too; and no other points are."""
  base = cloud(rng, 40, d, 5)
  x, y = base[rng.integers(0, 40, 90)], base
  results = of_each_method(lambda method, x, y: (distances(x, y, method=method), distances(x, method=method)))
  for of_two, of_one in results(x, y):
    np.testing.assert_array_equal(np.asarray(of_two) == 0, oracle.edm(x, y) == 0)
    np.testing.assert_array_equal(np.asarray(of_one) == 0, oracle.edm(x) == 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [4096, 16384])
@pytest.mark.usefixtures("double_precision")
def test_many_equal_coordinates(d, dtype):
  """The rounding errors of their squares and of their products differ by more than any fixed bound."""
  values = np.repeat(np.array([0.3, -0.7, 0.1, 0.0], dtype), 5)
  x = np.broadcast_to(values[:, None], (20, d))
  y = x[3:17]  # the centre is one of three points of y: that of others is a sum of many equal terms
  of_one, of_two = jax.jit(lambda x, y: (edm(x, method="gram"), edm(x, y, method="gram")))(x, y)
  np.testing.assert_array_equal(np.asarray(of_one) == 0, values[:, None] == values)
  np.testing.assert_array_equal(np.asarray(of_two) == 0, values[:, None] == values[3:17])


def test_zero_has_no_sign(rng):
  """Of a point and, after centring, of a difference."""
  x = cloud(rng, 20, 8)
  x[:, ::2] = 0
  y = np.where(x == 0, np.float32(-0.0), x)
  assert np.signbit(y[:, ::2]).all()
  g = np.where(np.eye(20, dtype=bool), np.float32(np.inf), 0)
  results = jax.jit(lambda x, y: (edm(x, y, method="gram"), edm_vjp(x, g, y)))
  for shift in (0, 3, 10, 19):  # of the points among which the centre is
    matrix, bars = results(np.roll(x, shift, 0), np.roll(y, shift, 0))
    np.testing.assert_array_equal(jnp.diagonal(matrix), 0)
    for bar in bars:
      np.testing.assert_array_equal(bar, 0)


LATTICES = {
  "small integers": lambda rng, d: rng.integers(-2, 3, size=(3000, d)),
  "bits": lambda rng, d: rng.integers(0, 2, size=(3000, d)),
  "signs": lambda rng, d: 2 * rng.integers(0, 2, size=(3000, d)) - 1,
  "powers of two": lambda rng, d: np.exp2(rng.integers(-20, 20, size=(3000, d))),
  "multiples of a power of two": lambda rng, d: np.exp2(15) * rng.integers(-8, 8, size=(3000, d)),
  "one coordinate": lambda rng, d: np.arange(3000)[:, None] * np.eye(d)[rng.integers(0, d, 3000)],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [8, 20])
@pytest.mark.usefixtures("double_precision")
def test_keys_are_equal_where_rows_are_and_nowhere_else(d, dtype, rng):
  """On lattices, where most bits of the coordinates are zero: 4.5 million pairs of each."""

  @jax.jit
  def coincident(x):
    z = distance.prepared(PRODUCTS, (x,))
    return distance._coincident(z), distance._different(PRODUCTS, z)

  for name, lattice in LATTICES.items():
    x = lattice(rng, d).astype(dtype)
    x[100:200] = x[500:600]
    _, group = np.unique(x, axis=0, return_inverse=True)
    same, different = coincident(x)
    expected = group.reshape(-1, 1) == group.reshape(1, -1)
    np.testing.assert_array_equal(same, expected, err_msg=name)
    np.testing.assert_array_equal(different, ~expected, err_msg=name)


@pytest.mark.parametrize("name", LATTICES)
def test_every_bit_of_a_key_depends_on_the_point(name, rng):
  """Each is set for about half of the points, and none is a function of the bits below it."""
  x = np.unique(LATTICES[name](rng, 20).astype(np.float32), axis=0)
  side = quick_jit(lambda x: distance.prepared(PRODUCTS, (x,))[0])(x)
  bits = np.stack([np.asarray(key)[:, None] >> np.arange(32, dtype=np.uint32) & 1 for key in side.keys], 1)
  frequency = bits.reshape(len(x), 64).mean(0)
  np.testing.assert_allclose(frequency, 0.5, atol=6 * 0.5 / len(x) ** 0.5)


STEEP = {
  "1 / (D + 1e-6)": (
    lambda D: 1 / (D + 1e-6),
    lambda D: -1 / (D + 1e-6) ** 2,
    lambda D: 2 / (D + 1e-6) ** 3,
  ),
  "sqrt(D + 1e-12)": (
    lambda D: jnp.sqrt(D + 1e-12),
    lambda D: 0.5 / np.sqrt(D + 1e-12),
    lambda D: -0.25 / (D + 1e-12) ** 1.5,
  ),
}


@pytest.mark.parametrize(("n", "d"), [(12, 3), (20, 3), (20, 20), (100, 20)])
def test_losses_that_are_steep_at_zero(n, d, rng):
  """Their derivatives at zero are up to 1e18, of which no rounding error of a distance may be multiplied."""
  x, v = cloud(rng, n, d), cloud(rng, n, d)
  x[7], x[n - 1] = x[2], x[4]
  together = v.copy()  # points that coincide, and move together
  together[7], together[n - 1] = v[2], v[4]
  squared = oracle.edm(x)

  def gradient_and_hvps(f, x, *tangents):
    gradient = jax.grad(lambda x: f(x).sum())
    return gradient(x), *(jax.jvp(gradient, (x,), (w,))[1] for w in tangents)

  @of_each_method
  def results(method, *arrays):
    return {
      name: gradient_and_hvps(lambda x, loss=loss: loss(edm(x, method=method)), *arrays)
      for name, (loss, _, _) in STEEP.items()
    }

  for of_method in results(x, v, together):
    for name, (gradient, *hvps) in of_method.items():
      _, first, second = STEEP[name]
      expected = oracle.vjp(first(squared), x)[0]
      np.testing.assert_allclose(gradient, expected, atol=1e-4 * np.abs(expected).max(), err_msg=name)
      for hvp, w in zip(hvps, (v, together), strict=True):
        expected = oracle.vjp(first(squared), w)[0] + oracle.vjp(second(squared) * oracle.jvp(x, x, w, w), x)[0]
        np.testing.assert_allclose(hvp, expected, atol=1e-3 * np.abs(expected).max(), err_msg=name)


@pytest.mark.parametrize(("n", "d"), [(12, 3), (40, 20), (100, 3), (100, 20)])
def test_a_pair_that_coincides_contributes_nothing(n, d, rng):
  """Its entry of the cotangent does not matter, to the last bit, in one set and in two; nor do its points' tangents."""
  x, y, v, g = cloud(rng, n, d), cloud(rng, n, d), cloud(rng, n, d), cloud(rng, n, n)
  x[7] = y[7] = x[2]

  def pull(method, g):
    return [jax.vjp(lambda *z: edm(*z, method=method), *z)[1](g) for z in ((x,), (x, y))]

  vjps = quick_jit(lambda g: [edm_vjp(x, g), edm_vjp(x, g, y), *(pull(method, g) for method in METHODS)])
  g[2, 7] = 0
  rest = vjps(g)
  for value in (1e10, np.inf, np.nan):
    g[2, 7] = value
    jax.tree.map(np.testing.assert_array_equal, vjps(g), rest)
  of_one, of_two = quick_jit(lambda v, w: (edm_jvp(x, v), edm_jvp(x, v, y, w)))(v, 1e10 * v[::-1])
  for tangent in (of_one, of_two):
    assert tangent[2, 7] == 0
    assert np.count_nonzero(tangent[3]) >= n - 1
  assert of_one[7, 2] == 0


@pytest.mark.parametrize(("n", "d", "method"), [(10, 2, None), (20, 20, "gram"), (20, 3, None), (20, 20, "difference")])
def test_derivatives_of_distances_at_coincident_points(n, d, method, rng):
  """First derivative zero, second finite, in every mode; the other pairs do not notice."""
  base = cloud(rng, n - 4, d)
  x = jnp.asarray(np.concatenate([base, base[:3], base[:1]]))
  v = jnp.asarray(cloud(rng, n, d))
  same = oracle.edm(x) == 0

  def r(x):
    return distances(x, method=method)

  def loss(x):
    return (r(x) ** 2).sum() + r(x).sum()

  def scanned(x):
    return lax.scan(lambda total, x: (total + loss(x), None), 0.0, x[None])[0]

  @quick_jit
  def results(x, v):
    return {
      "vjp": jax.vjp(r, x)[1](jnp.ones(same.shape, jnp.float32)),
      "vjp of these": jax.vjp(r, x)[1](jnp.asarray(same, jnp.float32)),
      "jvp": jax.jvp(r, (x,), (v,))[1],
      "jvp of jvp": jax.jvp(lambda x: jax.jvp(r, (x,), (v,))[1], (x,), (v,))[1],
      "hvp": jax.jvp(jax.grad(loss), (x,), (v,))[1],
      "hvp of a scan": jax.jvp(jax.grad(scanned), (x,), (v,))[1],
      "grad of jvp": jax.grad(lambda x: jax.jvp(loss, (x,), (v,))[1])(x),
      "grad of grad": jax.grad(lambda x: (jax.grad(loss)(x) * v).sum())(x),
    }

  found = {name: np.asarray(a) for name, (a,) in ((k, jax.tree.leaves(a)) for k, a in results(x, v).items())}
  with np.errstate(divide="ignore"):
    inverse = np.where(same, 0, 1 / oracle.distances(x))
  np.testing.assert_array_equal(found["vjp of these"], 0)
  np.testing.assert_allclose(found["vjp"], oracle.vjp(inverse / 2, x)[0], atol=1e-3 if method == "gram" else 2e-5)
  for name in ("jvp", "jvp of jvp"):
    np.testing.assert_array_equal(found[name][same], 0, err_msg=name)
  tangent = oracle.jvp(x, x, v, v)
  expected = oracle.vjp(~same + inverse / 2, v)[0] + oracle.vjp(-(inverse**3) / 4 * tangent, x)[0]
  for name in ("hvp", "grad of jvp", "grad of grad", "hvp of a scan"):
    np.testing.assert_allclose(found[name], expected, atol=2e-3 * np.max(np.abs(expected)), err_msg=name)


def test_a_distance_that_rounding_made_zero_has_no_derivative(rng):
  """Points that differ by less than a product can tell: whatever the cotangent is there, infinity included."""
  x = cloud(rng, 20, 64)
  x[7] = x[2] * np.float32(1 + 1e-5)

  @quick_jit
  def results(x):
    r, back = jax.vjp(lambda x: distances(x, method="gram"), x)
    return r, back(jnp.where(r == 0, jnp.inf, 1))[0], back(jnp.where(r == 0, 0, jnp.ones_like(r)))[0]

  r, with_infinity, without = results(x)
  assert r[2, 7] == 0
  assert oracle.distances(x)[2, 7] > 0
  np.testing.assert_array_equal(with_infinity, without)


@pytest.mark.parametrize("method", [None, "difference", "gram"])
def test_points_that_move_together_under_an_infinite_cotangent(method):
  """The second derivatives of losses that have none at zero: nothing is left of such a pair, in sets of any size."""
  z = np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]], np.float32)
  for loss in (lambda x: jnp.sqrt(edm(x, method=method)).sum(), lambda x: (1 / edm(x, method=method)).sum()):
    gradient = jax.grad(loss)

    def both(x, gradient=gradient):
      over = jax.jvp(gradient, (x,), (jnp.ones_like(x),))[1]
      return over, jax.grad(lambda x: gradient(x).sum())(x)

    for hvp in quick_jit(both)(z):
      np.testing.assert_allclose(hvp, 0, atol=1e-6)


def test_the_largest_numbers(rng):
  """Equal points are at distance zero, and the differences of others overflow, without NaN."""
  x = np.zeros((5, 9), np.float32)
  x[:, 0] = [3e38, -3e38, 3e38, -3e38, 3e38]
  for method in ("gram", "difference"):
    np.testing.assert_array_equal(edm(x, method=method), np.where(x[:, None, 0] == x[None, :, 0], 0, np.inf))
  gradient = quick_jit(jax.grad(lambda x: jnp.exp(-edm(x, method="gram")).sum()))(x)
  np.testing.assert_array_equal(gradient, 0)
