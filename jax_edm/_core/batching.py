"""Functions of one member of a batch, applied to leading axes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp


def map_batch(function: Callable[..., Any], arrays: Sequence[Any], ranks: Sequence[int], results: str) -> Any:
  """``function`` of each member of a batch.

  Args:
    function: of one member of the batch.
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
