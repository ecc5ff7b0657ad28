"""Functions of one member of a batch, applied to leading axes; and the dtypes of the computation."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def dtypes(*arrays: Any) -> tuple[jnp.dtype, jnp.dtype]:
  """The dtype of the result, and the dtype to compute in: float32, or float64."""
  result = promoted(*arrays, float)
  return result, result if result.itemsize >= 4 else jnp.dtype(jnp.float32)


def with_all_digits(x: Any) -> Any:
  """NumPy's 64-bit integers as floating-point numbers, where JAX would take them for 32-bit ones, which wrap."""
  is_integer = isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind in "iu"
  return x.astype(np.float64) if is_integer and promoted(x) != x.dtype else x


def promoted(*types: Any) -> jnp.dtype:
  """The dtype of all together, also where JAX is told to promote none by itself (``jax_numpy_dtype_promotion``)."""
  with jax.numpy_dtype_promotion("standard"):
    return jnp.result_type(*types)


def map_batch(function: Callable[..., Any], arrays: Sequence[Any], ranks: Sequence[int], results: str) -> Any:
  """``function`` of each member of a batch.

  Args:
    function: takes the arrays of one member.
    arrays: their leading axes broadcast against each other; ``None`` is passed on as it is.
    ranks: the number of axes that each array has in one member.
    results: the axes of the results, as in the signature of ``jnp.vectorize``.
  """
  leaves, structure = jax.tree.flatten(tuple(arrays))  # without those that are None
  own = [rank for a, rank in zip(arrays, ranks, strict=True) if a is not None]
  if all(a.ndim == rank for a, rank in zip(leaves, own, strict=True)):
    return function(*arrays)
  # Of as many leading axes each, because JAX may be told to add none by itself (``jax_numpy_rank_promotion``).
  leading = max(a.ndim - rank for a, rank in zip(leaves, own, strict=True))
  leaves = [a.reshape((1,) * (leading + rank - a.ndim) + a.shape) for a, rank in zip(leaves, own, strict=True)]
  axes = [",".join(f"a{i}_{j}" for j in range(rank)) for i, rank in enumerate(own)]
  mapped = jnp.vectorize(
    lambda *arrays: function(*jax.tree.unflatten(structure, arrays)),
    signature=",".join(f"({a})" for a in axes) + "->" + results,
  )
  return mapped(*leaves)


def map_matrices(
  function: Callable[..., Any], matrices: Sequence[Any], results: str, *options: Any, typed_by: int | None = None
) -> Any:
  """``function`` of the matrices (or None) of each member, and of the options; ``results`` as in ``map_batch``.

  The function computes in float32 or float64. Its floating-point results get the dtype that belongs to the matrices, or
  to the first ``typed_by`` of them.
  """
  result, compute = dtypes(*(a for a in matrices[:typed_by] if a is not None and a.dtype != bool))
  matrices = jax.tree.map(lambda a: jnp.asarray(a).astype(compute), tuple(matrices))
  out = map_batch(lambda *arrays: function(*arrays, *options), matrices, (2,) * len(matrices), results)
  return jax.tree.map(lambda a: a.astype(result) if a.dtype == compute else a, out)


_compiled = jax.jit(map_matrices, static_argnums=(0, 2, 3, 4), static_argnames="typed_by")


def compiled(
  function: Callable[..., Any], matrices: Sequence[Any], results: str, *options: Any, typed_by: int | None = None
) -> Any:
  """``map_matrices`` as one program for each function, its options and the types of the matrices."""
  return _compiled(function, tuple(map(with_all_digits, matrices)), results, *options, typed_by=typed_by)
