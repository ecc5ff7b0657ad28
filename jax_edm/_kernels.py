r"""The array functions: squared distances ``D``, the form ``B`` and its adjoint ``P``.

Plain functions of arrays: they know nothing of derivatives (``_rules`` takes those by hand), of batches or of checks.
Points come as a tuple: ``(x,)`` is one set measured against itself, ``(x, y)`` is two sets; ``x`` is ``(n, d)``, ``y``
is ``(m, d)``, ``g`` is ``(n, m)``, all of one dtype, float32 or float64.

``form`` says how; it is chosen once, above the rules, and is the same forward and backward:

=============  ==========================================  ==========================================
form           entries (``D``, ``B``)                      contractions (``P``)
=============  ==========================================  ==========================================
``exact``      sums over coordinates of differences        sums over points of differences
``fast``       sums over coordinates of differences        matrix products of centred points
``gram``       one matrix product of centred points        matrix products of centred points
=============  ==========================================  ==========================================
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

Form = Literal["exact", "fast", "gram"]
Points = tuple[jax.Array, ...]

CHUNK = 8  # coordinates in one fused loop: 8 vectorise on a CPU, 16 at once run about four times slower
SMALL = 64  # up to so many points G + G' costs nothing, and saves one of the two products
ROWS = 128  # of a cotangent, copied without its diagonal at a time: they fit a cache
HARMLESS = 8  # what rounding the diagonal's terms may cost, in eps of the largest entry of the result


# The default precision is TF32 on recent GPUs and bfloat16 on TPUs: never for distances.
dot = partial(jnp.dot, precision=lax.Precision.HIGHEST)


def squared(z: Points, form: Form) -> jax.Array:
  """``D_ij = |x_i - y_j|^2``, never negative; symmetric and hollow for one set."""
  with jax.named_scope("edm_squared"):
    if form != "gram":
      return _hollow(z, _sum_over_coordinates(lambda a, b: (a - b) ** 2, z[:1], z[-1:]))
    x, y = _centred(z)
    scale = _squares(x)[:, None] + _squares(y)[None, :]
    return _hollow(z, expanded(scale, _symmetric(z, dot(x, y.T)), x.shape[1]))


def expanded(scale: jax.Array, product: jax.Array, d: int) -> jax.Array:
  """``|x|^2 + |y|^2 - 2 <x, y>``, where ``scale`` is the first two."""
  squared = scale - 2 * product
  # What lies below the rounding error of this form carries no digit: it is zero, so that coincident points are.
  # (Strictly below, so that infinity stays infinite; false for NaN, so that NaN stays NaN.)
  error = (4 + d**0.5) * float(jnp.finfo(squared.dtype).eps)
  return jnp.where(squared < error * scale, 0, squared)


def bilinear(z: Points, w: Points, form: Form) -> jax.Array:
  """``B(x,y; u,v)_ij = <x_i - y_j, u_i - v_j>``."""
  with jax.named_scope("edm_bilinear"):
    if form != "gram":
      return _hollow(z, _sum_over_coordinates(lambda a, u, b, v: (a - b) * (u - v), (z[0], w[0]), (z[-1], w[-1])))
    (x, y), (u, v) = _centred(z), _centred(w)
    cross = dot(jnp.concatenate([x, u], 1), jnp.concatenate([v, y], 1).T)
    return _hollow(z, (x * u).sum(1)[:, None] + (y * v).sum(1)[None, :] - cross)


def adjoint(g: jax.Array, z: Points, form: Form) -> Points:
  """``P(G; x,y) = (diag(G 1) x - G y,  diag(G' 1) y - G' x)``; for one set the sum of the two.

  A matrix product with the points and a column of ones, ``G [y, 1]``, gives the row sums on the way. The other side
  is ``([x, 1]' G)'``: a CPU is 15 times slower at ``G' [x, 1]``, and at the last transpose too where XLA folds it into
  the product, hence the barrier. Nothing of the size of ``G`` is ever written.
  """
  with jax.named_scope("edm_adjoint"):
    if form == "exact":
      return _adjoint_of_differences(g, z)
    x, y = _centred(z)
    if len(z) == 2:
      rows, columns = _products(g, x, y)
      return _weighted_differences(x, rows), _weighted_differences(y, transposed(columns))
    if x.shape[0] <= SMALL:
      g = _hollow(z, g)
      return (_weighted_differences(x, dot(g + g.T, _with_ones(x))),)
    # The diagonal cancels in P, but not in floating point: the root of D + 1e-12 has 5e5 on it, the logarithm infinity.
    # Only where its terms are that large, or NaN, is it worth a copy of G without it.
    rows, columns = _products(g, x, x)
    bar = _weighted_differences(x, rows + transposed(columns))
    harmless = jnp.abs(jnp.diagonal(g)).max() * jnp.abs(x).max() <= HARMLESS * jnp.abs(bar).max()
    return (lax.cond(harmless, lambda g, x, bar: bar, _hollow_adjoint, g, x, bar),)


def _products(g: jax.Array, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
  """``G [y, 1]``, and ``[x, 1]' G``."""
  return dot(g, _with_ones(y)), dot(_with_ones(x).T, g)


def _hollow_adjoint(g: jax.Array, x: jax.Array, _: jax.Array) -> jax.Array:
  """``P`` of one set with zero for the diagonal of ``g``, in blocks of rows."""
  n = x.shape[0]
  first = (n - 1) % ROWS + 1  # the odd block comes first, and starts the sum

  def block(start: jax.Array | int, size: int) -> tuple[jax.Array, jax.Array]:
    rows = lax.dynamic_slice_in_dim(g, start, size)
    i, j = (lax.broadcasted_iota(jnp.int32, rows.shape, axis) for axis in (0, 1))
    # Without the barrier XLA copies the rows once for each of the two products.
    rows = lax.optimization_barrier(jnp.where(i + start == j, 0, rows))
    return _products(rows, lax.dynamic_slice_in_dim(x, start, size), x)

  def step(columns: jax.Array, start: jax.Array) -> tuple[jax.Array, jax.Array]:
    rows, more = block(start, ROWS)
    return columns + more, rows

  top, columns = block(0, first)
  rows = top
  if first < n:
    columns, rest = lax.scan(step, columns, jnp.arange(first, n, ROWS, dtype=jnp.int32))
    rows = jnp.concatenate([top, rest.reshape(n - first, top.shape[1])])
  return _weighted_differences(x, rows + transposed(columns))


def transposed(columns: jax.Array) -> jax.Array:
  return lax.optimization_barrier(columns).T


def centre(y: jax.Array) -> jax.Array:
  """A point amid the points ``y``: the median, by coordinate, of the first, the middle and the last.

  Any shift leaves ``D``, ``B`` and ``P`` as they are; this one keeps the terms that cancel small. A mean would do as
  well until one row is NaN or huge, and would spoil every other row then; of three rows the median takes no notice.
  """
  first, middle, last = y[0], y[y.shape[0] // 2], y[-1]
  # A coordinate that is not finite is replaced by one that is (by zero, if none of the three is).
  good = jnp.where(jnp.isfinite(first), first, jnp.where(jnp.isfinite(middle), middle, last))
  good = jnp.where(jnp.isfinite(good), good, 0)
  a, b, c = (jnp.where(jnp.isfinite(p), p, good) for p in (first, middle, last))
  return jnp.maximum(jnp.minimum(a, b), jnp.minimum(jnp.maximum(a, b), c))


def _centred(z: Points) -> tuple[jax.Array, jax.Array]:
  # Without the barrier XLA computes the centre anew for every point.
  shift = lax.stop_gradient(lax.optimization_barrier(centre(z[-1])))[None, :]
  return z[0] - shift, z[-1] - shift


def _squares(x: jax.Array) -> jax.Array:
  return (x * x).sum(1)


def _with_ones(x: jax.Array) -> jax.Array:
  return jnp.concatenate([x, jnp.ones_like(x[:, :1])], 1)


def _weighted_differences(x: jax.Array, product: jax.Array) -> jax.Array:
  """``diag(G 1) x - G y`` from ``product = G [y, 1]``."""
  return product[:, -1:] * x - product[:, :-1]


def _hollow(z: Points, entries: jax.Array) -> jax.Array:
  """Zero diagonal, for one set: of a point that is not finite too, and whatever the rounding."""
  if len(z) == 2:
    return entries
  i, j = (lax.broadcasted_iota(jnp.int32, entries.shape, axis) for axis in (0, 1))
  return jnp.where(i == j, 0, entries)


def _symmetric(z: Points, product: jax.Array) -> jax.Array:
  """Mirror the lower triangle, for one set, where the hardware does not promise that ``X X'`` is symmetric.

  XLA's products on a CPU sum over the coordinates in one order for (i, j) and (j, i), and a transpose is dear there.
  """
  if len(z) == 2:
    return product
  return lax.platform_dependent(product, cpu=lambda k: k, default=mirrored)


def mirrored(product: jax.Array) -> jax.Array:
  i, j = (lax.broadcasted_iota(jnp.int32, product.shape, axis) for axis in (0, 1))
  return jnp.where(i >= j, product, product.T)


def _sum_over_coordinates(term: Callable[..., jax.Array], rows: Points, columns: Points) -> jax.Array:
  """``sum_k term(rows[:, k], ..., columns[:, k], ...)`` for all pairs, in loops that fuse."""

  def chunk(rows: Points, columns: Points) -> jax.Array:
    width = rows[0].shape[1]
    terms = [term(*(a[:, k, None] for a in rows), *(b[None, :, k] for b in columns)) for k in range(width)]
    return sum(terms[1:], start=terms[0])

  d = rows[0].shape[1]
  if d <= CHUNK:
    return chunk(rows, columns)

  def split(a: jax.Array) -> jax.Array:  # (n, d) -> (d / CHUNK, n, CHUNK)
    return a.reshape(a.shape[0], a.shape[1] // CHUNK, CHUNK).swapaxes(0, 1)

  first = d % CHUNK or CHUNK  # the odd chunk comes first, and starts the sum
  total = chunk(tuple(a[:, :first] for a in rows), tuple(b[:, :first] for b in columns))
  rest = jax.tree.map(lambda a: split(a[:, first:]), (rows, columns))
  return lax.scan(lambda total, chunks: (total + chunk(*chunks), None), total, rest)[0]


def _adjoint_of_differences(g: jax.Array, z: Points) -> Points:
  """``P`` without a product: ``sum_j g_ij (x_i - y_j)`` and ``sum_i g_ij (y_j - x_i)``, one coordinate at a time."""

  def coordinate(xy: Points) -> Points:
    weighted = _hollow(z, g * (xy[0][:, None] - xy[-1][None, :]))
    rows, columns = weighted.sum(1), -weighted.sum(0)
    return (rows + columns,) if len(z) == 1 else (rows, columns)

  return tuple(a.T for a in lax.map(coordinate, tuple(p.T for p in z)))
