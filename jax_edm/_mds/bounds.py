"""Lower and upper bounds of distances: their checks, and what the triangle inequality says about them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_edm import _errors
from jax_edm._core import validation
from jax_edm._core.batching import compiled, promoted
from jax_edm._mds.starts import shortest_paths
from jax_edm._mds.units import unit_of
from jax_edm._typing import ArrayLike

Bounds = tuple[jax.Array, jax.Array]


def smooth_bounds(lower: ArrayLike, upper: ArrayLike) -> Bounds:
  r"""The tightest bounds that follow from bounds of distances by the triangle inequality.

  .. math:: u_{ij} \le u_{ik} + u_{kj}, \qquad l_{ij} \ge l_{kl} - u_{ki} - u_{lj}

  The upper bounds become the lengths of shortest paths, and the lower ones the largest that any pair (k, l) and the
  paths to it imply (Crippen and Havel 1988).

  Shapes: ``n`` points; ``...`` leading batch axes, which broadcast.

  Args:
    lower: the least distances, ``(..., n, n)``; 0 where nothing is known.
    upper: the largest ones, ``(..., n, n)``; infinity where nothing is known.

  Returns:
    The two arrays, ``(..., n, n)``, with zero diagonals. Where a lower bound is larger than the upper one by more than
    rounding, the bounds contradict each other, and no points have such distances.

  Raises:
    ValueError: lower and upper are not square, or not of one size; outside ``jit`` also values that are NaN, negative
      or not symmetric, an infinite lower bound, or a lower bound above its upper one. The diagonals do not count.
    TypeError: lower or upper does not hold real numbers.

  Derivatives: all modes, of the first order: each bound that results is a sum of some of those that were passed.
  Time: O(n^3).

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import smooth_bounds
    >>> lower = jnp.array([[0.0, 1.0, 5.0], [1.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    >>> upper = jnp.array([[0.0, 2.0, jnp.inf], [2.0, 0.0, 4.0], [jnp.inf, 4.0, 0.0]])
    >>> smooth_bounds(lower, upper)
    (Array([[0., 1., 5.],
           [1., 0., 3.],
           [5., 3., 0.]], dtype=float32), Array([[0., 2., 6.],
           [2., 0., 4.],
           [6., 4., 0.]], dtype=float32))
  """
  check("smooth_bounds", None, lower, upper, None)
  return compiled(_smooth, (without_diagonal(lower), without_diagonal(upper)), "(p,q),(p,q)")


def _smooth(lower: jax.Array, upper: jax.Array) -> Bounds:
  unit = unit_of(jnp.maximum(lower, jnp.where(jnp.isinf(upper), 0, upper)))
  lower, upper = lower / unit, upper / unit
  upper = shortest_paths(jnp.minimum(upper, upper.T))
  lower = jnp.maximum(lower, lower.T)

  # One end at a time: upper bounds that are shortest paths do not become shorter by a further step.
  def moved_end(lower: jax.Array) -> jax.Array:
    return jax.lax.map(lambda to_k: (lower - to_k[:, None]).max(0), upper)

  lower = jnp.maximum(moved_end(moved_end(lower).T), 0)
  off = ~jnp.eye(len(lower), dtype=bool)
  return jnp.where(off, lower, 0) * unit, upper * unit


def interval(target: Any, lower: Any, upper: Any) -> tuple[Any, Any]:
  """The bounds of every pair: one that is not given is the target, or without a target 0 or infinity."""
  if lower is None and upper is None:
    return target, None
  if target is None:
    lower = jnp.zeros_like(upper) if lower is None else lower
    upper = jnp.full(lower.shape, jnp.inf, promoted(jnp.asarray(lower), float)) if upper is None else upper
  lower, upper = (target if a is None else a for a in (lower, upper))
  return without_diagonal(lower), without_diagonal(upper)


def without_diagonal(a: Any) -> Any:
  """A matrix with zeros on the diagonal, which may be anything: no point is away from itself. None stays None."""
  if not _errors.is_array(a) or len(a.shape) < 2 or a.shape[-1] != a.shape[-2]:
    return a  # None, or refused by the checks
  array = np if isinstance(a, np.ndarray) else jnp
  return array.where(array.eye(a.shape[-1], dtype=bool), array.zeros((), a.dtype), a)


def check(function: str, target: Any, lower: Any, upper: Any, weights: Any) -> int:
  """A target, bounds, or both, and their weights; n."""
  names = {"target": target, "lower": lower, "upper": upper}
  given = {name: a for name, a in names.items() if a is not None}
  if not given:
    advice = "Pass target, or lower and upper"
    raise _errors.type_error(function, "there must be a target or bounds", "target=None without bounds", advice)
  if len(given) == 3:
    got, advice = "target, lower and upper", "Leave out the target, or the bound that is the target"
    raise _errors.error(function, "a pair has two bounds, of which the target may be one", got, advice)
  n = next(validation.square(function, name, a) for name, a in given.items())
  first = next(iter(given))
  for name, a in given.items():
    if a.shape[-1] != n:
      got = f"{first} {given[first].shape} and {name} {a.shape}"
      raise _errors.error(function, f"{first} and {name} must be of one size", got, "Pass bounds of the same points")
    _errors.leading(function, name, a.shape[:-2], given[first].shape[:-2])
  validation.weights(function, without_diagonal(weights), first, given[first])
  if target is not None:
    validation.distances(function, "target", target, weights)
  for name in ("lower", "upper"):
    if names[name] is not None:
      values = without_diagonal(names[name])
      validation.distances(function, name, values, without_diagonal(weights), infinite=name == "upper")
  if lower is not None or upper is not None:
    _check_order(function, names, weights)
  return n


def _check_order(function: str, names: dict[str, Any], weights: Any) -> None:
  """No lower bound is above its upper one."""
  low, high = (
    ("lower" if names["lower"] is not None else "target"),
    ("upper" if names["upper"] is not None else "target"),
  )
  if names[low] is None or names[high] is None or not validation.is_concrete(names[low], names[high], weights):
    return
  lower, upper = np.broadcast_arrays(*(np.asarray(names[name], np.float64) for name in (low, high)))
  wrong = ~(lower <= upper) & ~np.eye(lower.shape[-1], dtype=bool)
  if weights is not None:
    wrong = wrong & (np.asarray(weights) != 0)
  if wrong.any():
    *batch, i, j = (int(k) for k in np.argwhere(wrong)[0])
    index = (*batch, i, j)
    got = f"{lower[index]:g} and {upper[index]:g} at ({i}, {j})"
    raise _errors.error(function, f"{low} must not be larger than {high}", got, "Pass bounds that leave a distance")
