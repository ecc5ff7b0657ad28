r"""The derivative of a minimum of the stress, by the implicit function theorem.

At a minimum ``F(X; t, w) = 0``, with F half of the gradient of the stress. Where t or w move, X moves by

.. math:: H\, dX = -(F_t\, dt + F_w\, dw), \qquad H = \partial F / \partial X.

H is symmetric, and its kernel are the rigid motions, if the distances determine the points. The right-hand side is
orthogonal to them, since no motion changes the stress; of all solutions, dX is the one that is orthogonal to them too,
and so of a cotangent of X only that part counts. Conjugate gradients, preconditioned by ``V^+``, find it.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.sparse.linalg import cg

from jax_edm._core.distance import dot
from jax_edm._mds.stress import Weights, apply_inverse, half_gradient, laplacian_inverse
from jax_edm._mds.sylvester import Spectrum, solve_sylvester

MAX_SOLVER_STEPS = 1000  # of conjugate gradients


@jax.custom_jvp
def stationary(x: jax.Array, t: jax.Array, w: Weights) -> jax.Array:
  """``x``, ``(n, d)``: a minimum of the stress, as a function of ``t`` and ``w``."""
  return _only_reverse_mode(x, t, w)


@stationary.defjvp
def _stationary_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
  (x, t, w), (_, dt, dw) = primals, tangents
  x = stationary(x, t, w)
  inverse = None if w is None else lax.stop_gradient(laplacian_inverse(w))
  right = jax.jvp(partial(half_gradient, x), (t, w), (dt, dw))[1]
  without_motions = partial(orthogonal_to_motions, x, jnp.linalg.eigh(dot(x.T, x)))
  # H plus this multiple of the projection on the motions is invertible; the multiple is about as large as H elsewhere.
  multiple = lax.stop_gradient(x.shape[0] if w is None else w.sum() / x.shape[0])
  tolerance = float(jnp.finfo(x.dtype).eps) ** 0.75

  def hessian(v: jax.Array) -> jax.Array:
    return jax.jvp(lambda x: half_gradient(x, t, w), (x,), (v,))[1] + multiple * (v - without_motions(v))

  def solve(hessian: Any, right: jax.Array) -> jax.Array:
    return cg(hessian, right, tol=tolerance, maxiter=MAX_SOLVER_STEPS, M=partial(apply_inverse, inverse=inverse))[0]

  dx = -without_motions(lax.custom_linear_solve(hessian, without_motions(right), solve, symmetric=True))
  return x, dx


def orthogonal_to_motions(x: jax.Array, spectrum: Spectrum, v: jax.Array) -> jax.Array:
  """The part of ``v`` that is orthogonal to all translations of x and to all rotations ``x S``, S antisymmetric.

  ``spectrum`` is that of ``x'x``.
  """
  v, square = v - v.mean(0), dot(x.T, x)
  turn = dot(x.T, v)
  return v - dot(x, solve_sylvester(square, square, turn - turn.T, spectrum, spectrum))


@jax.custom_vjp
def _only_reverse_mode(x: jax.Array, t: jax.Array, w: Weights) -> jax.Array:
  """``x``, with an error in forward mode.

  The reverse mode of ``lax.scan``, up to JAX 0.10, drops the rule of ``stationary`` from the values that it keeps.
  Forward mode on top of that then differentiates this function, and raises, instead of returning a derivative of zero.
  """
  return x


_only_reverse_mode.defvjp(lambda x, t, w: (x, (t, w)), lambda kept, g: (g, *jax.tree.map(jnp.zeros_like, kept)))
