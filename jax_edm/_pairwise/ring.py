r"""Sums and searches over blocks that travel around a ring of devices.

Each device keeps what is ``local``, and a block ``travels``: the blocks go from device to device, one neighbour at a
time, until each has been everywhere. Where ``f(owner, local, travelling)`` is the pair of what a block adds to the sum
of the device on which it is, and to the sum that travels with it and ends on its owner,

.. math:: a_i = \sum_s f_1(s, l_i, t_s), \qquad b_s = \sum_i f_2(s, l_i, t_s),

call the map from ``(l, t)`` to ``(a, b)`` a *round*. Rounds are closed under differentiation:

* the tangent of a round is the round of ``(l, dl)`` and ``(t, dt)`` with the tangent of f;
* its transpose takes the cotangents ``(ga, gb)`` to the round of ``(l, ga)`` and ``(t, gb)`` with the transpose of that
  tangent: what it adds to the local sum is the cotangent of ``dl``, what it adds to the travelling sum that of ``dt``.

JAX by itself would keep all blocks that visit, on every device, for the reverse pass. By these two rules derivatives
of every mode and order are rounds again, and the blocks visit once more.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jax_edm import _errors
from jax_edm._core.derivatives import unify_varying_axes, varying_axes
from jax_edm._core.linear import linear_of_trees
from jax_edm._typing import AxisName

Visit = Callable[[jax.Array, Any, Any], Any]  # of the owner of a block, what is local, and what travels


def total(caller: str, f: Visit, axis_name: AxisName, local: Any, travelling: Any) -> Any:
  """``sum_s f(s, local, travelling of s)``; derivatives with respect to both, and to what f closes over."""
  here = lax.axis_index(axis_name)
  local, travelling = unify_varying_axes((local, travelling), here)
  closed_over = _closure_convert(f, here, local, travelling)[1]
  # They may vary over more axes; then all have to, and f is traced again.
  local, travelling = unify_varying_axes((local, travelling), here, *closed_over)
  converted, closed_over = _closure_convert(f, here, local, travelling)
  _check_closed_over(caller, closed_over, local)
  (local, local_constants), (travelling, constants) = _split((local, closed_over)), _split(travelling)

  def visit(owner: jax.Array, constants: Any, local: Any, travelling: Any) -> tuple[Any, Any]:
    local, closed_over = _merged(local, constants[0])
    return converted(closed_over, owner, local, _merged(travelling, constants[1])), ()

  constants = local_constants, constants
  out = jax.eval_shape(visit, here, constants, local, travelling)[0]
  if not jnp.issubdtype(out.dtype, jnp.inexact):  # for example a count
    local, travelling = lax.stop_gradient((local, travelling))
  return _round(visit, axis_name, constants, local, travelling)[0]


def _closure_convert(f: Callable[..., Any], *args: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
  """``g(closed_over, *args)``, which is ``f(*args)`` and closes over nothing that is traced; and ``closed_over``."""
  closed, shape = jax.make_jaxpr(f, return_shape=True)(*args)
  tree, traced = jax.tree.structure(shape), [isinstance(c, jax.core.Tracer) for c in closed.consts]

  def of_closed_over(closed_over: tuple[Any, ...], *args: Any) -> Any:
    values = iter(closed_over)
    consts = [next(values) if t else c for c, t in zip(closed.consts, traced, strict=True)]
    run = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, consts))
    return jax.tree.unflatten(tree, run(*jax.tree.leaves(args)))

  return of_closed_over, tuple(c for c, t in zip(closed.consts, traced, strict=True) if t)


def _check_closed_over(caller: str, closed_over: tuple[Any, ...], local: Any) -> None:
  varying = varying_axes(jax.tree.leaves(local)[0])
  if missing := {name for a in closed_over for name in varying - varying_axes(a)}:
    names = tuple(sorted(missing))
    raise _errors.error(
      caller,
      "f must not close over what is one and the same on all devices of a shard_map",
      f"a traced value that does not vary over {names}",
      f"Write jax.lax.pcast(value, {names}, to='varying') before f, or pass it in args=",
    )


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _round(f: Callable[..., Any], axis_name: AxisName, constants: Any, local: Any, travelling: Any) -> tuple[Any, Any]:
  """``constants`` are the integers among what is local and what travels: they go with them, and have no derivative."""

  def visit(owner: jax.Array, local: Any, travelling: Any) -> tuple[Any, Any]:
    return f(owner, (local[0], travelling[0]), local[1], travelling[1])

  return _visits(visit, axis_name, (constants[0], local), (constants[1], travelling))


@_round.defjvp
def _round_jvp(f: Callable[..., Any], axis_name: AxisName, primals: Any, tangents: Any) -> tuple[Any, Any]:
  def tangent(primals: Any, moved: Any) -> tuple[Any, Any]:
    (constants, *z), dz = primals, moved

    def visit(owner: jax.Array, constants: Any, local: Any, travelling: Any) -> Any:
      return jax.jvp(partial(f, owner, constants), (local[0], travelling[0]), (local[1], travelling[1]))[1]

    return _round(visit, axis_name, constants, *zip(z, dz, strict=True))

  def transpose(primals: Any, g: Any) -> tuple[Any, Any]:
    (constants, *z) = primals

    def visit(owner: jax.Array, constants: Any, local: Any, travelling: Any) -> Any:
      return jax.vjp(partial(f, owner, constants), local[0], travelling[0])[1]((local[1], travelling[1]))

    return _round(visit, axis_name, constants, *zip(z, g, strict=True))

  return _round(f, axis_name, *primals), linear_of_trees(tangent, transpose, primals, tangents[1:])


def _visits(f: Visit, axis_name: AxisName, local: Any, travelling: Any, merge: Any = None) -> tuple[Any, Any]:
  """What all visits add to the local sum, and to the travelling sums, which end on their owners.

  ``merge`` joins what is local, in place of a sum.
  """
  here, add = lax.axis_index(axis_name), partial(jax.tree.map, jnp.add)

  def step(state: Any, _: None) -> tuple[Any, None]:
    # The owner travels, too: where there are several axes, ppermute and axis_index may number devices differently.
    (owner, travelling, travelling_sum), local_sum = to_neighbour(state[0], axis_name), state[1]
    more, travelling_more = f(owner, local, travelling)
    return ((owner, travelling, add(travelling_sum, travelling_more)), (merge or add)(local_sum, more)), None

  local_sum, travelling_sum = f(here, local, travelling)
  start = (here, travelling, travelling_sum), local_sum
  ((_, _, travelling_sum), local_sum), _ = lax.scan(step, start, length=lax.axis_size(axis_name) - 1)
  return local_sum, to_neighbour(travelling_sum, axis_name)


def fold(f: Visit, axis_name: AxisName, local: Any, travelling: Any, merge: Callable[..., Any]) -> Any:
  """``merge`` of all ``f(s, local, travelling of s)``; without derivatives."""
  local, travelling = unify_varying_axes(lax.stop_gradient((local, travelling)), lax.axis_index(axis_name))
  return _visits(lambda *visit: (f(*visit), ()), axis_name, local, travelling, merge)[0]


def to_neighbour(tree: Any, axis_name: AxisName) -> Any:
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
