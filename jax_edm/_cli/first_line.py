"""The first line of points: names of columns, or a point."""


def _has_header(sheet: Sheet) -> bool:
  """Whether the first line names the columns; 0, 1, ... may be the columns of a DataFrame, or a point."""
  corner, *names = sheet.first_row
  if doubts.quotes_first_line(sheet):
    return True
  named, counted = corner.lower() in INDEX_NAMES, bool(names) and counts(names)
  if named and (counted or any(map(is_name, names))):  # as pandas and R write
    return True
  labelled = named and bool(names) and (corner != "" or any(map(is_label, sheet.first_column[1:])))
  counting = counts(sheet.first_row) or (counted and is_text(corner))
  years = is_text(corner) and _are_whole_above_fractions(sheet, names)
  steps = doubts.are_steps(sheet, names if is_text(corner) else sheet.first_row)
  above_one = counting and "0" in sheet.first_row  # pandas counts from 0, also above one point
  if labelled or above_one or ((counting or years or steps) and len(sheet.lines) > 2):
    numbers = [cell for cell in sheet.first_row if not (is_text(cell) or is_missing(cell))]
    of_point = f"write {numbers[0]}.0 for {numbers[0]}" if numbers and not labelled else "write its label"
    raise _unclear_first_line(sheet, f"Delete it if it is a header, or {of_point} if it is a point")
  if doubts.counts_lines(sheet):
    raise _unclear_first_line(sheet, "Delete it if it says how many follow, or write decimals if it is a point")
  return _are_names(sheet, names if named and names else sheet.first_row)


def _are_whole_above_fractions(sheet: Sheet, names: list[str]) -> bool:
  """Years above coordinates, perhaps."""
  below = tables.cells_of(sheet, 1)[1:]
  return bool(names) and all(map(str.isdigit, names)) and tables.are_fractions(below)


def _are_names(sheet: Sheet, cells: list[str]) -> bool:
  """Whether the cells of the first line are nothing but names of columns."""
  if all(map(is_name, cells)):
    return True
  if all(map(is_text, cells)):
    raise _unclear_first_line(sheet, "Delete it if it is a header, or write its numbers as the others are written")
  return False


def _unclear_first_line(sheet: Sheet, advice: str) -> UserError:
  row = sheet.first_row
  got = f"{', '.join(cell[:40] for cell in row[:3])}{', ...' if len(row) > 3 else ''}"
  return unclear(sheet.path, "the first line is a point", got, advice)


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
