"""Reductions over pairs as kernels of their own: for which platform is decided when JAX lowers them, and not before.

JAX never differentiates such a kernel. It is one primitive, whose tangents are those of the same reduction by XLA, and
whose transposed tangents are a kernel again: values and gradients run fused, and all else by XLA. A function of the
user's is traced for one pair. What it computes from nothing but values that it closes over is taken out of it, and
stays outside; what is left, with the numbers that it needs, goes into the kernel.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from jax_edm import _errors
from jax_edm._pairwise import ring
from jax_edm._core import derivatives
from jax_edm._pairwise.pallas import sweeps
from jax_edm._pairwise.pallas.sweeps import Arrays, Pairs

PLATFORMS = ("tpu", "cuda")
INTERPRETED: Any = None  # in tests: where other platforms run the kernels, (route, interpret)

XLA = 'implementation="xla"'
WAY_OUT = f"Take {XLA}"

SELECT = "select_n of integers"  # Triton's compiler does not take what Pallas makes of it

Leaves = Sequence[jax.Array]


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
  return out, tangent(given, t) if kernel.pull is None else ring._linear(tangent, transpose, given, t)


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


def total(pairs: Pairs, by_xla: Callable[[Arrays], jax.Array], z: Arrays, value: jax.Array | None = None) -> jax.Array:
  """``sum_j f(D_ij) v_j``, ``(n,)`` or ``(n, k)``; ``value`` is that, where it is known, and only has no derivative."""
  leaves, tree = jax.tree.flatten(z)
  unflatten, count = partial(jax.tree.unflatten, tree), len(leaves)
  out = jax.eval_shape(lambda *leaves: by_xla(unflatten(leaves)), *leaves)
  if jnp.issubdtype(out.dtype, jnp.integer):  # counted in float32, which is exact for as many as there are points
    if z.vector is not None or pairs.dtype != np.bool_:
      expected = 'with implementation="pallas" sums must be of floating numbers, or count where f is true'
      got = f"sums of dtype {out.dtype}"
      raise TypeError(
        _errors.message(pairs.caller, expected, got, f"Convert what f returns, and values, or take {XLA}")
      )
    leaves = lax.stop_gradient(leaves)
  else:
    check(pairs.caller, out)

  def run(on: Any, leaves: Leaves) -> Leaves:
    if value is not None:
      return leaves[-1:]
    return [sweeps.total(pairs, on, unflatten(leaves))]

  def pull(on: Any, leaves: Leaves, g: Leaves, moving: Sequence[int]) -> Leaves:
    z, wanted = unflatten(leaves[:count]), unflatten([i in moving for i in range(count)])
    return jax.tree.leaves(sweeps.pull(pairs, on, z, g[0], wanted))

  known = [] if value is None else [lax.stop_gradient(value)]
  kernel = Kernel(pairs, run, lambda *leaves: [by_xla(unflatten(leaves[:count]))], pull)
  return kernel_p.bind(*leaves, *known, kernel=kernel)[0]


def scaled(pairs: Pairs, by_xla: Callable[[Arrays], Leaves], z: Arrays) -> tuple[jax.Array, jax.Array]:
  """The scale of each row, and its sum of exponentials on that scale, ``(n,)``; without derivatives."""
  leaves, tree = jax.tree.flatten(lax.stop_gradient(z))
  unflatten = partial(jax.tree.unflatten, tree)

  def run(on: Any, leaves: Leaves) -> Leaves:
    return sweeps.scaled(pairs, on, unflatten(leaves))

  kernel = Kernel(pairs, run, lambda *leaves: by_xla(unflatten(leaves)), None)
  top, sums = kernel_p.bind(*leaves, kernel=kernel)
  return top, sums


def check(caller: str, *arrays: Any) -> None:
  """Raises unless all are such as the kernels have."""
  for a in arrays:
    floating = jnp.issubdtype(a.dtype, jnp.floating) and a.dtype.itemsize <= 4
    if not (floating or a.dtype in (np.bool_, np.int32)):
      expected = 'with implementation="pallas" numbers must be booleans, int32, or floating and of 32 bits at most'
      raise TypeError(_errors.message(caller, expected, f"dtype {a.dtype}", f"Convert them, or take {XLA}"))
  _check_devices(caller, arrays)


def _check_devices(caller: str, arrays: Sequence[Any]) -> None:
  if axes := {name for a in arrays for name in ring.varying(a)}:
    expected = 'with implementation="pallas" a jax.shard_map around this must not check what varies over its axes'
    advice = f"Pass check_vma=False to it, or take {XLA}"
    raise _errors.error(caller, expected, f"arrays that vary over {', '.join(sorted(axes))}", advice)


class Apart(NamedTuple):
  """A function of the user's, and the numbers that it needs."""

  f: Callable[..., jax.Array]  # of a block of D, of the operands and of the numbers
  numbers: list[jax.Array]  # (1, 1) each
  operations: tuple[str, ...]
  dtype: Any  # of what f returns


def taken_apart(caller: str, f: Callable[..., Any], operands: Leaves) -> "Apart":
  """An ``f(D, *operands, *numbers)`` that closes over nothing, and the numbers with which it is ``f(D, *operands)``.

  The numbers, ``(1, 1)`` each, are what f makes of the values that it closes over before they meet D or an operand.
  """
  with jax.enable_x64(False):
    given = [jax.ShapeDtypeStruct((), a.dtype) for a in (jnp.zeros((), jnp.float32), *map(_plain, operands))]
    try:
      closed = jax.make_jaxpr(lambda *given: _errors.elementwise(caller, "f", f(*given), ()))(*given)
    except (TypeError, ValueError, IndexError) as e:
      if str(e).startswith(f"{caller}: "):
        raise
      expected = 'with implementation="pallas" f must be a function of one pair, too'
      got = f"{type(e).__name__} for scalars: {str(e).splitlines()[0]}"
      raise _errors.error(caller, expected, got, f"Leave axes and shapes to this function, or take {XLA}") from e
  jaxpr, known = closed.jaxpr, set(closed.jaxpr.constvars)
  outside, inside = [], []
  for equation in jaxpr.eqns:
    if all(isinstance(v, Literal) or v in known for v in equation.invars) and not equation.effects:
      outside.append(equation)
      known.update(equation.outvars)
    else:
      inside.append(equation)
  used = [v for equation in inside for v in equation.invars] + list(jaxpr.outvars)
  between = list(dict.fromkeys(v for v in used if not isinstance(v, Literal) and v in known))
  names = jaxpr.debug_info.with_unknown_names()
  before = ClosedJaxpr(Jaxpr((), jaxpr.constvars, between, outside, debug_info=names), ())
  of_pair = jaxpr_as_fun(ClosedJaxpr(Jaxpr((), [*jaxpr.invars, *between], jaxpr.outvars, inside, debug_info=names), ()))
  _check_devices(caller, closed.consts)
  numbers = jaxpr_as_fun(before)(*closed.consts)
  check(caller, *numbers)
  for a in numbers:
    if a.shape:
      expected = 'with implementation="pallas" f may close over numbers, and take entries of arrays'
      advice = f"Add terms in a Python loop, a[k] of each k, or take {XLA}"
      raise _errors.error(caller, expected, f"an array of shape {a.shape} that meets D as a whole", advice)

  dtypes = [a.dtype for a in (*given[1:], *numbers)]

  def of_block(squared: jax.Array, *given: jax.Array) -> jax.Array:
    tiles = (jnp.broadcast_to(a, squared.shape).astype(dtype) for a, dtype in zip(given, dtypes, strict=True))
    return jax.vmap(jax.vmap(lambda *pair: of_pair(*pair)[0]))(squared, *tiles)

  numbers, operations = [a.reshape(1, 1) for a in numbers], tuple(dict.fromkeys(_operations(inside)))
  return Apart(of_block, numbers, operations, closed.out_avals[0].dtype)


def _operations(equations: Sequence[Any]) -> Iterator[str]:
  """By name, those inside others included."""
  for equation in equations:
    if equation.primitive.name == "select_n" and equation.invars[0].aval.dtype != np.bool_:
      yield SELECT
    yield equation.primitive.name
    for parameter in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")):
      yield from _operations(getattr(getattr(parameter, "jaxpr", parameter), "eqns", ()))


def narrowed(a: jax.Array) -> jax.Array:
  """A Python number, which has 64 bits where they are on, has as many as it needs."""
  return _plain(a) if jax.typeof(a).weak_type and a.dtype in (np.float64, np.int64) else a


def _plain(a: jax.Array) -> jax.Array:
  return a if a.dtype == bool else a.astype(jnp.float32 if jnp.issubdtype(a.dtype, jnp.floating) else jnp.int32)
