"""Reductions over pairs as kernels: a sum is one, and a logsumexp is a sum on a scale that another one finds.

A function of the user's is traced for one pair. What it computes from nothing but what it closes over stays outside of
the kernel; what is left goes into the kernel, with the numbers that it needs as further arguments.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

from jax_edm import _errors
from jax_edm._core.function import PairFunction
from jax_edm._core.linear import Arrays
from jax_edm._core.varying import varying_axes
from jax_edm._pairwise import reductions
from jax_edm._pairwise.pallas import rule, sweeps
from jax_edm._pairwise.pallas.backend import Backend
from jax_edm._pairwise.pallas.rule import XLA, Kernel, NoKernel
from jax_edm._pairwise.problem import Problem
from jax_edm._pairwise.reductions import LogSumExp, Reduction, RowMax, ScaledTotal, Sum

ByXla = Callable[[Problem, Reduction], jax.Array]  # the same reduction by XLA


def reduce(problem: Problem, reduction: Reduction, by_xla: ByXla, required: bool) -> jax.Array:
  """``reduction`` of all pairs, by kernels; ``by_xla(problem, reduction)`` is the same by XLA.

  Raises ``NoKernel``, or, where a kernel is not ``required``, does by XLA what shows later not to be one.
  """
  args = tuple(map(_narrowed, _not_none(*problem.args)))
  _check(problem.f.caller, problem.x, problem.y, *args, *_not_none(problem.values))
  problem = separate(replace(problem, args=args))
  if not required and any(name.startswith("custom_vjp") for name in problem.f.operations):
    raise NoKernel(rule.no_forward_mode(problem.f.caller))

  def total_by_xla(problem: Problem) -> jax.Array:
    return by_xla(problem, Sum())

  if isinstance(reduction, Sum):
    return _total(problem, total_by_xla, required)
  if isinstance(reduction, ScaledTotal):
    assert problem.row_max is not None
    return _total(_on_scale(problem, problem.row_max), total_by_xla, required)
  row_max, total = _row_max_and_total(problem, by_xla, required)
  if isinstance(reduction, RowMax):
    return row_max
  return LogSumExp.finish(_total(_on_scale(problem, row_max), total_by_xla, required, total), row_max)


def _total(
  problem: Problem, by_xla: Callable[[Problem], jax.Array], required: bool, value: jax.Array | None = None
) -> jax.Array:
  """``sum_j f(D_ij) v_j``, ``(n,)`` or ``(n, k)``; ``value`` is the same, if it is known, without a derivative."""
  out = jax.eval_shape(by_xla, problem.prepared())
  arrays, names, rebuild = _flatten(problem)
  count = len(arrays)
  if jnp.issubdtype(out.dtype, jnp.integer):  # counted in float32, which is exact for as many as there are points
    if problem.values is not None or problem.f.dtype != np.bool_:
      expected = 'with implementation="pallas" f must return a floating-point number, or a boolean, which counts'
      advice = f"Convert what f returns, and values, or take {XLA}"
      raise NoKernel(_errors.type_error(problem.f.caller, expected, f"sums of dtype {out.dtype}", advice))
    arrays = lax.stop_gradient(arrays)
  else:
    _check(problem.f.caller, out)

  def run(backend: Backend, arrays: Arrays) -> Arrays:
    return arrays[count:] if len(arrays) > count else [sweeps.total(rebuild(arrays), backend)]

  def vjp(backend: Backend, arrays: Arrays, g: Arrays, argnums: Sequence[int]) -> Arrays:
    wanted = [names[i] for i in argnums if i < count]  # a known value has no derivative
    cotangents = sweeps.vjp(rebuild(arrays[:count]), backend, g[0], wanted)
    return [cotangents[name] for name in wanted]

  kernel = Kernel(problem.f, run, lambda *arrays: [by_xla(rebuild(arrays[:count]).prepared())], vjp, required)
  known = [] if value is None else [lax.stop_gradient(value)]
  return rule.kernel_p.bind(*arrays, *known, kernel=kernel)[0]


def _row_max_and_total(problem: Problem, by_xla: ByXla, required: bool) -> tuple[jax.Array, jax.Array]:
  """The scale of each row, and its sum of exponentials on that scale, ``(n,)``; without derivatives."""
  f = _compose(problem, lambda squared, *args: reductions.exponents(_of_pair(problem, squared, args), None))
  arrays, _, rebuild = _flatten(problem)

  def run(backend: Backend, arrays: Arrays) -> Arrays:
    return sweeps.scaled(replace(rebuild(arrays), f=f), backend)

  def both_by_xla(*arrays: jax.Array) -> Arrays:
    problem = rebuild(arrays).prepared()
    row_max = by_xla(problem, RowMax())
    return [row_max, by_xla(replace(problem, row_max=row_max), ScaledTotal())]

  row_max, total = rule.kernel_p.bind(*lax.stop_gradient(arrays), kernel=Kernel(f, run, both_by_xla, None, required))
  return row_max, total


def _on_scale(problem: Problem, row_max: jax.Array) -> Problem:
  """The problem whose sum is that of the exponentials on the scale of each row."""
  weights = () if problem.values is None else (problem.values[None, :],)

  def term(squared: jax.Array, row_max: jax.Array, *rest: jax.Array) -> jax.Array:
    weight, args = (rest[0], rest[1:]) if weights else (None, rest)
    terms = reductions.exponents(_of_pair(problem, squared, args), None)
    # A sweep may round otherwise than the one that found the scale: at 1e30 the last digit is 1e23, whose exp is inf.
    above = terms - reductions.finite(row_max) + (0 if weight is None else reductions.log_size(weight, terms))
    above = jnp.where((above > 0) & (above < jnp.inf), above, 0)
    if weight is not None:  # a term without weight is not on the scale
      above = jnp.where(weight == 0, 0, above)
    return reductions.weighted_exponentials(terms - lax.stop_gradient(above), weight, row_max)

  args = tuple(_in_32_bits(a) for a in (row_max[:, None], *weights, *_not_none(*problem.args)))
  scaled = replace(problem, args=args, values=None, row_max=None)
  return replace(scaled, f=_compose(scaled, term))


def _compose(problem: Problem, f: Callable[..., jax.Array]) -> PairFunction:
  """The function of one pair of a problem with such arguments; it closes over nothing."""
  with jax.enable_x64(False):
    arrays = (problem.x, *_not_none(*problem.args))
    return PairFunction.trace(problem.f.caller, f, [jax.ShapeDtypeStruct((), _in_32_bits(a).dtype) for a in arrays])[0]


def _of_pair(problem: Problem, squared: jax.Array, args: Sequence[jax.Array]) -> jax.Array:
  """``f``, of arguments that have 32 bits."""
  return problem.f((), squared, problem.f.converted(args))


def _flatten(problem: Problem) -> tuple[list[jax.Array], list[str], Callable[[Arrays], Problem]]:
  """The arrays of a problem, each of them once; their names; and the problem of such arrays."""
  all_rows = problem.all_rows
  once: Any = replace(problem, sides=None)
  if all_rows:
    once = replace(once, y=None, y_mask=None)
  found, tree = jax.tree.flatten_with_path(once)

  def rebuild(arrays: Arrays) -> Problem:
    problem: Problem = jax.tree.unflatten(tree, arrays)
    return replace(problem, y=problem.x, y_mask=problem.x_mask) if all_rows else problem

  return [a for _, a in found], [jax.tree_util.keystr(path)[1:] for path, _ in found], rebuild


def _not_none(*arrays: jax.Array | None) -> list[jax.Array]:
  return [a for a in arrays if a is not None]


def _check(caller: str, *arrays: jax.Array | jax.ShapeDtypeStruct) -> None:
  """Raises unless all are such as the kernels have."""
  for a in arrays:
    floating = jnp.issubdtype(a.dtype, jnp.floating) and a.dtype.itemsize <= 4
    if not (floating or a.dtype in (np.bool_, np.int32)):
      expected = 'with implementation="pallas" numbers must be booleans, int32, or floating and of 32 bits at most'
      raise NoKernel(_errors.type_error(caller, expected, f"dtype {a.dtype}", f"Convert them, or take {XLA}"))
  _check_devices(caller, arrays)


def _check_devices(caller: str, arrays: Sequence[Any]) -> None:
  if axes := {name for a in arrays for name in varying_axes(a)}:
    expected = 'with implementation="pallas" a jax.shard_map around this must not check what varies over its axes'
    advice = f"Pass check_vma=False to it, or take {XLA}"
    raise NoKernel(_errors.error(caller, expected, f"arrays that vary over {', '.join(sorted(axes))}", advice))


def separate(problem: Problem) -> Problem:
  """The problem whose f closes over nothing: numbers that f makes of what it closes over are arguments, ``(1, 1)``.

  What f computes from these values alone, before they meet D or an argument, stays outside of the kernel.
  """
  jaxpr, caller, closed_over = problem.f.jaxpr, problem.f.caller, problem.closed_over
  outer, own = jaxpr.invars[: len(closed_over)], jaxpr.invars[len(closed_over) :]
  outside, inside, known = [], [], set(outer)
  for equation in jaxpr.eqns:
    if all(isinstance(v, Literal) or v in known for v in equation.invars) and not equation.effects:
      outside.append(equation)
      known.update(equation.outvars)
    else:
      inside.append(equation)
  used = [v for equation in inside for v in equation.invars] + list(jaxpr.outvars)
  between = list(dict.fromkeys(v for v in used if not isinstance(v, Literal) and v in known))
  names = jaxpr.debug_info.with_unknown_names()
  before = ClosedJaxpr(Jaxpr((), outer, between, outside, debug_info=names), ())
  of_pair = Jaxpr((), [*own, *between], jaxpr.outvars, inside, debug_info=names)
  _check_devices(caller, closed_over)
  numbers = jaxpr_as_fun(before)(*closed_over)
  _check(caller, *numbers)
  for a in numbers:
    if a.shape:
      expected = 'with implementation="pallas" f may close over numbers, and take entries of arrays'
      advice = f"Add terms in a Python loop, a[k] of each k, or take {XLA}"
      raise NoKernel(_errors.error(caller, expected, f"an array of shape {a.shape} that meets D as a whole", advice))
  args = (*problem.args, *(a.reshape(1, 1) for a in numbers))
  return replace(problem, f=PairFunction.of(caller, of_pair), args=args, closed_over=())


def _narrowed(a: jax.Array) -> jax.Array:
  """A Python number, which has 64 bits where they are on, has as many as it needs."""
  return _in_32_bits(a) if jax.typeof(a).weak_type and a.dtype in (np.float64, np.int64) else a


def _in_32_bits(a: jax.Array) -> jax.Array:
  return a if a.dtype == bool else sweeps.to_32_bits(a)
