"""Points, distances and weights of any size: the results, and their derivatives, are those of size 1 in other units."""

import jax
import numpy as np

import oracle
from jax_edm import (
  classical_mds,
  distances,
  embedding_dimension,
  gram_from_edm,
  guttman_inverse,
  guttman_transform,
  is_edm,
  procrustes,
)
from mds_problems import EPS, guttman_by_definition, incomplete, pseudoinverse_of_laplacian, symmetric
from transformations import quick_jit


def best_scale(x, y):
  """The factor of Procrustes with scaling, in float64."""
  x, y = x - x.mean(0), y - y.mean(0)
  return np.linalg.svd(x.T @ y, compute_uv=False).sum() / (x**2).sum()


def slope(f, x, step=1e-6):
  """The gradient of a function of an array by central differences, in float64."""
  out = np.zeros_like(x)
  for i in np.ndindex(x.shape):
    e = np.zeros_like(x)
    e[i] = step
    out[i] = (f(x + e) - f(x - e)) / (2 * step)
  return out


def test_procrustes(rng):
  """Of points from 1e-18 to 1e18, and with scaling also of one set that is as small and one that is as large."""
  x, y = rng.normal(size=(7, 3)), rng.normal(size=(7, 3))
  expected, bar = best_scale(x, y), slope(lambda x: best_scale(x, y), x)
  rmsd = float(procrustes(x, y, scale=True).rmsd)
  bar_of_rmsd = slope(lambda x: float(rmsd_by_definition(x, y)), x)

  @quick_jit
  def run(x, y):
    scale = lambda x: procrustes(x, y, scale=True)  # noqa: E731
    of_scale = jax.value_and_grad(lambda x: scale(x).scale)(x)
    return *of_scale, scale(x).rmsd, jax.grad(lambda x: procrustes(x, y).rmsd)(x)

  for a, b in ((1, 1), (1e10, 1e10), (1e-10, 1e-10), (1e18, 1e18), (1e-18, 1e-18), (1e-9, 1e9), (1e9, 1e-9)):
    found, gradient, root, of_rmsd = run((x * a).astype(np.float32), (y * b).astype(np.float32))
    np.testing.assert_allclose(float(found) * a / b, expected, rtol=32 * EPS)
    np.testing.assert_allclose(np.float64(gradient) * a * a / b, bar, atol=256 * EPS * np.abs(bar).max())
    np.testing.assert_allclose(float(root) / b, rmsd, rtol=32 * EPS)
    if a == b:
      np.testing.assert_allclose(of_rmsd, bar_of_rmsd, atol=256 * EPS * np.abs(bar_of_rmsd).max())


def rmsd_by_definition(x, y):
  x, y = x - x.mean(0), y - y.mean(0)
  u, _, vt = np.linalg.svd(x.T @ y)
  return np.sqrt(((x @ u @ vt - y) ** 2).sum(1).mean())


def test_many_large_points(rng):
  """Sums over points and over entries of a row are larger than the largest number."""
  x = 3e18 * rng.normal(size=(100, 1))
  centred, D = x - x.mean(), oracle.edm(x).astype(np.float32)
  y = x[::-1] + 1e18 * rng.normal(size=x.shape)
  run = quick_jit(
    lambda D, x, y: (is_edm(D), embedding_dimension(D), gram_from_edm(D), classical_mds(D, 1), procrustes(x, y).rmsd)
  )
  assert np.isfinite(D).all()
  assert D.sum(1, dtype=np.float64).min() > np.finfo(np.float32).max
  is_one, dimension, B, found, rmsd = run(D, x.astype(np.float32), y.astype(np.float32))
  assert bool(is_one)
  assert dimension == 1
  np.testing.assert_allclose(B, centred @ centred.T, atol=8 * EPS * D.max())
  np.testing.assert_allclose(np.abs(found.points), np.abs(centred), atol=64 * EPS * np.abs(centred).max())
  np.testing.assert_allclose(found.goodness_of_fit, 1, atol=64 * EPS)
  np.testing.assert_allclose(rmsd, rmsd_by_definition(x, y), rtol=64 * EPS)


def test_the_goodness_of_fit_has_no_unit(rng):
  """So its derivative along D itself is zero."""
  D = (oracle.edm(rng.normal(size=(8, 3))) * np.exp(0.1 * symmetric(rng, 8))).astype(np.float32)
  run = quick_jit(jax.value_and_grad(lambda D: classical_mds(D, 2).goodness_of_fit[0]))
  expected, bar = (np.float64(a) for a in run(D))
  for scale in 2.0 ** np.array([-100, -74, 0, 60, 110]):
    found, gradient = run(D * np.float32(scale))
    np.testing.assert_allclose(found, expected, rtol=8 * EPS)
    np.testing.assert_allclose(np.float64(gradient) * scale, bar, atol=64 * EPS * np.abs(bar).max())
    assert abs((np.float64(gradient) * D * scale).sum()) < 64 * EPS * (np.abs(bar) * D).sum()


def test_derivatives_of_classical_mds(rng):
  """The tangent and the gradient of the distances, and a product with the Hessian."""
  D = (oracle.edm(rng.normal(size=(8, 2))) * np.exp(0.1 * symmetric(rng, 8))).astype(np.float32)
  dD, c = (symmetric(rng, 8).astype(np.float32) for _ in "dc")

  @quick_jit
  def run(D, dD):
    f = lambda D: (c * distances(classical_mds(D, 2).points)).sum()  # noqa: E731
    return *jax.jvp(f, (D,), (dD,)), *jax.jvp(jax.grad(f), (D,), (dD,))

  expected = [np.float64(a) for a in run(D, dD)]
  for size in 2.0 ** np.array([-50, -43, -17, 17, 43, 50]):  # 1e-15 to 1e15
    of_D = np.float32(size * size)
    for found, a, power in zip(run(of_D * D, of_D * dD), expected, (1, 1, -1, -1), strict=True):
      np.testing.assert_allclose(np.float64(found) / size**power, a, atol=2**10 * EPS * np.abs(a).max())


def test_derivatives_of_a_guttman_transform(rng):
  """Values, gradients and products with the Hessian for points between 1e-15 and 1e15."""
  x, t, w = (a.astype(np.float32) for a in incomplete(rng, 8, 2))
  v, c = (rng.normal(size=(8, 2)).astype(np.float32) for _ in "vc")

  @quick_jit
  def run(x, t, v):
    out = []
    for weights in (None, w):
      f = lambda x: (c * guttman_transform(x, t, weights=weights)).sum()  # noqa: B023, E731
      out += [f(x), *jax.jvp(jax.grad(f), (x,), (v,))]
    return out

  expected = [np.float64(a) for a in run(x, t, v)]
  for size in 2.0 ** np.array([-50, -43, 43, 50]):
    unit = np.float32(size)
    for found, a, power in zip(run(unit * x, unit * t, unit * v), expected, (1, 0, 0) * 2, strict=True):
      np.testing.assert_allclose(np.float64(found) / size**power, a, atol=2**8 * EPS * np.abs(a).max())


def test_weights_of_any_size(rng):
  """A hundred points: sums of their weights are larger than the largest number."""
  x, t, w = incomplete(rng, 100, 2)
  expected = guttman_by_definition(x, t, w)
  inverse = pseudoinverse_of_laplacian(w)
  mean = x.mean(0)
  run = quick_jit(lambda x, t, w: (guttman_transform(x, t, weights=w), guttman_inverse(w)))
  for size in (1e-36, 1.0, 1e36, 2e38 / w.max()):
    weights = (w * size).astype(np.float32)
    found, found_inverse = run(x.astype(np.float32), t.astype(np.float32), weights)
    np.testing.assert_allclose(found, expected + mean, atol=64 * EPS * np.abs(x).max())
    if size < 1e36:  # else the inverse is smaller than the least normal number
      atol = 64 * EPS * np.abs(inverse).max()
      np.testing.assert_allclose(np.float64(found_inverse) * size, inverse, atol=atol)
