"""Points whose positions are known, from a file of the user."""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jax_edm._cli import arrays, cells
from jax_edm._cli.errors import error
from jax_edm._cli.pairs import named

MISSING = "Leave all its cells empty if its position is not known"


class Anchors(NamedTuple):
  """Positions about their ``centre``, in the unit of the distances."""

  positions: np.ndarray  # (n, dim), float64, NaN for points that are no anchors
  centre: np.ndarray  # (dim,)

  @property
  def fixed(self) -> np.ndarray:
    """Which points are anchors, ``(n,)``."""
    return np.isfinite(self.positions).all(1)


def read_anchors(path: Path, labels: list[str] | None, n: int, dim: int, unit: float) -> Anchors:
  """A table with the label of each anchor, or without labels one row for each point, empty if it is none."""
  values, own = arrays.read(path, lambda sheet: _table(sheet, labels is not None, dim))
  if values.shape[1] != dim:
    got = f"{values.shape[1]}{' beside the label' if own else ''}"
    raise error(path, f"anchors must have {dim} coordinates, as --dim says", got, "Change one of the two")
  rows = _rows(path, own, labels) if labels is not None and own is not None else np.arange(len(values))
  if own is None and len(values) != n:
    advice = "Leave the cells of a point empty whose position is not known"
    raise error(path, "there must be one row for each point", f"{len(values)} rows for {n} points", advice)
  _check_values(path, values, rows, labels)
  positions = np.full((n, dim), np.nan)
  positions[rows] = values
  fixed = np.isfinite(positions).all(1)
  if not fixed.any():
    raise error(path, "some positions must be known", "none", "Leave out --anchors to find points without them")
  if fixed.all():
    raise error(path, "some points must have no known position", f"all {n} of them", "Leave some of them out")
  centre = positions[fixed].mean(0)
  return Anchors((positions - centre) / unit, centre / unit)


def _table(sheet: Any, labelled: bool, dim: int) -> Any:
  from jax_edm._cli import layout  # here, because only text needs pandas

  beside_labels = sheet.widths[-1] > dim or any(map(cells.is_label, sheet.first_column[1:]))
  return layout.points(sheet, labelled and sheet.widths[-1] > 1 and beside_labels)


def _rows(path: Path, own: list[str], labels: list[str]) -> np.ndarray:
  """Where in the labels of the distances those of the anchors stand, each at most once."""
  places = {label: k for k, label in enumerate(labels)}
  if unknown := next((label for label in own if label not in places), None):
    advice = "Correct it, or leave that anchor out"
    raise error(path, "anchors must have labels of the distances", repr(unknown), advice)
  if len(set(own)) < len(own):
    twice = next(label for label, count in Counter(own).items() if count > 1)
    raise error(path, "each anchor must stand once", f"{twice!r} twice", "Leave one of the two out")
  times = Counter(labels)
  if several := next((label for label in own if times[label] > 1), None):
    got, advice = f"{several!r} for {times[several]} points", "Give each of them a label of its own"
    raise error(path, "anchors must have labels that one point has", got, advice)
  return np.array([places[label] for label in own])


def _check_values(path: Path, values: np.ndarray, rows: np.ndarray, labels: list[str] | None) -> None:
  missing = np.isnan(values)
  for wrong, expected in (
    (np.isinf(values).any(1), "positions must be finite"),
    (missing.any(1) & ~missing.all(1), "a position must have all its coordinates"),
  ):
    if wrong.any():
      k = int(np.argmax(wrong))
      got = f"{', '.join(f'{value:g}' for value in values[k])} for {named(labels, rows[k])}"
      raise error(path, expected, got, MISSING)
