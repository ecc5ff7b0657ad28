"""The pairs of points whose distances are known, and whether they are enough to place the points."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array, csgraph

from jax_edm._cli.errors import UserError, error

LISTED = 3  # points that a message names


class Pairs(NamedTuple):
  """Each pair once; ``m`` of them, of ``n`` points."""

  n: int
  i: np.ndarray  # (m,)
  j: np.ndarray  # (m,)
  values: np.ndarray  # (m,), float64, the distances
  weights: np.ndarray | None = None  # (m,), positive

  @classmethod
  def of(cls, measured: np.ndarray, weights: np.ndarray | None = None) -> "Pairs":
    """Those of a symmetric matrix that has NaN where a distance is missing, and on the diagonal."""
    i, j = np.nonzero(np.triu(~np.isnan(measured)))
    return cls(len(measured), i, j, measured[i, j], None if weights is None else weights[i, j])

  def fitted(self, points: np.ndarray) -> np.ndarray:
    """The distances of the points."""
    return np.linalg.norm(points[self.i] - points[self.j], axis=1)

  def parts(self) -> np.ndarray:
    """The number of the connected part of each point, ``(n,)``."""
    graph = coo_array((np.ones(len(self.i), bool), (self.i, self.j)), (self.n, self.n))
    return csgraph.connected_components(graph, directed=False)[1]


def check_dimension(dim: int, n: int, anchored: bool) -> None:
  """Points span fewer dimensions than they are, but anchors may say where they are in any."""
  if dim < 1 or (dim >= n and not anchored):
    expected = f"it must be at least 1{'' if anchored else f' and less than the number of points, {n}'}"
    raise error("--dim", expected, str(dim), "Choose one in that range")


def check_enough(path: Path, pairs: Pairs, dim: int, labels: list[str] | None, anchored: np.ndarray | None) -> None:
  """Connected, and enough for the coordinates; of anchors, ``(n,)`` booleans, each part of the others has enough."""
  free = np.ones(pairs.n, bool) if anchored is None else ~anchored
  alone = np.flatnonzero(free & (np.bincount(np.concatenate([pairs.i, pairs.j]), minlength=pairs.n) == 0))
  if alone.size:
    got = f"none for {named(labels, alone[0])}"
    raise error(path, "every point must have a measured distance", got, "Drop it, or measure one")
  if anchored is not None:
    _check_hold(path, pairs, dim, labels, anchored)
  elif parts := pairs.parts().max():
    got = f"{parts + 1} separate parts"
    raise error(path, "measured distances must connect all points", got, "Fit each part by itself")
  needed = free_coordinates(pairs.n, dim, anchored)
  known = int(counted(pairs, anchored).sum())
  if known < needed:
    raise _too_few(path, known, needed, int(free.sum()), dim, anchored is not None)
  if not pairs.values.max() > 0:
    raise error(path, "some points must differ", "distances that are all 0", "Check the file")


def _too_few(path: Path, known: int, needed: int, n: int, dim: int, anchored: bool) -> UserError:
  who = f"{n} points {'that are no anchors' if anchored else f'in {dim} dimensions'} need at least {needed} distances"
  return error(path, who, str(known), "Measure more, or choose a smaller --dim")


def free_coordinates(n: int, dim: int, anchored: np.ndarray | None) -> int:
  """Those of all points less those of a rigid motion, or of the points that are no anchors."""
  return n * dim - dim * (dim + 1) // 2 if anchored is None else dim * int((~anchored).sum())


def counted(pairs: Pairs, anchored: np.ndarray | None) -> np.ndarray:
  """Which of the pairs say something: all but those of two anchors, ``(m,)``."""
  return np.ones(len(pairs.i), bool) if anchored is None else ~(anchored[pairs.i] & anchored[pairs.j])


def _check_hold(path: Path, pairs: Pairs, dim: int, labels: list[str] | None, anchored: np.ndarray) -> None:
  """Each connected part of the points that are no anchors has distances to ``dim`` anchors: about fewer it can turn."""
  free = counted(pairs, anchored)
  within = free & ~anchored[pairs.i] & ~anchored[pairs.j]
  parts = pairs._replace(i=pairs.i[within], j=pairs.j[within]).parts()
  i, j = pairs.i[free & ~within], pairs.j[free & ~within]
  anchor, other = np.where(anchored[i], i, j), np.where(anchored[i], j, i)
  held = np.unique(parts[other] * pairs.n + anchor) // pairs.n  # each part once for each anchor
  anchors = np.bincount(held, minlength=parts.max() + 1)[parts]
  weak = np.flatnonzero(~anchored & (anchors < dim))
  if weak.size:
    part = np.flatnonzero(~anchored & (parts == parts[weak[0]]))
    shown = ", ".join(named(labels, k) for k in part[:LISTED]) + (", ..." if len(part) > LISTED else "")
    expected = f"points must have distances to at least {dim} anchors, or be connected with such as have"
    got = f"{anchors[weak[0]]} for {shown}, which can turn about them"
    raise error(path, expected, got, "Measure distances to more anchors, or leave these points out")


def named(labels: list[str] | None, k: int) -> str:
  return f"point {k + 1}" if labels is None else repr(labels[k])
