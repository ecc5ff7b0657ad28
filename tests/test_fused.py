"""Kernels for GPUs and TPUs, without either: interpreted, under the contract of the XLA bodies; lowered for both."""

import contextlib
import importlib.util
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_derivatives as core
import test_pairwise as contract
from jax import export
from jax.experimental import topologies
from jax.experimental.pallas import tpu as mosaic
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, NamedSharding, PartitionSpec, use_abstract_mesh

import oracle
from conftest import equations, refusals
from jax_edm._pairwise.pallas import rule
from jax_edm._pairwise.pallas import hardware
from jax_edm._pairwise.pallas import sweeps
from jax_edm import pairwise_logsumexp, pairwise_sum, safe_root

EPS = float(np.finfo(np.float32).eps)
PLATFORMS = ("tpu", "cuda")
fused_sum = partial(pairwise_sum, implementation="pallas")
fused_logsumexp = partial(pairwise_logsumexp, implementation="pallas")

ROUTES = ("mosaic", "triton", "a TPU's memory")


def of_a_tpu(kernel):
  """As on a TPU: unwritten memory holds NaN, reads out of bounds and races raise. It runs in no program but its own."""
  on = hardware.On("mosaic", mosaic.InterpretParams(detect_races=True))

  @jax.custom_vjp
  def run(*arrays):
    return list(kernel.run(on, arrays))

  def back(arrays, g):
    moving = [i for i, a in enumerate(arrays) if jnp.issubdtype(a.dtype, jnp.inexact)]
    bars = dict(zip(moving, kernel.pull(on, arrays, g, moving), strict=False))  # not a value that is known
    return tuple(bars.get(i) for i in range(len(arrays)))

  run.defvjp(lambda *arrays: (run(*arrays), arrays), back)
  return run


@pytest.fixture
def interpreted(monkeypatch):
  """Runs kernels on this machine, in tiles so small that there are several."""

  def start(name):
    if name in ("mosaic", "triton"):
      monkeypatch.setattr(_fused, "INTERPRETED", (name, True))
    else:
      instead = SimpleNamespace(bind=lambda *arrays, kernel: of_a_tpu(kernel)(*arrays))
      monkeypatch.setattr(_fused, "kernel_p", instead)
    monkeypatch.setattr(_pallas, "SIDES", {"mosaic": (16, 8), "triton": (16, 32)})
    monkeypatch.setattr(contract, "pairwise_sum", fused_sum)
    monkeypatch.setattr(contract, "pairwise_logsumexp", fused_logsumexp)

  return start


# The contract of the XLA bodies


@pytest.mark.parametrize("one_set", [False, True], ids=["two sets", "one set"])
@pytest.mark.parametrize("d", [1, 3, 8, 9, 16, 64, 100, 257])
@pytest.mark.parametrize("name", ROUTES)
def test_sum_and_its_gradient_with_respect_to_everything(name, d, one_set, interpreted, rng):
  """Sizes that no tile divides; operands of every kind, two columns of values, a number that f closes over."""
  interpreted(name)
  contract.test_sum_and_its_gradient_with_respect_to_everything(37, 53, d, None, one_set, True, rng)


@pytest.mark.parametrize("method", ["difference", "gram"])
@pytest.mark.parametrize("d", [2, 20])
@pytest.mark.parametrize("name", ["mosaic", "triton"])
def test_methods(name, d, method, interpreted, rng):
  interpreted(name)
  p = contract.problem(rng, 37, 53, d)
  g = rng.normal(size=(37, 2)).astype(np.float32)
  value, gradients = contract.expected_sum(p, g)
  out, back = jax.vjp(jax.jit(lambda p: contract.our_sum(p, method=method)), p)
  np.testing.assert_allclose(out, value, atol=64 * EPS * np.abs(value).max())
  for key in ("x", "y", "pair"):
    np.testing.assert_allclose(back(g)[0][key], gradients[key], atol=128 * EPS * np.abs(gradients[key]).max())


def test_the_numbers_that_rounding_would_spoil(interpreted, rng):
  """Points far from the origin, which products want centred; and a root whose slope is 5e5 at the diagonal."""
  for name in ("mosaic", "triton"):
    interpreted(name)
    x = (rng.normal(size=(21, 20)) + 1000).astype(np.float32)
    kernel = np.exp(-oracle.edm(x) / 20)
    out, back = jax.vjp(jax.jit(lambda x: fused_sum(lambda D: jnp.exp(-D / 20), x, method="gram")), x)
    np.testing.assert_allclose(out, kernel.sum(1), rtol=1e-3)  # without the centre nothing is left of D
    expected = oracle.vjp(-kernel / 20, x)[0]
    np.testing.assert_allclose(back(jnp.ones(21))[0], expected, atol=1e-3 * np.abs(expected).max())
    x = rng.normal(size=(21, 20)).astype(np.float32)
    steep = jax.jit(jax.grad(lambda x: fused_sum(lambda D: jnp.sqrt(D + 1e-12), x, method="gram").sum()))(x)
    distances = oracle.distances(x)
    expected = oracle.vjp(0.5 / (distances + np.eye(21)) - 0.5 * np.eye(21), x)[0]
    np.testing.assert_allclose(steep, expected, atol=64 * EPS * np.abs(expected).max())


SAME = {
  "batches": lambda rng: contract.test_batches(None, rng),
  "the diagonal": lambda rng: [
    contract.test_the_diagonal_of_one_set_is_zero_for_points_at_infinity_too(operands, method)
    for operands in ((), (np.ones((9, 1)),))
    for method in ("difference", "gram")
  ],
  "missing points": contract.test_what_is_missing_has_no_derivative_of_its_own,
  "nothing, and one": lambda rng: (
    [contract.test_empty_and_single(*s) for s in ((0, 4), (4, 0), (0, 0), (1, 1))]
    + [np.testing.assert_equal(fused_sum(lambda D: D, jnp.ones((0, 4, 3))).shape, (0, 4))]
  ),
  "range of exponents": lambda rng: [contract.test_logsumexp_over_any_range(s, rng) for s in (1e-3, 1.0, 1e4, 1e30)],
  "minus infinity": lambda rng: contract.test_a_row_of_minus_infinity(),
  "no weight": lambda rng: contract.test_what_has_no_weight_does_not_set_the_scale(),
  "any weight": lambda rng: contract.test_weights_of_any_size_set_the_scale(),
}


@pytest.mark.parametrize("what", SAME)
def test_what_xla_bodies_promise(what, interpreted, rng):
  interpreted(("mosaic", "triton")[list(SAME).index(what) % 2])
  SAME[what](rng)


def energy(x, y=None, method=None):
  return fused_sum(lambda D: jnp.exp(-D), x, y, method=method, block_size=3)


def soft_minimum(x, y=None, method=None):
  return fused_logsumexp(lambda D: -2 * D, x, y, method=method, block_size=3)


# Points that the compiler spreads, and a shard_map that checks, are refused; see below.
MODES = [*core.FIRST_ORDER, *core.SECOND_ORDER, "hessian", "third order, forward"]
MODES = [name for name in MODES if "shard" not in name]


@pytest.mark.parametrize("name", MODES)
def test_every_transformation(name, interpreted):
  """JAX never differentiates a kernel: what is not a value or a gradient runs by XLA, and is right in every mode."""
  index = MODES.index(name)
  f = (energy, soft_minimum)[index % 3 == 0]
  naive = contract.NAIVE[contract.energy if f is energy else contract.soft_minimum]
  interpreted(("mosaic", "triton")[index % 2])
  core.check(f, core.ALL[name], [(8, 3), (5, 3)][: 1 + index // 2 % 2], jnp.float32, None, jitted=True, naive=naive)


@pytest.mark.parametrize("one_set", [False, True], ids=["two sets", "one set"])
@pytest.mark.parametrize("f", [fused_sum, fused_logsumexp])
@pytest.mark.parametrize("name", ROUTES)
def test_what_is_missing_reaches_nothing(name, f, one_set, interpreted, rng):
  interpreted(name)
  n, m = 21, 21 if one_set else 35
  here = rng.random(n) < 0.7
  across = here if one_set else rng.random(m) < 0.7
  full = {"x": rng.normal(size=(n, 3)), "y": rng.normal(size=(m, 3)), "T": rng.normal(size=(n, m)), "v": rng.random(m)}
  full = {key: a.astype(np.float32) for key, a in full.items()}
  short = {"x": full["x"][here], "y": full["y"][across], "T": full["T"][here][:, across], "v": full["v"][across]}
  full["x"][~here], full["y"][~across], full["v"][~across] = np.nan, np.inf, np.nan
  full["T"][~here], full["T"][:, ~across] = np.nan, np.nan

  def loss(p, theta, **masks):
    vector = {"values" if f is fused_sum else "weights": p["v"]}
    out = f(lambda D, T: theta * T - D, p["x"], None if one_set else p["y"], p["T"], **vector, **masks)
    return jnp.where(jnp.isfinite(out), jnp.sin(out / n), 0).sum(), out

  masks = {"where": here} | ({} if one_set else {"where_y": across})
  (_, out), (bars, of_theta) = jax.jit(jax.value_and_grad(partial(loss, **masks), (0, 1), has_aux=True))(full, 0.5)
  (_, want), (expected, want_theta) = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(short, 0.5)
  np.testing.assert_array_equal(out[~here], 0 if f is fused_sum else -np.inf)
  np.testing.assert_allclose(out[here], want, atol=64 * EPS * np.abs(want).max())
  np.testing.assert_allclose(of_theta, want_theta, atol=EPS * m)
  for key, kept in (("x", (here,)), ("y", (across,)), ("v", (across,)), ("T", np.ix_(here, across))):
    a = np.array(bars[key])
    np.testing.assert_allclose(a[kept], expected[key], atol=64 * EPS * np.abs(expected[key]).max(initial=1))
    a[kept] = 0
    np.testing.assert_array_equal(a, 0, err_msg=key)


@pytest.mark.parametrize("name", ["mosaic", "triton"])
def test_dtypes(name, interpreted, either_precision, rng):
  """bfloat16 points and operands compute in float32; labels stay integers; predicates count."""
  interpreted(name)
  x = (rng.integers(-8, 8, size=(37, 3)) / 4).astype(jnp.bfloat16)
  column, labels = jnp.ones((1, 37), jnp.bfloat16), rng.integers(0, 3, 37).astype(np.int32)
  wide = np.asarray(x, np.float64)
  kernel = np.exp(-oracle.edm(wide)) * (labels[:, None] == labels)

  def run(x, column):
    return fused_sum(
      lambda D, a, p, q: jnp.where(p == q, a * jnp.exp(-D), 0), x, None, column, labels[:, None], labels[None, :]
    )

  out, back = jax.vjp(jax.jit(run), x, column)
  assert out.dtype == pairwise_sum(lambda D, a: a * D, x, None, column).dtype
  of_x, of_column = back(jnp.ones_like(out))
  assert (of_x.dtype, of_column.dtype) == (jnp.bfloat16, jnp.bfloat16)
  near = 2 * float(jnp.finfo(jnp.bfloat16).eps)
  np.testing.assert_allclose(np.asarray(out, np.float64), kernel.sum(1), rtol=near)
  np.testing.assert_allclose(np.asarray(of_column, np.float64)[0], kernel.sum(0), rtol=near)
  np.testing.assert_allclose(
    np.asarray(of_x, np.float64), oracle.vjp(-kernel, wide)[0], atol=near * kernel.sum(1).max()
  )
  counts = jax.jit(lambda x: fused_sum(lambda D: D < 1, x))(x)
  assert counts.dtype == jnp.dtype("int64" if either_precision else "int32")
  np.testing.assert_array_equal(counts, (oracle.edm(wide) < 1).sum(1))
  np.testing.assert_allclose(
    jax.jit(lambda x: fused_sum(lambda D: jnp.where(D < 1, 1.0, 0.0), x))(x), counts, rtol=near
  )


@pytest.mark.parametrize("name", ["mosaic", "triton"])
def test_numbers_of_any_type_that_f_closes_over(name, interpreted, either_precision):
  interpreted(name)
  x = jnp.arange(12.0, dtype=jnp.float32).reshape(6, 2) / 4
  near = oracle.edm(np.asarray(x)) < 3
  narrow, flag, integer = jnp.bfloat16(1.5), jnp.asarray(True), jnp.int32(2)
  run = lambda f, *operands: np.asarray(jax.jit(lambda x: fused_sum(f, x, None, *operands))(x), np.float64)  # noqa: E731
  np.testing.assert_array_equal(run(lambda D: narrow * (D < 3)), 1.5 * near.sum(1))
  np.testing.assert_array_equal(run(lambda D: jnp.where(flag, integer * (D < 3), 0.0)), 2.0 * near.sum(1))
  np.testing.assert_array_equal(run(lambda D, a, b: a * b * (D < 3), 0.5, 3), 1.5 * near.sum(1))
  slope = jax.jit(jax.grad(lambda x: fused_sum(lambda D: D < 3, x).astype(jnp.float32).sum()))(x)
  np.testing.assert_array_equal(slope, 0)  # of counts


@pytest.mark.parametrize("name", ["mosaic", "triton"])
def test_a_function_is_taken_apart(name, interpreted, rng):
  """What f closes over meets itself outside of the kernel, and has gradients there; arrays give their entries."""
  interpreted(name)
  x = rng.normal(size=(20, 3)).astype(np.float32)
  amplitudes, width = jnp.array([1.0, 0.5, 2.0]), 0.8

  def loss(amplitudes, width, x, sum_of):
    def mixture(D):
      return sum(amplitudes[k] * jax.nn.softplus(1 - D / (2 * width**2 * (k + 1))) for k in range(3))

    return jnp.cos(sum_of(mixture, x)).sum()

  kernels = jax.jit(jax.grad(partial(loss, sum_of=fused_sum), (0, 1, 2)))(amplitudes, width, x)
  plain = jax.jit(jax.grad(partial(loss, sum_of=pairwise_sum), (0, 1, 2)))(amplitudes, width, x)
  for a, e in zip(kernels, plain, strict=True):
    np.testing.assert_allclose(a, e, atol=256 * EPS * np.abs(e).max())
  apart = rule.taken_apart("f", lambda D: jnp.exp(-D / (2 * jnp.exp(amplitudes[1]) ** 2)), [])
  assert apart.operations == ("neg", "div", "exp")
  assert [a.shape for a in apart.numbers] == [(1, 1)]


@pytest.mark.parametrize("name", ["mosaic", "triton"])
def test_nan_without_weight_is_seen(name, interpreted):
  """As by XLA: what is not a number times no weight is not a number."""
  interpreted(name)
  x, a, w = jnp.ones((40, 2)), jnp.zeros((1, 40)).at[0, 3].set(jnp.nan), jnp.ones(40).at[3].set(0)
  for of in (fused_logsumexp, pairwise_logsumexp):
    assert bool(jnp.isnan(jax.jit(partial(of, lambda D, a: a - D, weights=w))(x, x, a)).all())


def test_transposed_as_a_linear_function_of_its_values(interpreted, rng):
  """What linear solvers ask for, of kernel matrices; and of the transpose, again."""
  interpreted("triton")
  x, y, v = (rng.normal(size=s).astype(np.float32) for s in ((20, 3), (30, 3), (30, 2)))
  kernel = np.exp(-oracle.edm(x, y))

  def times(v):
    return fused_sum(lambda D: jnp.exp(-D), x, y, values=v)

  def back(g):
    return jax.linear_transpose(times, v)(g)[0]

  g = kernel @ v.astype(np.float64)
  expected = kernel.T @ g
  np.testing.assert_allclose(jax.jit(back)(g.astype(np.float32)), expected, atol=64 * EPS * np.abs(expected).max())
  again = jax.jit(lambda v: jax.linear_transpose(back, g.astype(np.float32))(v)[0])(v)
  np.testing.assert_allclose(again, g, atol=64 * EPS * np.abs(g).max())


def test_every_product_is_in_full_precision():
  pairs = sweeps.Pairs("f", (), jnp.float32, lambda D: jnp.exp(-D), "gram", False, False)
  x, v = jnp.ones((300, 20)), jnp.ones((300, 3))
  z = sweeps.Arrays(None, x, x, None, None, v, ())
  for route in ("mosaic", "triton"):
    on = hardware.On(route)
    pull = partial(sweeps.pull, pairs, on, wanted=sweeps.Arrays(None, True, True, None, None, True, ()))
    for f, args in ((partial(sweeps.total, pairs, on), (z,)), (lambda z, g: pull(z, g), (z, v))):  # noqa: B023
      dots = [e for e in equations(jax.make_jaxpr(f)(*args).jaxpr) if e.primitive is jax.lax.dot_general_p]
      assert len(dots) >= 2
      for dot in dots:
        assert dot.params["precision"] == (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
        assert all(v.aval.dtype == np.float32 for v in (*dot.invars, *dot.outvars))


# Many devices


def test_on_each_of_several_devices(interpreted, rng):
  interpreted("triton")
  x, y = (rng.normal(size=(n, 3)).astype(np.float32) for n in (24, 16))
  theta = jnp.float32(0.7)

  def loss(theta, x, y=None, **options):
    return jnp.cos(pairwise_sum(lambda D: jnp.exp(-theta * D), x, y, **options)).sum()

  def agree(actual, expected):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
      np.testing.assert_allclose(a, e, atol=64 * EPS * (1 + np.abs(e).max()))

  one_set = jax.value_and_grad(loss, (0, 1))(theta, x)
  two_sets = jax.value_and_grad(loss, (0, 1, 2))(theta, x, y)
  mesh = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:4])
  with jax.set_mesh(mesh):
    rows, whole = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in (("i",), ()))
    near, far = jax.device_put(x, rows), jax.device_put(y, whole)
    fixed = partial(loss, 0.7, implementation="pallas")
    agree(jax.jit(jax.value_and_grad(fixed))(near), (one_set[0], one_set[1][1]))
    agree(jax.jit(jax.value_and_grad(fixed, (0, 1)))(near, far), (two_sets[0], two_sets[1][1:]))
    agree(jax.jit(jax.value_and_grad(fixed))(jax.device_put(x, whole)), (one_set[0], one_set[1][1]))
    with pytest.raises(ValueError, match="f must not close over what lies on the Explicit axes"):
      jax.jit(loss, static_argnames="implementation")(jax.device_put(theta, whole), near, implementation="pallas")
  ring = partial(loss, axis_name="i", implementation="pallas")
  mesh = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
  with jax.set_mesh(mesh):
    spread = [jax.device_put(a, NamedSharding(mesh, PartitionSpec("i"))) for a in (x, y)]
    agree(jax.jit(jax.value_and_grad(ring, (0, 1)))(theta, spread[0]), one_set)
    agree(jax.jit(jax.value_and_grad(ring, (0, 1, 2)))(theta, *spread), two_sets)
    with pytest.raises(ValueError, match=r"points must not be spread by the compiler.*Auto axes {'i': 4}"):
      jax.jit(partial(loss, implementation="pallas"))(theta, spread[0])


# Lowered, and compiled, for what is not there


def program(one_set, form, kind, order):
  """A loss with everything in it, as a function of points, an operand of pairs, values and a parameter."""

  def loss(x, y, pair, v, theta, mask):
    f = lambda D, a: a * jnp.exp(-theta * safe_root(D))  # noqa: E731
    second, extra = (None if one_set else y), {"values": v} if kind == "sum" else {"weights": v[:, 0]}
    reduce = fused_sum if kind == "sum" else fused_logsumexp
    return jnp.sin(reduce(f, x, second, pair, method=form, where=mask, **extra)).sum()

  gradient = jax.grad(loss, (0, 1, 2, 3, 4))
  if order == 0:
    return loss
  if order == 1:
    return gradient
  return lambda *z: jax.jvp(lambda x: gradient(x, *z[1:]), (z[0],), (z[0],))[1]


def arguments(n, m, d, k=2):
  shapes = [(n, d), (m, d), (n, m), (m, k), ()]
  return [*(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes), jax.ShapeDtypeStruct((n,), bool)]


def h100():
  """From 0.11 on JAX wants to know the GPU when it lowers a kernel for one."""
  if jax.__version_info__ < (0, 11):
    return contextlib.nullcontext()
  device = AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=None, platform="cuda")
  return use_abstract_mesh(AbstractMesh((1,), ("i",), abstract_device=device))


def lowered(f, args, platforms):
  with h100() if "cuda" in platforms else contextlib.nullcontext():
    return jax.jit(f).trace(*args).lower(lowering_platforms=platforms).as_text()


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("kind", ["sum", "logsumexp"])
@pytest.mark.parametrize(
  ("n", "m", "d", "form"),
  [
    (100, 70, 1, None),
    (1000, 300, 3, None),
    (129, 1000, 20, "difference"),
    (128, 128, 64, None),
    (65, 300, 257, "gram"),
  ],
)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_lowered(platform, n, m, d, form, kind, order):
  one_set = n == m
  text = lowered(program(one_set, form, kind, order), arguments(n, m, d), (platform,))
  kernels = set(re.findall(r"edm_(?:total|scaled|pull_\w+)\b", text))
  values, gradients = {"edm_total" if kind == "sum" else "edm_scaled"}, {"edm_pull_rows", "edm_pull_columns"}
  assert kernels == values | (gradients if order else set())
  assert ("tpu_custom_call" in text) == (platform == "tpu")
  assert ("triton" in text) == (platform == "cuda")


def test_the_platform_is_chosen_when_a_program_is_lowered():
  """One traced program for both; and the plain one where nothing is said."""
  x = jax.ShapeDtypeStruct((300, 3), jnp.float32)
  with h100():
    unstable = [export.DisabledSafetyCheck.custom_call(name) for name in ("__gpu$xla.gpu.triton", "tpu_custom_call")]
    both = export.export(jax.jit(energy), platforms=PLATFORMS, disabled_checks=unstable)(x).mlir_module()
  assert "tpu_custom_call" in both
  assert "triton" in both
  for platform in PLATFORMS:
    assert "custom_call" not in lowered(lambda x: pairwise_sum(lambda D: jnp.exp(-D), x), (x,), (platform,))


def test_the_gradient_of_a_symmetric_matrix_is_one_sweep():
  x = jax.ShapeDtypeStruct((300, 3), jnp.float32)
  text = lowered(jax.grad(lambda x: energy(x).sum()), (x,), ("tpu",))
  assert "edm_pull_rows" in text
  assert "edm_pull_columns" not in text


def test_routes(monkeypatch):
  """The same from the oldest JAX that is supported to the newest; a later one may lack Triton."""
  assert hardware.ROUTES == {"tpu": "mosaic", "cuda": "triton"}
  assert tuple(hardware.ROUTES) == rule.PLATFORMS
  monkeypatch.delitem(hardware.ROUTES, "cuda")
  with pytest.raises(ValueError, match=r"has kernels for tpu, with jax .* Got a program for cuda"):
    lowered(energy, (jnp.ones((8, 3)),), ("cuda",))


def gpu(name, capability, shared_per_block, shared_per_core, cores):
  """What XLA wants to know of a GPU that is not here: from the makers' data sheets."""
  return "cuda", {
    "topology": "1x1x1",
    "target_config": f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 threads_per_core_limit: 2048
  shared_memory_per_block_optin: {shared_per_block} shared_memory_per_core: {shared_per_core} core_count: {cores}
  fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84929347584
  cuda_compute_capability {{ {capability} }} registers_per_core_limit: 65536 registers_per_block_limit: 65536
}}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 7 }} runtime_version {{ major: 12 minor: 8 }}
device_description_str: "{name}"
""",
  }


COMPILERS = {"tpu": "libtpu", "cuda": "jax_cuda12_plugin"}  # packages
DEVICES = {
  "TPU v4": ("tpu", {"topology_name": "v4:2x2x1"}),
  "TPU v5e": ("tpu", {"topology_name": "v5e:2x2"}),
  "TPU v5p": ("tpu", {"topology_name": "v5p:2x2x1"}),
  "TPU v6e": ("tpu", {"topology_name": "v6e:2x2"}),
  "TPU 7x": ("tpu", {"topology_name": "tpu7x:2x2x1"}),
  "A100": gpu("NVIDIA A100-SXM4-80GB", "major: 8 minor: 0", 166912, 167936, 108),
  "L4": gpu("NVIDIA L4", "major: 8 minor: 9", 101376, 102400, 58),
  "H100": gpu("NVIDIA H100 80GB HBM3", "major: 9", 232448, 233472, 132),
  "B200": gpu("NVIDIA B200", "major: 10", 232448, 233472, 148),
}


def mesh_of(name, monkeypatch):
  """One device that is not here."""
  platform, target = DEVICES[name]
  if importlib.util.find_spec(COMPILERS[platform]) is None:
    pytest.skip(f"needs the package {COMPILERS[platform]}")
  monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
  monkeypatch.setenv("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
  return jax.sharding.Mesh(topologies.get_topology_desc(platform=platform, **target).devices[:1], ("i",))


def compiled(f, args, mesh):
  device = NamedSharding(mesh, PartitionSpec())
  with use_abstract_mesh(mesh.abstract_mesh):
    return jax.jit(f).lower(*(jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=device) for a in args)).compile()


@pytest.mark.parametrize(("n", "d"), [(2**17, 3), (2**15, 64), (2**13, 257), (2**13, 2048)])
@pytest.mark.parametrize("name", ["TPU v5e", "H100"])
def test_compiled_for_a_device_that_is_not_here(name, n, d, monkeypatch):
  """Memory by the compiler's own accounting: a few times the points; and of the XLA bodies nothing is left."""
  mesh = mesh_of(name, monkeypatch)

  def loss(x, y, theta):
    return jnp.sin(fused_sum(lambda D: jnp.exp(-theta * D), x, y)).sum()

  args = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((n, d), (n, d), ())]
  for f, kernels in ((loss, 1), (jax.value_and_grad(loss, (0, 1, 2)), 3)):
    executable = compiled(f, args, mesh)
    assert executable.memory_analysis().temp_size_in_bytes < 8 * (2 * n * (max(d, 8) + 4) * 4)
    text = executable.as_text()
    assert "while(" not in text
    if DEVICES[name][0] == "tpu":
      assert len(re.findall(r'custom_call_target="tpu_custom_call"', text)) == kernels


@pytest.mark.parametrize("kind", ["sum", "logsumexp"])
@pytest.mark.parametrize(("d", "form"), [(3, None), (20, "difference"), (20, None)])
@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.usefixtures("one_precision")
def test_compiled_with_everything_in_it(name, d, form, kind, monkeypatch):
  mesh = mesh_of(name, monkeypatch)
  compiled(program(False, form, kind, 1), arguments(1000, 300, d), mesh)


@pytest.mark.parametrize("d", [3, 64])
@pytest.mark.parametrize(("name", "column"), [("TPU v5e", 2), ("H100", 3)])
def test_the_memory_in_the_documents_is_what_compilers_say(name, column, d, monkeypatch):
  mesh = mesh_of(name, monkeypatch)
  text = (Path(__file__).parents[1] / "docs" / "kernels.md").read_text(encoding="utf-8")
  written = float(re.search(rf"^\| d={d} \|.*$", text, re.MULTILINE)[0].split("|")[column + 1])
  args = [jax.ShapeDtypeStruct((1_000_000, d), jnp.float32)] * 2
  executable = compiled(jax.value_and_grad(lambda *z: fused_sum(lambda D: jnp.exp(-D), *z).sum(), (0, 1)), args, mesh)
  np.testing.assert_allclose(executable.memory_analysis().temp_size_in_bytes / 2**20, written, atol=1, rtol=0.05)


# The benchmark that waits for a device


@pytest.mark.parametrize("d", [3, 16])
def test_the_benchmark_measures_and_finds_what_is_wrong(d, interpreted, monkeypatch):
  from benchmarks import kernels

  interpreted("triton")
  monkeypatch.setattr(kernels, "medians", lambda sides, least_rounds: dict.fromkeys(sides, 1.0))
  monkeypatch.setattr(kernels, "SIDES", (16,))
  rates, before = {"exponentials": 1e9, "additions": 1e9, "products": 1e9}, {"dense": 1.0}
  result = kernels.measure(300, d, True, rates, before)
  assert {row["against"] for row in result["rows"]} >= {"XLA", "limit"}
  assert result["left out, s"] == {"dense": 90_000.0}
  assert before["jax_edm"] == 1 / 90_000
  assert [row["tile"] for row in kernels.sweep(300, d, "triton")] == ["(16, 16, 4)", "(16, 16, 8)"]
  assert (hardware.SIDES["triton"], hardware.WARPS) == ((16, 32), 4)
  with pytest.raises(SystemExit, match="wrong, by"):
    kernels.check("half", 300, d, lambda: jnp.zeros(300))


def test_the_benchmark_says_that_there_is_no_device(monkeypatch, capsys):
  from benchmarks import kernels

  monkeypatch.setattr("sys.argv", ["kernels"])
  assert kernels.main() == 1
  assert "kernels are for GPUs (CUDA) and TPUs" in capsys.readouterr().err


# Bad input


@jax.custom_vjp
def without_forward_mode(D):
  return jnp.tanh(D)


without_forward_mode.defvjp(lambda D: (jnp.tanh(D), D), lambda D, g: (g,))

BAD = {
  "a custom_vjp": (
    ValueError,
    "f must have forward mode. Got a function with a jax.custom_vjp.*jax.custom_jvp",
    jax.grad(lambda x: fused_sum(without_forward_mode, x).sum()),
  ),
  "a name": (
    ValueError,
    'pairwise_sum: implementation must be None, "xla" or "pallas". Got \'cuda\'',
    lambda x: pairwise_sum(lambda D: D, x, implementation="cuda"),
  ),
  "this platform": (
    ValueError,
    'pairwise_logsumexp: .*has kernels for tpu and cuda, with jax .*. Got a program for cpu. Take implementation="xla"',
    lambda x: fused_logsumexp(lambda D: D, x),
  ),
  "an array": (
    ValueError,
    r"f may close over numbers.*array of shape \(4,\) that meets D as a whole.*Python loop",
    lambda x: fused_sum(lambda D: jnp.interp(D, jnp.arange(4.0), jnp.arange(4.0)), x),
  ),
  "rows": (
    ValueError,
    "f must be a function of one pair, too. Got ValueError for scalars",
    lambda x: fused_sum(lambda D: jnp.sort(D, 1), x),
  ),
  "shape": (ValueError, "f must be elementwise", lambda x: fused_sum(lambda D: jnp.stack([D, D]), x)),
  "narrow integers": (
    TypeError,
    "numbers must be booleans, int32, or floating.*Got dtype uint8",
    lambda x: fused_sum(lambda D, a: a * D, x, None, jnp.ones((4, 1), jnp.uint8)),
  ),
  "sums of integers": (
    TypeError,
    "sums must be of floating numbers, or count where f is true. Got sums of dtype int32",
    lambda x: fused_sum(lambda D: D < 1, x, values=jnp.ones(4, jnp.int32)),
  ),
  "complex": (
    TypeError,
    "numbers must be booleans, int32, or floating and of 32 bits at most. Got dtype complex64",
    lambda x: fused_sum(lambda D, a: jnp.real(a) * D, x, None, 1j),
  ),
}


test_bad_input = refusals(BAD)


@pytest.mark.usefixtures("double_precision")
def test_64_bits_are_refused():
  with pytest.raises(TypeError, match=r"of 32 bits at most. Got dtype float64"):
    jax.jit(energy)(jnp.ones((4, 3)))
  with pytest.raises(TypeError, match=r"of 32 bits at most. Got dtype int64"):
    fused_sum(lambda D, a: a * D, jnp.ones((4, 3), jnp.float32), None, jnp.ones((4, 1), int))


OPERATIONS = {"tpu": (jax.scipy.special.i0e, "bessel_i0e"), "cuda": (jax.scipy.special.gammaln, "lgamma")}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_operation_that_the_kernel_language_lacks_is_named(platform):
  f, operation = OPERATIONS[platform]
  message = rf"pairwise_sum: .*Pallas can lower for {platform}. Got .*{operation}.*Take implementation=\"xla\""
  with pytest.raises(ValueError, match=message):
    lowered(lambda x: fused_sum(lambda D: f(D + 1), x), (jnp.ones((4, 3)),), (platform,))


def test_what_only_the_compiler_of_triton_refuses_is_refused_before():
  choose = lambda D: jax.lax.select_n(D.astype(jnp.int32) % 3, D, 2 * D, 3 * D)  # noqa: E731
  with pytest.raises(ValueError, match=r"no select_n of integers, of a kernel with .*rem"):
    lowered(lambda x: fused_sum(choose, x), (jnp.ones((4, 3)),), ("cuda",))
  with pytest.raises(ValueError, match="257 columns of values, more than 256"):
    lowered(lambda x: fused_sum(lambda D: D, x, values=jnp.ones((4, 257))), (jnp.ones((4, 3)),), ("cuda",))


def test_more_coordinates_than_a_tpu_has_room_for():
  with pytest.raises(ValueError, match="4096 coordinates, more than 2048"):
    lowered(energy, (jnp.ones((8, 4096)),), ("tpu",))
