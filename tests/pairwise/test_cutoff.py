"""Sums over the pairs that are near: what is left out does not matter, whichever way it is left out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clouds import clouds
from jax.sharding import PartitionSpec as P
from meshes import KINDS, mesh_of, program, put
from test_memory import temporaries

import definitions
import oracle
from conftest import x64
from jax_edm import pairwise_logsumexp, pairwise_sum, safe_root
from jax_edm._pairwise.near import crowd, sums, tiles, visits
from jax_edm._pairwise.near.boxes import Boxes
from transformations import ALL, Case, check_cases, naive_edm, quick_jit

EPS = float(np.finfo(np.float32).eps)
N = 150
WAYS = {"near tiles": (1, np.inf), "all pairs, since many are near": (1, -1.0)}


@pytest.fixture(params=[w if w == "near tiles" else pytest.param(w, marks=pytest.mark.slow) for w in WAYS])
def way(request, monkeypatch):
  """Few points take one way or the other; programs are made anew, because the tests trace functions of their own."""
  take(monkeypatch, request.param)


@pytest.fixture
def near_tiles(monkeypatch):
  take(monkeypatch, "near tiles")


def take(monkeypatch, way):
  least, crowded = WAYS[way]
  monkeypatch.setattr(sums, "least_pairs", lambda: least)
  monkeypatch.setattr(crowd, "CROWDED", crowded)


def cutoffs(D, name):
  """Between two distances: exact ones are for the lattice, whose spacing is one of them."""
  ordered = np.unique(np.sqrt(D))
  k = np.asarray([0.02, 0.3]) * (len(ordered) - 2)
  between = [float(ordered[i] + ordered[i + 1]) / 2 for i in k.astype(int)] if len(ordered) > 2 else []
  return [0.0, *between, *([1.0, 2.0] if name == "a lattice" else []), 1e30, np.inf]


def near(D, cutoff):
  return np.sqrt(D) <= np.float32(cutoff)


@pytest.mark.parametrize("d", [3, *(pytest.param(d, marks=pytest.mark.slow) for d in (1, 6))])
@pytest.mark.usefixtures("way")
def test_all_clouds_and_cutoffs(d):
  """One set and two, value and gradient; the cutoff is data: nothing compiles again."""
  f = lambda D: 1 / (1 + D)  # noqa: E731

  @quick_jit
  def run(x, y, cutoff):
    one, back = jax.vjp(lambda x: pairwise_sum(f, x, cutoff=cutoff), x)
    two, backs = jax.vjp(lambda x, y: pairwise_sum(f, x, y, cutoff=cutoff), x, y)
    return one, two, *back(jnp.cos(jnp.arange(N))), *backs(jnp.cos(jnp.arange(N)))

  g = np.cos(np.arange(N))
  for name, points in clouds(d, N).items():
    x, y = points.astype(np.float32), points[::-1][: N - 21].astype(np.float32) * np.float32(1.25)
    D, E = oracle.edm(x), oracle.edm(x, y)
    for cutoff in cutoffs(D, name):
      value = lambda D, c=cutoff: near(D, c) / (1 + D)  # noqa: E731
      slope = lambda D, c=cutoff: -g[:, None] * near(D, c) / (1 + D) ** 2  # noqa: E731
      right = value(D).sum(1), value(E).sum(1), *oracle.vjp(slope(D), x), *oracle.vjp(slope(E), x, y)
      # Products round with the size of what is in a tile or a block: two clusters, say, far from each other.
      rough = 0 if name == "an outlier" else 64 * EPS * np.abs(x).max()
      if np.isclose(np.sqrt(E), cutoff, rtol=1e-6).any() and cutoff > 0:  # rounding decides
        continue
      for actual, expected in zip(run(x, y, np.float32(cutoff)), right, strict=True):
        error = 256 * EPS * max(np.abs(expected).max(), 1) + rough
        np.testing.assert_allclose(actual, expected, rtol=0, atol=error, err_msg=f"{name}, {cutoff}")


SOME = ["two sets", pytest.param("symmetric, no diagonal", marks=pytest.mark.slow)]


@pytest.mark.parametrize("variant", SOME)
@pytest.mark.usefixtures("way")
def test_gradients_with_respect_to_everything(variant, rng, monkeypatch):
  """Arguments of rows, columns and of all pairs, values, masks, and a number that f closes over."""
  kind, one_set, _ = definitions.VARIANTS[variant]
  monkeypatch.setitem(definitions.ARGS, "everything", ("row", "column", "scalar"))
  p = definitions.problem(rng, 75, 75 if one_set else 90, 3)
  p["pair"] = np.float32(1)
  where, where_y = rng.random(75) < 0.8, rng.random(90) < 0.8

  def with_pair(pairwise_sum, f, x, y, *, args, values, **options):
    if kind == "everything":
      return pairwise_sum(
        lambda D, row, column, scalar: f(D, 1.0, row, column, scalar), x, y, args=args, values=values, **options
      )
    return pairwise_sum(f, x, y, args=args, values=values, **options)

  own = definitions.of_variant(p | {"pair": np.ones((75, 90), np.float32)}, variant)
  masks = {"where": where} | ({} if one_set else {"where_y": where_y})

  @quick_jit
  def run(own, theta, g):
    summed = partial(with_pair, pairwise_sum, cutoff=0.8)
    return definitions.sum_and_cotangents(summed, own, theta, g, variant, **masks)

  pairs = where[:, None] * (where if one_set else where_y) * near(oracle.edm(own["x"], own.get("y")), 0.8)
  wanted = definitions.expected(own | {"pair": 1.0}, p["g"], variant, pairs)
  for part in wanted[1:]:
    part.pop("pair", None)
  definitions.agree(run(own, np.float32(definitions.THETA), p["g"]), wanted, variant)


CUTOFF = 0.9


def near_energy(x, y=None, method=None):
  return pairwise_sum(lambda D: jnp.exp(-D), x, y, method=method, cutoff=CUTOFF)


def near_soft_minimum(x, y=None, method=None):
  return jnp.maximum(pairwise_logsumexp(lambda D: -2 * D, x, y, method=method, cutoff=CUTOFF), -5)


def naive_energy(x, y=None):
  D = naive_edm(x, y)
  return jnp.where(D <= CUTOFF**2, jnp.exp(-D), 0).sum(1)


def naive_soft_minimum(x, y=None):
  D = naive_edm(x, y)
  terms = jnp.where(D <= CUTOFF**2, jnp.exp(-2 * D), 0).sum(1)
  return jnp.where(terms > 0, jnp.log(jnp.where(terms > 0, terms, 1)), -5)


# One of each kind: what JAX derives from these, it derives in the same way as for the sums of all pairs.
QUICK = ["grad"]
SLOW = [
  "jvp",
  "forward over reverse",
  "reverse over reverse",
  "third order, mixed",
  "vmap of an HVP",
  "shard_map of an HVP",
]


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
@pytest.mark.usefixtures("near_tiles", "double_precision")
def test_transformations(name):
  shapes = (((40, 3),), ((40, 3), (35, 3)))
  cases = [Case(near_energy, shapes[0], jnp.float64, naive=naive_energy)]
  check_cases(ALL[name], [*cases, Case(near_soft_minimum, shapes[1], jnp.float64, naive=naive_soft_minimum)])


@pytest.mark.slow
@pytest.mark.usefixtures("near_tiles")
def test_logsumexp(rng):
  """Weights with signs, rows without a near pair, and exponents that overflow."""
  x, y = (rng.uniform(size=(k, 3)).astype(np.float32) for k in (N, 90))
  x[:5] += 30
  weights = rng.normal(size=90).astype(np.float32)
  f = lambda D: -1000 * D  # noqa: E731

  @quick_jit
  def run(x, y, weights):
    soft = partial(pairwise_logsumexp, f, cutoff=0.3)
    grad = jax.grad(lambda x, y: jnp.where(jnp.isfinite(out := soft(x, y)), out, 0).sum(), (0, 1))(x, y)
    return soft(x, y), *soft(x, y, weights=weights, return_sign=True), *grad

  plain, size, sign, *grads = run(x, y, weights)
  D = oracle.edm(x, y)
  terms = np.where(near(D, 0.3), -1000 * D, -np.inf)
  top = np.maximum(terms.max(1), -1e9)
  with np.errstate(divide="ignore"):
    expected = np.log(np.exp(terms - top[:, None]).sum(1)) + top
    total = (weights * np.exp(terms - top[:, None])).sum(1)
    signed = np.log(np.abs(total)) + top
  assert not np.isfinite(expected[:5]).any()
  np.testing.assert_allclose(plain, expected, rtol=64 * EPS)
  np.testing.assert_array_equal(sign, np.sign(total))
  np.testing.assert_allclose(size, signed, rtol=1e-4)
  shares = np.exp(terms - np.where(np.isfinite(expected), expected, 0)[:, None])
  for actual, right in zip(grads, oracle.vjp(-1000 * shares, x, y), strict=True):
    np.testing.assert_allclose(actual, right, atol=1e-4 * np.abs(right).max())


@pytest.mark.usefixtures("way")
def test_f_sees_no_pair_that_is_farther(rng):
  """It may be singular there, where the formula with ``where`` has NaN; and counts have the type of counts."""
  x = rng.uniform(size=(N, 3)).astype(np.float32)
  x[:2] = [[0, 0, 0], [1, 1, 1]]  # nor the first pair, where it is farther
  D = oracle.edm(x)
  f = lambda D, c: jnp.sqrt(c * c - D)  # noqa: E731
  energy = lambda x, c: pairwise_sum(f, x, args=(c,), diagonal=False, cutoff=c).sum()  # noqa: E731
  grad, of_cutoff = quick_jit(jax.grad(energy, (0, 1)))(x, 0.4)
  inside = near(D, 0.4)
  slope = np.where(inside, -0.5 / np.sqrt(np.where(inside, 0.16 - D, 1)), 0) * (1 - np.eye(N))
  right = oracle.vjp(slope, x)[0]
  np.testing.assert_allclose(grad, right, atol=1e-3 * np.abs(right).max())
  np.testing.assert_allclose(of_cutoff, -0.8 * slope.sum(), rtol=1e-3)
  count = quick_jit(lambda x: pairwise_sum(lambda D: D >= 0, x, cutoff=0.4))(x)
  assert count.dtype == jnp.int32
  np.testing.assert_array_equal(count, inside.sum(1))


@pytest.mark.usefixtures("near_tiles")
def test_points_that_are_not_finite_are_near_to_nothing(rng):
  x = rng.uniform(size=(N, 3)).astype(np.float32)
  x[3, 1], x[17], x[60] = np.nan, np.inf, -np.inf
  there = np.isfinite(x).all(1)
  values = np.where(there, 1.5, np.nan).astype(np.float32)

  @quick_jit
  def run(x, cutoff):
    return jax.value_and_grad(lambda x: pairwise_sum(safe_root, x, values=values, cutoff=cutoff).sum())(x)

  clean = np.where(there[:, None], x, 0)
  for cutoff in (0.4, np.inf):
    value, grad = run(x, np.float32(cutoff))
    D = oracle.edm(clean) + np.where(there[:, None] & there, 0, np.inf)
    pairs = near(D, cutoff) & np.isfinite(D)
    roots = np.sqrt(np.where(pairs, D, 0))
    slope = 1.5 * np.where(pairs & (roots > 0), 0.5 / np.where(roots > 0, roots, 1), 0)
    np.testing.assert_allclose(value, 1.5 * roots.sum(), rtol=64 * EPS)
    right = oracle.vjp(slope, clean)[0]
    np.testing.assert_allclose(grad, right, atol=256 * EPS * np.abs(right).max())


@pytest.mark.slow
@pytest.mark.usefixtures("near_tiles")
def test_batches(rng):
  """Of leading axes and of ``vmap``; each member with a cutoff of its own."""
  x = rng.uniform(size=(3, 80, 3)).astype(np.float32)
  cutoff = np.asarray([0.2, 0.4, 3], np.float32)
  summed = lambda x, c: pairwise_sum(lambda D: jnp.exp(-D), x, cutoff=c)  # noqa: E731
  loss = lambda x, c: (summed(x, c) ** 2).sum()  # noqa: E731

  @quick_jit
  def run(x, cutoff):
    return (
      summed(x, cutoff),
      jax.vmap(summed)(x, cutoff),
      jax.grad(loss)(x, cutoff),
      jax.vmap(jax.grad(loss))(x, cutoff),
    )

  D = oracle.edm(x)
  kernel = np.exp(-D) * (np.sqrt(D) <= cutoff[:, None, None])
  value = kernel.sum(2)
  slope = -kernel * 2 * value[:, :, None]
  right = oracle.vjp(slope, x)[0]
  one, mapped, grad, mapped_grad = run(x, cutoff)
  for actual in (one, mapped):
    np.testing.assert_allclose(actual, value, rtol=64 * EPS)
  for actual in (grad, mapped_grad):
    np.testing.assert_allclose(actual, right, atol=256 * EPS * np.abs(right).max())


def test_what_is_no_cutoff(rng):
  x = rng.normal(size=(9, 2)).astype(np.float32)
  f = lambda D: D  # noqa: E731
  for cutoff, message in (
    (-1.0, "cutoff must be a distance, at least 0. Got -1.0. Leave it out to count all pairs"),
    (float("nan"), "cutoff must be a distance, at least 0. Got nan"),
    (np.ones((2, 3)), "the leading axes of cutoff must broadcast against those of the points"),
  ):
    with pytest.raises(ValueError, match=f"pairwise_sum: {message}"):
      pairwise_sum(f, np.stack([x, x]), cutoff=cutoff)
  with pytest.raises(TypeError, match="cutoff must be a JAX or NumPy array"):
    pairwise_logsumexp(f, x, cutoff="1")
  with pytest.raises(TypeError, match="cutoff must hold real numbers"):
    pairwise_sum(f, x, cutoff=np.asarray(1j))
  with pytest.raises(ValueError, match='implementation="pallas" there must be no cutoff'):
    pairwise_sum(f, x, cutoff=1.0, implementation="pallas")
  traced = jax.jit(lambda c: pairwise_sum(lambda D: D + 1, x, cutoff=c))
  assert not traced(-1.0).any()
  assert not traced(float("nan")).any()
  np.testing.assert_array_equal(traced(0.0), np.ones(9))


@pytest.mark.parametrize("n", [3, 33, 500])
def test_the_order_is_a_permutation_into_tiles_of_neighbours(n, rng):
  x = rng.uniform(size=(n, 2)).astype(np.float32)
  order = quick_jit(tiles.in_order)(x)
  k = len(order.of_places) // tiles.TILE
  assert k == 1 or n > k // 2 * tiles.TILE
  np.testing.assert_array_equal(np.sort(order.of_places), np.arange(k * tiles.TILE))
  np.testing.assert_array_equal(order.points(order.tiles(x)), x)
  if n >= 500:  # nearly squares, of points that exist alone
    exist = order.tiles(jnp.ones(n, bool))
    boxes = Boxes.of_tiles(order.tiles(x), exist)
    sides = np.asarray(boxes.high - boxes.low)[np.asarray(exist).any(1)]
    assert sides.sum(1).mean() < 1.3 * 2 * k**-0.5
    some = order.tiles(jnp.asarray(rng.random(n) < 0.3))
    low = np.where(np.asarray(some)[:, :, None], order.tiles(x), np.inf).min(1)
    np.testing.assert_array_equal(Boxes.of_tiles(order.tiles(x), some).low, low)


@pytest.mark.parametrize("half", [True, False])
def test_every_pair_of_near_tiles_is_visited_once(half, rng, monkeypatch):
  """Over several parts of groups, lists that end within a step, and boxes of no point."""
  monkeypatch.setattr(visits, "steps", lambda: visits.Steps(7, 3, 12))
  k = 64
  low = rng.uniform(size=(k, 2)).astype(np.float32)
  low = low[np.argsort(low[:, 0])]  # groups are apart, too
  high = low + np.float32(0.1)
  low[5], high[5] = np.inf, -np.inf
  boxes, limit = Boxes(jnp.asarray(low), jnp.asarray(high)), np.float32(0.04)

  def step(i, j, place, out):
    return out.at[i, j].add(place.live.astype(int))

  guide = visits.Guide(boxes, boxes, limit)
  visited = quick_jit(lambda: visits._for_each_pair_of_tiles(half, guide, step, jnp.zeros((k, k), int)))()
  gaps = np.maximum(np.maximum(low[:, None] - high[None], low[None] - high[:, None]), 0)
  expected = ((gaps.astype(float) ** 2).sum(2) <= limit).astype(int)
  assert 0 < expected.sum() < k * k / 2
  np.testing.assert_array_equal(visited, np.triu(expected) if half else expected)


def test_when_all_pairs_take_less_time(rng):
  """A cloud of which little is near; one of which everything is; of a batch all members take one way."""
  x = rng.uniform(size=(3, 20_000, 3)).astype(np.float32)
  decide = jax.jit(lambda x, c: crowd.is_crowded(x, x, None, None, c * c))
  assert not decide(x[0], 0.08)  # about 50 neighbours
  assert decide(x[0], 2.0)
  assert decide(np.zeros_like(x[0]), 0.0)
  decide = jax.jit(jax.vmap(lambda x, c: crowd.is_crowded(x, x, None, None, c * c), out_axes=None))
  assert not decide(x, np.full(3, 0.08, np.float32))
  assert decide(x, np.asarray([0.08, 2, 0.08], np.float32))


@pytest.mark.slow
def test_memory_is_linear(near_tiles):
  """In every mode; a matrix of these points takes 1 GiB."""

  def loss(x):
    return jnp.log1p(pairwise_sum(lambda D: jnp.exp(-D), x, cutoff=0.1)).sum()

  modes = [
    loss,
    jax.grad(loss),
    lambda x: jax.jvp(jax.grad(loss), (x,), (x,)),
    jax.grad(lambda x: (jax.grad(loss)(x) ** 2).sum()),
  ]
  for f in modes:
    small, large = (temporaries(f, (n, 3)) for n in (16_384, 32_768))
    assert small < 128
    assert large < 2.2 * small


@pytest.mark.parametrize("kind", KINDS, ids=["Auto", "Explicit"])
@pytest.mark.parametrize("options", [{}, {"axis_name": "i"}], ids=["rows", "ring"])
@pytest.mark.slow
def test_devices(kind, options, near_tiles, rng):
  """Each device's rows against all tiles, or against those of the block that visits."""
  mesh, points = mesh_of(kind), rng.uniform(size=(640, 3)).astype(np.float32)
  x, closes_over = (
    put(points, mesh, "i"),
    kind == KINDS[0],
  )  # on Explicit axes all pairs are made then, or it is refused

  def loss(x, rate):
    f = (lambda D: jnp.exp(-rate * D)) if closes_over else (lambda D: jnp.exp(-D))
    return (pairwise_sum(f, x, diagonal=False, cutoff=0.2, **options) ** 2).sum()

  with jax.set_mesh(mesh):
    value, (grad, of_rate) = jax.jit(jax.value_and_grad(loss, (0, 1)))(x, jnp.float32(1))
    moved, _ = program(jax.grad(loss), x, jnp.float32(1))
    assert "shard_map" in str(jax.make_jaxpr(loss)(x, 1.0))  # groups of rows would wait for each other
  D = oracle.edm(points)
  kernel = np.exp(-D) * near(D, 0.2) * (1 - np.eye(640))
  np.testing.assert_allclose(value, (kernel.sum(1) ** 2).sum(), rtol=64 * EPS)
  right = oracle.vjp(-kernel * 2 * kernel.sum(1)[:, None], points)[0]
  np.testing.assert_allclose(grad, right, atol=256 * EPS * np.abs(right).max())
  if closes_over:
    np.testing.assert_allclose(of_rate, -(2 * kernel.sum(1)[:, None] * D * kernel).sum(), rtol=64 * EPS)
  assert max(n for sizes in moved.values() for n in sizes) <= 2 * 640 * 3  # the points in their tiles, and no matrix


@pytest.mark.slow
def test_inside_a_shard_map(near_tiles, rng):
  mesh, points = mesh_of(KINDS[1]), rng.uniform(size=(8, 100, 3)).astype(np.float32)

  @partial(jax.shard_map, mesh=mesh, in_specs=P("i"), out_specs=P("i"))
  def of_each(x):
    return jax.grad(lambda x: (pairwise_sum(lambda D: jnp.exp(-D), x, cutoff=0.2) ** 2).sum())(x)

  with jax.set_mesh(mesh):
    grad = jax.jit(of_each)(put(points, mesh, "i"))
  D = oracle.edm(points)
  kernel = np.exp(-D) * near(D, 0.2)
  right = oracle.vjp(-kernel * 2 * kernel.sum(2)[:, :, None], points)[0]
  np.testing.assert_allclose(grad, right, atol=256 * EPS * np.abs(right).max())


@pytest.mark.slow
def test_double_precision(near_tiles, rng):
  with x64(True):
    x = rng.uniform(size=(N, 3))
    D = oracle.edm(x)
    out = quick_jit(lambda x: pairwise_sum(lambda D: jnp.exp(-D), x, cutoff=0.3))(x)
    np.testing.assert_allclose(out, (np.exp(-D) * (D <= 0.09)).sum(1), rtol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=["Auto", "Explicit"])
def test_what_the_exponent_closes_over_on_a_mesh(kind, near_tiles, rng):
  mesh, points = mesh_of(kind), rng.uniform(size=(320, 3)).astype(np.float32)

  def loss(x, rate):
    return jnp.maximum(pairwise_logsumexp(lambda D: -rate * D, x, cutoff=0.3), 0).sum()

  slope = jax.jit(jax.grad(loss, (0, 1)))
  right = slope(points, jnp.float32(2))
  with jax.set_mesh(mesh):
    found = slope(put(points, mesh, "i"), jnp.float32(2))
  for actual, expected in zip(found, right, strict=True):
    np.testing.assert_allclose(actual, expected, atol=256 * EPS * np.abs(expected).max())
  assert float(right[1]) < -1


@pytest.mark.slow
def test_weights_and_arguments_of_a_wider_type(near_tiles, rng):
  with x64(True):
    x = rng.uniform(size=(N, 3)).astype(np.float32)
    weights, column = rng.uniform(1, 2, size=N), rng.normal(size=N)
    D = oracle.edm(x)
    inside = near(D, 0.4)
    f = lambda D, a: -D * a  # noqa: E731
    out = jax.jit(lambda x: pairwise_logsumexp(f, x, args=(column,), weights=weights, cutoff=0.4))(x)
    assert out.dtype == np.float64
    np.testing.assert_allclose(out, np.log((weights * np.exp(-D * column) * inside).sum(1)), rtol=1e-5)


@pytest.mark.slow
def test_strict_modes(near_tiles, rng):
  x, v = rng.uniform(size=(N, 3)).astype(np.float32), rng.normal(size=(N, 2)).astype(np.float32)

  def loss(x, v):
    one = pairwise_sum(lambda D: jnp.exp(-D), x, values=v, cutoff=0.3)
    return one.sum() + pairwise_logsumexp(lambda D: -D, x, x[:90], cutoff=2.0).sum()

  right = jax.jit(jax.grad(loss, (0, 1)))(x, v)
  with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
    found = jax.jit(jax.grad(loss, (0, 1)))(x, v)
  for actual, expected in zip(found, right, strict=True):
    np.testing.assert_array_equal(actual, expected)
