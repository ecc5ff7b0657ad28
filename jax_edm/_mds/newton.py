r"""Truncated Newton steps in a trust region: the end of a descent, where Guttman transforms are slow.

Distances that hardly determine the points (a long strip of near neighbours) have a Hessian H whose eigenvalues span
many decades, and Guttman transforms ``X - V^+ F(X)`` then move the points by less and less, for thousands of steps.
Here a step p minimises the quadratic model of half of the stress,

.. math:: m(p) = \langle F, p \rangle + \tfrac12 \langle p, H p \rangle, \qquad \langle p, V p \rangle \le \Delta^2,

by conjugate gradients, preconditioned by ``V^+`` and stopped at the boundary and where the curvature is not positive
(Steihaug 1983). The first of their steps points along the Guttman transform, which lowers the stress: so does a step,
once the radius is small enough. One that does not is not taken.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

MAX_SOLVER_STEPS = 1000  # of conjugate gradients
FIRST_RADIUS = 32  # Guttman transforms long
LEAST_GAIN, SMALL_GAIN, LARGE_GAIN = 1e-4, 0.25, 0.75  # of what the model promises
MOST_SHARE = 0.1
ROUNDING = 16  # eps of the stress: a promise that the values of the stress cannot confirm


class Landscape(Protocol):
  """The stress of some distances as a function of points, and ``V^+``."""

  def half_stress(self, x: jax.Array) -> jax.Array: ...

  def squares(self) -> jax.Array:
    """Of all targets, the sum with the weights: what forces are small in comparison to."""
    ...

  def forces(self, x: jax.Array) -> jax.Array:
    """The gradient of ``half_stress``; zero for points that are fixed."""
    ...

  def guttman(self, f: jax.Array) -> jax.Array:
    """``V^+ f``, or another matrix in the place of ``V^+``; zero for points that are fixed."""
    ...


class State(NamedTuple):
  x: jax.Array
  stress: jax.Array  # half of it
  forces: jax.Array
  slope: jax.Array  # <F, V^+ F>
  squares: jax.Array  # landscape.squares()
  radius: jax.Array
  steps: jax.Array
  moving: jax.Array


class Model(NamedTuple):
  """Conjugate gradients for the step ``p``, with the inner products of p and the direction q by V."""

  p: jax.Array
  residual: jax.Array  # F + H p
  slope: jax.Array  # <residual, V^+ residual>
  q: jax.Array
  pp: jax.Array
  pq: jax.Array
  qq: jax.Array
  products: jax.Array  # with the Hessian
  at_boundary: jax.Array
  searching: jax.Array


def descend(landscape: Landscape, x: jax.Array, tolerance: Any, steps: Any, max_steps: Any) -> tuple[Any, Any, Any]:
  """The points after Newton steps, the steps with those so far, and whether the last one still moved the points."""

  def next_step(state: State) -> State:
    return newton_step(landscape, state, tolerance)

  f = landscape.forces(x)
  slope = (f * landscape.guttman(f)).sum()
  radius = FIRST_RADIUS * jnp.sqrt(slope)
  state = State(x, landscape.half_stress(x), f, slope, landscape.squares(), radius, steps, slope > 0)
  state = lax.while_loop(lambda state: state.moving & (state.steps < max_steps), next_step, state)
  return state.x, state.steps, state.moving | ~jnp.isfinite(state.slope)


def newton_step(landscape: Landscape, state: State, tolerance: Any) -> State:
  x, radius = state.x, state.radius
  model = minimise_model(landscape, state)
  promise = -((model.p * state.forces).sum() + (model.p * (model.residual - state.forces)).sum() / 2)
  after = x + model.p
  stress, f = landscape.half_stress(after), landscape.forces(after)
  slope = (f * landscape.guttman(f)).sum()
  gain = (state.stress - stress) / promise
  # At a minimum with stress the last digits of the points do not show in its value: there the forces must shrink.
  hidden = promise <= ROUNDING * float(jnp.finfo(x.dtype).eps) * state.stress
  better = jnp.where(hidden, (slope < state.slope) & ~model.at_boundary, gain > LEAST_GAIN)
  grown = jnp.where((gain > LARGE_GAIN) & model.at_boundary, 2 * radius, radius)
  shrunk = jnp.where(gain < SMALL_GAIN, jnp.sqrt(model.pp) / 4, grown)
  is_small = jnp.linalg.norm(model.p) <= tolerance * jnp.linalg.norm(x - x.mean(0))
  at_rest = (is_small & ~model.at_boundary) | (hidden & ~better) | ~(promise > 0)
  new, old = (after, stress, f, slope), (x, state.stress, state.forces, state.slope)
  x, stress, f, slope = (jnp.where(better, a, b) for a, b in zip(new, old, strict=True))
  radius = jnp.where(hidden, grown, shrunk)
  return State(x, stress, f, slope, state.squares, radius, state.steps + 1, ~at_rest)


def minimise_model(landscape: Landscape, state: State) -> Model:
  """A step that is the more exact, the smaller the forces are: the last ones converge quadratically."""
  x, f = state.x, state.forces
  share = jnp.minimum(MOST_SHARE, (state.slope / state.squares) ** 0.25)  # of the forces that may be left
  hessian = jax.linearize(landscape.forces, x)[1]

  def next_direction(m: Model) -> Model:
    image = hessian(m.q)
    curvature = (m.q * image).sum()
    length = m.slope / jnp.where(curvature > 0, curvature, 1)
    pp = m.pp + length * (2 * m.pq + length * m.qq)
    leaves = (curvature <= 0) | (pp >= state.radius**2)
    to_boundary = (jnp.sqrt(jnp.maximum(m.pq**2 + m.qq * (state.radius**2 - m.pp), 0)) - m.pq) / m.qq
    length = jnp.where(leaves, to_boundary, length)
    residual = m.residual + length * image
    scaled = landscape.guttman(residual)
    slope = (residual * scaled).sum()
    turn = slope / m.slope
    pq, qq = turn * (m.pq + length * m.qq), slope + turn**2 * m.qq
    pp = jnp.where(leaves, state.radius**2, pp)
    searching = ~leaves & (slope > share**2 * state.slope)
    q = turn * m.q - scaled
    return Model(m.p + length * m.q, residual, slope, q, pp, pq, qq, m.products + 1, leaves, searching)

  zero, slope = jnp.zeros_like(state.slope), state.slope
  none = jnp.zeros_like(state.moving)
  start = Model(jnp.zeros_like(x), f, slope, -landscape.guttman(f), zero, zero, slope, jnp.int32(0), none, state.moving)
  return lax.while_loop(lambda m: m.searching & (m.products < MAX_SOLVER_STEPS), next_direction, start)
