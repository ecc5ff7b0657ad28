"""Functions of one set of matrices, for each member of a batch, in the dtype of the computation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_edm._core import batching
from jax_edm._core.edm import dtypes


def map_matrices(function: Callable[..., Any], matrices: tuple[Any, ...], results: str, *options: Any) -> Any:
  """``function`` of the matrices (or None) of each member, and of the options; ``results`` as in ``map_batch``.

  The function computes in float32 or float64; its floating-point results get the dtype that belongs to the matrices.
  """
  result, compute = dtypes(*(a for a in matrices if a is not None and a.dtype != bool))
  matrices = jax.tree.map(lambda a: jnp.asarray(a).astype(compute), matrices)
  out = batching.map_batch(lambda *members: function(*members, *options), matrices, (2,) * len(matrices), results)
  return jax.tree.map(lambda a: a.astype(result) if a.dtype == compute else a, out)


compiled = jax.jit(map_matrices, static_argnums=(0, 2, 3, 4))
