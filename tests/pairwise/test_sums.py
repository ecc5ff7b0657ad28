"""The contract of ``pairwise_sum``, for every implementation: values, gradients with respect to everything, dtypes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from implementations import EPS, IMPLEMENTATIONS, KERNELS, in_widest, interpreted

import definitions
import oracle
from conftest import equations, x64
from jax_edm import pairwise_sum, safe_root

from implementations import sums  # noqa: F401, a fixture

# n, m, d, method, block_size: blocks and tiles that divide n and that do not, of one row, of all.
OF_BLOCKS = {
  "blocks that do not divide": (37, 53, 3, None, 7),
  "blocks that divide": (64, 48, 20, None, 16),
  "one block": (37, 53, 9, None, None),
  "rows": (5, 9, 3, "gram", 1),
  "differences": (37, 53, 20, "difference", 8),
  "one coordinate": (37, 53, 1, "gram", 8),
}
# Sizes that no tile divides; one chunk of coordinates, several, and a chunk that is filled up.
OF_KERNELS = {
  "d=1": (37, 53, 1, "gram", None),
  "d=3": (37, 53, 3, None, None),
  "d=9": (37, 53, 9, None, None),
  "d=20": (37, 53, 20, "difference", None),
  "d=100": (37, 53, 100, None, None),
}
CASES = [("xla", case) for case in OF_BLOCKS] + [(route, case) for route in KERNELS for case in OF_KERNELS]


@pytest.mark.parametrize(("name", "case"), CASES, ids=" ".join)
def test_the_sum_and_its_gradient_with_respect_to_everything(name, case, rng):
  """One program of all variants: of two sets, and of one, with a symmetric matrix and without, with a diagonal or not."""
  n, m, d, method, block = (OF_BLOCKS if name == "xla" else OF_KERNELS)[case]
  p = definitions.problem(rng, n, m, d)
  with interpreted(name):
    run = partial(definitions.sum_and_cotangents, IMPLEMENTATIONS[name].sum, method=method, block_size=block)

    @jax.jit
    def everything(p, theta):
      return {v: run(definitions.of_variant(p, v), theta, p["g"], v) for v in definitions.VARIANTS}

    actual = everything(p, np.float32(definitions.THETA))
  for variant in definitions.VARIANTS:
    definitions.agree(actual[variant], definitions.expected(definitions.of_variant(p, variant), p["g"], variant), variant)
