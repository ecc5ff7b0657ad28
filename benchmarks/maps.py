"""Maps from distances with anchors, bounds and edge lists: how long they take, and how far they are from the truth."""

import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

import jax_edm
from benchmarks.oracles import exact_edm

NEW_POINTS, ANCHORS = 100_000, 50
SUBSET = 100  # points of which the bound of Cramer and Rao is computed


def measured(small: bool = False) -> dict[str, Any]:
  """Every row, printed as it comes."""
  rows = {}
  for name, row in (("place", placed), ("edges", edges), ("strip", strip)):
    rows[name] = row(small)
    print(f"  {name}: {rows[name]}", flush=True)
  return rows


def timed(run: Callable[[], Any], repeats: int = 7) -> tuple[Any, float]:
  """The result, and the median of the times after the first."""
  out, times = jax.block_until_ready(run()), []
  for _ in range(repeats):
    begin = time.perf_counter()
    jax.block_until_ready(run())
    times.append(time.perf_counter() - begin)
  return out, float(np.median(times))


def placed(small: bool) -> list[dict[str, Any]]:
  """New points from exact distances to anchors, in the plane and in space, with and without weights."""
  k, rows = NEW_POINTS // (100 if small else 1), []
  for d, weighted in ((2, False), (2, True), (3, False), (3, True)):
    random = np.random.default_rng(d)
    x, anchors = random.random((k, d)), random.random((ANCHORS, d))
    t = np.sqrt(np.square(x[:, None] - anchors).sum(-1)).astype(np.float32)
    w = jnp.asarray(1 + random.random(t.shape), jnp.float32) if weighted else None
    run = jax.jit(lambda t, p, w: jax_edm.place(t, p, weights=w))
    found, seconds = timed(partial(run, jnp.asarray(t), jnp.asarray(anchors, jnp.float32), w))
    error = float(np.abs(np.asarray(found) - x).max())
    if error > 1e-5:
      raise ValueError(f"place is wrong by {error}")
    rows.append({"d": d, "weights": weighted, "points": k, "seconds": round(seconds, 3), "largest error": error})
  return rows


def edges(small: bool) -> list[dict[str, Any]]:
  """Points in the unit square, pairs within reach with 1 % noise, few anchors; beside the bound of Cramer and Rao."""
  rows = []
  for n, m, anchors in ((3000, 30_000, 40), (100_000, 1_000_000, 100))[: 1 if small else 2]:
    x, pairs, t, fixed = network(n, m, anchors, 0.01)
    w = 1 / np.maximum(t, 1e-6) ** 2
    places = np.where(fixed[:, None], x, np.nan).astype(np.float32)
    begin = time.perf_counter()
    found = jax_edm.smacof_edges(
      pairs[:, 0],
      pairs[:, 1],
      t.astype(np.float32),
      n,
      2,
      weights=w.astype(np.float32),
      fixed=fixed,
      initial=places,
    )
    points, seconds = np.asarray(found.points), time.perf_counter() - begin
    free = np.flatnonzero(~fixed)
    some = np.random.default_rng(0).choice(free, SUBSET, replace=False)
    error = np.sqrt(((points - x) ** 2).sum(1))
    rows.append(
      {
        "points": n,
        "pairs": len(t),
        "anchors": anchors,
        "seconds": round(seconds, 1),
        "MiB of the process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "steps": int(found.steps),
        "converged": bool(found.converged),
        "error of all": float(np.sqrt((error[free] ** 2).mean())),
        "median error": float(np.median(error[free])),
        "error of a subset": float(np.sqrt((error[some] ** 2).mean())),
        "bound of the subset": bound(x, pairs, fixed, some, 0.01),
      }
    )
  return rows


def network(n: int, m: int, anchors: int, noise: float) -> tuple[np.ndarray, ...]:
  """Points, the m shortest pairs, their distances with noise, and which points are fixed."""
  random = np.random.default_rng(0)
  x = random.random((n, 2))
  reach = np.sqrt(2 * m / n / n / np.pi) * 1.05
  pairs = cKDTree(x).query_pairs(reach, output_type="ndarray")
  r = np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1)
  order = random.permutation(np.argsort(r)[:m])
  fixed = np.zeros(n, bool)
  fixed[random.choice(n, anchors, replace=False)] = True
  return x, pairs[order].astype(np.int32), r[order] * (1 + noise * random.normal(size=len(order))), fixed


def bound(x: np.ndarray, pairs: np.ndarray, fixed: np.ndarray, some: np.ndarray, noise: float) -> float:
  """The least root mean square error of ``some`` points, by the inverse of the information matrix of all."""
  i, j = pairs.T
  along = x[i] - x[j]
  scaled = along / (along**2).sum(1, keepdims=True) / noise  # the deviation is a share of the distance
  e, m, n = np.arange(len(i)), len(i), len(x)
  rows = np.concatenate([e, e, e, e])
  columns = np.concatenate([2 * i, 2 * i + 1, 2 * j, 2 * j + 1])
  J = coo_array((np.concatenate([*scaled.T, *-scaled.T]), (rows, columns)), (m, 2 * n)).tocsc()
  free = np.flatnonzero(np.repeat(~fixed, 2))
  J = J[:, free]
  solver = splu((J.T @ J).tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}, diag_pivot_thresh=0.01)
  wanted = np.searchsorted(free, np.stack([2 * some, 2 * some + 1], 1).ravel())
  unit = np.zeros((len(free), len(wanted)))
  unit[wanted, np.arange(len(wanted))] = 1
  return float(np.sqrt(solver.solve(unit)[wanted, np.arange(len(wanted))].sum() / len(some)))


def strip(small: bool) -> dict[str, Any]:
  """A long strip of points that know their distances to three before and after them: 300, with the defaults."""
  random, k = np.random.default_rng(0), np.arange(30 if small else 300)
  x = np.stack([k / 2, np.where(k % 2, 1.0, 0)], 1) + 0.1 * random.normal(size=(len(k), 2))
  gap = np.abs(np.subtract.outer(k, k))
  t, w = np.sqrt(exact_edm(x)), ((gap > 0) & (gap <= 3)).astype(np.float32)
  run = jax.jit(lambda t, w: jax_edm.smacof(t, 2, weights=w))
  found, seconds = timed(lambda: run(jnp.asarray(t, jnp.float32), jnp.asarray(w)), 3)
  rmsd = float(jax_edm.procrustes(found.points, jnp.asarray(x, jnp.float32)).rmsd)
  steps, converged = int(found.steps), bool(found.converged)
  return {"points": len(k), "seconds": round(seconds, 2), "steps": steps, "converged": converged, "rmsd": rmsd}
