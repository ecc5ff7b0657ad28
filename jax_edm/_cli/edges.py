"""Edge lists: a table of text with a line for each measured pair, for distances that are too many for a matrix."""

import codecs
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jax_edm._cli import arrays, cells, files
from jax_edm._cli.anchors import Anchors, read_anchors
from jax_edm._cli.errors import UnclearError, UserError, error
from jax_edm._cli.pairs import Pairs, check_dimension, check_enough

COLUMNS = ["i", "j", "distance", "weight"]  # the last one may be missing
EXPECTED = "an edge list must have the columns i, j, distance and perhaps weight"
PEEKED = 4096  # bytes, in which the names of the columns stand


class Edges(NamedTuple):
  """Measured pairs in a ``unit`` in which the squares of their distances fit single precision."""

  pairs: Pairs
  labels: list[str]
  unit: float
  anchors: Anchors | None


class _Table(NamedTuple):
  """The columns of the file, and the line of each row."""

  i: list[str]
  j: list[str]
  values: np.ndarray  # (m,), NaN where not measured
  weights: np.ndarray | None  # (m,), NaN where not measured
  lines: np.ndarray  # (m,)


def is_edge_list(path: Path) -> bool:
  """Whether the names of the columns are those of an edge list. Whoever reads the file says what is wrong with it."""
  if path.suffix.lower() != ".csv" or not path.is_file():
    return False
  try:
    return _names(path) is not None
  except OSError:
    return False


def _names(path: Path) -> list[str] | None:
  """The names of the columns, also those in a comment, if they are those of an edge list."""
  with path.open("rb") as file:
    start = file.read(PEEKED)
  utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
  text = start.decode("utf-16" if utf16 else "utf-8-sig", "ignore")
  first = [line for line in re.split(r"[\r\n]+", text) if line.strip()][:2]  # perhaps below one that says sep=,
  lines = [[cell.strip('" ').lower() for cell in re.split("[;,\t ]", line.removeprefix("#"))] for line in first]
  return next(([name for name in line if name] for line in lines if {"i", "j", "distance"} <= set(line)), None)


def read_edges(path: Path, dim: int, *, squared: bool = False, anchors: Path | None = None) -> Edges:
  """Enough pairs, and connected, to place their points."""
  table = arrays.read_text(path, _table)
  names = _names(path)
  if names != COLUMNS[: 3 + (table.weights is not None)]:  # in a comment: the table has checked those above its columns
    raise error(path, EXPECTED, ", ".join(names or [])[:40], "Write these columns alone, in this order")
  numbers, labels = _numbered(table)
  check_dimension(dim, len(labels), anchors is not None)
  pairs = _pairs(path, table, numbers, labels)
  pairs = pairs._replace(values=np.sqrt(pairs.values)) if squared else pairs
  largest = float(pairs.values.max())
  unit = files.unit_of(largest)
  held = None if anchors is None else read_anchors(anchors, labels, len(labels), dim, unit)
  check_enough(path, pairs, dim, labels, None if held is None else held.fixed)
  files.check_size(path, largest)
  return Edges(pairs._replace(values=pairs.values / unit), labels, unit, held)


def _table(sheet: Any) -> _Table:
  from jax_edm._cli import notation, tables  # here, because only text needs pandas

  names = [name.lower() for name in sheet.first_row]
  header = names[0] == "i" or not set(names).isdisjoint(COLUMNS)  # none below a comment, as numpy.savetxt writes it
  if len(names) not in (3, 4) or (header and names != COLUMNS[: len(names)]):
    raise error(sheet.path, EXPECTED, ", ".join(sheet.first_row)[:40], "Write these columns alone, in this order")
  if len(set(sheet.widths)) > 1:
    raise tables.ragged(sheet, False)
  i, j, *numbers = zip(*tables.rows_of(sheet, 0), strict=True)
  try:
    notation.check_decimal_commas(sheet, header)
    columns = [_column(sheet, list(cells), header) for cells in numbers]
  except UnclearError as question:  # `tables.read` would ask whether labels are numbers
    raise UserError(*question.args) from question
  weights = columns[1] if len(columns) > 1 else None
  return _Table(list(i[header:]), list(j[header:]), columns[0], weights, np.array(sheet.numbers[header:]))


def _column(sheet: Any, cells: list[str], header: bool) -> np.ndarray:
  """Numbers, read as those of a table with one column."""
  from jax_edm._cli import notation, tables

  # An empty last line would be none for pandas.
  lines = [f'"{cell}"' if sheet.separator in cell or not cell else cell for cell in cells]
  alone = sheet._replace(lines=lines, widths=[1] * len(cells), first_row=cells[:1], first_column=cells)
  notation.check_thousands(alone, header, 0)
  return tables.read_numbers(alone, header, False)[:, 0]


def _numbered(table: _Table) -> tuple[np.ndarray, list[str]]:
  """The points of each row as numbers, ``(m, 2)``, and their labels in the order of their first appearance."""
  import pandas as pd

  numbers, labels = pd.factorize(np.array([table.i, table.j], object).T.ravel())
  return numbers.reshape(-1, 2), labels.tolist()


def _pairs(path: Path, table: _Table, numbers: np.ndarray, labels: list[str]) -> Pairs:
  """The measured ones, each of them once."""
  _check_labels(path, table, numbers, labels)
  weights = None if table.weights is None else _weights(path, table, table.weights)
  known = ~np.isnan(table.values) & (True if weights is None else weights > 0)
  if not known.any():
    raise error(path, "some distances must be measured", "none", "NaN and empty entries stand for missing ones")
  _check_none(path, table, table.values, known & ~np.isfinite(table.values), "distances must be finite")
  negative = known & (table.values < -files.NOISE * table.values[known].max())
  _check_none(path, table, table.values, negative, "distances must not be negative")
  i, j = np.sort(numbers[known], 1).T
  pairs = Pairs(len(labels), i, j, np.maximum(table.values[known], 0), None if weights is None else weights[known])
  order = np.argsort(i * len(labels) + j, kind="stable")
  again = np.zeros(len(order), bool)
  again[1:] = (np.diff(i[order]) == 0) & (np.diff(j[order]) == 0)
  _check_twice(path, pairs, labels, order, again, table.lines[known])
  once = np.sort(order[~again])
  w = None if pairs.weights is None else pairs.weights[once]
  return Pairs(pairs.n, i[once], j[once], pairs.values[once], w)


def _weights(path: Path, table: _Table, values: np.ndarray) -> np.ndarray:
  """At most 1, and 0 where missing."""
  weights = np.where(np.isnan(values) | np.isnan(table.values), 0, values)
  _check_none(path, table, values, np.isinf(weights), "weights must be finite")
  _check_none(path, table, values, weights < 0, "weights must not be negative")
  if not weights.any():
    raise error(path, "some weights must be positive", "none beside a distance", "0 stands for a missing distance")
  weights = weights / weights.max()
  expected = f"positive weights must be at least {files.LEAST_WEIGHT:g} of the largest"
  _check_none(path, table, values, (weights > 0) & (weights < files.LEAST_WEIGHT), expected)
  return weights


def _check_none(path: Path, table: _Table, values: np.ndarray, wrong: np.ndarray, expected: str) -> None:
  if wrong.any():
    k = int(np.argmax(wrong))
    got = f"{values[k]:g} in line {table.lines[k]}"
    raise error(path, expected, got, "Correct it, or leave out that line if the distance is missing")


def _check_labels(path: Path, table: _Table, numbers: np.ndarray, labels: list[str]) -> None:
  """Every row has those of two points, and each point has one."""
  if "" in labels:
    k = int(np.argmax((numbers == labels.index("")).any(1)))
    raise error(path, "every pair must have two labels", f"an empty cell in line {table.lines[k]}", "Write the label")
  itself = numbers[:, 0] == numbers[:, 1]
  if itself.any():
    k = int(np.argmax(itself))
    got = f"{table.i[k]!r} twice in line {table.lines[k]}"
    raise error(path, "a pair must be of two points", got, "Leave out that line")
  values = [float(label) for label in labels if cells.is_number(label)]
  if len(set(values)) < len(values):
    twice = next(value for value, count in Counter(values).items() if count > 1)
    a, b, *_ = (label for label in labels if cells.is_number(label) and float(label) == twice)
    raise error(path, "a label must be written in one way", f"{a!r} and {b!r}", "Write one of the two everywhere")


def _check_twice(
  path: Path, pairs: Pairs, labels: list[str], order: np.ndarray, again: np.ndarray, lines: np.ndarray
) -> None:
  """A pair that stands twice has the same distance and the same weight both times."""
  for numbers, what in ((pairs.values, "distances"), (pairs.weights, "weights")):
    if numbers is None:
      continue
    before, after = order[:-1][again[1:]], order[1:][again[1:]]
    differ = np.abs(numbers[before] - numbers[after]) > files.TOLERANCE * numbers.max()
    if differ.any():
      a, b = before[np.argmax(differ)], after[np.argmax(differ)]
      names = f"{labels[pairs.i[a]]!r} and {labels[pairs.j[a]]!r}"
      got = f"{numbers[a]:g} and {numbers[b]:g} for {names} in lines {lines[a]} and {lines[b]}"
      raise error(path, f"a pair must not have two {what}", got, "Average the two, or leave one line out")
