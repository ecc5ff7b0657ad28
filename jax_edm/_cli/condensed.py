"""The condensed form: one entry for each pair, in the order of SciPy's ``pdist`` and of R's ``dist``."""

from pathlib import Path

import numpy as np

from jax_edm._cli.errors import error, shape_error


def is_condensed(size: int) -> bool:
  n = _points(size)
  return size > 0 and n * (n - 1) // 2 == size


def square(path: Path, values: np.ndarray, what: str) -> np.ndarray:
  """The matrix whose condensed form is the one column of ``values``, or ``values``, which must be square."""
  rows, columns = values.shape
  if columns == 1 and is_condensed(rows):
    if _is_packed(values[:, 0], what) or _is_whole(values[:, 0]):
      expected, advice = "the condensed form must have no diagonal", "Leave it out, or write the matrix in lines"
      raise error(path, expected, "nothing where the diagonal would be", advice)
    n = _points(rows)
    out = np.full((n, n), np.nan)
    out[np.triu_indices(n, 1)] = values[:, 0]
    return np.fmax(out, out.T)
  if rows != columns:
    advice = "Save the whole matrix, a triangle with its diagonal, or the condensed form as one column"
    raise shape_error(path, f"{what} must form a square matrix", f"{rows} x {columns} entries", advice)
  return values


def _points(size: int) -> int:
  return round((1 + (1 + 8 * size) ** 0.5) / 2)


def _is_packed(column: np.ndarray, what: str) -> bool:
  """A triangle with its diagonal, in one column: no distances where that is, by rows or by columns.

  Weights and bounds may be 0 anywhere; it is their diagonal if they are 0 nowhere else.
  """
  n = round(((8 * len(column) + 1) ** 0.5 - 1) / 2)
  if n < 2 or n * (n + 1) // 2 != len(column):
    return False
  lower, nothing = np.isin(np.arange(len(column)), np.cumsum(np.arange(1, n + 1)) - 1), _is_nothing(column)
  diagonals = (lower, lower[::-1])
  if what == "distances" and not nothing.all():
    return any(bool(nothing[diagonal].all()) for diagonal in diagonals)
  return any(bool((nothing == diagonal).all()) for diagonal in diagonals)


def _is_whole(column: np.ndarray) -> bool:
  """A matrix in one column: nothing on its diagonal, and its triangles are equal, or one of them is empty."""
  n = round(len(column) ** 0.5)
  if n < 2 or n * n != len(column):
    return False
  matrix = column.reshape(n, n)
  upper, lower = matrix[np.triu_indices(n, 1)], matrix.T[np.triu_indices(n, 1)]
  alike = np.isclose(upper, lower, rtol=1e-6) | np.isnan(upper) | np.isnan(lower)
  triangles = bool(alike.all()) or any(_is_nothing(triangle).all() for triangle in (upper, lower))
  return triangles and bool(_is_nothing(np.diag(matrix)).all())


def _is_nothing(entries: np.ndarray) -> np.ndarray:
  return np.isnan(entries) | (entries == 0)
