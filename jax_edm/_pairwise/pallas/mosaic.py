"""Kernels for TPUs, by Mosaic: the input side is the last axis of the grid, which runs in order.

Sums stay on the chip, in the block of the output that belongs to the points of the output side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu

from jax_edm._pairwise.pallas.backend import Backend, Layout, Shape, Tiling, whole
from jax_edm._pairwise.pallas.tile import Index, Inputs, Sweep

LANES = 128  # the least side of a tile
WIDEST = 512  # coordinates; with more of them a tile has the least sides
MOST = 2048  # coordinates; with more of them no tile fits on the chip


@dataclass(frozen=True)
class Mosaic(Backend):
  # A guess that compiles; ``python -m benchmarks.kernels --sweep`` measures other sides.
  sides: tuple[int, int] = (256, 256)

  def compiler_params(self, sweep: Sweep, d: int) -> tpu.CompilerParams:
    return tpu.CompilerParams(dimension_semantics=("parallel", "arbitrary"))

  def tiling(self, sweep: Sweep, n: int, m: int, d: int) -> Tiling:
    if d > MOST:
      raise ValueError(f"{d} coordinates, more than {MOST}")
    side = min(self.sides[0], LANES)
    return Tiling.of((side, side) if d > WIDEST else self.sides, n, m, sweep.rows)

  def layout(self, sweep: Sweep, tiling: Tiling) -> Layout:
    b, a = tiling.shape

    def output_side(shape: Shape) -> pl.BlockSpec:
      return pl.BlockSpec((shape[0], a), lambda i, j: (0, i))

    def input_side(shape: Shape) -> pl.BlockSpec:
      return pl.BlockSpec((shape[0], b), lambda i, j: (0, j))

    def pairs(shape: Shape) -> pl.BlockSpec:
      return pl.BlockSpec(tiling.as_pairs(a, b), lambda i, j: tiling.as_pairs(i, j))

    return Layout(tiling.counts, output_side, input_side, whole, pairs, output_side, output_side)

  def kernel(self, sweep: Sweep, tiling: Tiling, refs: Inputs, outputs: Sequence[jax.Ref]) -> None:
    i, j = pl.program_id(0), pl.program_id(1)
    sums, all_chunks, pairs = sweep.split(outputs)
    tile = sweep.tile(tiling.references(refs, i, j, slice(None), ...))

    @pl.when(j == 0)
    def start_sums() -> None:
      for ref, (_, start) in zip(sums, sweep.sums, strict=True):
        ref[...] = jnp.full(ref.shape, start, jnp.float32)
      for ref in all_chunks:
        ref[...] = jnp.zeros(ref.shape, jnp.float32)

    for ref, merged in zip(sums, sweep.merge([ref[...] for ref in sums], tile.sums), strict=True):
      ref[...] = merged

    def add_chunk(c: Index, _: int) -> int:
      height = sum(sweep.chunk_sums)
      all_chunks[0][pl.ds(c * height, height), :] += jnp.concatenate(tile.of_chunk(c), 0)
      return 0

    if all_chunks:
      lax.fori_loop(0, sweep.chunks, add_chunk, 0) if sweep.chunks > 1 else add_chunk(0, 0)
    tiling.write_pairs(pairs, ..., tile.pairs)
