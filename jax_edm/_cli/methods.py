"""The three ways from distances to points: gradient descent, SMACOF and classical MDS."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jax_edm._cli import descent
from jax_edm._cli.errors import error
from jax_edm._cli.files import Distances
from jax_edm._mds.classical import classical_mds
from jax_edm._mds.smacof import smacof

SMACOF_STEPS, SMACOF_TOLERANCE = 3000, 1e-6
SMACOF_FIRST_STEPS, SMACOF_STEPS_PER_CALL = 1000, 100  # between two updates of the progress bar


@dataclass(frozen=True)
class Search:
  """How to look for the points; ``None`` for what the method chooses."""

  method: str
  seed: int = 0
  restarts: int | None = None
  max_steps: int | None = None
  tolerance: float | None = None


class Found(NamedTuple):
  points: np.ndarray  # (n, dim), float64, centred, along their principal axes, in the unit of the distances
  outcome: str  # for the report


def find(distances: Distances, dim: int, search: Search) -> Found:
  return {"gradient": _descend, "smacof": _majorize, "classical": _scale}[search.method](distances, dim, search)


def _descend(distances: Distances, dim: int, search: Search) -> Found:
  target = descent.prepare(distances.values, distances.weights)
  with descent.progress(len(distances.values), max_steps=search.max_steps) as bar:
    points = descent.recover(target, dim, search.seed, bar, search.restarts, search.max_steps) * target.unit
    return Found(points, f"gradient descent, {bar.n:,} steps from random positions")


def _majorize(distances: Distances, dim: int, search: Search) -> Found:
  measured = distances.values
  unit, tolerance = descent.root_mean_square(measured), search.tolerance
  tolerance = SMACOF_TOLERANCE if tolerance is None else tolerance
  known = ~np.isnan(measured)
  t = jnp.asarray(np.where(known, measured / unit, 0), jnp.float32)
  weights = jnp.asarray(known if distances.weights is None else distances.weights, jnp.float32)
  fixed = partial(smacof, dim=dim, weights=weights, tolerance=tolerance)
  fit = jax.jit(fixed, static_argnames=("restarts", "max_steps"))  # checks no values: `files` has checked them
  starts, steps = search.restarts or descent.starts_of(len(measured)), search.max_steps or SMACOF_STEPS
  with tqdm(total=steps, desc="SMACOF", unit="step") as bar:
    found = fit(t, key=jax.random.key(search.seed), restarts=starts, max_steps=min(SMACOF_FIRST_STEPS, steps))
    while True:
      bar.set_postfix(stress=f"{float(found.stress):.3e}", refresh=False)
      bar.update(int(found.steps))
      if bool(found.converged) or bar.n >= steps:
        break
      found = fit(t, initial=found.points, max_steps=min(SMACOF_STEPS_PER_CALL, steps - bar.n))
    taken, bar.total = bar.n, bar.n  # it ends where the steps end
  advice = "" if bool(found.converged) else ": allow more with --max-steps, or a larger --tolerance"
  outcome = f"SMACOF, {'' if found.converged else 'not '}converged after {taken:,} steps{advice}"
  return Found(descent.principal_axes(np.asarray(found.points, np.float64)) * unit, outcome)


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
