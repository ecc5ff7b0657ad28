"""Differentiable Euclidean distance matrices for JAX.

The rooms, from the top; imports point down only:

==============  ====================================================================================
``__main__``    the command line (``python -m jax_edm``), on ``_fit``: points from distances
``_edm``        ``edm``, ``distances``: check, canonicalise, choose the form, call the rule
``_calculus``   ``edm_jacobian``, ``edm_jvp``, ``edm_vjp``: the derivative itself, as arrays
``_rules``      how JAX differentiates an EDM; the derivation stands in its docstring
``_kernels``    the array functions: squared distances, the form B and its adjoint P
``_checks``     input checks and the one form of error messages
==============  ====================================================================================
"""

from jax_edm._calculus import edm_jacobian, edm_jvp, edm_vjp
from jax_edm._edm import distances, edm

__all__ = ["distances", "edm", "edm_jacobian", "edm_jvp", "edm_vjp"]
__version__ = "0.1.0"
