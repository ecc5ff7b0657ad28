"""``fit`` of an edge list: one line for each measured pair."""

import numpy as np
import pandas as pd
import pytest
from command import matrix, procrustes_rms, refused, run

from jax_edm._cli import edges, report
from jax_edm._cli.pairs import Pairs

X = np.random.default_rng(3).normal(size=(6, 2))  # the points of matrix()
FIRST, SECOND = np.triu_indices(6, 1)


def listed(path, i=FIRST, j=SECOND, values=None, names=tuple("abcdef"), **more):
  values = matrix()[i, j] if values is None else values
  columns = {"i": [names[k] for k in i], "j": [names[k] for k in j], "distance": values}
  pd.DataFrame(columns | more).to_csv(path, index=False)
  return path


@pytest.mark.slow
def test_an_edge_list_gives_the_points_of_the_matrix(tmp_path, capsys):
  file = listed(tmp_path / "e.csv", FIRST[::-1], SECOND[::-1])
  anchors = tmp_path / "a.csv"
  pd.DataFrame(X[[5, 0, 2]], ["f", "a", "c"], ["x", "y"]).to_csv(anchors, index_label="label")
  assert run("fit", file, "--dim", 2, "--anchors", anchors, "--output", tmp_path / "out", "--max-steps", 80) == 0
  found = pd.read_csv(tmp_path / "out" / "points.csv")
  assert found["label"].tolist() == list("efdcba")  # as they appear
  np.testing.assert_allclose(found[["x1", "x2"]], X[[4, 5, 3, 2, 1, 0]], atol=1e-3)
  assert "from 15 of their 15 distances (100%)" in capsys.readouterr().out
  assert (tmp_path / "out" / "fit.png").stat().st_size > 10_000


@pytest.mark.slow
def test_an_edge_list_without_anchors(tmp_path):
  rng = np.random.default_rng(0)
  truth = rng.normal(size=(60, 2))
  i, j = np.triu_indices(60, 1)
  i, j = i[::2], j[::2]
  values = np.linalg.norm(truth[i] - truth[j], axis=1) ** 2
  file = listed(tmp_path / "e.csv", i, j, values, range(60), weight=rng.random(len(i)) + 0.1)
  output = ("--output", tmp_path / "out", "--no-picture")
  assert run("fit", file, "--dim", 2, "--squared", "--tolerance", 1e-5, *output) == 0
  points = pd.read_csv(tmp_path / "out" / "points.csv").sort_values("label")[["x1", "x2"]].to_numpy()
  assert procrustes_rms(points, truth) < 1e-3


def read(path, text, **options):
  path.write_text(text)
  return edges.read_edges(path, 1, **options)


def test_how_edge_lists_are_written(tmp_path):
  file = tmp_path / "e.csv"
  for text in (
    "i,j,distance\na,b,1\nb,c,2.5\n",
    'I;J;Distance\na;b;1\n"b";"c";2,5\n',
    "sep=;\ni;j;distance\nb;a;1,0\nc;b;2,5\n",
    "i\tj\tdistance\na\tb\t1\nb\tc\t2.5\na\tc\tNA\n",  # one is not measured
    "i j distance weight\na b 1 2\nb c 2.5 4\na c 7 0\n",
    "# i,j,distance\na,b,1\nb,c,2.5\nc,b,2.5\n",  # the same twice
    "i,j,distance\na,b,1\nb,c,2.5\na,c,\n",  # an empty last entry is a missing one
    "i,j,distance,weight\na,b,1,2\nb,c,2.5,4\na,c,7,\n",
    '"i","j","distance","weight"\n"a","b",1,2\n"b","c",2.5,4\n"a","c",-9,0\n',
  ):
    file.write_text(text)
    assert edges.is_edge_list(file), text
    found = edges.read_edges(file, 1)
    assert sorted(found.labels) == ["a", "b", "c"], text
    ends = [sorted((found.labels[a], found.labels[b])) for a, b in zip(found.pairs.i, found.pairs.j, strict=True)]
    assert ends == [["a", "b"], ["b", "c"]], text
    np.testing.assert_array_equal(found.pairs.values, [1, 2.5])
    if "weight" in text:
      np.testing.assert_array_equal(found.pairs.weights, [0.5, 1])
  found = read(file, "i,j,distance\na,b,1\nb,c,-1e-17\n")  # rounding
  np.testing.assert_array_equal(found.pairs.values, [1, 0])
  found = read(file, "i,j,distance\n7,10,4e20\n10,new york,9e20\n", squared=True)
  assert found.labels == ["7", "10", "new york"]
  np.testing.assert_allclose(found.pairs.values * found.unit, [2e10, 3e10])
  file.write_bytes("i;j;distance\nä;b;1\n".encode("utf-16"))
  assert edges.is_edge_list(file)
  assert edges.read_edges(file, 1).labels == ["ä", "b"]
  for text in ("1,2,3\n", ",i,j\ni,0,1\nj,1,0\n"):
    file.write_text(text)
    assert not edges.is_edge_list(file)


def test_edge_lists_that_are_refused(tmp_path, capsys):
  file = tmp_path / "e.csv"
  for text, expected in (
    (
      "i,j,distance\na,b,1\nb,a,2\n",
      "a pair must not have two distances. Got 1 and 2 for 'a' and 'b' in lines 2 and 3",
    ),
    ("i,j,distance,weight\na,b,1,1\nb,a,1,2\n", "a pair must not have two weights. Got 0.5 and 1"),
    ("i,j,distance\na,b,1\nb,b,2\n", "a pair must be of two points. Got 'b' twice in line 3"),
    ("i,j,distance\na,b,1\n,b,2\n", "every pair must have two labels. Got an empty cell in line 3"),
    ("i,j,distance\n1,2,1\n1.0,3,2\n", "a label must be written in one way. Got '1' and '1.0'"),
    ("i,j,distance\na,b,-1\n", "distances must not be negative. Got -1 in line 2"),
    ("i,j,distance\na,b,inf\n", "distances must be finite. Got inf in line 2"),
    ("i,j,distance\na,b,x\n", "entries must be numbers. Got 'x' in line 2"),
    ("i,j,distance\na,b,\nb,c,NA\n", "some distances must be measured"),
    ("i,j,distance\na,b,1\nb,c,NA\n", "every point must have a measured distance. Got none for 'c'"),
    ("i,j,distance\na,b,1\nc,d,1\n", "measured distances must connect all points. Got 2 separate parts"),
    ("i,j,distance\na,b,0\n", "some points must differ"),
    ("i,j,distance\na,b,1e-300\n", "the largest distance must be at least 1e-290"),
    ("i,j,distance\na,b\n", "all rows must have the same number of entries"),
    ("i,j,distance\n", "no numbers"),
    ('i;j;distance\na;b;"1,234"\n', "it must be clear whether commas stand before thousands or decimals"),
    ("i,j,distance,weight\na,b,1,-1\n", "weights must not be negative. Got -1 in line 2"),
    ("i,j,distance,weight\na,b,1,inf\n", "weights must be finite. Got inf in line 2"),
    ("i,j,distance,weight\na,b,1,0\n", "some weights must be positive"),
    ("i,j,distance,weight\na,b,1,1\nb,c,1,1e-20\n", "positive weights must be at least 1e-12 of the largest"),
    (
      ",i,j,distance\n0,a,b,1\n",
      "an edge list must have the columns i, j, distance and perhaps weight. Got , i, j, distance",
    ),
    ("distance,i,j\n1,a,b\n", "an edge list must have the columns"),
    ("# i,j,weight,distance\na,b,1,2\n", "must have the columns i, j, distance and perhaps weight. Got i, j, weight"),
    ("# i j distance error\na b 1 2\n", "must have the columns i, j, distance and perhaps weight. Got i, j, distance"),
    ("# i,distance,j\n0,1,2\n", "must have the columns i, j, distance and perhaps weight. Got i, distance, j"),
  ):
    file.write_text(text)
    line = refused(capsys, "fit", file, "--dim", 1, "--output", tmp_path / "out")
    assert expected in line, line
  assert "need at least 3 distances. Got 2" in refused(capsys, "fit", listed(file, [0, 1], [1, 2]), "--dim", 2)
  assert "less than the number of points, 3" in refused(capsys, "fit", file, "--dim", 3)
  listed(file)
  for option, value in (("--weights", file), ("--lower", file), ("--upper", file), ("--restarts", 2)):
    line = refused(capsys, "fit", file, "--dim", 2, option, value)
    assert f"{option}: it needs a matrix of distances. Got the edge list" in line
  assert "an edge list needs --method smacof. Got --method" in refused(
    capsys, "fit", file, "--dim", 2, "--method", "gradient"
  )
  for option in ("--lower", "--upper"):
    assert f"{option}: it must be a matrix. Got the edge list" in refused(capsys, "fit", option, file, "--dim", 2)
  anchors = tmp_path / "a.csv"
  anchors.write_text("label,x,y\na,0,1\n")
  line = refused(capsys, "fit", file, "--dim", 2, "--anchors", anchors)
  assert "at least 2 anchors, or be connected with such as have. Got 1 for 'b', 'c', 'd', ..., which can turn" in line


def test_the_report_of_few_pairs_of_many_points():
  pairs = Pairs(100_000, np.arange(99_999), np.arange(1, 100_000), np.ones(99_999))
  assert report.about_pairs(pairs) == "from 99,999 of their 4,999,950,000 distances (0.002%)"
  assert report.stress(np.arange(100_000.0)[:, None], pairs) == 0
  assert pairs.parts().max() == 0
