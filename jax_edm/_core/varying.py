"""Inside ``jax.shard_map``: over which axes of the mesh the values differ from device to device."""

from typing import Any

import jax
from jax import lax


def unify_varying_axes(z: Any, *more: jax.Array) -> Any:
  """All leaves vary over the mesh axes over which any of them does, or ``more``.

  JAX sums a cotangent over the axes over which its set did not vary.
  """
  together = frozenset().union(*map(varying_axes, [*jax.tree.leaves(z), *more]))

  def unified(a: jax.Array) -> jax.Array:
    missing = tuple(sorted(together - varying_axes(a)))
    return lax.pcast(a, missing, to="varying") if missing else a

  return jax.tree.map(unified, z)


def varying_axes(a: Any) -> frozenset[str]:
  """The mesh axes over which an array varies, in a shard_map that checks; JAX renamed it after 0.9."""
  of = jax.typeof(a)
  return frozenset(of.mat.varying if hasattr(of, "mat") else of.vma)
