"""Checks of distance matrices: of their shapes, and of their values where JAX knows them, which is outside ``jit``."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_edm import _errors
from jax_edm._errors import error, message

SHOWN = 8  # points of a part that a message lists


def square(function: str, name: str, matrix: Any, boolean: bool = False) -> int:
  """``(..., n, n)``, of a real number type; n."""
  real(function, name, matrix, boolean)
  if len(matrix.shape) < 2 or matrix.shape[-1] != matrix.shape[-2]:
    raise error(
      function,
      f"{name} must be a square matrix, (..., n, n)",
      f"shape {matrix.shape}",
      "For SciPy's condensed form use jax_edm.squareform",
    )
  return matrix.shape[-1]


def dimension(function: str, dim: Any, n: int) -> None:
  _errors.integer(function, "dim", dim)
  if not 1 <= dim <= n - 1:
    raise error(
      function,
      "dim must be at least 1 and at most n - 1, since n points span no more",
      f"{dim} for {n} points",
      "Choose a dim in that range",
    )


def of_points(function: str, name: str, matrix: Any, x: Any, n: int) -> None:
  """``(..., n, n)`` for points ``(..., n, d)``."""
  if x.shape[-2] != n:
    got = f"{name} {matrix.shape} and points {x.shape}"
    raise error(function, f"{name} must have one row for each point", got, "Drop what belongs to no point")
  _errors.leading(function, name, matrix.shape[:-2], x.shape[:-2], f"{matrix.shape} and {x.shape}")


def weights(function: str, given: Any, name: str, matrix: Any) -> None:
  """``(..., n, n)``: not negative and symmetric, of a real number type or boolean; or None."""
  if given is None:
    return
  real(function, "weights", given, boolean=True)
  if given.shape[-2:] != matrix.shape[-2:]:
    raise error(
      function,
      f"weights must have one entry for each entry of {name}",
      f"weights {given.shape} and {name} {matrix.shape}",
      f"Give them the shape {matrix.shape}, 0 for a missing entry",
    )
  _errors.leading(function, "weights", given.shape[:-2], matrix.shape[:-2], f"{given.shape} and {matrix.shape}")
  if known(given):
    w = np.asarray(given, np.float64)
    _none(function, "weights", w, ~np.isfinite(w) | (w < 0), "must be finite and not negative", "0 means missing")
    _symmetric(function, "weights", w, jnp.result_type(given, float), "Use weights + weights.T")


def distances(function: str, name: str, matrix: Any, given_weights: Any = None) -> None:
  """Values of (squared) distances, where their weight is not 0: finite, not negative, symmetric, hollow."""
  if not known(matrix, given_weights):
    return
  values = np.asarray(matrix, np.float64)
  if given_weights is not None:
    values = np.where(np.asarray(given_weights) != 0, values, 0)
  missing = f"Where {name} is not known pass weights=, 0 there"
  _none(function, name, values, ~np.isfinite(values), "must be finite", missing)
  dtype = jnp.result_type(matrix, float)
  _none(function, name, values, values < -allowed(values, dtype), "must not be negative", "Set what is below zero to 0")
  _hollow(function, name, values, dtype)


def hollow(function: str, name: str, matrix: Any) -> None:
  """Symmetric, with a zero diagonal."""
  if known(matrix):
    _hollow(function, name, np.asarray(matrix, np.float64), jnp.result_type(matrix, float))


def connected(function: str, name: str, given: Any) -> None:
  """The pairs with a weight connect all points; nothing else can say where one part lies from another."""
  if given is None or not known(given):
    return
  pairs = np.asarray(given) != 0
  for index in np.ndindex(pairs.shape[:-2]):
    parts = parts_of(pairs[index])
    if len(parts) > 1:
      listed = " and ".join(
        "(" + ", ".join(map(str, part[:SHOWN])) + (", ..." if len(part) > SHOWN else "") + ")" for part in parts[:SHOWN]
      )
      raise error(
        function,
        f"the known entries of {name} must connect all points",
        f"{len(parts)} separate parts{_of_batch(index)}: {listed}{' and others' if len(parts) > SHOWN else ''}",
        "Place each part by itself, or add an entry between them",
      )


def parts_of(pairs: np.ndarray) -> list[list[int]]:
  """The connected parts of a graph, ``(n, n)`` booleans, each in ascending order."""
  unseen, parts = np.ones(len(pairs), bool), []
  while unseen.any():
    part = np.zeros_like(unseen)
    part[np.argmax(unseen)] = True
    front = part
    while front.any():
      front = pairs[front].any(0) & ~part
      part = part | front
    unseen &= ~part
    parts.append(np.flatnonzero(part).tolist())
  return parts


def known(*arrays: Any) -> bool:
  return not any(isinstance(a, jax.core.Tracer) for a in arrays)


def allowed(values: np.ndarray, dtype: Any) -> np.ndarray:
  """What rounding, and arithmetic in a precision like that of ``dtype``, may do to symmetry and to zeros."""
  finite = np.where(np.isfinite(values), np.abs(values), 0)
  return float(jnp.finfo(dtype).eps) ** 0.5 * finite.max((-1, -2), initial=0, keepdims=True)


def real(function: str, name: str, matrix: Any, boolean: bool = False) -> None:
  _errors.array(function, name, matrix)
  dtype = matrix.dtype
  if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer) or (boolean and dtype == np.bool_)):
    raise TypeError(message(function, f"{name} must hold real numbers", f"dtype {dtype}", "Convert it"))


def _hollow(function: str, name: str, values: np.ndarray, dtype: Any) -> None:
  wrong = np.eye(values.shape[-1], dtype=bool) & ~(np.abs(values) <= allowed(values, dtype))
  _none(function, name, values, wrong, "must have a zero diagonal", "Check that rows and columns list the same points")
  _symmetric(function, name, values, dtype, f"Use ({name} + {name}.T) / 2, if both are measurements")


def _symmetric(function: str, name: str, values: np.ndarray, dtype: Any, advice: str) -> None:
  transposed = values.swapaxes(-1, -2)
  with np.errstate(invalid="ignore"):  # infinity less infinity
    near = np.abs(values - transposed) <= allowed(values, dtype)
  wrong = ~(near | (values == transposed) | (np.isnan(values) & np.isnan(transposed)))
  if wrong.any():
    index = tuple(int(k) for k in np.argwhere(wrong)[0])
    i, j = index[-2:]
    got = f"{values[index]:g} at ({i}, {j}) and {transposed[index]:g} at ({j}, {i}){_of_batch(index[:-2])}"
    raise error(function, f"{name} must be symmetric", got, advice)


def _none(function: str, name: str, values: np.ndarray, wrong: np.ndarray, expected: str, advice: str) -> None:
  if wrong.any():
    index = tuple(int(k) for k in np.argwhere(wrong)[0])
    got = f"{values[index]:g} at ({index[-2]}, {index[-1]}){_of_batch(index[:-2])}"
    raise error(function, f"{name} {expected}", got, advice)


def _of_batch(index: tuple[int, ...]) -> str:
  return f" of matrix {index if len(index) > 1 else index[0]}" if index else ""
