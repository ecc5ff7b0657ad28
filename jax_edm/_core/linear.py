"""Functions whose derivatives are written by hand: two primitives, one for a function and one for a linear map.

JAX has ``custom_jvp``, whose tangents it transposes by itself, and ``custom_vjp``, which has no forward mode. The maps
of ``derivatives`` have a tangent *and* a transpose by hand, and these are maps of the same kind.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Arrays = Sequence[jax.Array]
Tangents = Sequence[jax.Array | None]  # None: the argument does not move


@dataclass(frozen=True)
class Function:
  """``apply(*arrays)``, and its tangent, ``tangent(arrays, tangents)``. Both return sequences of arrays.

  ``like`` is a function whose results have the types of those of ``apply``, where it is cheaper to trace.
  """

  apply: Callable[..., Arrays]
  tangent: Callable[[Arrays, Tangents], Arrays]
  like: Callable[..., Arrays] | None = None


@dataclass(frozen=True)
class LinearMap:
  """``apply(*constants, *moving)``, linear in what moves.

  Attributes:
    apply: returns a sequence of arrays.
    transposed: makes the transpose: the map from the constants and the cotangents of what ``apply`` returns to those of
      what moves.
    in_constants: ``(constants, moving, tangents of the constants)``, the derivative of ``apply`` in its constants.
      ``None``: JAX takes it.
    like: as of a ``Function``.
  """

  apply: Callable[..., Arrays]
  transposed: Callable[[], "LinearMap"]
  in_constants: Callable[[Arrays, Arrays, Tangents], Arrays] | None = None
  like: Callable[..., Arrays] | None = None

  @classmethod
  def of(cls, apply: Callable[..., Arrays], transpose: Callable[..., Arrays]) -> "LinearMap":
    """The map and its transpose as two functions, whose derivatives in the constants JAX takes."""
    return cls(apply, lambda: cls.of(transpose, apply))


def call(function: Function, *arrays: jax.Array) -> list[jax.Array]:
  """``function.apply(*arrays)``, with the tangent of ``function`` under every transformation."""
  return function_p.bind(*arrays, function=function)


def linear(linear_map: LinearMap, constants: Arrays, moving: Arrays) -> list[jax.Array]:
  """``linear_map.apply(*constants, *moving)``, with the transpose of ``linear_map`` under every transformation."""
  return linear_p.bind(*constants, *moving, linear_map=linear_map, k=len(constants))


def linear_of_trees(apply: Callable[..., Any], transpose: Callable[..., Any], constants: Any, moving: Any) -> Any:
  """``apply(constants, moving)``, linear in ``moving``, whose transpose is ``transpose(constants, cotangents)``."""
  (fixed, of_constants), (moves, of_moving) = jax.tree.flatten(constants), jax.tree.flatten(moving)
  of_result = jax.tree.structure(jax.eval_shape(apply, constants, moving))

  def flat(function: Callable[..., Any], tree: Any) -> Callable[..., Arrays]:
    k = len(fixed)
    return lambda *a: jax.tree.leaves(
      function(jax.tree.unflatten(of_constants, a[:k]), jax.tree.unflatten(tree, a[k:]))
    )

  linear_map = LinearMap.of(flat(apply, of_moving), flat(transpose, of_result))
  return jax.tree.unflatten(of_result, linear(linear_map, fixed, moves))


function_p, linear_p = Primitive("edm_function"), Primitive("edm_linear")


def _function(*arrays: Any, function: Function) -> list[jax.Array]:
  return list(function.apply(*arrays))


def _linear(*arrays: Any, linear_map: LinearMap, k: int) -> list[jax.Array]:
  return list(linear_map.apply(*arrays))


def _function_types(*arrays: Any, function: Function) -> Any:
  return _types(function, arrays)


def _linear_types(*arrays: Any, linear_map: LinearMap, k: int) -> Any:
  return _types(linear_map, arrays)


def _types(f: Function | LinearMap, arrays: Sequence[Any]) -> Any:
  like = f.like or f.apply
  return jax.make_jaxpr(lambda *arrays: list(like(*arrays)))(*arrays).out_avals


def _function_jvp(arrays: Arrays, tangents: Sequence[Any], *, function: Function) -> tuple[Arrays, Arrays]:
  return call(function, *arrays), list(function.tangent(arrays, _without_zeros(tangents)))


def _function_batch(arrays: Arrays, axes: Sequence[Any], *, function: Function) -> tuple[Arrays, list[int]]:
  def tangent(arrays: Arrays, tangents: Tangents) -> Arrays:
    moves = [None if t is None else axis for t, axis in zip(tangents, axes, strict=True)]
    return jax.vmap(function.tangent, (list(axes), moves))(list(arrays), list(tangents))

  like = function.like and jax.vmap(function.like, tuple(axes))
  out = call(Function(jax.vmap(function.apply, tuple(axes)), tangent, like), *arrays)
  return out, [0] * len(out)


def _linear_jvp(arrays: Arrays, tangents: Sequence[Any], *, linear_map: LinearMap, k: int) -> tuple[Arrays, Arrays]:
  constants, moving = arrays[:k], arrays[k:]
  terms = []
  if any(not isinstance(t, ad.Zero) for t in tangents[k:]):
    terms.append(linear(linear_map, constants, [ad.instantiate_zeros(t) for t in tangents[k:]]))
  if any(not isinstance(t, ad.Zero) for t in tangents[:k]):
    in_constants = linear_map.in_constants or partial(_by_jax, linear_map)
    terms.append(list(in_constants(constants, moving, _without_zeros(tangents[:k]))))
  return linear(linear_map, constants, moving), [sum(parts[1:], start=parts[0]) for parts in zip(*terms, strict=True)]


def _by_jax(linear_map: LinearMap, constants: Arrays, moving: Arrays, tangents: Tangents) -> Arrays:
  moved = {i: t for i, t in enumerate(tangents) if t is not None}

  def of_moved(some: dict[int, jax.Array]) -> list[jax.Array]:
    return list(linear_map.apply(*(some.get(i, c) for i, c in enumerate(constants)), *moving))

  return jax.jvp(of_moved, ({i: constants[i] for i in moved},), (moved,))[1]


def _linear_transpose(g: Sequence[Any], *arrays: Any, linear_map: LinearMap, k: int) -> list[Any]:
  return [None] * k + linear(linear_map.transposed(), arrays[:k], [ad.instantiate_zeros(a) for a in g])


def _linear_batch(
  arrays: Arrays, axes: Sequence[Any], *, linear_map: LinearMap, k: int
) -> tuple[Arrays, Sequence[int]]:
  mapped = [(a, axis) for a, axis in zip(arrays, axes, strict=True) if axis is not None]
  size = mapped[0][0].shape[mapped[0][1]]
  # The members of a batch may lie on the devices of a mesh.
  mesh_axis = next((name for a, axis in mapped if (name := jax.typeof(a).sharding.spec[axis]) is not None), None)
  moving = [batching.bdim_at_front(a, axis, size, mesh_axis) for a, axis in zip(arrays[k:], axes[k:], strict=True)]
  out = linear(_mapped(linear_map, tuple(axes[:k])), arrays[:k], moving)
  return out, [0] * len(out)


@cache
def _mapped(linear_map: LinearMap, axes: tuple[Any, ...]) -> LinearMap:
  """The map of each member of a batch; ``axes`` are those of the constants, and all that moves has its own in front."""

  def mapped(f: Callable[..., Arrays]) -> Callable[..., Arrays]:
    return lambda *arrays: jax.vmap(f, (*axes, *[0] * (len(arrays) - len(axes))))(*arrays)

  def in_constants(constants: Arrays, moving: Arrays, tangents: Tangents) -> Arrays:
    f = linear_map.in_constants or partial(_by_jax, linear_map)
    moves = [None if t is None else axis for t, axis in zip(tangents, axes, strict=True)]
    return jax.vmap(f, (list(axes), 0, moves))(list(constants), list(moving), list(tangents))

  like = linear_map.like and mapped(linear_map.like)
  return LinearMap(mapped(linear_map.apply), lambda: _mapped(linear_map.transposed(), axes), in_constants, like)


def _without_zeros(tangents: Sequence[Any]) -> Tangents:
  return [None if isinstance(t, ad.Zero) else t for t in tangents]


for _p, _body, _static in ((function_p, _function, ("function",)), (linear_p, _linear, ("linear_map", "k"))):
  _p.multiple_results = True
  _p.def_impl(jax.jit(_p.bind, static_argnames=_static))
  mlir.register_lowering(_p, mlir.lower_fun(_body, multiple_results=True))
function_p.def_abstract_eval(_function_types)
linear_p.def_abstract_eval(_linear_types)
ad.primitive_jvps[function_p] = _function_jvp
batching.primitive_batchers[function_p] = _function_batch
ad.primitive_jvps[linear_p] = _linear_jvp
ad.primitive_transposes[linear_p] = _linear_transpose
batching.primitive_batchers[linear_p] = _linear_batch
