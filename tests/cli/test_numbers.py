"""Numbers of any size give right answers or a sentence; the methods of a fit and their options."""

import numpy as np
import pytest
from command import matrix, procrustes_rms, refused, run, saved

import oracle
from jax_edm._cli import descent, files

X = np.random.default_rng(3).normal(size=(6, 2))  # the points of matrix()


@pytest.fixture
def fewer_steps(monkeypatch):
  monkeypatch.setattr(descent, "MOST_STEPS", 1)


def fitted(tmp_path, *arguments):
  """The points of a fit, and how far they are from the true ones."""
  code = run("fit", *arguments, "--output", tmp_path / "out", "--format", "npy", "--no-picture", "--force")
  assert code == 0, arguments
  return np.load(tmp_path / "out" / "points.npy")


@pytest.mark.slow
def test_distances_of_any_size(tmp_path, capsys, fewer_steps):
  for size in (1e-280, 1e-200, 1e40, 1e200, 1e305):
    file = saved(tmp_path / "d.csv", matrix() * size)
    for method in ("classical", "smacof", "gradient")[: 3 if size == 1e200 else 1]:
      points = fitted(tmp_path, file, "--dim", 2, "--method", method)
      assert procrustes_rms(points / size, X) < 1e-3, (size, method)
  assert "e-0" in capsys.readouterr().out  # the stress is relative
  file = saved(tmp_path / "d.csv", matrix() ** 2 * 1e300)
  assert procrustes_rms(fitted(tmp_path, file, "--dim", 2, "--squared", "--method", "classical") / 1e150, X) < 1e-3


def test_the_picture_of_large_distances(tmp_path):
  file = saved(tmp_path / "d.npy", matrix() * 1e200)
  assert run("fit", file, "--dim", 2, "--method", "classical", "--output", tmp_path / "out") == 0
  assert (tmp_path / "out" / "fit.png").stat().st_size > 10_000
  points = np.loadtxt(tmp_path / "out" / "points.csv", delimiter=",", skiprows=1)
  assert procrustes_rms(points / 1e200, X) < 1e-3


def test_distances_that_have_lost_their_digits_are_refused(tmp_path, capsys):
  line = refused(capsys, "fit", saved(tmp_path / "d.npy", matrix() * 1e-310), "--dim", 2, "--output", tmp_path / "out")
  assert "the largest distance must be at least 1e-290" in line
  assert not (tmp_path / "out").exists()


def test_points_of_any_size(tmp_path, capsys):
  for size, squared in ((1e-200, False), (1e-100, True), (1e40, True), (1e100, True), (1e200, False), (1e307, False)):
    points, target = saved(tmp_path / "x.npy", (X + 10) * size), tmp_path / "d.npy"
    assert run("edm", points, "--output", target, "--distances", "--force") == 0
    np.testing.assert_allclose(np.load(target) / size, oracle.distances(X), rtol=1e-5)
    if squared:
      assert run("edm", points, "--output", target, "--force") == 0
      np.testing.assert_allclose(np.load(target) / size / size, oracle.edm(X), rtol=1e-5)
    else:
      line = refused(capsys, "edm", points, "--output", tmp_path / "squared.npy")
      assert "squared distances must fit double precision" in line
      assert "add --distances" in line
      assert not (tmp_path / "squared.npy").exists()
  line = refused(capsys, "edm", saved(tmp_path / "x.npy", X * 1e-310), "--distances", "--output", tmp_path / "s.npy")
  assert "distances must fit double precision" in line
  assert run("edm", saved(tmp_path / "x.npy", X), "--output", tmp_path / "s.npy") == 0
  assert np.load(tmp_path / "s.npy").dtype == np.float32


def test_a_matrix_that_fits_no_memory(tmp_path, capsys):
  line = refused(capsys, "edm", saved(tmp_path / "x.npy", np.zeros((3_000_000, 1))), "--output", tmp_path / "d.npy")
  assert "the matrix must fit into memory" in line


def test_squared_distances_that_rounding_made_negative(tmp_path, capsys):
  d = matrix() ** 2
  d[0, 1] = d[1, 0] = d[2, 2] = -1e-17
  file = saved(tmp_path / "d.csv", d)
  assert np.isfinite(fitted(tmp_path, file, "--dim", 2, "--squared", "--method", "classical")).all()
  d[0, 1] = d[1, 0] = -1e-3
  line = refused(capsys, "fit", saved(file, d), "--dim", 2, "--squared", "--output", tmp_path / "other")
  assert "must not be negative. Got -0.001 in row 1, column 2" in line


def test_a_negative_distance_is_no_rounding(tmp_path, capsys):
  for large in (2e6, 1e10):
    d = np.array([[0, large, -1], [large, 0, large], [-1, large, 0]])
    for squared in ((), ("--squared",)):
      line = refused(capsys, "fit", saved(tmp_path / "d.csv", d), "--dim", 1, "--output", tmp_path / "out", *squared)
      assert "must not be negative. Got -1 in row 1, column 3" in line
  d[:] = [[0, 1, -1e-17], [1, 0, 1], [-1e-17, 1, -2e-16]]
  assert files.read_distances(saved(tmp_path / "d.csv", d), 1, squared=True).values[0, 2] == 0


def test_what_has_no_weight_does_not_count(tmp_path, capsys):
  d, w = matrix(4), np.ones((4, 4))
  w[0, 1] = w[1, 0] = 0
  for wrong in (np.inf, -9999999.0, np.nan):
    d[0, 1] = d[1, 0] = wrong
    for none in (0, np.nan):
      w[0, 1] = none
      d_file, w_file = saved(tmp_path / "d.csv", d), saved(tmp_path / "w.csv", w)
      found = files.read_distances(d_file, 1, weights=w_file)
      assert np.isnan(found.values[0, 1])
      np.testing.assert_array_equal(found.weights, np.where(np.eye(4), 0, np.nan_to_num(w)))
  d[0, 1] = d[1, 0] = np.nan
  for heavy in (1e15, np.inf):  # of a distance that is not there
    w[0, 1] = w[1, 0] = heavy
    found = files.read_distances(saved(tmp_path / "d.csv", d), 1, weights=saved(tmp_path / "w.csv", w))
    assert found.weights.max() == 1
    assert found.weights[0, 1] == 0
    triangle = saved(tmp_path / "d.csv", np.triu(d))
    np.testing.assert_array_equal(files.read_distances(triangle, 1, weights=tmp_path / "w.csv").weights, found.weights)
  w[0, 1] = w[1, 0] = 0
  d[0, 1] = d[1, 0] = 7
  found = files.read_distances(saved(tmp_path / "d.csv", np.triu(d)), 1, weights=saved(tmp_path / "w.csv", w))
  assert np.isnan(found.values[0, 1])
  d[2, 2] = 3  # a weight does not excuse this
  line = refused(capsys, "fit", saved(tmp_path / "d.csv", d), "--dim", 1, "--weights", tmp_path / "w.csv")
  assert "to itself must be 0 or missing. Got 3 in row 3" in line


def test_a_condensed_column_in_npy(tmp_path):
  column = matrix()[np.triu_indices(6, 1)][:, None]
  found = files.read_distances(saved(tmp_path / "d.npy", column), 2).values
  np.testing.assert_array_equal(found, np.where(np.eye(6), np.nan, matrix()))


def test_suffixes_in_capitals(tmp_path):
  for name, target in (("D.NPY", "M.CSV"), ("D.CSV", "M.NPY")):
    points = saved(tmp_path / name, X)
    assert run("edm", points, "--output", tmp_path / target) == 0
    assert (tmp_path / target).exists()
  np.testing.assert_allclose(np.loadtxt(tmp_path / "M.CSV", delimiter=","), np.load(tmp_path / "M.NPY"), rtol=1e-6)


@pytest.mark.slow
def test_smacof_says_whether_it_converged(tmp_path, capsys):
  d = np.abs(matrix() + np.random.default_rng(0).normal(size=(6, 6)))
  file = saved(tmp_path / "d.npy", np.triu(d, 1) + np.triu(d, 1).T)
  arguments = (file, "--dim", 2, "--method", "smacof", "--restarts", 2)
  fitted(tmp_path, *arguments, "--tolerance", 0.01)
  captured = capsys.readouterr()
  assert ", converged after" in captured.out
  assert "100%" in captured.err.replace("\r", "\n").splitlines()[-1]  # the bar ends where the steps end
  fitted(tmp_path, *arguments, "--tolerance", 0, "--max-steps", 7)
  captured = capsys.readouterr()
  assert "not converged after 7 steps: allow more with --max-steps" in captured.out
  assert "7/7" in captured.err


@pytest.mark.slow
def test_weights_say_which_distances_count(tmp_path, fewer_steps):
  """One distance is wrong, and a weight near zero, or zero, corrects it."""
  d = matrix()
  d[0, 1] = d[1, 0] = 3 * d[0, 1]
  file, weights = saved(tmp_path / "d.npy", d), np.ones((6, 6))
  for method, weight in (("smacof", np.nan), ("gradient", 0), ("gradient", 1e-6)):
    weights[0, 1] = weights[1, 0] = weight
    w = saved(tmp_path / "w.csv", weights * 1e200)
    points = fitted(tmp_path, file, "--dim", 2, "--method", method, "--weights", w, "--restarts", 4)
    assert procrustes_rms(points, X) < 2e-2, (method, weight)
  assert procrustes_rms(fitted(tmp_path, file, "--dim", 2, "--restarts", 4), X) > 0.1


def test_weights_that_do_not_fit_are_refused(tmp_path, capsys):
  file, ones, names = saved(tmp_path / "d.npy", matrix()), np.ones((6, 6)), "abcdef"
  labelled = tmp_path / "labelled.csv"
  lines = [",".join([name, *map(str, row)]) for name, row in zip(names, matrix().tolist(), strict=True)]
  labelled.write_text("\n".join([",".join(["", *names]), *lines]))
  other = tmp_path / "other.csv"
  other.write_text(labelled.read_text().replace("b", "z"))
  asymmetric, negative, tiny = ones.copy(), ones.copy(), ones.copy()
  asymmetric[0, 1], negative[0, 1], tiny[0, 1] = 2, -1, 1e-20
  tiny[1, 0] = 1e-20
  for array, expected in (
    (ones[:5, :5], "one weight for each distance"),
    (asymmetric, "weights must be symmetric"),
    (negative, "weights must not be negative"),
    (tiny, "at least 1e-12 of the largest"),
    (ones * 0, "some weights must be positive"),
    (ones[:, :4], "weights must form a square matrix"),
  ):
    w = saved(tmp_path / "w.npy", array)
    assert expected in refused(capsys, "fit", file, "--dim", 2, "--weights", w, "--output", tmp_path / "out")
  line = refused(capsys, "fit", labelled, "--dim", 2, "--weights", other, "--output", tmp_path / "out")
  assert "weights must have the labels of the distances. Got 'z' and 'b' for point 2" in line


def test_classical_mds_needs_all_distances_and_reports_its_fit(tmp_path, capsys):
  points = fitted(tmp_path, saved(tmp_path / "d.npy", matrix()), "--dim", 2, "--method", "classical")
  assert procrustes_rms(points, X) < 1e-4
  assert "goodness of fit 1.000" in capsys.readouterr().out
  d = np.abs(np.subtract.outer(np.arange(6.0), np.arange(6))) ** 2  # two eigenvalues are negative, and one of them kept
  fitted(tmp_path, saved(tmp_path / "d.npy", d), "--dim", 5, "--method", "classical")
  assert "1 of the 5 coordinates are 0, because their eigenvalues are negative" in capsys.readouterr().out
  d[0, 1] = d[1, 0] = np.nan
  line = refused(capsys, "fit", saved(tmp_path / "d.npy", d), "--dim", 2, "--method", "classical", "--output", tmp_path)
  assert "all distances must be measured. Got 1 missing ones" in line


def test_steps_of_the_descent(tmp_path, capsys):
  file = saved(tmp_path / "d.npy", matrix())
  fitted(tmp_path, file, "--dim", 2, "--max-steps", 160, "--restarts", 1)
  assert "150 steps" in capsys.readouterr().out  # in blocks of 25
  assert "at least 50 steps" in refused(capsys, "fit", file, "--dim", 2, "--max-steps", 49, "--output", tmp_path / "o")


def test_an_option_of_another_method_is_refused(tmp_path, capsys):
  file = saved(tmp_path / "d.npy", matrix())
  for method, option, value in (
    ("gradient", "--tolerance", "1e-3"),
    ("classical", "--tolerance", "1e-3"),
    ("classical", "--restarts", "2"),
    ("classical", "--max-steps", "100"),
    ("classical", "--weights", file),
  ):
    line = refused(capsys, "fit", file, "--dim", 2, "--method", method, option, value)
    assert line.startswith(f"jax_edm: {option}: it needs --method")
    assert f"Got --method {method}" in line
