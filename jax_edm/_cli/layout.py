"""Which line and which column of a table hold labels: matrices of distances, and points."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from jax_edm._cli import condensed, tables
from jax_edm._cli.condensed import is_condensed
from jax_edm._cli.errors import error
from jax_edm._cli.tables import Sheet, counts, is_missing, is_text

INDEX_NAMES = ("", "id", "index", "label", "labels", "name", "names", "row", "rownames", "unnamed: 0")
FEWEST_COUNTED = 3  # rows whose first entries count them: fewer may well be coordinates


class Table(NamedTuple):
  values: np.ndarray  # (rows, columns), float64, NaN where missing
  labels: list[str] | None  # of the rows


class Layout(NamedTuple):
  header: bool  # the first line holds labels
  index_column: bool  # the first column holds labels


def matrix(sheet: Sheet) -> Table:
  """A square matrix, whole or a triangle, or the condensed form in one column."""
  layout = _matrix_layout(sheet)
  triangle = len(set(sheet.widths[layout.header :])) > 1
  values = tables.read_numbers(_completed(sheet, layout.header) if triangle else sheet, *layout)
  if triangle and np.diag(values).any():  # NaN counts, too: a triangle begins and ends with a 0
    raise tables.ragged(sheet, layout.header, "A triangle must have its diagonal of zeros")
  labels = _matrix_labels(sheet, layout)
  if 1 in values.shape and values.shape[0] >= values.shape[1]:
    return Table(condensed.square(values[:, 0]) if is_condensed(len(values)) else values, None)
  if layout == (True, True) and not any(map(is_text, sheet.first_row)) and sheet.first_row[0] == "":
    _check_not_distances(sheet, values)
  return Table(values, labels)


def points(sheet: Sheet, index: bool | None = None) -> Table:
  """One row for each point. ``index`` says whether the first column holds labels; ``None``: this is found out."""
  row, short = sheet.first_row, _is_short(sheet) and all(map(is_text, sheet.first_row))
  nameless = row[0] == "" and (counts(row[1:]) or any(map(is_text, row[1:])))  # as pandas and R write
  named = (is_text(row[0]) and all(map(is_text, row))) or (is_text(row[0]) and len(row) > 1 and counts(row[1:]))
  header = short or nameless or (named and len(sheet.lines) > 1)
  if len(set(sheet.widths[short:])) > 1:
    raise tables.ragged(sheet, short)
  if not header:
    _check_first_line(sheet)
  if index is None:
    index = short or _has_index(sheet, header)
  values = tables.read_numbers(sheet, header, index)
  return Table(values, sheet.first_column[header:] if index else None)


def _matrix_layout(sheet: Sheet) -> Layout:
  lines, widths, row, column = len(sheet.lines), sheet.widths, sheet.first_row, sheet.first_column
  if _is_short(sheet):
    return Layout(True, True)
  width = widths[0]
  if len(set(widths)) > 1:  # a triangle, or a mistake
    header = any(map(is_text, row[1:])) or (row[0] == "" and width == max(widths))
    return Layout(header, header or is_text(column[-1]))
  if width == 1:
    # A Series of pandas has the header 0.
    return Layout(is_text(row[0]) or (row[0] == "0" and not is_condensed(lines) and is_condensed(lines - 1)), False)
  if lines == width:
    labelled = _is_labelled(row, column)
    return Layout(labelled, labelled)
  if lines == width + 1 or width == lines + 1:
    _check_are_labels(sheet, row if lines > width else column)
    return Layout(lines > width, width > lines)
  header = any(map(is_text, row[1:])) or row[0] == ""
  return Layout(header, any(map(is_text, column[1:])) or (header and row[0] == ""))


def _completed(sheet: Sheet, header: bool) -> Sheet:
  """A triangle, whose rows are one longer or one shorter each time; those of the upper one end together."""
  widths = sheet.widths[header:]
  if all(b == a + 1 for a, b in pairwise(widths)):
    return sheet
  if widths[-1] != 1 or any(b != a - 1 for a, b in pairwise(widths)):
    raise tables.ragged(sheet, header)
  lines = [("NA" + sheet.separator) * max(k - header, 0) + line for k, line in enumerate(sheet.lines)]
  return sheet._replace(lines=lines, widths=[sheet.widths[0], *[widths[0]] * (len(lines) - 1)])


def _is_short(sheet: Sheet) -> bool:
  """Whether the header has no cell above the index, as R's ``write.table`` writes."""
  first, *rest = sheet.widths
  return len(rest) > 1 and set(rest) == {first + 1}


def _is_labelled(row: list[str], column: list[str]) -> bool:
  """Whether a square table has labels in its first row and column, or distances."""
  corner, names = row[0], row[1:] + column[1:]
  if not (corner == "" or is_text(corner)) or any(map(is_missing, names)):
    return corner == "" and any(map(is_text, names))
  return any(map(is_text, names)) or (row[1:] == column[1:] and all(name.isdigit() for name in names))


def _matrix_labels(sheet: Sheet, layout: Layout) -> list[str] | None:
  rows = sheet.first_column[layout.header :] if layout.index_column else None
  columns = sheet.first_row[not _is_short(sheet) :] if layout.index_column else sheet.first_row
  if not layout.header or (rows and len(columns) == 1 < len(rows)):
    return rows
  if rows is None:
    return columns
  for k, (a, b) in enumerate(zip(rows, columns, strict=False), 1):
    if a != b:
      expected = "the labels of rows and columns must be the same, in one order"
      raise error(sheet.path, expected, f"{a!r} and {b!r} for point {k}", "Sort the rows as the columns are sorted")
  return rows


def _check_not_distances(sheet: Sheet, values: np.ndarray) -> None:
  """Where the diagonal is empty, whole numbers in the first row and column may be labels or distances."""
  if np.isnan(np.diag(values)).all():
    got = "whole numbers in both, and an empty diagonal"
    advice = "Write 0 on the diagonal, or nan in the corner if they are distances"
    raise error(sheet.path, "it must be clear whether the first row and column are labels", got, advice)


def _check_are_labels(sheet: Sheet, cells: list[str]) -> None:
  """Fractions beside a square matrix may be distances of one point more."""
  fractions = [cell for cell in cells if not (is_text(cell) or is_missing(cell) or cell.isdigit())]
  if fractions:
    advice = "Delete them, or add what is missing in the other direction"
    raise error(sheet.path, "it must be clear whether a line of its own holds labels", f"{fractions[0]}, ...", advice)


def _check_first_line(sheet: Sheet) -> None:
  """The numbers 0, 1, ... may be the columns of a DataFrame, or a point."""
  row, below = sheet.first_row, sheet.first_column[1:]
  if len(row) > 1 and len(below) > 1 and counts(row):
    got = f"{', '.join(row[:3])}{', ...' if len(row) > 3 else ''}"
    advice = "Delete it if it is a header, or write 0.0 for 0 if it is a point"
    raise error(sheet.path, "it must be clear whether the first line is a point", got, advice)


def _has_index(sheet: Sheet, header: bool) -> bool:
  column, wide = sheet.first_column[header:], sheet.widths[-1] > 1
  if wide and (all(map(is_text, column)) or (header and sheet.first_row[0].lower() in INDEX_NAMES)):
    return True
  if wide and len(column) >= FEWEST_COUNTED and counts(column):
    got = f"{column[0]}, {column[1]}, {column[2]}, ..., as an index has them"
    advice = "Say --index if it holds labels, or --no-index if it is a coordinate"
    raise error(sheet.path, "it must be clear whether the first column is a coordinate", got, advice)
  return False
