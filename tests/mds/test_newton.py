"""The Newton steps at the end of ``smacof`` converge where Guttman transforms do not, and never raise the stress."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from conftest import x64
from jax_edm import distances, smacof, stress
from jax_edm._mds import newton
from jax_edm._mds.forces import Pairs
from jax_edm._mds.landscape import DenseLandscape


def strip(rng, n, bandwidth=3, noise=0.0):
  """A long strip of points; each knows its distances to a few before and after it, so bending costs hardly anything."""
  k = np.arange(n)
  x = np.stack([k / 2, np.where(k % 2, 1.0, 0)], 1) + 0.1 * rng.normal(size=(n, 2))
  gap = np.abs(np.subtract.outer(k, k))
  error = np.triu(noise * rng.normal(size=(n, n)), 1)
  return x, oracle.distances(x) * (1 + error + error.T), ((gap > 0) & (gap <= bandwidth)).astype(float)


@pytest.mark.slow
def test_a_strip_of_three_hundred_points_converges(rng):
  """With the defaults, to the points; with noise, to a minimum that further steps in double precision leave."""
  x, t, w = strip(rng, 300)
  found = smacof(t.astype(np.float32), 2, weights=w.astype(np.float32))
  assert bool(found.converged)
  assert int(found.steps) < 1000
  np.testing.assert_allclose(distances(found.points), oracle.distances(x), atol=1e-3 * t.max())
  _, t, w = strip(rng, 300, noise=0.02)
  found = smacof(t.astype(np.float32), 2, weights=w.astype(np.float32))
  assert bool(found.converged)
  with x64(True):
    further = smacof(t, 2, weights=w, initial=np.asarray(found.points, np.float64), tolerance=1e-9)
  np.testing.assert_allclose(found.stress, further.stress, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("double_precision")
def test_no_step_raises_the_stress_and_the_last_ones_converge_quadratically(rng):
  """From random points, step by step: the radius grows and shrinks, and some steps are refused."""
  _x, t, w = strip(rng, 14, noise=0.1)
  landscape = DenseLandscape.of(Pairs(jnp.asarray(t), None, jnp.asarray(w)), None)
  step = jax.jit(lambda state: newton.newton_step(landscape, state, 1e-13))
  refused, radii, slopes = 0, [], []
  for seed in range(3):
    y = jnp.asarray(np.random.default_rng(seed).normal(size=(14, 2)))
    f = landscape.forces(y)
    slope = (f * landscape.guttman(f)).sum()
    state = newton.State(
      y, landscape.half_stress(y), f, slope, landscape.squares(), jnp.sqrt(slope) * 32, jnp.int32(0), slope > 0
    )
    np.testing.assert_allclose(2 * state.stress, stress(np.asarray(y), t, weights=w), rtol=1e-12)
    while bool(state.moving) and int(state.steps) < 300:
      before, state = state, step(state)
      assert state.stress <= before.stress * (1 + 1e-14)
      refused += bool((state.x == before.x).all())
      radii.append(float(state.radius / before.radius))
      slopes.append((float(before.slope), float(state.slope)))
    assert not bool(state.moving)
    assert float(jnp.abs(state.forces).max()) < 1e-9
  assert refused > 0
  assert min(radii) < 0.5
  assert max(radii) == 2
  assert any(after < 1e-3 * before**1.2 for before, after in slopes if before < 1e-3)


def test_what_is_no_number_ends_the_search():
  landscape = DenseLandscape.of(Pairs(jnp.full((4, 4), jnp.nan)), None)
  _x, steps, moving = newton.descend(landscape, jnp.eye(4, 2), 1e-6, jnp.int32(0), 50)
  assert int(steps) <= 1
  assert bool(moving)
