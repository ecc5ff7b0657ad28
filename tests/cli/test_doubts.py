"""What is not what it looks like: a count, steps above columns, thousands, a diagonal, names of pairs."""

import numpy as np
import pytest
from test_two_readings import FIRST_LINE, check, condensed, distances, points, square_of

from jax_edm._cli import files
from jax_edm._cli.errors import UserError

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
