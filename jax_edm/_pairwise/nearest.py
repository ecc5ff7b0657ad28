"""The nearest points: a search without derivatives, in blocks of rows, and then the few distances that it found."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm import _errors, _sharding
from jax_edm._core.batching import dtypes, map_batch, with_all_digits
from jax_edm._core.edm import check, choose_form, point_sets
from jax_edm._core.points import PointSets
from jax_edm._core.sizes import known
from jax_edm._core.varying import unify_varying_axes
from jax_edm._pairwise import blocked, ring
from jax_edm._pairwise.near import nearest as near
from jax_edm._typing import ArrayLike, AxisName, Method

GROUP = 32  # entries of a row of which the smallest stands for all
SPARE = 8  # candidates beyond k where the entries carry the rounding error of a product


class Nearest(NamedTuple):
  """What :func:`nearest` returns, both ``(..., n, k)``."""

  squared: jax.Array
  indices: jax.Array


def nearest(
  x: ArrayLike,
  y: ArrayLike | None = None,
  *,
  k: int = 1,
  where: ArrayLike | None = None,
  where_y: ArrayLike | None = None,
  method: Method = None,
  block_size: int | None = None,
  axis_name: AxisName | None = None,
) -> Nearest:
  r"""The ``k`` points of ``y`` that are nearest to each point of ``x``: their squared distances and their indices.

  Shapes: ``n``, ``m`` points; ``d`` coordinates; ``...`` leading batch axes, which broadcast.

  Args:
    x: points, ``(..., n, d)``.
    y: points, ``(..., m, d)``; ``None`` stands for ``x`` itself, and then no point is its own neighbour.
    k: how many; at most ``m``, or ``n - 1`` for one set.
    where: ``(..., n)`` booleans: a missing point is nobody's neighbour, and has none.
    where_y: ``(..., m)`` booleans, the same for ``y``.
    method: how the search measures, as for :func:`jax_edm.edm`. With ``"gram"``, and with ``None`` above 6
      coordinates, the search carries the rounding error of products; ``k + 8`` candidates are measured again by
      differences before the ``k`` are chosen. That is enough but for clusters of more than ``k + 8`` points which are
      tight against their distance from the others: take ``"difference"`` for those.
    block_size: as for :func:`pairwise_sum`.
    axis_name: as for :func:`pairwise_sum`; the indices count the points of all devices, in the order of the mesh.

  Returns:
    ``Nearest(squared, indices)``, both ``(..., n, k)``, in ascending order, ties to the lower index. Where fewer than
    ``k`` points exist the distance is infinite and the index -1. Points that are not finite, or so far that
    the squared distance is not, come last.

  Raises:
    ValueError, TypeError: as :func:`jax_edm.edm`; a ``k`` below 1 or above the number of candidates.

  Derivatives: of the distances, all modes, all orders, through the chosen pairs only, at O(n k d); a choice has none.
  Coincident points have the gradient zero. Distances are ``safe_root(squared)``.

  Cost: of many points in up to 6 coordinates, with ``k`` up to 64 and float32, it follows the neighbours and not the
  pairs, with the same result (``docs/streaming.md``).

  Memory: ``O(block_size m + n k + (n + m) d)``.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import nearest
    >>> nearest(jnp.array([[0.0], [1.0], [3.0]]))
    Nearest(squared=Array([[1.],
           [1.],
           [4.]], dtype=float32), indices=Array([[1],
           [0],
           [1]], dtype=int32))
  """
  check("nearest", x, y, where, where_y, method)
  candidates: Any = x if y is None else y
  m = candidates.shape[-2] * _sharding.ring_size("nearest", axis_name)
  others = m - (y is None)
  _errors.count("nearest", "k", k, max(others, 0) if known(others) else others)
  if block_size is not None:
    _errors.positive("nearest", "block_size", block_size)
  return _nearest(with_all_digits(x), with_all_digits(y), where, where_y, k, method, block_size, axis_name)


@partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _nearest(
  x: Any, y: Any, where: Any, where_y: Any, k: int, method: Method, block_size: int | None, axis_name: AxisName | None
) -> Nearest:
  result, compute = dtypes(x, *([] if y is None else [y]))
  form = choose_form(method, blocked.TYPICAL, blocked.TYPICAL, x.shape[-1])
  points = point_sets(x, y, where, where_y, form, compute)
  search = Search(k, block_size, k + (SPARE if form.entries == "gram" else 0))

  def of_rows(row_offset: Any, *arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
    return search.of_rows(points.with_leaves(arrays, row_offset))

  def on_ring(*arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
    assert axis_name is not None
    return search.on_ring(points.with_leaves(arrays), axis_name)

  if axis_name is None:
    loops = near.pays(points, search.candidates)
    squared, indices = _sharding.shard_rows("nearest", of_rows, *points.leaves(), "nd", cut=True, loops=loops)
  else:
    squared, indices = _sharding.ring_map("nearest", on_ring, *points.leaves(), "nd", axis_name)
  return Nearest(squared.astype(result), indices)


@dataclass(frozen=True)
class Search:
  """A search for the ``k`` nearest points, which measures ``candidates`` again by differences."""

  k: int
  block_size: int | None
  candidates: int

  def of_rows(self, points: PointSets) -> tuple[jax.Array, jax.Array]:
    """The nearest of all columns, for each member of the batch."""
    batch = blocked.batch_size(points)

    def one(points: PointSets) -> tuple[jax.Array, jax.Array]:
      _, j = self._candidates(batch, lax.stop_gradient(points))
      return self._chosen(self._measured(batch, points, j), j)

    return points.map_batch(one, "(p,q),(p,q)")

  def on_ring(self, points: PointSets, axis_name: AxisName) -> tuple[jax.Array, jax.Array]:
    """The same, where every device has a part of the rows and a part of the columns."""
    n, m, batch = points.x.shape[-2], points.y.shape[-2], blocked.batch_size(points)
    local: Any = replace(points, y=None, y_mask=None)  # type: ignore[arg-type]
    travelling: Any = replace(points, x=None, x_mask=None)  # type: ignore[arg-type]

    def joined(owner: jax.Array, local: PointSets, travelling: PointSets) -> PointSets:
      offset = lax.axis_index(axis_name) * n - owner * m if points.one_set else None
      return replace(local, y=travelling.y, y_mask=travelling.y_mask, row_offset=offset)

    def search(owner: jax.Array, local: PointSets, travelling: PointSets) -> tuple[jax.Array, jax.Array]:
      squared, j = joined(owner, local, travelling).map_batch(partial(self._candidates, batch), "(p,q),(p,q)")
      spare = [(0, 0)] * (j.ndim - 1) + [(0, self.candidates - j.shape[-1])]
      squared = jnp.pad(squared, spare, constant_values=jnp.inf)
      return squared, jnp.pad(jnp.where(j < 0, -1, j + owner * m), spare, constant_values=-1)

    def better(*found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
      squared, j = lax.sort([jnp.concatenate(parts, -1) for parts in zip(*found, strict=True)], num_keys=2)
      return squared[..., : self.candidates], j[..., : self.candidates]

    def measure(owner: jax.Array, local: tuple[PointSets, jax.Array], travelling: PointSets) -> jax.Array:
      pairs, j = joined(owner, local[0], travelling), local[1] - owner * m
      (arrays, roles), there = pairs.leaves(), (j >= 0) & (j < m)

      def one(j: jax.Array, *arrays: jax.Array) -> jax.Array:
        return self._measured(batch, pairs.with_leaves(arrays), j)

      squared = map_batch(one, [j, *arrays], [2, *map(len, roles)], "(p,q)")
      return jnp.where(there, squared, 0)

    _, j = ring.fold(search, axis_name, local, travelling, better)
    squared = ring.total("nearest", measure, axis_name, (local, j), travelling)
    return map_batch(self._chosen, (squared, j), (2, 2), "(p,q),(p,q)")

  def _candidates(self, batch: int, points: PointSets) -> tuple[jax.Array, jax.Array]:
    """More candidates than ``k``, by the entries of D; -1 where there is none."""
    points = points.prepared()
    if near.pays(points, self.candidates):
      return near.candidates(points, self.candidates, partial(self._among_all, batch, points))
    return self._among_all(batch, points)

  def _among_all(self, batch: int, points: PointSets) -> tuple[jax.Array, jax.Array]:
    assert points.sides is not None
    # The candidates are measured again: what coincides need not be exact.
    of_rows, of_columns = (side._replace(keys=None) for side in points.sides)
    n, m = points.x.shape[0], points.y.shape[0]

    def search(start: jax.Array | int, rows: Any) -> tuple[jax.Array, jax.Array]:
      offset = start if points.row_offset is None else start + points.row_offset
      of_part: Any = {"x": rows[0].x, "x_mask": rows[1], "row_offset": jnp.asarray(offset)}
      part = replace(points, **of_part, sides=(rows[0], of_columns), one_set=False)  # no zero diagonal
      squared, pair_mask = _finite(part.squared()), part.pair_mask()
      if pair_mask is not None:
        squared = jnp.where(pair_mask, squared, jnp.inf)
      if points.one_set:
        squared = jnp.where(part.on_diagonal(), jnp.inf, squared)
      if not known(m):  # there may be fewer than there are candidates
        squared = jnp.pad(squared, ((0, 0), (0, self.candidates)), constant_values=jnp.inf)
      j = _smallest(squared, min(self.candidates, m) if known(m) else self.candidates)
      squared = jnp.take_along_axis(squared, j, 1)
      return squared, jnp.where(squared == jnp.inf, -1, j)

    block = self.block_size or blocked.rows_in_a_block(n, m * batch)
    return blocked.map_row_blocks(search, (of_rows, points.x_mask), block)

  def _measured(self, batch: int, points: PointSets, j: jax.Array) -> jax.Array:
    """Squared distances of the candidates, by differences; 0 where there is none."""
    points = points.with_finite_points()

    def measure(_: Any, rows: Any) -> jax.Array:
      x, j = rows
      there = ((j >= 0) & (j < points.y.shape[0]))[:, :, None]
      # Selected before the difference: what stands elsewhere reaches nothing.
      difference = x[:, None, :] - jnp.where(there, jnp.take(points.y, j, 0, mode="clip"), x[:, None, :])
      squared = (difference**2).sum(2)
      # A point that is not finite has no gradient, and gives none to those that it chose.
      finite = jnp.isfinite(difference)
      safe = (jnp.where(finite, difference, 0) ** 2).sum(2)
      return jnp.where(finite.all(2), safe, lax.stop_gradient(squared))

    block = blocked.rows_in_a_block(j.shape[0], j.shape[1] * points.x.shape[1] * batch)
    return blocked.map_row_blocks(measure, (points.x, j), block)

  def _chosen(self, squared: jax.Array, j: jax.Array) -> tuple[jax.Array, jax.Array]:
    squared = jnp.where(j < 0, jnp.inf, squared)
    key = jnp.where(j < 0, jnp.inf, _finite(lax.stop_gradient(squared)))
    position = lax.broadcasted_iota(jnp.int32, j.shape, 1)
    in_order = (key[:, 1:] > key[:, :-1]).all()  # as they mostly are, where the search measured by differences
    operands = unify_varying_axes((key, j, position))
    _, j, position = lax.cond(in_order, lambda: operands, lambda: tuple(lax.sort(operands, num_keys=2)))
    return jnp.take_along_axis(squared, position[:, : self.k], 1), j[:, : self.k]


def _finite(squared: jax.Array) -> jax.Array:
  """The largest number in place of infinity and NaN: after all others, and before what does not exist."""
  return jnp.where(squared < jnp.inf, squared, jnp.finfo(squared.dtype).max)


def _smallest(a: jax.Array, k: int) -> jax.Array:
  """The indices of the ``k`` smallest entries of each row, ties to the lower index.

  Of rows cut into groups, the k smallest entries lie in the k groups with the smallest minima: what is sorted is
  m / GROUP minima, and k GROUP candidates.
  """
  b, m = a.shape
  groups = -(-m // GROUP)
  if not known(m) or groups <= 2 * k:
    return lax.top_k(-a, k)[1]
  a = jnp.pad(a, ((0, 0), (0, groups * GROUP - m)), constant_values=jnp.inf).reshape(b, groups, GROUP)
  group = jnp.sort(lax.top_k(-a.min(2), k)[1], 1)  # sorted, so that the candidates keep the order of their indices
  found = lax.top_k(-jnp.take_along_axis(a, group[:, :, None], 1).reshape(b, k * GROUP), k)[1]
  return jnp.take_along_axis(group, found // GROUP, 1) * GROUP + found % GROUP
