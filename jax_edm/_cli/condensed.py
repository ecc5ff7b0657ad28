"""The condensed form: one entry for each pair, in the order of SciPy's ``pdist`` and of R's ``dist``."""

import numpy as np


def is_condensed(size: int) -> bool:
  n = _points(size)
  return size > 0 and n * (n - 1) // 2 == size


def square(entries: np.ndarray) -> np.ndarray:
  """The symmetric matrix, with NaN on the diagonal."""
  n = _points(entries.size)
  out = np.full((n, n), np.nan)
  out[np.triu_indices(n, 1)] = entries
  return np.fmax(out, out.T)


def _points(size: int) -> int:
  return round((1 + (1 + 8 * size) ** 0.5) / 2)
