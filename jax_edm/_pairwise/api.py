"""``pairwise_sum`` and ``pairwise_logsumexp``: reductions over all pairs of points, in O(n) memory."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal, NamedTuple, TypedDict, Unpack, overload

import jax
import jax.numpy as jnp

from jax_edm import _errors, _sharding
from jax_edm._core.batching import dtypes, with_all_digits
from jax_edm._core.edm import check, choose_form, point_sets
from jax_edm._core.function import UntracedPairFunction
from jax_edm._core.sizes import known
from jax_edm._pairwise import blocked, cutoff, execution
from jax_edm._pairwise.execution import Plan
from jax_edm._pairwise.problem import Problem, pair_function
from jax_edm._pairwise.reductions import LogSumExp, Reduction, Sum
from jax_edm._typing import ArrayLike, AxisName, Implementation, Method

Function = Callable[..., jax.Array]  # of one pair


def pairwise_sum(
  f: Function,
  x: ArrayLike,
  y: ArrayLike | None = None,
  *,
  args: tuple[ArrayLike, ...] = (),
  values: ArrayLike | None = None,
  diagonal: bool = True,
  cutoff: ArrayLike | None = None,
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
    f: a JAX function of one pair: of its squared distance and of its entry of each of ``args``, all of them numbers,
      which returns a number. It is traced on numbers, and mapped over the pairs. It may close over parameters, also
      traced ones, and their gradients are right. Distances are ``safe_root(D)``.
    x: points, ``(..., n, d)``.
    y: points, ``(..., m, d)``; ``None`` stands for ``x`` itself, and then ``D_ii`` is exactly 0 (and ``f(0)`` is part
      of the sum).
    args: a tuple of arrays that broadcast to ``(..., n, m)``: numbers, ``(n, 1)`` for what belongs to points of ``x``,
      ``(1, m)`` or ``(m,)`` for points of ``y``, ``(n, m)`` for pairs.
    values: ``(m,)`` or ``(..., m, k)``; ``None`` stands for ones. (A batch of vectors is ``values[..., None]``.)
    diagonal: whether the pair of a point with itself counts (one set). ``False`` leaves it out, also for an ``f`` that
      is singular at zero, like ``1 / D``: all derivatives are finite.
    cutoff: a distance, one number or ``(...)``: pairs that are farther apart count nothing, as in
      ``where(D <= cutoff**2, f(D), 0)``, and ``f`` does not see them. It may be traced, and has no derivative; a traced
      one that is negative or NaN leaves no pair. A point that is not finite is then near to nothing, not even itself.
      In few coordinates, 6 at most, and from about 2,900 points on, the time follows the number of near pairs: points
      are put into tiles of neighbours, and tiles that are far from each other are left out (``docs/streaming.md``).
    where: ``(..., n)`` booleans, as for :func:`jax_edm.edm`: a missing point has the sum 0, is in no other sum, and
      what stands in it, in its arguments and in its values reaches nothing.
    where_y: ``(..., m)`` booleans, the same for ``y``.
    method: as for :func:`jax_edm.edm`.
    block_size: rows of D at a time, by all of its columns; ``None``: as many as make about 2**20 entries. For one set
      without arguments of its points or pairs D is symmetric: then half of it is made, in square tiles of as many
      entries as those rows have, unless the tiles would be many and small.
    axis_name: a mesh axis, or several: for points that are spread over its devices, those of ``y`` included. Blocks of
      ``y``, and what belongs to them, travel around the ring of devices, and so does the gradient: none ever holds more
      than its share. Inside ``jax.shard_map`` all arrays are those of one device, but arguments ``(n, m)`` have a
      column for each point of ``y`` on any of them; outside, the arrays are whole, and lie on a mesh with that axis.
      ``None``: each device streams its rows over the whole of ``y``. ``docs/devices.md`` says which to take.
    implementation: ``"xla"``: blocks by XLA. ``"pallas"``: one kernel, for GPUs (CUDA) and TPUs, which makes, uses and
      forgets tiles of D on the chip; a program for another platform raises when it is lowered. It computes in float32;
      ``f`` may close over numbers, and forward mode and second order run by XLA.
      ``docs/kernels.md`` says more. ``None``: kernels on a GPU, where they can be made and were measured to win;
      otherwise XLA.

  Returns:
    ``(..., n)``, or ``(..., n, k)`` with values of that form. float16 and bfloat16 compute in float32 (``f`` too), and
      return the type of the points; elsewhere the types of ``f``, the arguments and the values promote. A boolean ``f``
      counts.

  Raises:
    ValueError, TypeError: as :func:`jax_edm.edm`; an ``f`` that does not return one number; arguments or values that
      do not fit; ``diagonal=False`` with two sets; a cutoff that is negative or NaN, outside ``jit``; a block size
      below 1; an axis that no mesh has, points that do not divide evenly over it; with ``"pallas"``, whatever its
      kernels lack: a platform, an operation in ``f``, a type of numbers, a cutoff.

  Derivatives: all modes, all orders, with respect to the points, the arguments, the values and what ``f`` closes over.
  At coincident points they are those of ``f`` at 0, which must have some: write ``safe_root(D)``, not ``jnp.sqrt(D)``.
  With a cutoff they are those of the pairs within it; none comes from pairs that enter or leave.

  Memory: ``O(block_size m + (n + m) (d + k))`` in every mode, up to two orders of reverse mode, for each member of the
  batch. An argument ``(n, m)`` is the caller's; it is copied once if ``block_size`` does not divide ``n`` (``None``
  takes a divisor where there is one).

  Un-jitted calls on one device compile once for all ``f`` that do the same, unless ``f`` holds rules of its own (a
  ``custom_jvp``, such as ``jax.nn.relu``); each of them traces its ``f``, in about a millisecond.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jax_edm import pairwise_sum
    >>> x = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    >>> pairwise_sum(lambda D: jnp.exp(-D / 25), x).round(3)  # a kernel density
    Array([1.368, 1.368], dtype=float32)
    >>> target = jnp.array([[0.0, 9.0], [9.0, 0.0]])
    >>> jax.grad(lambda x: pairwise_sum(lambda D, t: (D - t) ** 2, x, args=(target,)).sum())(x)  # stress
    Array([[-384., -512.],
           [ 384.,  512.]], dtype=float32)
    >>> pairwise_sum(lambda D: D < jnp.inf, x, cutoff=4.9)  # how many points are near, each of them included
    Array([1, 1], dtype=int32)
  """
  data = Data(args, values, diagonal, cutoff, where, where_y)
  return _request("pairwise_sum", f, x, y, data, Sum(), method, block_size, axis_name, implementation)


class Options(TypedDict, total=False):
  """What ``pairwise_logsumexp`` takes by keyword, beside ``return_sign``."""

  args: tuple[ArrayLike, ...]
  weights: ArrayLike | None
  diagonal: bool
  cutoff: ArrayLike | None
  where: ArrayLike | None
  where_y: ArrayLike | None
  method: Method
  block_size: int | None
  axis_name: AxisName | None
  implementation: Implementation | None


@overload
def pairwise_logsumexp(
  f: Function, x: ArrayLike, y: ArrayLike | None = ..., *, return_sign: Literal[True], **o: Unpack[Options]
) -> tuple[jax.Array, jax.Array]: ...
@overload
def pairwise_logsumexp(
  f: Function, x: ArrayLike, y: ArrayLike | None = ..., *, return_sign: Literal[False] = ..., **o: Unpack[Options]
) -> jax.Array: ...
def pairwise_logsumexp(
  f: Function,
  x: ArrayLike,
  y: ArrayLike | None = None,
  *,
  args: tuple[ArrayLike, ...] = (),
  weights: ArrayLike | None = None,
  diagonal: bool = True,
  cutoff: ArrayLike | None = None,
  return_sign: bool = False,
  where: ArrayLike | None = None,
  where_y: ArrayLike | None = None,
  method: Method = None,
  block_size: int | None = None,
  axis_name: AxisName | None = None,
  implementation: Implementation | None = None,
) -> jax.Array | tuple[jax.Array, jax.Array]:
  r"""Logarithms of sums of exponentials over all pairs: soft minima, Sinkhorn's update, densities in logs.

  .. math:: s_i = \log \sum_j w_j \exp f(D_{ij}, a_{ij}, \dots), \qquad D_{ij} = \lVert x_i - y_j \rVert^2

  Shapes: ``n``, ``m`` points; ``d`` coordinates; ``...`` leading batch axes, which broadcast.

  Args:
    f: a function of one pair, as for :func:`pairwise_sum`.
    x: points, ``(..., n, d)``.
    y: points, ``(..., m, d)``; ``None`` stands for ``x`` itself.
    args: as for :func:`pairwise_sum`.
    weights: ``(..., m)``, not negative without ``return_sign``; ``None`` stands for ones. They have any finite size,
      from the smallest normal number (1.2e-38 in float32; XLA takes what is smaller for zero) to the largest.
    diagonal: as for :func:`pairwise_sum`.
    cutoff: as for :func:`pairwise_sum`.
    return_sign: the weights may be negative, and the result is the pair ``(log |s|, sign)``, as for
      ``jax.scipy.special.logsumexp``.
    where: ``(..., n)`` booleans: a missing point is in no other sum, and its own is minus infinity.
    where_y: ``(..., m)`` booleans, the same for ``y``.
    method: as for :func:`jax_edm.edm`.
    block_size: as for :func:`pairwise_sum`.
    axis_name: as for :func:`pairwise_sum`.
    implementation: as for :func:`pairwise_sum`.

  Returns:
    ``(..., n)``. The largest term of a row, its weight included, sets the scale: nothing overflows, over any range.
    A row of which every entry is minus infinity, or without weight, gives minus infinity, and a zero gradient. With
    ``return_sign`` a pair of ``(..., n)``, where the sign is -1, 0 or 1; without, a negative sum gives NaN.

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
  data = Data(args, weights, diagonal, cutoff, where, where_y)
  out = _request("pairwise_logsumexp", f, x, y, data, LogSumExp(), method, block_size, axis_name, implementation)
  size, sign = out[..., 0], out[..., 1]
  return (size, sign) if return_sign else jnp.where(sign < 0, jnp.nan, size)


LEAST_PAIRS, MOST_COORDINATES = 2**24, 64


class Data(NamedTuple):
  """What a user passes beside f and the points."""

  args: Any
  values: Any
  diagonal: Any
  cutoff: Any
  where: Any
  where_y: Any


def _request(
  caller: str,
  f: Any,
  x: Any,
  y: Any,
  data: Data,
  reduction: Reduction,
  method: Method,
  block_size: int | None,
  axis_name: AxisName | None,
  implementation: Implementation | None,
) -> jax.Array:
  """Checks; then the problem and the plan."""
  _errors.function(caller, "f", f)
  _errors.option(caller, "implementation", implementation, ("xla", "pallas"))
  if block_size is not None:
    _errors.positive(caller, "block_size", block_size)
  _errors.diagonal(caller, data.diagonal, y)
  batch = check(caller, x, y, data.where, data.where_y, method)
  x, y = with_all_digits(x), with_all_digits(y)
  (n, d), m = x.shape[-2:], (x if y is None else y).shape[-2]
  is_sum = isinstance(reduction, Sum)
  name, values = ("values", data.values) if is_sum else ("weights", with_all_digits(data.values))
  values, batch = _errors.values(caller, name, values, m, batch, columns=is_sum)
  devices = _sharding.ring_size(caller, axis_name)
  args, batch = _errors.args(caller, data.args, batch, (n, m), m * devices)
  result, compute = dtypes(x, *([] if y is None else [y]))
  form = choose_form(method, blocked.TYPICAL, blocked.TYPICAL, d)
  points = point_sets(x, y, data.where, data.where_y, form, compute)
  squared_cutoff = None
  if data.cutoff is not None:
    cutoff.check(caller, data.cutoff, batch, implementation)
    squared_cutoff, points = cutoff.squared(data.cutoff, compute), points.without_infinite_points()
  function, closed_over, closed = pair_function(caller, f, points, args, implementation == "pallas")
  if not is_sum and not isinstance(function, UntracedPairFunction):
    _errors.real_number(caller, function.dtype)
  columns = is_sum and values is not None and values.ndim > 1
  problem = Problem(
    **{field.name: getattr(points, field.name) for field in fields(points)},
    values=values,
    args=args,
    closed_over=closed_over,
    row_max=None,
    squared_cutoff=squared_cutoff,
    f=function,
    columns=columns,
    diagonal=bool(data.diagonal),
  )
  # Seen before a device has one row, or one column.
  travels = tuple(a.shape[-2] == 1 and a.shape[-1] == m and (m != 1 or devices > 1) for a in args)
  may_choose = block_size is None and axis_name is None and squared_cutoff is None
  by = _implementation(problem, implementation, may_choose)
  plan = Plan(caller, block_size, axis_name, by, implementation is not None, travels, closed)
  # A program is kept where it will be found again, and holds nothing of a trace around it.
  lost = isinstance(function, UntracedPairFunction) or function.holds_functions or _is_traced()
  out = (_reduce if lost else _compiled_reduce)(problem, reduction, plan)
  return out.astype(result) if result.itemsize < 4 and out.dtype == compute else out


def _implementation(problem: Problem, asked: Implementation | None, may_choose: bool) -> Implementation:
  """What computes the problem: XLA where there is nothing to do; unasked, a kernel on a GPU (docs/kernels.md)."""
  if any(0 in a.shape for a in problem.leaves()[0]):
    return "xla"
  if asked is not None or not may_choose or jax.default_backend() != "gpu":
    return asked or "xla"
  (n, d), m = problem.x.shape[-2:], problem.y.shape[-2]
  many = known(n, m) and n * m >= LEAST_PAIRS and d <= MOST_COORDINATES
  in_32_bits = not jax.config.read("jax_enable_x64")
  return "pallas" if many and in_32_bits and not _sharding.on_a_mesh(*problem.leaves()[0]) else "xla"


def _is_traced() -> bool:
  """Whether the caller is being traced, by ``jax.jit`` or the like: then constants are traced, too."""
  return isinstance(jnp.zeros(()), jax.core.Tracer)


def _reduce(problem: Problem, reduction: Reduction, plan: Plan) -> jax.Array:
  arrays, roles = problem.leaves()
  result = "nd" if execution.has_columns(problem, reduction) else "n"

  def of_rows(row_offset: Any, *arrays: jax.Array) -> jax.Array:
    return execution.reduce(problem.with_leaves(arrays, row_offset), reduction, plan)

  if plan.axis_name is None:
    kernel, loops = plan.implementation == "pallas", problem.squared_cutoff is not None
    return _sharding.shard_rows(plan.caller, of_rows, arrays, roles, result, True, kernel, plan.closed, loops)

  def on_ring(*arrays: jax.Array) -> jax.Array:
    return execution.reduce_on_ring(problem.with_leaves(arrays), reduction, plan)

  return _sharding.ring_map(plan.caller, on_ring, arrays, roles, result, plan.axis_name, plan.closed)


_compiled_reduce = jax.jit(_reduce, static_argnums=(1, 2))
