"""Tables of numbers in text files, as pandas, R, NumPy and spreadsheets write them.

A file is read twice: first the shape of its lines and the text around the numbers, then, by pandas, the numbers.
"""

import codecs
import csv
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jax_edm._cli.errors import UserError, error

MISSING = ("", "NA", "N/A", "#N/A", "n/a", "<NA>", "nan", "NaN", "NAN", "-nan", "None", "none", "NULL", "null")
DECIMAL_COMMA = r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?"
NUMBER = re.compile(rf"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|{DECIMAL_COMMA}|[-+]?inf(inity)?", re.IGNORECASE)
QUOTED = re.compile(r'"[^"]*"')
ROWS = "Leave an entry empty, or write NA, where there is none"


class Sheet(NamedTuple):
  """The lines of a text file that are not blank, and what stands around the numbers."""

  path: Path
  lines: list[str]
  numbers: list[int]  # of the lines, in the file
  separator: str
  decimal: str
  widths: list[int]  # the number of cells of each line
  first_row: list[str]
  first_column: list[str]


def read_sheet(path: Path) -> Sheet:
  numbered = [(k, line) for k, line in enumerate(re.split(r"\r\n|\r|\n", _text(path)), 1) if line.strip(" ")]
  if numbered and numbered[0][1].startswith("# "):  # the header of numpy.savetxt
    numbered = numbered[1:]
  if not numbered:
    raise _no_numbers(path)
  numbers, lines = [k for k, _ in numbered], [line for _, line in numbered]
  unquoted = [QUOTED.sub("", line) for line in lines]
  separator = _separator(unquoted)
  if separator == " ":
    lines = [" ".join(line.split()) for line in lines]
  if all(line.endswith(separator) for line in unquoted) and _is_one_too_wide(unquoted, separator):
    lines = [line.rstrip(" ").removesuffix(separator) for line in lines]
  decimal = "," if separator != "," and _has_decimal_commas(unquoted, separator) else "."
  widths: list[int] = []
  first_row: list[str] = []
  first_column: list[str] = []
  try:
    for cells in csv.reader(lines, delimiter=separator):
      first_row = first_row or [cell.strip() for cell in cells]
      first_column.append(cells[0].strip() if cells else "")
      widths.append(len(cells))
  except csv.Error as problem:
    raise error(path, "the file must be a table of text", str(problem), "Export it as CSV") from problem
  if len(widths) != len(lines):
    got = f"a line break between quotation marks, from line {numbers[len(widths) - 1]} on"
    raise error(path, "every row must be one line", got, "Close the quotation marks, or shorten that label")
  return Sheet(path, lines, numbers, separator, decimal, widths, first_row, first_column)


def read_numbers(sheet: Sheet, header: bool, index: bool) -> np.ndarray:
  """The cells below the header and right of the index, float64, NaN where missing; short lines end with NaN."""
  if len(sheet.lines) == header:
    raise _no_numbers(sheet.path)
  names = range(max(sheet.widths[header:]))
  text = io.StringIO("\n".join(sheet.lines[header:]))
  options: dict[str, Any] = {"sep": sheet.separator, "decimal": sheet.decimal, "names": names, "usecols": names[index:]}
  options |= {"keep_default_na": False, "na_values": MISSING, "skip_blank_lines": False, "skipinitialspace": True}
  try:
    return pd.read_csv(text, header=None, index_col=False, dtype=np.float64, **options).to_numpy()
  except ValueError as problem:
    raise _not_a_number(sheet, header, index, problem) from problem


def is_missing(cell: str) -> bool:
  return cell in MISSING


def is_text(cell: str) -> bool:
  return not is_missing(cell) and NUMBER.fullmatch(cell) is None


def counts(cells: list[str]) -> bool:
  """0, 1, 2, ... or 1, 2, 3, ..., as an index that nobody chose."""
  return any(cells == [str(k) for k in range(first, first + len(cells))] for first in (0, 1))


def ragged(sheet: Sheet, header: bool, advice: str = ROWS) -> UserError:
  widths, numbers = sheet.widths[header:], sheet.numbers[header:]
  other = next(k for k, width in enumerate(widths) if width != widths[0])
  got = f"{widths[0]} in line {numbers[0]} and {widths[other]} in line {numbers[other]}"
  return error(sheet.path, "all rows must have the same number of entries", got, advice)


def _no_numbers(path: Path) -> UserError:
  return error(path, "the file must hold a matrix", "no numbers", "Write one line of numbers for each row")


def _text(path: Path) -> str:
  data = path.read_bytes()
  utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
  try:
    text = data.decode("utf-16" if utf16 else "utf-8-sig")
  except UnicodeDecodeError as problem:
    got = f"the byte {data[problem.start]:#04x} at position {problem.start}"
    raise error(path, "the file must be text, in UTF-8 or UTF-16", got, "Save it as CSV in UTF-8") from problem
  if "\0" in text:
    got = "a NUL character"
    raise error(path, "the file must be text, in UTF-8 or UTF-16 with its byte order mark", got, "Save it as UTF-8")
  return text


def _separator(unquoted: list[str]) -> str:
  """Semicolons and tabs separate; commas too, unless they are decimal commas between spaces."""
  for candidate in ";\t":
    if 2 * sum(candidate in line for line in unquoted) >= len(unquoted):
      return candidate
  longest = max(unquoted[1:] or unquoted, key=len)  # not a header
  first, *others = longest.split() or [""]
  spaced = bool(others) and not first.endswith(",") and not any(map(is_text, others))
  return "," if any("," in line for line in unquoted) and not spaced else " "


def _is_one_too_wide(unquoted: list[str], separator: str) -> bool:
  """Whether every line ends with a separator too many, as some spreadsheets write; a last column may be empty, too."""
  return separator in ",;" and unquoted[0].count(separator) >= len(unquoted)


def _has_decimal_commas(unquoted: list[str], separator: str) -> bool:
  cell = re.compile(rf"(?:^|{separator})\s*{DECIMAL_COMMA}\s*(?:{separator}|$)")
  return any("," in line and cell.search(line) for line in unquoted)


def _not_a_number(sheet: Sheet, header: bool, index: bool, problem: ValueError) -> UserError:
  for number, cells in zip(sheet.numbers, csv.reader(sheet.lines, delimiter=sheet.separator), strict=True):
    for cell in map(str.strip, cells[index:] if number > sheet.numbers[0] or not header else []):
      wrong_decimal = (",", ".")[sheet.decimal == ","]
      if is_text(cell) or (wrong_decimal in cell and not is_missing(cell)):
        advice = f"Write {'a comma' if sheet.decimal == ',' else 'a point'} before decimals, nothing between "
        advice += "thousands, and NA where an entry is missing"
        return error(sheet.path, "entries must be numbers", f"{cell[:40]!r} in line {number}", advice)
  return error(sheet.path, "entries must be numbers", str(problem).splitlines()[0], "Remove what is no number")
