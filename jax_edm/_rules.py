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

Three functions follow, each with its tangent, each tangent a linear map with its transpose from this table: ``_edm``,
``bilinear`` and ``adjoint``. Derivatives of every order, in every mode, run these three kernels and nothing else.

The reverse rule is a ``jax.custom_vjp``. JAX refuses forward mode to such a function, and never asks the tangent of a
``jax.custom_jvp`` for a transpose other than its own; ``linear`` is the bridge between the two.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jax_edm import _kernels
from jax_edm._kernels import Form, Points


def edm(form: Form, z: Points) -> jax.Array:
  """``D`` of ``z``, ``(x,)`` or ``(x, y)``, in every mode."""
  if any(0 in p.shape for p in z):  # nothing to differentiate
    return z[0].sum(1)[:, None] + z[-1].sum(1)[None, :]
  return _edm(form, of_one_type(z))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _reverse_edm(form: Form, z: Points) -> jax.Array:
  """D with the hand-derived reverse rule, ``G -> 2 P(G; X,Y)``, in reverse mode only."""
  return _kernels.squared(z, form)


def _reverse_edm_fwd(form: Form, z: Points) -> tuple[jax.Array, Points]:
  return _kernels.squared(z, form), z


def _reverse_edm_bwd(form: Form, z: Points, g: jax.Array) -> tuple[Points]:
  return (tuple(2 * p for p in adjoint(form, g, z)),)


_reverse_edm.defvjp(_reverse_edm_fwd, _reverse_edm_bwd)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _edm(form: Form, z: Points) -> jax.Array:
  """D with forward mode as well.

  The kernel, not ``_reverse_edm``: up to JAX 0.10, the reverse mode of ``lax.scan`` drops the rule of a custom_jvp
  from the values that it keeps, and forward mode on top of it must find something that has one.
  """
  return _kernels.squared(z, form)


@partial(_edm.defjvp, symbolic_zeros=True)
def _edm_jvp(form: Form, primals: tuple[Points], tangents: tuple[Any]) -> tuple[jax.Array, jax.Array]:
  (z,), (dz,) = primals, tangents
  tangent = linear(
    lambda z, dz: 2 * bilinear(form, z, dz),  # dD = 2 B(X,Y; dX,dY)
    lambda z, g: jax.vjp(partial(_reverse_edm, form), z)[1](g)[0],  # G -> 2 P(G; X,Y)
    z,
    _instantiated(dz, z),
  )
  return _edm(form, z), tangent


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def bilinear(form: Form, z: Points, w: Points) -> jax.Array:
  """``B(z; w)``, for one set or two."""
  return _kernels.bilinear(z, w, form)


@partial(bilinear.defjvp, symbolic_zeros=True)
def _bilinear_jvp(form: Form, primals: tuple[Points, Points], tangents: Any) -> tuple[jax.Array, Any]:
  (z, w), (dz, dw) = primals, tangents

  def along(z: Points, t: Any) -> jax.Array:  # dB = B(dz; w) + B(z; dw), and B is symmetric
    return linear(partial(bilinear, form), lambda z, g: adjoint(form, g, z), z, t)

  terms = [along(a, _instantiated(t, a)) for a, t in ((w, dz), (z, dw)) if not _is_zero(t)]
  return bilinear(form, z, w), sum(terms[1:], start=terms[0])


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def adjoint(form: Form, g: jax.Array, z: Points) -> Points:
  """``P(g; z)``, for one set or two."""
  return _kernels.adjoint(g, z, form)


@partial(adjoint.defjvp, symbolic_zeros=True)
def _adjoint_jvp(form: Form, primals: tuple[jax.Array, Points], tangents: Any) -> tuple[Points, Any]:
  (g, z), (dg, dz) = primals, tangents
  terms = []
  if not _is_zero(dg):  # P(dG; z), with transpose w -> B(z; w)
    terms.append(linear(lambda z, dg: adjoint(form, dg, z), partial(bilinear, form), z, dg))
  if not _is_zero(dz):  # P(G; dz), its own transpose
    terms.append(linear(partial(adjoint, form), partial(adjoint, form), g, _instantiated(dz, z)))
  return adjoint(form, g, z), jax.tree.map(lambda *parts: sum(parts[1:], start=parts[0]), *terms)


def linear(f: Callable[..., Any], transpose: Callable[..., Any], c: Any, t: Any) -> Any:
  """``f(c, t)``, linear in ``t``; reverse mode runs ``transpose(c, g)``, and JAX never transposes ``f`` by itself."""

  @jax.custom_jvp
  def apply(c: Any, t: Any) -> Any:
    return _solved(f, transpose, c, t)

  @partial(apply.defjvp, symbolic_zeros=True)
  def apply_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    return apply(*primals), _tangent(f, primals, tangents)

  return apply(c, t)


def _solved(f: Callable[..., Any], transpose: Callable[..., Any], c: Any, t: Any) -> Any:
  r"""``f(c, t)`` as the solution of a linear system.

  Public JAX has one function that takes a linear map and its transpose from the user, ``lax.custom_linear_solve``.
  The unit-triangular system ``M (w0, w1) = (w0, w1 - f(w0))`` with the right-hand side ``(t, 0)`` has the solution
  ``(t, f(t))``, and its transpose ``M' (v0, v1) = (v0 - f'(v1), v1)`` with ``(0, g)`` has ``(f'(g), g)``. Given M,
  JAX would derive M' for the second order; given the symmetric system ``[[0, M'], [M, 0]]`` it need not. The half of
  it that a mode does not read is dead code, and XLA removes it.
  """
  t = _tied(t, t)
  zero = jax.tree.map(lambda a: _tied(jnp.zeros(a.shape, a.dtype), t), jax.eval_shape(f, c, t))
  add, subtract = partial(jax.tree.map, jnp.add), partial(jax.tree.map, jnp.subtract)

  def matvec(w_and_v: Any) -> Any:
    (w0, w1), (v0, v1) = w_and_v
    return (subtract(v0, transpose(c, v1)), _touched(v1, c)), (_touched(w0, c), subtract(w1, f(c, w0)))

  def solve(_: Any, b: Any) -> Any:
    (b0, b1), (c0, c1) = b
    return (c0, add(c1, f(c, c0))), (add(b0, transpose(c, b1)), b1)

  solution = lax.custom_linear_solve(matvec, ((t, zero), (t, zero)), solve, symmetric=True)
  return _tied(solution[0][1], solution)


def of_one_type(tree: Any, *more: jax.Array) -> Any:
  """Under shard_map: all leaves vary over the axes over which any of them does, or ``more``.

  The sets may vary over different axes of the mesh. JAX sums a cotangent over those over which its set did not.
  """
  sums = [jnp.sum(leaf).astype(jnp.float32) for leaf in [*jax.tree.leaves(tree), *more]]
  if len(sums) == 1:
    return tree
  anchor = lax.stop_gradient(sum(sums[1:], start=sums[0]))
  # XLA removes the anchor, since the condition is a literal.
  return jax.tree.map(lambda a: jnp.where(False, anchor.astype(a.dtype), a), tree)


# JAX transposes a linear solve only if no leaf of its right-hand side is a constant, and no leaf of what comes back.
# Two functions that change no value keep it so: XLA removes what they add, since the condition is a literal.


def _tied(tree: Any, t: Any) -> Any:
  """``tree``, made to depend on every leaf of ``t``, linearly."""
  total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(t))
  return jax.tree.map(lambda a: a + jnp.where(False, _like(a, total), jnp.zeros((), a.dtype)), tree)


def _touched(tree: Any, c: Any) -> Any:
  """``tree``, made to depend on every leaf of ``c``, and still linear in ``tree``."""
  total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(c))
  return jax.tree.map(lambda a: a + jnp.where(False, _like(a, total) * a, jnp.zeros_like(a)), tree)


def _like(a: jax.Array, total: Any) -> jax.Array:
  """Of the dtype of ``a``: leaves may differ."""
  real = jnp.iscomplexobj(total) and not jnp.iscomplexobj(a)
  return jnp.asarray(total.real if real else total).astype(a.dtype)


def _tangent(f: Callable[..., Any], primals: Any, tangents: Any) -> Any:
  """The tangent of ``f``, with nothing computed for the arguments that do not move."""
  leaves, tree = jax.tree.flatten(primals)
  moving = {i: dx for i, dx in enumerate(jax.tree.leaves(tangents)) if not isinstance(dx, SymbolicZero)}

  def f_of_moving(moved: dict[int, jax.Array]) -> Any:
    return f(*jax.tree.unflatten(tree, [moved.get(i, leaf) for i, leaf in enumerate(leaves)]))

  return jax.jvp(f_of_moving, ({i: leaves[i] for i in moving},), (moving,))[1]


def _is_zero(t: Any) -> bool:
  return all(isinstance(leaf, SymbolicZero) for leaf in jax.tree.leaves(t))


def _instantiated(t: Any, primal: Any) -> Any:
  return jax.tree.map(lambda dp, p: jnp.zeros_like(p) if isinstance(dp, SymbolicZero) else dp, t, primal)


def safe_root(squared: jax.Array) -> jax.Array:
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
  zero = squared == 0
  # Selected before the root, and not only after it: inf * 0, masked afterwards, is NaN.
  return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squared)))
