"""Points that are spread over the devices of a mesh.

Rows of a matrix of pairs need nothing of each other: a device computes those of its own points against all others. JAX
tells in the type of an array on which mesh it lies, and for ``Explicit`` axes how:

* ``Explicit`` axes: ``shard_rows`` puts the function into a ``jax.shard_map``, after the resharding that it needs; or
  treats them as ``Auto`` ones, where a function of the user's closes over what lies on them, which JAX lets into no
  ``shard_map``.
* ``Auto`` axes: the compiler decides, later. ``shard_rows`` cuts the rows into as many groups as there are devices, as
  one more axis of a batch, which the compiler finds sharded; loops over rows run inside the groups, and slice nothing
  that is spread.
* ``Manual`` axes, inside the user's own ``jax.shard_map``: the arrays are all there is, as on one device.

``ring_map`` is for a ring of devices (``_pairwise.ring``), none of which is given all columns.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jax_edm import _errors
from jax_edm._typing import AxisName

Axes = tuple[str, ...]  # names of axes of a mesh

# What the last axes of an array are: "n" rows, "m" columns, "d" anything else; leading axes are a batch. "c" are the
# axes of what has neither pairs nor a batch.
Role = str
Arrays = Sequence[jax.Array]
Roles = Sequence[Role]


def shard_rows(
  caller: str,
  function: Callable[..., Any],
  arrays: Arrays,
  roles: Roles,
  result: Role,
  cut: bool,
  kernel: bool = False,
  closed: bool = False,
  loops: bool = False,
) -> Any:
  """``function(row_offset, *arrays)``, on each device of its rows.

  ``row_offset`` is the index of the first of them; None: all rows. The first array has the rows; ``result`` is the role
  of the result, or of each leaf of it. ``cut`` allows groups; a ``kernel`` is nothing that the compiler can split;
  ``closed`` says that the function closes over what lies on Explicit axes; ``loops`` that it takes the members of a
  batch one by one, so that groups would wait for each other.
  """
  if mesh := _mesh(caller, arrays, AxisType.Explicit):
    if kernel or any(any(_spec(a)) for a in arrays):
      if closed and kernel:
        expected = 'with implementation="pallas", f must not close over what lies on the Explicit axes of a mesh'
        raise _errors.error(caller, expected, "a function that does", 'Pass it in args=, or take implementation="xla"')
      return _explicit(function, arrays, roles, result, mesh, kernel, closed)
  elif mesh := _mesh(caller, arrays, AxisType.Auto):
    groups = math.prod(_axes(mesh, AxisType.Auto).values())
    if kernel and groups > 1:
      expected = 'with implementation="pallas" points must not be spread by the compiler, which cannot split a kernel'
      advice = "Call this inside jax.shard_map, or with axis_name=, or on a mesh with Explicit axes"
      raise _errors.error(caller, expected, f"a mesh with the Auto axes {dict(_axes(mesh, AxisType.Auto))}", advice)
    batch = max(math.prod(a.shape[: a.ndim - len(role)]) for a, role in zip(arrays, roles, strict=True))
    if cut and not kernel and arrays[0].shape[-2] % groups == 0 and groups > batch:
      if loops:
        return _by_device(function, arrays, roles, result, mesh)
      return _grouped(function, arrays, roles, result, mesh, groups)
  return function(None, *arrays)


def _by_device(function: Callable[..., Any], arrays: Arrays, roles: Roles, result: Role, mesh: Any) -> Any:
  """On Auto axes, without leaving anything to the compiler."""
  names = tuple(_axes(mesh, AxisType.Auto))

  def spec(a: Any, role: Role) -> PartitionSpec:
    place = a.ndim - len(role)
    return PartitionSpec(*(names if role[:1] == "n" and k == place and a.shape[k] > 1 else None for k in range(a.ndim)))

  def local(*arrays: Any) -> Any:
    return function(lax.axis_index(names) * arrays[0].shape[-2], *arrays)

  leading = max(a.ndim - len(role) for a, role in zip(arrays, roles, strict=True))
  out = PartitionSpec(*[None] * leading, names, *[None] * (len(result) - 1))
  specs = [spec(a, role) for a, role in zip(arrays, roles, strict=True)]
  return _on_devices(local, arrays, specs, out, mesh, set(names), check_vma=False)


def _explicit(
  function: Callable[..., Any], arrays: Arrays, roles: Roles, result: Role, mesh: Any, kernel: bool, closed: bool
) -> Any:
  if any(a.size == 0 for a in arrays):
    return function(None, *(jax.sharding.reshard(a, NamedSharding(mesh, PartitionSpec())) for a in arrays))
  batch, of_axis = _placed(arrays, roles, result)
  rows = of_axis["n"]

  def spec(a: Any, role: Role) -> PartitionSpec:
    if role[:1] in ("c", ""):
      return PartitionSpec()
    entries = [*batch[len(batch) + len(role) - a.ndim :], *(of_axis.get(axis, ()) for axis in role)]
    return PartitionSpec(*(entry if entry and size > 1 else None for entry, size in zip(entries, a.shape, strict=True)))

  if closed:
    laid = [jax.sharding.reshard(a, NamedSharding(mesh, spec(a, r))) for a, r in zip(arrays, roles, strict=True)]
    if not rows:
      return function(None, *laid)
    return _grouped(function, laid, roles, result, mesh, math.prod(mesh.shape[name] for name in rows), rows)

  def local(*arrays: Any) -> Any:
    return function(lax.axis_index(rows) * arrays[0].shape[-2] if rows else None, *arrays)

  out = PartitionSpec(*(entry or None for entry in [*batch, *(of_axis.get(axis, ()) for axis in result)]))
  specs = [spec(a, role) for a, role in zip(arrays, roles, strict=True)]
  # Kernels know nothing of what varies over the devices.
  return _on_devices(local, arrays, specs, out, mesh, set(_axes(mesh, AxisType.Explicit)), check_vma=not kernel)


def _placed(arrays: Arrays, roles: Roles, result: Role, taken: Axes = ()) -> tuple[list[Axes], dict[str, Axes]]:
  """The mesh axes of the leading axes, and of rows and columns: each is used once, by the first that has it."""
  used = set(taken)

  def free(entry: Any) -> Axes:
    names = () if entry is None else entry if isinstance(entry, tuple) else (entry,)
    names = tuple(name for name in names if name not in used)
    used.update(names)
    return names

  pairs = list(zip(arrays, roles, strict=True))
  batch: list[Axes] = [()] * max(a.ndim - len(role) for a, role in pairs)
  for a, role in pairs:
    own = _spec(a)[: a.ndim - len(role)]
    for place, entry in enumerate(own, start=len(batch) - len(own)):
      batch[place] = batch[place] or free(entry)
  of_axis: dict[str, Axes] = {"n": ()}
  for axis in "nm" if "m" in result else "n":
    for a, role in pairs:
      if axis in role:
        of_axis[axis] = of_axis.get(axis) or free(_spec(a)[a.ndim - len(role) + role.index(axis)])
  return batch, of_axis


def _grouped(
  function: Callable[..., Any], arrays: Arrays, roles: Roles, result: Role, mesh: Any, groups: int, explicit: Axes = ()
) -> Any:
  def grouped(a: Any, role: Role) -> Any:
    place = a.ndim - len(role)
    if role[:1] == "n" and a.shape[place] > 1:
      return a.reshape(*a.shape[:place], groups, a.shape[place] // groups, *a.shape[place + 1 :])
    if explicit:
      return jnp.expand_dims(a, place)
    # Left to itself, the compiler may split the columns, and exchange the matrix.
    whole = PartitionSpec(*[PartitionSpec.UNCONSTRAINED] * place, *[None] * len(role))
    return jnp.expand_dims(lax.with_sharding_constraint(a, NamedSharding(mesh, whole)), place)

  def joined(a: jax.Array) -> jax.Array:
    place = a.ndim - len(result) - 1
    return a.reshape(*a.shape[:place], a.shape[place] * a.shape[place + 1], *a.shape[place + 2 :])

  @jax.jit
  def run(*arrays: jax.Array) -> Any:
    of_groups = [grouped(a, role) for a, role in zip(arrays, roles, strict=True)]
    row_offset = of_groups[0].shape[-2] * jnp.arange(groups, dtype=jnp.int32)
    if explicit:
      row_offset = jax.sharding.reshard(row_offset, NamedSharding(mesh, PartitionSpec(explicit)))
    return jax.tree.map(joined, function(row_offset, *of_groups))

  return run(*arrays)


def ring_size(caller: str, axis_name: Any) -> int:
  """Devices of a ring on one of which this is called, with its part of the columns; else 1."""
  if axis_name is None:
    return 1
  if not _names(axis_name) or not all(isinstance(name, str) for name in _names(axis_name)):
    advice = "Pass the name of a mesh axis, as to jax.lax.psum"
    raise _errors.type_error(caller, "axis_name must be a string, or a tuple of them", repr(axis_name), advice)
  return lax.axis_size(axis_name) if _on_device(axis_name) else 1


def ring_map(
  caller: str,
  function: Callable[..., Any],
  arrays: Arrays,
  roles: Roles,
  result: Role,
  axis_name: AxisName,
  closed: bool = False,
) -> Any:
  """``function(*arrays)`` on every device of the ring, each with its part of the rows and of the columns."""
  names = _names(axis_name)
  if _on_device(axis_name):
    return function(*arrays)
  if any(map(_on_device, names)):
    advice = "Name all of them in the axis_names of the shard_map, or none"
    raise _errors.error(caller, "a shard_map must be over all axes of a ring", f"{axis_name!r}, some of them", advice)
  mesh = _mesh_of_ring(caller, arrays, axis_name)
  size = math.prod(mesh.shape[name] for name in names)
  points = [a for a, role in zip(arrays, roles, strict=True) if role in ("nd", "md")]
  for name, a in zip("xy", points, strict=False):
    if a.shape[-2] % size:
      advice = f"Pad to {a.shape[-2] + -a.shape[-2] % size}, and say which of them exist: where for x, where_y for y"
      expected = f"{name} must have a multiple of {size} points, to divide them over the axis {axis_name!r}"
      raise _errors.error(caller, expected, f"{a.shape[-2]} points", advice)
  if closed:
    advice = "Call this inside a jax.shard_map, and pass the value into it as an argument; or pass it in args="
    expected = "on a ring over Explicit axes, f must not close over what lies on the mesh"
    raise _errors.error(caller, expected, "a function that does", advice)
  batch, _ = _placed(arrays, roles, "", names)

  def spec(a: Any, role: Role) -> PartitionSpec:
    place = a.ndim - len(role)
    if role[:1] in ("c", ""):
      return PartitionSpec()
    leading = [entry if size > 1 else None for entry, size in zip(batch[len(batch) - place :], a.shape, strict=False)]
    if role == "nm" and a.shape[place] == 1:  # an argument without rows
      place += 1
    own = [names if k == place and a.shape[k] > 1 else None for k in range(len(leading), a.ndim)]
    return PartitionSpec(*(entry or None for entry in [*leading, *own]))

  out = PartitionSpec(*(entry or None for entry in batch), names, *[None] * (len(result) - 1))
  manual = {*names, *(name for entry in batch for name in entry)}
  specs = [spec(a, role) for a, role in zip(arrays, roles, strict=True)]
  return _on_devices(function, arrays, specs, out, mesh, manual, check_vma=False)


def on_a_mesh(*arrays: Any) -> bool:
  """Whether an array lies on a mesh of several devices, or one is set."""
  meshes = [jax.typeof(a).sharding.mesh for a in arrays] + [jax.sharding.get_abstract_mesh()]
  return any(not mesh.empty for mesh in meshes)


def no_mesh() -> contextlib.AbstractContextManager[Any]:
  """In which no mesh is set."""
  return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ()))


def on_explicit_axes(*arrays: Any) -> bool:
  """Whether one of them lies on Explicit axes."""
  return any(_axes(jax.typeof(a).sharding.mesh, AxisType.Explicit) for a in arrays)


def _mesh_of_ring(caller: str, arrays: Arrays, axis_name: AxisName) -> Any:
  meshes = [_mesh(caller, arrays, kind) for kind in (AxisType.Explicit, AxisType.Auto)]
  mesh = next((mesh for mesh in meshes if mesh and set(_names(axis_name)) <= set(mesh.axis_names)), None)
  if mesh is None:
    known = sorted({name for mesh in meshes if mesh for name in mesh.axis_names})
    got = f"{axis_name!r}, and " + (f"a mesh with the axes {', '.join(known)}" if known else "no mesh")
    advice = "Put x onto the mesh with jax.device_put, or call this under jax.set_mesh, or inside jax.shard_map"
    raise _errors.error(caller, "axis_name must be an axis of the mesh on which x lies", got, advice)
  return mesh


def _on_devices(
  function: Callable[..., Any],
  arrays: Arrays,
  specs: Sequence[PartitionSpec],
  out: PartitionSpec,
  mesh: Any,
  names: set[str],
  check_vma: bool,
) -> Any:
  explicit = set(_axes(mesh, AxisType.Explicit))

  def laid(a: jax.Array, spec: PartitionSpec) -> jax.Array:
    if explicit:
      mine = (None if entry is None else tuple(name for name in entry if name in explicit) for entry in spec)
      return jax.sharding.reshard(a, NamedSharding(mesh, PartitionSpec(*(entry or None for entry in mine))))
    open_axes = [PartitionSpec.UNCONSTRAINED] * max(a.ndim - 2, 0)
    return lax.with_sharding_constraint(a, NamedSharding(mesh, PartitionSpec(*open_axes, *spec[len(open_axes) :])))

  @jax.jit
  def run(*arrays: jax.Array) -> Any:
    mapped = jax.shard_map(
      function, mesh=mesh, in_specs=tuple(specs), out_specs=out, axis_names=frozenset(names), check_vma=check_vma
    )
    return mapped(*map(laid, arrays, specs))

  return run(*arrays)


def _mesh(caller: str, arrays: Arrays, kind: AxisType) -> Any:
  """The mesh with axes of that kind on which the arrays lie, or which is set; or None."""
  found = [jax.typeof(a).sharding.mesh for a in arrays] + [jax.sharding.get_abstract_mesh()]
  found = [mesh for mesh in found if _axes(mesh, kind)]
  if kind == AxisType.Explicit and any(mesh.shape != found[0].shape for mesh in found):
    got = " and ".join(dict.fromkeys(str(dict(mesh.shape)) for mesh in found))
    raise _errors.error(caller, "all arrays must lie on one mesh", got, "Move some of them with jax.device_put")
  return found[0] if found else None


def _axes(mesh: Any, kind: AxisType) -> dict[str, int]:
  """The axes of that kind, and their sizes."""
  axes = zip(mesh.axis_names, mesh.axis_types, mesh.axis_sizes, strict=True)
  return {name: size for name, of_kind, size in axes if of_kind == kind}


def _spec(a: jax.Array) -> list[Any]:
  entries = list(jax.typeof(a).sharding.spec)
  return entries + [None] * (a.ndim - len(entries))


def _names(axis_name: Any) -> Axes:
  return axis_name if isinstance(axis_name, tuple) else (axis_name,)


def _on_device(axis_name: Any) -> bool:
  try:
    lax.axis_size(axis_name)
  except NameError:
    return False
  return True
