"""Differentiable Euclidean distance matrices for JAX.

The rooms, from the top; imports point down only:

==============  ====================================================================================
``__main__``    the command line (``python -m jax_edm``): parse, call, print
``_airports``   the main job: airports on a sphere, from a tenth of their distances
``_fit``        points from the distances in a user's file
``_files``      the user's files: read, checked, written all at once or not at all
``_fitting``    points from any distances: ``stress``, ``guttman_transform``, ``points_from_edm``
``_condensed``  ``pdist``, ``squareform``: the condensed form of SciPy
``_smacof``     stress, its majorization, and the derivative of its minimum
``_points``     points and matrices in closed form: Gram matrices, ``classical_mds``, ``procrustes``, ``is_edm``
``_calculus``   ``edm_jacobian``, ``edm_jvp``, ``edm_vjp``: the derivative itself, as arrays
``_nearest``    ``nearest``: the k nearest points
``_pairwise``   ``pairwise_sum``, ``pairwise_logsumexp``: reductions over all pairs, in O(n) memory
``_reductions`` what those two do with the rows, tiles, or blocks that a device has
``_fused``      the same as kernels: lowered for which platform, differentiated how
``_pallas``     a sweep over all pairs as one kernel, for GPUs and TPUs
``_sweeps``     what a kernel makes of a tile: sums over pairs, and their gradients
``_tiles``      a tile of pairs, and a sweep over all of them: the words between those two
``_edm``        ``edm``, ``distances``: check, canonicalise, choose the form, call the rule
``_ring``       sums over blocks that travel around the devices, and their derivatives
``_devices``    who computes which rows, where points are spread over the devices of a mesh
``_spectral``   how JAX differentiates eigenvectors and rotations, where values repeat, too
``_blocks``     the rows of a matrix of pairs, in blocks
``_rules``      how JAX differentiates an EDM; the derivation stands in its docstring
``_kernels``    the array functions: squared distances, the form B and its adjoint P
``_matrices``   checks of distance matrices
``_checks``     input checks and the one form of error messages
==============  ====================================================================================
"""

from jax_edm._core.jacobian import edm_jacobian, edm_jvp, edm_vjp
from jax_edm._core.condensed import pdist, squareform
from jax_edm._core.edm import distances, edm
from jax_edm._mds.fitting import Configuration, guttman_inverse, guttman_transform, points_from_edm, stress
from jax_edm._pairwise.nearest import Nearest, nearest
from jax_edm._pairwise.api import pairwise_logsumexp, pairwise_sum
from jax_edm._mds.points import (
  ClassicalMDS,
  Procrustes,
  classical_mds,
  edm_from_gram,
  embedding_dimension,
  gram_from_edm,
  is_edm,
  procrustes,
)
from jax_edm._core.derivatives import safe_root

__all__ = [
  "ClassicalMDS",
  "Configuration",
  "Nearest",
  "Procrustes",
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
  "nearest",
  "pairwise_logsumexp",
  "pairwise_sum",
  "pdist",
  "points_from_edm",
  "procrustes",
  "safe_root",
  "squareform",
  "stress",
]
__version__ = "0.1.0"
