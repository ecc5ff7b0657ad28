r"""How sure the points of a minimum of the stress are: the covariance of their positions, by the delta method.

Each target is a measurement, ``Var(t_ij) = sigma^2 / w_ij``, independent of the others. At a minimum the gradient of
half of the stress is zero, ``J' W (r - t) = 0``, with r the distances of the pairs i < j, J the Jacobian of r in the
coordinates of all points, and W the diagonal matrix of the weights. Where the targets move by dt, the points move by

.. math:: H\, dX = J' W\, dt, \qquad H = J' W J + \sum_{i<j} w_{ij}\, (r_{ij} - t_{ij})\, \nabla^2 r_{ij}.

The covariance of ``W dt`` is ``sigma^2 W``. So to first order in the errors, by the implicit function theorem,

.. math:: \operatorname{Cov}(X) = \sigma^2\, H^+ (J' W J)\, H^+.

H is the full Hessian. Where the distances fit, ``H = J' W J`` and the covariance is ``sigma^2 H^+``, that of maximum
likelihood (Ramsay 1982). Where they do not fit, because the points need more dimensions, it is the product of three.

With ``u = (x_i - x_j) / r_ij`` a pair has in ``J' W J`` the d x d block ``w u u'``, and in H the block

.. math:: K_{ij} = w_{ij} \bigl( (1 - t_{ij} / r_{ij})\, I + (t_{ij} / r_{ij})\, u u' \bigr).

Both matrices are Laplacians of their blocks: minus the block at (i, j), and the sum over j at (i, i). Their kernel
consists of the rigid motions, if the distances determine the points. With a basis M of the motions, ``H + M M'`` is
invertible, and equal to H for what is orthogonal to them, as ``J' W J`` is on both sides. So its inverse stands in the
place of ``H^+``; M need not be orthonormal. Fixed points do not move: H has the identity in the place of their rows.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_edm import _errors
from jax_edm._core import validation
from jax_edm._core.batching import dtypes, map_batch, with_all_digits
from jax_edm._core.derivatives import safe_root
from jax_edm._core.distance import dot
from jax_edm._mds import bounds, stress
from jax_edm._mds.forces import Pairs
from jax_edm._mds.units import unit_of
from jax_edm._typing import ArrayLike

Fixed = jax.Array | None


class StandardErrors(NamedTuple):
  """The result of :func:`standard_errors`: ``(..., n, d, d)``, ``(..., n, d)`` and ``(...)``."""

  covariance: jax.Array
  errors: jax.Array
  variance: jax.Array


def standard_errors(
  x: ArrayLike,
  target: ArrayLike,
  *,
  weights: ArrayLike | None = None,
  fixed: ArrayLike | None = None,
  variance: ArrayLike | None = None,
) -> StandardErrors:
  r"""How sure the points of :func:`smacof` are, given how sure the distances are (the delta method; Ramsay 1982).

  .. math:: \operatorname{Cov}(X) = \sigma^2 H^+ (J' W J)\, H^+, \qquad \operatorname{Var}(t_{ij}) = \sigma^2 / w_{ij}

  H is the Hessian of half of the stress, and J the Jacobian of the distances. Where the distances do not fit, because
  the points need more dimensions, this is right too (de Leeuw and Groenen call it the stability of the map).

  Shapes: ``n`` points; ``d`` coordinates; ``...`` leading batch axes, which broadcast.

  Args:
    x: points at a minimum of the stress, ``(..., n, d)``, such as ``smacof(...).points``, or these after any rigid
      motion.
    target: *distances*, ``(..., n, n)``, each the only measurement of its pair.
    weights: as for :func:`stress`: 0 for a missing distance, and for any other the inverse of its variance, up to one
      factor. The pairs with a weight must connect all points.
    fixed: ``(..., n)``, boolean, True for a point whose position is known. At least d points must be, and they must
      span d - 1 dimensions. ``None``: none is known, and the covariance is that up to rigid motions: of repetitions
      that :func:`procrustes` has aligned with x.
    variance: the factor ``sigma^2``, ``(...)``, if it is known: that of a distance with the weight 1. ``None``: the
      stress, divided by the number of distances less the number of free coordinates. These are ``n d - d (d + 1) / 2``,
      or d for each point that is not fixed; a distance between two fixed points does not count.

  Returns:
    ``StandardErrors(covariance, errors, variance)``: the covariance of the coordinates of each point, in the square of
    the unit of the points; the roots of its diagonals; and ``sigma^2``. All are zero for fixed points. Inside ``jit``,
    where no values are checked, the variance is infinite if no more distances than free coordinates are known. Where
    the minimum is not isolated (too few distances to determine the points), covariance and errors are very large,
    infinite or NaN; where x is no minimum, they have no meaning.

  Raises:
    ValueError: the shapes do not match, or x has not between 1 and n - 1 coordinates; as :func:`stress`; outside
      ``jit`` also a variance that is negative or not finite, fewer than d fixed points, weights that do not connect all
      points, and without ``variance`` no more distances than free coordinates.
    TypeError: x, target, weights or variance do not hold real numbers; fixed is not boolean.

  Derivatives: all modes, all orders, with respect to all but ``fixed``. They are right where x stays at the minimum, as
  the points of :func:`smacof` do when the target or the weights change. A distance has the derivative zero where the
  two points coincide.
  Accuracy: the errors are of first order in the errors of the distances. For those of 2 % they agree with the
  deviations of repetitions (``tests/mds/test_standard_errors.py``). In float32 the relative error of ``errors`` is
  about 1e-6 for maps that the distances determine well. For others it is about eps times the square of the ratio of the
  largest error to the smallest: 1e-3 for points in a strip of a hundredth of its length. An estimated variance needs
  residuals that are larger than rounding, 1e-6 of the distances.
  Memory: O((n d)^2), and O((n d)^3) operations.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import distances, standard_errors
    >>> x = jnp.array([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0], [4.0, 3.0]])
    >>> fixed = jnp.array([True, True, True, False])
    >>> standard_errors(x, distances(x), fixed=fixed, variance=0.1**2).errors[3].round(4)
    Array([0.0825, 0.0906], dtype=float32)
  """
  _check(x, target, weights, fixed, variance)
  arrays = map(with_all_digits, (x, target, bounds.without_diagonal(weights)))
  return _standard_errors(*arrays, fixed, None if variance is None else jnp.asarray(variance, float))


def _check(x: Any, target: Any, weights: Any, fixed: Any, variance: Any) -> None:
  stress.check_target("standard_errors", target, weights, x)
  n, d = x.shape[-2:]
  _errors.known("standard_errors", "the number of points", n)
  if not 1 <= d <= n - 1:
    expected = "x must have at least 1 coordinate and at most n - 1, since n points span no more"
    raise _errors.error("standard_errors", expected, f"shape {x.shape}", "Pass the points of smacof with such a dim")
  batch = _errors.leading("standard_errors", "target", target.shape[:-2], x.shape[:-2])
  batch = batch if weights is None else _errors.leading("standard_errors", "weights", weights.shape[:-2], batch)
  if fixed is not None:
    _check_fixed(fixed, x, batch)
    batch = _errors.leading("standard_errors", "fixed", fixed.shape[:-1], batch)
  if variance is not None:
    _check_variance(variance, batch)
  if validation.is_concrete(weights, fixed):
    _check_pairs(n, d, weights, fixed, variance)


def _check_fixed(fixed: Any, x: Any, batch: tuple[int, ...]) -> None:
  what = "be boolean, True where the position of the point is known"
  _errors.array("standard_errors", "fixed", fixed, (np.bool_,), what, "Pass fixed != 0")
  if fixed.shape[-1:] != x.shape[-2:-1]:
    expected, got = "fixed must have one entry for each point of x", f"fixed {fixed.shape} and x {x.shape}"
    raise _errors.error("standard_errors", expected, got, f"Give it the shape {x.shape[:-1]}")
  if validation.is_concrete(fixed) and (least := np.asarray(fixed).sum(-1).min(initial=x.shape[-2])) < x.shape[-1]:
    expected = "fixed must hold at least as many points as x has coordinates, since the others can turn about fewer"
    got, advice = f"{least} for {x.shape[-1]} coordinates", "Leave fixed out to have the errors up to rigid motions"
    raise _errors.error("standard_errors", expected, got, advice)


def _check_variance(variance: Any, batch: tuple[int, ...]) -> None:
  _errors.numbers_of_pairs("standard_errors", "variance", variance)
  _errors.leading("standard_errors", "variance", np.shape(variance), batch)
  if validation.is_concrete(variance):
    values = np.asarray(variance, np.float64)
    if (wrong := values[~np.isfinite(values) | (values < 0)]).size:
      expected, advice = "variance must be finite and not negative", "Leave it out to have it estimated"
      raise _errors.error("standard_errors", expected, f"{wrong[0]:g}", advice)


def _check_pairs(n: int, d: int, weights: Any, fixed: Any, variance: Any) -> None:
  """Enough of them are known, of each member of the batch."""
  pairs = ~np.eye(n, dtype=bool) if weights is None else np.asarray(bounds.without_diagonal(weights)) != 0
  mask = None if fixed is None else np.asarray(fixed)
  # The positions of two fixed points tell where one is relative to the other.
  between_fixed = False if mask is None else mask[..., :, None] & mask[..., None, :]
  validation.connected("standard_errors", "target", pairs | between_fixed)
  known, coordinates = np.broadcast_arrays(*count(pairs, mask, d))
  if variance is None and (few := known <= coordinates).any():
    expected = "to estimate the variance takes more known distances than free coordinates"
    got = f"{known[few][0]} distances and {coordinates[few][0]} free coordinates"
    raise _errors.error("standard_errors", expected, got, "Pass variance=, if it is known")


def count(pairs: Any, fixed: Any, d: int) -> tuple[Any, Any]:
  """The numbers of known distances that are not between two fixed points, and of free coordinates."""
  if fixed is None:
    n = pairs.shape[-1]
    return pairs.sum((-1, -2)) // 2, n * d - d * (d + 1) // 2
  return (pairs & ~(fixed[..., :, None] & fixed[..., None, :])).sum((-1, -2)) // 2, d * (~fixed).sum(-1)


@jax.jit
def _standard_errors(x: Any, target: Any, weights: Any, fixed: Any, variance: Any) -> StandardErrors:
  numbers = [a for a in (x, target, weights) if a is not None and a.dtype != bool]
  result, compute = dtypes(*numbers)
  x, target, weights, variance = jax.tree.map(lambda a: jnp.asarray(a).astype(compute), (x, target, weights, variance))
  arrays, ranks = (x, target, weights, fixed, variance), (2, 2, 2, 1, 0)
  out = map_batch(of_one_map, arrays, ranks, "(n,d,d),(n,d),()")
  return StandardErrors(*(a.astype(result) for a in out))


def of_one_map(
  x: jax.Array, t: jax.Array, w: jax.Array | None, fixed: Fixed, variance: jax.Array | None
) -> tuple[jax.Array, ...]:
  """Covariances, errors and variance, computed in the units of the points and of the weights."""
  w = 1 - jnp.eye(len(x), dtype=x.dtype) if w is None else w
  unit, of_weights = unit_of(x - x.mean(0, keepdims=True)), unit_of(w)
  t, _, w = Pairs(t / unit, None, w / of_weights).symmetrized()
  assert w is not None  # as it was before
  x = x / unit
  # The weights' unit stands between two of the points': no partial product overflows that the whole does not.
  if variance is None:
    sigma = estimated_variance(x, t, w, fixed)
    variance = sigma * unit * of_weights * unit
  else:
    sigma = variance / unit / of_weights / unit
  covariance = sigma * unit_covariance(x, t, w, fixed)
  if fixed is not None:  # also where sigma is infinite
    covariance = jnp.where(fixed[:, None, None], 0, covariance)
  errors = safe_root(jnp.diagonal(covariance, axis1=1, axis2=2)) * unit
  return covariance * unit * unit, errors, variance


def estimated_variance(x: jax.Array, t: jax.Array, w: jax.Array, fixed: Fixed) -> jax.Array:
  """The stress of the distances that count, for each that is more than the free coordinates."""
  known, coordinates = count(w != 0, fixed, x.shape[1])
  more = known - coordinates
  residuals = w * (safe_root((differences(x) ** 2).sum(2)) - t) ** 2
  residuals = residuals if fixed is None else jnp.where(fixed[:, None] & fixed[None], 0, residuals)
  return jnp.where(more > 0, residuals.sum() / 2 / jnp.maximum(more, 1).astype(x.dtype), jnp.inf)


def unit_covariance(x: jax.Array, t: jax.Array, w: jax.Array, fixed: Fixed) -> jax.Array:
  """``H^+ (J' W J) H^+``, of which the block of each point: ``(n, d, d)``."""
  n, d = x.shape
  hessian, information = matrices(x, t, w)
  multiple = w.sum() / n  # about as large as H
  if fixed is None:
    basis = motions(x)
    hessian = hessian + multiple / n * dot(basis, basis.T)
  else:
    free = jnp.repeat(~fixed, d)
    both = free[:, None] & free[None]
    hessian = jnp.where(both, hessian, multiple * jnp.eye(n * d, dtype=x.dtype))
    information = jnp.where(both, information, 0)
  inverse = jnp.linalg.inv(hessian)  # not by Cholesky: where x is no minimum, H has negative eigenvalues
  moved = dot(inverse, information).reshape(n, d, n * d)
  blocks = jnp.einsum("iap,ibp->iab", moved, inverse.reshape(n, d, n * d), precision="highest")
  return (blocks + blocks.swapaxes(1, 2)) / 2


def matrices(x: jax.Array, t: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
  """``H`` and ``J' W J``, ``(n d, n d)``; a pair that coincides has ``t / r`` and u zero."""
  difference = differences(x)
  D = (difference**2).sum(2)
  inverse = jnp.where(D > 0, 1 / jnp.sqrt(jnp.where(D > 0, D, 1)), 0)
  u, q, identity = difference * inverse[:, :, None], t * inverse, jnp.eye(x.shape[1], dtype=x.dtype)[None, None]
  along = u[:, :, :, None] * u[:, :, None, :]
  q, w = q[:, :, None, None], w[:, :, None, None]
  return laplacian_of_blocks(w * ((1 - q) * identity + q * along)), laplacian_of_blocks(w * along)


def differences(x: jax.Array) -> jax.Array:
  """``x_i - x_j``, ``(n, n, d)``."""
  return x[:, None] - x[None]


def laplacian_of_blocks(blocks: jax.Array) -> jax.Array:
  """``(n d, n d)``, of symmetric blocks ``(n, n, d, d)`` with zeros for the pairs (i, i)."""
  n, _, d, _ = blocks.shape
  own = jnp.eye(n, dtype=blocks.dtype)[:, :, None, None] * blocks.sum(1)[:, None]
  return (own - blocks).transpose(0, 2, 1, 3).reshape(n * d, n * d)


def motions(x: jax.Array) -> jax.Array:
  """``(n d, d (d + 1) / 2)``: all translations of the points, and all rotations ``x S``, S antisymmetric."""
  n, d = x.shape
  a, b = np.triu_indices(d, 1)
  S, k = np.zeros((d, len(a), d)), np.arange(len(a))
  S[a, k, b], S[b, k, a] = 1, -1
  turns = dot(x - x.mean(0, keepdims=True), jnp.asarray(S.reshape(d, -1), x.dtype)).reshape(n, len(a), d)
  return jnp.concatenate([jnp.tile(jnp.eye(d, dtype=x.dtype), (n, 1)), turns.swapaxes(1, 2).reshape(n * d, -1)], 1)
