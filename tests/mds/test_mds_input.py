"""Bad input of the functions of distance matrices, outside ``jit`` and inside; and the dtypes of the results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import oracle
from conftest import x64
from jax_edm import (
  classical_mds,
  distances,
  edm,
  edm_from_gram,
  edm_jvp,
  edm_vjp,
  embedding_dimension,
  gram_from_edm,
  guttman_inverse,
  guttman_transform,
  is_edm,
  procrustes,
  safe_root,
  smacof,
  squareform,
  stress,
)
from mds_problems import EPS, GRID, RANDOM, changed

X = np.asarray(RANDOM[:6, :2], np.float32)
D = np.asarray(oracle.edm(X), np.float32)
W = np.ones((6, 6))
BLOCKS = np.kron(np.eye(2), np.ones((3, 3)))
PARTS = np.where(np.eye(6)[[0, 1, 2, 3, 4, 5]] + BLOCKS, W, 0)  # 0, 1, 2 and 3, 4, 5


def matrices(name):
  """Bad matrices that every function refuses."""
  return {
    "not square": (ValueError, rf"{name} must be a square matrix, \(..., n, n\). Got shape \(6, 4\)", D[:, :4]),
    "vector": (ValueError, "For SciPy's condensed form use jax_edm.squareform", D[0]),
    "complex": (TypeError, f"{name} must hold real numbers. Got dtype complex64", D.astype(np.complex64)),
    "list": (TypeError, f"{name} must be a JAX or NumPy array. Got list", D.tolist()),
  }


FUNCTIONS = {
  "gram_from_edm": ("D", gram_from_edm),
  "edm_from_gram": ("B", edm_from_gram),
  "classical_mds": ("D", lambda D: classical_mds(D, 2)),
  "is_edm": ("D", is_edm),
  "embedding_dimension": ("D", embedding_dimension),
  "stress": ("target", lambda t: stress(X, t)),
  "smacof": ("target", lambda t: smacof(t, 2)),
  "guttman_inverse": ("weights", guttman_inverse),
}


@pytest.mark.parametrize("case", matrices(""))
@pytest.mark.parametrize("function", FUNCTIONS)
def test_bad_matrices(function, case):
  name, f = FUNCTIONS[function]
  error, message, matrix = matrices(name)[case]
  for call in (f, jax.jit(f)) if case != "list" else (f,):
    with pytest.raises(error, match=f"^{function}: .*{message}"):
      call(matrix)


BAD = {
  "dim 0": (
    ValueError,
    "classical_mds: dim must be at least 1 and at most n - 1.*Got 0 for 6",
    lambda: classical_mds(D, 0),
  ),
  "dim n": (ValueError, "smacof: dim must be at least 1 and at most n - 1.*Got 6 for 6", lambda: smacof(D, 6)),
  "dim float": (TypeError, "dim must be an integer. Got float", lambda: classical_mds(D, 2.0)),
  "points to match": (
    ValueError,
    "procrustes: x and y must have the same numbers of points",
    lambda: procrustes(X, X[:4]),
  ),
  "no points to match": (ValueError, "there must be points to match", lambda: procrustes(X[:0], X[:0])),
  "batches to match": (ValueError, "leading axes of y", lambda: procrustes(np.stack([X] * 2), np.stack([X] * 3))),
  "boolean points": (TypeError, "procrustes: x must hold real numbers", lambda: procrustes(X > 0, X)),
  "initial": (
    ValueError,
    r"initial must have dim coordinates. Got initial \(6, 2\) and dim=3",
    lambda: smacof(D, 3, initial=X),
  ),
  "points of initial": (ValueError, "target must have one row for each point", lambda: smacof(D, 2, initial=X[:3])),
  "no key": (ValueError, "random starts need a key. Got key=None and restarts=3", lambda: smacof(D, 2, restarts=3)),
  "restarts": (ValueError, "restarts must be at least 1. Got 0", lambda: smacof(D, 2, restarts=0)),
  "steps": (TypeError, "max_steps must be an integer", lambda: smacof(D, 2, max_steps=1.5)),
  "too many steps": (
    ValueError,
    "max_steps must be less than 2\\*\\*31. Got 2147",
    lambda: smacof(D, 2, max_steps=2**31),
  ),
  "tolerance": (ValueError, "tolerance must not be negative", lambda: smacof(D, 2, tolerance=-1.0)),
  "no tolerance": (
    TypeError,
    "smacof: tolerance must be a real number. Got NoneType",
    lambda: smacof(D, 2, tolerance=None),
  ),
  "tolerance in words": (TypeError, "tolerance must be a real number. Got str", lambda: smacof(D, 2, tolerance="a")),
  "complex tolerance": (TypeError, "Got complex128", lambda: smacof(D, 2, tolerance=np.complex128(1))),
  "tolerances": (
    ValueError,
    r"tolerance must be one number. Got shape \(2,\)",
    lambda: smacof(D, 2, tolerance=np.ones(2)),
  ),
  "number for a key": (
    TypeError,
    r"smacof: key must be a key of jax.random. Got int. Pass key=jax.random.key\(0\)",
    lambda: smacof(D, 2, key=0, restarts=2),
  ),
  "array for a key": (TypeError, "Got an array of float32", lambda: smacof(D, 2, key=X, restarts=2)),
  "keys": (
    ValueError,
    r"key must be one key. Got shape \(2,\)",
    lambda: smacof(D, 2, key=jax.random.split(jax.random.key(0)), restarts=2),
  ),
  "shape of weights": (
    ValueError,
    r"weights must have one entry for each entry of target. Got weights \(6,\) and target \(6, 6\)",
    lambda: smacof(D, 2, weights=W[0]),
  ),
  "type of weights": (TypeError, "weights must hold real numbers", lambda: smacof(D, 2, weights=W * 1j)),
  "stress of other points": (ValueError, "target must have one row for each point", lambda: stress(X[:4], D)),
  "inverse alone": (ValueError, "guttman_transform: inverse needs weights", lambda: guttman_transform(X, D, inverse=W)),
  "inverse of other points": (
    ValueError,
    "inverse must have one row for each point",
    lambda: guttman_transform(X, D, weights=W, inverse=W[:3, :3]),
  ),
  "batch of weights, of x": (
    ValueError,
    "leading axes of weights",
    lambda: stress(np.stack([X] * 3), D, weights=np.stack([W, W])),
  ),
  "batch of weights": (
    ValueError,
    "leading axes of weights",
    lambda: stress(X, np.stack([D] * 2), weights=np.stack([W] * 3)),
  ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
  error, message, call = BAD[case]
  for run in (call, jax.jit(call)):
    with pytest.raises(error, match=message):
      run()


BAD_VALUES = {
  "asymmetric": (r"{} must be symmetric. Got 3 at \(1, 2\) and .* at \(2, 1\)", changed(D, 3, (1, 2))),
  "diagonal": (r"{} must have a zero diagonal. Got 3 at \(2, 2\)", changed(D, 3, (2, 2))),
  "negative": (r"{} must not be negative. Got -1 at \(0, 1\)", changed(D, -1, (0, 1), (1, 0))),
  "NaN": (
    r"{} must be finite. Got nan at \(0, 1\). Where .* smacof takes weights=",
    changed(D, np.nan, (0, 1), (1, 0)),
  ),
  "of a batch": (r"Got inf at \(0, 1\) of matrix 1", np.stack([D, changed(D, np.inf, (0, 1), (1, 0))])),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_bad_values(case):
  message, matrix = BAD_VALUES[case]
  for function in ("classical_mds", "embedding_dimension", "stress", "smacof"):
    name, f = FUNCTIONS[function]
    with pytest.raises(ValueError, match=f"^{function}: .*{message.format(name)}"):
      f(matrix)


def test_bad_values_inside_jit():
  """Flags, and no error."""
  run = jax.jit(lambda D: classical_mds(D, 2))
  for message, matrix in BAD_VALUES.values():
    found = run(matrix)
    assert found.points.shape == (*matrix.shape[:-1], 2)
    assert bool(jnp.isnan(found.goodness_of_fit).any()) == ("nan" in message or "inf" in message)


BAD_WEIGHTS = {
  "negative": (
    "smacof: weights must be finite and not negative",
    lambda: smacof(D, 2, weights=changed(W, -1, (0, 1), (1, 0))),
  ),
  "asymmetric": ("weights must be symmetric", lambda: stress(X, D, weights=changed(W, 2, (0, 1)))),
  "two parts": (
    r"smacof: the known entries of target must connect all points. Got 2 separate parts: \(0, 1, 2\) and \(3, 4, 5\)",
    lambda: smacof(D, 2, weights=PARTS),
  ),
  "two parts of a batch": (r"2 separate parts of matrix 1: ", lambda: guttman_inverse(np.stack([W, PARTS]))),
  "parts, in a step": ("guttman_transform: .*connect all points", lambda: guttman_transform(X, D, weights=PARTS)),
  "parts of many points": (
    r"Got 20 separate parts: \(0\) and .* \(7\) and others",
    lambda: smacof(np.zeros((20, 20)), 2, weights=np.eye(20)),
  ),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_weights(case):
  message, call = BAD_WEIGHTS[case]
  with pytest.raises(ValueError, match=message):
    call()


@pytest.mark.parametrize(
  "name",
  [
    pytest.param("float16", marks=pytest.mark.slow),
    pytest.param("bfloat16", marks=pytest.mark.slow),
    pytest.param("float64", marks=pytest.mark.slow),
    pytest.param("int32", marks=pytest.mark.slow),
  ],
)
def test_dtypes(name):
  """The results have the dtype of the points or the matrix; integers become floating-point numbers."""
  with x64(name == "float64"):
    x = jnp.asarray(GRID[:8]).astype(name)
    dtype = jnp.result_type(x, float)
    eps = float(jnp.finfo(dtype).eps)
    D, t = edm(x), distances(x)
    found, fitted = classical_mds(D, 2), smacof(t, 2)
    for a in (found.points, found.eigenvalues, found.goodness_of_fit, fitted.points, fitted.stress, stress(x, t)):
      assert a.dtype == dtype
    for a in (
      gram_from_edm(D),
      edm_from_gram(D),
      procrustes(x, x).aligned,
      guttman_transform(x, t),
      guttman_inverse(D),
    ):
      assert a.dtype == dtype
    assert bool(is_edm(D))
    assert int(embedding_dimension(D)) == 2
    np.testing.assert_allclose(edm(found.points).astype(float), D.astype(float), atol=8 * eps * float(D.max()))
    np.testing.assert_allclose(edm(fitted.points).astype(float), D.astype(float), atol=max(200 * eps, 1e-3))


@pytest.mark.slow
def test_integers_of_64_bits_keep_their_digits():
  """NumPy's, in every argument: without 64-bit types JAX takes them for integers of 32 bits, which wrap."""
  D = np.array([[0, 2_500_000_000, 9], [2_500_000_000, 0, 2_500_000_000], [9, 2_500_000_000, 0]])
  x = np.array([[0, 2_500_000_000], [-2_500_000_000, 0], [1, 1]])
  w = 2_400_000_000 + D
  functions = {
    "gram_from_edm": lambda D, x, w: gram_from_edm(D),
    "edm_from_gram": lambda D, x, w: edm_from_gram(D),
    "is_edm": lambda D, x, w: is_edm(D),
    "embedding_dimension": lambda D, x, w: embedding_dimension(D),
    "classical_mds": lambda D, x, w: classical_mds(D, 2),
    "stress": lambda D, x, w: stress(x, D, weights=w),
    "normalized stress": lambda D, x, w: stress(x, D, weights=w, normalized=True),
    "guttman_transform": lambda D, x, w: guttman_transform(x, D, weights=w),
    "guttman_inverse": lambda D, x, w: guttman_inverse(w),
    "smacof": lambda D, x, w: smacof(D, 2, weights=w, initial=x, max_steps=3),
    "procrustes": lambda D, x, w: procrustes(x, x[::-1]),
    "safe_root": lambda D, x, w: safe_root(D),
    "squareform": lambda D, x, w: squareform(D),
    "squareform of a vector": lambda D, x, w: squareform(D[:, 1]),
    "edm_jvp": lambda D, x, w: edm_jvp(x, X[:3]),
    "edm_vjp": lambda D, x, w: edm_vjp(x, X[:3, :1] - X[:3, 0]),
  }
  for name, f in functions.items():
    arrays = [a.astype(np.float32) for a in (D, x, w)]
    expected = f(*arrays)
    for types in ((np.int64,) * 3, (np.uint64, np.int64, np.uint64)):
      found = f(*(a.astype(t) for a, t in zip((D, x, w), types, strict=True)))
      jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=64 * EPS, err_msg=name), found, expected)  # noqa: B023
  assert bool(is_edm(D))
  with x64(True):
    assert squareform(D).dtype == np.int64


def test_numpy_arrays_are_taken_as_they_are():
  """In float64, where JAX computes in float32."""
  x = RANDOM[:6, :3]
  D, t = oracle.edm(x), oracle.distances(x)
  numpy = (classical_mds(D, 3), procrustes(x, x[::-1]), smacof(t, 3, weights=W, initial=x), stress(x, 2 * t, weights=W))
  D, t, x, w = (jnp.asarray(a, jnp.float32) for a in (D, t, x, W))
  jax_ = (classical_mds(D, 3), procrustes(x, x[::-1]), smacof(t, 3, weights=w, initial=x), stress(x, 2 * t, weights=w))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=64 * EPS), numpy, jax_)
