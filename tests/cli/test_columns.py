"""An index that is saved twice or written in another way, numbers that name columns, labels of two words."""

import io

import numpy as np
import pandas as pd
import pytest
from test_two_readings import FIRST_LINE, INDEX, check, points

BESIDE = "the columns beside the first must be coordinates. Got one named "
SECOND = "whether the second column is an index, too. Got "
CUT = "whether the first two cells are a label. Got "
X = [[0.5, 0.1], [0.25, 0.75], [0.125, 0.3]]


def lines(*rows, separator=","):
  return "".join(separator.join(map(str, row)) + "\n" for row in rows)


def beside(header, first, second, separator=","):
  """``X`` beside two columns that may be indices."""
  return lines(header, *((a, b, *row) for a, b, row in zip(first, second, X, strict=True)), separator=separator)


SAVED_TWICE = {
  "R, of rows that are left": (beside(['""', '"X"', '"x"', '"y"'], ['"2"', '"5"', '"7"'], [2, 5, 7]), f"{BESIDE}'X'"),
  "R, of rows in another order": (beside(['""', '"X"', '"x"', '"y"'], "132", [2, 5, 7]), f"{BESIDE}'X'"),
  "write.table": (beside(['"X"', '"x"', '"y"'], ['"1"', '"2"', '"3"'], [1, 2, 3], " "), f"{BESIDE}'X'"),
  "X1": (beside(['""', '"X1"', '"x"', '"y"'], ['"1"', '"2"', '"3"'], [4, 5, 7]), f"{BESIDE}'X1'"),
  "V1": (beside(['""', '"V1"', '"x"', '"y"'], ['"1"', '"2"', '"3"'], [4, 5, 7]), f"{BESIDE}'V1'"),
  "readr": (beside(['""', '"...1"', '"x"', '"y"'], ['"1"', '"2"', '"3"'], [9, 5, 7]), f"{BESIDE}'...1'"),
  "Arrow": (beside(["", "__index_level_0__", "x", "y"], "012", [9, 5, 7]), f"{BESIDE}'__index_level_0__'"),
  "a name of its own": (beside(["", "site", "x", "y"], [2, 5, 9], [2, 5, 9]), f"{SECOND}2, 5, 9, ... beside the index"),
  "fractions": (beside(["", "site", "x", "y"], [2, 5, 9], [2.0, 5.0, 9.0]), f"{SECOND}2.0, 5.0, 9.0, ... beside"),
  "reset": (beside(["", "site", "x", "y"], [2, 5, 9], [0, 1, 2]), f"{SECOND}0, 1, 2, ... beside the index 2, 5, 9"),
  "write.table, unquoted": (beside(["site", "x", "y"], "123", "123", "\t"), SECOND),
}
ONE_INDEX = {
  "as the message says": (beside(["label", "t", "x", "y"], "259", "259"), "259", "259"),
  "X and Y": (beside(['""', '"X"', '"Y"', '"z"'], "123", "257"), "123", "257"),
  "V1 and V2": (beside(['""', '"V1"', '"V2"', '"V3"'], "123", "257"), "123", "257"),
  "labels beside steps": (beside(["", "x", "y", "z"], "abc", "012"), "abc", "012"),
  "X of fractions": (beside(['""', '"X"', '"a"', '"b"'], "123", [0.5, 1.5, 2.5]), "123", [0.5, 1.5, 2.5]),
}


@pytest.mark.parametrize("name", SAVED_TWICE)
def test_an_index_that_is_saved_twice(name, tmp_path):
  check(tmp_path, points, {name: SAVED_TWICE[name]})


@pytest.mark.parametrize("name", ONE_INDEX)
def test_a_coordinate_beside_an_index(name, tmp_path):
  text, labels, first = ONE_INDEX[name]
  check(tmp_path, points, {name: (text, np.column_stack([[float(a) for a in first], X]), list(labels))})


INDEX_NAMES = ["rowname", "rowid", "rn", "RowID", "__index_level_0__", "...1"]
INDEX_NAMES += ["Row", "row.names", "Row.names", "row_name", "row_names", "row_nr"]


@pytest.mark.parametrize("name", INDEX_NAMES)
def test_names_of_an_index(name, tmp_path):
  text = lines([name, "x", "y"], *((k, *row) for k, row in zip((2, 5, 4), X, strict=True)))
  check(tmp_path, points, {name: (text, X, ["2", "5", "4"])})


def test_radon_is_no_index(tmp_path):
  check(tmp_path, points, {"Rn": ("Rn,K\n2,0.5\n5,1.5\n4,2.5\n", [[2, 0.5], [5, 1.5], [4, 2.5]])})


NAMED_BY_NUMBERS = {
  "pandas": pd.DataFrame(X, columns=[2020, 2021]).to_csv(index=False),
  "semicolons": pd.DataFrame(X, columns=[3, 1]).to_csv(index=False, sep=";", decimal=","),
  "missing numbers": "2020,2021\n0.5,\n,\n0.25,0.75\n",
  "uneven steps": pd.DataFrame(np.c_[X, [0.5, 0.6, 0.7]], columns=[2000, 2010, 2015]).to_csv(index=False),
  "above whole numbers": "450,550,700\n12,15,17\n31,14,16\n",
  "a Series": pd.Series([0.5, 0.25, 0.75], name=2020).to_csv(index=False),
  "a Series of whole numbers": pd.Series([59, 65, 40], name=2020).to_csv(index=False),
  "a Series in quotation marks": '"2020"\n"0.5"\n"0.25"\n',
  "labels": "country,2000,2010,2015\nFrance,59,65,67\nSpain,40,46,47\n",
  "large numbers below": "country,2000,2010,2015\nFrance,5900,6500,6700\nSpain,4000,4600,4700\n",
  "two columns": "country,2000,2010\nFrance,59,65\nSpain,40,46\n",
  "one column": "country,2020\nFrance,59\nSpain,40\n",
}
FIRST_POINTS = {
  "as the message says": ("2020.0,2021\n0.5,0.6\n0.7,0.8\n", [[2020, 2021], [0.5, 0.6], [0.7, 0.8]]),
  "with labels": ("a,2000.0,2010,2015\nb,59,65,67\nc,4,5,7\n", [[2000, 2010, 2015], [59, 65, 67], [4, 5, 7]], [*"abc"]),
  "steps below names": ("x,y,z\n1,2,3\n0.5,7,1\n2,9,1\n", [[1, 2, 3], [0.5, 7, 1], [2, 9, 1]]),
  "R, with a whole number below": ("2 3\n0.5 0.6\n4 2.5\n", [[2, 3], [0.5, 0.6], [4, 2.5]]),
  "places": ("Berlin,52,13\nParis,48,2\nRome,41,12\n", [[52, 13], [48, 2], [41, 12]], ["Berlin", "Paris", "Rome"]),
  "pixels": ("512;256\n300;100\n40;700\n", [[512, 256], [300, 100], [40, 700]]),
  "a falling line": ("a,9,5,2\nb,3,4,5\nc,7,8,1\n", [[9, 5, 2], [3, 4, 5], [7, 8, 1]], ["a", "b", "c"]),
}


@pytest.mark.parametrize("name", NAMED_BY_NUMBERS)
def test_numbers_that_name_columns(name, tmp_path):
  check(tmp_path, points, {name: (NAMED_BY_NUMBERS[name], FIRST_LINE)})


@pytest.mark.parametrize("name", FIRST_POINTS)
def test_a_first_point_of_whole_numbers(name, tmp_path):
  check(tmp_path, points, {name: FIRST_POINTS[name]})


def test_steps_are_answered_by_names(tmp_path):
  """Decimals would not make the numbers above another thing than steps."""
  text, answer = "350.0,350.5,351.0\n0.12,0.13,0.15\n0.11,0.12,0.13\n", "write names of the coordinates above it"
  check(tmp_path, points, {"steps": (text, answer), "labels": ("a,10,20,30\nb,3,7,2\nc,5,1,9\n", answer)})
  assert points(tmp_path / "x.csv", f"x,y,z\n{text}").values[0].tolist() == [350, 350.5, 351]


LABELS = {
  "below names": ("site x y\nSite 1 0.5 0.6\nSite 2 0.7 0.8\n", f"{CUT}'Site' and '1' in line 2"),
  "names that do not count": ("site x y\nSite 7 0.5 0.6\nSite 2 0.7 0.8\n", f"{CUT}'Site' and '7' in line 2"),
  "other words": ("site x y\nLot 1 0.5 0.6\nPlot 2 0.7 0.8\nSite 3 0.1 0.3\n", f"{CUT}'Lot' and '1'"),
  "no names": ("Site 1 0.5\nSite 2 0.7\nPlot 1 0.8\n", f"{CUT}'Site' and '1' in line 1"),
  "tabs": ("x\ty\nA\t1.5\t0.6\nA\t2.5\t0.8\n", f"{CUT}'A' and '1.5'"),
}
WHOLE_LABELS = {
  "quoted": ('site x\n"Site 1" 0.5\n"Site 2" 0.7\n', [[0.5], [0.7]], ["Site 1", "Site 2"]),
  "names above": ("site n x\nSite 1 0.5\nSite 2 0.7\n", [[1, 0.5], [2, 0.7]], ["Site", "Site"]),
  "kinds": ("setosa 5.1 3.5\nsetosa 4.9 3.1\n", [[5.1, 3.5], [4.9, 3.1]], ["setosa", "setosa"]),
  "write.table": ('"x" "y"\n"a" 1 0.5\n"b" 2 0.7\n', [[1, 0.5], [2, 0.7]], ["a", "b"]),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_of_two_words(name, tmp_path):
  check(tmp_path, points, {name: LABELS[name]})


@pytest.mark.parametrize("name", WHOLE_LABELS)
def test_labels_of_one_cell(name, tmp_path):
  check(tmp_path, points, {name: WHOLE_LABELS[name]})


def saved_by_numpy(first):
  text = io.StringIO()
  np.savetxt(text, np.column_stack([first, X]))
  return text.getvalue()


@pytest.mark.parametrize("text", [
  saved_by_numpy([0, 1, 2]), saved_by_numpy([1, 2, 3]), "0.0,0.5\n1.0,0.7\n2.0,0.1\n", "001,0.5\n002,0.7\n003,0.1\n",
  "0,0;0,5\n1,0;0,7\n2,0;0,1\n",
])  # fmt: skip
def test_an_index_that_is_written_as_numbers(text, tmp_path):
  check(tmp_path, points, {text: (text, INDEX)})
  assert len(points(tmp_path / "x.csv", text, index=True).labels) == 3
  assert points(tmp_path / "x.csv", text, index=False).labels is None


def frame(index, values=X):
  return pd.DataFrame(values, index)


ROWS = {
  "sorted": frame([2, 0, 1]).to_csv(header=False),
  "sorted, R": frame([3, 1, 2]).to_csv(header=False, sep=" "),
  "sorted, decimal commas": frame([2, 0, 1]).to_csv(header=False, sep=";", decimal=","),
  "sorted, whole numbers": frame([1, 2, 0], [[5, 1], [2, 3], [3, 4]]).to_csv(header=False),
  "left": frame([0, 2, 3]).to_csv(header=False),
  "a part of them": frame([5, 6, 7]).to_csv(header=False),
  "a sample": frame([9, 2, 5]).to_csv(header=False),
  "a sample, one number missing": frame([9, 2, 5], [[0.5, np.nan], *X[1:]]).to_csv(header=False),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_are_sorted_or_left(name, tmp_path):
  check(tmp_path, points, {name: (ROWS[name], INDEX)})
  if "missing" not in name:
    assert len(points(tmp_path / "x.csv", ROWS[name], index=True).labels) == 3
    assert points(tmp_path / "x.csv", ROWS[name], index=False).labels is None


COORDINATES = {
  "steps": ("0.0,0.5\n0.5,0.7\n1.0,0.1\n", [[0, 0.5], [0.5, 0.7], [1, 0.1]]),
  "twice": ("3,0.5\n3,0.7\n7,0.1\n", [[3, 0.5], [3, 0.7], [7, 0.1]]),
  "beside a whole number": ("0,0.5\n2,7\n3,0.1\n", [[0, 0.5], [2, 7], [3, 0.1]]),
  "a negative one": ("-1,0.5\n2,0.7\n3,0.1\n", [[-1, 0.5], [2, 0.7], [3, 0.1]]),
  "a name": ("t,x\n2,0.5\n0,0.7\n1,0.1\n", [[2, 0.5], [0, 0.7], [1, 0.1]]),
  "two points": ("1,0.5\n0,0.7\n", [[1, 0.5], [0, 0.7]]),
  "rows and columns": ("Row,Column,x\n12,4,0.5\n30,5,0.1\n", [[12, 4, 0.5], [30, 5, 0.1]]),
  "a second coordinate Row": ("x,Row\n12,4\n30,5\n", [[12, 4], [30, 5]]),
}


@pytest.mark.parametrize("name", COORDINATES)
def test_a_first_column_that_is_a_coordinate(name, tmp_path):
  check(tmp_path, points, {name: COORDINATES[name]})


@pytest.mark.parametrize("text", ["id,x,y\n", ",x,y\n", '"","X","y"\n', "site x\n", "x y\n"])
def test_names_alone(text, tmp_path):
  check(tmp_path, points, {text: (text, "no numbers")})
