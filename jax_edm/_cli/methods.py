"""The three ways from distances to points: gradient descent, SMACOF and classical MDS."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jax_edm._cli import descent
from jax_edm._cli.edges import Edges
from jax_edm._cli.errors import error
from jax_edm._cli.files import Distances
from jax_edm._mds.classical import classical_mds
from jax_edm._mds.smacof import SMACOFResult, smacof

SMACOF_STEPS, SMACOF_TOLERANCE = 3000, 1e-6
LOOSE_TOLERANCE = 1e-4  # a larger one stops before the minimum
SMACOF_FIRST_STEPS, SMACOF_STEPS_PER_CALL = 1000, 100  # between two updates of the progress bar
EDGE_STEPS, EDGE_STEPS_PER_CALL = 200, 25  # of an edge list, each of which takes longer


@dataclass(frozen=True)
class Search:
  """How to look for the points; ``None`` for what the method chooses."""

  method: str
  seed: int = 0
  restarts: int | None = None
  max_steps: int | None = None
  tolerance: float | None = None


class Found(NamedTuple):
  """The points lie about their own mean, or about the centre of the anchors."""

  points: (
    np.ndarray
  )  # (n, dim), float64, in the unit of the distances: along their principal axes, or as anchors have them
  outcome: str  # for the report
  is_minimum: bool = False  # of the stress, which only SMACOF knows


def find(known: Distances | Edges, dim: int, search: Search) -> Found:
  if search.method == "smacof":
    return _majorize(known, dim, search)
  assert isinstance(known, Distances)  # `parser` refuses edge lists
  return {"gradient": _descend, "classical": _scale}[search.method](known, dim, search)


def _descend(distances: Distances, dim: int, search: Search) -> Found:
  target = descent.prepare(distances.values, distances.weights)
  with descent.progress(len(distances.values), max_steps=search.max_steps) as bar:
    points = descent.recover(target, dim, search.seed, bar, search.restarts, search.max_steps) * target.unit
    return Found(points, f"gradient descent, {bar.n:,} steps from random positions")


def _majorize(known: Distances | Edges, dim: int, search: Search) -> Found:
  unit = descent.root_mean_square(known.pairs.values)
  tolerance = SMACOF_TOLERANCE if search.tolerance is None else search.tolerance
  if isinstance(known, Edges):
    solver = _edge_solver(known, dim, unit, tolerance)
  else:
    solver = _matrix_solver(known, dim, unit, search, tolerance)
  steps = search.max_steps or solver.steps
  with tqdm(total=steps, desc="SMACOF", unit="step") as bar:
    found = solver.fit(None, min(solver.first_steps, steps))
    while True:
      bar.set_postfix(stress=f"{float(found.stress):.3e}", refresh=False)
      bar.update(int(found.steps))
      if bool(found.converged) or bar.n >= steps:
        break
      found = solver.fit(found.points, min(solver.steps_per_call, steps - bar.n))
    taken, bar.total = bar.n, bar.n  # it ends where the steps end
  advice = "" if bool(found.converged) else ": allow more with --max-steps, or a larger --tolerance"
  outcome = f"SMACOF, {'' if found.converged else 'not '}converged after {taken:,} steps{advice}"
  points, is_minimum = np.asarray(found.points, np.float64), bool(found.converged) and tolerance <= LOOSE_TOLERANCE
  if known.anchors is None:
    return Found(descent.principal_axes(points) * unit, outcome, is_minimum)
  held = np.isfinite(known.anchors.positions)
  return Found(np.where(held, known.anchors.positions, points * unit), outcome, is_minimum)


class Solver(NamedTuple):
  """SMACOF of one problem, from a start of its own or from points, for so many steps; and how many to take."""

  fit: Callable[[jax.Array | None, int], SMACOFResult]
  steps: int
  first_steps: int
  steps_per_call: int  # between two updates of the progress bar


def _matrix_solver(distances: Distances, dim: int, unit: float, search: Search, tolerance: float) -> Solver:
  known = ~np.isnan(distances.values)
  weights = jnp.asarray(known if distances.weights is None else distances.weights, jnp.float32)
  if distances.bounds is None:
    intervals: dict[str, jax.Array | None] = {"target": _scaled(np.where(known, distances.values, 0), unit)}
  else:
    intervals = {side: _scaled(bound, unit) for side, bound in distances.bounds._asdict().items()} | {"target": None}
  fixed, places = _anchored(distances, unit)
  problem = partial(smacof, dim=dim, weights=weights, fixed=fixed, tolerance=tolerance)
  program = jax.jit(problem, static_argnames=("restarts", "max_steps"))  # checks no values: `files` has checked them
  starts = search.restarts or descent.starts_of(len(known))

  def fit(points: jax.Array | None, steps: int) -> SMACOFResult:
    if points is not None:
      return program(**intervals, initial=points, max_steps=steps)
    key = jax.random.key(search.seed)
    return program(**intervals, initial=places, key=key, restarts=starts, max_steps=steps)

  return Solver(fit, SMACOF_STEPS, SMACOF_FIRST_STEPS, SMACOF_STEPS_PER_CALL)


def _edge_solver(edges: Edges, dim: int, unit: float, tolerance: float) -> Solver:
  from jax_edm import smacof_edges

  pairs = edges.pairs
  i, j = (jnp.asarray(a, jnp.int32) for a in (pairs.i, pairs.j))
  fixed, places = _anchored(edges, unit)
  weights = None if pairs.weights is None else jnp.asarray(pairs.weights, jnp.float32)
  problem = partial(smacof_edges, i, j, _scaled(pairs.values, unit), pairs.n, dim)

  def fit(points: jax.Array | None, steps: int) -> SMACOFResult:
    begin = places if points is None else points
    return problem(weights=weights, fixed=fixed, initial=begin, max_steps=steps, tolerance=tolerance)

  return Solver(fit, EDGE_STEPS, EDGE_STEPS_PER_CALL, EDGE_STEPS_PER_CALL)


def _anchored(known: Distances | Edges, unit: float) -> tuple[np.ndarray | None, jax.Array | None]:
  """Which points are fixed, and where: about the centre of the anchors, which keeps their digits."""
  if known.anchors is None:
    return None, None
  return known.anchors.fixed, _scaled(known.anchors.positions, unit)


def _scaled(lengths: np.ndarray, unit: float) -> jax.Array:
  return jnp.asarray(lengths / unit, jnp.float32)


def _scale(distances: Distances, dim: int, search: Search) -> Found:
  measured = distances.values.copy()
  np.fill_diagonal(measured, 0)
  missing = int(np.isnan(measured).sum()) // 2
  if missing:
    got = f"{missing:,} missing ones"
    raise error("--method classical", "all distances must be measured", got, "Use --method smacof")
  unit = descent.root_mean_square(measured)
  found = classical_mds(jnp.asarray((measured / unit) ** 2, jnp.float32), dim)
  outcome = f"classical MDS, goodness of fit {float(found.goodness_of_fit[0]):.3f}"
  if negative := int(found.negative_count):
    outcome += f"; {negative} of the {dim} coordinates are 0, because their eigenvalues are negative"
  return Found(np.asarray(found.points, np.float64) * unit, outcome)
