r"""Stress, its majorization, and how JAX differentiates the minimum.

The raw stress of points X, with targets t and weights w (0: missing), is

.. math:: \sigma(X) = \sum_{i<j} w_{ij}\, (r_{ij} - t_{ij})^2, \qquad r_{ij} = \lVert x_i - x_j \rVert.

**SMACOF.** By Cauchy and Schwarz ``r_ij >= <x_i - x_j, z_i - z_j> / |z_i - z_j|`` for any Z, with equality at X = Z: in
the place of the r that is subtracted it gives a quadratic function of X that lies above the stress and touches it at Z
(de Leeuw 1977). Its minimum is the Guttman transform of Z,

.. math:: X^+ = V^+ B(Z) Z = Z - V^+ F(Z), \qquad
    F(Z)_i = \tfrac12 \nabla_i \sigma(Z) = \sum_j w_{ij}\,(1 - t_{ij} / r_{ij})\,(z_i - z_j),

with V the Laplacian of the weights, ``diag(W1) - W``; for unit weights ``V^+ F = F / n``. No step raises the stress,
and there is no step size. The second form is the one computed: at a minimum nothing large cancels in it.

**The derivative of a minimum.** There ``F(X; t, w) = 0``; where t or w move, X moves by

.. math:: H\, dX = -(F_t\, dt + F_w\, dw), \qquad H = \partial F / \partial X.

H is symmetric, and its kernel is the rigid motions, if the distances hold the points. The right-hand side has no part
in the kernel, since the stress takes no notice of motions, and the solution is to have none; of the cotangents that a
user pulls back only the part outside the kernel counts. Conjugate gradients, preconditioned by ``V^+``, find it.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve
from jax.scipy.sparse.linalg import cg

from jax_edm._mds import sylvester
from jax_edm._core.distance import dot
from jax_edm._pairwise.api import pairwise_sum
from jax_edm._core.derivatives import safe_root

EXTRA = 1  # coordinates of the detour
SOLVER_STEPS = 1000  # of conjugate gradients, at most

Weights = jax.Array | None
Found = tuple[jax.Array, jax.Array, jax.Array]  # points, steps, whether they converged


def stress(x: jax.Array, t: jax.Array, w: Weights, squared: bool = False) -> jax.Array:
  """The sum over i < j of ``w (r - t)^2``, or with ``squared`` of ``w (D - t)^2``."""

  def term(D: jax.Array, t: jax.Array, *w: jax.Array) -> jax.Array:
    residual = (D if squared else safe_root(D)) - t
    return w[0] * residual**2 if w else residual**2

  return pairwise_sum(term, x, args=tuple(given(t, w))).sum() / 2


def half_gradient(x: jax.Array, t: jax.Array, w: Weights) -> jax.Array:
  """``F``, ``(n, d)``."""

  def factor(D: jax.Array, t: jax.Array, *w: jax.Array) -> jax.Array:
    apart = D > 0
    ratio = jnp.where(apart, t / jnp.sqrt(jnp.where(apart, D, 1)), 0)
    return w[0] * (1 - ratio) if w else 1 - ratio

  x = x - x.mean(0)
  sums = pairwise_sum(factor, x, args=tuple(given(t, w)), values=jnp.concatenate([x, jnp.ones_like(x[:, :1])], 1))
  return sums[:, -1:] * x - sums[:, :-1]


def given(t: jax.Array, w: Weights) -> list[jax.Array]:
  """The operands; a target without a weight reaches nothing, but a finite one keeps its derivative for the weight."""
  return [t] if w is None else [jnp.where((w == 0) & ~jnp.isfinite(t), 0, t), w]


def inverse_laplacian(w: jax.Array) -> jax.Array:
  """``V^+``, for weights that connect all points."""
  n = w.shape[0]
  if n == 0:
    return w
  w = jnp.where(jnp.eye(n, dtype=bool), 0, (w + w.T) / 2)
  degrees = w.sum(1)
  # V without the row and the column of one point is positive definite: its inverse, centred, is V^+. (Adding a multiple
  # of 11' instead would drown the small degrees of points that are weakly attached.)
  held = jnp.arange(n) == jnp.argmax(degrees)
  cut = held[:, None] | held
  kept = jnp.where(cut, jnp.diag(held.astype(w.dtype)), jnp.diag(degrees) - w)
  inverse = jnp.where(cut, 0, cho_solve(cho_factor(kept), jnp.eye(n, dtype=w.dtype)))
  inverse = inverse - inverse.mean(0)
  return inverse - inverse.mean(1, keepdims=True)


def transform(x: jax.Array, t: jax.Array, w: Weights, inverse: jax.Array | None) -> jax.Array:
  """The Guttman transform; the mean of x stays where it is."""
  return x - preconditioned(half_gradient(x, t, w), inverse)


def preconditioned(f: jax.Array, inverse: jax.Array | None) -> jax.Array:
  """``V^+ f``; the columns of f have the sum zero."""
  return f / f.shape[0] if inverse is None else dot(inverse, f)


def descend(x: jax.Array, t: jax.Array, w: Weights, inverse: Any, first: Any, most: Any, tolerance: Any) -> Found:
  """Transforms until none moves x by more than the tolerance; ``first`` steps have been taken, ``most`` may be."""

  def unfinished(state: tuple[jax.Array, Any, Any, Any]) -> jax.Array:
    return (state[1] < most) & (state[2] > tolerance * state[3])

  def step(state: tuple[jax.Array, Any, Any, Any]) -> tuple[jax.Array, Any, Any, Any]:
    x, steps = state[:2]
    after = transform(x, t, w, inverse)
    return after, steps + 1, jnp.linalg.norm(after - x), jnp.linalg.norm(after - after.mean(0))

  start = (x, jnp.asarray(first, jnp.int32), jnp.asarray(jnp.inf, x.dtype), jnp.asarray(1, x.dtype))
  x, steps, moved, spread = lax.while_loop(unfinished, step, start)
  return x, steps, moved <= tolerance * spread


def search(
  t: jax.Array, w: Weights, initial: Any, key: Any, dim: int, restarts: int, most: Any, tolerance: Any
) -> Found:
  """The best end of all starts. Random ones, and that of classical MDS, have ``EXTRA`` coordinates more at first."""
  n = t.shape[0]
  wide = min(dim + EXTRA, n - 1)
  inverse = None if w is None else inverse_laplacian(w)
  if initial is None:
    own, _ = sylvester.classical_scaling(filled(t, w) ** 2, wide)
  else:  # a coordinate that is zero stays zero
    own = jnp.pad(initial - initial.mean(0), ((0, 0), (0, wide - dim)))
  starts = own[None]
  if restarts > 1:
    mean_square = (t**2).mean() if w is None else (jnp.where(w == 0, 0, w * t**2)).sum() / w.sum()
    random = jax.random.normal(key, (restarts - 1, n, wide), t.dtype) * jnp.sqrt(mean_square / (2 * wide))
    starts = jnp.concatenate([starts, random])

  def run(start: jax.Array, given: jax.Array) -> tuple[Found, jax.Array]:
    x, steps = start, jnp.zeros((), jnp.int32)
    if wide > dim:
      x, steps, _ = descend(x, t, w, inverse, steps, most // 2, tolerance)
    x, steps, converged = descend(
      jnp.where(given, x[:, :dim], principal_axes(x, dim)), t, w, inverse, steps, most, tolerance
    )
    return (jnp.where(given, x, principal_axes(x, dim)), steps, converged), stress(x, t, w)

  is_given = (jnp.arange(restarts) == 0) & (initial is not None)
  found, stresses = jax.vmap(run)(starts, is_given)
  best = jnp.argmin(jnp.where(jnp.isnan(stresses), jnp.inf, stresses))
  x, steps, converged = jax.tree.map(lambda a: a[best], found)
  # Points that all coincide do not move, and are a minimum only for distances that are all zero.
  placed = ((x - x.mean(0)) != 0).any() | (given(t, w)[0] == 0).all()
  return x, steps, converged & placed & jnp.isfinite(x).all() & connected(w)


def filled(t: jax.Array, w: Weights) -> jax.Array:
  """Missing distances replaced by the lengths of shortest paths (Floyd and Warshall)."""
  if w is None:
    return t
  n = t.shape[0]
  paths = jnp.where(jnp.eye(n, dtype=bool), 0, jnp.where(w == 0, jnp.inf, t))
  return lax.fori_loop(0, n, lambda k, paths: jnp.minimum(paths, paths[:, k, None] + paths[k]), paths)


def principal_axes(x: jax.Array, dim: int) -> jax.Array:
  x = x - x.mean(0)
  return dot(x, jnp.linalg.eigh(dot(x.T, x))[1][:, ::-1][:, :dim])


def connected(w: Weights) -> jax.Array:
  if w is None:
    return jnp.ones((), bool)

  def grow(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    _, reached = state
    return reached, reached | ((w != 0) & reached[:, None]).any(0)

  first = jnp.arange(w.shape[0]) == 0
  return lax.while_loop(lambda state: (state[0] != state[1]).any(), grow, (~first, first))[1].all()


@jax.custom_jvp
def stationary(x: jax.Array, t: jax.Array, w: Weights) -> jax.Array:
  """``x``, a minimum of the stress, as the function of ``t`` and ``w`` that it is."""
  return _in_reverse_mode_only(x, t, w)


@stationary.defjvp
def _stationary_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
  (x, t, w), (_, dt, dw) = primals, tangents
  x = stationary(x, t, w)
  inverse = None if w is None else lax.stop_gradient(inverse_laplacian(w))
  right = jax.jvp(partial(half_gradient, x), (t, w), (dt, dw))[1]
  without_motion = partial(off_the_rigid_motions, x, jnp.linalg.eigh(dot(x.T, x)))
  # What is added makes H invertible: on rigid motions a multiple of the identity, of the size of H elsewhere.
  weight = lax.stop_gradient(x.shape[0] if w is None else w.sum() / x.shape[0])
  tolerance = float(jnp.finfo(x.dtype).eps) ** 0.75

  def hessian(v: jax.Array) -> jax.Array:
    return jax.jvp(lambda x: half_gradient(x, t, w), (x,), (v,))[1] + weight * (v - without_motion(v))

  def solve(hessian: Any, right: jax.Array) -> jax.Array:
    return cg(hessian, right, tol=tolerance, maxiter=SOLVER_STEPS, M=partial(preconditioned, inverse=inverse))[0]

  dx = -without_motion(lax.custom_linear_solve(hessian, without_motion(right), solve, symmetric=True))
  return x, dx


def off_the_rigid_motions(x: jax.Array, spectrum: sylvester.Spectrum, v: jax.Array) -> jax.Array:
  """The part of ``v`` that is orthogonal to all translations of x, and to all turns ``x S`` with S antisymmetric."""
  v, square = v - v.mean(0), dot(x.T, x)
  turn = dot(x.T, v)
  return v - dot(x, sylvester.sylvester(square, square, turn - turn.T, spectrum, spectrum))


@jax.custom_vjp
def _in_reverse_mode_only(x: jax.Array, t: jax.Array, w: Weights) -> jax.Array:
  """``x``. The reverse mode of ``lax.scan``, up to JAX 0.10, drops the rule above from the values that it keeps.

  Forward mode on top of it then finds this function in its place, and an error, not a derivative of zero.
  """
  return x


_in_reverse_mode_only.defvjp(lambda x, t, w: (x, (t, w)), lambda kept, g: (g, *jax.tree.map(jnp.zeros_like, kept)))
