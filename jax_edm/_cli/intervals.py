"""Bounds of distances: the user's files, and the distances that are nearest to those of points."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jax_edm._cli import files
from jax_edm._cli.errors import error
from jax_edm._cli.files import Bounds, Distances
from jax_edm._cli.pairs import named


class _Side(NamedTuple):
  """One end of the intervals, as it stands in a file."""

  path: Path
  values: np.ndarray  # (n, n)
  labels: list[str] | None
  what: str


def read_bounds(
  distances: Path | None,
  lower: Path | None,
  upper: Path | None,
  dim: int,
  *,
  squared: bool = False,
  weights: Path | None = None,
  anchors: Path | None = None,
) -> Distances:
  """Bounds of enough distances to place the points; where one bound has no file, the distances are that bound."""
  low = _read(lower, "lower bounds") if lower else _read(distances, "distances")
  high = _read(upper, "upper bounds") if upper else _read(distances, "distances")
  first = low or high
  assert first is not None  # the parser asks for one of the two
  if low and high:
    files.check_alike(high.path, high.what, high.values, high.labels, low.values, low.labels)
  labels = first.labels or (high.labels if high else None)
  w = None
  if weights is not None:
    w = files.read_weights(weights, np.where(_are_known(low, high, first.values.shape), 0, np.nan), labels)
    low, high = (_without(side, (w == 0) & ~np.eye(len(w), dtype=bool)) for side in (low, high))
  bounds = _bounds(low, high, first.values.shape, squared)
  _check_order(bounds, low, high, labels)
  known = (bounds.lower > 0) | np.isfinite(bounds.upper)
  np.fill_diagonal(known, False)
  values = np.where(known, np.where(np.isfinite(bounds.upper), bounds.upper, bounds.lower), np.nan)
  return files.checked(first.path, Distances(values, w, labels, 1.0, bounds), dim, anchors)


def nearest(distances: Distances, points: np.ndarray) -> Distances:
  """Those between the bounds that are nearest to the distances of the points, in the place of measured ones."""
  if distances.bounds is None:
    return distances
  pairs = distances.pairs
  lower, upper = (bound[pairs.i, pairs.j] for bound in distances.bounds)
  values = np.full_like(distances.values, np.nan)
  values[pairs.i, pairs.j] = np.clip(pairs.fitted(points), lower, upper)
  return distances._replace(values=np.fmax(values, values.T))


def _read(path: Path | None, what: str) -> _Side | None:
  if path is None:
    return None
  values, labels = files.read_matrix(path, what)
  if what == "upper bounds":
    values = np.where(values == np.inf, np.nan, values)  # neither says anything
  return _Side(path, values, labels, what)


def _are_known(low: _Side | None, high: _Side | None, shape: tuple[int, ...]) -> np.ndarray:
  known = np.zeros(shape, bool)
  if low:
    known |= low.values > 0
  if high:
    known |= ~np.isnan(high.values)
  return known


def _without(side: _Side | None, none: np.ndarray) -> _Side | None:
  """What has no weight may be any number."""
  return None if side is None else side._replace(values=np.where(none, np.nan, side.values))


def _bounds(low: _Side | None, high: _Side | None, shape: tuple[int, ...], squared: bool) -> Bounds:
  def of(side: _Side | None, none: float) -> np.ndarray:
    if side is None:
      return np.full(shape, none)
    values = files.symmetric(side.path, side.values, side.what)
    return np.where(np.isnan(values), none, np.sqrt(values) if squared else values)

  lower, upper = of(low, 0), of(high, np.inf)
  np.fill_diagonal(lower, 0)
  np.fill_diagonal(upper, 0)
  return Bounds(lower, upper)


def _check_order(bounds: Bounds, low: _Side | None, high: _Side | None, labels: list[str] | None) -> None:
  wrong = bounds.lower > bounds.upper
  if wrong.any() and low and high:
    i, j = (int(k) for k in np.argwhere(wrong)[0])
    a, b = (f"{side.values[i, j]:g}" for side in (low, high))
    where = f"in row {i + 1}, column {j + 1}" if labels is None else f"for {named(labels, i)} and {named(labels, j)}"
    got, advice = f"{a} and {b} {where}", "Write bounds that leave a distance, or NA for one of them"
    raise error(low.path, f"{low.what} must not be larger than {high.what}", got, advice)
