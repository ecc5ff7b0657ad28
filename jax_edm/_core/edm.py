"""``edm`` and ``distances``: check, choose the form, call the rule."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jax_edm import _errors, _sharding
from jax_edm._core import derivatives
from jax_edm._core.batching import dtypes, with_all_digits
from jax_edm._core.distance import Form
from jax_edm._core.points import PointSets
from jax_edm._core.sizes import at_most, known
from jax_edm._typing import ArrayLike, Method

SMALL_DIMENSION = 6  # up to here a sum of differences costs no more than a product (benchmarks, "forward")
SPLIT = 64  # one set of up to so many rows is not split over devices
# Points, and points times coordinates, up to which differences, all at once, cost less than a product for each set.
FEW_POINTS, FEW_NUMBERS = 16, 128


def edm(
  x: ArrayLike,
  y: ArrayLike | None = None,
  *,
  where: ArrayLike | None = None,
  where_y: ArrayLike | None = None,
  method: Method = None,
) -> jax.Array:
  r"""Squared Euclidean distances between every point of ``x`` and every point of ``y``.

  .. math:: D_{ij} = \lVert x_i - y_j \rVert^2

  Shapes: ``n``, ``m`` points; ``d`` coordinates; ``...`` leading batch axes, which broadcast.

  Args:
    x: points, ``(..., n, d)``.
    y: points, ``(..., m, d)``; ``None`` stands for ``x`` itself, and then the matrix is exactly symmetric and its
      diagonal exactly zero.
    where: ``(..., n)`` booleans, False for the points of ``x`` that do not exist (padding of a batch). Their rows (and
      columns, for one set) are 0, their gradient is 0, and what stands in them, NaN and infinity included, reaches
      nothing, in any mode and order. ``None``: all exist.
    where_y: ``(..., m)`` booleans, the same for ``y``.
    method: ``"difference"`` forms entries and gradients from differences of points: the most accurate, and the slower
      one. ``"gram"`` uses matrix products of centred points. ``None`` takes differences for the entries of points of
      up to 6 coordinates and for all of small sets (16 points, 128 coordinates in total), where they cost nothing, and
      products for all else.

  Returns:
    ``(..., n, m)``, never negative, in the dtype of the points. Integers become the default floating type; float16 and
    bfloat16 compute in float32 and return their own type.

  Raises:
    ValueError: wrong ranks or shapes, different numbers of coordinates, an unknown method, ``where_y`` without ``y``,
      arrays on two meshes.
    TypeError: complex, boolean or non-numeric points, a mask that is not boolean, something that is no array.

  Derivatives: all modes, all orders. Reverse mode runs ``2 (diag(G1 + G'1) - G - G') X`` (one set), forward mode
  ``2 <x_i - y_j, dx_i - dy_j>``. Smooth everywhere, coincident points included.

  Devices: points that lie by rows over a mesh make a matrix that does (and by columns, where ``y`` lies over another
  axis); the points are gathered where a device needs all of them, never the matrix. See ``docs/devices.md``.

  Accuracy: ``"difference"`` has a relative error of about d eps in *every* entry, and as good a gradient. ``"gram"``
  has an error of about eps times the squared distances of the two points from the centre of ``y``; an entry below that
  error is 0. Gradients of ``"gram"`` and of ``None`` have an error of about eps times the cotangents times the
  distances from the centre. See ``docs/numerics.md``, and ``tests/core/test_numerics.py``, which holds it.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jax_edm import edm
    >>> x = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    >>> edm(x)
    Array([[ 0., 25.],
           [25.,  0.]], dtype=float32)
    >>> jax.grad(lambda x: edm(x)[0, 1])(x)
    Array([[-6., -8.],
           [ 6.,  8.]], dtype=float32)
  """
  check("edm", x, y, where, where_y, method)
  return _entries(with_all_digits(x), with_all_digits(y), where, where_y, method, False)


def distances(
  x: ArrayLike,
  y: ArrayLike | None = None,
  *,
  where: ArrayLike | None = None,
  where_y: ArrayLike | None = None,
  method: Method = None,
) -> jax.Array:
  r"""Euclidean distances between every point of ``x`` and every point of ``y``: the root of :func:`edm`.

  .. math:: r_{ij} = \lVert x_i - y_j \rVert

  Shapes: ``n``, ``m`` points; ``d`` coordinates; ``...`` leading batch axes, which broadcast.

  Args:
    x: points, ``(..., n, d)``.
    y: points, ``(..., m, d)``; ``None`` stands for ``x`` itself.
    where: ``(..., n)`` booleans, as for :func:`edm`.
    where_y: ``(..., m)`` booleans, as for :func:`edm`.
    method: as for :func:`edm`.

  Returns:
    ``(..., n, m)``, in the unit and the dtype of the points.

  Raises:
    ValueError, TypeError: as :func:`edm`.

  Derivatives: all modes, all orders. A distance has no derivative where two points coincide; here all its derivatives
  are **zero** there, the subgradient of least norm, so that the diagonal of one set, a duplicated point and padding
  contribute nothing and nothing is NaN. Anywhere else they are the derivatives of the root.

  Accuracy: that of :func:`edm`, halved for the entries. The gradient multiplies by 1 / r: for pairs that are close
  together in a wide cloud, where its digits matter, take ``"difference"``. With ``"gram"``, points that are closer to
  each other than about ``sqrt(2 (4 + sqrt(d)) eps)`` times their distance from the centre of ``y`` (in float32 with
  d=64, 0.17 %) count as coincident.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jax_edm import distances
    >>> x = jnp.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]])
    >>> distances(x)[0]
    Array([0., 5., 5.], dtype=float32)
    >>> jax.grad(lambda x: distances(x)[1, 2])(x).any()
    Array(False, dtype=bool)
  """
  check("distances", x, y, where, where_y, method)
  return _entries(with_all_digits(x), with_all_digits(y), where, where_y, method, True)


def choose_form(method: Method, n: int, m: int, d: int) -> Form:
  """The form for both passes; the one place where it is decided."""
  if method == "difference":
    return Form("difference", "difference")
  if method is None and all(at_most(k, FEW_POINTS) and k * d <= FEW_NUMBERS for k in (n, m)):
    return Form("broadcast", "broadcast")
  # Of one coordinate XLA makes no product of matrices, and what it makes is not symmetric.
  return Form("difference" if d <= (SMALL_DIMENSION if method is None else 1) else "gram", "gram")


def check(
  function: str, x: Any, y: Any = None, where: Any = None, where_y: Any = None, method: Any = None
) -> tuple[int, ...]:
  """What all functions of points have in common; the leading axes of their matrices."""
  _errors.points(function, "x", x)
  batch = x.shape[:-2]
  if y is not None:
    _errors.points(function, "y", y)
    batch = _errors.pair(function, x, y)
  if where is not None:
    batch = _errors.mask(function, "where", where, "x", x, batch)
  if where_y is not None:
    if y is None:
      raise _errors.error(function, "where_y needs y", "where_y without y", "With one set of points, where= is enough")
    batch = _errors.mask(function, "where_y", where_y, "y", y, batch)
  _errors.option(function, "method", method, ("difference", "gram"))
  return batch


def point_sets(x: Any, y: Any, where: Any, where_y: Any, form: Form, dtype: Any) -> PointSets:
  """The points in the dtype to compute in; ``y`` is None for one set."""
  x = jnp.asarray(x).astype(dtype)
  of_columns = x if y is None else jnp.asarray(y).astype(dtype)
  x_mask, y_mask = (None if mask is None else jnp.asarray(mask) for mask in (where, where if y is None else where_y))
  return PointSets(x=x, y=of_columns, x_mask=x_mask, y_mask=y_mask, row_offset=None, form=form, one_set=y is None)


@partial(jax.jit, static_argnums=(4, 5))
def _entries(x: Any, y: Any, where: Any, where_y: Any, method: Method, root: bool) -> jax.Array:
  """The matrix, or its root."""
  result, compute = dtypes(x, *([] if y is None else [y]))
  (n, d), m = x.shape[-2:], (x if y is None else y).shape[-2]
  points = point_sets(x, y, where, where_y, choose_form(method, n, m, d), compute)

  def of_rows(row_offset: Any, *arrays: jax.Array) -> jax.Array:
    return points.with_leaves(arrays, row_offset).map_batch(matrix, "(p,q)")

  def matrix(points: PointSets) -> jax.Array:
    entries, pair_mask = points.prepared().squared(), points.pair_mask()
    if pair_mask is not None:
      entries = jnp.where(pair_mask, entries, 0)
    return derivatives.root(entries) if root else entries

  # With two sets the compiler itself splits both axes.
  cut = y is None and known(n) and n > SPLIT
  name = "distances" if root else "edm"
  return _sharding.shard_rows(name, of_rows, *points.leaves(), "nm", cut).astype(result)
