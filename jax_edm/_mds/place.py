r"""New points in a map that is known, each from its distances to anchors (multilateration).

A new point x, with targets t and weights w (0: missing) to anchors p, minimises its stress

.. math:: \sigma(x) = \sum_a w_a\,(r_a - t_a)^2, \qquad r_a = \lVert x - p_a \rVert.

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

**Derivatives.** At the minimum ``F(x; t, w, p) = 0``, so ``H dx = -(F_t dt + F_w dw + F_p dp)``.
"""

import math
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm import _errors
from jax_edm._core import validation
from jax_edm._core.batching import compiled
from jax_edm._core.distance import dot
from jax_edm._core.linear import Arrays, LinearMap, Tangents, linear
from jax_edm._core.varying import unify_varying_axes
from jax_edm._mds.units import positive, power_of_two, unit_of
from jax_edm._pairwise import blocked
from jax_edm._typing import ArrayLike

MAX_STEPS = 100  # to a minimum; Newton's method needs about five
LEAST_DAMPING, DAMPED_BY = 2.0**-18, 16  # added to H, in units of sum(w), where Newton's step fails
LEAST_HEIGHT = 2.0**-6  # of a start outside the span of the anchors: in it the stress may have a saddle
LARGEST = 2.0**30  # a missing distance, beside the anchors: its square is finite
NUMBERS_OF_A_PAIR = 16  # that a block of rows has room for, times the number of coordinates


def place(distances: ArrayLike, anchors: ArrayLike, *, weights: ArrayLike | None = None) -> jax.Array:
  r"""New points in a known map: each from its distances to anchors, the points of the map, and from nothing else.

  .. math:: \min_{x_i} \sum_a w_{ia}\, (\lVert x_i - p_a \rVert - t_{ia})^2

  Shapes: ``k`` new points; ``m`` anchors; ``d`` coordinates; ``...`` leading batch axes, which broadcast.

  Args:
    distances: of the new points to the anchors, ``(..., k, m)``; not squared.
    anchors: ``(..., m, d)``. They are not moved.
    weights: ``(..., k, m)``, not negative, or boolean; ``None`` stands for ones. Best is the inverse variance of each
      distance. Where a weight is 0 the distance is missing: the entry there, NaN included, changes nothing.

  Returns:
    ``(..., k, d)``. A point with a distance that is NaN is NaN, and changes no other point; under ``jit`` so is one
    with an infinite distance, or without weights. Where the anchors of a point span fewer than d dimensions (on a line,
    in a plane, fewer than d + 1), the part outside their span has the length that the distances imply. Then the mirror
    image is as good. Of the two, the point lies on the side of their span to which the coordinate axis points that
    makes the largest angle with it. Points with more than one minimum get the one below the closed form that
    the search starts from.

  Raises:
    ValueError: the shapes of distances, anchors and weights do not match, or there are no anchors; outside ``jit`` also
      distances that are negative or infinite, weights that are negative or not finite, a new point without weights.
    TypeError: distances, anchors or weights do not hold real numbers.

  Derivatives: all modes, all orders, with respect to the distances, the anchors and the weights: those of the minimum,
  not of the search. Where it is not unique to second order (a point in the span of anchors that lie in a line or in a
  plane), those terms are left out that would be infinite. The derivatives of a point that is NaN are zero.
  Accuracy: exact distances give the point back, up to the rounding of distances and anchors. In the span of flat
  anchors the height above it has half of the digits. Of anchors that are thinner than about ``sqrt(eps)`` of their
  extent, the side that a point lies on is rounding.
  Memory: the distances and the weights once more, and 1 to 4 MiB for a block of rows of each member of a batch.

  The start is that of Gower (1968), the Guttman transform that of de Leeuw (1977).

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import distances, place
    >>> anchors = jnp.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    >>> place(distances(jnp.array([[1.0, 2.0], [3.0, 3.0]]), anchors), anchors).round(4)
    Array([[1., 2.],
           [3., 3.]], dtype=float32)
  """
  _check_shapes(distances, anchors, weights)
  _check_values(distances, weights)
  return compiled(_place, (distances, anchors, weights), "(k,d)")


def _check_shapes(distances: Any, anchors: Any, weights: Any) -> None:
  _errors.points("place", "anchors", anchors)
  if 0 in anchors.shape[-2:]:
    advice = "Pass one anchor and coordinate at least"
    raise _errors.error("place", "there must be anchors", f"shape {anchors.shape}", advice)
  validation.real("place", "distances", distances)
  if len(distances.shape) < 2:
    expected = "distances must have the shape (..., number of new points, number of anchors)"
    advice = "For a single new point use distances[None, :]"
    raise _errors.error("place", expected, f"shape {distances.shape}", advice)
  if distances.shape[-1] != anchors.shape[-2]:
    expected, got = "distances must have one column for each anchor", f"{distances.shape} for anchors {anchors.shape}"
    raise _errors.error("place", expected, got, "New points are rows; pass distances.T if they are columns")
  batch = _errors.leading("place", "distances", distances.shape[:-2], anchors.shape[:-2])
  if weights is None:
    return
  validation.real("place", "weights", weights, boolean=True)
  if weights.shape[-2:] != distances.shape[-2:]:
    expected, got = "weights must have one entry for each distance", f"{weights.shape} for {distances.shape}"
    advice = f"Give them the shape {distances.shape}, 0 for a missing distance"
    raise _errors.error("place", expected, got, advice)
  _errors.leading("place", "weights", weights.shape[:-2], batch)


def _check_values(distances: Any, weights: Any) -> None:
  """Outside ``jit``. A distance that is NaN may stay: its point becomes NaN."""
  known = np.ones((), bool)
  if weights is not None and validation.is_concrete(weights):
    w = _values(weights)
    _no_entry(w, ~np.isfinite(w) | (w < 0), "weights must be finite and not negative", "0 means missing")
    known, advice = w != 0, "Leave out points of which no distance is known"
    _no_entry(w, ~known.any(-1, keepdims=True), "every new point must have a distance with a weight", advice)
  if validation.is_concrete(distances, weights):
    t = np.broadcast_to(t := _values(distances), np.broadcast_shapes(t.shape, known.shape))
    _no_entry(t, np.isinf(t) & known, "distances must be finite", "Where one is not known, give it the weight 0")
    _no_entry(t, (t < 0) & known, "distances must not be negative", "Pass distances, in the unit of the anchors")


def _values(a: Any) -> np.ndarray:
  """NumPy compares no bfloat16 and no booleans as numbers."""
  return np.asarray(a, np.float32 if a.dtype == np.float32 else np.float64)


def _no_entry(values: np.ndarray, wrong: np.ndarray, expected: str, advice: str) -> None:
  """An error that shows the first entry that is wrong, if there is one: ``(..., k, m)``."""
  if wrong.any():
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    got = f"{values[index]:g} at {index}" if wrong.shape[-1] == values.shape[-1] else f"only 0 for point {index[-2]}"
    raise _errors.error("place", expected, got, advice)


# One member of a batch, in the dtype of the computation: t (k, m), p (m, d), w (k, m) or None.


def _place(t: jax.Array, p: jax.Array, w: jax.Array | None) -> jax.Array:
  first = p[:1]  # so that points far from the origin keep their digits, and those that coincide become zero
  mean = (p - first).mean(0, keepdims=True)
  p, centre = p - first - mean, first + mean
  unit = power_of_two(jnp.abs(p).max())
  # Anchors that coincide have no size.
  known = jnp.ones_like(t, bool) if w is None else w != 0
  largest = jnp.abs(jnp.where(known & jnp.isfinite(t), t, 0)).max(initial=0)
  unit = positive(jnp.where(unit == 0, power_of_two(largest), unit))
  # A missing distance must have a square. One that has stays: the derivative with respect to its weight depends on it.
  t, p = jnp.where(known | (jnp.abs(t) <= LARGEST * unit), t, 0) / unit, p / unit
  rows = (t,) if w is None else (t, w / unit_of(w, (1,)))
  fixed_p, fixed_rows = lax.stop_gradient((p, rows))
  d = p.shape[1]
  block = blocked.rows_in_a_block(t.shape[0], NUMBERS_OF_A_PAIR * d * max(p.shape[0], d))
  found = blocked.map_row_blocks(lambda _, rows: _minimum(fixed_p, *(a.T for a in rows)).T, fixed_rows, block)
  exists = jnp.isfinite(found).all(1, keepdims=True)
  # Zeros in the place of NaN, which would reach the derivatives of the anchors.
  x = _stationary(jnp.where(exists, found, 0), p, *(jnp.where(exists, a, 0) for a in rows))
  return jnp.where(exists, x * unit + centre, jnp.nan)


# The search. Rows of new points are the last axis, b, which a CPU makes vectors of: x (d, b), t (m, b), and w (m, b),
# or (m, 1) for all of them.


class _Search(NamedTuple):
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


def _minimum(p: jax.Array, t: jax.Array, w: jax.Array | None = None) -> jax.Array:
  """``(d, b)``: the minimum of the stress below the start; NaN where there is none."""
  w = jnp.ones((t.shape[0], 1), t.dtype) if w is None else w
  p, t, w = unify_varying_axes((p, t, w))
  x = _start(p, t, w)
  sigma, force, hessian = _derivatives_of_stress(x, p, t, w)
  length, damping = jnp.full_like(sigma, np.inf), jnp.zeros_like(sigma)
  first = _Search(x, sigma, force, hessian, length, damping, ~jnp.isfinite(sigma), jnp.zeros((), jnp.int32))
  last = lax.while_loop(
    lambda s: ~s.done.all() & (s.steps < MAX_STEPS), partial(_step, p, t, w), unify_varying_axes(first)
  )
  return jnp.where(jnp.isfinite(last.stress), last.x, jnp.nan)


def _step(p: jax.Array, t: jax.Array, w: jax.Array, s: _Search) -> _Search:
  eps, total = float(jnp.finfo(t.dtype).eps), w.sum(0, keepdims=True)
  damped, convex = _solve(s.hessian + _identity(s.x) * (total * s.damping[None])[None], s.force)
  step = jnp.where(convex[None], damped, s.force / total)
  length, scale = _length(step), 1 + _length(s.x)
  x = s.x - step
  sigma, force, hessian = _derivatives_of_stress(x, p, t, w)
  # Sums that differ by their rounding alone say nothing about the step.
  falls = sigma <= s.stress + 4 * eps * jnp.sqrt(s.stress * (w * t * t).sum(0))
  # The last digits: Newton's steps there are rounding, and no longer get shorter.
  of_newton = convex & (s.damping == 0)
  ends = of_newton & (length <= eps**0.5 / 4 * scale) & (length >= s.length / 2)
  shortest = ~convex | (s.damping > 1)
  done = s.done | (length <= 2 * eps * scale) | (ends & falls) | (shortest & ~falls)
  moves = falls & ~s.done
  x, sigma, force, hessian = (_where(moves, a, b) for a, b in zip((x, sigma, force, hessian), s[:4], strict=True))
  less = jnp.where(s.damping > LEAST_DAMPING, s.damping / DAMPED_BY, 0)
  more = jnp.maximum(s.damping * DAMPED_BY, LEAST_DAMPING)
  length = jnp.where(of_newton & falls, length, np.inf)
  return _Search(x, sigma, force, hessian, length, jnp.where(falls & convex, less, more), done, s.steps + 1)


def _derivatives_of_stress(
  x: jax.Array, p: jax.Array, t: jax.Array, w: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The stress ``(b)``, ``F`` ``(d, b)`` and ``H`` ``(d, d, b)``, by differences."""
  away = [a[None] - b[:, None] for a, b in zip(x, p.T, strict=True)]
  D = _inner(away, away)
  factor = _ratio(t, D)
  pull, along = w * (1 - factor), w * factor / positive(D)
  sigma = w * (jnp.sqrt(D) - t) ** 2
  sums = _sums([sigma, pull, *(pull * a for a in away), *_products([along * a for a in away], away)])
  return sums[0], sums[2 : 2 + len(x)], _symmetric(sums[2 + len(x) :]) + _identity(x) * sums[1][None, None]


def _start(p: jax.Array, t: jax.Array, w: jax.Array) -> jax.Array:
  """The linear least squares of the squared distances, and a height above the span of the anchors if they are flat."""
  v = w / w.sum(0, keepdims=True)
  mean = dot(p.T, v)
  mean = mean + (v[None] * (p.T[:, :, None] - mean[:, None])).sum(1)  # the first is rounded as points far from it
  q, root = [a[:, None] - b[None] for a, b in zip(p.T, mean, strict=True)], jnp.sqrt(v)
  weighted = [root * a for a in q]
  basis, reach = _spanning_basis(weighted)
  spanned, squares = reach > 0, _inner(q, q)
  along = [
    jnp.where(is_in[None], _inner(list(u[:, None]), weighted) / positive(length)[None], 0)
    for u, length, is_in in zip(basis, reach, spanned, strict=True)
  ]
  of_anchors = _sums([v * squares, *_products(along, along)])
  of_targets = _sums([v * t * t, *(a * (root * (squares - t * t) / 2) for a in along)])
  normal = _symmetric(of_anchors[1:]) + _identity(reach) * jnp.where(spanned, 0, 1)[None]
  y, left = _no_longer(_solve(normal, of_targets[1:])[0] / positive(reach), of_targets[0])
  height = jnp.sqrt(jnp.maximum(left - of_anchors[0], LEAST_HEIGHT**2 * of_targets[0]))
  up = ~spanned & (jnp.cumsum(~spanned, 0) == 1)
  y = jnp.where(up, height[None], y)
  return mean + (y[:, None] * basis).sum(0)


def _no_longer(y: jax.Array, square: jax.Array) -> tuple[jax.Array, jax.Array]:
  """``y`` of at most this length, and what is left of its square: along an axis that the anchors hardly reach, ``y`` is
  noise.
  """

  def clip(left: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    most = jnp.sqrt(left)
    y = jnp.clip(y, -most, most)
    return jnp.maximum(left - y * y, 0), y

  left, y = lax.scan(clip, square, y)
  return y, left


def _spanning_basis(q: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
  """Orthonormal vectors, ``(d, d, b)``, and how far ``q``, d times ``(m, b)``, reaches along each, ``(d, b)``.

  Gram and Schmidt, each time with the point that is farthest from the span so far. Where none is, beyond rounding, the
  reach is 0, and the vector is what is left of the coordinate axis that is farthest.
  """
  d, rounding = len(q), 16 * float(jnp.finfo(q[0].dtype).eps)
  axes = [jnp.broadcast_to(a[:, None], (d, q[0].shape[1])) for a in jnp.eye(d, dtype=q[0].dtype)]
  basis: list[jax.Array] = []
  reach: list[jax.Array] = []
  for _ in range(d):
    point, axis = (_farthest(a, basis) for a in (q, axes))
    length = _length(point)
    outside = length <= rounding * (reach[0] if reach else 0)
    vector = _where(outside, axis, point / positive(length)[None])
    for u in basis:  # once more: the rounding of a small vector is large beside it
      vector = vector - (u * vector).sum(0, keepdims=True) * u
    basis.append(vector / positive(_length(vector))[None])
    reach.append(jnp.where(outside, 0, length))
  return jnp.stack(basis), jnp.stack(reach)


def _farthest(points: list[jax.Array], basis: list[jax.Array]) -> jax.Array:
  """``(d, b)``: of what is left of d times ``(m, b)``, without their parts along the basis, the longest."""
  rest = points
  for u in basis:
    along = _inner(list(u[:, None]), points)
    rest = [a - along * b[None] for a, b in zip(rest, u, strict=True)]

  def longer(a: Any, b: Any) -> tuple[jax.Array, ...]:
    return tuple(jnp.where(b[0] > a[0], q, p) for p, q in zip(a, b, strict=True))

  dtype = points[0].dtype
  return jnp.stack(
    lax.reduce((_inner(rest, rest), *rest), (dtype.type(-1), *(dtype.type(0),) * len(rest)), longer, (0,))[1:]
  )


def _solve(a: jax.Array, f: jax.Array) -> tuple[jax.Array, jax.Array]:
  """``y`` with ``a y = f``, a ``(d, d, b)`` and symmetric; and where a is positive definite."""

  def eliminate(k: Any, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    a, f, definite = state
    pivot = a[k, k]
    factor = jnp.where((jnp.arange(len(a)) == k)[:, None], 0, a[:, k] / jnp.where(pivot > 0, pivot, 1)[None])
    return a - factor[:, None] * a[k][None], f - factor * f[k][None], definite & (pivot > 0)

  a, f, definite = lax.fori_loop(0, len(a), eliminate, (a, f, a[0, 0] == a[0, 0]))
  return f / positive(jnp.diagonal(a).T), definite


def _length(v: jax.Array) -> jax.Array:
  """Along the first axis."""
  return jnp.sqrt((v * v).sum(0))


def _where(points: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
  """``a`` for these points, ``(b)``, which are its last axis, and ``b`` for the others."""
  return jnp.where(points.reshape((1,) * (a.ndim - 1) + points.shape), a, b)


def _sums(terms: list[jax.Array]) -> jax.Array:
  """``(len(terms), b)``, of ``(m, b)`` each.

  In one reduction the compiler makes vectors, and takes the root in the terms once; separate sums take five times as
  long.
  """
  zeros = (np.zeros((), terms[0].dtype),) * len(terms)
  return jnp.stack(lax.reduce(tuple(terms), zeros, lambda a, b: tuple(p + q for p, q in zip(a, b, strict=True)), (0,)))


def _inner(a: list[jax.Array], b: list[jax.Array]) -> jax.Array:
  return reduce(lax.add, (p * q for p, q in zip(a, b, strict=True)))


def _products(a: list[jax.Array], b: list[jax.Array]) -> list[jax.Array]:
  """The upper triangle of a symmetric matrix, row by row."""
  return [p * q for i, p in enumerate(a) for q in b[i:]]


def _symmetric(upper: jax.Array) -> jax.Array:
  """``(d, d, b)``, of the rows of its upper triangle."""
  d = math.isqrt(2 * len(upper))
  index = np.zeros((d, d), int)
  index[np.triu_indices(d)] = np.arange(len(upper))
  return upper[np.maximum(index, index.T)]


def _identity(like: jax.Array) -> jax.Array:
  """``(d, d, 1)``, for ``(d, b)``."""
  return jnp.eye(len(like), dtype=like.dtype)[:, :, None]


# The derivatives, of rows: x (k, d), t (k, m), w (k, m) if there are weights.


def _stationary(x: jax.Array, p: jax.Array, *rows: jax.Array) -> jax.Array:
  """``x``, ``(k, d)``: minima of the stress, as a function of the anchors, and of ``t`` and ``w``."""
  return linear(_STATIONARY, [lax.stop_gradient(x), p, *rows])[0]


def _tangent(constants: Arrays, _: Arrays, tangents: Tangents) -> Arrays:
  x, *of_stress = constants
  x = _stationary(x, *of_stress)
  moved = [jnp.zeros_like(a) if da is None else da for a, da in zip(of_stress, tangents[1:], strict=True)]
  right = jax.jvp(partial(_of_rows, _force, x), of_stress, moved)[1]
  hessian = _of_rows(jax.jacfwd(_force), x, *of_stress)
  values, vectors = jnp.linalg.eigh(lax.stop_gradient(hessian))
  regular = jnp.abs(values) > 16 * float(jnp.finfo(x.dtype).eps) * jnp.abs(values).max(1, keepdims=True)
  inverse = jnp.where(regular, 1 / jnp.where(regular, values, 1), 0)
  product = partial(jnp.einsum, precision=lax.Precision.HIGHEST)

  def solve(_: Any, f: jax.Array) -> jax.Array:
    return product("kij,kj->ki", vectors, inverse * product("kji,kj->ki", vectors, f))

  return [-lax.custom_linear_solve(partial(product, "kij,kj->ki", hessian), right, solve, symmetric=True)]


_STATIONARY = LinearMap(lambda x, *_: [x], _tangent)


def _of_rows(function: Any, x: jax.Array, p: jax.Array, *rows: jax.Array) -> jax.Array:
  def of_block(_: Any, rows: tuple[jax.Array, ...]) -> jax.Array:
    return jax.vmap(lambda x, *row: function(x, p, *row))(*rows)

  block = blocked.rows_in_a_block(x.shape[0], NUMBERS_OF_A_PAIR * p.size)
  return blocked.map_row_blocks(of_block, (x, *rows), block)


def _force(x: jax.Array, p: jax.Array, t: jax.Array, *w: jax.Array) -> jax.Array:
  """``F`` of one point: x ``(d)``, t and w ``(m)``."""
  away = x[None] - p
  pull = 1 - _ratio(t, (away * away).sum(1))
  return ((w[0] * pull if w else pull)[:, None] * away).sum(0)


def _ratio(t: jax.Array, D: jax.Array) -> jax.Array:
  """``t / sqrt(D)``, and 0 where the new point coincides with the anchor."""
  apart = D > 0
  return jnp.where(apart, t / jnp.sqrt(jnp.where(apart, D, 1)), 0)
