"""Functions of one member of a batch, applied to leading axes."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp


def map_batch(function: Callable[..., Any], arrays: Sequence[Any], ranks: Sequence[int], results: str) -> Any:
  """``function`` of each member of a batch.

  Args:
    function: takes the arrays of one member.
    arrays: their leading axes broadcast against each other; ``None`` is passed on as it is.
    ranks: the number of axes that each array has in one member.
    results: the axes of the results, as in the signature of ``jnp.vectorize``.
  """
  leaves, structure = jax.tree.flatten(tuple(arrays))  # without those that are None
  own = [rank for a, rank in zip(arrays, ranks, strict=True) if a is not None]
  if all(a.ndim == rank for a, rank in zip(leaves, own, strict=True)):
    return function(*arrays)
  axes = [",".join(f"a{i}{j}" for j in range(rank)) for i, rank in enumerate(own)]
  mapped = jnp.vectorize(
    lambda *members: function(*jax.tree.unflatten(structure, members)),
    signature=",".join(f"({a})" for a in axes) + "->" + results,
  )
  return mapped(*leaves)
