r"""The array functions: squared distances ``D``, the form ``B`` and its adjoint ``P``.

Plain functions of arrays: they know nothing of derivatives (``derivatives`` takes those by hand), of batches or of
checks. One set of points measured against itself is a tuple of one ``Side``, two sets are a tuple of two; ``x`` is
``(n, d)``, ``y`` is ``(m, d)``, ``g`` is ``(n, m)``, all of one dtype, float32 or float64.

Two rows *coincide* where all their coordinates are equal. Such a pair contributes nothing, exactly: its entry of D and
of B is zero, and P ignores its entry of G, even infinity. Where entries come from products, equality
is that of a key of 64 bits, which is made of the bits of the coordinates, once for each point.
"""

from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm._core.loops import summed
from jax_edm._core.operations import column, product, row, take, total, where
from jax_edm._core.sizes import at_most

Way = Literal["difference", "gram", "broadcast"]
Points = tuple[jax.Array, ...]

# One set of at most 64 points, or of at most min(4 d, 256), uses one product with G + G'. Of more points the transpose
# costs a CPU more than the second product.
SYMMETRIC, MOST_SYMMETRIC = 64, 256
WITH_ONES = 64  # coordinates: up to here a column of ones is the cheapest way to the row sums of G
WIDTH = 32  # points are padded to it: LLVM unrolls shorter sums, which are no faster and compile twice as long


@dataclass(frozen=True)
class Form:
  """How entries (``D``, ``B``) and contractions (``P``) are computed.

  ``difference``: sums of differences, one coordinate at a time; ``broadcast``: the same, all at once, for few points;
  ``gram``: products of centred points.
  """

  entries: Way
  contractions: Way


class Side(NamedTuple):
  """A set of points, or of tangents of points. What else there is depends on ``x`` alone, and has no derivatives of its
  own; it is there where entries are products.
  """

  x: jax.Array
  centred: jax.Array | None = None
  squares: jax.Array | None = None
  keys: tuple[jax.Array, jax.Array] | None = None


Sides = tuple[Side, ...]

dot = partial(jnp.dot, precision=lax.Precision.HIGHEST)  # the default is TF32 on recent GPUs and bfloat16 on TPUs


def prepared(form: Form, z: Points) -> Sides:
  """What ``squared``, ``bilinear`` and ``adjoint`` take, of one set or two."""
  if form.entries != "gram" or any(0 in x.shape for x in z):
    return tuple(map(Side, z))
  # Without the barrier XLA centres the points anew for everything that reads them.
  centred = lax.optimization_barrier(_centred(tuple(map(lax.stop_gradient, z))))
  return tuple(Side(x, c, *squares_and_keys(c, k)) for k, (x, c) in enumerate(zip(z, centred, strict=True)))


def squared(form: Form, z: Sides) -> jax.Array:
  """``D_ij = |x_i - y_j|^2``, never negative; symmetric with a zero diagonal for one set."""
  with jax.named_scope("edm_squared"):
    x, y = z[0].x, z[-1].x
    if form.entries == "broadcast":
      return _zero_diagonal(z, total(lax.square(_differences(x, y)), 2))
    if form.entries == "difference":
      return _zero_diagonal(z, summed(lambda a, b: lax.square(a - b), (x,), (y.T,)))
    inner = _symmetric(z, product(z[0].centred, z[-1].centred, 1, 1))
    entries, near = expanded(z[0].squares, z[-1].squares, inner, x.shape[1])
    return where(near if z[0].keys is None else near | _coincident(z), 0, entries)


def expanded(of_x: Any, of_y: Any, inner: jax.Array, d: int) -> tuple[jax.Array, jax.Array]:
  """``|x|^2 + |y|^2 - 2 <x, y>``, ``(n, m)``, of the squares and inner products; and where it is zero."""
  # What lies below the rounding error of this form carries no digit: it is zero, so that nothing is negative.
  error = (4 + d**0.5) * float(jnp.finfo(inner.dtype).eps)
  # In this order, since twice the inner product may overflow. It is NaN only where one of the squares is not finite.
  entries = (column(of_x, inner.shape) - inner) + (row(of_y, inner.shape) - inner)
  squares = column(of_x, inner.shape) + row(of_y, inner.shape)
  return where(entries == entries, entries, squares), entries < error * squares


def bilinear(form: Form, z: Sides, w: Points) -> jax.Array:
  """``B(x,y; u,v)_ij = <x_i - y_j, u_i - v_j>``."""
  with jax.named_scope("edm_bilinear"):
    x, y = z[0].x, z[-1].x
    if form.entries == "broadcast":
      return _zero_diagonal(z, total(_differences(x, y) * _differences(w[0], w[-1]), 2))
    if form.entries == "difference":
      entries = summed(lambda a, u, b, v: (a - b) * (u - v), (x, w[0]), (y.T, w[-1].T))
      return _zero_diagonal(z, entries)
    x, y = _of_products(z)
    u, v = (centred := _centred(w))[0], centred[-1]
    cross = product(lax.concatenate([x, u], 1), lax.concatenate([v, y], 1), 1, 1)
    entries = column(total(x * u, 1), cross.shape) + row(total(y * v, 1), cross.shape) - cross
    return where(_coincident(z), 0, entries)


def adjoint(form: Form, g: jax.Array, z: Sides, tangents: bool = False) -> Points:
  """``P(G; x,y) = (diag(G 1) x - G y,  diag(G' 1) y - G' x)``; for one set the sum of the two.

  The select in front of the products fuses with whatever made ``g``. ``tangents`` says that z are not points, but
  tangents of points.
  """
  with jax.named_scope("edm_adjoint"):
    if form.contractions == "broadcast":
      return _adjoint_by_broadcasting(g, z, tangents)
    if form.contractions == "difference":
      return _adjoint_of_differences(g, z)
    g = where(_different(form, z), g, 0)
    x, y = _of_products(z)
    if len(z) == 1 and at_most(x.shape[0], max(SYMMETRIC, min(4 * x.shape[1], MOST_SYMMETRIC))):
      return (_weighted_differences(x, *_sums(g + g.T, x, 1, ones=True)),)
    ones = x.shape[1] <= WITH_ONES
    rows, columns = _sums(g, y, 1, ones), _sums(g, x, 0, ones)
    if len(z) == 1:
      return (_weighted_differences(x, *(a + b for a, b in zip(rows, columns, strict=True))),)
    return _weighted_differences(x, *rows), _weighted_differences(y, *columns)


def _sums(g: jax.Array, x: jax.Array, axis: int, ones: bool) -> tuple[jax.Array, jax.Array]:
  """``G x`` and ``G 1`` along axis 1, ``G' x`` and ``G' 1`` along axis 0; by one product with ``[x, 1]`` or not."""
  d = x.shape[1]
  wide = lax.concatenate([x, lax.full_like(x, 1, shape=(x.shape[0], 1))], 1) if ones else x
  # Of many small matrices, such as those of a batch or of tiles, (x' G)' is slow, too.
  if axis == 0 and all(at_most(size, SYMMETRIC) for size in g.shape):
    g, axis = lax.optimization_barrier(g.T), 1
  sums = product(g, wide, 1, 0) if axis == 1 else transposed(product(wide, g, 0, 0))
  return (lax.slice_in_dim(sums, 0, d, axis=1), take(sums, d, 1)) if ones else (sums, total(g, axis))


def transposed(columns: jax.Array) -> jax.Array:
  """A CPU is 15 times slower at ``G' x`` than at ``(x' G)'``, unless the barrier keeps the two apart."""
  return lax.optimization_barrier(columns).T


def centre(y: jax.Array) -> jax.Array:
  """A point near all others, ``(d,)``, always finite: the median of three of them, coordinate by coordinate.

  A zero is returned as -0.0: ``x - (-0.0)`` is never -0.0, so equal points have equal bits. So is what is so large that
  the difference to a finite point might overflow.
  """
  first, middle, last = (_finite(take(y, k, 0)) for k in (0, y.shape[0] // 2, y.shape[0] - 1))
  median = lax.max(lax.min(first, middle), lax.min(lax.max(first, middle), last))
  largest = float(jnp.finfo(y.dtype).max) * float(jnp.finfo(y.dtype).eps) / 8
  return where((median == 0) | (lax.abs(median) > largest), -0.0, median)


def _of_products(z: Sides) -> Points:
  """The points of both sides, centred."""
  centred = tuple(side.x if side.centred is None else side.centred for side in z)
  centred = _centred(centred) if z[0].centred is None else centred
  return centred[0], centred[-1]


def _centred(z: Points) -> Points:
  shift = centre(z[-1])
  return tuple(x - lax.broadcast_in_dim(shift, x.shape, (1,)) for x in z)


def _finite(a: jax.Array) -> jax.Array:
  return where(lax.abs(a) < np.inf, a, 0)


def squares_and_keys(x: jax.Array, k: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  """The squared norms and the keys of the points, in one loop; ``k`` is 0 for the first set, 1 for the second.

  A key is a sum of words of 32 bits, one for each coordinate, times random words. Bits of a float that vary are its
  upper ones, on a lattice these alone, and a product moves bits up: upper bits are mixed into lower ones before and
  after. A point that is not finite coincides with itself alone: its key has its index and its set, in words that no
  finite number has.
  """
  wide = x
  if x.shape[1] < WIDTH:
    wide = lax.pad(x, np.zeros((), x.dtype), ((0, 0, 0), (0, WIDTH - x.shape[1], 0)))
  if x.dtype.itemsize == 8:  # not at once to two words: jax.export cannot refine that for symbolic sizes
    bits = lax.bitcast_convert_type(wide, np.uint64)
    words = [bits.astype(np.uint32), (bits >> np.uint64(32)).astype(np.uint32)]
  else:
    words = [lax.bitcast_convert_type(wide, np.uint32)]
  index = lax.broadcasted_iota(np.uint32, wide.shape, 0) + np.uint32(k << 31)
  words[0] = where(lax.abs(wide) < np.inf, words[0], ~index)
  factors = np.random.default_rng(0).integers(1, 2**32, (2, len(words), wide.shape[1]), np.uint64).astype(np.uint32)
  terms = [
    sum(_mixed(_mixed(word, 16) * lax.broadcast_in_dim(factor, word.shape, (1,)), 15) for word, factor in pairs)
    for pairs in (zip(words, own, strict=True) for own in factors)
  ]
  zeros = (np.zeros((), x.dtype), np.uint32(0), np.uint32(0))
  squares, *keys = lax.reduce(
    (lax.square(wide), *terms), zeros, lambda a, b: tuple(p + q for p, q in zip(a, b, strict=True)), (1,)
  )
  return squares, (keys[0], keys[1])


def _mixed(word: jax.Array, bits: int) -> jax.Array:
  return word ^ (word >> np.uint32(bits))


def _coincident(z: Sides) -> jax.Array:
  """``(n, m)`` booleans, of keys."""
  return reduce(lax.bitwise_and, (column(a, _shape(z)) == row(b, _shape(z)) for a, b in _pairs_of_keys(z)))


def _different(form: Form, z: Sides) -> jax.Array:
  """Not ``_coincident``, by other operations: XLA would share one boolean matrix between both passes, and keep it."""
  if form.entries != "gram":  # of few coordinates
    x, y = z[0].x, z[-1].x
    ne = (column(take(x, k, 1), _shape(z)) != row(take(y, k, 1), _shape(z)) for k in range(x.shape[1]))
    return reduce(lax.bitwise_or, ne)
  return reduce(lax.bitwise_or, (column(a, _shape(z)) != row(b, _shape(z)) for a, b in _pairs_of_keys(z)))


def _shape(z: Sides) -> tuple[int, int]:
  return z[0].x.shape[0], z[-1].x.shape[0]


def _pairs_of_keys(z: Sides) -> list[tuple[jax.Array, jax.Array]]:
  return list(zip(z[0].keys or (), z[-1].keys or (), strict=True))


def _adjoint_by_broadcasting(g: jax.Array, z: Sides, tangents: bool) -> Points:
  """Of differences that are exactly zero where points coincide, so that only what is not finite must be selected away.

  By the entries of D, which the same program has made already; these are no measure of tangents, which may be tiny.
  """
  difference = _differences(z[0].x, z[-1].x)
  if not tangents:
    g = where(total(lax.square(difference), 2) == 0, 0, g)
  weighted = difference * _to_coordinates(g + g.T if len(z) == 1 else g, difference)
  if tangents:
    weighted = where(difference == 0, 0, weighted)
  return (total(weighted, 1),) if len(z) == 1 else (total(weighted, 1), -total(weighted, 0))


def _to_coordinates(g: jax.Array, like: jax.Array) -> jax.Array:
  return lax.broadcast_in_dim(g, like.shape, (0, 1))


def _adjoint_of_differences(g: jax.Array, z: Sides) -> Points:
  """``sum_j g_ij (x_i - y_j)`` and ``sum_i g_ij (y_j - x_i)``, of differences that are made one by one.

  A zero of either factor makes a zero, also beside infinity: so coincident points contribute nothing.
  """
  g = _zero_diagonal(z, g)

  def weighted(g: jax.Array, other: jax.Array, own: jax.Array) -> jax.Array:
    difference = own - other
    return where((difference == 0) | (g == 0), 0, g * difference)

  rows = summed(weighted, (g,), (z[-1].x,), (z[0].x,))
  columns = summed(lambda other, g, own: weighted(g, other, own), (z[0].x.T,), (g,), (z[-1].x.T,)).T
  return (rows + columns,) if len(z) == 1 else (rows, columns)


def _differences(x: jax.Array, y: jax.Array) -> jax.Array:
  shape = (x.shape[0], *y.shape)
  return lax.broadcast_in_dim(x, shape, (0, 2)) - lax.broadcast_in_dim(y, shape, (1, 2))


def _weighted_differences(x: jax.Array, products: jax.Array, weights: jax.Array) -> jax.Array:
  """``diag(G 1) x - G y``, of ``G y`` and ``G 1``."""
  return column(weights, x.shape) * x - products


def _zero_diagonal(z: Sides, entries: jax.Array) -> jax.Array:
  """``entries`` with a zero diagonal, for one set; also where a point is not finite."""
  if len(z) == 2:
    return entries
  i, j = (lax.broadcasted_iota(np.int32, entries.shape, axis) for axis in (0, 1))
  return where(i == j, 0, entries)


def _symmetric(z: Sides, inner: jax.Array) -> jax.Array:
  """Mirror the lower triangle, for one set, where the hardware does not promise that ``X X'`` is symmetric.

  XLA's products on a CPU sum over the coordinates in one order for (i, j) and (j, i), and a transpose is slow there.
  """
  return inner if len(z) == 2 else lax.platform_dependent(inner, cpu=lambda k: k, default=mirrored)


def mirrored(inner: jax.Array) -> jax.Array:
  i, j = (lax.broadcasted_iota(np.int32, inner.shape, axis) for axis in (0, 1))
  return lax.select(i >= j, inner, inner.T)
