"""A mark between labels and coordinates that is not the one between coordinates; commas that may separate."""

import pytest
from test_two_readings import SEPARATOR, check, distances, points

ENDS = "whether the labels end with a coordinate. Got "
NAME = "separate or stand inside a name. Got "
MELTED = {
  "colons": ("A: 1.5, 2.5\nB: 3, 4\nC: 7, 1\n", "'A: 1.5' in line 1"),
  "blanks": ("Paris 48.85, 2.35\nRome 41.9, 12.5\n", "'Paris 48.85' in line 1"),
  "three coordinates": ("A 48.85,2.35,7\nB 41.9,12.5,8\n", "'A 48.85'"),
  "equals signs": ("P1=1.5,2.5\nP2=3,4\n", "'P1=1.5'"),
  "bars": ("A|1.5,2.5\nB|3,4\n", "'A|1.5'"),
  "decimals in one": ("A 48,2.35\nB 41.9,12.5\n", "'A 48'"),
  "negative numbers": ("Paris 48, -2\nLima -12, -77\n", "'Paris 48'"),
  "two numbers": ("A 1 2, 3\nB 4 5, 6\n", "'A 1 2'"),
  "decimal commas, semicolons": ("Köln 6,95; 50,94\nBonn 7,1; 50,73\n", "'Köln 6,95'"),
  "colons, decimal commas": ("A: 1,5; 2,5\nB: 3; 4\n", "'A: 1,5'"),
  "tabs behind": ("Köln 6.95\t50.94\nBonn 7.1\t50.73\n", "'Köln 6.95'"),
  "commas, then blanks": ("A,1.5 2.5\nB,3 4\n", "'A,1.5'"),
  "a missing coordinate": ("Paris 48.85, 2.35\nRome , 12.5\n", "'Paris 48.85'"),
  "the same with a colon": ("A: 1, 2\nB: , 4\n", "'A: 1'"),
  "NA": ("A 1.5, 2\nB NA, 4\n", "'A 1.5'"),
  "a missing label": ("A 1.5, 2\nNA, 4\nC 2.5, 3\n", "'A 1.5'"),
  "names, tabs": ("city\tlat, lon\nParis\t48.8566, 2.3522\nRome\t41.9, 12.5\n", r"'Paris\t48.8566' in line 2"),
  "names, semicolons": ("city;lat,lon\nParis;48.8566,2.3522\nRome;41.9,12.5\n", "'Paris;48.8566'"),
  "names, blanks": ("city lat, lon\nParis 48.8566, 2.3522\nRome 41.9, 12.5\n", "'Paris 48.8566'"),
  "names, whole numbers": ("city lat, lon\nParis 48, 2\nRome 41, 12\n", "'Paris 48'"),
  "names, colons": ("point: x, y\nA: 1.5, 2.5\nB: 3, 4\n", "'A: 1.5'"),
  "names of coordinates alone": ("x, y\nA: 1, 2\nB: 3, 4\n", "'A: 1'"),
  "names, one of an index": ("label: x, y\nA: 1, 2\nB: 3, 4\n", "'A: 1'"),
  "names, semicolons and blanks": ("city;lat lon\nParis;48.8566 2.3522\nRome;41.9 12.5\n", "'Paris;48.8566'"),
  "names, decimal commas": ("Ort;Länge Breite\nParis;48,85 2,35\nRom;41,9 12,5\n", "'Paris;48,85'"),
}
WHOLE = {
  "numbered sites": ("Site 1, 5.5\nSite 2, 7.5\n", [[5.5], [7.5]], ["Site 1", "Site 2"]),
  "the same below names": ("site,x\nSite 1,5.5\nSite 2,7.5\n", [[5.5], [7.5]], ["Site 1", "Site 2"]),
  "some of them": ("Python 3.5, 5\nJulia, 7\n", [[5], [7]], ["Python 3.5", "Julia"]),
  "quoted, as the message says": (
    '"Paris 48.85",2.35\n"Rome 41.9",12.5\n',
    [[2.35], [12.5]],
    ["Paris 48.85", "Rome 41.9"],
  ),
  "quoted, below two words": ('site no,x\n"Site 1",5.5\n"Site 2",7.5\n', [[5.5], [7.5]], ["Site 1", "Site 2"]),
  "quoted words above": ('"site no",x\nSite 1,5.5\nSite 2,7.5\n', [[5.5], [7.5]], ["Site 1", "Site 2"]),
  "one mark": ("A,1.5,2.5\nB,3,4\n", [[1.5, 2.5], [3, 4]], ["A", "B"]),
  "colons behind labels": ("P1: 1.5 2.5\nP2: 3 4\n", [[1.5, 2.5], [3, 4]], ["P1:", "P2:"]),
  "pandas": (",x\nlr=0.1,2.5\nlr=0.01,3.5\n", [[2.5], [3.5]], ["lr=0.1", "lr=0.01"]),
  "fit": ("label,x1\nA: 1.5,2.5\nB: 3,4\n", [[2.5], [4]], ["A: 1.5", "B: 3"]),
  "as the file says": ("sep=,\nA 1.5,2.5\nB 3.5,4\n", [[2.5], [4]], ["A 1.5", "B 3.5"]),
}


@pytest.mark.parametrize("name", MELTED)
def test_the_first_coordinate_is_no_part_of_a_label(name, tmp_path):
  text, got = MELTED[name]
  check(tmp_path, points, {name: (text, ENDS + got)})


@pytest.mark.parametrize("name", WHOLE)
def test_labels_that_end_with_a_number(name, tmp_path):
  check(tmp_path, points, {name: WHOLE[name]})


COMMAS = {
  "in parentheses": ("x (m, local)\n0,13\n0,64\n-1,54\n", f"commas {NAME}'x (m' and 'local)' in line 1"),
  "in brackets": ("x [m, local]\n0,13\n0,64\n7,54\n", f"commas {NAME}'x [m' and 'local]'"),
  "a semicolon": ("x (m; local)\n1.5;13\n0;64\n", f"semicolons {NAME}'x (m' and 'local)'"),
  "negative zeros": ("x, local\n0,13\n0,64\n-0,54\n", f"{SEPARATOR} or stand before decimals. Got '-0,54' in line 4"),
  "in the second column": ("0,13,-0,64\n1,17,1,25\n", f"{SEPARATOR} or stand before decimals. Got '0,13,-0,64'"),
}
CLEAR = {
  "quoted, as the message says": ('"x (m, local)"\n0,13\n0,64\n-0,54\n', [[0.13], [0.64], [-0.54]]),
  "parentheses in each": ("x (m),y (m)\n0,13\n0,64\n7,54\n", [[0, 13], [0, 64], [7, 54]]),
  "negative zeros beside decimals": ("-0,13\n0.5,64\n7,54\n", [[0, 13], [0.5, 64], [7, 54]]),
  "as the file says": ("sep=,\nx (m, local)\n-0,13\n0,64\n", [[0, 13], [0, 64]]),
}


@pytest.mark.parametrize("name", COMMAS)
def test_commas_that_may_not_separate(name, tmp_path):
  check(tmp_path, points, {name: COMMAS[name]})


@pytest.mark.parametrize("name", CLEAR)
def test_commas_that_are_clear(name, tmp_path):
  check(tmp_path, points, {name: CLEAR[name]})


def test_a_comma_inside_a_name_above_distances(tmp_path):
  check(tmp_path, distances, {"two labels": ("d (km, air)\n0,5\n5,0\n", f"commas {NAME}'d (km' and 'air)'")})


@pytest.mark.parametrize("text", [" 5.0 \n5.0  \n  6.0\n", "  5.0\n 5.0 \n6.0  \n", " 5.0\n5.0 \n"])
def test_one_entry_in_each_line_between_blanks(text, tmp_path):
  empty = "whether blanks stand around an empty entry. Got "
  check(tmp_path, points, {text: (text, empty)})
  if text.count("\n") == 3:  # as many as three points have pairs
    check(tmp_path, distances, {text: (text, empty)})


@pytest.mark.parametrize("text", [" 5.0\n16.0\n 7.0\n", "5.0 \n16.0\n7.0 \n", "  5.0\n  6.0\n  7.0\n", "5.0 \n6\n7\n"])
def test_one_column_that_is_aligned(text, tmp_path):
  check(tmp_path, points, {text: (text, [[float(line)] for line in text.splitlines()])})
