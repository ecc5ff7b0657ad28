"""Points over eight devices: meshes, functions of points that lie on them, and what a compiled program moves."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from conftest import devices
from jax_edm import distances, edm, nearest, pairwise_logsumexp, pairwise_sum
from transformations import naive_distances, naive_edm, quick_jit

KINDS = [AxisType.Auto, AxisType.Explicit]
either_kind = pytest.mark.parametrize("kind", KINDS, ids=["Auto", "Explicit"])
# Explicit axes where the test is long.
either_kind_at_length = pytest.mark.parametrize(
  "kind", [KINDS[0], pytest.param(KINDS[1], marks=pytest.mark.slow)], ids=["Auto", "Explicit"]
)
RING = {"axis_name": "i"}
rows_and_ring = pytest.mark.parametrize("options", [{}, RING], ids=["rows", "ring"])


def mesh_of(kind, *shape):
  devices(8)
  return jax.make_mesh(shape or (8,), ("i", "j")[: len(shape or (8,))], axis_types=(kind,) * len(shape or (8,)))


def put(a, mesh, *spec):
  return jax.device_put(jnp.asarray(a), NamedSharding(mesh, P(*spec)))


def spec_of(a):
  """Without the trailing axes that are not sharded, which JAX writes or leaves out."""
  entries = list(getattr(a, "sharding", a).spec)
  while entries and entries[-1] is None:
    entries.pop()
  return tuple(entries)


COLLECTIVES = (
  "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute|collective-broadcast|ragged-all-to-all"
)


def compiled(f, *args):
  return quick_jit(f).lower(*args).compile()


def program(f, *args):
  """The collectives of the compiled program, name -> the numbers of elements of what each one brings; its shardings."""
  found, executable = {}, compiled(f, *args)
  for line in executable.as_text().splitlines():
    if match := re.search(rf"= (.*?) ({COLLECTIVES})(-start)?\(", line):
      shapes = re.findall(r"\w+\[([\d,]*)\]", match[1])
      found.setdefault(match[2], []).extend(int(np.prod([int(n) for n in s.split(",") if n])) for s in shapes)
  return found, [spec_of(s) for s in jax.tree.leaves(executable.output_shardings)]


def gaussian(*z, **options):
  return pairwise_sum(lambda D: jnp.exp(-D), *z, **options)


def soft_minimum(*z, **options):
  return pairwise_logsumexp(lambda D: -D, *z, **options)


def neighbours(*z, **options):
  return nearest(z[0], *(z[1:] or (None,)), k=2, **options).squared


def naive_gaussian(*z):
  return jnp.exp(-naive_edm(*z)).sum(1)


def naive_soft_minimum(*z):
  return jax.nn.logsumexp(-naive_edm(*z), axis=1)


def naive_neighbours(*z):
  squared = naive_edm(*z)
  if len(z) == 1:
    squared = jnp.where(jnp.eye(len(z[0]), dtype=bool), jnp.inf, squared)
  return jnp.sort(squared, 1)[:, :2]


NAIVE = {
  edm: naive_edm,
  distances: naive_distances,
  gaussian: naive_gaussian,
  soft_minimum: naive_soft_minimum,
  neighbours: naive_neighbours,
}


def loss(f):
  return lambda *z: jnp.cos(f(*z)).sum()
