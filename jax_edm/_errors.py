"""Checks of what users pass, and the one form that an error message has.

Shapes and dtypes are known while JAX traces, so every check works the same under ``jax.jit``.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

METHODS = ("difference", "gram")
IMPLEMENTATIONS = ("xla", "pallas")


def message(function: str, expected: str, got: str, advice: str) -> str:
  """``edm: x must be ... Got ... Do ...``: who, what was expected, what came, what to do."""
  return f"{function}: {expected}. Got {got}. {advice}."


def points(function: str, name: str, x: Any) -> None:
  """``(..., n, d)``, of a real number type."""
  array(function, name, x)
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
  return leading(function, "y", y.shape[:-2], x.shape[:-2], got)


def matched(function: str, x: Any, y: Any) -> None:
  """Two sets whose points belong together, one to one."""
  if x.shape[-2:] != y.shape[-2:]:
    got, advice = f"x {x.shape} and y {y.shape}", "Put matched points into the same row of both"
    raise error(function, "x and y must have as many points and coordinates", got, advice)
  if 0 in x.shape[-2:]:
    raise error(function, "there must be points to match", f"shape {x.shape}", "Pass one point and coordinate at least")
  pair(function, x, y)


def mask(function: str, name: str, where: Any, points_name: str, x: Any, batch: tuple[int, ...]) -> tuple[int, ...]:
  """``(..., n)`` booleans for the points ``x``, ``(..., n, d)``; the leading axes of the matrices."""
  array(function, name, where)
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
  return leading(function, name, where.shape[:-1], batch, f"{name} {where.shape} for matrices {(*batch, '...')}")


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


def implementation(function: str, value: Any) -> None:
  if not (value is None or (isinstance(value, str) and value in IMPLEMENTATIONS)):
    advice = "Leave it out to have the one that was measured to be the faster"
    raise error(function, 'implementation must be None, "xla" or "pallas"', repr(value), advice)


def same_shape(function: str, name: str, value: Any, shape: tuple[int, ...], meaning: str) -> None:
  """An array of real numbers that belongs to another one."""
  array(function, name, value)
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
        f"{name} must be a function of a squared distance",
        type(value).__name__,
        f"Put {name} first: {name_of_caller}(lambda D: jnp.exp(-D), x)",
      )
    )


def one_number(function: str, value: Any) -> jax.Array:
  """What ``f`` made of one pair."""
  if not (isinstance(value, (bool, int, float, complex)) or (hasattr(value, "shape") and hasattr(value, "dtype"))):
    raise not_of_a_pair(function, type(value).__name__)
  value = jnp.asarray(value)
  if value.shape:
    raise not_of_a_pair(function, f"an array of shape {value.shape}")
  return value


def not_of_a_pair(function: str, got: str) -> TypeError:
  return TypeError(
    message(
      function,
      "f must return one number for each pair, of its squared distance and of its entry of each of args",
      got,
      "Take sums over points with values=, or outside, and pass arrays of points or pairs in args=",
    )
  )


def diagonal(function: str, value: Any, y: Any) -> None:
  if not isinstance(value, (bool, np.bool_)):
    raise TypeError(message(function, "diagonal must be True or False", repr(value), "It is static"))
  if not value and y is not None:
    advice = "Leave y out, or mask the pairs with an argument of f"
    raise error(function, "diagonal=False needs one set of points", "y", advice)


def args(
  function: str, values: Any, batch: tuple[int, ...], shape: tuple[int, int], everywhere: int
) -> tuple[tuple[jax.Array, ...], tuple[int, ...]]:
  """What ``f`` takes beside D; and the leading axes of all."""
  if not isinstance(values, (tuple, list)):
    advice = "Write args=(target,) for one"
    raise TypeError(message(function, "args must be a tuple of arrays", type(values).__name__, advice))
  out = []
  for i, value in enumerate(values):
    a, batch = operand(function, i, value, batch, shape, everywhere)
    out.append(a)
  return tuple(out), batch


def operand(
  function: str, i: int, value: Any, batch: tuple[int, ...], shape: tuple[int, int], everywhere: int
) -> tuple[jax.Array, tuple[int, ...]]:
  """An array that broadcasts to ``(*batch, *shape)``, with two axes at least; and the leading axes of them all.

  ``everywhere`` are the columns of an operand of pairs, where ``shape`` is that of one device.
  """
  number = isinstance(value, (bool, int, float, complex))
  if not (number or (hasattr(value, "shape") and hasattr(value, "dtype"))):
    advice = "Convert it with jnp.asarray; let f close over what is no array"
    raise TypeError(message(function, f"args[{i}] must be an array or a number", type(value).__name__, advice))
  if not number:
    _numbers(function, f"args[{i}]", value)
  value = jnp.asarray(value)
  try:
    if value.shape[-2:] == (shape[0], everywhere):
      shape = (shape[0], everywhere)
    fits = np.broadcast_shapes(value.shape[-2:], shape) == shape
    leading_axes = np.broadcast_shapes(value.shape[:-2], batch)
  except ValueError:
    fits = False
  if not fits:
    raise error(
      function,
      f"args[{i}] must broadcast to the shape of the matrix",
      f"{value.shape} for {(*batch, *shape)}",
      "Give it (n, 1) for what belongs to points of x, (1, m) for points of y, (n, m) for pairs",
    )
  return value.reshape((1,) * max(2 - value.ndim, 0) + value.shape), leading_axes


Vector = tuple[jax.Array | None, tuple[int, ...]]  # and the leading axes that it and the points broadcast to


def values(function: str, value: Any, m: int, batch: tuple[int, ...]) -> Vector:
  """``(m,)`` or ``(..., m, k)``, or None."""
  if value is None:
    return None, batch
  array(function, "values", value)
  _numbers(function, "values", value)
  if not value.shape or value.shape[-2:][0] != m:
    shapes = "(m,) or (..., m, k), one entry or one row for each point that is summed over"
    advice = "Write values[..., None] for a batch of vectors" if value.shape[-1:] == (m,) else "Check its axes"
    raise error(function, f"values must have the shape {shapes}", f"{value.shape} for {m} points", advice)
  return _vector(function, "values", value, value.shape[:-2], batch)


def weights(function: str, value: Any, m: int, batch: tuple[int, ...]) -> Vector:
  """``(..., m)``, or None."""
  if value is None:
    return None, batch
  array(function, "weights", value)
  _numbers(function, "weights", value)
  if value.shape[-1:] != (m,):
    shape = "(..., m), one entry for each point that is summed over"
    raise error(function, f"weights must have the shape {shape}", f"{value.shape} for {m} points", "Check its axes")
  return _vector(function, "weights", value, value.shape[:-1], batch)


def _vector(function: str, name: str, value: Any, own: tuple[int, ...], batch: tuple[int, ...]) -> Vector:
  return jnp.asarray(value), leading(function, name, own, batch, f"{name} {value.shape} for matrices {(*batch, '...')}")


def _numbers(function: str, name: str, value: Any) -> None:
  # Not np.number alone: bfloat16 is none.
  if not (jnp.issubdtype(value.dtype, jnp.number) or value.dtype == np.bool_):
    raise TypeError(message(function, f"{name} must hold numbers", f"dtype {value.dtype}", "Convert it"))


def count(function: str, name: str, value: Any, most: int) -> None:
  """A static number of things, of which there are ``most``."""
  integer(function, name, value)
  if not 1 <= value <= most:
    expected = f"{name} must be at least 1, and at most the number of candidates"
    raise error(function, expected, f"{value} of {most}", f"Pass another {name}; no point counts as its own neighbour")


def positive(function: str, name: str, value: Any) -> None:
  """A static number of repetitions."""
  integer(function, name, value)
  if value < 1:
    raise error(function, f"{name} must be at least 1", str(value), f"Leave {name} out to have the default")


def block_size(function: str, value: Any) -> None:
  """Rows at a time, or None."""
  if value is None:
    return
  integer(function, "block_size", value)
  if value < 1:
    raise error(function, "block_size must be at least 1", str(value), "Leave it out to have one chosen")


def error(function: str, expected: str, got: str, advice: str) -> ValueError:
  return ValueError(message(function, expected, got, advice))


def integer(function: str, name: str, value: Any) -> None:
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
    advice = "It is a static number: a Python int, under jax.jit too"
    raise TypeError(message(function, f"{name} must be an integer", type(value).__name__, advice))


def array(function: str, name: str, x: Any) -> None:
  if not (hasattr(x, "shape") and hasattr(x, "dtype")):
    raise TypeError(
      message(
        function, f"{name} must be a JAX or NumPy array", type(x).__name__, f"Convert it with jnp.asarray({name})"
      )
    )


def leading(function: str, name: str, batch: tuple[int, ...], other: tuple[int, ...], got: str) -> tuple[int, ...]:
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
