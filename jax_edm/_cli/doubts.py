"""Signs that a line or a column of a table is not what it looks like."""

from itertools import chain, pairwise

import numpy as np

from jax_edm._cli.cells import counts, is_label, is_missing, is_number
from jax_edm._cli.errors import unclear
from jax_edm._cli.tables import Sheet, cells_of

SMALLEST_SQUARE = 3  # that may be a matrix of two points with labels
SMALLEST_CORNER = 4  # the same, with a 0 in the corner: distances of three points may well rise


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


def check_corner(sheet: Sheet, values: np.ndarray) -> None:
  """Whole numbers that rise from a 0 in the corner may be labels, if they are no likely distances."""
  row, inner = values[0, 1:], values[1:, 1:]
  if len(values) < SMALLEST_CORNER or values[0, 0] != 0 or not np.isfinite(row).all() or np.diag(inner).any():
    return
  rises = (np.diff(row) > 0).all() and (row == np.floor(row)).all() and np.array_equal(row, values[1:, 0])
  if not rises:
    return
  counted = (np.diff(row) == 1).all() and (inner != np.abs(np.subtract.outer(row, row))).any()  # on no line
  if counted or row[0] > np.fmax.reduce(inner, axis=None):  # farther away than all others are from each other
    got = f"{', '.join(sheet.first_row[:3])}, ... in both"
    advice = "Write label in the corner if they are, or nan if they are distances"
    raise unclear(sheet.path, "the first row and column are labels", got, advice)


def _is_nothing(cell: str) -> bool:
  """What stands on a diagonal: 0, or a missing distance."""
  number = cell.replace(",", ".")
  return is_missing(cell) or (is_number(number) and float(number) == 0)
