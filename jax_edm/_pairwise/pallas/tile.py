"""A tile of the matrix of pairs, and a sweep over all tiles: the interface between what is computed and the backends.

A sweep computes something for each point of one set, the *output side*, from its pairs with all points of the other
set, the *input side*. A tile has the shape ``(B, A)``: the A points of the output side lie along its last axis, so that
sums run over its first axis. What belongs to a point is a column of an array ``(w, n)``: the last axis of an array is
its long one, and wastes no lanes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import jax
from jax.experimental import pallas as pl

from jax_edm._core.linear import Arrays

Index = jax.Array | int
T = TypeVar("T")


class Inputs(NamedTuple):
  """What a sweep reads, by name: arrays, or, inside a kernel, the references to them."""

  output_side: dict[str, Any]  # (w, n) each, what belongs to the points of the output side
  input_side: dict[str, Any]  # (w, m) each
  shared: dict[str, Any]  # (1, 1) each, what belongs to all pairs
  pairs: dict[str, Any]  # one entry for each pair; the rows are those of D, on whichever side they are


@dataclass(frozen=True)
class SideReferences:
  """References to what belongs to the points on one side of a tile."""

  refs: dict[str, jax.Ref]  # by name
  columns: slice | pl.Slice  # those of the tile in each reference
  start: Index  # the index of the first point of the tile among all points of the side

  def __contains__(self, name: str) -> bool:
    return name in self.refs

  def read(self, name: str, k: Index = 0, width: int = 1) -> jax.Array:
    """``(width, A)`` on the output side, ``(width, B)`` on the input side: the rows from ``k`` on."""
    return self.refs[name][pl.ds(k, width), self.columns]


@dataclass(frozen=True)
class TileReferences:
  """References to everything that a tile reads."""

  shape: tuple[int, int]  # (B, A)
  output_side: SideReferences
  input_side: SideReferences
  shared: dict[str, jax.Array]  # (1, 1) each; values, not references
  pairs: dict[str, jax.Ref]
  pairs_at: Any  # where the tile lies in the references ``pairs``
  rows: bool  # the output side holds the rows of D

  def read_pairs(self, name: str) -> jax.Array:
    """``(B, A)``."""
    entries = self.pairs[name][self.pairs_at]
    return entries.T if self.rows else entries


def no_chunk(c: Index) -> list[jax.Array]:
  return []


class Tile(NamedTuple):
  """What is computed from one tile."""

  sums: Arrays  # (w, A) each
  of_chunk: Callable[[Index], list[jax.Array]] = no_chunk  # (w, A) each, by the number of a chunk of coordinates
  pairs: Arrays = ()  # (B, A) each, written as they are


Merge = Callable[[Arrays, Arrays], list[jax.Array]]


def add(old: Arrays, new: Arrays) -> list[jax.Array]:
  return [a + b for a, b in zip(old, new, strict=True)]


@dataclass(frozen=True)
class Sweep:
  """What is computed from all tiles, merged for each point of the output side."""

  name: str  # of the kernel
  tile: Callable[[TileReferences], Tile]
  sums: Sequence[tuple[int, float]]  # the height ``w`` of each sum, and the value from which it starts
  merge: Merge = add  # of the sums of tiles before with those of a tile
  chunks: int = 1  # of coordinates
  chunk_sums: Sequence[int] = ()  # the heights of the sums of a chunk; they start from zero and are added
  products: bool = False  # D is made by products
  pairs: int = 0  # results with an entry for each pair
  rows: bool = True  # the output side holds the rows of D; otherwise its columns

  @property
  def heights(self) -> list[int]:
    """Of all results that belong to points: the sums, and after them one array for the sums of all chunks."""
    chunks = [self.chunks * sum(self.chunk_sums)] if self.chunk_sums else []
    return [w for w, _ in self.sums] + chunks

  def split(self, results: Sequence[T]) -> tuple[Sequence[T], Sequence[T], Sequence[T]]:
    """The sums, the array for the sums of all chunks, if there is one, and the results with an entry for each pair."""
    first, last = len(self.sums), len(self.heights)
    return results[:first], results[first:last], results[last:]
