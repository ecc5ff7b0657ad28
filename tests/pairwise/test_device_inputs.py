"""Points over devices with all that a user passes: masks, arguments, values, closures, dtypes, sizes; and bad input."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from meshes import (
  KINDS,
  RING,
  either_kind,
  either_kind_at_length,
  gaussian,
  loss,
  mesh_of,
  neighbours,
  program,
  put,
  rows_and_ring,
  soft_minimum,
)

import oracle
from conftest import x64
from jax_edm import distances, edm, nearest, pairwise_logsumexp, pairwise_sum
from transformations import naive_edm, quick_jit

EPS = float(np.finfo(np.float32).eps)


@pytest.mark.slow
def test_masks_arguments_and_values(rng):
  """What is missing holds NaN; the result is that of one device, which ``test_masks`` compares with a naive formula."""
  n, m = 96, 64
  x, y = rng.normal(size=(n, 3)).astype("f"), rng.normal(size=(2, m, 3)).astype("f")
  where, where_y = rng.random(n) < 0.7, rng.random((2, m)) < 0.7
  x[~where], y[~where_y] = np.nan, np.nan
  per_row, per_column, per_pair = (rng.random(shape).astype("f") for shape in ((n, 1), (1, m), (2, n, m)))
  values, weights = rng.normal(size=(m, 4)).astype("f"), rng.random((2, m)).astype("f") * (rng.random((2, m)) < 0.8)
  arrays = (x, y, per_row, per_column, per_pair, values, weights.astype("f"))

  def measure(*arrays, **options):
    x, y, per_row, per_column, per_pair, values, weights = arrays
    f = lambda D, a, b, c, s: jnp.tanh(a * D + b * c) * s  # noqa: E731
    options |= {"args": (per_row, per_column, per_pair, 2.0), "where": where, "where_y": where_y}
    total = pairwise_sum(f, x, y, values=values, **options)
    logs = pairwise_logsumexp(f, x, y, weights=weights, **options)
    return (total**2).sum() + jnp.where(jnp.isfinite(logs), logs, 0).sum(), (total, logs)

  def run(**options):
    def everything(*arrays):
      found = jax.value_and_grad(partial(measure, **options), tuple(range(7)), has_aux=True)(*arrays)
      return found, nearest(*arrays[:2], k=5, where=where, where_y=where_y, **options)

    return quick_jit(everything)

  ((value, outputs), gradients), chosen = run()(*arrays)
  for kind in KINDS:
    mesh = mesh_of(kind)
    spread = (put(x, mesh, "i"), *(put(a, mesh) for a in arrays[1:4]), put(per_pair, mesh, None, "i"))
    spread += tuple(put(a, mesh) for a in arrays[5:])
    for options in ({}, RING):
      ((found_value, found), found_gradients), neighbours = run(**options)(*spread)
      assert float(found_value) == pytest.approx(float(value), rel=1e-5)
      for a, e in zip((*found, *found_gradients), (*outputs, *gradients), strict=True):
        np.testing.assert_allclose(a, e, rtol=2e-4, atol=1e-5 * np.nanmax(np.abs(np.where(np.isinf(e), 0, e))))
      np.testing.assert_array_equal(neighbours.indices, chosen.indices)
      np.testing.assert_allclose(neighbours.squared, chosen.squared, rtol=1e-5)


@either_kind_at_length
@rows_and_ring
def test_without_the_diagonal(options, kind, rng):
  """Values, gradients and, over Explicit axes, HVPs of functions that are singular at 0; with a mask; with a sign."""
  x, w = rng.normal(size=(32, 3)).astype("f"), rng.normal(size=32).astype("f")
  where = np.arange(32) % 5 != 3
  pairs = ~np.eye(32, dtype=bool) & where[:, None] & where

  def ours(x, w, **options):
    options |= {"diagonal": False, "where": where}
    logs = pairwise_logsumexp(lambda D: -jnp.log(D), x, weights=w, return_sign=True, **options)
    return pairwise_sum(lambda D: 1 / D, x, **options), jnp.where(where, logs[0], 0), logs[1]

  def naive(x, w):
    inverse = jnp.where(pairs, 1 / jnp.where(pairs, naive_edm(x), 1), 0)
    total = inverse @ w
    return inverse.sum(1), jnp.log(jnp.where(where, jnp.abs(total), 1)), jnp.sign(total)

  def everything(f):
    def total(x, w):
      inverse, logs, sign = f(x, w)
      return jnp.cos(inverse).sum() + jnp.sin(logs).sum(), sign

    def run(x, w):
      gradient = jax.grad(total, (0, 1), has_aux=True)
      if kind == AxisType.Auto:
        return f(x, w), gradient(x, w)[0]
      return f(x, w), *jax.jvp(lambda x: gradient(x, w)[0], (x,), (x,))

    return run

  padded = np.where(where[:, None], x, np.nan).astype("f")
  found = quick_jit(everything(partial(ours, **options)))(put(padded, mesh_of(kind), "i"), w)
  with x64(True):
    expected = quick_jit(everything(naive))(
      *(np.where(where[..., None] if a.ndim == 2 else True, a, 0).astype(float) for a in (x, w))
    )
  (values, *derivatives), (wanted, *expected) = found, expected
  for a, e in zip(jax.tree.leaves(values), wanted, strict=True):
    np.testing.assert_allclose(a, e, rtol=2e-3, atol=1e-5)
  for a, e in zip(jax.tree.leaves(derivatives), jax.tree.leaves(expected), strict=True):
    a, e = (np.where(where[:, None] if np.ndim(b) == 2 else where, b, 0) for b in (a, e))
    np.testing.assert_allclose(a, e, atol=2e-3 * np.abs(e).max())


@rows_and_ring
def test_counts_are_integers_and_one_set_has_no_neighbour_in_itself(options, rng):
  x = rng.normal(size=(64, 8)).astype("f")
  x[40] = x[3]
  spread = put(x, mesh_of(AxisType.Explicit), "i")
  squared = oracle.edm(x)
  run = lambda x: (pairwise_sum(lambda D: D < 9, x, **options), nearest(x, k=20, **options))  # noqa: E731
  count, found = quick_jit(run)(spread)  # more neighbours than the eight points of a device
  assert count.dtype == jnp.int32
  np.testing.assert_array_equal(count, (squared < 9).sum(1))
  np.fill_diagonal(squared, np.inf)
  indices = np.asarray(found.indices)
  assert (indices[3, 0], indices[40, 0]) == (40, 3)
  np.testing.assert_allclose(found.squared, np.sort(squared, 1)[:, :20], rtol=1e-4, atol=1e-5)


# What f closes over


def network(layers, power=1, negate=False):
  """It closes over a parameter that has a gradient, an integer and a boolean."""

  def f(D):
    wide = jnp.tanh(D * layers[0]) * jnp.arange(4.0, dtype=jnp.float32) ** power
    return jnp.where(negate, -1, 1) * wide.sum()

  return f


def of_network(reduce, naive=False, **options):
  def total(x, layers, power, negate):
    f = network(layers, power, negate)
    if not naive:
      return jnp.cos(reduce(f, x, **options)).sum()
    block = jax.vmap(jax.vmap(f))(naive_edm(x))
    return jnp.cos(block.sum(1) if reduce is pairwise_sum else jax.nn.logsumexp(block, axis=1)).sum()

  return jax.grad(total, (0, 1))


@either_kind_at_length
@pytest.mark.parametrize("reduce", [pairwise_sum, pytest.param(pairwise_logsumexp, marks=pytest.mark.slow)])
def test_f_closes_over_what_lies_on_the_mesh(reduce, kind, rng):
  """Replicated or sharded, under jit, grad, vmap and a mesh that is set; of rows and of a ring; and NumPy arrays."""
  mesh, x = mesh_of(kind), rng.normal(size=(48, 3)).astype("f")
  layers, rest = rng.normal(size=(8, 4)).astype("f"), (np.int32(2), np.bool_(True))
  expected = quick_jit(of_network(reduce, naive=True))(x, layers, *rest)

  def agree(found):
    for a, e in zip(found, expected, strict=True):
      np.testing.assert_allclose(a, e, atol=500 * EPS * np.abs(e).max())

  for options in ({}, RING):
    run = of_network(reduce, **options)
    agree(quick_jit(run)(put(x, mesh, "i"), layers, *rest))
    with jax.set_mesh(mesh):
      if options and kind == AxisType.Explicit:
        with pytest.raises(ValueError, match=r"f must not close over what lies on the mesh.*shard_map.*args="):
          quick_jit(run)(put(x, mesh, "i"), put(layers, mesh), *(put(a, mesh) for a in rest))
        continue
      for lies in ((), ("i",)) if kind == AxisType.Auto else ((),):
        spread = (put(x, mesh, "i"), put(layers, mesh, *lies), *(put(a, mesh) for a in rest))
        agree(quick_jit(run)(*spread))
      moved, _ = program(run, *spread)
      assert max(max(sizes) for sizes in moved.values()) <= 48 * 4
      powers = put(np.arange(3, dtype=np.int32), mesh)
      batched = quick_jit(jax.vmap(run, (None, None, 0, None)))(*spread[:2], powers, spread[3])
      agree([a[2] for a in batched])


def test_f_closes_over_what_lies_on_the_mesh_and_the_first_set_does_not(rng):
  x, y = rng.normal(size=(6, 3)).astype("f"), rng.normal(size=(48, 3)).astype("f")
  for kind in KINDS:
    mesh = mesh_of(kind)
    run = quick_jit(lambda x, y, width: pairwise_sum(lambda D: D * width, x, y))
    with jax.set_mesh(mesh):
      found = run(put(x, mesh), put(y, mesh, "i"), put(np.float32(0.5), mesh))
    np.testing.assert_allclose(found, 0.5 * oracle.edm(x, y).sum(1), rtol=1e-5)


@pytest.mark.parametrize("reduce", [pairwise_sum, pairwise_logsumexp])
def test_f_closes_over_traced_arrays_inside_a_shard_map(reduce, rng):
  """What is the same on all devices, and what varies; with the checks of what varies, and without."""
  x = rng.normal(size=(48, 3)).astype("f")
  layers, rest = rng.normal(size=(8, 4)).astype("f"), (np.int32(2), np.bool_(True))
  expected = quick_jit(of_network(reduce, naive=True))(x, layers, *rest)
  on_devices = partial(jax.shard_map, mesh=mesh_of(AxisType.Auto), out_specs=P())

  def total(x, layers):
    return lax.psum(jnp.cos(reduce(network(layers, *rest), x, axis_name="i")).sum(), "i")

  def told(x, layers):
    return total(x, lax.pcast(layers, "i", to="varying"))

  with pytest.raises(ValueError, match=r"does not vary over \('i',\).*pcast\(value, \('i',\)"):
    jax.jit(on_devices(total, in_specs=(P("i"), P())))(x, layers)
  ways = {
    "told to vary": on_devices(told, in_specs=(P("i"), P())),
    "not checked": on_devices(total, in_specs=(P("i"), P()), check_vma=False),
  }
  found = quick_jit(lambda *z: {name: jax.grad(f, (0, 1))(*z) for name, f in ways.items()})(x, layers)
  for name, gradients in found.items():
    for a, e in zip(gradients, expected, strict=True):
      np.testing.assert_allclose(a, e, atol=500 * EPS * np.abs(e).max(), err_msg=name)


@rows_and_ring
def test_f_closes_over_what_varies_more_than_the_points(options, rng):
  """A width for each device of another axis."""
  mesh, x, widths = mesh_of(AxisType.Auto, 4, 2), rng.normal(size=(16, 3)).astype("f"), np.array([0.5, 2.0], "f")

  def of_device(x, w):
    w = lax.pcast(w, "i", to="varying") if options else w
    return pairwise_sum(lambda D: jnp.exp(-D * w[0]), x, **options)[None]

  both = jax.shard_map(of_device, mesh=mesh, in_specs=(P("i"), P("j")), out_specs=P("j", "i"))
  found = quick_jit(jax.value_and_grad(lambda *z: both(*z).sum(), (0, 1)))(x, widths)

  def naive(x, widths):
    parts = [x] if options else jnp.split(x, 4)  # without a ring, x is what the device has
    return sum(jnp.exp(-naive_edm(part) * w).sum() for part in parts for w in widths)

  for a, e in zip(jax.tree.leaves(found), jax.tree.leaves(jax.value_and_grad(naive, (0, 1))(x, widths)), strict=True):
    np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-4)


# Sizes, dtypes and places


@pytest.mark.parametrize("n", [50, 1003])
def test_sizes_that_do_not_divide(n, rng):
  """Auto axes take them; a ring says what to pad, and padded it gives the same."""
  x, mesh = rng.normal(size=(n, 3)).astype("f"), mesh_of(AxisType.Auto)

  def everything(x):
    return edm(x), *jax.value_and_grad(lambda x: gaussian(x).sum())(x)

  def uneven(x):
    return everything(lax.with_sharding_constraint(x, NamedSharding(mesh, P("i"))))

  expected = quick_jit(everything)(x)
  for a, e in zip(quick_jit(uneven)(x), expected, strict=True):
    np.testing.assert_allclose(a, e, atol=n * EPS * np.abs(e).max())
  with jax.set_mesh(mesh):
    more = n + -n % 8
    with pytest.raises(ValueError, match=f"x must have a multiple of 8 points.* Pad to {more}"):
      gaussian(x, axis_name="i")
    padded = np.pad(x, ((0, more - n), (0, 0)), constant_values=np.nan)
    found = quick_jit(lambda x: gaussian(x, where=np.arange(more) < n, axis_name="i"))(put(padded, mesh, "i"))
  np.testing.assert_allclose(found[:n], gaussian(x), rtol=1e-5)


@either_kind
def test_a_ring_with_one_point_on_each_device(kind, rng):
  """What belongs to columns travels, though it looks like a scalar there; scalars stay."""
  mesh, x, y = mesh_of(kind), rng.normal(size=(8, 3)).astype("f"), rng.normal(size=(8, 3)).astype("f")
  f = lambda D, a: jnp.exp(-D) * a  # noqa: E731
  arrays = [rng.random(shape).astype("f") for shape in ((1, 8), (8,), (8, 1), (8, 8), (1, 1), ())]

  def everything(x, arrays):
    sums = [pairwise_sum(f, x, second, args=(a,), axis_name="i") for a in arrays for second in (y, None)]
    return sums, pairwise_logsumexp(f, x, y, args=(arrays[0],), axis_name="i")

  found, logs = quick_jit(everything)(put(x, mesh, "i"), arrays)
  blocks = [np.exp(-oracle.edm(x, second)) * a for a in arrays for second in (y, None)]
  for a, block in zip(found, blocks, strict=True):
    np.testing.assert_allclose(a, block.sum(1), rtol=1e-5)
  np.testing.assert_allclose(logs, np.log(np.exp(blocks[0]).sum(1)), rtol=1e-5)


def test_a_ring_with_one_point_on_each_device_of_a_shard_map(rng):
  x, a = rng.normal(size=(8, 3)).astype("f"), rng.random((1, 8)).astype("f")
  inside = jax.shard_map(
    lambda x, a: pairwise_sum(lambda D, a: jnp.exp(-D) * a, x, args=(a,), axis_name="i"),
    mesh=mesh_of(AxisType.Auto),
    in_specs=(P("i"), P(None, "i")),
    out_specs=P("i"),
  )
  np.testing.assert_allclose(quick_jit(inside)(x, a), (np.exp(-oracle.edm(x)) * a).sum(1), rtol=1e-5)


def test_pairs_of_a_ring_need_the_columns_of_all_devices():
  """Those of the points of one device would be taken for the points of every other."""
  x, a = jnp.ones((16, 3)), jnp.ones((16, 16))
  inside = jax.shard_map(
    lambda x, a: pairwise_sum(lambda D, a: a, x, args=(a[:, :2],), axis_name="i"),
    mesh=mesh_of(AxisType.Auto),
    in_specs=(P("i"), P("i")),
    out_specs=P("i"),
  )
  with pytest.raises(ValueError, match=r"Got \(2, 2\) for \(2, 2\) on a device, and 16 columns on all"):
    inside(x, a)


@either_kind
@pytest.mark.parametrize("names", [("i", "j"), ("j", "i")])
def test_a_ring_over_two_axes_in_either_order(names, kind, rng):
  mesh, x, target = mesh_of(kind, 4, 2), rng.normal(size=(48, 3)).astype("f"), rng.random((48, 48)).astype("f")

  def everything(x):
    total = pairwise_sum(lambda D, t: jnp.exp(-D) * t, x, args=(target,), axis_name=names)
    return total, nearest(x, k=3, axis_name=names).indices

  total, indices = quick_jit(everything)(put(x, mesh, names))
  np.testing.assert_allclose(total, (np.exp(-oracle.edm(x)) * target).sum(1), rtol=1e-5)
  np.testing.assert_array_equal(indices, nearest(x, k=3).indices)


@rows_and_ring
def test_a_point_that_is_nobodys_neighbour_reaches_nothing(options, rng):
  x, y = rng.normal(size=(64, 3)).astype("f"), rng.normal(size=(32, 3)).astype("f")
  y[3], y[4] = np.nan, np.inf  # the last point of a device, and the first of the next
  spread = [put(a, mesh_of(AxisType.Explicit), "i") for a in (x, y)]
  total = lambda x, y: nearest(x, y, k=2, **options).squared.sum()  # noqa: E731
  assert all(np.isfinite(g).all() for g in quick_jit(jax.grad(total, (0, 1)))(*spread))


@pytest.mark.parametrize("dtypes", ["bfloat16 bfloat16", "float32 bfloat16", "float64 float32", "int32 float32"])
@pytest.mark.usefixtures("double_precision")
def test_a_ring_of_several_dtypes(dtypes, rng):
  of_points, of_values = dtypes.split()
  x = jnp.asarray(rng.normal(size=(16, 3)) * 2, of_points)
  v, a = (jnp.asarray(rng.random(shape), of_values) for shape in (16, (16, 16)))
  arguments = (1, 2) if of_points == "int32" else (0, 1, 2)

  def run(**options):
    def total(x, v, a):
      sums = pairwise_sum(lambda D, a: jnp.exp(-D) * a, x, args=(a,), values=v, **options)
      return jnp.cos(sums.astype(jnp.float32)).sum()

    return quick_jit(jax.grad(total, arguments))

  expected = run()(x, v, a)
  for kind in KINDS:
    for p, q in zip(run(**RING)(put(x, mesh_of(kind), "i"), v, a), expected, strict=True):
      assert p.dtype == q.dtype
      np.testing.assert_allclose(np.asarray(p, float), np.asarray(q, float), atol=16 * float(jnp.finfo(q.dtype).eps))


@either_kind
def test_no_coordinates_and_no_points(kind):
  for shape in ((16, 0), (0, 3)):
    squared, total = quick_jit(lambda x: (edm(x), gaussian(x)))(put(np.zeros(shape, "f"), mesh_of(kind), "i"))
    assert squared.shape == (shape[0], shape[0])
    np.testing.assert_array_equal(total, shape[0])


@either_kind
def test_coordinates_over_devices_are_gathered(kind, rng):
  """A documented reshard: a device has all coordinates of its points."""
  x, y = rng.normal(size=(24, 8)).astype("f"), rng.normal(size=(16, 8)).astype("f")
  spread = put(x, mesh_of(kind, 4, 2), "i", "j"), put(y, mesh_of(kind, 4, 2), None, "j")
  ways = [edm, gaussian, partial(gaussian, axis_name="i")]

  def everything(x, y):
    return [(f(x, y), jax.grad(loss(f), (0, 1))(x, y)) for f in ways]

  expected = quick_jit(
    lambda x, y: [
      (f(x, y), jax.grad(loss(f), (0, 1))(x, y)) for f in (naive_edm, lambda *z: jnp.exp(-naive_edm(*z)).sum(1))
    ]
  )(x, y)
  for a, e in zip(
    jax.tree.leaves(quick_jit(everything)(*spread)), jax.tree.leaves([*expected, expected[1]]), strict=True
  ):
    np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-3)


def test_a_ring_of_one_device_and_a_mesh_of_one(rng):
  """What runs on eight runs on a laptop."""
  x = rng.normal(size=(40, 3)).astype("f")
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("i",), axis_types=(AxisType.Explicit,))
  ways = [edm, *(partial(f, **options) for f in (gaussian, soft_minimum, neighbours) for options in ({}, RING))]
  found = quick_jit(lambda x: [f(x) for f in ways])(put(x, mesh, "i"))
  alone = quick_jit(
    lambda x: [f(x) for f in (edm, gaussian, gaussian, soft_minimum, soft_minimum, neighbours, neighbours)]
  )(x)
  for a, e in zip(found, alone, strict=True):
    np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5)


# Bad input


def test_an_axis_that_is_not_there(rng):
  x = rng.normal(size=(16, 3)).astype("f")
  for function in (gaussian, soft_minimum, neighbours):
    with pytest.raises(ValueError, match=r"axis_name must be an axis of the mesh.* 'k', and a mesh with the axes i, j"):
      function(put(x, mesh_of(AxisType.Explicit, 4, 2), "i"), axis_name="k")
    with pytest.raises(ValueError, match=r"and no mesh.*jax.device_put"):
      function(jnp.asarray(x), axis_name="i")
    for name in (3, (), ("i", 3)):
      with pytest.raises(TypeError, match="axis_name must be a string"):
        function(jnp.asarray(x), axis_name=name)


def test_a_shard_map_over_some_axes_of_a_ring():
  on_both = partial(gaussian, axis_name=("i", "j"))
  mesh = mesh_of(AxisType.Auto, 4, 2)
  inside = jax.shard_map(on_both, mesh=mesh, in_specs=P("i"), out_specs=P("i"), axis_names={"i"})
  with pytest.raises(ValueError, match="over all axes of a ring"):
    jax.jit(inside)(jnp.ones((16, 3)))


def test_two_meshes(rng):
  x = rng.normal(size=(16, 3)).astype("f")
  one, other = put(x, mesh_of(AxisType.Explicit), "i"), put(x, mesh_of(AxisType.Explicit, 4, 2), "i")
  for function in (edm, distances, gaussian, soft_minimum, neighbours, partial(gaussian, axis_name="i")):
    with pytest.raises(ValueError, match=r"all arrays must lie on one mesh.*'i': 8.*'i': 4, 'j': 2.*jax.device_put"):
      jax.jit(function)(one, other)
