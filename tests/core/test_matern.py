"""Matern kernels of squared distances: derivatives at every distance, and Gaussian processes with derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import quick_jit, x64
from jax_edm import edm, matern, pairwise_sum
from test_radial import check_radii

CURVATURE = {1.5: -3.0, 2.5: -5 / 3, 3.5: -7 / 5}  # the Hessian at zero, times the identity: -nu / (nu - 1)
MODES = [(a, b) for a in (jax.jacfwd, jax.jacrev) for b in (jax.jacfwd, jax.jacrev)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("p", [0, 1, 2, 3])
def test_derivatives_at_every_distance(p, dtype):
  with x64(dtype == np.float64):
    check_radii(f"Matern {2 * p + 1}/2", lambda D: matern(D, p + 0.5), dtype)


@pytest.mark.parametrize("jit", [pytest.param(lambda f: f, marks=pytest.mark.slow), quick_jit], ids=["eager", "jit"])
def test_hessians_at_coincident_inputs(jit):
  """In all four orders of forward and reverse mode, with respect to one point, and mixed."""
  x = jnp.array([1.0, -2.0])

  def hessians(x, nu):
    def k(a, b):
      return matern(jnp.square(a - b).sum(), nu)

    own = [outer(inner(k)) for outer, inner in MODES]
    mixed = [outer(inner(k, argnums=1), argnums=0) for outer, inner in MODES]
    return [h(x, x) for h in own], [h(x, x) for h in mixed]

  for nu, curvature in CURVATURE.items():
    own, mixed = jit(lambda x, nu=nu: hessians(x, nu))(x)
    for h, m in zip(own, mixed, strict=True):
      np.testing.assert_allclose(h, curvature * np.eye(2), rtol=1e-6)
      np.testing.assert_allclose(m, -curvature * np.eye(2), rtol=1e-6)


@pytest.mark.slow
def test_likelihood_of_derivative_observations_trains(rng):
  """Values and gradients of a function, at points of which two coincide: the scale is found, and nothing is NaN."""
  x = jnp.asarray(rng.uniform(-2, 2, size=(12, 1)), jnp.float32)
  x = x.at[3].set(x[1])
  observed = jnp.concatenate([jnp.sin(2 * x[:, 0]), 2 * jnp.cos(2 * x[:, 0])])

  def covariance(x, y, scale):
    def k(a, b):
      return matern(jnp.square((a - b) / scale).sum(), 2.5)

    def block(a, b):
      da, db = jax.grad(k)(a, b), jax.grad(k, argnums=1)(a, b)
      return jnp.block([[k(a, b), db[None]], [da[:, None], jax.jacfwd(jax.grad(k, argnums=1))(a, b)]])

    blocks = jax.vmap(lambda a: jax.vmap(lambda b: block(a, b))(y))(x)
    return blocks.transpose(2, 0, 3, 1).reshape(2 * len(x), 2 * len(y))

  def loss(log_scale):
    K = covariance(x, x, jnp.exp(log_scale)) + 1e-3 * jnp.eye(2 * len(x))
    L = jnp.linalg.cholesky(K)
    return 0.5 * observed @ jax.scipy.linalg.cho_solve((L, True), observed) + jnp.log(jnp.diag(L)).sum()

  @quick_jit
  def train(log_scale):
    def step(log_scale, _):
      value, slope = jax.value_and_grad(loss)(log_scale)
      return log_scale - 0.02 * slope, value

    return jax.lax.scan(step, log_scale, length=30)

  log_scale, losses = train(jnp.float32(-0.5))
  assert bool(jnp.isfinite(losses).all())
  assert losses[-1] < losses[0] - 1
  assert 0.5 < float(jnp.exp(log_scale)) < 3
  K = covariance(x, x, 1.0)
  assert float(jnp.linalg.eigvalsh(K + 1e-3 * jnp.eye(len(K))).min()) > 0


def test_matrices_sums_and_dtypes(rng):
  x = rng.normal(size=(20, 3)).astype(np.float32)
  x[3] = x[1]

  @quick_jit
  def run(x):
    sides = (
      lambda x: pairwise_sum(lambda D: matern(D, 2.5), x),
      lambda x: matern(edm(x), 2.5).sum(1),
      lambda x: ((1 + u(x) + u(x) ** 2 / 3) * jnp.exp(-u(x))).sum(1),
    )
    return [(side(x), jax.grad(lambda x, side=side: jnp.sin(side(x)).sum())(x)) for side in sides]

  def u(x):
    D = edm(x)
    zero = D == 0
    return jnp.where(zero, 0, jnp.sqrt(5 * jnp.where(zero, 1, D)))

  (a, da), (b, db), (c, dc) = run(x)
  np.testing.assert_allclose(a, c, rtol=1e-5)
  np.testing.assert_allclose(b, c, rtol=1e-5)
  for d in (da, db):
    np.testing.assert_allclose(d, dc, atol=1e-5 * np.abs(dc).max())
  assert matern(jnp.ones(2, jnp.bfloat16), 1.5).dtype == jnp.bfloat16
  assert matern(np.arange(3), np.float64(0.5)).dtype == jnp.float32
  assert float(matern(np.array(2**33), 0.5)) == float(matern(jnp.inf, 2.5)) == 0  # not the kernel of a wrapped 0
  assert float(jax.grad(lambda D: matern(D, 2.5))(jnp.inf)) == 0


def test_bad_input():
  for nu in (2, 2.0, "a", jnp.float32(1.5), None):
    with pytest.raises(ValueError, match=r"matern: nu must be 0.5, 1.5, 2.5 or 3.5. Got .* Python number"):
      matern(1.0, nu)
  with pytest.raises(TypeError, match="matern: D must hold real numbers"):
    matern(jnp.array([True]), 0.5)
