"""One call of a kernel as a primitive of JAX. The backend is chosen when JAX lowers a program, and not before.

JAX never differentiates a kernel. The tangents of the primitive are those of the same reduction by XLA, and the
transpose of the tangents is a kernel again. So values and gradients of the first order are kernels, and everything else
runs by XLA.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jax_edm import _errors
from jax_edm._core.function import PairFunction
from jax_edm._core.linear import Arrays, linear_of_trees
from jax_edm._pairwise.pallas.backend import Backend
from jax_edm._pairwise.pallas.mosaic import Mosaic

# By platform. Benchmarks put other sides of tiles here, and tests interpreted kernels for a CPU.
BACKENDS: dict[str, Backend] = {"tpu": Mosaic()}
try:
  from jax_edm._pairwise.pallas.triton import Triton

  BACKENDS["cuda"] = Triton()
except ImportError:  # JAX deprecates it since 0.11
  pass

XLA = 'implementation="xla"'


class NoKernel(Exception):
  """No kernel computes this; ``reason`` is the error for a user who asked for one."""

  def __init__(self, reason: Exception) -> None:
    super().__init__(str(reason))
    self.reason = reason


UNKNOWN_TPU = "Unsupported TPU device kind"  # in the error of Pallas

Vjp = Callable[[Backend, Arrays, Arrays, Sequence[int]], Arrays]


@dataclass(frozen=True, eq=False)
class Kernel:
  """A function of arrays that a backend computes."""

  f: PairFunction  # for messages
  run: Callable[[Backend, Arrays], Arrays]  # the results, of all arrays
  by_xla: Callable[..., Arrays]  # the same results, of the arrays
  # Of all arrays, the cotangents of the results, and positions of arrays: the cotangents of these. None: by XLA.
  vjp: Vjp | None
  required: bool  # by the user; otherwise what cannot be a kernel runs by XLA

  def transposed(self, argnums: Sequence[int], count: int) -> "Kernel":
    """From the ``count`` arrays and the cotangents of the results to the cotangents of the arrays ``argnums``."""

    def run(backend: Backend, arrays: Arrays) -> Arrays:
      assert self.vjp is not None
      return self.vjp(backend, arrays[:count], arrays[count:], argnums)

    def by_xla(*arrays: jax.Array) -> Arrays:
      args = arrays[:count]
      return list(jax.vjp(_of_some(self.by_xla, args, argnums), *(args[i] for i in argnums))[1](list(arrays[count:])))

    return Kernel(self.f, run, by_xla, None, self.required)

  def batched(self, axes: Sequence[Any]) -> "Kernel":
    """The kernel of each member of a batch; ``axes`` are those of the batch in the arrays, None where there is none."""

    def run(backend: Backend, arrays: Arrays) -> Arrays:
      return jax.vmap(lambda *arrays: list(self.run(backend, arrays)), tuple(axes))(*arrays)

    def by_xla(*arrays: jax.Array) -> Arrays:
      return jax.vmap(self.by_xla, tuple(axes))(*arrays)

    def vjp(backend: Backend, arrays: Arrays, g: Arrays, argnums: Sequence[int]) -> Arrays:
      def of_member(arrays: Arrays, g: Arrays) -> Arrays:
        assert self.vjp is not None
        return list(self.vjp(backend, arrays, g, argnums))

      cotangents = jax.vmap(of_member, (list(axes), 0))(list(arrays), list(g))
      return [
        c.sum(0) if axes[i] is None else jnp.moveaxis(c, 0, axes[i]) for i, c in zip(argnums, cotangents, strict=True)
      ]

    return Kernel(self.f, run, by_xla, None if self.vjp is None else vjp, self.required)


def _of_some(f: Callable[..., Any], arrays: Arrays, argnums: Sequence[int]) -> Callable[..., Any]:
  """``f`` as a function of the arrays ``argnums`` alone."""

  def of_some(*some: jax.Array) -> Any:
    new = dict(zip(argnums, some, strict=True))
    return f(*(new.get(i, a) for i, a in enumerate(arrays)))

  return of_some


def no_forward_mode(caller: str) -> Exception:
  expected = 'with implementation="pallas" f must have forward mode'
  got = "a function with a jax.custom_vjp, which has none"
  return _errors.error(caller, expected, got, f"Write it with jax.custom_jvp, or take {XLA}")


kernel_p = Primitive("edm_kernel")
kernel_p.multiple_results = True


def _run(*arrays: jax.Array, kernel: Kernel) -> Arrays:
  return jax.jit(lambda *arrays: kernel_p.bind(*arrays, kernel=kernel))(*arrays)


def _types(*arrays: Any, kernel: Kernel) -> Any:
  return jax.make_jaxpr(lambda *arrays: list(kernel.by_xla(*arrays)))(*arrays).out_avals


def _jvp(arrays: Arrays, tangents: Sequence[Any], *, kernel: Kernel) -> tuple[Arrays, Arrays]:
  if any(name.startswith("custom_vjp") for name in kernel.f.operations):
    raise no_forward_mode(kernel.f.caller)
  argnums = [i for i, t in enumerate(tangents) if not isinstance(t, ad.Zero)]

  def tangent(arrays: Arrays, some: Arrays) -> Arrays:
    return jax.jvp(_of_some(kernel.by_xla, arrays, argnums), [arrays[i] for i in argnums], some)[1]

  def transpose(arrays: Arrays, g: Arrays) -> Arrays:
    return list(kernel_p.bind(*arrays, *g, kernel=kernel.transposed(argnums, len(arrays))))

  out, arrays, some = kernel_p.bind(*arrays, kernel=kernel), list(arrays), [tangents[i] for i in argnums]
  return out, tangent(arrays, some) if kernel.vjp is None else linear_of_trees(tangent, transpose, arrays, some)


def _transpose(g: Sequence[Any], *arrays: Any, kernel: Kernel) -> list[Any]:
  """Sums are linear in their values, and a gradient is linear in its cotangent; no other array is ever unknown."""
  argnums = [i for i, a in enumerate(arrays) if ad.is_undefined_primal(a)]
  known = [jnp.zeros(a.aval.shape, a.aval.dtype) if i in argnums else a for i, a in enumerate(arrays)]
  g = [ad.instantiate_zeros(a) for a in g]
  if kernel.vjp is None:
    cotangents = jax.linear_transpose(_of_some(kernel.by_xla, known, argnums), *(known[i] for i in argnums))(g)
  else:
    cotangents = kernel_p.bind(*known, *g, kernel=kernel.transposed(argnums, len(known)))
  found = dict(zip(argnums, cotangents, strict=True))
  return [found.get(i) for i in range(len(arrays))]


def _batch(arrays: Arrays, axes: Sequence[Any], *, kernel: Kernel) -> tuple[Arrays, Sequence[int]]:
  out = kernel_p.bind(*arrays, kernel=kernel.batched(axes))
  return out, [0] * len(out)


def _lower(platform: str | None, ctx: mlir.LoweringRuleContext, *arrays: Any, kernel: Kernel) -> Any:
  """``platform`` is None for those without a rule of their own."""
  if not kernel.required and (platform not in BACKENDS or _devices(ctx) > 1):
    return mlir.lower_fun(kernel.by_xla, multiple_results=True)(ctx, *arrays)
  f, platforms = kernel.f, (platform,) if platform else tuple(ctx.platforms or ctx.module_context.platforms)
  if len(platforms) > 1 or platforms[0] not in BACKENDS:
    expected = f'implementation="pallas" has kernels for {" and ".join(BACKENDS)}, with jax {jax.__version__}'
    raise _errors.error(f.caller, expected, f"a program for {' and '.join(platforms)}", f"Take {XLA}")
  backend = BACKENDS[platforms[0]]

  def run(*arrays: jax.Array) -> Arrays:
    with jax.enable_x64(False):
      out = kernel.run(backend, arrays)
    return [a.astype(aval.dtype) for a, aval in zip(out, ctx.avals_out, strict=True)]

  try:
    for operation in backend.lacks:
      if operation in f.operations:
        raise ValueError(f"no {operation}")
    with backend.lowering():
      if not kernel.required:  # what fails leaves half a program behind: first, one that is thrown away
        avals: Any = ctx.avals_in
        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
        jax.jit(run).trace(*shapes).lower(lowering_platforms=platforms)
      return mlir.lower_fun(run, multiple_results=True)(ctx, *arrays)
  except Exception as e:  # of many kinds
    if not kernel.required:
      return mlir.lower_fun(kernel.by_xla, multiple_results=True)(ctx, *arrays)
    expected = f'with implementation="pallas", all must be what Pallas can lower for {platforms[0]}'
    reason = str(e).split("\n")[0].split(". Please file")[0]
    if UNKNOWN_TPU in reason:
      expected = (
        'with implementation="pallas" the TPU must be known, because one of the operations depends on which it is'
      )
      got = f"a program that is lowered without one, of a kernel with {', '.join(f.operations)} in f"
      advice = (
        f"Lower it on a machine with a TPU, or under jax.sharding.use_abstract_mesh with its device, or take {XLA}"
      )
      raise _errors.error(f.caller, expected, got, advice) from e
    got = f"{type(e).__name__}, {reason}, of a kernel with {', '.join(f.operations) or 'no operations'} in f"
    raise _errors.error(f.caller, expected, got, f"Take {XLA}") from e


def _devices(ctx: mlir.LoweringRuleContext) -> int:
  """How many devices the program is for."""
  context: Any = ctx.module_context.axis_context
  return int(context.num_devices if hasattr(context, "num_devices") else context.mesh.size)


kernel_p.def_impl(_run)
kernel_p.def_abstract_eval(_types)
ad.primitive_jvps[kernel_p] = _jvp
ad.primitive_transposes[kernel_p] = _transpose
batching.primitive_batchers[kernel_p] = _batch
for _platform in ("tpu", "cuda", None):
  mlir.register_lowering(kernel_p, partial(_lower, _platform), platform=_platform)
