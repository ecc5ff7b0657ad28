"""The right answers, in float64: by NumPy, and for sums over pairs by JAX, in blocks of rows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import sides

ROWS = 512  # of a block: a matrix in float64 would take a gigabyte


def exact_edm(x: np.ndarray) -> np.ndarray:
  wide = x.astype(np.float64)
  squares = np.square(wide).sum(-1)
  return np.maximum(squares[..., :, None] + squares[..., None, :] - 2 * wide @ np.swapaxes(wide, -1, -2), 0)


def exact_pull(x: np.ndarray, g: np.ndarray) -> np.ndarray:
  wide, both = x.astype(np.float64), g.astype(np.float64) + np.swapaxes(g, -1, -2)
  return 2 * (both.sum(-1)[..., None] * wide - both @ wide)


def exact_stress(x: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  error = exact_edm(x) - target
  return np.square(error).sum((-1, -2)), exact_pull(x, 2 * error)


def exact_energy(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  wide = x.astype(np.float64)
  squares = np.square(wide).sum(1)
  value, gradient = 0.0, np.empty_like(wide)
  for start in range(0, len(x), ROWS):
    rows = slice(start, start + ROWS)
    kernel = np.exp(2 * wide[rows] @ wide.T - squares[rows, None] - squares)
    value += kernel.sum()
    gradient[rows] = -4 * (kernel.sum(1)[:, None] * wide[rows] - kernel @ wide)
  return np.asarray(value), gradient


def exact_part_of_energy(x: np.ndarray, count: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
  """The sums of the first rows, and their gradient."""
  wide = x.astype(np.float64)
  rows, squares = wide[:count], np.square(wide).sum(1)
  kernel = np.exp(2 * rows @ wide.T - squares[:count, None] - squares)
  return kernel.sum(1), -4 * (kernel.sum(1)[:, None] * rows - kernel @ wide)


def exact_neighbours(x: np.ndarray, k: int) -> np.ndarray:
  wide = x.astype(np.float64)
  out = np.empty((len(x), k))
  for start in range(0, len(x), ROWS):
    squared = np.square(wide[start : start + ROWS]).sum(1)[:, None] + np.square(wide).sum(1)
    squared -= 2 * wide[start : start + ROWS] @ wide.T
    squared[np.arange(len(squared)), start + np.arange(len(squared))] = np.inf
    out[start : start + ROWS] = np.sort(np.partition(squared, k, 1)[:, :k], 1)
  return out


def exact_rows(f: Callable[..., jax.Array], sets: int, x: np.ndarray, *given: np.ndarray) -> Any:
  """Value and gradient of the sum over the rows of D of ``f(rows of D, *given)``.

  With two sets ``given`` starts with y. Matrices with a row for each point of x are cut with it. The gradient is with
  respect to x, or to x and y.
  """

  def total(x: jax.Array, *given: jax.Array) -> jax.Array:
    y, rest = (x, given) if sets == 1 else (given[0], given[1:])
    by_rows = [a.ndim == 2 and a.shape == (len(x), len(y)) for a in rest]

    @jax.checkpoint
    def of_block(block: tuple[jax.Array, ...]) -> jax.Array:
      cut = iter(block[1:])
      return f(sides.product(block[0], y), *(next(cut) if c else a for c, a in zip(by_rows, rest, strict=True))).sum()

    rows = min(ROWS, len(x))
    cut = [a.reshape(-1, rows, *a.shape[1:]) for a in (x, *(a for c, a in zip(by_rows, rest, strict=True) if c))]
    return jax.lax.map(of_block, tuple(cut)).sum()

  with jax.enable_x64(True):
    wide = [jnp.asarray(a, jnp.float64) for a in (x, *given)]
    out = jax.jit(jax.value_and_grad(total, argnums=0 if sets == 1 else (0, 1)))(*wide)
    return jax.tree.map(np.asarray, out)
