"""The nearest points: a search without derivatives, in blocks of rows, and then the few distances that it found."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm._pairwise import blocked
from jax_edm import _errors
from jax_edm import _sharding
from jax_edm._core import batching
from jax_edm._core import edm as _edm
from jax_edm._pairwise import ring
from jax_edm._core import derivatives
from jax_edm._core.edm import Method
from jax_edm._core.distance import Form

GROUP = 32  # entries of a row of which the smallest stands for all
RANKS = (0, 2, 1, 2, 1)  # of the first row, and of the points and masks of one member of a batch
SPARE = 8  # candidates beyond k where the entries carry the rounding error of a product


class Nearest(NamedTuple):
  """What :func:`nearest` returns, both ``(..., n, k)``."""

  squared: jax.Array
  indices: jax.Array


def nearest(
  x: jax.Array,
  y: jax.Array | None = None,
  *,
  k: int = 1,
  where: jax.Array | None = None,
  where_y: jax.Array | None = None,
  method: Method = None,
  block_size: int | None = None,
  axis_name: str | tuple[str, ...] | None = None,
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
    ``k`` points exist the distance is infinite and the index -1. Points that are not finite come last.

  Raises:
    ValueError, TypeError: as :func:`jax_edm.edm`; a ``k`` below 1 or above the number of candidates.

  Derivatives: of the distances, all modes, all orders, through the chosen pairs only, at O(n k d); a choice has none.
  Coincident points have the gradient zero. Distances are ``safe_root(squared)``.

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
  _edm.check("nearest", x, y, where, where_y, method)
  m = (x if y is None else y).shape[-2] * _sharding.ring_size("nearest", axis_name)
  _errors.count("nearest", "k", k, max(m - (y is None), 0))
  _errors.block_size("nearest", block_size)
  return _nearest(x, y, where, where_y, k, _edm.choose_form(method, 10**6, 10**6, x.shape[-1]), block_size, axis_name)


@partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _nearest(
  x: jax.Array, y: Any, where: Any, where_y: Any, k: int, form: Form, block_size: int | None, axis_name: Any
) -> Nearest:
  result, compute = _edm.dtypes(x, *([] if y is None else [y]))
  x, other = x.astype(compute), (x if y is None else y).astype(compute)
  given = [(x, "nd"), (where, "n"), (other, "md"), (where if y is None else where_y, "m")]
  search = _Search(k, form, block_size, y is None)
  if axis_name is None:
    squared, indices = _sharding.by_rows("nearest", lambda _, *arrays: search.of_rows(*arrays), given, "nd", cut=True)
  else:
    squared, indices = _sharding.around(
      "nearest", lambda _, *arrays: search.around(axis_name, *arrays), given, "nd", axis_name
    )
  return Nearest(squared.astype(result), indices)


@dataclass(frozen=True)
class _Search:
  k: int
  form: Form
  block_size: int | None
  one_set: bool

  def of_rows(self, first: Any, *arrays: Any) -> tuple[jax.Array, jax.Array]:
    """The nearest of all, to the rows from ``first`` on, for each member of the batch; None: to all rows."""

    def one(first: Any, x: jax.Array, where: Any, other: jax.Array, exists: Any) -> tuple[jax.Array, jax.Array]:
      _, j = self._candidates(batch, first, *lax.stop_gradient((x, where, other, exists)))
      return self._chosen(self._measured(batch, x, where, j, other, exists), j)

    batch = blocked.members((first, *arrays), RANKS)
    return batching.map_batch(one, (first, *arrays), RANKS, "(p,q),(p,q)")

  def around(self, axis_name: Any, *arrays: Any) -> tuple[jax.Array, jax.Array]:
    """The same, where every device has a part of the rows and a part of the columns."""
    x, where, other, exists = arrays
    n, m, batch = x.shape[-2], other.shape[-2], blocked.members((None, *arrays), RANKS)

    def search(source: jax.Array, own: Any, block: Any) -> tuple[jax.Array, jax.Array]:
      first = lax.axis_index(axis_name) * n - source * m if self.one_set else None
      given, search = (first, *own, *block), partial(self._candidates, batch)
      squared, j = batching.map_batch(search, given, RANKS, "(p,q),(p,q)")
      spare = [(0, 0)] * (j.ndim - 1) + [(0, self._most - j.shape[-1])]
      squared = jnp.pad(squared, spare, constant_values=jnp.inf)
      return squared, jnp.pad(jnp.where(j < 0, -1, j + source * m), spare, constant_values=-1)

    def better(*found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
      squared, j = (jnp.concatenate(parts, -1) for parts in zip(*found, strict=True))
      squared, j = lax.sort((squared, j), num_keys=2)
      return squared[..., : self._most], j[..., : self._most]

    def measure(source: jax.Array, own: Any, block: Any) -> jax.Array:
      (x, where, j), (other, exists) = own, block
      j = j - source * m
      given, ranks = (x, where, j, other, exists), (2, 1, 2, 2, 1)
      squared = batching.map_batch(partial(self._measured, batch), given, ranks, "(p,q)")
      return jnp.where((j >= 0) & (j < m), squared, 0)

    _, j = ring.fold(search, axis_name, (x, where), (other, exists), better)
    squared = ring.total("nearest", measure, axis_name, (x, where, j), (other, exists))
    return batching.map_batch(self._chosen, (squared, j), (2, 2), "(p,q),(p,q)")

  @property
  def _most(self) -> int:
    return self.k + (SPARE if self.form.entries == "gram" else 0)

  def _candidates(
    self, batch: int, first: Any, x: jax.Array, where: Any, other: jax.Array, exists: Any
  ) -> tuple[jax.Array, jax.Array]:
    """Some more than the nearest, as the entries see it, and -1 where there are none."""
    x, other = batching.replace_masked(x, where), batching.replace_masked(other, exists)

    def search(start: jax.Array | int, own: Any) -> tuple[jax.Array, jax.Array]:
      x, where = own
      squared = _finite(derivatives.edm(self.form, (x, other)))
      present = blocked.present(where, exists)
      if present is not None:
        squared = jnp.where(present, squared, jnp.inf)
      if self.one_set:
        start = start if first is None else start + first
        squared = jnp.where(batching.diagonal(start, squared.shape), jnp.inf, squared)
      j = _smallest(squared, min(self._most, other.shape[0]))
      squared = jnp.take_along_axis(squared, j, 1)
      return squared, jnp.where(squared == jnp.inf, -1, j)

    block = self.block_size or blocked.rows_in_a_block(x.shape[0], other.shape[0] * batch)
    return blocked.by_rows(search, (x, where), block)

  def _measured(self, batch: int, x: jax.Array, where: Any, j: jax.Array, other: jax.Array, exists: Any) -> jax.Array:
    """Squared distances of the candidates, by differences; 0 where there is none."""
    x, other = batching.replace_masked(x, where), batching.replace_masked(other, exists)

    def measure(_: Any, own: Any) -> jax.Array:
      x, j = own
      there = ((j >= 0) & (j < other.shape[0]))[:, :, None]
      # Selected before the difference: what stands elsewhere reaches nothing.
      return ((x[:, None, :] - jnp.where(there, jnp.take(other, j, 0, mode="clip"), x[:, None, :])) ** 2).sum(2)

    return blocked.by_rows(measure, (x, j), blocked.rows_in_a_block(x.shape[0], j.shape[1] * x.shape[1] * batch))

  def _chosen(self, squared: jax.Array, j: jax.Array) -> tuple[jax.Array, jax.Array]:
    squared = jnp.where(j < 0, jnp.inf, squared)
    key = jnp.where(j < 0, jnp.inf, _finite(lax.stop_gradient(squared)))
    position = lax.broadcasted_iota(jnp.int32, j.shape, 1)
    _, j, position = lax.sort((key, j, position), num_keys=2)
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
  if groups <= 2 * k:
    return lax.top_k(-a, k)[1]
  a = jnp.pad(a, ((0, 0), (0, groups * GROUP - m)), constant_values=jnp.inf).reshape(b, groups, GROUP)
  group = jnp.sort(lax.top_k(-a.min(2), k)[1], 1)  # sorted, so that the candidates keep the order of their indices
  found = lax.top_k(-jnp.take_along_axis(a, group[:, :, None], 1).reshape(b, k * GROUP), k)[1]
  return jnp.take_along_axis(group, found // GROUP, 1) * GROUP + found % GROUP
