"""The page beside JAX-MD: equal energies and forces, and FIRE of JAX-MD with either."""

import pytest

import pages

pytestmark = pytest.mark.slow


def test_forces_agree_and_fire_packs_the_discs(tmp_path):
  found = pages.run("jax_md_forces", tmp_path, "jax_md")
  assert found["energy of 4,000 spheres, jax_edm"] == pytest.approx(found["energy of 4,000 spheres, JAX-MD"], rel=1e-5)
  assert found["largest difference of the forces, all pairs"] < 3e-5
  assert found["largest difference of the forces, near pairs"] < 3e-5
  assert found["difference of the energies, near pairs"] < 1e-5
  first, last = found["energy of the discs at first"], found["energy after FIRE, driven by jax_edm"]
  assert last < 0.4 * first
  assert last == pytest.approx(found["energy after FIRE, driven by JAX-MD"], rel=0.01)
  assert 0 < found["steps that rebuilt JAX-MD's list"] < found["steps of FIRE"]
