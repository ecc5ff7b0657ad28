"""``pairwise_sum`` and ``pairwise_logsumexp``: reductions over all pairs of points, in O(n) memory."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp

from jax_edm import _errors, _sharding
from jax_edm._core.derivatives import varying_axes
from jax_edm._core.edm import check, choose_form, dtypes, point_sets
from jax_edm._pairwise import execution
from jax_edm._pairwise.problem import PairFunction, Problem, UntracedPairFunction
from jax_edm._pairwise.reductions import LogSumExp, Reduction, Sum
from jax_edm._typing import ArrayLike, AxisName, Implementation, Method


BLOCK = 128  # points: what the forms of blocks are chosen for


def pairwise_sum(
  f: Callable[..., jax.Array],
  x: ArrayLike,
  y: ArrayLike | None = None,
  *,
  args: tuple[ArrayLike, ...] = (),
  values: ArrayLike | None = None,
  diagonal: bool = True,
  where: ArrayLike | None = None,
  where_y: ArrayLike | None = None,
  method: Method = None,
  block_size: int | None = None,
  axis_name: AxisName | None = None,
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
  _errors.block_size("pairwise_sum", block_size)
  problem, result, travels = _problem(
    "pairwise_sum", f, x, y, args, values, _errors.values, diagonal, where, where_y, method, axis_name, implementation
  )
  out = _reduced(problem, "pairwise_sum", Sum(), block_size, axis_name, implementation, travels)
  return _narrowed(out, problem, result)


def pairwise_logsumexp(
  f: Callable[..., jax.Array],
  x: ArrayLike,
  y: ArrayLike | None = None,
  *,
  args: tuple[ArrayLike, ...] = (),
  weights: ArrayLike | None = None,
  diagonal: bool = True,
  return_sign: bool = False,
  where: ArrayLike | None = None,
  where_y: ArrayLike | None = None,
  method: Method = None,
  block_size: int | None = None,
  axis_name: AxisName | None = None,
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
  name = "pairwise_logsumexp"
  _errors.block_size(name, block_size)
  problem, result, travels = _problem(
    name, f, x, y, args, weights, _errors.weights, diagonal, where, where_y, method, axis_name, implementation
  )
  out = _reduced(problem, name, LogSumExp(), block_size, axis_name, implementation, travels)
  size, sign = (_narrowed(out[..., k], problem, result) for k in (0, 1))
  if return_sign:
    return size, sign
  return jnp.where(sign < 0, jnp.nan, size)


def _problem(
  name: str,
  f: Any,
  x: Any,
  y: Any,
  args: Any,
  values: Any,
  check_values: Any,
  diagonal: Any,
  where: Any,
  where_y: Any,
  method: Method,
  axis_name: Any,
  implementation: Any,
) -> tuple[Problem, Any, tuple[bool, ...]]:
  """The data, checked; the dtype of the result; and which arguments go with the columns around a ring."""
  _errors.function(name, "f", f)
  _errors.implementation(name, implementation)
  batch = check(name, x, y, where, where_y, method)
  _errors.diagonal(name, diagonal, y)
  (n, d), m = x.shape[-2:], (x if y is None else y).shape[-2]
  values, batch = check_values(name, values, m, batch)
  devices = _sharding.ring_size(name, axis_name)
  args, batch = _errors.args(name, args, batch, (n, m), m * devices)
  result, compute = dtypes(x, *([] if y is None else [y]))
  # Of blocks, which have many rows or columns even where there are few points.
  points = point_sets(x, y, where, where_y, choose_form(method, max(n, BLOCK), max(m, BLOCK), d), compute)
  function, closed_over = _pair_function(name, f, points.x, args, implementation)
  columns = check_values is _errors.values and values is not None and values.ndim > 1
  problem = Problem(
    points.x,
    points.y,
    points.x_mask,
    points.y_mask,
    None,
    points.form,
    points.one_set,
    values,
    args,
    closed_over,
    None,
    function,
    columns,
    bool(diagonal),
  )
  # Seen before a device has one row, or one column.
  travels = tuple(a.shape[-2] == 1 and a.shape[-1] == m and (m > 1 or devices > 1) for a in args)
  return problem, result, travels


def _pair_function(
  name: str, f: Callable[..., Any], x: jax.Array, args: tuple[jax.Array, ...], implementation: Any
) -> tuple[PairFunction, tuple[jax.Array, ...]]:
  if any(map(varying_axes, (x, *args))):
    return UntracedPairFunction(name, None, (id(f),), f), ()  # type: ignore[arg-type]
  # Kernels compute in 32 bits, whatever JAX is told; Python's numbers follow.
  with jax.enable_x64(bool(jax.config.jax_enable_x64) and implementation != "pallas"):
    scalars = [jax.ShapeDtypeStruct((), a.dtype, weak_type=jax.typeof(a).weak_type) for a in (x, *args)]
    return PairFunction.trace(name, f, scalars)


def _reduced(problem: Problem, *options: Any) -> jax.Array:
  if isinstance(problem.f, UntracedPairFunction):  # it may close over what a cached program must not keep
    return _reduce(problem, *options)
  return _compiled_reduce(problem, *options)


def _reduce(
  problem: Problem,
  name: str,
  reduction: Reduction,
  block_size: int | None,
  axis_name: AxisName | None,
  implementation: Implementation | None,
  travels: tuple[bool, ...],
) -> jax.Array:
  """Who computes which rows, with what."""
  arrays, roles = problem.leaves()
  # None takes kernels where a kept result shows that they win (docs/performance.md): there is none yet. XLA's blocks
  # also do where there is nothing to do.
  by: Implementation = implementation if implementation and all(a.size for a in arrays) else "xla"
  result = "nd" if problem.columns or isinstance(reduction, LogSumExp) else "n"

  def of_rows(row_offset: Any, *arrays: jax.Array) -> jax.Array:
    return execution.reduce(problem.with_leaves(arrays, row_offset), reduction, block_size, by)

  def on_ring(*arrays: jax.Array) -> jax.Array:
    local = problem.with_leaves(arrays)
    return execution.reduce_on_ring(name, local, reduction, block_size, by, axis_name, travels)  # type: ignore[arg-type]

  if axis_name is None:
    return _sharding.shard_rows(name, of_rows, arrays, roles, result, cut=True, kernel=by == "pallas")
  return _sharding.ring_map(name, on_ring, arrays, roles, result, axis_name)


_compiled_reduce = jax.jit(_reduce, static_argnums=(1, 2, 3, 4, 5, 6))


def _narrowed(out: jax.Array, problem: Problem, result: Any) -> jax.Array:
  return out.astype(result) if result.itemsize < 4 and out.dtype == problem.x.dtype else out
