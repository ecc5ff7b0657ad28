"""``python -m jax_edm fit``: points from the user's own distances."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from jax_edm._cli import files, methods, output, report
from jax_edm._cli.errors import error
from jax_edm._cli.report import line

SHOWN_LABELS = 3
PICTURE = "fit.png"


@dataclass(frozen=True)
class Job:
  """What the user asks for."""

  file: Path
  dim: int
  output: Path
  search: methods.Search
  weights: Path | None = None
  squared: bool = False
  picture: bool = True
  format: str = "csv"
  force: bool = False


def run(job: Job) -> list[str]:
  """Read, recover, write; the lines of the report."""
  begin = time.perf_counter()
  table = f"points.{job.format}"
  names = [table, PICTURE] if job.picture else [table]
  inputs = [job.file] if job.weights is None else [job.file, job.weights]
  with output.all_or_nothing(job.output, names, inputs=inputs, picture=PICTURE, force=job.force) as place:
    distances = files.read_distances(job.file, job.dim, squared=job.squared, weights=job.weights)
    points, outcome = methods.find(distances, job.dim, job.search)
    stress = report.stress(points, distances.values, distances.weights)
    with np.errstate(over="ignore"):
      placed = points * distances.unit
    if not (np.isfinite(placed).all() and np.isfinite(stress)):
      raise error(job.file, "the points that fit must be finite", "others", "Check the sizes of the distances")
    _write_points(place / table, placed, distances.labels)
    if job.picture:
      from jax_edm._cli import plots  # here, because only pictures need matplotlib

      plots.draw_fit(points, distances, place / PICTURE, output.mark(place / table))
    return [
      line("points", f"{len(points):,} in {job.dim} dimensions, {report.about_pairs(distances.values)}"),
      *_about_labels(distances.labels, job.format),
      line("method", outcome),
      line("stress", f"{stress:.2e} of the root mean square distance{', both weighted' if job.weights else ''}"),
      line("gradient check", report.gradient_check(points)),
      line("wrote", ", ".join(str(job.output / name) for name in names)),
      line("time", f"{time.perf_counter() - begin:.1f} s"),
    ]


def _write_points(path: Path, points: np.ndarray, labels: list[str] | None) -> None:
  if path.suffix == ".npy":
    output.write_array(path, points)
    return
  frame = pd.DataFrame(points, labels, [f"x{k + 1}" for k in range(points.shape[1])])
  frame.to_csv(path, index=labels is not None, index_label="label", float_format="%.9g", encoding="utf-8")


def _about_labels(labels: list[str] | None, format: str) -> list[str]:
  if labels is None:
    return []
  shown = ", ".join(labels[:SHOWN_LABELS]) + (", ..." if len(labels) > SHOWN_LABELS else "")
  kept = "" if format == "csv" else "; points.npy keeps their order, not the labels"
  return [line("labels", f"{shown}{kept}")]
