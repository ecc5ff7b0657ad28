r"""The derivatives of two spectral maps of distance geometry, also where eigenvalues or singular values repeat.

JAX differentiates an eigenvector by ``1 / (lambda_a - lambda_b)``, which is infinite for the triangle, the square and
the cube. Yet the functions that are made of the eigenvectors here are smooth there. The tangent of both maps solves a
Sylvester equation whose coefficients are themselves smooth, so the same solver gives derivatives of every order.

**The principal part of a Gram matrix.** Let ``B = V diag(lambda) V'`` and keep k eigenvalues, all positive. The points
``X = V_k diag(lambda_k)^{1/2}`` satisfy ``B X = X (X'X)``, and ``X X'`` is the best approximation of B of rank k. With
``C = X'X`` and the rest ``R = B - X X'``, differentiate ``B X = X C`` and drop the part of dX that only turns X, which
no distance depends on:

.. math:: Y C - R Y = dB\, X, \qquad dX = Y - \tfrac12 X\, C^{-1} X' Y.

In the basis V, with ``E = V' dB V``, the solution has the entries ``E_ba sqrt(lambda_a) / (lambda_a - lambda_b)`` for a
dropped b and a kept a, and ``E_ba / 2 sqrt(lambda_a)`` for a kept b. So ``d(X X')`` is E times 1 between two kept
eigenvalues and ``lambda_a / (lambda_a - lambda_b)`` between a kept and a dropped one: the difference of two kept
eigenvalues is in no denominator.

**The rotation nearest to a matrix.** The orthogonal R that maximises ``tr(R'M)`` makes ``H = R'M`` symmetric. A
tangent is ``dR = R W`` with W antisymmetric; differentiate ``R'M = M'R``:

.. math:: H W + W H = R'dM - dM'R.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm._core.derivatives import safe_root
from jax_edm._core.distance import dot
from jax_edm._core.linear import Arrays, LinearMap, Tangents, linear
from jax_edm._mds.subspace import Spectrum, all_eigenvalues

Factors = tuple[jax.Array, jax.Array, jax.Array]  # of a singular value decomposition


def rounding(values: jax.Array) -> jax.Array:
  """How large an eigenvalue or a singular value can be from rounding alone, given all of them."""
  return 16 * float(jnp.finfo(values.dtype).eps) * jnp.abs(values).max(initial=0)


def principal_points(B: jax.Array, largest: Spectrum) -> jax.Array:
  """``V_k diag(lambda_k)^{1/2}``, ``(n, k)``; a zero column for an eigenvalue that is not positive.

  ``largest`` are the k largest eigenvalues of ``B``, a Gram matrix, in descending order, and their eigenvectors.
  """
  return linear(_PRINCIPAL_POINTS, [B, *lax.stop_gradient(largest)])[0]


def _principal_points_tangent(constants: Arrays, _: Arrays, tangents: Tangents) -> Arrays:
  (B, *largest), dB = constants, tangents[0]
  assert dB is not None  # nothing else has a tangent
  values, vectors = all_eigenvalues(lax.stop_gradient(B))
  x = principal_points(B, (largest[0], largest[1]))
  k = x.shape[1]
  kept = (values > rounding(values)) & (jnp.arange(len(values)) < k)
  # A zero column stays zero. A positive number in the place of its eigenvalue makes C invertible.
  filler = jnp.where(kept[:k], 0, jnp.abs(values).max(initial=0) + jnp.finfo(B.dtype).tiny)
  c, rest = dot(x.T, x) + jnp.diag(filler), B - dot(x, x.T)
  spectrum_of_rest = (jnp.where(kept, 0, -values), vectors)
  spectrum_of_c = (jnp.where(kept[:k], values[:k], filler), jnp.eye(k, dtype=B.dtype))
  y = solve_sylvester(-rest, c, dot(dB, jnp.where(kept[:k], x, 0)), spectrum_of_rest, spectrum_of_c)
  return [y - dot(x, jnp.linalg.solve(c, dot(x.T, y))) / 2]


_PRINCIPAL_POINTS = LinearMap(
  lambda B, values, vectors: [vectors * safe_root(jnp.maximum(values, 0))], _principal_points_tangent
)


def nearest_rotation(m: jax.Array, factors: Factors) -> jax.Array:
  """``U V'``; ``factors`` are U, the singular values and V of ``m``, where the last value may have a negative sign."""
  return linear(_NEAREST_ROTATION, [m, *lax.stop_gradient(factors)])[0]


def _nearest_rotation_tangent(constants: Arrays, _: Arrays, tangents: Tangents) -> Arrays:
  (m, u, values, v), dm = constants, tangents[0]
  assert dm is not None  # nothing else has a tangent
  r = nearest_rotation(m, (u, values, v))
  h, turn = dot(r.T, m), dot(r.T, dm)
  h = (h + h.T) / 2
  return [dot(r, solve_sylvester(h, h, turn - turn.T, (values, v), (values, v)))]


_NEAREST_ROTATION = LinearMap(lambda m, u, values, v: [dot(u, v.T)], _nearest_rotation_tangent)


def solve_sylvester(
  a: jax.Array, b: jax.Array, c: jax.Array, spectrum_of_a: Spectrum, spectrum_of_b: Spectrum
) -> jax.Array:
  """``Y`` with ``a Y + Y b = c``, a and b symmetric; zero in the directions where their eigenvalues add up to zero."""
  (p, u), (q, v) = lax.stop_gradient((spectrum_of_a, spectrum_of_b))
  total = p[:, None] + q[None, :]
  regular = jnp.abs(total) > rounding(jnp.concatenate([p, q]))
  inverse = jnp.where(regular, 1 / jnp.where(regular, total, 1), 0)

  def solve(_: Any, c: jax.Array) -> jax.Array:
    return dot(dot(u, inverse * dot(dot(u.T, c), v)), v.T)

  return lax.custom_linear_solve(lambda y: dot(a, y) + dot(y, b), c, solve, symmetric=True)
