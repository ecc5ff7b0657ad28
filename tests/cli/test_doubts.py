"""What is not what it looks like: a count, steps above columns, thousands, a diagonal, names of pairs."""

import numpy as np
import pandas as pd
import pytest
from test_two_readings import FIRST_LINE, check, condensed, distances, points, square_of

from jax_edm._cli import edges, files
from jax_edm._cli.errors import UserError

NAN = np.nan
HALVES = [[0.5, 0.6], [1.5, 2.5], [3.0, 4.0]]


def test_points(tmp_path):
  thousands = "whether commas stand before thousands or decimals"
  cases = {
    "all quoted, decimal commas, whole numbers first": ('"3";"4"\n"1,5";"2,5"\n', [[3, 4], [1.5, 2.5]]),
    "the same with labels": ('"a";"3";"4"\n"b";"1,5";"2,5"\n', [[3, 4], [1.5, 2.5]], ["a", "b"]),
    "one column": ('"3"\n"1,5"\n"2,5"\n', [[3], [1.5], [2.5]]),
    "a quoted header": ('"x";"y"\n"1,5";"2,5"\n"3,5";"4,5"\n', [[1.5, 2.5], [3.5, 4.5]]),
    "thousands in quotation marks": ('d\n"1,234"\n912\n"2,345"\n', thousands),
    "decimals of three digits below 1": ('d\n"0,234"\n"0,912"\n', [[0.234], [0.912]]),
    "years above labels": ("country,2000,2010,2020\nFrance,59,65,67\nSpain,40,46,47\n", FIRST_LINE),
    "wavelengths": ("350.0,350.5,351.0\n0.12,0.13,0.15\n0.11,0.12,0.13\n", FIRST_LINE),
    "points of a line": ("a,1,3,5\nb,2,4,6\nc,3,5,7\n", [[1, 3, 5], [2, 4, 6], [3, 5, 7]], ["a", "b", "c"]),
    "two columns are always steps": ("p,20,21\nq,5,6\nr,7,9\n", [[20, 21], [5, 6], [7, 9]], ["p", "q", "r"]),
    "how many and how wide": ("3 2\n0.5 0.6\n1.5 2.5\n3 4\n", FIRST_LINE),
    "how many": ("3\n0.5\n1.5\n2.5\n", FIRST_LINE),
    "a point of decimals": ("3.0 2.0\n0.5 0.6\n1.5 2.5\n3 4\n", [[3, 2], *HALVES]),
    "an index that R has read and written": ('"","X","x"\n"1",1,0.5\n"2",2,0.3\n"3",3,0.1\n', "'X' that counts"),
    "a coordinate X": (
      '"","X","Y"\n"1",1.5,0.5\n"2",2.5,0.3\n"3",3,0.1\n',
      [[1.5, 0.5], [2.5, 0.3], [3, 0.1]],
      list("123"),
    ),
  }
  check(tmp_path, points, cases)


def test_distances(tmp_path):
  diagonal, beside = "must have no diagonal", "whether these are the entries of all pairs"
  cases = {
    "a triangle with its diagonal, by rows": ("0.0\n5.0\n0.0\n6.0\n7.0\n0.0\n", diagonal),
    "by columns": ("0.0\n1.25\n2.5\n0.0\n3.5\n0.0\n", diagonal),
    "two points at one place": ("0.0\n1.5\n1.5\n", condensed(0, 1.5, 1.5)),
    "six distances": ("1.5\n2.5\n2\n2\n2.5\n1.5\n", square_of([1.5, 2.5, 2, 2, 2.5, 1.5])),
    "an index": (",d\n0,1.5\n1,2.5\n2,3.0\n", condensed(1.5, 2.5, 3)),
    "names of pairs": ("pair,distance\nA-B,5\nA-C,6\nB-C,7\n", beside),
    "no zero before the comma": ("x\n,50\n,70\n,30\n", beside),
    "thousands": ('d\n"1,234"\n"1,678"\n"2,345"\n', "whether commas stand before thousands or decimals"),
  }
  check(tmp_path, distances, cases)


def test_a_file_of_numpy_with_the_diagonal(tmp_path):
  """The same triangle, saved as one array."""
  np.save(tmp_path / "x.npy", np.array([0, 5, 0, 6, 7, 0.0]))
  with pytest.raises(UserError, match="must have no diagonal"):
    files.read_distances(tmp_path / "x.npy", 1)


def test_numbers_in_quotation_marks_are_no_names(tmp_path):
  """A name of a column begins with a letter, also in quotation marks, or is a plain number, or R's corner is there."""
  x = [[1.5, 2.5], [3, 4]]
  firsts = ["1,234.50", "1,234,567", "-1,234.50", "$1,234.50", "", "NA", "nan", "?", "50%", "1 234", "Inf", "TRUE"]
  for first in firsts:
    for separator in ",\t":
      text = f'"{first}"{separator}"{first}"\n912.00{separator}100.00\n300.00{separator}400.00\n'
      check(tmp_path, points, {first: (text, "Got")})
    check(tmp_path, points, {first: (f'"{first}"\n1.5\n2.5\n', "Got")})
    check(tmp_path, points, {first: (f'"Doe, John","{first}"\n"Roe, Jane",912.00\n"Poe, Ed",3.5\n', "Got")})
  cases = {
    "names with commas": ('"x, m","y, m"\n1.5,2.5\n3,4\n', x),
    "percentages of R": ('"","0%","50%"\n"a",1.5,2.5\n"b",3,4\n', x, ["a", "b"]),
    "a name with a number and a comma": ('"","1,2-xylene","y"\n"a",1.5,2.5\n"b",3,4\n', x, ["a", "b"]),
    "years of R": ('"","2001","2002"\n"a",1.5,2.5\n"b",3,4\n', x, ["a", "b"]),
    "thousands without a label": ('"","1,234.5"\n"a",1.5\n"b",3\n', FIRST_LINE),
    "a missing number without a label": ('"","NA"\n"a",1.5\n"b",3\n', FIRST_LINE),
  }
  check(tmp_path, points, cases)


def test_commas_before_thousands(tmp_path):
  """A spreadsheet quotes them, or copies them with tabs; decimal commas are read where one cell shows that they are."""
  thousands = "whether commas stand before thousands or decimals"
  cases = {
    "labels": ('name\tx\ty\na\t"1,234"\t912\nb\t"2,345"\t"1,100"\n', thousands),
    "semicolons": ('a;"1,234";"5,678"\nb;"2,345";"9,100"\n', f'{thousands}. Got \'a;"1,234";"5,678"\' in line 1'),
    "negative numbers": ('"-1,234";5\n6;7\n', thousands),
    "other counts of digits": ('a;"1,234";"5,67"\nb;"2,345";"9,100"\n', [[1.234, 5.67], [2.345, 9.1]], ["a", "b"]),
    "less than 1": ('"x";"y"\n"1,234";"0,567"\n"2,345";"9,100"\n', [[1.234, 0.567], [2.345, 9.1]]),
    "quoted labels, of write.csv2": ('"";"x"\n"a, b";1,234\n"c, d";2,345\n', [[1.234], [2.345]], ["a, b", "c, d"]),
    "tabs": ("1,234\t2,345\n3,456\t4,567\n", f"{thousands}. Got '1,234\\t2,345' in line 1"),
    "tabs and names": ("n\tx\na\t1,234\nb\t2,345\n", thousands),
    "blanks": ("1,234 2,345\n3,456 4,567\n", thousands),
    "alone": ('"x"\n3,234\n5,345\n', thousands),
    "tabs, less than 1": ("1,234\t0,567\n2,345\t9,100\n", [[1.234, 0.567], [2.345, 9.1]]),
    "unquoted, of write.csv2": ("1,234;2,345\n3,456;4,567\n", [[1.234, 2.345], [3.456, 4.567]]),
  }
  check(tmp_path, points, cases)
  cases = {
    "tabs": ("0\t1,234\n1,234\t0\n", thousands),
    "labels": ('\tA\tB\tC\nA\t0\t"1,234"\t912\nB\t"1,234"\t0\t"1,100"\nC\t912\t"1,100"\t0\n', thousands),
    "none": ('0\t"1,234"\t912\n"1,234"\t0\t"1,100"\n912\t"1,100"\t0\n', thousands),
    "a header": ('"A";"B"\n0;"1,234"\n"1,234";0\n', thousands),
    "zeros with decimals": ('"A";"B"\n"0,000";"1,234"\n"1,234";"0,000"\n', [[NAN, 1.234], [1.234, NAN]], ["A", "B"]),
  }
  check(tmp_path, distances, cases)


def test_a_comment_may_be_a_point(tmp_path):
  comment = f"{FIRST_LINE}. Got '# Alice"
  cases = {
    "commas": ("# Alice,0.5,0.6\nBob,1.5,2.5\n", comment),
    "spaces": ("# Alice 0.5 0.6\nBob 1.5 2.5\n", comment),
    "decimal commas": ("# Alice;0,5;0,6\nBob;1,5;2,5\n", comment),
    "a missing coordinate": ("# Alice,NA,0.6\nBob,1.5,2.5\n", comment),
    "no coordinates": ("# Alice,,NA\nBob,1.5,2.5\n", comment),
    "above Namibia": ("# Alice,0.5,0.6\nNA,1.5,2.5\nBob,3,4\n", comment),
    "a number as a label": ("# 1,0.5,0.6\nBob,1.5,2.5\n", f"{FIRST_LINE}. Got '# 1"),
    "a missing label": ("# ,0.5,0.6\nBob,1.5,2.5\n", f"{FIRST_LINE}. Got '# ,"),
    "a comment with a number": ("# seed 42\n1.5 2.5\n3 4\n", [[1.5, 2.5], [3, 4]]),
    "names": ("# label,x\nBob,1.5\nEve,3\n", [[1.5], [3]], ["Bob", "Eve"]),
    "a number above names": ("# seed 42\nx y\n1.5 2.5\n3 4\n", [[1.5, 2.5], [3, 4]]),
    "a line of a spreadsheet": ("# my data;;\nBob;1,5;2,5\n", [[1.5, 2.5]], ["Bob"]),
  }
  check(tmp_path, points, cases)


def test_a_missing_label_is_no_header(tmp_path):
  label = "every point must have a label"
  cases = {
    "above a label": (",NA,0.0\nb,1,2\n", FIRST_LINE),
    "above numbers": (",NA,0.0\n1,1.5,2\n2,3,4\n", "coordinates must be finite"),
    "below a label": ("a,1,2\n,NA,0.0\n", label),
    "below names": (",x,y\n,NA,0.0\nb,1,2\n", label),
  }
  check(tmp_path, points, cases)
  cases = {
    "first": (",NA,0.0\na,0.0,NA\n", label),
    "last": ("a,0.0,NA\n,NA,0.0\n", label),
    "below names": (",a,b\na,0.0,5\n,NA,0.0\n", label),
    "names in both": (",NA,0.0\nNA,0,5\n0.0,5,0\n", "whether the first row and column are labels"),
  }
  check(tmp_path, distances, cases)


def test_an_index_beside_all_pairs_must_count(tmp_path):
  """``sort_values`` and ``dropna`` of pandas keep the index."""
  column, pairs = pd.Series([3.0, 0.5, 1.25]), "whether these are the entries of all pairs, in order. Got "
  cases = {
    "pandas": (column.to_csv(), condensed(3, 0.5, 1.25)),
    "sorted": (column.sort_values().to_csv(), f"{pairs}1, 2, 0, ... beside them"),
    "dropped": (column.set_axis([0, 2, 5]).to_csv(sep=";", decimal=","), f"{pairs}0, 2, 5, ..."),
    "R": ('"","d"\n"1",3\n"2",0.5\n"3",1.25\n', condensed(3, 0.5, 1.25)),
    "R, in another order": ('"d"\n"2" 0.5\n"3" 1.25\n"1" 3\n', f"{pairs}2, 3, 1, ..."),
    "a missing number": (",d\n0,3\nNA,0.5\n2,1.25\n", f"{pairs}0, NA, 2, ..."),
  }
  check(tmp_path, distances, cases)


def test_blanks_before_thousands(tmp_path):
  blanks = "whether blanks separate or stand before thousands. Got "
  labelled = [[123], [456]], ["5", "9"]
  cases = {
    "below one name": ("x\n5 000\n6 000\n", f"{blanks}'5 000' in line 2"),
    "that begin with no 0": ("x\n5 123\n9 456\n", f"{blanks}'5 123' in line 2"),
    "two that count": ("x\n1 123\n2 456\n", blanks),
    "below two names": ("x y\n5 123 40\n9 456 50\n", blanks),
    "without a name": ("512 256\n5 000\n", f"{blanks}'5 000' in line 2"),
    "beside labels": ("Paris 1 250.5\nRome 6 050.5\n", f"{blanks}'Rome 6 050.5' in line 2"),
    "write.table, unquoted": ("x\n1 123\n2 456\n3 111\n", [[123], [456], [111]], ["1", "2", "3"]),
    "write.table, rows that are left": ('"x"\n"5" 123\n"9" 456\n', *labelled),
    "pandas, rows that are left": (" x\n5 123\n9 456\n", *labelled),
    "pixels": ("512 256\n300 100\n", [[512, 256], [300, 100]]),
  }
  check(tmp_path, points, cases)
  cases = {
    "all pairs": ("d\n1 100\n2 050\n3 300\n", blanks),
    "one pair": ("d\n1 100\n", blanks),
    "write.table": ("d\n1 100\n2 200\n3 250\n", condensed(100, 200, 250)),
  }
  check(tmp_path, distances, cases)


def test_empty_entries_between_blanks(tmp_path):
  empty = "whether blanks stand around an empty entry. Got "
  cases = {
    "pandas": (" x y\na  1.5\nb 2.5 \n", f"{empty}'a  1.5' in line 2"),
    "write.table": ("x y\na  1.5\nb 2.5 \n", empty),
    "without names": (" 1 2\n1  2\n", empty),
    "aligned at the ends": ("10.5  2.5\n 9.5 12.5\n", [[10.5, 2.5], [9.5, 12.5]]),
    "aligned at the beginnings": ("10.5 2.5 \n9.5  12.5\n", [[10.5, 2.5], [9.5, 12.5]]),
    "aligned, one blank less above": ("-3.5 -2.5\n 1.5 -2.5\n", [[-3.5, -2.5], [1.5, -2.5]]),
    "indented": ("  x y\n  1.5 2\n  3 4.5\n", [[1.5, 2], [3, 4.5]]),
    "labels of two words": (' "x y" z\n"a b" 1.5 2\n"c" 3 4\n', [[1.5, 2], [3, 4]], ["a b", "c"]),
  }
  check(tmp_path, points, cases)
  frame = pd.DataFrame([[0, 5.0], [5.0, 0]])
  cases = {
    "pandas": (frame.to_csv(sep=" "), [[NAN, 5], [5, NAN]], ["0", "1"]),
    "the only distance": (frame.replace(5.0, NAN).to_csv(sep=" "), f"{empty}'0 0.0 ' in line 2"),
  }
  check(tmp_path, distances, cases)


def test_a_last_column_that_is_empty(tmp_path):
  """Separators at the ends of lines: of a matrix they are left out, beside anything else they may be a column."""
  last = "the last column must hold a coordinate. Got a separator at the end of every line"
  cases = {"few": ("1,2,\n3,4,\n", last), "many": ("1\t2\t\n" * 9, last), "names": ("x;y;\n1,5;2;\n", last)}
  check(tmp_path, points, cases)
  cases = {
    "a matrix": ("0,5,6,\n5,0,7,\n6,7,0,\n", [[NAN, 5, 6], [5, NAN, 7], [6, 7, NAN]]),
    "an index": ("0,,,,\n1,,,,\n2,5,,,\n3,6,7,,\n", "whether a line of its own holds labels"),
  }
  check(tmp_path, distances, cases)
  file = tmp_path / "x.csv"
  for text, expected in (
    ("# i,j,distance,weight\na,b,5,\nb,c,6,\n", "some weights must be positive"),
    ("i,j,distance,\na,b,5,\n", "must have the columns i, j, distance"),
    ("# i j distance\na b 5 123\nb c 6 456\n", "must have the columns i, j, distance"),
  ):
    file.write_text(text)
    with pytest.raises(UserError, match=expected):
      edges.read_edges(file, 1)


def test_columns_above_one_point(tmp_path):
  cases = {
    "pandas": (pd.DataFrame([[0.5, 7]]).to_csv(index=False), FIRST_LINE),
    "semicolons": ("0;1\n5;7\n", FIRST_LINE),
    "one column": ("0\n5\n", f"{FIRST_LINE}. Got 0. Delete it if it is a header, or write 0.0 for 0"),
    "labels": ("city,0,1\nb,3,4\n", FIRST_LINE),
    "a point": ("0.0;1\n5;7\n", [[0, 1], [5, 7]]),
    "what pandas does not write": ("1;2\n5;7\n", [[1, 2], [5, 7]]),
  }
  check(tmp_path, points, cases)


def test_a_tab_that_is_declared_in_two_characters(tmp_path):
  check(tmp_path, points, {"sep=": ("sep=\\t\nx\ty\n1,5\t2\n3\t4,5\n", [[1.5, 2], [3, 4.5]])})
