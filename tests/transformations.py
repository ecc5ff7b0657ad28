"""The transformations of JAX, and the check that a function is right under each of them.

A transformation is a function ``(f, tangents, *points) -> arrays``. What it should return is what it, or another one of
the same mathematics, its ``reference``, makes of a naive ``f`` in float64. The values of references are kept: those of
``grad`` serve all transformations that are a gradient.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from conftest import devices, quick_jit, x64
from jax_edm import distances, edm

DEVICES = 4


def naive_edm(x, y=None):
  y = x if y is None else y
  return ((x[:, None] - y[None]) ** 2).sum(-1)


def naive_distances(x, y=None):
  squared = naive_edm(x, y)
  zero = jnp.eye(len(x), dtype=bool) if y is None else jnp.zeros(squared.shape, bool)
  return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squared)))


NAIVE = {edm: naive_edm, distances: naive_distances}


class Case(NamedTuple):
  """A function, and the points of one set or two that it is given; ``naive`` if it is not in ``NAIVE``."""

  f: Callable[..., Any]
  shapes: tuple[tuple[int, int], ...]
  dtype: Any
  method: str | None = None
  naive: Callable[..., Any] | None = None

  def arrays(self, dtype):
    """The points and their tangents."""
    rng = np.random.default_rng(1)
    return tuple(tuple(jnp.asarray(rng.normal(size=s) / s[1] ** 0.5, dtype) for s in self.shapes) for _ in range(2))


def check(f, transform, shapes, dtype, method, jitted, naive=None):
  """``f`` under a transformation: the values, shapes and dtypes of the naive function under the same one.

  Compiled as users compile it, or without ``jax.jit``.
  """
  case = Case(f, tuple(map(tuple, shapes)), dtype, method, naive)
  check_cases(transform, [case], jax.jit if jitted else lambda run: run)


def check_cases(transform, cases, jit=quick_jit):
  """Many cases in one program, which compiles faster than one for each."""

  def run(*arrays):
    return [transform(partial(c.f, method=c.method), v, *z) for c, (z, v) in zip(cases, arrays, strict=True)]

  results = jit(run)(*(c.arrays(c.dtype) for c in cases))
  for case, actual in zip(cases, results, strict=True):
    reference = getattr(transform, "reference", transform)
    expected = expected_leaves(case.naive or NAIVE[case.f], reference, case._replace(f=None, dtype=None, method=None))
    for a, e in zip(jax.tree.leaves(actual), expected, strict=True):
      assert a.dtype == case.dtype, case
      assert a.shape == e.shape, case
      # A gradient sums n terms; the root of a small distance enlarges each by the largest over the smallest.
      scale = (1 + np.max(np.abs(e), initial=0)) * max(s[0] for s in case.shapes) ** 0.5
      error = 64 * float(jnp.finfo(case.dtype).eps) * scale * (1 if case.f is edm else 30)
      np.testing.assert_allclose(a, e, rtol=0, atol=error, err_msg=str(case))


@lru_cache(256)
def expected_leaves(naive, reference, case):
  with x64(True):
    z, v = case.arrays(jnp.float64)
    return [np.asarray(a) for a in jax.tree.leaves(quick_jit(partial(reference, naive))(v, *z))]


def equal_to(reference, transform):
  """A transformation whose results are, mathematically, those of another one."""
  transform.reference = reference
  return transform


def scalar(f):
  return lambda *z: jnp.cos(f(*z)).sum()


def jvp(f, v):
  return lambda *z: jax.jvp(f, z, v)[1]


def gradient(f):
  return lambda *z: jax.grad(f, tuple(range(len(z))))(*z)


def reverse_again(f, v):
  """The gradient of ``<gradient, v>``."""
  return gradient(lambda *z: sum((g * t).sum() for g, t in zip(gradient(f)(*z), v, strict=True)))


def stacked(*z):
  return tuple(jnp.stack([a, 2 * a, -a]) for a in z)


def over_a_vmap(f):
  return lambda *z: jnp.cos(jax.vmap(f)(*z)).sum()


def over_a_scan(f):
  """The sum of a nonlinear function of what a scan collects: JAX keeps its values in a program of its own."""

  def total(*z):
    return jnp.cos(lax.scan(lambda _, z: (None, f(*z)), None, stacked(*z))[1]).sum()

  return total


def step(f, z, rate=0.01):
  return tuple(a - rate * g for a, g in zip(z, gradient(scalar(f))(*z), strict=True))


def three_steps(f, v, *z):
  return step(f, step(f, step(f, z)))


def scanned(f, v, *z):
  return lax.scan(lambda z, _: (step(f, z), None), z, length=3)[0]


def looped(f, v, *z):
  return lax.while_loop(lambda state: state[0] < 3, lambda state: (state[0] + 1, step(f, state[1])), (0, z))[1]


def conditional(f, v, *z):
  return gradient(lambda *z: lax.cond(z[0].sum() < 1e9, scalar(f), lambda *z: z[0].sum(), *z))(*z)


def unrolled_training(f, v, *z):
  """The gradient through a training loop: the hyper-gradient of a step size."""

  def after(rate):
    return scalar(f)(*lax.scan(lambda z, _: (step(f, z, rate), None), z, length=2)[0])

  return jax.grad(after)(jnp.asarray(0.01, z[0].dtype))


def mesh_of_devices():
  return Mesh(np.array(devices(DEVICES)), ("i",))


def sharded_total(f, sets):
  """The sum over all devices: rows of x on four of them, the second set whole on each (or each on its own set)."""
  specs = (PartitionSpec("i"), PartitionSpec())[:sets]
  return (lambda *z: lax.psum(scalar(f)(*z), "i")), specs


def total_of_parts(f, sets):
  """The same sum without devices."""
  if sets == 2:
    return scalar(f)
  return lambda x: jax.vmap(scalar(f))(x.reshape(DEVICES, -1, x.shape[1])).sum()


def in_shard_map(inner):
  def run(f, v, *z):
    total, specs = sharded_total(f, len(z))

    def local(z, v):
      return inner(total, lambda part: lax.psum(part, "i"), v, *z)

    return jax.shard_map(local, mesh=mesh_of_devices(), in_specs=(specs, specs), out_specs=specs)(z, tuple(v))

  def reference(f, v, *z):
    return inner(total_of_parts(f, len(z)), lambda part: part, v, *z)

  return equal_to(reference, run)


def hessian_outside_shard_map(f, v, *z):
  total, specs = sharded_total(f, len(z))
  whole = jax.shard_map(total, mesh=mesh_of_devices(), in_specs=specs, out_specs=PartitionSpec())
  return jax.hessian(whole, tuple(range(len(z))))(*z)


def hessian_of_parts(f, v, *z):
  return jax.hessian(total_of_parts(f, len(z)), tuple(range(len(z))))(*z)


def sharded_jit(f, v, *z):
  shardings = [NamedSharding(mesh_of_devices(), spec) for spec in (PartitionSpec("i"), PartitionSpec())[: len(z)]]
  if isinstance(z[0], jax.core.Tracer):
    z = [lax.with_sharding_constraint(a, s) for a, s in zip(z, shardings, strict=True)]
  else:
    z = [jax.device_put(a, s) for a, s in zip(z, shardings, strict=True)]
  return jax.jit(gradient(scalar(f)))(*z)


def exported(f, v, *z):
  types = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in z]
  program = export.export(jax.jit(gradient(scalar(f))))(*types)
  return export.deserialize(program.serialize()).call(*z)


def push(f, v, *z):
  return jvp(f, v)(*z)


def pull(f, v, *z):
  return jax.vjp(f, *z)[1](jnp.sin(f(*z)))


def grad(f, v, *z):
  return gradient(scalar(f))(*z)


def grad_of_vmap(f, v, *z):
  return gradient(over_a_vmap(f))(*stacked(*z))


def hvp(f, v, *z):
  return jvp(gradient(scalar(f)), v)(*z)


def hvp_of_a_scan(f, v, *z):
  return jvp(gradient(over_a_scan(f)), v)(*z)


def dense(f, v, *z):
  return jax.jacfwd(f, tuple(range(len(z))))(*z)


def hessian_in_the_first(f, v, *z):
  return jax.jacfwd(jax.jacrev(scalar(f)))(*z)


# One function, every mode.
FIRST_ORDER = {
  "value": lambda f, v, *z: f(*z),
  "jvp": push,
  "linearize": equal_to(push, lambda f, v, *z: jax.linearize(f, *z)[1](*v)),
  "grad": grad,
  "grad of the first argument only": lambda f, v, *z: jax.grad(scalar(f))(*z),
  "vjp": pull,
  "linear_transpose": equal_to(
    pull, lambda f, v, *z: jax.linear_transpose(jax.linearize(f, *z)[1], *z)(jnp.sin(f(*z)))
  ),
  "value_and_grad": lambda f, v, *z: jax.value_and_grad(scalar(f))(*z),
  "checkpoint": equal_to(grad, lambda f, v, *z: gradient(jax.checkpoint(scalar(f)))(*z)),
  "vmap of grad": equal_to(grad_of_vmap, lambda f, v, *z: jax.vmap(gradient(scalar(f)))(*stacked(*z))),
  "grad of vmap": grad_of_vmap,
  "jvp of vmap": lambda f, v, *z: jvp(jax.vmap(f), stacked(*v))(*stacked(*z)),
  "vmap over the tangents": equal_to(
    lambda f, v, *z: stacked(push(f, v, *z))[0], lambda f, v, *z: jax.vmap(lambda *v: jvp(f, v)(*z))(*stacked(*v))
  ),
  "vmap of the first argument": lambda f, v, *z: jax.vmap(lambda x: gradient(scalar(f))(x, *z[1:]))(*stacked(z[0])),
  "scan": equal_to(three_steps, scanned),
  "while_loop": equal_to(three_steps, looped),
  "cond": equal_to(grad, conditional),
  "sharded jit": equal_to(grad, sharded_jit),
  "export": equal_to(grad, exported),
  "shard_map of grad": in_shard_map(lambda total, across, v, *z: gradient(total)(*z)),
}
SECOND_ORDER = {
  "forward over reverse": hvp,
  "reverse over forward": equal_to(hvp, lambda f, v, *z: gradient(jvp(scalar(f), v))(*z)),
  "reverse over reverse": equal_to(hvp, lambda f, v, *z: reverse_again(scalar(f), v)(*z)),
  "forward over forward": lambda f, v, *z: jvp(jvp(f, v), v)(*z),
  "second order of the first argument only": lambda f, v, *z: jax.grad(
    lambda x: (jax.grad(scalar(f))(x, *z[1:]) * v[0]).sum()
  )(z[0]),
  "forward over reverse of a scan": hvp_of_a_scan,
  "reverse over reverse of a scan": equal_to(hvp_of_a_scan, lambda f, v, *z: reverse_again(over_a_scan(f), v)(*z)),
  "checkpointed twice": equal_to(hvp, lambda f, v, *z: jvp(gradient(jax.checkpoint(jax.checkpoint(scalar(f)))), v)(*z)),
  "vmap of an HVP": equal_to(
    lambda f, v, *z: stacked(*hvp(f, v, *z)),
    lambda f, v, *z: jax.vmap(lambda *v: jvp(gradient(scalar(f)), v)(*z))(*stacked(*v)),
  ),
  "HVP of vmap": lambda f, v, *z: jvp(gradient(over_a_vmap(f)), stacked(*v))(*stacked(*z)),
  "grad through training": unrolled_training,
  "shard_map of an HVP": in_shard_map(lambda total, across, v, *z: jvp(gradient(total), v)(*z)),
  "shard_map of grad of jvp": in_shard_map(lambda total, across, v, *z: gradient(jvp(total, v))(*z)),
  "shard_map of grad of grad": in_shard_map(
    lambda total, across, v, *z: gradient(lambda *z: across((gradient(total)(*z)[0] * v[0]).sum()))(*z)
  ),
}
THIRD_ORDER = {
  "third order, forward": lambda f, v, *z: jvp(jvp(gradient(scalar(f)), v), v)(*z),
  "third order, reverse": lambda f, v, *z: gradient(lambda *z: (reverse_again(scalar(f), v)(*z)[0] ** 2).sum())(*z),
  "third order, mixed": lambda f, v, *z: gradient(lambda *z: (hvp(f, v, *z)[0] ** 2).sum())(*z),
}
SMALL_ONLY = {
  "jacrev": equal_to(dense, lambda f, v, *z: jax.jacrev(f, tuple(range(len(z))))(*z)),
  "jacfwd": dense,
  "hessian": lambda f, v, *z: jax.hessian(scalar(f), tuple(range(len(z))))(*z),
  "jacrev of jacrev": equal_to(hessian_in_the_first, lambda f, v, *z: jax.jacrev(jax.jacrev(scalar(f)))(*z)),
  "jacrev of jacfwd": equal_to(hessian_in_the_first, lambda f, v, *z: jax.jacrev(jax.jacfwd(scalar(f)))(*z)),
  "hessian of shard_map": equal_to(hessian_of_parts, hessian_outside_shard_map),
  **THIRD_ORDER,
}
ALL = {**FIRST_ORDER, **SECOND_ORDER, **SMALL_ONLY}
