"""Boxes around tiles of points, and how far they are apart."""

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import lax

SLACK = 1e-5  # of rounding, in the squared distance between boxes


class Boxes(NamedTuple):
  """The smallest and the largest coordinates of points, ``(..., d)``; of no point, inf and -inf."""

  low: jax.Array
  high: jax.Array

  @classmethod
  def of_tiles(cls, tiles: jax.Array, exists: jax.Array) -> Self:
    """``(k, d)``: around each of the tiles ``(k, TILE, d)``, of whose points those in ``exists`` count."""
    tiles = lax.stop_gradient(tiles)
    low = jnp.where(exists[:, :, None], tiles, jnp.inf).min(1)
    return cls(low, jnp.where(exists[:, :, None], tiles, -jnp.inf).max(1))

  def grouped(self, size: int) -> Self:
    """``(g, s, d)``: those of so many tiles that follow each other, of all where there are fewer."""
    k, d = self.low.shape
    return jax.tree.map(lambda a: a.reshape(-1, min(size, k), d), self)

  def joined(self) -> Self:
    """``(g, d)``, around those of each group."""
    return type(self)(self.low.min(1), self.high.max(1))

  def taken(self, index: jax.Array) -> Self:
    return jax.tree.map(lambda a: a.at[index].get(mode="promise_in_bounds"), self)

  def along(self, axis: int) -> Self:
    """With one axis more."""
    return jax.tree.map(lambda a: jnp.expand_dims(a, axis), self)


def squared_gap(a: Boxes, b: Boxes) -> jax.Array:
  """``(...)``, the squared distances between boxes whose leading axes broadcast."""
  total: jax.Array | None = None
  for k in range(a.low.shape[-1]):  # by coordinates: what broadcasts is no array
    (al, ah), (bl, bh) = ((box.low[..., k], box.high[..., k]) for box in (a, b))
    gap = jnp.square(jnp.maximum(jnp.maximum(al - bh, bl - ah), 0))
    total = gap if total is None else total + gap
  assert total is not None
  return total
