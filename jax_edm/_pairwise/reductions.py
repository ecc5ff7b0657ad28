r"""A reduction over all pairs, in blocks of rows, of tiles, or of what comes around a ring.

The rows of D come in blocks, ``(b, m)`` at a time, each reduced before the next one is made. A block is a call of the
rule of ``_rules`` inside ``jax.checkpoint``, so derivatives of every order and mode make their blocks anew and run
the hand-derived rule inside each; only ``n x d`` and ``m x d`` arrays live between them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm._pairwise import blocked
from jax_edm import _errors
from jax_edm._core import batching
from jax_edm._pairwise.pallas import rule
from jax_edm._core import distance
from jax_edm._pairwise import ring
from jax_edm._core import derivatives
from jax_edm._pairwise.pallas import sweeps
from jax_edm._core.distance import Form

Kind = Literal["sum", "logsumexp"]
Implementation = Literal["xla", "pallas"]


@dataclass(frozen=True)
class Stream:
  """What all devices do; ``f`` may close over traced values."""

  caller: str
  f: Callable[..., jax.Array]
  one_set: bool
  form: Form
  block_size: int | None
  kind: Kind
  columns: bool  # of values, ``(m, k)``
  travels: tuple[bool, ...]  # the operands that go with the columns around a ring
  implementation: Implementation = "xla"

  def of_rows(self, first: Any, *arrays: Any) -> jax.Array:
    """Reduced, for each member of the batch: of the rows from ``first`` on, against all; None: all rows."""
    return self._reduced(_sum if self.kind == "sum" else _logsumexp, first, None, *arrays)

  def around(self, axis_name: ring.Axis, *arrays: Any) -> jax.Array:
    """The same, where every device has a part of the rows and a part of the columns."""
    x, where, other, exists, vector, *operands = arrays
    n, m = x.shape[-2], other.shape[-2]
    everywhere = m * lax.axis_size(axis_name)
    own_operands = [None if t else a for a, t in zip(operands, self.travels, strict=True)]
    block = other, exists, vector, [a if t else None for a, t in zip(operands, self.travels, strict=True)]

    def visit(reduce: Reduce, source: jax.Array, own: Any, block: Any) -> jax.Array:
      (x, where, top, staying), (other, exists, vector, travelling) = own, block
      operands = [a if b is None else b for a, b in zip(staying, travelling, strict=True)]
      operands = [
        lax.dynamic_slice_in_dim(a, source * m, m, -1) if a.shape[-1] == everywhere != m else a for a in operands
      ]
      first = lax.axis_index(axis_name) * n - source * m if self.one_set else None
      return self._reduced(reduce, first, top, x, where, other, exists, vector, *operands)

    if self.kind == "sum":
      return ring.total(self.caller, partial(visit, _sum), axis_name, (x, where, None, own_operands), block)
    top = ring.fold(partial(visit, _top), axis_name, (x, where, None, own_operands), block, jnp.maximum)
    total = ring.total(self.caller, partial(visit, _total), axis_name, (x, where, top, own_operands), block)
    return _log(total, top)

  def _reduced(self, reduce: "Reduce", first: Any, top: Any, *arrays: Any) -> jax.Array:
    operands = arrays[5:]
    ranks = (0, 1, 2, 1, 2, 1, 2 if self.columns else 1, *(2 for _ in operands))
    given = (first, top, *arrays)
    one = partial(self._of_member, reduce, blocked.members(given, ranks))
    return batching.map_batch(one, given, ranks, "(p,q)" if self.columns else "(p)")

  def _of_member(
    self,
    reduce: "Reduce",
    batch: int,
    first: Any,
    top: Any,
    x: jax.Array,
    where: Any,
    other: jax.Array,
    exists: Any,
    vector: Any,
    *operands: jax.Array,
  ) -> jax.Array:
    n, m = x.shape[0], other.shape[0]
    if self.implementation == "pallas":
      return self._by_kernels(reduce, batch, first, top, x, where, other, exists, vector, *operands)
    # A function of the distance alone makes a symmetric matrix of one set: half of its tiles are enough.
    side = self.block_size or blocked.side_of_a_tile(n, batch)
    symmetric = self.one_set and first is None and reduce is _sum and all(a.shape == (1, 1) for a in operands)
    if symmetric and blocked.worth_tiles(n, side) and n > side:
      return self._in_tiles(side, x, where, vector, operands)
    block = self.block_size or (side if symmetric and n <= side else blocked.rows_in_a_block(n, m * batch))
    x, other = batching.replace_masked(x, where), batching.replace_masked(other, exists)
    vector = _existing(vector, exists)

    def rows(start: Any, own: Any) -> jax.Array:
      x, where, top, operands_with_rows = own
      squared = derivatives.edm(self.form, (x, other))
      if self.one_set:
        start = start if first is None else start + first
        squared = jnp.where(batching.diagonal(start, squared.shape), 0, squared)
      present = blocked.present(where, exists)
      own_operands = [a if own is None else own for own, a in zip(operands_with_rows, operands, strict=True)]
      return reduce(self._block(squared, present, own_operands), present, vector, top)

    sliced = [a if a.shape[0] == n > 1 else None for a in operands]
    return _of_existing(blocked.by_rows(rows, (x, where, top, sliced), block), where, reduce)

  def _by_kernels(self, reduce: "Reduce", batch: int, first: Any, top: Any, *arrays: Any) -> jax.Array:
    x, where, other, exists, vector, *operands = arrays
    operands = [rule.narrowed(a) for a in operands]
    rule.check(self.caller, x, other, *operands, *([] if vector is None else [vector]))
    x, other = batching.replace_masked(x, where), batching.replace_masked(other, exists)
    vector = _existing(vector, exists)
    if self.one_set and first is None:
      other = exists = None
    f, numbers, operations, dtype = rule.taken_apart(self.caller, self.f, operands)

    def with_operands(*operands: jax.Array) -> sweeps.Arrays:
      return sweeps.Arrays(first, x, other, where, exists, vector, operands)

    def pairs(f: Callable[..., jax.Array], z: sweeps.Arrays) -> sweeps.Pairs:
      symmetric = self.one_set and first is None and all(a.shape == (1, 1) for a in z.operands)
      return sweeps.Pairs(self.caller, operations, dtype, f, self.form, self.one_set, symmetric)

    def by_xla(reduce: Reduce, f: Callable[..., jax.Array], z: sweeps.Arrays, top: Any = None) -> jax.Array:
      body, given = replace(self, f=f, implementation="xla"), (z.first, top, z.x, z.where)
      second = (z.x, z.where) if z.y is None else (z.y, z.exists)
      return body._of_member(reduce, batch, *given, *second, z.vector, *z.operands)

    if reduce is _sum:
      z = with_operands(*operands, *numbers)
      out = rule.total(pairs(f, z), partial(by_xla, _sum, f), z)
      return _of_existing(out, where, _sum)
    sums = None
    if reduce is not _total:
      z = with_operands(*operands, *numbers)

      def top_and_total(z: sweeps.Arrays) -> list[jax.Array]:
        top = by_xla(_top, f, z)
        return [top, by_xla(_total, f, z, top)]

      exponents = pairs(lambda *tiles: _exponents(f(*tiles), None), z)
      top, sums = rule.scaled(exponents, top_and_total, z)
      if reduce is _top:
        return top
    weights = [] if vector is None else [vector[None, :]]

    def term(squared: jax.Array, top: jax.Array, *rest: jax.Array) -> jax.Array:
      weights, operands = (rest[0], rest[1:]) if vector is not None else (None, rest)
      exponents = _exponents(f(squared, *operands), None)
      # A sweep may round otherwise than the one that found the scale: at 1e30 the last digit is 1e23, whose exp is inf.
      above = exponents - sweeps.finite(top) + (0 if weights is None else jnp.log(jnp.abs(weights)))
      above = jnp.where((above > 0) & (above < jnp.inf), above, 0)
      return _exponentials(exponents - lax.stop_gradient(above), weights, top)

    z = with_operands(top[:, None], *weights, *operands, *numbers)
    total = rule.total(pairs(term, z), partial(by_xla, _sum, term), z, sums)
    return total if reduce is _total else _log(total, top)

  def _in_tiles(self, side: int, x: jax.Array, where: Any, vector: Any, operands: Sequence[jax.Array]) -> jax.Array:
    n, exists = x.shape[0], where
    if n % side:  # the last tile is filled up with points that do not exist
      x, exists, vector = blocked.padded((x, jnp.ones(n, bool) if where is None else where, vector), -n % side)
    x = batching.replace_masked(x, exists)
    vector = _existing(vector, exists)

    def tile(on_diagonal: bool, own: Any, across: Any) -> tuple[jax.Array, jax.Array]:
      (x, where, vector), (other, exists, vector_across) = own, across
      present = blocked.present(where, exists)
      block = self._block(derivatives.edm(self.form, (x,) if on_diagonal else (x, other)), present, operands)
      return _sum(block, present, vector_across), _sum_of_columns(block, present, vector)

    return _of_existing(blocked.by_tiles(tile, (x, exists, vector), side)[:n], where, _sum)

  def _block(self, squared: jax.Array, present: Any, operands: Sequence[jax.Array]) -> jax.Array:
    if present is not None:  # f and its derivatives never see what does not exist; the points are filled already
      operands = [jnp.where(present, a, jnp.ones_like(a)) for a in operands]
    block = _errors.elementwise(self.caller, "f", self.f(squared, *operands), squared.shape)
    return block.astype(int) if block.dtype == bool else block


# A block, the pairs of it that are present, values or weights, and the scale of each row, where one has been found.
Reduce = Callable[[jax.Array, Any, Any, Any], jax.Array]


def _existing(vector: Any, exists: Any) -> Any:
  """Zero for points that do not exist."""
  return vector if vector is None or exists is None else jnp.where(_along(exists, vector), vector, 0)


def _along(exists: jax.Array, a: jax.Array) -> jax.Array:
  return exists if a.ndim == 1 else exists[:, None]


def _of_existing(out: jax.Array, where: Any, reduce: Reduce) -> jax.Array:
  """Zero already, for sums; what stands in the cotangent of a missing row reaches nothing."""
  if where is None or reduce is not _sum:
    return out
  return jnp.where(_along(where, out), out, jnp.zeros_like(out))


def _sum(block: jax.Array, present: Any, values: Any, _: Any = None) -> jax.Array:
  return distance.dot(*_factors(block, present, values, 1))


def _sum_of_columns(block: jax.Array, present: Any, values: Any) -> jax.Array:
  """``_sum`` of the transposed block; ``(values' block)'`` is faster on a CPU (``distance.adjoint``)."""
  block, values = _factors(block, present, values, 0)
  sums = distance.dot(values.T, block)
  return sums if values.ndim == 1 else distance.transposed(sums)


def _factors(block: jax.Array, present: Any, values: Any, axis: int) -> list[jax.Array]:
  if present is not None:
    block = jnp.where(present, block, jnp.zeros_like(block))
  # A product with ones, not a sum: a CPU vectorises it, and makes the block once for a sum of rows and one of columns.
  return _wide(block, jnp.ones(block.shape[axis], block.dtype) if values is None else values)


def _logsumexp(block: jax.Array, present: Any, weights: Any, _: Any) -> jax.Array:
  top = _top(block, present, weights, None)
  return _log(_total(block, present, weights, top), top)


def _top(block: jax.Array, present: Any, weights: Any, _: Any) -> jax.Array:
  """The scale of each row: its largest term, weight included; no derivative."""
  block = lax.stop_gradient(_exponents(block, present))
  if weights is not None:  # what has no weight must not set the scale
    positive = jnp.where(weights == 0, 1, jnp.abs(lax.stop_gradient(weights)))
    block = jnp.where(weights == 0, float(jnp.finfo(block.dtype).min), block + jnp.log(positive))
  return block.max(1, initial=float(jnp.finfo(block.dtype).min))


def _total(block: jax.Array, present: Any, weights: Any, top: jax.Array) -> jax.Array:
  """The sum of exponentials on that scale."""
  terms = _exponentials(_exponents(block, present), weights, top[:, None])
  return terms.sum(1) if weights is None else distance.dot(*_wide(terms, weights))


def _exponentials(exponents: jax.Array, weights: Any, top: jax.Array) -> jax.Array:
  exponents = exponents - sweeps.finite(top)
  if weights is not None:
    # What has no weight must not overflow on the scale of the others. (Its weight has a derivative.)
    limit = float(np.log(jnp.finfo(exponents.dtype).max)) - 1
    exponents = jnp.where(weights == 0, jnp.minimum(exponents, limit), exponents)
  return jnp.exp(exponents)


def _log(total: jax.Array, top: jax.Array) -> jax.Array:
  # Selected before the logarithm: masked afterwards, an empty row's derivative is 0 / 0.
  empty = total == 0
  return jnp.where(empty, -jnp.inf, jnp.log(jnp.where(empty, 1, total)) + sweeps.finite(top))


def _exponents(block: jax.Array, present: Any) -> jax.Array:
  block = block.astype(jnp.promote_types(jnp.result_type(block.dtype, float), jnp.float32))
  if present is not None:
    block = jnp.where(present, block, -jnp.inf)
  # XLA computes f twice, for the maximum and for the exponents. Left to itself it fuses the last product of f and the
  # subtraction of the maximum into one operation that rounds once, and a large maximum minus itself is not zero. The
  # selection, which turns minus infinity into a number as good, stands between the two.
  lowest = float(jnp.finfo(block.dtype).min)
  return jnp.where(block < lowest, lowest, block)


def _wide(*arrays: jax.Array) -> list[jax.Array]:
  """All of one dtype; one that accumulates in float32 or wider, or of integers as ``jnp.sum`` does."""
  dtype = jnp.result_type(*arrays)
  if jnp.issubdtype(dtype, jnp.inexact):
    dtype = jnp.promote_types(dtype, jnp.float32)
  else:
    dtype = jax.eval_shape(jnp.sum, jax.ShapeDtypeStruct((), dtype)).dtype
  return [a.astype(dtype) for a in arrays]
