r"""Points from distances on the command line: by gradient descent through ``pairwise_sum``, or by SMACOF.

The loss is the squared stress: with the distances ``r`` of the points and the measured distances ``t``, in units of
their root mean square,

.. math:: s^2 = \frac{1}{|M|} \sum_{(i,j) \in M} (r_{ij} - t_{ij})^2, \qquad M \text{ the measured pairs}.

Two ideas make plain descent find the points from random positions:

* *Curvature.* The gradient of each point is divided by a bound of its second derivative, which is the number of its
  measurements (the majorization of SMACOF). One step size then serves every problem, and Nesterov's momentum is safe.
* *An over-dimensional start.* In its own dimension, a point that starts on the wrong side of the others stays there.
  So the descent begins with a few coordinates more, in which points can move around each other. A penalty on the minor
  axes grows until the points no longer extend along these.

SMACOF is :func:`jax_edm.smacof`: only its restarts have random positions, and it has no step size.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from tqdm import tqdm

from jax_edm._cli import files, plots
from jax_edm._core.derivatives import safe_root
from jax_edm._core.distance import dot
from jax_edm._core.edm import edm
from jax_edm._mds.classical import classical_mds
from jax_edm._mds.smacof import smacof
from jax_edm._pairwise.api import pairwise_sum

EXTRA_COORDINATES = 5  # of the over-dimensional start
PENALTY = (1e-6, 0.02)  # on the minor axes, at the beginning and at the end, in units of the curvature
STEP = 0.5  # in units of the inverse curvature; up to 2/3 is stable with Nesterov's momentum, for every graph
LAST_STEP = 0.1  # of the first
STEPS_PER_CALL = 25  # in one jitted loop, between two updates of the progress bar
# With fewer points than this there is time for more steps, or for more starts, up to so many times as many.
POINTS_FOR_MORE_STEPS, MOST_STEPS = 2000, 12
POINTS_FOR_MORE_STARTS, MOST_STARTS = 512, 16
CHECKED = 12  # points in the gradient check
SMACOF_STEPS, SMACOF_TOLERANCE = 3000, 1e-6
SMACOF_FIRST_STEPS, SMACOF_STEPS_PER_CALL = 1000, 100  # between two updates of the progress bar

Params = Any  # the variables of a stage


@dataclass(frozen=True)
class Stage:
  """One descent. ``place`` makes points of the parameters; all but ``dim`` of their principal axes are penalised."""

  steps: int
  momentum: float
  dim: int
  place: Callable[[Params], jax.Array] = jnp.asarray


class Target(NamedTuple):
  """The measured distances, as the descent reads them."""

  distances: jax.Array  # (n, n); NaN where not measured
  entries: jax.Array  # the number of those that are measured
  curvature: jax.Array  # (n, 1), a bound for the second derivatives of the loss, for each point
  unit: float  # root mean square of the measured distances, in the unit of the user


def run(file: Path, dim: int, squared: bool, output: Path, seed: int, method: str) -> list[str]:
  """``python -m jax_edm fit``: read, recover, write; the lines of the report."""
  begin = time.perf_counter()
  measured = files.read_distances(file, dim, squared=squared)
  with files.all_or_nothing(output) as place:
    if method == "smacof":
      points = majorize(measured, dim, seed)
    else:
      target = prepare(measured)
      with progress(len(measured)) as bar:
        points = recover(target, dim, seed, bar) * target.unit
    header = ",".join(f"x{k + 1}" for k in range(dim))
    files.write(place / "points.csv", points.astype(np.float32), header)
    plots.draw_fit(points, spectrum(points, measured), *_pairs(points, measured), place / "fit.png")
  return [
    line("points", f"{len(points):,} in {dim} dimensions, {about_pairs(measured)}"),
    line("stress", f"{stress(points, measured):.2e} of the root mean square distance"),
    line("gradient check", gradient_check(points)),
    line("wrote", f"{output / 'points.csv'}, {output / 'fit.png'}"),
    line("time", f"{time.perf_counter() - begin:.1f} s"),
  ]


def prepare(measured: np.ndarray) -> Target:
  """Distances, ``(n, n)``, symmetric, NaN where not measured and on the diagonal."""
  entries, unit = (~np.isnan(measured)).sum(1, keepdims=True), _root_mean_square(measured)
  total = entries.sum()
  scaled, curvature = (jnp.asarray(a, jnp.float32) for a in (measured / unit, 4 * entries / total))
  return Target(scaled, jnp.float32(total), curvature, unit)


def progress(n: int, *more: Stage) -> tqdm:
  """A bar for the whole descent of ``n`` points, and for more stages."""
  return tqdm(total=sum(stage.steps for stage in (*_stages(n, 1), *more)), desc="descent", unit="step")


def recover(target: Target, dim: int, seed: int, bar: tqdm) -> np.ndarray:
  """Points, ``(n, dim)``, float64, from random positions; centred, along their principal axes, in units of ``target``.

  Small problems start several times; the result with the least loss is returned.
  """
  n = target.curvature.shape[0]
  starts, wide = _times(POINTS_FOR_MORE_STARTS, n, MOST_STARTS), dim + EXTRA_COORDINATES
  x = np.random.default_rng(seed).standard_normal((starts, n, wide)) / np.sqrt(2 * wide)
  for stage in _stages(n, dim):
    x, losses = descend(stage, jnp.asarray(x, jnp.float32), target.curvature, target, bar)
    x = _principal_axes(np.asarray(x, np.float64))[..., :dim]
  return x[np.argmin(losses)]


def majorize(measured: np.ndarray, dim: int, seed: int) -> np.ndarray:
  """Points, ``(n, dim)``, float64, by SMACOF; centred, along their principal axes."""
  known, unit = ~np.isnan(measured), _root_mean_square(measured)
  t = jnp.asarray(np.where(known, measured / unit, 0), jnp.float32)
  fixed = partial(smacof, dim=dim, weights=jnp.asarray(known, jnp.float32), tolerance=SMACOF_TOLERANCE)
  fit = jax.jit(fixed, static_argnames=("restarts", "max_steps"))  # checks no values: `files` has checked them
  starts = _times(POINTS_FOR_MORE_STARTS, len(measured), MOST_STARTS)
  with tqdm(total=SMACOF_STEPS, desc="SMACOF", unit="step") as bar:
    found = fit(t, key=jax.random.key(seed), restarts=starts, max_steps=SMACOF_FIRST_STEPS)
    while True:
      bar.set_postfix(stress=f"{float(found.stress):.3e}", refresh=False)
      bar.update(int(found.steps))
      if bool(found.converged) or bar.n >= SMACOF_STEPS:
        break
      found = fit(t, initial=found.points, max_steps=SMACOF_STEPS_PER_CALL)
  return _principal_axes(np.asarray(found.points, np.float64)) * unit


def _stages(n: int, dim: int) -> tuple[Stage, Stage]:
  times = _times(POINTS_FOR_MORE_STEPS, n, MOST_STEPS)
  return Stage(500 * times, 0.97, dim), Stage(100 * times, 0.95, dim)


def _times(reference: int, n: int, limit: int) -> int:
  """How many times ``n`` points fit into the time of ``reference`` points, from 1 to ``limit``."""
  return int(np.clip((reference / n) ** 2, 1, limit))


def _principal_axes(x: np.ndarray) -> np.ndarray:
  x = x - x.mean(-2, keepdims=True)
  return x @ np.linalg.svd(x, full_matrices=False)[2].swapaxes(-1, -2)


def descend(stage: Stage, params: Params, curvature: Params, target: Target, bar: tqdm) -> tuple[Params, jax.Array]:
  """The last parameters and losses of all starts, which are the leading axis of ``params``."""
  state = _optimizer(stage).init(params)
  for first in range(0, stage.steps, STEPS_PER_CALL):
    params, state, losses = _some_steps(stage, first, params, state, curvature, target)
    bar.set_postfix(loss=f"{float(losses.min()):.3e}", refresh=False)
    bar.update(STEPS_PER_CALL)
  return params, losses


def _optimizer(stage: Stage) -> optax.GradientTransformation:
  schedule = optax.cosine_decay_schedule(STEP, stage.steps, LAST_STEP)
  return optax.sgd(schedule, stage.momentum, nesterov=True)


@partial(jax.jit, static_argnums=0)
def _some_steps(
  stage: Stage, first: jax.Array, params: Params, state: Any, curvature: Params, target: Target
) -> tuple[Params, Any, jax.Array]:
  """``STEPS_PER_CALL`` steps in one loop, and the losses before the last of them."""

  def minor_axes(params: Params) -> jax.Array:
    x = stage.place(params)
    x = x - x.mean(0)
    return jnp.linalg.eigh(dot(x.T, x))[1][:, : x.shape[1] - stage.dim]

  def loss(params: Params, minor: jax.Array, penalty: jax.Array) -> jax.Array:
    x = stage.place(params)
    outside = (target.curvature * dot(x, minor) ** 2).sum() / 2
    return squared_stress(x, target) + penalty * outside

  def step(carry: tuple[Params, Any], k: jax.Array) -> tuple[tuple[Params, Any], jax.Array]:
    params, state = carry
    penalty = PENALTY[0] * (PENALTY[1] / PENALTY[0]) ** (k / stage.steps)
    losses, gradient = jax.vmap(jax.value_and_grad(loss), (0, 0, None))(params, minor, penalty)
    scaled = jax.tree.map(jnp.divide, gradient, curvature)
    updates, state = _optimizer(stage).update(scaled, state)
    return (optax.apply_updates(params, updates), state), losses

  minor = jax.vmap(minor_axes)(params)
  (params, state), losses = lax.scan(step, (params, state), first + jnp.arange(STEPS_PER_CALL))
  return params, state, losses[-1]


def squared_stress(x: jax.Array, target: Target) -> jax.Array:
  def of_pair(D: jax.Array, t: jax.Array) -> jax.Array:
    return jnp.where(jnp.isnan(t), 0, safe_root(D) - t) ** 2

  return pairwise_sum(of_pair, x, args=(target.distances,)).sum() / target.entries


def stress(points: np.ndarray, measured: np.ndarray) -> float:
  """Root mean square of the residuals, relative to that of the distances; float64."""
  fitted, targets = _pairs(points, measured)
  return float(np.sqrt(np.mean((fitted - targets) ** 2) / np.mean(targets**2)))


def spectrum(points: np.ndarray, measured: np.ndarray) -> np.ndarray:
  """Eigenvalues over n of the Gram matrix of the measured distances, the missing ones taken from the points."""
  known, unit = ~np.isnan(measured), _root_mean_square(measured)
  D = np.array(edm(jnp.asarray(points / unit, jnp.float32)))
  D[known] = (measured[known] / unit) ** 2
  return np.asarray(classical_mds(jnp.asarray(D), 1).eigenvalues, np.float64) * unit**2 / len(D)


def _root_mean_square(measured: np.ndarray) -> float:
  return float(np.sqrt(np.nanmean(measured**2)))


def _pairs(points: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Fitted and measured distance of each measured pair."""
  i, j = np.nonzero(np.triu(~np.isnan(measured)))
  return np.linalg.norm(points[i] - points[j], axis=1), measured[i, j]


def gradient_check(points: np.ndarray) -> str:
  """The gradient of ``edm`` against forward mode of the plain formula, on a few of the points."""
  few = np.linspace(0, len(points) - 1, min(len(points), CHECKED)).astype(int)
  x = jnp.asarray(points[few], jnp.float32)
  hand = jax.jacrev(edm)(x)
  reference = jax.jacfwd(lambda x: ((x[:, None] - x[None]) ** 2).sum(-1))(x)
  difference, scale = float(jnp.abs(hand - reference).max()), float(jnp.abs(reference).max())
  return (
    f"hand rule against jax.jacfwd, {len(few)} points: "
    f"largest difference {difference:.1e}, entries up to {scale:.1e} ({difference / scale:.1e})"
  )


def line(label: str, text: str) -> str:
  return f"{label:<15} {text}"


def about_pairs(measured: np.ndarray) -> str:
  n, count = len(measured), np.count_nonzero(~np.isnan(measured)) // 2
  return f"from {count:,} of their {n * (n - 1) // 2:,} distances ({2 * count / (n * (n - 1)):.0%})"
