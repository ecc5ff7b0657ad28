"""The cutoff of a sum: what users pass, and the squared distance up to which a pair counts."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm import _errors
from jax_edm._core import validation
from jax_edm._core.batching import with_all_digits


def check(caller: str, cutoff: Any, batch: tuple[int, ...], implementation: str | None) -> None:
  """A distance, one number or ``(...)``; of values that are known, none is negative or NaN."""
  _errors.numbers_of_pairs(caller, "cutoff", cutoff)
  _errors.leading(caller, "cutoff", jnp.shape(cutoff), batch)
  if implementation == "pallas":
    expected, advice = 'with implementation="pallas" there must be no cutoff', 'Take implementation="xla"'
    raise _errors.error(caller, expected, "one", advice)
  if validation.is_concrete(cutoff):
    wrong = [float(c) for c in np.asarray(cutoff, float).reshape(-1) if not c >= 0]
    if wrong:
      expected, advice = "cutoff must be a distance, at least 0", "Leave it out to count all pairs"
      raise _errors.error(caller, expected, str(wrong[0]), advice)


def squared(cutoff: Any, dtype: Any) -> jax.Array:
  """No squared distance is at most -1: a cutoff that is traced may be negative, or NaN."""
  distance = lax.stop_gradient(jnp.asarray(with_all_digits(cutoff)).astype(dtype))
  return jnp.where(distance >= 0, jnp.square(distance), -1)
