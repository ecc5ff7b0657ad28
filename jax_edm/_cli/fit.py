r"""Points from distances on the command line: by gradient descent through ``distances``, or by SMACOF.

The loss is the squared stress: with ``r = distances(x)`` and the measured distances ``t``, in units of their root mean
square,

.. math:: s^2 = \frac{1}{|M|} \sum_{(i,j) \in M} (r_{ij} - t_{ij})^2, \qquad M \text{ the measured pairs}.

Three ideas make plain descent find the points from random positions:

* *Curvature.* The gradient of each point is divided by a bound of its second derivative, which is the number of its
  measurements (the majorization of SMACOF). One step size then serves every problem, and Nesterov's momentum is safe.
* *A detour.* In its own dimension, a point that starts on the wrong side of the others stays there. The descent begins
  with a few coordinates more, in which it walks around them; a penalty on the minor axes grows until these are empty.
* *Blocks.* The matrix is streamed in blocks of rows, which stay in the cache of the processor.

SMACOF is :func:`jax_edm.points_from_edm`: no random positions but those of its further starts, and no step size.
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
from matplotlib.figure import Figure
from tqdm import tqdm

from jax_edm._cli import files
from jax_edm._core.edm import distances, edm
from jax_edm._mds.fitting import points_from_edm
from jax_edm._mds.points import classical_mds

EXTRA = 5  # coordinates of the detour
PENALTY = (1e-6, 0.02)  # on what stands in them, at the beginning and at the end, in units of the curvature
STEP = 0.5  # in units of the inverse curvature; up to 2/3 is stable with Nesterov's momentum, for every graph
LAST_STEP = 0.1  # of the first
ROWS = 256  # in a block
STEPS_PER_CALL = 25  # in one jitted loop, between two updates of the progress bar
# Fewer points than these leave time for more steps, and for several starts, up to so many times.
PATIENT, PATIENCE = 2000, 12
SMALL, STARTS = 512, 16
CHECKED = 12  # points in the gradient check
DRAWN = 20_000  # pairs in the Shepard diagram
SMACOF_STEPS, SMACOF_TOLERANCE = 3000, 1e-6
SMACOF_STEPS_PER_CALL = 100
SHOWN = 12  # eigenvalues in the spectrum

Params = Any  # what a stage optimises

_dot = partial(jnp.dot, precision=lax.Precision.HIGHEST)


@dataclass(frozen=True)
class Stage:
  """One descent; ``place`` makes points of what is optimised, and all but ``dim`` of their axes are penalised."""

  steps: int
  momentum: float
  dim: int
  place: Callable[[Params], jax.Array]


class Target(NamedTuple):
  """The measured distances, as the descent reads them."""

  blocks: jax.Array  # (blocks, rows, n); NaN where not measured, and in the rows that fill the last block
  entries: jax.Array  # how many are measured
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
      with progress(steps(len(measured))) as bar:
        points = recover(target, dim, seed, bar) * target.unit
    header = ",".join(f"x{k + 1}" for k in range(dim))
    files.write(place / "points.csv", points.astype(np.float32), header)
    draw(points, measured, place / "fit.png")
  return [
    line("points", f"{len(points):,} in {dim} dimensions, {about_pairs(measured)}"),
    line("stress", f"{stress(points, measured):.2e} of the root mean square distance"),
    line("gradient check", gradient_check(points)),
    line("wrote", f"{output / 'points.csv'}, {output / 'fit.png'}"),
    line("time", f"{time.perf_counter() - begin:.1f} s"),
  ]


def prepare(measured: np.ndarray) -> Target:
  """Distances, ``(n, n)``, symmetric, NaN where not measured and on the diagonal."""
  n, known, unit = len(measured), ~np.isnan(measured), _root_mean_square(measured)
  rows = min(n, ROWS)
  blocks = np.full((-(-n // rows) * rows, n), np.nan, np.float32)
  blocks[:n] = measured / unit
  curvature = 4 * known.sum(1, keepdims=True) / known.sum()
  return Target(
    jnp.asarray(blocks.reshape(-1, rows, n)),
    jnp.float32(known.sum()),
    jnp.asarray(curvature, jnp.float32),
    unit,
  )


def steps(n: int) -> int:
  """What the progress bar counts to."""
  return sum(stage.steps for stage in _stages(n, 1))


def progress(total: int) -> tqdm:
  return tqdm(total=total, desc="descent", unit="step")


def recover(target: Target, dim: int, seed: int, bar: tqdm) -> np.ndarray:
  """Points, ``(n, dim)``, float64, from random positions; centred, along their principal axes, in units of ``target``.

  Small problems start several times, and the best end counts.
  """
  n = target.curvature.shape[0]
  starts = _times(SMALL, n, STARTS)
  x = np.random.default_rng(seed).standard_normal((starts, n, dim + EXTRA)) / np.sqrt(2 * (dim + EXTRA))
  for stage in _stages(n, dim):
    x, losses = descend(stage, jnp.asarray(x, jnp.float32), target.curvature, target, bar)
    x = _principal_axes(np.asarray(x, np.float64))[..., :dim]
  return x[np.argmin(losses)]


def majorize(measured: np.ndarray, dim: int, seed: int) -> np.ndarray:
  """Points, ``(n, dim)``, float64, by SMACOF; centred, along their principal axes."""
  known, unit = ~np.isnan(measured), _root_mean_square(measured)
  D = jnp.asarray(np.where(known, measured / unit, 0) ** 2, jnp.float32)
  w, key = jnp.asarray(known, jnp.float32), jax.random.key(seed)
  starts = _times(SMALL, len(measured), STARTS)
  steps = 10 * SMACOF_STEPS_PER_CALL
  first = jax.jit(lambda D: points_from_edm(D, dim, weights=w, key=key, restarts=starts, max_steps=steps))
  more = jax.jit(
    lambda x: points_from_edm(D, dim, weights=w, initial=x, max_steps=SMACOF_STEPS_PER_CALL, tolerance=SMACOF_TOLERANCE)
  )
  with tqdm(total=SMACOF_STEPS, desc="SMACOF", unit="step") as bar:
    found = first(D)
    taken = int(found.steps)
    while True:
      bar.set_postfix(stress=f"{float(found.stress):.3e}", refresh=False)
      bar.update(taken)
      if bool(found.converged) or bar.n >= SMACOF_STEPS:
        break
      found = more(found.points)
      taken = int(found.steps)
  return _principal_axes(np.asarray(found.points, np.float64)) * unit


def _stages(n: int, dim: int) -> tuple[Stage, Stage]:
  patience = _times(PATIENT, n, PATIENCE)
  return Stage(500 * patience, 0.97, dim, _as_they_are), Stage(100 * patience, 0.95, dim, _as_they_are)


def _times(enough: int, n: int, most: int) -> int:
  """How much more often there is time for ``n`` points than for ``enough`` of them."""
  return int(np.clip((enough / n) ** 2, 1, most))


def _as_they_are(x: jax.Array) -> jax.Array:
  return x


def _principal_axes(x: np.ndarray) -> np.ndarray:
  x = x - x.mean(-2, keepdims=True)
  return x @ np.linalg.svd(x, full_matrices=False)[2].swapaxes(-1, -2)


def descend(stage: Stage, params: Params, curvature: Params, target: Target, bar: tqdm) -> tuple[Params, jax.Array]:
  """The end of the descent, and its loss, for all starts: the leading axis of ``params``."""
  state = _optimizer(stage).init(params)
  for first in range(0, stage.steps, STEPS_PER_CALL):
    params, state, losses = _descend_a_little(stage, first, params, state, curvature, target)
    bar.set_postfix(loss=f"{float(losses.min()):.3e}", refresh=False)
    bar.update(STEPS_PER_CALL)
  return params, losses


def _optimizer(stage: Stage) -> optax.GradientTransformation:
  schedule = optax.cosine_decay_schedule(STEP, stage.steps, LAST_STEP)
  return optax.sgd(schedule, stage.momentum, nesterov=True)


@partial(jax.jit, static_argnums=0)
def _descend_a_little(
  stage: Stage, first: jax.Array, params: Params, state: Any, curvature: Params, target: Target
) -> tuple[Params, Any, jax.Array]:
  """``STEPS_PER_CALL`` steps in one loop, and the losses before the last of them."""

  def minor_axes(params: Params) -> jax.Array:
    x = stage.place(params)
    x = x - x.mean(0)
    return jnp.linalg.eigh(_dot(x.T, x))[1][:, : x.shape[1] - stage.dim]

  def loss(params: Params, minor: jax.Array, penalty: jax.Array) -> jax.Array:
    x = stage.place(params)
    detour = (target.curvature * _dot(x, minor) ** 2).sum() / 2
    return squared_stress(x, target) + penalty * detour

  def of_all_starts(params: Params, penalty: jax.Array) -> tuple[jax.Array, jax.Array]:
    losses = jax.vmap(loss, (0, 0, None))(params, minor, penalty)
    return losses.sum(), losses

  def step(carry: tuple[Params, Any], k: jax.Array) -> tuple[tuple[Params, Any], jax.Array]:
    params, state = carry
    penalty = PENALTY[0] * (PENALTY[1] / PENALTY[0]) ** (k / stage.steps)
    gradient, losses = jax.grad(of_all_starts, has_aux=True)(params, penalty)
    scaled = jax.tree.map(jnp.divide, gradient, curvature)
    updates, state = _optimizer(stage).update(scaled, state)
    return (optax.apply_updates(params, updates), state), losses

  minor = jax.vmap(minor_axes)(params)
  (params, state), losses = lax.scan(step, (params, state), first + jnp.arange(STEPS_PER_CALL))
  return params, state, losses[-1]


def squared_stress(x: jax.Array, target: Target) -> jax.Array:
  @jax.checkpoint
  def of_rows(block: tuple[jax.Array, jax.Array]) -> jax.Array:
    rows, measured = block
    residual = jnp.where(jnp.isnan(measured), 0, distances(rows, x) - measured)
    return (residual**2).sum()

  blocks, size, n = target.blocks.shape
  rows = jnp.pad(x, ((0, blocks * size - n), (0, 0))).reshape(blocks, size, -1)
  return lax.map(of_rows, (rows, target.blocks)).sum() / target.entries


def stress(points: np.ndarray, measured: np.ndarray) -> float:
  """Root mean square of the residuals, relative to that of the distances; float64."""
  fitted, given = _pairs(points, measured)
  return float(np.sqrt(np.mean((fitted - given) ** 2) / np.mean(given**2)))


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
  """The hand rule against forward mode of the formula that it differentiates, on a few of the points."""
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


def draw(points: np.ndarray, measured: np.ndarray, file: Path) -> None:
  """The points along their first two axes, the spectrum, and the Shepard diagram: fitted over measured distances."""
  figure = Figure(figsize=(16, 5.4), layout="constrained")
  left, middle, right = figure.subplots(1, 3, width_ratios=(1.2, 0.8, 1))
  n, dim = points.shape
  first, second = points[:, 0], points[:, 1] if dim > 1 else np.zeros(n)
  left.scatter(first, second, s=np.clip(4000 / n, 2, 40), color="C0", linewidths=0)
  if n <= 40:
    for k in range(n):
      left.annotate(str(k + 1), (first[k], second[k]), (4, 4), textcoords="offset points", fontsize=8)
  left.set(title=f"{n:,} recovered points", xlabel="first principal axis", ylabel="second principal axis")
  left.set_aspect("equal", "datalim")

  values = spectrum(points, measured)[:SHOWN]
  middle.bar(np.arange(1, len(values) + 1), values, color=["C0" if k < dim else "0.7" for k in range(len(values))])
  middle.axhline(0, color="0.4", linewidth=0.8)
  middle.set(title="Spectrum: is the dimension right?", xlabel="eigenvalue", ylabel="variance along the axis")
  middle.set_xticks(np.arange(1, len(values) + 1))

  fitted, given = _pairs(points, measured)
  some = np.random.default_rng(0).permutation(len(given))[:DRAWN]
  right.plot([0, given.max()], [0, given.max()], color="0.6", linewidth=1, zorder=0)
  size = np.clip(40_000 / len(some), 2, 20)
  right.scatter(given[some], fitted[some], s=size, color="C3", alpha=0.5, linewidths=0, rasterized=True)
  shown = "" if len(some) == len(given) else f", {len(some):,} of {len(given):,} pairs"
  right.set(title=f"Shepard diagram{shown}", xlabel="measured distance", ylabel="distance of the recovered points")
  right.set_aspect("equal", "datalim")
  for axes in (left, middle, right):
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
  figure.savefig(file, dpi=150)
