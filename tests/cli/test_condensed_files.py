"""One column of distances: the condensed form, and not a matrix or a triangle with its diagonal."""

import numpy as np
import pytest
from test_two_readings import check, condensed, distances

import oracle
from jax_edm._cli import files
from jax_edm._cli.errors import UserError

DIAGONAL = "the condensed form must have no diagonal"
NAN = np.nan
D = oracle.distances(np.random.default_rng(0).normal(size=(6, 2)))  # 36 entries, as many as 9 points have pairs
PACKED = {
  "two points": [0, 5, 0],
  "two points, missing": [NAN, 5, NAN],
  "another zero": [0, 5, 0, 0, 7, 0],
  "a missing diagonal": [NAN, 5, NAN, 6, 7, NAN],
  "a missing diagonal, by columns": [NAN, 5, 6, NAN, 7, NAN],
  "both": [0, 5, NAN, 6, 7, 0],
}
WHOLE = {
  "a matrix": D,
  "no diagonal": np.where(np.eye(6), NAN, D),
  "a triangle": np.triu(D),
  "a triangle, the rest missing": np.where(np.tri(6), D, NAN),
  "a missing pair": np.where(np.add.outer(np.arange(6), np.arange(6)) == 3, NAN, D),
}


def column(values):
  return "".join(f"{value!r}\n" for value in np.ravel(values).astype(float).tolist())


@pytest.mark.parametrize("name", PACKED)
def test_a_triangle_with_its_diagonal(name, tmp_path):
  check(tmp_path, distances, {name: (column(PACKED[name]), DIAGONAL)})
  np.save(tmp_path / "x.npy", np.array(PACKED[name]))
  with pytest.raises(UserError, match=DIAGONAL):
    files.read_distances(tmp_path / "x.npy", 1)


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_matrix(name, tmp_path):
  check(tmp_path, distances, {name: (column(WHOLE[name]), DIAGONAL)})


def test_condensed_forms_are_read(tmp_path):
  v = np.random.default_rng(1).uniform(1, 2, 36)
  v[[0, 7, 14, 21, 28, 35]] = 0  # not symmetric
  found = distances(tmp_path / "x.csv", column(v))
  np.testing.assert_array_equal(found.values[np.triu_indices(9, 1)], v)
  check(tmp_path, distances, {"a missing one": ("0\n5\n5\n", condensed(0, 5, 5))})
  (tmp_path / "w.csv").write_text("0\n1\n0\n0\n1\n0\n")  # weights may be 0 anywhere
  weights, _ = files.read_matrix(tmp_path / "w.csv", "weights")
  assert weights[np.triu_indices(4, 1)].tolist() == [0, 1, 0, 0, 1, 0]
