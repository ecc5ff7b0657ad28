"""The tests of SciPy and scikit-learn for Euclidean distances pass when jax_edm computes these distances.

They are run from the installed packages, in another process, where ``peers_plugin.py`` puts jax_edm in place. A test
counts only if it used a result of jax_edm: one that runs the peer's own code alone proves nothing. In a second run,
every result is wrong by 0.1 % or more, and the tests must notice.
"""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import jax_edm

HERE = Path(__file__).parent
SECONDS = 900  # on a busy machine; one run takes about 10 s of a processor


@dataclasses.dataclass(frozen=True)
class Peer:
  """What of a peer's tests is run, and what must come out."""

  module: str
  selected: str  # an expression for pytest -k
  not_run: dict[str, str]  # the beginnings of names, and why: most of these would never call jax_edm
  must_fail: dict[str, str]  # names of tests that use jax_edm and need what it does not offer, and why
  passed: int  # at least; a little below what the newest release has, since others have fewer
  noticed: int  # at least, of those that pass: how many fail when every distance is wrong


PEERS = {
  "scipy": Peer(
    module="scipy.spatial.tests.test_distance",
    selected="(euclidean and not seuclidean) or squareform or multi_matrix or is_valid_dm",
    not_run={
      "TestCdist::test_cdist_extra_args": "arguments that nobody takes: SciPy's own refusal",
      "TestPdist::test_pdist_extra_args": "likewise",
      "test_Xdist_deprecated_args": "likewise",
      "TestCdist::test_cdist_out": "out=: a JAX array cannot be written to",
      "TestPdist::test_pdist_out": "likewise",
      "TestCdist::test_cdist_refcount": "jax.jit keeps a NumPy argument until the next garbage collection",
      "TestPdist::test_pdist_euclidean_random_nonC": "SciPy's second implementation, which is a reference here",
      "TestPdist::test_pdist_euclidean_iris_nonC": "likewise",
      "TestSomeDistanceFunctions": "SciPy's functions of two vectors",
      "test_euclideans": "likewise",
      "test_sqeuclidean_dtypes": "likewise",
      "test_immutable_input": "likewise",
      "TestIsValidDM::test_is_valid_dm_improper_shape": "arrays of zeros, with no result of squareform",
      "TestIsValidDM::test_is_valid_dm_correct_1_by_1": "likewise",
    },
    must_fail={"test_Xdist_non_negative_weights": "a negative weight must be refused; jax_edm has no such weights"},
    passed=30,
    noticed=25,
  ),
  "sklearn": Peer(
    module="sklearn.metrics.tests.test_pairwise",
    selected="euclid and not seuclid",
    not_run={
      "test_euclidean_distances_upcast": "a helper inside scikit-learn, for float32 in float64 by batches",
      "test_pairwise_distances_array_api": "arrays of other libraries, which stay in their library",
      "test_pairwise_parallel_array_api": "likewise",
      "test_nan_euclidean_distances_infinite_values": "scikit-learn's check of its input",
      "test_paired_euclidean_distances": "distances of x_i and y_i alone",
    },
    must_fail={"test_euclidean_distances_with_norms": "wrong norms must give wrong distances; jax_edm takes no norms"},
    passed=75,
    noticed=68,
  ),
}


def outcomes(name, tmp_path, wrong=False):
  """Of each test that ran: its name, its outcome, and how many results of jax_edm it used."""
  peer = PEERS[name]
  package, file = importlib.util.find_spec(peer.module.partition(".")[0]), peer.module.replace(".", "/") + ".py"
  root = Path(package.origin).parents[1] if package else None
  if root is None or not (root / file).exists():
    pytest.skip(f"{peer.module} is not installed; pip install -e '.[bench]' installs it")
  configuration, report = tmp_path / "pytest.ini", tmp_path / "report.json"
  configuration.write_text("[pytest]\n", encoding="utf-8")
  environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
  environment.setdefault("JAX_PLATFORMS", "cpu")
  paths = [str(HERE), str(Path(jax_edm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
  environment |= {
    "JAX_EDM_PEER": name,
    "JAX_EDM_PEERS_REPORT": str(report),
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    "SKLEARN_RUN_FLOAT32_TESTS": "1",
  } | ({"JAX_EDM_PEERS_WRONG": "1"} if wrong else {})
  command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-c", str(configuration), f"--rootdir={root}"]
  command += ["-p", "peers_plugin", "-p", "no:cacheprovider", "--pyargs", peer.module, "-k", peer.selected]
  command += [f"--deselect={file}::{test}" for test in peer.not_run]
  ended = subprocess.run(
    command, cwd=tmp_path, env=environment, timeout=SECONDS, check=False, text=True,
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
  )  # fmt: skip
  print(ended.stdout)  # shown where an assertion fails
  assert ended.returncode in (0, 1), "the tests did not run"  # 1: some failed
  return [(test.removeprefix(f"{file}::"), *result) for test, result in json.loads(report.read_text("utf-8")).items()]


def without_parameters(test):
  return test.partition("[")[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_tests_of_the_peer_pass(name, tmp_path):
  peer = PEERS[name]
  ran = [(test, outcome, used) for test, outcome, used in outcomes(name, tmp_path) if outcome != "skipped"]
  assert [test for test, _, used in ran if not used] == [], "these ran without jax_edm: name them in not_run"
  # xpassed: scikit-learn expects to fail for want of precision. With jax_edm no test fails for that.
  failed = [test for test, outcome, _ in ran if outcome not in ("passed", "xpassed")]
  assert {without_parameters(test) for test in failed} == set(peer.must_fail)
  assert len(ran) - len(failed) >= peer.passed


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_tests_of_the_peer_notice_wrong_distances(name, tmp_path):
  peer = PEERS[name]
  failed = [test for test, outcome, used in outcomes(name, tmp_path, wrong=True) if used and outcome == "failed"]
  assert len([test for test in failed if without_parameters(test) not in peer.must_fail]) >= peer.noticed
