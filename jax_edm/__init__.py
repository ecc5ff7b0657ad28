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
