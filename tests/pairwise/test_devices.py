"""Points over eight devices: what moves between them, where the results lie, and that they are right in every mode."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from transformations import ALL, check, gradient, jvp, naive_distances, naive_edm

import oracle
from benchmarks import devices
from jax_edm import distances, edm, nearest, pairwise_logsumexp, pairwise_sum, safe_root

KINDS = [AxisType.Auto, AxisType.Explicit]
EPS = float(np.finfo(np.float32).eps)

either_kind = pytest.mark.parametrize("kind", KINDS, ids=["Auto", "Explicit"])


def mesh_of(kind, *shape):
  return jax.make_mesh(shape or (8,), ("i", "j")[: len(shape or (8,))], axis_types=(kind,) * len(shape or (8,)))


def put(a, mesh, *spec):
  return jax.device_put(jnp.asarray(a), NamedSharding(mesh, P(*spec)))


def spec_of(a):
  """Without the trailing axes that are not sharded, which JAX writes or leaves out."""
  entries = list(getattr(a, "sharding", a).spec)
  while entries and entries[-1] is None:
    entries.pop()
  return tuple(entries)


def program(f, *args):
  """The collectives of the compiled program, name -> the numbers of elements of what each one brings; its shardings."""
  found, compiled = {}, jax.jit(f).lower(*args).compile()
  for line in compiled.as_text().splitlines():
    names = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute|collective-broadcast|ragged-all-to-all"
    if match := re.search(rf"= (.*?) ({names})(-start)?\(", line):
      shapes = re.findall(r"\w+\[([\d,]*)\]", match[1])
      found.setdefault(match[2], []).extend(int(np.prod([int(n) for n in s.split(",") if n])) for s in shapes)
  return found, [spec_of(s) for s in jax.tree.leaves(compiled.output_shardings)]


def gaussian(*z, **options):
  return pairwise_sum(lambda D: jnp.exp(-D), *z, **options)


def soft_minimum(*z, **options):
  return pairwise_logsumexp(lambda D: -D, *z, **options)


def loss(f):
  return lambda *z: jnp.cos(f(*z)).sum()


# What moves, and where the results lie


@either_kind
@pytest.mark.parametrize("d", [3, 16])
@pytest.mark.parametrize("f", [edm, distances, gaussian, soft_minimum], ids=lambda f: f.__name__)
def test_one_all_reduce_of_the_second_set_and_nothing_else(f, d, kind, rng):
  n, m, mesh = 1024, 768, mesh_of(kind)
  x, y = put(rng.normal(size=(n, d)).astype("f"), mesh, "i"), put(rng.normal(size=(m, d)).astype("f"), mesh)
  f = f if f in (edm, distances) else partial(f, block_size=16)
  assert program(f, x, y) == ({}, [("i",)])
  of_gradient, shardings = program(jax.grad(loss(f), (0, 1)), x, y)
  assert list(of_gradient) == ["all-reduce"]
  assert len(of_gradient["all-reduce"]) == 1
  assert m * d <= of_gradient["all-reduce"][0] <= m * (d + 1)
  assert shardings == [("i",), ()]


@either_kind
@pytest.mark.parametrize("d", [3, 16])
@pytest.mark.parametrize("f", [edm, distances, gaussian, soft_minimum], ids=lambda f: f.__name__)
def test_one_set_gathers_the_points_and_reduces_their_gradient(f, d, kind, rng):
  """Nothing of n x n / p, forward or backward, of first and of second order; the steep cotangent of a root, too."""
  n, mesh = 1024, mesh_of(kind)
  x = put(rng.normal(size=(n, d)).astype("f"), mesh, "i")
  f = f if f in (edm, distances) else partial(f, block_size=16)
  steep = lambda x: jnp.sqrt(f(x) + 1e-12).sum()  # noqa: E731
  assert program(f, x) == ({"all-gather": [n * d]}, [("i",)])
  for function in (jax.grad(loss(f)), jax.grad(steep), lambda x: jvp(jax.grad(loss(f)), (x,))(x)):
    moved, shardings = program(function, x)
    assert set(moved) <= {"all-gather", "all-reduce"}
    assert all(size <= n * (2 * d + 1) for sizes in moved.values() for size in sizes)
    assert shardings == [("i",)]


@pytest.mark.parametrize("f", [edm, gaussian, soft_minimum], ids=lambda f: f.__name__)
def test_two_sets_by_rows_gather_the_second(f, rng):
  (n, m, d), kind = (1024, 768, 3), KINDS[f is edm]  # a dense matrix over an Auto axis: the compiler decides
  x, y = (put(rng.normal(size=(k, d)).astype("f"), mesh_of(kind), "i") for k in (n, m))
  f = f if f is edm else partial(f, block_size=16)
  assert program(f, x, y) == ({"all-gather": [m * d]}, [("i",)])
  moved, shardings = program(jax.grad(loss(f), (0, 1)), x, y)
  assert moved == {"all-gather": [m * d], "all-reduce": [m * d]}
  assert shardings[0] == ("i",)


@either_kind
@pytest.mark.parametrize("d", [3, 16])
def test_a_matrix_over_two_axes(d, kind, rng):
  n, m, mesh = 1024, 768, mesh_of(kind, 4, 2)
  x, y = put(rng.normal(size=(n, d)).astype("f"), mesh, "i"), put(rng.normal(size=(m, d)).astype("f"), mesh, "j")
  moved, shardings = program(edm, x, y)
  assert shardings == [("i", "j")]
  assert sum(sum(sizes) for sizes in moved.values()) <= 5 * d  # three points, for the centre
  moved, shardings = program(jax.grad(loss(edm), (0, 1)), x, y)
  assert shardings == [("i",), ("j",)]
  assert max(max(sizes) for sizes in moved.values()) <= max(n // 4, m // 2) * (d + 1)
  y = put(np.asarray(x), mesh, "j")  # one set, with its columns over the other axis
  assert program(edm, x, y)[1] == [("i", "j")]


@either_kind
@pytest.mark.parametrize("f", [gaussian, soft_minimum], ids=lambda f: f.__name__)
def test_a_ring_permutes_blocks_and_nothing_else(f, kind, rng):
  n, m, d, mesh = 1024, 768, 16, mesh_of(kind)
  x, y = (put(rng.normal(size=(k, d)).astype("f"), mesh, "i") for k in (n, m))
  vector = put(rng.random(m).astype("f"), mesh, "i")
  name = "values" if f is gaussian else "weights"
  around = lambda x, y, vector: f(x, y, **{name: vector}, axis_name="i", block_size=16)  # noqa: E731
  one_set = lambda x: f(x, axis_name="i", block_size=16)  # noqa: E731
  for function, args, block in (
    (around, (x, y, vector), m // 8),
    (jax.grad(loss(around), (0, 1, 2)), (x, y, vector), m // 8),
    (one_set, (x,), n // 8),
    (jax.grad(loss(one_set)), (x,), n // 8),
    (lambda x: jvp(jax.grad(loss(one_set)), (x,))(x), (x,), n // 8),
    (jax.grad(lambda x: (jax.grad(loss(one_set))(x) * jnp.sin(x)).sum()), (x,), n // 8),
  ):
    moved, shardings = program(function, *args)
    assert list(moved) == ["collective-permute"]
    assert max(moved["collective-permute"]) == block * d
    assert set(shardings) == {("i",)}


@pytest.mark.parametrize("f", [gaussian, soft_minimum], ids=lambda f: f.__name__)
def test_memory_of_a_ring_falls_with_its_devices(f, rng):
  x = rng.normal(size=(4096, 16)).astype("f")

  def memory(p, **options):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:p]), ("i",), axis_types=(AxisType.Explicit,))
    step = jax.value_and_grad(lambda x: f(x, block_size=8, **options).sum())
    return jax.jit(step).lower(put(x, mesh, "i")).compile().memory_analysis().temp_size_in_bytes

  alone, *around = [memory(p, axis_name="i") for p in (1, 2, 4, 8)]
  assert around[0] > 1.9 * around[1]
  assert around[0] > 3.8 * around[2]
  assert alone > 4.5 * around[2]  # not 8 times: nobody visits a device that is alone
  assert memory(8) > 4 * around[2]  # the rows gather the points


SCHEMES = {
  "dense": lambda x, block: (edm(x) ** 2).sum(),
  "rows": lambda x, block: pairwise_sum(lambda D: D**2, x, block_size=block).sum(),
  "ring": lambda x, block: pairwise_sum(lambda D: D**2, x, block_size=block, axis_name="i").sum(),
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("d", [3, 16])
def test_formulas_of_the_documents(d, scheme, monkeypatch, rng):
  """Against the compiler's accounting: of memory and traffic with small blocks, of work with one."""
  n, p, mesh = 4096, 8, mesh_of(AxisType.Explicit)
  x = put(rng.normal(size=(n, d)).astype("f"), mesh, "i")
  steps = [jax.value_and_grad(partial(SCHEMES[scheme], block=block)) for block in (32, n // p)]
  small, whole = (jax.jit(step).lower(x).compile() for step in steps)
  monkeypatch.setattr(devices, "BLOCK", 32 * (n // p if scheme == "ring" else n))
  cost = getattr(devices, scheme)(n, d, p)
  memory = small.memory_analysis().temp_size_in_bytes
  # Newer compilers make the cotangent of a dense D in its place, and D once; and not all do.
  least = 0.45 if scheme == "dense" else 0.8
  assert least * cost.memory < memory < 1.2 * cost.memory
  # The compiler counts the body of a loop once. A ring has the first visit before its loop: two visits of p.
  flops = whole.cost_analysis()["flops"] * (p / 2 if scheme == "ring" else 1)
  assert (0.6 if scheme == "dense" else 0.7) * cost.flops < flops < 1.3 * cost.flops
  times = {"all-gather": (p - 1) / p, "all-reduce": 2 * (p - 1) / p, "collective-permute": p - 1}
  moved = sum(4 * times[name] * sum(sizes) for name, sizes in program(steps[0], x)[0].items())
  home = 4 * n // p * d * (p - 2) if scheme == "ring" else 0  # the last permute of the gradient is not in the loop
  assert moved - home == pytest.approx(cost.moved, rel=0.01)


# In every mode


def naive_gaussian(*z):
  return jnp.exp(-naive_edm(*z)).sum(1)


def naive_soft_minimum(*z):
  return jax.nn.logsumexp(-naive_edm(*z), axis=1)


def naive_neighbours(*z):
  squared = naive_edm(*z)
  if len(z) == 1:
    squared = jnp.where(jnp.eye(len(z[0]), dtype=bool), jnp.inf, squared)
  return jnp.sort(squared, 1)[:, :2]


def neighbours(*z, **options):
  return nearest(z[0], *(z[1:] or (None,)), k=2, **options).squared


NAIVE = {
  edm: naive_edm,
  distances: naive_distances,
  gaussian: naive_gaussian,
  soft_minimum: naive_soft_minimum,
  neighbours: naive_neighbours,
}


def spread(f, kind, **options):
  """``f`` of points that lie in rows over the devices; its results are brought to all of them."""
  move = lax.with_sharding_constraint if kind == AxisType.Auto else jax.sharding.reshard
  mesh = mesh_of(kind)

  def of_spread(*z, method):
    z = [move(a, NamedSharding(mesh, P("i"))) for a in z]
    return move(f(*z, method=method, **options), NamedSharding(mesh, P()))

  return of_spread


MODES = [
  "value",
  "jvp",
  "grad",
  "vmap of grad",
  "scan",
  "export",
  "forward over reverse",
  "reverse over reverse",
  "reverse over forward",
  "third order, mixed",
]
WAYS = [
  (edm, {}),
  (distances, {}),
  (gaussian, {"block_size": 1}),
  (soft_minimum, {"block_size": 1}),
  (neighbours, {}),
  (gaussian, {"axis_name": "i"}),
  (soft_minimum, {"axis_name": "i"}),
  (neighbours, {"axis_name": "i"}),
]


@pytest.mark.parametrize("way", range(len(WAYS)), ids=lambda i: " ".join([WAYS[i][0].__name__, *WAYS[i][1]]))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("double_precision")
def test_every_mode(mode, way):
  """Of one set or of two, over axes of either kind, in turns."""
  (f, options), turn = WAYS[way], MODES.index(mode) + way
  kind, sets = KINDS[turn % 2], 1 + turn // 2 % 2
  with jax.set_mesh(mesh_of(kind)):
    check(spread(f, kind, **options), ALL[mode], [(80, 3), (16, 3)][:sets], jnp.float64, None, True, NAIVE[f])


INSIDE = {
  "grad": lambda total, across, v, *z: gradient(total)(*z),
  "forward over reverse": lambda total, across, v, *z: jvp(gradient(total), v)(*z),
  "reverse over forward": lambda total, across, v, *z: gradient(jvp(total, v))(*z),
  "reverse over reverse": lambda total, across, v, *z: gradient(
    lambda *z: across(sum((g * t).sum() for g, t in zip(gradient(total)(*z), v, strict=True)))
  )(*z),
}


@pytest.mark.parametrize("f", [gaussian, soft_minimum, neighbours], ids=lambda f: f.__name__)
@pytest.mark.parametrize("mode", INSIDE)
@pytest.mark.usefixtures("double_precision")
def test_a_ring_inside_the_shard_map_of_the_caller(mode, f):
  """With its checks of what varies, which are on by default."""

  def inside(of_points, v, *z):
    def local(z, v):
      total = lambda *z: lax.psum(loss(of_points)(*z), "i")  # noqa: E731
      return INSIDE[mode](total, lambda a: lax.psum(a, "i"), v, *z)

    return jax.shard_map(local, mesh=mesh_of(AxisType.Auto), in_specs=P("i"), out_specs=P("i"))(z, tuple(v))

  inside.reference = lambda of_points, v, *z: INSIDE[mode](loss(of_points), lambda a: a, v, *z)
  of_ring = lambda *z, method: f(*z, method=method, axis_name="i")  # noqa: E731
  for shapes in ([(24, 3)], [(24, 3), (16, 3)]):
    check(of_ring, inside, shapes, jnp.float64, None, True, NAIVE[f])


@pytest.mark.parametrize("mode", ["value", "grad", "forward over reverse"])
@either_kind
def test_a_batch_over_the_devices(mode, kind, rng):
  """Leading axes, and those that ``vmap`` hides."""
  mesh = mesh_of(kind)
  x = rng.normal(size=(16, 9, 3)).astype("f")
  for f in (edm, gaussian, neighbours):
    of_one = lambda x, f=f: ALL[mode](f, (x / 2,), x)  # noqa: E731
    expected = jax.tree.leaves(jax.vmap(of_one)(jnp.asarray(x)))
    with jax.set_mesh(mesh):
      for batched in (jax.vmap(of_one), of_one):
        (actual,) = jax.tree.leaves(jax.jit(batched)(put(x, mesh, "i")))
        assert spec_of(actual) == ("i",)
        np.testing.assert_allclose(actual, expected[0], rtol=1e-4, atol=1e-4)


# Masks, operands, values; what f closes over; sizes that do not divide


@pytest.mark.parametrize("options", [{}, {"axis_name": "i"}], ids=["rows", "ring"])
@either_kind
def test_masks_operands_and_values_over_devices(kind, options, rng):
  """What is missing holds NaN; the result is that of one device, which ``test_pairwise`` compares with an oracle."""
  n, m, mesh = 96, 64, mesh_of(kind)
  x, y = rng.normal(size=(n, 3)).astype("f"), rng.normal(size=(2, m, 3)).astype("f")
  where, where_y = rng.random(n) < 0.7, rng.random((2, m)) < 0.7
  x[~where], y[~where_y] = np.nan, np.nan
  per_row, per_column, per_pair = (rng.random(shape).astype("f") for shape in ((n, 1), (1, m), (2, n, m)))
  values, weights = rng.normal(size=(m, 4)).astype("f"), rng.random((2, m)).astype("f") * (rng.random((2, m)) < 0.8)
  f = lambda D, a, b, c, s: jnp.tanh(a * D + b * c) * s  # noqa: E731

  def both(x, y, per_row, per_column, per_pair, values, weights, **options):
    operands, masks = (per_row, per_column, per_pair, 2.0), {"where": where, "where_y": where_y}
    total = pairwise_sum(f, x, y, args=operands, values=values, **masks, **options)
    return total, pairwise_logsumexp(f, x, y, args=operands, weights=weights, **masks, **options)

  def measure(*arrays, **options):
    total, logs = both(*arrays, **options)
    return (total**2).sum() + jnp.where(jnp.isfinite(logs), logs, 0).sum(), (total, logs)

  arrays = (x, y, per_row, per_column, per_pair, values, weights.astype("f"))
  run = partial(jax.value_and_grad, argnums=tuple(range(7)), has_aux=True)
  (expected, outputs), gradients = jax.jit(run(measure))(*arrays)
  spread_arrays = (put(x, mesh, "i"), *(put(a, mesh) for a in arrays[1:4]), put(per_pair, mesh, None, "i"))
  spread_arrays += tuple(put(a, mesh) for a in arrays[5:])
  (value, found), found_gradients = jax.jit(run(partial(measure, **options)))(*spread_arrays)
  assert float(value) == pytest.approx(float(expected), rel=1e-5)
  for a, e in zip((*found, *found_gradients), (*outputs, *gradients), strict=True):
    np.testing.assert_allclose(a, e, rtol=2e-4, atol=1e-5 * np.nanmax(np.abs(np.where(np.isinf(e), 0, e))))
  squared, indices = jax.jit(partial(nearest, k=5, where=where, where_y=where_y, **options))(spread_arrays[0], y)
  alone = nearest(x, y, k=5, where=where, where_y=where_y)
  np.testing.assert_array_equal(indices, alone.indices)
  np.testing.assert_allclose(squared, alone.squared, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"axis_name": "i"}], ids=["rows", "ring"])
def test_counts_are_integers_and_one_set_has_no_neighbour_in_itself(options, rng):
  x = rng.normal(size=(64, 8)).astype("f")
  x[40] = x[3]
  spread_x = put(x, mesh_of(AxisType.Explicit), "i")
  squared = oracle.edm(x)
  count = jax.jit(lambda x: pairwise_sum(lambda D: D < 9, x, **options))(spread_x)
  assert count.dtype == jnp.int32
  np.testing.assert_array_equal(count, (squared < 9).sum(1))
  found = nearest(spread_x, k=20, **options)  # more than the eight points of a device
  np.fill_diagonal(squared, np.inf)
  indices = np.asarray(found.indices)
  assert (indices[3, 0], indices[40, 0]) == (40, 3)
  np.testing.assert_allclose(found.squared, np.sort(squared, 1)[:, :20], rtol=1e-4, atol=1e-5)


@either_kind
def test_parameters_that_f_closes_over(kind, rng):
  x = rng.normal(size=(48, 3)).astype("f")
  layers = rng.normal(size=(2, 4)).astype("f")

  def energy(x, layers, **options):
    f = lambda D: (jnp.tanh(D[..., None] * layers[0]) * layers[1]).sum(-1)  # noqa: E731
    return jnp.cos(pairwise_sum(f, x, **options)).sum()

  expected = jax.grad(energy, (0, 1))(x, layers)
  for options in ({}, {"axis_name": "i"}):
    actual = jax.jit(jax.grad(partial(energy, **options), (0, 1)))(put(x, mesh_of(kind), "i"), layers)
    for a, e in zip(actual, expected, strict=True):
      np.testing.assert_allclose(a, e, atol=200 * EPS * np.abs(e).max())


def test_parameters_inside_a_shard_map_are_told_to_vary(rng):
  x, width = rng.normal(size=(48, 3)).astype("f"), jnp.float32(0.7)
  energy = lambda x, width, **options: pairwise_sum(lambda D: jnp.exp(-D * width), x, **options).sum()  # noqa: E731
  on_devices = partial(jax.shard_map, mesh=mesh_of(AxisType.Auto), in_specs=(P("i"), P()), out_specs=P())

  def told(x, width):
    return lax.psum(energy(x, lax.pcast(width, "i", to="varying"), axis_name="i"), "i")

  actual = jax.jit(jax.grad(on_devices(told), 1))(x, width)
  assert float(actual) == pytest.approx(float(jax.grad(energy, 1)(x, width)), rel=1e-5)
  with pytest.raises(ValueError, match=r"does not vary over \('i',\).*pcast\(value, \('i',\)"):
    jax.jit(on_devices(lambda x, width: lax.psum(energy(x, width, axis_name="i"), "i")))(x, width)


@pytest.mark.parametrize("n", [50, 1003])
def test_sizes_that_do_not_divide(n, rng):
  """Auto axes take them; a ring says what to pad, and padded it gives the same."""
  x, mesh = rng.normal(size=(n, 3)).astype("f"), mesh_of(AxisType.Auto)

  def uneven(x):
    x = lax.with_sharding_constraint(x, NamedSharding(mesh, P("i")))
    return edm(x), gaussian(x), jax.grad(lambda x: gaussian(x).sum())(x)

  expected = edm(x), gaussian(x), jax.grad(lambda x: gaussian(x).sum())(x)
  for a, e in zip(jax.jit(uneven)(x), expected, strict=True):
    np.testing.assert_allclose(a, e, atol=n * EPS * np.abs(e).max())
  with jax.set_mesh(mesh):
    more = n + -n % 8
    with pytest.raises(ValueError, match=f"x must have a multiple of 8 points.* Pad to {more}"):
      gaussian(x, axis_name="i")
    padded = np.pad(x, ((0, more - n), (0, 0)), constant_values=np.nan)
    found = gaussian(put(padded, mesh, "i"), where=np.arange(more) < n, axis_name="i")
  np.testing.assert_allclose(found[:n], expected[1], rtol=1e-5)


@either_kind
def test_a_ring_with_one_point_on_each_device(kind, rng):
  """What belongs to columns travels, though it looks like a scalar there; scalars stay."""
  mesh, x, y = mesh_of(kind), rng.normal(size=(8, 3)).astype("f"), rng.normal(size=(8, 3)).astype("f")
  f = lambda D, *a: jnp.exp(-D) * sum(a, start=1.0)  # noqa: E731
  for shape in ((1, 8), (8,), (8, 1), (8, 8), (1, 1), ()):
    a = rng.random(shape).astype("f")
    for reduce in (pairwise_sum, pairwise_logsumexp):
      for second in (y, None):
        actual = jax.jit(lambda x, a: reduce(f, x, second, args=(a,), axis_name="i"))(put(x, mesh, "i"), a)
        np.testing.assert_allclose(actual, reduce(f, x, second, args=(a,)), rtol=1e-5)
  inside = jax.shard_map(
    lambda x, a: pairwise_sum(f, x, args=(a,), axis_name="i"),
    mesh=mesh_of(AxisType.Auto),
    in_specs=(P("i"), P(None, "i")),
    out_specs=P("i"),
  )
  a = rng.random((1, 8)).astype("f")
  np.testing.assert_allclose(jax.jit(inside)(x, a), pairwise_sum(f, x, args=(a,)), rtol=1e-5)


@either_kind
@pytest.mark.parametrize("names", [("i", "j"), ("j", "i")])
def test_a_ring_over_two_axes_in_either_order(names, kind, rng):
  mesh, x = mesh_of(kind, 4, 2), rng.normal(size=(48, 3)).astype("f")
  target = rng.random((48, 48)).astype("f")
  f = lambda D, t: jnp.exp(-D) * t  # noqa: E731
  spread_x = put(x, mesh, names)
  actual = jax.jit(lambda x, t: pairwise_sum(f, x, args=(t,), axis_name=names))(spread_x, target)
  np.testing.assert_allclose(actual, pairwise_sum(f, x, args=(target,)), rtol=1e-5)
  np.testing.assert_array_equal(nearest(spread_x, k=3, axis_name=names).indices, nearest(x, k=3).indices)


@pytest.mark.parametrize("options", [{}, {"axis_name": "i"}], ids=["rows", "ring"])
def test_a_point_that_is_nobodys_neighbour_reaches_nothing(options, rng):
  x, y = rng.normal(size=(64, 3)).astype("f"), rng.normal(size=(32, 3)).astype("f")
  y[3], y[4] = np.nan, np.inf  # the last point of a device, and the first of the next
  spread_x, spread_y = (put(a, mesh_of(AxisType.Explicit), "i") for a in (x, y))
  total = lambda x, y: nearest(x, y, k=2, **options).squared.sum()  # noqa: E731
  assert all(np.isfinite(g).all() for g in jax.jit(jax.grad(total, (0, 1)))(spread_x, spread_y))


@either_kind
@pytest.mark.parametrize("dtypes", ["bfloat16 bfloat16", "float32 bfloat16", "float64 float32", "int32 float32"])
@pytest.mark.usefixtures("double_precision")
def test_a_ring_of_several_dtypes(dtypes, kind, rng):
  of_points, of_values = dtypes.split()
  x = jnp.asarray(rng.normal(size=(16, 3)) * 2, of_points)
  v, a = (jnp.asarray(rng.random(shape), of_values) for shape in (16, (16, 16)))
  arguments = (1, 2) if of_points == "int32" else (0, 1, 2)

  def total(x, v, a, **options):
    sums = pairwise_sum(lambda D, a: jnp.exp(-D) * a, x, args=(a,), values=v, **options)
    return jnp.cos(sums.astype(jnp.float32)).sum()

  expected = jax.grad(total, arguments)(x, v, a)
  spread = (put(x, mesh_of(kind), "i"), v, a)
  actual = jax.jit(jax.grad(partial(total, axis_name="i"), arguments))(*spread)
  for p, q in zip(actual, expected, strict=True):
    assert p.dtype == q.dtype
    np.testing.assert_allclose(np.asarray(p, float), np.asarray(q, float), atol=16 * float(jnp.finfo(q.dtype).eps))


@pytest.mark.parametrize("reduce", [pairwise_sum, pairwise_logsumexp])
@pytest.mark.parametrize("options", [{}, {"axis_name": "i"}], ids=["rows", "ring"])
@either_kind
def test_f_closes_over_what_lies_on_the_mesh(kind, options, reduce, rng):
  """Replicated or sharded, integers and booleans too, under jit, grad, vmap and a mesh that is set."""
  mesh, x = mesh_of(kind), rng.normal(size=(48, 3)).astype("f")
  layers = rng.normal(size=(8, 4)).astype("f")

  def total(x, layers, power, negate, **options):
    def f(D):
      wide = jnp.tanh(D[..., None] * layers[0]) * jnp.arange(4.0) ** power
      return jnp.where(negate, -1, 1) * wide.sum(-1)

    return jnp.cos(reduce(f, x, **options)).sum()

  rest = (np.int32(2), np.bool_(True))
  expected = jax.grad(total, (0, 1))(x, layers, *rest)
  run = jax.grad(partial(total, **options), (0, 1))
  with jax.set_mesh(mesh):
    for lies in ((), ("i",)) if kind == AxisType.Auto else ((),):
      spread = (put(x, mesh, "i"), put(layers, mesh, *lies), *(put(a, mesh) for a in rest))
      if options and kind == AxisType.Explicit:
        with pytest.raises(ValueError, match=r"must not close over what lies on the mesh.*shard_map.*args"):
          jax.jit(run)(*spread)
        return
      for a, e in zip(jax.jit(run)(*spread), expected, strict=True):
        np.testing.assert_allclose(a, e, atol=500 * EPS * np.abs(e).max())
    if not options:  # of two sets, of which only the second is spread
      alone = jax.jit(lambda x, y, width: reduce(lambda D: D * width, x, y))
      actual = alone(put(x[:6], mesh), put(x, mesh, "i"), put(np.float32(0.5), mesh))
      np.testing.assert_allclose(actual, reduce(lambda D: D * 0.5, x[:6], x), rtol=1e-5)
    moved, _ = program(run, *spread)
    assert max(max(sizes) for sizes in moved.values()) <= 48 * 4
    powers = put(np.arange(3, dtype=np.int32), mesh)
    batched = jax.jit(jax.vmap(run, (None, None, 0, None)))(*spread[:2], powers, spread[3])
    for a, e in zip(batched, expected, strict=True):
      np.testing.assert_allclose(a[2], e, atol=500 * EPS * np.abs(e).max())


@pytest.mark.parametrize("options", [{}, {"axis_name": "i"}], ids=["rows", "ring"])
def test_a_shard_map_over_one_axis_of_two(options, rng):
  """The other stays Auto; and what f closes over may vary over more axes than the points."""
  mesh, x, y = mesh_of(AxisType.Auto, 4, 2), rng.normal(size=(16, 3)).astype("f"), rng.normal(size=(8, 3)).astype("f")
  of_y = P("i") if options else P()
  for f in (gaussian, soft_minimum) if options else (edm, gaussian, soft_minimum):
    mapped = jax.shard_map(
      partial(f, **options), mesh=mesh, in_specs=(P("i"), of_y), out_specs=P("i"), axis_names=frozenset("i")
    )
    actual = jax.jit(jax.grad(loss(mapped), (0, 1)))(x, y)
    for a, e in zip(actual, jax.grad(loss(f), (0, 1))(x, y), strict=True):
      np.testing.assert_allclose(a, e, atol=1e-4)
  widths = jnp.array([0.5, 2.0])

  def with_width(x, w):
    w = lax.pcast(w[0], "i", to="varying")
    return pairwise_sum(lambda D: jnp.exp(-D * w), x, **options)[None]

  both = jax.shard_map(with_width, mesh=mesh, in_specs=(P("i"), P("j")), out_specs=P("j", "i"))
  if options:  # without a ring, x is what the device has
    expected = jax.vmap(lambda w: pairwise_sum(lambda D: jnp.exp(-D * w), x))(widths)
    np.testing.assert_allclose(jax.jit(both)(x, widths), expected, rtol=1e-5)
  with pytest.raises(ValueError, match="over all axes of a ring"):
    jax.jit(
      jax.shard_map(
        lambda x: gaussian(x, axis_name=("i", "j")), mesh=mesh, in_specs=P("i"), out_specs=P("i"), axis_names={"i"}
      )
    )(x)


def test_a_ring_over_an_axis_that_is_free(rng):
  """The points lie over another axis, of another kind; a batch stays where it is."""
  x = rng.normal(size=(48, 3)).astype("f")
  mesh = jax.make_mesh((4, 2), ("i", "j"), axis_types=(AxisType.Explicit, AxisType.Auto))
  for f in (gaussian, neighbours):
    np.testing.assert_allclose(jax.jit(partial(f, axis_name="j"))(put(x, mesh, "i")), f(x), rtol=1e-5)
  batch = rng.normal(size=(4, 16, 3)).astype("f")
  for kind in KINDS:
    spread = put(batch, mesh_of(kind, 4, 2), "j", "i")
    moved, shardings = program(partial(gaussian, axis_name="i"), spread)
    assert list(moved) == ["collective-permute"]
    assert shardings == [("j", "i")]
    np.testing.assert_allclose(jax.jit(partial(gaussian, axis_name="i"))(spread), gaussian(batch), rtol=1e-5)


@either_kind
def test_no_coordinates_and_no_points(kind):
  for shape in ((16, 0), (0, 3)):
    x = put(np.zeros(shape, "f"), mesh_of(kind), "i")
    assert jax.jit(edm)(x).shape == (shape[0], shape[0])
    np.testing.assert_array_equal(jax.jit(gaussian)(x), shape[0])


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


def test_two_meshes(rng):
  x = rng.normal(size=(16, 3)).astype("f")
  one, other = put(x, mesh_of(AxisType.Explicit), "i"), put(x, mesh_of(AxisType.Explicit, 4, 2), "i")
  for function in (edm, distances, gaussian, soft_minimum, neighbours, partial(gaussian, axis_name="i")):
    with pytest.raises(ValueError, match=r"all arrays must lie on one mesh.*'i': 8.*'i': 4, 'j': 2.*jax.device_put"):
      jax.jit(function)(one, other)


@either_kind
def test_coordinates_over_devices_are_gathered(kind, rng):
  """A documented reshard: a device has all coordinates of its points."""
  x, y = rng.normal(size=(24, 8)).astype("f"), rng.normal(size=(16, 8)).astype("f")
  spread_x, spread_y = put(x, mesh_of(kind, 4, 2), "i", "j"), put(y, mesh_of(kind, 4, 2), None, "j")
  for f in (edm, gaussian, partial(gaussian, axis_name="i")):
    np.testing.assert_allclose(jax.jit(f)(spread_x, spread_y), f(x, y) if f is edm else gaussian(x, y), rtol=1e-4)
    moved = jax.jit(jax.grad(loss(f), (0, 1)))(spread_x, spread_y)
    alone = jax.grad(loss(edm if f is edm else gaussian), (0, 1))(x, y)
    for a, e in zip(moved, alone, strict=True):
      np.testing.assert_allclose(a, e, atol=1e-3)


def test_a_ring_of_one_device_and_a_mesh_of_one(rng):
  """What runs on eight runs on a laptop."""
  x = rng.normal(size=(40, 3)).astype("f")
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("i",), axis_types=(AxisType.Explicit,))
  for f in (gaussian, soft_minimum, neighbours, edm):
    for options in ({}, {"axis_name": "i"}) if f is not edm else ({},):
      actual = jax.jit(partial(f, **options))(put(x, mesh, "i"))
      np.testing.assert_allclose(actual, f(x), rtol=1e-5, atol=1e-5)


def test_stress_of_sharded_distances_is_never_gathered(rng):
  """An operand of pairs keeps its rows, on a ring, too."""
  n, mesh = 256, mesh_of(AxisType.Explicit)
  x = put(rng.normal(size=(n, 3)).astype("f"), mesh, "i")
  target = put(rng.random((n, n)).astype("f"), mesh, "i")
  for options in ({}, {"axis_name": "i"}):
    stress = lambda x, t, o=options: pairwise_sum(lambda D, t: (safe_root(D) - t) ** 2, x, args=(t,), **o).sum()  # noqa: E731
    moved, shardings = program(jax.grad(stress, (0, 1)), x, target)
    assert max(max(sizes) for sizes in moved.values()) <= 3 * n
    assert shardings == [("i",), ("i",)]
