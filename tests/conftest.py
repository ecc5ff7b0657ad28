import collections
import contextlib
import zlib

import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 8)  # for the tests of sharding; before the first array is made


def pytest_addoption(parser):
  parser.addoption("--every", type=int, default=1, metavar="K", help="of each test, only every K-th set of parameters")


def pytest_collection_modifyitems(config, items):
  every, seen, left_out = config.getoption("--every"), collections.Counter(), []
  for item in list(items):
    function = (item.path, item.originalname)
    if seen[function] % every:
      left_out.append(item)
      items.remove(item)
    seen[function] += 1
  if left_out:
    config.hook.pytest_deselected(items=left_out)


@contextlib.contextmanager
def x64(on):
  before = jax.config.jax_enable_x64
  jax.config.update("jax_enable_x64", on)
  try:
    yield
  finally:
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(params=[False, True], ids=["x32", "x64"])
def either_precision(request):
  """The test runs with 64-bit types off, and again with them on."""
  with x64(request.param):
    yield request.param


@pytest.fixture
def one_precision(request):
  """64-bit types off or on, one of the two for each test: among the parameters of a function both are met."""
  with x64(bool(zlib.crc32(request.node.name.encode()) % 2)):
    yield


@pytest.fixture
def double_precision():
  with x64(True):
    yield


@pytest.fixture
def rng():
  return np.random.default_rng(0)


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
