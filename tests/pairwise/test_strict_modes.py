"""The modes in which JAX promotes neither dtypes nor ranks by itself: the same program, and no error."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_edm import distances, edm, nearest, pairwise_logsumexp, pairwise_sum

MODES = {
  "dtypes": lambda: jax.numpy_dtype_promotion("strict"),
  "ranks": lambda: jax.numpy_rank_promotion("raise"),
}


def everything(dtype, d, rng):
  """Functions of points ``(2, 9, d)``, with masks and values of fewer axes, and their derivatives."""
  x = jnp.asarray(rng.normal(size=(2, 9, d)) * 3).astype(dtype)
  y, mask = x[0, :5], jnp.arange(9) < 7
  v = jnp.asarray(rng.random(9)).astype(dtype if jnp.issubdtype(dtype, jnp.floating) else np.float32)
  functions = [
    lambda x: edm(x, where=mask),
    lambda x: distances(x, y),
    lambda x: pairwise_sum(lambda D: jnp.exp(-D), x, where=mask, values=v),
    lambda x: pairwise_sum(lambda D, a: a * jnp.exp(-D), x, y, args=(v[:5][None, :].astype(np.float32),)),
    lambda x: pairwise_sum(lambda D: jnp.exp(-D), x, values=v[:, None], diagonal=False, block_size=4),
    lambda x: pairwise_sum(lambda D: D < 1, x),
    lambda x: pairwise_logsumexp(lambda D: -D, x, weights=v),
    lambda x: nearest(x, y, k=2, where=mask).squared,
  ]

  def total(x):
    return sum(jnp.where(jnp.isfinite(a), a, 0).astype(np.float32).sum() for a in (f(x) for f in functions))

  if not jnp.issubdtype(dtype, jnp.floating):
    return lambda x: [f(x) for f in functions], x
  gradient = jax.grad(total)
  return lambda x: ([f(x) for f in functions], gradient(x), jax.jvp(gradient, (x,), (x,))[1]), x


@pytest.mark.parametrize(
  ("dtype", "d"),
  [
    pytest.param("bfloat16", 20, marks=pytest.mark.slow),
    pytest.param("bfloat16", 3, marks=pytest.mark.slow),
    pytest.param("int32", 3, marks=pytest.mark.slow),
  ],
)
def test_strict_modes(dtype, d, rng):
  run, x = everything(jnp.dtype(dtype), d, rng)
  expected = program(run, x)
  for mode in MODES.values():
    with mode():
      assert program(run, x) == expected


def program(f, x):
  """Its text, without the addresses of functions."""
  return re.sub("0x[0-9a-f]+", "", str(jax.make_jaxpr(lambda x: f(x))(x)))
