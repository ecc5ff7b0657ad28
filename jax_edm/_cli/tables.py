"""Tables of numbers in text files, as pandas, R, NumPy and spreadsheets write them.

A file is read with every separator that it may have: first the shape of its lines and the text around the numbers,
then, by pandas, the numbers. A file that holds numbers with two separators is refused.
"""

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from jax_edm._cli.cells import BOOLEANS, DECIMAL_COMMA, MISSING, NUMBER, is_label, is_missing, is_text
from jax_edm._cli.errors import ShapeError, UnclearError, UserError, error, unclear

BOOLEAN = re.compile(r"\b(true|false)\b", re.IGNORECASE)
QUOTED = re.compile(r'"[^"]*"')
PADDED = re.compile(r" *([;,\t]) *")
SEPARATORS = ";\t ,"  # the most likely one first
ALONE = "\x1f"  # in no file: every line is one cell
DECLARED = re.compile(r'"?sep=([;,\t]|\\t)"?')  # a first line that says what the separator is, as Excel reads it
ROWS = "Leave an entry empty, or write NA, where there is none"


T = TypeVar("T")


class Lines(NamedTuple):
  """The lines of a text file that are not blank."""

  path: Path
  lines: list[str]
  numbers: list[int]  # of the lines, in the file
  around: tuple[int, int]  # what would be the number of a line above the first, and of one below the last
  padded: list[str]  # the lines with the blanks at their ends
  unquoted: list[str]  # the lines without what stands in quotation marks, but for numbers with decimal commas
  separators: list[str]  # that the file may have
  declared: bool  # its first line says which


class Sheet(NamedTuple):
  """The cells of a text file for one separator: how many, and what stands around the numbers."""

  path: Path
  lines: list[str]
  numbers: list[int]
  around: tuple[int, int]
  padded: list[str]
  separator: str
  declared: bool
  decimal: str
  widths: list[int]  # the number of cells of each line
  first_row: list[str]
  first_column: list[str]


def read(path: Path, interpret: Callable[[Sheet], T]) -> T:
  """What ``interpret`` makes of the file, with the only separator with which it makes something of it."""
  text = _lines(path)
  readings: dict[str, T | UserError] = {}
  mistakes: dict[str, UserError] = {}
  for separator in text.separators:
    try:
      readings[separator] = _reading(_sheet(text, separator), interpret)
    except UserError as mistake:
      mistakes[separator] = mistake
      if isinstance(mistake, ShapeError):
        readings[separator] = mistake
  if all(isinstance(reading, ShapeError) for reading in readings.values()):
    raise max(mistakes.items(), key=lambda item: sum(item[0] in line for line in text.unquoted))[1]
  # A table of another shape counts as a reading beside one that has a less likely separator.
  while isinstance([*readings.values()][-1], ShapeError):
    readings.popitem()
  if len(readings) > 1:  # two ways to find numbers differ in what a comma is
    k = next((k for k, line in enumerate(text.unquoted) if "," in line), 0)
    advice = "Write sep=, above the table if they separate, and decimal points if they do not"
    got = f"{text.lines[k][:40]!r} in line {text.numbers[k]}"
    raise unclear(path, "commas separate or stand before decimals", got, advice)
  [reading] = readings.values()
  if isinstance(reading, UserError):
    raise reading
  return reading


def _reading(sheet: Sheet, interpret: Callable[[Sheet], T]) -> T | UserError:
  try:
    return interpret(sheet)
  except UnclearError as question:
    read_numbers(sheet, len(sheet.lines) > 1, sheet.widths[-1] > 1)  # a question about what is no table is a mistake
    return question


def _lines(path: Path) -> Lines:
  every = re.split(r"\r\n|\r|\n", _text(path))
  full = [(k, line) for k, line in enumerate(every, 1) if line.strip(" ")]
  numbered = [(k, line.strip(" ")) for k, line in full]
  declared = DECLARED.fullmatch(numbered[0][1]) if numbered else None
  first, second = [line for _, line in [*numbered, (0, ""), (0, "")][:2]]
  comment = first.startswith("# ") and not second.startswith("#")  # the header of numpy.savetxt
  if comment:
    _check_comment(path, first, second)
  above = numbered[0][0] if declared or comment else 0
  numbered = numbered[bool(above) :]
  if not numbered:
    raise _no_numbers(path)
  lines = [line for _, line in numbered]
  unquoted = [QUOTED.sub(_number_or_nothing, line) if '"' in line else line for line in lines]
  separators = [declared[1].replace(r"\t", "\t")] if declared else _separators(unquoted)
  below = max(numbered[-1][0] + 1, len(every) - (every[-1] == ""))  # one blank line at the end is none
  padded = [line for _, line in full[bool(above) :]]
  return Lines(path, lines, [k for k, _ in numbered], (above, below), padded, unquoted, separators, bool(declared))


def _check_comment(path: Path, comment: str, line: str) -> None:
  """A comment above labelled points may be the first of them."""
  for separator in SEPARATORS:
    name, *numbers = (cell.strip() for cell in comment[2:].split(separator))
    label, *below = (cell.strip() for cell in line.split(separator))
    labelled = is_label(label) or (is_missing(label) and is_label(name))
    if labelled and len(numbers) == len(below) and any(numbers) and not any(map(is_text, numbers + below)):
      advice = "Delete it if it is a comment, or its # if it is a point"
      raise unclear(path, "the first line is a point", repr(comment[:40]), advice)


def _number_or_nothing(quoted: re.Match[str]) -> str:
  cell = quoted[0].strip('" ')
  return cell if re.fullmatch(DECIMAL_COMMA, cell) else ""


def _separators(unquoted: list[str]) -> list[str]:
  """The separators of the first line, or of all lines if it is the single name of a column or a single number."""
  first = PADDED.sub(r"\1", unquoted[0])  # a blank beside a separator does not separate
  of_first = [separator for separator in SEPARATORS if separator in first]
  if of_first and of_first != [" "] and not NUMBER.fullmatch(unquoted[0]):  # a single name may have a blank in it
    return of_first
  return [separator for separator in SEPARATORS if any(separator in line for line in unquoted)] + [ALONE]


def _sheet(text: Lines, separator: str) -> Sheet:
  path, lines, numbers, around, padded, unquoted, _, declared = text
  decimal = "," if separator != "," and _has_decimal_commas(unquoted, separator) else "."
  widths: list[int] = []
  first_row: list[str] = []
  first_column: list[str] = []
  try:
    for cells in (cells or [""] for cells in _cells(lines, separator)):
      first_row = first_row or [cell.strip() for cell in cells]
      first_column.append(cells[0].strip())
      widths.append(len(cells))
  except csv.Error as problem:
    raise error(
      path, "the file must be a table of text", str(problem), "Close all quotation marks, or export it as CSV"
    ) from problem
  if len(widths) != len(lines):
    got = f"a line break between quotation marks, from line {numbers[len(widths) - 1]} on"
    raise error(path, "every row must be one line", got, "Close the quotation marks, or shorten that label")
  return Sheet(path, lines, numbers, around, padded, separator, declared, decimal, widths, first_row, first_column)


def _cells(lines: list[str], separator: str) -> Iterator[list[str]]:
  return csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)


def read_numbers(sheet: Sheet, header: bool, index: bool) -> np.ndarray:
  """The cells below the header and right of the index, float64, NaN where missing; short lines end with NaN."""
  if not any(line.strip(f"{sheet.separator} ") for line in sheet.lines[header:]):
    raise _no_numbers(sheet.path)
  names = range(max(sheet.widths[header:]))
  text = "\n".join(sheet.lines[header:])
  if sheet.separator != " " and f" {sheet.separator}" in text:  # a blank behind NA would make it text
    text = re.sub(f" +(?={sheet.separator})", "", text)
  options: dict[str, Any] = {"sep": sheet.separator, "decimal": sheet.decimal, "names": names, "usecols": names[index:]}
  options |= {"keep_default_na": False, "na_values": MISSING, "skip_blank_lines": False, "skipinitialspace": True}
  try:
    values = pd.read_csv(io.StringIO(text), header=None, index_col=False, dtype=np.float64, **options).to_numpy()
  except ValueError as problem:
    raise _not_a_number(sheet, header, index, "a cell that is none") from problem
  if BOOLEAN.search(text) and _holds_booleans(sheet, header, index):  # pandas makes numbers of them
    raise _not_a_number(sheet, header, index, "True or False")
  return values


def _holds_booleans(sheet: Sheet, header: bool, index: bool) -> bool:
  rows = _cells(sheet.lines[header:], sheet.separator)
  return any(cell.strip().lower() in BOOLEANS for row in rows for cell in row[index:])


def cells_of(sheet: Sheet, k: int) -> list[str]:
  """The cells of one line, the first of which is 0; none if there is no such line."""
  return [cell.strip() for cells in _cells(sheet.lines[k : k + 1], sheet.separator) for cell in cells]


def rows_of(sheet: Sheet, start: int) -> Iterator[list[str]]:
  """The cells of each line from the one with the number ``start`` on."""
  return ([cell.strip() for cell in cells] for cells in _cells(sheet.lines[start:], sheet.separator))


def quotes_first_column(sheet: Sheet, header: bool) -> bool:
  """Whether the first cells are in quotation marks, and the numbers beside them are not."""
  lines = sheet.lines[header:]
  return bool(lines) and all(line.startswith('"') for line in lines) and any(map(str.isdigit, QUOTED.sub("", lines[0])))


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


def _has_decimal_commas(unquoted: list[str], separator: str) -> bool:
  cell = re.compile(rf"(?:^|{separator})\s*{DECIMAL_COMMA}\s*(?:{separator}|$)")
  return any("," in line and cell.search(line) for line in unquoted)


def _not_a_number(sheet: Sheet, header: bool, index: bool, got: str) -> UserError:
  for number, cells in zip(sheet.numbers, _cells(sheet.lines, sheet.separator), strict=True):
    for cell in cells[index:] if number > sheet.numbers[0] or not header else []:
      cell = cell.strip(" \t")  # and no other blanks: a number beside them is none for pandas
      wrong_decimal = (",", ".")[sheet.decimal == ","]
      if is_text(cell) or (wrong_decimal in cell and not is_missing(cell)):
        advice = f"Write {'a comma' if sheet.decimal == ',' else 'a point'} before decimals, nothing between "
        advice += "thousands, and NA where an entry is missing"
        return error(sheet.path, "entries must be numbers", f"{cell[:40]!r} in line {number}", advice)
  return error(sheet.path, "entries must be numbers", got, "Remove what is no number")
