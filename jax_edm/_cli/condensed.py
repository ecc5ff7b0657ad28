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
    if _is_packed(values[:, 0]):
      expected, advice = "the condensed form must have no diagonal", "Leave it out, or write the triangle in lines"
      raise error(path, expected, "zeros where the diagonal would be", advice)
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


def _is_packed(column: np.ndarray) -> bool:
  """A triangle with its diagonal, in one column: zeros where that is, by rows or by columns, and nowhere else."""
  n = round(((8 * len(column) + 1) ** 0.5 - 1) / 2)
  if n < 3 or n * (n + 1) // 2 != len(column):
    return False
  ends = np.cumsum(np.arange(1, n + 1))
  lower, zero = np.isin(np.arange(len(column)), ends - 1), column == 0
  return bool((zero == lower).all() or (zero == lower[::-1]).all())
