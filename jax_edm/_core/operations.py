"""Operations that take little time to trace: each function of ``jax.numpy`` traces a jitted program of its own."""

from typing import Any

import jax
import numpy as np
from jax import lax

from jax_edm._core.sizes import at_most, known

# A CPU adds the terms of a product one after the other, unless there are at least so many rows and columns. Of a
# million equal terms that loses a hundredth of the sum; of so many the fifth digit.
FEW, LONG = 4, 2048
# A product of rows with ones takes a CPU up to a fifth less time than their sum, but in batches of small matrices it
# makes slow loops; of 64 rows of so many equal terms it has an error of 1e-5.
SMALL, MANY = 64, 8192


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
  """The sum over axis ``i`` of the matrix ``a`` and ``j`` of ``b``, in full precision; a long sum of few in parts."""
  m = a.shape[i]
  # Of sums over points. A part along axis 0 lies together; one along axis 1 is copied: worth it for few rows.
  few = j == 0 and any(at_most(size, FEW - 1) for size in (a.shape[1 - i], *([b.shape[1]] if i == 0 else [])))
  if not few or not known(m) or m <= LONG:
    return _dot(a, b, ((i,), (j,)))
  whole = m // LONG * LONG

  def parts(a: jax.Array, axis: int) -> jax.Array:
    head = lax.slice_in_dim(a, 0, whole, axis=axis)
    return head.reshape(*a.shape[:axis], whole // LONG, LONG, *a.shape[axis + 1 :])

  out = total(_dot(parts(a, i), parts(b, j), ((i + 1,), (j + 1,)), ((i,), (j,))), 0)
  if whole == m:
    return out
  rest_of_a, rest_of_b = (lax.slice_in_dim(v, whole, m, axis=axis) for v, axis in ((a, i), (b, j)))
  return out + _dot(rest_of_a, rest_of_b, ((i,), (j,)))


def row_sums(a: jax.Array) -> jax.Array:
  """``(n,)``, of a matrix ``(n, m)``."""
  if at_most(a.shape[1], SMALL) or not at_most(a.shape[1], MANY):
    return total(a, 1)
  return _dot(a, lax.full_like(a, 1, shape=a.shape[1:]), ((1,), (0,)))


def _dot(a: Any, b: Any, contracting: Any, batch: Any = ((), ())) -> jax.Array:
  return lax.dot_general(a, b, (contracting, batch), precision=lax.Precision.HIGHEST)


def column(a: Any, shape: tuple[int, ...]) -> jax.Array:
  """``(n, m)``, from ``(n,)``."""
  return lax.broadcast_in_dim(a, shape, (0,))


def row(a: Any, shape: tuple[int, ...]) -> jax.Array:
  """``(n, m)``, from ``(m,)``."""
  return lax.broadcast_in_dim(a, shape, (1,))
