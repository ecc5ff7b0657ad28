"""The contract of ``pairwise_logsumexp``, for every implementation: any range of exponents, any weights, signs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from conftest import x64
from implementations import EPS
from implementations import every as every
from implementations import sums as sums
from jax_edm import pairwise_logsumexp


def log_of_sum(exponents, weights):
  """``log |sum|``, its sign, and its cotangents with respect to the exponents, in float64."""
  with np.errstate(divide="ignore"):
    scale = (exponents + np.log(np.abs(weights))).max(1, keepdims=True)
    terms = np.sign(weights) * np.exp(exponents + np.log(np.abs(weights)) - scale)
  total = terms.sum(1, keepdims=True)
  return (np.log(np.abs(total)) + scale)[:, 0], np.sign(total)[:, 0], terms / total


def test_over_any_range(every, rng):
  x, y = (rng.normal(size=(k, 2)).astype(np.float32) for k in (7, 9))
  w, squared = (rng.random(9) + 0.1).astype(np.float32), oracle.edm(x, y)
  scales = np.array([1e-3, 1.0, 1e4, 1e30], np.float32)  # data: one program

  @every.jit
  def run(x, w, scale):
    return_of = lambda x, w: every.logsumexp(lambda D: -scale * D, x, y, weights=w, block_size=3)  # noqa: E731
    out, back = jax.vjp(return_of, x, w)
    return out, *back(jnp.ones(7))

  for scale in map(float, scales):
    out, of_x, of_w = run(x, w, np.float32(scale))
    expected, _, softmax = log_of_sum(-scale * squared, w)
    np.testing.assert_allclose(out, expected, rtol=8 * EPS, atol=64 * EPS * min(scale, 1e4) + EPS)
    error = 640 * EPS * (1 + min(scale, 100) * squared.max())
    np.testing.assert_allclose(of_w, (softmax / w).sum(0), atol=error)
    np.testing.assert_allclose(of_x / scale, oracle.vjp(-softmax, x, y)[0], atol=error)


@pytest.mark.parametrize(("dtype", "small", "large"), [(np.float32, 1.2e-38, 3e38), (np.float64, 1e-307, 1e308)])
def test_weights_of_any_finite_size(dtype, small, large, every, rng):
  """From the smallest normal numbers to the largest, values and gradients: the weight itself has its derivative."""
  x, y = rng.normal(size=(5, 3)).astype(dtype), rng.normal(size=(6, 3)).astype(dtype)
  squared, eps, tiny, huge = oracle.edm(x, y), *(float(v) for v in (np.finfo(dtype).eps, np.finfo(dtype).tiny, large))
  weights = {
    "all large": np.full(6, large),
    "all small": np.full(6, small),
    "some of each": np.array([small, 1.0, large, small, 1e-20, 0.5 * large]),
    "small and none": np.array([small, 0, 0, small, 2 * small, 0]),
    "large and none": np.array([large, 0, 0, large, large / 2, 0]),
  }
  with x64(dtype is np.float64):

    @every.jit
    def run(x, y, w):
      def of_arrays(x, y, w):
        return every.logsumexp(lambda D: -D, x, y, weights=w)

      out, back = jax.vjp(of_arrays, x, y, w)
      return out, back(jnp.ones(5, dtype))

    for name, w in weights.items():
      w = w.astype(dtype)
      out, (of_x, of_y, of_w) = run(x, y, w)
      expected, _, softmax = log_of_sum(-squared, w.astype(np.float64))
      np.testing.assert_allclose(out, expected, rtol=16 * eps, err_msg=name)
      for a, e in zip((of_x, of_y), oracle.vjp(-softmax, x, y), strict=True):
        np.testing.assert_allclose(a, e, atol=256 * eps * np.abs(e).max(), err_msg=name)
      with np.errstate(over="ignore"):
        wanted = np.exp(-squared - expected[:, None]).sum(0)  # may be more, or less, than the dtype holds
      held = wanted < huge / 4  # five terms, of which each may be too small
      np.testing.assert_allclose(of_w[held], wanted[held], rtol=512 * eps, atol=8 * tiny, err_msg=name)
      assert not np.isnan(of_w).any(), name


def test_signs(every, rng):
  """Negative weights: the logarithm of the size, and the sign, against an oracle; without a sign NaN."""
  x, y, w = (rng.normal(size=s).astype(np.float32) for s in ((40, 3), (53, 3), (53,)))
  expected, sign, softmax = log_of_sum(-oracle.edm(x, y), w.astype(np.float64))
  assert set(sign) == {-1.0, 1.0}
  total = np.exp(expected)
  scale = np.exp(-oracle.edm(x, y)) @ np.abs(w)  # of the terms: what cancels is lost

  @every.jit
  def run(x, y, w):
    signed = lambda *z: every.logsumexp(lambda D: -D, *z[:2], weights=z[2], return_sign=True, block_size=7)  # noqa: E731
    (out, sign), back = jax.vjp(signed, x, y, w)
    cotangent = jnp.exp(out), jnp.zeros_like(sign)  # of |sum|: what cancels does not enlarge it
    logs = every.logsumexp(lambda D: -D, x, y, weights=w), every.logsumexp(lambda D: -D, x, weights=w[:40] * 0)
    return out, sign, back(cotangent), *logs

  out, found, bars, without, none = run(x, y, w)
  np.testing.assert_array_equal(found, sign)
  np.testing.assert_allclose(np.exp(np.asarray(out, np.float64)), total, atol=64 * EPS * scale.max())
  for a, e in zip(bars[:2], oracle.vjp(-softmax * total[:, None], x, y), strict=True):
    np.testing.assert_allclose(a, e, atol=64 * EPS * max(np.abs(e).max(), scale.max()))
  of_w = (sign[:, None] * np.exp(-oracle.edm(x, y))).sum(0)
  np.testing.assert_allclose(bars[2], of_w, atol=64 * EPS * np.exp(-oracle.edm(x, y)).sum(0).max())
  np.testing.assert_array_equal(np.isnan(without), sign < 0)
  np.testing.assert_allclose(without[sign > 0], out[sign > 0], rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(none, -np.inf)


def test_the_sign_of_nothing():
  x, w = jnp.arange(8.0).reshape(4, 2), jnp.array([1.0, -1.0, 0.0, 0.0])
  run = jax.jit(lambda f, w: pairwise_logsumexp(lambda D: f * D, x, weights=w, return_sign=True))
  out, sign = run(0.0, w)  # 1 - 1
  np.testing.assert_array_equal(out, -np.inf)
  np.testing.assert_array_equal(sign, 0)
  out, sign = run(0.0, jnp.abs(w))
  np.testing.assert_allclose(out, np.log(2), rtol=1e-6)
  np.testing.assert_array_equal(sign, 1)


def test_a_row_of_minus_infinity(sums):
  x, mask = jnp.arange(8.0).reshape(4, 2), jnp.zeros((4, 4)).at[1].set(-jnp.inf)

  @sums.jit
  def run(x, mask, w):
    found = []
    for weights in (None, w):

      def logs(x, mask, weights=weights):
        return sums.logsumexp(lambda D, b: b - D, x, args=(mask,), weights=weights, block_size=3)

      out, back = jax.vjp(logs, x, mask)
      derivatives = back(jnp.zeros(4).at[1].set(1.0))
      if sums.order == 2:
        derivatives += jax.jvp(jax.grad(lambda x: jnp.exp(logs(x, mask)).sum()), (x,), (x,))
      found.append((out, *derivatives))
    return found

  for out, of_x, of_mask, *second in run(x, mask, jnp.ones(4)):
    assert out[1] == -jnp.inf
    assert np.isfinite(out[np.array([0, 2, 3])]).all()
    np.testing.assert_array_equal(of_x, 0)
    np.testing.assert_array_equal(of_mask, 0)
    assert all(np.isfinite(a).all() for a in second)
  out, *derivatives = run(x, mask, jnp.zeros(4))[1]
  np.testing.assert_array_equal(out, -jnp.inf)
  for a in derivatives:
    np.testing.assert_array_equal(a, 0)


def test_what_has_no_weight_does_not_set_the_scale(sums):
  x, y, w = jnp.zeros((1, 1)), jnp.array([[0.0], [2.0]]), jnp.array([1.0, 0.0])

  @sums.jit
  def run(w, c):
    finite = jax.value_and_grad(lambda w: sums.logsumexp(lambda D: c * D, x, y, weights=w)[0])(w)
    return *finite, sums.logsumexp(lambda D: jnp.where(D > 1, jnp.inf, D), x, y, weights=w)[0]

  out, bar, infinite = run(w, 1e4)  # exp(4e4) would overflow, and exp(-4e4) would leave nothing of the other
  np.testing.assert_allclose(out, 0)
  assert np.isfinite(bar).all()
  assert infinite == 0
  _, bar, _ = run(w, 1.0)
  np.testing.assert_allclose(bar, [1, np.exp(4)], rtol=1e-6)  # the derivative exists, and is right
  assert run(jnp.ones(2), 1.0)[2] == np.inf


def test_nan_without_weight_is_seen(sums):
  """What is not a number times no weight is not a number."""
  x, a, w = jnp.ones((40, 2)), jnp.zeros((1, 40)).at[0, 3].set(jnp.nan), jnp.ones(40).at[3].set(0)
  out = sums.jit(lambda a, w: sums.logsumexp(lambda D, a: a - D, x, x, args=(a,), weights=w))(a, w)
  assert np.isnan(out).all()


@pytest.mark.parametrize("pair", [(1e-37, 10), (1e-30, 1e30), (3e38, 3e38), (0, 1), (1e-20, 1e19)])
def test_the_gradient_of_light_and_of_heavy_weights(pair, sums):
  """``exp(f_j) / sum``, which is as large for a light weight as for a heavy one."""
  x, y, w = jnp.zeros((1, 1)), jnp.zeros((2, 1)), np.array(pair, np.float32)
  bar = sums.jit(jax.grad(lambda w: sums.logsumexp(lambda D: -D, x, y, weights=w)[0]))(w)
  expected = 1 / w.astype(np.float64).sum()
  np.testing.assert_allclose(bar, expected if expected > 1.2e-38 else 0, rtol=64 * EPS)  # exponents of up to 88


def test_weights_that_are_integers():
  x, y = np.zeros((1, 1), np.float32), np.zeros((2, 1), np.float32)
  for dtype in (np.int8, np.int32):
    least = np.iinfo(dtype).min
    weights = np.array([1, least], dtype)
    size, sign = pairwise_logsumexp(lambda D: 0.0 * D, x, y, weights=weights, return_sign=True)
    np.testing.assert_allclose(size, np.log(-1.0 - float(least)), rtol=EPS)
    np.testing.assert_array_equal(sign, -1)
  wide = pairwise_logsumexp(lambda D: 0.0 * D, x, y, weights=np.array([3_000_000_000, 1]))
  np.testing.assert_allclose(wide, np.log(3e9), rtol=EPS)
