"""What stands above and beside coordinates: their names, an index, and a second one."""


def _check_columns(sheet: Sheet, short: bool) -> None:
  """What stands above coordinates: one name each, and none of a second index."""
  names = sheet.first_row
  if wrong := [
    name for name in names[not short :] if name.lower() in INDEX_NAMES or name.lower().startswith(OF_PANDAS)
  ]:
    advice = "Delete that column if it is an index, or give it the name of a coordinate"
    raise error(sheet.path, "the columns beside the first must be coordinates", f"one named {wrong[0]!r}", advice)
  if doubts.is_second_index(sheet):
    advice = "Delete that column if it is an index, or give it the name of a coordinate"
    raise error(sheet.path, "the columns beside the first must be coordinates", "one named 'X' that counts", advice)
  if len(set(names)) < len(names):
    twice = next(name for k, name in enumerate(names) if name in names[:k])
    advice = "Write one line of names that differ, or none"
    raise error(sheet.path, "coordinates must have different names", f"{twice!r} twice", advice)


def is_second_index(sheet: Sheet) -> bool:
  """A column X that counts, beside an index without a name: R reads an index as one, and writes another beside it."""
  if sheet.first_row[:2] != ["", "X"]:
    return False
  return counts([cells_of(sheet, k)[1] for k in range(1, len(sheet.lines))])
