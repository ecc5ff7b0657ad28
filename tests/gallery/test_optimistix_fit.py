import pytest

import pages

pytestmark = pytest.mark.slow


def test_fit_from_points_that_coincide(tmp_path):
  found = pages.run("optimistix_fit", tmp_path, "optimistix")
  assert found["measured pairs that coincide"] > 50
  assert found["broadcast: NaN in the Jacobian of the start"] > 0
  assert found["broadcast: converged"] == "no"
  assert found["start: root mean square error"] > 0.05
  for name in ("distances", "broadcast with epsilon", "listed pairs with epsilon"):
    assert found[f"{name}: NaN in the Jacobian of the start"] == 0
    assert found[f"{name}: converged"] == "yes"
    assert found[f"{name}: steps"] == found["distances: steps"] < 15
    assert found[f"{name}: sum of squares"] < 1.001 * found["smacof: sum of squares"]
    assert found[f"{name}: root mean square error"] < 0.005  # the noise is 2 % of distances below 0.4
  assert found["smacof: root mean square error"] < 0.005
