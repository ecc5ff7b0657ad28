r"""The forces between points: half of the gradient of the stress (``stress`` has the formula),

.. math:: F(X)_i = \sum_j w_{ij}\,(1 - t_{ij} / r_{ij})\,(x_i - x_j).

x is (n, d), t and w are (n, n), of one member of a batch, in the dtype of the computation. The weights have a zero
diagonal.
"""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm._core import distance
from jax_edm._core.distance import Form, Side
from jax_edm._pairwise import blocked
from jax_edm._pairwise.api import pairwise_sum

Weights = jax.Array | None

WIDE = 100  # the range of weights from which forces are summed from differences


def half_gradient(x: jax.Array, t: jax.Array, w: Weights) -> jax.Array:
  """``F``, ``(n, d)``: by products, and by differences, which take twice the time, where weights have a wide range."""
  if w is None:
    return half_gradient_by_products(x, t)
  args = args_of_pairs(t, w)
  wide = w.max(initial=0) > WIDE * jnp.where(w > 0, w, jnp.inf).min(initial=jnp.inf)
  return lax.cond(wide, half_gradient_by_differences, half_gradient_by_products, x, *args)


def half_gradient_by_products(x: jax.Array, *args: jax.Array) -> jax.Array:
  def factor(D: jax.Array, t: jax.Array, *w: jax.Array) -> jax.Array:
    return w[0] * (1 - ratio(t, D)) if w else 1 - ratio(t, D)

  x = x - x.mean(0)
  values = jnp.concatenate([x, jnp.ones_like(x[:, :1])], 1)
  sums = pairwise_sum(factor, x, args=args, values=values)
  return sums[:, -1:] * x - sums[:, :-1]


def half_gradient_by_differences(x: jax.Array, t: jax.Array, w: jax.Array, s: jax.Array | None = None) -> jax.Array:
  """``F``, or ``F - V s``, coordinate by coordinate: near points with large weights, far from the origin, pull on each
  other with forces that are opposite and equal, to the last digit.
  """
  moving = (x,) if s is None else (x, s)

  def of_rows(_: Any, rows: tuple[jax.Array, ...]) -> jax.Array:
    t, w, *own = rows
    error = 1 - ratio(t, distance.squared(Form("difference", "difference"), (Side(own[0]), Side(x))))
    # Without the barriers XLA computes the roots anew for every coordinate. One for each: JAX 0.12 cannot transpose one
    # of which only a part has a derivative.
    error, w = lax.optimization_barrier(error), lax.optimization_barrier(w)

    def of_coordinate(pairs: Any) -> jax.Array:
      of_points, *of_steps = (a[:, None] - b for a, b in pairs)
      # One product beside the difference: of two, a compiler may round the one for (i, j) and the other for (j, i).
      return (w * reduce(lax.sub, of_steps, error * of_points)).sum(1)

    return lax.map(of_coordinate, [(a.T, b.T) for a, b in zip(own, moving, strict=True)]).T

  n = x.shape[0]
  return blocked.map_row_blocks(of_rows, (t, w, *moving), blocked.rows_in_a_block(n, n))


def ratio(t: jax.Array, D: jax.Array) -> jax.Array:
  """``t / sqrt(D)``, and 0 where the two points coincide."""
  apart = D > 0
  return jnp.where(apart, t / jnp.sqrt(jnp.where(apart, D, 1)), 0)


def args_of_pairs(t: jax.Array, w: Weights) -> tuple[jax.Array, ...]:
  """The targets, and the weights if there are any. A target without a weight must have a square: 0 * NaN is NaN."""
  # One that has stays: the derivative with respect to its weight depends on it.
  largest = float(jnp.finfo(t.dtype).max) ** 0.5 / 16
  return (t,) if w is None else (jnp.where((w == 0) & ~(jnp.abs(t) < largest), 0, t), w)


def symmetrized(t: jax.Array, w: Weights) -> tuple[jax.Array, Weights]:
  """The means of both triangles, so that each of the two has half of the derivative."""
  t, *ws = args_of_pairs(t, w)
  return (t + t.T) / 2, (ws[0] + ws[0].T) / 2 if ws else None
