"""Commas, points and blanks that may separate, or stand before thousands or decimals."""

import re

import numpy as np

from jax_edm._cli.cells import DECIMAL_COMMA, FEWEST_COUNTED, NUMBER, WHOLE, counts, is_missing
from jax_edm._cli.errors import unclear
from jax_edm._cli.tables import QUOTED, Sheet, rows_of

THOUSANDS = {
  mark: re.compile(rf"[-+]?[1-9][0-9]{{0,2}}[{mark}][0-9]{{3}}") for mark in ".,"
}  # or decimals of three digits
BELOW_THOUSAND = re.compile(r"[-+]?[1-9][0-9]{0,2}")
GROUPS = re.compile(r"[-+]?[1-9]\d{0,2} \d{3}\b")  # 5 123, or two columns
ZEROS = re.compile(r"(?<![^ ])[-+]?[1-9]\d{0,2} 0\d{2}\b")  # a number of its own does not begin with 0
NUMBER_AT_END = re.compile(r".*[ ;\t][-+]?\d+,\d+\s*")  # of a line, behind what may separate it from a label


def check_decimal_commas(sheet: Sheet, header: bool) -> None:
  """Commas may stand before thousands, but beside semicolons; in one column, they may also separate."""
  if sheet.decimal != ",":
    return
  quoted = [k for k, line in enumerate(sheet.lines) if k >= header and '"' in line]
  if sheet.separator != ";" or any(_is_decimal_comma(cell) for k in quoted for cell in QUOTED.findall(sheet.lines[k])):
    _check_all_thousands(sheet, header)
  numbers = [k for k, line in enumerate(sheet.lines) if k >= header and "," not in line and not is_missing(line)]
  doubtful = [0] if header and " " in sheet.lines[0] else [] if header else numbers
  if doubtful and not quoted and max(sheet.widths) == 1:  # a comma is missing, or two words stand above
    got = f"{sheet.lines[doubtful[0]][:40]!r} in line {sheet.numbers[doubtful[0]]}, and commas in others"
    advice = "Write sep=, above the table if they separate, else decimals everywhere, and one word above them"
    raise unclear(sheet.path, "commas separate or stand before decimals", got, advice)


def check_labels_end_with_no_number(sheet: Sheet, header: bool) -> None:
  """Commas that separate one coordinate from labels may stand before its decimals: "New York 2,5", "a;1,5"."""
  if sheet.separator != "," or sheet.declared or sheet.widths[-1] != 2 or (header and sheet.widths[0] == 2):
    return  # two names say that there are two columns
  if all(map(NUMBER_AT_END.fullmatch, sheet.lines[header:])):
    got = f"{sheet.lines[header][:40]!r} in line {sheet.numbers[header]}"
    advice = "Write sep=, above the table if they separate, and decimal points if they do not"
    raise unclear(sheet.path, "commas separate or stand before decimals", got, advice)


def check_blanks(sheet: Sheet, header: bool) -> None:
  """Blanks that separate may stand before thousands, or around empty entries."""
  if sheet.separator == " ":
    _check_no_groups(sheet, header)
    _check_no_empty_entries(sheet)


def _check_no_groups(sheet: Sheet, header: bool) -> None:
  """Numbers like 5 123 below too few names, and like 5 000 anywhere."""
  lines = [QUOTED.sub("", line) for line in sheet.lines[header:]]
  groups = [k for k, line in enumerate(lines) if ZEROS.search(line)]
  counted = len(lines) >= FEWEST_COUNTED and counts(sheet.first_column[header:])
  no_corner = sheet.widths[0] < sheet.widths[-1] and not sheet.padded[0].startswith(" ")  # pandas writes one
  if no_corner and not counted and all(map(GROUPS.match, lines)):
    groups = [0]
  if groups:
    got = f"{lines[groups[0]][:40]!r} in line {sheet.numbers[header + groups[0]]}"
    advice = "Write no blank inside a number, or separate by commas"
    raise unclear(sheet.path, "blanks separate or stand before thousands", got, advice)


def _check_no_empty_entries(sheet: Sheet) -> None:
  """Two blanks may have an entry between them, if every line has as many blanks and nothing is aligned."""
  lines = [QUOTED.sub("-", line) for line in sheet.padded]
  if _are_aligned(lines):
    return
  if lines[0].count(" ") == lines[-1].count(" ") - 1:
    lines[0] = f" {lines[0]}"  # R writes no corner
  if len({line.count(" ") for line in lines}) > 1:
    return
  empty = np.array([[cell == "" for cell in line.split(" ")] for line in lines])
  empty[0, 0] = empty[1:, 0].all()
  if (some := (empty & ~empty.all(0)).any(1)).any():
    k = int(np.argmax(some))
    got = f"{sheet.padded[k][:40]!r} in line {sheet.numbers[k]}"
    advice = "Write NA where one is missing, or separate by commas"
    raise unclear(sheet.path, "blanks stand around an empty entry", got, advice)


def _are_aligned(lines: list[str]) -> bool:
  """Whether the entries of every line begin, or end, at the same places."""
  return any(
    len({tuple(place.start() for place in re.finditer(edge, line)) for line in lines}) == 1
    for edge in (r"(?<![^ ])[^ ]", r"[^ ](?![^ ])")
  )


def check_thousands(sheet: Sheet, header: bool, columns: int) -> None:
  """1.234 beside 912, or 1,234: a mark in all numbers from 1000 on, perhaps, and in none below.

  The first ``columns`` hold labels.
  """
  rows = zip(sheet.lines[header:], sheet.widths[header:], strict=True)
  full = all(line.count(sheet.decimal) == width for line, width in rows)
  if full and not columns:  # a mark in every number, as NumPy writes: there is nothing to compare
    return
  marked = plain = None
  for k, row in enumerate(rows_of(sheet, header), header):
    for cell in row[columns:]:
      if THOUSANDS[sheet.decimal].fullmatch(cell):
        marked = marked or (k, cell)
      elif BELOW_THOUSAND.fullmatch(cell):
        plain = plain or cell
      elif NUMBER.fullmatch(cell) and not WHOLE.fullmatch(cell):
        return  # a number with other decimals
  if marked and plain:
    what = f"{'commas' if sheet.decimal == ',' else 'points'} stand before thousands or decimals"
    got = f"{marked[1]} in line {sheet.numbers[marked[0]]}, and {plain} without one"
    advice = f"Write nothing before thousands, or {plain}{sheet.decimal}0 for {plain} if they stand before decimals"
    raise unclear(sheet.path, what, got, advice)


def _check_all_thousands(sheet: Sheet, header: bool) -> None:
  cells = [(k, cell) for k, row in enumerate(rows_of(sheet, header), header) for cell in row if _is_decimal_comma(cell)]
  if cells and all(THOUSANDS[","].fullmatch(cell) for _, cell in cells):
    k = cells[0][0]
    got = f"{sheet.lines[k][:40]!r} in line {sheet.numbers[k]}"
    raise unclear(sheet.path, "commas stand before thousands or decimals", got, "Write decimal points, or no commas")


def _is_decimal_comma(cell: str) -> bool:
  return re.fullmatch(DECIMAL_COMMA, cell.strip('" ')) is not None
