"""The user's points, distances and weights, read and checked."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jax_edm._cli import arrays
from jax_edm._cli.anchors import Anchors, read_anchors
from jax_edm._cli.arrays import check_none
from jax_edm._cli.arrays import check_suffix as check_suffix
from jax_edm._cli.errors import error
from jax_edm._cli.pairs import Pairs, check_dimension, check_enough

TOLERANCE = 1e-6  # of the largest entry: what rounding may do to the symmetry and to the diagonal
NOISE = 1e-12  # of the largest entry: how far below 0 rounding may bring a squared distance that was computed
SMALLEST = 1e-290  # below, numbers in double precision lose their digits
NORMAL = 1e10  # lengths from its inverse to it, and their squares, fit single precision
LEAST_WEIGHT = 1e-12  # of the largest: less does not count in single precision


class Points(NamedTuple):
  values: np.ndarray  # (n, d), float64 and finite
  labels: list[str] | None


class Bounds(NamedTuple):
  lower: np.ndarray  # (n, n), symmetric, 0 where there is none
  upper: np.ndarray  # (n, n), symmetric, infinite where there is none


class Distances(NamedTuple):
  """Distances in a ``unit`` in which their squares fit single precision."""

  values: np.ndarray  # (n, n), float64 and symmetric, NaN where not measured and on the diagonal; or one of two bounds
  weights: np.ndarray | None  # (n, n), at most 1, and 0 where not measured
  labels: list[str] | None
  unit: float
  bounds: Bounds | None = None
  anchors: Anchors | None = None

  @property
  def pairs(self) -> Pairs:
    return Pairs.of(self.values, self.weights)


def read_points(path: Path, index: bool | None = None) -> Points:
  if index is not None and path.suffix.lower() == ".npy":
    raise error("--index", "it is for tables of text", repr(path.name), "Leave it out")
  values, labels = arrays.read(path, lambda sheet: _points(sheet, index))
  check_none(path, values, ~np.isfinite(values), "coordinates must be finite", "Complete or drop that point")
  return Points(values, labels)


def _points(sheet: Any, index: bool | None) -> Any:
  from jax_edm._cli import layout  # here, because only text needs pandas

  return layout.points(sheet, index)


def read_distances(
  path: Path, dim: int, *, squared: bool = False, weights: Path | None = None, anchors: Path | None = None
) -> Distances:
  """Enough of them, and connected, to place ``n`` points of ``dim`` coordinates."""
  values, labels = read_matrix(path, "distances")
  w = None
  if weights is not None:
    w = read_weights(weights, values, labels)
    values[(w == 0) & ~np.eye(len(w), dtype=bool)] = np.nan
  measured = symmetric(path, values, "distances")
  np.fill_diagonal(measured, np.nan)
  if squared:
    measured = np.sqrt(measured)
  return checked(path, Distances(measured, w, labels, 1.0), dim, anchors)


def checked(path: Path, distances: Distances, dim: int, file: Path | None) -> Distances:
  """Distances, or bounds, in their unit and with the anchors of a file, if there are enough of them."""
  n, labels = len(distances.values), distances.labels
  check_dimension(dim, n, file is not None)
  largest = float(np.fmax.reduce(distances.values, axis=None, initial=0))
  unit = unit_of(largest)
  held = None if file is None else read_anchors(file, labels, n, dim, unit)
  check_enough(path, distances.pairs, dim, labels, None if held is None else held.fixed)
  check_size(path, largest)
  bounds = None if distances.bounds is None else Bounds(*(bound / unit for bound in distances.bounds))
  return distances._replace(values=distances.values / unit, unit=unit, bounds=bounds, anchors=held)


def check_size(path: Path, largest: float) -> None:
  if largest < SMALLEST:
    expected = f"the largest distance must be at least {SMALLEST:g}"
    raise error(path, expected, f"{largest:g}", "Choose a smaller unit")


def unit_of(length: float) -> float:
  """1, or the power of two below a length whose square does not fit single precision. To divide by it is exact."""
  if length == 0 or 1 / NORMAL <= length <= NORMAL:
    return 1.0
  return float(2.0 ** np.floor(np.log2(length)))


def read_matrix(path: Path, what: str) -> tuple[np.ndarray, list[str] | None]:
  values, labels = arrays.read(path, lambda sheet: _matrix(sheet, what), what)
  return _without_zero_triangle(values), labels


def _matrix(sheet: Any, what: str) -> Any:
  from jax_edm._cli import layout

  return layout.matrix(sheet, what)


def read_weights(path: Path, distances: np.ndarray, labels: list[str] | None) -> np.ndarray:
  """At most 1, and 0 where there is no distance."""
  values, own = read_matrix(path, "weights")
  check_alike(path, "weights", values, own, distances, labels)
  values[np.isnan(distances) & np.isnan(distances.T)] = 0
  np.fill_diagonal(values, 0)
  weights = np.nan_to_num(symmetric(path, values, "weights"), nan=0.0)
  if not weights.any():
    got, advice = "none beside a distance", "0 and NA stand for a missing distance"
    raise error(path, "some weights must be positive", got, advice)
  weights /= weights.max()
  tiny = (weights > 0) & (weights < LEAST_WEIGHT)
  expected = f"positive weights must be at least {LEAST_WEIGHT:g} of the largest"
  check_none(path, weights, tiny, expected, "Write 0 for a distance that should not count")
  return weights


def check_alike(
  path: Path, what: str, values: np.ndarray, own: list[str] | None, distances: np.ndarray, labels: list[str] | None
) -> None:
  """Weights or bounds of the same points as the distances, in one order."""
  if values.shape != distances.shape:
    got = f"{len(values)} rows for {len(distances)} points"
    expected = f"there must be one {what.removesuffix('s')} for each distance"
    raise error(path, expected, got, "Save them in the order of the distances")
  if labels and own and labels != own:
    k = next(k for k, (a, b) in enumerate(zip(labels, own, strict=True)) if a != b)
    got = f"{own[k]!r} and {labels[k]!r} for point {k + 1}"
    expected = f"{what} must have the labels of the distances"
    raise error(path, expected, got, "Sort them as the distances are sorted")


def symmetric(path: Path, matrix: np.ndarray, what: str) -> np.ndarray:
  """The matrix, with an entry that is missing on one side taken from the other."""
  n = len(matrix)
  if np.isnan(matrix).all():
    raise error(path, f"some {what} must be measured", "none", "NaN and empty entries stand for missing ones")
  advice = "Write NA where it is missing"
  check_none(path, matrix, np.isinf(matrix), f"{what} must be finite", advice)
  rounding = TOLERANCE * np.nanmax(matrix)
  negative = matrix < -NOISE * np.nanmax(matrix)
  check_none(path, matrix, negative, f"{what} must not be negative", advice)
  matrix = np.maximum(matrix, 0)
  expected = "the distance of a point to itself must be 0 or missing"
  advice = "Check that rows and columns list the points in one order"
  check_none(path, matrix, np.eye(n, dtype=bool) & (matrix > rounding), expected, advice)
  advice = "Average the two, or write NA for the one that you do not trust"
  check_none(path, matrix, np.abs(matrix - matrix.T) > rounding, f"{what} must be symmetric", advice, both=True)
  return np.fmax(matrix, matrix.T)


def _without_zero_triangle(matrix: np.ndarray) -> np.ndarray:
  """A triangle of nothing but zeros, as ``numpy.triu`` leaves it, is missing if the other one has distances."""
  lower, upper = np.tril(np.ones(matrix.shape, bool), -1), np.triu(np.ones(matrix.shape, bool), 1)
  for zeros, other in ((lower, upper), (upper, lower)):
    if (matrix[zeros] == 0).all() and (matrix[other] > 0).any():
      return np.where(zeros, np.nan, matrix)
  return matrix
