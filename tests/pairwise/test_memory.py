"""The promise: a gigabyte's worth of pairs in a few megabytes, in every mode, by the compiler's own accounting."""

import jax
import jax.numpy as jnp
import pytest

from jax_edm import nearest, pairwise_logsumexp, pairwise_sum
from jax_edm._pairwise import blocked
from transformations import quick_jit

N = 16384  # N * N floats are a gigabyte
FURTHER = 4 * (blocked.entries() - blocked.ENTRIES) * 4 / 2**20  # where blocks are larger: on a GPU
# MiB, of each mode.
LIMITS = {"forward": 24, "gradient": 100, "jvp": 80, "hvp": 128, "grad of grad": 200}
LIMITS = {mode: limit + FURTHER for mode, limit in LIMITS.items()}


def temporaries(f, *shapes):
  """MiB."""
  arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  return quick_jit(f).lower(*arrays).compile().memory_analysis().temp_size_in_bytes / 2**20


def modes(reduction, sets, block=None, outer=lambda sums: sums):
  def loss(x):
    return outer(reduction(lambda D: jnp.exp(-D), x, x if sets == 2 else None, block_size=block)).sum()

  return {
    "forward": loss,
    "gradient": jax.grad(loss),
    "jvp": lambda x: jax.jvp(loss, (x,), (x,)),
    "hvp": lambda x: jax.jvp(jax.grad(loss), (x,), (x,)),
    "grad of grad": jax.grad(lambda x: (jax.grad(loss)(x) ** 2).sum()),
  }


@pytest.mark.parametrize("d", [3, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("sets", [1, 2])
def test_memory(sets, d):
  for name, f in modes(pairwise_sum, sets).items():
    assert temporaries(f, (N, d)) < LIMITS[name], name


# Rows of more than `operations.MANY` terms are added in another way than shorter ones: both sizes on one side of it.
@pytest.mark.parametrize(("sets", "block", "n"), [pytest.param(1, 512, N // 2, marks=pytest.mark.slow), (2, 64, N)])
def test_memory_is_linear_in_n(sets, block, n):
  of_modes = modes(pairwise_sum, sets, block)
  for name in ("forward", "hvp", "grad of grad"):
    assert temporaries(of_modes[name], (2 * n, 3)) <= 2 * temporaries(of_modes[name], (n, 3)), name


@pytest.mark.parametrize(("f", "sets"), [(pairwise_sum, 1), (pairwise_sum, 2), (pairwise_logsumexp, 2)])
def test_memory_under_a_loss_that_is_not_linear_in_the_sums(f, sets):
  """Then the second order needs the blocks of the first once more."""
  of_modes = modes(f, sets, outer=jnp.log1p)
  for name in ("gradient", "hvp", "grad of grad"):
    assert temporaries(of_modes[name], (N, 3)) < LIMITS[name], name


def test_memory_of_a_batch_and_of_small_blocks():
  def gradient(block):
    return jax.grad(lambda x: pairwise_sum(lambda D: jnp.exp(-D), x, block_size=block).sum())

  assert temporaries(gradient(None), (512, 1024, 3)) < 64
  assert temporaries(gradient(4), (8192, 3)) < 4


@pytest.mark.slow
def test_memory_of_logsumexp_and_of_a_block_that_does_not_divide():
  for f in (pairwise_logsumexp, pairwise_sum):
    of_modes = modes(f, 1)
    for name in ("forward", "gradient", "hvp"):
      assert temporaries(of_modes[name], (16411, 3)) < LIMITS[name], name  # a prime


@pytest.mark.parametrize(("block", "limit"), [(None, 60 + FURTHER), (256, 3)])
def test_memory_of_unrolled_calls_of_one_block(block, limit):
  """Five steps of Sinkhorn: a single block is kept (docs/streaming.md), and with two blocks or more nothing is."""

  def loss(x, y):
    g = jnp.zeros(1024)
    for _ in range(5):
      f = -pairwise_logsumexp(lambda D, g: g - D, x, y, args=(g[None],), block_size=block)
      g = -pairwise_logsumexp(lambda D, f: f - D, y, x, args=(f[None],), block_size=block)
    return (f + g).sum()

  assert temporaries(jax.grad(loss), (1024, 3), (1024, 3)) < limit


def test_memory_without_a_diagonal():
  gradient = jax.grad(lambda x: pairwise_sum(lambda D: 1 / D, x, diagonal=False).sum())
  assert temporaries(gradient, (N, 3)) < LIMITS["gradient"]


def test_memory_of_nearest():
  for f in (lambda x: nearest(x, k=10).squared.sum(), jax.grad(lambda x: nearest(x, k=10).squared.sum())):
    assert temporaries(f, (N, 3)) < 24
