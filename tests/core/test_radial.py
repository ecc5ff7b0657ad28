"""Functions of the distance: their derivatives at every distance, against mpmath."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import xlogy

from conftest import quick_jit, x64
from functions_of_distance import DIRECTION, FUNCTIONS, LARGEST, ORDERS, RADII, derivatives
from jax_edm import edm, pairwise_sum, radial, safe_root

ROUNDINGS = 100


def all_orders(F):
  """Value, gradient, Hessian and third derivative of ``F(|x|^2)``."""

  def of_point(x):
    return F(jnp.square(x).sum())

  gradient = jax.grad(of_point)
  return lambda x: (of_point(x), gradient(x), jax.jacfwd(gradient)(x), jax.jacfwd(jax.jacfwd(gradient))(x))


def check_radii(name, F, dtype):
  """All derivatives at all radii, to 100 roundings of their largest terms."""
  _, exact, first = FUNCTIONS[name]
  points = np.array([r * DIRECTION for r in RADII if r <= LARGEST.get(name, 1e3)]).astype(dtype)
  found = quick_jit(jax.vmap(all_orders(F)))(points)
  info, checked = np.finfo(dtype), 0
  for i, x in enumerate(points):
    expected, terms, by_square = derivatives(exact, x)
    for order in ORDERS:
      actual = np.asarray(found[order][i], np.float64).ravel()
      if not x.any() and order >= first:  # f has no such derivative: the convention
        assert not actual.any()
      elif not x.any() or by_square[order] < float(info.max):  # else it is no number of this dtype
        atol = ROUNDINGS * float(info.eps) * terms[order] + float(info.tiny) ** 0.6 + (0 if x.any() else 1e-30)
        np.testing.assert_allclose(actual, expected[order], rtol=0, atol=atol, err_msg=f"{x}, order {order}")
        checked += 1
  assert checked > (len(ORDERS) - 1) * len(points)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_up_to_the_third(name, dtype):
  with x64(dtype == np.float64):
    check_radii(name, radial(FUNCTIONS[name][0]), dtype)


def test_the_root_is_radial():
  D = jnp.array([0.0, 1e-24, 1e-6, 1.0, 4.0])
  for F, G in zip(orders_in_D(radial(lambda r: r)), orders_in_D(safe_root), strict=True):
    np.testing.assert_allclose(F(D), G(D), rtol=1e-6)


def orders_in_D(F):
  first = jax.vmap(jax.grad(F))
  return F, first, jax.vmap(jax.grad(jax.grad(F)))


def family(t):
  """Of a scale that f closes over."""
  return radial(lambda r: jnp.exp(-((r / t) ** 2)))


TRANSFORMS = {
  "Hessian": lambda f, x, t: jax.hessian(lambda x, t: f(x, t).sum(), argnums=(0, 1))(x, t),
  "reverse over forward": lambda f, x, t: jax.jacrev(jax.jacfwd(lambda x: f(x, t).sum()))(x),
  "points after the scale": lambda f, x, t: jax.hessian(lambda x: jax.grad(lambda t: f(x, t).sum())(t))(x),
  "scale after points": lambda f, x, t: jax.grad(lambda t: jnp.sin(jax.hessian(lambda x: f(x, t).sum())(x)).sum())(t),
  "vmap over the scale": lambda f, x, t: jax.vmap(jax.grad(lambda t: f(x, t).sum()))(t * jnp.arange(1.0, 4.0)),
}


SIDES = {
  "matrix": lambda x, t: family(t)(edm(x)),
  "sum": lambda x, t: pairwise_sum(lambda D: family(t)(D), x),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("side", SIDES)
def test_transformations(side, name, rng):
  """With a scale that f closes over, and a duplicated point; jitted and not."""
  x = rng.normal(size=(5, 2)).astype(np.float32)
  x[3] = x[1]
  transform = TRANSFORMS[name]
  expected = quick_jit(lambda x, t: transform(lambda x, t: jnp.exp(-edm(x) / t**2), x, t))(x, 1.3)
  for jit in (quick_jit, lambda f: f):
    found = jit(lambda x, t: transform(SIDES[side], x, t))(jnp.asarray(x), 1.3)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
      np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())


FAR_FROM_ZERO = {  # what the derivatives at zero do not show
  "cutoff": (lambda r: jnp.where(r < 1, jnp.exp(-((r / 10) ** 2)), 0.0), (0.5, 1.001, 2.0)),
  "soft sphere": (lambda r: jax.nn.softplus(10 * (1 - r)) ** 2, (0.9, 2.0)),
  "shell": (lambda r: jnp.exp(-((r / 10) ** 2)) + jnp.exp(-10 * (r - 3) ** 2), (1.0, 2.0, 3.0)),
  "a tail": (lambda r: r * r * jnp.exp(-(r**4)), (21.3, 29.75, 60.0)),
  "a long tail": (lambda r: 1 / (1 + (100 * r) ** 4), (1.557, 1.8, 4.0)),
  "a logarithm": (lambda r: jnp.log1p(r**4), (14.0, 337.0, 582.59)),
  "a power with a cutoff": (lambda r: r * r * jnp.maximum(1 - r**4, 0) ** 8, (0.9, 1.001, 14.16)),
  "a small cusp": (lambda r: jnp.exp(-r * r) + 1e-5 * r, (1e-6, 1e-4, 1e-2)),
}


SHORT = ("cutoff", "a tail", "a small cusp")


@pytest.mark.parametrize(
  "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.slow) for name in FAR_FROM_ZERO]
)
def test_what_the_derivatives_at_zero_do_not_show(name):
  """Along the distance the two derivatives of f are those that JAX takes of f itself."""
  f, radii = FAR_FROM_ZERO[name]
  F = radial(f)

  def both(f):
    return jax.vmap(lambda r: (jax.grad(f)(r), jax.grad(jax.grad(f))(r)))

  found = quick_jit(both(lambda r: F(r * r)))(jnp.array(radii))
  expected = quick_jit(both(f))(jnp.array(radii))
  for a, e in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5)


def test_a_cusp_that_comes_with_a_parameter():
  """``exp(-r^2) + t r`` at t = 0: smooth in points, but not its derivative with respect to t."""
  mixed = jax.grad(jax.grad(lambda D, t: radial(lambda r: jnp.exp(-r * r) + t * r)(D)), argnums=1)
  for D in (1e-6, 1e-2, 1.0):
    np.testing.assert_allclose(mixed(D, 0.0), 0.5 / D**0.5, rtol=1e-5)


def test_arguments_broadcast_and_dtypes_stay(rng):
  D = edm(jnp.asarray(rng.normal(size=(3, 2)), jnp.float32))
  F = radial(lambda r, a, k: a * jnp.exp(-k * r * r))
  a, k = jnp.array([[1.0], [2.0], [3.0]]), jnp.arange(3)
  np.testing.assert_allclose(F(D, a, k), a * jnp.exp(-k * D), rtol=1e-6)
  assert radial(jnp.cos)(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16
  assert radial(jnp.cos)(np.arange(3)).dtype == radial(jnp.cos)(2).dtype == jnp.float32
  assert float(radial(lambda r, a: r + a)(np.array(2_500_000_000), np.array(2**40))) == pytest.approx(2**40 + 5e4)
  gradient = jax.grad(lambda w: radial(lambda r: jnp.polyval(w, r * r))(D).sum())(jnp.ones(4))  # w is an array
  np.testing.assert_allclose(gradient, [(D**p).sum() for p in (3, 2, 1, 0)], rtol=1e-5)


def test_what_is_singular_gives_no_nan():
  """Derivatives at coincident points where f, or a derivative of it, has none at zero: zero."""
  x = jnp.array([[0.0, 1.0], [0.0, 1.0], [2.0, 1.0]])
  f = lambda x, a: radial(lambda r: a * xlogy(r * r, r))(edm(x)).sum()  # noqa: E731
  assert all(bool(jnp.isfinite(g).all()) for g in jax.grad(f, argnums=(0, 1))(x, 2.0))
  assert float(jax.grad(radial(lambda r: jnp.exp(-r)))(0.0)) == 0  # and not f''(0) / 2


def test_bad_input():
  refused = {
    r"radial: f must be a function of a distance. Got int. Write radial\(lambda r: jnp.exp\(-r\)\)": lambda: radial(3),
    "f must return one number for each distance.*shape": lambda: radial(lambda r: jnp.ones(3) * r)(1.0),
    "f must return one number for each distance.*missing 1": lambda: radial(lambda r, a: r)(1.0),
    "f must be written with jax.numpy": lambda: radial(lambda r: float(r))(1.0),
    "D must be a JAX or NumPy array. Got list": lambda: radial(jnp.cos)([1.0]),
    r"args\[0\] must hold real numbers": lambda: radial(lambda r, a: r)(1.0, jnp.array(1j)),
  }
  for message, call in refused.items():
    with pytest.raises(TypeError, match=message):
      call()
