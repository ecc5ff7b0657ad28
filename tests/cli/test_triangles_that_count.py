"""Labels that count 0, 1, 2, ..., or a triangle whose first distances do, and separators that follow it."""

import numpy as np
from test_first_lines import NAN, THREE
from test_two_readings import check, distances

OWN_LINE = "whether a line of its own holds labels. Got "


def test_a_triangle_is_not_taken_for_labels(tmp_path):
  cases = {
    "commas below": ("0,1,2\n,0,1\n,,0\n,,", "0, 1, 2, ... and no distances in the last line"),
    "tabs behind": ("0\t\t\t\n1\t0\t\t\n2\t1\t0\t\n", "0, 1, 2, ... and no distances in the last column"),
    "NA above the diagonal": ("0\tNA\tNA\t\n1\t0\tNA\t\n2\t3\t0\t\n", "0, 1, 2, ... and no distances"),
    "NA among the distances": ("0\tNA\tNA\t\nNA\t0\tNA\t\n7\t5\t0\t\n", "0, NA, 7, ... and no distances"),
    "a line of zeros": ("0,1,2\n0,0,3\n0,0,0\n0,0,0\n", "0, 1, 2, ... and no distances in the last line"),
    "a column of zeros": ("0,0,0,0\n1,0,0,0\n2,3,0,0\n", "0, 1, 2, ... and no distances in the last column"),
    "zeros with decimals": ("0;1;2\n0,0;0,0;3,5\n0,0;0,0;0,0\n;;\n", "0, 1, 2, ... and no distances"),
    "no diagonal": ('"NA",1,2,3\nNA,NA,5,6\nNA,NA,NA,8\nNA,NA,NA,NA\n,,,\n', "NA, 1, 2, ... and no distances"),
    "labels, and commas below": ('"site";"0";"1"\n"0";"nan";"12,0"\n"1";"nan";"nan"\n;;', "site, 0, 1, ... and no"),
    "more of them": (";0;1;2\n0;0;5;6\n1;5;0;7\n2;6;7;0\n;;;", ", 0, 1, ... and no distances"),
  }
  check(tmp_path, distances, {name: (text, OWN_LINE + got) for name, (text, got) in cases.items()})
  cases = {
    "labels beside": ("0;nan;3,32\n1;nan;nan\n;;", "whether the first column holds labels. Got 0, 1, ... and an empty"),
    "labels above": ("0;1;\n;;\n5;;", "whether the first line holds labels. Got 0, 1, ... and an empty last column"),
  }
  check(tmp_path, distances, cases)


def test_labels_that_count_stay_labels(tmp_path):
  counted = ["0", "1", "2"]
  cases = {
    "an upper triangle": ("0,1,2\n,5,6\n,,7\n,,\n", THREE, counted),
    "above zeros": ("0,1,2\n0,5,6\n0,0,7\n0,0,0\n", THREE, counted),
    "labels beside": ("0,,5,6\n1,,,7\n2,,,\n", THREE, counted),
    "a lower triangle": ("0,1,2\n,,\n5,,\n6,7,\n", THREE, counted),
    "a matrix": ("0,1,2\n0,5,6\n5,0,7\n6,7,0\n", THREE, counted),
    "two points at one place": ("0,1,2\n0,0,6\n0,0,7\n6,7,0\n", [[NAN, 0, 6], [0, NAN, 7], [6, 7, NAN]], counted),
  }
  check(tmp_path, distances, cases)


def test_a_triangle_that_counts_is_read(tmp_path):
  upper = [[NAN, 1, 2], [1, NAN, 3], [2, 3, NAN]]
  cases = {
    "upper": ("0,1,2\n0,0,3\n0,0,0\n", upper),
    "lower": ("0,0,0\n1,0,0\n2,3,0\n", upper),
    "halves of both": ("0,,2\n1,,\n,3,\n", upper),
    "no diagonal": (",1,2\n,,3\n,,\n", upper),
    "one distance is missing": ("0,1,NA\nNA,NA,3\nNA,NA,NA\n", [[NAN, 1, NAN], [1, NAN, 3], [NAN, 3, NAN]]),
  }
  check(tmp_path, distances, cases)
  assert np.isnan(distances(tmp_path / "x.csv", "0,NA,3\n1,NA,NA\nNA,NA,NA\n").values[1, 2])
