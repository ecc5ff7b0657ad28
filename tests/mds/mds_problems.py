"""Points, matrices and checks that the tests of this folder share."""

import jax
import jax.numpy as jnp
import numpy as np

import oracle
from transformations import quick_jit

EPS = float(np.finfo(np.float32).eps)
STEP = 1e-5  # of central differences

TRIANGLE = np.array([[0, 0], [1, 0], [0.5, 0.75**0.5]])
SQUARE = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
CUBE = np.stack(np.meshgrid([0.0, 1], [0.0, 1], [0.0, 1]), -1).reshape(8, 3)
GRID = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), -1).reshape(25, 2)
RANDOM = np.random.default_rng(5).normal(size=(9, 4))


def symmetric(rng, n):
  """A random matrix, symmetric with a zero diagonal."""
  a = np.triu(rng.normal(size=(n, n)), 1)
  return a + a.T


def changed(a, value, *index):
  out = np.array(a)
  for i in index:
    out[i] = value
  return out


def incomplete(rng, n, d, noise=0.1, missing=0.3, batch=()):
  """Points, distances with noise, and weights of which some are zero; a chain connects all points."""
  x = rng.normal(size=(*batch, n, d))
  t = oracle.distances(x) * np.exp(noise / 2 * rng.normal(size=(*batch, n, n)))
  w = rng.random((*batch, n, n)) + 0.2
  w[(rng.random(w.shape) < missing) & (np.abs(np.subtract.outer(range(n), range(n))) > 1)] = 0
  upper = lambda a: np.triu(a, 1) + np.triu(a, 1).swapaxes(-1, -2)  # noqa: E731
  return x, upper(t), upper(w)


def check_both_orders(f, cases, atol):
  """The derivatives of ``f(s, *case)`` at s = 0: both modes, and both modes of the gradient, by central differences.

  Returns the first derivatives by central differences, which are not to be small.
  """

  @quick_jit
  def everything(s, case):
    own = lambda s: f(s, *case)  # noqa: E731
    (value, gradient), (tangent, second) = jax.jvp(jax.value_and_grad(own), (s,), (jnp.ones_like(s),))
    return value, gradient, tangent, second, jax.grad(jax.grad(own))(s)

  slopes = []
  for case in cases:
    after, before = everything(STEP, case), everything(-STEP, case)
    slope, curvature = ((a - b) / (2 * STEP) for a, b in zip(after[:2], before[:2], strict=True))
    _, gradient, tangent, second, second_by_reverse = everything(0.0, case)
    np.testing.assert_allclose([gradient, tangent], slope, atol=atol)
    np.testing.assert_allclose([second, second_by_reverse], curvature, atol=atol)
    slopes.append(float(slope))
  return slopes


def stress_by_definition(x, t, w=None, squared=False):
  r = oracle.edm(x) if squared else oracle.distances(x)
  i, j = np.triu_indices(x.shape[-2], 1)
  residual = (r - t)[..., i, j] ** 2
  return (residual if w is None else np.where(w[..., i, j] == 0, 0, w[..., i, j] * residual)).sum(-1)


def guttman_by_definition(x, t, w):
  """V+ B(X) X."""
  r = oracle.distances(x)
  B = -np.divide(w * t, r, out=np.zeros_like(r), where=r > 0)
  np.fill_diagonal(B, 0)
  return pseudoinverse_of_laplacian(w) @ (B - np.diag(B.sum(1))) @ x


def pseudoinverse_of_laplacian(w):
  """The kernel of V is constant vectors: V plus the projection on these is invertible."""
  off, constant = w - np.diag(np.diag(w)), np.full(w.shape, 1 / len(w))
  return np.linalg.inv(np.diag(off.sum(1)) - off + constant) - constant
