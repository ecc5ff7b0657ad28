"""``python -m jax_edm edm``: the distance matrix of the user's own points."""

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import jax_edm
from jax_edm._cli import files, output
from jax_edm._cli.errors import error

MATRICES = 2  # of which there is memory for: the result, and what it is made of


def run(file: Path, target: Path, *, distances: bool, index: bool | None, force: bool) -> list[str]:
  """Read, measure, write; the lines of the report."""
  files.check_suffix("--output", target)
  with output.all_or_nothing(target.parent, [target.name], inputs=[file], force=force) as place:
    points, labels = files.read_points(file, index)
    _check_memory(file, len(points))
    matrix = _matrix(file, points, distances)
    output.write_array(place / target.name, matrix)
  what = "distances" if distances else "squared distances"
  noted = [] if labels is None else ["the first column holds labels, and is not a coordinate"]
  return [*noted, f"{what} {matrix.shape}, of {points.shape[1]} coordinates, wrote {target}"]


def _check_memory(file: Path, n: int) -> None:
  """XLA ends the process where it gets no memory, so the matrix must fit before it is made."""
  needed = MATRICES * np.dtype(np.float32).itemsize * n * n
  if hasattr(os, "sysconf") and needed > (there := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
    got = f"{n:,} points, whose matrix needs {needed / 1e9:,.0f} GB of {there / 1e9:,.0f}"
    raise error(file, "the matrix must fit into memory", got, "Take fewer points, or jax_edm.pairwise_sum")


def _matrix(file: Path, points: np.ndarray, distances: bool) -> np.ndarray:
  """float32, or float64 where the unit of the points is so large or so small that float32 cannot hold squares."""
  # Centred while still in double precision: what is far from the origin keeps its digits.
  largest = files.unit_of(float(np.abs(points).max()))
  x = points / largest
  x = x - x.mean(0)
  unit = files.unit_of(float(np.abs(x).max()))
  x32 = jnp.asarray(x / unit, jnp.float32)
  matrix = np.asarray(jax_edm.distances(x32) if distances else jax_edm.edm(x32))
  if largest * unit == 1:
    return matrix
  with np.errstate(over="ignore", under="ignore"):
    scaled = matrix * np.float64(unit) * largest
    scaled = scaled if distances else scaled * unit * largest
  if not np.isfinite(scaled).all() or ((matrix > 0) & (scaled < np.finfo(np.float64).tiny)).any():
    expected = f"{'distances' if distances else 'squared distances'} must fit double precision"
    got = f"points whose coordinates differ by about {unit:g} times {largest:g}"
    advice = "Choose another unit" if distances else "Choose another unit, or add --distances"
    raise error(file, expected, got, advice)
  return scaled
