"""Reductions over pairs as kernels of their own: for which platform is decided when JAX lowers them, and not before.

JAX never differentiates such a kernel. It is one primitive, whose tangents are those of the same reduction by XLA, and
whose transposed tangents are a kernel again: values and gradients run fused, and all else by XLA. A function of the
user's is traced for one pair. What it computes from nothing but values that it closes over is taken out of it, and
stays outside; what is left, with the numbers that it needs, goes into the kernel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from jax_edm import _errors
from jax_edm._core.derivatives import varying_axes
from jax_edm._core.linear import linear_of_trees
from jax_edm._pairwise.pallas import sweeps
from jax_edm._pairwise.pallas.sweeps import Arrays, Pairs
from jax_edm._pairwise.problem import SELECT, PairFunction, Problem
from jax_edm._pairwise.reductions import (
  LogSumExp,
  Reduction,
  RowMax,
  ScaledTotal,
  Sum,
  exponents,
  finite,
  log_size,
  weighted_exponentials,
)

PLATFORMS = ("tpu", "cuda")
INTERPRETED: Any = None  # in tests: where other platforms run the kernels, (route, interpret)

XLA = 'implementation="xla"'
WAY_OUT = f"Take {XLA}"

Leaves = Sequence[jax.Array]


class ByXla(Protocol):
  """The same by blocks of XLA."""

  def __call__(self, problem: Problem, reduction: Reduction) -> jax.Array: ...


@dataclass(frozen=True, eq=False)
class Kernel:
  pairs: Pairs
  run: Callable[[Any, Leaves], Leaves]  # on a route, of all arrays
  by_xla: Callable[..., Leaves]  # the same, of the arrays
  pull: Callable[[Any, Leaves, Leaves, Sequence[int]], Leaves] | None  # the cotangents of some, and of no others

  def transposed(self, moving: Sequence[int], count: int) -> "Kernel":
    """The cotangents of the arrays ``moving``, of the ``count`` arrays and of the cotangents of what comes out."""

    def run(on: Any, arrays: Leaves) -> Leaves:
      assert self.pull is not None
      return self.pull(on, arrays[:count], arrays[count:], moving)

    def by_xla(*arrays: jax.Array) -> Leaves:
      given = arrays[:count]
      return list(jax.vjp(_of_some(self.by_xla, given, moving), *(given[i] for i in moving))[1](list(arrays[count:])))

    return Kernel(self.pairs, run, by_xla, None)

  def batched(self, axes: Sequence[Any]) -> "Kernel":
    def run(on: Any, arrays: Leaves) -> Leaves:
      return jax.vmap(lambda *arrays: list(self.run(on, arrays)), tuple(axes))(*arrays)

    def by_xla(*arrays: jax.Array) -> Leaves:
      return jax.vmap(self.by_xla, tuple(axes))(*arrays)

    def pull(on: Any, arrays: Leaves, g: Leaves, moving: Sequence[int]) -> Leaves:
      def of_member(arrays: Leaves, g: Leaves) -> Leaves:
        assert self.pull is not None
        return list(self.pull(on, arrays, g, moving))

      bars = jax.vmap(of_member, (list(axes), 0))(list(arrays), list(g))
      return [
        bar.sum(0) if axes[i] is None else jnp.moveaxis(bar, 0, axes[i]) for i, bar in zip(moving, bars, strict=True)
      ]

    return Kernel(self.pairs, run, by_xla, None if self.pull is None else pull)


def _of_some(f: Callable[..., Any], arrays: Leaves, moving: Sequence[int]) -> Callable[..., Any]:
  def of_moving(*some: jax.Array) -> Any:
    new = dict(zip(moving, some, strict=True))
    return f(*(new.get(i, a) for i, a in enumerate(arrays)))

  return of_moving


kernel_p = Primitive("edm_kernel")
kernel_p.multiple_results = True


def _run(*arrays: jax.Array, kernel: Kernel) -> Leaves:
  return jax.jit(lambda *arrays: kernel_p.bind(*arrays, kernel=kernel))(*arrays)


def _shapes(*arrays: Any, kernel: Kernel) -> Any:
  return jax.make_jaxpr(lambda *arrays: list(kernel.by_xla(*arrays)))(*arrays).out_avals


def _jvp(arrays: Leaves, tangents: Sequence[Any], *, kernel: Kernel) -> tuple[Leaves, Leaves]:
  moving = [i for i, t in enumerate(tangents) if not isinstance(t, ad.Zero)]
  if any(name.startswith("custom_vjp") for name in kernel.pairs.operations):
    expected = 'with implementation="pallas" f must have forward mode'
    got = "a function with a jax.custom_vjp, which has none"
    raise _errors.error(kernel.pairs.caller, expected, got, f"Write it with jax.custom_jvp, or take {XLA}")

  def tangent(arrays: Leaves, t: Leaves) -> Leaves:
    return jax.jvp(_of_some(kernel.by_xla, arrays, moving), [arrays[i] for i in moving], t)[1]

  def transpose(arrays: Leaves, g: Leaves) -> Leaves:
    return list(kernel_p.bind(*arrays, *g, kernel=kernel.transposed(moving, len(arrays))))

  out, given, t = kernel_p.bind(*arrays, kernel=kernel), list(arrays), [tangents[i] for i in moving]
  return out, tangent(given, t) if kernel.pull is None else linear_of_trees(tangent, transpose, given, t)


def _transposed(g: Sequence[Any], *arrays: Any, kernel: Kernel) -> list[Any]:
  """Sums are linear in their values, and a gradient in its cotangent; what such a part would be is not asked for."""
  moving = [i for i, a in enumerate(arrays) if ad.is_undefined_primal(a)]
  given = [jnp.zeros(a.aval.shape, a.aval.dtype) if i in moving else a for i, a in enumerate(arrays)]
  g = [ad.instantiate_zeros(a) for a in g]
  if kernel.pull is None:
    bars = jax.linear_transpose(_of_some(kernel.by_xla, given, moving), *(given[i] for i in moving))(g)
  else:
    bars = kernel_p.bind(*given, *g, kernel=kernel.transposed(moving, len(given)))
  found = dict(zip(moving, bars, strict=True))
  return [found.get(i) for i in range(len(arrays))]


def _batched(arrays: Leaves, axes: Sequence[Any], *, kernel: Kernel) -> tuple[Leaves, Sequence[int]]:
  out = kernel_p.bind(*arrays, kernel=kernel.batched(axes))
  return out, [0] * len(out)


def _lowered(platform: str | None, ctx: Any, *arrays: Any, kernel: Kernel) -> Any:
  # Here, since importing Pallas takes a second.
  from jax_edm._pairwise.pallas import hardware

  pairs = kernel.pairs
  if platform in hardware.ROUTES:
    on = hardware.On(hardware.ROUTES[platform])
  elif platform is None and INTERPRETED:
    on = hardware.On(*INTERPRETED)
  else:
    expected = f'implementation="pallas" has kernels for {" and ".join(hardware.ROUTES)}, with jax {jax.__version__}'
    got = f"a program for {' and '.join(ctx.module_context.platforms)}"
    raise _errors.error(pairs.caller, expected, got, WAY_OUT)

  def run(*arrays: jax.Array) -> Leaves:
    with jax.enable_x64(False):
      out = kernel.run(on, arrays)
    return [a.astype(aval.dtype) for a, aval in zip(out, ctx.avals_out, strict=True)]

  try:
    if on.route == "triton" and SELECT in pairs.operations:
      raise ValueError(f"no {SELECT}")
    with hardware.lowering():
      return mlir.lower_fun(run, multiple_results=True)(ctx, *arrays)
  except Exception as e:  # of many kinds
    expected = f'with implementation="pallas", all must be what Pallas can lower for {platform or on.route}'
    reason = str(e).split("\n")[0].split(". Please file")[0]
    got = f"{type(e).__name__}, {reason}, of a kernel with {', '.join(pairs.operations) or 'no operations'} in f"
    raise _errors.error(pairs.caller, expected, got, WAY_OUT) from e


kernel_p.def_impl(_run)
kernel_p.def_abstract_eval(_shapes)
ad.primitive_jvps[kernel_p] = _jvp
ad.primitive_transposes[kernel_p] = _transposed
batching.primitive_batchers[kernel_p] = _batched
for _platform in (*PLATFORMS, None):
  mlir.register_lowering(kernel_p, partial(_lowered, _platform), platform=_platform)


def reduce(problem: Problem, reduction: Reduction, by_xla: ByXla) -> jax.Array:
  """``reduction`` of all pairs, by kernels; ``by_xla(problem, reduction)`` is the same by XLA."""
  caller = problem.f.caller
  check(caller, problem.x, problem.y, *_present(*problem.args, problem.values))
  problem = separated(problem)
  if isinstance(reduction, Sum):
    return _total(problem, partial(by_xla, reduction=Sum()))
  if isinstance(reduction, ScaledTotal):
    return _total(_scaled(problem, problem.row_max), partial(by_xla, reduction=Sum()))

  def top_and_total(problem: Problem) -> Leaves:
    top = by_xla(problem, reduction=RowMax())
    return [top, by_xla(replace(problem, row_max=top), reduction=ScaledTotal())]

  row_max, sums = _row_max_and_total(problem, top_and_total)
  if isinstance(reduction, RowMax):
    return row_max
  return LogSumExp.finish(_total(_scaled(problem, row_max), partial(by_xla, reduction=Sum()), sums), row_max)


def _total(problem: Problem, by_xla: Callable[[Problem], jax.Array], value: jax.Array | None = None) -> jax.Array:
  """``sum_j f(D_ij) v_j``, ``(n,)`` or ``(n, k)``; ``value`` is that, where it is known, and only has no derivative."""
  pairs, caller = _pairs(problem), problem.f.caller
  leaves, tree = jax.tree.flatten(_arrays(problem))
  unflatten, count = partial(jax.tree.unflatten, tree), len(leaves)
  out = jax.eval_shape(by_xla, problem)
  if jnp.issubdtype(out.dtype, jnp.integer):  # counted in float32, which is exact for as many as there are points
    if problem.values is not None or pairs.dtype != np.bool_:
      expected = 'with implementation="pallas" sums must be of floating numbers, or count where f is true'
      got = f"sums of dtype {out.dtype}"
      raise TypeError(_errors.message(caller, expected, got, f"Convert what f returns, and values, or take {XLA}"))
    leaves = lax.stop_gradient(leaves)
  else:
    check(caller, out)

  def run(on: Any, leaves: Leaves) -> Leaves:
    if value is not None:
      return leaves[-1:]
    return [sweeps.total(pairs, on, unflatten(leaves))]

  def pull(on: Any, leaves: Leaves, g: Leaves, moving: Sequence[int]) -> Leaves:
    z, wanted = unflatten(leaves[:count]), unflatten([i in moving for i in range(count)])
    return jax.tree.leaves(sweeps.pull(pairs, on, z, g[0], wanted))

  known = [] if value is None else [lax.stop_gradient(value)]
  kernel = Kernel(pairs, run, lambda *leaves: [by_xla(_problem(problem, unflatten(leaves[:count])))], pull)
  return kernel_p.bind(*leaves, *known, kernel=kernel)[0]


def _row_max_and_total(problem: Problem, by_xla: Callable[[Problem], Leaves]) -> tuple[jax.Array, jax.Array]:
  """The scale of each row, and its sum of exponentials on that scale, ``(n,)``; without derivatives."""
  exponent = replace(
    problem, f=_composed(problem, lambda squared, *args: exponents(problem.f((), squared, args), None))
  )
  pairs = _pairs(exponent)
  leaves, tree = jax.tree.flatten(lax.stop_gradient(_arrays(problem)))
  unflatten = partial(jax.tree.unflatten, tree)

  def run(on: Any, leaves: Leaves) -> Leaves:
    return sweeps.scaled(pairs, on, unflatten(leaves))

  kernel = Kernel(pairs, run, lambda *leaves: by_xla(_problem(problem, unflatten(leaves))), None)
  row_max, sums = kernel_p.bind(*leaves, kernel=kernel)
  return row_max, sums


def _scaled(problem: Problem, row_max: jax.Array) -> Problem:
  """The problem whose sum is that of the exponentials on the scale of the row."""
  weights = () if problem.values is None else (problem.values[None, :],)

  def term(squared: jax.Array, row_max: jax.Array, *rest: jax.Array) -> jax.Array:
    weight, args = (rest[0], rest[1:]) if weights else (None, rest)
    terms = exponents(problem.f((), squared, args), None)
    # A sweep may round otherwise than the one that found the scale: at 1e30 the last digit is 1e23, whose exp is inf.
    above = terms - finite(row_max) + (0 if weight is None else log_size(weight, terms))
    above = jnp.where((above > 0) & (above < jnp.inf), above, 0)
    return weighted_exponentials(terms - lax.stop_gradient(above), weight, row_max)

  scaled = replace(problem, args=(row_max[:, None], *weights, *problem.args), values=None, row_max=None)
  return replace(scaled, f=_composed(scaled, term))


def _composed(problem: Problem, f: Callable[..., jax.Array]) -> PairFunction:
  """A function of one pair, of the arguments of the problem; it closes over nothing."""
  with jax.enable_x64(False):
    scalars = [jax.ShapeDtypeStruct((), _plain(a).dtype) for a in (problem.x, *_present(*problem.args))]
    return PairFunction.trace(problem.f.caller, f, scalars)[0]


def _pairs(problem: Problem) -> Pairs:
  """What is static."""

  def of_tile(squared: jax.Array, *args: jax.Array) -> jax.Array:
    dtypes = [v.aval.dtype for v in problem.f.jaxpr.invars[1:]]
    tiles = [jnp.broadcast_to(a, squared.shape).astype(dtype) for a, dtype in zip(args, dtypes, strict=True)]
    return problem.f.of_block((), squared, tiles)

  f, hollow = problem.f, problem.one_set
  return Pairs(f.caller, f.operations, f.dtype, of_tile, problem.form, hollow, problem.diagonal, problem.symmetric)


def _arrays(problem: Problem) -> Arrays:
  all_rows, args = problem.all_rows, tuple(_present(*problem.args))
  y, y_mask = (None, None) if all_rows else (problem.y, problem.y_mask)
  return Arrays(problem.row_offset, problem.x, y, problem.x_mask, y_mask, problem.values, args)


def _problem(problem: Problem, z: Arrays) -> Problem:
  y, y_mask = (z.x, z.where) if z.y is None else (z.y, z.exists)
  return replace(
    problem, row_offset=z.first, x=z.x, y=y, x_mask=z.where, y_mask=y_mask, values=z.vector, args=tuple(z.operands)
  )


def _present(*arrays: Any) -> list[jax.Array]:
  return [a for a in arrays if a is not None]


def check(caller: str, *arrays: Any) -> None:
  """Raises unless all are such as the kernels have."""
  for a in arrays:
    floating = jnp.issubdtype(a.dtype, jnp.floating) and a.dtype.itemsize <= 4
    if not (floating or a.dtype in (np.bool_, np.int32)):
      expected = 'with implementation="pallas" numbers must be booleans, int32, or floating and of 32 bits at most'
      raise TypeError(_errors.message(caller, expected, f"dtype {a.dtype}", f"Convert them, or take {XLA}"))
  _check_devices(caller, arrays)


def _check_devices(caller: str, arrays: Sequence[Any]) -> None:
  if axes := {name for a in arrays for name in varying_axes(a)}:
    expected = 'with implementation="pallas" a jax.shard_map around this must not check what varies over its axes'
    advice = f"Pass check_vma=False to it, or take {XLA}"
    raise _errors.error(caller, expected, f"arrays that vary over {', '.join(sorted(axes))}", advice)


def separated(problem: Problem) -> Problem:
  """The problem whose f closes over nothing: numbers that f makes of what it closes over are arguments, ``(1, 1)``.

  What f computes from these values alone, before they meet D or an argument, stays outside of the kernel.
  """
  f, caller = problem.f, problem.f.caller
  jaxpr, known = f.jaxpr, set(f.jaxpr.invars[: len(problem.closed_over)])
  outside, inside = [], []
  for equation in jaxpr.eqns:
    if all(isinstance(v, Literal) or v in known for v in equation.invars) and not equation.effects:
      outside.append(equation)
      known.update(equation.outvars)
    else:
      inside.append(equation)
  used = [v for equation in inside for v in equation.invars] + list(jaxpr.outvars)
  between = list(dict.fromkeys(v for v in used if not isinstance(v, Literal) and v in known))
  names, own = jaxpr.debug_info, jaxpr.invars[len(problem.closed_over) :]
  outer, inner = jaxpr.invars[: len(problem.closed_over)], [*own, *between]
  unknown = names.with_unknown_names()
  before = ClosedJaxpr(Jaxpr((), outer, between, outside, debug_info=unknown), ())
  of_pair = Jaxpr((), inner, jaxpr.outvars, inside, debug_info=unknown)
  _check_devices(caller, problem.closed_over)
  numbers = jaxpr_as_fun(before)(*problem.closed_over)
  check(caller, *numbers)
  for a in numbers:
    if a.shape:
      expected = 'with implementation="pallas" f may close over numbers, and take entries of arrays'
      advice = f"Add terms in a Python loop, a[k] of each k, or take {XLA}"
      raise _errors.error(caller, expected, f"an array of shape {a.shape} that meets D as a whole", advice)
  args = (*map(narrowed, _present(*problem.args)), *(a.reshape(1, 1) for a in numbers))
  return replace(problem, f=PairFunction.of(caller, of_pair), args=args, closed_over=())


def narrowed(a: jax.Array) -> jax.Array:
  """A Python number, which has 64 bits where they are on, has as many as it needs."""
  return _plain(a) if jax.typeof(a).weak_type and a.dtype in (np.float64, np.int64) else a


def _plain(a: jax.Array) -> jax.Array:
  return a if a.dtype == bool else a.astype(jnp.float32 if jnp.issubdtype(a.dtype, jnp.floating) else jnp.int32)
