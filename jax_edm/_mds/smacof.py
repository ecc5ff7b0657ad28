"""SMACOF: points whose distances are nearest to targets, or between bounds, from one or several starts."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm import _errors
from jax_edm._core import validation
from jax_edm._core.batching import map_matrices, with_all_digits
from jax_edm._mds import bounds, fixing, implicit, search, stress
from jax_edm._mds.forces import Pairs
from jax_edm._mds.landscape import dense_forces, dense_scales, free_rows
from jax_edm._mds.units import unit_of
from jax_edm._typing import ArrayLike

MOST_STEPS = 2**31 - 1
MATRIX = implicit.Stress(dense_forces, dense_scales)


class SMACOFResult(NamedTuple):
  """The result of :func:`smacof`: ``(..., n, dim)``, ``(...)``, ``(...)`` and ``(...)``."""

  points: jax.Array
  stress: jax.Array
  steps: jax.Array
  converged: jax.Array


def smacof(
  target: ArrayLike | None,
  dim: int,
  *,
  weights: ArrayLike | None = None,
  lower: ArrayLike | None = None,
  upper: ArrayLike | None = None,
  fixed: ArrayLike | None = None,
  initial: ArrayLike | None = None,
  key: jax.Array | None = None,
  restarts: int = 1,
  max_steps: int = 1000,
  tolerance: float = 1e-6,
) -> SMACOFResult:
  r"""Points whose distances are nearest to target distances or between bounds; some may be missing (de Leeuw 1977).

  .. math:: \min_X \sum_{i<j} w_{ij}\, (\lVert x_i - x_j \rVert - t_{ij})^2

  Shapes: ``n`` points; ``...`` leading batch axes, which broadcast.

  Args:
    target: *distances*, ``(..., n, n)``. (From squared distances: ``safe_root(D)``.) ``None`` where there are bounds.
    dim: the number of coordinates, 1 to n - 1; with fixed points any.
    weights: as for :func:`stress`: 0 for a missing distance (a boolean array is enough), and the inverse of its
      variance for any other. The pairs with a weight must connect all points.
    lower: the least distances, ``(..., n, n)``, as for :func:`stress`: a pair between its bounds costs nothing. A bound
      that is ``None`` is the target, or without a target 0 and infinity.
    upper: the largest ones; infinity where there is none.
    fixed: ``(..., n)`` booleans, True for a point that stays where ``initial`` has it (an anchor). Each connected part
      of the other points must have distances to at least ``dim`` of them.
    initial: points to start from, ``(..., n, dim)``. They must span all ``dim`` dimensions, because no step leaves the
      span of its points. With ``fixed``, a row with NaN is a point that is started by this function; without, NaN
      gives NaN, and has not converged.
      ``None``: classical MDS of the target, where the lengths of shortest paths stand in the place of missing distances
      (shortest-path completion). With bounds it is the middle between the lower one and a shortest path along upper
      ones.
    key: for the random starts, from ``jax.random.key``.
    restarts: the number of starts. All but the first are random, and the result with the least stress is returned; of
      several with equal stress, as if distances have more than one solution, that of the least diameter.
    max_steps: steps from each start, at most: Guttman transforms, and from the first one that moves the points by less
      than a thousandth of their spread, truncated Newton steps in a trust region. One of these takes as long as some
      tens of transforms, or hundreds where points are hardly determined. None of them raises the stress. Every start
      but ``initial`` is over-dimensional: for up to half of its steps it has one coordinate more, so that points can
      pass each other.
    tolerance: a start has converged when one step moves the points by less than this, root mean square, relative to
      their spread, or when rounding hides what a further one would do. 0: all steps are Guttman transforms.

  Returns:
    ``SMACOFResult(points, stress, steps, converged)`` of the best start: the points, ``(..., n, dim)``, centred, along
    their principal axes (not turned if they come from ``initial``, and where the fixed points say if there are such);
    the raw stress, as :func:`stress` has it; the number of steps; and whether the start converged. Inside ``jit``,
    where no values are checked, ``converged`` is False for NaN, for negative distances, for weights that do not connect
    all points, and for points that hang on too few fixed ones.

  Raises:
    ValueError: as :func:`stress`; dim, max_steps, restarts or tolerance are out of range; several restarts without a
      key; fixed without initial; outside ``jit`` also weights that do not connect all points, fixed points whose place
      is not finite, and free ones that hang on fewer than ``dim``.
    TypeError: as :func:`stress`; initial does not hold real numbers; fixed is not boolean; dim, max_steps or restarts
      are not integers; tolerance is not a number, or key is none of ``jax.random``.

  Derivatives: all modes, all orders, of the points and the stress with respect to the target, the bounds, the weights
  and the places of the fixed points, by the implicit function theorem; the start has none. They are those of the
  minimum: the start must have converged, so pass a small tolerance. Without fixed points they are right for functions
  of the distances between the points; the points turn no more than they must. There is none where the minimum is not
  isolated (too few distances to determine the points, or bounds that leave them room), or where the points span fewer
  than ``dim`` dimensions (exact distances of points on a line, with ``dim=2``): what is returned there may be wrong.
  Memory: O(n^2); each step needs O(n) in addition to the target and the weights.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jax_edm import distances, smacof
    >>> x = jax.random.uniform(jax.random.key(0), (20, 2))
    >>> known = jax.random.uniform(jax.random.key(1), (20, 20)) < 0.7
    >>> found = smacof(distances(x), dim=2, weights=known | known.T)
    >>> bool(jnp.allclose(distances(found.points), distances(x), atol=1e-3))
    True
    >>> anchors = jnp.arange(20) < 4
    >>> places = jnp.where(anchors[:, None], x, jnp.nan)
    >>> found = smacof(distances(x), dim=2, weights=known | known.T, fixed=anchors, initial=places)
    >>> bool(jnp.allclose(found.points, x, atol=1e-3))
    True
  """
  _check(target, dim, weights, lower, upper, fixed, initial, key, restarts, max_steps, tolerance)
  matrices = map(with_all_digits, (*bounds.interval(target, lower, upper), bounds.without_diagonal(weights)))
  return _smacof(*matrices, fixed, with_all_digits(initial), key, tolerance, dim, restarts, max_steps)


def _check(
  target: Any,
  dim: Any,
  weights: Any,
  lower: Any,
  upper: Any,
  fixed: Any,
  initial: Any,
  key: Any,
  restarts: Any,
  max_steps: Any,
  tolerance: Any,
) -> None:
  n = bounds.check("smacof", target, lower, upper, weights)
  like = next(a for a in (target, lower, upper) if a is not None)
  if fixed is None or n == 0:
    validation.dimension("smacof", dim, n)
    validation.connected("smacof", "target" if target is not None else "the bounds", weights)
  else:
    _errors.integer("smacof", "dim", dim)
    _errors.positive("smacof", "dim", dim)
  if initial is not None:
    _errors.points("smacof", "initial", initial)
    validation.row_for_each_point("smacof", "target", like, initial)
    if initial.shape[-1] != dim:
      got = f"initial {initial.shape} and dim={dim}"
      raise _errors.error("smacof", "initial must have dim coordinates", got, "Change one of the two")
  if fixed is not None:
    fixing.check("smacof", fixed, initial, like, weights, dim)
  check_search("smacof", key, restarts, max_steps, tolerance)


def check_search(function: str, key: Any, restarts: Any, max_steps: Any, tolerance: Any) -> None:
  _errors.positive(function, "restarts", restarts)
  _errors.positive(function, "max_steps", max_steps)
  if max_steps > MOST_STEPS:
    raise _errors.error(function, "max_steps must be less than 2**31", str(max_steps), "Steps are counted in 32 bits")
  _errors.number(function, "tolerance", tolerance)
  if validation.is_concrete(tolerance) and not tolerance >= 0:
    raise _errors.error(function, "tolerance must not be negative", repr(tolerance), "Pass 0 or a positive number")
  if key is not None:
    _errors.key(function, key)
  elif restarts > 1:
    advice = "Pass key=jax.random.key(0)"
    raise _errors.error(function, "random starts need a key", f"key=None and restarts={restarts}", advice)


@partial(jax.jit, static_argnums=(7, 8))
def _smacof(
  lower: Any,
  upper: Any,
  weights: Any,
  fixed: Any,
  initial: Any,
  key: Any,
  tolerance: Any,
  dim: int,
  restarts: int,
  max_steps: Any,
) -> SMACOFResult:
  limits = search.Limits(max_steps, tolerance)

  def one_matrix(
    lower: jax.Array, upper: jax.Array | None, w: jax.Array | None, column: jax.Array | None, initial: jax.Array | None
  ) -> SMACOFResult:
    pairs, fixed = Pairs(lower, upper, w), None if column is None else column[:, 0] != 0
    of_weights = jnp.ones((), lower.dtype) if w is None else unit_of(w)
    # Points far from the origin keep their digits.
    given = initial
    centre = jnp.zeros((dim,), lower.dtype)
    if fixed is not None and given is not None:
      centre = lax.stop_gradient(fixing.centre(given, fixed))
    unit = pairs.unit() if fixed is None or given is None else fixing.unit(pairs.unit(), given - centre, fixed)
    pairs = pairs.in_units(unit, of_weights).symmetrized()
    initial = None if given is None else (given - centre) / unit
    places = None if fixed is None or initial is None else free_rows(initial, ~fixed)
    # Without the barrier XLA transposes the matrices anew in every pass over them.
    constant, start = lax.optimization_barrier(lax.stop_gradient((pairs, initial)))
    found = search.search(constant, fixed, start, key, dim, restarts, limits)
    x = implicit.stationary(MATRIX, implicit.Minimum(found.points, pairs, fixed, places))
    sigma, points = stress.raw_stress(x, pairs) * unit * unit * of_weights, x * unit + centre
    if fixed is not None and given is not None:
      points = jnp.where(fixed[:, None], given, points)
    is_finite = jnp.isfinite(sigma) & jnp.isfinite(points).all()
    return SMACOFResult(points, sigma, found.steps, found.converged & is_finite)

  matrices = lower, upper, weights, None if fixed is None else fixed[..., None], initial
  return SMACOFResult(*map_matrices(one_matrix, matrices, "(p,q),(),(),()"))
