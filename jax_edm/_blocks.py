"""The rows of a matrix of pairs in blocks: how large, in a loop, over batches, and which pairs there are."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

ENTRIES = 2**19  # in one block: 2 MiB in float32 stay in a core's cache, and outweigh the cost of a step

Block = Callable[..., Any]  # (first row, the rows of what has rows) -> the reduced rows


def by_rows(rows: Block, own: Any, block: int) -> Any:
  """``rows(start, own[start : start + block])`` for all blocks, joined; a derivative makes each block anew."""
  rows = jax.checkpoint(rows, prevent_cse=False)
  n = jax.tree.leaves(own)[0].shape[0]
  if n <= block:
    return rows(0, own)
  whole = (
    n // block * block
  )  # the odd block comes last, by itself: nothing is padded, and nothing copied if there is none

  def split(a: jax.Array) -> jax.Array:
    return a[:whole].reshape(whole // block, block, *a.shape[1:])

  steps = (jnp.arange(0, whole, block, dtype=jnp.int32), jax.tree.map(split, own))
  out = lax.scan(lambda _, step: (None, rows(*step)), None, steps)[1]
  out = jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), out)
  if whole == n:
    return out
  return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), out, rows(whole, jax.tree.map(lambda a: a[whole:], own)))


def rows_in_a_block(n: int, m: int) -> int:
  """Rows that make about ``ENTRIES`` entries; a divisor of ``n``, if one is near."""
  most = max(ENTRIES // max(m, 1), 1)
  if n <= most:
    return max(n, 1)
  return next((b for b in range(most, max(most // 2, most - 1000), -1) if n % b == 0), most)


def diagonal(start: jax.Array | int, shape: tuple[int, ...]) -> jax.Array:
  """Where the point of the row, counted from ``start``, is the point of the column."""
  i, j = (lax.broadcasted_iota(jnp.int32, shape, axis) for axis in (0, 1))
  return i + start == j


def present(where: jax.Array | None, exists: jax.Array | None) -> jax.Array | None:
  """The pairs of which both points exist; ``None``: all."""
  row = None if where is None else where[:, None]
  column = None if exists is None else exists if exists.ndim == 2 else exists[None, :]
  return column if row is None else row if column is None else row & column


def batched(function: Callable[..., Any], arrays: tuple[Any, ...], ranks: tuple[int, ...], results: str) -> Any:
  """``function`` of each member of the batch; ``ranks`` are those of a member's arrays, which may be ``None``."""

  def of_given(*given: jax.Array) -> Any:
    left = iter(given)
    return function(*(None if a is None else next(left) for a in arrays))

  axes = [",".join(f"a{i}{j}" for j in range(rank)) for i, rank in enumerate(ranks) if arrays[i] is not None]
  signature = ",".join(f"({a})" for a in axes) + "->" + results
  return jnp.vectorize(of_given, signature=signature)(*(a for a in arrays if a is not None))
