"""The geometry for OTT: its solvers find the same, with less memory, and far from the origin."""

import pytest

import pages

pytestmark = pytest.mark.slow


def test_what_the_page_claims(tmp_path):
  found = pages.run("ott_geometry", tmp_path, "ott")
  assert found["relative difference of the costs"] < 1e-6
  for name in ("gradients", "gradients through the iterations", "gradients, Euclidean cost of a cloud and itself"):
    assert found[f"relative difference of the {name}"] < 3e-5
  assert found["relative difference of the implicit gradient and that through the iterations"] < 1e-4
  assert found["relative difference of the transported points"] < 1e-5
  assert found["relative difference of the costs without the entropy"] < 1e-5
  assert found["largest error of the soft minimum at an offset of 1,000, jax_edm"] < 2e-6
  assert found["largest error of the soft minimum at an offset of 1,000, OTT"] > 0.1
  matrix = 20_000**2 * 4 / 2**20
  assert found["MiB of temporaries for 20,000 points, jax_edm"] < matrix / 100
  assert found["MiB of temporaries for 20,000 points, OTT, online"] > matrix  # its gradient keeps one matrix
  assert found["MiB of temporaries for 20,000 points, OTT, dense"] > 2 * matrix
  assert found["divergence at first"] > 0.9
  assert found["divergence after 13 steps"] < 5e-4
