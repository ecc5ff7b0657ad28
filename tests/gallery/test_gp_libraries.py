import pytest

import pages

pytestmark = pytest.mark.slow


def test_matrices_for_tinygp_and_gpjax(tmp_path):
  found = pages.run("gp_libraries", tmp_path, "tinygp", "gpjax")
  for name in ("tinygp", "GPJax"):
    assert found[f"{name}, log likelihood: largest relative difference"] < 1e-5
    assert found[f"{name}, gradient in scales: largest relative difference"] < 1e-4
    assert found[f"{name}, gradient in inputs: largest relative difference"] < 1e-4
    assert found[f"{name}, gradient in inputs, jax_edm: NaN"] == 0
    assert found[f"covariance of slopes at one point, relative error, {name}'s own"] > 0.5
  assert found["gradient in scales, a kernel by hand: NaN of 3"] == 3
  assert found["gradient in inputs, a kernel by hand: NaN of 900"] == 900
  assert found["covariance of slopes at one point, relative error, matern of jax_edm"] < 1e-6
  assert found["covariance with slopes, smallest eigenvalue, jax_edm"] > 5e-5  # the noise, 1e-4, and rounding
  assert found["covariance with slopes, smallest eigenvalue, tinygp's own kernel"] < -0.1
  assert found["log likelihood with slopes, tinygp's own kernel"] == -float("inf")
  better, worse = (found[f"root mean square error, values {which}"] for which in ("and slopes", "alone"))
  assert better < 0.7 * worse
