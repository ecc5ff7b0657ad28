"""Checks of what users pass, and the one form that an error message has.

Shapes and dtypes are known while JAX traces, so every check works the same under ``jax.jit``.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

METHODS = ("difference", "gram")


def message(function: str, expected: str, got: str, advice: str) -> str:
  """``edm: x must be ... Got ... Do ...``: who, what was expected, what came, what to do."""
  return f"{function}: {expected}. Got {got}. {advice}."


def points(function: str, name: str, x: Any) -> None:
  """``(..., n, d)``, of a real number type."""
  _array(function, name, x)
  if not (jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.integer)):
    advice = "Pass the real and imaginary parts as coordinates"
    if not jnp.issubdtype(x.dtype, jnp.complexfloating):
      advice = "Convert it to a floating type; a mask goes into where="
    raise TypeError(message(function, f"{name} must hold real numbers", f"dtype {x.dtype}", advice))
  if x.dtype.itemsize > 8 or "int4" in x.dtype.name or "int2" in x.dtype.name:
    raise TypeError(
      message(function, f"{name} must be of 8 to 64 bits", f"dtype {x.dtype}", f"Convert it with {name}.astype")
    )
  if len(x.shape) < 2:
    raise ValueError(
      message(
        function,
        f"{name} must have the shape (..., number of points, number of coordinates)",
        f"shape {x.shape}",
        f"For points on a line use {name}[:, None], for a single point {name}[None, :]",
      )
    )


def pair(function: str, x: Any, y: Any) -> tuple[int, ...]:
  """Two sets that can be measured against each other; the leading axes of their matrices."""
  if x.shape[-1] != y.shape[-1]:
    raise ValueError(
      message(
        function,
        "x and y must have the same number of coordinates",
        f"x {x.shape} and y {y.shape}",
        "Pad the shorter points, or drop a coordinate",
      )
    )
  got = f"x {x.shape} {x.dtype} and y {y.shape} {y.dtype}"
  try:
    jnp.promote_types(x.dtype, y.dtype)
  except (TypeError, ValueError):
    raise TypeError(
      message(function, "x and y must have dtypes that promote to each other", got, "Convert one of them")
    ) from None
  return _batch(function, "y", y.shape[:-2], x.shape[:-2], got)


def mask(function: str, name: str, where: Any, points_name: str, x: Any, batch: tuple[int, ...]) -> tuple[int, ...]:
  """``(..., n)`` booleans for the points ``x``, ``(..., n, d)``; the leading axes of the matrices."""
  _array(function, name, where)
  if where.dtype != np.bool_:
    raise TypeError(
      message(
        function,
        f"{name} must be boolean, True where the point of {points_name} exists",
        f"dtype {where.dtype}",
        f"Pass {name} != 0",
      )
    )
  got = f"{name} {where.shape} and {points_name} {x.shape}"
  if where.shape[-1:] != (x.shape[-2],):
    raise ValueError(
      message(
        function,
        f"{name} must have one entry for each point of {points_name}",
        got,
        f"Give it the shape {(*x.shape[:-2], x.shape[-2])}",
      )
    )
  return _batch(function, name, where.shape[:-1], batch, f"{name} {where.shape} for matrices {(*batch, '...')}")


def method(function: str, value: Any) -> None:
  if not (value is None or (isinstance(value, str) and value in METHODS)):
    raise ValueError(
      message(
        function,
        'method must be None, "difference" or "gram"',
        repr(value),
        "Leave it out to have the faster of the two for the number of coordinates",
      )
    )


def same_shape(function: str, name: str, value: Any, shape: tuple[int, ...], meaning: str) -> None:
  """An array of real numbers that belongs to another one."""
  _array(function, name, value)
  if value.shape != shape:
    raise ValueError(
      message(function, f"{name} must have the shape of {meaning}", f"{value.shape}, not {shape}", "Check its axes")
    )
  if not jnp.issubdtype(value.dtype, jnp.floating):
    raise TypeError(
      message(
        function,
        f"{name} must hold floating-point numbers",
        f"dtype {value.dtype}",
        f"Convert it with {name}.astype(x.dtype)",
      )
    )


def error(function: str, expected: str, got: str, advice: str) -> ValueError:
  return ValueError(message(function, expected, got, advice))


def _array(function: str, name: str, x: Any) -> None:
  if not (hasattr(x, "shape") and hasattr(x, "dtype")):
    raise TypeError(
      message(
        function, f"{name} must be a JAX or NumPy array", type(x).__name__, f"Convert it with jnp.asarray({name})"
      )
    )


def _batch(function: str, name: str, batch: tuple[int, ...], other: tuple[int, ...], got: str) -> tuple[int, ...]:
  """The leading axes that the two broadcast to."""
  if batch == other:
    return batch
  try:
    return np.broadcast_shapes(batch, other)
  except ValueError:
    raise ValueError(
      message(
        function,
        f"the leading axes of {name} must broadcast against those of the points",
        got,
        "Insert axes of length 1, or map one argument only with jax.vmap",
      )
    ) from None
