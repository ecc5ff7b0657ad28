"""How a reduction runs: in blocks of rows or in tiles, for each member of a batch, in kernels, or around a ring."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm._core.sizes import known
from jax_edm._pairwise import blocked, ring
from jax_edm._pairwise.near import sums as near
from jax_edm._pairwise.problem import Pair, Problem, substitute_pair
from jax_edm._pairwise.reductions import LogSumExp, Reduction, RowMax, ScaledTotal, Sum
from jax_edm._typing import AxisName, Implementation

Array = jax.Array
CONFLICT = 256  # a multiple of so many masked columns takes a CPU three times as long: they lie in few sets of a cache


class Plan(NamedTuple):
  """How a reduction is computed."""

  caller: str
  block_size: int | None
  axis_name: AxisName | None
  implementation: Implementation
  required: bool  # the implementation, by the user
  travels: tuple[bool, ...]  # which arguments go with the columns around a ring; those of pairs stay
  closed: bool  # f closes over what lies on Explicit axes


def reduce(problem: Problem, reduction: Reduction, plan: Plan) -> Array:
  """The reduction along the rows that a device has, of each member of the batch."""
  member = partial(_of_member, reduction=reduction, plan=plan, batch=blocked.batch_size(problem))
  return problem.map_batch(member, "(p,q)" if has_columns(problem, reduction) else "(p)")


def has_columns(problem: Problem, reduction: Reduction) -> bool:
  """A row of the matrix is reduced to several numbers."""
  return problem.columns or isinstance(reduction, LogSumExp)


def reduce_on_ring(problem: Problem, reduction: Reduction, plan: Plan) -> Array:
  """The reduction, where every device of a mesh axis has a part of the rows and a part of the columns."""
  caller, axis_name, travels = plan.caller, plan.axis_name, plan.travels
  assert axis_name is not None
  n, m = problem.x.shape[-2], problem.y.shape[-2]
  everywhere = m * lax.axis_size(axis_name)

  def visit(reduction: Reduction, owner: Array, local: Problem, travelling: Problem) -> Array:
    args: list[Any] = [a if b is None else b for a, b in zip(local.args, travelling.args, strict=True)]
    args = [lax.dynamic_slice_in_dim(a, owner * m, m, -1) if a.shape[-1] == everywhere != m else a for a in args]
    offset = lax.axis_index(axis_name) * n - owner * m if problem.one_set else None
    joined = replace(
      local, y=travelling.y, y_mask=travelling.y_mask, values=travelling.values, args=tuple(args), row_offset=offset
    )
    return reduce(joined, reduction, plan)

  stay = tuple(None if t else a for a, t in zip(problem.args, travels, strict=True))
  go = tuple(a if t else None for a, t in zip(problem.args, travels, strict=True))
  of_columns: Any = dict.fromkeys(("y", "y_mask", "values"))
  of_rows: Any = dict.fromkeys(("x", "x_mask", "squared_cutoff"))
  local: Any = replace(problem, **of_columns, args=stay)
  travelling: Any = replace(problem, **of_rows, args=go, closed_over=())
  if isinstance(reduction, Sum):
    return ring.total(caller, partial(visit, reduction), axis_name, local, travelling)
  row_max = ring.fold(partial(visit, RowMax()), axis_name, local, travelling, jnp.maximum)
  total = ring.total(caller, partial(visit, ScaledTotal()), axis_name, replace(local, row_max=row_max), travelling)
  return LogSumExp.finish(total, row_max)


def _of_member(problem: Problem, reduction: Reduction, plan: Plan, batch: int) -> Array:
  problem = problem.prepared()
  by_xla = partial(_by_xla, block_size=plan.block_size, batch=batch, closed=plan.closed)
  kernels = plan.implementation == "pallas"
  out = _by_kernels(problem, reduction, plan.required, by_xla) if kernels else by_xla(problem, reduction)
  if problem.x_mask is None or not reduction.linear:
    return out
  # Zero already; but the cotangent of a missing row may be anything.
  exists = problem.x_mask if out.ndim == 1 else problem.x_mask[:, None]
  return jnp.where(exists, out, jnp.zeros_like(out))


def _by_kernels(problem: Problem, reduction: Reduction, required: bool, by_xla: Any) -> Array:
  from jax_edm._pairwise.pallas import rule, sums  # importing Pallas takes a second

  try:
    return sums.reduce(problem, reduction, by_xla, required)
  except rule.NoKernel as e:
    if required:
      raise e.reason from None
    return by_xla(problem, reduction)


def _by_xla(problem: Problem, reduction: Reduction, block_size: int | None, batch: int, closed: bool) -> Array:
  if near.pays(problem) and not closed:  # loops would run over groups of rows that lie on several devices
    all_pairs = partial(_of_all_pairs, problem, reduction, block_size, batch)
    return near.reduce(problem, reduction, all_pairs)
  return _of_all_pairs(problem, reduction, block_size, batch)


def _of_all_pairs(problem: Problem, reduction: Reduction, block_size: int | None, batch: int) -> Array:
  n, m = problem.x.shape[0], problem.y.shape[0]
  if not known(n) and problem.x_mask is None:  # blocks are filled up with rows that do not exist
    problem = replace(problem, x_mask=jnp.ones(n, bool))
  substitute = substitute_pair(problem)
  # A function of the distance alone makes a symmetric matrix of one set: half of its tiles are enough.
  if isinstance(reduction, Sum) and problem.symmetric and known(n, batch):
    side = blocked.side_of_a_tile(n, block_size * m if block_size else blocked.entries() // max(batch, 1))
    if problem.x_mask is not None and side % CONFLICT == 0:
      side -= 8  # any number that is no multiple
    if blocked.worth_tiles(n, side):
      return _in_tiles(problem, reduction, side, substitute)

  def of_rows(start: Any, rows: Any) -> Array:
    part = problem.with_rows(rows, start)
    block, pair_mask = part.block(substitute)
    return reduction.of_block(block, pair_mask, part.values, part.row_max)

  return blocked.map_row_blocks(of_rows, problem.rows(), block_size or blocked.rows_in_a_block(n, m * batch))


def _in_tiles(problem: Problem, reduction: Sum, side: int, substitute: Pair | None) -> Array:
  n = problem.x.shape[0]
  if n % side:  # the last tile is filled up with points that do not exist
    mask = jnp.ones(n, bool) if problem.x_mask is None else problem.x_mask
    x, mask, values = blocked.padded((problem.x, mask, problem.values), -n % side)
    problem = replace(problem, x=x, y=x, x_mask=mask, y_mask=mask, values=values).prepared()
    substitute = substitute_pair(problem)
  assert problem.sides is not None

  def of_tile(on_diagonal: bool, rows: Any, columns: Any) -> tuple[Array, Array]:
    (of_rows, x_mask, own), (of_columns, y_mask, values) = rows, columns
    points: Any = {
      "x": of_rows.x,
      "y": of_columns.x,
      "x_mask": x_mask,
      "y_mask": y_mask,
      "sides": (of_rows, of_columns),
    }
    tile = replace(problem, **points, values=values, one_set=on_diagonal)
    block, pair_mask = tile.block(substitute)
    if pair_mask is not None:  # both sums read one matrix: left to itself, XLA makes it once for each
      block, pair_mask = lax.optimization_barrier(jnp.where(pair_mask, block, jnp.zeros_like(block))), None
    return reduction.of_block(block, pair_mask, values), reduction.of_columns(block, pair_mask, own)

  return blocked.sum_tiles(of_tile, (problem.sides[0], problem.x_mask, problem.values), side)[:n]
