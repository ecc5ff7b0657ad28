"""Checks of what users pass, and the one form that an error message has.

Shapes and dtypes are known while JAX traces, so every check works the same under ``jax.jit``.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

REAL, NUMBERS = (jnp.floating, jnp.integer), (jnp.number, np.bool_)  # not np.number: bfloat16 is none
PYTHON_NUMBERS = (bool, int, float, complex)
RADIAL = "radial"  # takes a function of a distance; the others take functions of a squared distance

Batch = tuple[int, ...]  # the leading axes


def message(function: str, expected: str, got: str, advice: str) -> str:
  """``edm: x must be ... Got ... Do ...``: who, what was expected, what came, what to do."""
  return f"{function}: {expected}. Got {got}. {advice}."


def error(function: str, expected: str, got: str, advice: str) -> ValueError:
  return ValueError(message(function, expected, got, advice))


def type_error(function: str, expected: str, got: str, advice: str) -> TypeError:
  return TypeError(message(function, expected, got, advice))


def is_array(x: Any) -> bool:
  return isinstance(x, (jax.Array, np.ndarray, np.generic)) and not isinstance(x, np.ma.MaskedArray)


def _no_array(function: str, name: str, x: Any) -> TypeError:
  module, kind = type(x).__module__.split(".")[0], type(x).__name__
  got = "jax.Ref" if isinstance(x, jax.Ref) else kind if module == "builtins" else f"{module}.{kind}"
  return type_error(function, f"{name} must be a JAX or NumPy array", got, _how_to_convert(name, x))


def _how_to_convert(name: str, x: Any) -> str:
  if isinstance(x, jax.Ref):
    return f"Read it with {name}[...]"
  if isinstance(x, np.ma.MaskedArray):
    return f"Pass {name}.data, and where= with one boolean for each point"
  if isinstance(x, jax.ShapeDtypeStruct):
    return "Pass shapes to jax.eval_shape, or to the lower() of a jitted function"
  if hasattr(x, "todense"):
    return f"Convert it with {name}.todense()"
  if hasattr(x, "detach"):  # torch
    return f"Convert it with jnp.asarray({name}.numpy(force=True))"
  if is_array(getattr(x, "array", None)):  # units, representations of groups
    return f"Pass {name}.array"
  return f"Convert it with jnp.asarray({name})"


def array(
  function: str, name: str, x: Any, kinds: tuple[Any, ...], what: str = "hold numbers", advice: str = "Convert it"
) -> None:
  """An array with a dtype of one of these kinds."""
  if not is_array(x):
    raise _no_array(function, name, x)
  if isinstance(x, np.ndarray) and not x.dtype.isnative:
    advice = f'Convert it with {name}.astype({name}.dtype.newbyteorder("="))'
    raise type_error(function, f"{name} must have the byte order of this machine", f"dtype {x.dtype.str}", advice)
  if not any(jnp.issubdtype(x.dtype, kind) for kind in kinds):
    raise type_error(function, f"{name} must {what}", f"dtype {x.dtype}", advice)


def numbers_of_pairs(function: str, name: str, x: Any) -> None:
  """Real numbers, one for each pair: an array of any shape, or a Python number."""
  if not isinstance(x, PYTHON_NUMBERS[1:3]):
    array(function, name, x, REAL, "hold real numbers", "Convert it to a floating type")


def points(function: str, name: str, x: Any) -> None:
  """``(..., n, d)``, of a real number type."""
  advice = "Convert it to a floating type; a mask goes into where="
  if is_array(x) and jnp.issubdtype(x.dtype, jnp.complexfloating):
    advice = "Pass the real and imaginary parts as coordinates"
  array(function, name, x, REAL, "hold real numbers", advice)
  if not 8 <= jax.dtypes.itemsize_bits(x.dtype) <= 64:
    advice = f"Convert it with {name}.astype"
    raise type_error(function, f"{name} must be of 8 to 64 bits", f"dtype {x.dtype}", advice)
  if x.dtype == jnp.float8_e8m0fnu:
    advice = f"Convert it with {name}.astype"
    raise type_error(function, f"{name} must have a number type with zero and signs", f"dtype {x.dtype}", advice)
  if len(x.shape) < 2:
    expected = f"{name} must have the shape (..., number of points, number of coordinates)"
    advice = f"For points on a line use {name}[:, None], for a single point {name}[None, :]"
    raise error(function, expected, f"shape {x.shape}", advice)
  known(function, f"the number of coordinates of {name}", x.shape[-1])


def known(function: str, what: str, size: Any) -> None:
  """A size that is not a symbol of jax.export."""
  if not isinstance(size, int):
    advice = "Export a program for each number (docs/transformations.md lists what may be a symbol)"
    raise error(function, f"{what} must be known", f"the symbol {size} of jax.export", advice)


def pair(function: str, x: Any, y: Any) -> Batch:
  """Two sets that can be measured against each other; the leading axes of their matrices."""
  if x.shape[-1] != y.shape[-1]:
    got, advice = f"x {x.shape} and y {y.shape}", "Pad the shorter points, or drop a coordinate"
    raise error(function, "x and y must have the same number of coordinates", got, advice)
  try:
    jnp.promote_types(x.dtype, y.dtype)
  except (TypeError, ValueError):
    expected, got = "x and y must have dtypes that promote to each other", f"x {x.dtype} and y {y.dtype}"
    raise type_error(function, expected, got, "Convert one of them") from None
  return leading(function, "y", y.shape[:-2], x.shape[:-2])


def matched(function: str, x: Any, y: Any) -> None:
  """Two sets whose points belong together, one to one."""
  if x.shape[-2:] != y.shape[-2:]:
    got, advice = f"x {x.shape} and y {y.shape}", "Put matched points into the same row of both"
    raise error(function, "x and y must have the same numbers of points and coordinates", got, advice)
  if 0 in x.shape[-2:]:
    raise error(function, "there must be points to match", f"shape {x.shape}", "Pass one point and coordinate at least")
  pair(function, x, y)


def mask(function: str, name: str, where: Any, points_name: str, x: Any, batch: Batch) -> Batch:
  """``(..., n)`` booleans for the points ``x``, ``(..., n, d)``; the leading axes of the matrices."""
  what = f"be boolean, True where the point of {points_name} exists"
  array(function, name, where, (np.bool_,), what, f"Pass {name} != 0")
  if where.shape[-1:] != x.shape[-2:-1]:
    expected, got = f"{name} must have one entry for each point of {points_name}", f"{name} {where.shape}"
    raise error(function, expected, f"{got} and {points_name} {x.shape}", f"Give it the shape {x.shape[:-1]}")
  return leading(function, name, where.shape[:-1], batch)


def option(function: str, name: str, value: Any, words: tuple[str, str]) -> None:
  if not (value is None or (isinstance(value, str) and value in words)):
    expected = f'{name} must be None, "{words[0]}" or "{words[1]}"'
    raise error(function, expected, repr(value), "Leave it out to have it chosen for you")


def same_shape(function: str, name: str, value: Any, shape: tuple[int, ...], meaning: str) -> None:
  """An array of floating-point numbers that belongs to another one."""
  advice = f"Convert it with {name}.astype(x.dtype)"
  array(function, name, value, (jnp.floating,), "hold floating-point numbers", advice)
  if value.shape != shape:
    expected = f"{name} must have the shape of {meaning}"
    raise error(function, expected, f"{value.shape}, not {shape}", "Check its axes")


def function(name_of_caller: str, name: str, value: Any) -> None:
  if not callable(value):
    expected = f"{name} must be a function of a {'distance' if name_of_caller == RADIAL else 'squared distance'}"
    advice = f"Put {name} first: {name_of_caller}(lambda D: jnp.exp(-D), x)"
    if name_of_caller == RADIAL:
      advice = "Write radial(lambda r: jnp.exp(-r))(D)"
    raise type_error(name_of_caller, expected, type(value).__name__, advice)


def one_number(function: str, value: Any) -> jax.Array:
  """What ``f`` made of one pair."""
  if not (isinstance(value, PYTHON_NUMBERS) or is_array(value)):
    raise not_of_a_pair(function, type(value).__name__)
  value = jnp.asarray(value)
  if value.shape:
    raise not_of_a_pair(function, f"an array of shape {value.shape}")
  return value


def real_number(function: str, dtype: Any) -> None:
  """What ``f`` returns, where it is an exponent."""
  if jnp.issubdtype(dtype, jnp.complexfloating):
    raise type_error(function, "f must return a real number", f"dtype {dtype}", "Take the real part")


def not_of_a_pair(function: str, got: str) -> TypeError:
  expected = "f must return one number for each pair, of its squared distance and of its entry of each of args"
  advice = "Take sums over points with values=, or outside, and pass arrays of points or pairs in args="
  if function == RADIAL:
    expected = "f must return one number for each distance, of that and of the other arguments of the result"
    advice = "Pass arrays of pairs as arguments: radial(lambda r, a: a * jnp.exp(-r))(D, a)"
  return type_error(function, expected, got, advice)


def diagonal(function: str, value: Any, y: Any) -> None:
  if not isinstance(value, (bool, np.bool_)):
    raise type_error(function, "diagonal must be True or False", repr(value), "Pass a Python bool")
  if not value and y is not None:
    advice = "Leave y out, or mask the pairs with an argument of f"
    raise error(function, "diagonal=False needs one set of points", "two sets", advice)


def args(
  function: str, values: Any, batch: Batch, shape: tuple[int, int], everywhere: int
) -> tuple[tuple[jax.Array, ...], Batch]:
  """What ``f`` takes beside D: arrays of two axes at least that broadcast to ``(*batch, *shape)``; all leading axes.

  ``everywhere`` are the columns of an array of pairs, where ``shape`` is that of one device.
  """
  if not isinstance(values, (tuple, list)):
    raise type_error(function, "args must be a tuple of arrays", type(values).__name__, "Write args=(target,) for one")
  out = []
  for i, value in enumerate(values):
    if not (isinstance(value, PYTHON_NUMBERS) or hasattr(value, "shape")):
      advice = "Convert it with jnp.asarray; let f close over what is no array"
      raise type_error(function, f"args[{i}] must be an array or a number", type(value).__name__, advice)
    if not isinstance(value, PYTHON_NUMBERS):
      array(function, f"args[{i}]", value, NUMBERS)
    value = as_array(value)
    try:
      # A device has all columns of its rows, but only its own part of what belongs to points of y.
      of_pairs = value.shape[-2:-1] == shape[:1] != (1,) and value.shape[-1:] != (1,)
      own = (shape[0], everywhere) if of_pairs or value.shape[-2:] == (shape[0], everywhere) else shape
      fits = lax.broadcast_shapes(value.shape[-2:], own) == own
      batch = lax.broadcast_shapes(value.shape[:-2], batch)
    except (TypeError, ValueError):
      fits = False
    if not fits:
      expected, got = f"args[{i}] must broadcast to the shape of the matrix", f"{value.shape} for {(*batch, *shape)}"
      got += f" on a device, and {everywhere} columns on all" if everywhere != shape[1] else ""
      advice = "Give it (n, 1) for what belongs to points of x, (1, m) for points of y, (n, m) for pairs"
      raise error(function, expected, got, advice)
    out.append(value.reshape((1,) * max(2 - value.ndim, 0) + value.shape))
  return tuple(out), batch


def values(function: str, name: str, value: Any, m: int, batch: Batch, columns: bool) -> tuple[jax.Array | None, Batch]:
  """``(..., m)``, or ``(m,)`` or ``(..., m, k)`` with ``columns``; and the leading axes that it and the points have."""
  if value is None:
    return None, batch
  kinds, what = (NUMBERS, "hold numbers") if columns else ((*REAL, np.bool_), "hold real numbers")
  array(function, name, value, kinds, what)
  axes = 2 if columns else 1
  if value.shape[-axes:][:1] != (m,):
    shapes = "(m,) or (..., m, k), one entry or one row" if columns else "(..., m), one entry"
    advice = (
      f"Write {name}[..., None] for a batch of vectors" if columns and value.shape[-1:] == (m,) else "Check its axes"
    )
    expected = f"{name} must have the shape {shapes} for each point that is summed over"
    raise error(function, expected, f"{value.shape} for {m} points", advice)
  return as_array(value), leading(function, name, value.shape[:-axes], batch)


def as_array(value: Any) -> jax.Array:
  """Integers that JAX would wrap to 32 bits become floating-point numbers."""
  whole = isinstance(value, int) or (isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "iu")
  if whole and not jax.config.read("jax_enable_x64") and np.abs(np.asarray(value, float)).max(initial=0) >= 2**31:
    value = np.asarray(value, float)
  return jnp.asarray(value)


def integer(function: str, name: str, value: Any) -> None:
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
    advice = "It is a static number: a Python int, under jax.jit too"
    raise type_error(function, f"{name} must be an integer", type(value).__name__, advice)


def count(function: str, name: str, value: Any, most: Any) -> None:
  """A static number of things, of which there are ``most``, which may be a symbol."""
  integer(function, name, value)
  if value < 1 or (isinstance(most, int) and value > most):
    expected = f"{name} must be at least 1, and at most the number of candidates"
    raise error(function, expected, f"{value} of {most}", f"Pass another {name}; no point counts as its own neighbour")


def positive(function: str, name: str, value: Any) -> None:
  """A static number of repetitions, or of rows."""
  integer(function, name, value)
  if value < 1:
    raise error(function, f"{name} must be at least 1", str(value), f"Leave {name} out to have the default")


def number(function: str, name: str, value: Any) -> None:
  """One real number: of Python, or an array without axes."""
  of_python = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not of_python and not (is_array(value) and any(jnp.issubdtype(value.dtype, kind) for kind in REAL)):
    got = str(value.dtype) if is_array(value) else type(value).__name__
    raise type_error(function, f"{name} must be a real number", got, f"Leave {name} out to have the default")
  if jnp.shape(value):
    raise error(function, f"{name} must be one number", f"shape {jnp.shape(value)}", "Call it once for each of them")


def key(function: str, value: Any) -> None:
  """One key of ``jax.random``: a typed one, or its words."""
  typed = is_array(value) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
  if not typed and not (is_array(value) and value.dtype == np.uint32):
    got = f"an array of {value.dtype}" if is_array(value) else type(value).__name__
    raise type_error(function, "key must be a key of jax.random", got, "Pass key=jax.random.key(0)")
  if value.ndim != (0 if typed else 1):
    raise error(function, "key must be one key", f"shape {value.shape}", "Pass one of them")


def leading(function: str, name: str, own: Batch, batch: Batch) -> Batch:
  """The leading axes that the two broadcast to."""
  try:
    return lax.broadcast_shapes(own, batch)
  except (TypeError, ValueError):
    expected = f"the leading axes of {name} must broadcast against those of the points"
    advice = "Insert axes of length 1, or map one argument only with jax.vmap"
    raise error(function, expected, f"{own} and {batch}", advice) from None
