"""The points that SMACOF starts from: classical MDS of completed distances, and random ones."""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm._core.distance import Form, Side, dot, squared
from jax_edm._mds.forces import Pairs
from jax_edm._mds.gram import double_centred
from jax_edm._mds.subspace import largest_eigenvalues
from jax_edm._mds.sylvester import principal_points

PATH_BLOCK = 32  # points that shortest paths may pass from one loop over the matrix to the next


def starts(
  pairs: Pairs, fixed: jax.Array | None, initial: jax.Array | None, key: Any, wide: int, restarts: int
) -> jax.Array:
  """``(restarts, n, wide)``: the initial points or classical MDS, then normal points of the size of the targets.

  With fixed points every start has these where they are, and the first also has all rows of ``initial`` that are not
  NaN.
  """
  # A coordinate that is zero stays zero.
  given = None if initial is None else jnp.pad(initial, ((0, 0), (0, wide - initial.shape[1])))
  if given is None:
    first = from_distances(pairs, wide)
  elif fixed is None:
    first = given - given.mean(0)
  else:
    own = with_distances_of(given, fixed, pairs)
    known = fixed | ~jnp.isnan(given).any(1)
    first = jnp.where(known[:, None], given, moved_onto(from_distances(own, wide), given, known))
  if restarts == 1:
    return first[None]
  if fixed is None:
    size, centre = jnp.sqrt(mean_square(pairs) / (2 * wide)), jnp.zeros(wide, first.dtype)
  else:  # the targets may be short, and the points spread around the fixed ones
    size, centre = first.std(), first.mean(0)
  random = centre + size * jax.random.normal(key, (restarts - 1, *first.shape), first.dtype)
  if fixed is not None and given is not None:
    random = jnp.where(fixed[:, None], given, random)
  return jnp.concatenate([first[None], random])


def from_distances(pairs: Pairs, dim: int) -> jax.Array:
  """Classical MDS of the distances, with the lengths of shortest paths in the place of those that are missing."""
  B = double_centred(completed(pairs) ** 2)
  k = min(dim, B.shape[0])
  return jnp.pad(principal_points(B, largest_eigenvalues(B, k, exact=False)), ((0, 0), (0, dim - k)))


def completed(pairs: Pairs) -> jax.Array:
  """A distance for every pair: the target, or the middle between the bounds, where the upper one is at most the length
  of a shortest path along upper bounds.
  """
  lower, upper, w = pairs
  if upper is None:
    return shortest_path_completion(lower, w)
  lower = lower if w is None else jnp.where(w == 0, 0, lower)
  paths = shortest_path_completion(upper, w)
  longest = jnp.maximum(jnp.where(jnp.isinf(paths), 0, paths).max(), lower.max())
  return (lower + jnp.where(jnp.isinf(paths), longest, paths)) / 2


def mean_square(pairs: Pairs) -> jax.Array:
  """Of the targets."""
  w = pairs.weights
  if pairs.upper is not None:  # of all pairs, since those with bounds may be few
    return (completed(pairs) ** 2).mean()
  t = pairs.lower
  return (t**2).mean() if w is None else jnp.where(w == 0, 0, w * t**2).sum() / w.sum()


def with_distances_of(x: jax.Array, fixed: jax.Array, pairs: Pairs) -> Pairs:
  """The pairs, with the distances of fixed points from each other."""
  rows = jnp.where(fixed[:, None], x, 0)
  r = jnp.sqrt(squared(Form("difference", "difference"), (Side(rows), Side(rows))))
  both = fixed[:, None] & fixed
  lower, upper, w = pairs
  upper = None if upper is None else jnp.where(both, r, upper)
  return Pairs(jnp.where(both, r, lower), upper, None if w is None else jnp.where(both, 1, w))


def moved_onto(x: jax.Array, y: jax.Array, known: jax.Array) -> jax.Array:
  """``x``, moved, turned and mirrored so that its known points come to those of ``y``."""
  share = (known.astype(x.dtype) / known.sum().astype(x.dtype))[:, None]
  y = jnp.where(known[:, None], y, 0)
  centre_x, centre_y = (share * x).sum(0), (share * y).sum(0)
  u, _, vt = jnp.linalg.svd(dot((share * (x - centre_x)).T, y - centre_y))
  return dot(x - centre_x, dot(u, vt)) + centre_y


def shortest_path_completion(t: jax.Array, w: jax.Array | None) -> jax.Array:
  """``t``, with the lengths of shortest paths in the place of missing distances (Floyd and Warshall).

  Several points at a time are admitted to the paths: first to those that begin at one of them, then to all others, in
  one loop over the matrix.
  """
  if w is None:
    return t
  n = t.shape[0]
  return shortest_paths(jnp.where(jnp.eye(n, dtype=bool), 0, jnp.where(w == 0, jnp.inf, t)))


def shortest_paths(paths: jax.Array) -> jax.Array:
  """The lengths of shortest paths along edges of these lengths, with a zero diagonal, and infinity for no edge."""
  n = paths.shape[0]
  block = min(PATH_BLOCK, n)

  def shorter(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(b < a, b, a)  # one instruction of a CPU; jnp.minimum looks for NaN, too

  def admit(b: jax.Array, paths: jax.Array) -> jax.Array:
    start = jnp.minimum(b * block, n - block)  # a point may be admitted twice
    rows = lax.dynamic_slice_in_dim(paths, start, block)
    for k in range(block):
      rows = shorter(rows, lax.dynamic_index_in_dim(rows, start + k, 1) + rows[k])
    through = (row[:, None] + row for row in lax.optimization_barrier(rows))
    return reduce(shorter, through, paths)

  return lax.fori_loop(0, -(-n // block), admit, paths)
