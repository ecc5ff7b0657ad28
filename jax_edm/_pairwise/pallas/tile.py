"""A tile of pairs, and a sweep over all of them: the words between what is computed and the hardware.

The points of one set *receive*, those of the other *pass by*. A tile is ``(B, A)``: the A points that receive lie along
its last axis, and what a point has is a column of an array ``(w, n)``, so that sums run over the first axis of a tile,
and no memory is lost on lanes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax

CHUNK = 8  # coordinates in one unrolled loop

Side = dict[str, jax.Array]  # what the points of a side have, (w, n) each


@dataclass(frozen=True)
class View:
  """A tile, as its kernel sees it."""

  shape: tuple[int, int]
  starts: tuple[Any, Any]  # the first of the points that pass by, and of those that receive
  receiving: frozenset[str]  # what the points have
  passing: frozenset[str]
  receives: Callable[..., jax.Array]  # (name, k, width) -> (width, A)
  passes: Callable[..., jax.Array]  # (name, k, width) -> (width, B)
  shared: dict[str, jax.Array]  # (1, 1) each
  entry: dict[str, Callable[[], jax.Array]]  # (B, A) each


def of_no_chunk(c: Any) -> list[jax.Array]:
  return []


class Tile(NamedTuple):
  """What is made of it."""

  sums: Sequence[jax.Array]  # (w, A) each
  of_chunk: Callable[[Any], list[jax.Array]] = of_no_chunk  # (w, A) each, for one chunk of coordinates
  entries: Sequence[jax.Array] = ()  # (B, A) each, to be written


def added(old: Sequence[jax.Array], new: Sequence[jax.Array]) -> list[jax.Array]:
  return [a + b for a, b in zip(old, new, strict=True)]


@dataclass(frozen=True)
class Sweep:
  """``tile`` of all tiles, merged for each point that receives."""

  name: str
  tile: Callable[[View], Tile]
  sums: Sequence[tuple[int, float]]  # their heights, and what they start from
  merge: Callable[..., Sequence[jax.Array]] = added
  chunks: int = 1  # of coordinates
  parts: Sequence[int] = ()  # the heights of the parts of a chunk
  written: int = 0  # entries of pairs


class Hardware(Protocol):
  def chunks(self, d: int, products: bool) -> tuple[int, int]: ...
  def columns(self, k: int) -> int: ...
  def run(
    self, sweep: Sweep, receiving: Side, passing: Side, shared: Side, entries: Side, rows: bool
  ) -> list[jax.Array]: ...
