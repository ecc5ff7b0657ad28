r"""The derivative of a minimum of the stress, by the implicit function theorem.

At a minimum ``F(X; t, w) = 0``, with F half of the gradient of the stress. Where t or w move, X moves by

.. math:: H\, dX = -(F_t\, dt + F_w\, dw), \qquad H = \partial F / \partial X.

H is symmetric, and its kernel consists of the rigid motions, if the distances determine the points. The right-hand side
is orthogonal to them, since no motion changes the stress. Of all solutions, dX is the one that is orthogonal to them
too; so only that part of a cotangent of X counts. Conjugate gradients, preconditioned by ``V^+`` or its like, find it.

Where some points are fixed, F is that of the others, H is their block, which is invertible, and there is one more term
on the right: the fixed points p move F by ``F_p dp``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.sparse.linalg import cg

from jax_edm._core.distance import dot
from jax_edm._core.linear import Arrays, LinearMap, Tangents, linear
from jax_edm._mds.landscape import free_rows
from jax_edm._mds.subspace import Spectrum
from jax_edm._mds.sylvester import solve_sylvester

MAX_SOLVER_STEPS = 1000  # of conjugate gradients

Apply = Callable[[jax.Array], jax.Array]


@dataclass(frozen=True)
class Stress:
  """How a kind of measurements (all pairs of a matrix, or a list of edges) makes forces."""

  forces: Callable[[jax.Array, Any], jax.Array]  # of the points and the measurements
  # Of measurements, fixed points and n: a preconditioner of H, if there is one, and a number about as large as H.
  scales: Callable[[Any, jax.Array | None, int], tuple[Apply | None, Any]]


class Minimum(NamedTuple):
  """Points, and what they are a minimum for; ``places`` are the points that are fixed, and anything elsewhere."""

  x: jax.Array
  measured: Any
  fixed: jax.Array | None
  places: jax.Array | None


def stationary(stress: Stress, minimum: Minimum) -> jax.Array:
  """The points ``x``, ``(n, d)``, of a minimum as a function of the measurements and of the places of fixed points."""
  arrays, structure = jax.tree.flatten(minimum._replace(x=lax.stop_gradient(minimum.x)))
  return linear(_stationary(stress, structure), arrays)[0]


@lru_cache
def _stationary(stress: Stress, structure: Any) -> LinearMap:
  return LinearMap(lambda x, *_: [x], partial(_tangent, stress, structure))


def _tangent(stress: Stress, structure: Any, constants: Arrays, _: Arrays, tangents: Tangents) -> Arrays:
  minimum = jax.tree.unflatten(structure, constants)
  _, measured, fixed, _places = minimum
  x = stationary(stress, minimum)
  moved = [jnp.zeros_like(a) if da is None else da for a, da in zip(constants, tangents, strict=True)]
  _, d_measured, _, d_places = jax.tree.unflatten(structure, moved)
  # The integers of a list of edges have no derivative.
  arrays, of_measured = jax.tree.flatten(measured)
  real = [jnp.issubdtype(a.dtype, jnp.floating) for a in arrays]
  tangents = [da for da, is_real in zip(jax.tree.leaves(d_measured), real, strict=True) if is_real]

  def forces(x: jax.Array, *of_reals: jax.Array) -> jax.Array:
    rest = iter(of_reals)
    own = [next(rest) if is_real else a for a, is_real in zip(arrays, real, strict=True)]
    return free_rows(stress.forces(x, jax.tree.unflatten(of_measured, own)), fixed)

  reals = [a for a, is_real in zip(arrays, real, strict=True) if is_real]
  if fixed is None:
    dx, determined = jnp.zeros_like(x), partial(orthogonal_to_motions, x, jnp.linalg.eigh(dot(x.T, x)))
    right = jax.jvp(partial(forces, x), reals, tangents)[1]
  else:
    dx, determined = jnp.where(fixed[:, None], d_places, 0), partial(free_rows, fixed=fixed)
    right = jax.jvp(forces, (x, *reals), (dx, *tangents))[1]
  precondition, multiple = stress.scales(lax.stop_gradient(measured), fixed, len(x))
  tolerance = float(jnp.finfo(x.dtype).eps) ** 0.75

  # H plus a multiple of the projection on the rest is invertible; the multiple is about as large as H elsewhere.
  def hessian(v: jax.Array) -> jax.Array:
    image = jax.jvp(lambda x: forces(x, *reals), (x,), (free_rows(v, fixed),))[1]
    return image + multiple * (v - determined(v))

  def solve(hessian: Any, right: jax.Array) -> jax.Array:
    return cg(hessian, right, tol=tolerance, maxiter=MAX_SOLVER_STEPS, M=precondition)[0]

  return [dx - determined(lax.custom_linear_solve(hessian, determined(right), solve, symmetric=True))]


def orthogonal_to_motions(x: jax.Array, spectrum: Spectrum, v: jax.Array) -> jax.Array:
  """The part of ``v`` that is orthogonal to all translations of x and to all rotations ``x S``, S antisymmetric.

  ``spectrum`` is that of ``x'x``.
  """
  v, square = v - v.mean(0), dot(x.T, x)
  turn = dot(x.T, v)
  return v - dot(x, solve_sylvester(square, square, turn - turn.T, spectrum, spectrum))
