"""What the compiled program is: whose rule it runs, how precise its products are, what it writes, where it can go."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from conftest import equations
from jax_edm._core import derivatives
from jax_edm import distances, edm, edm_vjp

N = 256


def gradient(f, **options):
  return jax.grad(lambda *z: jnp.sin(f(*z, **options)).sum())


def arrays(sets, d, n=N):
  return [jnp.ones((n, d), jnp.float32) + i + jnp.arange(n, dtype=jnp.float32)[:, None] for i in range(sets)]


@pytest.mark.parametrize("f", [edm, distances])
@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize("d", [3, 20])
def test_the_gradient_runs_the_hand_derived_rule(d, sets, f):
  """Its kernel is in the compiled program, and no product, nor any row sum of an n x n array, is from elsewhere."""
  text = jax.jit(gradient(f)).lower(*arrays(sets, d)).compile().as_text()
  assert "edm_adjoint" in text
  assert "edm_bilinear" not in text  # the tangent, which JAX would have transposed
  products = [line for line in text.splitlines() if re.search(r"= \S+ dot\(|__ynn_fusion", line) and "op_name" in line]
  assert products
  for line in products:
    assert "edm_adjoint" in line or "edm_squared" in line, line


def test_a_custom_vjp_function_supplies_the_rule(monkeypatch):
  """The reverse rule is that of ``jax.custom_vjp``: another one put in its place is what ``jax.grad`` returns."""
  x = jnp.arange(6.0).reshape(3, 2)
  assert isinstance(derivatives.reverse_edm, jax.custom_vjp)

  @partial(jax.custom_vjp, nondiff_argnums=(0,))
  def other(form, z):
    return derivatives._kernels.squared(z, form)

  other.defvjp(lambda form, z: (other(form, z), z), lambda form, z, g: (tuple(p + 7 for p in z),))
  monkeypatch.setattr(derivatives, "reverse_edm", other)
  replaced = jax.grad(lambda z: derivatives.edm("fast", z).sum())((x,))
  np.testing.assert_array_equal(replaced[0], x + 7)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize("n", [20, N])
def test_every_product_is_in_full_precision(n, sets, dtype):
  """TF32 on a GPU and bfloat16 on a TPU are what JAX takes by default; a CPU cannot show it, the jaxpr can."""
  z = [a.astype(dtype) for a in arrays(sets, 20, n)]
  hvp = lambda *z: jax.jvp(gradient(edm), z, z)[1]  # noqa: E731
  counts = []
  for f in (edm, distances, gradient(edm), gradient(distances), hvp):
    dots = [e for e in equations(jax.make_jaxpr(f)(*z).jaxpr) if e.primitive is lax.dot_general_p]
    counts.append(len(dots))
    for dot in dots:
      assert dot.params["precision"] == (lax.Precision.HIGHEST, lax.Precision.HIGHEST)
      assert all(v.aval.dtype == np.float32 for v in (*dot.invars, *dot.outvars))
      assert dot.params["preferred_element_type"] in (None, np.float32)
  assert min(counts) > 0


@pytest.mark.parametrize("d", [3, 20, 128])
@pytest.mark.parametrize("sets", [1, 2])
def test_the_vjp_for_a_given_cotangent_makes_no_matrix(sets, d):
  x, *y = arrays(sets, d, 1024)
  g = jnp.ones((1024, 1024))
  for pull in (lambda g, *z: jax.vjp(edm, *z)[1](g), lambda g, x, *y: edm_vjp(x, g, *y)):
    memory = jax.jit(pull).lower(g, x, *y).compile().memory_analysis()
    # the points with ones, and the two products: a few n x (d + 1); for one set a block of 128 rows, too
    assert memory.temp_size_in_bytes < (6 * (d + 4) + (2 - sets) * 2 * 128) * 1024 * 4 < 2 * g.nbytes
    assert memory.temp_size_in_bytes < g.nbytes


def test_the_gradient_of_a_loss_writes_the_cotangent_and_no_more():
  x, target = arrays(1, 3, 1024)[0], jnp.ones((1024, 1024))
  loss = jax.jit(jax.grad(lambda x: ((edm(x) - target) ** 2).sum()))
  assert loss.lower(x).compile().memory_analysis().temp_size_in_bytes < 1.2 * target.nbytes


@pytest.mark.parametrize("f", [edm, distances])
@pytest.mark.parametrize("method", [None, "difference", "gram"])
def test_export_for_every_platform(method, f):
  """Value and gradient, from whatever machine this runs on, for all platforms in one program and for each alone."""
  x = arrays(1, 9, 37)[0]
  platforms = ("cpu", "cuda", "rocm", "tpu")
  program = jax.jit(lambda x: (f(x, method=method), gradient(f, method=method)(x)))
  for target in (platforms, *((p,) for p in platforms)):
    exported = export.export(program, platforms=target)(x)
    assert exported.platforms == target
    assert export.deserialize(exported.serialize()).platforms == target
  everywhere = export.export(program, platforms=platforms)(x)
  if jax.default_backend() == "cpu":
    for a, b in zip(everywhere.call(x), program(x), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-3)
