"""``fit --lower`` and ``--upper``: distances between bounds."""

import numpy as np
import pandas as pd
import pytest
from command import matrix, refused, run, saved

import oracle
from jax_edm._cli import files, intervals

D = matrix()
NAN = np.nan


def entry(a, value):
  """The matrix with another entry for points 1 and 2."""
  a = a.copy()
  a[0, 1] = a[1, 0] = value
  return a


@pytest.mark.slow
def test_bounds_are_kept(tmp_path, capsys):
  lower, upper = saved(tmp_path / "l.csv", 0.9 * D), saved(tmp_path / "u.npy", np.where(D > 2, np.inf, 1.1 * D))
  output = ("--output", tmp_path / "out")
  assert run("fit", "--lower", lower, "--upper", upper, "--dim", 2, *output) == 0
  found = oracle.distances(np.loadtxt(tmp_path / "out" / "points.csv", delimiter=",", skiprows=1))
  assert (found >= 0.9 * D - 1e-4).all()
  assert (found <= np.where(D > 2, np.inf, 1.1 * D) + 1e-4).all()
  printed = capsys.readouterr().out
  assert "from bounds of 15 of their 15 distances" in printed
  assert "bounds          15 of 15 kept\n" in printed
  assert (tmp_path / "out" / "fit.png").stat().st_size > 10_000
  impossible = saved(tmp_path / "i.npy", entry(D, D.sum()))  # one is longer than any way
  arguments = ("--lower", impossible, "--upper", saved(tmp_path / "most.npy", entry(1.1 * D, D.sum())))
  assert run("fit", *arguments, "--dim", 2, *output, "--no-picture", "--force") == 0
  printed = capsys.readouterr().out
  assert " of 15 kept, exceeded by at most " in printed


def test_what_the_files_of_bounds_say(tmp_path):
  d, low, up = (tmp_path / name for name in ("d.csv", "l.csv", "u.npy"))
  saved(low, entry(0.5 * D, NAN))
  saved(up, entry(2 * D, np.inf))
  known = intervals.read_bounds(None, low, up, 2)  # neither bound: the pair is not known
  assert known.bounds.lower[0, 1] == 0
  assert known.bounds.upper[1, 0] == np.inf
  assert np.isnan(known.values).sum() == 6 + 2
  np.testing.assert_allclose(known.bounds.lower[2], 0.5 * D[2])
  saved(d, D)
  for files_of, expected in (
    ((d, None, up), (D, entry(2 * D, np.inf))),
    ((d, low, None), (entry(0.5 * D, 0), D)),
    ((None, None, up), (0 * D, entry(2 * D, np.inf))),
    ((None, low, None), (entry(0.5 * D, 0), np.where(np.eye(6), 0, np.inf))),
  ):
    for bound, values in zip(intervals.read_bounds(*files_of, 2).bounds, expected, strict=True):
      np.testing.assert_allclose(bound, values)
  squared = intervals.read_bounds(saved(d, D**2), None, saved(up, 4 * D**2), 2, squared=True)
  np.testing.assert_allclose(squared.bounds.upper, 2 * D)
  large = intervals.read_bounds(None, saved(low, 1e20 * D), saved(up, 2e20 * D), 2)
  np.testing.assert_allclose(large.bounds.upper * large.unit, 2e20 * D)
  w = saved(tmp_path / "w.npy", entry(np.ones((6, 6)), 0))  # what has no weight may contradict
  known = intervals.read_bounds(None, saved(low, entry(D, 99)), saved(up, D), 2, weights=w)
  assert np.isnan(known.values[0, 1])
  assert known.weights[0, 1] == 0
  assert known.weights[0, 2] == 1


def test_the_nearest_distances_between_bounds():
  bounds = files.Bounds(
    np.array([[0.0, 2, 2], [2, 0, 0], [2, 0, 0]]), np.array([[0, 3, 5], [3, 0, np.inf], [5, np.inf, 0]])
  )
  values = np.array([[NAN, 3, 5], [3, NAN, NAN], [5, NAN, NAN]])
  found = intervals.nearest(files.Distances(values, None, None, 1.0, bounds), np.array([[0.0], [1.0], [4.0]]))
  np.testing.assert_array_equal(found.values, [[NAN, 2, 4], [2, NAN, NAN], [4, NAN, NAN]])


def test_bounds_that_do_not_fit_are_refused(tmp_path, capsys):
  d, names = saved(tmp_path / "d.npy", D), list("abcdef")
  low, up = tmp_path / "l.csv", tmp_path / "u.csv"
  pd.DataFrame(D, names, names).to_csv(tmp_path / "labelled.csv")
  pd.DataFrame(D, names[::-1], names[::-1]).to_csv(tmp_path / "other.csv")
  for lower, upper, expected in (
    (entry(0.9 * D, 9), D, "lower bounds must not be larger than upper bounds. Got 9 and "),
    (0.9 * D, entry(D, 1e-3), " and 0.001 in row 1, column 2"),
    (D[:5, :5], D, "there must be one upper bound for each distance. Got 6 rows for 5 points"),
    (entry(D, np.inf), D, "lower bounds must be finite"),
    (D, entry(D, -np.inf), "upper bounds must be finite"),
    (entry(D, -1), D, "lower bounds must not be negative"),
    (np.where(np.eye(6), 0, NAN), np.where(np.eye(6), 0, np.inf), "every point must have a measured distance"),
    (0 * D, 0 * D, "some points must differ"),
  ):
    line = refused(capsys, "fit", "--lower", saved(low, lower), "--upper", saved(up, upper), "--dim", 2)
    assert expected in line, line
  for arguments, expected in (
    (
      ("--lower", tmp_path / "labelled.csv", "--upper", tmp_path / "other.csv"),
      "labels of the distances. Got 'f' and 'a'",
    ),
    ((tmp_path / "labelled.csv", "--lower", saved(low, 2 * D)), "must not be larger than distances. Got "),
    ((tmp_path / "labelled.csv", "--lower", low), " for 'a' and 'b'. Write bounds"),
    ((d, "--upper", saved(up, 0.5 * D)), "distances must not be larger than upper bounds"),
    (
      (d, "--lower", low, "--upper", up),
      "a pair has two bounds, of which DISTANCES may be one. Got DISTANCES, --lower",
    ),
    ((d, "--lower", low, "--method", "gradient"), "--lower: it needs --method smacof. Got --method gradient"),
    (("--upper", up, "--method", "classical"), "--upper: it needs --method smacof"),
    (("--upper", tmp_path / "none.csv"), "the file must be readable"),
    ((), "the following arguments are required: DISTANCES"),
  ):
    line = refused(capsys, "fit", *arguments, "--dim", 2, "--output", tmp_path / "out")
    assert expected in line, line
  assert "are required: --dim" in refused(capsys, "fit", "--upper", up)
  assert not (tmp_path / "out").exists()
