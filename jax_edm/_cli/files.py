"""The user's files, read and checked: points, distances and weights."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jax_edm._cli import condensed
from jax_edm._cli.errors import error
from jax_edm._core import validation

SUFFIXES = (".npy", ".csv")
TOLERANCE = 1e-6  # of the largest entry: what rounding may do to the symmetry and to the diagonal
NOISE = 1e-12  # of the largest entry: how far below 0 rounding may bring a squared distance that was computed
SMALLEST = 1e-290  # below, numbers in double precision lose their digits
NORMAL = 1e10  # lengths from its inverse to it, and their squares, fit single precision
LEAST_WEIGHT = 1e-12  # of the largest: less does not count in single precision


class Points(NamedTuple):
  values: np.ndarray  # (n, d), float64 and finite
  labels: list[str] | None


class Distances(NamedTuple):
  """Distances in a ``unit`` in which their squares fit single precision."""

  values: np.ndarray  # (n, n), float64 and symmetric, NaN where not measured and on the diagonal
  weights: np.ndarray | None  # (n, n), at most 1, and 0 where not measured
  labels: list[str] | None
  unit: float


def read_points(path: Path, index: bool | None = None) -> Points:
  values, labels = _read(path, index)
  _check_none(path, values, ~np.isfinite(values), "coordinates must be finite", "Complete or drop that point")
  return Points(values, labels)


def read_distances(path: Path, dim: int, *, squared: bool = False, weights: Path | None = None) -> Distances:
  """Enough of them, and connected, to place ``n`` points of ``dim`` coordinates."""
  values, labels = _read_matrix(path, "distances")
  w = None
  if weights is not None:
    w = _read_weights(weights, values, labels)
    values[(w == 0) & ~np.eye(len(w), dtype=bool)] = np.nan
  measured = _symmetric(path, values, "distances")
  np.fill_diagonal(measured, np.nan)
  if squared:
    measured = np.sqrt(measured)
  _check_enough(path, measured, dim)
  largest = float(np.nanmax(measured))
  if largest < SMALLEST:
    expected = f"the largest distance must be at least {SMALLEST:g}"
    raise error(path, expected, f"{largest:g}", "Choose a smaller unit")
  unit = unit_of(largest)
  return Distances(measured / unit, w, labels, unit)


def unit_of(length: float) -> float:
  """1, or the power of two below a length whose square does not fit single precision. To divide by it is exact."""
  if length == 0 or 1 / NORMAL <= length <= NORMAL:
    return 1.0
  return float(2.0 ** np.floor(np.log2(length)))


def check_suffix(who: object, path: Path) -> None:
  if path.suffix.lower() not in SUFFIXES:
    raise error(who, "the file must end in .npy or .csv", repr(path.name), "Choose one of the two formats")


def _read_matrix(path: Path, what: str) -> tuple[np.ndarray, list[str] | None]:
  values, labels = _read(path, what=what)
  return _without_zero_triangle(values), labels


def _read(path: Path, index: bool | None = None, what: str = "") -> tuple[np.ndarray, list[str] | None]:
  """Real numbers, float64, NaN where an entry is missing, and labels of the rows; a square matrix of ``what``."""
  check_suffix(path, path)
  try:
    if path.suffix.lower() == ".npy":
      if index is not None:
        raise error("--index", "it is for tables of text", repr(path.name), "Leave it out")
      return _read_npy(path, what), None
    from jax_edm._cli import layout, tables  # here, because only text needs pandas

    if what:
      return tables.read(path, lambda sheet: layout.matrix(sheet, what))
    return tables.read(path, lambda sheet: layout.points(sheet, index))
  except OSError as problem:
    raise error(path, "the file must be readable", problem.strerror or str(problem), "Check the path") from problem


def _read_npy(path: Path, what: str) -> np.ndarray:
  with path.open("rb") as file:
    magic = file.read(6)
    file.seek(0)
    if not magic.startswith(b"\x93NUMPY"):
      got = "an archive of several arrays (.npz)" if magic.startswith(b"PK") else "something else"
      raise error(path, "the file must be one NumPy array", got, "Write it with numpy.save")
    try:
      array = np.load(file, allow_pickle=False)
    except OSError:
      raise
    except Exception as problem:  # a broken header raises errors of many types
      got = f"one that cannot be read ({str(problem).splitlines()[0][:80] if str(problem) else type(problem).__name__})"
      advice = "Write it again with numpy.save"
      raise error(path, "the file must be a whole NumPy array of numbers", got, advice) from problem
  if array.dtype.kind not in "iuf":
    got = f"dtype {array.dtype}"
    raise error(path, "the file must be an array of real numbers", got, "Save one array of a floating-point type")
  with np.errstate(over="ignore"):
    array = array.astype(np.float64)
  if what and array.ndim == 1:
    array = array[:, None]  # the condensed form
  if array.ndim != 2 or array.size == 0:
    raise error(path, "the file must hold a matrix", f"shape {array.shape}", "Save a two-dimensional array")
  return condensed.square(path, array, what) if what else array


def _read_weights(path: Path, distances: np.ndarray, labels: list[str] | None) -> np.ndarray:
  """At most 1, and 0 where there is no distance."""
  values, own = _read_matrix(path, "weights")
  if values.shape != distances.shape:
    got = f"{len(values)} rows for {len(distances)} points"
    raise error(path, "there must be one weight for each distance", got, "Save them in the order of the distances")
  if labels and own and labels != own:
    k = next(k for k, (a, b) in enumerate(zip(labels, own, strict=True)) if a != b)
    got = f"{own[k]!r} and {labels[k]!r} for point {k + 1}"
    raise error(path, "weights must have the labels of the distances", got, "Sort them as the distances are sorted")
  values[np.isnan(distances) & np.isnan(distances.T)] = 0
  np.fill_diagonal(values, 0)
  weights = np.nan_to_num(_symmetric(path, values, "weights"), nan=0.0)
  if not weights.any():
    got, advice = "none beside a distance", "0 and NA stand for a missing distance"
    raise error(path, "some weights must be positive", got, advice)
  weights /= weights.max()
  tiny = (weights > 0) & (weights < LEAST_WEIGHT)
  expected = f"positive weights must be at least {LEAST_WEIGHT:g} of the largest"
  _check_none(path, weights, tiny, expected, "Write 0 for a distance that should not count")
  return weights


def _symmetric(path: Path, matrix: np.ndarray, what: str) -> np.ndarray:
  """The matrix, with an entry that is missing on one side taken from the other."""
  n = len(matrix)
  if np.isnan(matrix).all():
    raise error(path, f"some {what} must be measured", "none", "NaN and empty entries stand for missing ones")
  advice = "Write NA where it is missing"
  _check_none(path, matrix, np.isinf(matrix), f"{what} must be finite", advice)
  rounding = TOLERANCE * np.nanmax(matrix)
  negative = matrix < -NOISE * np.nanmax(matrix)
  _check_none(path, matrix, negative, f"{what} must not be negative", advice)
  matrix = np.maximum(matrix, 0)
  expected = "the distance of a point to itself must be 0 or missing"
  advice = "Check that rows and columns list the points in one order"
  _check_none(path, matrix, np.eye(n, dtype=bool) & (matrix > rounding), expected, advice)
  advice = "Average the two, or write NA for the one that you do not trust"
  _check_none(path, matrix, np.abs(matrix - matrix.T) > rounding, f"{what} must be symmetric", advice, both=True)
  return np.fmax(matrix, matrix.T)


def _without_zero_triangle(matrix: np.ndarray) -> np.ndarray:
  """A triangle of nothing but zeros, as ``numpy.triu`` leaves it, is missing if the other one has distances."""
  lower, upper = np.tril(np.ones(matrix.shape, bool), -1), np.triu(np.ones(matrix.shape, bool), 1)
  for zeros, other in ((lower, upper), (upper, lower)):
    if (matrix[zeros] == 0).all() and (matrix[other] > 0).any():
      return np.where(zeros, np.nan, matrix)
  return matrix


def _check_none(
  path: Path, matrix: np.ndarray, wrong: np.ndarray, expected: str, advice: str, both: bool = False
) -> None:
  """An error that shows the first entry that is wrong, if there is one, or ``both`` entries of its pair."""
  if wrong.any():
    i, j = (int(k) for k in np.argwhere(wrong)[0])
    entries = [(i, j), (j, i)] if both else [(i, j)]
    got = " and ".join(f"{matrix[i, j]:g} in row {i + 1}, column {j + 1}" for i, j in entries)
    raise error(path, expected, got, advice)


def _check_enough(path: Path, measured: np.ndarray, dim: int) -> None:
  known = ~np.isnan(measured)
  n, pairs = len(known), int(known.sum()) // 2
  if not 1 <= dim < n:
    expected = f"it must be at least 1 and less than the number of points, {n}"
    raise error("--dim", expected, str(dim), "Choose one in that range")
  alone = np.flatnonzero(~known.any(1))
  if alone.size:
    got = f"none for point {alone[0] + 1}"
    raise error(path, "every point must have a measured distance", got, "Drop it, or measure one")
  parts = validation.connected_parts(known)
  if len(parts) > 1:
    got = f"{len(parts)} separate parts"
    raise error(path, "measured distances must connect all points", got, "Fit each part by itself")
  needed = n * dim - dim * (dim + 1) // 2  # coordinates, less those of a rigid motion
  if pairs < needed:
    expected = f"{n} points in {dim} dimensions need at least {needed} distances"
    raise error(path, expected, str(pairs), "Measure more, or choose a smaller --dim")
  if not np.nanmax(measured) > 0:
    raise error(path, "some points must differ", "distances that are all 0", "Check the file")
