"""One contract, several implementations: XLA's blocks, and the kernels of both routes, interpreted on this machine.

What differs between them is said here and nowhere else. The tests of the contract take the fixture ``sums``.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu

from conftest import x64
from jax_edm import pairwise_logsumexp, pairwise_sum
from jax_edm._pairwise.pallas import rule
from jax_edm._pairwise.pallas.backend import Backend, TileSize
from jax_edm._pairwise.pallas.mosaic import Mosaic
from jax_edm._pairwise.pallas.triton import Triton
from transformations import quick_jit

EPS = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Implementation:
  """``pairwise_sum`` and ``pairwise_logsumexp``, and what holds for this implementation alone.

  Attributes:
    widest: the widest dtype in which it computes; kernels compute in 32 bits.
    order: of derivatives that it computes itself; above the first, those of kernels run by XLA.
    blocks: values of block_size that make different programs; kernels have tiles of their own.
  """

  name: str
  sum: Callable = pairwise_sum
  logsumexp: Callable = pairwise_logsumexp
  widest: type = np.float64
  order: int = 2
  blocks: tuple = (None, 3)

  def jit(self, f):
    """As users compile; of kernels, whose interpreter is none of ours, without LLVM's passes."""
    return jax.jit(f) if self.name == "xla" else quick_jit(f)


def of_kernels(route):
  return Implementation(
    route,
    partial(pairwise_sum, implementation="pallas"),
    partial(pairwise_logsumexp, implementation="pallas"),
    widest=np.float32,
    order=1,
    blocks=(None,),
  )


IMPLEMENTATIONS = {i.name: i for i in (Implementation("xla"), of_kernels("mosaic"), of_kernels("triton"))}
KERNELS = [name for name in IMPLEMENTATIONS if name != "xla"]


def _of_fixture(request):
  if request.param != "xla" and "float64" in request.node.name:
    pytest.skip("kernels compute in 32 bits")
  with interpreted(request.param):
    yield IMPLEMENTATIONS[request.param]


# Kernels run where a test compiles a program of its own (``jax.jit``): what is compiled is kept, whatever the backend.
every = pytest.fixture(params=IMPLEMENTATIONS)(_of_fixture)
# What kernels make of a tile is the same for both backends: by default one of them shows it.
sums = pytest.fixture(params=["xla", "triton", pytest.param("mosaic", marks=pytest.mark.slow)])(_of_fixture)


def backend(name, interpret=True):
  """With tiles so small that there are several."""
  if name == "mosaic":
    return Mosaic(sides=(16, 8), interpret=interpret)
  return Triton(size=TileSize(16, 32, 4), interpret=interpret)


@contextlib.contextmanager
def interpreted(name, runs=True):
  """Kernels run on this machine, by the backend of that name; ``only`` says where that fails.

  They are interpreted, but for those of Triton on a machine with a GPU.
  """
  if name == "xla":
    yield
    return
  on_gpu = jax.default_backend() == "gpu"
  if on_gpu and name == "mosaic":
    pytest.skip("kernels for a TPU are interpreted where there is a CPU alone")
  wanted = backend(name, interpret=not on_gpu)
  with pytest.MonkeyPatch.context() as patch, only(wanted, patch, runs):
    patch.setitem(rule.BACKENDS, "cuda" if on_gpu else "cpu", wanted)
    yield


@contextlib.contextmanager
def only(wanted, patch, runs=True):
  """Fails where a kernel runs by another backend, or unless some kernel ``runs``."""
  seen, run = [], Backend.run

  def run_and_note(self, *args):
    seen.append(self)
    return run(self, *args)

  patch.setattr(Backend, "run", run_and_note)
  yield
  assert bool(seen) is runs
  assert all(backend == wanted for backend in seen)


@contextlib.contextmanager
def in_widest(sums):
  """With 64-bit types if the implementation has them; the dtype."""
  with x64(sums.widest is np.float64):
    yield sums.widest


@contextlib.contextmanager
def called_by(wanted):
  """Kernels are called where they stand, by that backend; their cotangents are kernels, too."""

  def bind(*arrays, kernel):
    @jax.custom_vjp
    def run(*arrays):
      return list(kernel.run(wanted, arrays))

    def back(arrays, g):
      argnums = [i for i, a in enumerate(arrays) if jnp.issubdtype(a.dtype, jnp.inexact)]
      found = dict(zip(argnums, kernel.vjp(wanted, arrays, g, argnums), strict=False))  # none of a value that is known
      return tuple(found.get(i) for i in range(len(arrays)))

    run.defvjp(lambda *arrays: (run(*arrays), arrays), back)
    return run(*arrays)

  jax.clear_caches()  # what has been traced binds the primitive
  with pytest.MonkeyPatch.context() as patch, only(wanted, patch):
    patch.setattr(rule, "kernel_p", SimpleNamespace(bind=bind))
    yield
  jax.clear_caches()


def with_memory_of_a_tpu():
  """Unwritten memory holds NaN; reads out of bounds and races raise."""
  return called_by(backend("mosaic", tpu.InterpretParams(detect_races=True)))
