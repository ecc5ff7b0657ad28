import pytest

import pages

pytestmark = pytest.mark.slow


def test_sensors_are_found_with_honest_ellipses(tmp_path):
  found = pages.run("sensors", tmp_path, "scipy")
  assert found["converged"] == "True"
  assert found["error of the sensors, root mean square"] < 0.01
  assert 0.04 < found["noise of the distances, as estimated"] < 0.06
  assert found["largest difference of a place from that of least_squares"] < 2e-5
  assert found["largest difference of a place from that of least_squares, from shortest paths"] < 2e-5
  assert found["of 5 random starts of least_squares, end elsewhere"] == 5
  assert 0.9 < found["standard errors beside those of J'J, median of the ratios"] < 1.1
  assert found["standard errors beside those of J'J, largest ratio"] < 1.7
  assert abs(found["the same, by 400 repetitions"] / found["the same by J'J"] - 1) < 0.15
  assert 0.95 < found["the same, beside the bound of Cramer and Rao"] < 1.05
  assert 0.94 < found["share inside their ellipses of 95 %, in all repetitions"] < 0.965
  assert found["derivative, and what a refit with an anchor moved says, differ by"] < 2e-3
