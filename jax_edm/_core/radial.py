r"""Functions of the distance, as functions of the squared distance, with the right derivatives where points coincide.

Write ``F(D) = f(r)``, ``r = sqrt(D)``. Each derivative with respect to D is ``L = (1 / 2r) d/dr`` of the one before. So
the chain rule divides again and again by r. What it divides is as small as r, but its rounding error is not: the k-th
derivative loses digits as ``eps / r^(2k-1)``, and at zero there is none.

Near zero the division is done by hand. ``L r^i = (i/2) r^(i-2)``, so in the Taylor polynomial of f at zero, of degree
2k-1, the even powers vanish after k steps, and the remainder is an integral that divides by nothing:

.. math::
    L^k f(r) = \sum_{i\ \mathrm{odd}}^{2k-1} \frac{f^{(i)}(0)}{i!} \frac i2 \Bigl(\frac i2 - 1\Bigr) \cdots
      \Bigl(\frac i2 - k + 1\Bigr)\, r^{i-2k}
    + \frac{1}{2^{2k-1} (k-1)!} \int_0^1 (1 - p^2)^{k-1} f^{(2k)}(p r)\, dp.

The sum is the cusp of f: its terms are singular, and zero for an f that is even up to that order. The integral is a
Gauss quadrature with a few nodes. Each of its terms is a derivative of f that JAX takes, of the size of the result, and
it converges as fast as the Taylor series, without the high derivatives of that. The two ways meet at a fraction of the
length on which f changes, ``|f^(2k)(0) / f^(2k+1)(0)|`` or ``|f^(2k)(0) / f^(2k+2)(0)|^(1/2)``. Where there is no such
length, as for a power, the continuation is taken at any r at which it is the chain rule but for the loss of that.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce
from math import factorial, prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jax_edm import _errors
from jax_edm._core.batching import dtypes, map_batch, with_all_digits
from jax_edm._core.derivatives import safe_root
from jax_edm._core.function import PairFunction
from jax_edm._typing import ArrayLike

# By the size of a number in bytes: nodes of the quadrature, and how far it reaches, as a fraction of the length of f.
NODES = {4: 4, 8: 6}
REACH = {4: 0.5, 8: 0.3}
# To the power of 1, 2, 3, times eps: the first, third, fifth derivative at zero is a rounding error if it is smaller,
# beside the even ones around it. Each derivative that JAX takes adds to that.
NOISE = 8
LOSS = 32  # times eps: what the chain rule may lose, where it is not worse than it must be

Constants = tuple[jax.Array, ...]  # what f closes over, and its arguments beside the distance
OfDistance = Callable[[jax.Array], jax.Array]


def radial(f: Callable[..., Any]) -> Callable[..., jax.Array]:
  r"""A function of the *distance* as a function of the squared distance, with the right derivatives at zero.

  .. math:: F(D) = f(\sqrt D)

  Written as ``f(safe_root(D))``, a smooth kernel has the derivative of its root at coincident points, zero: its Hessian
  is zero there, or has the wrong sign. Close to zero its derivatives lose digits. ``radial(f)`` has those of F at every
  distance. :func:`jax_edm.safe_root` is ``radial(lambda r: r)``, and :func:`jax_edm.matern` is faster for its kernels.

  Args:
    f: ``f(r, *args)``, a function of one distance and of other numbers, written with ``jax.numpy``, that returns one
      number; it is traced once, on scalars. It has derivatives of forward mode. It may close over anything.

  Returns:
    A function ``F(D, *args)`` of squared distances of any shape, and of arrays that broadcast with them. It returns
    their common shape in the dtype of D; integers become the default floating type, and float16 and bfloat16 compute in
    float32. It can be f in :func:`jax_edm.pairwise_sum` and the like.

  Raises:
    TypeError: f is no function of numbers that returns one number; D or args do not hold real numbers.

  Derivatives: all modes, all orders, with respect to D, args and what f closes over. At zero they are those of F up to
  the order to which f is even there (for ``exp(-r**2)`` any; for the Matern kernel of 3/2 the second, with respect to
  points), and zero beyond it, where f has a cusp or no derivative, as for :func:`jax_edm.distances`. If f closes over
  an array that is more than a number, take derivatives with respect to points before those with respect to that array.

  Accuracy: below 100 eps of their largest terms, at every distance, in value and derivatives with respect to points up
  to the third, if f itself and the derivatives that JAX takes of it are as accurate. (Those of ``jnp.sinc`` are not:
  near zero they lose all digits.) The sum of a narrow and a wide function loses digits beyond the narrow one, as the
  square of the ratio of their widths. A cusp of f counts if it is more than rounding, 8 eps beside the curvature of f.
  ``tests/core/test_radial.py`` holds it, and ``docs/numerics.md`` shows it.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jax_edm import radial
    >>> kernel = radial(lambda r: (1 + r) * jnp.exp(-r))
    >>> x = jnp.array([1.0, 2.0])
    >>> hessian = jax.hessian(lambda y: kernel(jnp.sum((x - y) ** 2)))(x)
    >>> hessian.diagonal()
    Array([-1., -1.], dtype=float32)
  """
  _errors.function("radial", "f", f)

  def of_squared(D: ArrayLike, *args: ArrayLike) -> jax.Array:
    for name, a in zip(("D", *(f"args[{k}]" for k in range(len(args)))), (D, *args), strict=True):
      _errors.numbers_of_pairs("radial", name, a)
    result, compute = dtypes(D)
    arrays = [jnp.asarray(with_all_digits(D)).astype(compute), *map(_errors.as_array, args)]
    return map_batch(partial(_of_one, f), arrays, [0] * len(arrays), "()").astype(result)

  return of_squared


def _of_one(f: Callable[..., Any], D: jax.Array, *args: jax.Array) -> jax.Array:
  """Of one squared distance."""
  function, closed_over = PairFunction.trace("radial", f, [jax.typeof(a) for a in (D, *args)])
  return _derivative(_Function(function, len(closed_over)), 0, D, (*closed_over, *args))


@dataclass(frozen=True)
class _Function:
  """f as a function of the distance and constants, or its derivative with respect to some constants, each a number."""

  f: PairFunction
  closed_over: int  # the number of constants that f closes over; the others are its arguments
  constants: tuple[int, ...] = ()

  def __call__(self, constants: Constants, r: jax.Array) -> jax.Array:
    if not self.constants:
      closed_over, args = constants[: self.closed_over], constants[self.closed_over :]
      return self.f(closed_over, r, args).astype(r.dtype)
    *others, last = self.constants
    own = constants[last]
    lower = partial(replace(self, constants=tuple(others)), r=r)
    return jax.jvp(lambda c: lower(_replaced(constants, last, c)), (own,), (jnp.ones_like(own),))[1]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _derivative(f: _Function, k: int, D: jax.Array, constants: Constants) -> jax.Array:
  """The k-th derivative of ``f(sqrt(D))`` with respect to D."""
  of_r = partial(f, constants)
  if k == 0:
    return of_r(safe_root(D))
  itself = partial(replace(f, constants=()), lax.stop_gradient(constants))
  case = _case(itself, k, lax.stop_gradient(D))
  near = case.at_zero | case.near & _agree(itself, k, case)
  if f.constants:  # it may have a cusp where f happens to have none
    case = case._replace(cusps=[case.near] * k)
  return jnp.where(near, _continued(of_r, k, case), _by_the_chain_rule(of_r, k, case.far))


def _tangent(f: _Function, k: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
  (D, constants), (dD, moved) = primals, tangents
  terms = [] if isinstance(dD, SymbolicZero) else [_derivative(f, k + 1, D, constants) * dD]
  for i, dc in enumerate(moved):
    if not isinstance(dc, SymbolicZero):
      terms.append(_along_constant(f, k, D, constants, i, dc))
  return _derivative(f, k, D, constants), sum(terms[1:], start=terms[0])


def _along_constant(f: _Function, k: int, D: jax.Array, constants: Constants, i: int, dc: jax.Array) -> jax.Array:
  """The derivative with respect to one of the constants, which are not many if they are numbers."""
  if dc.ndim == 0:
    return _derivative(replace(f, constants=(*f.constants, i)), k, D, constants) * dc
  return jax.jvp(lambda c: _derivative.fun(f, k, D, _replaced(constants, i, c)), constants[i : i + 1], (dc,))[1]


_derivative.defjvp(_tangent, symbolic_zeros=True)


def _replaced(constants: Constants, i: int, c: jax.Array) -> Constants:
  return (*constants[:i], c, *constants[i + 1 :])


class Case(NamedTuple):
  """How ``f(sqrt(D))`` is differentiated k times at one D. Seen on f itself: the rest is linear in its directions."""

  near: jax.Array  # within the reach of the continuation: anywhere for a power, if the two ways agree
  r: jax.Array  # the distance where it is near, and another one where it is not
  far: jax.Array  # the distance for the chain rule, which is not zero
  zero: jax.Array  # zero, unless f is singular there
  at_zero: jax.Array
  cusps: list[jax.Array]  # whether f has one, by odd order
  smooth: jax.Array  # there is a k-th derivative at zero
  loss: jax.Array  # of the chain rule, which divides by r again and again


def _case(of_r: OfDistance, k: int, D: jax.Array) -> Case:
  r, zero = safe_root(D), lax.full_like(D, 0)
  at_zero = D == 0
  a = [jnp.abs(v) for v in _derivatives(of_r, 2 * k + 2, zero)]
  eps = float(jnp.finfo(D.dtype).eps)
  finite = reduce(jnp.logical_and, map(jnp.isfinite, a[: 2 * k + 1]))
  cusps = [a[i] > NOISE ** ((i + 1) // 2) * eps * jnp.sqrt(a[i - 1]) * jnp.sqrt(a[i + 1]) for i in range(1, 2 * k, 2)]
  length = _length(a, k, cusps)
  near = at_zero | (finite & (r < k * REACH[D.dtype.itemsize] * length))
  far = jnp.where(at_zero, 1, r)
  # Of the terms of f'. Where there is no length, of what the chain rule divides.
  at_far = [jnp.abs(v) for v in _derivatives(of_r, k, far)]
  of_taylor = sum(a[i] * length ** (i - 1) for i in range(1, 2 * k + 1))
  size = jnp.where(length < jnp.inf, of_taylor, sum(at_far[i] * far ** (i - 1) for i in range(1, k + 1)))
  return Case(
    near=near,
    r=jnp.where(finite, jnp.where(near, r, 0), 1),
    far=far,
    zero=jnp.where(finite, zero, 1),
    at_zero=at_zero,
    cusps=cusps,
    smooth=finite & ~reduce(jnp.logical_or, cusps),
    loss=LOSS * eps * size / far ** (2 * k - 1),
  )


def _length(a: list[jax.Array], k: int, cusps: list[jax.Array]) -> jax.Array:
  """On which f changes, from its derivatives at zero; infinity if these do not tell."""
  lengths = [jnp.minimum(_ratio(a[i], a[i + 1]), jnp.sqrt(_ratio(a[i], a[i + 2]))) for i in range(2, 2 * k + 1)]
  # Of a polynomial the last ones are zero; then lower ones tell it, those of even order and of cusps.
  lower = [
    length if i % 2 == 0 else jnp.where(cusps[i // 2], length, jnp.inf) for i, length in enumerate(lengths[:-1], 2)
  ]
  return jnp.where(lengths[-1] < jnp.inf, lengths[-1], reduce(jnp.minimum, lower, lengths[-1]))


def _agree(of_r: OfDistance, k: int, case: Case) -> jax.Array:
  """The continuation is what the chain rule gives, but for its loss: f has nothing, such as a cutoff, in between."""
  return jnp.abs(_continued(of_r, k, case) - _by_the_chain_rule(of_r, k, case.far)) <= case.loss


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
  """``a / b``, and infinity where one of the two is zero."""
  return jnp.where((a == 0) | (b == 0), jnp.inf, a / jnp.where(b == 0, 1, b))


def _continued(of_r: OfDistance, k: int, case: Case) -> jax.Array:
  """The formula of the module."""
  points, weights = np.polynomial.legendre.leggauss(NODES[case.r.dtype.itemsize] + 2 * (k - 1))
  points, weights = (points + 1) / 2, weights / 2
  weights = weights * (1 - points**2) ** (k - 1) / (2 ** (2 * k - 1) * factorial(k - 1))
  integral = sum(
    float(w) * _derivatives(of_r, 2 * k, float(p) * case.r)[2 * k] for p, w in zip(points, weights, strict=True)
  )
  inverse = 1 / jnp.where(case.at_zero, 1, case.r)
  singular = []
  for i, value in list(enumerate(_derivatives(of_r, 2 * k - 1, case.zero)))[1::2]:
    factor = prod(i / 2 - j for j in range(k)) / factorial(i)
    term = factor * value * jnp.minimum(inverse ** (2 * k - i), float(jnp.finfo(inverse.dtype).max))
    singular.append(jnp.where(case.cusps[i // 2], term, 0))
  return jnp.where(case.at_zero, jnp.where(case.smooth, integral, 0), sum(singular, start=integral))


def _by_the_chain_rule(f: OfDistance, k: int, r: jax.Array) -> jax.Array:
  """``L^k f(r)``."""
  return f(r) if k == 0 else _derivatives(partial(_by_the_chain_rule, f, k - 1), 1, r)[1] / (2 * r)


def _derivatives(f: OfDistance, k: int, r: jax.Array) -> list[jax.Array]:
  """``f(r), f'(r), ...`` up to the k-th derivative."""
  if k == 0:
    return [f(r)]
  values, tangents = jax.jvp(lambda r: _derivatives(f, k - 1, r), (r,), (jnp.ones_like(r),))
  return [*values, tangents[-1]]
