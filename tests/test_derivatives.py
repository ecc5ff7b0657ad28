"""``edm`` and ``distances`` under every transformation of JAX, against a naive reference under the same one.

The reference runs in float64 and eagerly; what is tested runs in float32 too, jitted and eagerly, also at sizes where
compilers fuse.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.test_util import check_grads

import oracle
from conftest import x64
from jax_edm import distances, edm, edm_jacobian


def naive_edm(x, y=None):
  y = x if y is None else y
  return ((x[:, None] - y[None]) ** 2).sum(-1)


def naive_distances(x, y=None):
  squared = naive_edm(x, y)
  zero = jnp.eye(len(x), dtype=bool) if y is None else jnp.zeros(squared.shape, bool)
  return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squared)))


NAIVE = {edm: naive_edm, distances: naive_distances}


def scalar(f):
  return lambda *z: jnp.cos(f(*z)).sum()


def jvp(f, v):
  return lambda *z: jax.jvp(f, z, v)[1]


def gradient(f):
  return lambda *z: jax.grad(f, tuple(range(len(z))))(*z)


def reverse_again(f, v):
  """The gradient of ``<gradient, v>``."""
  return gradient(lambda *z: sum((g * t).sum() for g, t in zip(gradient(f)(*z), v, strict=True)))


def scanned(f, v, *z):
  def step(z, _):
    return tuple(a - 0.01 * g for a, g in zip(z, gradient(scalar(f))(*z), strict=True)), None

  return lax.scan(step, z, length=3)[0]


def over_a_scan(f):
  """The sum of a nonlinear function of what a scan collects: JAX keeps its values in a program of its own."""

  def total(*z):
    return jnp.cos(lax.scan(lambda _, z: (None, f(*z)), None, stacked(*z))[1]).sum()

  return total


def looped(f, v, *z):
  def step(state):
    i, z = state
    return i + 1, tuple(a - 0.01 * g for a, g in zip(z, gradient(scalar(f))(*z), strict=True))

  return lax.while_loop(lambda state: state[0] < 3, step, (0, z))[1]


def conditional(f, v, *z):
  return gradient(lambda *z: lax.cond(z[0].sum() < 1e9, scalar(f), lambda *z: z[0].sum(), *z))(*z)


def unrolled_training(f, v, *z):
  """The gradient through a training loop: the hyper-gradient of a step size."""

  def after(rate):
    def step(z, _):
      return tuple(a - rate * g for a, g in zip(z, gradient(scalar(f))(*z), strict=True)), None

    return scalar(f)(*lax.scan(step, z, length=2)[0])

  return jax.grad(after)(jnp.asarray(0.01, z[0].dtype))


def mesh_of_four():
  return Mesh(np.array(jax.devices()[:4]), ("i",))


def sharded_total(f, sets):
  """The sum over all devices: rows of x on four of them, the second set whole on each (or each on its own set)."""
  specs = (PartitionSpec("i"), PartitionSpec())[:sets]
  total = lambda *z: lax.psum(scalar(f)(*z), "i")  # noqa: E731
  return total, specs


def in_shard_map(inner):
  def run(f, v, *z):
    total, specs = sharded_total(f, len(z))

    def local(z, v):
      return inner(total, lambda part: lax.psum(part, "i"), v, *z)

    return jax.shard_map(local, mesh=mesh_of_four(), in_specs=(specs, specs), out_specs=specs)(z, tuple(v))

  def reference(f, v, *z):
    if len(z) == 2:
      return inner(scalar(f), lambda part: part, v, *z)
    pieces = zip(jnp.split(z[0], 4), jnp.split(v[0], 4), strict=True)
    parts = [inner(scalar(f), lambda part: part, (t,), a) for a, t in pieces]
    return [jnp.concatenate([p[0] for p in parts])]

  run.reference = reference
  return run


def hessian_outside_shard_map(f, v, *z):
  total, specs = sharded_total(f, len(z))
  whole = jax.shard_map(total, mesh=mesh_of_four(), in_specs=specs, out_specs=PartitionSpec())
  return jax.hessian(whole, tuple(range(len(z))))(*z)


def sharded_jit(f, v, *z):
  shardings = [NamedSharding(mesh_of_four(), spec) for spec in (PartitionSpec("i"), PartitionSpec())[: len(z)]]
  if is_traced(z):
    z = [lax.with_sharding_constraint(a, s) for a, s in zip(z, shardings, strict=True)]
  else:
    z = [jax.device_put(a, s) for a, s in zip(z, shardings, strict=True)]
  return jax.jit(gradient(scalar(f)))(*z)


def is_traced(z):
  return isinstance(z[0], jax.core.Tracer)


def exported(f, v, *z):
  if is_traced(z):  # a serialised program is called with arrays
    return gradient(scalar(f))(*z)
  program = export.export(jax.jit(gradient(scalar(f))))(*z)
  return export.deserialize(program.serialize()).call(*z)


def stacked(*z):
  return tuple(jnp.stack([a, 2 * a, -a]) for a in z)


# name: (f, tangents, *points) -> arrays. DESIGN: "one function, every mode".
FIRST_ORDER = {
  "value": lambda f, v, *z: f(*z),
  "jvp": lambda f, v, *z: jvp(f, v)(*z),
  "linearize": lambda f, v, *z: jax.linearize(f, *z)[1](*v),
  "grad": lambda f, v, *z: gradient(scalar(f))(*z),
  "grad of the first argument only": lambda f, v, *z: jax.grad(scalar(f))(*z),
  "vjp": lambda f, v, *z: jax.vjp(f, *z)[1](jnp.sin(f(*z))),
  "linear_transpose": lambda f, v, *z: jax.linear_transpose(jax.linearize(f, *z)[1], *z)(jnp.sin(f(*z))),
  "value_and_grad": lambda f, v, *z: jax.value_and_grad(scalar(f))(*z),
  "checkpoint": lambda f, v, *z: gradient(jax.checkpoint(scalar(f)))(*z),
  "vmap of grad": lambda f, v, *z: jax.vmap(gradient(scalar(f)))(*stacked(*z)),
  "grad of vmap": lambda f, v, *z: gradient(lambda *z: jnp.cos(jax.vmap(f)(*z)).sum())(*stacked(*z)),
  "jvp of vmap": lambda f, v, *z: jvp(jax.vmap(f), stacked(*v))(*stacked(*z)),
  "vmap over the tangents": lambda f, v, *z: jax.vmap(lambda *v: jvp(f, v)(*z))(*stacked(*v)),
  "vmap of the first argument": lambda f, v, *z: jax.vmap(lambda x: gradient(scalar(f))(x, *z[1:]))(*stacked(z[0])),
  "scan": scanned,
  "while_loop": looped,
  "cond": conditional,
  "sharded jit": sharded_jit,
  "export": exported,
  "shard_map of grad": in_shard_map(lambda total, across, v, *z: gradient(total)(*z)),
}
SECOND_ORDER = {
  "forward over reverse": lambda f, v, *z: jvp(gradient(scalar(f)), v)(*z),
  "reverse over forward": lambda f, v, *z: gradient(jvp(scalar(f), v))(*z),
  "reverse over reverse": lambda f, v, *z: reverse_again(scalar(f), v)(*z),
  "forward over forward": lambda f, v, *z: jvp(jvp(f, v), v)(*z),
  "second order of the first argument only": lambda f, v, *z: jax.grad(
    lambda x: (jax.grad(scalar(f))(x, *z[1:]) * v[0]).sum()
  )(z[0]),
  "forward over reverse of a scan": lambda f, v, *z: jvp(gradient(over_a_scan(f)), v)(*z),
  "reverse over reverse of a scan": lambda f, v, *z: reverse_again(over_a_scan(f), v)(*z),
  "checkpointed twice": lambda f, v, *z: jvp(gradient(jax.checkpoint(jax.checkpoint(scalar(f)))), v)(*z),
  "vmap of an HVP": lambda f, v, *z: jax.vmap(lambda *v: jvp(gradient(scalar(f)), v)(*z))(*stacked(*v)),
  "HVP of vmap": lambda f, v, *z: jvp(gradient(lambda *z: jnp.cos(jax.vmap(f)(*z)).sum()), stacked(*v))(*stacked(*z)),
  "grad through training": unrolled_training,
  "shard_map of an HVP": in_shard_map(lambda total, across, v, *z: jvp(gradient(total), v)(*z)),
  "shard_map of grad of jvp": in_shard_map(lambda total, across, v, *z: gradient(jvp(total, v))(*z)),
  "shard_map of grad of grad": in_shard_map(
    lambda total, across, v, *z: gradient(lambda *z: across((gradient(total)(*z)[0] * v[0]).sum()))(*z)
  ),
}
SMALL_ONLY = {
  "jacrev": lambda f, v, *z: jax.jacrev(f, tuple(range(len(z))))(*z),
  "jacfwd": lambda f, v, *z: jax.jacfwd(f, tuple(range(len(z))))(*z),
  "hessian": lambda f, v, *z: jax.hessian(scalar(f), tuple(range(len(z))))(*z),
  "jacrev of jacrev": lambda f, v, *z: jax.jacrev(jax.jacrev(scalar(f)))(*z),
  "jacrev of jacfwd": lambda f, v, *z: jax.jacrev(jax.jacfwd(scalar(f)))(*z),
  "hessian of shard_map": hessian_outside_shard_map,
  "third order, forward": lambda f, v, *z: jvp(jvp(gradient(scalar(f)), v), v)(*z),
  "third order, reverse": lambda f, v, *z: gradient(lambda *z: (reverse_again(scalar(f), v)(*z)[0] ** 2).sum())(*z),
  "third order, mixed": lambda f, v, *z: gradient(lambda *z: (jvp(gradient(scalar(f)), v)(*z)[0] ** 2).sum())(*z),
}


def check(f, transform, shapes, dtype, method, jitted, naive=None):
  rng = np.random.default_rng(1)
  z, v = ([rng.normal(size=s) / s[1] ** 0.5 for s in shapes] for _ in range(2))
  with x64(True):
    reference = getattr(transform, "reference", transform)
    expected = reference(naive or NAIVE[f], tuple(map(jnp.asarray, v)), *map(jnp.asarray, z))
  z, v = ([jnp.asarray(a, dtype) for a in arrays] for arrays in (z, v))
  run = partial(transform, partial(f, method=method), tuple(v))
  actual = (jax.jit(run) if jitted else run)(*z)
  leaves, expected_leaves = jax.tree.leaves(actual), jax.tree.leaves(expected)
  assert len(leaves) == len(expected_leaves)
  for a, e in zip(leaves, expected_leaves, strict=True):
    assert a.dtype == dtype
    assert a.shape == e.shape
    # A gradient sums n terms; the root of a small distance enlarges each by the largest over the smallest.
    tolerance = 64 * float(jnp.finfo(dtype).eps) * (1 + np.max(np.abs(e), initial=0)) * max(s[0] for s in shapes) ** 0.5
    np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * (1 if f is edm else 30))


ALL = {**FIRST_ORDER, **SECOND_ORDER, **SMALL_ONLY}


@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize("name", ALL)
@pytest.mark.usefixtures("double_precision")
def test_small_in_float64(name, sets):
  """Every one for both functions: one of them of one set, the other of two, in turns."""
  f, method = (edm, None) if (list(ALL).index(name) + sets) % 2 else (distances, "gram")
  check(f, ALL[name], [(8, 3), (5, 3)][:sets], jnp.float64, method, jitted=True)


@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize("name", [*FIRST_ORDER, "forward over reverse", "reverse over reverse", "shard_map of an HVP"])
def test_small_in_float32_without_jit(name, sets):
  """And without 64-bit types."""
  f, method = (edm, "gram") if sets == 1 else (distances, None)
  check(f, {**FIRST_ORDER, **SECOND_ORDER}[name], [(8, 3), (5, 3)][:sets], jnp.float32, method, jitted=False)


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("f", [edm, distances])
@pytest.mark.parametrize("shapes", [[(64, 3)], [(96, 20)], [(37, 3), (53, 3)]], ids=str)
@pytest.mark.parametrize("name", ["value", "jvp", "grad", "grad of vmap", "forward over reverse"])
def test_where_compilers_fuse(name, shapes, f, jitted):
  check(f, {**FIRST_ORDER, **SECOND_ORDER}[name], shapes, jnp.float32, None, jitted)


@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize("f", [edm, distances])
def test_batches_of_96(f, sets, rng):
  """Sets of 32 in one vmap, jitted: where jax 0.10.2 is wrong by half of the result."""
  z = [rng.normal(size=(96, k, 3)) for k in (32, 21)[:sets]]
  g = rng.normal(size=(96, 32, (32, 21)[sets - 1]))
  for method in (None, "difference", "gram"):

    @jax.jit
    @jax.vmap
    def pull(g, *z):
      value, back = jax.vjp(partial(f, method=method), *z)  # noqa: B023
      return value, back(g)

    value, bars = pull(*(jnp.asarray(a, jnp.float32) for a in (g, *z)))
    squared = oracle.edm(*z)
    cotangent = g
    if f is distances:
      with np.errstate(divide="ignore"):
        cotangent = np.where(squared == 0, 0, g / (2 * np.sqrt(squared)))
      np.testing.assert_allclose(value, np.sqrt(squared), atol=1e-3 if method == "gram" else 1e-6)
    else:
      np.testing.assert_allclose(value, squared, atol=2e-5)
    for bar, expected in zip(bars, oracle.vjp(cotangent, *z), strict=True):
      scale = np.max(np.abs(cotangent).sum(-1)) * np.max(np.abs(z[0]))
      np.testing.assert_allclose(bar, expected, atol=16 * 6e-8 * scale * (1 if f is edm else 8))


@pytest.mark.parametrize(("f", "sets", "method"), [(edm, 1, None), (edm, 2, "gram"), (distances, 2, None)])
@pytest.mark.usefixtures("double_precision")
def test_check_grads_to_order_three(f, sets, method, rng):
  z = [jnp.asarray(rng.normal(size=(k, 2))) for k in (4, 3)[:sets]]
  check_grads(jax.jit(lambda *z: jnp.sin(f(*z, method=method))), z, order=3, modes=("fwd", "rev"), atol=1e-4, rtol=1e-4)


def test_the_four_jacobians_agree(either_precision, rng):
  """Reverse mode, forward mode, forward mode of a naive reference, and the closed form: one tensor."""
  x = rng.normal(size=(6, 3)).astype(np.float64 if either_precision else np.float32)
  expected = oracle.jacobian(x)
  for jacobian in (jax.jacrev(edm)(x), jax.jacfwd(edm)(x), jax.jacfwd(naive_edm)(jnp.asarray(x)), edm_jacobian(x)):
    np.testing.assert_allclose(jacobian, expected, atol=8 * np.finfo(x.dtype).eps * np.max(np.abs(expected)))


def test_integers_have_no_gradient_but_floats_beside_them_do():
  x, y = jnp.arange(6).reshape(3, 2), jnp.ones((4, 2))
  assert jax.grad(lambda y: edm(x, y).sum())(y).shape == y.shape
  with pytest.raises(TypeError, match="int32"):
    jax.grad(lambda x: edm(x, y).sum())(x)
