"""SMACOF: points whose distances are nearest to targets, by Guttman transforms from one or several starts."""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm import _errors
from jax_edm._core import validation
from jax_edm._core.batching import map_matrices, with_all_digits
from jax_edm._core.distance import dot
from jax_edm._mds import forces, implicit, stress
from jax_edm._mds.forces import Weights
from jax_edm._mds.gram import double_centred
from jax_edm._mds.laplacian import apply_root, root_of_inverse
from jax_edm._mds.subspace import largest_eigenvalues
from jax_edm._mds.sylvester import principal_points
from jax_edm._mds.units import unit_of
from jax_edm._typing import ArrayLike

EXTRA_COORDINATES = 1  # of the over-dimensional start
MOST_STEPS = 2**31 - 1
PATH_BLOCK = 32  # points that shortest paths may pass from one loop over the matrix to the next

State = tuple[jax.Array, Any, Any]  # points, the steps so far, and whether the last of them still moved the points


class SMACOFResult(NamedTuple):
  """The result of :func:`smacof`: ``(..., n, dim)``, ``(...)``, ``(...)`` and ``(...)``."""

  points: jax.Array
  stress: jax.Array
  steps: jax.Array
  converged: jax.Array


def smacof(
  target: ArrayLike,
  dim: int,
  *,
  weights: ArrayLike | None = None,
  initial: ArrayLike | None = None,
  key: jax.Array | None = None,
  restarts: int = 1,
  max_steps: int = 1000,
  tolerance: float = 1e-6,
) -> SMACOFResult:
  r"""Points whose distances are nearest to target distances, some of which may be missing (de Leeuw 1977).

  .. math:: \min_X \sum_{i<j} w_{ij}\, (\lVert x_i - x_j \rVert - t_{ij})^2

  Shapes: ``n`` points; ``...`` leading batch axes, which broadcast.

  Args:
    target: *distances*, ``(..., n, n)``. (From squared distances: ``safe_root(D)``.)
    dim: the number of coordinates, 1 to n - 1.
    weights: as for :func:`stress`: 0 for a missing distance (a boolean array is enough), and the inverse of its
      variance for any other. The pairs with a weight must connect all points.
    initial: points to start from, ``(..., n, dim)``. They must span all ``dim`` dimensions, because no step leaves the
      span of its points. ``None``: classical MDS of the target, where the lengths of shortest paths stand in the place
      of missing distances (shortest-path completion).
    key: for the random starts, from ``jax.random.key``.
    restarts: the number of starts. All but the first are random, and the result with the least stress is returned.
    max_steps: Guttman transforms from each start, at most. Every start but ``initial`` is over-dimensional: for up to
      half of its steps it has one coordinate more, if there are points enough, so that points can pass each other.
    tolerance: a start has converged when one step moves the points by less than this, root mean square, relative to
      their spread.

  Returns:
    ``SMACOFResult(points, stress, steps, converged)`` of the best start: the points, ``(..., n, dim)``, centred, along
    their principal axes (not turned if they come from ``initial``); the raw stress, as :func:`stress` has it; the
    number of steps; and whether the start converged. Inside ``jit``, where no values are checked, ``converged`` is
    False for NaN, for negative distances, and for weights that do not connect all points.

  Raises:
    ValueError: as :func:`stress`; dim, max_steps, restarts or tolerance are out of range; several restarts without a
      key; outside ``jit`` also weights that do not connect all points.
    TypeError: target, weights or initial do not hold real numbers; dim, max_steps or restarts are not integers;
      tolerance is not a number, or key is none of ``jax.random``.

  Derivatives: all modes, all orders, of the points and the stress with respect to the target and the weights, by the
  implicit function theorem; the start has none. They are those of the minimum: the start must have converged, so pass
  a small tolerance. They are right for functions of the distances between the points; the points turn no more than
  they must. There is none where the minimum is not isolated (too few distances to determine the points), or where the
  points span fewer than ``dim`` dimensions (exact distances of points on a line, with ``dim=2``): what is returned
  there may be wrong.
  Memory: O(n^2); each step needs O(n) in addition to the target and the weights.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jax_edm import distances, smacof
    >>> x = jax.random.uniform(jax.random.key(0), (20, 2))
    >>> known = jax.random.uniform(jax.random.key(1), (20, 20)) < 0.7
    >>> found = smacof(distances(x), dim=2, weights=known | known.T)
    >>> bool(jnp.allclose(distances(found.points), distances(x), atol=1e-3))
    True
  """
  _check(target, dim, weights, initial, key, restarts, max_steps, tolerance)
  matrices = map(with_all_digits, (target, stress.without_diagonal(weights), initial))
  return _smacof(*matrices, key, tolerance, dim, restarts, max_steps)


def _check(
  target: Any, dim: Any, weights: Any, initial: Any, key: Any, restarts: Any, max_steps: Any, tolerance: Any
) -> None:
  n = stress.check_target("smacof", target, weights)
  validation.dimension("smacof", dim, n)
  validation.connected("smacof", "target", weights)
  if initial is not None:
    _errors.points("smacof", "initial", initial)
    validation.row_for_each_point("smacof", "target", target, initial)
    if initial.shape[-1] != dim:
      got = f"initial {initial.shape} and dim={dim}"
      raise _errors.error("smacof", "initial must have dim coordinates", got, "Change one of the two")
  _errors.positive("smacof", "restarts", restarts)
  _errors.positive("smacof", "max_steps", max_steps)
  if max_steps > MOST_STEPS:
    raise _errors.error("smacof", "max_steps must be less than 2**31", str(max_steps), "Steps are counted in 32 bits")
  _errors.number("smacof", "tolerance", tolerance)
  if validation.is_concrete(tolerance) and not tolerance >= 0:
    raise _errors.error("smacof", "tolerance must not be negative", repr(tolerance), "With 0 it takes all max_steps")
  if key is not None:
    _errors.key("smacof", key)
  elif restarts > 1:
    advice = "Pass key=jax.random.key(0)"
    raise _errors.error("smacof", "random starts need a key", f"key=None and restarts={restarts}", advice)


@partial(jax.jit, static_argnums=(5, 6))
def _smacof(
  target: Any, weights: Any, initial: Any, key: Any, tolerance: Any, dim: int, restarts: int, max_steps: Any
) -> SMACOFResult:
  def one_matrix(t: jax.Array, w: Weights, initial: jax.Array | None) -> SMACOFResult:
    unit = unit_of(t if w is None else jnp.where(w == 0, 0, t))
    of_weights = jnp.ones((), t.dtype) if w is None else unit_of(w)
    t, w = forces.symmetrized(t / unit, None if w is None else w / of_weights)
    initial = None if initial is None else initial / unit
    # Without the barrier XLA transposes the matrices anew in every pass over them.
    fixed_t, fixed_w, start = lax.optimization_barrier(lax.stop_gradient((t, w, initial)))
    found = search(fixed_t, fixed_w, start, key, dim, restarts, max_steps, tolerance)
    x = implicit.stationary(lax.stop_gradient(found.points), t, w)
    sigma, points = stress.raw_stress(x, t, w) * unit * unit * of_weights, x * unit
    is_finite = jnp.isfinite(sigma) & jnp.isfinite(points).all()
    return found._replace(points=points, stress=sigma, converged=found.converged & is_finite)

  return SMACOFResult(*map_matrices(one_matrix, (target, weights, initial), "(p,q),(),(),()"))


def search(
  t: jax.Array, w: Weights, initial: Any, key: Any, dim: int, restarts: int, max_steps: Any, tolerance: Any
) -> SMACOFResult:
  """The best result of all starts."""
  wide = min(dim + EXTRA_COORDINATES, t.shape[0] - 1)
  root = None if w is None else root_of_inverse(w)

  def guttman_step(x: jax.Array) -> jax.Array:
    f = forces.half_gradient(x, t, w)
    return x - (f / f.shape[0] if root is None else apply_root(root, f))

  descend = partial(descent, guttman_step, tolerance)

  def run(start: jax.Array, is_initial: jax.Array) -> SMACOFResult:
    x, steps = start, jnp.int32(0)
    if wide > dim:
      x, steps, _ = descend(x, steps, max_steps // 2)
    x = jnp.where(is_initial, x[:, :dim], principal_axes(x, dim))
    x, steps, moving = descend(x, steps, max_steps)
    x = jnp.where(is_initial, x, principal_axes(x, dim))
    sigma = stress.raw_stress(x, t, w)
    return SMACOFResult(x, sigma, steps, ~moving & jnp.isfinite(sigma))

  is_initial = (jnp.arange(restarts) == 0) & (initial is not None)
  found = jax.vmap(run)(starts(t, w, initial, key, wide, restarts), is_initial)
  best = jnp.argmin(jnp.where(jnp.isnan(found.stress), jnp.inf, found.stress))
  found = SMACOFResult(*(a[best] for a in found))
  return found._replace(converged=found.converged & is_placed(found.points, t, w) & ~jnp.isnan(tolerance))


def starts(t: jax.Array, w: Weights, initial: Any, key: Any, wide: int, restarts: int) -> jax.Array:
  """``(restarts, n, wide)``: the initial points or classical MDS, then normal points of the size of the targets."""
  if initial is None:
    B = double_centred(shortest_path_completion(t, w) ** 2)
    first = principal_points(B, largest_eigenvalues(B, wide, exact=False))
  else:  # a coordinate that is zero stays zero
    first = jnp.pad(initial - initial.mean(0), ((0, 0), (0, wide - initial.shape[1])))
  if restarts == 1:
    return first[None]
  mean_square = (t**2).mean() if w is None else jnp.where(w == 0, 0, w * t**2).sum() / w.sum()
  random = jax.random.normal(key, (restarts - 1, *first.shape), t.dtype) * jnp.sqrt(mean_square / (2 * wide))
  return jnp.concatenate([first[None], random])


def descent(step: Callable[[jax.Array], jax.Array], tolerance: Any, x: jax.Array, steps: Any, max_steps: Any) -> State:
  """Steps until one moves x by no more than the tolerance, or until there are ``max_steps``, with those so far."""

  def next_step(state: State) -> State:
    x, steps, _ = state
    after = step(x)
    return after, steps + 1, jnp.linalg.norm(after - x) > tolerance * jnp.linalg.norm(after - after.mean(0))

  return lax.while_loop(lambda state: state[2] & (state[1] < max_steps), next_step, (x, steps, True))


def shortest_path_completion(t: jax.Array, w: Weights) -> jax.Array:
  """``t``, with the lengths of shortest paths in the place of missing distances (Floyd and Warshall).

  Several points at a time are admitted to the paths: first to those that begin at one of them, then to all others, in
  one loop over the matrix.
  """
  if w is None:
    return t
  n = t.shape[0]
  paths = jnp.where(jnp.eye(n, dtype=bool), 0, jnp.where(w == 0, jnp.inf, t))
  block = min(PATH_BLOCK, n)

  def shorter(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(b < a, b, a)  # one instruction of a CPU; jnp.minimum looks for NaN, too

  def admit(b: jax.Array, paths: jax.Array) -> jax.Array:
    start = jnp.minimum(b * block, n - block)  # a point may be admitted twice
    rows = lax.dynamic_slice_in_dim(paths, start, block)
    for k in range(block):
      rows = shorter(rows, lax.dynamic_index_in_dim(rows, start + k, 1) + rows[k])
    through = (row[:, None] + row for row in lax.optimization_barrier(rows))
    return reduce(shorter, through, paths)

  return lax.fori_loop(0, -(-n // block), admit, paths)


def principal_axes(x: jax.Array, dim: int) -> jax.Array:
  """``x``, ``(n, d)``, centred, in its first ``dim`` principal axes."""
  x = x - x.mean(0)
  return dot(x, jnp.linalg.eigh(dot(x.T, x))[1][:, ::-1][:, :dim])


def is_placed(x: jax.Array, t: jax.Array, w: Weights) -> jax.Array:
  """Whether points that no longer move are a minimum for distances that determine them."""
  t = t if w is None else jnp.where(w == 0, 0, t)
  not_negative = t.min() >= -(float(jnp.finfo(t.dtype).eps) ** 0.5) * t.max()
  # Points that all coincide do not move, but are a minimum only for distances that are all zero.
  apart = (x != x[0]).any() | (t == 0).all()
  of_weights = jnp.ones((), bool) if w is None else (w >= 0).all()
  return apart & not_negative & of_weights & jnp.isfinite(x).all() & is_connected(w)


def is_connected(w: Weights) -> jax.Array:
  """Whether the pairs with a weight connect all points."""
  if w is None:
    return jnp.ones((), bool)

  def grow(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    _, reached = state
    return reached, reached | ((w != 0) & reached[:, None]).any(0)

  first = jnp.arange(w.shape[0]) == 0
  return lax.while_loop(lambda state: (state[0] != state[1]).any(), grow, (~first, first))[1].all()
