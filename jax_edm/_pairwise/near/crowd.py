"""Whether so many points are near that all pairs take less time than those of near tiles."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm._pairwise.near.batches import any_of_batch
from jax_edm._pairwise.near.tiles import TILE

Array = jax.Array

CROWDED = 0.4  # of all pairs of tiles: a near one takes up to two or three times as long, of functions that cost little
SAMPLE = 256  # points of each set


def is_crowded(x: Array, y: Array, x_mask: Array | None, y_mask: Array | None, squared_cutoff: Array) -> Array:
  """From a sample of pairs of points; of a batch whether any member is."""
  (n, d), m = x.shape, y.shape[0]
  rows, columns = (np.linspace(0, size - 1, min(SAMPLE, size)).astype(np.int32) for size in (n, m))
  exist = [jnp.ones(len(k), bool) if mask is None else mask[k] for k, mask in ((rows, x_mask), (columns, y_mask))]
  squared = _squared(*lax.stop_gradient((x[rows], y[columns])))
  both = exist[0][:, None] & exist[1][None, :]
  near, pairs = (a.sum(dtype=jnp.float32) for a in ((squared <= squared_cutoff) & both, both))
  # Two tiles are near if their centres are within a ball, whose volume the sample measures, and a tile around it. The
  # sides of both, in units of the side of the cloud:
  ball = (2**d * math.gamma(d / 2 + 1) / math.pi ** (d / 2) * near / jnp.maximum(pairs, 1)) ** (1 / d)
  tile = sum((TILE / size) ** (1 / d) for size in (n, m))
  return any_of_batch((ball + tile) ** d > CROWDED)


def _squared(x: Array, y: Array) -> Array:
  return jnp.square(x[:, None, :] - y[None, :, :]).sum(2)
