"""Kernels for GPUs and TPUs, without either: lowered for both, compiled for absent devices, and what is refused.

Their numbers are those of the contract: ``test_sums`` and the files beside it run them interpreted.
"""

import contextlib
import importlib.util
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.experimental import topologies
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, NamedSharding, PartitionSpec, use_abstract_mesh

import definitions
import oracle
from benchmarks import kernels
from conftest import devices, equations, refusals, x64
from implementations import backend, called_by, interpreted, with_memory_of_a_tpu
from jax_edm import pairwise_logsumexp, pairwise_sum, safe_root
from jax_edm._pairwise import api
from jax_edm._pairwise.pallas import rule
from transformations import quick_jit

EPS = float(np.finfo(np.float32).eps)
PLATFORMS = ("tpu", "cuda")
fused_sum = partial(pairwise_sum, implementation="pallas")
fused_logsumexp = partial(pairwise_logsumexp, implementation="pallas")


def energy(x, y=None, method=None):
  return fused_sum(lambda D: jnp.exp(-D), x, y, method=method, block_size=3)


TPU_CASES = {
  "two sets, d=3": ("two sets", 3, None),
  "a symmetric set without its diagonal, d=20": ("symmetric, no diagonal", 20, None),
  "one set, d=20, differences": ("one set", 20, "difference"),
  "a symmetric set, d=100": ("one symmetric set", 100, None),
}


@pytest.mark.parametrize(
  "case", [*list(TPU_CASES)[:2], *(pytest.param(c, marks=pytest.mark.slow) for c in list(TPU_CASES)[2:])]
)
def test_with_the_memory_of_a_tpu(case, rng):
  """Nothing that was not written is read, and nothing is written twice."""
  variant, d, method = TPU_CASES[case]
  p = definitions.problem(rng, 37, 53, d)
  own = definitions.of_variant(p, variant)
  with with_memory_of_a_tpu():
    run = quick_jit(partial(definitions.sum_and_cotangents, fused_sum, variant=variant, method=method))
    actual = run(own, np.float32(definitions.THETA), p["g"])
  definitions.agree(actual, definitions.expected(own, p["g"], variant))


@pytest.mark.slow
@pytest.mark.parametrize("sets", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_what_is_missing_with_the_memory_of_a_tpu(sets, rng):
  x, y, w = rng.normal(size=(21, 3)).astype("f"), rng.normal(size=(35, 3)).astype("f"), rng.random(35).astype("f")
  here, here_y = np.arange(21) % 4 != 2, np.arange(35) % 3 != 0
  if sets == 1:
    y, w, here_y = x, w[:21], here
  exponents = -oracle.edm(x[here], y[here_y]) + np.log(w[here_y])
  expected = np.log(np.exp(exponents).sum(1))
  softmax = np.exp(exponents - expected[:, None])
  x[~here], y[~here_y], w[~here_y] = np.nan, np.inf, np.nan
  masks = {"where": here} | ({"where_y": here_y} if sets == 2 else {})

  def logs(x, w):
    return fused_logsumexp(lambda D: -D, x, y if sets == 2 else None, weights=w, **masks)

  def run(x, w):
    out, back = jax.vjp(logs, x, w)
    return out, *back(jnp.where(here, 1.0, 0.0))

  with with_memory_of_a_tpu():
    out, of_x, of_w = quick_jit(run)(x, w)
  np.testing.assert_allclose(out[here], expected, rtol=1e-5)
  np.testing.assert_array_equal(out[~here], -np.inf)
  np.testing.assert_allclose(of_w[here_y], softmax.sum(0) / w[here_y], rtol=1e-4)
  np.testing.assert_array_equal(of_w[~here_y], 0)
  wanted = oracle.vjp(-softmax, x[here], None if sets == 1 else y[here_y])[0]
  np.testing.assert_allclose(of_x[here], wanted, atol=1e-5 * np.abs(wanted).max())
  np.testing.assert_array_equal(of_x[~here], 0)


@pytest.mark.slow
def test_on_each_of_several_devices(rng):
  """Over Explicit axes, and around a ring over Auto ones; of one set and of two."""
  x, y = (rng.normal(size=(n, 3)).astype(np.float32) for n in (24, 16))
  theta = np.float32(0.7)

  def loss(theta, x, y=None, **options):
    return jnp.cos(pairwise_sum(lambda D: jnp.exp(-theta * D), x, y, **options)).sum()

  def agree(actual, expected):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
      np.testing.assert_allclose(a, e, atol=64 * EPS * (1 + np.abs(e).max()))

  def both(**options):
    """With respect to theta, and to the points."""
    of = jax.value_and_grad(partial(loss, **options), (0, 1, 2))
    return lambda x, y: (of(theta, x, y), jax.value_and_grad(partial(loss, **options), (0, 1))(theta, x))

  two_sets, one_set = quick_jit(both())(x, y)
  fixed = partial(loss, theta, implementation="pallas")
  with interpreted("triton"):
    mesh = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Explicit,), devices=devices(4))
    with jax.set_mesh(mesh):
      rows, whole = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in (("i",), ()))
      near, far = jax.device_put(x, rows), jax.device_put(y, whole)
      of_fixed = quick_jit(lambda x, y: (jax.value_and_grad(fixed, (0, 1))(x, y), jax.value_and_grad(fixed)(x)))
      of_two, of_one = of_fixed(near, far)
      agree(of_two, (two_sets[0], two_sets[1][1:]))
      agree(of_one, (one_set[0], one_set[1][1]))
      agree(quick_jit(fixed)(jax.device_put(x, whole)), one_set[0])
      with pytest.raises(ValueError, match="f must not close over what lies on the Explicit axes"):
        jax.jit(partial(loss, implementation="pallas"))(jax.device_put(theta, whole), near)
    mesh = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,), devices=devices(4))
    with jax.set_mesh(mesh):
      spread = [jax.device_put(a, NamedSharding(mesh, PartitionSpec("i"))) for a in (x, y)]
      agree(quick_jit(both(axis_name="i", implementation="pallas"))(*spread), (two_sets, one_set))
      with pytest.raises(ValueError, match=r"points must not be spread by the compiler.*Auto axes {'i': 4}"):
        jax.jit(fixed)(spread[0])


def test_every_product_is_in_full_precision():
  def loss(x, v):
    return fused_sum(lambda D: jnp.exp(-D), x, x, values=v).sum()

  for route in ("mosaic", "triton"):
    with called_by(backend(route, interpret=False)):
      jaxpr = jax.make_jaxpr(jax.value_and_grad(loss, (0, 1)))(jnp.ones((300, 20)), jnp.ones((300, 3)))
    dots = [e for e in equations(jaxpr.jaxpr) if e.primitive is jax.lax.dot_general_p]
    assert len(dots) >= 6
    for dot in dots:
      assert dot.params["precision"] == (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
      assert all(v.aval.dtype == np.float32 for v in (*dot.invars, *dot.outvars))


# By default


def with_a_loop_of_its_own(D):
  return jnp.interp(D, jnp.arange(4.0), jnp.arange(4.0))


def test_a_gpu_takes_kernels_by_default(monkeypatch, rng):
  """Where one can be made; XLA does the rest, and what is lowered for another platform or for several devices."""
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(api, "LEAST_PAIRS", 8000)
  x = rng.normal(size=(100, 3)).astype(np.float32)
  gaussian = lambda D: jnp.exp(-D)  # noqa: E731

  def is_kernel(f, x=x, reduce=pairwise_sum, **options):
    return "edm_kernel" in str(jax.make_jaxpr(partial(reduce, f, **options))(x))

  assert is_kernel(gaussian)
  assert is_kernel(gaussian, reduce=pairwise_logsumexp)
  assert not is_kernel(gaussian, x[:80])
  assert not is_kernel(gaussian, np.ones((100, 65), np.float32))
  assert not is_kernel(gaussian, block_size=10)
  assert not is_kernel(gaussian, implementation="xla")
  assert not is_kernel(with_a_loop_of_its_own)
  assert not is_kernel(without_forward_mode)
  assert not is_kernel(lambda D, a: a * D, args=(1j,))
  with x64(True):
    assert not is_kernel(gaussian)
  monkeypatch.undo()
  loss = lambda x: pairwise_sum(gaussian, x).sum()  # noqa: E731
  expected = jax.value_and_grad(loss)(x)
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(api, "LEAST_PAIRS", 8000)
  for actual, right in zip(quick_jit(jax.value_and_grad(lambda x: loss(x)))(x), expected, strict=True):
    np.testing.assert_allclose(actual, right, atol=64 * EPS * np.abs(right).max())
  shape = (jax.ShapeDtypeStruct(x.shape, x.dtype),)
  if jax.__version_info__ < (0, 11):  # later ones want to know the GPU, from a mesh; and on a mesh there is no default
    assert "triton" in lowered(lambda x: loss(x), shape, ("cuda",))
    assert "triton" not in lowered(lambda x: pairwise_sum(jax.scipy.special.gammaln, x), shape, ("cuda",))
    over_two = NamedSharding(jax.sharding.Mesh(devices(2), ("i",)), PartitionSpec("i"))
    spread = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=over_two)
    assert "triton" not in lowered(lambda x: loss(x), (spread,), ("cuda",))


# Lowered, and compiled, for what is not there


def program(one_set, form, kind, order):
  """A loss with everything in it, as a function of points, an operand of pairs, values and a parameter."""

  def loss(x, y, pair, v, theta, mask):
    f = lambda D, a: a * jnp.exp(-theta * safe_root(D))  # noqa: E731
    second, extra = (None if one_set else y), {"values": v} if kind == "sum" else {"weights": v[:, 0]}
    reduce = fused_sum if kind == "sum" else fused_logsumexp
    return jnp.sin(reduce(f, x, second, args=(pair,), method=form, where=mask, **extra)).sum()

  if order == 1:
    return jax.value_and_grad(loss, (0, 1, 2, 3, 4))
  gradient = jax.grad(loss, (0, 1, 2, 3, 4))
  return lambda *z: jax.jvp(lambda x: gradient(x, *z[1:]), (z[0],), (z[0],))


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


SIZES = [
  (100, 70, 1, None, 1),
  (1000, 300, 3, None, 2),
  pytest.param(129, 1000, 20, "difference", 1, marks=pytest.mark.slow),
  pytest.param(128, 128, 64, None, 2, marks=pytest.mark.slow),
  (65, 300, 257, "gram", 1),
]


@pytest.mark.parametrize("kind", ["sum", "logsumexp"])
@pytest.mark.parametrize(("n", "m", "d", "form", "order"), SIZES)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_lowered(platform, n, m, d, form, order, kind):
  """The value and the gradient; and with an HVP, of which no part is a kernel of another kind."""
  text = lowered(program(n == m, form, kind, order), arguments(n, m, d), (platform,))
  kernels = set(re.findall(r"edm_(?:total|scaled|vjp_\w+)\b", text))
  assert kernels == {"edm_total" if kind == "sum" else "edm_scaled", "edm_vjp_rows", "edm_vjp_columns"}
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


@pytest.mark.parametrize("platform", PLATFORMS)
def test_narrow_arguments_and_numbers_of_a_logsumexp(platform):
  x, narrow = jax.ShapeDtypeStruct((300, 3), jnp.float32), jnp.ones(300, jnp.bfloat16)
  for f, options in (
    (lambda D: -D, {"weights": narrow}),
    (lambda D, a: -D * (2 * a), {"args": (narrow[:, None],)}),
    (lambda D: 2.0, {}),
  ):
    gradient = jax.grad(lambda x, f=f, options=options: fused_logsumexp(f, x, **options).sum())
    assert "edm_scaled" in lowered(gradient, (x,), (platform,))


def test_the_gradient_of_a_symmetric_matrix_is_one_sweep():
  x = jax.ShapeDtypeStruct((300, 3), jnp.float32)
  text = lowered(jax.grad(lambda x: energy(x).sum()), (x,), ("tpu",))
  assert "edm_vjp_rows" in text
  assert "edm_vjp_columns" not in text


def test_platforms(monkeypatch):
  """The same from the oldest JAX that is supported to the newest; a later one may lack Triton."""
  assert tuple(rule.BACKENDS) == PLATFORMS
  monkeypatch.delitem(rule.BACKENDS, "cuda")
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


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d"), [(2**17, 3), (2**15, 64), (2**13, 257), (2**13, 2048)])
@pytest.mark.parametrize("name", ["TPU v5e", "H100"])
def test_compiled_for_a_device_that_is_not_here(name, n, d, monkeypatch):
  """Memory by the compiler's own accounting: a few times the points; and of the XLA bodies nothing is left."""
  mesh = mesh_of(name, monkeypatch)

  def loss(x, y, theta):
    return jnp.sin(fused_sum(lambda D: jnp.exp(-theta * D), x, y)).sum()

  args = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((n, d), (n, d), ())]
  for f, count in ((loss, 1), (jax.value_and_grad(loss, (0, 1, 2)), 3)):
    executable = compiled(f, args, mesh)
    assert executable.memory_analysis().temp_size_in_bytes < 8 * (2 * n * (max(d, 8) + 4) * 4)
    text = executable.as_text()
    assert "while(" not in text
    if DEVICES[name][0] == "tpu":
      assert len(re.findall(r'custom_call_target="tpu_custom_call"', text)) == count


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sum", "logsumexp"])
@pytest.mark.parametrize(("d", "form"), [(3, None), (20, "difference"), (20, None)])
@pytest.mark.parametrize("name", DEVICES)
def test_compiled_with_everything_in_it(name, d, form, kind, monkeypatch):
  mesh = mesh_of(name, monkeypatch)
  compiled(program(False, form, kind, 1), arguments(1000, 300, d), mesh)


@pytest.mark.slow
@pytest.mark.parametrize("d", [3, 64])
@pytest.mark.parametrize(("name", "column"), [("TPU v5e", 2), ("H100", 3)])
def test_the_memory_in_the_documents_is_what_compilers_say(name, column, d, monkeypatch):
  mesh = mesh_of(name, monkeypatch)
  text = (Path(__file__).parents[2] / "docs" / "kernels.md").read_text(encoding="utf-8")
  written = float(re.search(rf"^\| d={d} \|.*$", text, re.MULTILINE)[0].split("|")[column + 1])
  args = [jax.ShapeDtypeStruct((1_000_000, d), jnp.float32)] * 2
  executable = compiled(jax.value_and_grad(lambda *z: fused_sum(lambda D: jnp.exp(-D), *z).sum(), (0, 1)), args, mesh)
  np.testing.assert_allclose(executable.memory_analysis().temp_size_in_bytes / 2**20, written, atol=1, rtol=0.05)


# The benchmark that waits for a device


@pytest.mark.slow
@pytest.mark.parametrize("d", [3, 16])
def test_the_benchmark_measures_and_finds_what_is_wrong(d, monkeypatch):
  if jax.default_backend() != "cpu":
    pytest.skip("interprets kernels, on a CPU")
  triton = backend("triton")
  monkeypatch.setitem(rule.BACKENDS, "cpu", triton)
  monkeypatch.setattr(kernels, "medians", lambda sides, least_rounds: dict.fromkeys(sides, 1.0))
  monkeypatch.setattr(kernels, "SIDES", (16,))
  monkeypatch.setattr(kernels, "WARPS", (4, 8))
  rates, before = {"exponentials": 1e9, "additions": 1e9, "products": 1e9}, {"dense": 1.0}
  key = 300, d, True
  programs = kernels.compiled({(key, name): kernels.lowered(f, *key) for name, f in kernels.formulas(300).items()})
  result = kernels.measure(key, kernels.sides_of(programs, key), rates, before)
  assert {row["against"] for row in result["rows"]} >= {"XLA", "limit"}
  assert result["left out, s"] == {"dense": 90_000.0}
  assert before["jax_edm"] == 1 / 90_000
  assert [row["tile"] for row in kernels.sweep(300, d, True, "cpu")] == ["(16, 16, 4)", "(16, 16, 8)"]
  assert rule.BACKENDS["cpu"] is triton
  with pytest.raises(SystemExit, match="wrong, by"):
    kernels.check("half", 300, d, lambda: jnp.zeros(300))


def test_the_benchmark_says_that_there_is_no_device(monkeypatch, capsys):
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
    lambda x: lowered(lambda x: fused_logsumexp(lambda D: D, x), (jnp.ones((4, 3)),), ("cpu",)),
  ),
  "an array": (
    ValueError,
    r"f may close over numbers.*array of shape \(4,\) that meets D as a whole.*Python loop",
    lambda x: fused_sum(lambda D: jnp.interp(D, jnp.arange(4.0), jnp.arange(4.0)), x),
  ),
  "rows": (
    TypeError,
    "f must return one number for each pair.*Got ValueError",
    lambda x: fused_sum(lambda D: jnp.sort(D, 1), x),
  ),
  "shape": (TypeError, "f must return one number for each pair", lambda x: fused_sum(lambda D: jnp.stack([D, D]), x)),
  "narrow integers": (
    TypeError,
    "numbers must be booleans, int32, or floating.*Got dtype uint8",
    lambda x: fused_sum(lambda D, a: a * D, x, args=(jnp.ones((4, 1), jnp.uint8),)),
  ),
  "sums of integers": (
    TypeError,
    "f must return a floating-point number, or a boolean, which counts. Got sums of dtype int32",
    lambda x: fused_sum(lambda D: D < 1, x, values=jnp.ones(4, jnp.int32)),
  ),
  "complex": (
    TypeError,
    "numbers must be booleans, int32, or floating and of 32 bits at most. Got dtype complex64",
    lambda x: fused_sum(lambda D, a: jnp.real(a) * D, x, args=(1j,)),
  ),
}


test_bad_input = refusals(BAD)


@pytest.mark.usefixtures("double_precision")
def test_64_bits_are_refused():
  with pytest.raises(TypeError, match=r"of 32 bits at most. Got dtype float64"):
    jax.jit(energy)(jnp.ones((4, 3)))
  with pytest.raises(TypeError, match=r"of 32 bits at most. Got dtype int64"):
    fused_sum(lambda D, a: a * D, jnp.ones((4, 3), jnp.float32), args=(jnp.ones((4, 1), int),))


OPERATIONS = {"tpu": (jax.scipy.special.i0e, "bessel_i0e"), "cuda": (jax.scipy.special.gammaln, "lgamma")}


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_operation_that_the_kernel_language_lacks_is_named(platform):
  f, operation = OPERATIONS[platform]
  message = rf"pairwise_sum: .*Pallas can lower for {platform}. Got .*{operation}.*Take implementation=\"xla\""
  with pytest.raises(ValueError, match=message):
    lowered(lambda x: fused_sum(lambda D: f(D + 1), x), (jnp.ones((4, 3)),), (platform,))


@pytest.mark.skipif(jax.__version_info__ < (0, 10), reason="sign does not depend on the TPU there")
def test_an_operation_that_depends_on_the_tpu():
  with pytest.raises(ValueError, match=r"the TPU must be known.* Got .*a kernel with sign in f. Lower it on a machine"):
    lowered(lambda x: fused_sum(jnp.sign, x), (jnp.ones((4, 3)),), ("tpu",))


def test_what_only_the_compiler_of_triton_refuses_is_refused_before():
  choose = lambda D: jax.lax.select_n(D.astype(jnp.int32) % 3, D, 2 * D, 3 * D)  # noqa: E731
  with pytest.raises(ValueError, match=r"no select_n of integers, of a kernel with .*rem"):
    lowered(lambda x: fused_sum(choose, x), (jnp.ones((4, 3)),), ("cuda",))
  with pytest.raises(ValueError, match="257 columns of values, more than 256"):
    lowered(lambda x: fused_sum(lambda D: D, x, values=jnp.ones((4, 257))), (jnp.ones((4, 3)),), ("cuda",))


def test_more_coordinates_than_a_tpu_has_room_for():
  with pytest.raises(ValueError, match="4096 coordinates, more than 2048"):
    lowered(energy, (jnp.ones((8, 4096)),), ("tpu",))
