"""``diagonal=False``: the pair of a point with itself is left out, and f may be singular at 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import x64
from implementations import in_widest
from implementations import sums as sums
from jax_edm import pairwise_logsumexp, pairwise_sum
from transformations import naive_edm, quick_jit

N = 11


def naive(kind, x, t, where):
  """Of the pairs that are there; singular elsewhere."""
  pairs = ~np.eye(N, dtype=bool) & where[:, None] & where[None, :]
  D = jnp.where(pairs, naive_edm(x), 1.0)
  if kind == "tiles":
    return jnp.where(pairs, 1 / D, 0).sum(1)
  if kind == "rows":
    return jnp.where(pairs, t * jnp.log(D), 0).sum(1)
  return jnp.where(where, jax.nn.logsumexp(jnp.where(pairs, -0.5 * jnp.log(D), -jnp.inf), axis=1), 0)


def ours(sums, kind, x, t, where, block):
  options = {"diagonal": False, "where": where, "block_size": block}
  if kind == "tiles":
    return sums.sum(lambda D: 1 / D, x, **options)
  if kind == "rows":
    return sums.sum(lambda D, t: t * jnp.log(D), x, args=(t,), **options)
  return jnp.where(where, sums.logsumexp(lambda D: -0.5 * jnp.log(D), x, **options), 0)


def derivatives(f, order):
  """The value, the gradient, and for the second order an HVP."""

  def run(x, t, v):
    gradient = jax.grad(lambda x, t: jnp.cos(f(x, t)).sum(), (0, 1))
    found = f(x, t), *gradient(x, t)
    return found if order == 1 else (*found, *jax.jvp(lambda x: gradient(x, t), (x,), (v,))[1])

  return run


@pytest.mark.parametrize("kind", ["tiles", pytest.param("rows", marks=pytest.mark.slow), "logsumexp"])
def test_against_a_naive_formula(kind, sums, rng):
  """With masks and without, blocks that divide n and that do not; a pair of equal indices is the diagonal alone."""
  x, v, t = rng.normal(size=(N, 3)), rng.normal(size=(N, 3)), rng.normal(size=(N, 1))
  everywhere, here = np.ones(N, bool), np.arange(N) % 4 != 2
  with x64(True):
    reference = quick_jit(lambda *z: derivatives(lambda x, t: naive(kind, x, t, z[3]), sums.order)(*z[:3]))
    expected = [reference(x, t, v, where) for where in (everywhere, here)]
  with in_widest(sums) as dtype:
    error = 2048 * float(np.finfo(dtype).eps)
    for block in sums.blocks:

      @quick_jit
      def run(x, t, v, where, block=block):
        return derivatives(lambda x, t: ours(sums, kind, x, t, where, block), sums.order)(x, t, v)

      for where, wanted in zip((everywhere, here), expected, strict=True):
        padded = np.where(where[:, None], x, np.nan)
        for a, e in zip(run(*(a.astype(dtype) for a in (padded, t, v)), where), wanted, strict=True):
          np.testing.assert_allclose(a, e, atol=error * np.abs(e).max())


def test_a_point_alone_has_no_pair():
  x = jnp.ones((1, 3))

  @jax.jit
  def run(x):
    total = lambda x: pairwise_sum(lambda D: 1 / D, x, diagonal=False)  # noqa: E731
    return *jax.value_and_grad(lambda x: total(x).sum())(x), pairwise_logsumexp(lambda D: 1 / D, x, diagonal=False)

  total, bar, log = run(x)
  assert total == 0
  np.testing.assert_array_equal(bar, 0)
  np.testing.assert_array_equal(log, -np.inf)


def test_an_infinite_point_shows_in_its_own_pairs_alone(sums, rng):
  """F is singular at 0 and finite at infinity."""
  x = rng.normal(size=(9, 3)).astype(np.float32)
  x[4] = np.inf

  @sums.jit
  def run(x):
    return sums.sum(lambda D: 1 / D, x, diagonal=False), sums.sum(lambda D: D, x, diagonal=False)

  inverse, total = run(x)
  assert np.isfinite(inverse).all()
  assert not np.isfinite(total).any()
