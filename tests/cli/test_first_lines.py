"""What stands above and beside the numbers, and blank lines: read as pandas and R write them, or asked about."""

import numpy as np
import pytest
from test_two_readings import FIRST_LINE, LABELS, check, distances, points

from jax_edm._cli import files, matrix
from jax_edm._cli.errors import UserError

NAN = np.nan
LABEL = "every point must have a label, if any has"
BLANK = "whether a blank line is a missing entry"
THREE = [[NAN, 5, 6], [5, NAN, 7], [6, 7, NAN]]


def test_numbers_above_points(tmp_path):
  """A DataFrame whose columns are years, wavelengths or numbers."""
  cases = {
    "years": (",2001,2002\nalice,1.5,2.5\nbob,3,4\n", FIRST_LINE),
    "R": ('"id","2001","2002"\n"alice",1.5,2.5\n"bob",3,4\n', [[1.5, 2.5], [3, 4]], ["alice", "bob"]),
    "a named index": ("name;10;20\nalice;1.5;2.5\nbob;3;4\n", FIRST_LINE),
    "fractions": (",0.0,1.0\nalice,1.5,2.5\nbob,3,4\n", FIRST_LINE),
    "two levels": (",a,a\n,0,1\nr1,1.5,2.5\nr2,3,4\n", "Got 'a' twice"),
    "labelled points": ("alice,1.5,2.5\nbob,3,4\n", [[1.5, 2.5], [3, 4]], ["alice", "bob"]),
    "labelled NA": ("NA,1.5,2.5\nbob,3,4\n", [[1.5, 2.5], [3, 4]], ["NA", "bob"]),
    "without the first coordinate": (",2\n1,3\n4,5\n", "coordinates must be finite"),
  }
  check(tmp_path, points, cases)


ODD = [
  "\u22121.5,\u22122.5", "1 234;5 678", "1,234.5;5,678.9", "?,?", ". .", "-;-", "missing\tmissing", "Nan,Nan",
  "-nan(ind),-nan(ind)", "1.#QNAN,1.#QNAN", "#DIV/0!,#DIV/0!", "50%,60%", "1.5D+03 2.5D+03", "0x1F,0x2F", "1_000,2_000",
  "1.5m,2.5m", "'1.5,'2.5", "=1.5,=2.5",
]  # fmt: skip


@pytest.mark.parametrize("first", ODD)
def test_a_first_point_in_another_notation_is_no_header(first, tmp_path):
  separator = next(s for s in ";\t ," if s in first)
  rest = "\n".join(separator.join(row) for row in (("1.25", "2"), ("3", "4.5")))
  check(tmp_path, points, {first: (f"{first}\n{rest}\n", "Got")})
  one = first.split(separator)[0]
  check(tmp_path, points, {one: (f"{one}\n3\n4\n", "Got")})
  check(tmp_path, distances, {one: (f"{one}\n3\n4\n5\n", "Got")})


def test_first_lines(tmp_path):
  x = [[1.5, 2.5], [3, 4]]
  cases = {
    "names": ("x (m),β_2\n1.5,2.5\n3,4\n", x),
    "numpy.savetxt": ("# x y\n1.5 2.5\n3 4\n", x),
    "rows that begin with #": ("# 1,1.5,2.5\n# 2,3,4\n", "Got '# 1' in line 1"),
    "a line of two numbers": ("1.5 2.5\n3.5\n4.5\n", "Got 1.5 2.5"),
    "a blank in the name, and a comma": ("x y\n1,2\n3,4\n5,6\n", "whether commas separate"),
    "two names, and decimal commas": ("x y\n1,5 2,5\n3 4\n", x),
    "separators only": (",\n", "no numbers"),
    "odd names above an index of numbers": (",2D x,2D y\n1990,1.5,2.5\n1991,3,4\n", FIRST_LINE),
    "odd names of R": ('"2D x" "2D y"\n"a" 1.5 2.5\n"b" 3 4\n', x, ["a", "b"]),
    "labels, one like a number": ("1abc;1,5\n1e10;2,5\n2xyz;3,25\n", "whether commas separate"),
    "the same after blanks": ("a 1,5\n7 2,5\nb 3,25\n", "whether commas separate"),
    "a slip in the first column": ("1.5x,2.5\n3,4\n5,6.5\n", "whether the first column holds labels or numbers"),
  }
  check(tmp_path, points, cases)
  cases = {
    "a broken triangle": ("0 5\n3\n", "Got"),
    "one line": ("5;3\n", "must form a square matrix"),
    "one point": (",a\na,5\n", "the distance of a point to itself"),
    "a Series of one distance": (",0\n0,1.5\n", "the distance of a point to itself"),
    "separators only": (",\n", "no numbers"),
  }
  check(tmp_path, distances, cases)


def test_numbers_around_a_matrix(tmp_path):
  cases = {
    "001 above, 1 beside": (",001,002,003\n1,0,5,6\n2,5,0,7\n3,6,7,0\n", THREE, ["001", "002", "003"]),
    "1.0 above, 1 beside": (",1.0,2.0,3.0\n1,0,5,6\n2,5,0,7\n3,6,7,0\n", THREE, ["1.0", "2.0", "3.0"]),
    "a label is missing": (",1.0,2.0,\n1.0,0,5,6\n2.0,5,0,7\n,6,7,0\n", LABELS),
    "a label is NA": (",1,2,NA\n1,0,5,6\n2,5,0,7\nNA,6,7,0\n", LABELS),
    "two levels": (",,a,a,b\n,,1,2,1\na,1,0.0,3.0,4.5\na,2,3.0,0.0,5.0\nb,1,4.5,5.0,0.0\n", LABEL),
    "two levels of numbers": (",,2020,2020,2021\n,,1,2,1\n2020,1,0,3,4\n2020,2,3,0,5\n2021,1,4,5,0\n", LABELS),
    "a dash for a missing distance": (",5,-,7\n5,,3,4\n-,3,,6\n7,4,6,\n", "entries must be numbers. Got '-' in line 1"),
    "a missing distance": (",5,\n5,,7\n,7,\n", [[NAN, 5, NAN], [5, NAN, 7], [NAN, 7, NAN]]),
  }
  check(tmp_path, distances, cases)


QUOTED = {
  "whole numbers": '"14","15","29"\n0,5,6\n5,0,7\n6,7,0\n',
  "blanks": '"14" "15" "29"\n0 5 6\n5 0 7\n6 7 0\n',
  "write.csv2": '"14";"15";"29"\n0,0;5,0;6\n5;0;7\n6;7;0\n',
  "names of rows alone": '"14",0,5,6\n"15",5,0,7\n"29",6,7,0\n',
}


@pytest.mark.parametrize("name", QUOTED)
def test_numbers_in_quotation_marks_are_labels(name, tmp_path):
  """As R writes a part of a matrix, without the names of its rows, or of its columns."""
  check(tmp_path, distances, {name: (QUOTED[name], THREE, ["14", "15", "29"])})


def with_corner(corner, names, inner=((0, 5, 6), (5, 0, 7), (6, 7, 0))):
  rows = [[corner, *names], *([name, *row] for name, row in zip(names, inner, strict=True))]
  return "".join(",".join(map(str, row)) + "\n" for row in rows)


CORNERS = {
  "that count": with_corner(0, [1, 2, 3]),
  "from 101 on": with_corner(0, [101, 102, 103]),
  "with gaps": with_corner(0, [101, 205, 330]),
  "of numpy.savetxt": with_corner("0.0e+00", ["1.01e+02", "2.05e+02", "3.3e+02"]),
  "a missing distance": with_corner(0, [101, 102, 103], (("0", 5, ""), (5, 0, 7), ("", 7, 0))),
}


@pytest.mark.parametrize("name", CORNERS)
def test_labels_below_a_corner_of_zero(name, tmp_path):
  check(tmp_path, distances, {name: (CORNERS[name], LABELS)})


@pytest.mark.parametrize(
  ("names", "inner"),
  [
    ([1, 2, 3], [[0, 1, 2], [1, 0, 1], [2, 1, 0]]),  # on a line
    ([3, 7, 9], [[0, 5, 6], [5, 0, 7], [6, 7, 0]]),
    ([103, 101, 102], [[0, 5, 6], [5, 0, 7], [6, 7, 0]]),  # labels rise
    ([8.5, 9, 10], [[0, 5, 6], [5, 0, 7], [6, 7, 0]]),
    ([7, 9], [[0, 5], [5, 0]]),
  ],
)
def test_distances_from_the_first_point(names, inner, tmp_path):
  found = distances(tmp_path / "x.csv", with_corner(0, names, inner))
  assert found.labels is None
  np.testing.assert_array_equal(found.values[0, 1:], names)
  found = distances(tmp_path / "x.csv", with_corner("label", names, inner))
  assert found.labels == [str(name) for name in names]


def test_a_corner_is_answered_as_the_message_says(tmp_path):
  check(tmp_path, distances, {"label": (with_corner("label", [1, 2, 3]), THREE, ["1", "2", "3"])})
  assert distances(tmp_path / "x.csv", with_corner("nan", [1, 2, 3])).values.shape == (4, 4)


def test_blank_lines_in_one_column(tmp_path):
  cases = {
    "of a missing distance": ("1\n2\n\n3\n\n\n4\n5\n\n6\n", BLANK),
    "with a name": ("d\n1\n\n3\n", BLANK),
    "above a name and below": ("\n\nd\n5\n6\n7\n\n", THREE),
    "below a name": ("d\n\n\n\n1.5\n2.5\n3.5", f"{BLANK}. Got one below line 1"),
    "two at the end": ("1.5\n2.5\n3.5\n\n\n", f"{BLANK}. Got one below line 3"),
    "two at the end, of Windows": ("1.5\r\n2.5\r\n3.5\r\n\r\n ", f"{BLANK}. Got one below line 3"),
    "above the first number": ("\n1.5\n2.5\n3.5\n", f"{BLANK}. Got one above line 2"),
  }
  check(tmp_path, distances, cases)
  cases = {
    "points": ("1.5\n\n3\n4\n", BLANK),
    "below a comment": ("# x\n\n1.5\n2.5\n", BLANK),
    "below a comment, none": ("# x\n1.5\n2.5\n", [[1.5], [2.5]]),
    "two columns": ("\n1.5,2\n\n3,4\n\n\n", [[1.5, 2], [3, 4]]),
  }
  check(tmp_path, points, cases)


@pytest.mark.parametrize("origin", [1_700_000_000_000, 9_007_199_254_740_000, 20_240_101_120_000])
def test_large_coordinates_keep_their_digits(origin, tmp_path):
  """Times in milliseconds, identifiers, dates: to divide by a unit must not round."""
  x = points(tmp_path / "x.csv", "".join(f"{origin + k}\n" for k in (0, 2, 6))).values
  np.testing.assert_array_equal(matrix._matrix(tmp_path, x, True), [[0, 2, 6], [2, 0, 4], [6, 4, 0]])


def test_a_unit_is_a_power_of_two():
  for length in (1e-280, 1e-11, 1.0, 1e11, 1e300):
    assert np.frexp(files.unit_of(length))[0] == 0.5
    assert length / 1e10 <= files.unit_of(length) <= max(length, 1)


def test_a_label_that_is_missing_is_asked_for(tmp_path):
  with pytest.raises(UserError, match=f"{LABEL}. Got an empty cell for point 2"):
    points(tmp_path / "x.csv", "a,1.5,2\n,3,4\nc,5,6\n")


def test_decimal_commas_in_quotation_marks(tmp_path):
  """As pandas writes them with ``quoting=csv.QUOTE_ALL``."""
  x = [[1.5, 2.5], [3, 4.25]]
  cases = {
    "with labels": ('"";"x";"y"\n"a";"1,5";"2,5"\n"b";"3";"4,25"\n', x, ["a", "b"]),
    "without": ('"1,5";"2,5"\n"3";"4,25"\n', x),
    "one column": ('"1,5"\n"2,5"\n"3,25"\n', [[1.5], [2.5], [3.25]]),
  }
  check(tmp_path, points, cases)
  table = '"";"a";"b";"c"\n"a";"0";"5";"6"\n"b";"5";"0";"7,5"\n"c";"6";"7,5";"0"\n'
  check(tmp_path, distances, {"a matrix": (table, [[NAN, 5, 6], [5, NAN, 7.5], [6, 7.5, NAN]], ["a", "b", "c"])})


def test_what_may_be_numbers_is_no_label(tmp_path):
  """Cells of a first column in another notation, truth values, and whole numbers that do not count."""
  cells = ["1 234,5", "1.234,5", "1'234.5", "\u22121", "50%", "$5", "1.5D+03", "#DIV/0!", "-nan(ind)", "Nan", "12:30"]
  check(tmp_path, points, {cell: (f"x;y\n{cell};2,5\n{cell};3,0\n", "Got") for cell in [*cells, "True", "FALSE"]})
  check(tmp_path, points, {"truth beside numbers": ("1,TRUE\n2,FALSE\n", "entries must be numbers. Got 'TRUE'")})
  lines = "whether a line of its own holds labels"
  cases = {
    "an empty line below a triangle": ("0,5,6\n,0,7\n,,0\n,,\n", lines),
    "a triangle with tabs at the ends": ("0\t\t\t\n10\t0\t\t\n7\t7\t0\t\n", lines),
    "a triangle without its first line": ("5,0,\n6,7,0\n", lines),
    "a matrix without its first line": ("3;0;10;2\n9;10;0;10\n1;2;10;0\n", lines),
    "pairs that are near": ("False,True,True\nTrue,False,True\nTrue,True,False\n", "entries must be numbers"),
    "the same with labels": (",A,B,C\nA,False,True,True\nB,True,False,True\nC,True,True,False\n", "must be numbers"),
    "a labelled triangle, cut": (",A,B,C,D\nA,0\nB,5,0\nC,6,7,0\n", "Got 4 labels above and 3 beside"),
  }
  check(tmp_path, distances, cases)


def test_first_lines_of_numbers(tmp_path):
  x = [[0.5, 0.6], [1.5, 2.5]]
  cases = {
    "in quotation marks": ('"2020","2021"\n0.5,0.6\n1.5,2.5\n', x),
    "a first point with decimal commas": ('"1,5","2,5"\n3,4\n5,6\n', "must be numbers. Got '1,5' in line 1"),
    "years above fractions": ("site,2020,2021\nL0,0.5,0.6\nL1,1.5,2.5\n", FIRST_LINE),
    "years above whole numbers": ("p,20,21\nq,5,6\n", [[20, 21], [5, 6]], ["p", "q"]),
    "a title": ("My points\n0.5,0.6\n1.5,2.5\n", "Got 1 in line 1 and 2 in line 2"),
    "names with a blank between them": ("x y\n0.5,0.6\n1.5,2.5\n", "Got 1 in line 1 and 2 in line 2"),
    "saved twice": (",Unnamed: 0,x\n0,0,0.5\n1,1,1.5\n2,2,3.5\n", "one named 'Unnamed: 0'"),
    "a line that is cut": ("1,2\n3,4\n5\n", "whether commas separate"),
  }
  check(tmp_path, points, cases)


def test_a_second_index_and_names_that_are_not_there(tmp_path):
  """What ``DataFrame.to_csv`` writes of more than one index, and what is left when a name is deleted."""
  twice = "the columns beside the first must be coordinates"
  cases = {
    "an index of two levels": (",,x,y\na,0,0.5,0.1\na,1,0.2,0.7\n", f"{twice}. Got one named ''"),
    "the same after reset_index": ("level_0,level_1,x\na,0,0.5\na,1,0.2\n", "Got one named 'level_1'"),
    "an index saved as a column": (",index,x,y\n0,2,0.9,0.4\n1,5,0.3,0.1\n", "Got one named 'index'"),
    "identifiers": (",id,x,y\n0,101,0.5,0.1\n1,102,0.2,0.7\n", "Got one named 'id'"),
    "rows and columns of an image": ("row,col\n12,4\n30,5\n7,60\n", [[12, 4], [30, 5], [7, 60]]),
    "two header lines": ("a,a\n1,2\n1.5,2.5\n3.0,4.0\n", "Got 'a' twice"),
    "numbers in quotation marks": ('"4" 0.5 1\n"7" 1e-05 3\n"9" 4 5\n', "Got '4' in quotation marks"),
    "the same with names": ('"zip","x","y"\n"01010",0.5,0.1\n"02020",0.3,0.2\n', "Got '01010' in quotation marks"),
    "thousands": ("A;2,371.07\nB;4,728.96\nC;1,234.50\n", "whether commas separate"),
    "a name too few": ("x,y\n0.5,0.3,0.2\n0.1,0.9,0.7\n", "Got 2 in line 1 and 3 in line 2"),
  }
  check(tmp_path, points, cases)
  cases = {
    "a label is missing in one": (",101,102,103\n101,0.0,7.08,5.54\n,7.08,0.0,3.7\n103,5.54,3.7,0.0\n", LABELS),
    "a line less than a Series has": ("0\n1.5\n2.5\n2.0\n3.5\n3.0\n", FIRST_LINE),
    "a line less than a triangle has": ("0,1,2\n0.0,0.0,1.5\n0.0,0.0,0.0\n", FIRST_LINE),
  }
  check(tmp_path, distances, cases)
