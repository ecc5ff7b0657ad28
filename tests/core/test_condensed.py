"""``pdist`` and ``squareform``: SciPy's order, derivatives, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import distance as scipy_distance

import oracle
from jax_edm import pdist, squareform


@pytest.mark.parametrize("n", [0, 1, 2, 9])
def test_condensed_form_is_that_of_scipy(n, rng):
  x = rng.normal(size=(n, 3)).astype(np.float32)
  condensed = pdist(x)
  matrix = squareform(condensed)
  if n >= 2:
    np.testing.assert_allclose(condensed, scipy_distance.pdist(x), rtol=1e-5)
    np.testing.assert_array_equal(matrix, scipy_distance.squareform(np.asarray(condensed)))
  assert matrix.shape == ((n, n) if n else (1, 1))  # no entry: one point, as SciPy has it
  np.testing.assert_array_equal(squareform(matrix), condensed)


def test_distances_by_differences_keep_close_points(rng):
  """In 20 coordinates a product takes points for one that are 1e-4 of the cloud apart."""
  x = rng.normal(size=(40, 20)).astype(np.float32)  # so many that the default takes products
  x[1] = x[0] + np.float32(1e-4)
  expected = scipy_distance.pdist(x.astype(np.float64))
  np.testing.assert_allclose(pdist(x, method="difference"), expected, rtol=22 * np.finfo(np.float32).eps)


def test_derivatives_of_the_condensed_form(rng):
  x = rng.normal(size=(2, 5, 3)).astype(np.float32)
  x[0, 1] = x[0, 0]
  g = rng.normal(size=(2, 10)).astype(np.float32)
  i, j = np.triu_indices(5, 1)
  matrix = np.zeros((2, 5, 5), np.float32)
  matrix[:, i, j] = g
  r = np.sqrt(oracle.edm(x))
  expected = oracle.vjp(np.divide(matrix, 2 * r, out=np.zeros_like(r), where=r > 0), x)[0]
  pull_squareform = jax.vmap(lambda a, g: jax.vjp(squareform, a)[1](g)[0])
  of_x, of_a = jax.jit(lambda x, g, matrix: (jax.vjp(pdist, x)[1](g)[0], pull_squareform(g, matrix)))(x, g, matrix)
  np.testing.assert_allclose(of_x, expected, atol=1e-5)
  np.testing.assert_array_equal(of_a, g)


D = oracle.edm(np.random.default_rng(0).normal(size=(4, 2))).astype(np.float32)


def changed(value, i, j):
  out = D.copy()
  out[i, j] = value
  return out


BAD = {
  "no such n": (
    ValueError,
    r"squareform: a must be a vector of n \(n - 1\) / 2 entries",
    lambda: squareform(np.ones(4)),
  ),
  "number": (ValueError, "squareform: a must be a vector", lambda: squareform(np.float32(1))),
  "batch": (ValueError, r"jax.vmap\(squareform\)", lambda: squareform(np.ones((2, 3, 3)))),
  "not square": (ValueError, "squareform: a must be a square matrix.*or its condensed form", lambda: squareform(D[:2])),
  "asymmetric": (ValueError, "squareform: a must be symmetric", lambda: squareform(changed(3, 1, 2))),
  "infinite": (ValueError, "squareform: a must be symmetric", lambda: squareform(changed(np.inf, 1, 2))),
  "diagonal": (ValueError, "squareform: a must have a zero diagonal", lambda: squareform(changed(3, 2, 2))),
  "NaN": (ValueError, "squareform: a must have a zero diagonal", lambda: squareform(changed(np.nan, 2, 2))),
  "boolean": (TypeError, "squareform: a must hold real numbers", lambda: squareform(D[0] > 0)),
  "method": (ValueError, "pdist: method must be", lambda: pdist(D, method="exact")),
  "one point": (ValueError, "pdist: x must have the shape", lambda: pdist(D[0])),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
  error, message, call = BAD[case]
  with pytest.raises(error, match=message):
    call()


def test_dtypes():
  for dtype in (jnp.float16, jnp.bfloat16, jnp.int32):
    x = jnp.arange(6).reshape(3, 2).astype(dtype)
    assert pdist(x).dtype == squareform(pdist(x)).dtype == jnp.result_type(x, float)
