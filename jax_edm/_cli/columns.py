"""What stands above and beside coordinates: their names, an index, and a second one."""

import re
from collections import defaultdict
from itertools import pairwise

from jax_edm._cli.cells import FEWEST_COUNTED, WHOLE, counts, is_label, is_number, is_same
from jax_edm._cli.errors import error, unclear
from jax_edm._cli.tables import Sheet, rows_of

WRITTEN = ("row.names", "row_name", "row_names", "row_nr")  # by R, from its databases, by Polars
INDEX_NAMES = ("", "id", "index", "label", "labels", "name", "names", "rowid", "rowname", "rownames", *WRITTEN)
OF_MATLAB = "Row"  # its name for the names of rows; row, and Row beside Column, are coordinates
OF_DATA_TABLE = "rn"  # its name for the names of rows; Rn is radon
# how pandas, Arrow and readr call a column without a name
UNNAMED = re.compile(r"unnamed: 0|__index_level_\d+__|\.\.\.1", re.IGNORECASE)
OF_LEVELS = ("unnamed: ", "level_", "...")  # of which there may be more than one
# how R calls a column without a name, and the name beside it that shows a coordinate
OF_R = {"X": "Y", "X1": "X2", "V1": "V2"}
FEWEST_BESIDE = 3  # columns of which two may be indices
INDEX_OR_COORDINATE = "Delete that column if it is an index, or give it the name of a coordinate"


def is_index_name(cell: str) -> bool:
  return cell.lower() in INDEX_NAMES or cell == OF_DATA_TABLE or UNNAMED.fullmatch(cell) is not None


def names_an_index(names: list[str]) -> bool:
  """Whether the first of the names of columns is that of an index."""
  of_matlab = names[0] == OF_MATLAB and not any(name.lower().startswith("col") for name in names[1:])
  return of_matlab or is_index_name(names[0])


def check_columns(sheet: Sheet, short: bool) -> None:
  """What stands above coordinates: one name each, and none of a second index."""
  names, expected = sheet.first_row, "the columns beside the first must be coordinates"
  if wrong := [name for name in names[not short :] if is_index_name(name) or name.lower().startswith(OF_LEVELS)]:
    raise error(sheet.path, expected, f"one named {wrong[0]!r}", INDEX_OR_COORDINATE)
  if (short or names[0] == "") and _is_index_of_r(sheet, names[not short :]):
    raise error(sheet.path, expected, f"one named {names[not short]!r} that counts", INDEX_OR_COORDINATE)
  if len(set(names)) < len(names):
    twice = next(name for k, name in enumerate(names) if name in names[:k])
    advice = "Write one line of names that differ, or none"
    raise error(sheet.path, "coordinates must have different names", f"{twice!r} twice", advice)


def _is_index_of_r(sheet: Sheet, names: list[str]) -> bool:
  """R reads an index without a name as a column X, X1 or V1, and writes another one beside it."""
  if names[0] not in OF_R or names[1:2] in ([], [OF_R[names[0]]]):
    return False
  column = _column(sheet, 1)
  return bool(column) and all(map(WHOLE.fullmatch, column)) and all(int(a) < int(b) for a, b in pairwise(column))


def check_second_index(sheet: Sheet, header: bool, short: bool) -> None:
  """A column that repeats the names of the rows, or counts beside numbers, may be an index that was saved twice."""
  if sheet.widths[-1] < FEWEST_BESIDE or not (short or (header and sheet.first_row[0] == "")):
    return
  names, column = _column(sheet, 0), _column(sheet, 1)
  counted = len(column) >= FEWEST_COUNTED and counts(column) and all(map(is_number, names))
  if len(names) > 1 and (counted or all(map(is_same, names, column))):
    got = f"{', '.join(column[:3])}, ... beside the index {', '.join(names[:3])}, ..."
    advice = "Delete one of the two if it is, else write label above the first column"
    raise unclear(sheet.path, "the second column is an index, too", got, advice)


def check_labels_are_whole(sheet: Sheet, header: bool, short: bool) -> None:
  """A label such as Site 1 is two cells between blanks, and the names of rows are unique."""
  if header and not short:
    return
  quoted = sheet.lines[header].startswith('"')
  if quoted and not short:
    return
  labels, numbers = _column(sheet, 0, header), _column(sheet, 1, header)
  if len(set(labels)) == len(labels):
    cut = short and not quoted and sheet.separator == " " and counts(numbers) and any(map(is_label, labels))
  else:
    cut = short or _count_within(labels, numbers)
  if cut:
    got = f"{labels[0][:40]!r} and {numbers[0][:40]!r} in line {sheet.numbers[header]}"
    advice = "Write quotation marks around labels of two words, or a name above every column"
    raise unclear(sheet.path, "the first two cells are a label", got, advice)


def _count_within(labels: list[str], numbers: list[str]) -> bool:
  """Whether the numbers count the rows of each label that stands more than once."""
  groups = defaultdict(list)
  for label, number in zip(labels, numbers, strict=True):
    groups[label].append(number)
  return all(counts(group) for group in groups.values() if len(group) > 1)


def _column(sheet: Sheet, k: int, start: int = 1) -> list[str]:
  return [row[k] for row in rows_of(sheet, start)]
