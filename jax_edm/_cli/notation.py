"""Commas, points and blanks that may separate, or stand before thousands or decimals."""

import re

import numpy as np

from jax_edm._cli.cells import DECIMAL_COMMA, FEWEST_COUNTED, MISSING, NUMBER, WHOLE, counts, is_missing, is_text
from jax_edm._cli.columns import is_index_name
from jax_edm._cli.errors import unclear
from jax_edm._cli.tables import ALONE, QUOTED, Sheet, rows_of

THOUSANDS = {
  mark: re.compile(rf"[-+]?[1-9][0-9]{{0,2}}[{mark}][0-9]{{3}}") for mark in ".,"
}  # or decimals of three digits
BELOW_THOUSAND = re.compile(r"[-+]?[1-9][0-9]{0,2}")
GROUPS = re.compile(r"[-+]?[1-9]\d{0,2} \d{3}\b")  # 5 123, or two columns
NEGATIVE_ZERO = re.compile(r"(?<![^, ])-0, *\d+(?![^, ])")
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", " ": "blanks"}  # of separators
ZEROS = re.compile(r"(?<![^ ])[-+]?[1-9]\d{0,2} 0\d{2}\b")  # a number of its own does not begin with 0
NUMBER_AT_END = re.compile(r".*[ ;\t][-+]?\d+,\d+\s*")  # of a line, behind what may separate it from a label
MARK = re.compile(r"[ \t:=;,|]")  # that may separate a label from a coordinate
PLAIN = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?"
# of a label: numbers, or words for missing ones, each behind a mark, and perhaps a mark that nothing follows
NUMBERS_BEHIND = re.compile(
  rf"(?:[ \t:=;,|]+(?:{PLAIN}|{'|'.join(filter(None, MISSING))}))*[ \t]*[:=;,|]*", re.IGNORECASE
)
LONGEST_END = 100  # characters at the end of a label in which coordinates are looked for
NUMBER_OF_LABEL = re.compile(r" +\d+")  # Site 1


def check_decimal_commas(sheet: Sheet, header: bool) -> None:
  """Commas may stand before thousands, but beside semicolons; in one column, they may also separate."""
  if sheet.decimal != ",":
    return
  quoted = [k for k, line in enumerate(sheet.lines) if k >= header and '"' in line]
  if sheet.separator != ";" or any(_is_decimal_comma(cell) for k in quoted for cell in QUOTED.findall(sheet.lines[k])):
    _check_all_thousands(sheet, header)
  numbers = [k for k, line in enumerate(sheet.lines) if k >= header and "," not in line and not is_missing(line)]
  doubtful = [0] if header and " " in QUOTED.sub("", sheet.lines[0]) else [] if header else numbers
  if doubtful and not quoted and max(sheet.widths) == 1:  # a comma is missing, or two words stand above
    got = f"{sheet.lines[doubtful[0]][:40]!r} in line {sheet.numbers[doubtful[0]]}, and commas in others"
    advice = "Write sep=, above the table if they separate, else decimals everywhere, and one word above them"
    raise unclear(sheet.path, "commas separate or stand before decimals", got, advice)


def check_ends_of_labels(sheet: Sheet, header: bool) -> None:
  """Numbers at the ends of labels may be coordinates, or stand before the decimals of one."""
  if sheet.declared:
    return
  one_number = sheet.separator == "," and sheet.widths[-1] == 2 and not (header and sheet.widths[0] == 2)
  if one_number and all(map(NUMBER_AT_END.fullmatch, sheet.lines[header:])):  # "New York 2,5", "a;1,5"
    got = f"{sheet.lines[header][:40]!r} in line {sheet.numbers[header]}"
    advice = "Write sep=, above the table if they separate, and decimal points if they do not"
    raise unclear(sheet.path, "commas separate or stand before decimals", got, advice)
  _check_no_coordinates_in_labels(sheet, header)


def _check_no_coordinates_in_labels(sheet: Sheet, header: bool) -> None:
  """The first coordinate is a part of the label if another mark stands between the two: "Paris 48.85, 2.35"."""
  named = header and sheet.widths[0] == sheet.widths[-1]
  if named and is_index_name(sheet.first_row[0]):  # it says that the labels are one column
    return
  rows = zip(sheet.lines[header:], sheet.first_column[header:], strict=True)
  unquoted = [(line, label) for line, label in rows if is_text(label) and not line.startswith('"')]
  labels = [label for line, label in unquoted if not _is_blank_behind(sheet, line, label)]
  ends = [_numbers_behind(label) for label in labels]
  cut = named and not sheet.lines[0].startswith('"') and MARK.search(sheet.first_row[0])
  if not all(ends) or not any(map(str.isdigit, "".join(ends))):
    return
  if cut or not all(map(NUMBER_OF_LABEL.fullmatch, ends)):
    got = f"{labels[0][:40]!r} in line {sheet.numbers[sheet.first_column.index(labels[0], header)]}"
    advice = "Separate labels and coordinates by one mark everywhere, or write quotation marks around the labels"
    raise unclear(sheet.path, "the labels end with a coordinate", got, advice)


def _numbers_behind(label: str) -> str:
  """The end of a label that may be coordinates, with the marks before them."""
  return next((label[k:] for k in _marks(label) if NUMBERS_BEHIND.fullmatch(label, k)), "")


def _marks(label: str) -> list[int]:
  return [mark.start() for mark in MARK.finditer(label, max(1, len(label) - LONGEST_END))]


def _is_blank_behind(sheet: Sheet, line: str, label: str) -> bool:
  """Whether the coordinate at the end of a label is missing, as in "Paris , 2.35"."""
  return sheet.separator != " " and line[len(label) :].startswith(" ") and not _numbers_behind(label)


def check_names(sheet: Sheet, header: bool) -> None:
  """A separator may stand inside a name: "x (m, local)"."""
  if not header or sheet.declared:
    return
  depths = [sum(map(name.count, "([{")) - sum(map(name.count, ")]}")) for name in sheet.first_row]
  opened = next((k for k, depth in enumerate(depths) if depth > 0), len(depths))
  closed = next((k for k in range(opened, len(depths)) if depths[k] < 0), None)
  if closed is not None:
    got = f"{sheet.first_row[opened][:40]!r} and {sheet.first_row[closed][:40]!r} in line {sheet.numbers[0]}"
    advice = f"Write quotation marks around a name that holds {NAMES[sheet.separator]}"
    raise unclear(sheet.path, f"{NAMES[sheet.separator]} separate or stand inside a name", got, advice)


def check_no_negative_zeros(sheet: Sheet, header: bool) -> None:
  """The comma of -0,54 stands before decimals, unless a program wrote -0."""
  if sheet.separator != "," or sheet.declared:
    return
  wrong = [k for k, line in enumerate(sheet.lines) if k >= header and NEGATIVE_ZERO.search(line)]
  if wrong and not any("." in line for line in sheet.lines[header:]):
    got = f"{sheet.lines[wrong[0]][:40]!r} in line {sheet.numbers[wrong[0]]}"
    advice = "Write 0 for -0 if they separate, and decimal points if they do not"
    raise unclear(sheet.path, "commas separate or stand before decimals", got, advice)


def check_blanks(sheet: Sheet, header: bool) -> None:
  """Blanks that separate may stand before thousands, or around empty entries."""
  if sheet.separator == " ":
    _check_no_groups(sheet, header)
  if sheet.separator in (" ", ALONE):  # one entry in each line, perhaps of a matrix
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
