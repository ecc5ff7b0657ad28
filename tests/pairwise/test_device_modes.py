"""Points over devices, in every mode of differentiation, against naive formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from meshes import (
  NAIVE,
  RING,
  either_kind_at_length,
  gaussian,
  loss,
  mesh_of,
  neighbours,
  put,
  soft_minimum,
  spec_of,
)

from jax_edm import distances, edm
from transformations import ALL, Case, check_cases, equal_to, gradient, jvp, quick_jit, scalar

ONE_SET, TWO_SETS = ((80, 3),), ((80, 3), (16, 3))


def move(a, kind, *spec):
  to = lax.with_sharding_constraint if kind == AxisType.Auto else jax.sharding.reshard
  return to(a, NamedSharding(mesh_of(kind), P(*spec)))


def spread(f, kind, **options):
  """``f`` of points that lie in rows over the devices; its results are brought to all of them."""

  def of_spread(*z, method):
    return move(f(*(move(a, kind, "i") for a in z), method=method, **options), kind)

  return of_spread


WAYS = {
  "edm": (edm, {}),
  "distances": (distances, {}),
  "sum": (gaussian, {"block_size": 2}),
  "logsumexp": (soft_minimum, {"block_size": 2}),
  "nearest": (neighbours, {}),
  "sum, ring": (gaussian, RING),
  "logsumexp, ring": (soft_minimum, RING),
  "nearest, ring": (neighbours, RING),
}


def first_and_second_order(f, v, *z):
  """The value, the gradient, and the HVP by forward over reverse: in one program."""
  return f(*z), jax.jvp(gradient(scalar(f)), z, v)


def check_on_mesh(transform, way, kind, *sets, method=None):
  f, options = WAYS[way]
  spread_f, naive = spread(f, kind, **options), NAIVE[f]
  with jax.set_mesh(mesh_of(kind)):
    check_cases(transform, [Case(spread_f, shapes, jnp.float64, method, naive=naive) for shapes in sets])


EXPLICIT = ("edm", "sum", "sum, ring")  # in README's test command; the other ways on automatic meshes alone
KINDS_OF_WAYS = [
  pytest.param(way, kind, marks=[pytest.mark.slow] if kind == AxisType.Explicit and way not in EXPLICIT else [])
  for way in WAYS
  for kind in (AxisType.Auto, AxisType.Explicit)
]


@pytest.mark.parametrize(("way", "kind"), KINDS_OF_WAYS)
@pytest.mark.usefixtures("double_precision")
def test_value_gradient_and_hvp(way, kind):
  """Of one set and of two."""
  check_on_mesh(first_and_second_order, way, kind, ONE_SET, TWO_SETS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("way", ["edm", "sum"])
@pytest.mark.usefixtures("double_precision")
def test_by_differences_in_loops(way, kind):
  sets = ((80, 9),), ((80, 9), (16, 9))
  check_on_mesh(first_and_second_order, way, kind, *sets, method="difference")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("double_precision")
def test_reverse_over_reverse(way):
  """Over Explicit axes, of two sets: each of the rules, transposed twice."""
  check_on_mesh(ALL["reverse over reverse"], way, AxisType.Explicit, TWO_SETS)


# The derivatives of the rows are JAX's own, those of a ring are the library's.
@pytest.mark.parametrize("name", ["vmap of grad", "scan", "export", "reverse over forward", "third order, mixed"])
@pytest.mark.parametrize("way", ["sum", "sum, ring"])
@pytest.mark.usefixtures("double_precision")
def test_other_modes(way, name):
  """Of one set, over Auto axes."""
  check_on_mesh(ALL[name], way, AxisType.Auto, ONE_SET)


INSIDE = {
  "forward over reverse": lambda total, across, v, *z: jax.jvp(gradient(total), z, v),  # and the gradient
  "reverse over forward": lambda total, across, v, *z: gradient(jvp(total, v))(*z),
  "reverse over reverse": lambda total, across, v, *z: gradient(
    lambda *z: across(sum((g * t).sum() for g, t in zip(gradient(total)(*z), v, strict=True)))
  )(*z),
}


@pytest.mark.parametrize(
  "f", [gaussian, pytest.param(soft_minimum, marks=pytest.mark.slow), neighbours], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("mode", INSIDE)
@pytest.mark.usefixtures("double_precision")
def test_a_ring_inside_the_shard_map_of_the_caller(mode, f):
  """With its checks of what varies, which are on by default; of one set and of two."""

  def inside(of_points, v, *z):
    def local(z, v):
      total = lambda *z: lax.psum(loss(of_points)(*z), "i")  # noqa: E731
      return INSIDE[mode](total, lambda a: lax.psum(a, "i"), v, *z)

    return jax.shard_map(local, mesh=mesh_of(AxisType.Auto), in_specs=P("i"), out_specs=P("i"))(z, tuple(v))

  equal_to(lambda of_points, v, *z: INSIDE[mode](loss(of_points), lambda a: a, v, *z), inside)
  of_ring = lambda *z, method: f(*z, method=method, axis_name="i")  # noqa: E731
  check_cases(inside, [Case(of_ring, s, jnp.float64, naive=NAIVE[f]) for s in (((24, 3),), ((24, 3), (16, 3)))])


@either_kind_at_length
def test_a_batch_over_the_devices(kind, rng):
  """Leading axes, and those that ``vmap`` hides: the value, the gradient and the HVP."""
  mesh = mesh_of(kind)
  x = rng.normal(size=(16, 9, 3)).astype("f")
  for f in (edm, gaussian, neighbours):
    of_one = lambda x, f=f: [f(x), *jax.jvp(gradient(scalar(f)), (x,), (x / 2,))]  # noqa: E731
    expected = jax.tree.leaves(quick_jit(jax.vmap(of_one))(jnp.asarray(x)))
    with jax.set_mesh(mesh):
      found = quick_jit(lambda x, g=of_one: (jax.vmap(g)(x), g(x)))(put(x, mesh, "i"))
    for batched in found:
      for a, e in zip(jax.tree.leaves(batched), expected, strict=True):
        assert spec_of(a) == ("i",)
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, RING], ids=["rows", "ring"])
def test_a_shard_map_over_one_axis_of_two(options, rng):
  """The other one stays Auto."""
  mesh, x, y = mesh_of(AxisType.Auto, 4, 2), rng.normal(size=(16, 3)).astype("f"), rng.normal(size=(8, 3)).astype("f")
  of_y = P("i") if options else P()
  functions = (gaussian, soft_minimum) if options else (edm, gaussian, soft_minimum)

  def on_mesh(f):
    of_rows = lambda *z: f(*z, **options)  # noqa: E731
    return jax.shard_map(of_rows, mesh=mesh, in_specs=(P("i"), of_y), out_specs=P("i"), axis_names=frozenset("i"))

  found = quick_jit(lambda *z: [jax.grad(loss(on_mesh(f)), (0, 1))(*z) for f in functions])(x, y)
  expected = quick_jit(lambda *z: [jax.grad(loss(NAIVE[f]), (0, 1))(*z) for f in functions])(x, y)
  for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, e, atol=1e-4)
