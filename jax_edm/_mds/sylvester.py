r"""How JAX differentiates the two spectral maps of distance geometry, where singular values or eigenvalues repeat, too.

JAX differentiates an eigenvector by ``1 / (lambda_a - lambda_b)``, which is infinite for the triangle, the square and
the cube. Yet what is made of the vectors here is smooth there. Both maps have a tangent that solves a Sylvester
equation whose coefficients are smooth themselves, so that derivatives of every order come from the same solver.

**The principal part of a Gram matrix.** Let ``B = V diag(lambda) V'`` and keep k eigenvalues, all positive. The points
``X = V_k diag(lambda_k)^{1/2}`` satisfy ``B X = X (X'X)``, and ``X X'`` is the best approximation of B of rank k. With
``C = X'X`` and the rest ``R = B - X X'``, differentiate ``B X = X C`` and drop what turns X (distances do not see it):

.. math:: Y C - R Y = dB\, X, \qquad dX = Y - \tfrac12 X\, C^{-1} X' Y.

In the basis V, with ``E = V' dB V``, the solution has the entries ``E_ba sqrt(lambda_a) / (lambda_a - lambda_b)`` for a
dropped b and a kept a, and ``E_ba / 2 sqrt(lambda_a)`` for a kept b. So ``d(X X')`` is E times 1 between two kept
eigenvalues and ``lambda_a / (lambda_a - lambda_b)`` between a kept and a dropped one: the gap between kept ones is in
no denominator.

**The rotation nearest to a matrix.** The orthogonal R that maximises ``tr(R'M)`` makes ``H = R'M`` symmetric. A
tangent is ``dR = R W`` with W antisymmetric; differentiate ``R'M = M'R``:

.. math:: H W + W H = R'dM - dM'R.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm._core.distance import dot
from jax_edm._core.derivatives import safe_root

Spectrum = tuple[jax.Array, jax.Array]  # eigenvalues and eigenvectors, (n,) and (n, n)

# The rules take no notice of the tangents of the spectra. These stay differentiable for the one place that drops rules,
# the reverse mode of `lax.scan` up to JAX 0.10: forward mode on top of it sees what JAX makes of them.


def rounding(values: jax.Array) -> jax.Array:
  """What an eigenvalue or a singular value can be from rounding alone, next to the largest."""
  return 16 * float(jnp.finfo(values.dtype).eps) * jnp.abs(values).max(initial=0)


def gram(D: jax.Array) -> jax.Array:
  """``-1/2 J D J``, of a batch too."""
  if D.shape[-1] == 0:
    return D
  by_rows = D - D.mean(-1, keepdims=True)
  return -(by_rows - by_rows.mean(-2, keepdims=True)) / 2


def classical_scaling(D: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
  """Points of ``k`` coordinates for a symmetric ``D``, and all eigenvalues, descending."""
  inner = gram(D)
  values, vectors = (a[..., ::-1] for a in jnp.linalg.eigh(inner))
  return principal_points(inner, (values, vectors), k), values


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def principal_points(inner: jax.Array, spectrum: Spectrum, k: int) -> jax.Array:
  """``V_k diag(lambda_k)^{1/2}``, ``(n, k)``; a zero column for an eigenvalue that is not positive.

  ``spectrum`` is that of ``inner``, a Gram matrix, in descending order.
  """
  values, vectors = spectrum
  return vectors[:, :k] * safe_root(jnp.maximum(values[:k], 0))


@principal_points.defjvp
def _principal_points_jvp(k: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
  (inner, (values, vectors)), (d_inner, _) = primals, tangents
  x = principal_points(inner, (values, vectors), k)
  kept = (values > rounding(values)) & (jnp.arange(len(values)) < k)
  # A column that is zero stays zero; one in the place of its eigenvalue makes C invertible.
  one = jnp.where(kept[:k], 0, jnp.abs(values).max(initial=0) + jnp.finfo(inner.dtype).tiny)
  c, rest = dot(x.T, x) + jnp.diag(one), inner - dot(x, x.T)
  of_c = (jnp.where(kept[:k], values[:k], one), jnp.eye(k, dtype=inner.dtype))
  y = sylvester(-rest, c, dot(d_inner, jnp.where(kept[:k], x, 0)), (jnp.where(kept, 0, -values), vectors), of_c)
  return x, y - dot(x, jnp.linalg.solve(c, dot(x.T, y))) / 2


@jax.custom_jvp
def nearest_rotation(m: jax.Array, factors: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
  """``U V'``; ``factors`` are U, the singular values and V of ``m``, the last column of U and its value signed."""
  u, _, v = factors
  return dot(u, v.T)


@nearest_rotation.defjvp
def _nearest_rotation_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
  (m, (u, values, v)), (d_m, _) = primals, tangents
  r = nearest_rotation(m, (u, values, v))
  h, turn = dot(r.T, m), dot(r.T, d_m)
  h = (h + h.T) / 2
  return r, dot(r, sylvester(h, h, turn - turn.T, (values, v), (values, v)))


def sylvester(a: jax.Array, b: jax.Array, c: jax.Array, of_a: Spectrum, of_b: Spectrum) -> jax.Array:
  """``Y`` with ``a Y + Y b = c``, a and b symmetric with known spectra; 0 where two eigenvalues cancel."""
  (p, u), (q, v) = lax.stop_gradient((of_a, of_b))
  total = p[:, None] + q[None, :]
  regular = jnp.abs(total) > rounding(jnp.concatenate([p, q]))
  inverse = jnp.where(regular, 1 / jnp.where(regular, total, 1), 0)

  def solve(_: Any, c: jax.Array) -> jax.Array:
    return dot(dot(u, inverse * dot(dot(u.T, c), v)), v.T)

  return lax.custom_linear_solve(lambda y: dot(a, y) + dot(y, b), c, solve, symmetric=True)
