"""The kept results as Markdown, for README.md and docs/performance.md: ``python -m benchmarks --table``."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
RIVALS = {
  "best autodiff": ("best autodiff",),
  "broadcast form": ("autodiff, broadcast", "plain, broadcast"),
  "torch": ("torch",),
  "scipy": ("scipy",),
  "scikit-learn": ("scikit-learn",),
  "KeOps": ("KeOps",),
}


def table(kept: dict[str, Any]) -> list[str]:
  """One row for each work: our time, and how many times as long the others took; the goal, where there was one."""
  head = ["work", "ms", *RIVALS, "limit"]
  return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(_row(result) for result in kept["results"])]


def _row(result: dict[str, Any]) -> str:
  rows = {row["against"]: row for row in result["rows"]}
  cells = [result["work"], f"{result['ms']:.3g}"]
  for names in RIVALS.values():
    found = [rows[name] for name in names if name in rows]
    cells.append(_ratio(found[0]) if found else "")
  limits = [row["ratio"] for name, row in rows.items() if name.startswith("limit")]
  cells.append(f"{max(limits):.2f}" if limits else "")
  return f"| {' | '.join(cells)} |"


def _ratio(row: dict[str, Any]) -> str:
  text = f"{row['ratio']:.1f}x" if row["ratio"] >= 1.95 else f"{row['ratio']:.2f}x"
  if row["goal"] is None or row["ratio"] >= row["goal"]:
    return text
  return f"{text} (goal {row['goal']:.2g})"


def kept(name: str = "x86_64-2cores-jax0.10.1") -> dict[str, Any]:
  """The results that the documents show: those on the JAX that this project is made on."""
  parts = [json.loads((RESULTS / f"{name}-{part}.json").read_text()) for part in ("dense", "streamed", "points")]
  return {"results": [result for part in parts for result in part["results"]], "recovered": parts[-1]["recovered"]}


def kept_models(name: str = "x86_64-2cores-jax0.10.1") -> dict[str, Any]:
  """The part "models" of the same; no rows where it has not been measured."""
  path = RESULTS / f"{name}-models.json"
  found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"results": []}
  return found


def models_table(kept: dict[str, Any]) -> list[str]:
  """One row for each model: our time, how many times as long the fastest plain formula took, and what it was.

  Temporaries are ours and those of the fastest plain formula, in MB. The time to compile is ours, divided by that of
  the same formula: there, less than 1 is better.
  """
  head = ["work", "ms", "plain / ours", "fastest plain", "temporaries, MB", "of plain", "compile, ours / plain"]
  return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(_model_row(result) for result in kept["results"])]


def _model_row(result: dict[str, Any]) -> str:
  fastest, ms = result["fastest plain"], result["ms"]
  temporaries = [f"{result['temporaries'][side] / 1e6:.3g}" if side else "" for side in ("jax_edm", fastest)]
  ratios = ["" if result[key] is None else f"{result[key]:.2f}" for key in ("ratio", "compile ratio")]
  cells = [result["work"], f"{ms['jax_edm']:.3g}" if ms else "", ratios[0], fastest or "", *temporaries, ratios[1]]
  return f"| {' | '.join(cells)} |"
