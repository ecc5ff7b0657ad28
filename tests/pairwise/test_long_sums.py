"""Sums of very many terms keep their digits: a CPU adds the terms of some products one after the other."""

import jax
import jax.numpy as jnp
import numpy as np

from conftest import x64
from jax_edm import edm, pairwise_logsumexp, pairwise_sum

M = 500_001
METHODS = (None, "difference")
ERROR = 2048 * float(np.finfo(np.float32).eps) / 8  # of 2,048 equal terms, added one after the other


def test_sums_of_many_terms(rng):
  """Values and gradients, with and without values, of one row and of two; against float64."""
  y = rng.uniform(size=(M, 1)).astype(np.float32)
  x, columns = np.zeros((2, 1), np.float32), np.ones((M, 2), np.float32)
  terms = np.exp(-np.square(y[:, 0].astype(np.float64)))
  weights = terms / terms.sum()
  slope = 2 * y[:, 0].astype(np.float64)

  def f(D):
    return jnp.exp(-D)

  @jax.jit
  def run(x, y, columns):
    of_rows = [pairwise_sum(f, x, y, values=v).ravel() for v in (None, columns[:, 0], columns)]
    gradient = jax.grad(lambda x: pairwise_sum(f, x, y).sum())(x)
    of_logsumexp = jax.grad(lambda x: pairwise_logsumexp(lambda D: -D, x, y).sum())(x)
    return jnp.concatenate(of_rows), gradient, of_logsumexp

  for rows in (1, 2):
    sums, gradient, of_logsumexp = run(x[:rows], y, columns)
    np.testing.assert_allclose(sums, terms.sum(), rtol=ERROR)
    np.testing.assert_allclose(gradient, (slope * terms).sum(), rtol=ERROR)
    np.testing.assert_allclose(of_logsumexp, (slope * weights).sum(), rtol=ERROR)


def test_gradients_of_matrices_with_long_rows():
  x, y = jnp.zeros((1, 2)), jnp.full((M, 2), 1.1)

  @jax.jit
  def run(x, y):
    losses = [(lambda x, m=m: edm(x, y, method=m).sum(), lambda x, m=m: edm(y, x, method=m).sum()) for m in METHODS]
    return [jax.grad(loss)(x) for pair in losses for loss in pair]

  for gradient in run(x, y):
    np.testing.assert_allclose(gradient, -2.2 * M, rtol=ERROR)


def test_integers_of_64_bits_do_not_wrap():
  """NumPy's and Python's, in values and args; those that fit stay integers."""
  x, wide = jnp.zeros((3, 1)), np.array([2**40, 1, 0])
  one = jax.jit(lambda D: D * 0 + 1)
  assert float(pairwise_sum(one, x, values=wide)[0]) == 2.0**40
  for arg in (wide, 2**39 + 0.5):
    assert float(pairwise_sum(lambda D, a: D * 0 + a, x, args=(arg,))[0]) >= 2.0**40
  assert float(pairwise_sum(lambda D, a: D * 0 + a, x, args=(2**40,))[0]) == 3 * 2.0**40
  assert jnp.issubdtype(pairwise_sum(lambda D, a: a, x, args=(np.arange(3),)).dtype, jnp.integer)


def test_weights_are_as_wide_as_they_come():
  """float64 weights of a logsumexp of float32 points."""
  with x64(True):
    x = jnp.zeros((2, 1), jnp.float32)
    for w in ([1e-200, 1e-210], [1e100, 1.0]):
      value, gradient = jax.value_and_grad(lambda w: pairwise_logsumexp(lambda D: D * 0, x, weights=w)[0])(jnp.array(w))
      np.testing.assert_allclose(value, np.log(np.sum(w)), rtol=1e-14)
      np.testing.assert_allclose(gradient, 1 / np.sum(w), rtol=1e-13)
