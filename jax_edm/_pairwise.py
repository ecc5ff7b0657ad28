r"""Reductions over all pairs of points, in O(n) memory.

The rows of D come in blocks, ``(b, m)`` at a time, each reduced before the next one is made. A block is a call of the
rule of ``_rules`` inside ``jax.checkpoint``, so derivatives of every order and mode make their blocks anew and run
the hand-derived rule inside each; only ``n x d`` and ``m x d`` arrays live between them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm import _blocks, _checks, _edm, _kernels, _rules
from jax_edm._edm import Method


def pairwise_sum(
  f: Callable[..., jax.Array],
  x: jax.Array,
  y: jax.Array | None = None,
  *operands: Any,
  values: jax.Array | None = None,
  where: jax.Array | None = None,
  where_y: jax.Array | None = None,
  method: Method = None,
  block_size: int | None = None,
) -> jax.Array:
  r"""Sums over all pairs, of any function of the squared distances, without ever holding their matrix.

  .. math:: s_i = \sum_j f(D_{ij}, a_{ij}, \dots)\, v_j, \qquad D_{ij} = \lVert x_i - y_j \rVert^2

  Shapes: ``n``, ``m`` points; ``d`` coordinates; ``k`` columns of values; ``...`` leading batch axes, which broadcast.

  Args:
    f: an elementwise JAX function of a block of squared distances and of the blocks of the operands that go with it:
      each entry from its own entries alone (no ``softmax``). It may close over parameters, and their gradients are
      right; arrays over points or pairs are operands. Distances are ``safe_root(D)``.
    x: points, ``(..., n, d)``.
    y: points, ``(..., m, d)``; ``None`` stands for ``x`` itself, and then ``D_ii`` is exactly 0 (and ``f(0)`` is part
      of the sum).
    *operands: arrays that broadcast to ``(..., n, m)``: scalars, ``(n, 1)``, ``(1, m)`` (or ``(m,)``), ``(n, m)``.
      Only axes of the full length are sliced. With one set they come after ``None`` for y.
    values: ``(m,)`` or ``(..., m, k)``; ``None`` stands for ones. (A batch of vectors is ``values[..., None]``.)
    where: ``(..., n)`` booleans, as for :func:`jax_edm.edm`: a missing point has the sum 0, is in no other sum, and
      what stands in it, in its operands and in its values reaches nothing.
    where_y: ``(..., m)`` booleans, the same for ``y``.
    method: as for :func:`jax_edm.edm`.
    block_size: rows of D at a time, by all of its columns; ``None``: as many as make about 2**20 entries. For one set
      without operands of its points or pairs D is symmetric: then the side of a square tile, and half of them are
      made, unless they would be many and small.

  Returns:
    ``(..., n)``, or ``(..., n, k)`` with values of that form. float16 and bfloat16 compute in float32 (``f`` too), and
      return the type of the points; elsewhere the types of ``f``, the operands and the values promote.

  Raises:
    ValueError, TypeError: as :func:`jax_edm.edm`; an ``f`` that changes the shape; an operand or values that do not
      fit; a block size below 1.

  Derivatives: all modes, all orders, with respect to the points, the operands, the values and what ``f`` closes over.
  At coincident points they are those of ``f`` at 0, which must have some: write ``safe_root(D)``, not ``jnp.sqrt(D)``.

  Memory: ``O(block_size m + (n + m) (d + k))`` in every mode, up to two orders of reverse mode, for each member of the
  batch; ``block_size**2`` in place of ``block_size m`` for tiles. A full operand ``(n, m)`` is the caller's; it is
  copied once if ``block_size`` does not divide ``n`` (``None`` takes a divisor where there is one). Call it under
  ``jax.jit``: un-jitted, JAX compiles the loop anew in every call.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jax_edm import pairwise_sum
    >>> x = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    >>> pairwise_sum(lambda D: jnp.exp(-D / 25), x)  # a kernel density
    Array([1.3678794, 1.3678794], dtype=float32)
    >>> target = jnp.array([[0.0, 9.0], [9.0, 0.0]])
    >>> jax.grad(lambda x: pairwise_sum(lambda D, t: (D - t) ** 2, x, None, target).sum())(x)  # stress
    Array([[-384., -512.],
           [ 384.,  512.]], dtype=float32)
  """
  return _reduction("pairwise_sum", _sum, f, x, y, operands, values, where, where_y, method, block_size)


def pairwise_logsumexp(
  f: Callable[..., jax.Array],
  x: jax.Array,
  y: jax.Array | None = None,
  *operands: Any,
  weights: jax.Array | None = None,
  where: jax.Array | None = None,
  where_y: jax.Array | None = None,
  method: Method = None,
  block_size: int | None = None,
) -> jax.Array:
  r"""Logarithms of sums of exponentials over all pairs: soft minima, Sinkhorn's update, densities in logs.

  .. math:: s_i = \log \sum_j w_j \exp f(D_{ij}, a_{ij}, \dots), \qquad D_{ij} = \lVert x_i - y_j \rVert^2

  Shapes: ``n``, ``m`` points; ``d`` coordinates; ``...`` leading batch axes, which broadcast.

  Args:
    f: an elementwise function, as for :func:`pairwise_sum`.
    x: points, ``(..., n, d)``.
    y: points, ``(..., m, d)``; ``None`` stands for ``x`` itself.
    *operands: as for :func:`pairwise_sum`.
    weights: ``(..., m)``, finite and not negative; ``None`` stands for ones.
    where: ``(..., n)`` booleans: a missing point is in no other sum, and its own is minus infinity.
    where_y: ``(..., m)`` booleans, the same for ``y``.
    method: as for :func:`jax_edm.edm`.
    block_size: as for :func:`pairwise_sum`.

  Returns:
    ``(..., n)``. The largest term of a row, its weight included, sets the scale: nothing overflows, over any range.
    A row of which every entry is minus infinity, or without weight, gives minus infinity, and a zero gradient.

  Raises:
    ValueError, TypeError: as :func:`pairwise_sum`.

  Derivatives: all modes, all orders. At coincident points they are those of ``f`` at 0.

  Memory: as :func:`pairwise_sum`.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import pairwise_logsumexp
    >>> x, y = jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0], [0.0, 1.0]])
    >>> -pairwise_logsumexp(lambda D: -1000 * D, x, y) / 1000  # a soft minimum
    Array([1.], dtype=float32)
  """
  return _reduction("pairwise_logsumexp", _logsumexp, f, x, y, operands, weights, where, where_y, method, block_size)


def _reduction(
  name: str,
  reduce: Callable[..., jax.Array],
  f: Any,
  x: Any,
  y: Any,
  operands: Any,
  vector: jax.Array | None,
  where: Any,
  where_y: Any,
  method: Any,
  block_size: Any,
) -> jax.Array:
  """``reduce(f(D, ...), vector)`` in blocks of rows, for each member of the batch."""
  _checks.function(name, "f", f)
  batch = _edm.check(name, x, y, where, where_y, method)
  shape = (x.shape[-2], (x if y is None else y).shape[-2])
  check_vector = _checks.values if reduce is _sum else _checks.weights
  vector, batch = check_vector(name, vector, shape[1], batch)
  operands = list(operands)
  for i, a in enumerate(operands):
    operands[i], batch = _checks.operand(name, i, a, batch, shape)
  _checks.block_size(name, block_size)
  result, compute = _edm.dtypes(x, *([] if y is None else [y]))
  form = _edm.choose_form(method, x.shape[-1])
  sliced = [a.shape[-2] == shape[0] > 1 for a in operands]
  of_pairs = [a.shape[-2:] != (1, 1) for a in operands]
  # A function of the distance alone makes a symmetric matrix of one set: half of its tiles are enough.
  side = block_size or _blocks.side_of_a_tile(shape[0], math.prod(batch))
  symmetric = y is None and reduce is _sum and not any(of_pairs) and _blocks.worth_tiles(shape[0], side)
  block = block_size or (side if symmetric else _blocks.rows_in_a_block(shape[0], shape[1] * math.prod(batch)))

  def block_of(squared: jax.Array, present: Any, operands: Sequence[jax.Array]) -> jax.Array:
    if present is not None:  # f and its derivatives never see what does not exist; the points are filled already
      operands = [jnp.where(present, a, jnp.ones_like(a)) for a in operands]
    block = _checks.elementwise(name, "f", f(squared, *operands), squared.shape)
    return block.astype(int) if block.dtype == bool else block

  def one(x: jax.Array, y: Any, where: Any, where_y: Any, vector: Any, *operands: jax.Array) -> jax.Array:
    n, in_tiles = x.shape[0], symmetric and x.shape[0] > block
    if in_tiles and n % block:  # the last tile is filled up with points that do not exist
      x, where, vector = _blocks.padded((x, jnp.ones(n, bool) if where is None else where, vector), -n % block)
    other, exists = (x, where) if y is None else (y, where_y)
    x, other = _edm.filled(x, where), _edm.filled(other, exists)
    if vector is not None and exists is not None:
      vector = jnp.where(exists if vector.ndim == 1 else exists[:, None], vector, 0)

    def rows(start: Any, own: Any) -> jax.Array:
      x, where, operands_with_rows = own
      squared = _rules.edm(form, (x, other))
      if y is None:
        squared = jnp.where(_blocks.diagonal(start, squared.shape), 0, squared)
      present = _blocks.present(where, exists)
      own_operands = [a if own is None else own for own, a in zip(operands_with_rows, operands, strict=True)]
      return reduce(block_of(squared, present, own_operands), present, vector)

    def tile(on_diagonal: bool, own: Any, across: Any) -> tuple[jax.Array, jax.Array]:
      (x, where, vector), (other, exists, vector_across) = own, across
      present = _blocks.present(where, exists)
      block = block_of(_rules.edm(form, (x,) if on_diagonal else (x, other)), present, operands)
      return _sum(block, present, vector_across), _sum_of_columns(block, present, vector)

    if in_tiles:
      out, where = _blocks.by_tiles(tile, (x, where, vector), block)[:n], None if where is None else where[:n]
    else:
      own = [a if s else None for a, s in zip(operands, sliced, strict=True)]
      out = _blocks.by_rows(rows, (x, where, own), block)
    if where is None or reduce is not _sum:
      return out
    # Zero already; what stands in the cotangent of a missing row reaches nothing.
    return jnp.where(where if out.ndim == 1 else where[:, None], out, jnp.zeros_like(out))

  arrays = (x.astype(compute), None if y is None else y.astype(compute), where, where_y, vector, *operands)
  ranks = (2, 2, 1, 1, 0 if vector is None else min(vector.ndim, 2) if reduce is _sum else 1, *(2 for _ in operands))
  out = _blocks.batched(one, arrays, ranks, "(p,q)" if vector is not None and ranks[4] == 2 else "(p)")
  return out.astype(result) if result.itemsize < 4 and out.dtype == compute else out


def _sum(block: jax.Array, present: jax.Array | None, values: jax.Array | None) -> jax.Array:
  return _kernels.dot(*_factors(block, present, values, 1))


def _sum_of_columns(block: jax.Array, present: jax.Array | None, values: jax.Array | None) -> jax.Array:
  """``_sum`` of the transposed block; ``(values' block)'`` is faster on a CPU (``_kernels.adjoint``)."""
  block, values = _factors(block, present, values, 0)
  sums = _kernels.dot(values.T, block)
  return sums if values.ndim == 1 else _kernels.transposed(sums)


def _factors(block: jax.Array, present: jax.Array | None, values: jax.Array | None, axis: int) -> list[jax.Array]:
  if present is not None:
    block = jnp.where(present, block, jnp.zeros_like(block))
  # A product with ones, not a sum: a CPU vectorises it, and makes the block once for a sum of rows and one of columns.
  return _wide(block, jnp.ones(block.shape[axis], block.dtype) if values is None else values)


def _logsumexp(block: jax.Array, present: jax.Array | None, weights: jax.Array | None) -> jax.Array:
  block = block.astype(jnp.promote_types(jnp.result_type(block.dtype, float), jnp.float32))
  if present is not None:
    block = jnp.where(present, block, -jnp.inf)
  # XLA computes f twice, for the maximum and for the exponents. Left to itself it fuses the last product of f and the
  # subtraction of the maximum into one operation that rounds once, and a large maximum minus itself is not zero. The
  # selection, which turns minus infinity into a number as good, stands between the two.
  lowest = float(jnp.finfo(block.dtype).min)
  block = jnp.where(block < lowest, lowest, block)
  # What has no weight must not set the scale, nor overflow on it. (It keeps a derivative with respect to its weight.)
  counted = block
  if weights is not None:
    counted = jnp.where(weights == 0, lowest, block + jnp.log(jnp.where(weights == 0, 1, jnp.abs(weights))))
  top = lax.stop_gradient(counted).max(1, initial=lowest)
  top = jnp.where((top > lowest) & (top < jnp.inf), top, 0)
  exponent = block - top[:, None]
  if weights is None:
    total = jnp.exp(exponent).sum(1)
  else:
    limit = float(np.log(jnp.finfo(block.dtype).max)) - 1
    exponent = jnp.where(weights == 0, jnp.minimum(exponent, limit), exponent)
    total = _kernels.dot(*_wide(jnp.exp(exponent), weights))
  # Selected before the logarithm: masked afterwards, an empty row's derivative is 0 / 0.
  empty = total == 0
  return jnp.where(empty, -jnp.inf, jnp.log(jnp.where(empty, 1, total)) + top)


def _wide(*arrays: jax.Array) -> list[jax.Array]:
  """All of one dtype; one that accumulates in float32 or wider, or of integers as ``jnp.sum`` does."""
  dtype = jnp.result_type(*arrays)
  if jnp.issubdtype(dtype, jnp.inexact):
    dtype = jnp.promote_types(dtype, jnp.float32)
  else:
    dtype = jax.eval_shape(jnp.sum, jax.ShapeDtypeStruct((), dtype)).dtype
  return [a.astype(dtype) for a in arrays]
