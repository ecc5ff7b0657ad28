"""``edm`` and ``distances`` under every transformation of JAX, against a naive reference under the same one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import oracle
from jax_edm import distances, edm, edm_jacobian
from transformations import ALL, FIRST_ORDER, SECOND_ORDER, THIRD_ORDER, Case, check, check_cases, naive_edm

# Both functions, one set and two, both precisions, and the four forms of ``choose_form``: products; differences of the
# points for the entries, and products for the gradient; differences all at once; differences one coordinate at a time.
PRODUCTS = Case(edm, ((8, 3), (5, 3)), jnp.float32, "gram")
MIXED = Case(edm, ((20, 3),), jnp.float64, None)
BROADCAST = Case(distances, ((8, 3),), jnp.float64, None)
DIFFERENCES = Case(distances, ((8, 3), (5, 3)), jnp.float32, "difference")
CASES = [PRODUCTS, MIXED, BROADCAST, DIFFERENCES]
SOME = [PRODUCTS, BROADCAST]

# What takes long to compile has two cases; a third order has one, in float64.
FEWER = {
  "forward over reverse of a scan": SOME,
  "reverse over reverse of a scan": SOME,
  "grad through training": SOME,
  "hessian": SOME,
  "jacrev of jacrev": SOME,
  "jacrev of jacfwd": SOME,
  "hessian of shard_map": SOME,
  "third order, forward": [PRODUCTS._replace(dtype=jnp.float64)],
  "third order, reverse": [BROADCAST],
  "third order, mixed": [MIXED],
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.usefixtures("double_precision")
def test_every_transformation(name):
  cases = FEWER.get(name, CASES)
  if "first argument" in name:  # of one set it is the only one
    cases = [case for case in cases if len(case.shapes) == 2]
  check_cases(ALL[name], cases)
