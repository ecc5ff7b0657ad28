"""The search for a minimum of the stress from all starts, and what it needs to be one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm._core.distance import Form, Side, dot, squared
from jax_edm._mds import newton
from jax_edm._mds.forces import Pairs
from jax_edm._mds.landscape import DenseLandscape
from jax_edm._mds.starts import starts
from jax_edm._pairwise import blocked

EXTRA_COORDINATES = 1  # of the over-dimensional start
WIDE_TOLERANCE = 1e-6  # of the over-dimensional phase
NEWTON_FROM = 1e-3  # how far, beside their spread, a Guttman transform moves the points before Newton steps begin
EQUAL_STRESS = 32  # eps of the residuals and of the stress: how far rounding moves the stress of a minimum

State = tuple[jax.Array, Any, Any]  # points, the steps so far, and whether the last of them still moved the points


class Found(NamedTuple):
  """Points, half of their stress, the steps, and whether they have converged."""

  points: jax.Array
  half_stress: jax.Array
  steps: jax.Array
  converged: jax.Array


class Limits(NamedTuple):
  """Of a search."""

  max_steps: Any
  tolerance: Any

  def at_least(self, floor: Any) -> jax.Array:
    """The tolerance of a phase that need not be finer than ``floor``. 0 stays: then every phase takes all its steps."""
    return jnp.where(self.tolerance == 0, 0, jnp.maximum(self.tolerance, floor))


def search(
  pairs: Pairs, fixed: jax.Array | None, initial: jax.Array | None, key: Any, dim: int, restarts: int, limits: Limits
) -> Found:
  """The best result of all starts."""
  n = pairs.lower.shape[0]
  wide = min(dim + EXTRA_COORDINATES, n - 1) if fixed is None else dim + EXTRA_COORDINATES
  landscape = DenseLandscape.of(pairs, fixed)

  def run(start: jax.Array, is_initial: jax.Array) -> Found:
    def narrow(x: jax.Array) -> jax.Array:  # the fixed points say where the axes are
      return x[:, :dim] if fixed is not None else jnp.where(is_initial, x[:, :dim], principal_axes(x, dim))

    x, steps = start, jnp.int32(0)
    if wide > dim:
      x, steps, _ = guttman_descent(landscape, limits.at_least(WIDE_TOLERANCE), x, steps, limits.max_steps // 2)
    x, steps, moving = descent(landscape, narrow(x), steps, limits)
    x = narrow(x)
    sigma = landscape.half_stress(x)
    return Found(x, sigma, steps, ~moving & jnp.isfinite(sigma))

  is_initial = (jnp.arange(restarts) == 0) & (initial is not None)
  found = jax.vmap(run)(starts(pairs, fixed, initial, key, wide, restarts), is_initial)
  best = least_stress(found, pairs) if restarts > 1 else 0
  found = Found(*(a[best] for a in found))
  is_minimum = is_placed(found.points, pairs, fixed) & ~jnp.isnan(limits.tolerance)
  return found._replace(converged=found.converged & is_minimum)


def least_stress(found: Found, pairs: Pairs) -> jax.Array:
  """The index of the best start. Of those whose stress differs by rounding alone, that of the least diameter: where
  distances have several solutions, a part that is folded out is further away.
  """
  eps = float(jnp.finfo(pairs.lower.dtype).eps)
  sigma = jnp.where(jnp.isnan(found.half_stress), jnp.inf, found.half_stress)
  least = sigma.min()
  rounding = EQUAL_STRESS * (eps * least + EQUAL_STRESS * eps**2 * pairs.squares())
  diameters = lax.map(diameter, found.points)
  return jnp.argmin(jnp.where(sigma <= least + rounding, diameters, jnp.inf))


def diameter(x: jax.Array) -> jax.Array:
  """The largest squared distance, in O(n) memory."""
  n = x.shape[0]
  form = Form("difference", "difference")
  return blocked.map_row_blocks(
    lambda _, rows: squared(form, (Side(rows[0]), Side(x))).max(1), (x,), blocked.rows_in_a_block(n, n)
  ).max()


def descent(landscape: DenseLandscape, x: jax.Array, steps: Any, limits: Limits) -> State:
  """Guttman transforms, until one moves the points by less than a thousandth of their spread; then Newton steps."""
  x, steps, _ = guttman_descent(landscape, limits.at_least(NEWTON_FROM), x, steps, limits.max_steps)
  return newton.descend(landscape._replace(precise=True), x, limits.tolerance, steps, limits.max_steps)


def guttman_descent(landscape: newton.Landscape, tolerance: Any, x: jax.Array, steps: Any, max_steps: Any) -> State:
  return repeated(lambda x: x - landscape.guttman(landscape.forces(x)), tolerance, x, steps, max_steps)


def repeated(step: Callable[[jax.Array], jax.Array], tolerance: Any, x: jax.Array, steps: Any, max_steps: Any) -> State:
  """Steps until one moves x by no more than the tolerance, or until there are ``max_steps``, with those so far."""

  def next_step(state: State) -> State:
    x, steps, _ = state
    after = step(x)
    return after, steps + 1, jnp.linalg.norm(after - x) > tolerance * jnp.linalg.norm(after - after.mean(0))

  return lax.while_loop(lambda state: state[2] & (state[1] < max_steps), next_step, (x, steps, True))


def principal_axes(x: jax.Array, dim: int) -> jax.Array:
  """``x``, ``(n, d)``, centred, in its first ``dim`` principal axes."""
  x = x - x.mean(0)
  return dot(x, jnp.linalg.eigh(dot(x.T, x))[1][:, ::-1][:, :dim])


def is_placed(x: jax.Array, pairs: Pairs, fixed: jax.Array | None) -> jax.Array:
  """Whether points that no longer move are a minimum for distances that determine them."""
  w = pairs.weights
  t = pairs.lower if w is None else jnp.where(w == 0, 0, pairs.lower)
  not_negative = t.min() >= -(float(jnp.finfo(t.dtype).eps) ** 0.5) * t.max()
  # Points that all coincide do not move, but are a minimum only for distances that are all zero.
  apart = (x != x[0]).any() | (t == 0).all()
  of_weights = jnp.ones((), bool) if w is None else (w >= 0).all()
  of_points = is_connected(w) if fixed is None else hangs_on_enough(w, fixed, x.shape[1])
  return apart & not_negative & of_weights & jnp.isfinite(x).all() & of_points


def is_connected(w: jax.Array | None) -> jax.Array:
  """Whether the pairs with a weight connect all points."""
  return jnp.ones((), bool) if w is None else (parts(w != 0) == 0).all()


def parts(linked: jax.Array) -> jax.Array:
  """The part of a graph, ``(n, n)``, that each point is in: the smallest index of its points."""
  n = linked.shape[0]

  def spread(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    _, part = state
    return part, jnp.minimum(part, jnp.where(linked, part[:, None], n).min(0))

  part = jnp.arange(n)
  return lax.while_loop(lambda state: (state[0] != state[1]).any(), spread, (part - 1, part))[1]


def hangs_on_enough(w: jax.Array | None, fixed: jax.Array, dim: int) -> jax.Array:
  """Whether each part of the free points hangs on as many fixed ones as there are coordinates: about fewer it turns."""
  if w is None:
    return (fixed.sum() >= dim) | fixed.all()
  linked, free = w != 0, ~fixed
  part = parts(linked & free[:, None] & free)
  # (part, fixed point): whether a point of the part has a distance to it.
  links = jnp.zeros_like(linked).at[part].max(linked & free[:, None] & fixed)
  return ((links.sum(1) >= dim) | ~free | (part != jnp.arange(len(part)))).all()
