"""Points or commas before three digits: thousands, as a spreadsheet shows them, or decimals."""

import pytest
from test_two_readings import check, condensed, distances, points

from jax_edm._cli import anchors, edges
from jax_edm._cli.errors import UserError

POINTS, COMMAS = (f"whether {mark} stand before thousands or decimals. Got " for mark in ("points", "commas"))
READ = {
  "one with other decimals": ("x;y\n1.234;912\n2.5;300\n", [[1.234, 912], [2.5, 300]]),
  "one below 1": ("x;y\n1.234;912\n0.345;300\n", [[1.234, 912], [0.345, 300]]),
  "three decimals everywhere": ("1.234 2.345\n3.456 4.567\n", [[1.234, 2.345], [3.456, 4.567]]),
  "three decimals and zeros": ("1.234,0\n0,4.567\n", [[1.234, 0], [0, 4.567]]),
  "years beside them": ("2020,1.234\n2022,4.567\n", [[2020, 1.234], [2022, 4.567]]),
  "an index beside them": (",x\n1,1.234\n7,4.567\n", [[1.234], [4.567]], ["1", "7"]),
  "as the message says": ("x;y\n1.234;912.0\n2.345;300\n", [[1.234, 912], [2.345, 300]]),
  "whole numbers alone": ("x;y\n1234;912\n2345;300\n", [[1234, 912], [2345, 300]]),
  "commas, as the message says": ("x;y\n1,234;912,0\n2,345;300\n", [[1.234, 912], [2.345, 300]]),
}


@pytest.mark.parametrize("separator", [";", "\t", ",", " "])
@pytest.mark.parametrize("above", ["Ort{0}x{0}y\n", "{0}x{0}y\n", ""])
def test_points_before_thousands(above, separator, tmp_path):
  rows = f"A{separator}1.234{separator}912\nB{separator}2.345{separator}800\n"
  got = f"{POINTS}1.234 in line {1 + bool(above)}, and 912 without one"
  check(tmp_path, points, {separator: (above.format(separator) + rows, got)})


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("sep=;\nOrt;x;y\nA;1.234;912\nB;2.345;800\n", f"{POINTS}1.234 in line 3, and 912"),
    ("x\n-1.234\n912\n", f"{POINTS}-1.234 in line 2, and 912"),
    ("x;y\n1,234;912\n2,345;800\n", f"{COMMAS}1,234 in line 2, and 912"),
  ],
)
def test_points_of_a_spreadsheet(text, expected, tmp_path):
  check(tmp_path, points, {text: (text, expected)})


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    (";A;B;C\nA;0;289;1.184\nB;289;0;1.311\nC;1.184;1.311;0\n", f"{POINTS}1.184 in line 2, and 289"),
    ("0\t289\t1.184\n289\t0\t1.311\n1.184\t1.311\t0\n", f"{POINTS}1.184 in line 1, and 289"),
    ("0\n289;0\n1.184;1.311;0\n", f"{POINTS}1.184 in line 3, and 289"),
    ("Meter\n1.234\n912\n2.345\n", f"{POINTS}1.234 in line 2, and 912"),
    (";A;B;C\nA;0;289;1,184\nB;289;0;1,311\nC;1,184;1,311;0\n", f"{COMMAS}1,184 in line 2, and 289"),
    ("Meter\n1.234\n912.0\n2.345\n", condensed(1.234, 912, 2.345)),
  ],
)
def test_distances_of_a_spreadsheet(text, expected, tmp_path):
  check(tmp_path, distances, {text: (text, expected)})


@pytest.mark.parametrize("name", READ)
def test_decimals_are_read(name, tmp_path):
  check(tmp_path, points, {name: READ[name]})


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("i;j;distance\na;b;1.234\nb;c;912\n", f"{POINTS}1.234 in line 2, and 912"),
    ("i;j;distance\na;b;1,234\nb;c;912\n", f"{COMMAS}1,234 in line 2, and 912"),
    ("i,j,distance,weight\n1,2,1.234,1\n2,3,2.345,1\n", [1.234, 2.345]),  # labels and weights are no distances
  ],
)
def test_edge_lists(text, expected, tmp_path):
  file = tmp_path / "e.csv"
  file.write_text(text)
  if isinstance(expected, str):
    with pytest.raises(UserError, match=expected):
      edges.read_edges(file, 1)
  else:
    assert edges.read_edges(file, 1).pairs.values.tolist() == expected


def test_anchors(tmp_path):
  file = tmp_path / "a.csv"
  file.write_text("label;x;y\na;1.234;912\nb;2.345;800\n")
  with pytest.raises(UserError, match=POINTS):
    anchors.read_anchors(file, list("abcd"), 4, 2, 1.0)
