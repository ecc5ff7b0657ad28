"""The user's files as arrays: tables of text, and arrays of NumPy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jax_edm._cli import condensed
from jax_edm._cli.errors import UserError, error

SUFFIXES = (".npy", ".csv")
T = TypeVar("T")


def check_suffix(who: object, path: Path) -> None:
  if path.suffix.lower() not in SUFFIXES:
    raise error(who, "the file must end in .npy or .csv", repr(path.name), "Choose one of the two formats")


def read(path: Path, interpret: Callable[[Any], Any], what: str = "") -> tuple[np.ndarray, list[str] | None]:
  """Real numbers, float64, NaN where an entry is missing, and labels of the rows; a square matrix of ``what``.

  ``interpret`` makes a ``layout.Table`` of a ``tables.Sheet``.
  """
  check_suffix(path, path)
  if path.suffix.lower() == ".csv":
    return read_text(path, interpret)
  try:
    return _read_npy(path, what), None
  except OSError as problem:
    raise _unreadable(path, problem) from problem


def read_text(path: Path, interpret: Callable[[Any], T]) -> T:
  """What ``interpret`` makes of a ``tables.Sheet``."""
  from jax_edm._cli import tables  # here, because only text needs pandas

  try:
    return tables.read(path, interpret)
  except OSError as problem:
    raise _unreadable(path, problem) from problem


def _unreadable(path: Path, problem: OSError) -> UserError:
  return error(path, "the file must be readable", problem.strerror or str(problem), "Check the path")


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


def check_none(
  path: Path, matrix: np.ndarray, wrong: np.ndarray, expected: str, advice: str, both: bool = False
) -> None:
  """An error that shows the first entry that is wrong, if there is one, or ``both`` entries of its pair."""
  if wrong.any():
    i, j = (int(k) for k in np.argwhere(wrong)[0])
    entries = [(i, j), (j, i)] if both else [(i, j)]
    got = " and ".join(f"{matrix[i, j]:g} in row {i + 1}, column {j + 1}" for i, j in entries)
    raise error(path, expected, got, advice)
