"""The pages of the gallery: what each finds, and how long it and the client beside it take for the same work.

A page is a script, ``examples/gallery/NAME.py``, with three names:

* ``main(picture)`` does the work, draws the picture, and returns the numbers that the page quotes;
* ``sides()`` gives, for each row of its table, the ways to do the same work, as calls without arguments, ours first;
* ``TOLERANCE`` is how far the results of two sides may differ, relative to the largest entry, or None where they are
  no arrays that can be compared, as for two embeddings: then ``main`` returns how good each of them is.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

from benchmarks.timing import medians

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "examples" / "gallery"
US = "jax_edm"
Sides = dict[str, Callable[[], Any]]


def pages() -> list[str]:
  return sorted(path.stem for path in SCRIPTS.glob("[a-z]*.py"))


def load(name: str) -> ModuleType:
  """The script as a module of its own, anew each time."""
  spec = importlib.util.spec_from_file_location(f"gallery_{name}", SCRIPTS / f"{name}.py")
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def measure(quick: bool, only: str = "") -> dict[str, Any]:
  """Every page, or those whose name contains ``only``; pictures are written beside the pages."""
  found = {}
  for name in pages():
    if only in name:
      print(f"\n{name}", flush=True)
      page = load(name)
      numbers = page.main(picture=str(ROOT / "docs" / "gallery" / f"{name}.png"))
      rows = [timed(work, sides, page.TOLERANCE, quick) for work, sides in page.sides().items()]
      found[name] = {"found": numbers, "rows": rows}
      print("\n".join(tables(found[name])), flush=True)
      jax.clear_caches()
  return found


def timed(work: str, sides: Sides, tolerance: float | None, quick: bool) -> dict[str, Any]:
  check(work, sides, tolerance)
  return {"work": work, "ms": {side: 1e3 * t for side, t in medians(sides, 0.0 if quick else 5.0).items()}}


def check(work: str, sides: Sides, tolerance: float | None) -> None:
  """All sides give the same result, which is finite."""
  if tolerance is None:
    return
  results = {name: [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(side())] for name, side in sides.items()}
  for name, result in results.items():
    for a, b in zip(result, results[US], strict=True):
      error = np.abs(a - b).max() / np.abs(b).max()
      if not error <= tolerance:
        raise ValueError(f"{work}: {name} differs from {US} by {error:.1e} of the largest entry. Not timed.")


def tables(page: dict[str, Any]) -> list[str]:
  """The times of a page, then its numbers, as Markdown."""
  others = list(dict.fromkeys(side for row in page["rows"] for side in row["ms"] if side != US))
  lines = []
  if page["rows"]:
    lines = [f"| work | {US}, ms | {' | '.join(others)} |", "|---" * (2 + len(others)) + "|"]
  for row in page["rows"]:
    mine = row["ms"][US]
    cells = [f"{row['ms'][side] / mine:.3g}x" if side in row["ms"] else "" for side in others]
    lines.append(f"| {row['work']} | {mine:.3g} | {' | '.join(cells)} |")
  lines += ["", "| found | |", "|---|---|"]
  return lines + [f"| {name} | {shown(value)} |" for name, value in page["found"].items()]


def shown(value: Any) -> str:
  if isinstance(value, int) and not isinstance(value, bool):
    return f"{value:,}"
  return f"{value:.3g}" if isinstance(value, float) else str(value)
