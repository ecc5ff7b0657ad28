"""Points and their distance matrices, in closed form: Gram matrices, classical MDS, Procrustes."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_edm import _errors
from jax_edm._core import edm as _edm
from jax_edm._core import validation
from jax_edm._mds import sylvester
from jax_edm._core.distance import dot
from jax_edm._core.derivatives import safe_root

# What a zero eigenvalue may be from rounding, next to the largest: in eps of what is computed with (up to 16 were seen,
# for 600 points), and of the entries (up to 1.6).
ROUNDING, OF_ENTRIES = 32, 4


class ClassicalMDS(NamedTuple):
  """What :func:`classical_mds` returns: ``(..., n, dim)``, ``(..., n)``, ``(..., 2)`` and ``(...)``."""

  points: jax.Array
  eigenvalues: jax.Array
  goodness_of_fit: jax.Array
  negative_count: jax.Array


class Procrustes(NamedTuple):
  """What :func:`procrustes` returns: ``(..., n, d)``, ``(..., d, d)``, ``(..., d)``, ``(...)`` and ``(...)``."""

  aligned: jax.Array
  rotation: jax.Array
  translation: jax.Array
  scale: jax.Array
  rmsd: jax.Array


def gram_from_edm(D: jax.Array) -> jax.Array:
  r"""The Gram matrix of centred points, from their squared distances: double centring.

  .. math:: B = -\tfrac12\, J D J, \qquad J = 1 - \tfrac1n \mathbf{1}\mathbf{1}'

  Shapes: ``n`` points; ``...`` leading batch axes.

  Args:
    D: squared distances, ``(..., n, n)``. Nothing but the shape is checked: the map is linear.

  Returns:
    ``(..., n, n)``, ``<x_i - c, x_j - c>`` with c the mean of the points, if D is an EDM (Schoenberg 1935; Torgerson
    1952). float16 and bfloat16 compute in float32 and return their own type.

  Raises:
    ValueError, TypeError: D is not square, or does not hold real numbers.

  Derivatives: all modes, all orders; linear.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import gram_from_edm
    >>> gram_from_edm(jnp.array([[0.0, 4.0], [4.0, 0.0]]))
    Array([[ 1., -1.],
           [-1.,  1.]], dtype=float32)
  """
  validation.square("gram_from_edm", "D", D)
  result, compute = _edm.dtypes(D)
  return sylvester.gram(jnp.asarray(D).astype(compute)).astype(result)


def edm_from_gram(B: jax.Array) -> jax.Array:
  r"""Squared distances from a Gram matrix, or any matrix of inner products (a kernel, a covariance).

  .. math:: D_{ij} = B_{ii} + B_{jj} - B_{ij} - B_{ji}

  Shapes: ``n`` points; ``...`` leading batch axes.

  Args:
    B: inner products, ``(..., n, n)``. Nothing but the shape is checked: the map is linear.

  Returns:
    ``(..., n, n)``, symmetric with a zero diagonal; negative entries mean that B is no Gram matrix. It undoes
    :func:`gram_from_edm`; the other way round, ``gram_from_edm(edm_from_gram(B))`` is B of centred points.

  Raises:
    ValueError, TypeError: B is not square, or does not hold real numbers.

  Derivatives: all modes, all orders; linear.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import edm_from_gram
    >>> edm_from_gram(jnp.array([[1.0, -1.0], [-1.0, 1.0]]))
    Array([[0., 4.],
           [4., 0.]], dtype=float32)
  """
  validation.square("edm_from_gram", "B", B)
  result, compute = _edm.dtypes(B)
  B = jnp.asarray(B).astype(compute)
  squares = jnp.diagonal(B, axis1=-2, axis2=-1)
  # In pairs that cancel exactly on the diagonal.
  D = (squares[..., :, None] + squares[..., None, :]) - (B + B.swapaxes(-1, -2))
  return D.astype(result)


def classical_mds(D: jax.Array, dim: int) -> ClassicalMDS:
  r"""Points whose inner products are nearest to those that D implies: classical (Torgerson) scaling, PCoA.

  .. math:: B = -\tfrac12 J D J = V \operatorname{diag}(\lambda) V', \qquad X = V_k \operatorname{diag}(\lambda_k)^{1/2}

  Shapes: ``n`` points; ``k = dim`` coordinates; ``...`` leading batch axes.

  Args:
    D: squared distances, ``(..., n, n)``, complete. (R's ``cmdscale`` takes their roots.)
    dim: how many coordinates, 1 to n - 1.

  Returns:
    ``ClassicalMDS(points, eigenvalues, goodness_of_fit, negative_count)``: the points, ``(..., n, dim)``, centred,
    along their principal axes; *all* eigenvalues, ``(..., n)``, descending; ``(..., 2)``, the sum of the positive kept
    eigenvalues over that of all absolute values, and over that of all positive ones, as R's ``cmdscale`` reports them
    (1 for points that all coincide); and how many of the kept eigenvalues are negative by more than rounding: their
    columns are zero, never NaN.

  Raises:
    ValueError: not square, and outside ``jit`` not finite, negative, asymmetric, or a diagonal that is not zero; a
      dim out of range.
    TypeError: D does not hold real numbers.

  Derivatives: all modes, all orders. Those of the points are right for any function of their *distances*, where
  eigenvalues repeat, too (a regular polygon, a cube): the rule is in ``jax_edm._mds.sylvester``, and points turn with D no
  more than they must. No derivative exists where a kept and a dropped eigenvalue coincide, or a kept one is zero; there
  the two count as if they did not meet, and what comes is finite. The eigenvalues are differentiated by JAX: where they
  repeat, sums over those that do have first derivatives, and there are no second ones.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import classical_mds, distances, edm
    >>> square = jnp.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    >>> found = classical_mds(edm(square), dim=2)
    >>> bool(jnp.allclose(distances(found.points), distances(square), atol=1e-6))
    True
    >>> found.goodness_of_fit.round(4)
    Array([1., 1.], dtype=float32)
  """
  n = validation.square("classical_mds", "D", D)
  validation.dimension("classical_mds", dim, n)
  validation.distances("classical_mds", "D", D)
  return _classical_mds(D, dim)


@partial(jax.jit, static_argnums=1)
def _classical_mds(D: jax.Array, dim: int) -> ClassicalMDS:
  result, compute = _edm.dtypes(D)

  def one(D: jax.Array) -> tuple[jax.Array, ...]:
    points, values = sylvester.classical_scaling((D + D.T) / 2, dim)
    positive, kept = jnp.maximum(values, 0), values[:dim]
    totals = jnp.stack([jnp.abs(values).sum(), positive.sum()])
    fit = jnp.where(totals == 0, 1, positive[:dim].sum() / jnp.where(totals == 0, 1, totals))
    return points, values, fit, (kept < -sylvester.rounding(values)).sum()

  found = jnp.vectorize(one, signature="(n,n)->(n,k),(n),(g),()")(D.astype(compute))
  points, values, fit, negative = found
  return ClassicalMDS(points.astype(result), values.astype(result), fit.astype(result), negative)


def procrustes(x: jax.Array, y: jax.Array, *, scale: bool = False, reflection: bool = True) -> Procrustes:
  r"""``x`` moved and turned onto ``y``: the rigid motion with the least sum of squared distances of matched points.

  .. math:: \min_{s, R, t} \sum_i \lVert s\, x_i R + t - y_i \rVert^2, \qquad R'R = 1

  Shapes: ``n`` matched points; ``d`` coordinates; ``...`` leading batch axes, which broadcast.

  Args:
    x: points to move, ``(..., n, d)``.
    y: points to meet, ``(..., n, d)``.
    scale: whether x may grow or shrink as well.
    reflection: whether x may be mirrored, where that is better. False for what has a handedness, as molecules have
      (Kabsch 1976): a proper rotation.

  Returns:
    ``Procrustes(aligned, rotation, translation, scale, rmsd)``, with ``aligned = scale * x @ rotation + translation``
    and ``rmsd`` the root mean square distance of ``aligned`` from ``y``, in the unit of the points. The rotation is
    orthogonal for every x and y; where they leave a part of it open (fewer points than coordinates, points on a line or
    in a plane), it is one of the best, and proper if it may be.

  Raises:
    ValueError, TypeError: shapes that do not match; points as for :func:`jax_edm.edm`; no points at all.

  Derivatives: all modes, all orders; those of ``rmsd`` are zero where it is zero. They exist where the best motion is
  unique, up to what turns neither x nor y: also where singular values repeat, for fewer points than coordinates, and
  for two sets in a plane or on a line; for one such set, against one that fills the space, only if it spans d - 1
  dimensions and ``reflection=False``. Elsewhere several motions are equally good, and what comes is finite.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import procrustes
    >>> x = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> moved = x @ jnp.array([[0.0, 1.0], [-1.0, 0.0]]) + 5
    >>> found = procrustes(x, moved)
    >>> bool(jnp.allclose(found.aligned, moved, atol=1e-5)), found.translation.round(3)
    (True, Array([5., 5.], dtype=float32))
  """
  _errors.points("procrustes", "x", x)
  _errors.points("procrustes", "y", y)
  _errors.matched("procrustes", x, y)
  return _procrustes(x, y, bool(scale), bool(reflection))


@partial(jax.jit, static_argnums=(2, 3))
def _procrustes(x: jax.Array, y: jax.Array, scaled: bool, reflection: bool) -> Procrustes:
  result, compute = _edm.dtypes(x, y)

  def one(x: jax.Array, y: jax.Array) -> tuple[jax.Array, ...]:
    from_x, from_y = x.mean(0), y.mean(0)
    x, y = x - from_x, y - from_y
    m = dot(x.T, y)
    u, values, vt = jnp.linalg.svd(m)
    mirrored = jnp.linalg.det(dot(u, vt)) < 0
    free = values[-1] <= sylvester.rounding(values)  # the last axis may point either way
    sign = jnp.where(mirrored & (free | (not reflection)), -1, 1).astype(m.dtype)
    u, values = u.at[:, -1].multiply(sign), values.at[-1].multiply(sign)
    rotation = sylvester.nearest_rotation(m, (u, values, vt.T))
    s = jnp.ones((), m.dtype)
    if scaled:
      size = (x * x).sum()
      s = jnp.where(size == 0, 1, jnp.maximum((rotation * m).sum(), 0) / jnp.where(size == 0, 1, size))
    moved = s * dot(x, rotation)
    rmsd = safe_root(((moved - y) ** 2).sum(1).mean())
    return moved + from_y, rotation, from_y - s * dot(from_x, rotation), s, rmsd

  found = jnp.vectorize(one, signature="(n,d),(n,d)->(n,d),(d,d),(d),(),()")(x.astype(compute), y.astype(compute))
  return Procrustes(*(a.astype(result) for a in found))


def is_edm(D: jax.Array, *, tolerance: float | None = None) -> jax.Array:
  r"""Whether D holds the squared distances of some points: hollow, symmetric, and ``-1/2 J D J`` positive semidefinite.

  Shapes: ``n`` points; ``...`` leading batch axes.

  Args:
    D: ``(..., n, n)``.
    tolerance: what rounding may do, relative to the largest entry and to the largest eigenvalue; ``None``: 36 eps, or 4
      for float16 and bfloat16.

  Returns:
    ``(...)`` booleans (Schoenberg 1935). NaN and infinity are in no EDM; the empty matrix is one.

  Raises:
    ValueError, TypeError: D is not square, or does not hold real numbers.

  Derivatives: none; a boolean.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import edm, is_edm
    >>> D = edm(jnp.array([[0.0], [1.0], [3.0]]))
    >>> bool(is_edm(D)), bool(is_edm(D**2))  # 1 + 4 < 9: the roots of D**2 break the triangle inequality
    (True, False)
  """
  validation.square("is_edm", "D", D)
  D, values, limit = _spectrum(D, tolerance)
  largest = jnp.abs(D).max((-1, -2), initial=0)
  hollow = jnp.abs(jnp.diagonal(D, axis1=-2, axis2=-1)).max(-1, initial=0) <= limit * largest
  symmetric = jnp.abs(D - D.swapaxes(-1, -2)).max((-1, -2), initial=0) <= limit * largest
  semidefinite = values.min(-1, initial=0) >= -limit * jnp.abs(values).max(-1, initial=0)
  return hollow & symmetric & semidefinite & jnp.isfinite(D).all((-1, -2))


def embedding_dimension(D: jax.Array, *, tolerance: float | None = None) -> jax.Array:
  r"""How many coordinates points need to have the squared distances D: the number of positive eigenvalues of its Gram.

  Shapes: ``n`` points; ``...`` leading batch axes.

  Args:
    D: squared distances, ``(..., n, n)``. With noise every eigenvalue is positive or negative: then look at the
      eigenvalues of :func:`classical_mds` for the gap, and pass a tolerance.
    tolerance: what counts as zero, relative to the largest eigenvalue; ``None``: 36 eps, or 4 for
      float16 and bfloat16.

  Returns:
    ``(...)`` integers; 0 for points that all coincide.

  Raises:
    ValueError, TypeError: D as for :func:`classical_mds`.

  Derivatives: none; an integer.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import edm, embedding_dimension
    >>> in_a_plane = jnp.array([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [3.0, 2.0, 1.0]])
    >>> int(embedding_dimension(edm(in_a_plane)))
    2
  """
  validation.square("embedding_dimension", "D", D)
  validation.distances("embedding_dimension", "D", D)
  _, values, limit = _spectrum(D, tolerance)
  return (values > limit * jnp.abs(values).max(-1, initial=0, keepdims=True)).sum(-1)


def _spectrum(D: jax.Array, tolerance: float | None) -> tuple[jax.Array, jax.Array, float]:
  """D as it is computed with, the eigenvalues of its Gram matrix, and the tolerance."""
  result, compute = _edm.dtypes(D)
  D = jax.lax.stop_gradient(jnp.asarray(D).astype(compute))
  values = jnp.linalg.eigvalsh(sylvester.gram(D)) if D.shape[-1] else D.sum(-1)
  if tolerance is None:
    tolerance = float(ROUNDING * jnp.finfo(compute).eps + OF_ENTRIES * jnp.finfo(result).eps)
  return D, values, tolerance
