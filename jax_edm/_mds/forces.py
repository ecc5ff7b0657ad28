r"""The forces between points: half of the gradient of the stress (``stress`` has the formula),

.. math:: F(X)_i = \sum_j w_{ij}\,(1 - t_{ij} / r_{ij})\,(x_i - x_j).

Where a pair has bounds, t is the distance between them that is nearest to r. So F is what it is for targets: the
derivative of ``(r - t)^2`` in t is zero where t moves with r.

x is (n, d), and the arrays of pairs are (n, n), of one member of a batch, in the dtype of the computation. The weights
have a zero diagonal.
"""

from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm._core import distance
from jax_edm._core.distance import Form, Side
from jax_edm._mds.units import unit_of
from jax_edm._pairwise import blocked
from jax_edm._pairwise.api import pairwise_sum

WIDE = 100  # the range of weights from which forces are summed from differences


class Pairs(NamedTuple):
  """The distances that cost nothing, from ``lower`` to ``upper``, and the weights, ``(n, n)`` each."""

  lower: jax.Array  # the target, where there is no upper one
  upper: jax.Array | None = None
  weights: jax.Array | None = None  # None: ones

  def target(self, r: jax.Array) -> jax.Array:
    """The distance nearest to ``r`` that costs nothing; NaN where the bounds contradict each other."""
    if self.upper is None:
      return self.lower
    # Exact bounds, lower == upper, are a target: it does not move with r, also where r is equal to it.
    nearest = jnp.where(r <= self.lower, self.lower, jnp.where(r >= self.upper, self.upper, r))
    return jnp.where(self.lower <= self.upper, nearest, jnp.nan)

  def known(self) -> "Pairs":
    """Where the weight is 0, whatever stands there: NaN and infinity too, since 0 * NaN is NaN."""
    if self.weights is None:
      return self
    # A target that has a square stays: the derivative with respect to its weight depends on it.
    largest = float(jnp.finfo(self.lower.dtype).max) ** 0.5 / 16
    some = jnp.abs(self.lower) < largest
    some = some if self.upper is None else some & (self.upper >= self.lower)
    missing = (self.weights == 0) & ~some
    upper = None if self.upper is None else jnp.where(missing, 0, self.upper)
    return Pairs(jnp.where(missing, 0, self.lower), upper, self.weights)

  def symmetrized(self) -> "Pairs":
    """The means of both triangles, so that each of the two has half of the derivative."""
    mean: Pairs = jax.tree.map(lambda a: (a + a.T) / 2, self.known())
    return mean

  def largest(self) -> jax.Array:
    """The target of each pair that has a weight, or its largest bound that is finite."""
    t = self.lower if self.upper is None else jnp.where(jnp.isinf(self.upper), self.lower, self.upper)
    return t if self.weights is None else jnp.where(self.weights == 0, 0, t)

  def unit(self) -> jax.Array:
    """A power of two that is about as large as the largest distance."""
    return unit_of(self.largest())

  def squares(self) -> jax.Array:
    squares = self.largest() ** 2
    return (squares if self.weights is None else self.weights * squares).sum()

  def in_units(self, unit: jax.Array, of_weights: jax.Array) -> "Pairs":
    lower, upper, w = self
    return Pairs(lower / unit, None if upper is None else upper / unit, None if w is None else w / of_weights)


def half_gradient(x: jax.Array, pairs: Pairs) -> jax.Array:
  """``F``, ``(n, d)``: by products, and by differences, which take twice the time, where weights have a wide range."""
  w = pairs.weights
  if w is None:
    return half_gradient_by_products(x, pairs)
  wide = w.max(initial=0) > WIDE * jnp.where(w > 0, w, jnp.inf).min(initial=jnp.inf)
  return lax.cond(wide, half_gradient_by_differences, half_gradient_by_products, x, pairs.known())


def half_gradient_by_products(x: jax.Array, pairs: Pairs) -> jax.Array:
  args, structure = jax.tree.flatten(pairs)

  def factor(D: jax.Array, *args: jax.Array) -> jax.Array:
    pair = jax.tree.unflatten(structure, args)
    error = 1 - ratio(pair, D)
    return error if pair.weights is None else pair.weights * error

  x = x - x.mean(0)
  values = jnp.concatenate([x, jnp.ones_like(x[:, :1])], 1)
  sums = pairwise_sum(factor, x, args=tuple(args), values=values)
  return sums[:, -1:] * x - sums[:, :-1]


def half_gradient_by_differences(x: jax.Array, pairs: Pairs, s: jax.Array | None = None) -> jax.Array:
  """``F``, or ``F - V s``, coordinate by coordinate: near points with large weights, far from the origin, pull on each
  other with forces that are opposite and equal, to the last digit.
  """
  moving = (x,) if s is None else (x, s)
  args, structure = jax.tree.flatten(pairs)

  def of_rows(_: Any, rows: tuple[jax.Array, ...]) -> jax.Array:
    pairs, own = jax.tree.unflatten(structure, rows[: len(args)]), rows[len(args) :]
    error = 1 - ratio(pairs, distance.squared(Form("difference", "difference"), (Side(own[0]), Side(x))))
    # Without the barriers XLA computes the roots anew for every coordinate. One for each: JAX 0.12 cannot transpose one
    # of which only a part has a derivative.
    error, w = lax.optimization_barrier(error), lax.optimization_barrier(pairs.weights)

    def of_coordinate(pairs: Any) -> jax.Array:
      of_points, *of_steps = (a[:, None] - b for a, b in pairs)
      # One product beside the difference: of two, a compiler may round the one for (i, j) and the other for (j, i).
      return (w * reduce(lax.sub, of_steps, error * of_points)).sum(1)

    return lax.map(of_coordinate, [(a.T, b.T) for a, b in zip(own, moving, strict=True)]).T

  n = x.shape[0]
  return blocked.map_row_blocks(of_rows, (*args, *moving), blocked.rows_in_a_block(n, n))


def ratio(pairs: Pairs, D: jax.Array) -> jax.Array:
  """``t / sqrt(D)``, and 0 where the two points coincide."""
  apart = D > 0
  r = jnp.sqrt(jnp.where(apart, D, 1))
  return jnp.where(apart, pairs.target(r) / r, 0)
