r"""New points in a map that is known, each from its distances to anchors (multilateration).

A new point x, with targets t and weights w (0: missing) to anchors p, minimises its stress

.. math:: \sigma(x) = \sum_a w_a\,(r_a - t_a)^2, \qquad r_a = \lVert x - p_a \rVert.

``multilateration`` finds the minimum. There ``F(x; t, w, p) = 0``, with

.. math:: F = \sum_a w_a\,(1 - t_a / r_a)\,(x - p_a),

so that ``H dx = -(F_t dt + F_w dw + F_p dp)``, with H the derivative of F in x.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm import _errors
from jax_edm._core import validation
from jax_edm._core.batching import compiled
from jax_edm._core.linear import Arrays, LinearMap, Tangents, linear
from jax_edm._mds import multilateration
from jax_edm._mds.forces import Pairs, ratio
from jax_edm._mds.units import positive, power_of_two, unit_of
from jax_edm._pairwise import blocked
from jax_edm._typing import ArrayLike

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
  Compilation: takes longer the more coordinates there are: seconds for 10, minutes for 30.

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
  centre = p.mean(0, keepdims=True)
  p = p - centre
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
  found = blocked.map_row_blocks(
    lambda _, rows: multilateration.search(fixed_p, *(a.T for a in rows)).x.T, fixed_rows, block
  )
  exists = jnp.isfinite(found).all(1, keepdims=True)
  # Zeros in the place of NaN, which would reach the derivatives of the anchors.
  x = _stationary(jnp.where(exists, found, 0), p, *(jnp.where(exists, a, 0) for a in rows))
  return jnp.where(exists, x * unit + centre, jnp.nan)


# The derivatives, of rows: x (k, d), t (k, m), w (k, m) if there are weights.


def _stationary(x: jax.Array, p: jax.Array, *rows: jax.Array) -> jax.Array:
  """``x``, ``(k, d)``: minima of the stress, as a function of the anchors, and of ``t`` and ``w``."""
  return linear(_STATIONARY, [x, p, *rows])[0]


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
  pull = 1 - ratio(Pairs(t), (away * away).sum(1))
  return ((w[0] * pull if w else pull)[:, None] * away).sum(0)
