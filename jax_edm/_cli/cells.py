"""What a cell of a table is: a number, a label, a name, nothing; and cells that count."""

import re

MISSING = ("", "NA", "N/A", "#N/A", "n/a", "<NA>", "nan", "NaN", "NAN", "-nan", "None", "none", "NULL", "null")
DECIMAL_COMMA = r"[-+]?[0-9]+,[0-9]+(?:[eE][-+]?[0-9]+)?"
NUMBER = re.compile(
  rf"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|{DECIMAL_COMMA}|[-+]?inf(inity)?", re.IGNORECASE | re.ASCII
)
WHOLE = re.compile(r"[0-9]+|-[1-9][0-9]*")  # what may be the name of a row that counts
BOOLEANS = {"true", "false"}
NOT_NAMES = {*(word.lower() for word in MISSING), "missing", *BOOLEANS}
FEWEST_COUNTED = 3  # rows whose first entries count them: fewer may well be numbers


def is_missing(cell: str) -> bool:
  return cell in MISSING


def is_text(cell: str) -> bool:
  return not is_missing(cell) and NUMBER.fullmatch(cell) is None


def is_label(cell: str) -> bool:
  """Text that may be a label: not a dash, a question mark or a truth value in the place of a number."""
  return is_text(cell) and any(map(str.isalnum, cell)) and cell.lower() not in BOOLEANS


def is_name(cell: str) -> bool:
  """Text that can only be a name: no number in another notation, and no word for a missing one."""
  return is_text(cell) and (cell[0].isalpha() or cell[0] == "_") and cell.lower() not in NOT_NAMES


def is_same(a: str, b: str) -> bool:
  """Two labels, or two numbers that are equal, such as 1.0 and 1: pandas may write either."""
  return a == b or (is_number(a) and is_number(b) and float(a) == float(b))


def is_number(cell: str) -> bool:
  return NUMBER.fullmatch(cell) is not None and "," not in cell


def value_of(cell: str) -> float:
  """Of a number, with a decimal point or a decimal comma."""
  return float(cell.replace(",", "."))


def are_fractions(cells: list[str]) -> bool:
  """Numbers, and none of them whole, as programs write what is computed."""
  return not any(cell.lstrip("-").isdigit() for cell in cells if not is_missing(cell))


def counts(cells: list[str]) -> bool:
  """0, 1, 2, ... or 1, 2, 3, ..., as an index that nobody chose."""
  return any(cells == [str(k) for k in range(first, first + len(cells))] for first in (0, 1))


def counts_in_another_order(cells: list[str]) -> bool:
  """The same, as sorted or shuffled rows keep it."""
  if not all(cell.isdecimal() for cell in cells):
    return False
  return any(sorted(map(int, cells)) == list(range(first, first + len(cells))) for first in (0, 1))


def counts_as_numbers(cells: list[str]) -> bool:
  """The same in another notation, such as 0.0, 1.0, ... or 001, 002, ..."""
  return any(
    all(NUMBER.fullmatch(cell) and value_of(cell) == k for k, cell in enumerate(cells, first)) for first in (0, 1)
  )
