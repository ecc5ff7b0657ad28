"""The data of a problem of pairs: made once at the public function, and handed down whole."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm import _sharding
from jax_edm._core.distance import Side
from jax_edm._core.function import PairFunction, UntracedPairFunction
from jax_edm._core.points import PointSets

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, kw_only=True)
class Problem(PointSets):
  """Points, and what is summed over their pairs: ``f(D, *args)`` times values."""

  values: Array | None  # (..., m) or (..., m, k), the weights of a logsumexp; None: ones
  args: tuple[Array | None, ...]  # each (..., n or 1, m or 1); None on a ring, where another device has them
  closed_over: tuple[Array, ...]  # what f closes over; without batch or pairs
  row_max: Array | None  # (..., n), the scale of each row of a logsumexp, where it is known
  squared_cutoff: Array | None  # (...): pairs that are farther apart do not count; None: all do
  f: PairFunction = field(metadata={"static": True})
  columns: bool = field(metadata={"static": True})  # values have columns
  diagonal: bool = field(metadata={"static": True})  # the pair of a point with itself counts

  def roles(self) -> Any:
    closed_over = tuple("c" * c.ndim for c in self.closed_over)
    values, args = "md" if self.columns else "m", ("nm",) * len(self.args)
    return replace(super().roles(), values=values, args=args, closed_over=closed_over, row_max="n", squared_cutoff="")

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
    if self.squared_cutoff is not None:
      near = lax.stop_gradient(squared) <= self.squared_cutoff
      mask = near if mask is None else mask & near
    args = [a for a in self.args if a is not None]
    if mask is not None and substitute is not None:
      squared = jnp.where(mask, squared, substitute.squared)
      # What is one for all pairs stays one.
      masks = [substitute.exists if a.shape == (1, 1) else mask for a in args]
      args = [jnp.where(there, a, s) for there, a, s in zip(masks, args, substitute.args, strict=True)]
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
  sees where no pair exists at all. With a cutoff it sees no distance that is larger, and not the cutoff itself.
  """
  n, m = problem.x.shape[0], problem.y.shape[0]
  all_exist = problem.x_mask is None and problem.y_mask is None and (problem.diagonal or not problem.one_set)
  if (all_exist and problem.squared_cutoff is None) or 0 in (n, m):
    return None
  x_mask = jnp.ones(n, bool) if problem.x_mask is None else problem.x_mask
  y_mask = jnp.ones(m, bool) if problem.y_mask is None else problem.y_mask
  i = jnp.argmax(x_mask)
  if problem.one_set and not problem.diagonal:
    y_mask = y_mask & (jnp.arange(m) != i + (0 if problem.row_offset is None else problem.row_offset))
  j = jnp.argmax(y_mask)
  squared = jnp.square(problem.x[i] - problem.y[j]).sum()
  if problem.squared_cutoff is not None:
    squared = jnp.minimum(squared, problem.squared_cutoff / 2)
  args = [a[jnp.minimum(i, a.shape[0] - 1), jnp.minimum(j, a.shape[1] - 1)] for a in problem.args if a is not None]
  exists = x_mask.any() & y_mask.any()
  pair = Pair(jnp.where(exists, squared, 1), tuple(jnp.where(exists, a, jnp.ones_like(a)) for a in args), exists)
  return lax.stop_gradient(pair)


def pair_function(
  caller: str, f: Callable[..., Array], points: PointSets, args: tuple[Array, ...], kernel: bool
) -> tuple[PairFunction, tuple[Array, ...], bool]:
  """``f``, what it closes over, and whether that lies on Explicit axes."""
  arrays = (points.x, points.y, *args)
  # Kernels compute in 32 bits, whatever JAX is told; Python's numbers follow.
  with jax.enable_x64(bool(jax.config.read("jax_enable_x64")) and not kernel):
    types = [(jax.dtypes.canonicalize_dtype(a.dtype), jax.typeof(a).weak_type) for a in (points.x, *args)]
    scalars = [jax.ShapeDtypeStruct((), dtype, weak_type=weak) for dtype, weak in types]
    function, closed_over = PairFunction.trace(caller, f, scalars)
    if not _sharding.on_a_mesh(*arrays, *closed_over):
      return function, closed_over, False
    # The operations of a jaxpr know on which mesh they were traced, and a device of a shard_map is on another one.
    closed = _sharding.on_explicit_axes(*closed_over)
    if not kernel:
      return UntracedPairFunction.of_python(caller, f), (), closed
    with contextlib.nullcontext() if closed else _sharding.no_mesh():
      return *PairFunction.trace(caller, f, scalars), closed
