r"""Sums and searches over blocks that travel around a ring of devices.

Each device keeps what is its ``own`` and lends a ``block``: the blocks go from device to device, one neighbour at a
time, until each has been everywhere. Where ``f(source, own, block)`` is what a block adds to its host, and what the
host adds to the block, which carries it along and brings it home,

.. math:: a_i = \sum_s f_1(s, o_i, t_s), \qquad b_s = \sum_i f_2(s, o_i, t_s),

call the map from ``(o, t)`` to ``(a, b)`` a *round*. Rounds are closed under differentiation:

* the tangent of a round is the round of ``(o, do)`` and ``(t, dt)`` with the tangent of f;
* its transpose takes the cotangents ``(ga, gb)`` to the round of ``(o, ga)`` and ``(t, gb)`` with the transpose of that
  tangent: what it adds to a host is the cotangent of ``do``, what it adds to a block that of ``dt``.

JAX by itself would keep all blocks that come by, on every device, for the reverse pass. By these two rules derivatives
of every mode and order are rounds again, and the blocks come by once more.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jax_edm import _errors
from jax_edm._core import derivatives
from jax_edm._core.derivatives import varying_axes as varying
from jax_edm._core.linear import LinearMap, linear

Axis = str | tuple[str, ...]


def total(caller: str, f: Callable[..., Any], axis_name: Axis, own: Any, block: Any) -> Any:
  """``sum_s f(s, own, block of s)``; derivatives with respect to own, block and what f closes over."""
  here = lax.axis_index(axis_name)
  own, block = derivatives.unify_varying_axes((own, block), here)
  closed_over = hoisted(f, here, own, block)[1]
  # They may vary over more axes; then all have to, and f is traced again.
  own, block = derivatives.unify_varying_axes((own, block), here, *closed_over)
  visit, closed_over = hoisted(f, here, own, block)
  if missing := {name for a in closed_over for name in varying(jax.tree.leaves(own)[0]) - varying(a)}:
    names = tuple(sorted(missing))
    raise _errors.error(
      caller,
      "f must not close over what is one and the same on all devices",
      f"a traced value that does not vary over {names}",
      f"Write jax.lax.pcast(value, {names}, to='varying') before f, or make it an operand",
    )
  (own, own_fixed), (block, block_fixed) = _split((own, closed_over)), _split(block)

  def of_moving(source: jax.Array, fixed: Any, own: Any, block: Any) -> tuple[Any, Any]:
    (own, closed_over), block = _merged(own, fixed[0]), _merged(block, fixed[1])
    return visit(closed_over, source, own, block), ()

  out = jax.eval_shape(of_moving, here, (own_fixed, block_fixed), own, block)[0]
  if not jnp.issubdtype(out.dtype, jnp.inexact):  # a number of points, say
    own, block = lax.stop_gradient((own, block))
  return _round(of_moving, axis_name, (own_fixed, block_fixed), own, block)[0]


def hoisted(f: Callable[..., Any], *args: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
  """``g(closed_over, *args)``, which is ``f(*args)`` and closes over nothing that is traced; and ``closed_over``."""
  closed, shape = jax.make_jaxpr(f, return_shape=True)(*args)
  tree, traced = jax.tree.structure(shape), [isinstance(c, jax.core.Tracer) for c in closed.consts]

  def of_closed_over(closed_over: tuple[Any, ...], *args: Any) -> Any:
    given = iter(closed_over)
    consts = [next(given) if t else c for c, t in zip(closed.consts, traced, strict=True)]
    run = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, consts))
    return jax.tree.unflatten(tree, run(*jax.tree.leaves(args)))

  return of_closed_over, tuple(c for c, t in zip(closed.consts, traced, strict=True) if t)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _round(f: Callable[..., Any], axis_name: Axis, fixed: Any, own: Any, block: Any) -> tuple[Any, Any]:
  """``fixed`` are the integers of own and of block: they stay and travel with them, and have no derivative."""

  def visit(source: jax.Array, own: Any, block: Any) -> tuple[Any, Any]:
    return f(source, (own[0], block[0]), own[1], block[1])

  return _visits(visit, axis_name, (fixed[0], own), (fixed[1], block))


@_round.defjvp
def _round_jvp(f: Callable[..., Any], axis_name: Axis, primals: Any, tangents: Any) -> tuple[Any, Any]:
  def tangent(c: Any, t: Any) -> tuple[Any, Any]:
    (fixed, *z), dz = c, t

    def visit(source: jax.Array, fixed: Any, own: Any, block: Any) -> Any:
      return jax.jvp(partial(f, source, fixed), (own[0], block[0]), (own[1], block[1]))[1]

    return _round(visit, axis_name, fixed, *zip(z, dz, strict=True))

  def transpose(c: Any, g: Any) -> tuple[Any, Any]:
    (fixed, *z) = c

    def visit(source: jax.Array, fixed: Any, own: Any, block: Any) -> Any:
      return jax.vjp(partial(f, source, fixed), own[0], block[0])[1]((own[1], block[1]))

    return _round(visit, axis_name, fixed, *zip(z, g, strict=True))

  return _round(f, axis_name, *primals), _linear(tangent, transpose, primals, tangents[1:])


def _visits(f: Callable[..., Any], axis_name: Axis, own: Any, block: Any) -> tuple[Any, Any]:
  here, add = lax.axis_index(axis_name), partial(jax.tree.map, jnp.add)

  def step(state: Any, _: None) -> tuple[Any, None]:
    # The source travels, too: where there are several axes, ppermute and axis_index may number devices differently.
    (source, block, to_block), to_host = to_neighbour(state[0], axis_name), state[1]
    to_host, to_block = add((to_host, to_block), f(source, own, block))
    return ((source, block, to_block), to_host), None

  to_host, to_block = f(here, own, block)
  start = (here, block, to_block), to_host
  ((_, _, to_block), to_host), _ = lax.scan(step, start, length=lax.axis_size(axis_name) - 1)
  return to_host, to_neighbour(to_block, axis_name)


def fold(f: Callable[..., Any], axis_name: Axis, own: Any, block: Any, merge: Callable[..., Any]) -> Any:
  """``merge`` of all ``f(s, own, block of s)``; without derivatives."""
  own, block = derivatives.unify_varying_axes(lax.stop_gradient((own, block)), lax.axis_index(axis_name))
  here = lax.axis_index(axis_name)

  def step(state: Any, _: None) -> tuple[Any, None]:
    (source, block), best = to_neighbour(state[0], axis_name), state[1]
    return ((source, block), merge(best, f(source, own, block))), None

  start = (here, block), f(here, own, block)
  return lax.scan(step, start, length=lax.axis_size(axis_name) - 1)[0][1]


def to_neighbour(tree: Any, axis_name: Axis) -> Any:
  if isinstance(axis_name, tuple):  # in the order of the mesh, which JAX wants; any ring will do
    order = list(jax.sharding.get_abstract_mesh().axis_names)
    axis_name = tuple(sorted(axis_name, key=lambda name: order.index(name) if name in order else 0))
  size = lax.axis_size(axis_name)
  pairs = [(i, (i - 1) % size) for i in range(size)]
  return jax.tree.map(lambda a: lax.ppermute(a, axis_name, pairs), tree)


def _split(tree: Any) -> tuple[Any, Any]:
  """What can have a derivative, and the rest; None in the places of the other."""
  moving = jax.tree.map(lambda a: a if jnp.issubdtype(a.dtype, jnp.inexact) else None, tree)
  return moving, jax.tree.map(lambda a: None if jnp.issubdtype(a.dtype, jnp.inexact) else a, tree)


def _merged(a: Any, b: Any) -> Any:
  return jax.tree.map(lambda p, q: q if p is None else p, a, b, is_leaf=lambda leaf: leaf is None)


def _linear(tangent: Any, transpose: Any, c: Any, t: Any) -> Any:
  """``tangent(c, t)``, linear in ``t``, and its transpose, ``transpose(c, g)``; both of trees."""
  (constants, of_c), (moving, of_t) = jax.tree.flatten(c), jax.tree.flatten(t)
  out_tree = jax.tree.structure(jax.eval_shape(tangent, c, t))

  def flat(function: Any, tree: Any) -> Any:
    k = len(constants)
    return lambda *a: jax.tree.leaves(function(jax.tree.unflatten(of_c, a[:k]), jax.tree.unflatten(tree, a[k:])))

  return jax.tree.unflatten(out_tree, linear(LinearMap.of(flat(tangent, of_t), flat(transpose, out_tree)), constants, moving))
