r"""Stress, the gradient of it, and the Guttman transform, which lowers it without a step size.

The raw stress of points X, with targets t and weights w (0: missing), is

.. math:: \sigma(X) = \sum_{i<j} w_{ij}\, (r_{ij} - t_{ij})^2, \qquad r_{ij} = \lVert x_i - x_j \rVert.

By Cauchy and Schwarz ``r_ij >= <x_i - x_j, z_i - z_j> / |z_i - z_j|`` for any Z, with equality at X = Z. Put the right
side in the place of ``r_ij`` in the terms ``-2 w t r``: this gives a quadratic function of X that is nowhere below the
stress, and equals it at Z (de Leeuw 1977). Its minimum is the Guttman transform of Z,

.. math:: X^+ = V^+ B(Z) Z = Z - V^+ F(Z), \qquad
    F(Z)_i = \tfrac12 \nabla_i \sigma(Z) = \sum_j w_{ij}\,(1 - t_{ij} / r_{ij})\,(z_i - z_j),

with V the Laplacian of the weights, ``diag(W1) - W``; for unit weights ``V^+ F = F / n``. The code computes the second
form: at a minimum F is zero, so the digits of Z are kept.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm import _errors
from jax_edm._core import validation
from jax_edm._core.batching import compiled
from jax_edm._core.derivatives import safe_root
from jax_edm._core.distance import dot
from jax_edm._mds import bounds
from jax_edm._mds.forces import Pairs, half_gradient, half_gradient_by_differences
from jax_edm._mds.laplacian import apply_root, laplacian_inverse, root_of_inverse, solve_laplacian
from jax_edm._mds.units import in_units, positive, power_of_two, unit_of
from jax_edm._pairwise.api import pairwise_sum
from jax_edm._typing import ArrayLike

REFINEMENTS = 5  # of a step; each multiplies its error by about eps^2 times the range of the weights
LARGER = 2.0**20  # a square of this is finite, and so is one of its inverse


def stress(
  x: ArrayLike,
  target: ArrayLike | None,
  *,
  weights: ArrayLike | None = None,
  lower: ArrayLike | None = None,
  upper: ArrayLike | None = None,
  squared: bool = False,
  normalized: bool = False,
) -> jax.Array:
  r"""How far the distances between points are from target distances.

  .. math:: \sigma = \sum_{i<j} w_{ij}\, (\lVert x_i - x_j \rVert - t_{ij})^2

  Every pair counts once. (Kruskal 1964; the s-stress: Takane et al. 1977.)

  Shapes: ``n`` points; ``d`` coordinates; ``...`` leading batch axes, which broadcast.

  Args:
    x: points, ``(..., n, d)``.
    target: distances, ``(..., n, n)``; *squared* distances with ``squared=True``. ``None`` where there are bounds.
    weights: ``(..., n, n)``, symmetric and not negative, or boolean; ``None`` stands for ones. Where a weight is 0 the
      distance is missing: the target there, NaN included, changes nothing. A target of 0 is a distance like any other.
      The diagonal does not count, whatever it is: ``1 / target**2`` may be infinite there.
    lower: the least distances that cost nothing, ``(..., n, n)``, squared ones with ``squared=True``: ``t_ij`` is the
      distance nearest to that of the points that is not outside the bounds. A bound that is ``None`` is the target, or
      without a target 0 and infinity. The diagonal does not count.
    upper: the largest ones; infinity where there is none.
    squared: the s-stress, of squared distances, ``sum_{i<j} w_ij (D_ij - t_ij)^2``. It is smooth everywhere, and large
      distances dominate it.
    normalized: return ``sqrt(sigma / sum_{i<j} w_ij t_ij^2)``, which has no unit: Kruskal's stress-1, with the targets
      in the denominator. Where these are all zero it is 0 for points that coincide, and infinite for others.

  Returns:
    ``(...)``, in the square of the unit of the points, or in its fourth power with ``squared``.

  Raises:
    ValueError: the shapes of x, target, bounds and weights do not match; target, lower and upper are all given, or
      bounds with ``normalized``; outside ``jit`` also a target, bounds or weights that are not finite, negative, or not
      symmetric, a target whose diagonal is not zero, or a lower bound above its upper one.
    TypeError: x, target, bounds or weights do not hold real numbers, or there is neither a target nor bounds.

  Derivatives: all modes, all orders, with respect to the points, the targets, the bounds and the weights. A distance
  has the derivative zero where the two points coincide.
  Memory: O(n) in addition to the target and the weights, in every mode.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jax_edm import stress
    >>> x, target = jnp.array([[0.0], [1.0], [3.0]]), jnp.array([[0.0, 2.0, 3.0], [2.0, 0.0, 2.0], [3.0, 2.0, 0.0]])
    >>> stress(x, target), jax.grad(stress)(x, target).ravel()
    (Array(1., dtype=float32), Array([ 2., -2.,  0.], dtype=float32))
  """
  check_target("stress", target, weights, x, lower, upper)
  weights = bounds.without_diagonal(weights)
  least, largest = bounds.interval(target, lower, upper)
  if normalized and largest is not None:
    advice = "Leave out normalized, or the bounds"
    raise _errors.error("stress", "normalized needs a target", "normalized=True with bounds", advice)
  measure = normalized_stress if normalized else _stress
  return compiled(measure, (x, least, largest, weights), "()", bool(squared))


def guttman_transform(
  x: ArrayLike, target: ArrayLike, *, weights: ArrayLike | None = None, inverse: ArrayLike | None = None
) -> jax.Array:
  r"""One step of SMACOF: it lowers the stress of x, or leaves it as it is where x is stationary.

  .. math:: X^+ = V^+ B(X) X = X - \tfrac12 V^+ \nabla\sigma(X), \qquad V = \operatorname{diag}(W1) - W

  Shapes: ``n`` points; ``d`` coordinates; ``...`` leading batch axes, which broadcast.

  Args:
    x: points, ``(..., n, d)``. The step does not change their mean.
    target: distances, ``(..., n, n)``.
    weights: as for :func:`stress`. The pairs with a weight must connect all points.
    inverse: ``V^+``, ``(..., n, n)``, from :func:`guttman_inverse`, for a loop. ``None``: the step comes from an
      elimination of the weights, in O(n^3), with refinements. In float32 it is right to the last digits where weights
      span eight decades, to four digits for ten and to one or two for twelve (in float64 for twice as many); for more
      it moves light links between heavy ones by more than it should, and further steps repair that. ``V^+`` has no
      digits for the largest weights where they span more than about 1 / eps (seven decades in float32). Then a step
      still does not raise the stress, but is shorter. Without weights it is not needed.

  Returns:
    ``(..., n, d)``.

  Raises:
    ValueError: as :func:`stress`; ``inverse`` without weights; outside ``jit`` also weights that do not connect all
      points.
    TypeError: as :func:`stress`.

  Derivatives: all modes, all orders. A distance has the derivative zero where the two points coincide. They are
  not refined: of light links between heavy ones their error is about eps times the range of the weights.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jax_edm import distances, guttman_transform, stress
    >>> target = distances(jnp.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]))
    >>> x = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> after = jax.lax.fori_loop(0, 50, lambda _, x: guttman_transform(x, target), x)
    >>> bool(stress(x, target) > 10), bool(stress(after, target) < 1e-6)
    (True, True)
  """
  check_target("guttman_transform", target, weights, x)
  weights = bounds.without_diagonal(weights)
  if inverse is not None:
    validation.square("guttman_transform", "inverse", inverse)
    validation.row_for_each_point("guttman_transform", "inverse", inverse, x)
    if weights is None:
      advice = "Pass the weights that it belongs to"
      raise _errors.error("guttman_transform", "inverse needs weights", "inverse without weights", advice)
  else:
    validation.connected("guttman_transform", "target", weights)
  return compiled(guttman_step, (x, target, weights, inverse), "(p,q)")


def guttman_inverse(weights: ArrayLike) -> jax.Array:
  """The pseudoinverse of the Laplacian of the weights, ``V^+``, for :func:`guttman_transform`.

  Shapes: ``n`` points; ``...`` leading batch axes.

  Args:
    weights: ``(..., n, n)``, symmetric and not negative, or boolean. The pairs with a weight must connect all points,
      and the diagonal does not count.

  Returns:
    ``(..., n, n)``, symmetric; every row has the sum 0. Without meaning for weights that do not connect all points.
    Its error is a few eps of its largest entry, for weights of any range.

  Raises:
    ValueError: the weights are not square; outside ``jit`` also weights that are not finite, negative, or not
      symmetric, or that do not connect all points.
    TypeError: the weights do not hold real numbers.

  Derivatives: all modes, all orders.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import guttman_inverse
    >>> guttman_inverse(jnp.ones((2, 2))).round(4)
    Array([[ 0.25, -0.25],
           [-0.25,  0.25]], dtype=float32)
  """
  validation.square("guttman_inverse", "weights", weights, boolean=True)
  weights = bounds.without_diagonal(weights)
  validation.weights("guttman_inverse", weights, "weights", weights)
  validation.connected("guttman_inverse", "weights", weights)
  return compiled(laplacian_inverse, (weights,), "(p,q)")


def check_target(function: str, target: Any, weights: Any, x: Any, lower: Any = None, upper: Any = None) -> None:
  """A matrix of distances or of their bounds, its weights, and the points ``x`` that they belong to."""
  bounds.check(function, target, lower, upper, weights)
  _errors.points(function, "x", x)
  for name, a in (("target", target), ("lower", lower), ("upper", upper), ("weights", weights)):
    if a is not None:
      validation.row_for_each_point(function, name, a, x)


# The array functions: x (n, d), t (n, n) and w (n, n) of one member of a batch, in the dtype of the computation. The
# weights have a zero diagonal.


def raw_stress(x: jax.Array, pairs: Pairs, squared: bool = False) -> jax.Array:
  """The sum over i < j of ``w (r - t)^2``, or of ``w (D - t)^2`` with ``squared``."""
  args, structure = jax.tree.flatten(pairs.known())

  def term(D: jax.Array, *args: jax.Array) -> jax.Array:
    pair = jax.tree.unflatten(structure, args)
    value = D if squared else safe_root(D)
    residual = value - pair.target(value)
    return residual**2 if pair.weights is None else pair.weights * residual**2

  return pairwise_sum(term, x, args=tuple(args)).sum() / 2


def _stress(x: jax.Array, lower: jax.Array, upper: jax.Array | None, w: jax.Array | None, squared: bool) -> jax.Array:
  return raw_stress(x, Pairs(lower, upper, w), squared)


def normalized_stress(
  x: jax.Array, t: jax.Array, no_upper: None, weights: jax.Array | None, squared: bool
) -> jax.Array:
  """In units that are powers of two, so that no square overflows or vanishes, and no digit changes."""
  power = 2 if squared else 1
  t, _, w = Pairs(t, no_upper, weights).known()
  largest = (jnp.abs(t) if w is None else jnp.where(w == 0, 0, jnp.abs(t))).max(initial=0) ** (1 / power)
  of_target, of_points = power_of_two(largest), power_of_two(jnp.abs(x - x.mean(0)).max(initial=0))
  of_target = jnp.where(of_target == 0, of_points, of_target)
  # For points that are far larger than the targets, the numerator has a unit of its own, and the quotient still exists.
  of_points = jnp.where(of_points > LARGER * of_target, of_points, of_target)
  if w is not None:
    w = w / unit_of(w)
  sigma = raw_stress(in_units(x, of_points, 1), Pairs(in_units(t, of_points, power), None, w), squared)
  scale = ((1 if w is None else w) * in_units(t, of_target, power) ** 2).sum() / 2
  zero_by_zero = (scale == 0) & (sigma == 0)  # a perfect fit
  return in_units(safe_root(sigma / jnp.where(zero_by_zero, 1, scale)), of_target / positive(of_points), power)


def guttman_step(x: jax.Array, t: jax.Array, w: jax.Array | None, inverse: jax.Array | None) -> jax.Array:
  """The Guttman transform for the symmetric parts of the target and the weights."""
  unit = unit_of(x - x.mean(0))
  of_weights = jnp.ones((), x.dtype) if w is None else unit_of(w)
  x, pairs = x / unit, Pairs(t, None, w).in_units(unit, of_weights).symmetrized()
  w = pairs.weights
  if w is None:
    step = half_gradient(x, pairs) / x.shape[0]
  elif inverse is None:
    step = refined_step(x, pairs, w)
  else:
    f = half_gradient(x, pairs)
    step = safe_step(dot(inverse * of_weights, f), f, w)
  return (x - step) * unit


def refined_step(x: jax.Array, pairs: Pairs, w: jax.Array) -> jax.Array:
  """``V^+ F``, by iterative refinement: beside heavy weights the sum of a row loses the light ones, but a step that is
  nearly right leaves no large force between heavy ones. The derivative is that of the last refinement.
  """
  fixed_x, fixed_pairs, fixed_w = lax.stop_gradient((x, pairs, w))
  root = root_of_inverse(fixed_w)

  def refined(_: Any, s: jax.Array) -> jax.Array:
    return s + apply_root(root, half_gradient_by_differences(fixed_x, fixed_pairs, s))

  s = lax.fori_loop(0, REFINEMENTS, refined, jnp.zeros_like(x))
  return s + solve_laplacian(w, root, half_gradient_by_differences(x, pairs, s))


def safe_step(s: jax.Array, f: jax.Array, w: jax.Array) -> jax.Array:
  """``s``, which should be ``V^+ f``; shorter, where the error of the inverse would make it raise the stress.

  ``2 <f, s> - <s, V s>`` is what a step lowers the quadratic function by that is nowhere below the stress.
  """
  falls, curvature = (f * s).sum(), pairwise_sum(lambda D, w: w * D, s, args=(w,)).sum() / 2
  best = jnp.maximum(falls, 0) / positive(curvature)
  return s * lax.stop_gradient(jnp.where(curvature <= 1.5 * falls, 1, best))
