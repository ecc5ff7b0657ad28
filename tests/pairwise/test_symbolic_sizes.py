"""Programs of ``jax.export`` for any number of points and any batch: the right numbers, or the library's words."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import oracle
from jax_edm import (
  classical_mds,
  distances,
  edm,
  edm_jvp,
  edm_vjp,
  nearest,
  pairwise_logsumexp,
  pairwise_sum,
  pdist,
  smacof,
  squareform,
)

EPS = float(np.finfo(np.float32).eps)
SIZES = [(5, 7), (300, 33)]  # fewer rows than a block has, and several blocks


def exported(f, *shapes):
  scope = export.SymbolicScope()
  specs = [jax.ShapeDtypeStruct(export.symbolic_shape(shape, scope=scope), jnp.float32) for shape in shapes]
  return export.export(jax.jit(f))(*specs)


def gaussian(*z, **options):
  return pairwise_sum(lambda D: jnp.exp(-D), *z, **options)


def everything_of_two_sets(x, y):
  def loss(f):
    return lambda x, y: f(x, y).sum()

  functions = (
    lambda x, y: edm(x, y) ** 2,
    lambda x, y: edm(x, y, method="difference") ** 2,
    distances,
    gaussian,
    partial(pairwise_logsumexp, lambda D: -D),
  )
  values = [f(x, y) for f in functions]
  return values, [jax.grad(loss(f), (0, 1))(x, y) for f in functions], nearest(x, y, k=3)


@pytest.mark.slow
@pytest.mark.parametrize("d", [3, 20])
def test_two_sets(d, rng):
  program = exported(everything_of_two_sets, f"n, {d}", f"m, {d}")
  for n, m in SIZES:
    x, y = (rng.normal(size=(k, d)).astype(np.float32) / d**0.5 for k in (n, m))
    values, gradients, found = program.call(x, y)
    D = oracle.edm(x, y)
    kernel = np.exp(-D)
    share = kernel / kernel.sum(1, keepdims=True)
    expected = [D**2, D**2, np.sqrt(D), kernel.sum(1), np.log(kernel.sum(1))]
    slopes = [2 * D, 2 * D, 0.5 / np.sqrt(D), -kernel, -share]
    for actual, right in zip(values, expected, strict=True):
      np.testing.assert_allclose(actual, right, atol=64 * EPS * max(1, np.abs(right).max()))
    for actual, slope in zip(gradients, slopes, strict=True):
      for a, right in zip(actual, oracle.vjp(slope, x, y), strict=True):
        np.testing.assert_allclose(a, right, atol=256 * EPS * np.abs(right).max())
    order = np.argsort(D, 1, kind="stable")[:, :3]
    np.testing.assert_array_equal(found.indices, order)
    np.testing.assert_allclose(found.squared, np.take_along_axis(D, order, 1), rtol=64 * EPS)


def everything_of_one_set(x, mask, weights):
  options = {"where": mask > 0, "diagonal": False}

  def loss(x, weights):
    singular = pairwise_sum(lambda D, w: w / D, x, args=(weights,), **options)
    return singular.sum() + pairwise_logsumexp(lambda D: -D, x, weights=mask + 1).sum()

  sums = pairwise_sum(lambda D, w: w / D, x, args=(weights,), values=mask, **options)
  hvp = jax.jvp(jax.grad(lambda x: gaussian(x).sum()), (x,), (x,))[1]
  return sums, jax.grad(loss)(x, weights), hvp, edm_jvp(x, x), edm_vjp(x, weights), nearest(x, k=9).indices


def test_one_set_with_everything(rng):
  """What is padded, to fill up a block, meets no singularity; more neighbours than there are points."""
  program = exported(everything_of_one_set, "n, 3", "n", "n, n")
  for n, _ in SIZES:
    x = rng.normal(size=(n, 3)).astype(np.float32)
    mask, weights = (np.arange(n) % 4 != 1).astype(np.float32), rng.normal(size=(n, n)).astype(np.float32)
    sums, gradient, hvp, forward, reverse, indices = program.call(x, mask, weights)
    D = oracle.edm(x)
    pairs = np.outer(mask, mask) * (1 - np.eye(n))
    inverse = pairs / np.where(pairs > 0, D, 1)
    np.testing.assert_allclose(
      sums, (weights * inverse) @ mask, atol=256 * EPS * np.abs(weights * inverse).sum(1).max()
    )
    kernel = np.exp(-D) * (mask + 1)
    slope = -weights * inverse**2 - kernel / kernel.sum(1, keepdims=True)
    (right,) = oracle.vjp(slope, x)
    np.testing.assert_allclose(gradient, right, atol=2**10 * EPS * np.abs(right).max())
    np.testing.assert_allclose(forward, 2 * D, atol=64 * EPS * D.max())
    np.testing.assert_allclose(reverse, oracle.vjp(weights, x)[0], atol=256 * EPS * np.abs(weights).sum())
    known = jax.jvp(jax.grad(lambda x: jnp.exp(-edm(x)).sum()), (x,), (x,))[1]
    np.testing.assert_allclose(hvp, known, atol=256 * EPS * n)
    order = np.argsort(np.where(np.eye(n), np.inf, D), 1, kind="stable")[:, :9]
    expected = np.full((n, 9), -1)
    expected[:, : min(9, n - 1)] = order[:, : min(9, n - 1)]
    np.testing.assert_array_equal(indices, expected)


def test_a_batch_of_any_size(rng):
  program = exported(lambda x: (edm(x), gaussian(x), jax.grad(lambda x: gaussian(x).sum())(x)), "b, n, 3")
  for b, n in ((1, 9), (6, 140)):
    x = rng.normal(size=(b, n, 3)).astype(np.float32)
    entries, sums, gradient = program.call(x)
    D = np.stack([oracle.edm(own) for own in x])
    np.testing.assert_allclose(entries, D, atol=64 * EPS * D.max())
    np.testing.assert_allclose(sums, np.exp(-D).sum(2), rtol=64 * EPS)
    right = np.stack([oracle.vjp(-np.exp(-own), points)[0] for own, points in zip(D, x, strict=True)])
    np.testing.assert_allclose(gradient, right, atol=256 * EPS * np.abs(right).max())


REFUSED = {
  "edm": ("edm: the number of coordinates of x must be known. Got the symbol d", edm, ["8, d"]),
  "pairwise_sum": ("pairwise_sum: the number of coordinates of x", gaussian, ["8, d"]),
  "pdist": ("pdist: the number of points must be known. Got the symbol n", pdist, ["n, 3"]),
  "squareform": ("squareform: the number of points must be known", squareform, ["n, n"]),
  "classical_mds": ("classical_mds: the number of points must be known", lambda D: classical_mds(D, 2), ["n, n"]),
  "smacof": ("smacof: the number of points must be known", lambda t: smacof(t, 2), ["n, n"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_symbolic_size_says_so(name):
  message, f, shapes = REFUSED[name]
  with pytest.raises(ValueError, match=message):
    exported(f, *shapes)


@pytest.mark.usefixtures("double_precision")
def test_products_in_float64(rng):
  scope = export.SymbolicScope()
  shape = jax.ShapeDtypeStruct(export.symbolic_shape("n, 9", scope=scope), np.float64)
  program = export.export(jax.jit(lambda x: (edm(x), gaussian(x), nearest(x).squared)))(shape)
  x = rng.normal(size=(20, 9)) / 3
  entries, sums, squared = program.call(x)
  D = oracle.edm(x)
  np.testing.assert_allclose(entries, D, atol=1e-14)
  np.testing.assert_allclose(sums, np.exp(-D).sum(1), rtol=1e-13)
  np.testing.assert_allclose(squared[:, 0], np.where(np.eye(20), np.inf, D).min(1), rtol=1e-13)
