"""Members of a batch in loops and branches."""

from collections.abc import Callable
from typing import Any

import jax

Array = jax.Array


def one_by_one(f: Callable[..., Any]) -> Callable[..., Any]:
  """The members of a batch one after the other: loops of several at once would go on until the last one is done, and
  copy what they add up in every step.
  """
  return jax.custom_batching.sequential_vmap(f)


@jax.custom_batching.custom_vmap
def any_of_batch(a: Array) -> Array:
  """Whether any entry is True; one number for all members of a batch, so that they take one way, and not both."""
  return a.any()


@any_of_batch.def_vmap
def _any_of_batch(axis_size: int, is_batched: list[bool], a: Array) -> tuple[Array, bool]:
  return any_of_batch(a), False
