"""The data of a problem of pairs, and the function of one pair: made once at the public function, handed down whole."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from jax_edm import _errors
from jax_edm._core.distance import Side
from jax_edm._core.points import PointSets

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


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, kw_only=True)
class Problem(PointSets):
  """Points, and what is summed over their pairs: ``f(D, *args)`` times values."""

  values: Array | None  # (..., m) or (..., m, k), the weights of a logsumexp; None: ones
  args: tuple[Array | None, ...]  # each (..., n or 1, m or 1); None on a ring, where another device has them
  closed_over: tuple[Array, ...]  # what f closes over; without batch or pairs
  row_max: Array | None  # (..., n), the scale of each row of a logsumexp, where it is known
  f: PairFunction = field(metadata={"static": True})
  columns: bool = field(metadata={"static": True})  # values have columns
  diagonal: bool = field(metadata={"static": True})  # the pair of a point with itself counts

  def roles(self) -> Any:
    closed_over = tuple("c" * c.ndim for c in self.closed_over)
    values, args = "md" if self.columns else "m", ("nm",) * len(self.args)
    return replace(super().roles(), values=values, args=args, closed_over=closed_over, row_max="n")

  # Of one member of a batch:

  @property
  def symmetric(self) -> bool:
    """``f(D)`` is the symmetric matrix of one set."""
    return self.all_rows and all(a is not None and a.shape == (1, 1) for a in self.args)

  def pair_mask(self) -> Array | None:
    mask = super().pair_mask()
    if self.diagonal or not self.one_set:
      return mask
    off = ~self.on_diagonal()
    return off if mask is None else mask & off

  def prepared(self) -> "Problem":
    prepared = super().prepared()
    if self.values is None or self.y_mask is None:
      return prepared
    exists = self.y_mask if self.values.ndim == 1 else self.y_mask[:, None]
    return replace(prepared, values=jnp.where(exists, self.values, jnp.zeros_like(self.values)))

  def rows(self) -> "Rows":
    """What belongs to rows."""
    n = self.x.shape[0]
    args = tuple(a if a is not None and a.shape[0] == n != 1 else None for a in self.args)
    assert self.sides is not None
    return Rows(self.sides[0], self.x_mask, self.row_max, args)

  def with_rows(self, rows: "Rows", start: Array | int) -> "Problem":
    """The problem of some of the rows, the first of which is ``start``."""
    args = tuple(a if own is None else own for a, own in zip(self.args, rows.args, strict=True))
    offset = None
    if self.one_set and not (self.row_offset is None and rows.side.x.shape == self.x.shape):
      offset = jnp.asarray(start if self.row_offset is None else start + self.row_offset)
    sides = None if self.sides is None else (rows.side, self.sides[1])
    own: Any = {"x": rows.side.x, "x_mask": rows.x_mask, "row_max": rows.row_max, "sides": sides}
    return replace(self, **own, args=args, row_offset=offset)

  def block(self, substitute: "Pair | None") -> tuple[Array, Array | None]:
    """``f`` of all pairs, and which of them exist; ``f`` sees ``substitute`` in the place of one that does not."""
    squared, mask = self.squared(), self.pair_mask()
    args = [a for a in self.args if a is not None]
    if mask is not None and substitute is not None:
      squared = jnp.where(mask, squared, substitute.squared)
      args = [jnp.where(mask, a, s) for a, s in zip(args, substitute.args, strict=True)]
    block = self.f.of_block(self._closed_over(substitute), squared, args)
    return (block.astype(int) if block.dtype == bool else block), mask

  def _closed_over(self, substitute: "Pair | None") -> list[Array]:
    """Without derivatives where no pair exists: then ``f`` sees numbers of our own choice."""
    if substitute is None:
      return list(self.closed_over)
    exists, inexact = substitute.exists, [jnp.issubdtype(c.dtype, jnp.inexact) for c in self.closed_over]
    return [
      jnp.where(exists, c, lax.stop_gradient(c)) if i else c for c, i in zip(self.closed_over, inexact, strict=True)
    ]


class Rows(NamedTuple):
  """What belongs to the rows of a problem, and is sliced with them."""

  side: Side
  x_mask: Array | None
  row_max: Array | None
  args: tuple[Array | None, ...]


class Pair(NamedTuple):
  """One pair, as ``f`` sees it."""

  squared: Array
  args: tuple[Array, ...]
  exists: Array  # a boolean


def substitute_pair(problem: Problem) -> Pair | None:
  """A pair that exists, which replaces those that do not before ``f`` sees them; None: all exist, or there is none.

  ``f`` has no singularity there that it does not have anyway. It might have one at a number of our own choice, which it
  sees where no pair exists at all.
  """
  n, m = problem.x.shape[0], problem.y.shape[0]
  all_exist = problem.x_mask is None and problem.y_mask is None and (problem.diagonal or not problem.one_set)
  if all_exist or 0 in (n, m):
    return None
  x_mask = jnp.ones(n, bool) if problem.x_mask is None else problem.x_mask
  y_mask = jnp.ones(m, bool) if problem.y_mask is None else problem.y_mask
  i = jnp.argmax(x_mask)
  if problem.one_set and not problem.diagonal:
    y_mask = y_mask & (jnp.arange(m) != i + (0 if problem.row_offset is None else problem.row_offset))
  j = jnp.argmax(y_mask)
  squared = jnp.square(problem.x[i] - problem.y[j]).sum()
  args = [a[jnp.minimum(i, a.shape[0] - 1), jnp.minimum(j, a.shape[1] - 1)] for a in problem.args if a is not None]
  exists = x_mask.any() & y_mask.any()
  pair = Pair(jnp.where(exists, squared, 1), tuple(jnp.where(exists, a, jnp.ones_like(a)) for a in args), exists)
  return lax.stop_gradient(pair)
