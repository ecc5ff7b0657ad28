"""A pytest plugin: puts jax_edm into SciPy or scikit-learn, and writes down which of their tests reached it.

The variable ``JAX_EDM_PEER`` says which of the two. The file ``JAX_EDM_PEERS_REPORT`` gets, for each test, its outcome
and how many results of jax_edm it used.
"""

import json
import os
from pathlib import Path

import pytest
import scipy.spatial.distance as scipy_distance

import edm_adapters

REPORT = Path(os.environ["JAX_EDM_PEERS_REPORT"])


class DistanceOnEdm:
  """``scipy.spatial.distance`` as scikit-learn sees it; its tests have SciPy's own functions as references."""

  cdist, pdist, squareform = map(staticmethod, (edm_adapters.cdist, edm_adapters.pdist, edm_adapters.squareform))

  def __getattr__(self, name):
    return getattr(scipy_distance, name)


if os.environ["JAX_EDM_PEER"] == "scipy":  # before its tests import these names
  for name in ("cdist", "pdist", "squareform"):
    setattr(scipy_distance, name, getattr(edm_adapters, name))
else:
  import sklearn.metrics.pairwise as sklearn_pairwise

  assert callable(sklearn_pairwise._euclidean_distances)
  assert sklearn_pairwise.distance is scipy_distance
  sklearn_pairwise._euclidean_distances = edm_adapters.sklearn_euclidean_distances
  sklearn_pairwise.distance = DistanceOnEdm()

results = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
  before = edm_adapters.calls()
  handled = yield
  results[item.nodeid][1] = edm_adapters.calls() - before
  return handled


def pytest_runtest_logreport(report):
  expected_to_fail = hasattr(report, "wasxfail")
  if report.when == "call" or report.outcome != "passed":
    outcome = {"skipped": "xfailed", "passed": "xpassed"}[report.outcome] if expected_to_fail else report.outcome
    results[report.nodeid] = [outcome, 0]


def pytest_sessionfinish():
  REPORT.write_text(json.dumps(results), encoding="utf-8")
