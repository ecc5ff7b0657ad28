"""``stress``, ``guttman_transform`` and ``guttman_inverse``: the definitions, derivatives, missing distances."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_edm import guttman_inverse, guttman_transform, stress
from mds_problems import (
  EPS,
  check_both_orders,
  guttman_by_definition,
  incomplete,
  pseudoinverse_of_laplacian,
  stress_by_definition,
)
from transformations import quick_jit


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_stress(weighted, squared, rng):
  x, t, w = incomplete(rng, 9, 3, batch=(2,))
  t, w = (t**2 if squared else t), (w if weighted else None)
  single = lambda a: None if a is None else a.astype(np.float32)  # noqa: E731
  run = partial(stress, single(x), single(t), weights=single(w), squared=squared)
  expected = stress_by_definition(x, t, w, squared)
  np.testing.assert_allclose(run(), expected, rtol=64 * EPS)
  scale = ((1 if w is None else w) * t**2).sum((1, 2)) / 2
  np.testing.assert_allclose(run(normalized=True), np.sqrt(expected / scale), rtol=64 * EPS)


def test_normalized_stress_of_targets_that_are_zero(rng):
  x, t = rng.normal(size=(6, 2)), np.zeros((6, 6))
  assert stress(0 * x, t, normalized=True) == 0
  assert stress(x, t, normalized=True) == np.inf


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_normalized_stress_has_no_unit(weighted, squared, rng):
  """At any scale of the points, the targets and the weights it is the same number, and so is its gradient."""
  x, t, w = incomplete(rng, 9, 3)
  w = w if weighted else None
  expected = np.sqrt(stress_by_definition(x, t**2 if squared else t, w, squared) / scale_of(t, w, squared))
  run = partial(stress, squared=squared, normalized=True)
  value_and_gradient = quick_jit(jax.value_and_grad(lambda x, t, w: run(x, t, weights=w)))
  gradients = []
  for scale in 10.0 ** np.arange(-12, 13, 4):
    scaled_t = (t * scale) ** 2 if squared else t * scale
    weights = None if w is None else (w / scale**2).astype(np.float32)
    found, gradient = value_and_gradient((x * scale).astype(np.float32), scaled_t.astype(np.float32), weights)
    np.testing.assert_allclose(found, expected, rtol=64 * EPS)
    gradients.append(gradient * scale)
  np.testing.assert_allclose(gradients, [gradients[3]] * 7, atol=256 * EPS * np.abs(gradients[3]).max())


def test_normalized_stress_of_points_and_targets_of_different_size(rng):
  x, t, _ = incomplete(rng, 9, 3)
  for size, factor in ((1e9, 1.0), (1.0, 1e9), (1e12, 1e12), (1e-12, 1e-12)):
    expected = np.sqrt(stress_by_definition(x * size, t * factor) / scale_of(t * factor, None, False))
    found = stress((x * size).astype(np.float32), (t * factor).astype(np.float32), normalized=True)
    np.testing.assert_allclose(found, expected, rtol=64 * EPS)


def scale_of(t, w, squared):
  return np.triu((1 if w is None else w) * t ** (4 if squared else 2), 1).sum()


def with_tangents(rng, *arrays):
  """Of both triangles, of the diagonal, and of missing entries, too."""
  return [b for a in arrays for b in (a, rng.normal(size=a.shape))]


@pytest.mark.usefixtures("double_precision")
def test_derivatives_of_stress(rng):
  """Of all three kinds at once, with respect to everything."""

  def measure(s, x, dx, t, dt, w, dw):
    f = partial(stress, x + s * dx, t + s * dt, weights=w + s * dw)
    return f() + 2 * f(squared=True) + 3 * f(normalized=True)

  check_both_orders(measure, [with_tangents(rng, *incomplete(rng, 6, 2))], 1e-4)


@pytest.mark.usefixtures("double_precision")
def test_derivatives_of_a_guttman_transform(rng):
  c = rng.normal(size=(6, 2))

  def measure(s, x, dx, t, dt, w, dw):
    return (c * jnp.sin(guttman_transform(x + s * dx, t + s * dt, weights=w + s * dw))).sum()

  check_both_orders(measure, [with_tangents(rng, *incomplete(rng, 6, 2))], 1e-4)


def test_a_zero_distance_counts_and_a_missing_one_does_not():
  x = jnp.array([[0.0], [3.0], [3.0]])
  t = jnp.array([[0.0, 0.0, 1.0], [0.0, 0.0, 2.0], [1.0, 2.0, 0.0]])
  assert stress(x, t) == 9 + 4 + 4
  run = lambda x, t, w: stress(x, t, weights=w)  # noqa: E731
  derivatives = quick_jit(lambda *args: (jax.grad(run, (0, 1, 2))(*args), jax.hessian(run)(*args)))
  w = jnp.ones((3, 3)).at[0, 1].set(0).at[1, 0].set(0)
  for missing in (0.0, jnp.nan, jnp.inf):
    t = t.at[0, 1].set(missing).at[1, 0].set(missing)
    assert run(x, t, w) == run(x, t, w != 0) == 4 + 4
    bars, hessian = derivatives(x, t, w)
    assert all(np.isfinite(a).all() for a in (*bars, hessian))
    np.testing.assert_array_equal(bars[0], [[-4], [0], [4]])  # and zero for the two points that coincide
    assert np.isfinite(guttman_transform(x, t, weights=w)).all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.usefixtures("double_precision")
def test_guttman_transform(weighted, rng):
  x, t, w = incomplete(rng, 8, 2, batch=(2,))
  x = x - x.mean(1, keepdims=True)
  w = w if weighted else np.ones_like(w)
  weights = w if weighted else None
  out = guttman_transform(x, t, weights=weights)
  for i in range(2):
    np.testing.assert_allclose(out[i], guttman_by_definition(x[i], t[i], w[i]), atol=1e-12)
  np.testing.assert_allclose(guttman_transform(x + 5, t, weights=weights), out + 5, atol=1e-12)  # the mean stays
  np.testing.assert_allclose(guttman_transform(x, t, weights=w, inverse=guttman_inverse(w)), out, atol=1e-12)
  after = stress_by_definition(x, t, w)
  for _ in range(20):
    x = guttman_transform(x, t, weights=weights)
    before, after = after, stress_by_definition(np.asarray(x), t, w)
    assert (after < before).all()


def test_guttman_inverse(rng):
  w = incomplete(rng, 12, 2)[2] + np.diag(rng.random(12))  # the diagonal does not count
  expected = pseudoinverse_of_laplacian(w)
  atol = 64 * EPS * np.abs(expected).max()
  found = guttman_inverse(w.astype(np.float32))
  np.testing.assert_allclose(found, expected, atol=atol)
  w[0, 1] *= 1 + 2e-7  # rounding
  np.testing.assert_allclose(guttman_inverse(w.astype(np.float32)), found, atol=atol)


@pytest.mark.parametrize("weak", [1e-3, 1e-6, 1e-12])
def test_guttman_inverse_of_a_point_with_small_weights(weak):
  w = np.ones((6, 6))
  w[0] = w[:, 0] = weak
  expected = pseudoinverse_of_laplacian(w)
  if weak < 1e-9:  # that has no digits left in float64; this entry is known
    expected = np.full((6, 6), np.nan)
    expected[0, 0] = 25 / 36 / (5 * weak)
  found = np.asarray(guttman_inverse(w.astype(np.float32)), np.float64)
  finite = np.isfinite(expected)
  np.testing.assert_allclose(found[finite], expected[finite], atol=1e-5 * np.nanmax(expected))


def test_weights_of_a_batch_for_one_matrix(rng):
  x, t, w = incomplete(rng, 6, 2)
  w = np.stack([w, w.astype(bool), 2 * w])
  np.testing.assert_allclose(stress(x, t, weights=w), [stress_by_definition(x, t, a) for a in w], rtol=1e-5)
  assert guttman_transform(x, t, weights=w).shape == (3, 6, 2)
  np.testing.assert_allclose(guttman_inverse(w[1] != 0), guttman_inverse(w[1]), atol=1e-5)


def test_one_point():
  one = jnp.ones((1, 1))
  np.testing.assert_array_equal(guttman_inverse(one), 0)
  np.testing.assert_array_equal(guttman_transform(jnp.ones((1, 2)), 0 * one, weights=one), 1)
