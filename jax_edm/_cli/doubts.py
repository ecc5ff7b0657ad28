"""Signs that a line or a column of a table is not what it looks like."""

import re
from itertools import chain, pairwise

import numpy as np

from jax_edm._cli.errors import unclear
from jax_edm._cli.tables import (
  DECIMAL_COMMA,
  FEWEST_COUNTED,
  QUOTED,
  Sheet,
  cells_of,
  counts,
  is_label,
  is_missing,
  is_name,
  is_number,
)

THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")  # or a decimal comma before three digits
GROUPS = re.compile(r"[-+]?[1-9]\d{0,2} \d{3}\b")  # 5 123, or two columns
ZEROS = re.compile(r"(?<![^ ])[-+]?[1-9]\d{0,2} 0\d{2}\b")  # a number of its own does not begin with 0
NUMBER_AT_END = re.compile(r".*[ ;\t][-+]?\d+,\d+\s*")  # of a line, behind what may separate it from a label
FEWEST_STEPS = 3  # columns whose names may be steps: two numbers always are
SMALLEST_SQUARE = 3  # that may be a matrix of two points with labels


def counts_lines(sheet: Sheet) -> bool:
  """The first line says how many lines follow, and perhaps that they have two columns."""
  below = len(sheet.lines) - 1
  return below > 1 and sheet.first_row in ([str(below)], [str(below), "2"])


def are_steps(sheet: Sheet, cells: list[str]) -> bool:
  """Years or wavelengths above columns, perhaps: numbers that grow evenly, above others that do not."""
  return _grow_evenly(cells) and not _grow_evenly(cells_of(sheet, 1)[-len(cells) :])


def _grow_evenly(cells: list[str]) -> bool:
  if len(cells) < FEWEST_STEPS or not all(map(is_number, cells)):
    return False
  steps = np.diff([float(cell) for cell in cells])
  return bool(steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-9))


def is_second_index(sheet: Sheet) -> bool:
  """A column X that counts, beside an index without a name: R reads an index as one, and writes another beside it."""
  if sheet.first_row[:2] != ["", "X"]:
    return False
  return counts([cells_of(sheet, k)[1] for k in range(1, len(sheet.lines))])


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


def check_no_gaps(sheet: Sheet, header: bool) -> None:
  """A blank line in a single column may be an empty entry, but above its name, and one at its end."""
  above, below = sheet.around
  if max(sheet.widths) > 1:
    return
  for before, after in pairwise([*([] if header else [above]), *sheet.numbers, below]):
    if after != before + 1:
      got = f"one below line {before}" if before else f"one above line {after}"
      advice = "Write NA there if it is, and delete it if it is not"
      raise unclear(sheet.path, "a blank line is a missing entry", got, advice)


def check_decimal_commas(sheet: Sheet, header: bool) -> None:
  """Commas may stand before thousands, but beside semicolons; in one column, they may also separate."""
  if sheet.decimal != ",":
    return
  quoted = [k for k, line in enumerate(sheet.lines) if k >= header and '"' in line]
  if sheet.separator != ";" or any(_is_decimal_comma(cell) for k in quoted for cell in QUOTED.findall(sheet.lines[k])):
    _check_no_thousands(sheet, header)
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


def _check_no_thousands(sheet: Sheet, header: bool) -> None:
  cells = [(k, cell) for k in range(header, len(sheet.lines)) for cell in cells_of(sheet, k) if _is_decimal_comma(cell)]
  if cells and all(THOUSANDS.fullmatch(cell) for _, cell in cells):
    k = cells[0][0]
    got = f"{sheet.lines[k][:40]!r} in line {sheet.numbers[k]}"
    raise unclear(sheet.path, "commas stand before thousands or decimals", got, "Write decimal points, or no commas")


def _is_decimal_comma(cell: str) -> bool:
  return re.fullmatch(DECIMAL_COMMA, cell.strip('" ')) is not None


def check_are_labels(sheet: Sheet, header: bool) -> None:
  """Numbers above or beside a square matrix may be distances, unless they count it and the matrix has no empty end."""
  cells = sheet.first_row if header else sheet.first_column
  numbers = [cell for cell in cells if not (is_label(cell) or is_missing(cell))]
  if not numbers:
    return
  got, advice = f"{', '.join(cells[:3])}, ...", "add what is missing in the other direction"
  if counts(cells) or (len(numbers) < len(cells) and all(map(str.isdigit, numbers))):
    last = cells_of(sheet, len(cells)) if header else (cells_of(sheet, k)[-1] for k in range(len(cells)))
    if not all(map(_is_nothing, chain(last, (cells_of(sheet, k)[k] for k in range(1, len(cells)))))):
      return
    end = "line" if header else "column"
    got, advice = f"{got} and no distances in the last {end}", f"delete that last {end}"
  advice = f"Write a letter before each if they are, else {advice}"
  raise unclear(sheet.path, "a line of its own holds labels", got, advice)


def check_last_line(sheet: Sheet) -> None:
  """A matrix with labels on one side only, and a line of separators alone on the other, is no larger square."""
  n = len(sheet.lines)
  for cells, side, end in ((sheet.first_column, "column", "line"), (sheet.first_row, "line", "column")):
    if n < SMALLEST_SQUARE or cells[-1] != "" or not counts(cells[:-1]):
      continue
    last = cells_of(sheet, n - 1) if end == "line" else (cells_of(sheet, k)[-1] for k in range(n))
    pairs = ((k, k + 1) if end == "line" else (k + 1, k) for k in range(n - 1))  # the diagonal beside the labels
    if not any(last) and all(_is_nothing(cells_of(sheet, i)[j]) for i, j in pairs):
      got = f"{cells[0]}, {cells[1]}, ... and an empty last {end}"
      advice = f"Delete that {end} if it does, else write NA into it"
      raise unclear(sheet.path, f"the first {side} holds labels", got, advice)


def _is_nothing(cell: str) -> bool:
  """What stands on a diagonal: 0, or a missing distance."""
  number = cell.replace(",", ".")
  return is_missing(cell) or (is_number(number) and float(number) == 0)
