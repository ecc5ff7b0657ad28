"""The triplet network: finite gradients with duplicates, equal ones without, and digits that it separates."""

import pytest

import pages

pytestmark = pytest.mark.slow


def test_duplicates_do_no_harm_and_the_network_learns(tmp_path):
  found = pages.run("triplets", tmp_path, "flax", "optax", "sklearn")
  assert found["pairs of a batch that coincide"] == 29
  assert found["samples with a NaN gradient, plain"] == found["samples of a batch"] == 256
  assert found["samples with a NaN gradient, without the diagonal"] == 49
  assert found["samples with a NaN gradient, epsilon"] == found["samples with a NaN gradient, jax_edm"] == 0
  assert found["weights that are NaN after one step, plain"] > 0.9 * found["weights of the network"]
  assert found["difference of the losses, no duplicates"] < 1e-6
  assert found["largest difference of the gradients, no duplicates"] < 1e-5
  assert found["last loss"] == pytest.approx(found["last loss, epsilon"], abs=0.03)
  assert found["last loss"] < 0.3 * found["first loss"]
  assert found["recall@1 before training"] < 0.75
  assert found["recall@1 of the pixels"] < found["recall@1 after training"]
