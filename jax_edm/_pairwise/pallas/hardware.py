"""A sweep over all pairs of points as one kernel. Pallas is here alone, and imported where it is used.

Two routes lead to the hardware:

* ``mosaic``, for TPUs: the points that pass by are the last axis of the grid, which runs in order; sums stay on the
  chip, in the block of the output.
* ``triton``, for GPUs, where programs run in any order: each has one block of the points that receive and one chunk of
  coordinates, loops over all that pass by, and keeps the sums in registers.

A program writes nothing but what belongs to its own points: no race, and one order of additions.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as mosaic

from jax_edm._pairwise.pallas.tile import CHUNK, Side, Sweep, View, added

Route = Literal["mosaic", "triton"]
ROUTES: dict[str, Route] = {"tpu": "mosaic"}  # by platform
try:
  from jax.experimental.pallas import triton

  ROUTES["cuda"] = "triton"
except ImportError:  # JAX deprecates it since 0.11
  pass
# A and B of a tile, and warps on a GPU: guesses that compile; ``python -m benchmarks.kernels --sweep`` measures others.
SIDES: dict[Route, tuple[int, int]] = {"mosaic": (256, 256), "triton": (64, 64)}
WARPS = 4
LANES, TALL, MOST = 128, 512, 2048  # with more than TALL coordinates a tile has LANES; with more than MOST none fits
PRODUCT = 16  # triton's products want powers of two, and so much at least
MOST_COLUMNS = 256  # of values: with more, a tile's products do not fit
WIDTH = 64  # coordinates in one of its products


@contextmanager
def lowering() -> Iterator[None]:
  """From 0.11 on JAX warns that Triton will go. It still is the only route for kernels of this kind to a GPU."""
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated", DeprecationWarning)
    yield


@dataclass(frozen=True)
class On:
  """``Hardware``."""

  route: Route
  interpret: Any = False

  def chunks(self, d: int, products: bool) -> tuple[int, int]:
    """How many chunks of coordinates, and of how many each."""
    width = d if products or d <= CHUNK else CHUNK
    if products and self.route == "triton":
      width = min(max(pl.next_power_of_2(d), PRODUCT), WIDTH)
    return -(-d // width), width

  def columns(self, k: int) -> int:
    """Columns of values, filled up to what a product wants."""
    if self.route == "triton" and k > MOST_COLUMNS:
      raise ValueError(f"{k} columns of values, more than {MOST_COLUMNS}")
    return max(pl.next_power_of_2(k), PRODUCT) if self.route == "triton" and k > 1 else k

  def run(
    self, sweep: Sweep, receiving: Side, passing: Side, shared: Side, entries: Side, rows: bool
  ) -> list[jax.Array]:
    """The sums, ``(w, n)`` each; those of all chunks, if there are parts; the entries.

    Entries, given or written, have ``rows`` for the points that receive, or columns.
    """
    (d, n), m, (a, b) = receiving["points"].shape, passing["points"].shape[1], SIDES[self.route]
    if self.route == "mosaic" and d > TALL:
      if d > MOST:
        raise ValueError(f"{d} coordinates, more than {MOST}")
      a = b = min(a, LANES)
    across, along = n + -n % a, m + -m % b
    if along > m and "exists" not in passing:
      passing = passing | {"exists": jnp.ones((1, m), jnp.int32)}
    whole, block = ((across, along), (a, b)) if rows else ((along, across), (b, a))
    given = (
      {name: _padded(v, (v.shape[0], across)) for name, v in receiving.items()},
      {name: _padded(v, (v.shape[0], along)) for name, v in passing.items()},
      shared,
      {name: _padded(v, whole) for name, v in entries.items()},
    )
    heights = [w for w, _ in sweep.sums] + [sweep.chunks * sum(sweep.parts)] * bool(sweep.parts)

    def of_receiving(shape: tuple[int, ...]) -> pl.BlockSpec:
      return pl.BlockSpec((shape[0], a), lambda i, _: (0, i))

    def of_passing(shape: tuple[int, ...]) -> pl.BlockSpec:
      return pl.BlockSpec((shape[0], b), lambda _, j: (0, j))

    def of_pairs(_: tuple[int, ...]) -> pl.BlockSpec:
      return pl.BlockSpec(block, (lambda i, j: (i, j)) if rows else (lambda i, j: (j, i)))

    def of_chunk(shape: tuple[int, ...]) -> pl.BlockSpec:
      return pl.BlockSpec((shape[0] // sweep.chunks, a), lambda i, c: (c, i))

    if self.route == "mosaic":
      kernel: Any = _in_order
      specs: Any
      grid, specs, of_parts = (across // a, along // b), (of_receiving, of_passing, _whole, of_pairs), of_receiving
      parameters: Any = mosaic.CompilerParams(dimension_semantics=("parallel", "arbitrary"))
    else:
      kernel = _in_any_order
      grid, specs, of_parts = (across // a, sweep.chunks), (of_receiving, _whole, _whole, _whole), of_chunk
      parameters = triton.CompilerParams(num_warps=WARPS, num_stages=2)
    shapes = [(w, across) for w in heights] + [whole] * sweep.written
    to_sums = [(of_receiving if k < len(sweep.sums) else of_parts)((w, across)) for k, w in enumerate(heights)]
    out = pl.pallas_call(
      lambda *refs: kernel(sweep, (b, a), rows, along // b, *refs),
      grid=grid,
      in_specs=tuple({k: s(v.shape) for k, v in side.items()} for s, side in zip(specs, given, strict=True)),
      out_specs=to_sums + [specs[3](whole)] * sweep.written,
      out_shape=jax.eval_shape(lambda: [jnp.zeros(s, jnp.float32) for s in shapes]),
      compiler_params=parameters,
      interpret=self.interpret,
      name=f"edm_{sweep.name}",
    )(*given)
    last = len(heights)
    return [v[:, :n] for v in out[:last]] + [v[:n, :m] if rows else v[:m, :n] for v in out[last:]]


def _view(refs: Any, shape: tuple[int, int], rows: bool, i: Any, j: Any, at: Any, tile: Any) -> View:
  """``at`` is where the points that pass by stand in their references, ``tile`` where entries of pairs do."""
  receiving, passing, shared, entries = refs
  return View(
    shape=shape,
    starts=(j * shape[0], i * shape[1]),
    receiving=frozenset(receiving),
    passing=frozenset(passing),
    receives=lambda name, k=0, width=1: receiving[name][pl.ds(k, width), :],
    passes=lambda name, k=0, width=1: passing[name][pl.ds(k, width), at],
    shared={name: ref[...] for name, ref in shared.items()},
    entry={name: partial(_entry, ref, tile, rows) for name, ref in entries.items()},
  )


def _entry(ref: Any, tile: Any, turn: bool) -> jax.Array:
  return _turned(ref[tile], turn)


def _in_order(sweep: Sweep, shape: tuple[int, int], rows: bool, steps: int, *refs: Any) -> None:
  i, j = pl.program_id(0), pl.program_id(1)
  to_sums, to_chunks, to_entries = _parted(sweep, refs)
  made = sweep.tile(_view(refs[:4], shape, rows, i, j, slice(None), ...))

  @pl.when(j == 0)
  def start_sums() -> None:
    for ref, start in zip(to_sums, [start for _, start in sweep.sums], strict=True):
      ref[...] = jnp.full(ref.shape, start, jnp.float32)
    for ref in to_chunks:
      ref[...] = jnp.zeros(ref.shape, jnp.float32)

  for ref, a in zip(to_sums, sweep.merge([ref[...] for ref in to_sums], made.sums), strict=True):
    ref[...] = a

  def add_chunk(c: Any, _: Any) -> int:
    height = sum(sweep.parts)
    to_chunks[0][pl.ds(c * height, height), :] += jnp.concatenate(made.of_chunk(c), 0)
    return 0

  if to_chunks:
    lax.fori_loop(0, sweep.chunks, add_chunk, 0) if sweep.chunks > 1 else add_chunk(0, 0)
  for ref, a in zip(to_entries, made.entries, strict=True):
    ref[...] = _turned(a, rows)


def _in_any_order(sweep: Sweep, shape: tuple[int, int], rows: bool, steps: int, *refs: Any) -> None:
  i, c = pl.program_id(0), pl.program_id(1)
  to_sums, to_chunks, to_entries = _parted(sweep, refs)
  # What does not belong to a chunk of coordinates is the same for all of them.
  by_first = pl.when(c == 0) if sweep.chunks > 1 else lambda write: write()

  def step(j: Any, state: Any) -> Any:
    at, own = pl.ds(j * shape[0], shape[0]), pl.ds(i * shape[1], shape[1])
    tile = (own, at) if rows else (at, own)
    made = sweep.tile(_view(refs[:4], shape, rows, i, j, at, tile))

    def write() -> None:
      for ref, a in zip(to_entries, made.entries, strict=True):
        ref[tile] = _turned(a, rows)

    if to_entries:
      by_first(write)
    return list(sweep.merge(state[0], made.sums)), added(state[1], made.of_chunk(c))

  sums = [jnp.full((w, shape[1]), start, jnp.float32) for w, start in sweep.sums]
  parts = [jnp.zeros((w, shape[1]), jnp.float32) for w in sweep.parts]
  sums, parts = lax.fori_loop(0, steps, step, (sums, parts))

  def write_sums() -> None:
    for ref, a in zip(to_sums, sums, strict=True):
      ref[...] = a

  if to_sums:
    by_first(write_sums)
  for ref in to_chunks:
    for k, a in enumerate(parts):  # of one row each, or one part
      ref[pl.ds(k, a.shape[0]), :] = a


def _parted(sweep: Sweep, refs: Any) -> tuple[list[Any], list[Any], list[Any]]:
  """Those that are written: sums, chunks of coordinates, entries."""
  out, sums = list(refs[4:]), len(sweep.sums)
  last = len(out) - sweep.written
  return out[:sums], out[sums:last], out[last:]


def _whole(shape: tuple[int, ...]) -> pl.BlockSpec:
  return pl.BlockSpec(shape, lambda *_: (0, 0))


def _turned(a: jax.Array, turn: bool) -> jax.Array:
  return a.T if turn else a


def _padded(a: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  return jnp.pad(a, [(0, size - have) for have, size in zip(a.shape, shape, strict=True)])
