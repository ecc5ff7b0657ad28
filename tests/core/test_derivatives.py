"""``edm`` and ``distances`` under every transformation of JAX, against a naive reference under the same one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import oracle
from conftest import quick_jit
from jax_edm import distances, edm, edm_jacobian
from jax_edm._core.distance import Form
from jax_edm._core.edm import choose_form
from transformations import ALL, FIRST_ORDER, Case, check_cases, naive_edm

# Both functions, one set and two, both precisions, and the four forms of ``choose_form``: products; differences of the
# points for the entries, and products for the gradient; differences all at once; differences in loops, of eight
# coordinates or points at a time.
PRODUCTS = Case(edm, ((8, 3), (5, 3)), jnp.float32, "gram")
MIXED = Case(edm, ((20, 3),), jnp.float64, None)
BROADCAST = Case(distances, ((8, 3),), jnp.float64, None)
DIFFERENCES = Case(distances, ((12, 9), (11, 9)), jnp.float32, "difference")
CASES = [PRODUCTS, MIXED, BROADCAST, DIFFERENCES]
SOME = [PRODUCTS, BROADCAST]

# All four of what is the least to ask; two of what takes longer to compile; one, in float64, of a third order.
FOUR = [*FIRST_ORDER, "forward over reverse", "reverse over forward", "reverse over reverse", "jacrev", "jacfwd"]
ONE = {
  "third order, forward": PRODUCTS._replace(dtype=jnp.float64),
  "third order, reverse": BROADCAST,
  "third order, mixed": MIXED,
}


def test_cases_are_of_all_forms():
  sizes = [(case.method, case.shapes[0][0], case.shapes[-1][0], case.shapes[0][1]) for case in CASES]
  gram, mixed, broadcast, difference = (choose_form(*size) for size in sizes)
  assert gram == Form("gram", "gram")
  assert mixed == Form("difference", "gram")
  assert broadcast == Form("broadcast", "broadcast")
  assert difference == Form("difference", "difference")


@pytest.mark.parametrize("name", ALL)
@pytest.mark.usefixtures("double_precision")
def test_every_transformation(name):
  cases = [ONE[name]] if name in ONE else CASES if name in FOUR else SOME
  if "first argument" in name:  # of one set it is the only one
    cases = [case for case in cases if len(case.shapes) == 2]
  check_cases(ALL[name], cases)


EAGER = ["value", "jvp", "vjp", "linear_transpose", "grad of vmap", "sharded jit", "forward over reverse"]


@pytest.mark.slow
@pytest.mark.parametrize(("f", "names"), [(edm, EAGER), (distances, ["vjp", "forward over reverse"])])
def test_float32_without_jit(f, names):
  """And without 64-bit types: what runs eagerly is compiled one operation at a time, and a primitive as a whole."""
  for name in names:
    check_cases(ALL[name], [Case(f, ((8, 3), (5, 3)), jnp.float32, "gram")], jit=lambda run: run)


REST = [(edm, "jvp"), (edm, "grad of vmap"), (distances, "forward over reverse")]


@pytest.mark.parametrize(
  ("f", "name"),
  [(edm, name) for name in ("value_and_grad", "forward over reverse")]
  + [(distances, "grad of vmap")]
  + [pytest.param(*case, marks=pytest.mark.slow) for case in REST],
)
def test_where_compilers_fuse(f, name):
  """Larger sets in float32, compiled as users compile."""
  shapes = [((64, 3),), ((96, 20),), ((37, 3), (53, 3)), ((37, 20), (53, 20))]
  check_cases(ALL[name], [Case(f, s, jnp.float32) for s in shapes], jax.jit)


@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize("f", [edm, distances])
def test_batches_of_96(f, sets, rng):
  """Sets of 32 in one vmap, jitted: where jax 0.10.2 is wrong by half of the result."""
  z = [rng.normal(size=(96, k, 3)) for k in (32, 21)[:sets]]
  g = rng.normal(size=(96, 32, (32, 21)[sets - 1]))
  methods = (None, "difference", "gram")

  @jax.jit
  def all_of_them(g, *z):
    def value_and_vjp(method):
      value, back = jax.vjp(jax.vmap(partial(f, method=method)), *z)
      return value, back(g)

    return [value_and_vjp(method) for method in methods]

  squared = oracle.edm(*z)
  cotangent = g
  if f is distances:
    with np.errstate(divide="ignore"):
      cotangent = np.where(squared == 0, 0, g / (2 * np.sqrt(squared)))
  for method, (value, bars) in zip(methods, all_of_them(*(jnp.asarray(a, jnp.float32) for a in (g, *z))), strict=True):
    if f is distances:
      np.testing.assert_allclose(value, np.sqrt(squared), atol=1e-3 if method == "gram" else 1e-6)
    else:
      np.testing.assert_allclose(value, squared, atol=2e-5)
    for bar, expected in zip(bars, oracle.vjp(cotangent, *z), strict=True):
      scale = np.max(np.abs(cotangent).sum(-1)) * np.max(np.abs(z[0]))
      np.testing.assert_allclose(bar, expected, atol=16 * 6e-8 * scale * (1 if f is edm else 8))


@pytest.mark.usefixtures("double_precision")
def test_finite_differences_agree(rng):
  """Of second order in both modes; a reference that is no automatic differentiation."""
  z = [jnp.asarray(rng.normal(size=(k, 2))) for k in (4, 3)]
  check_grads(jax.jit(lambda *z: jnp.sin(distances(*z))), z, order=2, modes=("fwd", "rev"), atol=1e-4, rtol=1e-4)


def test_the_four_jacobians_agree(either_precision, rng):
  """Reverse mode, forward mode, forward mode of a naive reference, and the closed form: one tensor."""
  x = rng.normal(size=(6, 3)).astype(np.float64 if either_precision else np.float32)
  four = quick_jit(lambda x: (jax.jacrev(edm)(x), jax.jacfwd(edm)(x), jax.jacfwd(naive_edm)(x), edm_jacobian(x)))
  expected = oracle.jacobian(x)
  for jacobian in four(x):
    np.testing.assert_allclose(jacobian, expected, atol=8 * np.finfo(x.dtype).eps * np.max(np.abs(expected)))


def test_integers_have_no_gradient_but_floats_beside_them_do():
  x, y = jnp.arange(6).reshape(3, 2), jnp.ones((4, 2))
  assert jax.grad(lambda y: edm(x, y).sum())(y).shape == y.shape
  with pytest.raises(TypeError, match="int32"):
    jax.grad(lambda x: edm(x, y).sum())(x)
