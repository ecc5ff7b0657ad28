"""``cdist``, ``pdist`` and ``squareform`` of SciPy and ``_euclidean_distances`` of scikit-learn, computed by jax_edm.

An adapter converts NumPy arrays and options to what jax_edm takes, and the result to a NumPy array that can be written
to. A call that asks for something else (another metric, ``out=``) goes to SciPy's own function and is not counted.
"""

import os
import threading

import jax
import numpy as np
import scipy.spatial.distance as scipy_distance

import jax_edm

jax.config.update("jax_enable_x64", True)

WRONG = "JAX_EDM_PEERS_WRONG" in os.environ  # every result is wrong, and the tests must notice
STEP = 1e-3  # by how much more each result is wrong than the one before: comparisons of two must notice, too

_scipy = {name: getattr(scipy_distance, name) for name in ("cdist", "pdist", "squareform")}
_lock = threading.Lock()  # scikit-learn calls from several threads
_calls = 0


def calls():
  """How many results of jax_edm the adapters have returned so far."""
  return _calls


def cdist(XA, XB, metric="euclidean", *, w=None, **options):
  if not _is_ours(metric, options):
    return _scipy["cdist"](XA, XB, metric, **({} if w is None else {"w": w}), **options)
  of_two_sets = jax_edm.distances if metric == "euclidean" else jax_edm.edm
  return _counted(of_two_sets(_points(XA, w), _points(XB, w)))


def pdist(X, metric="euclidean", *, w=None, **options):
  if not _is_ours(metric, options):
    return _scipy["pdist"](X, metric, **({} if w is None else {"w": w}), **options)
  x = _points(X, w)
  return _counted(jax_edm.pdist(x) if metric == "euclidean" else jax_edm.squareform(jax_edm.edm(x)))


def squareform(X, *args, **options):
  if args or options:
    return _scipy["squareform"](X, *args, **options)
  if np.asarray(X).dtype == bool:  # jax_edm.squareform takes numbers
    return _counted(jax_edm.squareform(np.asarray(X, np.int8))).astype(bool)
  return _counted(jax_edm.squareform(X))


def sklearn_euclidean_distances(X, Y, X_norm_squared=None, Y_norm_squared=None, squared=False):
  """In the place of the function that computes, behind scikit-learn's own checks; jax_edm needs no norms.

  scikit-learn computes float32 in float64; here it stays float32, with the method that keeps the digits of near points.
  """
  x, y = (a.toarray() if hasattr(a, "toarray") else a for a in (X, Y))
  method = "difference" if x.dtype == y.dtype == np.float32 else None
  return _counted((jax_edm.edm if squared else jax_edm.distances)(x, None if Y is X else y, method=method))


def _is_ours(metric, options):
  """Named by its full name: SciPy's functions, its aliases and its ``test_`` names stay as references."""
  return isinstance(metric, str) and metric in ("euclidean", "sqeuclidean") and not options


def _points(x, w):
  """SciPy computes everything in float64; a weight of a coordinate is a scale of it."""
  x = np.asarray(x, np.float64)
  return x if w is None else x * np.sqrt(np.asarray(w, np.float64))


def _counted(result):
  global _calls
  result = np.array(result)
  with _lock:
    _calls += 1
    if WRONG:
      result = (result * (1 + STEP * _calls) + STEP).astype(result.dtype)
  return result
