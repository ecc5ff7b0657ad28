"""Checks of what users pass, and the one form that an error message has.

Shapes and dtypes are known while JAX traces, so every check works the same under ``jax.jit``.
"""

from typing import Any

import jax
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


def function(name_of_caller: str, name: str, value: Any) -> None:
  if not callable(value):
    raise TypeError(
      message(
        name_of_caller,
        f"{name} must be a function of a block of squared distances",
        type(value).__name__,
        f"Put {name} first: {name_of_caller}(lambda D: jnp.exp(-D), x)",
      )
    )


def elementwise(function: str, name: str, block: Any, shape: tuple[int, ...]) -> jax.Array:
  """What ``f`` made of a block of that shape."""
  if not (hasattr(block, "shape") and hasattr(block, "dtype")):
    raise TypeError(
      message(function, f"{name} must return one array", type(block).__name__, "Return one array of the shape of D")
    )
  if block.shape != shape:
    raise ValueError(
      message(
        function,
        f"{name} must be elementwise: it must return the shape that it is given",
        f"shape {block.shape} for a block of {shape}",
        "Take sums over points with values=, or outside; broadcast a constant with jnp.full_like(D, ...)",
      )
    )
  return block


def operand(function: str, i: int, value: Any, batch: tuple[int, ...], shape: tuple[int, int]) -> jax.Array:
  """An array that broadcasts to ``(*batch, *shape)``, with two axes at least."""
  number = isinstance(value, (bool, int, float, complex))
  if not (number or (hasattr(value, "shape") and hasattr(value, "dtype"))):
    advice = "Convert it with jnp.asarray; let f close over what is no array"
    raise TypeError(message(function, f"operand {i} must be an array or a number", type(value).__name__, advice))
  if not (number or jnp.issubdtype(value.dtype, np.number) or value.dtype == np.bool_):
    raise TypeError(message(function, f"operand {i} must hold numbers", f"dtype {value.dtype}", "Convert it"))
  value = jnp.asarray(value)
  try:
    fits = np.broadcast_shapes(value.shape[-2:], shape) == shape
    np.broadcast_shapes(value.shape[:-2], batch)
  except ValueError:
    fits = False
  if not fits:
    raise ValueError(
      message(
        function,
        f"operand {i} must broadcast to the shape of the matrix",
        f"{value.shape} for {(*batch, *shape)}",
        "Give it (n, 1) for what belongs to points of x, (1, m) for points of y, (n, m) for pairs",
      )
    )
  return value.reshape((1,) * max(2 - value.ndim, 0) + value.shape)


def values(function: str, name: str, value: Any, y: Any) -> jax.Array | None:
  """``(m,)`` or ``(..., m, k)`` for the points ``y``, or None."""
  if value is None:
    return None
  _array(function, name, value)
  m = y.shape[-2]
  if not value.shape or value.shape[-2:][0] != m:
    shapes = "(m,) or (..., m, k), one entry or one row for each point that is summed over"
    raise error(function, f"{name} must have the shape {shapes}", f"{value.shape} for {m} points", "Check its axes")
  _batch(function, name, value.shape[:-2], y.shape[:-2], f"{name} {value.shape} and points {y.shape}")
  return jnp.asarray(value)


def weights(function: str, name: str, value: Any, y: Any) -> jax.Array | None:
  """``(..., m)`` for the points ``y``, or None."""
  if value is None:
    return None
  _array(function, name, value)
  m = y.shape[-2]
  if value.shape[-1:] != (m,):
    shape = "(..., m), one entry for each point that is summed over"
    raise error(function, f"{name} must have the shape {shape}", f"{value.shape} for {m} points", "Check its axes")
  _batch(function, name, value.shape[:-1], y.shape[:-2], f"{name} {value.shape} and points {y.shape}")
  return jnp.asarray(value)


def count(function: str, name: str, value: Any, most: int) -> None:
  """A static number of things, of which there are ``most``."""
  _integer(function, name, value)
  if not 1 <= value <= most:
    expected = f"{name} must be at least 1, and at most the number of candidates"
    raise error(function, expected, f"{value} of {most}", f"Pass another {name}; no point counts as its own neighbour")


def block_size(function: str, value: Any) -> None:
  """Rows at a time, or None."""
  if value is None:
    return
  _integer(function, "block_size", value)
  if value < 1:
    raise error(function, "block_size must be at least 1", str(value), "Leave it out to have one chosen")


def error(function: str, expected: str, got: str, advice: str) -> ValueError:
  return ValueError(message(function, expected, got, advice))


def _integer(function: str, name: str, value: Any) -> None:
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
    advice = "It is a static number: a Python int, under jax.jit too"
    raise TypeError(message(function, f"{name} must be an integer", type(value).__name__, advice))


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
