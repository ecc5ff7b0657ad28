"""Signs that a line or a column of a table is not what it looks like."""

import re

import numpy as np

from jax_edm._cli import tables
from jax_edm._cli.tables import Sheet

THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")  # or a decimal comma before three digits
FEWEST_STEPS = 3  # columns whose names may be steps: two numbers always are


def counts_lines(sheet: Sheet) -> bool:
  """The first line says how many lines follow, and perhaps that they have two columns."""
  below = len(sheet.lines) - 1
  return below > 1 and sheet.first_row in ([str(below)], [str(below), "2"])


def are_steps(sheet: Sheet, cells: list[str]) -> bool:
  """Years or wavelengths above columns, perhaps: numbers that grow evenly, above others that do not."""
  return _grow_evenly(cells) and not _grow_evenly(tables.cells_of(sheet, 1)[-len(cells) :])


def _grow_evenly(cells: list[str]) -> bool:
  if len(cells) < FEWEST_STEPS or not all(map(tables.is_number, cells)):
    return False
  steps = np.diff([float(cell) for cell in cells])
  return bool(steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-9))


def is_second_index(sheet: Sheet) -> bool:
  """A column X that counts, beside an index without a name: R reads an index as one, and writes another beside it."""
  if sheet.first_row[:2] != ["", "X"]:
    return False
  return tables.counts([tables.cells_of(sheet, k)[1] for k in range(1, len(sheet.lines))])


def have_thousands(lines: list[str]) -> bool:
  """A single column whose commas may all stand before thousands, as spreadsheets quote them."""
  return all(THOUSANDS.fullmatch(line.strip('" ')) for line in lines if "," in line)
