"""Which line and which column of a table hold labels: matrices of distances, and points."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from jax_edm._cli import condensed, doubts, notation, tables
from jax_edm._cli.cells import (
  FEWEST_COUNTED,
  WHOLE,
  are_fractions,
  counts,
  counts_as_numbers,
  counts_in_another_order,
  is_label,
  is_missing,
  is_name,
  is_same,
  is_text,
)
from jax_edm._cli.columns import (
  check_columns,
  check_labels_are_whole,
  check_second_index,
  is_index_name,
  names_an_index,
)
from jax_edm._cli.condensed import is_condensed
from jax_edm._cli.errors import error, unclear
from jax_edm._cli.first_line import are_names, has_header, quotes_first_line, unclear_first_line
from jax_edm._cli.tables import Sheet


class Table(NamedTuple):
  values: np.ndarray  # (rows, columns), float64, NaN where missing
  labels: list[str] | None  # of the rows


class Layout(NamedTuple):
  header: bool  # the first line holds labels
  index_column: bool  # the first column holds labels


def matrix(sheet: Sheet, what: str) -> Table:
  """A square matrix, whole or a triangle, or the condensed form in one column."""
  sheet = _without_empty_end(sheet)
  layout = _matrix_layout(sheet)
  triangle = len(set(sheet.widths[layout.header :])) > 1
  values = tables.read_numbers(_completed(sheet, layout.header) if triangle else sheet, *layout)
  if triangle and np.diag(values).any():  # NaN counts, too: a triangle begins and ends with a 0
    raise tables.ragged(sheet, layout.header, "A triangle must have its diagonal of zeros")
  doubts.check_no_gaps(sheet, layout.header)
  of_one_point = layout == (True, True) and len(sheet.lines) == sheet.widths[0] == 2
  condensed_form = values.shape[1] == 1 and not of_one_point
  if condensed_form:
    _check_condensed(sheet, layout)
  labels = None if condensed_form else _matrix_labels(sheet, layout)
  if sheet.first_row[0] == "" and not any(map(is_text, sheet.first_row)):
    _check_labels_or_distances(sheet, layout, values)
  square = values if of_one_point else condensed.square(sheet.path, values, what)
  notation.check_decimal_commas(sheet, layout.header)
  notation.check_thousands(sheet, *layout)
  notation.check_blanks(sheet, layout.header)
  notation.check_names(sheet, layout.header)
  if layout == (False, False) and what != "weights":
    doubts.check_corner(sheet, square)
  return Table(square, labels)


def _without_empty_end(sheet: Sheet) -> Sheet:
  """A matrix without the separator too many at the end of every line that some spreadsheets write."""
  if sheet.separator not in ",;" or sheet.widths[0] <= len(sheet.lines) or not _ends_empty(sheet):
    return sheet
  if counts(sheet.first_column):
    doubts.check_are_labels(sheet, False)
  lines, widths = [line.removesuffix(sheet.separator) for line in sheet.lines], [width - 1 for width in sheet.widths]
  return sheet._replace(lines=lines, widths=widths, first_row=sheet.first_row[:-1])


def _ends_empty(sheet: Sheet) -> bool:
  return all(line.endswith(sheet.separator) for line in sheet.lines)


def _check_condensed(sheet: Sheet, layout: Layout) -> None:
  """One column has an entry for each pair; what stands beside it counts, and says nothing of another order."""
  names = sheet.first_column[layout.header :]
  if layout.index_column and not counts(names):
    got = f"{', '.join(name[:40] for name in names[:3])}, ... beside them"
    advice = "Delete that column if they are, else sort them by it, or write the whole matrix"
    raise unclear(sheet.path, "these are the entries of all pairs, in order", got, advice)


def points(sheet: Sheet, index: bool | None = None) -> Table:
  """One row for each point. ``index`` says whether the first column holds labels; ``None``: this is found out."""
  if _ends_empty(sheet) and any(line.strip(sheet.separator) for line in sheet.lines):
    got = "a separator at the end of every line, and nothing behind it"
    raise error(sheet.path, "the last column must hold a coordinate", got, "Delete that separator")
  short = _is_short(sheet) and all(map(is_text, sheet.first_row))
  if len(set(sheet.widths[short:])) > 1:
    if _has_one_name_too_few(sheet) and sheet.widths[0] == 1 and sheet.decimal == ",":
      got = f"{sheet.first_column[1][:40]!r} in line {sheet.numbers[1]}, below one name for two columns"
      raise unclear(sheet.path, "the first column holds labels", got, "Write a name above each column")
    raise tables.ragged(sheet, short)
  if index and sheet.widths[-1] == 1:
    raise error("--index", "there must be a coordinate beside the labels", "one column", "Leave it out")
  header = short or has_header(sheet)
  notation.check_names(sheet, header)
  notation.check_no_negative_zeros(sheet, header)
  notation.check_decimal_commas(sheet, header)
  notation.check_blanks(sheet, header)
  if header:
    check_columns(sheet, short)
  if index is None:
    index = short or _has_index(sheet, header)
  if index:
    notation.check_ends_of_labels(sheet, header)
    check_labels_are_whole(sheet, header, short)
    check_second_index(sheet, header, short)
  notation.check_thousands(sheet, header, index)
  values = tables.read_numbers(sheet, header, index)
  doubts.check_no_gaps(sheet, header)
  return Table(values, _checked(sheet, sheet.first_column[header:]) if index else None)


def _matrix_layout(sheet: Sheet) -> Layout:
  lines, widths, row, column = len(sheet.lines), sheet.widths, sheet.first_row, sheet.first_column
  if _is_short(sheet):
    return Layout(True, True)
  width = widths[0]
  if len(set(widths)) > 1:  # a triangle, or a mistake
    header = any(map(is_label, row[1:])) or (row[0] == "" and width == max(widths))
    if header and len(set(widths[1:])) == 1:
      raise tables.ragged(sheet, False)
    return Layout(header, header or is_label(column[-1]))
  if width == 1:
    # A Series of pandas has the header 0.
    of_pandas = row[0] == "0" and not is_condensed(lines) and is_condensed(lines - 1)
    if row[0] in ("0", "1") and is_condensed(lines) and not is_condensed(lines - 1) and are_fractions(column[1:]):
      raise unclear_first_line(sheet, f"Delete it if it is a header, or write {row[0]}.0 if it is a distance")
    return Layout(of_pandas or are_names(sheet, row), False)
  if lines == width:
    if counts(row) and lines > 2 and are_fractions(tables.cells_of(sheet, 1)):
      raise unclear_first_line(sheet, f"Complete the rows if it is a header, or write {row[0]}.0 for {row[0]}")
    doubts.check_last_line(sheet)
    labelled = _is_labelled(sheet)
    return Layout(labelled, labelled)
  if (lines == width + 1 or width == lines + 1) and lines > 1:
    quoted = quotes_first_line(sheet) if lines > width else tables.quotes_first_column(sheet, False)
    if not quoted:
      doubts.check_are_labels(sheet, lines > width)
    return Layout(lines > width, width > lines)
  named = is_index_name(row[0])
  return Layout(named or any(map(is_label, row[1:])), named or any(map(is_label, column[1:])))


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
  column = sheet.first_column[1:]
  return _has_one_name_too_few(sheet) and all(
    is_label(cell) or is_missing(cell) or WHOLE.fullmatch(cell) for cell in column
  )


def _has_one_name_too_few(sheet: Sheet) -> bool:
  first, *rest = sheet.widths
  # R quotes the names of rows and columns, or neither; pandas may quote those of columns alone, beside rows that count.
  quoted, *quoted_rest = (line.startswith('"') for line in sheet.lines)
  if set(rest) != {first + 1} or len(set(quoted_rest)) != 1:
    return False
  if quoted != quoted_rest[0] and not (quoted and counts(sheet.first_column[1:])):
    return False
  if first > 1 and len(rest) == 1:  # it may be a triangle
    return False
  # One name above two columns, in a file that no title stands above.
  return first > 1 or (is_name(sheet.first_row[0]) and (quoted or " " not in sheet.first_row[0]))


def _is_labelled(sheet: Sheet) -> bool:
  """Whether a square table has labels in its first row and column, or distances."""
  (corner, *row), (_, *column) = sheet.first_row, sheet.first_column
  if corner and not is_text(corner):
    return False
  if any(map(is_label, row + column)):
    return True
  if any(is_text(cell) or is_missing(cell) for cell in row) or not all(map(is_same, row, column)):
    same = [is_same(a, b) for a, b in zip(row, column, strict=True) if not (is_missing(a) or is_missing(b))]
    one_is_missing = any(is_missing(a) != is_missing(b) for a, b in zip(row, column, strict=True))
    if corner == "" and one_is_missing and len(same) > 1 and all(same):
      got = "numbers in both, one of them missing in one"
      raise unclear(sheet.path, "the first row and column are labels", got, "Write it, or 0 into the corner")
    return False
  if not is_index_name(corner):
    got = f"numbers in both, and {corner[:40]!r} in the corner"
    raise unclear(
      sheet.path, "the first row and column are labels", got, "Write label there if they are, else a number"
    )
  return True


def _matrix_labels(sheet: Sheet, layout: Layout) -> list[str] | None:
  rows = _checked(sheet, sheet.first_column[layout.header :]) if layout.index_column else None
  columns = sheet.first_row[not _is_short(sheet) :] if layout.index_column else sheet.first_row
  if not layout.header:
    return rows
  if rows is None:
    return _checked(sheet, columns)
  for k, (a, b) in enumerate(zip(rows, columns, strict=False), 1):
    if not is_same(a, b):
      expected = "the labels of rows and columns must be the same, in one order"
      raise error(sheet.path, expected, f"{a!r} and {b!r} for point {k}", "Sort the rows as the columns are sorted")
  if len(columns) != len(rows):
    got = f"{len(columns)} labels above and {len(rows)} beside"
    raise error(sheet.path, "rows and columns must be as many", got, "Add the rows or columns that are missing")
  return columns  # pandas writes 001 above a column, and 1 beside its row


def _checked(sheet: Sheet, labels: list[str]) -> list[str]:
  if "" in labels:
    got = f"an empty cell for point {labels.index('') + 1}"
    raise error(sheet.path, "every point must have a label, if any has", got, "Write NA for a label that is missing")
  return labels


def _check_labels_or_distances(sheet: Sheet, layout: Layout, values: np.ndarray) -> None:
  """Numbers beside an empty corner may be labels or distances: it is the diagonal that tells, and it may be empty."""
  empty, got = np.isnan(np.diag(values)), "numbers in both, and an empty diagonal"
  if layout == (False, False):
    got = "numbers in both, some of them missing, and only one empty entry on the diagonal"
    if len(empty) < 2 or empty[1:].all() or not any(map(is_missing, sheet.first_row[1:])):
      return
  elif layout != (True, True) or not empty.all():
    return
  advice = "Write 0 on the diagonal, or nan in the corner if they are distances"
  raise unclear(sheet.path, "the first row and column are labels", got, advice)


def _has_index(sheet: Sheet, header: bool) -> bool:
  column = sheet.first_column[header:]
  if sheet.widths[-1] == 1:
    return False
  if header and names_an_index(sheet.first_row):
    return True
  texts = [k for k, cell in enumerate(column) if is_label(cell)]
  if texts and all(is_name(cell) or is_missing(cell) for cell in column):
    if not header and any(separator in cell for cell in column for separator in ";\t"):
      got, advice = f"{column[0][:40]!r} in line {sheet.numbers[0]}", "Write sep=, above the table if commas separate"
      raise unclear(sheet.path, "commas separate or stand before decimals", got, advice)
    return True
  if tables.quotes_first_column(sheet, header):
    got = f"{column[0]!r} in quotation marks, as labels are"
    advice = "Say --index if it holds labels, or --no-index if it is a coordinate"
    raise unclear(sheet.path, "the first column is a coordinate", got, advice)
  texts = [k for k in texts if not is_name(column[k])] or texts
  if texts:
    got = f"{column[texts[0]][:40]!r} in line {sheet.numbers[header + texts[0]]}"
    advice = "Correct it, or say --index if these are labels"
    raise unclear(sheet.path, "the first column holds labels or numbers", got, advice)
  if len(column) >= FEWEST_COUNTED and (counts_as_numbers(column) or (not header and _may_be_rows(sheet))):
    got = f"{column[0]}, {column[1]}, {column[2]}, ..., as an index has them"
    advice = "Say --index if it holds labels, or --no-index if it is a coordinate"
    raise unclear(sheet.path, "the first column is a coordinate", got, advice)
  return False


def _may_be_rows(sheet: Sheet) -> bool:
  """The numbers of rows that were sorted, or whole numbers that differ, beside none, as of rows that are left."""
  column = sheet.first_column
  if counts_in_another_order(column):
    return True
  differ = all(map(str.isdecimal, column)) and len(set(column)) == len(column)
  return differ and all(are_fractions(row[1:]) for row in tables.rows_of(sheet, 0))
