"""Files that can be read in two ways: the form that pandas or R write is read, all else is refused by name."""

import io

import numpy as np
import pandas as pd
import pytest
from command import refused, run

import oracle
from jax_edm._cli import files
from jax_edm._cli.errors import UserError

D = oracle.distances(np.random.default_rng(0).normal(size=(4, 2)))
NO_DIAGONAL = np.where(np.eye(4), np.nan, D)
COLUMN = pd.Series([0.5, 1.25, 3.0])  # of one coordinate, or the distances between three points
SIX = pd.Series([1.5, 2.5, 2.0, 2.0, 2.5, 1.5])  # the distances between four points
BARE = {"header": False, "index": False}
COMMAS = {"sep": ";", "decimal": ","}  # of a German spreadsheet
SEPARATOR = "whether commas separate"
FIRST_LINE = "whether the first line is a point"
INDEX = "whether the first column is a coordinate"
LABELS = "whether the first row and column are labels"


def points(path, text, index=None):
  path.write_text(text, encoding="utf-8")
  return files.read_points(path, index)


def distances(path, text, dim=1):
  path.write_text(text, encoding="utf-8")
  return files.read_distances(path, dim)


def check(tmp_path, read, cases):
  """``cases`` map a text to the values and labels that it holds, or to what the one line of its refusal says."""
  for name, (text, expected, *labels) in cases.items():
    if isinstance(expected, str):
      try:
        said = f"read as {read(tmp_path / 'x.csv', text)}"
      except UserError as problem:
        said = str(problem)
      assert expected in said, name
    else:
      found = read(tmp_path / "x.csv", text)
      np.testing.assert_allclose(found.values, expected, rtol=1e-12, err_msg=name)
      assert found.labels == (labels[0] if labels else None), name


def condensed(a, b, c):
  return [[np.nan, a, b], [a, np.nan, c], [b, c, np.nan]]


def square_of(distances):
  """Of four points."""
  out = np.full((4, 4), np.nan)
  out[np.triu_indices(4, 1)] = distances
  return np.fmax(out, out.T)


def test_one_column_with_decimal_commas(tmp_path):
  named, integers = pd.Series(COLUMN, name="x"), "x\n1,5\n2,25\n3,7\n"
  quoted, spread = '"x"\n0,500\n1,250\n3,000\n', condensed(0.5, 1.25, 3)
  cases = {
    "write.csv2": (quoted, [[0.5], [1.25], [3]]),
    "write.csv2, with whole numbers": ('"x"\n0,5\n1,25\n3\n', [[0.5], [1.25], [3]]),
    "pandas": (COLUMN.to_csv(index=False, **COMMAS), FIRST_LINE),
    "pandas, points in the place of commas": (COLUMN.to_csv(index=False), FIRST_LINE),
    "pandas, named": (named.to_csv(index=False, **COMMAS), SEPARATOR),
    "pandas, bare": (COLUMN.to_csv(**BARE, **COMMAS), SEPARATOR),
    "pandas, with an index": (COLUMN.to_csv(**COMMAS), [[0.5], [1.25], [3]], ["0", "1", "2"]),
    "write.table, unquoted": (integers, SEPARATOR),
    "write.table": ('"x"\n"1",5\n"2",25\n"3",7\n', [[5], [25], [7]], ["1", "2", "3"]),
    "write.table, unquoted fractions": ("x\n1,0.5\n2,2.5\n", [[0.5], [2.5]], ["1", "2"]),
    "two columns": ("x,y\n0,5\n1,25\n", [[0, 5], [1, 25]]),
    "two columns, as it says itself": ("sep=,\n0,5\n1,25\n", [[0, 5], [1, 25]]),
    "one column, as it says itself": ("sep=;\nx\n0,5\n1,25\n", [[0.5], [1.25]]),
    "two columns and a mistake": ("x,y\n0,5\n1,25\n3\n", "Got 2 in line 1 and 1 in line 4"),
    "an integer index": (pd.Series([5, 25, 7]).to_csv(), [[5], [25], [7]], ["0", "1", "2"]),
    "decimal commas after spaces": ('"x"\n"a" 0,5\n"b" 2,5\n', [[0.5], [2.5]], ["a", "b"]),
    "decimal commas after spaces, unquoted": ("x\na 0,5\nb 2,5\n", SEPARATOR),
    "fractions beside decimal commas": ("x\n0.5;1,5\n1.5;2,5\n", SEPARATOR),
    "the same after spaces": (" x\n0.5 1,5\n1.5 2,5\n", SEPARATOR),
    "the same after tabs": ("x\n0.5\t1,5\n1.5\t2,5\n", SEPARATOR),
    "negative numbers beside them": ("x\n-1;1,5\n-2;2,5\n", SEPARATOR),
    "powers of ten beside them": (" x\n1E1 3,0\n1E2 2,0\n", SEPARATOR),
    "a fraction and a label beside them": ("x\n0.5;1,5\na;2,5\n", SEPARATOR),
    "one name above two columns": ("x\n0.5 1.5\n2.5 3.5\n", "Got 1 in line 1 and 2 in line 2"),
    "and decimal commas": ("sep=;\nx\n0,5;1,5\n2,5;3,5\n", "the first column holds labels. Got '0,5' in line 3"),
    "negative numbers below a name": ("x\n-0,5\n1,25\n", [[-0.5], [1.25]]),
    "labels of one word and of two": ("x\nSite 1,5\nLong Site 2,6\n", SEPARATOR),
    "the same without a name": ("New York 2,5\nBoston 3,5\n", SEPARATOR),
    "the same, as it says itself": ("sep=,\nSite 1,5\nLong Site 2,6\n", [[5], [6]], ["Site 1", "Long Site 2"]),
    "two names above them": ("site,x\nSite 1,5\nLong Site 2,6\n", [[5], [6]], ["Site 1", "Long Site 2"]),
    "pandas, a quoted name and an index": ('"x"\n0,3\n1,4\n2,5\n', SEPARATOR),
    "a negative index": ("x\n-1,3\n0,3\n1,1\n", SEPARATOR),
    "a label is missing": ("lat\na;1,5\n;2,5\n", SEPARATOR),
    "the same with tabs": ("lat\na\t1,5\n\t2,5\n", SEPARATOR),
    "labels that pandas writes": ("True 2,5\nFalse 3,5\n", SEPARATOR),
  }
  check(tmp_path, points, cases)
  cases = {
    "write.csv2": (quoted, spread),
    "pandas": (COLUMN.to_csv(index=False, **COMMAS), spread),
    "pandas, named": (named.to_csv(index=False, **COMMAS), SEPARATOR),
    "pandas, bare": (COLUMN.to_csv(**BARE, **COMMAS), SEPARATOR),
    "pandas, with an index": (COLUMN.to_csv(**COMMAS), spread),
    "pandas, with a named index": (COLUMN.to_csv(index_label="id"), spread),
    "labels above 2 x 2": ("3,5\n0,7\n7,0\n", SEPARATOR),
    "one line": ("0,5\n", SEPARATOR),
    "2 x 2": ("0,5\n5,0\n", [[np.nan, 5], [5, np.nan]]),
    "an index and decimal commas, bare": (SIX.to_csv(header=False, **COMMAS), SEPARATOR),
    "the same after tabs": (SIX.to_csv(header=False, sep="\t", decimal=","), SEPARATOR),
    "the same after spaces": (SIX.to_csv(header=False, sep=" ", decimal=","), SEPARATOR),
    "an index and whole numbers, bare": ("0,3\n1,5\n2,4\n3,4\n4,5\n5,3\n", SEPARATOR),
    "a list of edges": ("1;2;1,5\n1;3;2,5\n1;4;2,1\n2;3;2,2\n2;4;2,6\n3;4;1,7\n", SEPARATOR),
    "one label and one distance": ("x\n1,5\n", SEPARATOR),
    "a quoted name and an index": ('"distance"\n0,3\n1,4\n2,5\n', SEPARATOR),
    "other labels above than beside": ("a  46,25\nNA 46,25 \n", "entries must be numbers. Got 'a' in line 1"),
    "a name with a blank": (SIX.to_csv(header=["distance (km)"], index=False), square_of(SIX)),
    "empty cells between spaces": ("p q r\n 2.5 1.5\n2.5  1.0\n1.5 1.0 \n", "Got 3 in line 1 and 2 in line 2"),
  }
  check(tmp_path, distances, cases)


def test_the_first_of_the_labelled_points_is_no_header(tmp_path):
  for first in ("0", "1", "0,1", "1,2", "0,1,2"):
    later = ",".join(["3"] * len(first.split(",")))
    text = f"a,{first}\nb,{later}\nc,7{later[1:]}\n"
    for index in (None, True):
      advice = "names of the coordinates above" if first == "0,1,2" else f"{first[0]}.0 for {first[0]}"
      with pytest.raises(UserError, match=f"{FIRST_LINE}. Got a, {first[0]}.* write {advice}.* if it is a point"):
        points(tmp_path / "x.csv", text, index)
  cases = {
    "a point, as the message says": ("a,0.0\nb,3\nc,7\n", [[0], [3], [7]], ["a", "b", "c"]),
    "a point that counts nothing": ("a,0,0\nb,3,1\nc,7,1\n", [[0, 0], [3, 1], [7, 1]], ["a", "b", "c"]),
    "pandas, named index": ("id,0\nb,3\nc,7\n", [[3], [7]], ["b", "c"]),
    "pandas, an index of a name of its own": ("city,0,1\nb,3,4\nc,7,8\n", FIRST_LINE),
    "a column that begins with 0": ("0\n1\n2\n", FIRST_LINE),
    "a column that begins with 1": ("1\n7\n5\n", FIRST_LINE),
    "a column that begins with 0.0": ("0.0\n1\n2\n", [[0], [1], [2]]),
  }
  check(tmp_path, points, cases)


def labelled(labels, values=D, **options):
  frame = pd.DataFrame(values, labels, labels)
  return frame.to_csv(**options)


def test_numbers_as_labels_of_a_matrix(tmp_path):
  def four(path, text):
    return distances(path, text, dim=2)

  halves, wells = ["0.0", "0.5", "1.0", "1.5"], ["1E1", "1E2", "1E3", "1E4"]
  cases = {
    "fractions": (labelled([0, 0.5, 1, 1.5]), NO_DIAGONAL, halves),
    "wells": (labelled(wells), NO_DIAGONAL, wells),
    "points at their ends": (labelled(["1.", "2.", "3.", "4."]), NO_DIAGONAL, ["1.", "2.", "3.", "4."]),
    "negative numbers": (labelled([-2, -1, 3, 4]), NO_DIAGONAL, ["-2", "-1", "3", "4"]),
    "one missing": (labelled(["A", "NA", "3", "4"], index_label="well"), NO_DIAGONAL, ["A", "NA", "3", "4"]),
    "named": (labelled([0, 0.5, 1, 1.5], index_label="label"), NO_DIAGONAL, halves),
    "with a name of its own": (labelled(wells, index_label="well"), LABELS),
    "a letter for the first 0": (pd.DataFrame(D).to_csv(**BARE).replace("0.0", "O", 1), LABELS),
    "an empty diagonal": (labelled([0, 0.5, 1, 1.5], NO_DIAGONAL), LABELS),
    "an empty diagonal, bare": (pd.DataFrame(NO_DIAGONAL).to_csv(**BARE), LABELS),
    "header alone": (labelled([0, 0.5, 1, 1.5], index=False), "whether a line of its own holds labels"),
    "index alone": (labelled([0, 0.5, 1, 1.5], header=False), "whether a line of its own holds labels"),
    "no labels": (pd.DataFrame(D).to_csv(**BARE), NO_DIAGONAL),
  }
  check(tmp_path, four, cases)
  text = ",3,4\n3,0,5\n4,5,0\n"  # an empty corner, as pandas writes it
  check(tmp_path, distances, {"whole numbers": (text, [[np.nan, 5], [5, np.nan]], ["3", "4"])})


def test_separators_inside_labels(tmp_path):
  semicolons, names = ["g;1", "g;2", "h;3"], ["Knuth; D", "Abe\tB", "C D", "12 3"]
  frame = pd.DataFrame({"x": [5, 6, 7]}, index=semicolons)
  cases = {
    "semicolons": (frame.to_csv(), [[5], [6], [7]], semicolons),
    "semicolons, named index": (frame.to_csv(index_label="name"), [[5], [6], [7]], semicolons),
    "semicolons, no header": (frame.to_csv(header=False), SEPARATOR),
    "tabs": (frame.to_csv().replace(";", "\t"), [[5], [6], [7]], ["g\t1", "g\t2", "h\t3"]),
    "spaces": (frame.to_csv().replace(";", " "), [[5], [6], [7]], ["g 1", "g 2", "h 3"]),
    "digits and spaces": ("name,x\n12 3,5\n14 7,6\n", [[5], [6]], ["12 3", "14 7"]),
    "digits and spaces, no header": ("12 3,5\n14 7,6\n", SEPARATOR),
    "digits and spaces and a mistake": ("name,x\n12 3,5\n14 7\n", "Got 2 in line 1 and 1 in line 3"),
    "integers and decimal commas": ("x;y\n0;1,5\n2;3,5\n", [[0, 1.5], [2, 3.5]]),
    "write.csv2": ('"x";"y"\n0;1,5\n2;3,5\n', [[0, 1.5], [2, 3.5]]),
    "spaces after commas": ("x, y\n1, 2\n3, 4\n", [[1, 2], [3, 4]]),
    "spaces after commas, no header": ("1, 2\n3, 4\n", [[1, 2], [3, 4]]),
    "what fit writes": ('label,x1\n"A;1",5\nB;2,7\n', [[5], [7]], ["A;1", "B;2"]),
    "two spaces": ('"x"\n"a  b" 0.5\n"c"   1.5\n', [[0.5], [1.5]], ["a  b", "c"]),
  }
  check(tmp_path, points, cases)
  found = distances(tmp_path / "x.csv", labelled(names), dim=2)
  np.testing.assert_allclose(found.values, NO_DIAGONAL)
  assert found.labels == names
  text = io.StringIO()
  np.savetxt(text, np.tril(D), "%.17g")
  lower = [" ".join(line.split()[: k + 1]) for k, line in enumerate(text.getvalue().splitlines())]
  found = distances(tmp_path / "x.csv", "\n".join(lower).replace(".", ",").replace("0\n", "0,0\n", 1), dim=2)
  np.testing.assert_allclose(found.values, NO_DIAGONAL)


def test_an_index_that_commas_may_also_make(tmp_path):
  """Neither reading is taken because the other one has a question of its own."""
  text = "0,5\n1,6\n2,7\n"
  with pytest.raises(UserError, match=SEPARATOR):
    points(tmp_path / "x.csv", text)
  with pytest.raises(UserError, match=INDEX):
    points(tmp_path / "x.csv", "time,x\n" + text)
  assert points(tmp_path / "x.csv", text, index=True).values.tolist() == [[5], [6], [7]]


def test_missing_labels_and_blanks(tmp_path):
  cases = {
    "NA among labels": ("a,1,5\nNA,3,4\nb,5,6\n", [[1, 5], [3, 4], [5, 6]], ["a", "NA", "b"]),
    "NA as the first label": ("NA,1,2\na,3,4\n", [[1, 2], [3, 4]], ["NA", "a"]),
    "labels and numbers": ("a,1,5\n7,3,4\n", "holds labels or numbers. Got 'a' in line 1"),
  }
  check(tmp_path, points, cases)
  assert points(tmp_path / "x.csv", "a,1,5\n7,3,4\n", index=True).labels == ["a", "7"]
  with pytest.raises(UserError, match=r"--index: there must be a coordinate beside the labels. Got one column"):
    points(tmp_path / "x.csv", "1.5\n2.5\n", index=True)
  for separator, missing in ((",", "NA "), (",", " NA  "), (";", "  nan "), ("\t", "NA ")):
    text = f"0,3,{missing}\n3,0,4\n{missing},4,0\n".replace(",", separator)
    np.testing.assert_array_equal(distances(tmp_path / "x.csv", text).values, condensed(3, np.nan, 4))


def test_edm_writes_nothing_it_is_not_sure_of(tmp_path, capsys):
  (tmp_path / "x.csv").write_text("a,0\nb,3\nc,7\n")
  assert FIRST_LINE in refused(capsys, "edm", tmp_path / "x.csv", "--output", tmp_path / "o.csv")
  assert not (tmp_path / "o.csv").exists()
  (tmp_path / "x.csv").write_text("a,0.0\nb,3\nc,7\n")
  assert run("edm", tmp_path / "x.csv", "--output", tmp_path / "o.csv") == 0
  assert np.loadtxt(tmp_path / "o.csv", delimiter=",").tolist() == [[0, 9, 49], [9, 0, 16], [49, 16, 0]]
