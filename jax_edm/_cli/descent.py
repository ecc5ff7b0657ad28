r"""Points from distances by gradient descent through ``pairwise_sum``.

The loss is the squared stress: with the distances ``r`` of the points and the measured distances ``t``, in units of
their root mean square,

.. math:: s^2 = \frac{\sum_{(i,j) \in M} w_{ij} (r_{ij} - t_{ij})^2}{\sum_{(i,j) \in M} w_{ij}},

with the measured pairs M, and ``w = 1`` unless there are weights.

Two ideas make plain descent find the points from random positions:

* *Curvature.* The gradient of each point is divided by a bound of its second derivative, which is the sum of the
  weights of its measurements (the majorization of SMACOF). One step size then serves every problem, and Nesterov's
  momentum is safe.
* *An over-dimensional start.* In its own dimension, a point that starts on the wrong side of the others stays there.
  So the descent begins with a few coordinates more, in which points can move around each other. A penalty on the minor
  axes grows until the points no longer extend along these.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from tqdm import tqdm

from jax_edm._core.derivatives import safe_root
from jax_edm._core.distance import dot
from jax_edm._pairwise.api import pairwise_sum

EXTRA_COORDINATES = 5  # of the over-dimensional start
PENALTY = (1e-6, 0.02)  # on the minor axes, at the beginning and at the end, in units of the curvature
STEP = 0.5  # in units of the inverse curvature; up to 2/3 is stable with Nesterov's momentum, for every graph
LAST_STEP = 0.1  # of the first
STEPS = 600  # of the two stages, in the dimension above and in the one that was asked for
STEPS_PER_CALL = 25  # in one jitted loop, between two updates of the progress bar; `parser` asks for two of them
# With fewer points than this there is time for more steps, or for more starts, up to so many times as many.
POINTS_FOR_MORE_STEPS, MOST_STEPS = 2000, 12
POINTS_FOR_MORE_STARTS, MOST_STARTS = 512, 16

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
  weights: jax.Array | None  # (n, n); 0 where not measured
  total: jax.Array  # the sum of the weights
  curvature: jax.Array  # (n, 1), a bound for the second derivatives of the loss, for each point
  unit: float  # root mean square of the measured distances, in the unit of the user


def prepare(measured: np.ndarray, weights: np.ndarray | None = None) -> Target:
  """Distances, ``(n, n)``, symmetric, NaN where not measured and on the diagonal."""
  sums, unit = (~np.isnan(measured) if weights is None else weights).sum(1, keepdims=True), root_mean_square(measured)
  scaled, curvature = (jnp.asarray(a, jnp.float32) for a in (measured / unit, 4 * sums / sums.sum()))
  w = None if weights is None else jnp.asarray(weights, jnp.float32)
  return Target(scaled, w, jnp.float32(sums.sum()), curvature, unit)


def progress(n: int, *more: Stage, max_steps: int | None = None) -> tqdm:
  """A bar for the whole descent of ``n`` points, and for more stages."""
  total = sum(stage.steps for stage in (*_stages(n, 1, max_steps), *more))
  return tqdm(total=total, desc="descent", unit="step")


def recover(
  target: Target, dim: int, seed: int, bar: tqdm, restarts: int | None = None, max_steps: int | None = None
) -> np.ndarray:
  """Points, ``(n, dim)``, float64, from random positions; centred, along their principal axes, in units of ``target``.

  Small problems start several times; the result with the least loss is returned.
  """
  n = target.curvature.shape[0]
  starts, wide = restarts or starts_of(n), dim + EXTRA_COORDINATES
  x = np.random.default_rng(seed).standard_normal((starts, n, wide)) / np.sqrt(2 * wide)
  for stage in _stages(n, dim, max_steps):
    x, losses = descend(stage, jnp.asarray(x, jnp.float32), target.curvature, target, bar)
    x = principal_axes(np.asarray(x, np.float64))[..., :dim]
  return x[np.argmin(losses)]


def starts_of(n: int) -> int:
  return _times(POINTS_FOR_MORE_STARTS, n, MOST_STARTS)


def root_mean_square(measured: np.ndarray) -> float:
  return float(np.sqrt(np.nanmean(measured**2)))


def _stages(n: int, dim: int, max_steps: int | None) -> tuple[Stage, Stage]:
  calls = (max_steps or STEPS * _times(POINTS_FOR_MORE_STEPS, n, MOST_STEPS)) // STEPS_PER_CALL
  last = max(calls // 6, 1)
  return Stage(STEPS_PER_CALL * (calls - last), 0.97, dim), Stage(STEPS_PER_CALL * last, 0.95, dim)


def _times(reference: int, n: int, limit: int) -> int:
  """How many times ``n`` points fit into the time of ``reference`` points, from 1 to ``limit``."""
  return int(np.clip((reference / n) ** 2, 1, limit))


def principal_axes(x: np.ndarray) -> np.ndarray:
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
  def of_pair(D: jax.Array, t: jax.Array, *w: jax.Array) -> jax.Array:
    squared = jnp.where(jnp.isnan(t), 0, safe_root(D) - t) ** 2
    return squared * w[0] if w else squared

  args = (target.distances,) if target.weights is None else (target.distances, target.weights)
  return pairwise_sum(of_pair, x, args=args).sum() / target.total
