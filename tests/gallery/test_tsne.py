"""The page of t-SNE: its map is as good as that of scikit-learn, and its gradient is right."""

import pytest

import pages

pytestmark = pytest.mark.slow


def test_what_the_page_claims(tmp_path):
  found = pages.run("tsne", tmp_path, "sklearn")
  ours, theirs = (
    [
      found[f"{what}, {name}"]
      for what in ("Kullback-Leibler divergence", "nearest point has the same digit", "trustworthiness")
    ]
    for name in ("jax_edm", "scikit-learn")
  )
  assert ours[0] < theirs[0] + 0.02 < 0.9
  assert ours[1] > theirs[1] - 0.005 > 0.97
  assert ours[2] > theirs[2] - 0.002 > 0.99
  assert found["largest difference of the gradients"] < 1e-3
  streamed, plain = (
    found[f"memory of a gradient of 2,000 points, {form}, MiB"] for form in ("jax_edm", "matrix of all pairs")
  )
  assert streamed < plain / 4
