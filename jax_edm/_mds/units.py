"""Units that are powers of two: in them no square overflows or vanishes, and no digit changes.

A derivative multiplies more powers of the scale than a value does. The functions that take points, distances or weights
of any size divide by a unit first, and multiply their results by it.
"""

import jax
import jax.numpy as jnp
from jax import lax


def unit_of(a: jax.Array, axis: tuple[int, ...] | None = None) -> jax.Array:
  """A power of two that is about as large as the largest entry; 1 where all are zero. With ``axis`` these axes stay."""
  return positive(power_of_two(jnp.abs(a).max(axis, initial=0, keepdims=axis is not None)))


def power_of_two(a: jax.Array) -> jax.Array:
  """One that is about as large as ``a``; 0 for 0. A constant for derivatives."""
  a = lax.stop_gradient(a)
  return lax.reduce_precision(a / 2, jnp.finfo(a.dtype).nexp, 0)  # half, since rounding up might overflow


def positive(unit: jax.Array) -> jax.Array:
  return jnp.where(unit == 0, 1, unit)


def in_units(a: jax.Array, unit: jax.Array, power: int) -> jax.Array:
  """``a / unit**power``, without the power, which might overflow."""
  for _ in range(power):
    a = a / positive(unit)
  return a
