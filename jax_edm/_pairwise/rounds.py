r"""Sums over pairs of parts, whose derivatives are sums over the same pairs.

The points of the rows, and what belongs to them, are ``local``; those of the columns ``travelling``. Both are in parts,
and some pairs of parts are visited. Where ``f(s, l, t)`` is the pair of what a visit adds to the local sum and to the
travelling sum,

.. math:: a_i = \sum_s f_1(s, l_i, t_s), \qquad b_s = \sum_i f_2(s, l_i, t_s),

call the map from ``(l, t)`` to ``(a, b)`` a *round*. Rounds are closed under differentiation:

* the tangent of a round is the round of ``(l, dl)`` and ``(t, dt)`` with the tangent of f;
* its transpose takes the cotangents ``(ga, gb)`` to the round of ``(l, ga)`` and ``(t, gb)`` with the transpose of that
  tangent: what it adds to the local sum is the cotangent of ``dl``, what it adds to the travelling sum that of ``dt``.

Who visits whom is the matter of ``visits``: blocks around a ring of devices (``ring``), or tiles of points that are
near each other (``near``). JAX by itself would keep what each visit sees for the reverse pass, or cannot differentiate
the loop at all. By these two rules derivatives of every mode and order are rounds again.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jax_edm._core.linear import linear_of_trees

Visit = Callable[[Any, Any, Any], Any]  # of the place, what is local, and what travels


class Visits(Protocol):
  """Makes the visits of a round: adds up what ``f(place, local, travelling)`` returns, for both."""

  def __call__(self, f: Visit, guide: Any, local: Any, travelling: Any) -> tuple[Any, Any]:
    """``guide`` tells who visits whom; it has no derivative."""
    ...


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def of_visits(
  visits: Visits, f: Callable[..., Any], guide: Any, constants: Any, local: Any, travelling: Any
) -> tuple[Any, Any]:
  """A round of ``f(place, constants, local, travelling)``.

  ``constants`` are the integers among what is local and what travels: they go with them, and have no derivative.
  """

  def visit(place: Any, local: Any, travelling: Any) -> tuple[Any, Any]:
    return f(place, (local[0], travelling[0]), local[1], travelling[1])

  return visits(visit, guide, (constants[0], local), (constants[1], travelling))


@of_visits.defjvp
def _of_visits_jvp(visits: Visits, f: Callable[..., Any], primals: Any, tangents: Any) -> tuple[Any, Any]:
  def tangent(primals: Any, moved: Any) -> tuple[Any, Any]:
    (guide, constants, *z), dz = primals, moved

    def visit(place: Any, constants: Any, local: Any, travelling: Any) -> Any:
      return jax.jvp(partial(f, place, constants), (local[0], travelling[0]), (local[1], travelling[1]))[1]

    return of_visits(visits, visit, guide, constants, *zip(z, dz, strict=True))

  def transpose(primals: Any, g: Any) -> tuple[Any, Any]:
    (guide, constants, *z) = primals

    def visit(place: Any, constants: Any, local: Any, travelling: Any) -> Any:
      return jax.vjp(partial(f, place, constants), local[0], travelling[0])[1]((local[1], travelling[1]))

    return of_visits(visits, visit, guide, constants, *zip(z, g, strict=True))

  out = of_visits(visits, f, *primals)
  return out, linear_of_trees(tangent, transpose, primals, tangents[2:], like=out)


def closure_convert(f: Callable[..., Any], *args: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
  """``g(closed_over, *args)``, which is ``f(*args)`` and closes over nothing that is traced; and ``closed_over``."""
  closed, shape = jax.make_jaxpr(f, return_shape=True)(*args)
  tree, traced = jax.tree.structure(shape), [isinstance(c, jax.core.Tracer) for c in closed.consts]

  def of_closed_over(closed_over: tuple[Any, ...], *args: Any) -> Any:
    values = iter(closed_over)
    consts = [next(values) if t else c for c, t in zip(closed.consts, traced, strict=True)]
    run = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, consts))
    return jax.tree.unflatten(tree, run(*jax.tree.leaves(args)))

  # A copy has the type of a value of the device, inside a shard_map too, and so have its zero tangents.
  return of_closed_over, tuple(jnp.copy(c) for c, t in zip(closed.consts, traced, strict=True) if t)


def split(tree: Any) -> tuple[Any, Any]:
  """What can have a derivative, and the rest; None in the places of the other."""
  moving = jax.tree.map(lambda a: a if jnp.issubdtype(a.dtype, jnp.inexact) else None, tree)
  return moving, jax.tree.map(lambda a: None if jnp.issubdtype(a.dtype, jnp.inexact) else a, tree)


def merged(a: Any, b: Any) -> Any:
  """What was split."""
  return jax.tree.map(lambda p, q: q if p is None else p, a, b, is_leaf=lambda leaf: leaf is None)
