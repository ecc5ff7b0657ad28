"""Which tiles visit which: all pairs of tiles whose boxes are near each other, a fixed number of them at a time.

In three nested loops, so that no list grows with the number of pairs: over parts of the groups of rows; over the pairs
of groups that are near each other; over the pairs of their tiles that are. Nothing has a size that depends on the
points, and nothing is left out: a loop goes on until its list is done.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm._core.varying import unify_varying_axes
from jax_edm._pairwise.near.batches import one_by_one
from jax_edm._pairwise.near.boxes import Boxes, squared_gap
from jax_edm._pairwise.rounds import Visit

GROUP = 16  # tiles, of which pairs are chosen


class Steps(NamedTuple):
  """How much is done at a time."""

  pairs_of_tiles: int
  pairs_of_groups: int
  entries: int  # of the matrix of groups


ON_CPU, ON_GPU = Steps(512, 256, 2**18), Steps(2**14, 2**10, 2**20)


def steps() -> Steps:
  return ON_GPU if jax.default_backend() == "gpu" else ON_CPU


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Shared:
  """What is the same for all tiles; the sum of what the visits add to it is one for all of them."""

  tree: Any


class Guide(NamedTuple):
  """What decides who is near."""

  rows: Boxes
  columns: Boxes
  limit: jax.Array  # of the squared distance between boxes


class Place(NamedTuple):
  """A step: pairs of tiles."""

  live: jax.Array  # (p,): the last step of a list has fewer pairs than places
  same: jax.Array  # (p,): a tile that visits itself


@dataclass(frozen=True)
class NearTiles:
  """The visits of a round. ``half``: rows and columns are the same, and each pair of tiles is visited once."""

  half: bool

  def __call__(self, f: Visit, guide: Guide, local: Any, travelling: Any) -> tuple[Any, Any]:
    return one_by_one(partial(self._added, f))(guide, local, travelling)

  def fold(self, f: Visit, guide: Guide, local: Any, travelling: Any, start: jax.Array) -> jax.Array:
    """The largest of what ``f`` returns for each row, and of ``start``, ``(k, TILE)``; without derivatives."""

    def run(guide: Guide, local: Any, travelling: Any, start: jax.Array) -> jax.Array:
      def step(i: jax.Array, j: jax.Array, place: Place, out: jax.Array) -> jax.Array:
        return out.at[i].max(f(place, _taken(local, i), _taken(travelling, j)), mode="promise_in_bounds")

      return _for_each_pair_of_tiles(self.half, guide, step, start)

    return one_by_one(run)(*lax.stop_gradient((guide, local, travelling, start)))

  def _added(self, f: Visit, guide: Guide, local: Any, travelling: Any) -> tuple[Any, Any]:
    def step(i: jax.Array, j: jax.Array, place: Place, out: Any) -> Any:
      to_rows, to_columns = f(place, _taken(local, i), _taken(travelling, j))
      return _scattered(out[0], i, to_rows), _scattered(out[1], j, to_columns)

    like = jax.eval_shape(f, *sample(guide, local, travelling))
    start = tuple(_zeros(tree, boxes.low.shape[0]) for tree, boxes in zip(like, guide[:2], strict=True))
    start = unify_varying_axes(start, guide.rows.low)
    return _for_each_pair_of_tiles(self.half, guide, step, start)


def sample(guide: Guide, local: Any, travelling: Any, *more_local: Any) -> Any:
  """What ``f`` gets in a step, of the first tiles: for shapes and types."""
  a, b = (min(GROUP, boxes.low.shape[0]) for boxes in guide[:2])
  index = jnp.zeros(_at_a_time(a, b), jnp.int32)
  place = unify_varying_axes(Place(index == 0, index == 0), guide.rows.low)
  return place, _taken(local, index), _taken(travelling, index), *(_taken(tree, index) for tree in more_local)


def _at_a_time(a: int, b: int) -> int:
  """Pairs of tiles, of groups of so many."""
  return min(steps().pairs_of_tiles, steps().pairs_of_groups * a * b)


def _is_shared(leaf: Any) -> bool:
  return isinstance(leaf, Shared)


def _taken(tree: Any, tiles: jax.Array) -> Any:
  def take(a: Any) -> Any:
    return a if _is_shared(a) else a.at[tiles].get(mode="promise_in_bounds")

  return jax.tree.map(take, tree, is_leaf=_is_shared)


def _scattered(out: Any, tiles: jax.Array, more: Any) -> Any:
  def add(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b) if _is_shared(a) else a.at[tiles].add(b, mode="promise_in_bounds")

  return jax.tree.map(add, out, more, is_leaf=_is_shared)


def _zeros(like: Any, tiles: int) -> Any:
  def zeros(a: Any) -> Any:
    if _is_shared(a):
      return jax.tree.map(lambda b: jnp.zeros(b.shape, b.dtype), a)
    return jnp.zeros((tiles, *a.shape[1:]), a.dtype)

  return jax.tree.map(zeros, like, is_leaf=_is_shared)


Step = Callable[[jax.Array, jax.Array, Place, Any], Any]  # of tiles of rows, tiles of columns, and what is added up


class Pairs(NamedTuple):
  """Pairs of groups, of which those that are live count."""

  i: jax.Array
  j: jax.Array
  live: jax.Array


def _for_each_pair_of_groups(half: bool, guide: Guide, act: Callable[[Pairs, Any], Any], out: Any) -> Any:
  """``act`` on the pairs of groups that are near, so many at a time."""
  rows, columns = (boxes.grouped(GROUP).joined() for boxes in guide[:2])
  g, h = rows.low.shape[0], columns.low.shape[0]
  at_a_time = steps().pairs_of_groups
  many = max(1, min(g, steps().entries // h))  # groups of rows at a time
  length = many * h + -(many * h) % at_a_time

  def of_part(part: jax.Array, out: Any) -> Any:
    own = part * many + jnp.arange(many, dtype=jnp.int32)
    own, there = jnp.minimum(own, g - 1), own < g
    near = (squared_gap(rows.taken(own).along(1), columns.along(0)) <= guide.limit) & there[:, None]
    if half:
      near = near & (own[:, None] <= jnp.arange(h)[None, :])
    count, found = _listed(near.reshape(-1), length)

    def of_pairs(at: jax.Array, out: Any) -> Any:
      places, live = _slice(found, at, at_a_time, count)
      return act(Pairs(own[places // h], places % h, live), out)

    return _while_below(count, at_a_time, of_pairs, out)

  return lax.fori_loop(0, -(-g // many), of_part, out)


def _for_each_pair_of_tiles(half: bool, guide: Guide, step: Step, out: Any) -> Any:
  rows, columns = (boxes.grouped(GROUP) for boxes in guide[:2])
  a, b = rows.low.shape[1], columns.low.shape[1]

  def act(groups: Pairs, out: Any) -> Any:
    gap = squared_gap(rows.taken(groups.i).along(2), columns.taken(groups.j).along(1))
    near = (gap <= guide.limit) & groups.live[:, None, None]
    if half:
      tile_i, tile_j = (lax.broadcasted_iota(np.int32, (1, a, b), axis) for axis in (1, 2))
      near = near & ((groups.i != groups.j)[:, None, None] | (tile_i <= tile_j))
    count, found = _listed(near.reshape(-1), near.size)
    at_a_time = _at_a_time(a, b)

    def of_tiles(at: jax.Array, out: Any) -> Any:
      places, live = _slice(found, at, at_a_time, count)
      pair, tile = places // (a * b), places % (a * b)
      i, j = groups.i[pair] * a + tile // b, groups.j[pair] * b + tile % b
      return step(i, j, Place(live, i == j), out)

    return _while_below(count, at_a_time, of_tiles, out)

  return _for_each_pair_of_groups(half, guide, act, out)


def _while_below(count: jax.Array, by: int, f: Callable[[jax.Array, Any], Any], out: Any) -> Any:
  """``f`` of 0, ``by``, 2 ``by``, ... below ``count``."""

  def go_on(state: Any) -> jax.Array:
    return state[0] < count

  def body(state: Any) -> Any:
    return state[0] + by, f(*state)

  return lax.while_loop(go_on, body, (jnp.zeros_like(count), out))[1]


def _listed(mask: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
  """How many are True, and their indices, then large numbers: by a sort, which compiles faster than sums."""
  last = np.uint32(2**32 - 1)
  index = lax.sort(jnp.where(mask, lax.iota(np.uint32, mask.shape[0]), last))
  return mask.sum(dtype=jnp.int32), jnp.pad(index, (0, size - mask.shape[0]), constant_values=last)


def _slice(found: jax.Array, at: jax.Array, size: int, count: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Some of a list, and which of them are in it; 0 where they are not."""
  live = at + lax.iota(np.int32, size) < count
  return jnp.where(live, lax.dynamic_slice_in_dim(found, at, size).astype(jnp.int32), 0), live
