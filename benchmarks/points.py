"""Points from distances: SMACOF against scikit-learn's, and how often an incomplete matrix is completed."""

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jax_edm
from benchmarks.case import Case, data
from benchmarks.oracles import exact_edm
from benchmarks.timing import Side

STEPS = 300
POINTS, PAIRS = 20, 190
GOALS = {50: 100, 80: 100, 100: 98, 110: 95, 120: 85, 130: 60}  # deleted pairs: problems of 100 to recover
OTHER_SEEDS = 3000  # that no choice was made with
CLOSE = 1e-2  # relative Frobenius error of a matrix that counts as recovered


def cases() -> Iterator[Case]:
  """The same matrix, the same start, the same number of steps; what comes back is the stress."""
  for name, shape, goal in (("n=1000", (1, 1000), 3.0), ("256 problems of 32", (256, 32), 20.0)):
    sets, n = shape
    x, start = data(sets, n, 5), data(sets, n, 2, seed=1)
    target = np.sqrt(np.square(x[:, :, None].astype(np.float64) - x[:, None]).sum(-1))
    work: dict[str, Side] = {"jax_edm": smacof(target, start)}
    if side := scikit_learn(target, start):
      work["scikit-learn"] = side
    wanted = {"scikit-learn": goal} if len(work) > 1 else {}
    yield Case(f"SMACOF, {STEPS} steps, d=2, {name}", work, partial(exact, target, start), wanted, {})


def smacof(target: np.ndarray, start: np.ndarray) -> Side:
  run = jax.jit(lambda t, start: jax_edm.smacof(t, 2, initial=start, max_steps=STEPS, tolerance=0.0).stress)
  on_device = jnp.asarray(target, jnp.float32), jnp.asarray(start)
  return lambda: run(*on_device)


def scikit_learn(target: np.ndarray, start: np.ndarray) -> Callable[[], Any] | None:
  if not importlib.util.find_spec("sklearn"):
    return None
  from sklearn.manifold import smacof as theirs

  options = {"n_components": 2, "n_init": 1, "max_iter": STEPS, "eps": 0.0, "normalized_stress": False}

  def side() -> np.ndarray:
    return np.array([theirs(t, init=x, **options)[1] for t, x in zip(target, start, strict=True)])

  return side


def exact(target: np.ndarray, start: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
  """The stress after as many Guttman transforms, in float64."""
  x = start.astype(np.float64)
  w = 1 - np.eye(x.shape[-2]) if weights is None else weights.astype(np.float64)
  # V plus the projection on its kernel is invertible; numpy.linalg.pinv may take the zero eigenvalue for a small one.
  constant = np.full_like(w, 1 / x.shape[-2])
  inverse = np.linalg.inv(w.sum(-1)[..., None] * np.eye(x.shape[-2]) - w + constant) - constant
  for _ in range(STEPS):
    r = np.sqrt(exact_edm(x))
    ratio = w * np.divide(target, r, out=np.zeros_like(r), where=r > 0)
    x = inverse @ (ratio.sum(-1)[..., None] * x - ratio @ x)
  return (w * np.square(np.sqrt(exact_edm(x)) - target)).sum((-1, -2)) / 2


def problem(seed: int, deleted: int) -> tuple[np.ndarray, np.ndarray]:
  """Uniform points in the unit square, their squared distances, and which of them are known."""
  random = np.random.default_rng(seed)
  x = random.random((POINTS, 2))
  i, j = np.triu_indices(POINTS, 1)
  kept = random.permutation(PAIRS)[deleted:]
  known = np.zeros((POINTS, POINTS), bool)
  known[i[kept], j[kept]] = known[j[kept], i[kept]] = True
  return np.square(x[:, None] - x[None]).sum(-1), known


def recovered(problems: int, first: int = 0) -> list[dict[str, int]]:
  """How many of the problems are, with 10 starts each, from this seed on."""
  solve = jax.jit(
    lambda t, w: jax_edm.smacof(t, 2, weights=w, key=jax.random.key(0), restarts=10).points,
  )
  rows = []
  for deleted, goal in GOALS.items():
    seeds = range(first, first + problems)
    squared, known = map(np.stack, zip(*(problem(seed, deleted) for seed in seeds), strict=True))
    found = exact_edm(np.asarray(solve(np.sqrt(squared), known)))
    error = np.linalg.norm(found - squared, axis=(1, 2)) / np.linalg.norm(squared, axis=(1, 2))
    rows.append({"deleted": deleted, "recovered": int((error < CLOSE).sum()), "goal": goal})
    print(f"  {deleted:>4} deleted: {rows[-1]['recovered']} (goal {goal} of 100)", flush=True)
  return rows


def airports(steps: int) -> list[dict[str, Any]]:
  """The distances of the main job, by ``smacof`` alone: the points are free in space."""
  from jax_edm._cli import airports  # needs the extra "cli"

  table = airports.load()
  measured = airports.measure(table.positions, airports.FRACTION, 0)
  known = ~np.isnan(measured)
  t = np.where(known, measured, 0) / 1000
  near = np.where(known, 1 / np.maximum(t, 0.05) ** 2, 0)  # the noise is a share of the distance; 50 km at least
  solve = jax.jit(lambda t, w: jax_edm.smacof(t, 3, weights=w, max_steps=steps, tolerance=0.0).points)
  rows = []
  for name, w in (("1 / D", near), ("equal", known)):
    found = solve(jnp.asarray(t, jnp.float32), jnp.asarray(w, jnp.float32))
    km = float(jax_edm.procrustes(1000 * found, jnp.asarray(table.positions)).rmsd)
    rows.append({"weights": name, "steps": steps, "km": km})
    print(f"  weights {name}: {km:.2f} km after {steps} steps", flush=True)
  return rows
