"""The rows of a matrix of pairs in blocks, or half of a symmetric one in tiles: how large, and in which loops."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm._core.points import PointSets
from jax_edm._core.sizes import at_most, known

# In one block: on a CPU 4 MiB in float32 outweigh the cost of a step, and stay in or near the caches. On a GPU a step
# costs the start of several kernels.
ENTRIES, ENTRIES_ON_GPU = 2**20, 2**24

ROWS_IF_UNKNOWN = 128  # in one block, where sizes are symbols of jax.export
TYPICAL = 128  # points: for how many the form of blocks is chosen
SMALLEST_TILE, FEW_TILES = 128, 16  # the least side of tiles, unless there are only so many of them in a row
ORDERS = 2  # of reverse mode that keep no block; each takes up one checkpoint
GROUPS = 64  # of rows that may each have a block of full size; where devices are few, they share the memory of one


def map_row_blocks(of_rows: Callable[[Any, Any], Any], rows: Any, block: int) -> Any:
  """``of_rows(start, rows[start : start + block])`` for all blocks, joined; a derivative makes each block anew.

  Where the number of rows is a symbol, the last block is filled up with zeros, and with False in masks.
  """
  for _ in range(ORDERS):
    of_rows = jax.checkpoint(of_rows, prevent_cse=False)
  n = jax.tree.leaves(rows)[0].shape[0]
  if at_most(n, block):
    return of_rows(0, rows)
  count = n // block  # the odd block comes last, by itself: nothing is padded, or copied if there is none
  if not known(n):
    count = (n + block - 1) // block
    rows = padded(rows, count * block - n)
  whole = count * block

  def split(a: jax.Array) -> jax.Array:
    return a[:whole].reshape(count, block, *a.shape[1:])

  steps = (block * jnp.arange(count, dtype=jnp.int32), jax.tree.map(split, rows))
  out = lax.scan(lambda _, step: (None, of_rows(*step)), None, steps)[1]
  out = jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), out)
  if not known(n):
    return jax.tree.map(lambda a: a[:n], out)
  if whole == n:
    return out
  rest = of_rows(whole, jax.tree.map(lambda a: a[whole:], rows))
  return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), out, rest)


def sum_tiles(of_tile: Callable[[bool, Any, Any], tuple[jax.Array, jax.Array]], rows: Any, side: int) -> jax.Array:
  """Sums over a symmetric matrix, from the tiles on and above its diagonal.

  ``of_tile(on_diagonal, rows, columns)`` returns what the tile adds to its rows, and what to its columns; the number of
  rows is a multiple of ``side``.
  """
  n = jax.tree.leaves(rows)[0].shape[0]
  count = n // side
  stacked = jax.tree.map(lambda a: a.reshape(count, side, *a.shape[1:]), rows)
  on, off = (jax.checkpoint(partial(of_tile, on_diagonal), prevent_cse=False) for on_diagonal in (True, False))

  def at(i: Any) -> Any:
    return jax.tree.map(lambda a: lax.dynamic_index_in_dim(a, i, keepdims=False), stacked)

  @partial(jax.checkpoint, prevent_cse=False)  # the points are taken anew, too: there are more tiles than points
  def sums(i: Any, j: Any) -> tuple[jax.Array, jax.Array]:
    # The branches also keep XLA from reading the points of a tile in place: its loops do not vectorise over those.
    to_rows, to_columns = lax.cond(i == j, on, off, at(i), at(j))
    return to_rows, jnp.where(i == j, jnp.zeros_like(to_columns), to_columns)

  def add(total: jax.Array, i: Any, more: jax.Array) -> jax.Array:
    return lax.dynamic_update_index_in_dim(total, lax.dynamic_index_in_dim(total, i, keepdims=False) + more, i, 0)

  def step(total: jax.Array, ij: Any) -> tuple[jax.Array, None]:
    (i, j), (to_rows, to_columns) = ij, sums(*ij)
    return add(add(total, i, to_rows), j, to_columns), None

  first, _ = on(at(0), at(0))  # starts the sum: it has the type of the others
  total = jnp.zeros((count, *first.shape), first.dtype).at[0].set(first)
  i, j = (jnp.asarray(index[1:], jnp.int32) for index in np.triu_indices(count))
  return lax.scan(step, total, (i, j))[0].reshape(n, *first.shape[1:])


def entries() -> int:
  """In one block, on the devices of this process."""
  return ENTRIES_ON_GPU if jax.default_backend() == "gpu" else ENTRIES


def rows_in_a_block(n: int, m: int) -> int:
  """Rows that make one block with ``m`` in each; a divisor of ``n``, if one is near."""
  if not known(n, m):
    return ROWS_IF_UNKNOWN
  return _near_divisor(n, max(entries() // max(m, 1), 1))


def side_of_a_tile(n: int, entries: int) -> int:
  """The side of a square of about so many entries; a divisor of ``n``, if one is near."""
  return _near_divisor(n, max(int(entries**0.5), 1))


def worth_tiles(n: int, side: int) -> bool:
  """Half of the entries, but (n / side)^2 steps: not for many small tiles."""
  return n > side and (side >= SMALLEST_TILE or n <= FEW_TILES * side)


def _near_divisor(n: int, largest: int) -> int:
  if n <= largest:
    return max(n, 1)
  return next((b for b in range(largest, max(largest // 2, largest - 1000), -1) if n % b == 0), largest)


def padded(tree: Any, by: int) -> Any:
  """So many rows more, of zeros, and False."""
  return jax.tree.map(lambda a: jnp.pad(a, ((0, by), *((0, 0) for _ in a.shape[1:]))), tree)


def batch_size(points: PointSets) -> int:
  """How many members of a batch share the memory for blocks; groups of rows lie on a device each, or few on one."""
  arrays, roles = points.leaves()
  leading = [a.shape[: a.ndim - len(role)] for a, role in zip(arrays, roles, strict=True) if role[:1] in "nm" and role]
  offset = points.row_offset
  groups = 1 if offset is None or not offset.ndim else offset.shape[0]
  return math.prod(lax.broadcast_shapes(*leading)) // min(groups, GROUPS)
