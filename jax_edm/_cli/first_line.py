"""The first line of points: names of columns, or a point."""

from itertools import pairwise

import numpy as np

from jax_edm._cli.cells import are_fractions, counts, is_label, is_missing, is_name, is_number, is_text, value_of
from jax_edm._cli.columns import is_index_name
from jax_edm._cli.errors import UserError, unclear
from jax_edm._cli.tables import QUOTED, Sheet, cells_of, rows_of

FEWEST_STEPS = 3  # columns whose names may be steps: two numbers always are
FAR = 10  # times the largest number below: a year above what was measured in it
NAMES_ABOVE = "write names of the coordinates above it"


def has_header(sheet: Sheet) -> bool:
  """Whether the first line names the columns; 0, 1, ... may be the columns of a DataFrame, or a point."""
  corner, *names = sheet.first_row
  if quotes_first_line(sheet):
    return True
  named, counted = is_index_name(corner), bool(names) and counts(names)
  if named and (counted or any(map(is_name, names))):  # as pandas and R write
    return True
  labelled = named and bool(names) and (corner != "" or any(map(is_label, sheet.first_column[1:])))
  counting = counts(sheet.first_row) or (counted and is_text(corner))
  above_one = counting and "0" in sheet.first_row  # pandas counts from 0, also above one point
  if labelled or above_one or (len(sheet.lines) > 2 and (counting or _may_be_years(sheet))):
    raise unclear_first_line(sheet, f"Delete it if it is a header, or {_of_point(sheet, labelled)} if it is a point")
  if _counts_lines(sheet):
    raise unclear_first_line(sheet, "Delete it if it says how many follow, or write decimals if it is a point")
  return are_names(sheet, names if named and names else sheet.first_row)


def are_names(sheet: Sheet, cells: list[str]) -> bool:
  """Whether the cells of the first line are nothing but names of columns."""
  if all(map(is_name, cells)):
    return True
  if all(map(is_text, cells)):
    raise unclear_first_line(sheet, "Delete it if it is a header, or write its numbers as the others are written")
  return False


def unclear_first_line(sheet: Sheet, advice: str) -> UserError:
  row = sheet.first_row
  got = f"{', '.join(cell[:40] for cell in row[:3])}{', ...' if len(row) > 3 else ''}"
  return unclear(sheet.path, "the first line is a point", got, advice)


def _of_point(sheet: Sheet, labelled: bool) -> str:
  """What to do with the first line if it is a point, so that the question is not asked again."""
  numbers = [cell for cell in sheet.first_row if not (is_text(cell) or is_missing(cell))]
  if labelled or not numbers:
    return "write its label"
  return NAMES_ABOVE if _are_steps(sheet, numbers) else f"write {numbers[0]}.0 for {numbers[0]}"


def _may_be_years(sheet: Sheet) -> bool:
  """Numbers that may name columns: years, wavelengths, temperatures."""
  labelled = is_text(sheet.first_row[0])
  cells = sheet.first_row[labelled:]
  if _are_steps(sheet, cells):
    return True
  if not cells or not all(map(str.isdigit, cells)):
    return False
  uneven = labelled and len(cells) >= FEWEST_STEPS and _rise(cells) and not _grow_evenly(cells)
  return uneven or _is_above_fractions(sheet, labelled) or _is_far_above(sheet, cells)


def _is_above_fractions(sheet: Sheet, labelled: bool) -> bool:
  """Whole numbers above others of which none is whole: pandas would have written 3.0 for 3, were it among them."""
  if labelled:
    return are_fractions(cells_of(sheet, 1)[1:])
  if '"' in sheet.lines[0]:  # a spreadsheet may quote its numbers, and writes 3
    return False
  return all(map(are_fractions, rows_of(sheet, 1)))


def _is_far_above(sheet: Sheet, cells: list[str]) -> bool:
  """Whole numbers that all others are small beside."""
  limit = min(map(int, cells)) / FAR
  below = (cell for row in rows_of(sheet, 1) for cell in row[-len(cells) :] if not is_missing(cell))
  return all(not is_text(cell) and abs(value_of(cell)) <= limit for cell in below)


def _rise(cells: list[str]) -> bool:
  return all(int(a) < int(b) for a, b in pairwise(cells))


def _are_steps(sheet: Sheet, cells: list[str]) -> bool:
  """Years or wavelengths above columns, perhaps: numbers that grow evenly, above others that do not."""
  return _grow_evenly(cells) and not _grow_evenly(cells_of(sheet, 1)[-len(cells) :])


def _grow_evenly(cells: list[str]) -> bool:
  if len(cells) < FEWEST_STEPS or not all(map(is_number, cells)):
    return False
  steps = np.diff([float(cell) for cell in cells])
  return bool(steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-9))


def _counts_lines(sheet: Sheet) -> bool:
  """The first line says how many lines follow, and perhaps that they have two columns."""
  below = len(sheet.lines) - 1
  return below > 1 and sheet.first_row in ([str(below)], [str(below), "2"])


def quotes_first_line(sheet: Sheet) -> bool:
  """Whether the first line holds names in quotation marks, and numbers below it have none, as R writes."""
  first, *rest = (QUOTED.sub("", line) for line in sheet.lines)
  if any(map(str.isalnum, first)) or not any(any(map(str.isdigit, line)) for line in rest):
    return False
  corner, *names = sheet.first_row
  if corner == "" and names:  # as R writes it above the names of rows
    return all(_is_quoted_name(cell, odd=True) for cell in names)
  return all(_is_quoted_name(cell) for cell in sheet.first_row)


def _is_quoted_name(cell: str, odd: bool = False) -> bool:
  """A name, or a number such as a year; an ``odd`` name, such as 50%, must not look like thousands."""
  if is_number(cell):
    return any(map(str.isdigit, cell))  # it is not infinite
  return (is_label(cell) and ("," not in cell or any(map(str.isalpha, cell)))) if odd else is_name(cell)
