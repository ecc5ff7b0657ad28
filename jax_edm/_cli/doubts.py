"""Signs that a line or a column of a table is not what it looks like."""

import numpy as np

from jax_edm._cli import tables
from jax_edm._cli.tables import Sheet

THOUSANDS = 4  # cells of digits and one comma, before the last three digits
FEWEST_STEPS = 3  # columns whose names may be steps: two numbers always are


def counts_lines(sheet: Sheet) -> bool:
  """The first line says how many lines follow, and perhaps how many columns they have."""
  cells, below = sheet.first_row, len(sheet.lines) - 1
  return (
    below > 1 and cells in ([str(below)], [str(below), str(sheet.widths[1])]) and len(cells) in (1, sheet.widths[1])
  )


def are_steps(sheet: Sheet, cells: list[str]) -> bool:
  """Years or wavelengths above columns, perhaps: numbers that grow evenly, above others that do not."""
  return _grow_evenly(cells) and not _grow_evenly(tables.cells_of(sheet, 1)[-len(cells) :])


def _grow_evenly(cells: list[str]) -> bool:
  if len(cells) < FEWEST_STEPS or not all(map(tables.is_number, cells)):
    return False
  steps = np.diff([float(cell) for cell in cells])
  return bool(steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-9))


def is_second_index(sheet: Sheet, header: bool) -> bool:
  """A column X that counts, beside an index without a name: R reads an index as one, and writes another beside it."""
  if sheet.first_row[:2] != ["", "X"]:
    return False
  return tables.counts([tables.cells_of(sheet, k)[1] for k in range(header, len(sheet.lines))])


def has_thousands(sheet: Sheet) -> bool:
  """A single column with commas before three digits alone: of thousands, as spreadsheets quote them, or of decimals."""
  cells = [cell for line in sheet.lines for cell in [line.strip('" ')] if "," in cell]
  groups = [cell.lstrip("-+").split(",") for cell in cells]
  return bool(groups) and all(
    len(g) == 2 and g[0].isdigit() and len(g[0]) < THOUSANDS and g[0][0] != "0" and g[1].isdigit() and len(g[1]) == 3
    for g in groups
  )
