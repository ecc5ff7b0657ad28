"""The nearest points by near tiles, where that takes less time than all pairs."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm._core.points import PointSets
from jax_edm._core.sizes import known
from jax_edm._core.varying import unify_varying_axes
from jax_edm._pairwise.near import tiles
from jax_edm._pairwise.near.batches import any_of_batch, one_by_one
from jax_edm._pairwise.near.keys import index_of, squared_of
from jax_edm._pairwise.near.search import Groups, Sets, search, steps
from jax_edm._pairwise.near.tiles import TILE

Array = jax.Array

LEAST_PAIRS, LEAST_PAIRS_ON_GPU = 2**25, 2**31  # of points: below, all pairs take less time
MOST_COORDINATES = 6  # in more, boxes overlap
MOST_NEIGHBOURS = 64  # each takes a pass over the candidates
# Pairs of tiles that are visited for each of all pairs, at most: one takes about so many times as long as of all pairs.
FOR_A_PAIR, FOR_A_NEIGHBOUR = 5, 1 / 4


def least_pairs() -> int:
  return LEAST_PAIRS_ON_GPU if jax.default_backend() == "gpu" else LEAST_PAIRS


def pays(points: PointSets, k: int) -> bool:
  """Whether there are so many points in so few dimensions that it may be worth while to find those that are near."""
  (n, d), m = points.x.shape[-2:], points.y.shape[-2]
  if not known(n, m) or points.form.entries != "difference" or points.x.dtype != np.float32:
    return False
  if n * m < least_pairs() * max(1, (n + m) / (2 * min(n, m))) or k >= m:  # all points are sorted, of both sets
    return False
  return 1 <= d <= MOST_COORDINATES and k <= MOST_NEIGHBOURS


def candidates(points: PointSets, k: int, of_all: Callable[[], tuple[Array, Array]]) -> tuple[Array, Array]:
  """The squared distances of the k nearest columns of each row, and their indices; -1 where there is none.

  Of points that are prepared, of one member of a batch; ``of_all`` finds them among all pairs.
  """
  # What is not finite is the neighbour of others only where there is nothing else, and has itself the first of all.
  finite = points.without_infinite_points()
  assert finite.x_mask is not None
  assert finite.y_mask is not None
  there = jnp.ones_like(finite.x_mask) if points.x_mask is None else points.x_mask
  lost, missing = (there & ~finite.x_mask)[:, None], ~there[:, None]
  exists = jnp.ones_like(finite.y_mask) if points.y_mask is None else points.y_mask
  sets, order = in_groups(finite)
  squared, indices, crowded = one_by_one(partial(_found, k))(sets)
  # All pairs mix points that are not finite, by their index, with those whose squared distance overflows.
  unordered = (squared == jnp.finfo(squared.dtype).max).any() & (exists & ~finite.y_mask).any()
  crowded = any_of_batch(crowded | unordered | (finite.y_mask.sum(dtype=jnp.int32) <= k))

  def of_near() -> tuple[Array, Array]:
    first, largest = _first(exists, _indices(points)[0], k), jnp.finfo(squared.dtype).max
    found, distance = order.points(indices), order.points(squared)
    found, distance = jnp.where(lost, first, found), jnp.where(lost, largest, distance)
    return jnp.where(missing, jnp.inf, distance), jnp.where(missing, -1, found)

  return lax.cond(crowded, of_all, of_near)


def _indices(points: PointSets) -> tuple[Array, Array]:
  """Of rows and columns, among the columns; -1 of rows that are not among them."""
  n, m = points.x.shape[0], points.y.shape[0]
  if not points.one_set:
    return jnp.full(n, -1, jnp.int32), lax.iota(np.int32, m)
  offset = 0 if points.row_offset is None else points.row_offset
  return lax.iota(np.int32, n) + offset, lax.iota(np.int32, m)


def in_groups(points: PointSets) -> tuple[Sets, tiles.Order]:
  """In order, with the order of the rows; what does not exist is replaced first, so that it spoils nothing."""
  points = points.prepared()
  assert points.sides is not None
  assert points.x_mask is not None
  assert points.y_mask is not None
  x, y = (side.x for side in points.sides)
  of_rows = tiles.in_order(x)
  of_columns = of_rows if points.all_rows else tiles.in_order(y)
  own, indices = _indices(points)
  rows = Groups.of(of_rows, x, points.x_mask, own)
  columns = Groups.of(of_columns, y, points.y_mask, indices)
  return unify_varying_axes(Sets(rows, columns)), of_rows


def _found(k: int, sets: Sets) -> tuple[Array, Array, Array]:
  """Squared distances and indices, both ``(t, TILE, k)``; and whether so much is near that the search was ended.

  So many groups of rows at a time, from all over the cloud: the first ones already tell how much is near.
  """
  g, s = sets.rows.exists.shape[:2]
  at_a_time = max(1, min(steps().row_groups, g // steps().parts))  # these and g are powers of two
  parts = g // at_a_time
  of_columns = sets.columns.exists.any(2).sum(dtype=jnp.float32)

  def goes_on(state: Any) -> Array:
    return (state[0] < parts) & ~state[2]

  def of_part(state: Any) -> Any:
    part, found, _ = state
    groups = part + parts * lax.iota(np.int32, at_a_time)
    of_rows = sets.rows.exists[groups].any(2).sum(dtype=jnp.float32)
    # Where the first part is sparse, the others are not much less so.
    most = (jnp.where(part > 0, 2, 1) * most_visits(k) * of_rows * of_columns).astype(jnp.int32)
    keys, visits = search(sets, groups, k, most)
    keys = keys.reshape(at_a_time, s, k, TILE).transpose(0, 1, 3, 2)
    more = squared_of(keys), index_of(keys)
    found = [a.at[groups].set(b, unique_indices=True) for a, b in zip(found, more, strict=True)]
    return part + 1, found, visits > most

  with jax.enable_x64(True):
    found = [jnp.zeros((g, s, TILE, k), dtype) for dtype in (jnp.float32, jnp.int32)]
    start = jnp.zeros((), jnp.int32), found, jnp.zeros((), bool)
    _, found, crowded = lax.while_loop(goes_on, of_part, unify_varying_axes(start, sets.rows.x))
  squared, indices = (a.reshape(-1, TILE, k) for a in found)
  return squared, indices, crowded


def most_visits(k: int) -> float:
  return 1 / (FOR_A_PAIR + FOR_A_NEIGHBOUR * k)


def _first(exists: Array, own: Array, k: int) -> Array:
  """``(n, k)``: the lowest indices of columns that exist, each row without itself; there are more than k."""
  m = exists.shape[0]
  first = -lax.top_k(jnp.where(exists, -lax.iota(np.int32, m), -m), k + 1)[0][None, :]
  after = (first == own[:, None]).any(1, keepdims=True) & (first[:, :k] >= own[:, None])
  return jnp.where(after, first[:, 1:], first[:, :k])
