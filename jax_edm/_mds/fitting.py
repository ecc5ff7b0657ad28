"""Points from any distances, complete or not: stress, the steps of SMACOF, and the fit itself."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_edm._core import batching
from jax_edm import _errors
from jax_edm._core import edm as _edm
from jax_edm._core import validation
from jax_edm._mds import smacof as _smacof
from jax_edm._core.derivatives import safe_root


class Configuration(NamedTuple):
  """What :func:`points_from_edm` returns: ``(..., n, dim)``, ``(...)``, ``(...)`` and ``(...)``."""

  points: jax.Array
  stress: jax.Array
  steps: jax.Array
  converged: jax.Array


def stress(
  x: jax.Array, target: jax.Array, *, weights: jax.Array | None = None, squared: bool = False, normalized: bool = False
) -> jax.Array:
  r"""How far the distances of points are from targets.

  .. math:: \sigma = \sum_{i<j} w_{ij}\, (r_{ij} - t_{ij})^2, \qquad r_{ij} = \lVert x_i - x_j \rVert

  Every pair counts once, with the factor 1: half of the sum over the matrix. (Kruskal 1964; Takane et al. 1977.)

  Shapes: ``n`` points; ``d`` coordinates; ``...`` leading batch axes, which broadcast.

  Args:
    x: points, ``(..., n, d)``.
    target: distances, ``(..., n, n)``, or squared distances with ``squared``.
    weights: ``(..., n, n)``, symmetric, not negative, or boolean; ``None`` stands for ones. A weight of 0 means
      missing: NaN in the target there reaches nothing. A target of 0 is a distance like any other.
    squared: the s-stress, ``sum_{i<j} w_ij (D_ij - T_ij)^2`` of squared distances: smooth, and led by the large ones.
    normalized: ``sqrt(sigma / sum_{i<j} w_ij t_ij^2)``, which has no unit: Kruskal's stress-1 with the targets below.
      Where these are all zero it is 0 for points that coincide, and infinite for others.

  Returns:
    ``(...)``, in the unit of the points to the second power, to the fourth with ``squared``, or without one.

  Raises:
    ValueError, TypeError: as :func:`jax_edm.edm`; a target or weights of another shape; outside ``jit`` also values
      that are not finite, negative, asymmetric, or a diagonal of the target that is not zero.

  Derivatives: all modes, all orders, with respect to the points, the targets and the weights; those of a distance are
  zero where two points coincide.

  Memory: O(n) beside the target and the weights, in every mode.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jax_edm import stress
    >>> x, target = jnp.array([[0.0], [1.0], [3.0]]), jnp.array([[0.0, 2.0, 3.0], [2.0, 0.0, 2.0], [3.0, 2.0, 0.0]])
    >>> stress(x, target), jax.grad(stress)(x, target).ravel()
    (Array(1., dtype=float32), Array([ 2., -2.,  0.], dtype=float32))
  """
  _errors.points("stress", "x", x)
  _check_target("stress", "target", target, weights, x)
  return _stress(x, target, weights, bool(squared), bool(normalized))


def guttman_transform(
  x: jax.Array, target: jax.Array, *, weights: jax.Array | None = None, inverse: jax.Array | None = None
) -> jax.Array:
  r"""One step of SMACOF: points whose stress is not higher, and lower unless x is stationary.

  .. math:: X^+ = V^+ B(X) X = X - \tfrac12 V^+ \nabla\sigma(X), \qquad V = \operatorname{diag}(W1) - W

  Shapes: ``n`` points; ``d`` coordinates; ``...`` leading batch axes, which broadcast.

  Args:
    x: points, ``(..., n, d)``; their mean stays where it is.
    target: distances, ``(..., n, n)``.
    weights: as for :func:`stress`; they must connect all points.
    inverse: ``V^+``, ``(..., n, n)``, from :func:`guttman_inverse`, where a loop needs it often; ``None`` computes it
      anew from the weights, which takes O(n^3). Without weights none is needed.

  Returns:
    ``(..., n, d)``.

  Raises:
    ValueError, TypeError: as :func:`stress`; weights that do not connect all points.

  Derivatives: all modes, all orders; those of a distance are zero where two points coincide.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jax_edm import distances, guttman_transform, stress
    >>> target = distances(jnp.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]))
    >>> x = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> after = jax.lax.fori_loop(0, 50, lambda _, x: guttman_transform(x, target), x)
    >>> bool(stress(x, target) > 10), bool(stress(after, target) < 1e-6)
    (True, True)
  """
  _errors.points("guttman_transform", "x", x)
  _check_target("guttman_transform", "target", target, weights, x)
  if inverse is not None:
    n = validation.square("guttman_transform", "inverse", inverse)
    validation.of_points("guttman_transform", "inverse", inverse, x, n)
    if weights is None:
      advice = "Pass the weights that it belongs to"
      raise _errors.error("guttman_transform", "inverse needs weights", "inverse without weights", advice)
  if inverse is None and weights is not None:
    validation.connected("guttman_transform", "target", weights)
    inverse = _guttman_inverse(weights)
  return _guttman_transform(x, target, weights, inverse)


def guttman_inverse(weights: jax.Array) -> jax.Array:
  """The pseudoinverse of the Laplacian of the weights, ``V^+``, for :func:`guttman_transform`.

  Shapes: ``n`` points; ``...`` leading batch axes.

  Args:
    weights: ``(..., n, n)``, symmetric, not negative, or boolean. They must connect all points.

  Returns:
    ``(..., n, n)``, symmetric, its rows of sum 0. Inside ``jit`` it is of no use where the weights do not connect all
    points.

  Raises:
    ValueError, TypeError: as :func:`stress`; weights that do not connect all points.

  Derivatives: all modes, all orders.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import guttman_inverse
    >>> guttman_inverse(jnp.ones((2, 2))).round(4)
    Array([[ 0.25, -0.25],
           [-0.25,  0.25]], dtype=float32)
  """
  validation.square("guttman_inverse", "weights", weights, boolean=True)
  validation.weights("guttman_inverse", weights, "weights", weights)
  validation.connected("guttman_inverse", "weights", weights)
  return _guttman_inverse(weights)


def points_from_edm(
  D: jax.Array,
  dim: int,
  *,
  weights: jax.Array | None = None,
  initial: jax.Array | None = None,
  key: jax.Array | None = None,
  restarts: int = 1,
  max_steps: int = 1000,
  tolerance: float = 1e-6,
) -> Configuration:
  r"""Points whose distances are nearest to given ones, some of which may be missing: SMACOF, from several starts.

  .. math:: \min_X \sum_{i<j} w_{ij}\, (\lVert x_i - x_j \rVert - \sqrt{D_{ij}})^2

  Shapes: ``n`` points; ``...`` leading batch axes, which broadcast.

  Args:
    D: *squared* distances, ``(..., n, n)``.
    dim: how many coordinates, 1 to n - 1.
    weights: as for :func:`stress`: 0 for a missing entry (a boolean array will do), else the inverse of its variance.
    initial: points to start from, ``(..., n, dim)``, which must not lie in fewer dimensions: nothing leaves those.
      ``None``: classical MDS of D, its missing entries filled with the
      lengths of shortest paths.
    key: for the random starts, from ``jax.random.key``.
    restarts: starts in all; those after the first are random, and the end with the least stress counts.
    max_steps: Guttman transforms from each start.
    tolerance: a start has converged when a step moves the points by less than this, root mean square, relative to their
      spread.

  Returns:
    ``Configuration(points, stress, steps, converged)`` of the best start: the points, ``(..., n, dim)``, centred, along
    their principal axes (from ``initial``: as it lay); the raw stress, as :func:`stress` has it; the steps taken; and
    whether it converged. Starts of ours take a detour: for at most half of the steps they have one coordinate more than
    ``dim``, if there are points enough, in which points walk around each other. Inside ``jit`` what cannot be placed
    (NaN, parts that no entry connects) is not ``converged``.

  Raises:
    ValueError: a D that is not square, or outside ``jit``, where its weight is not 0, not finite, negative,
      asymmetric or with a diagonal that is not zero; known entries that do not connect all points; dim, max_steps,
      restarts or tolerance out of range; several restarts without a key.
    TypeError: what does not hold real numbers.

  Derivatives: all modes, all orders, of the points and the stress with respect to D and the weights, by the implicit
  function theorem, whatever the start was; the start has none. They are those of the minimum, so it must be one
  (converged; pass a small tolerance), and they hold for functions of the distances of the points, which turn no more
  than they must. Where a minimum is not isolated (too few distances to hold the points) there is no derivative.

  Memory: O(n^2); each step O(n) beside D and the weights.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jax_edm import edm, points_from_edm
    >>> x = jax.random.uniform(jax.random.key(0), (20, 2))
    >>> known = jax.random.uniform(jax.random.key(1), (20, 20)) < 0.7
    >>> found = points_from_edm(edm(x), 2, weights=known | known.T)
    >>> bool(jnp.allclose(edm(found.points), edm(x), atol=1e-3))
    True
  """
  name = "points_from_edm"
  n = validation.square(name, "D", D)
  validation.dimension(name, dim, n)
  _check_target(name, "D", D, weights, None)
  validation.connected(name, "D", weights)
  if initial is not None:
    _errors.points(name, "initial", initial)
    validation.of_points(name, "D", D, initial, n)
    if initial.shape[-1] != dim:
      got = f"initial {initial.shape} and dim={dim}"
      raise _errors.error(name, "initial must have dim coordinates", got, "Change one of the two")
  _errors.positive(name, "restarts", restarts)
  _errors.positive(name, "max_steps", max_steps)
  if validation.known(tolerance) and not tolerance >= 0:
    raise _errors.error(name, "tolerance must not be negative", repr(tolerance), "0 takes all of max_steps")
  if restarts > 1 and key is None:
    advice = "Pass key=jax.random.key(0)"
    raise _errors.error(name, "key must be given for random starts", f"None, and restarts={restarts}", advice)
  return _points_from_edm(D, weights, initial, key, tolerance, dim, restarts, max_steps)


def _check_target(function: str, name: str, target: Any, weights: Any, x: Any) -> None:
  """A matrix of distances, its weights, and the points that it belongs to."""
  n = validation.square(function, name, target)
  validation.weights(function, weights, name, target)
  if x is not None:
    validation.of_points(function, name, target, x, n)
    if weights is not None:
      validation.of_points(function, "weights", weights, x, n)
  validation.distances(function, name, target, weights)


@partial(jax.jit, static_argnums=(3, 4))
def _stress(x: jax.Array, target: jax.Array, weights: Any, squared: bool, normalized: bool) -> jax.Array:
  def one(x: jax.Array, t: jax.Array, w: Any) -> jax.Array:
    sigma = _smacof.stress(x, t, w, squared)
    if not normalized:
      return sigma
    t, *w = _smacof.given(t, w)
    scale = ((w[0] if w else 1) * t**2).sum() / 2
    # Nothing fitted to nothing is a fit.
    nothing = (scale == 0) & (sigma == 0)
    return safe_root(sigma / jnp.where(nothing, 1, scale))

  return _mapped(one, (x, target, weights), "()")


@jax.jit
def _guttman_transform(x: jax.Array, target: jax.Array, weights: Any, inverse: Any) -> jax.Array:
  def one(x: jax.Array, t: jax.Array, w: Any, inverse: Any) -> jax.Array:
    return _smacof.transform(x, *_symmetric(t, w), inverse)

  return _mapped(one, (x, target, weights, inverse), "(p,q)")


@jax.jit
def _guttman_inverse(weights: jax.Array) -> jax.Array:
  return _mapped(_smacof.inverse_laplacian, (weights,), "(p,q)")


@partial(jax.jit, static_argnums=(5, 6))
def _points_from_edm(
  D: jax.Array, weights: Any, initial: Any, key: Any, tolerance: Any, dim: int, restarts: int, most: Any
) -> Configuration:
  def one(D: jax.Array, w: Any, initial: Any) -> tuple[jax.Array, ...]:
    D, w = _symmetric(D, w)
    t = safe_root(D if w is None else jnp.where((w == 0) & ~(D >= 0), 0, D))
    fixed = jax.lax.stop_gradient((t, w, initial))
    x, steps, converged = _smacof.search(*fixed, key, dim, restarts, most, tolerance)
    x = _smacof.stationary(jax.lax.stop_gradient(x), t, w)
    return x, _smacof.stress(x, t, w), steps, converged

  return Configuration(*_mapped(one, (D, weights, initial), "(p,q),(),(),()"))


def _symmetric(t: jax.Array, w: Any) -> tuple[jax.Array, Any]:
  """Both halves count, and have a derivative: the one where the other is what it is."""
  t, *w = _smacof.given(t, w)
  return (t + t.T) / 2, (w[0] + w[0].T) / 2 if w else None


def _mapped(function: Any, arrays: tuple[Any, ...], results: str) -> Any:
  """``function`` of each member of the batch, all arrays of the dtype to compute in; what floats, back in their own."""
  given = [a for a in arrays if a is not None]
  result, compute = _edm.dtypes(*(a for a in given if a.dtype != bool))
  arrays = tuple(None if a is None else jnp.asarray(a).astype(compute) for a in arrays)
  out = batching.map_batch(function, arrays, (2,) * len(arrays), results)
  return jax.tree.map(lambda a: a.astype(result) if a.dtype == compute else a, out)
