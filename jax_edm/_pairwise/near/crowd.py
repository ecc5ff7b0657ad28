"""Whether so many points are near that all pairs take less time than those of near tiles."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm._pairwise.near.tiles import TILE

CROWDED = 0.4  # of all pairs of tiles: near ones take up to 2.7 times as long, of functions that cost nothing
SAMPLE = 256  # points of each set


def is_crowded(x: jax.Array, y: jax.Array, x_mask: Any, y_mask: Any, squared_cutoff: Any) -> jax.Array:
  """From a sample of pairs of points; of a batch whether any member is."""
  (n, d), m = x.shape, y.shape[0]
  rows, columns = (np.linspace(0, size - 1, min(SAMPLE, size)).astype(np.int32) for size in (n, m))
  exist = [jnp.ones(len(k), bool) if mask is None else mask[k] for k, mask in ((rows, x_mask), (columns, y_mask))]
  near, pairs = _counts(lax.stop_gradient((x[rows], y[columns], *exist, squared_cutoff)))
  # Two tiles are near if their centres are within a ball, whose volume the sample measures, and a tile around it. The
  # sides of both, in units of the side of the cloud:
  ball = (2**d * math.gamma(d / 2 + 1) / math.pi ** (d / 2) * near / jnp.maximum(pairs, 1)) ** (1 / d)
  tile = sum((TILE / size) ** (1 / d) for size in (n, m))
  return _any((ball + tile) ** d > CROWDED)


def _counts(sample: Any) -> tuple[jax.Array, jax.Array]:
  x, y, x_exists, y_exists, squared_cutoff = sample
  squared = sum(jnp.square(x[:, None, k] - y[None, :, k]) for k in range(x.shape[1]))
  pairs = x_exists[:, None] & y_exists[None, :]
  return ((squared <= squared_cutoff) & pairs).sum(dtype=jnp.float32), pairs.sum(dtype=jnp.float32)


@jax.custom_batching.custom_vmap
def _any(crowded: jax.Array) -> jax.Array:
  """One number for all members of a batch, so that they take one way, and not both."""
  return crowded.any()


@_any.def_vmap
def _any_of_batch(_: int, __: Any, crowded: jax.Array) -> tuple[jax.Array, bool]:
  return _any(crowded), False
