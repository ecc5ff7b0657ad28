"""Sizes of axes, which are symbols where ``jax.export`` makes one program for all of them."""

from typing import Any


def at_most(size: Any, most: int) -> bool:
  """A symbol counts as large."""
  return isinstance(size, int) and size <= most


def known(*sizes: Any) -> bool:
  """None of them is a symbol."""
  return all(isinstance(size, int) for size in sizes)
