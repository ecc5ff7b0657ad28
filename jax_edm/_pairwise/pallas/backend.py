"""What the two backends of Pallas share: arrays padded to whole tiles, and the call of the kernel.

A program of a kernel writes only what belongs to its own points. So there is no race, and one order of additions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from jax_edm._core.linear import Arrays
from jax_edm._pairwise.pallas.tile import Index, Inputs, Merge, SideReferences, Sweep, T, TileReferences, add

CHUNK = 8  # coordinates in one unrolled loop over differences

Shape = tuple[int, ...]
BlockOf = Callable[[Shape], pl.BlockSpec]  # the block of an array of that shape which a program has


class TileSize(NamedTuple):
  """A tile of a program on a GPU: all three are powers of two."""

  a: int  # points of the output side
  b: int  # of the input side
  warps: int


@dataclass(frozen=True)
class Tiling:
  """How the matrix of all pairs, padded to whole tiles, is cut into them."""

  shape: tuple[int, int]  # (B, A), that of a tile
  n: int  # points of the output side, padded
  m: int  # points of the input side, padded
  rows: bool  # the output side holds the rows of D
  splits: int = 1  # of the input side: each is summed by itself, and the sums are merged at the end

  @classmethod
  def of(cls, sides: tuple[int, int], n: int, m: int, rows: bool, splits: int = 1) -> "Tiling":
    """With the sides A and B, of sets of any size."""
    (a, b), step = sides, sides[1] * splits
    return cls((b, a), n + -n % a, m + -m % step, rows, splits)

  @property
  def counts(self) -> tuple[int, int]:
    """How many tiles lie along the output side and along the input side."""
    return self.n // self.shape[1], self.m // self.shape[0]

  def as_pairs(self, of_output_side: T, of_input_side: T) -> tuple[T, T]:
    """In the order of the axes of D."""
    return (of_output_side, of_input_side) if self.rows else (of_input_side, of_output_side)

  def pad(self, inputs: Inputs) -> Inputs:
    output_side, input_side, shared, pairs = inputs
    return Inputs(
      {name: _padded(a, (a.shape[0], self.n)) for name, a in output_side.items()},
      {name: _padded(a, (a.shape[0], self.m)) for name, a in input_side.items()},
      shared,
      {name: _padded(a, self.as_pairs(self.n, self.m)) for name, a in pairs.items()},
    )

  def references(self, refs: Inputs, i: Index, j: Index, columns: slice | pl.Slice, pairs_at: Any) -> TileReferences:
    """Those of tile j of the input side and i of the output side; ``columns`` are those of the input side."""
    b, a = self.shape
    input_side = SideReferences(refs.input_side, columns, j * b)
    output_side = SideReferences(refs.output_side, slice(None), i * a)
    shared = {name: ref[...] for name, ref in refs.shared.items()}
    return TileReferences(self.shape, output_side, input_side, shared, refs.pairs, pairs_at, self.rows)

  def write_pairs(self, refs: Sequence[jax.Ref], at: Any, results: Sequence[jax.Array]) -> None:
    for ref, entries in zip(refs, results, strict=True):
      ref[at] = entries.T if self.rows else entries


class Layout(NamedTuple):
  """The grid of programs, and which block of each kind of array a program has."""

  grid: tuple[int, ...]
  output_side: BlockOf
  input_side: BlockOf
  shared: BlockOf
  pairs: BlockOf
  sums: BlockOf  # of the arrays of sums
  chunks: BlockOf  # of the array for the sums of all chunks


@dataclass(frozen=True)
class Backend(ABC):
  """A compiler of kernels."""

  interpret: Any = False  # what ``pallas_call`` takes; in tests, where kernels run on any machine
  lacks: ClassVar[tuple[str, ...]] = ()  # operations of f that Pallas lowers, and the compiler behind it refuses

  @abstractmethod
  def compiler_params(self, sweep: Sweep, d: int) -> Any: ...

  @abstractmethod
  def layout(self, sweep: Sweep, tiling: Tiling) -> Layout: ...

  @abstractmethod
  def kernel(self, sweep: Sweep, tiling: Tiling, refs: Inputs, outputs: Sequence[jax.Ref]) -> None:
    """One program of the grid."""

  @abstractmethod
  def tiling(self, sweep: Sweep, n: int, m: int, d: int) -> Tiling:
    """For n points on the output side and m on the input side, with d coordinates."""

  def product_width(self, d: int) -> int:
    """How many of d coordinates are in one product."""
    return d

  def chunks(self, d: int, products: bool) -> tuple[int, int]:
    """How many chunks of coordinates there are, and how many coordinates are in each."""
    width = self.product_width(d) if products else min(d, CHUNK)
    return -(-d // width), width

  def columns(self, k: int) -> int:
    """How many columns k columns of values are padded to."""
    return k

  @contextmanager
  def lowering(self) -> Iterator[None]:
    """A context in which kernels are lowered."""
    yield

  def run(self, sweep: Sweep, inputs: Inputs) -> list[jax.Array]:
    """The sums, ``(w, n)`` each; the sums of all chunks, if there are such; the results with an entry for each pair."""
    (d, n), m = inputs.output_side["points"].shape, inputs.input_side["points"].shape[1]
    tiling = self.tiling(sweep, n, m, d)
    if tiling.m > m and "mask" not in inputs.input_side:
      inputs = inputs._replace(input_side=inputs.input_side | {"mask": jnp.ones((1, m), jnp.int32)})
    padded, layout = tiling.pad(inputs), self.layout(sweep, tiling)
    blocks = (layout.output_side, layout.input_side, layout.shared, layout.pairs)
    shapes = [(tiling.splits * w, tiling.n) for w in sweep.heights] + [
      tiling.as_pairs(tiling.n, tiling.m)
    ] * sweep.pairs
    blocks_out = zip((layout.sums, layout.chunks, layout.pairs), sweep.split(shapes), strict=True)
    out = pl.pallas_call(
      lambda refs, *outputs: self.kernel(sweep, tiling, refs, outputs),
      grid=layout.grid,
      in_specs=(
        Inputs(*({name: of(v.shape) for name, v in kind.items()} for of, kind in zip(blocks, padded, strict=True))),
      ),
      out_specs=[of(shape) for of, kind in blocks_out for shape in kind],
      out_shape=jax.eval_shape(lambda: [jnp.zeros(s, jnp.float32) for s in shapes]),
      compiler_params=self.compiler_params(sweep, d),
      interpret=self.interpret,
      name=f"edm_{sweep.name}",
    )(padded)
    sums, chunks, pairs = sweep.split(out)
    if tiling.splits > 1:
      sums, chunks = (_merged(f, a, tiling.splits) for f, a in ((sweep.merge, sums), (add, chunks)))
    p, q = tiling.as_pairs(n, m)
    return [v[:, :n] for v in (*sums, *chunks)] + [v[:p, :q] for v in pairs]


def _merged(merge: Merge, arrays: Arrays, splits: int) -> Sequence[jax.Array]:
  """The sums of all splits, in one order."""
  parts = [a.reshape(splits, -1, a.shape[1]) for a in arrays]
  if merge is add:
    return [a.sum(0) for a in parts]
  return reduce(merge, [[a[k] for a in parts] for k in range(splits)])


def whole(shape: Shape) -> pl.BlockSpec:
  return pl.BlockSpec(shape, lambda *_: (0, 0))


def _padded(a: jax.Array, shape: Shape) -> jax.Array:
  return jnp.pad(a, [(0, size - have) for have, size in zip(a.shape, shape, strict=True)])
