"""Sums over the pairs of points that are near each other: a round of near tiles."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm._core.distance import Side
from jax_edm._core.function import UntracedPairFunction
from jax_edm._core.sizes import known
from jax_edm._core.varying import unify_varying_axes
from jax_edm._pairwise import rounds
from jax_edm._pairwise.near import tiles, visits
from jax_edm._pairwise.near.boxes import SLACK, Boxes
from jax_edm._pairwise.near.crowd import is_crowded
from jax_edm._pairwise.near.visits import Guide, NearTiles, Place, Shared
from jax_edm._pairwise.problem import Pair, Problem, substitute_pair
from jax_edm._pairwise.reductions import LogSumExp, Reduction, RowMax, ScaledTotal, Sum, lowest

Array = jax.Array
Maybe = jax.Array | None

LEAST_PAIRS, LEAST_PAIRS_ON_GPU = 2**23, 2**29  # of points: below, all pairs take less time
MOST_COORDINATES = 6  # in more, boxes overlap


class Tile(NamedTuple):
  """What belongs to the points of a tile of rows, or of columns."""

  x: Array  # (TILE, d)
  exists: Array  # (TILE,)
  place: Array  # (TILE,), among all points
  values: Maybe  # (TILE,) or (TILE, k)
  args: tuple[Maybe, ...]  # (TILE, 1); None for those of no point, or of the others


class Whole(NamedTuple):
  """What belongs to all pairs."""

  args: tuple[Maybe, ...]  # (1, 1); None for those of points
  closed_over: tuple[Array, ...]


class Fixed(NamedTuple):
  """What has no derivative: what decides which pairs count, and what f sees in the place of the others."""

  squared_cutoff: Array
  substitute: Pair | None


def least_pairs() -> int:
  return LEAST_PAIRS_ON_GPU if jax.default_backend() == "gpu" else LEAST_PAIRS


def pays(problem: Problem) -> bool:
  """Whether there are so many points in so few dimensions that it may be worth while to find those that are near.

  Of arguments of pairs every entry is read by the caller's own matrix anyway.
  """
  (n, d), m = problem.x.shape, problem.y.shape[0]
  if problem.squared_cutoff is None or not known(n, m) or problem.form.entries != "difference":
    return False
  of_pairs = any(a is not None and a.shape[0] > 1 and a.shape[1] > 1 for a in problem.args)
  return n * m >= least_pairs() and d <= MOST_COORDINATES and not of_pairs


def reduce(problem: Problem, reduction: Reduction, of_all: Callable[[], Array]) -> Array:
  """The reduction of a problem that is prepared, of one member of a batch; ``of_all`` makes it of all pairs."""
  assert problem.sides is not None
  assert problem.squared_cutoff is not None
  crowded = is_crowded(problem.sides[0].x, problem.sides[1].x, problem.x_mask, problem.y_mask, problem.squared_cutoff)
  return lax.cond(crowded, of_all, lambda: _of_near(problem, reduction))


def _of_near(problem: Problem, reduction: Reduction) -> Array:
  if isinstance(reduction, LogSumExp):
    scale = _of_near(problem, RowMax())
    return LogSumExp.finish(_of_near(replace(problem, row_max=scale), ScaledTotal()), scale)
  half = isinstance(reduction, Sum) and problem.symmetric
  assert problem.sides is not None
  assert problem.squared_cutoff is not None
  of_rows = tiles.in_order(problem.sides[0].x)
  of_columns = of_rows if problem.all_rows else tiles.in_order(problem.sides[1].x)
  rows, columns = _rows(problem, of_rows, half), _columns(problem, of_columns)
  boxes = Boxes.of_tiles(rows.x, rows.exists)
  of_boxes = boxes if problem.all_rows else Boxes.of_tiles(columns.x, columns.exists)
  guide = Guide(boxes, of_boxes, lax.stop_gradient(problem.squared_cutoff) * (1 + SLACK))
  whole, fixed = _whole(problem), Fixed(problem.squared_cutoff, substitute_pair(problem))
  row_max = None if problem.row_max is None else of_rows.tiles(problem.row_max)
  visit = PairOfTiles(_skeleton(problem), reduction, half)
  return of_rows.points(visit.sums(guide, (rows, Shared(whole)), columns, (Shared(fixed), row_max)))


def _rows(problem: Problem, order: tiles.Order, half: bool) -> Tile:
  n, offset = problem.x.shape[0], 0 if problem.row_offset is None else problem.row_offset
  args = tuple(a if a is not None and a.shape[0] == n != 1 else None for a in problem.args)
  values = problem.values if half else None
  assert problem.sides is not None
  return _tiles(order, problem.sides[0].x, problem.x_mask, offset, values, args)


def _columns(problem: Problem, order: tiles.Order) -> Tile:
  m = problem.y.shape[0]
  args = tuple(a.T if a is not None and a.shape[1] == m != 1 else None for a in problem.args)
  assert problem.sides is not None
  return _tiles(order, problem.sides[1].x, problem.y_mask, 0, problem.values, args)


def _tiles(order: tiles.Order, x: Array, mask: Maybe, offset: Any, values: Maybe, args: Any) -> Tile:
  n = x.shape[0]
  exists = jnp.ones(n, bool) if mask is None else mask  # what is filled up does not
  return jax.tree.map(order.tiles, Tile(x, exists, jnp.arange(n, dtype=jnp.int32) + offset, values, args))


def _whole(problem: Problem) -> Whole:
  args = tuple(a if a is not None and a.shape == (1, 1) else None for a in problem.args)
  return Whole(args, problem.closed_over)


def _skeleton(problem: Problem) -> Problem:
  """The problem without its arrays."""
  nothing: Any = dict.fromkeys(("x", "y", "x_mask", "y_mask", "sides", "values", "row_max", "row_offset"))
  return replace(problem, **nothing, args=(), closed_over=(), squared_cutoff=None)


@dataclass(frozen=True)
class PairOfTiles:
  """What pairs of tiles add to the sums of their rows, and with ``half`` to those of their columns."""

  skeleton: Problem
  reduction: Reduction
  half: bool

  def sums(self, guide: Guide, local: tuple[Tile, Shared], columns: Tile, fixed: tuple[Shared, Maybe]) -> Array:
    """The sums of all rows, ``(k, TILE)`` or more; ``fixed`` belongs to the rows, and has no derivative."""
    guide, local, columns, fixed = unify_varying_axes((guide, local, columns, lax.stop_gradient(fixed)))
    sample = visits.sample(guide, local, columns, fixed)
    of_pairs, closed_over = self._converted(sample)
    result = jax.eval_shape(self._of_pairs, *sample)[0]
    if isinstance(self.reduction, RowMax):

      def largest(place: Place, local: Any, columns: Tile) -> Array:
        (parts, closed_over), fixed = local
        return of_pairs(closed_over.tree, place, parts, columns, fixed)[0]

      start = jnp.full_like(local[0].x[:, :, 0], lowest(result), dtype=result.dtype)
      return NearTiles(self.half).fold(largest, guide, ((local, Shared(closed_over)), fixed), columns, start)
    (moving, of_rows), (travelling, of_columns) = rounds.split((local, Shared(closed_over))), rounds.split(columns)
    if not jnp.issubdtype(result.dtype, jnp.inexact):  # for example a count
      moving, travelling = lax.stop_gradient((moving, travelling))

    def visit(place: Place, constants: Any, local: Any, travelling: Any) -> tuple[Array, Any]:
      (of_rows, fixed), of_columns = constants
      local, closed_over = rounds.merged(local, of_rows)
      return of_pairs(closed_over.tree, place, local, rounds.merged(travelling, of_columns), fixed)

    constants = (of_rows, fixed), of_columns
    to_rows, to_columns = rounds.of_visits(NearTiles(self.half), visit, guide, constants, moving, travelling)
    return to_rows + to_columns if self.half else to_rows

  def _converted(self, sample: Any) -> tuple[Callable[..., Any], tuple[Array, ...]]:
    """``_of_pairs`` of what f closes over, where that is not known; and this."""
    if isinstance(self.skeleton.f, UntracedPairFunction):
      return rounds.closure_convert(self._of_pairs, *sample)
    return lambda _, *parts: self._of_pairs(*parts), ()

  def _of_pairs(self, place: Place, local: Any, columns: Tile, fixed: Any) -> tuple[Array, Any]:
    (rows, whole), (decided, row_max) = local, fixed

    def of_pair(place: Place, rows: Tile, columns: Tile, row_max: Maybe) -> tuple[Array, Any]:
      tile = self._joined(place, rows, columns, whole.tree, decided.tree)
      block, mask = tile.block(decided.tree.substitute)
      if not self.half:
        return self.reduction.of_block(block, mask, columns.values, row_max), ()
      assert mask is not None
      block = lax.optimization_barrier(jnp.where(mask, block, jnp.zeros_like(block)))  # both sums read it
      of_columns = self.reduction.of_block(block.T, None, rows.values)
      return (
        self.reduction.of_block(block, None, columns.values),
        jnp.where(place.same, jnp.zeros_like(of_columns), of_columns),
      )

    return jax.vmap(of_pair)(place, rows, columns, row_max)

  def _joined(self, place: Place, rows: Tile, columns: Tile, whole: Whole, decided: Fixed) -> Problem:
    """The problem of one pair of tiles."""
    of_columns = [None if a is None else a.T for a in columns.args]
    choices = zip(rows.args, of_columns, whole.args, strict=True)
    points: Any = {"x": rows.x, "y": columns.x, "sides": (Side(rows.x), Side(columns.x))}
    return replace(
      self.skeleton,
      **points,
      x_mask=rows.exists & place.live,
      y_mask=columns.exists,
      places=(rows.place, columns.place),
      values=columns.values,
      args=tuple(next(a for a in choice if a is not None) for choice in choices),
      closed_over=whole.closed_over,
      squared_cutoff=decided.squared_cutoff,
    )
