r"""The search for the place of new points, each from its distances t to anchors p, with weights w (0: missing).

**The start.** Let q be the anchors relative to their weighted mean, and y the point relative to it. The mean of the
equations ``|y - q_a|^2 = t_a^2`` is ``|y|^2 + mean |q|^2 = mean t^2``. Subtract it from each of them:

.. math:: 2 \langle q_a, y \rangle = |q_a|^2 - t_a^2 - \text{mean},

which is linear in y; weighted least squares solve it (Gower 1968, without weights). The part of y outside the span of
q is in none of these equations. Its length is what the mean leaves for it, ``mean t^2 - mean |q|^2 - |y|^2``.

**The steps.** Half of the gradient and of the second derivative of the stress are

.. math::
    F = \sum_a w_a\,(1 - t_a / r_a)\,(x - p_a), \qquad
    H = \sum_a w_a\,(1 - t_a / r_a)\,I + w_a\,(t_a / r_a^3)\,(x - p_a)(x - p_a)'.

Newton's step is ``-H^{-1} F``. The Guttman transform for one free point, ``-F / sum(w)``, never raises the stress (see
``stress``): it is taken where H is not positive definite. A step that raises the stress is undone, and the next one is
shorter, and nearer to the direction of Guttman's: a multiple of ``sum(w) I`` is added to H.

Rows of new points are the last axis, b, which a CPU makes vectors of: x (d, b), t (m, b), and w (m, b), or (m, 1) for
all of them.
"""

import math
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm._core.distance import dot
from jax_edm._core.varying import unify_varying_axes
from jax_edm._mds.forces import Pairs, ratio
from jax_edm._mds.units import positive

MAX_STEPS = 100  # to a minimum; Newton's method needs about five
LEAST_DAMPING, DAMPED_BY = 2.0**-18, 16  # added to H, in units of sum(w), where Newton's step fails
LEAST_HEIGHT = 2.0**-6  # of a start outside the span of the anchors: in it the stress may have a saddle


class Search(NamedTuple):
  """What is known at ``x``; the length of the last step, if it was Newton's and lowered the stress; the multiple of
  ``sum(w)`` that is added to H; and which points are done.
  """

  x: jax.Array
  stress: jax.Array
  force: jax.Array
  hessian: jax.Array
  length: jax.Array
  damping: jax.Array
  done: jax.Array
  steps: jax.Array


def search(p: jax.Array, t: jax.Array, w: jax.Array | None = None) -> Search:
  """The minimum of the stress below the start."""
  w = jnp.ones((t.shape[0], 1), t.dtype) if w is None else w
  p, t, w = unify_varying_axes((p, t, w))
  x = start(p, t, w)
  sigma, force, hessian = derivatives_of_stress(x, p, t, w)
  length, damping = jnp.full_like(sigma, np.inf), jnp.zeros_like(sigma)
  first = Search(x, sigma, force, hessian, length, damping, jnp.zeros(sigma.shape, bool), jnp.zeros((), jnp.int32))
  return lax.while_loop(
    lambda s: ~s.done.all() & (s.steps < MAX_STEPS), partial(step, p, t, w), unify_varying_axes(first)
  )


def step(p: jax.Array, t: jax.Array, w: jax.Array, s: Search) -> Search:
  eps, total = float(jnp.finfo(t.dtype).eps), w.sum(0, keepdims=True)
  damped, convex = solve(s.hessian + identity(s.x) * (total * s.damping[None])[None], s.force)
  step = jnp.where(convex[None], damped, s.force / total)
  length, scale = norm_of(step), 1 + norm_of(s.x)
  x = s.x - step
  sigma, force, hessian = derivatives_of_stress(x, p, t, w)
  # Sums that differ by their rounding alone say nothing about the step.
  falls = sigma <= s.stress + 4 * eps * jnp.sqrt(s.stress * (w * t * t).sum(0))
  # The last digits: Newton's steps there are rounding, and no longer get shorter.
  of_newton = convex & (s.damping == 0)
  ends = of_newton & (length <= eps**0.5 / 4 * scale) & (length >= s.length / 2)
  shortest = ~convex | (s.damping > 1)
  done = s.done | (length <= 2 * eps * scale) | (ends & falls) | (shortest & ~falls)
  moves = falls & ~s.done
  x, sigma, force, hessian = (where(moves, a, b) for a, b in zip((x, sigma, force, hessian), s[:4], strict=True))
  less = jnp.where(s.damping > LEAST_DAMPING, s.damping / DAMPED_BY, 0)
  more = jnp.maximum(s.damping * DAMPED_BY, LEAST_DAMPING)
  length = jnp.where(of_newton & falls, length, np.inf)
  return Search(x, sigma, force, hessian, length, jnp.where(falls & convex, less, more), done, s.steps + 1)


def derivatives_of_stress(
  x: jax.Array, p: jax.Array, t: jax.Array, w: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The stress ``(b)``, ``F`` ``(d, b)`` and ``H`` ``(d, d, b)``, by differences."""
  away = [a[None] - b[:, None] for a, b in zip(x, p.T, strict=True)]
  D = inner(away, away)
  factor = ratio(Pairs(t), D)
  pull, along = w * (1 - factor), w * factor / positive(D)
  sigma = w * (jnp.sqrt(D) - t) ** 2
  sums = summed([sigma, pull, *(pull * a for a in away), *products([along * a for a in away], away)])
  return sums[0], sums[2 : 2 + len(x)], symmetric(sums[2 + len(x) :]) + identity(x) * sums[1][None, None]


def start(p: jax.Array, t: jax.Array, w: jax.Array) -> jax.Array:
  """The linear least squares of the squared distances, and a height above the span of the anchors if they are flat."""
  v = w / w.sum(0, keepdims=True)
  mean = dot(p.T, v)
  q, root = [a[:, None] - b[None] for a, b in zip(p.T, mean, strict=True)], jnp.sqrt(v)
  weighted = [root * a for a in q]
  basis, reach = spanning_basis(weighted)
  spanned, squares = reach > 0, inner(q, q)
  along = [
    jnp.where(is_in[None], inner(list(u[:, None]), weighted) / positive(length)[None], 0)
    for u, length, is_in in zip(basis, reach, spanned, strict=True)
  ]
  of_anchors = summed([v * squares, *products(along, along)])
  of_targets = summed([v * t * t, *(a * (root * (squares - t * t) / 2) for a in along)])
  normal = symmetric(of_anchors[1:]) + identity(reach) * jnp.where(spanned, 0, 1)[None]
  y = solve(normal, of_targets[1:])[0] / positive(reach)
  square = of_targets[0] - of_anchors[0] - (y * y).sum(0)
  height = jnp.sqrt(jnp.maximum(square, LEAST_HEIGHT**2 * of_targets[0]))
  up = ~spanned & (jnp.cumsum(~spanned, 0) == 1)
  y = jnp.where(up, height[None], y)
  return mean + (y[:, None] * basis).sum(0)


def spanning_basis(q: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
  """Orthonormal vectors, ``(d, d, b)``, and how far ``q``, d times ``(m, b)``, reaches along each, ``(d, b)``.

  Gram and Schmidt, each time with the point that is farthest from the span so far. Where none is, beyond rounding, the
  reach is 0, and the vector is what is left of the coordinate axis that is farthest.
  """
  d, rounding = len(q), 16 * float(jnp.finfo(q[0].dtype).eps)
  axes = [jnp.broadcast_to(a[:, None], (d, q[0].shape[1])) for a in jnp.eye(d, dtype=q[0].dtype)]
  basis: list[jax.Array] = []
  reach: list[jax.Array] = []
  for _ in range(d):
    point, axis = (farthest(a, basis) for a in (q, axes))
    length = norm_of(point)
    outside = length <= rounding * (reach[0] if reach else 0)
    vector = where(outside, axis, point / positive(length)[None])
    basis.append(vector / positive(norm_of(vector))[None])
    reach.append(jnp.where(outside, 0, length))
  return jnp.stack(basis), jnp.stack(reach)


def farthest(points: list[jax.Array], basis: list[jax.Array]) -> jax.Array:
  """``(d, b)``: of what is left of d times ``(m, b)``, without their parts along the basis, the longest."""
  rest = points
  for u in basis:
    along = inner(list(u[:, None]), points)
    rest = [a - along * b[None] for a, b in zip(rest, u, strict=True)]

  def longer(a: Any, b: Any) -> tuple[jax.Array, ...]:
    return tuple(jnp.where(b[0] > a[0], q, p) for p, q in zip(a, b, strict=True))

  dtype = points[0].dtype
  return jnp.stack(
    lax.reduce((inner(rest, rest), *rest), (dtype.type(-1), *(dtype.type(0),) * len(rest)), longer, (0,))[1:]
  )


def solve(a: jax.Array, f: jax.Array) -> tuple[jax.Array, jax.Array]:
  """``y`` with ``a y = f``, a ``(d, d, b)`` and symmetric; and where a is positive definite."""

  def eliminate(k: Any, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    a, f, definite = state
    pivot = a[k, k]
    factor = jnp.where((jnp.arange(len(a)) == k)[:, None], 0, a[:, k] / jnp.where(pivot > 0, pivot, 1)[None])
    return a - factor[:, None] * a[k][None], f - factor * f[k][None], definite & (pivot > 0)

  a, f, definite = lax.fori_loop(0, len(a), eliminate, (a, f, a[0, 0] == a[0, 0]))
  return f / positive(jnp.diagonal(a).T), definite


def norm_of(v: jax.Array) -> jax.Array:
  """Along the first axis."""
  return jnp.sqrt((v * v).sum(0))


def where(points: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
  """``a`` for these points, ``(b)``, which are its last axis, and ``b`` for the others."""
  return jnp.where(points.reshape((1,) * (a.ndim - 1) + points.shape), a, b)


def summed(terms: list[jax.Array]) -> jax.Array:
  """``(len(terms), b)``, of ``(m, b)`` each.

  In one reduction the compiler makes vectors, and takes the root in the terms once; separate sums take five times as
  long.
  """
  zeros = (np.zeros((), terms[0].dtype),) * len(terms)
  return jnp.stack(lax.reduce(tuple(terms), zeros, lambda a, b: tuple(p + q for p, q in zip(a, b, strict=True)), (0,)))


def inner(a: list[jax.Array], b: list[jax.Array]) -> jax.Array:
  return reduce(lax.add, (p * q for p, q in zip(a, b, strict=True)))


def products(a: list[jax.Array], b: list[jax.Array]) -> list[jax.Array]:
  """The upper triangle of a symmetric matrix, row by row."""
  return [p * q for i, p in enumerate(a) for q in b[i:]]


def symmetric(upper: jax.Array) -> jax.Array:
  """``(d, d, b)``, of the rows of its upper triangle."""
  d = math.isqrt(2 * len(upper))
  index = np.zeros((d, d), int)
  index[np.triu_indices(d)] = np.arange(len(upper))
  return upper[np.maximum(index, index.T)]


def identity(like: jax.Array) -> jax.Array:
  """``(d, d, 1)``, for ``(d, b)``."""
  return jnp.eye(len(like), dtype=like.dtype)[:, :, None]
