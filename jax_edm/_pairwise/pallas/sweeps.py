r"""Sums over all pairs and their derivatives, tile by tile: what is computed from a tile, whatever the backend.

=========== =============== ======================================================================
sweep       output side     result
=========== =============== ======================================================================
``total``   rows            ``sum_j f(D_ij) v_j``
``scaled``  rows            the largest ``f(D_ij) + log w_j``, and the sum of exponentials on that scale
``vjp``     rows or columns with ``C_ij = <g_i, v_j>`` and ``G = C df/dD``: ``2 sum_j G_ij (x_i - y_j)``, the rows of
                            ``2 P``, and sums of C times the derivatives of f in its arguments
=========== =============== ======================================================================

The cotangents of rows and of columns are two sweeps. For one set whose matrix is symmetric one sweep does for both,
with ``C + C'`` in the place of C. JAX differentiates f, on the tile; the rest of the derivative is by hand, and JAX
never differentiates a sweep. The points that do not exist have been replaced, and numbers have 32 bits at most.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm._core import distance
from jax_edm._core.linear import Arrays
from jax_edm._pairwise.pallas.backend import Backend
from jax_edm._pairwise.pallas.tile import Index, Inputs, SideReferences, Sweep, Tile, TileReferences, no_chunk
from jax_edm._pairwise.problem import Problem
from jax_edm._pairwise.reductions import finite, log_size

Array = jax.Array

LOWEST = float(jnp.finfo(jnp.float32).min)

dot = partial(distance.dot, preferred_element_type=jnp.float32)


def to_32_bits(a: Array) -> Array:
  """float32, or int32 for booleans too: what kernels read."""
  return a.astype(jnp.float32 if jnp.issubdtype(a.dtype, jnp.floating) else jnp.int32)


def total(problem: Problem, backend: Backend) -> Array:
  """``sum_j f(D_ij) v_j``, ``(n,)``, or ``(n, k)``."""
  tiles, values = _Tiles(problem, backend), problem.values

  def tile(refs: TileReferences) -> Tile:
    return Tile([tiles.weighted_sum(refs, tiles.masked(refs, tiles.f(*tiles.read(refs))), "values")])

  (out,) = tiles.run(Sweep("total", tile, [(backend.columns(_columns(values)), 0.0)], products=tiles.products))
  return out[0] if values is None or values.ndim == 1 else out[: _columns(values)].T


def scaled(problem: Problem, backend: Backend) -> tuple[Array, Array]:
  """The scale of each row, and the sum of its exponentials on that scale, both ``(n,)``; no f is minus infinity."""
  tiles = _Tiles(problem, backend)

  def tile(refs: TileReferences) -> Tile:
    exponents = tiles.masked(refs, tiles.f(*tiles.read(refs)), LOWEST)
    if problem.values is None:
      row_max = jnp.max(exponents, 0, keepdims=True)
      return Tile([row_max, jnp.sum(jnp.exp(exponents - finite(row_max)), 0, keepdims=True)])
    weights = refs.input_side.read("values").T
    size = log_size(weights, exponents)
    row_max = jnp.max(jnp.where(weights == 0, LOWEST, exponents + size), 0, keepdims=True)
    # The size of a weight is part of the exponent, so that nothing overflows; NaN without weight stays NaN.
    terms = jnp.where(weights < 0, -1.0, 1.0) * jnp.exp(exponents - finite(row_max) + size)
    terms = jnp.where((weights == 0) & (exponents == exponents), 0, terms)
    return Tile([row_max, jnp.sum(terms, 0, keepdims=True)])

  def merge(old: Arrays, new: Arrays) -> list[Array]:
    row_max = jnp.maximum(old[0], new[0])

    def on_scale(scale: Array, sums: Array) -> Array:
      """Zero where there was no term at all."""
      return sums * jnp.where(scale == LOWEST, 0, jnp.exp(finite(scale) - finite(row_max)))

    return [row_max, on_scale(*old) + on_scale(*new)]

  row_max, sums = tiles.run(Sweep("scaled", tile, [(1, LOWEST), (1, 0.0)], merge, products=tiles.products))
  return row_max[0], sums[0]


def vjp(problem: Problem, backend: Backend, g: Array, wanted: Sequence[str]) -> dict[str, Array]:
  """The cotangents of the arrays ``wanted``, by name, where ``g`` is that of ``total``: ``x``, ``y``, ``values``, args.

  If the rows are all points of one set, the cotangents of rows and of columns add up to that of ``x``.
  """
  rows = _Tiles(problem, backend, g)
  if problem.symmetric:
    return rows.vjp(wanted)
  of_rows = [name for name in wanted if name == "x" or rows.kinds.get(name, "m") != "m"]
  of_columns = [name for name in wanted if name not in of_rows or (name == "x" and problem.all_rows)]
  found = rows.vjp(of_rows) if of_rows else {}
  if of_columns:
    for name, cotangent in _Tiles(problem, backend, g, rows=False).vjp(of_columns).items():
      found[name] = found[name] + cotangent if name in found else cotangent
  return found


class _Tiles:
  """The tiles of a problem: the arrays that they read, and what is computed from them.

  ``g`` is the cotangent of the sums. ``rows``: the output side holds the rows of D; otherwise its columns.
  """

  def __init__(self, problem: Problem, backend: Backend, g: Array | None = None, rows: bool = True) -> None:
    self.problem, self.backend, self.g, self.rows = problem, backend, g, rows
    (n, self.d), m = problem.x.shape, problem.y.shape[0]
    self.args = {f"args[{i}]": a for i, a in enumerate(problem.args) if a is not None}
    self.kinds = {k: "n" * (a.shape[0] == n > 1) + "m" * (a.shape[1] == m > 1) for k, a in self.args.items()}
    self.products = problem.form.entries == "gram"
    self.chunks, self.width = backend.chunks(self.d, self.products)

  def run(self, sweep: Sweep) -> list[Array]:
    problem, symmetric = self.problem, self.problem.symmetric
    x, y = problem.x, problem.y
    if self.products:
      shift = distance.centre(y)
      x, y = x - shift, y - shift
    rows = self._side("n", x, problem.x_mask, self.g, problem.values if symmetric else None)
    columns = self._side("m", y, problem.y_mask, self.g if symmetric else None, problem.values)
    shared = self._args("")
    if problem.row_offset is not None:
      shared["row_offset"] = problem.row_offset.reshape(1, 1)
    sides = (rows, columns) if self.rows else (columns, rows)
    return self.backend.run(sweep, Inputs(*sides, shared, self._args("nm")))

  def f(self, squared: Array, *args: Array) -> Array:
    f = self.problem.f
    return f.of_block((), squared, f.converted(args)).astype(jnp.float32)

  def read(self, refs: TileReferences) -> list[Array]:
    """D, and a tile of each argument; they may hold anything where a point does not exist."""
    tiles = [self._squared(refs)]
    for name, arg in self.args.items():
      if name in refs.pairs:
        a = refs.read_pairs(name)
      elif name in refs.shared:
        a = refs.shared[name]
      elif name in refs.output_side:
        a = refs.output_side.read(name)
      else:
        a = refs.input_side.read(name).T
      a = jnp.broadcast_to(a, refs.shape)
      tiles.append(a != 0 if arg.dtype == bool else a)
    return tiles

  def masked(self, refs: TileReferences, a: Array, instead: float = 0) -> Array:
    """``instead`` where the pair does not count: one of its points does not exist, or it is left out."""

    def put(left_out: Array, a: Array) -> Array:
      return jnp.where(left_out, jnp.full(refs.shape, instead, a.dtype), a)

    masks = [refs.output_side.read("mask")] if "mask" in refs.output_side else []
    masks += [refs.input_side.read("mask").T] if "mask" in refs.input_side else []
    for mask in masks:
      a = put(jnp.broadcast_to(mask, refs.shape) == 0, a)
    return put(self._on_diagonal(refs), a) if self.problem.one_set and not self.problem.diagonal else a

  def weighted_sum(self, refs: TileReferences, block: Array, name: str) -> Array:
    """``sum_b w_b block_ba`` of each point a, with the weights of that name on the input side; or ones."""
    if name not in refs.input_side:
      return jnp.sum(block, 0, keepdims=True)
    if (k := _columns(self.g if name == "g" else self.problem.values)) == 1:
      return jnp.sum(block * refs.input_side.read(name).T, 0, keepdims=True)
    return dot(refs.input_side.read(name, 0, self.backend.columns(k)), block)

  def vjp(self, wanted: Sequence[str]) -> dict[str, Array]:
    """The cotangents of ``wanted``, by one sweep; points and values are those of the output side."""
    points, values = [k for k in wanted if k in ("x", "y")], [k for k in wanted if k == "values"]
    summed = [k for k in wanted if self.kinds.get(k, "nm") != "nm"]
    pairs = [k for k in wanted if self.kinds.get(k) == "nm"]

    def tile(refs: TileReferences) -> Tile:
      squared, *arguments = self.read(refs)
      block, cotangents = self._vjp_of_f(refs, squared, arguments, summed + pairs)
      sums = [jnp.sum(c, 0, keepdims=True) for c in cotangents[1 : 1 + len(summed)]]
      if values:
        sums.append(self.weighted_sum(refs, self.masked(refs, block), "g"))
      if not points:
        return Tile(sums, no_chunk, cotangents[1 + len(summed) :])
      # A pair that coincides contributes nothing.
      same = self._coincident(refs) if self.products else squared == 0
      weights = jnp.where(same, 0, 2 * cotangents[0])
      return Tile(sums, partial(self._weighted_differences, refs, weights), cotangents[1 + len(summed) :])

    sums = [(1, 0.0)] * len(summed) + [(self.backend.columns(_columns(self.g)), 0.0)] * len(values)
    of_chunk = ([self.width] if self.products else [1] * self.width) if points else []
    name = "vjp_rows" if self.rows else "vjp_columns"
    out = self.run(
      Sweep(
        name,
        tile,
        sums,
        chunks=self.chunks,
        chunk_sums=of_chunk,
        products=self.products,
        pairs=len(pairs),
        rows=self.rows,
      )
    )
    names = summed + values + points + pairs
    return {name: self._cotangent(name, a) for name, a in zip(names, out, strict=True)}

  def _vjp_of_f(
    self, refs: TileReferences, squared: Array, arguments: Arrays, wanted: Sequence[str]
  ) -> tuple[Array, list[Array]]:
    """``f``, and C times its derivatives in D and in the arguments ``wanted``."""
    args = dict(zip(self.args, arguments, strict=True))

    def of_wanted(squared: Array, *some: Array) -> Array:
      return self.f(squared, *(args | dict(zip(wanted, some, strict=True))).values())

    block, back = jax.vjp(of_wanted, squared, *(args[name] for name in wanted))
    return block, [self.masked(refs, c) for c in back(self.masked(refs, self._c(refs)))]

  def _c(self, refs: TileReferences) -> Array:
    """``C``, or ``C + C'`` where one sweep does for both sides."""
    if self.problem.symmetric:
      return self._product(refs, "g", "values") + self._product(refs, "values", "g")
    return self._product(refs, "g", "values") if self.rows else self._product(refs, "values", "g")

  def _product(self, refs: TileReferences, of_output_side: str, of_input_side: str) -> Array:
    if (k := self.backend.columns(_columns(self.g))) > 1:
      return dot(refs.input_side.read(of_input_side, 0, k).T, refs.output_side.read(of_output_side, 0, k))
    factors = [refs.output_side.read(of_output_side)] if of_output_side in refs.output_side else []
    factors += [refs.input_side.read(of_input_side).T] if of_input_side in refs.input_side else []
    return jnp.broadcast_to(factors[0] * factors[1] if len(factors) == 2 else factors[0], refs.shape)

  def _cotangent(self, name: str, a: Array) -> Array:
    """The result of a sweep, in the shape of the array of that name."""
    if name == "values":
      assert self.problem.values is not None
      return a[0] if self.problem.values.ndim == 1 else a[: _columns(self.g)].T
    if name not in self.kinds:  # points
      return a[: self.d].T
    if self.kinds[name] == "":  # a tile of C + C' has it twice
      return a.sum(1, keepdims=True) * (0.5 if self.problem.symmetric else 1)
    return a.T if self.kinds[name] == "n" else a

  def _side(self, kind: str, x: Array, mask: Array | None, g: Array | None, values: Array | None) -> dict[str, Array]:
    """What belongs to the points ``x``."""
    side = {"points": jnp.pad(x.T, ((0, self.chunks * self.width - self.d), (0, 0)))}
    if self.products:
      squares, keys = distance.squares_and_keys(x, int(kind == "m"))
      side |= {"squares": squares[None, :], **{f"key {k}": _bits(key)[None, :] for k, key in enumerate(keys)}}
    if mask is not None:
      side["mask"] = mask.astype(jnp.int32)[None, :]
    for name, a in (("g", g), ("values", values)):
      if a is not None:
        a = a[None, :] if a.ndim == 1 else a.T
        side[name] = jnp.pad(a.astype(jnp.float32), ((0, self.backend.columns(len(a)) - len(a)), (0, 0)))
    return side | {name: a.reshape(1, -1) for name, a in self._args(kind).items()}

  def _args(self, kind: str) -> dict[str, Array]:
    return {name: to_32_bits(a) for name, a in self.args.items() if self.kinds[name] == kind}

  def _coincident(self, refs: TileReferences) -> Array:
    """Of keys, which are made of the bits of the coordinates."""
    first, second = (refs.output_side.read(k) == refs.input_side.read(k).T for k in ("key 0", "key 1"))
    return first & second

  def _on_diagonal(self, refs: TileReferences) -> Array:
    sides = enumerate((refs.input_side, refs.output_side))
    column, row = (lax.broadcasted_iota(jnp.int32, refs.shape, axis) + side.start for axis, side in sides)
    if not self.rows:
      row, column = column, row
    if "row_offset" in refs.shared:
      row = row + refs.shared["row_offset"]
    return row == column

  def _squared(self, refs: TileReferences) -> Array:
    def of_chunk(c: Index) -> Array:
      if self.products:
        b, a = self._chunk(refs.input_side, c), self._chunk(refs.output_side, c)
        return dot(b.T, a)
      squares = [self._difference(refs, c * self.width + k) ** 2 for k in range(self.width)]
      return sum(squares[1:], start=squares[0])

    out = of_chunk(0)
    if self.chunks > 1:
      out = lax.fori_loop(1, self.chunks, lambda c, out: out + of_chunk(c), out)
    if not self.products:
      return jnp.where(self._on_diagonal(refs), 0, out) if self.problem.one_set else out
    # As ``distance.expanded`` has it, with the squares as a column and a row.
    of_input, of_output = refs.input_side.read("squares").T, refs.output_side.read("squares")
    error = (4 + self.d**0.5) * float(jnp.finfo(jnp.float32).eps)
    squared, squares = (of_input - out) + (of_output - out), of_input + of_output
    squared = jnp.where(squared == squared, squared, squares)
    zero = (squared < error * squares) | self._coincident(refs)
    return jnp.where(zero | self._on_diagonal(refs) if self.problem.one_set else zero, 0, squared)

  def _weighted_differences(self, refs: TileReferences, g: Array, c: Index) -> list[Array]:
    """``sum_b g_ba (a - b)``, for the coordinates of a chunk."""
    if self.products:
      b, a = self._chunk(refs.input_side, c), self._chunk(refs.output_side, c)
      return [a * jnp.sum(g, 0, keepdims=True) - dot(b, g)]
    return [jnp.sum(g * self._difference(refs, c * self.width + k), 0, keepdims=True) for k in range(self.width)]

  def _chunk(self, side: SideReferences, c: Index) -> Array:
    return side.read("points", c * self.width, self.width)

  def _difference(self, refs: TileReferences, k: Index) -> Array:
    return refs.output_side.read("points", k) - refs.input_side.read("points", k).T


def _bits(key: Array) -> Array:
  return lax.bitcast_convert_type(key, jnp.int32)


def _columns(a: Array | None) -> int:
  return 1 if a is None or a.ndim == 1 else a.shape[1]
