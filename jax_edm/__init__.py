"""Differentiable Euclidean distance matrices for JAX.

The rooms, from the top; imports point down only:

==============  ====================================================================================
``__main__``    the command line (``python -m jax_edm``), on ``_fit``: points from distances
``_edm``        ``edm``, ``distances``: check, canonicalise, choose the form, call the rule
``_calculus``   ``edm_jacobian``, ``edm_jvp``, ``edm_vjp``: the derivative itself, as arrays
``_pairwise``   ``pairwise_sum``, ``pairwise_logsumexp``: reductions over all pairs, in O(n) memory
``_nearest``    ``nearest``: the k nearest points
``_blocks``     the rows of a matrix of pairs, in blocks
``_rules``      how JAX differentiates an EDM; the derivation stands in its docstring
``_kernels``    the array functions: squared distances, the form B and its adjoint P
``_checks``     input checks and the one form of error messages
==============  ====================================================================================
"""

from jax_edm._calculus import edm_jacobian, edm_jvp, edm_vjp
from jax_edm._edm import distances, edm
from jax_edm._nearest import Nearest, nearest
from jax_edm._pairwise import pairwise_logsumexp, pairwise_sum
from jax_edm._rules import safe_root

__all__ = [
  "Nearest",
  "distances",
  "edm",
  "edm_jacobian",
  "edm_jvp",
  "edm_vjp",
  "nearest",
  "pairwise_logsumexp",
  "pairwise_sum",
  "safe_root",
]
__version__ = "0.1.0"
