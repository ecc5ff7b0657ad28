"""Gram matrices and squared distances: one from the other, and what their eigenvalues say about a matrix."""

import jax
import jax.numpy as jnp

from jax_edm._core import validation
from jax_edm._core.batching import compiled, dtypes, with_all_digits
from jax_edm._core.linear import Arrays, LinearMap, linear
from jax_edm._mds.units import unit_of
from jax_edm._typing import ArrayLike

# What rounding may make of an entry that should be zero, relative to the largest: in eps of the dtype of the
# computation, and in eps of the dtype of the entries. It may make at least as much of an eigenvalue.
ROUNDING_OF_COMPUTATION, ROUNDING_OF_ENTRIES = 32, 4
# The errors of eigenvalues grow with the root of n: of the computation, relative to the largest eigenvalue (1.3 was
# seen, for 1,500 points in 600 dimensions), and of the entries, relative to the largest entry (0.5).
GROWTH_OF_COMPUTATION, GROWTH_OF_ENTRIES = 4, 1


def gram_from_edm(D: ArrayLike) -> jax.Array:
  r"""The Gram matrix of centred points, from their squared distances: double centring.

  .. math:: B = -\tfrac12\, J D J, \qquad J = I - \tfrac1n \mathbf{1}\mathbf{1}'

  Shapes: ``n`` points; ``...`` leading batch axes.

  Args:
    D: squared distances, ``(..., n, n)``. Their values are not checked, since the map is linear.

  Returns:
    ``(..., n, n)``. If D is an EDM, the entries are ``<x_i - c, x_j - c>``, with c the mean of the points (Schoenberg
    1935; Torgerson 1952). float16 and bfloat16 compute in float32.

  Raises:
    ValueError: D is not square.
    TypeError: D does not hold real numbers.

  Derivatives: all modes, all orders; the map is linear.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import gram_from_edm
    >>> gram_from_edm(jnp.array([[0.0, 4.0], [4.0, 0.0]]))
    Array([[ 1., -1.],
           [-1.,  1.]], dtype=float32)
  """
  validation.square("gram_from_edm", "D", D)
  return compiled(_gram_from_edm, (D,), "(p,q)")


def edm_from_gram(B: ArrayLike) -> jax.Array:
  r"""Squared distances from a Gram matrix, or from any matrix of inner products (a kernel, a covariance).

  .. math:: D_{ij} = B_{ii} + B_{jj} - B_{ij} - B_{ji}

  Shapes: ``n`` points; ``...`` leading batch axes.

  Args:
    B: inner products, ``(..., n, n)``. Their values are not checked, since the map is linear.

  Returns:
    ``(..., n, n)``, symmetric with a zero diagonal. Negative entries mean that B is not a Gram matrix. The inverse of
    :func:`gram_from_edm`, which centres the points.

  Raises:
    ValueError: B is not square.
    TypeError: B does not hold real numbers.

  Derivatives: all modes, all orders; the map is linear.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import edm_from_gram
    >>> edm_from_gram(jnp.array([[1.0, -1.0], [-1.0, 1.0]]))
    Array([[0., 4.],
           [4., 0.]], dtype=float32)
  """
  validation.square("edm_from_gram", "B", B)
  return compiled(_edm_from_gram, (B,), "(p,q)")


def is_edm(D: ArrayLike, *, tolerance: float | None = None) -> jax.Array:
  """Whether D holds the squared distances of some points.

  It does if it is symmetric, has a zero diagonal, and ``-1/2 J D J`` is positive semidefinite (Schoenberg 1935).

  Shapes: ``n`` points; ``...`` leading batch axes.

  Args:
    D: ``(..., n, n)``.
    tolerance: how large the effect of rounding may be, relative to the largest entry and to the largest eigenvalue.
      ``None``: what rounding does to n points in any number of dimensions, 36 eps for entries, and ``36 + 4 sqrt(n)``
      eps of the largest eigenvalue plus ``sqrt(n)`` eps of the largest entry for eigenvalues. For float16 and bfloat16
      the 4 and the last term are in their own eps, and the rest in that of float32.

  Returns:
    ``(...)`` booleans. A matrix that contains NaN or infinity is not an EDM; the empty matrix is one.

  Raises:
    ValueError: D is not square.
    TypeError: D does not hold real numbers.

  Derivatives: none; the result is boolean.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import edm, is_edm
    >>> D = edm(jnp.array([[0.0], [1.0], [3.0]]))
    >>> bool(is_edm(D)), bool(is_edm(D**2))  # 1 + 4 < 9: the roots of D**2 break the triangle inequality
    (True, False)
  """
  validation.square("is_edm", "D", D)
  D, values, limit, allowed = _eigenvalues(D, tolerance)
  zero_diagonal = jnp.abs(jnp.diagonal(D, axis1=-2, axis2=-1)).max(-1, initial=0) <= allowed
  symmetric = jnp.abs(D - D.swapaxes(-1, -2)).max((-1, -2), initial=0) <= allowed
  semidefinite = values.min(-1, initial=0) >= -limit
  return zero_diagonal & symmetric & semidefinite & jnp.isfinite(D).all((-1, -2))


def embedding_dimension(D: ArrayLike, *, tolerance: float | None = None) -> jax.Array:
  """How many coordinates points need to have the squared distances D: the positive eigenvalues of ``-1/2 J D J``.

  Shapes: ``n`` points; ``...`` leading batch axes.

  Args:
    D: squared distances, ``(..., n, n)``. With noise no eigenvalue is zero: look for a gap in the eigenvalues of
      :func:`classical_mds`, and pass a tolerance.
    tolerance: eigenvalues up to this share of the largest count as zero. ``None``: up to what rounding does, as for
      :func:`is_edm`.

  Returns:
    ``(...)`` integers; 0 for points that all coincide.

  Raises:
    ValueError: as :func:`classical_mds`.
    TypeError: D does not hold real numbers.

  Derivatives: none; the result is an integer.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import edm, embedding_dimension
    >>> in_a_plane = jnp.array([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [3.0, 2.0, 1.0]])
    >>> int(embedding_dimension(edm(in_a_plane)))
    2
  """
  validation.square("embedding_dimension", "D", D)
  validation.distances("embedding_dimension", "D", D)
  _, values, limit, _ = _eigenvalues(D, tolerance)
  return (values > limit[..., None]).sum(-1)


def _gram_from_edm(D: jax.Array) -> jax.Array:
  return linear(_GRAM, (), [D])[0]


def _gram_in_units(D: jax.Array) -> Arrays:
  unit = unit_of(D)
  return [double_centred(D / unit) * unit]


_GRAM = LinearMap.of(_gram_in_units, _gram_in_units)  # its own transpose; a unit is not linear for JAX


def _edm_from_gram(B: jax.Array) -> jax.Array:
  # Of two differences, which are zero on the diagonal, symmetric, and do not overflow where the result does not.
  rows = jnp.diagonal(B)[:, None] - B
  return rows + rows.T


def double_centred(D: jax.Array) -> jax.Array:
  """``-1/2 J D J``, ``(..., n, n)``, in units in which the sum of a row is finite."""
  rows_centred = D - D.mean(-1, keepdims=True)
  return -(rows_centred - rows_centred.mean(-2, keepdims=True)) / 2


def _eigenvalues(D: ArrayLike, tolerance: float | None) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """In units of a power of two: D, the eigenvalues of its Gram matrix, and what rounding may make of an eigenvalue and
  of an entry, ``(...)``.
  """
  result, compute = dtypes(D)
  D = jax.lax.stop_gradient(jnp.asarray(with_all_digits(D)).astype(compute))
  D = D / unit_of(D, (-1, -2))
  n = D.shape[-1]
  values = jnp.linalg.eigvalsh(double_centred(D)) if n else D.sum(-1)
  largest_entry, largest = jnp.abs(D).max((-1, -2), initial=0), jnp.abs(values).max(-1, initial=0)
  if tolerance is not None:
    return D, values, tolerance * largest, tolerance * largest_entry
  of_computation, of_entries, root = float(jnp.finfo(compute).eps), float(jnp.finfo(result).eps), n**0.5
  of_zero = ROUNDING_OF_COMPUTATION * of_computation + ROUNDING_OF_ENTRIES * of_entries
  of_eigenvalues = (of_zero + GROWTH_OF_COMPUTATION * of_computation * root) * largest
  return D, values, of_eigenvalues + GROWTH_OF_ENTRIES * of_entries * root * largest_entry, of_zero * largest_entry
