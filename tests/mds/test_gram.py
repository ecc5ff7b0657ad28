"""Gram matrices and squared distances, one from the other; ``is_edm`` and ``embedding_dimension``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from jax_edm import edm, edm_from_gram, embedding_dimension, gram_from_edm, is_edm
from mds_problems import EPS, GRID, symmetric
from transformations import quick_jit


def test_gram_and_edm_are_inverses(rng):
  x = rng.normal(size=(2, 7, 3)).astype(np.float32) + 1000
  centred = x.astype(np.float64) - x.mean(1, keepdims=True, dtype=np.float64)
  D = oracle.edm(x).astype(np.float32)
  B = gram_from_edm(D)
  np.testing.assert_allclose(B, centred @ centred.swapaxes(1, 2), atol=8 * EPS * D.max())
  np.testing.assert_allclose(edm_from_gram(B), D, atol=16 * EPS * D.max())
  np.testing.assert_array_equal(jnp.diagonal(edm_from_gram(B), axis1=1, axis2=2), 0)
  np.testing.assert_array_equal(edm_from_gram(jnp.full((2, 2), 3e38)), 0)
  kernel = rng.normal(size=(2, 7, 7))
  J = np.eye(7) - 1 / 7
  np.testing.assert_allclose(
    gram_from_edm(edm_from_gram(kernel)),
    J @ (kernel + kernel.swapaxes(1, 2)) / 2 @ J,
    atol=32 * EPS * np.abs(kernel).max(),
  )


def test_derivatives_of_gram_and_edm(rng):
  a, v = (rng.normal(size=(4, 4)).astype(np.float32) for _ in "av")
  J = np.eye(4) - 1 / 4
  for f, adjoint in (
    (gram_from_edm, lambda g: -J @ g @ J / 2),
    (edm_from_gram, lambda g: np.diag(g.sum(1) + g.sum(0)) - g - g.T),
  ):
    bars = lambda a, v: (jax.vjp(f, a)[1](v)[0], jax.linear_transpose(f, a)(v)[0])  # noqa: B023, E731
    (*bars, tangent), value = quick_jit(lambda a, v: ((*bars(a, v), jax.jvp(f, (a,), (v,))[1]), f(v)))(a, v)  # noqa: B023
    np.testing.assert_allclose(bars, [adjoint(v)] * 2, atol=1e-5)
    np.testing.assert_allclose(tangent, value, atol=1e-5)


@pytest.mark.parametrize(("n", "d"), [(4, 2), (30, 3), (200, 1), (50, 40), (3, 768)])
def test_edms_are_edms(n, d, rng):
  x = rng.normal(size=(n, d)).astype(np.float32)
  D = jnp.stack([edm(x, method=method) for method in (None, "difference", "gram")])
  found, dimension = quick_jit(lambda D: (is_edm(D), embedding_dimension(D)))(D)
  np.testing.assert_array_equal(found, True)
  np.testing.assert_array_equal(dimension, min(d, n - 1))


@pytest.mark.slow
def test_an_edm_of_many_points_in_many_dimensions(rng):
  """Rounding grows with both: an eigenvalue of zero may be 50 eps of the largest here."""
  D = edm(rng.normal(size=(1700, 850)).astype(np.float32))
  found, dimension = jax.jit(lambda D: (is_edm(D), embedding_dimension(D)))(D)
  assert bool(found)
  assert dimension == 850
  far = D.at[0, 1].multiply(0.3).at[1, 0].multiply(0.3)  # two points that are too near to each other for all others
  assert not bool(is_edm(far))


def test_what_is_no_edm():
  D = edm(jnp.asarray(GRID, jnp.float32))
  wrong = {
    "negative": D.at[0, 1].set(-1).at[1, 0].set(-1),
    "asymmetric": D.at[0, 1].add(0.1),
    "diagonal": D.at[2, 2].set(0.1),
    "triangle inequality": D**2,
    "NaN": D.at[0, 1].set(jnp.nan).at[1, 0].set(jnp.nan),
    "infinity": D.at[0, 1].set(jnp.inf).at[1, 0].set(jnp.inf),
  }
  for name, matrix in wrong.items():
    assert not bool(is_edm(matrix)), name
  found = jax.jit(is_edm)(jnp.stack([D, *wrong.values()]))
  np.testing.assert_array_equal(found, [True] + [False] * len(wrong))


def test_tolerance():
  D = edm(jnp.asarray(GRID, jnp.float32))
  noisy = D * (1 + 1e-3 * jnp.asarray(symmetric(np.random.default_rng(0), 25)))
  assert not bool(is_edm(noisy))
  assert bool(is_edm(noisy, tolerance=0.1))
  assert int(embedding_dimension(noisy)) > 2
  assert int(embedding_dimension(noisy, tolerance=0.1)) == 2


@pytest.mark.parametrize("n", [0, 1])
def test_no_points_and_one(n):
  assert bool(is_edm(np.zeros((n, n))))
  assert int(embedding_dimension(np.zeros((n, n)))) == 0
