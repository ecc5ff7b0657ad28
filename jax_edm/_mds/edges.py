"""SMACOF for a list of measured pairs, in memory and time that grow with their number."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm import _errors
from jax_edm._core import validation
from jax_edm._core.batching import dtypes, with_all_digits
from jax_edm._mds import edge_start, fixing, implicit, newton, smacof
from jax_edm._mds.edge_landscape import EdgeLandscape, Edges, edge_forces, edge_scales, half_stress
from jax_edm._mds.units import unit_of
from jax_edm._typing import ArrayLike

NAME = "smacof_edges"
EDGES = implicit.Stress(edge_forces, edge_scales)


def smacof_edges(
  i: ArrayLike,
  j: ArrayLike,
  target: ArrayLike,
  n: int,
  dim: int,
  *,
  weights: ArrayLike | None = None,
  fixed: ArrayLike | None = None,
  initial: ArrayLike | None = None,
  max_steps: int = 200,
  tolerance: float = 1e-6,
) -> smacof.SMACOFResult:
  r"""Points whose distances are nearest to those of a list of measured pairs: :func:`smacof` without a matrix.

  .. math:: \min_X \sum_{e=1}^m w_e\, (\lVert x_{i_e} - x_{j_e} \rVert - t_e)^2

  Shapes: ``n`` points; ``m`` measured pairs. One problem; ``jax.vmap`` maps several.

  Args:
    i: the first point of each pair, ``(m,)`` integers from 0 to n - 1. A pair may be measured several times.
    j: the second one.
    target: their *distances*, ``(m,)``.
    n: the number of points.
    dim: the number of coordinates, 1 to n - 1; with fixed points any.
    weights: ``(m,)``, not negative or boolean: the inverse of the variance of each distance, 0 for one that does not
      count; ``None`` stands for ones.
    fixed: ``(n,)`` booleans, True for a point that stays where ``initial`` has it (an anchor). Each connected part of
      the other points must have distances to at least ``dim`` of them.
    initial: points to start from, ``(n, dim)``. They must span all ``dim`` dimensions, because no step leaves the span
      of its points. A row with NaN is a point that is started by this function. ``None``: all are. A start comes from
      the lengths of shortest paths to known points, or to some that are far apart where there are not more than ``dim``
      known ones, and is made by SciPy on the host, also under ``jit``.
    max_steps: truncated Newton steps in a trust region, at most. None of them raises the stress. One takes as long as
      up to some hundreds of sums over the pairs.
    tolerance: the points have converged when one step moves them by less than this, root mean square, relative to
      their spread, or when rounding hides what a further one would do; with 0 only then.

  Returns:
    ``SMACOFResult(points, stress, steps, converged)``: the points, ``(n, dim)``, where the start and the fixed points
    have put them (they are neither centred nor turned); the raw stress, each pair of the list counted once; the number
    of steps; and whether they converged. It is False for pairs that do not connect all points, and for points that hang
    on too few fixed ones. There is one start, and the search from it has no extra coordinate: with few fixed points and
    a far-off start the result may be a local minimum with folds, which a large stress shows.

  Raises:
    ValueError: the shapes do not match; dim, max_steps or tolerance are out of range; fixed without initial; outside
      ``jit`` also points that are not 0 to n - 1, a pair of a point with itself, distances or weights that are not
      finite or negative, pairs that do not connect all points, fixed points whose place is not finite, and free ones
      that hang on fewer than ``dim``.
    TypeError: i or j do not hold integers; target, weights or initial do not hold real numbers; fixed is not boolean;
      n, dim or max_steps are not integers; tolerance is not a number.

  Derivatives: as those of :func:`smacof`, with respect to the target, the weights and the places of the fixed points.
  Memory: O(n + m). Time of a step: O(m) for each of its conjugate gradients.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jax_edm import smacof_edges
    >>> x = jax.random.uniform(jax.random.key(0), (20, 2))
    >>> i, j = jnp.triu_indices(20, 1)
    >>> near = jnp.linalg.norm(x[i] - x[j], axis=1) < 0.5
    >>> i, j = i[near], j[near]
    >>> anchors = jnp.arange(20) < 4
    >>> places = jnp.where(anchors[:, None], x, jnp.nan)
    >>> target = jnp.linalg.norm(x[i] - x[j], axis=1)
    >>> found = smacof_edges(i, j, target, 20, 2, fixed=anchors, initial=places)
    >>> bool(found.converged), bool(jnp.allclose(found.points, x, atol=1e-4))
    (True, True)
  """
  _check(i, j, target, n, dim, weights, fixed, initial, max_steps, tolerance)
  given = (target, weights, initial)
  result, compute = dtypes(*(a for a in given if a is not None and jnp.issubdtype(jnp.result_type(a), jnp.number)))
  t = jnp.asarray(with_all_digits(target), compute)
  w = jnp.ones_like(t) if weights is None else jnp.asarray(with_all_digits(weights), compute)
  places = None if initial is None else jnp.asarray(with_all_digits(initial), compute)
  edges = Edges(jnp.asarray(i, jnp.int32), jnp.asarray(j, jnp.int32), t, w)
  begin, enough = _start(lax.stop_gradient(edges), n, dim, fixed, None if places is None else lax.stop_gradient(places))
  out = _smacof_edges(edges, begin, enough, fixed, places, tolerance, max_steps)
  return smacof.SMACOFResult(*(a.astype(result) if a.dtype == compute else a for a in out))


def _check(
  i: Any,
  j: Any,
  target: Any,
  n: Any,
  dim: Any,
  weights: Any,
  fixed: Any,
  initial: Any,
  max_steps: Any,
  tolerance: Any,
) -> None:
  _errors.integer(NAME, "n", n)
  if n < 1:
    raise _errors.error(NAME, "n must be at least 1", str(n), "Pass the number of points")
  if fixed is None:
    validation.dimension(NAME, dim, n)
  else:
    _errors.positive(NAME, "dim", dim)
  for name, a in (("i", i), ("j", j)):
    _errors.array(NAME, name, a, (jnp.integer,), "hold integers", "Pass the numbers of the points, from 0 on")
  validation.real(NAME, "target", target)
  if weights is not None:
    validation.real(NAME, "weights", weights, boolean=True)
  shapes = {"i": i, "j": j, "target": target} | ({} if weights is None else {"weights": weights})
  if len({a.shape for a in shapes.values()}) > 1 or len(i.shape) != 1:
    got = ", ".join(f"{name} {a.shape}" for name, a in shapes.items())
    expected = f"{', '.join(shapes)} must have one entry for each measured pair, (m,)"
    raise _errors.error(NAME, expected, got, "Pass one-dimensional arrays of one length")
  _check_pairs(i, j, n)
  _check_values(target, weights)
  if initial is not None:
    _errors.points(NAME, "initial", initial)
    if initial.shape != (n, dim):
      got = f"{initial.shape} for n={n} and dim={dim}"
      raise _errors.error(NAME, "initial must have the shape (n, dim)", got, "Change one of them")
  if fixed is not None:
    fixing.check_places(NAME, fixed, initial, (n,))
  smacof.check_search(NAME, None, 1, max_steps, tolerance)
  if validation.is_concrete(i, j, target, weights, fixed):
    _check_parts(i, j, target, n, dim, weights, fixed)


def _check_pairs(i: Any, j: Any, n: int) -> None:
  if not validation.is_concrete(i, j):
    return
  i, j = np.asarray(i), np.asarray(j)
  for name, a in (("i", i), ("j", j)):
    wrong = (a < 0) | (a >= n)
    if wrong.any():
      e = int(np.argmax(wrong))
      raise _errors.error(NAME, f"{name} must be from 0 to n - 1", f"{a[e]} at {e} for n={n}", "Count points from 0")
  if (i == j).any():
    e = int(np.argmax(i == j))
    raise _errors.error(NAME, "a pair must be of two points", f"{i[e]} and {j[e]} at {e}", "Leave that pair out")


def _check_values(target: Any, weights: Any) -> None:
  known: Any = True
  if weights is not None and validation.is_concrete(weights):
    w = np.asarray(weights, np.float64)
    _no_entry("weights", w, ~np.isfinite(w) | (w < 0), "0 means that the pair does not count")
    known = w != 0
  if validation.is_concrete(target, weights):
    t = np.asarray(target, np.float64)
    _no_entry("target", t, (~np.isfinite(t) | (t < 0)) & known, "Leave out a pair that is not known")


def _no_entry(name: str, values: np.ndarray, wrong: np.ndarray, advice: str) -> None:
  if wrong.any():
    e = int(np.argmax(wrong))
    raise _errors.error(NAME, f"{name} must be finite and not negative", f"{values[e]:g} at {e}", advice)


def _check_parts(i: Any, j: Any, target: Any, n: int, dim: int, weights: Any, fixed: Any) -> None:
  graph = edge_start.shortest_edges(_known(np.asarray(i), np.asarray(j), np.asarray(target), weights), n)
  weak = edge_start.weakest_part(graph, None if fixed is None else np.asarray(fixed), dim)
  if weak is None:
    return
  points, links = weak
  if fixed is not None:
    raise fixing.turning(NAME, points, links, dim)
  got = f"a separate part of {len(points)} points: {fixing.listed(points)}"
  raise _errors.error(NAME, "the pairs must connect all points", got, "Place each part by itself, or add a pair")


def _known(i: np.ndarray, j: np.ndarray, t: np.ndarray, weights: Any) -> edge_start.Edges:
  some = slice(None) if weights is None else np.asarray(weights) != 0
  return edge_start.Edges(i[some], j[some], t[some].astype(np.float64))


def _start(edges: Edges, n: int, dim: int, fixed: Any, places: jax.Array | None) -> tuple[jax.Array, jax.Array]:
  """``edge_start.start``, on the host: where these are tracers, when the program runs."""

  def on_host(edges: Edges, fixed: Any, places: Any) -> tuple[np.ndarray, np.ndarray]:
    i, j, t, w = map(np.asarray, edges)
    # Inside jit nobody has looked at the numbers of the points.
    pairs = (i >= 0) & (i < n) & (j >= 0) & (j < n) & (i != j)
    x, enough = edge_start.start(
      _known(i, j, t, np.where(pairs, w, 0)),
      n,
      dim,
      None if fixed is None else np.asarray(fixed),
      None if places is None else np.asarray(places, np.float64),
    )
    return x.astype(t.dtype), np.asarray(enough & pairs.all())

  like = jax.ShapeDtypeStruct((n, dim), edges.t.dtype), jax.ShapeDtypeStruct((), bool)
  return jax.pure_callback(on_host, like, edges, fixed, places, vmap_method="sequential")


@partial(jax.jit)
def _smacof_edges(
  edges: Edges, begin: jax.Array, enough: jax.Array, fixed: Any, places: Any, tolerance: Any, max_steps: Any
) -> smacof.SMACOFResult:
  t, w = edges.t, edges.w
  # Points far from the origin keep their digits.
  centre = begin.mean(0) if fixed is None else lax.stop_gradient(fixing.centre(begin, fixed))
  unit, of_weights = unit_of(jnp.where(w == 0, 0, t)), unit_of(w)
  unit = unit if fixed is None else fixing.unit(unit, begin - centre, fixed)
  edges = Edges(edges.i, edges.j, t / unit, w / of_weights).known()
  begin = (begin - centre) / unit
  given = places
  places = None if fixed is None else jnp.where(fixed[:, None], (given - centre) / unit, 0)
  begin = begin if fixed is None else jnp.where(fixed[:, None], lax.stop_gradient(places), begin)
  landscape = EdgeLandscape.of(lax.stop_gradient(edges), fixed, len(begin))
  x, steps, moving = newton.descend(landscape, begin, tolerance, jnp.int32(0), max_steps)
  x = implicit.stationary(EDGES, implicit.Minimum(x, edges, fixed, places))
  sigma, points = 2 * half_stress(x, edges) * unit * unit * of_weights, x * unit + centre
  points = points if fixed is None else jnp.where(fixed[:, None], given, points)
  # Points that all coincide do not move, but are a minimum only for distances that are all zero.
  apart = (x != x[0]).any() | (edges.t == 0).all()
  is_right = apart & jnp.isfinite(sigma) & jnp.isfinite(points).all() & ((t >= 0) | (w == 0)).all() & (w >= 0).all()
  return smacof.SMACOFResult(points, sigma, steps, ~moving & enough & is_right & ~jnp.isnan(tolerance))
