r"""How JAX differentiates an EDM.

Rows are points: ``X`` is n x d, ``Y`` is m x d, and ``D_ij = |x_i - y_j|^2``. Write

.. math::
    B(X,Y; U,V)_{ij} &= \langle x_i - y_j,\; u_i - v_j \rangle && (n \times m) \\
    P(G; X,Y) &= (\operatorname{diag}(G1)X - GY,\;\; \operatorname{diag}(G'1)Y - G'X) && (n \times d,\; m \times d)

B is bilinear and symmetric in its two pairs, and ``D = B(X,Y; X,Y)``, so the tangent of D is

.. math:: dD = 2 B(X,Y; dX,dY).

P is the adjoint of B. With a cotangent G,

.. math::
    \langle G, B(X,Y; U,V) \rangle
      &= \sum_{ij} G_{ij} \langle x_i - y_j, u_i - v_j \rangle \\
      &= \sum_i \langle u_i, \textstyle\sum_j G_{ij} (x_i - y_j) \rangle
       + \sum_j \langle v_j, \textstyle\sum_i G_{ij} (y_j - x_i) \rangle
       = \langle P(G; X,Y), (U,V) \rangle,

so the cotangent of ``(X, Y)`` is ``2 P(G; X,Y)``. Where the two sets are one, Y = X, both parts fall on X:

.. math:: \bar X = 2\,(\operatorname{diag}(G1 + G'1) - G - G')\,X.

The 2 is that of ``d|v|^2 = 2<v, dv>``, and it stands alone: a 4 appears only if G is symmetric and written once.

Second order needs nothing new. B and P are bilinear, and their partial maps are adjoint to each other:

====================================  ==========================  =======================
linear map                            transpose                   used for
====================================  ==========================  =======================
``(U,V) -> B(X,Y; U,V)``              ``G -> P(G; X,Y)``          tangents of D and B
``G     -> P(G; X,Y)``                ``(U,V) -> B(X,Y; U,V)``    tangents of P, in G
``(X,Y) -> P(G; X,Y)``                itself                      tangents of P, in X, Y
====================================  ==========================  =======================

Each row of the table is a ``LinearMap`` below, with its transpose, and with its derivative in what it holds constant:
B is symmetric and P is bilinear, so that is another row. D is a map of constants alone; its tangent is the first row.
Derivatives of every order, in every mode, run the three array functions of ``distance`` and nothing else; JAX never
transposes one of them by itself.

The reverse rule of D is a ``jax.custom_vjp``. JAX refuses forward mode to such a function, and derives the transpose of
the tangent of a ``jax.custom_jvp`` by itself; ``linear`` is the bridge between the two.
"""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm._core import distance
from jax_edm._core.batching import with_all_digits
from jax_edm._core.distance import Form, Points, Side, Sides
from jax_edm._core.linear import Arrays, LinearMap, Tangents, linear
from jax_edm._core.operations import column, row, take, where
from jax_edm._core.varying import unify_varying_axes
from jax_edm._typing import ArrayLike


def edm(form: Form, z: Points) -> jax.Array:
  """``D`` of ``z``, ``(x,)`` or ``(x, y)``, in every mode."""
  return edm_of_sides(form, distance.prepared(form, z))


def edm_of_sides(form: Form, z: Sides) -> jax.Array:
  """The same of sides that are ``distance.prepared``, together; or of some rows of each."""
  if any(0 in side.x.shape for side in z):  # nothing to differentiate
    return z[0].x.sum(1)[:, None] + z[-1].x.sum(1)[None, :]
  return linear(_edm(form, len(z)), jax.tree.leaves(unify_varying_axes(z)))[0]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def reverse_edm(form: Form, z: Sides) -> jax.Array:
  """D with the hand-derived reverse rule, ``G -> 2 P(G; X,Y)``, in reverse mode only."""
  return distance.squared(form, z)


def _reverse_edm_bwd(form: Form, z: Sides, g: jax.Array) -> tuple[Any]:
  """2 (diag(G1 + G'1) - G - G') X for one set. The 2 goes to G, where it fuses."""
  return (tuple(map(Side, distance.adjoint(form, 2 * g, z))),)


reverse_edm.defvjp(lambda form, z: (distance.squared(form, z), z), _reverse_edm_bwd)


# Constants are the leaves of the sides, or a cotangent; arguments are points, or a cotangent.


@cache
def _edm(form: Form, sets: int) -> LinearMap:
  """D, any function of its constants."""

  def tangent(z: Arrays, _: Arrays, dz: Tangents) -> Arrays:
    return linear(_bilinear(form, sets, 2), z, _moved(sets, z, dz))

  return LinearMap(lambda *z: [distance.squared(form, _sides(sets, z))], tangent, like=partial(_like_squared, sets))


@cache
def _bilinear(form: Form, sets: int, scale: int) -> LinearMap:
  """``(U,V) -> scale B(X,Y; U,V)``. With 2 it is the tangent of D; then its transpose is the reverse rule."""

  def apply(*arrays: jax.Array) -> Arrays:
    return [scale * distance.bilinear(form, _sides(sets, arrays[:-sets]), arrays[-sets:])]

  def in_constants(z: Arrays, w: Arrays, dz: Tangents) -> Arrays:
    return [scale * b for b in linear(_bilinear(form, sets, 1), _leaves(form, w), _moved(sets, z, dz))]

  def like(*arrays: jax.Array) -> Arrays:
    return _like_squared(sets, *arrays[:-sets])

  return LinearMap(apply, in_constants, lambda: _adjoint(form, sets, scale), like)


@cache
def _adjoint(form: Form, sets: int, scale: int) -> LinearMap:
  """``G -> scale P(G; X,Y)``, with 2 as ``reverse_edm`` has it; with 1, X and Y are tangents."""

  def apply(*arrays: jax.Array) -> Arrays:
    *z, g = arrays
    if scale == 1:
      return distance.adjoint(form, g, _sides(sets, z), tangents=True)
    return _points(jax.vjp(partial(reverse_edm, form), _sides(sets, z))[1](g)[0])

  def in_constants(z: Arrays, g: Arrays, dz: Tangents) -> Arrays:
    return linear(_adjoint_in_points(form), [scale * g[0]], _moved(sets, z, dz))

  def like(*arrays: jax.Array) -> Arrays:
    return _points(_sides(sets, arrays[:-1]))

  return LinearMap(apply, in_constants, lambda: _bilinear(form, sets, scale), like)


@cache
def _adjoint_in_points(form: Form) -> LinearMap:
  """``(X,Y) -> P(G; X,Y)``, its own transpose."""

  def apply(g: jax.Array, *z: jax.Array) -> Arrays:
    return distance.adjoint(form, g, distance.prepared(form, z), tangents=True)

  def in_constants(g: Arrays, z: Arrays, dg: Tangents) -> Arrays:
    return linear(_adjoint(form, len(z), 1), _leaves(form, z), _zeros_for_none(g, dg))

  return LinearMap(apply, in_constants, lambda: _adjoint_in_points(form), lambda g, *z: z)


def _sides(sets: int, leaves: Sequence[Any]) -> Sides:
  """The sides of which these are the leaves: of one or of two, points alone or with what belongs to them."""

  def side(x: Any, centred: Any = None, squares: Any = None, *keys: Any) -> Side:
    return Side(x, centred, squares, (keys[0], keys[1]) if keys else None)

  each = len(leaves) // sets
  return tuple(side(*leaves[k * each : (k + 1) * each]) for k in range(sets))


def _leaves(form: Form, tangents: Arrays) -> Arrays:
  return jax.tree.leaves(distance.prepared(form, tuple(tangents)))


def _points(z: Sides) -> list[jax.Array]:
  return [side.x for side in z]


def _moved(sets: int, z: Arrays, dz: Tangents) -> list[jax.Array]:
  """The tangents of the points; squares and keys have none of their own."""
  return _zeros_for_none(_points(_sides(sets, z)), _points(_sides(sets, dz)))


def _zeros_for_none(arrays: Arrays, tangents: Tangents) -> list[jax.Array]:
  return [lax.full_like(a, 0) if t is None else t for a, t in zip(arrays, tangents, strict=True)]


def _like_squared(sets: int, *leaves: jax.Array) -> Arrays:
  z = _sides(sets, leaves)
  shape = z[0].x.shape[0], z[-1].x.shape[0]
  return [column(take(z[0].x, 0, 1), shape) + row(take(z[-1].x, 0, 1), shape)]


def root(squared: jax.Array) -> jax.Array:
  """``safe_root`` of a matrix, with derivatives made of the root alone: nothing keeps the squares for them.

  ``safe_root`` itself consists of plain operations, because f of a pair goes into kernels.
  """
  return linear(_ROOT, [squared])[0]


def _root_tangent(squared: Arrays, _: Arrays, tangents: Tangents) -> Arrays:
  r = root(squared[0])
  zero = r == 0
  # Selected last: a cotangent may be infinite where the root is zero.
  return [where(zero, 0, t * (0.5 / where(zero, 1, r))) for t in tangents if t is not None]


_ROOT = LinearMap(lambda squared: [lax.sqrt(squared)], _root_tangent)


def safe_root(squared: ArrayLike) -> jax.Array:
  """The root, with zero for its derivatives, of every order, where it is zero.

  What :func:`jax_edm.distances` is of :func:`jax_edm.edm`, for functions of squared distances.

  Args:
    squared: any shape, of a floating type; NaN where it is negative.

  Returns:
    ``sqrt(squared)``, of the same shape and dtype.

  Derivatives: all modes, all orders; those of the root, and **zero** at zero, where ``jnp.sqrt`` gives NaN or infinity.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jax_edm import pairwise_sum, safe_root
    >>> x = jnp.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]])
    >>> jax.grad(lambda x: pairwise_sum(safe_root, x)[0])(x)
    Array([[-1.2, -1.6],
           [ 0.6,  0.8],
           [ 0.6,  0.8]], dtype=float32)
  """
  values = jnp.asarray(with_all_digits(squared))
  zero = values == 0
  # Selected before the root, and not only after it: inf * 0, masked afterwards, is NaN.
  return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, values)))
