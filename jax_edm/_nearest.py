"""The nearest points: a search without derivatives, in blocks of rows, and then the few distances that it found."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm import _blocks, _checks, _edm, _rules
from jax_edm._edm import Method
from jax_edm._kernels import Form

GROUP = 32  # entries of a row of which the smallest stands for all
SPARE = 8  # candidates beyond k where the entries carry the rounding error of a product


class Nearest(NamedTuple):
  """What :func:`nearest` returns, both ``(..., n, k)``."""

  squared: jax.Array
  indices: jax.Array


def nearest(
  x: jax.Array,
  y: jax.Array | None = None,
  k: int = 1,
  *,
  where: jax.Array | None = None,
  where_y: jax.Array | None = None,
  method: Method = None,
  block_size: int | None = None,
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
  batch = math.prod(_edm.check("nearest", x, y, where, where_y, method))
  m = max(x.shape[-2] - 1, 0) if y is None else y.shape[-2]
  _checks.count("nearest", "k", k, m)
  _checks.block_size("nearest", block_size)
  return _nearest(x, y, where, where_y, k, _edm.choose_form(method, x.shape[-1]), block_size, batch)


@partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _nearest(
  x: jax.Array, y: Any, where: Any, where_y: Any, k: int, form: Form, block_size: int | None, batch: int
) -> Nearest:
  result, compute = _edm.dtypes(x, *([] if y is None else [y]))

  def one(x: jax.Array, y: Any, where: Any, where_y: Any) -> tuple[jax.Array, jax.Array]:
    other, exists = (x, where) if y is None else (y, where_y)
    x, other = _edm.filled(x, where), _edm.filled(other, exists)
    n, m, d = x.shape[0], other.shape[0], x.shape[1]
    most = min(k + (SPARE if form == "gram" else 0), m - (y is None))
    fixed, fixed_other = lax.stop_gradient((x, other))

    def search(start: jax.Array | int, own: Any) -> jax.Array:
      x, where = own
      squared = _finite(_rules.edm(form, (x, fixed_other)))
      present = _blocks.present(where, exists)
      if present is not None:
        squared = jnp.where(present, squared, jnp.inf)
      if y is None:
        squared = jnp.where(_blocks.diagonal(start, squared.shape), jnp.inf, squared)
      return _smallest(squared, most)

    candidates = _blocks.by_rows(search, (fixed, where), block_size or _blocks.rows_in_a_block(n, m * batch))

    def measure(start: jax.Array | int, own: Any) -> tuple[jax.Array, jax.Array]:
      x, where, j = own
      squared = ((x[:, None, :] - other[j]) ** 2).sum(2)
      present = _blocks.present(where, exists[j] if exists is not None else None)
      if y is None:
        not_itself = j != start + lax.broadcasted_iota(jnp.int32, j.shape, 0)
        present = not_itself if present is None else present & not_itself
      key = _finite(lax.stop_gradient(squared))
      if present is not None:
        squared, key = jnp.where(present, squared, jnp.inf), jnp.where(present, key, jnp.inf)
        j = jnp.where(present, j, -1)
      position = lax.broadcasted_iota(jnp.int32, j.shape, 1)
      _, j, position = lax.sort((key, j, position), num_keys=2)
      return jnp.take_along_axis(squared, position[:, :k], 1), j[:, :k]

    return _blocks.by_rows(measure, (x, where, candidates), _blocks.rows_in_a_block(n, most * d * batch))

  arrays = (x.astype(compute), None if y is None else y.astype(compute), where, where_y)
  squared, indices = _blocks.batched(one, arrays, (2, 2, 1, 1), "(p,q),(p,q)")
  return Nearest(squared.astype(result), indices)


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
