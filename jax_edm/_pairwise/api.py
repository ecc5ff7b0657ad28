"""``pairwise_sum`` and ``pairwise_logsumexp``: reductions over all pairs of points, in O(n) memory."""

from collections.abc import Callable
from typing import Any

import jax

from jax_edm import _errors
from jax_edm import _sharding
from jax_edm._core import edm as _edm
from jax_edm._pairwise import reductions
from jax_edm._core.edm import Method
from jax_edm._pairwise.reductions import Implementation


def pairwise_sum(
  f: Callable[..., jax.Array],
  x: jax.Array,
  y: jax.Array | None = None,
  *,
  args: Any = (),
  values: jax.Array | None = None,
  where: jax.Array | None = None,
  where_y: jax.Array | None = None,
  method: Method = None,
  block_size: int | None = None,
  axis_name: str | tuple[str, ...] | None = None,
  implementation: Implementation | None = None,
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
    axis_name: a mesh axis, or several: for points that are spread over its devices, those of ``y`` included. Blocks of
      ``y``, and what belongs to them, travel around the ring of devices, and so does the gradient: none ever holds more
      than its share. Inside ``jax.shard_map`` all arrays are those of one device, but that operands ``(n, m)`` have a
      column for each point of ``y`` on any of them; outside, the arrays are whole, and lie on a mesh with that axis.
      ``None``: each device streams its rows over the whole of ``y``. ``docs/devices.md`` says which to take.
    implementation: ``"xla"``: blocks by XLA. ``"pallas"``: one kernel, for GPUs (CUDA) and TPUs, which makes, uses and
      forgets tiles of D on the chip; a program for another platform raises when it is lowered. It computes in float32;
      ``f`` is traced for one pair, too, and may close over numbers; forward mode and second order run by XLA.
      ``docs/kernels.md`` says more. ``None``: what was measured to be faster; no kernel has been measured yet.

  Returns:
    ``(..., n)``, or ``(..., n, k)`` with values of that form. float16 and bfloat16 compute in float32 (``f`` too), and
      return the type of the points; elsewhere the types of ``f``, the operands and the values promote.

  Raises:
    ValueError, TypeError: as :func:`jax_edm.edm`; an ``f`` that changes the shape; an operand or values that do not
      fit; a block size below 1; an axis that no mesh has, points that do not divide evenly over it; with ``"pallas"``,
      whatever its kernels lack: a platform, an operation in ``f``, a type of numbers.

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
    >>> jax.grad(lambda x: pairwise_sum(lambda D, t: (D - t) ** 2, x, args=(target,)).sum())(x)  # stress
    Array([[-384., -512.],
           [ 384.,  512.]], dtype=float32)
  """
  options = where, where_y, method, block_size, axis_name, implementation
  return _reduction("pairwise_sum", "sum", f, x, y, args, values, *options)


def pairwise_logsumexp(
  f: Callable[..., jax.Array],
  x: jax.Array,
  y: jax.Array | None = None,
  *,
  args: Any = (),
  weights: jax.Array | None = None,
  where: jax.Array | None = None,
  where_y: jax.Array | None = None,
  method: Method = None,
  block_size: int | None = None,
  axis_name: str | tuple[str, ...] | None = None,
  implementation: Implementation | None = None,
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
    axis_name: as for :func:`pairwise_sum`.
    implementation: as for :func:`pairwise_sum`.

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
  options = where, where_y, method, block_size, axis_name, implementation
  return _reduction("pairwise_logsumexp", "logsumexp", f, x, y, args, weights, *options)


def _reduction(
  name: str,
  kind: reductions.Kind,
  f: Any,
  x: Any,
  y: Any,
  operands: Any,
  vector: jax.Array | None,
  where: Any,
  where_y: Any,
  method: Any,
  block_size: Any,
  axis_name: Any,
  implementation: Any,
) -> jax.Array:
  """Checks, and who computes which rows, with what."""
  _errors.function(name, "f", f)
  _errors.implementation(name, implementation)
  batch = _edm.check(name, x, y, where, where_y, method)
  m = (x if y is None else y).shape[-2]
  check_vector = _errors.values if kind == "sum" else _errors.weights
  vector, batch = check_vector(name, vector, m, batch)
  operands, devices = list(operands), _sharding.ring_size(name, axis_name)
  for i, a in enumerate(operands):
    operands[i], batch = _errors.operand(name, i, a, batch, (x.shape[-2], m), m * devices)
  _errors.block_size(name, block_size)
  result, compute = _edm.dtypes(x, *([] if y is None else [y]))
  x, other = x.astype(compute), (x if y is None else y).astype(compute)
  columns = kind == "sum" and vector is not None and vector.ndim > 1  # of values
  across = [(other, "md"), (where if y is None else where_y, "m"), (vector, "md" if columns else "m")]
  given = [(x, "nd"), (where, "n"), *across, *((a, "nm") for a in operands)]
  out_axes = "nd" if columns else "n"
  # Which operands go with the columns: seen before a device has one row, or one column.
  travels = tuple(a.shape[-2] == 1 and a.shape[-1] == m and (m > 1 or devices > 1) for a in operands)
  form = _edm.choose_form(method, 10**6, 10**6, x.shape[-1])
  # None takes kernels where a kept result shows that they win (docs/performance.md): there is none yet. XLA's blocks
  # also do where there is nothing to do.
  empty = 0 in (*batch, *x.shape, *other.shape, *(() if vector is None else vector.shape))
  kernels: reductions.Implementation = implementation if implementation and not empty else "xla"

  def stream(f: Callable[..., jax.Array]) -> reductions.Stream:
    return reductions.Stream(name, f, y is None, form, block_size, kind, columns, travels, kernels)

  if axis_name is None:
    out = _sharding.by_rows(
      name, lambda f, *arrays: stream(f).of_rows(*arrays), given, out_axes, True, f, kernels == "pallas"
    )
  else:
    out = _sharding.around(name, lambda f, *arrays: stream(f).around(axis_name, *arrays), given, out_axes, axis_name, f)
  return out.astype(result) if result.itemsize < 4 and out.dtype == compute else out
