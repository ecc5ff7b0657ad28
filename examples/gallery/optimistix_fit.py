"""Positions from distances by optimistix, from a start in which many points coincide.

44 sensors hear their neighbours and 16 anchors with known places, and each distance has 2 % of noise. Each sensor
starts at the nearest anchor that it hears, so that there are many pairs at distance zero. The residuals by
``jax_edm.distances`` have a finite Jacobian there, and Levenberg-Marquardt goes on; ``jax_edm.smacof`` is the function
that is made for this problem. Needs optimistix, and matplotlib for the picture; run
``python examples/gallery/optimistix_fit.py``.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

from jax_edm import distances, smacof

ANCHORS = 16
TOLERANCE = 1e-3


class Network(NamedTuple):
  """Anchors come first."""

  places: jax.Array  # true ones, (n, 2)
  target: jax.Array  # noisy distances, (n, n)
  near: np.ndarray  # which of them are measured
  start: jax.Array  # of the sensors, (n - ANCHORS, 2)


def network(n, reach):
  """Sensors anywhere in a square, and anchors near the points of a grid."""
  rng = np.random.default_rng(2)
  grid = (np.indices((4, 4)).reshape(2, -1).T + 0.5 + rng.uniform(-0.3, 0.3, (ANCHORS, 2))) / 4
  places = np.concatenate([grid, rng.uniform(0, 1, (n - ANCHORS, 2))]).astype(np.float32)
  exact = np.asarray(distances(places))
  near = (exact < reach) & ~np.eye(n, dtype=bool)
  near[:ANCHORS, :ANCHORS] = False
  noise = rng.normal(size=(n, n))
  target = (exact * (1 + 0.02 * (noise + noise.T) / 2**0.5)).astype(np.float32)
  heard = np.where(near, target, np.inf)[ANCHORS:, :ANCHORS]
  start = places[heard.argmin(1)]  # the nearest anchor
  return Network(jnp.asarray(places), jnp.asarray(target), near, jnp.asarray(start))


# --8<-- [start:today]
def broadcast(sensors, args):
  anchors, target, (i, j) = args
  x = jnp.concatenate([anchors, sensors])
  return (jnp.linalg.norm(x[:, None] - x[None], axis=-1) - target)[i, j]


def broadcast_epsilon(sensors, args):
  anchors, target, (i, j) = args
  x = jnp.concatenate([anchors, sensors])
  return (jnp.sqrt(jnp.square(x[:, None] - x[None]).sum(-1) + 1e-12) - target)[i, j]


def listed_epsilon(sensors, args):
  anchors, target, (i, j) = args
  x = jnp.concatenate([anchors, sensors])
  return jnp.sqrt(jnp.square(x[i] - x[j]).sum(-1) + 1e-12) - target[i, j]


# --8<-- [end:today]


# --8<-- [start:then]
def residuals(sensors, args):
  anchors, target, (i, j) = args
  x = jnp.concatenate([anchors, sensors])
  return (distances(x) - target)[i, j]


# --8<-- [end:then]


# --8<-- [start:solve]
@partial(jax.jit, static_argnums=0)
def solve(residuals, start, args):
  """The positions, the number of steps, and whether the solver has converged."""
  solver = optx.LevenbergMarquardt(rtol=1e-3, atol=1e-3)
  solution = optx.least_squares(residuals, solver, start, args, throw=False)
  return solution.value, solution.stats["num_steps"], solution.result == optx.RESULTS.successful


# --8<-- [end:solve]


# --8<-- [start:smacof]
@jax.jit
def by_smacof(anchors, target, near, start):
  is_anchor = jnp.arange(len(target)) < len(anchors)
  return smacof(target, dim=2, weights=near, fixed=is_anchor, initial=jnp.concatenate([anchors, start]))


# --8<-- [end:smacof]


def of_optimistix(data):
  """The arguments of the residuals: anchors, distances, measured pairs."""
  return data.places[:ANCHORS], data.target, tuple(map(jnp.asarray, np.nonzero(np.triu(data.near))))


def rms(a):
  return float(jnp.sqrt(jnp.square(a).sum(-1).mean()))


def main(picture="optimistix_fit.png"):
  data = network(60, 0.4)
  args, sensors = of_optimistix(data), data.places[ANCHORS:]
  i, j = args[2]
  together = np.asarray(distances(jnp.concatenate([args[0], data.start])) == 0)[i, j].sum()
  found = {"sensors": len(sensors), "measured distances": len(i), "measured pairs that coincide": int(together)}
  ways = {
    "distances": residuals,
    "broadcast": broadcast,
    "broadcast with epsilon": broadcast_epsilon,
    "listed pairs with epsilon": listed_epsilon,
  }
  for name, way in ways.items():
    jacobian = jax.jit(jax.jacfwd(way))(data.start, args)
    positions, steps, converged = solve(way, data.start, args)
    found[f"{name}: NaN in the Jacobian of the start"] = int(jnp.isnan(jacobian).sum())
    found[f"{name}: converged"] = "yes" if converged else "no"
    found[f"{name}: steps"] = int(steps)
    found[f"{name}: root mean square error"] = rms(positions - sensors)
    found[f"{name}: sum of squares"] = float(jnp.square(residuals(positions, args)).sum())
  fit = by_smacof(*args[:2], data.near, data.start)
  found["smacof: steps"] = int(fit.steps)
  found["smacof: root mean square error"] = rms(fit.points[ANCHORS:] - sensors)
  found["smacof: sum of squares"] = float(fit.stress)
  found["start: root mean square error"] = rms(data.start - sensors)
  for name, value in found.items():
    print(name, value)
  if picture:
    draw(picture, data, solve(residuals, data.start, args)[0])
  return found


def draw(file, data, solution):
  """The places with the measured pairs, the start, and the solution."""
  from matplotlib.collections import LineCollection
  from matplotlib.figure import Figure

  places, start, solution = map(np.asarray, (data.places, data.start, solution))
  anchors, sensors = places[:ANCHORS], places[ANCHORS:]
  i, j = np.nonzero(np.triu(data.near))
  figure = Figure(figsize=(10.5, 3.9), layout="constrained")
  truth, begin, end = figure.subplots(1, 3)
  truth.add_collection(
    LineCollection(np.stack([places[i], places[j]], 1), colors="lightgrey", linewidths=0.3, antialiaseds=False)
  )
  truth.set_title(f"{len(sensors)} sensors, {len(i):,} distances")
  where, count = np.unique(start, axis=0, return_counts=True)
  begin.scatter(*where.T, s=40 * count, color="tab:blue", alpha=0.5, linewidths=0)
  for place, k in zip(where, count, strict=True):
    begin.annotate(str(k), place, ha="center", xytext=(0, 8), textcoords="offset points", fontsize=9)
  begin.set_title("The start: how many at each anchor")
  end.add_collection(LineCollection(np.stack([start, solution], 1), colors="tab:blue", linewidths=0.5, alpha=0.6))
  end.plot(*solution.T, "o", color="tab:blue", ms=3.5, label="found")
  end.set_title("Found by Levenberg-Marquardt")
  for axes in (truth, end):
    axes.plot(*sensors.T, "o", mfc="none", mec="black", ms=7, mew=0.8, label="true place")
  for axes in (truth, begin, end):
    axes.plot(*anchors.T, "^", color="tab:red", ms=7, label="anchor")
    axes.set(aspect="equal", xticks=[], yticks=[], xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
  figure.legend(*end.get_legend_handles_labels(), loc="outside lower center", ncols=3)
  figure.savefig(file, dpi=110)
  print(f"wrote {file}")


def sides():
  rows = {}
  for n, reach in ((60, 0.4), (80, 0.35)):
    data = network(n, reach)
    args = of_optimistix(data)
    rows[f"positions of {n - ANCHORS} sensors from {len(args[2][0]):,} distances"] = {
      "jax_edm": partial(positions, residuals, data.start, args),
      "broadcast, epsilon": partial(positions, broadcast_epsilon, data.start, args),
      "listed pairs, epsilon": partial(positions, listed_epsilon, data.start, args),
      "smacof of jax_edm": partial(positions_by_smacof, *args[:2], jnp.asarray(data.near), data.start),
    }
  return rows


def positions(residuals, start, args):
  return solve(residuals, start, args)[0]


def positions_by_smacof(anchors, *args):
  return by_smacof(anchors, *args).points[len(anchors) :]


if __name__ == "__main__":
  main()
