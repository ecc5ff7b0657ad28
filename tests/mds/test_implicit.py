"""The derivatives of what ``smacof`` finds: of the minimum, with respect to the target and the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import x64
from jax_edm import edm, smacof
from mds_problems import check_both_orders, incomplete, symmetric
from transformations import quick_jit

# n, d, noise, missing, and the weights: none, or the leading axes of theirs
CASES = {
  "complete": (7, 2, 0.1, 0.0, None),
  "weighted": (11, 2, 0.1, 0.3, ()),
  "a batch of weights": (7, 2, 0.1, 0.0, (2,)),
  "on a line": (8, 1, 0.02, 0.0, ()),
}
SLOW = ("weighted", "a batch of weights", "on a line")


@pytest.mark.parametrize("name", [pytest.param(c, marks=pytest.mark.slow) if c in SLOW else c for c in CASES])
@pytest.mark.usefixtures("double_precision")
def test_derivative_of_the_solution(name, rng):
  """By the implicit function theorem, against central differences of solutions."""
  n, d, noise, missing, batch = CASES[name]
  _, t, w = incomplete(rng, n, d, noise, missing)
  dt, dw, c = symmetric(rng, n) * t, symmetric(rng, n) * (w > 0) / 10, rng.normal(size=(n, n))
  w, dw = (None, None) if batch is None else (w * (1 + rng.random((*batch, 1, 1)) * (t > t.mean())), dw)
  start = smacof(t, d, weights=w, tolerance=1e-13, max_steps=20_000)
  assert bool(start.converged.all())

  def measure(s):
    weights = None if w is None else w + s * dw
    found = smacof(t + s * dt, d, weights=weights, initial=start.points, tolerance=1e-14, max_steps=20_000)
    return (c * jnp.sin(edm(found.points))).sum() + found.stress.sum()

  check_both_orders(measure, [()], 4e-5 * n)


@pytest.mark.slow
@pytest.mark.usefixtures("double_precision")
def test_what_turns_the_points_has_no_part_in_the_derivative(rng):
  """A cotangent along a rigid motion of the solution gives zero, and one that is not gives no more for it."""
  _, t, w = incomplete(rng, 9, 3, 0.05, 0.2)
  x, back = jax.vjp(lambda t: smacof(t, 3, weights=w, tolerance=1e-14, max_steps=20_000).points, t)
  turn, g = rng.normal(size=(3, 3)), rng.normal(size=x.shape)
  motion = x @ (turn - turn.T) + rng.normal(size=3)
  of_motion, of_g, of_both = (jax.jit(back)(bar)[0] for bar in (motion, jnp.asarray(g), motion + g))
  np.testing.assert_allclose(of_motion, 0, atol=1e-9)
  np.testing.assert_allclose(of_both, of_g, atol=1e-9)
  np.testing.assert_array_equal(of_g[w == 0], 0)


@pytest.mark.slow
def test_derivatives_in_float32_and_through_a_scan(rng):
  _, t, w = incomplete(rng, 10, 2, 0.05)
  c, dt = rng.normal(size=(10, 10)), symmetric(rng, 10)

  def measure(t, w, **options):
    return (c * edm(smacof(t, 2, weights=w, **options).points)).sum()

  with x64(True):
    precise = quick_jit(jax.grad(lambda t: measure(t, w, max_steps=20_000, tolerance=1e-13)))(t)
  t, w, dt = (a.astype(np.float32) for a in (t, w, dt))
  single = lambda t: measure(t, w, max_steps=5000)  # noqa: E731
  scanned = lambda t: jnp.sin(jax.lax.scan(lambda _, t: (None, single(t)), None, t[None])[1]).sum()  # noqa: E731
  value, (gradient, hvp) = quick_jit(
    lambda t: (single(t), jax.jvp(jax.grad(lambda t: jnp.sin(single(t))), (t,), (dt,)))
  )(t)
  expected = np.cos(value) * np.asarray(precise)
  np.testing.assert_allclose(gradient, expected, atol=2e-2 * np.abs(expected).max())
  np.testing.assert_allclose(quick_jit(jax.grad(scanned))(t), gradient, atol=1e-2 * np.abs(expected).max())
  hvp_of_the_scan = quick_jit(lambda t: jax.jvp(jax.grad(scanned), (t,), (dt,))[1])
  np.testing.assert_allclose(hvp_of_the_scan(t), hvp, atol=5e-2 * np.abs(hvp).max())
