"""Operations that take little time to trace: each function of ``jax.numpy`` traces a jitted program of its own."""

from typing import Any

import jax
import numpy as np
from jax import lax


def where(condition: jax.Array, a: Any, b: Any) -> jax.Array:
  """``jnp.where``; one of the two is an array, the other may be a number."""
  like = a if isinstance(a, jax.Array) else b
  a, b = (v if isinstance(v, jax.Array) else lax.full_like(like, v) for v in (a, b))
  return lax.select(condition, a, b)


def take(a: jax.Array, k: int, axis: int) -> jax.Array:
  """One of the arrays that lie along the axis."""
  return lax.index_in_dim(a, k, axis, keepdims=False)


def total(a: jax.Array, axis: int) -> jax.Array:
  """The sum along the axis."""
  return lax.reduce(a, np.zeros((), a.dtype), lax.add, (axis,))


def product(a: Any, b: Any, i: int, j: int) -> jax.Array:
  """The sum over axis ``i`` of ``a`` and ``j`` of ``b``, in full precision."""
  return lax.dot_general(a, b, (((i,), (j,)), ((), ())), precision=lax.Precision.HIGHEST)


def column(a: Any, shape: tuple[int, ...]) -> jax.Array:
  """``(n, m)``, from ``(n,)``."""
  return lax.broadcast_in_dim(a, shape, (0,))


def row(a: Any, shape: tuple[int, ...]) -> jax.Array:
  """``(n, m)``, from ``(m,)``."""
  return lax.broadcast_in_dim(a, shape, (1,))
