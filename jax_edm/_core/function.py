"""Functions of one pair, or of one distance: traced once, on scalars, at the public function."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from jax_edm import _errors

Array = jax.Array

SELECT = "select_n of integers"  # Pallas lowers it to what Triton's compiler refuses


@dataclass(frozen=True)
class PairFunction:
  """A function of one pair, ``f(D, *args)``; what it closes over is data, and comes first.

  Two of them are equal if they are the same program: a lambda that is written anew in every call is compiled once.
  """

  caller: str  # the public function, for messages
  # f, traced on scalars: of what it closes over, D and the arguments. It returns one number.
  jaxpr: Jaxpr = field(compare=False)
  program: tuple[Any, ...]  # the text of the jaxpr, and which constants and functions stand in it

  @classmethod
  def trace(
    cls, caller: str, f: Callable[..., Any], scalars: Sequence[Any]
  ) -> tuple["PairFunction", tuple[Array, ...]]:
    """The function, and what it closes over."""
    closed = jax.make_jaxpr(partial(_of_one_pair, caller, f))(*scalars)
    inner, names = closed.jaxpr, closed.jaxpr.debug_info.with_unknown_names()
    jaxpr = Jaxpr((), [*inner.constvars, *inner.invars], inner.outvars, inner.eqns, inner.effects, names)
    return cls.of(caller, jaxpr), tuple(map(jnp.asarray, closed.consts))

  @classmethod
  def of(cls, caller: str, jaxpr: Jaxpr) -> "PairFunction":
    """The function of a jaxpr without constants."""
    return PairFunction(caller, jaxpr, (str(jaxpr), tuple(_beside_the_text(jaxpr))))

  @property
  def dtype(self) -> Any:
    """That of the number which it returns."""
    return self.jaxpr.outvars[0].aval.dtype  # type: ignore[attr-defined]

  @property
  def holds_functions(self) -> bool:
    """Such as rules of derivatives: functions that JAX makes anew in every trace, so that no two programs are equal."""
    return _holds_functions(self.jaxpr)

  @property
  def operations(self) -> tuple[str, ...]:
    """What it does, by name."""
    return tuple(dict.fromkeys(_operations(self.jaxpr.eqns)))

  def converted(self, args: Sequence[Array]) -> list[Array]:
    """Arguments of the types of which ``f`` was traced; it closes over nothing."""
    types = [v.aval.dtype for v in self.jaxpr.invars[1:]]  # type: ignore[attr-defined]
    return [a.astype(dtype) for a, dtype in zip(args, types, strict=True)]

  def __call__(self, closed_over: Sequence[Array], squared: Array, args: Sequence[Array]) -> Array:
    """Of one pair."""
    return jnp.asarray(jaxpr_as_fun(ClosedJaxpr(self.jaxpr, ()))(*closed_over, squared, *args)[0], self.dtype)

  def of_block(self, closed_over: Sequence[Array], squared: Array, args: Sequence[Array]) -> Array:
    """Of all pairs of a block, ``(b, m)``; arguments ``(b, m)``, ``(b, 1)``, ``(1, m)`` or ``(1, 1)``."""
    by_rows, by_columns = ([0, *(0 if a.shape[k] != 1 else None for a in args)] for k in (0, 1))
    own = [a.reshape([size for size in a.shape if size != 1]) for a in args]
    of_row = jax.vmap(lambda squared, *args: self(closed_over, squared, args), by_columns)
    return jax.vmap(of_row, by_rows)(squared, *own)


@dataclass(frozen=True)
class UntracedPairFunction(PairFunction):
  """A function that is not traced in advance, but called in each block: in a ``shard_map`` with ``check_vma=True``,
  values have types that a jaxpr of scalars lacks.
  """

  f: Callable[..., Any]

  @classmethod
  def of_python(cls, caller: str, f: Callable[..., Any]) -> "UntracedPairFunction":
    nothing = jax.make_jaxpr(lambda: ())().jaxpr
    return cls(caller, nothing, (id(f),), f)

  def __call__(self, closed_over: Sequence[Array], squared: Array, args: Sequence[Array]) -> Array:
    return _of_one_pair(self.caller, self.f, squared, *args)


def _of_one_pair(caller: str, f: Callable[..., Any], *scalars: Any) -> Array:
  try:
    value = _errors.one_number(caller, f(*scalars))
    # A Python number has no precision of its own.
    weak = jax.typeof(value).weak_type and jnp.issubdtype(value.dtype, jnp.floating)
    return value.astype(jnp.result_type(value, scalars[0])) if weak else value
  except (TypeError, ValueError, IndexError) as e:
    if str(e).startswith(f"{caller}: "):
      raise
    if isinstance(e, (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError)):
      got = "a function that makes Python or NumPy numbers of what it gets, or decides by them"
      advice = "Write jnp.exp for np.exp and math.exp, and jnp.where for if"
      raise _errors.type_error(caller, "f must be written with jax.numpy", got, advice) from e
    reason = f"{type(e).__name__}, {str(e).splitlines()[0]}, when it is called with numbers"
    raise _errors.not_of_a_pair(caller, reason) from e


def _operations(equations: Sequence[Any]) -> Iterator[str]:
  """By name, those inside others included."""
  for equation in equations:
    if equation.primitive.name == "select_n" and equation.invars[0].aval.dtype != bool:
      yield SELECT
    yield equation.primitive.name
    for jaxpr in _inner(equation):
      yield from _operations(jaxpr.eqns)


def _beside_the_text(jaxpr: Jaxpr) -> list[Any]:
  """What the text of a jaxpr does not tell apart: weak types, arrays, and functions such as rules of derivatives."""
  found: list[Any] = [v.aval.weak_type for v in jaxpr.outvars]  # type: ignore[attr-defined]
  for equation in jaxpr.eqns:
    found += [v.aval.weak_type for v in equation.outvars if hasattr(v.aval, "weak_type")]
    literals: list[Any] = [v for v in equation.invars if isinstance(v, Literal)]
    found += [(v.aval.weak_type, _constant(np.asarray(v.val)) if np.ndim(v.val) else None) for v in literals]
    for p in _parameters(equation):
      if hasattr(p, "eqns") or hasattr(p, "jaxpr"):
        found += map(_constant, getattr(p, "consts", ()))
      else:
        found.append(p if isinstance(p, Hashable) else id(p))
    for inner in _inner(equation):
      found += _beside_the_text(inner)
  return found


def _holds_functions(jaxpr: Jaxpr) -> bool:
  functions = (callable(p) and not isinstance(p, type) for equation in jaxpr.eqns for p in _parameters(equation))
  return any(functions) or any(_holds_functions(inner) for equation in jaxpr.eqns for inner in _inner(equation))


def _constant(value: Any) -> Any:
  """NumPy arrays may change in place."""
  return (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else id(value)


def _inner(equation: Any) -> list[Any]:
  jaxprs = [getattr(p, "jaxpr", p) for p in _parameters(equation)]
  return [jaxpr for jaxpr in jaxprs if hasattr(jaxpr, "eqns")]


def _parameters(equation: Any) -> list[Any]:
  return jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr"))
