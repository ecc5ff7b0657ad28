"""``python -m jax_edm fit``: points from the user's own distances."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from jax_edm._cli import certainty, edges, files, intervals, methods, output, report
from jax_edm._cli.edges import Edges
from jax_edm._cli.errors import error
from jax_edm._cli.files import Distances
from jax_edm._cli.report import line

SHOWN_LABELS = 3
PICTURE = "fit.png"
DIGITS, MORE_DIGITS = 9, 15  # of points about their own mean, and of those in the coordinates of anchors
ROUNDING = 1e-5  # of the largest distance: what single precision may do to one that is kept


@dataclass(frozen=True)
class Job:
  """What the user asks for."""

  file: Path | None
  dim: int
  output: Path
  search: methods.Search
  weights: Path | None = None
  lower: Path | None = None
  upper: Path | None = None
  anchors: Path | None = None
  squared: bool = False
  picture: bool = True
  format: str = "csv"
  force: bool = False

  @property
  def inputs(self) -> list[Path]:
    every = (self.file, self.lower, self.upper, self.weights, self.anchors)
    return [file for file in every if file is not None]


def run(job: Job) -> list[str]:
  """Read, recover, write; the lines of the report."""
  begin = time.perf_counter()
  table = f"points.{job.format}"
  names = [table, PICTURE] if job.picture else [table]
  with output.all_or_nothing(job.output, names, inputs=job.inputs, picture=PICTURE, force=job.force) as place:
    known = _read(job)
    points, outcome, is_minimum = methods.find(known, job.dim, job.search)
    placed = _placed(points, known)
    shown = intervals.nearest(known, points) if isinstance(known, Distances) else known
    stress = report.stress(points, shown.pairs)
    if not (np.isfinite(placed).all() and np.isfinite(stress)):
      raise error(job.inputs[0], "the points that fit must be finite", "others", "Check the sizes of the distances")
    _write_points(place / table, placed, known.labels, DIGITS if known.anchors is None else MORE_DIGITS)
    sure = certainty.of(points, known if is_minimum else None, stress)
    if job.picture:
      from jax_edm._cli import plots  # here, because only pictures need matplotlib

      plots.draw_fit(points, shown, place / PICTURE, output.mark(place / table), sure.covariance)
    weighted = "" if shown.pairs.weights is None else ", both weighted"
    return [
      line("points", f"{len(points):,} in {job.dim} dimensions, {_about_pairs(shown)}"),
      *_about_labels(known.labels, job.format),
      *_about_anchors(known),
      line("method", outcome),
      line("stress", f"{stress:.2e} of the root mean square distance{weighted}"),
      *_about_bounds(points, shown),
      *sure.lines,
      line("gradient check", report.gradient_check(points)),
      line("wrote", ", ".join(str(job.output / name) for name in names)),
      line("time", f"{time.perf_counter() - begin:.1f} s"),
    ]


def _read(job: Job) -> Distances | Edges:
  if job.lower or job.upper:
    sides = (job.file, job.lower, job.upper)
    return intervals.read_bounds(*sides, job.dim, squared=job.squared, weights=job.weights, anchors=job.anchors)
  assert job.file is not None  # as `parser` asks
  if edges.is_edge_list(job.file):
    return edges.read_edges(job.file, job.dim, squared=job.squared, anchors=job.anchors)
  return files.read_distances(job.file, job.dim, squared=job.squared, weights=job.weights, anchors=job.anchors)


def _placed(points: np.ndarray, known: Distances | Edges) -> np.ndarray:
  """In the unit of the user, and in the coordinates of the anchors."""
  centre = 0 if known.anchors is None else known.anchors.centre
  with np.errstate(over="ignore"):
    return (points + centre) * known.unit


def _write_points(path: Path, points: np.ndarray, labels: list[str] | None, digits: int) -> None:
  if path.suffix == ".npy":
    output.write_array(path, points)
    return
  frame = pd.DataFrame(points, labels, [f"x{k + 1}" for k in range(points.shape[1])])
  frame.to_csv(path, index=labels is not None, index_label="label", float_format=f"%.{digits}g", encoding="utf-8")


def _about_labels(labels: list[str] | None, format: str) -> list[str]:
  if labels is None:
    return []
  shown = ", ".join(labels[:SHOWN_LABELS]) + (", ..." if len(labels) > SHOWN_LABELS else "")
  kept = "" if format == "csv" else "; points.npy keeps their order, not the labels"
  return [line("labels", f"{shown}{kept}")]


def _about_pairs(known: Distances | Edges) -> str:
  bounded = isinstance(known, Distances) and known.bounds is not None
  return report.about_pairs(known.pairs, "bounds of " if bounded else "")


def _about_anchors(known: Distances | Edges) -> list[str]:
  return [] if known.anchors is None else [line("anchors", f"{known.anchors.fixed.sum():,}, where the file has them")]


def _about_bounds(points: np.ndarray, known: Distances | Edges) -> list[str]:
  """How many distances of the points are outside their bounds; those of ``known`` are the nearest inside."""
  if isinstance(known, Edges) or known.bounds is None:
    return []
  outside = np.abs(known.pairs.fitted(points) - known.pairs.values)
  kept = int((outside <= ROUNDING * known.pairs.values.max()).sum())
  most = f", exceeded by at most {outside.max() * known.unit:.2e}" if kept < len(outside) else ""
  return [line("bounds", f"{kept:,} of {len(outside):,} kept{most}")]
