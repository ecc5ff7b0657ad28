"""The page of the Gaussian process: the prediction is exact, and needs no matrix."""

import pytest

import pages

pytestmark = pytest.mark.slow


def test_what_the_page_claims(tmp_path):
  found = pages.run("gaussian_process", tmp_path, "lineax", "optax", "sklearn")
  assert found["largest difference from scikit-learn, 2,000 points"] < 1e-3
  assert found["steps of CG, 20,000 points"] < 30
  assert 0.35 < found["length scale"] < 0.6
  assert 0.2 < found["error on held-out points after"] < found["error on held-out points before"] - 0.05
  assert found["error of the mean from 20,000 points"] < 0.5 * found["error of the mean from 2,000 points"]
  matrix = 20_000**2 * 4 / 2**20
  assert found["memory of a prediction from 20,000 points, streamed, MiB"] < matrix / 20
  assert found["memory of a prediction from 20,000 points, matrix kept, MiB"] > matrix
