import contextlib
import functools
import gc

import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 8)  # for the tests of sharding; before the first array is made


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_released():
  """After each file, so that a worker needs no more memory at the end than at the beginning."""
  yield
  jax.clear_caches()
  gc.collect()


@contextlib.contextmanager
def x64(on):
  before = jax.config.jax_enable_x64
  jax.config.update("jax_enable_x64", on)
  try:
    yield
  finally:
    jax.config.update("jax_enable_x64", before)


def quick_jit(f):
  """``jax.jit`` that compiles in a quarter of the time, and makes slower programs of the same operations.

  For tests of what these operations are: derivatives, masks, dtypes. How compilers fuse and vectorise them is for tests
  with ``jax.jit``, which take larger arrays.
  """
  return jax.jit(f, compiler_options=quick_options())


@functools.cache
def quick_options():
  if jax.default_backend() != "cpu":  # the options are those of its compiler
    return {}
  options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
  emitters = {"xla_cpu_use_fusion_emitters": False}  # not in every JAX
  try:
    jax.jit(lambda: 0.0, compiler_options=emitters)()
  except jax.errors.JaxRuntimeError:
    return options
  return options | emitters


@pytest.fixture(params=[False, True], ids=["x32", "x64"])
def either_precision(request):
  """The test runs with 64-bit types off, and again with them on."""
  with x64(request.param):
    yield request.param


@pytest.fixture
def double_precision():
  with x64(True):
    yield


@pytest.fixture
def rng():
  return np.random.default_rng(0)


def devices(count):
  """The test is skipped where there are fewer, as on a machine with one GPU."""
  if jax.device_count() < count:
    pytest.skip(f"needs {count} devices")
  return jax.devices()[:count]


def refusals(bad):
  """A test, eagerly and under jit, of each entry ``name: (error, message, call)``; ``call`` is given four points."""

  @pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
  @pytest.mark.parametrize("name", bad)
  def test_bad_input(name, jitted):
    error, message, call = bad[name]
    with pytest.raises(error, match=message):
      (jax.jit(call) if jitted else call)(jax.numpy.ones((4, 3)))

  return test_bad_input


def equations(jaxpr):
  """All equations of a jaxpr, those of the jaxprs inside it included."""
  for equation in jaxpr.eqns:
    yield equation
    for parameter in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")):
      inner = getattr(parameter, "jaxpr", parameter)
      if hasattr(inner, "eqns"):
        yield from equations(inner)
