"""One command, one table: ``python -m benchmarks [--quick] [--only WORD] [--part PART] [--table]``.

Every result is compared with a float64 oracle before it is timed. Results, with versions, device and commit, are kept
as JSON in ``benchmarks/results/``; ``docs/performance.md`` explains them.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jax_edm
from benchmarks import points, sides
from benchmarks.case import Case, bound, data, exact_edm
from benchmarks.table import RESULTS, kept, table
from benchmarks.timing import medians


def exact_pull(x: np.ndarray, g: np.ndarray) -> np.ndarray:
  wide, both = x.astype(np.float64), g.astype(np.float64) + np.swapaxes(g, -1, -2)
  return 2 * (both.sum(-1)[..., None] * wide - both @ wide)


def exact_stress(x: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  error = exact_edm(x) - target
  return np.square(error).sum((-1, -2)), exact_pull(x, 2 * error)


def exact_hvp(x: np.ndarray, v: np.ndarray, target: np.ndarray) -> np.ndarray:
  error, moved = exact_edm(x) - target, v.astype(np.float64)
  np.fill_diagonal(error, 0)
  cross, inner = x @ moved.T, (x * moved).sum(1)
  tangent = 2 * (inner[:, None] + inner[None] - cross - cross.T)
  return exact_pull(moved, 2 * error) + exact_pull(x, 2 * tangent)


def vjp_cases() -> Iterator[Case]:
  goals = {(3, 1024): 3.5, (3, 4096): 9, (16, 1024): 4, (16, 4096): 7, (128, 1024): 1.7, (128, 4096): 2}
  for (d, n), goal in goals.items():
    x, g = data(n, d), data(n, n, seed=1)
    work = {"jax_edm": bound(sides.pull(sides.ours), x, g)}
    work |= {name: bound(sides.pull(f), x, g) for name, f in sides.plain(d).items()}
    limits = {
      "limit: g read twice": bound(lambda g: (g.sum(1), g.sum(0)), g),
      "limit: the two products": bound(lambda x, g: (g @ x, jnp.dot(x.T, g)), x, g),
    }
    yield Case(f"VJP, d={d}, n={n}", work, partial(exact_pull, x, g), {"best autodiff": goal}, limits)


def stress_cases() -> Iterator[Case]:
  goals = {(3, 1024): (1.8, 5, 5), (3, 4096): (2.5, 5, 5), (128, 1024): (1, None, 2), (128, 4096): (1, None, 2)}
  for (d, n), (autodiff, broadcast, torch) in goals.items():
    x, target = data(n, d), np.abs(data(n, n, seed=1))
    work = {"jax_edm": bound(sides.stress(sides.ours), x, target)}
    work |= {name: bound(sides.stress(f), x, target) for name, f in sides.plain(d).items()}
    wanted: dict[str, float] = {"best autodiff": autodiff}
    if broadcast:
      wanted["autodiff, broadcast"] = broadcast
    if side := sides.torch_stress(x, target):
      work["torch"] = side
      wanted["torch"] = torch
    limits = {"limit: target read, cotangent written": bound(lambda t: t * 2, target)}
    yield Case(f"stress, value and gradient, d={d}, n={n}", work, partial(exact_stress, x, target), wanted, limits)


def batch_cases() -> Iterator[Case]:
  for sets, n, d in ((1024, 32, 3), (256, 64, 3), (256, 64, 32)):
    x, target = data(sets, n, d), np.abs(data(sets, n, n, seed=1))
    work = {"jax_edm": bound(jax.vmap(sides.stress(sides.ours)), x, target)}
    work |= {name: bound(jax.vmap(sides.stress(f)), x, target) for name, f in sides.plain(d).items()}
    wanted = {"best autodiff": 1.0, "autodiff, broadcast": 4.0}
    limits = {"limit: target read, cotangent written": bound(lambda t: t * 2, target)}
    name = f"stress, value and gradient, {sets} sets of {n}, d={d}"
    yield Case(name, work, partial(exact_stress, x, target), wanted, limits)


def forward_cases() -> Iterator[Case]:
  for n in (256, 1024, 4096):
    for d in (3, 16, 128, 768):
      x = data(n, d)
      work = {"jax_edm": bound(sides.ours, x)} | sides.libraries(x)
      work["plain, broadcast"] = bound(sides.broadcast, x)
      if d * n * n > 5e9:  # minutes, for nothing learned
        work.pop("scipy", None)
        work.pop("plain, broadcast")
      goals: dict[str, float] = {name: 1.0 for name in ("scipy", "scikit-learn", "torch", "pykeops") if name in work}
      limits = {
        "limit: result written once": bound(lambda x: jnp.broadcast_to(x[:, :1], (x.shape[0],) * 2) + 1, x),
        "limit: the product": bound(lambda x: x @ x.T, x),
      }
      yield Case(f"forward, d={d}, n={n}", work, partial(exact_edm, x), goals, limits)


def call_cases() -> Iterator[Case]:
  x = jnp.asarray(data(16, 3))
  jitted = jax.jit(jax_edm.edm)
  work = {"jax_edm": lambda: jax_edm.edm(x), "jax.jit(edm)": lambda: jitted(x)}
  yield Case("un-jitted call, d=3, n=16", work, partial(exact_edm, np.asarray(x)), {"jax.jit(edm)": 1 / 3}, {})


def hvp_cases() -> Iterator[Case]:
  def forward_over_reverse(f: sides.Matrix) -> Callable[..., Any]:
    return lambda x, v, t: jax.jvp(jax.grad(lambda x: ((f(x) - t) ** 2).sum()), (x,), (v,))[1]

  def reverse_over_reverse(f: sides.Matrix) -> Callable[..., Any]:
    return lambda x, v, t: jax.grad(lambda x: (jax.grad(lambda x: ((f(x) - t) ** 2).sum())(x) * v).sum())(x)

  for d in (3, 32):
    x, v, target = data(1024, d), data(1024, d, seed=2), np.abs(data(1024, 1024, seed=1))
    for name, order in (("forward over reverse", forward_over_reverse), ("reverse over reverse", reverse_over_reverse)):
      work = {"jax_edm": bound(order(sides.ours), x, v, target)}
      work |= {side: bound(order(f), x, v, target) for side, f in sides.plain(d).items()}
      yield Case(f"HVP, {name}, d={d}, n=1024", work, partial(exact_hvp, x, v, target), {}, {})


def exact_energy(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """In blocks of rows: a matrix in float64 would take a gigabyte."""
  wide = x.astype(np.float64)
  squares = np.square(wide).sum(1)
  value, gradient = 0.0, np.empty_like(wide)
  for start in range(0, len(x), 512):
    rows = slice(start, start + 512)
    kernel = np.exp(2 * wide[rows] @ wide.T - squares[rows, None] - squares)
    value += kernel.sum()
    gradient[rows] = -4 * (kernel.sum(1)[:, None] * wide[rows] - kernel @ wide)
  return np.asarray(value), gradient


def exact_part_of_energy(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  wide = x.astype(np.float64)
  rows, squares = wide[:512], np.square(wide).sum(1)
  kernel = np.exp(2 * rows @ wide.T - squares[:512, None] - squares)
  return kernel.sum(1), -4 * (kernel.sum(1)[:, None] * rows - kernel @ wide)


def exact_neighbours(x: np.ndarray, k: int) -> np.ndarray:
  wide = x.astype(np.float64)
  out = np.empty((len(x), k))
  for start in range(0, len(x), 512):
    squared = np.square(wide[start : start + 512]).sum(1)[:, None] + np.square(wide).sum(1)
    squared -= 2 * wide[start : start + 512] @ wide.T
    squared[np.arange(len(squared)), start + np.arange(len(squared))] = np.inf
    out[start : start + 512] = np.sort(np.partition(squared, k, 1)[:, :k], 1)
  return out


def streamed_cases() -> Iterator[Case]:
  goals = {3: (10, 6), 16: (10, 2.5), 64: (15, None)}
  for d, (keops, autodiff) in goals.items():
    x = data(10240, d) / np.float32(d**0.5)
    work = {"jax_edm": bound(sides.streamed_energy, x), "jax_edm, dense": bound(sides.energy(sides.ours), x)}
    work |= {
      name: bound(sides.energy(f), x) for name, f in sides.plain(d).items() if name == "autodiff, product" or d == 3
    }
    wanted: dict[str, float] = {"best autodiff": autodiff} if autodiff else {}
    if side := sides.keops_energy(x):
      work["KeOps"] = side
      wanted["KeOps"] = keops
    # A symmetric matrix: half of it, forward and again backward.
    exponentials = bound(lambda t: jax.lax.fori_loop(0, 100, lambda _, t: jnp.exp(-t), t), data(1024, 1024))
    limits = {"limit: n x n exponentials": exponentials}
    yield Case(
      f"streamed Gaussian energy, value and gradient, d={d}, n=10240", work, partial(exact_energy, x), wanted, limits
    )
  x, target = data(8192, 3), np.abs(data(8192, 8192, seed=1))
  work = {
    "jax_edm": bound(sides.streamed_stress, x, target),
    "jax_edm, dense": bound(sides.stress(sides.ours), x, target),
  }
  work |= {name: bound(sides.stress(f), x, target) for name, f in sides.plain(3).items()}
  limits = {"limit: target read twice": bound(lambda t: (t.min(), t.max()), target)}
  yield Case(
    "streamed stress, value and gradient, d=3, n=8192",
    work,
    partial(exact_stress, x, target),
    {"best autodiff": 8},
    limits,
  )
  for d in (3, 64):
    x = data(20_000, d)
    work = {"jax_edm": bound(lambda x: jax_edm.nearest(x, k=10).squared, x)}
    wanted = {}
    if side := sides.neighbours(x, 10):
      work["scikit-learn"] = side
      wanted = {"scikit-learn": 1.0}
    yield Case(f"nearest, k=10, d={d}, n=20000", work, partial(exact_neighbours, x, 10), wanted, {})
  x = data(100_000, 3)
  work = {"jax_edm": bound(sides.part_of_streamed_energy, x)}
  name = "streamed Gaussian energy, value and gradient, d=3, n=100000"
  yield Case(name, work, partial(exact_part_of_energy, x), {}, {})


PARTS = {
  "dense": (vjp_cases, stress_cases, batch_cases, forward_cases, hvp_cases, call_cases),
  "streamed": (streamed_cases,),
  "points": (points.cases,),
}


def check(case: Case) -> None:
  """A fast wrong answer is no answer."""
  right = case.expected()
  for name, side in case.sides.items():
    for actual, expected in zip(jax.tree.leaves(side()), jax.tree.leaves(right), strict=True):
      error = np.max(np.abs(np.asarray(actual, np.float64) - expected)) / np.max(np.abs(expected))
      if not error < 2e-5:
        raise SystemExit(f"{case.name}: {name} is wrong, by {error:.1e} of the largest entry. Not timed.")


def measure(case: Case, budget_s: float) -> dict[str, Any]:
  check(case)
  times = medians(case.sides | case.limits, budget_s)
  mine = times["jax_edm"]
  autodiff = {name: t for name, t in times.items() if name.startswith("autodiff")}
  ratios = {name: t / mine for name, t in times.items() if name != "jax_edm"}
  if autodiff:
    ratios["best autodiff"] = min(autodiff.values()) / mine
  rows = [
    {"against": name, "ratio": ratio, "goal": case.goals.get(name), "ms": 1e3 * times.get(name, ratio * mine)}
    for name, ratio in ratios.items()
  ]
  return {"work": case.name, "ms": 1e3 * mine, "rows": rows}


def show(result: dict[str, Any]) -> None:
  print(f"\n{result['work']}: {result['ms']:.3f} ms")
  for row in result["rows"]:
    goal = ""
    if row["goal"] is not None:
      goal = f"  goal {row['goal']:.2g}x " + ("reached" if row["ratio"] >= row["goal"] else "MISSED")
    print(f"  {row['against']:<40}{row['ms']:>12.3f} ms{row['ratio']:>8.2f}x{goal}", flush=True)


def environment() -> dict[str, Any]:
  def version(package: str) -> str | None:
    try:
      return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      return None

  def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout.strip()

  packages = ("jax", "jaxlib", "numpy", "scipy", "scikit-learn", "torch", "pykeops")
  return {
    "versions": {p: version(p) for p in packages} | {"python": platform.python_version()},
    "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores",
    "commit": git("rev-parse", "--short", "HEAD")
    + (" and uncommitted changes" if git("status", "--porcelain") else ""),
  }


def main() -> int:
  parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
  parser.add_argument("--quick", action="store_true", help="few rounds: to see that it runs, not to quote")
  parser.add_argument("--only", default="", help="only the work whose name contains this word; nothing is kept")
  parser.add_argument("--table", action="store_true", help="print the kept results as Markdown; nothing is measured")
  parser.add_argument("--part", choices=PARTS, help="only one of the parts")
  options = parser.parse_args()
  if options.table:
    print("\n".join(table(kept())))
    return 0
  found = environment()
  print("times of one call; a ratio above 1 means that jax_edm is faster")
  print(found)
  everything = []
  for part in [options.part] if options.part else PARTS:
    results = []
    for group in PARTS[part]:
      for case in group():
        if options.only in case.name:
          results.append(measure(case, 0.0 if options.quick else 3.0))
          show(results[-1])
    everything += results
    extra = {}
    if part == "points" and not options.only:
      print("\nn=20, d=2: problems of 100 that are recovered, of whose 190 pairs so many are deleted")
      extra["recovered"] = points.recovered(100 if not options.quick else 10)
      print("\nthe airports of the main job, free in space")
      extra["airports"] = points.airports(2500 if not options.quick else 10)
    if not (options.quick or options.only):
      RESULTS.mkdir(exist_ok=True)
      path = RESULTS / f"{platform.machine()}-{os.cpu_count()}cores-jax{jax.__version__}-{part}.json"
      path.write_text(json.dumps(found | {"results": results} | extra, indent=1) + "\n")
      print(f"kept in {path}")
  goals = [row for result in everything for row in result["rows"] if row["goal"] is not None]
  print(f"\n{sum(row['ratio'] >= row['goal'] for row in goals)} of {len(goals)} goals reached")
  return 0


if __name__ == "__main__":
  sys.exit(main())
