"""The nearest points of each point: each tile visits the nearest tiles first, until no other can hold a nearer point.

The distance to the box of a tile, with its lowest index, is a key that is no larger than those of its points. Groups of
tiles are taken in the order of their keys, and of the tiles of some groups those with the smallest keys, as long as
these are smaller than the key of the last neighbour.
"""

from functools import reduce
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm._core.varying import unify_varying_axes
from jax_edm._pairwise.near.boxes import SLACK, Boxes, squared_gap
from jax_edm._pairwise.near.keys import NOTHING, bits_of, key_of
from jax_edm._pairwise.near.tiles import TILE, Order

Array = jax.Array

GROUP = 16  # tiles
NO_TILE, NO_INDEX = np.uint32(2**32 - 1), np.int32(2**31 - 1)


class Steps(NamedTuple):
  """How much is done at a time."""

  parts: int  # at least, of all rows
  row_groups: int  # in a part, at most
  groups: int  # of columns, whose tiles are put in order
  row_tiles: int  # that visit others
  visits: int  # of each of them


ON_CPU, ON_GPU = Steps(16, 64, 16, 16, 16), Steps(4, 2**12, 32, 2**12, 8)


def steps() -> Steps:
  return ON_GPU if jax.default_backend() == "gpu" else ON_CPU


class Groups(NamedTuple):
  """Points in groups of tiles of neighbours."""

  x: Array  # (g, s, TILE, d)
  exists: Array  # (g, s, TILE)
  indices: Array  # (g, s, TILE), of the points; -1 of those that are not among the columns
  boxes: Boxes  # (g, s, d)
  lowest: Array  # (g, s), the lowest index in each tile; of no point, NO_INDEX

  @classmethod
  def of(cls, order: Order, x: Array, exists: Array, indices: Array) -> Self:
    x, exists, indices = (order.tiles(a) for a in (x, exists, indices))
    parts = cls(x, exists, indices, Boxes.of_tiles(x, exists), jnp.where(exists, indices, NO_INDEX).min(1))
    return jax.tree.map(lambda a: a.reshape(-1, min(GROUP, a.shape[0]), *a.shape[1:]), parts)

  @property
  def tiles(self) -> Self:
    """Those of all groups, one after the other."""
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), self)


class Sets(NamedTuple):
  rows: Groups
  columns: Groups


class Found(NamedTuple):
  """What the tiles of some groups of rows have found."""

  keys: Array  # (b, k, TILE), ascending
  visits: Array  # of pairs of tiles

  def last(self, rows: Groups) -> Array:
    """``(b,)``, the largest key of a neighbour of each tile; 0 of a tile without points."""
    return jnp.where(rows.tiles.exists, self.keys[:, -1], np.uint64(0)).max(1)


class Listed(NamedTuple):
  """Tiles of columns, in the order in which a tile of rows visits them."""

  words: Array  # (b, l): bits of the squared distance, of which the last are the position among the tiles
  tiles: Array  # (b, l)

  @property
  def of_position(self) -> np.uint32:
    """The bits of a word that are a position."""
    return np.uint32(2 ** (self.tiles.shape[1] - 1).bit_length() - 1)

  def may_be_near(self, at: Array, last: Array) -> Array:
    """``(b,)``: whether the next tile is no farther away than the last neighbour."""
    word = lax.dynamic_slice_in_dim(self.words, at, 1, 1)[:, 0]
    return (word != NO_TILE) & (word & ~self.of_position <= bits_of(last))

  def next(self, at: Array, lowest: Array, last: Array) -> tuple[Array, Array]:
    """``(b, v)``: the next few tiles, and which of them may hold a nearer point."""
    words = lax.dynamic_slice_in_dim(self.words, at, steps().visits, 1)
    position = jnp.where(words == NO_TILE, 0, words & self.of_position).astype(jnp.int32)
    tiles = jnp.take_along_axis(self.tiles, position, 1)
    key = key_of(lax.bitcast_convert_type(words & ~self.of_position, jnp.float32), lowest[tiles])
    return tiles, (words != NO_TILE) & (key < last[:, None])


def search(sets: Sets, groups: Array, k: int, most: Array) -> Found:
  """The ``k`` nearest columns of some groups of rows; it ends after ``most`` visits."""
  rows = jax.tree.map(lambda a: a.at[groups].get(mode="promise_in_bounds"), sets.rows)
  (r, s), h = rows.exists.shape[:2], sets.columns.exists.shape[0]
  at_a_time = min(steps().groups, h)
  gap = squared_gap(rows.boxes.joined().along(1), sets.columns.boxes.joined().along(0))
  words = lax.sort(key_of(gap * (1 - SLACK), jnp.broadcast_to(lax.iota(np.int32, h), (r, h))), dimension=1)

  def goes_on(state: tuple[Array, Found]) -> Array:
    at, found = state
    nearest = lax.dynamic_slice_in_dim(words, jnp.minimum(at, h - 1), 1, 1)[:, 0]
    near = bits_of(nearest) <= bits_of(found.last(rows)).reshape(r, s).max(1)
    return (at < h) & near.any() & (found.visits <= most)

  def of_groups(state: tuple[Array, Found]) -> tuple[Array, Found]:
    at, found = state
    some = lax.dynamic_slice_in_dim(words, at, at_a_time, 1).astype(jnp.uint32).astype(jnp.int32) - 1
    return at + at_a_time, _visited(rows, sets.columns, _listed(rows, sets.columns, some, found), found, most)

  start = jnp.zeros((), jnp.int32), Found(jnp.full((r * s, k, TILE), NOTHING), jnp.zeros((), jnp.int32))
  return lax.while_loop(goes_on, of_groups, unify_varying_axes(start, rows.x))[1]


def _listed(rows: Groups, columns: Groups, groups: Array, found: Found) -> Listed:
  """The tiles of some groups of columns, ``(r, c)``, that may hold a nearer point."""
  (r, s), size = rows.exists.shape[:2], columns.exists.shape[1]
  tiles = (groups[:, :, None] * size + lax.iota(np.int32, size)[None, None, :]).reshape(r, -1)
  boxes, lowest = columns.tiles.boxes.taken(tiles), columns.tiles.lowest[tiles][:, None]
  gap = squared_gap(rows.boxes.along(2), boxes.along(1)) * (1 - SLACK)  # (r, s, l)
  key = key_of(gap, jnp.broadcast_to(lowest, gap.shape))
  near = (key < found.last(rows).reshape(r, s, 1)) & (lowest < NO_INDEX)
  listed = Listed(jnp.zeros((), jnp.uint32), jnp.repeat(tiles, s, 0))
  words = bits_of(key) & ~listed.of_position | lax.iota(np.uint32, tiles.shape[1])[None, None, :]
  words = lax.sort(jnp.where(near, words, NO_TILE), dimension=2).reshape(listed.tiles.shape)
  return listed._replace(words=jnp.pad(words, ((0, 0), (0, steps().visits)), constant_values=NO_TILE))


def _visited(rows: Groups, columns: Groups, listed: Listed, found: Found, most: Array) -> Found:
  """After the visits of a list, a few of each tile of rows at a time; those that are done wait for no other."""
  own, others, (b, length) = rows.tiles, columns.tiles, listed.tiles.shape
  at_a_time, visits = min(steps().row_tiles, b), steps().visits

  def goes_on(state: tuple[Array, Found]) -> Array:
    at, found = state
    return (at < length) & listed.may_be_near(at, found.last(rows)).any() & (found.visits <= most)

  def visit(state: tuple[Array, Found]) -> tuple[Array, Found]:
    at, found = state
    tiles, near = listed.next(at, others.lowest, found.last(rows))
    done = np.uint32(2**31)  # the tiles that go on come first
    order = lax.sort(jnp.where(near.any(1), np.uint32(0), done) | lax.iota(np.uint32, b)) & ~done
    count = near.any(1).sum(dtype=jnp.int32)

    def of_some(step: Array, keys: Array) -> Array:
      i = lax.dynamic_slice_in_dim(order, step * at_a_time, at_a_time).astype(jnp.int32)
      j = tiles[i]
      there = others.exists[j] & near[i][:, :, None]
      new = _keys(own.x[i], own.indices[i], others.x[j], others.indices[j], there)
      return keys.at[i].set(_smallest(keys[i], new), unique_indices=True, mode="promise_in_bounds")

    keys = lax.fori_loop(np.int32(0), (count + at_a_time - 1) // at_a_time, of_some, found.keys)
    return at + visits, Found(keys, found.visits + count * visits)

  start = unify_varying_axes((jnp.zeros((), jnp.int32), found), rows.x)
  return lax.while_loop(goes_on, visit, start)[1]


def _keys(x: Array, own: Array, y: Array, index: Array, there: Array) -> Array:
  """``(w, v, TILE, TILE)``, of the points of v tiles of columns, for those of each of w tiles of rows."""
  pairs = ((x[:, None, None, :, k], y[:, :, :, None, k]) for k in range(x.shape[-1]))
  squared = reduce(jnp.add, [jnp.square(a - b) for a, b in pairs])
  index = index[:, :, :, None]
  key = key_of(squared, jnp.broadcast_to(index, squared.shape))
  return jnp.where(there[:, :, :, None] & (index != own[:, None, None, :]), key, NOTHING)


def _smallest(found: Array, new: Array) -> Array:
  """The k smallest of the keys ``(w, k, TILE)`` and ``(w, v, TILE, TILE)``, one after the other.

  In a loop: XLA would otherwise make the keys anew for each of them.
  """
  (w, k, _), v = found.shape, new.shape[1]
  new = new.reshape(w * v, TILE, TILE)  # XLA reduces 32 entries at once, and more than that by way of memory

  def next_smallest(q: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
    last, out = state
    least = jnp.where(new > jnp.repeat(last, v, 0)[:, None], new, NOTHING).min(1).reshape(w, v, TILE)
    old = jnp.where(found > last[:, None], found, NOTHING).min(1)
    last = reduce(jnp.minimum, [least[:, z] for z in range(v)], old)
    return last, lax.dynamic_update_slice_in_dim(out, last[:, None], q, 1)

  start = unify_varying_axes((jnp.zeros((w, TILE), jnp.uint64), jnp.zeros_like(found)), found)
  return lax.fori_loop(np.int32(0), np.int32(k), next_smallest, start)[1]
