"""Sums of as many terms for each pair as there are coordinates or points, in loops that a CPU makes vectors of."""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
from jax import lax

from jax_edm._core.operations import column, row, take
from jax_edm._core.sizes import at_most, known

# Rows that one fused loop reads side by side. A first-level cache keeps eight where their length is a power of two.
CHUNK = 8
LONG = 2048  # terms that are added to one number

Arrays = tuple[jax.Array, ...]
Chunk = tuple[Arrays, Arrays]


def summed(term: Callable[..., jax.Array], rows: Arrays, columns: Arrays, whole: Arrays = ()) -> jax.Array:
  """``sum_k term(rows[:, k], ..., columns[k, :], ..., whole, ...)``, ``(n, p)``.

  ``rows`` are ``(n, q)``, ``columns`` are ``(q, p)`` and ``whole`` are ``(n, p)``; ``term`` takes each as ``(n, p)``.
  Long sums are sums of parts, each of which starts at zero: one number to which a million terms are added loses them.
  """
  q = rows[0].shape[1]
  part = partial(_summed, term, rows, columns, whole)
  if not known(q) or q <= LONG:
    return part(0, q)
  parts, rest = q // LONG, q % LONG
  first = rest or LONG
  total = part(0, first)
  return lax.fori_loop(0, parts if rest else parts - 1, lambda i, sums: sums + part(first + i * LONG, LONG), total)


def _summed(
  term: Callable[..., jax.Array], rows: Arrays, columns: Arrays, whole: Arrays, begin: Any, q: Any
) -> jax.Array:
  """The sum of ``q`` terms, from the one at ``begin`` on."""
  shape = rows[0].shape[0], columns[0].shape[1]
  size = CHUNK // len(columns) if known(q) else 1

  def of_chunk(chunk: Chunk) -> jax.Array:
    def at(k: int) -> jax.Array:
      of_rows = [column(take(a, k, 1), shape) for a in chunk[0]]
      return term(*of_rows, *(row(take(b, k, 0), shape) for b in chunk[1]), *whole)

    return reduce(lax.add, map(at, range(chunk[0][0].shape[1])))

  def cut(start: Any, size: int) -> Chunk:
    of_rows = tuple(lax.dynamic_slice_in_dim(a, begin + start, size, 1) for a in rows)
    return of_rows, tuple(lax.dynamic_slice_in_dim(b, begin + start, size, 0) for b in columns)

  first = q if at_most(q, CHUNK) else (q % size or size) if known(q) else 1  # the odd chunk, which starts the sum
  start = of_chunk(cut(0, first))
  if first is q:
    return start

  # A chunk is cut one step before it is added. XLA would fuse a cut with the sum that uses it at once, and read its
  # index from memory for each term; then LLVM makes no vectors.
  def step(i: Any, carry: tuple[jax.Array, Chunk]) -> tuple[jax.Array, Chunk]:
    sums, chunk = carry
    return sums + of_chunk(chunk), cut(first + (i + 1) * size, size)

  return lax.fori_loop(0, (q - first) // size, step, (start, cut(first, size)))[0]
