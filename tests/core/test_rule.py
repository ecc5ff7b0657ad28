"""What the compiled program is: whose rule it runs, how precise its products are, what it writes, where it can go."""

import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from conftest import quick_jit
from jax_edm import distances, edm, edm_vjp
from jax_edm._core import derivatives, distance
from jax_edm._core.distance import Form

N = 256


def gradient(f, **options):
  return jax.grad(lambda *z: jnp.sin(f(*z, **options)).sum())


def arrays(sets, d, n=N):
  return [jnp.ones((n, d), jnp.float32) + i + jnp.arange(n, dtype=jnp.float32)[:, None] for i in range(sets)]


@pytest.mark.parametrize("f", [edm, distances])
@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize("d", [3, 20])
def test_the_gradient_runs_the_hand_derived_rule(d, sets, f):
  """Its array function is in the compiled program, and no product is from elsewhere."""
  text = quick_jit(gradient(f)).lower(*arrays(sets, d)).compile().as_text()
  assert "edm_adjoint" in text
  assert "edm_bilinear" not in text  # the tangent, which JAX would have transposed
  products = [line for line in text.splitlines() if re.search(r"= \S+ dot\(|__ynn_fusion", line) and "op_name" in line]
  assert products
  for line in products:
    assert "edm_adjoint" in line or "edm_squared" in line, line


@pytest.fixture
def another_rule(monkeypatch):
  """The reverse rule replaced by one that returns 7."""

  @partial(jax.custom_vjp, nondiff_argnums=(0,))
  def other(form, z):
    return distance.squared(form, z)

  other.defvjp(
    lambda form, z: (other(form, z), z),
    lambda form, z, g: (tuple(jax.tree.map(jnp.zeros_like, side)._replace(x=jnp.full_like(side.x, 7)) for side in z),),
  )
  monkeypatch.setattr(derivatives, "reverse_edm", other)
  jax.clear_caches()
  yield
  jax.clear_caches()


def test_a_custom_vjp_function_supplies_the_rule(another_rule):
  """The reverse rule is that of ``jax.custom_vjp``: another one put in its place is what ``jax.grad`` returns."""
  x = jnp.arange(6.0).reshape(3, 2)
  for method in (None, "difference", "gram"):
    reverse = jax.grad(lambda x: edm(x, method=method).sum())  # noqa: B023
    for bar in (reverse(x), jax.jit(reverse)(x), jax.vmap(reverse)(x[None])[0]):
      np.testing.assert_array_equal(bar, jnp.full_like(x, 7))
  np.testing.assert_array_equal(edm_vjp(x, jnp.ones((3, 3))), jnp.full_like(x, 7))


def test_the_rule_is_a_custom_vjp():
  """JAX has no forward mode of it; ``edm`` has."""
  assert isinstance(derivatives.reverse_edm, jax.custom_vjp)
  form, x = Form("difference", "difference"), jnp.ones((4, 3))
  with pytest.raises(TypeError, match="can't apply forward-mode"):
    jax.jvp(lambda x: derivatives.reverse_edm(form, distance.prepared(form, (x,))), (x,), (x,))
  assert jax.jvp(lambda x: derivatives.edm(form, (x,)), (x,), (x,))[1].shape == (4, 4)


@pytest.mark.parametrize(
  ("n", "sets", "dtype"),
  [(20, 1, "float32"), (20, 2, "bfloat16"), (N, 1, "float16"), (N, 1, "float32"), (N, 2, "float32")],
)
def test_every_product_is_in_full_precision(n, sets, dtype):
  """TF32 on a GPU and bfloat16 on a TPU are what JAX takes by default; a CPU cannot show it, the program can."""
  z = [a.astype(dtype) for a in arrays(sets, 20, n)]
  hvp = lambda *z: jax.jvp(gradient(edm), z, z)[1]  # noqa: E731
  for f in (edm, distances, gradient(edm), gradient(distances), hvp):
    products = re.findall(r"stablehlo\.dot_general.*", jax.jit(f).lower(*z).as_text())
    assert products
    for product in products:
      assert "precision = [HIGHEST, HIGHEST]" in product
      assert re.findall(r"x([a-z]+\d+)>", product) == ["f32"] * 3


def plain(x):
  squares = (x * x).sum(1)
  return squares[:, None] + squares[None] - 2 * jnp.dot(x, x.T, precision="highest")


def forward_over_reverse(loss):
  return lambda x, target: jax.jvp(lambda x: jax.grad(loss)(x, target), (x,), (x,))[1]


def reverse_over_reverse(loss):
  return lambda x, target: jax.grad(lambda z: (jax.grad(loss)(z, target) * x).sum())(x)


LOSSES = {
  "sum exp(-D)": lambda f: lambda x, target: jnp.exp(-f(x)).sum(),
  "squared stress": lambda f: lambda x, target: ((f(x) - target) ** 2).sum(),
}


def temporaries(f, *arguments):
  if jax.default_backend() != "cpu":
    pytest.skip("what a product needs for itself depends on the device")
  return jax.jit(f).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("d", [3, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("loss", LOSSES)
def test_models_take_no_more_memory_than_by_autodiff(loss, d):
  """By the accounting of the compiler, and of the product form, which has no third axis."""
  x, target = arrays(1, d, 1024)[0], jnp.ones((1024, 1024))
  ours, theirs = LOSSES[loss](edm), LOSSES[loss](plain)
  points = 8 * 1024 * (d + 4) * 4  # a few arrays of the size of the points, with ones, keys and squares
  for of_loss in (jax.value_and_grad, forward_over_reverse, reverse_over_reverse):
    assert temporaries(of_loss(ours), x, target) <= temporaries(of_loss(theirs), x, target) + points, of_loss.__name__


VARIANTS = {
  "`edm(x)`": (edm, np.float32),
  "`edm(x, where=...)`": (lambda x: edm(x, where=jnp.ones(1024, bool)), np.float32),
  '`edm(x, method="difference")`': (partial(edm, method="difference"), np.float32),
  "`edm(x)`, bfloat16": (edm, jnp.bfloat16),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_temporaries_of_masks_differences_and_16_bits(name):
  """As docs/transformations.md has them; a fifth of a matrix more is allowed, since compilers differ."""
  f, dtype = VARIANTS[name]
  text = (Path(__file__).parents[2] / "docs" / "transformations.md").read_text(encoding="utf-8")
  written = re.search(rf"^\| {re.escape(name)} \| (.*) \| (.*) \|$", text, re.MULTILINE).groups()
  x, target = arrays(1, 3, 1024)[0].astype(dtype), jnp.ones((1024, 1024), dtype)
  for loss, matrices in zip(LOSSES.values(), map(float, written), strict=True):
    assert temporaries(jax.value_and_grad(loss(f)), x, target) < (matrices + 0.2) * 2**22


def test_the_gradient_of_a_loss_writes_the_cotangent_and_no_more():
  x, target = arrays(1, 3, 1024)[0], jnp.ones((1024, 1024))
  assert temporaries(jax.grad(LOSSES["sum exp(-D)"](edm)), x, target) < 1.2 * target.nbytes


@pytest.mark.parametrize(("sets", "d"), [(1, 3), (1, 128), (2, 20)])
def test_the_vjp_for_a_given_cotangent_makes_one_matrix(sets, d):
  """The cotangent without the pairs that coincide, where no model makes it of the entries in the same program."""
  x, *y = arrays(sets, d, 1024)
  g = jnp.ones((1024, 1024))
  for pull in (lambda g, *z: jax.vjp(edm, *z)[1](g), lambda g, x, *y: edm_vjp(x, g, *y)):
    assert temporaries(pull, g, x, *y) < g.nbytes + 6 * (d + 4) * 1024 * 4


PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def values_and_gradients(methods):
  functions = [(f, method) for f in (edm, distances) for method in methods]
  return jax.jit(lambda x: [(f(x, method=method), gradient(f, method=method)(x)) for f, method in functions])


def test_export_for_every_platform():
  """From whatever machine this runs on, in one program."""
  x, program = arrays(1, 9, 37)[0], values_and_gradients([None, "difference", "gram"])
  exported = export.export(program, platforms=PLATFORMS)(x)
  again = export.deserialize(exported.serialize())
  assert exported.platforms == again.platforms == PLATFORMS
  if jax.default_backend() == "cpu":
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-3), again.call(x), program(x))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_export_for_one_platform(platform):
  exported = export.export(values_and_gradients(["gram"]), platforms=(platform,))(arrays(1, 9, 37)[0])
  assert export.deserialize(exported.serialize()).platforms == (platform,)
