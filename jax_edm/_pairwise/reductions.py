"""Reductions of a block of ``f(D)`` along its rows: what a sum, and what a logsumexp, makes of a block."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm._core import distance
from jax_edm._core.batching import promoted
from jax_edm._core.operations import FEW, product, row_sums

Array = jax.Array
Maybe = jax.Array | None


class Reduction(Protocol):
  """What is made of a block, ``(b, m)``, of which the pairs in ``pair_mask`` exist; ``values`` are ``(m,)`` or more."""

  @property
  def linear(self) -> bool:
    """A sum, to which what does not exist adds nothing."""
    ...

  def of_block(self, block: Array, pair_mask: Maybe, values: Maybe, row_max: Maybe = None) -> Array:
    """``(b,)``, or ``(b, k)``."""
    ...


@dataclass(frozen=True)
class Sum:
  """``sum_j f_ij v_j``."""

  linear: ClassVar[bool] = True

  def of_block(self, block: Array, pair_mask: Maybe, values: Maybe, row_max: Maybe = None) -> Array:
    block = _masked(block, pair_mask)
    if values is None:
      return row_sums(*wide(block))
    block, values = wide(block, values)
    if values.ndim == 1:
      return row_sums(block * values[None, :])
    if values.shape[1] < FEW:
      return jnp.stack([row_sums(block * v[None, :]) for v in values.T], 1)
    return product(block, values, 1, 0)

  def of_columns(self, block: Array, pair_mask: Maybe, values: Maybe) -> Array:
    """``sum_i f_ij v_i``: as ``(values' block)'``, which is faster on a CPU (``distance.transposed``)."""
    ones = jnp.ones(block.shape[0], block.dtype)
    block, values = wide(_masked(block, pair_mask), ones if values is None else values)
    columns = values if values.ndim == 2 else values[:, None]
    sums = product(columns, block, 0, 0)
    return sums[0] if values.ndim == 1 else distance.transposed(sums)


@dataclass(frozen=True)
class RowMax:
  """The scale of each row: its largest term, weight included. No derivative."""

  linear: ClassVar[bool] = False

  def of_block(self, block: Array, pair_mask: Maybe, values: Maybe, row_max: Maybe = None) -> Array:
    terms = lax.stop_gradient(exponents(block, pair_mask, values))
    if values is not None:  # a term without weight must not set the scale
      weights = values[None, :]
      terms = jnp.where(weights == 0, lowest(terms), terms + log_size(weights, terms))
    return terms.max(1, initial=lowest(terms))


@dataclass(frozen=True)
class ScaledTotal:
  """``sum_j w_j exp(f_ij - row_max_i)``: the sum of exponentials on the scale of the row."""

  linear: ClassVar[bool] = True

  def of_block(self, block: Array, pair_mask: Maybe, values: Maybe, row_max: Maybe = None) -> Array:
    assert row_max is not None
    weights = None if values is None else values[None, :]
    return weighted_exponentials(exponents(block, pair_mask, values), weights, row_max[:, None]).sum(1)


@dataclass(frozen=True)
class LogSumExp:
  """``log |sum_j w_j exp f_ij|`` and its sign, ``(b, 2)``, of rows that are there as a whole."""

  linear: ClassVar[bool] = False

  def of_block(self, block: Array, pair_mask: Maybe, values: Maybe, row_max: Maybe = None) -> Array:
    scale = RowMax().of_block(block, pair_mask, values)
    return self.finish(ScaledTotal().of_block(block, pair_mask, values, scale), scale)

  @staticmethod
  def finish(total: Array, row_max: Array) -> Array:
    # Selected before the logarithm: masked afterwards, an empty row's derivative is 0 / 0.
    empty = total == 0
    size = jnp.log(jnp.where(empty, 1, jnp.abs(total))) + finite(row_max)
    return jnp.stack([jnp.where(empty, -jnp.inf, size), lax.stop_gradient(jnp.sign(total))], -1)


def weighted_exponentials(terms: Array, weights: Maybe, row_max: Array) -> Array:
  """``w exp(terms - row_max)``, right for weights of every finite size, and with a derivative in w also where w is 0.

  In two factors: on the scale of the row only their product with w is sure to be of the size of a number.
  """
  terms = terms - finite(row_max)
  if weights is None:
    return jnp.exp(terms)
  # A term without weight must not overflow on the scale of the others. (Its weight has a derivative.)
  limit = float(np.log(float(jnp.finfo(terms.dtype).max))) - 1
  half = jnp.exp(jnp.where(weights == 0, jnp.minimum(terms, limit), terms) / 2)
  return weights.astype(terms.dtype) * half * half


def log_size(weights: Array, like: Array) -> Array:
  """``log |w|``, and 0 where w is 0."""
  size = jnp.abs(lax.stop_gradient(weights).astype(like.dtype))
  return jnp.log(jnp.where(size == 0, 1, size))


def exponents(block: Array, pair_mask: Maybe, weights: Maybe = None) -> Array:
  """Of float32 at least, and as wide as the weights; the lowest number for what does not exist, and for -inf."""
  block = block.astype(promoted(block.dtype, float, jnp.float32, *([] if weights is None else [weights])))
  if pair_mask is not None:
    block = jnp.where(pair_mask, block, -jnp.inf)
  # XLA computes f twice, for the maximum and for the exponents. Left to itself it fuses the last product of f and the
  # subtraction of the maximum into one operation that rounds once, and a large maximum minus itself is not zero. The
  # selection, which turns minus infinity into a number as good, stands between the two.
  return jnp.where(block < lowest(block), lowest(block), block)


def lowest(like: Array) -> float:
  return float(jnp.finfo(like.dtype).min)


def finite(row_max: Array) -> Array:
  """What is subtracted from the exponents of a row, of which the largest is ``row_max``."""
  return jnp.where((row_max > lowest(row_max)) & (row_max < jnp.inf), row_max, 0)


def _masked(block: Array, pair_mask: Maybe) -> Array:
  return block if pair_mask is None else jnp.where(pair_mask, block, jnp.zeros_like(block))


def wide(*arrays: Array) -> list[Array]:
  """All of one dtype; one that accumulates in float32 or wider, or of integers as ``jnp.sum`` does."""
  dtype = promoted(*arrays)
  if jnp.issubdtype(dtype, jnp.inexact):
    dtype = promoted(dtype, jnp.float32)
  else:
    dtype = jax.eval_shape(jnp.sum, jax.ShapeDtypeStruct((), dtype)).dtype
  return [a.astype(dtype) for a in arrays]
