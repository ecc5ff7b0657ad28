"""Checks of distance matrices: of their shapes, and, outside ``jit``, of their values."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_edm import _errors
from jax_edm._core.batching import promoted
from jax_edm._errors import error

LISTED = 8  # points of a part, and parts, that a message lists


def real(function: str, name: str, matrix: Any, boolean: bool = False) -> None:
  """An array of a real number type, or boolean where that is allowed."""
  _errors.array(function, name, matrix, (*_errors.REAL, np.bool_) if boolean else _errors.REAL, "hold real numbers")


def square(function: str, name: str, matrix: Any, boolean: bool = False) -> int:
  """``(..., n, n)``, of a real number type; returns n."""
  real(function, name, matrix, boolean)
  if len(matrix.shape) < 2 or matrix.shape[-1] != matrix.shape[-2]:
    condensed = "For SciPy's condensed form use jax_edm.squareform"
    advice = "Pass the whole matrix, or its condensed form" if function == "squareform" else condensed
    raise error(function, f"{name} must be a square matrix, (..., n, n)", f"shape {matrix.shape}", advice)
  return matrix.shape[-1]


def dimension(function: str, dim: Any, n: int) -> None:
  """The number of coordinates that n points may get."""
  _errors.integer(function, "dim", dim)
  _errors.known(function, "the number of points", n)
  if not 1 <= dim <= n - 1:
    expected = "dim must be at least 1 and at most n - 1, since n points span no more"
    raise error(function, expected, f"{dim} for {n} points", "Choose a dim in that range")


def row_for_each_point(function: str, name: str, matrix: Any, x: Any) -> None:
  """A matrix ``(..., n, n)`` that belongs to the points ``x``, ``(..., n, d)``."""
  if x.shape[-2] != matrix.shape[-1]:
    got = f"{name} {matrix.shape} and points {x.shape}"
    raise error(function, f"{name} must have one row for each point", got, "Pass the points in the order of its rows")
  _errors.leading(function, name, matrix.shape[:-2], x.shape[:-2])


def weights(function: str, weights: Any, name: str, matrix: Any) -> None:
  """Weights of ``matrix``: ``(..., n, n)``, not negative and symmetric, of a real number type or boolean; or None."""
  if weights is None:
    return
  real(function, "weights", weights, boolean=True)
  if weights.shape[-2:] != matrix.shape[-2:]:
    got = f"weights {weights.shape} and {name} {matrix.shape}"
    advice = f"Give them the shape {matrix.shape}, 0 for a missing entry"
    raise error(function, f"weights must have one entry for each entry of {name}", got, advice)
  _errors.leading(function, "weights", weights.shape[:-2], matrix.shape[:-2])
  if is_concrete(weights):
    w = _floating(weights)
    _no_entry(function, w, ~np.isfinite(w) | (w < 0), "weights must be finite and not negative", "0 means missing")
    _symmetric(function, "weights", w, promoted(weights, float), "Use weights + weights.T")


def distances(function: str, name: str, matrix: Any, weights: Any = None, infinite: bool = False) -> None:
  """Values of (squared) distances. Where their weight is not 0: finite, not negative, symmetric, zero diagonal.

  Those of upper bounds may be ``infinite``.
  """
  if not is_concrete(matrix, weights):
    return
  values, dtype = _floating(matrix), promoted(matrix, float)
  if weights is not None:
    values = np.where(np.asarray(weights) != 0, values, 0)
  advice = f"Where {name} is not known, smacof takes weights=, 0 there"
  if infinite:
    _no_entry(function, values, np.isnan(values), f"{name} must not be NaN", "Pass infinity where there is no bound")
  else:
    _no_entry(function, values, ~np.isfinite(values), f"{name} must be finite", advice)
  negative = values < -rounding(values, dtype)
  _no_entry(function, values, negative, f"{name} must not be negative", "Set negative entries to 0")
  symmetric_zero_diagonal(function, name, values, dtype)


def symmetric_zero_diagonal(function: str, name: str, matrix: Any, dtype: Any = None) -> None:
  """Values of a symmetric matrix with a zero diagonal, as far as the precision of ``dtype`` (its own) allows."""
  if not is_concrete(matrix):
    return
  values, dtype = _floating(matrix), promoted(matrix, float) if dtype is None else dtype
  wrong = np.eye(values.shape[-1], dtype=bool) & ~(np.abs(values) <= rounding(values, dtype))
  advice = "Check that rows and columns list the same points"
  _no_entry(function, values, wrong, f"{name} must have a zero diagonal", advice)
  _symmetric(function, name, values, dtype, f"Use ({name} + {name}.T) / 2, if both are measurements")


def connected(function: str, name: str, weights: Any) -> None:
  """The pairs with a weight connect all points: nothing else tells where one part is relative to another."""
  if weights is None or not is_concrete(weights):
    return
  pairs = np.asarray(weights) != 0
  for index in np.ndindex(pairs.shape[:-2]):
    parts = connected_parts(pairs[index])
    if len(parts) > 1:
      listed = [f"({', '.join(map(str, p[:LISTED]))}{', ...' if len(p) > LISTED else ''})" for p in parts[:LISTED]]
      got = f"{len(parts)} separate parts{_in_batch(index)}: {' and '.join(listed)}"
      got += " and others" if len(parts) > LISTED else ""
      expected = f"the known entries of {name} must connect all points"
      raise error(function, expected, got, "Place each part by itself, or add an entry between them")


def connected_parts(pairs: np.ndarray) -> list[list[int]]:
  """The connected parts of a graph, ``(n, n)`` booleans, each in ascending order."""
  unseen, parts = np.ones(len(pairs), bool), []
  while unseen.any():
    part = front = np.arange(len(pairs)) == np.argmax(unseen)
    while front.any():
      front = pairs[front].any(0) & ~part
      part = part | front
    unseen &= ~part
    parts.append(np.flatnonzero(part).tolist())
  return parts


def is_concrete(*arrays: Any) -> bool:
  """Whether the values are there to be checked: none of these is a tracer."""
  return not any(isinstance(a, jax.core.Tracer) for a in arrays)


def _floating(matrix: Any) -> np.ndarray:
  """The values of a matrix in float32, if that is its type, or in float64: NumPy knows no bfloat16."""
  return np.asarray(matrix, np.float32 if matrix.dtype == np.float32 else np.float64)


def rounding(values: np.ndarray, dtype: Any) -> np.ndarray:
  """How far from zero an entry may be that computation in ``dtype``, or in a similar precision, should make zero."""
  finite = np.where(np.isfinite(values), np.abs(values), 0)
  return float(jnp.finfo(dtype).eps) ** 0.5 * finite.max((-1, -2), initial=0, keepdims=True)


def _symmetric(function: str, name: str, values: np.ndarray, dtype: Any, advice: str) -> None:
  transposed = values.swapaxes(-1, -2)
  with np.errstate(invalid="ignore", over="ignore"):  # infinity minus infinity
    near = np.abs(values - transposed) <= rounding(values, dtype)
  wrong = ~(near | (values == transposed) | (np.isnan(values) & np.isnan(transposed)))
  _no_entry(function, values, wrong, f"{name} must be symmetric", advice, both=True)


def _no_entry(
  function: str, values: np.ndarray, wrong: np.ndarray, expected: str, advice: str, both: bool = False
) -> None:
  """An error that shows the first entry that is wrong, if there is one, or ``both`` entries of its pair."""
  if wrong.any():
    *batch, i, j = (int(k) for k in np.argwhere(wrong)[0])
    matrix = values[tuple(batch)]
    got = f"{matrix[i, j]:g} at ({i}, {j})" + (f" and {matrix[j, i]:g} at ({j}, {i})" if both else "")
    raise error(function, expected, got + _in_batch(tuple(batch)), advice)


def _in_batch(index: tuple[int, ...]) -> str:
  return f" of matrix {index if len(index) > 1 else index[0]}" if index else ""
