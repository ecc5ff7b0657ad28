"""Functions whose derivatives are written by hand: one primitive, which has both a tangent and a transpose.

JAX has ``custom_jvp``, whose tangents it transposes by itself, and ``custom_vjp``, which has no forward mode. The maps
of ``derivatives`` have a tangent *and* a transpose by hand, and these are maps of the same kind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jax_edm._core.varying import varying_axes

Arrays = Sequence[jax.Array]
Tangents = Sequence[jax.Array | None]  # None: the tangent is zero

KEPT = 1024  # maps of batches


@dataclass(frozen=True)
class LinearMap:
  """A function of constants and arguments, linear in the arguments. It returns a sequence of arrays.

  Without arguments it is any function of the constants.
  """

  apply: Callable[..., Arrays]  # of *constants, *arguments
  # Of constants, arguments and the tangents of the constants: the derivative in the constants. None: JAX takes it.
  in_constants: Callable[[Arrays, Arrays, Tangents], Arrays] | None
  # Makes the map from constants and cotangents of the results to cotangents of the arguments. None: no arguments.
  transposed: Callable[[], "LinearMap"] | None = None
  like: Callable[..., Arrays] | None = None  # has results of the types of those of ``apply``, and is cheaper to trace

  @classmethod
  def of(
    cls,
    apply: Callable[..., Arrays],
    transpose: Callable[..., Arrays],
    like: Callable[..., Arrays] | None = None,
    like_transposed: Callable[..., Arrays] | None = None,
  ) -> "LinearMap":
    """The map and its transpose as two functions, whose derivatives in the constants JAX takes."""
    return cls(apply, None, lambda: cls.of(transpose, apply, like_transposed, like), like)


def linear(linear_map: LinearMap, constants: Arrays, arguments: Arrays = ()) -> list[jax.Array]:
  """``linear_map.apply(*constants, *arguments)``, with these derivatives under every transformation."""
  return linear_p.bind(*constants, *arguments, linear_map=linear_map, k=len(constants))


def linear_of_trees(
  apply: Callable[..., Any], transpose: Callable[..., Any], constants: Any, arguments: Any, like: Any = None
) -> Any:
  """``apply(constants, arguments)``, linear in the arguments; its transpose is ``transpose(constants, cotangents)``.

  ``like`` has the shapes and the types of the results: then they need not be found out by tracing, again and again.
  """
  (fixed, of_constants), (flat_arguments, of_arguments) = jax.tree.flatten(constants), jax.tree.flatten(arguments)
  results = jax.eval_shape(apply, constants, arguments) if like is None else like
  of_result, k = jax.tree.structure(results), len(fixed)

  def flat(f: Callable[..., Any], tree: Any) -> Callable[..., Arrays]:
    return lambda *a: jax.tree.leaves(f(jax.tree.unflatten(of_constants, a[:k]), jax.tree.unflatten(tree, a[k:])))

  likes = () if like is None else tuple(map(_zeros_like, (jax.tree.leaves(like), flat_arguments)))
  linear_map = LinearMap.of(flat(apply, of_arguments), flat(transpose, of_result), *likes)
  return jax.tree.unflatten(of_result, linear(linear_map, fixed, flat_arguments))


def _zeros_like(results: Arrays) -> Callable[..., Arrays]:
  """A function that returns zeros of these shapes and types, whatever it is given."""
  types = [(a.shape, a.dtype, tuple(sorted(varying_axes(a)))) for a in results]

  def zeros(*_: jax.Array) -> Arrays:
    out = [(lax.full(shape, 0, dtype), axes) for shape, dtype, axes in types]
    return [lax.pcast(a, axes, to="varying") if axes else a for a, axes in out]

  return zeros


def _apply(*arrays: Any, linear_map: LinearMap, k: int) -> list[jax.Array]:
  return list(linear_map.apply(*arrays))


def _types(*arrays: Any, linear_map: LinearMap, k: int) -> Any:
  like = linear_map.like or linear_map.apply
  return jax.make_jaxpr(lambda *arrays: list(like(*arrays)))(*arrays).out_avals


def _jvp(arrays: Arrays, tangents: Sequence[Any], *, linear_map: LinearMap, k: int) -> tuple[Arrays, Arrays]:
  constants, arguments = arrays[:k], arrays[k:]
  terms = []
  if any(not isinstance(t, ad.Zero) for t in tangents[k:]):
    terms.append(linear(linear_map, constants, [ad.instantiate_zeros(t) for t in tangents[k:]]))
  if any(not isinstance(t, ad.Zero) for t in tangents[:k]):
    in_constants = linear_map.in_constants or partial(_by_jax, linear_map)
    moved = [None if isinstance(t, ad.Zero) else t for t in tangents[:k]]
    terms.append(list(in_constants(constants, arguments, moved)))
  return linear(linear_map, constants, arguments), [
    sum(parts[1:], start=parts[0]) for parts in zip(*terms, strict=True)
  ]


def _by_jax(linear_map: LinearMap, constants: Arrays, arguments: Arrays, tangents: Tangents) -> Arrays:
  moved = {i: t for i, t in enumerate(tangents) if t is not None}

  def of_moved(some: dict[int, jax.Array]) -> list[jax.Array]:
    return list(linear_map.apply(*(some.get(i, c) for i, c in enumerate(constants)), *arguments))

  return jax.jvp(of_moved, ({i: constants[i] for i in moved},), (moved,))[1]


def _transpose(g: Sequence[Any], *arrays: Any, linear_map: LinearMap, k: int) -> list[Any]:
  assert linear_map.transposed is not None
  return [None] * k + linear(linear_map.transposed(), arrays[:k], [ad.instantiate_zeros(a) for a in g])


def _batch(arrays: Arrays, axes: Sequence[Any], *, linear_map: LinearMap, k: int) -> tuple[Arrays, Sequence[int]]:
  batched = [(a, axis) for a, axis in zip(arrays, axes, strict=True) if axis is not None]
  size = batched[0][0].shape[batched[0][1]]
  # The members of a batch may lie on the devices of a mesh.
  mesh_axis = next((name for a, axis in batched if (name := jax.typeof(a).sharding.spec[axis]) is not None), None)
  arguments = [batching.bdim_at_front(a, axis, size, mesh_axis) for a, axis in zip(arrays[k:], axes[k:], strict=True)]
  out = linear(_batched(linear_map, tuple(axes[:k])), arrays[:k], arguments)
  return out, [0] * len(out)


@lru_cache(KEPT)
def _batched(linear_map: LinearMap, axes: tuple[Any, ...]) -> LinearMap:
  """The map of each member of a batch; ``axes`` are those of the constants, and arguments have their own in front."""

  def batched(f: Callable[..., Arrays]) -> Callable[..., Arrays]:
    return lambda *arrays: jax.vmap(f, (*axes, *[0] * (len(arrays) - len(axes))))(*arrays)

  def in_constants(constants: Arrays, arguments: Arrays, tangents: Tangents) -> Arrays:
    f = linear_map.in_constants or partial(_by_jax, linear_map)
    moved = [None if t is None else axis for t, axis in zip(tangents, axes, strict=True)]
    return jax.vmap(f, (list(axes), 0, moved))(list(constants), list(arguments), list(tangents))

  transposed, like = linear_map.transposed, linear_map.like
  return LinearMap(
    batched(linear_map.apply),
    in_constants,
    None if transposed is None else lambda: _batched(transposed(), axes),
    None if like is None else batched(like),
  )


linear_p = Primitive("edm_linear")
linear_p.multiple_results = True
linear_p.def_impl(jax.jit(_apply, static_argnames=("linear_map", "k")))
linear_p.def_abstract_eval(_types)
mlir.register_lowering(linear_p, mlir.lower_fun(_apply, multiple_results=True))
ad.primitive_jvps[linear_p] = _jvp
ad.primitive_transposes[linear_p] = _transpose
batching.primitive_batchers[linear_p] = _batch
