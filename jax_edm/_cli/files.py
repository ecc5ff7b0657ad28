"""The user's files: read, checked, and written all at once or not at all.

Whatever is wrong with a file is a ``UserError``, in the form that every message of the package has.
"""

import csv
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from jax_edm import _errors
from jax_edm._core import validation

SUFFIXES = (".npy", ".csv")
TOLERANCE = 1e-6  # of the largest entry: what rounding may do to the symmetry and to the diagonal of a matrix


class UserError(Exception):
  """A mistake of the user: one line that says what is wrong and what to do."""


def error(who: object, expected: str, got: str, advice: str) -> UserError:
  return UserError(_errors.message(str(who), expected, got, advice))


def read_points(path: Path) -> np.ndarray:
  """Points, ``(n, d)``, float64 and finite."""
  x = _read(path)
  _check_none(path, x, ~np.isfinite(x), "coordinates must be finite", "Complete or drop that point")
  return x


def read_distances(path: Path, dim: int, *, squared: bool = False) -> np.ndarray:
  """Distances, ``(n, n)``, float64 and symmetric, NaN where not measured and on the diagonal.

  Enough of them, and connected, to place ``n`` points of ``dim`` coordinates.
  """
  measured = _symmetric(path, _read(path))
  np.fill_diagonal(measured, np.nan)
  if squared:
    measured = np.sqrt(measured)
  _check_enough(path, measured, dim)
  return measured


def check_suffix(who: object, path: Path) -> None:
  if path.suffix not in SUFFIXES:
    raise error(who, "the file must end in .npy or .csv", repr(path.name), "Choose one of the two formats")


def write(path: Path, array: np.ndarray, header: str = "") -> None:
  """An array as .npy, or as .csv with as many digits as its type holds."""
  if path.suffix == ".npy":
    np.save(path, array)
  else:
    digits = "%.9g" if array.dtype == np.float32 else "%.17g"
    np.savetxt(path, array, digits, delimiter=",", header=header, comments="")


@contextmanager
def all_or_nothing(folder: Path) -> Iterator[Path]:
  """A place to write into, made before the work starts; its files move to ``folder`` once everything has succeeded.

  If anything fails, Ctrl-C included, nothing is left: neither a file, nor a folder that was not there before.
  """
  new = [parent for parent in (folder, *folder.parents) if not parent.exists()]
  try:
    try:
      folder.mkdir(parents=True, exist_ok=True)
      with tempfile.TemporaryDirectory(prefix=".jax_edm_", dir=folder) as place:
        yield Path(place)
        for file in Path(place).iterdir():
          os.replace(file, folder / file.name)
    except BaseException:
      for parent in new:
        if parent.exists():
          parent.rmdir()
      raise
  except OSError as problem:
    got = f"{folder}: {problem.strerror}"
    raise error("--output", "the folder must be writable", got, "Choose another one") from problem


def _read(path: Path) -> np.ndarray:
  """A matrix of real numbers, float64; NaN where an entry is missing."""
  check_suffix(path, path)
  try:
    array = _read_npy(path) if path.suffix == ".npy" else _read_csv(path)
  except OSError as problem:
    raise error(path, "the file must be readable", str(problem.strerror), "Check the path") from problem
  if array.ndim != 2 or array.size == 0:
    raise error(path, "the file must hold a matrix", f"shape {array.shape}", "Save a two-dimensional array")
  return array


def _read_npy(path: Path) -> np.ndarray:
  try:
    array = np.load(path, allow_pickle=False)
  except (ValueError, EOFError, zipfile.BadZipFile) as problem:
    expected = "the file must be a NumPy array of numbers"
    raise error(path, expected, "something else", "Write it with numpy.save") from problem
  if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
    got = f"dtype {array.dtype}" if isinstance(array, np.ndarray) else "an archive of arrays"
    raise error(path, "the file must be an array of real numbers", got, "Save one array of a floating-point type")
  return array.astype(np.float64)


def _read_csv(path: Path) -> np.ndarray:
  try:
    with path.open(newline="", encoding="utf-8-sig") as file:
      reader = csv.reader(file)
      lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
  except (UnicodeDecodeError, csv.Error) as problem:
    expected = "the file must be text, numbers between commas"
    raise error(path, expected, "something else", "Export it as CSV") from problem
  if lines and any(lines[0][1]) and not any(map(_is_number, lines[0][1])):
    lines = lines[1:]  # a header
  if not lines:
    raise error(path, "the file must hold a matrix", "no numbers", "Write one line of numbers for each row")
  first, width = lines[0][0], len(lines[0][1])
  for number, cells in lines:
    if len(cells) != width:
      got = f"{width} in line {first} and {len(cells)} in line {number}"
      advice = "Leave an entry empty, or write nan, where there is none"
      raise error(path, "all rows must have the same number of entries", got, advice)
    for cell in cells:
      if cell and not _is_number(cell):
        advice = "Remove text and labels; leave an entry empty where there is none"
        raise error(path, "entries must be numbers", f"{cell!r} in line {number}", advice)
  return np.array([[float(cell or "nan") for cell in cells] for _, cells in lines])


def _is_number(cell: str) -> bool:
  try:
    float(cell)
  except ValueError:
    return False
  return True


def _symmetric(path: Path, matrix: np.ndarray) -> np.ndarray:
  """The matrix, with an entry that is missing on one side taken from the other."""
  n, columns = matrix.shape
  if n != columns:
    raise error(path, "distances must form a square matrix", f"{n} rows of {columns} entries", "Save all of it")
  if np.isnan(matrix).all():
    raise error(path, "some distances must be measured", "none", "NaN and empty entries stand for missing ones")
  advice = "Write NaN where a distance is not measured"
  _check_none(path, matrix, np.isinf(matrix), "distances must be finite", advice)
  _check_none(path, matrix, matrix < 0, "distances must not be negative", advice)
  rounding = TOLERANCE * np.nanmax(matrix)
  expected = "the distance of a point to itself must be 0 or missing"
  advice = "Check that rows and columns list the points in one order"
  _check_none(path, matrix, np.eye(n, dtype=bool) & (matrix > rounding), expected, advice)
  advice = "Average the two, or write NaN for the one that you do not trust"
  _check_none(path, matrix, np.abs(matrix - matrix.T) > rounding, "distances must be symmetric", advice, both=True)
  return np.fmax(matrix, matrix.T)


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
