"""Tables as pandas, R, NumPy and spreadsheets write them: read with their labels, or refused by name."""

import io

import numpy as np
import pandas as pd
import pytest

import oracle
from jax_edm._cli import files
from jax_edm._cli.errors import UserError

X = np.random.default_rng(0).normal(size=(4, 2))
D = oracle.distances(X)
TEXT = ["A", "New York", "C,c", "NA"]  # the last one is Namibia
FROM_0, FROM_1 = ["0", "1", "2", "3"], ["1", "2", "3", "4"]
UPPER = np.triu(np.ones((4, 4), bool))
CONDENSED = D[np.triu_indices(4, 1)]


def frame(values=D, labels=None):
  return pd.DataFrame(values, labels, labels)


def r_table(values=D, labels=FROM_1, separator=",", decimal=".", corner=True, quote='"'):
  """As R's ``write.csv``, ``write.csv2`` and ``write.table``."""
  names = [f"{quote}{label}{quote}" for label in labels]
  header = ([quote * 2] if corner else []) + (names if len(values) == len(values.T) else ['"V1"', '"V2"'])
  rows = [[name, *(repr(float(v)).replace(".", decimal) for v in row)] for name, row in zip(names, values, strict=True)]
  return "\n".join(separator.join(cells) for cells in [header, *rows]) + "\n"


def numpy_table(values, **options):
  file = io.StringIO()
  np.savetxt(file, values, **options)
  return file.getvalue()


def ragged(rows, separator=",", decimal=".", labels=("", "", "", "")):
  cells = [[label] * bool(label) + [repr(float(v)) for v in row] for label, row in zip(labels, rows, strict=False)]
  return "\n".join(separator.join(cells_of_row).replace(".", decimal) for cells_of_row in cells)


NO_DIAGONAL = np.where(np.eye(4), np.nan, D)
BARE = {"header": False, "index": False}
# the text, and the labels that it has
MATRICES = {
  "pandas, text": (frame(labels=TEXT).to_csv(), TEXT),
  "pandas, numbers": (frame().to_csv(), FROM_0),
  "pandas, named index": (frame().to_csv(index_label="id"), FROM_0),
  "pandas, index=False": (frame().to_csv(index=False), FROM_0),
  "pandas, header=False": (frame().to_csv(header=False), FROM_0),
  "pandas, neither": (frame().to_csv(**BARE), None),
  "pandas, carriage returns": (frame(labels=TEXT).to_csv(lineterminator="\r\n"), TEXT),
  "write.csv": (r_table(), FROM_1),
  "write.csv2": (r_table(separator=";", decimal=","), FROM_1),
  "write.table": (r_table(labels=TEXT, separator=" ", corner=False), TEXT),
  "write.table, decimal commas": (r_table(separator=" ", decimal=",", corner=False), FROM_1),
  "write.table, unquoted, tabs": (r_table(labels=list("abcd"), separator="\t", quote="", corner=False), list("abcd")),
  "savetxt": (numpy_table(D), None),
  "savetxt, NaN on the diagonal": (numpy_table(NO_DIAGONAL, delimiter=",", header="a b c d"), None),
  "spaces after commas": (numpy_table(D, delimiter=", "), None),
  "spaces and decimal commas": (numpy_table(D).replace(".", ","), None),
  "aligned": (numpy_table(D, fmt="%25.17f"), None),
  "separators at the ends": (numpy_table(D, delimiter=",", newline=",\n"), None),
  "an empty diagonal, labels": (frame(NO_DIAGONAL, TEXT).to_csv(), TEXT),
  "NA on the diagonal, labels": (frame(NO_DIAGONAL, TEXT).to_csv(na_rep="NA"), TEXT),
  "lower": (frame(np.where(UPPER.T, D, np.nan)).to_csv(**BARE), None),
  "lower, labels": (frame(np.where(UPPER.T, D, np.nan)).to_csv(), FROM_0),
  "upper": (frame(np.where(UPPER, D, np.nan)).to_csv(**BARE), None),
  "upper, labels": (frame(np.where(UPPER, D, np.nan), TEXT).to_csv(), TEXT),
  "lower without its diagonal": (frame(np.where(UPPER, np.nan, D)).to_csv(**BARE), None),
  "upper without its diagonal": (frame(np.where(UPPER.T, np.nan, D)).to_csv(**BARE), None),
  "upper above zeros": (frame(np.triu(D), TEXT).to_csv(), TEXT),
  "lower below zeros": (frame(np.tril(D)).to_csv(**BARE), None),
  "short lines": (ragged(D[i, : i + 1] for i in range(4)), None),
  "short lines with labels": (ragged((D[i, : i + 1] for i in range(4)), labels="abcd"), list("abcd")),
  "short lines, upper": (ragged(D[i, i:] for i in range(4)), None),
  "short lines, upper, spaces and commas": (ragged((D[i, i:] for i in range(4)), " ", ","), None),
  "condensed": (numpy_table(CONDENSED), None),
  "condensed, pandas": (pd.Series(CONDENSED).to_csv(), None),
  "condensed, pandas, index=False": (pd.Series(CONDENSED).to_csv(index=False), None),
}


def read(path, text, read=lambda path: files.read_distances(path, 2), encoding="utf-8"):
  path.write_bytes(text.encode(encoding))
  return read(path)


def test_matrices_are_read_with_their_labels(tmp_path):
  for name, (text, labels) in MATRICES.items():
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
      found = read(tmp_path / "d.csv", text, encoding=encoding)
      np.testing.assert_allclose(found.values, NO_DIAGONAL, rtol=1e-12, err_msg=name)
      assert found.labels == labels, name


def test_missing_entries_have_many_names(tmp_path):
  for missing in ("", "NA", "nan", "NaN", "N/A", "NULL", '""'):
    found = read(
      tmp_path / "d.csv", f"0,3,{missing}\n3,0,4\n{missing},4,0\n", lambda path: files.read_distances(path, 1)
    )
    assert np.isnan(found.values[0, 2]), missing
    assert found.values[0, 1] == 3


REFUSED = {
  "labels or distances": (frame(NO_DIAGONAL).to_csv(), "whether the first row and column are labels"),
  "rows in another order": (frame(labels=TEXT)[TEXT[::-1]].to_csv(), "labels of rows and columns must be the same"),
  "short lines, no diagonal": (ragged(D[i, :i] for i in range(1, 4)), "A triangle must have its diagonal of zeros"),
  "short lines, upper, no diagonal": (ragged(D[i, i + 1 :] for i in range(3)), "A triangle must have its diagonal"),
  "a short line": ("0,1,2\n1,0\n2,3,0\n", "Got 3 in line 1 and 2 in line 2"),
  "not condensed": ("1\n2\n3\n4\n5\n", "square matrix. Got 5 x 1 entries"),
  "a row": ("1,2,3\n", "square matrix. Got 1 x 3 entries"),
  "decimal commas in quotation marks": ('0,"1,5"\n"1,5",0\n', "must be numbers. Got '1,5' in line 1"),
  "thousands": ("0;1.234,5\n1.234,5;0\n", "must be numbers. Got '1.234,5' in line 1"),
  "a letter in the corner": ("O,1.5,2.5\n1.5,0,3\n2.5,3,0\n", "Got numbers in both, and 'O' in the corner"),
  "a mistake below a header": ("\na,b\n0,1\n\n1.2.3,0\n", "must be numbers. Got '1.2.3' in line 5"),
  "booleans": ("0,True\nTrue,0\n", "must be numbers. Got 'True' in line 1"),
  "a quotation mark": ('0,"1\n1,0\n', "Close all quotation marks"),
  "a line break in a label": (',"a\nb"\n"a\nb",0\n', "every row must be one line"),
  "a number of points first": ("3\na 0 1 2\nb 1 0 3\nc 2 3 0\n", "same number of entries"),
  "digits of full width": ("0,1\n\uff11,0\n", "must be numbers. Got '\uff11' in line 2"),
  "a blank that does not break": ("a,b\n0,1\xa0\n1,0\n", "must be numbers. Got '1\\xa0' in line 2"),
  "a header alone": ("a,b,c\n", "no numbers"),
  "a long cell": ("0," + "x" * 200_000, "table of text"),
}


def test_what_is_not_read_is_refused_by_name(tmp_path):
  for name, (text, expected) in REFUSED.items():
    with pytest.raises(UserError) as refused:
      read(tmp_path / "d.csv", text)
    assert expected in str(refused.value), name
  for data, expected in ((b"a;\xe9\n", "the byte 0xe9"), ("0,1\n1,0".encode("utf-16-le"), "a NUL character")):
    (tmp_path / "d.csv").write_bytes(data)
    with pytest.raises(UserError, match=expected):
      files.read_distances(tmp_path / "d.csv", 2)


def points_csv(values=X, columns=("x", "y"), **options):
  return pd.DataFrame(values, columns=columns).to_csv(**options)


def test_points_are_read_without_their_index(tmp_path):
  cases = {
    "pandas": (pd.DataFrame(X).to_csv(), FROM_0),
    "pandas, text": (pd.DataFrame(X, TEXT, ["x", "y"]).to_csv(), TEXT),
    "pandas, named index": (points_csv(index_label="ID"), FROM_0),
    "pandas, no index": (points_csv(index=False), None),
    "pandas, bare": (points_csv(**BARE), None),
    "write.csv": (r_table(X), FROM_1),
    "write.csv2": (r_table(X, separator=";", decimal=","), FROM_1),
    "write.table": (r_table(X, separator=" ", corner=False), FROM_1),
  }
  for name, (text, labels) in cases.items():
    found = read(tmp_path / "x.csv", text, files.read_points)
    np.testing.assert_allclose(found.values, X, rtol=1e-12, err_msg=name)
    assert found.labels == labels, name


def test_an_index_that_may_be_a_coordinate_must_be_declared(tmp_path):
  for text in (points_csv(header=False), points_csv(index_label="time")):
    with pytest.raises(UserError, match=r"0, 1, 2, \.\.\., as an index has them. Say --index .* or --no-index"):
      read(tmp_path / "x.csv", text, files.read_points)
    found = read(tmp_path / "x.csv", text, lambda path: files.read_points(path, index=True))
    np.testing.assert_allclose(found.values, X, rtol=1e-12)
    found = read(tmp_path / "x.csv", text, lambda path: files.read_points(path, index=False))
    np.testing.assert_allclose(found.values, np.column_stack([range(4), X]), rtol=1e-12)
  line = read(tmp_path / "x.csv", "5\n6\n7\n", files.read_points)  # a single column is the coordinate
  assert line.values.tolist() == [[5], [6], [7]]


def test_points_with_a_mistake_are_refused(tmp_path):
  cases = {
    "columns or a point": (pd.DataFrame(X).to_csv(index=False), "whether the first line is a point"),
    "columns or a point of integers": ("0,1,2\n3,4,5\n5,6,6\n", "whether the first line is a point"),
    "a mistake in the first line": ("0.5,1.2.3\n1,2\n3,4\n", "'1.2.3' in line 1"),
    "a mistake in the first column": ("0.5,1\n1.2.3,4\n3,4\n", "'1.2.3' in line 2"),
    "missing": ("1,-2\n,3\n", "must be finite. Got nan in row 2, column 1"),
    "missing in the first line": (",2\n1,3\n", "must be finite. Got nan in row 1, column 1"),
    "a short first line": ("0\n1,-2\n3,-4\n", "Got 1 in line 1 and 2 in line 2"),
    "too large": ("1,2\n1e400,3\n", "must be finite. Got inf"),
  }
  for name, (text, expected) in cases.items():
    with pytest.raises(UserError) as refused:
      read(tmp_path / "x.csv", text, files.read_points)
    assert expected in str(refused.value), name


def test_a_line_too_much_is_no_header(tmp_path):
  """What cannot be labels is not dropped in silence."""
  cases = {
    "a condensed column with one number too many": ("9.25\n3\n4\n5\n5\n4\n3\n", "square matrix. Got 7 x 1 entries"),
    "a line of fractions above a matrix": (
      "9.5,2.25,1.5\n0,3,4\n3,0,5\n4,5,0\n",
      "whether a line of its own holds labels. Got 9.5",
    ),
    "a column of fractions beside a matrix": ("9.5,0,3,4\n2.25,3,0,5\n1.5,4,5,0\n", "holds labels. Got 9.5"),
  }
  for name, (text, expected) in cases.items():
    with pytest.raises(UserError) as refused:
      read(tmp_path / "x.csv", text)
    assert expected in str(refused.value), name
