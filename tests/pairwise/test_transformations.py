"""The sums under every transformation of JAX, against naive formulas under the same ones, in float64."""

import jax
import jax.numpy as jnp
import pytest

from implementations import IMPLEMENTATIONS, interpreted
from jax_edm import pairwise_logsumexp, pairwise_sum
from transformations import ALL, FIRST_ORDER, SECOND_ORDER, Case, check_cases, naive_edm

ONE_SET, TWO_SETS = ((8, 3),), ((8, 3), (5, 3))


def energy(x, y=None, method=None):
  return pairwise_sum(lambda D: jnp.exp(-D), x, y, method=method, block_size=2)


def soft_minimum(x, y=None, method=None):
  return pairwise_logsumexp(lambda D: -2 * D, x, y, method=method, block_size=2)


def naive_energy(x, y=None):
  return jnp.exp(-naive_edm(x, y)).sum(1)


def naive_soft_minimum(x, y=None):
  return jax.nn.logsumexp(-2 * naive_edm(x, y), axis=1)


def some(names, *chosen):
  """Those that are chosen, and the others as slow tests."""
  return [name if name in chosen else pytest.param(name, marks=pytest.mark.slow) for name in names]


# One of those that JAX derives from the same rules in the same way is enough by default.
SLOW = [
  "checkpointed twice",
  "forward over reverse of a scan",
  "grad through training",
  "HVP of vmap",
  "jacrev of jacfwd",
  "jacrev of jacrev",
  "second order of the first argument only",
  "third order, forward",
  "third order, reverse",
]


@pytest.mark.parametrize("name", some(ALL, *(set(ALL) - set(SLOW))))
@pytest.mark.usefixtures("double_precision")
def test_every_transformation_of_sums(name):
  """In one program: of one set in tiles, and of two in blocks of rows."""
  check_cases(ALL[name], [Case(energy, shapes, jnp.float64, naive=naive_energy) for shapes in (ONE_SET, TWO_SETS)])


# What the rest of the table asks of a function the sums answer; the guards against overflow are in these, too.
OF_LOGSUMEXP = [
  "value",
  "jvp",
  "grad",
  "vmap of grad",
  "scan",
  "shard_map of an HVP",
  "forward over reverse",
  "reverse over reverse",
  "third order, mixed",
]


@pytest.mark.parametrize("name", OF_LOGSUMEXP)
@pytest.mark.usefixtures("double_precision")
def test_transformations_of_logsumexp(name):
  check_cases(ALL[name], [Case(soft_minimum, TWO_SETS, jnp.float64, naive=naive_soft_minimum)])


FUSED = ["value", "jvp", "grad", "grad of vmap", "forward over reverse", "reverse over reverse"]


@pytest.mark.parametrize("name", some(FUSED, "grad"))
def test_where_compilers_fuse(name):
  """In float32, at larger sizes, compiled as users compile."""
  cases = [Case(energy, shapes, jnp.float32, naive=naive_energy) for shapes in (((64, 3),), ((37, 20), (53, 20)))]
  check_cases(ALL[name], cases, jax.jit)


def test_without_jit():
  check_cases(ALL["forward over reverse"], [Case(energy, TWO_SETS, jnp.float32, naive=naive_energy)], lambda run: run)


# JAX never differentiates a kernel: what is neither a value nor a gradient runs by XLA. Points that the compiler
# spreads, and a shard_map that checks, are refused.
OF_KERNELS = [name for name in [*FIRST_ORDER, *SECOND_ORDER, "hessian", "third order, forward"] if "shard" not in name]
# Forward mode of a sum runs by XLA alone: these ask for no value beside the tangent. A logsumexp needs its scale.
WITHOUT_KERNELS = ["jvp", "linearize", "jvp of vmap", "vmap over the tangents", "forward over forward"]


@pytest.mark.parametrize("name", some(OF_KERNELS, "grad of vmap", "linear_transpose"))
def test_transformations_of_kernels(name):
  """A sum of one set by Triton, a logsumexp of two sets by Mosaic."""
  for route, shapes, naive in (("triton", ONE_SET, naive_energy), ("mosaic", TWO_SETS, naive_soft_minimum)):
    sums = IMPLEMENTATIONS[route]

    def f(*z, method, sums=sums):
      if len(z) == 1:
        return sums.sum(lambda D: jnp.exp(-D), *z, method=method)
      return sums.logsumexp(lambda D: -2 * D, *z, method=method)

    with interpreted(route, runs=naive is naive_soft_minimum or name not in WITHOUT_KERNELS):
      check_cases(ALL[name], [Case(f, shapes, jnp.float32, naive=naive)])
