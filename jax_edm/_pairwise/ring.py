"""Sums and searches over blocks that travel around a ring of devices.

Each device keeps what is local, and a block travels: the blocks go from device to device, one neighbour at a time,
until each has been everywhere. A sum over all visits is a round (``rounds``): its derivatives are rounds, too, for
which the blocks visit once more. JAX by itself would keep all blocks that visit, on every device.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm import _errors
from jax_edm._core.varying import unify_varying_axes, varying_axes
from jax_edm._pairwise import rounds
from jax_edm._typing import AxisName

Visit = Callable[[jax.Array, Any, Any], Any]  # of the owner of a block, what is local, and what travels


def total(caller: str, f: Visit, axis_name: AxisName, local: Any, travelling: Any) -> Any:
  """``sum_s f(s, local, travelling of s)``; derivatives with respect to both, and to what f closes over."""
  here = lax.axis_index(axis_name)
  local, travelling = unify_varying_axes((local, travelling), here)
  closed_over = rounds.closure_convert(f, here, local, travelling)[1]
  # They may vary over more axes; then all have to, and f is traced again.
  local, travelling = unify_varying_axes((local, travelling), here, *closed_over)
  converted, closed_over = rounds.closure_convert(f, here, local, travelling)
  _check_closed_over(caller, closed_over, local)
  (local, local_constants), (travelling, constants) = rounds.split((local, closed_over)), rounds.split(travelling)

  def visit(owner: jax.Array, constants: Any, local: Any, travelling: Any) -> tuple[Any, Any]:
    local, closed_over = rounds.merged(local, constants[0])
    return converted(closed_over, owner, local, rounds.merged(travelling, constants[1])), ()

  constants = local_constants, constants
  out = jax.eval_shape(visit, here, constants, local, travelling)[0]
  if not jnp.issubdtype(out.dtype, jnp.inexact):  # for example a count
    local, travelling = lax.stop_gradient((local, travelling))
  visits = partial(_visits, axis_name)
  return rounds.of_visits(visits, visit, None, constants, local, travelling)[0]


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


def _visits(
  axis_name: AxisName, f: Visit, guide: None, local: Any, travelling: Any, merge: Any = None
) -> tuple[Any, Any]:
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
  return _visits(axis_name, lambda *visit: (f(*visit), ()), None, local, travelling, merge)[0]


def to_neighbour(tree: Any, axis_name: AxisName) -> Any:
  if isinstance(axis_name, tuple):  # in the order of the mesh, which JAX wants; any ring will do
    order = list(jax.sharding.get_abstract_mesh().axis_names)
    axis_name = tuple(sorted(axis_name, key=lambda name: order.index(name) if name in order else 0))
  size = lax.axis_size(axis_name)
  pairs = [(i, (i - 1) % size) for i in range(size)]
  return jax.tree.map(lambda a: lax.ppermute(a, axis_name, pairs), tree)
