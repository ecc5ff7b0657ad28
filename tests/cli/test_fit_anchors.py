"""``fit --anchors``: points whose positions are known, and the ellipses around the others."""

import jax
import numpy as np
import pandas as pd
import pytest
from command import matrix, refused, run, saved
from matplotlib.figure import Figure

import oracle
from jax_edm import standard_errors
from jax_edm._cli import certainty, files, plots
from jax_edm._cli.errors import UserError

X = np.random.default_rng(3).normal(size=(6, 2)) + 1000  # the points of matrix(), far from the origin
NAMES = list("abcdef")


def labelled(path):
  pd.DataFrame(matrix(), NAMES, NAMES).to_csv(path)
  return path


def table(path, rows, names=None):
  pd.DataFrame(X[rows], names or [NAMES[k] for k in rows], ["x", "y"]).to_csv(path, index_label="label")
  return path


@pytest.mark.slow
def test_points_are_found_in_the_coordinates_of_the_anchors(tmp_path, capsys):
  d, anchors = labelled(tmp_path / "d.csv"), table(tmp_path / "a.csv", [4, 1, 2])
  assert run("fit", d, "--dim", 2, "--anchors", anchors, "--output", tmp_path / "out") == 0
  found = pd.read_csv(tmp_path / "out" / "points.csv")
  assert found["label"].tolist() == NAMES
  np.testing.assert_allclose(found[["x1", "x2"]], X, atol=1e-3)
  np.testing.assert_allclose(found[["x1", "x2"]].to_numpy()[[1, 2, 4]], X[[1, 2, 4]], rtol=1e-14)
  printed = capsys.readouterr().out
  assert "anchors         3, where the file has them" in printed
  assert "SMACOF, converged" in printed
  assert "standard error" not in printed  # the distances are exact
  assert (tmp_path / "out" / "fit.png").stat().st_size > 10_000


def test_anchors_without_labels_have_a_row_for_each_point(tmp_path):
  d, places = saved(tmp_path / "d.npy", 1e20 * matrix()), np.where(np.arange(6)[:, None] % 2, X, np.nan)
  for file in (saved(tmp_path / "a.npy", 1e20 * places), tmp_path / "a.csv"):
    if file.suffix == ".csv":
      pd.DataFrame(1e20 * places, columns=["x", "y"]).to_csv(file, index=False)
    known = files.read_distances(d, 2, anchors=file)
    assert known.anchors.fixed.tolist() == [False, True] * 3
    np.testing.assert_allclose((known.anchors.positions + known.anchors.centre) * known.unit, 1e20 * places)


def test_an_anchor_is_one_point(tmp_path):
  d, a = tmp_path / "d.csv", tmp_path / "a.csv"
  names = ["a", "b", "b", *"def"]
  pd.DataFrame(matrix(), names, names).to_csv(d)
  a.write_text("label,x,y\na,0,1\nb,1,2.5\n")
  with pytest.raises(UserError, match=r"anchors must have labels that one point has\. Got 'b' for 2 points"):
    files.read_distances(d, 2, anchors=a)
  a.write_text("label,x,y\na,0,1\nd,1,2.5\n")
  assert files.read_distances(d, 2, anchors=a).anchors.fixed.tolist() == [True, False, False, True, False, False]


def test_anchors_that_do_not_fit_are_refused(tmp_path, capsys):
  d, plain, a = labelled(tmp_path / "d.csv"), saved(tmp_path / "d.npy", matrix()), tmp_path / "a.csv"
  few = matrix()
  few[5, :4] = few[:4, 5] = np.nan  # the last point hangs on one other
  hanging = saved(tmp_path / "few.npy", few)
  pd.DataFrame(few, NAMES, NAMES).to_csv(tmp_path / "few.csv")
  rows = [",".join(map(str, p)) for p in X.tolist()]
  for distances, text, expected in (
    (d, "label,x,y\na,0,1\nq,1,2\n", "anchors must have labels of the distances. Got 'q'"),
    (d, "label,x,y\na,0,1\nb,1,2\na,5,6\n", "each anchor must stand once. Got 'a' twice"),
    (d, "label,x,y,z\na,0,1,2\nb,1,2,3\n", "anchors must have 2 coordinates, as --dim says. Got 3 beside the label"),
    (d, "label,x\na,0\nb,1\n", "anchors must have 2 coordinates, as --dim says. Got 1 beside the label"),
    (d, "label,x,y\na,0,1\nb,1,\n", "a position must have all its coordinates. Got 1, nan for 'b'"),
    (d, "label,x,y\na,0,1\nb,1,inf\n", "positions must be finite. Got 1, inf for 'b'"),
    (d, "label,x,y\na,0,1\nb,1,no\n", "entries must be numbers. Got 'no' in line 3"),
    (d, "label,x,y\na,,\nb,,\n", "some positions must be known. Got none"),
    (d, "label,x,y\na,0,1\n", "at least 2 anchors, or be connected with such as have. Got 1 for 'b', 'c', 'd', ..."),
    (plain, "x,y\n" + "\n".join(rows[:5]), "there must be one row for each point. Got 5 rows for 6 points"),
    (plain, "x,y\n" + "\n".join(rows), "some points must have no known position. Got all 6 of them"),
    (plain, "x,y,z\n" + "\n".join(f"{row}," for row in rows), "anchors must have 2 coordinates, as --dim says. Got 3"),
    (hanging, "x,y\n" + "\n".join(rows[:5]) + "\n,\n", "1 for point 6"),
    (tmp_path / "few.csv", "label,x,y\n" + "\n".join(map(",".join, zip(NAMES[:5], rows, strict=False))), "1 for 'f'"),
  ):
    a.write_text(text)
    line = refused(capsys, "fit", distances, "--dim", 2, "--anchors", a, "--output", tmp_path / "out")
    assert expected in line, line
  line = refused(capsys, "fit", d, "--dim", 2, "--method", "gradient", "--anchors", table(a, [0, 1, 2]))
  assert "--anchors: it needs --method smacof. Got --method gradient" in line
  line = refused(capsys, "fit", plain, "--dim", 0, "--anchors", a)
  assert "--dim: it must be at least 1. Got 0" in line
  assert "the file must be readable" in refused(capsys, "fit", d, "--dim", 2, "--anchors", tmp_path / "none.csv")
  table(tmp_path / "points.csv", [0, 1, 2])
  line = refused(capsys, "fit", d, "--dim", 2, "--anchors", tmp_path / "points.csv", "--output", tmp_path, "--force")
  assert "the input must not be overwritten" in line
  assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_how_sure_the_points_are(tmp_path):
  rng = np.random.default_rng(0)
  noise = np.triu(0.1 * rng.normal(size=(6, 6)), 1)
  places = np.where(np.arange(6)[:, None] < 3, X, np.nan)
  anchors = saved(tmp_path / "a.npy", places)
  known = files.read_distances(saved(tmp_path / "d.npy", np.abs(matrix() + noise + noise.T)), 2, anchors=anchors)
  points = X - known.anchors.centre
  found = certainty.of(points, known, 0.1)
  with jax.enable_x64(True):
    expected = [np.asarray(a) for a in standard_errors(points, np.nan_to_num(known.values), fixed=known.anchors.fixed)]
  np.testing.assert_allclose(found.covariance, expected[0])
  size = float(np.sqrt((expected[1][3:] ** 2).sum(1).mean()))
  assert found.lines == [f"standard error  {size:.3g} of a position, root mean square"]
  axes = Figure().subplots()
  plots._draw_ellipses(axes, plots._flat(points, known.anchors), found.covariance)
  outlines = axes.collections[0].get_segments()
  assert len(outlines) == 3  # anchors have none
  for outline, point, covariance in zip(outlines, X[3:], found.covariance[3:], strict=True):
    away = outline - point
    squares = np.einsum("ci,ij,cj->c", away, np.linalg.inv(covariance), away)
    np.testing.assert_allclose(squares, -2 * np.log(0.05), rtol=1e-5)  # 95 % of chi squared with two degrees of freedom
  assert certainty.of(points, known, 1e-7) == (None, [])  # the residuals are rounding
  bounded = known._replace(bounds=files.Bounds(known.values, known.values))
  assert certainty.of(points, bounded, 0.1) == (None, [])
  loose = np.full((6, 6), np.nan)
  for k in range(5):
    loose[k, k + 1] = loose[k + 1, k] = 1
  assert certainty.of(points, known._replace(values=loose, anchors=None), 0.1) == (None, [])  # no degrees of freedom


def test_points_that_can_move_have_no_ellipses():
  """Two pentagons, a minimum with residuals each, and one distance between them."""
  angles = 2 * np.pi * np.arange(5) / 5
  corners = np.stack([np.cos(angles), np.sin(angles)], 1)
  points, distances = np.concatenate([corners, corners + np.array([4, 0])]), np.full((10, 10), np.nan)
  apart = oracle.distances(corners)
  sides = np.isclose(apart, apart[0, 1])
  pentagon = np.where(sides, apart * (1 - 0.01 / apart[0, 1] ** 2), apart * (1 + 0.01 / apart[0, 2] ** 2))
  np.fill_diagonal(pentagon, np.nan)
  distances[:5, :5] = distances[5:, 5:] = pentagon
  distances[0, 5] = distances[5, 0] = 4
  found = certainty.of(points, files.Distances(distances, None, None, 1.0), 0.01)
  assert found == (None, ["standard error  none: the distances do not determine all points"])
