"""Classical multidimensional scaling: points from complete squared distances, in closed form."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm._core import validation
from jax_edm._core.batching import compiled
from jax_edm._mds import gram, subspace, sylvester, units
from jax_edm._typing import ArrayLike


class ClassicalMDS(NamedTuple):
  """The result of :func:`classical_mds`: ``(..., n, dim)``, ``(..., n)``, ``(..., 2)`` and ``(...)``."""

  points: jax.Array
  eigenvalues: jax.Array
  goodness_of_fit: jax.Array
  negative_count: jax.Array


def classical_mds(D: ArrayLike, dim: int) -> ClassicalMDS:
  r"""Points whose inner products are nearest to those that D implies: classical (Torgerson) scaling, PCoA.

  .. math:: B = -\tfrac12 J D J = V \operatorname{diag}(\lambda) V', \qquad X = V_k \operatorname{diag}(\lambda_k)^{1/2}

  Shapes: ``n`` points; ``k = dim`` coordinates; ``...`` leading batch axes.

  Args:
    D: squared distances, ``(..., n, n)``, complete. (R's ``cmdscale`` takes distances.)
    dim: the number of coordinates, 1 to n - 1.

  Returns:
    ``ClassicalMDS(points, eigenvalues, goodness_of_fit, negative_count)``: the points, ``(..., n, dim)``, centred,
    along their principal axes; *all* eigenvalues, ``(..., n)``, descending; two numbers, ``(..., 2)``, the sum of the
    positive kept eigenvalues over the sum of all absolute values, and over the sum of all positive ones, as R's
    ``cmdscale`` reports them (both are 1 if all points coincide); and the number of kept eigenvalues that are negative
    by more than rounding: their columns are zero, never NaN.

  Raises:
    ValueError: D is not square; dim is out of range; outside ``jit`` also values that are not finite, negative,
      asymmetric, or a diagonal that is not zero.
    TypeError: D does not hold real numbers, or dim is not an integer.

  Time: a full decomposition, O(n^3), because of the eigenvalues. Under ``jit``, in a program that uses the points alone
  and takes no derivatives, more than 512 points in few dimensions need a few products of D with some tens of vectors;
  a result that is less exact than that of a full decomposition is replaced by it.

  Derivatives: all modes, all orders. The derivatives of the points are right for every function of their *distances*,
  also where eigenvalues repeat (a regular polygon, a cube); ``docs/points.md`` says more. They do not exist where a
  kept eigenvalue equals a dropped one, or where a kept one is zero: there the terms that would be infinite are left
  out, and the result is finite. JAX differentiates the eigenvalues: where some of them repeat, the sum over these has
  a first derivative, and no second one. The first number of ``goodness_of_fit`` holds the absolute values of all of
  them, and has no derivative in D where one is zero, as most are for exact distances in few dimensions.

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
  return ClassicalMDS(*compiled(_classical_mds, (D,), "(p,k),(p),(g),()", dim))


def classical_scaling(D: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
  """Points of ``k`` coordinates for one symmetric ``D``, and all eigenvalues, descending."""
  B = gram.double_centred(D)
  # All eigenvalues cost a full decomposition. In a program that uses the points alone, the compiler leaves it out.
  return sylvester.principal_points(B, subspace.largest_eigenvalues(B, k)), subspace.all_eigenvalues(B)[0]


def _classical_mds(D: jax.Array, dim: int) -> tuple[jax.Array, ...]:
  unit = units.power_of_two(jnp.sqrt(jnp.abs(lax.stop_gradient(D)).max()))  # of the points
  D = units.in_units(D, unit, 2)
  points, values = classical_scaling((D + D.T) / 2, dim)
  positive, kept = jnp.maximum(values, 0), values[:dim]
  totals = jnp.stack([jnp.abs(values).sum(), positive.sum()])
  fit = jnp.where(totals == 0, 1, positive[:dim].sum() / jnp.where(totals == 0, 1, totals))
  unit = units.positive(unit)
  return points * unit, values * unit * unit, fit, (kept < -sylvester.rounding(values)).sum()
