"""The nearest points by near tiles: the same as among all pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clouds import clouds
from jax.sharding import PartitionSpec as P
from meshes import KINDS, mesh_of, program, put

import oracle
from conftest import x64
from jax_edm import nearest
from jax_edm._core.edm import choose_form, point_sets
from jax_edm._pairwise.near import nearest as near
from jax_edm._pairwise.near import search
from jax_edm._pairwise.near.tiles import TILE
from transformations import ALL, Case, check_cases, naive_edm, quick_jit

N = 300
EPS = float(np.finfo(np.float32).eps)


@pytest.fixture
def near_tiles(monkeypatch):
  """However few points there are, and however many of them are near; small steps, so that lists have several parts."""
  monkeypatch.setattr(near, "least_pairs", lambda: 1)
  monkeypatch.setattr(near, "most_visits", lambda k: np.inf)
  monkeypatch.setattr(search, "GROUP", 2)
  monkeypatch.setattr(search, "steps", lambda: search.Steps(2, 4, 2, 4, 2))
  jax.clear_caches()
  yield
  jax.clear_caches()


def both_ways(run, *arrays):
  """Compiled for such arrays, by tiles and among all pairs."""
  compiled = []
  for pays in (near.pays, lambda *_: False):
    jax.clear_caches()  # a traced search is kept
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(near, "pays", pays)
      compiled.append(quick_jit(lambda *arrays: run(*arrays)).lower(*arrays).compile())
  jax.clear_caches()
  return compiled


def agree(found, right, name=""):
  for actual, expected in zip(jax.tree.leaves(found), jax.tree.leaves(right), strict=True):
    np.testing.assert_array_equal(actual, expected, err_msg=name)


def agree_but_for_rounding(found, right, squared, name):
  """Compilers round the squared distances of the two searches differently: two that differ by that alone may change."""
  exact = [np.take_along_axis(squared, np.asarray(nearest.indices), 1) for nearest in (found, right)]
  np.testing.assert_allclose(*exact, rtol=4 * EPS, err_msg=name)
  np.testing.assert_allclose(found.squared, right.squared, rtol=4 * EPS, err_msg=name)
  others, own = squared[:, :, None], exact[1][:, None, :]
  tied = (np.isclose(others, own, rtol=4 * EPS, atol=0) & (others != own)).any(1)  # by rounding, and not in truth
  np.testing.assert_array_equal(found.indices[~tied], right.indices[~tied], err_msg=name)


@pytest.mark.parametrize("d", [3, *(pytest.param(d, marks=pytest.mark.slow) for d in (1, 2, 6))])
@pytest.mark.parametrize("k", [7, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 33))])
@pytest.mark.usefixtures("near_tiles")
def test_all_clouds(d, k):
  """One set and two; many points tie on a lattice, and where they are equal."""
  run = lambda x, y: [nearest(*sets, k=k) for sets in ((x,), (x, y), (y, x))]  # noqa: E731
  by_tiles, among_all = both_ways(run, np.zeros((N, d), np.float32), np.zeros((N - 77, d), np.float32))
  for name, points in clouds(d, N).items():
    x, y = points.astype(np.float32), points[::-1][: N - 77].astype(np.float32) * np.float32(1.25)
    found = by_tiles(x, y)
    for one, other, sets in zip(found, among_all(x, y), ((x, x), (x, y), (y, x)), strict=True):
      agree_but_for_rounding(one, other, oracle.edm(*sets), name)
    squared = np.sort(np.where(np.eye(N, dtype=bool), np.inf, oracle.edm(x)), 1)[:, :k]
    np.testing.assert_allclose(found[0].squared, squared, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.usefixtures("near_tiles")
def test_points_that_are_missing_or_not_finite(sets, rng):
  """Also where fewer are left than there should be neighbours, and where a squared distance is not finite."""
  x, y = rng.uniform(size=(N, 3)).astype(np.float32), rng.uniform(size=(N - 50, 3)).astype(np.float32)

  def run(x, y, where, where_y):
    return nearest(x, k=5, where=where) if sets == 1 else nearest(x, y, k=5, where=where, where_y=where_y)

  here, here_y = rng.random(N) < 0.7, rng.random(N - 50) < 0.3
  by_tiles, among_all = both_ways(run, x, y, here, here_y)
  everything = np.ones(N, bool), np.ones(N - 50, bool)
  for bad in (np.nan, np.inf, -np.inf, 1e30):
    for z in (x, y):
      z[[0, 3, 77]] = bad
      z[120, 1] = bad
    for masks in (
      (here, here_y),
      everything,
      (np.arange(N) < 4, np.arange(N - 50) < 6),
      (here & False, here_y & False),
    ):
      agree(by_tiles(x, y, *masks), among_all(x, y, *masks), f"{bad}")
  x[7], y[0], x[0] = 1e30, np.nan, np.nan  # a squared distance that overflows is no larger than one of NaN
  agree(by_tiles(x, y, *everything), among_all(x, y, *everything))
  for z in (x, y):
    z[:-3] = np.nan
  agree(by_tiles(x, y, *everything), among_all(x, y, *everything))


def visits(points):
  """Of all rows, for 5 neighbours, in tiles of rows."""
  sets = prepared(points).without_infinite_points()

  @jax.jit
  def count(points):
    groups, _ = near.in_groups(points)
    every = jnp.arange(groups.rows.exists.shape[0], dtype=jnp.int32)
    with jax.enable_x64(True):
      return search.search(groups, every, 5, jnp.int32(2**31 - 1)).visits

  return int(count(sets)) / (len(points) / TILE)


def prepared(points):
  x = jnp.asarray(points, jnp.float32)
  return point_sets(x, None, None, None, choose_form(None, 128, 128, x.shape[1]), x.dtype).prepared()


@pytest.mark.slow
def test_how_many_tiles_are_visited(rng):
  """Of a plane about nine; and points that are not finite, or tie in their thousands, spoil nothing."""
  x = rng.uniform(size=(2**13, 2))
  alone = visits(x)
  assert 9 < alone < 18
  x[[5, 77, 4000]] = [[np.nan, 0], [np.inf, -np.inf], [np.nan, np.nan]]
  assert visits(x) < 1.05 * alone
  # The others hold no lower index. Without that, all of the 256 tiles would be visited.
  assert visits(np.full((2**13, 3), 0.3)) <= 2 * search.steps().visits


@pytest.mark.slow
def test_a_crowded_cloud_takes_all_pairs(rng, monkeypatch):
  """Six coordinates, where the boxes overlap; the search ends early. Of a batch all members take one way."""
  monkeypatch.setattr(near, "least_pairs", lambda: 1)
  ways = []

  def of_all():
    jax.debug.callback(lambda: ways.append("all"))
    return jnp.zeros((4096, 3)), jnp.zeros((4096, 3), jnp.int32)

  run = jax.jit(jax.vmap(lambda x: near.candidates(prepared(x), 3, of_all)[1]))
  crowded = rng.uniform(size=(4096, 6)).astype(np.float32)
  sparse = crowded * [1, 1, 0, 0, 0, 0]
  for batch, right in (([sparse], []), ([sparse, sparse], []), ([crowded], ["all"]), ([sparse, crowded], ["all"])):
    ways.clear()
    jax.block_until_ready(run(np.stack(batch).astype(np.float32)))
    jax.effects_barrier()
    assert ways[:1] == right


def energy(x, y=None, method=None):
  return jnp.exp(-nearest(x, y, k=3, method=method).squared).sum(1)


def naive_energy(x, y=None):
  D = naive_edm(x, y)
  D = D if y is not None else jnp.where(jnp.eye(len(x), dtype=bool), jnp.inf, D)
  return jnp.exp(-jnp.sort(D, 1)[:, :3]).sum(1)


# One of each kind: what JAX derives from these, it derives in the same way as among all pairs.
QUICK = ["grad"]
SLOW = ["jvp", "forward over reverse", "reverse over reverse", "vmap of an HVP", "shard_map of an HVP"]


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
@pytest.mark.usefixtures("near_tiles")
def test_transformations(name):
  cases = [Case(energy, shapes, jnp.float32, naive=naive_energy) for shapes in (((40, 3),), ((40, 3), (35, 3)))]
  check_cases(ALL[name], cases)


@pytest.mark.usefixtures("near_tiles")
def test_rows_that_are_missing_have_no_neighbours(rng):
  """Also in a tile with others; the ranks of all arrays agree."""
  x, where = rng.uniform(size=(N, 2)).astype(np.float32), np.arange(N) != 5
  with jax.numpy_rank_promotion("raise"):
    found = nearest(x, k=3, where=where)
  np.testing.assert_array_equal(found.indices[5], -1)
  assert np.isinf(found.squared[5]).all()
  assert np.isfinite(found.squared[where]).all()


def test_when_it_pays(monkeypatch):
  """Points of both sets are sorted: few of one and many of the other take all pairs, and points without coordinates."""

  def pays(n, m, d=3, k=10):
    form = choose_form(None, 128, 128, d)
    x, y = jnp.zeros((n, d), jnp.float32), jnp.zeros((m, d), jnp.float32)
    return near.pays(point_sets(x, y, None, None, form, x.dtype), k)

  assert pays(6000, 6000)
  assert not pays(5000, 5000)
  assert not pays(16, 2_100_000)
  assert not pays(400_000, 100)
  assert not pays(6000, 6000, d=7)
  assert not pays(6000, 6000, k=65)
  monkeypatch.setattr(near, "least_pairs", lambda: 1)
  assert not pays(6000, 6000, d=0)
  assert not pays(6000, 10)
  assert nearest(jnp.zeros((40, 0)), k=2).indices.shape == (40, 2)


@pytest.mark.usefixtures("near_tiles")
@pytest.mark.slow
def test_batches(rng):
  x = rng.uniform(size=(2, 3, 120, 3)).astype(np.float32)
  y = rng.uniform(size=(3, 90, 3)).astype(np.float32)
  run = lambda x, y: (nearest(x, k=4), nearest(x, y, k=4), jax.vmap(lambda x: nearest(x, k=2))(y))  # noqa: E731
  by_tiles, among_all = both_ways(run, x, y)
  agree(by_tiles(x, y), among_all(x, y))


@pytest.mark.parametrize("kind", KINDS, ids=["Auto", "Explicit"])
@pytest.mark.parametrize("options", [{}, {"axis_name": "i"}], ids=["rows", "ring"])
@pytest.mark.slow
def test_devices(kind, options, near_tiles, rng):
  mesh, points = mesh_of(kind), rng.uniform(size=(640, 3)).astype(np.float32)
  run = lambda x: nearest(x, k=3, **options)  # noqa: E731
  with jax.set_mesh(mesh):
    found, (moved, _) = jax.jit(run)(put(points, mesh, "i")), program(run, put(points, mesh, "i"))
  squared = np.where(np.eye(640, dtype=bool), np.inf, oracle.edm(points))
  order = np.argsort(squared, 1, kind="stable")[:, :3]
  np.testing.assert_array_equal(found.indices, order)
  assert max(n for sizes in moved.values() for n in sizes) <= 4 * 640 * 3  # the points, and no matrix


@pytest.mark.slow
def test_inside_a_shard_map(near_tiles, rng):
  mesh, points = mesh_of(KINDS[1]), rng.uniform(size=(8, 100, 3)).astype(np.float32)
  of_each = jax.shard_map(lambda x: nearest(x, k=3).indices, mesh=mesh, in_specs=P("i"), out_specs=P("i"))
  with jax.set_mesh(mesh):
    found = jax.jit(of_each)(put(points, mesh, "i"))
  squared = np.where(np.eye(100, dtype=bool), np.inf, oracle.edm(points))
  np.testing.assert_array_equal(found, np.argsort(squared, 2, kind="stable")[..., :3])


@pytest.mark.slow
def test_double_precision_takes_all_pairs(near_tiles, rng):
  """A key has 32 bits for a distance."""
  with x64(True):
    x = rng.uniform(size=(N, 3))
    squared = np.where(np.eye(N, dtype=bool), np.inf, oracle.edm(x))
    np.testing.assert_allclose(nearest(x, k=3).squared, np.sort(squared, 1)[:, :3], rtol=1e-14)
    found = nearest(x.astype(np.float32), k=3)  # by tiles, with 64-bit types on
    assert found.squared.dtype == np.float32
    np.testing.assert_allclose(found.squared, np.sort(squared, 1)[:, :3], rtol=1e-5)
