"""The condensed form of SciPy: the entries above the diagonal, row by row."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_edm import _errors
from jax_edm._core import validation
from jax_edm._core.batching import with_all_digits
from jax_edm._core.edm import check, distances
from jax_edm._typing import ArrayLike, Method


def pdist(x: ArrayLike, *, method: Method = None) -> jax.Array:
  r"""Distances between all pairs of points i < j, as ``scipy.spatial.distance.pdist`` orders them.

  Shapes: ``n`` points; ``d`` coordinates; ``...`` leading batch axes.

  Args:
    x: points, ``(..., n, d)``.
    method: as for :func:`jax_edm.edm`: ``"difference"`` for distances that are as accurate as SciPy's, also between
      points that are close together in many coordinates.

  Returns:
    ``(..., n (n - 1) / 2)``: (0, 1), (0, 2), ..., (0, n-1), (1, 2), ..., in the unit and the dtype of the points. Their
    squares are the entries of :func:`edm`.

  Raises:
    ValueError, TypeError: as :func:`jax_edm.edm`.

  Derivatives: all modes, all orders; zero where two points coincide.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import pdist
    >>> pdist(jnp.array([[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]]))
    Array([5., 3., 4.], dtype=float32)
  """
  check("pdist", x, method=method)
  _errors.known("pdist", "the number of points", jnp.shape(x)[-2])
  return _condensed(distances(x, method=method))


def squareform(a: ArrayLike) -> jax.Array:
  r"""The condensed form of a symmetric matrix with a zero diagonal, or the other way round, as SciPy's ``squareform``.

  Args:
    a: a vector of n (n - 1) / 2 entries, or a matrix ``(n, n)``; of either, batches by ``jax.vmap``.

  Returns:
    The other of the two: ``(n, n)``, symmetric with a zero diagonal, or the entries above the diagonal, in the dtype of
    ``a``. NumPy's 64-bit integers become floating-point numbers where JAX has 32 bits.

  Raises:
    ValueError: another number of axes, a matrix that is not square, a number of entries that no n has; outside ``jit``
      a matrix that is not symmetric, or with a diagonal that is not zero. TypeError: a does not hold real numbers.

  Derivatives: all modes, all orders; linear.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import squareform
    >>> squareform(jnp.array([5.0, 3.0, 4.0]))
    Array([[0., 5., 3.],
           [5., 0., 4.],
           [3., 4., 0.]], dtype=float32)
  """
  validation.real("squareform", "a", a)
  shape = jnp.shape(a)
  for size in shape:
    _errors.known("squareform", "the number of points", size)
  if len(shape) == 2:
    validation.square("squareform", "a", a)
    validation.symmetric_zero_diagonal("squareform", "a", a)
    return _condensed(jnp.asarray(with_all_digits(a)))
  size = shape[0] if len(shape) == 1 else -1
  n = round((1 + (1 + 8 * max(size, 0)) ** 0.5) / 2)
  if size != n * (n - 1) // 2:
    expected = "a must be a vector of n (n - 1) / 2 entries, or a matrix"
    raise _errors.error("squareform", expected, f"shape {shape}", "For a batch use jax.vmap(squareform)")
  entries = jnp.asarray(with_all_digits(a))
  upper = jnp.zeros((n, n), entries.dtype).at[np.triu_indices(n, 1)].set(entries, unique_indices=True)
  return upper + upper.T


def _condensed(matrix: jax.Array) -> jax.Array:
  return matrix[(..., *np.triu_indices(matrix.shape[-1], 1))]
