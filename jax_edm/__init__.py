"""Differentiable Euclidean distance matrices for JAX.

Matrices of (squared) distances between points and sums over all pairs of points, with derivatives that are right in
every mode, also where points coincide; and points from distances.

Example:
  >>> import jax, jax.numpy as jnp
  >>> import jax_edm
  >>> x = jnp.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]])
  >>> jax_edm.distances(x)[0]
  Array([0., 5., 5.], dtype=float32)
  >>> jax.grad(lambda x: jax_edm.distances(x).sum())(x)
  Array([[-2.4, -3.2],
         [ 1.2,  1.6],
         [ 1.2,  1.6]], dtype=float32)

Matrices of distances:
  edm                 squared distances between all points of one set, or of two
  distances           their roots
  safe_root           the root of a squared distance, with derivatives that are zero at zero
  edm_jvp, edm_vjp    the derivative of ``edm`` times a tangent, and times a cotangent
  edm_jacobian        the whole derivative
  pdist, squareform   SciPy's condensed form

Functions of the distance, for use with ``edm`` and in sums:
  matern              the Matern kernels
  radial              any function of the distance, smooth at zero where it is

Sums over pairs, in O(n) memory:
  pairwise_sum        of any function of one pair: kernels, energies, stress
  pairwise_logsumexp  soft minima, Sinkhorn, densities
  nearest             the k nearest points (``Nearest``)

Points from distances:
  smacof              complete or missing distances, bounds, fixed points (``SMACOFResult``)
  smacof_edges        a list of measured pairs, for many points
  classical_mds       complete distances, in closed form (``ClassicalMDS``)
  place               new points in a known map
  smooth_bounds       what bounds imply by the triangle inequality
  guttman_transform, guttman_inverse   one step of SMACOF

Tests and comparisons:
  stress              how far distances between points are from targets
  procrustes          one set moved onto another (``Procrustes``)
  standard_errors     how sure a map is (``StandardErrors``)
  is_edm, embedding_dimension          whether a matrix can be one of squared distances, and of which points
  gram_from_edm, edm_from_gram         to Gram matrices, and back

``D`` always means squared distances, and ``target`` distances. ``help(jax_edm.edm)`` shows shapes, errors, derivatives
and accuracy of a function. ``python -m jax_edm --help`` is the command line.
"""

from jax_edm._core.condensed import pdist, squareform
from jax_edm._core.derivatives import safe_root
from jax_edm._core.edm import distances, edm
from jax_edm._core.jacobian import edm_jacobian, edm_jvp, edm_vjp
from jax_edm._core.matern import matern
from jax_edm._core.radial import radial
from jax_edm._mds.bounds import smooth_bounds
from jax_edm._mds.classical import ClassicalMDS, classical_mds
from jax_edm._mds.edges import smacof_edges
from jax_edm._mds.gram import edm_from_gram, embedding_dimension, gram_from_edm, is_edm
from jax_edm._mds.place import place
from jax_edm._mds.procrustes import Procrustes, procrustes
from jax_edm._mds.smacof import SMACOFResult, smacof
from jax_edm._mds.stress import guttman_inverse, guttman_transform, stress
from jax_edm._mds.uncertainty import StandardErrors, standard_errors
from jax_edm._pairwise.api import pairwise_logsumexp, pairwise_sum
from jax_edm._pairwise.nearest import Nearest, nearest

__all__ = [
  "ClassicalMDS",
  "Nearest",
  "Procrustes",
  "SMACOFResult",
  "StandardErrors",
  "classical_mds",
  "distances",
  "edm",
  "edm_from_gram",
  "edm_jacobian",
  "edm_jvp",
  "edm_vjp",
  "embedding_dimension",
  "gram_from_edm",
  "guttman_inverse",
  "guttman_transform",
  "is_edm",
  "matern",
  "nearest",
  "pairwise_logsumexp",
  "pairwise_sum",
  "pdist",
  "place",
  "procrustes",
  "radial",
  "safe_root",
  "smacof",
  "smacof_edges",
  "smooth_bounds",
  "squareform",
  "standard_errors",
  "stress",
]
__version__ = "0.2.0"
