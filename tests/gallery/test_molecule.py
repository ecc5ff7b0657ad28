import pytest

import pages

pytestmark = pytest.mark.slow


def test_molecule_from_bounds(tmp_path):
  found = pages.run("molecule", tmp_path, "scipy", "threadpoolctl")
  assert found["largest difference of an upper bound from floyd_warshall, Angstrom"] < 1e-5
  assert found["lower bounds that smoothing raised"] > 100  # or the next line would hold for any lower bounds
  assert found["largest difference of a lower bound from Dress and Havel, Angstrom"] < 1e-5
  assert found["converged"] == "True"
  assert found["largest violation of a bound, Angstrom"] < 1e-4
  assert found["RMSD to the truth or its mirror image, Angstrom"] < 1.2
  assert found["RMSD without a reflection, Angstrom"] > 5
  assert found["smacof, 12 molecules: bounds kept within 0.01 Angstrom"] >= 10
  assert found["smacof, 12 molecules, not smoothed: bounds kept within 0.01 Angstrom"] >= 10
  smoothed, measured = (
    found[f"smacof, 12 molecules{which}: RMSD, median, Angstrom"] for which in ("", ", not smoothed")
  )
  assert measured < smoothed < 1.4
  assert smoothed < found["embedding and L-BFGS-B, 12 molecules: RMSD, median, Angstrom"]
  assert found["smacof, 6 embedded starts: bounds kept within 0.01 Angstrom"] >= 2
