r"""The derivative of a minimum of the stress, by the implicit function theorem.

At a minimum ``F(X; t, w) = 0``, with F half of the gradient of the stress. Where t or w move, X moves by

.. math:: H\, dX = -(F_t\, dt + F_w\, dw), \qquad H = \partial F / \partial X.

H is symmetric, and its kernel consists of the rigid motions, if the distances determine the points. The right-hand side
is orthogonal to them, since no motion changes the stress. Of all solutions, dX is the one that is orthogonal to them
too; so only that part of a cotangent of X counts. Conjugate gradients, preconditioned by ``V^+``, find it.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.sparse.linalg import cg

from jax_edm._core.distance import dot
from jax_edm._core.linear import Arrays, LinearMap, Tangents, linear
from jax_edm._mds.forces import Weights, half_gradient_by_differences, half_gradient_by_products
from jax_edm._mds.laplacian import apply_root, root_of_inverse
from jax_edm._mds.subspace import Spectrum
from jax_edm._mds.sylvester import solve_sylvester

MAX_SOLVER_STEPS = 1000  # of conjugate gradients


def stationary(x: jax.Array, t: jax.Array, w: Weights) -> jax.Array:
  """``x``, ``(n, d)``: a minimum of the stress, as a function of ``t`` and ``w``."""
  return linear(_STATIONARY, [lax.stop_gradient(x), t] if w is None else [lax.stop_gradient(x), t, w])[0]


def _tangent(constants: Arrays, _: Arrays, tangents: Tangents) -> Arrays:
  x, *of_stress = constants
  t, w = of_stress[0], of_stress[1] if len(of_stress) == 2 else None
  x = stationary(x, t, w)
  root = None if w is None else root_of_inverse(lax.stop_gradient(w))
  # Not whichever the weights need: JAX cannot transpose a lax.cond of which the members of a batch take both branches.
  half_gradient = half_gradient_by_products if w is None else half_gradient_by_differences
  moved = [jnp.zeros_like(a) if da is None else da for a, da in zip(of_stress, tangents[1:], strict=True)]
  right = jax.jvp(partial(half_gradient, x), of_stress, moved)[1]
  without_motions = partial(orthogonal_to_motions, x, jnp.linalg.eigh(dot(x.T, x)))
  # H plus this multiple of the projection on the motions is invertible; the multiple is about as large as H elsewhere.
  multiple = lax.stop_gradient(x.shape[0] if w is None else w.sum() / x.shape[0])
  tolerance = float(jnp.finfo(x.dtype).eps) ** 0.75

  def hessian(v: jax.Array) -> jax.Array:
    return jax.jvp(lambda x: half_gradient(x, *of_stress), (x,), (v,))[1] + multiple * (v - without_motions(v))

  def solve(hessian: Any, right: jax.Array) -> jax.Array:
    precondition = None if root is None else partial(apply_root, root)
    return cg(hessian, right, tol=tolerance, maxiter=MAX_SOLVER_STEPS, M=precondition)[0]

  return [-without_motions(lax.custom_linear_solve(hessian, without_motions(right), solve, symmetric=True))]


_STATIONARY = LinearMap(lambda x, *_: [x], _tangent)


def orthogonal_to_motions(x: jax.Array, spectrum: Spectrum, v: jax.Array) -> jax.Array:
  """The part of ``v`` that is orthogonal to all translations of x and to all rotations ``x S``, S antisymmetric.

  ``spectrum`` is that of ``x'x``.
  """
  v, square = v - v.mean(0), dot(x.T, x)
  turn = dot(x.T, v)
  return v - dot(x, solve_sylvester(square, square, turn - turn.T, spectrum, spectrum))
