"""Kernels for GPUs, by Triton: programs run in any order.

Each has one block of the output side and one chunk of coordinates, loops over the whole input side, and keeps the sums
in registers.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jax_edm._core.function import SELECT
from jax_edm._core.linear import Arrays
from jax_edm._pairwise.pallas.backend import Backend, Layout, Shape, TileSize, Tiling, whole
from jax_edm._pairwise.pallas.tile import Index, Inputs, Sweep, add

PRODUCT = 16  # the sides of a product are powers of two, and at least this
WIDTH = 64  # the most coordinates in one product
PROGRAMS, MOST_SPLITS = 1024, 32  # that keep a GPU busy; of the input side
MOST_COLUMNS = 256  # of values; with more the products of a tile do not fit


@dataclass(frozen=True)
class Triton(Backend):
  # None: what was the fastest on an H100; ``python -m benchmarks.kernels --sweep`` measures others.
  size: TileSize | None = None
  lacks: ClassVar[tuple[str, ...]] = (SELECT,)

  def compiler_params(self, sweep: Sweep, d: int) -> triton.CompilerParams:
    return triton.CompilerParams(num_warps=self.size_for(sweep, d).warps, num_stages=2)

  def size_for(self, sweep: Sweep, d: int) -> TileSize:
    if self.size is not None:
      return self.size
    gradient, width = bool(sweep.chunk_sums), self.product_width(d) if sweep.products else 0
    if width == WIDTH:
      return TileSize(64, 16, 4) if gradient else TileSize(128, 64, 8)
    if gradient and not width:
      return TileSize(256, 16, 4)
    return TileSize(64, 32, 4) if gradient and width == 32 else TileSize(128, 32, 4)

  def tiling(self, sweep: Sweep, n: int, m: int, d: int) -> Tiling:
    """Of few points there are more programs if each has a part of the input side."""
    size = self.size_for(sweep, d)
    rows, columns = (-(-count // side) for count, side in ((n, size.a), (m, size.b)))
    splits = max(1, min(PROGRAMS // (rows * sweep.chunks), MOST_SPLITS, columns))
    splits = -(-columns // -(-columns // splits))  # no more than have something to do
    return Tiling.of((size.a, size.b), n, m, sweep.rows, splits)

  def product_width(self, d: int) -> int:
    return min(max(pl.next_power_of_2(d), PRODUCT), WIDTH)

  def columns(self, k: int) -> int:
    if k > MOST_COLUMNS:
      raise ValueError(f"{k} columns of values, more than {MOST_COLUMNS}")
    return max(pl.next_power_of_2(k), PRODUCT) if k > 1 else k

  @contextmanager
  def lowering(self) -> Iterator[None]:
    # From 0.11 on JAX warns that this backend will go. No other compiles kernels of this kind for GPUs.
    with warnings.catch_warnings():
      warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)
      yield

  def layout(self, sweep: Sweep, tiling: Tiling) -> Layout:
    a = tiling.shape[1]

    def output_side(shape: Shape) -> pl.BlockSpec:
      return pl.BlockSpec((shape[0], a), lambda i, c, s: (0, i))

    def sums(shape: Shape) -> pl.BlockSpec:
      return pl.BlockSpec((shape[0] // tiling.splits, a), lambda i, c, s: (s, i))

    def chunk(shape: Shape) -> pl.BlockSpec:
      height = shape[0] // (sweep.chunks * tiling.splits)
      return pl.BlockSpec((height, a), lambda i, c, s: (s * sweep.chunks + c, i))

    return Layout((tiling.counts[0], sweep.chunks, tiling.splits), output_side, whole, whole, whole, sums, chunk)

  def kernel(self, sweep: Sweep, tiling: Tiling, refs: Inputs, outputs: Sequence[jax.Ref]) -> None:
    i, c = pl.program_id(0), pl.program_id(1)
    steps = tiling.counts[1] // tiling.splits
    first = pl.program_id(2) * steps if tiling.splits > 1 else 0
    (b, a), (to_sums, to_chunk, to_pairs) = tiling.shape, sweep.split(outputs)
    # What does not belong to a chunk of coordinates is the same for all of them.
    once = pl.when(c == 0) if sweep.chunks > 1 else lambda write: write()

    def step(k: Index, state: tuple[Arrays, Arrays]) -> tuple[Arrays, Arrays]:
      j = first + k
      columns = pl.ds(j * b, b)
      at = tiling.as_pairs(pl.ds(i * a, a), columns)
      tile = sweep.tile(tiling.references(refs, i, j, columns, at))
      if to_pairs:
        once(lambda: tiling.write_pairs(to_pairs, at, tile.pairs))
      return sweep.merge(state[0], tile.sums), add(state[1], tile.of_chunk(c))

    def write_sums() -> None:
      for ref, total in zip(to_sums, sums, strict=True):
        ref[...] = total

    start = [jnp.full((w, a), value, jnp.float32) for w, value in sweep.sums]
    zeros = [jnp.zeros((w, a), jnp.float32) for w in sweep.chunk_sums]
    sums, chunk_sums = lax.fori_loop(0, steps, step, (start, zeros))
    if to_sums:
      once(write_sums)
    for ref in to_chunk:
      for k, total in enumerate(chunk_sums):  # one array, or several of one row each
        ref[pl.ds(k, total.shape[0]), :] = total
