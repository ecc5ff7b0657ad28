r"""Sums over all pairs and their gradients, tile by tile: what is made of a tile, wherever it is made.

==========  ===============  ========================================================================================
sweep       who receives     what
==========  ===============  ========================================================================================
``total``   rows             ``sum_j f(D_ij) v_j``
``scaled``  rows             the largest ``f(D_ij) + log w_j``, and the sum of the exponentials on that scale
``pull``    rows or columns  with ``C_ij = <g_i, v_j>`` and ``G = C df/dD``: ``2 sum_j G_ij (x_i - y_j)``, the rows of
                             2 P, and sums of C times the derivatives of f by the operands
==========  ===============  ========================================================================================

The two sides of a gradient are two sweeps. The gradient of one set whose matrix is symmetric is one, with ``C + C'``.
JAX takes the derivative of f, on the tile; the others are here by hand, and a sweep as a whole has none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm._core import distance
from jax_edm._core.distance import Form
from jax_edm._pairwise.pallas.tile import Hardware, Side, Sweep, Tile, View, of_no_chunk

LOWEST = float(jnp.finfo(jnp.float32).min)

dot = partial(distance.dot, preferred_element_type=jnp.float32)


class Arrays(NamedTuple):
  """Of one matrix of pairs, of 32 bits at most; points that do not exist have been filled."""

  first: Any  # (), the index among the columns of the first row; None: 0
  x: Any  # (n, d)
  y: Any  # (m, d); None: x
  where: Any  # (n,)
  exists: Any  # (m,); None where y is
  vector: Any  # (m,) or (m, k); None: ones
  operands: tuple[Any, ...]  # (1, 1), (n, 1), (1, m) or (n, m)


@dataclass(frozen=True)
class Pairs:
  """What is static."""

  caller: str  # for messages, as the next
  operations: tuple[str, ...]  # of f
  dtype: Any  # of what f returns
  f: Callable[..., jax.Array]  # of a tile of D, and of a tile of each operand
  form: Form
  hollow: bool  # where the row is the column D is zero, and has no derivative
  diagonal: bool  # whether such a pair counts
  symmetric: bool  # one set, and f(D) as D is

  def of_tile(self, *tiles: jax.Array) -> jax.Array:
    return self.f(*tiles).astype(jnp.float32)


def total(pairs: Pairs, on: Hardware, z: Arrays) -> jax.Array:
  """``(n,)``, or ``(n, k)``."""
  k = _columns(z.vector)
  problem = _Problem(pairs, on, z)

  def tile(view: View) -> Tile:
    return Tile([problem.sum(view, problem.present(view, pairs.of_tile(*problem.entries(view))), "vector")])

  (out,) = problem.run(Sweep("total", tile, [(on.columns(k), 0.0)]))
  return out[0] if z.vector is None or z.vector.ndim == 1 else out[:k].T


def scaled(pairs: Pairs, on: Hardware, z: Arrays) -> tuple[jax.Array, jax.Array]:
  """The scale of each row, and the sum of its exponentials on that scale, both ``(n,)``; no f is minus infinity."""
  problem = _Problem(pairs, on, z)

  def tile(view: View) -> Tile:
    exponents = terms = problem.present(view, pairs.of_tile(*problem.entries(view)), LOWEST)
    if z.vector is not None:
      weights = view.passes("vector").T
      exponents = jnp.where((weights == 0) & (exponents == exponents), LOWEST, exponents)  # NaN stays NaN
      terms = jnp.where(weights == 0, LOWEST, terms + jnp.log(jnp.where(weights == 0, 1, jnp.abs(weights))))
    top = jnp.max(terms, 0, keepdims=True)
    return Tile([top, problem.sum(view, jnp.exp(exponents - finite(top)), "vector")])

  def merge(old: Sequence[jax.Array], new: Sequence[jax.Array]) -> list[jax.Array]:
    top = jnp.maximum(old[0], new[0])

    def on_scale(scale: jax.Array, sums: jax.Array) -> jax.Array:  # of no term at all: nothing
      return sums * jnp.where(scale == LOWEST, 0, jnp.exp(finite(scale) - finite(top)))

    return [top, on_scale(*old) + on_scale(*new)]

  top, sums = problem.run(Sweep("scaled", tile, [(1, LOWEST), (1, 0.0)], merge))
  return top[0], sums[0]


def finite(top: jax.Array) -> jax.Array:
  """What is subtracted from the exponents of a row, of which the largest is ``top``."""
  return jnp.where((top > float(jnp.finfo(top.dtype).min)) & (top < jnp.inf), top, 0)


def pull(pairs: Pairs, on: Hardware, z: Arrays, g: jax.Array, wanted: Arrays) -> Arrays:
  """The cotangents of what is ``wanted``; None in the other places."""
  bars: dict[Any, jax.Array] = {}

  def add(name: Any, bar: jax.Array) -> None:
    bars[name] = bars[name] + bar if name in bars else bar

  problem = _Problem(pairs, on, z, g)
  across = wanted.x if z.y is None else wanted.y
  of_rows = [i for i, w in enumerate(wanted.operands) if w and problem.kinds[i] != "m"]
  of_columns = [i for i, w in enumerate(wanted.operands) if w and problem.kinds[i] == "m"]
  if pairs.symmetric:
    problem.pull(add, of_rows, "x" if wanted.x else None, wanted.vector)
  else:
    if wanted.x or of_rows:
      problem.pull(add, of_rows, "x" if wanted.x else None, False)
    if across or of_columns or wanted.vector:
      columns = _Problem(pairs, on, z, g, rows=False)
      columns.pull(add, of_columns, ("x" if z.y is None else "y") if across else None, wanted.vector)
  operands = tuple(bars.get(i) for i in range(len(z.operands)))
  return Arrays(None, bars.get("x"), bars.get("y"), None, None, bars.get("vector"), operands)


class _Problem:
  """The arrays of a sweep, and what its tiles have in common."""

  def __init__(self, pairs: Pairs, on: Hardware, z: Arrays, g: Any = None, rows: bool = True) -> None:
    self.pairs, self.on, self.z, self.g, self.rows = pairs, on, z, g, rows
    self.d = z.x.shape[1]
    n, m = z.x.shape[0], (z.x if z.y is None else z.y).shape[0]
    self.kinds = ["n" * (a.shape[0] == n > 1) + "m" * (a.shape[1] == m > 1) for a in z.operands]
    self.chunks, self.width = on.chunks(self.d, pairs.form.entries == "gram")

  def run(self, sweep: Sweep) -> list[jax.Array]:
    z, both = self.z, self.pairs.symmetric
    x, y = z.x, z.x if z.y is None else z.y
    if self.pairs.form.entries == "gram":
      shift = distance.centre(y)
      x, y = x - shift, y - shift
    rows = self._side(x, z.where, self.g, z.vector if both else None, "n")
    columns = self._side(y, z.where if z.y is None else z.exists, self.g if both else None, z.vector, "m")
    if not self.rows:  # the cotangents pass by, and the values receive
      rows, columns = columns, rows
    shared, entries = self._operands(""), self._operands("nm")
    if z.first is not None:
      shared["first"] = z.first.reshape(1, 1)
    return self.on.run(sweep, rows, columns, shared, entries, self.rows)

  def _side(self, x: jax.Array, exists: Any, g: Any, vector: Any, kind: str) -> Side:
    side = {"points": jnp.pad(x.T, ((0, self.chunks * self.width - self.d), (0, 0)))}
    if self.pairs.form.entries == "gram":
      side["squares"] = (x * x).sum(1)[None, :]
    if exists is not None:
      side["exists"] = exists.astype(jnp.int32)[None, :]
    for name, a in (("g", g), ("vector", vector)):
      if a is not None:
        a = a[None, :] if a.ndim == 1 else a.T
        side[name] = jnp.pad(a.astype(jnp.float32), ((0, self.on.columns(len(a)) - len(a)), (0, 0)))
    return side | {name: a.reshape(1, -1) for name, a in self._operands(kind).items()}

  def _operands(self, kind: str) -> Side:
    def plain(a: jax.Array) -> jax.Array:
      return a.astype(jnp.float32 if jnp.issubdtype(a.dtype, jnp.floating) else jnp.int32)

    return {_name(i): plain(a) for i, a in enumerate(self.z.operands) if self.kinds[i] == kind}

  def entries(self, view: View) -> list[jax.Array]:
    """D, and a tile of each operand; anything where there is no pair."""
    tiles = [self._off_diagonal(view, self._squared(view))]
    for i, operand in enumerate(self.z.operands):
      name = _name(i)
      if name in view.entry:
        a = view.entry[name]()
      elif name in view.shared:
        a = view.shared[name]
      else:
        a = view.receives(name) if name in view.receiving else view.passes(name).T
      a = jnp.broadcast_to(a, view.shape)
      tiles.append(a != 0 if operand.dtype == bool else a)
    return tiles

  def present(self, view: View, a: jax.Array, other: float = 0) -> jax.Array:
    """``other`` where one of the two points does not exist."""
    masks = [view.receives("exists")] if "exists" in view.receiving else []
    masks += [view.passes("exists").T] if "exists" in view.passing else []
    for mask in masks:
      a = jnp.where(jnp.broadcast_to(mask, view.shape) != 0, a, jnp.full(view.shape, other, a.dtype))
    if self.pairs.hollow and not self.pairs.diagonal:
      a = jnp.where(self._on_diagonal(view), jnp.full(view.shape, other, a.dtype), a)
    return a

  def sum(self, view: View, block: jax.Array, name: str) -> jax.Array:
    """``sum_b v_b block_ba``, where v is what the points that pass by have of that name; or ones."""
    if name not in view.passing:
      return jnp.sum(block, 0, keepdims=True)
    if (k := _columns(self.g if name == "g" else self.z.vector)) == 1:
      return jnp.sum(block * view.passes(name).T, 0, keepdims=True)
    return dot(view.passes(name, 0, self.on.columns(k)), block)

  def pull(self, add: Callable[[Any, jax.Array], None], operands: list[int], points: str | None, vector: bool) -> None:
    """Adds, by name, what a sweep over the tiles of ``C df`` gives."""
    summed = [i for i in operands if self.kinds[i] != "nm"]
    written = [i for i in operands if self.kinds[i] == "nm"]
    moving = summed + written

    def tile(view: View) -> Tile:
      squared, *own = self.entries(view)

      def of_moving(squared: jax.Array, *some: jax.Array) -> jax.Array:
        new = dict(zip(moving, some, strict=True))
        return self.pairs.of_tile(squared, *(new.get(i, a) for i, a in enumerate(own)))

      block, back = jax.vjp(of_moving, squared, *(own[i] for i in moving))
      pulled, *bars = (self.present(view, bar) for bar in back(self.present(view, self._cotangent(view))))
      sums = [jnp.sum(bar, 0, keepdims=True) for bar in bars[: len(summed)]]
      if vector:
        sums.append(self.sum(view, self.present(view, block), "g"))
      of_chunk = (
        partial(self._weighted_differences, view, 2 * self._off_diagonal(view, pulled)) if points else of_no_chunk
      )
      return Tile(sums, of_chunk, bars[len(summed) :])

    k = _columns(self.g)
    heights = [(1, 0.0)] * len(summed) + [(self.on.columns(k), 0.0)] * bool(vector)
    parts = [self.width] if self.pairs.form.entries == "gram" else [1] * self.width
    name = "pull_rows" if self.rows else "pull_columns"
    out = self.run(Sweep(name, tile, heights, chunks=self.chunks, parts=parts if points else (), written=len(written)))
    for i, bar in zip(summed, out, strict=False):
      if self.kinds[i] == "":  # a tile of C + C' has it twice
        bar = bar.sum(1, keepdims=True) * (0.5 if self.pairs.symmetric else 1)
      add(i, bar.T if self.kinds[i] == "n" else bar)
    out = out[len(summed) :]
    if vector:
      add("vector", out[0][0] if self.z.vector.ndim == 1 else out[0][:k].T)
      out = out[1:]
    if points:
      add(points, out[0][: self.d].T)
      out = out[1:]
    for i, bar in zip(written, out, strict=True):
      add(i, bar)

  def _cotangent(self, view: View) -> jax.Array:
    """``C``, or ``C + C'`` where one sweep does for both sides."""
    if self.pairs.symmetric:
      return self._product(view, "g", "vector") + self._product(view, "vector", "g")
    return self._product(view, "g", "vector") if self.rows else self._product(view, "vector", "g")

  def _product(self, view: View, receives: str, passes: str) -> jax.Array:
    if (k := self.on.columns(_columns(self.g))) > 1:
      return dot(view.passes(passes, 0, k).T, view.receives(receives, 0, k))
    parts = [view.receives(receives)] if receives in view.receiving else []
    parts += [view.passes(passes).T] if passes in view.passing else []
    return jnp.broadcast_to(parts[0] * parts[1] if len(parts) == 2 else parts[0], view.shape)

  def _off_diagonal(self, view: View, a: jax.Array) -> jax.Array:
    return jnp.where(self._on_diagonal(view), 0, a) if self.pairs.hollow else a

  def _on_diagonal(self, view: View) -> jax.Array:
    passing, receiving = (lax.broadcasted_iota(jnp.int32, view.shape, k) + start for k, start in enumerate(view.starts))
    row, column = (receiving, passing) if self.rows else (passing, receiving)
    if "first" in view.shared:
      row = row + view.shared["first"]
    return row == column

  def _squared(self, view: View) -> jax.Array:
    def of_chunk(c: Any) -> jax.Array:
      if self.pairs.form.entries == "gram":
        b, a = (read("points", c * self.width, self.width) for read in (view.passes, view.receives))
        return dot(b.T, a)
      squares = [self._difference(view, c * self.width + k) ** 2 for k in range(self.width)]
      return sum(squares[1:], start=squares[0])

    out = of_chunk(0)
    if self.chunks > 1:
      out = lax.fori_loop(1, self.chunks, lambda c, out: out + of_chunk(c), out)
    if self.pairs.form.entries != "gram":
      return out
    scale = view.receives("squares") + view.passes("squares").T
    return distance.expanded(scale, out, self.d)

  def _weighted_differences(self, view: View, g: jax.Array, c: Any) -> list[jax.Array]:
    """``sum_b g_ba (a - b)``, for the coordinates of a chunk."""
    if self.pairs.form.entries == "gram":
      b, a = (read("points", c * self.width, self.width) for read in (view.passes, view.receives))
      return [a * jnp.sum(g, 0, keepdims=True) - dot(b, g)]
    return [jnp.sum(g * self._difference(view, c * self.width + k), 0, keepdims=True) for k in range(self.width)]

  def _difference(self, view: View, k: Any) -> jax.Array:
    return view.receives("points", k) - view.passes("points", k).T


def _columns(a: Any) -> int:
  return 1 if a is None or a.ndim == 1 else a.shape[1]


def _name(i: int) -> str:
  return f"operand {i}"
