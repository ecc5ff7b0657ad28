"""Keys, which order candidates by their squared distance, ties by their index: 32 bits of each.

The bits of a float32 that is not negative are in its order. With one more than the index, no key is zero. Keys have 64
bits: what makes them is traced under ``jax.enable_x64``.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array

NOTHING = np.uint64(2**64 - 1)  # larger than the key of any point
_HALF = np.uint64(32)


def key_of(squared: Array, index: Array) -> Array:
  """Of float32 and int32; what is infinite or NaN is taken for the largest number."""
  finite = jnp.where(squared < jnp.inf, squared, jnp.finfo(np.float32).max)
  low = lax.bitcast_convert_type(index, jnp.uint32).astype(jnp.uint64) + np.uint64(1)
  return (lax.bitcast_convert_type(finite, jnp.uint32).astype(jnp.uint64) << _HALF) | low


def index_of(key: Array) -> Array:
  """-1 of NOTHING."""
  index = lax.bitcast_convert_type(key.astype(jnp.uint32) - np.uint32(1), jnp.int32)
  return jnp.where(key == NOTHING, -1, index)


def squared_of(key: Array) -> Array:
  """Inf of NOTHING."""
  return jnp.where(key == NOTHING, jnp.inf, lax.bitcast_convert_type(bits_of(key), jnp.float32))


def bits_of(key: Array) -> Array:
  """Those of the squared distance."""
  return (key >> _HALF).astype(jnp.uint32)
