"""The model of distances in numpyro: what starts, what does not, and whether the intervals hold."""

import pytest

import pages

pytestmark = pytest.mark.slow


def test_what_the_page_claims(tmp_path):
  found = pages.run("numpyro_latent", tmp_path, "numpyro")
  starts = {name: said for name, said in found.items() if ", from " in name}
  refused = {
    "broadcast, from the room centres",
    "broadcast, from random places",
    "list of pairs, from the room centres",
  }
  assert len(starts) == 10
  for name, said in starts.items():
    assert ("Cannot find valid initial parameters" in said) == (name in refused)
    assert (said == "starts") == (name not in refused)
  assert found["largest r_hat"] < 1.05
  assert found["divergent transitions"] == 0
  assert 25 <= found["coordinates within their 90 % interval, of 32"] <= 32
  deviation = found["posterior deviation of a coordinate, root mean square, m"]
  assert 0.7 * deviation < found["error of a coordinate, root mean square, m"] < 1.4 * deviation
  assert deviation < 0.15 < 1 < found["distance of a coordinate from the room centre, root mean square, m"]
  assert found["noise of a distance, posterior mean, m"] == pytest.approx(0.15, rel=0.2)
