"""Bad input of the sums: who, what was expected, what came, what to do; at once, and under jit too."""

import jax.numpy as jnp
import numpy as np

from conftest import refusals
from jax_edm import pairwise_logsumexp, pairwise_sum

OF_PAIR = "f must return one number for each pair"

BAD = {
  "f": (TypeError, r"pairwise_sum: f must be a function of a squared distance", lambda x: pairwise_sum(x, x)),
  "f of NumPy": (
    TypeError,
    "f must be written with jax.numpy. Got .* Write jnp.exp",
    lambda x: pairwise_sum(np.exp, x),
  ),
  "f of Python": (
    TypeError,
    "f must be written with jax.numpy. Got .* decides by them",
    lambda x: pairwise_sum(lambda D: D if D > 1 else 0.0, x),
  ),
  "complex logsumexp": (
    TypeError,
    "f must return a real number. Got dtype complex64",
    lambda x: pairwise_logsumexp(lambda D: 1j * D, x),
  ),
  "f reduces": (TypeError, OF_PAIR, lambda x: pairwise_sum(lambda D: D.sum(1), x)),
  "f of rows": (TypeError, OF_PAIR, lambda x: pairwise_sum(lambda D: jnp.sort(D, 1), x)),
  "f adds an axis": (
    TypeError,
    rf"{OF_PAIR}.* Got .*shape \(2,\)",
    lambda x: pairwise_sum(lambda D: jnp.stack([D, D]), x),
  ),
  "f returns a pair": (TypeError, rf"{OF_PAIR}.* Got tuple", lambda x: pairwise_sum(lambda D: (D, D), x)),
  "f returns nothing": (TypeError, rf"{OF_PAIR}.* Got NoneType", lambda x: pairwise_sum(lambda D: None, x)),
  "f takes more": (TypeError, rf"{OF_PAIR}.* Got .*missing", lambda x: pairwise_sum(lambda D, a: D, x)),
  "f takes less": (TypeError, rf"{OF_PAIR}.* Got .*takes 1", lambda x: pairwise_sum(lambda D: D, x, args=(x[:, :1],))),
  "args": (
    TypeError,
    r"pairwise_sum: args must be a tuple of arrays. Got ArrayImpl|args must be a tuple of arrays. Got .*Tracer",
    lambda x: pairwise_sum(lambda D, a: D, x, args=x[:, :1]),
  ),
  "one of args": (
    ValueError,
    r"args\[1\] must broadcast to the shape of the matrix. Got \(3, 4\) for \(4, 4\)",
    lambda x: pairwise_sum(lambda D, a, b: D, x, args=(1.0, jnp.ones((3, 4)))),
  ),
  "args larger": (
    ValueError,
    r"args\[0\] must broadcast",
    lambda x: pairwise_sum(lambda D, a: D, x[:1], args=(jnp.ones((3, 1)),)),
  ),
  "batch of args": (
    ValueError,
    r"args\[0\] must broadcast",
    lambda x: pairwise_sum(lambda D, a: D, jnp.ones((2, 4, 3)), args=(jnp.ones((3, 4, 4)),)),
  ),
  "batches of args": (
    ValueError,
    r"args\[1\] must broadcast",
    lambda x: pairwise_sum(lambda D, a, b: D, x, args=(jnp.ones((2, 4, 4)), jnp.ones((3, 4, 4)))),
  ),
  "args of text": (
    TypeError,
    r"args\[0\] must be an array or a number. Got str",
    lambda x: pairwise_sum(lambda D, a: D, x, args=("a",)),
  ),
  "values": (
    ValueError,
    r"values must have the shape \(m,\) or \(..., m, k\).*\(3,\) for 4 points",
    lambda x: pairwise_sum(lambda D: D, x, values=jnp.ones(3)),
  ),
  "values as a list": (
    TypeError,
    r"values must be a JAX or NumPy array",
    lambda x: pairwise_sum(lambda D: D, x, values=[1.0] * 4),
  ),
  "values' batch": (
    ValueError,
    r"leading axes of values",
    lambda x: pairwise_sum(lambda D: D, jnp.ones((2, 4, 3)), values=jnp.ones((3, 4, 1))),
  ),
  "values' batch, of x": (
    ValueError,
    r"leading axes of values",
    lambda x: pairwise_sum(lambda D: D, jnp.ones((2, 4, 3)), x, values=jnp.ones((3, 4, 1))),
  ),
  "values of text": (
    TypeError,
    r"values must hold numbers",
    lambda x: pairwise_sum(lambda D: D, x, values=np.array(["a"] * 4)),
  ),
  "values of a batch of vectors": (
    ValueError,
    r"Write values\[..., None\]",
    lambda x: pairwise_sum(lambda D: D, x, values=jnp.ones((2, 4))),
  ),
  "values, and wrong points": (
    ValueError,
    r"pairwise_sum: x must have the shape",
    lambda x: pairwise_sum(lambda D: D, x[0], values=jnp.ones(4)),
  ),
  "weights": (
    ValueError,
    r"pairwise_logsumexp: weights must have the shape \(..., m\)",
    lambda x: pairwise_logsumexp(lambda D: D, x, weights=jnp.ones((4, 1))),
  ),
  "complex weights": (
    TypeError,
    r"pairwise_logsumexp: weights must hold real numbers. Got dtype complex64",
    lambda x: pairwise_logsumexp(lambda D: D, x, weights=jnp.ones(4, jnp.complex64)),
  ),
  "diagonal of two sets": (
    ValueError,
    r"pairwise_sum: diagonal=False needs one set",
    lambda x: pairwise_sum(lambda D: D, x, x, diagonal=False),
  ),
  "diagonal of two sets, logsumexp": (
    ValueError,
    r"pairwise_logsumexp: diagonal=False needs one set",
    lambda x: pairwise_logsumexp(lambda D: D, x, x[:2], diagonal=False),
  ),
  "diagonal": (TypeError, r"diagonal must be True or False", lambda x: pairwise_sum(lambda D: D, x, diagonal=0.0)),
  "block": (ValueError, r"block_size must be at least 1. Got 0", lambda x: pairwise_sum(lambda D: D, x, block_size=0)),
  "block of another type": (
    TypeError,
    r"block_size must be an integer. Got float",
    lambda x: pairwise_sum(lambda D: D, x, block_size=2.0),
  ),
  "different d": (
    ValueError,
    r"pairwise_sum: x and y must have the same number",
    lambda x: pairwise_sum(lambda D: D, x, x[:, :2]),
  ),
  "rank": (ValueError, r"pairwise_logsumexp: x must have the shape", lambda x: pairwise_logsumexp(lambda D: D, x[0])),
  "method": (ValueError, r"method must be", lambda x: pairwise_sum(lambda D: D, x, method="fast")),
  "implementation": (
    ValueError,
    'pairwise_sum: implementation must be None, "xla" or "pallas". Got \'cuda\'',
    lambda x: pairwise_sum(lambda D: D, x, implementation="cuda"),
  ),
}


test_bad_input = refusals(BAD)
