"""Reductions over pairs as kernels of their own: for which platform is decided when JAX lowers them, and not before.

JAX never differentiates such a kernel. It is one primitive, whose tangents are those of the same reduction by XLA, and
whose transposed tangents are a kernel again: the gradient of first order runs fused, and all else runs by XLA. A function
of the user's is traced for one pair. What it computes from nothing but values that it closes over is taken out of it,
and stays outside; what is left, with the numbers that it needs, goes into the kernel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from jax_edm import _checks, _rules, _sweeps
from jax_edm._sweeps import Arrays, Pairs

PLATFORMS = ("tpu", "cuda")
INTERPRETED: Any = None  # in tests: where other platforms run the kernels, (route, interpret)

XLA = 'implementation="xla"'
WAY_OUT = f"Take {XLA}"

Leaves = Sequence[jax.Array]


@dataclass(frozen=True, eq=False)
class Kernel:
  caller: str
  run: Callable[[Any, Leaves], Leaves]  # on a route, of all arrays
  by_xla: Callable[..., Leaves]  # the same, of the arrays
  pull: Callable[[Any, Leaves, Leaves, Sequence[int]], Leaves] | None  # the cotangents of some, and of no others

  def transposed(self, moving: Sequence[int], count: int) -> "Kernel":
    """The cotangents of the arrays ``moving``, of the ``count`` arrays and of the cotangents of what comes out."""
    pull = self.pull
    assert pull is not None

    def run(on: Any, arrays: Leaves) -> Leaves:
      return pull(on, arrays[:count], arrays[count:], moving)

    def by_xla(*arrays: jax.Array) -> Leaves:
      given = arrays[:count]
      return jax.vjp(_of_some(self.by_xla, given, moving), *(given[i] for i in moving))[1](list(arrays[count:]))

    return Kernel(self.caller, run, by_xla, None)

  def batched(self, axes: Sequence[Any]) -> "Kernel":
    def run(on: Any, arrays: Leaves) -> Leaves:
      return jax.vmap(lambda *arrays: list(self.run(on, arrays)), tuple(axes))(*arrays)

    def by_xla(*arrays: jax.Array) -> Leaves:
      return jax.vmap(self.by_xla, tuple(axes))(*arrays)

    def pull(on: Any, arrays: Leaves, g: Leaves, moving: Sequence[int]) -> Leaves:
      def of_member(arrays: Leaves, g: Leaves) -> Leaves:
        return list(self.pull(on, arrays, g, moving))  # type: ignore[misc]

      bars = jax.vmap(of_member, (list(axes), 0))(list(arrays), list(g))
      return [
        bar.sum(0) if axes[i] is None else jnp.moveaxis(bar, 0, axes[i]) for i, bar in zip(moving, bars, strict=True)
      ]

    return Kernel(self.caller, run, by_xla, None if self.pull is None else pull)


def _of_some(f: Callable[..., Any], arrays: Leaves, moving: Sequence[int]) -> Callable[..., Any]:
  def of_moving(*some: jax.Array) -> Any:
    new = dict(zip(moving, some, strict=True))
    return f(*(new.get(i, a) for i, a in enumerate(arrays)))

  return of_moving


kernel_p = Primitive("edm_kernel")
kernel_p.multiple_results = True


def _call(kernel: Kernel, *arrays: jax.Array) -> Leaves:
  return kernel_p.bind(*_rules.of_one_type(arrays), kernel=kernel)


@kernel_p.def_impl
def _run(*arrays: jax.Array, kernel: Kernel) -> Leaves:
  return jax.jit(lambda *arrays: kernel_p.bind(*arrays, kernel=kernel))(*arrays)


@kernel_p.def_abstract_eval
def _shapes(*arrays: Any, kernel: Kernel) -> Any:
  return jax.make_jaxpr(lambda *arrays: list(kernel.by_xla(*arrays)))(*arrays).out_avals


def _jvp(arrays: Leaves, tangents: Sequence[Any], *, kernel: Kernel) -> tuple[Leaves, Leaves]:
  moving = [i for i, t in enumerate(tangents) if not isinstance(t, ad.Zero)]

  def tangent(arrays: Leaves, t: Leaves) -> Leaves:
    return jax.jvp(_of_some(kernel.by_xla, arrays, moving), [arrays[i] for i in moving], t)[1]

  def transpose(arrays: Leaves, g: Leaves) -> Leaves:
    return list(kernel_p.bind(*arrays, *g, kernel=kernel.transposed(moving, len(arrays))))

  out, given, t = kernel_p.bind(*arrays, kernel=kernel), list(arrays), [tangents[i] for i in moving]
  return out, tangent(given, t) if kernel.pull is None else _rules.linear(tangent, transpose, given, t)


def _batched(arrays: Leaves, axes: Sequence[Any], *, kernel: Kernel) -> tuple[Leaves, Sequence[int]]:
  out = kernel_p.bind(*arrays, kernel=kernel.batched(axes))
  return out, [0] * len(out)


def _lowered(platform: str | None, ctx: Any, *arrays: Any, kernel: Kernel) -> Any:
  from jax_edm import _pallas  # which takes a second to import

  if platform is None and INTERPRETED is None:
    got = f"a program for {' and '.join(ctx.module_context.platforms)}"
    raise _checks.error(
      kernel.caller, f'implementation="pallas" has kernels for {" and ".join(PLATFORMS)}', got, WAY_OUT
    )
  on = _pallas.On(*INTERPRETED) if platform is None else _pallas.On(_pallas.ROUTES[platform])

  def run(*arrays: jax.Array) -> Leaves:
    with jax.enable_x64(False):
      return kernel.run(on, arrays)

  try:
    return mlir.lower_fun(run, multiple_results=True)(ctx, *arrays)
  except (NotImplementedError, ValueError) as e:
    expected = f"f, and all else, must be what Pallas has a kernel language for on {platform or on.route}"
    raise NotImplementedError(_checks.message(kernel.caller, expected, str(e).splitlines()[0], WAY_OUT)) from e


ad.primitive_jvps[kernel_p] = _jvp
batching.primitive_batchers[kernel_p] = _batched
for _platform in (*PLATFORMS, None):
  mlir.register_lowering(kernel_p, partial(_lowered, _platform), platform=_platform)


def total(
  caller: str, pairs: Pairs, by_xla: Callable[[Arrays], jax.Array], z: Arrays, value: jax.Array | None = None
) -> jax.Array:
  """``sum_j f(D_ij) v_j``, ``(n,)`` or ``(n, k)``; ``value`` is that, where it is known, and only has no derivative."""
  leaves, tree = jax.tree.flatten(z)
  out = jax.eval_shape(lambda *leaves: by_xla(tree.unflatten(leaves)), *leaves)
  counts = jnp.issubdtype(out.dtype, jnp.integer) and z.vector is None
  _of_32_bits(caller, leaves, *([] if counts else [out]))
  if counts:  # in float32, which is exact for as many as there are points
    leaves = lax.stop_gradient(leaves)

  def run(on: Any, leaves: Leaves) -> Leaves:
    if value is not None:
      return leaves[-1:]
    return [_sweeps.total(pairs, on, tree.unflatten(leaves)).astype(out.dtype)]

  def pull(on: Any, leaves: Leaves, g: Leaves, moving: Sequence[int]) -> Leaves:
    z, wanted = tree.unflatten(leaves[: tree.num_leaves]), tree.unflatten([i in moving for i in range(tree.num_leaves)])
    bars = jax.tree.leaves(_sweeps.pull(pairs, on, z, g[0], wanted))
    return [bar.astype(leaves[i].dtype) for i, bar in zip(moving, bars, strict=True)]

  known = [] if value is None else [lax.stop_gradient(value)]
  kernel = Kernel(caller, run, lambda *leaves: [by_xla(tree.unflatten(leaves[: tree.num_leaves]))], pull)
  return _call(kernel, *leaves, *known)[0]


def scaled(caller: str, pairs: Pairs, by_xla: Callable[[Arrays], Leaves], z: Arrays) -> tuple[jax.Array, jax.Array]:
  """The scale of each row, and its sum of exponentials on that scale, ``(n,)``; without derivatives."""
  leaves, tree = jax.tree.flatten(lax.stop_gradient(z))

  def run(on: Any, leaves: Leaves) -> Leaves:
    return _sweeps.scaled(pairs, on, tree.unflatten(leaves))

  _of_32_bits(caller, leaves, *jax.eval_shape(lambda *leaves: by_xla(tree.unflatten(leaves)), *leaves))
  top, sums = _call(Kernel(caller, run, lambda *leaves: by_xla(tree.unflatten(leaves)), None), *leaves)
  return top, sums


def _of_32_bits(caller: str, leaves: Leaves, *out: Any) -> None:
  """Checks that all numbers are such as the kernels have."""
  for a in (*leaves, *out):
    fits = a.dtype == bool or a.dtype.itemsize <= (2 if jnp.issubdtype(a.dtype, jnp.unsignedinteger) else 4)
    if not fits or jnp.issubdtype(a.dtype, jnp.complexfloating):
      expected = 'with implementation="pallas" all numbers must be real, and of 32 bits at most'
      raise TypeError(_checks.message(caller, expected, f"dtype {a.dtype}", f"Convert them, or take {XLA}"))


def taken_apart(caller: str, f: Callable[..., Any], operands: Leaves) -> tuple[Callable[..., Any], list[jax.Array]]:
  """``g`` and ``numbers``, where ``g(D, *operands, *numbers)`` is ``f(D, *operands)`` and closes over nothing.

  The numbers, ``(1, 1)`` each, are what f makes of the values that it closes over before they meet D or an operand.
  """
  with jax.enable_x64(False):
    given = [jax.ShapeDtypeStruct((), a.dtype) for a in (jnp.zeros((), jnp.float32), *map(_plain, operands))]
    try:
      closed = jax.make_jaxpr(lambda *given: _checks.elementwise(caller, "f", f(*given), ()))(*given)
    except (TypeError, ValueError, IndexError) as e:
      expected = 'with implementation="pallas" f must be a function of one pair, too'
      got = f"{type(e).__name__} for scalars: {str(e).splitlines()[0]}"
      raise _checks.error(caller, expected, got, f"Leave axes and shapes to this function, or take {XLA}") from e
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
  numbers = jaxpr_as_fun(before)(*closed.consts)
  for a in numbers:
    if a.shape:
      expected = 'with implementation="pallas" f may close over numbers, and take entries of arrays'
      advice = f"Add terms in a Python loop, a[k] of each k, or take {XLA}"
      raise _checks.error(caller, expected, f"an array of shape {a.shape} that meets D as a whole", advice)

  def of_block(squared: jax.Array, *given: jax.Array) -> jax.Array:
    given = tuple(jnp.broadcast_to(_plain(a), squared.shape) for a in given)
    return jax.vmap(jax.vmap(lambda *pair: of_pair(*pair)[0]))(squared, *given)

  return of_block, [a.reshape(1, 1) for a in numbers]


def _plain(a: jax.Array) -> jax.Array:
  return a if a.dtype == bool else a.astype(jnp.float32 if jnp.issubdtype(a.dtype, jnp.floating) else jnp.int32)
