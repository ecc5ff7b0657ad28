"""The stress of a list of measured pairs as a function of points, in O(n + m) memory and time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_edm._mds.landscape import free_rows

Apply = Callable[[jax.Array], jax.Array]


class Edges(NamedTuple):
  """The distances ``t`` between the points ``i`` and ``j``, and the weights ``w``, ``(m,)`` each."""

  i: jax.Array
  j: jax.Array
  t: jax.Array
  w: jax.Array

  def known(self) -> "Edges":
    """Where the weight is 0, whatever stands there: NaN and infinity too, since 0 * NaN is NaN."""
    # A distance that has a square stays: the derivative with respect to its weight depends on it.
    missing = (self.w == 0) & ~(jnp.abs(self.t) < float(jnp.finfo(self.t.dtype).max) ** 0.5 / 16)
    return self._replace(t=jnp.where(missing, 0, self.t))

  def degrees(self, n: int) -> jax.Array:
    """The weights of each point, ``(n,)``."""
    return jnp.zeros(n, self.w.dtype).at[self.i].add(self.w).at[self.j].add(self.w)


class EdgeLandscape(NamedTuple):
  """What :class:`newton.Landscape` says. In the place of ``V^+`` stands the inverse of twice the diagonal of V: the
  difference of the two matrices is positive semidefinite, so that a step with it lowers the stress, too.
  """

  edges: Edges
  fixed: jax.Array | None
  scale: jax.Array  # (n, 1)

  @classmethod
  def of(cls, edges: Edges, fixed: jax.Array | None, n: int) -> "EdgeLandscape":
    return cls(edges, fixed, inverse(2 * edges.degrees(n))[:, None])

  def half_stress(self, x: jax.Array) -> jax.Array:
    return half_stress(x, self.edges)

  def squares(self) -> jax.Array:
    return 2 * (self.edges.w * self.edges.t**2).sum()

  def forces(self, x: jax.Array) -> jax.Array:
    return free_rows(edge_forces(x, self.edges), self.fixed)

  def guttman(self, f: jax.Array) -> jax.Array:
    return free_rows(self.scale * f, self.fixed)


def inverse(degrees: jax.Array) -> jax.Array:
  """0 for a point without edges."""
  return jnp.where(degrees > 0, 1 / jnp.where(degrees > 0, degrees, 1), 0)


def half_stress(x: jax.Array, edges: Edges) -> jax.Array:
  return (edges.w * (lengths(x[edges.i] - x[edges.j]) - edges.t) ** 2).sum() / 2


def edge_forces(x: jax.Array, edges: Edges) -> jax.Array:
  """``F_i``, the sum over the edges of i of ``w (1 - t / r) (x_i - x_j)``, with ``t / r = 0`` where points coincide."""
  away = x[edges.i] - x[edges.j]
  r = lengths(away)
  pull = edges.w * (1 - jnp.where(r > 0, edges.t / jnp.where(r > 0, r, 1), 0))
  forces = pull[:, None] * away
  return jnp.zeros_like(x).at[edges.i].add(forces).at[edges.j].add(-forces)


def lengths(away: jax.Array) -> jax.Array:
  """With the derivative zero where it is zero."""
  D = (away * away).sum(1)
  return jnp.where(D == 0, 0, jnp.sqrt(jnp.where(D == 0, 1, D)))


def edge_scales(edges: Edges, fixed: jax.Array | None, n: int) -> tuple[Apply, Any]:
  """The inverse of the diagonal of V as a preconditioner, and the mean of that diagonal."""
  degrees = edges.degrees(n)
  multiple = degrees.mean()
  # The rows of fixed points have the multiple on the diagonal.
  diagonal = degrees if fixed is None else jnp.where(fixed, multiple, degrees)
  return lambda f: inverse(diagonal)[:, None] * f, multiple
