"""The kept results as Markdown, for README.md and docs/performance.md: ``python -m benchmarks --table``."""

import json
import re
import statistics
from pathlib import Path
from typing import Any

RESULTS, MACHINE = Path(__file__).parent / "results", "x86_64-2cores"
US = "jax_edm"
SIZE = re.compile(r", d=(\d+), n=(\d+)$")
RIVALS = {
  "best autodiff": ("best autodiff",),
  "broadcast form": ("autodiff, broadcast", "plain, broadcast"),
  "torch": ("torch",),
  "scipy": ("scipy",),
  "scikit-learn": ("scikit-learn",),
  "KeOps": ("KeOps",),
}


def table(kept: dict[str, Any], goals: bool = True) -> list[str]:
  """One row for each work: our time, and how many times as long the others took; ``goals``: and which it should be."""
  head = ["work", "ms", *RIVALS, "limit"]
  return [*_table(head), *(_row(result, goals) for result in kept["results"])]


def _row(result: dict[str, Any], goals: bool) -> str:
  rows = {row["against"]: row for row in result["rows"]}
  cells = [result["work"], f"{result['ms']:.3g}"]
  for names in RIVALS.values():
    found = [rows[name] for name in names if name in rows]
    cells.append(_ratio(found[0], goals) if found else "")
  limits = [row["ratio"] for name, row in rows.items() if name.startswith("limit")]
  cells.append(f"{max(limits):.2f}" if limits else "")
  return _row_of(*cells)


def _ratio(row: dict[str, Any], goals: bool) -> str:
  text = f"{row['ratio']:.1f}x" if row["ratio"] >= 1.95 else f"{row['ratio']:.2f}x"
  if not goals or row["goal"] is None or row["ratio"] >= row["goal"]:
    return text
  return f"{text} (goal {row['goal']:.2g})"


def kept(name: str = f"{MACHINE}-jax0.10.1") -> dict[str, Any]:
  """The results that the documents show: those on the JAX that this project is made on."""
  parts = [_read(f"{name}-{part}") for part in ("dense", "streamed", "points")]
  return {"results": [result for part in parts for result in part["results"]], "recovered": parts[-1]["recovered"]}


def kept_part(part: str) -> dict[str, Any]:
  return _read(f"{MACHINE}-jax0.10.1-{part}")


# Whole models


def kept_models(part: str = "models") -> dict[str, list[dict[str, Any]]]:
  """The rows of the part "models", for each JAX on which it was measured; "matern": its rows of that kernel alone."""
  files = sorted(RESULTS.glob(f"{MACHINE}-jax*-{part}.json"), key=lambda path: _numbers(path.stem))
  return {path.stem.split("-jax")[1].split("-")[0]: _read(path.stem)["results"] for path in files}


def models_tables(kept: dict[str, list[dict[str, Any]]]) -> list[str]:
  """Cells have one number for each JAX: times by numbers of coordinates, times of small sets, costs of all groups."""
  rows = {version: {result["work"]: result for result in results} for version, results in kept.items()}
  works = list(dict.fromkeys(work for of_version in rows.values() for work in of_version))
  timed = [work for work in works if any(found.get("ratio") for found in _found(rows, work))]
  by_size = [work for work in timed if SIZE.search(work)]
  coordinates = sorted({int(SIZE.split(work)[1]) for work in by_size})
  lines = _table(["time of plain / ours", "n", *(f"d={d}" for d in coordinates)])
  for loss, n in dict.fromkeys((SIZE.split(work)[0], int(SIZE.split(work)[2])) for work in by_size):
    cells = [_cell(rows, f"{loss}, d={d}, n={n}", "ratio") for d in coordinates]
    lines.append(_row_of(loss, f"{n:,}", *cells))
  lines += ["", *_table(["small sets", "ms, ours", "plain / ours"])]
  for work in (work for work in timed if work not in by_size):
    lines.append(_row_of(work, f"{_found(rows, work)[0]['ms'][US]:.3g}", _cell(rows, work, "ratio")))
  lines += ["", *_table(["medians", "plain / ours, time to run", "ours / plain, time to compile", "rows"])]
  for group in dict.fromkeys(result["group"] for result in next(iter(rows.values())).values()):
    found = [[r for r in of_version.values() if r["group"] == group] for of_version in rows.values()]
    cells = [", ".join(_median(results, key) for results in found) for key in ("ratio", "compile ratio")]
    lines.append(_row_of(group, *cells, str(len(found[0]))))
  return lines


# The table of README: whole models beside the fastest plain formula, and beside what people use today

PLAIN = (
  ("gradient, sum exp(-D), narrow", 1024),
  ("gradient, stress of distances", 1024),
  ("HVP, forward over reverse, sum exp(-D), narrow", 1024),
  ("gradient, sum exp(-D), narrow", 256),
)
BESIDE = {  # pages of the gallery: their rows, and what README calls them
  "triplets": {"training step, batch of 512, d=64": "training step with a triplet loss, batch of 512, d=64"},
  "gp_libraries": {"tinygp, matrix and gradient, n=2,000, d=8": "Matern matrix and gradient, n=2,000, d=8"},
  "ott_geometry": {"20 iterations of Sinkhorn and the gradient, n = m = 3,000": "Sinkhorn and gradient, n=3,000"},
  "tsne": {"t-SNE of 1,797 digits, 500 steps": "t-SNE of 1,797 digits"},
  "jax_md_forces": {
    "all pairs, n=6,000": "energy and forces, all pairs, n=6,000",
    "near pairs, n=20,000, 6 neighbours": "energy and forces, n=20,000, 6 neighbours",
  },
}


def readme_table() -> list[str]:
  models = {result["work"]: result["ratio"] for result in kept_part("models")["results"]}
  lines = _table(["work", "beside", "their time / ours"])
  for loss, n in PLAIN:
    ratios = (f"{models[f'{loss}, d={d}, n={n}']:.2f}" for d in (3, 16, 32, 128))
    lines.append(_row_of(f"{loss}, n={n:,}", "plain, d=3, 16, 32, 128", "; ".join(ratios)))
  pages = kept_part("gallery")["pages"]
  for page, works in BESIDE.items():
    times = {row["work"]: row["ms"] for row in pages[page]["rows"]}
    for work, name in works.items():
      others = [(side, f"{ms / times[work][US]:.2g}") for side, ms in times[work].items() if side != US]
      cells = ("; ".join(side for side, _ in others), "; ".join(ratio for _, ratio in others))
      lines.append(_row_of(f"[{name}](docs/gallery/{page}.md)", *cells))
  return lines


def _table(head: list[str]) -> list[str]:
  return [_row_of(*head), "|" + "---|" * len(head)]


def _row_of(*cells: str) -> str:
  return f"| {' | '.join(cells)} |"


def _found(rows: dict[str, dict[str, Any]], work: str) -> list[dict[str, Any]]:
  return [of_version[work] for of_version in rows.values() if work in of_version]


def _cell(rows: dict[str, dict[str, Any]], work: str, key: str) -> str:
  return ", ".join(f"{found[key]:.2f}" for found in _found(rows, work) if found[key] is not None)


def _median(results: list[dict[str, Any]], key: str) -> str:
  values = [result[key] for result in results if result[key] is not None]
  return f"{statistics.median(values):.2f}" if values else "-"


def _numbers(text: str) -> list[int]:
  return [int(k) for k in re.findall(r"\d+", text)]


def _read(stem: str) -> dict[str, Any]:
  found: dict[str, Any] = json.loads((RESULTS / f"{stem}.json").read_text())
  return found
