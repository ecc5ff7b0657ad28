"""One command, one table: ``python -m benchmarks [--part PART] [--only WORD] [--quick] [--table] [--against PATH]``.

Every result is compared with a float64 oracle before it is timed. Results, with versions, device and commit, are kept
as JSON in ``benchmarks/results/``; ``docs/performance.md`` explains them. The parts: whole models (``models.py``), the
matrix itself (``dense.py``), streamed reductions (``streamed.py``), points from distances (``points.py``), the accuracy
of single entries (``accuracy.py``), sums with a cutoff (``near.py``), nearest points (``neighbours.py``), the gallery
(``gallery.py``, with extra gallery), and, with ``--against``, another version of the package (``versions.py``).
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import jax
import numpy as np

from benchmarks import accounting, accuracy, dense, gallery, maps, models, near, neighbours, points, streamed, versions
from benchmarks.case import Case
from benchmarks.losses import by_hand
from benchmarks.table import RESULTS, kept, kept_models, kept_part, models_tables, readme_table, table
from benchmarks.timing import medians

CASES: dict[str, Callable[[], Iterable[Case]]] = {
  "dense": dense.cases,
  "streamed": streamed.cases,
  "points": points.cases,
}
MEASURES = {"near": near.measure, "neighbours": neighbours.measure}
PARTS = ("models", *CASES, "accuracy", "near", "neighbours", "gallery", "versions")


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

  packages = ["jax", "jaxlib", "numpy", "scipy", "scikit-learn", "torch", "pykeops", "jax-md", "jaxkd"]
  packages += ["flax", "gpjax", "lineax", "numpyro", "optimistix", "ott-jax", "tinygp"]
  return {
    "versions": {p: version(p) for p in packages} | {"python": platform.python_version()},
    "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores",
    "commit": git("rev-parse", "--short", "HEAD")
    + (" and uncommitted changes" if git("status", "--porcelain") else ""),
  }


def main() -> int:
  options = read_options()
  if options.table:
    of_parts = [*accuracy.tables(kept_part("accuracy")), "", *near.tables(kept_part("near"))]
    of_parts += ["", *neighbours.tables(kept_part("neighbours"))]
    for name, page in kept_part("gallery")["pages"].items():
      of_parts += ["", name, "", *gallery.tables(page)]
    print("\n".join([*table(kept()), "", *models_tables(kept_models()), "", *of_parts, "", *readme_table()]))
    return 0
  found = environment()
  print("times of one call; a ratio above 1 means that jax_edm is faster")
  print(found)
  other = versions.load_other(options.against) if options.against else None
  if other is not None:
    found["against"] = f"{versions.name_of(other)}, {options.against}"
  asked_for = {"gallery"} | (set() if other else {"versions"})  # these need more than the extra bench
  chosen = [options.part] if options.part else [part for part in PARTS if part not in asked_for]
  everything = []
  for part in chosen:
    record: dict[str, Any]
    if part == "models":
      rows = models.few() if options.few else None
      record = {"results": accounting.measure_all(options.only, plan(options, other), rows)}
    elif part == "accuracy":
      record = measure_accuracy(options.quick)
    elif part == "gallery":
      record = {"pages": gallery.measure(options.quick, options.only)}
    elif part in MEASURES:
      record = MEASURES[part](options.quick)
    else:
      record = measure_part(part, options, other)
      everything += record["results"]
    if not (options.quick or options.only or options.no_compile or options.compile_only):
      keep(part, found | record)
  goals = [row for result in everything for row in result["rows"] if row["goal"] is not None]
  if goals:
    print(f"\n{sum(row['ratio'] >= row['goal'] for row in goals)} of {len(goals)} goals reached")
  return 0


def read_options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
  parser.add_argument("--quick", action="store_true", help="few rounds: to see that it runs, not to quote")
  parser.add_argument("--only", default="", help="only the work whose name contains this word; nothing is kept")
  parser.add_argument("--table", action="store_true", help="print the kept results as Markdown; nothing is measured")
  parser.add_argument("--part", choices=PARTS, help="only one of the parts")
  parser.add_argument(
    "--compilations", type=int, default=3, help="models: of each side; the median counts (default: 3)"
  )
  parser.add_argument("--against", metavar="PATH", help="another checkout of the package, for models and versions")
  parser.add_argument(
    "--few",
    action="store_true",
    help="models: few rows, all compiled at once: for a device that is lent for minutes",
  )
  either = parser.add_mutually_exclusive_group()
  either.add_argument("--no-compile", action="store_true", help="models: no time to compile; nothing is kept")
  either.add_argument("--compile-only", action="store_true", help="models: only the time to compile; nothing is kept")
  options = parser.parse_args()
  if options.part == "versions" and not options.against:
    parser.error("--part versions needs --against PATH, a checkout of the other version")
  return options


def plan(options: argparse.Namespace, other: ModuleType | None) -> accounting.Plan:
  """What is measured of models."""
  return accounting.Plan(
    budget_s=0.0 if options.quick else 1.0,
    compilations=1 if options.quick else options.compilations,
    compiles=not (options.no_compile or options.few),
    at_once=options.few,
    runs=not options.compile_only,
    others=() if other is None else ((versions.name_of(other), by_hand(other.edm, other.distances)),),
  )


def measure_part(part: str, options: argparse.Namespace, other: ModuleType | None) -> dict[str, Any]:
  """What is kept of any other part."""
  found: dict[str, Any] = {"results": []}
  for case in CASES[part]() if other is None or part != "versions" else versions.cases(other):
    if options.only in case.name:
      found["results"].append(measure(case, 0.0 if options.quick else 3.0))
      show(found["results"][-1])
  if part == "points" and not options.only:
    print("\nn=20, d=2: problems of 100 that are recovered, of whose 190 pairs so many are deleted")
    found["recovered"] = points.recovered(100 if not options.quick else 10)
    print("  and of seeds that were not used before")
    found["recovered, other seeds"] = points.recovered(100 if not options.quick else 10, points.OTHER_SEEDS)
    print("\nanchors, edge lists, and a strip that hardly determines its points")
    found["maps"] = maps.measured(options.quick)
    print("\nthe airports of the main job, free in space")
    found["airports"] = points.airports(2500 if not options.quick else 10)
  return found


def measure_accuracy(quick: bool) -> dict[str, Any]:
  print("\nrelative errors of single entries: the largest, and the 99.9th percentile")
  errors = accuracy.errors((16,) if quick else accuracy.COORDINATES)
  print("\nms by products, and how many times as long by differences")
  return {"errors": errors, "costs": accuracy.costs(0.0 if quick else 2.0, *([(256,), (16,)] if quick else []))}


def name_of(device: jax.Device) -> str:
  return re.sub("[^A-Za-z0-9]+", "-", device.device_kind)


def keep(part: str, record: dict[str, Any]) -> None:
  RESULTS.mkdir(exist_ok=True)
  device = jax.devices()[0]
  machine = f"{platform.machine()}-{os.cpu_count()}cores" if device.platform == "cpu" else name_of(device)
  path = RESULTS / f"{machine}-jax{jax.__version__}-{part}.json"
  path.write_text(json.dumps(record, indent=1) + "\n")
  print(f"kept in {path}")


if __name__ == "__main__":
  sys.exit(main())
