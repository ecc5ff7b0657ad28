"""Leading batch axes, and the pairs of a matrix that exist or lie on its diagonal."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def map_batch(function: Callable[..., Any], arrays: Sequence[Any], ranks: Sequence[int], results: str) -> Any:
  """``function`` of each member of a batch.

  Args:
    arrays: their leading axes broadcast against each other; ``None`` is passed on as it is.
    ranks: the number of axes of a member's arrays.
    results: the axes of what the function returns, as in the signature of ``jnp.vectorize``.
  """
  present = [a is not None for a in arrays]
  given = [a for a in arrays if a is not None]
  own = [rank for rank, there in zip(ranks, present, strict=True) if there]

  def of_given(*members: jax.Array) -> Any:
    left = iter(members)
    return function(*(next(left) if there else None for there in present))

  if all(a.ndim == rank for a, rank in zip(given, own, strict=True)):
    return of_given(*given)
  axes = [",".join(f"a{i}{j}" for j in range(rank)) for i, rank in enumerate(own)]
  return jnp.vectorize(of_given, signature=",".join(f"({a})" for a in axes) + "->" + results)(*given)


def diagonal(row_offset: jax.Array | int, shape: tuple[int, ...]) -> jax.Array:
  """Where the point of the row, counted from ``row_offset``, is the point of the column."""
  # Of two vectors: a loop would keep matrices of indices, and read them.
  i, j = (lax.iota(np.int32, size) for size in shape)
  return (i + row_offset)[:, None] == j[None, :]


def replace_masked(x: jax.Array, mask: jax.Array | None) -> jax.Array:
  """The first point that exists, in the place of every point that does not: finite, and no shift of the centre."""
  if mask is None or x.shape[0] == 0:
    return x
  first = lax.stop_gradient(x[jnp.argmax(mask)])[None, :]
  return jnp.where(mask[:, None], x, jnp.where(mask.any() & jnp.isfinite(first), first, 0))
