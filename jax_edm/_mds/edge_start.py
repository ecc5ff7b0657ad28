"""The points that ``smacof_edges`` starts from: from lengths of shortest paths to some of them, by SciPy, on the host.

Every path begins at a source: a point whose place is known, or else a landmark, of which there are few. The sources are
put into groups, and each point gets the path to the nearest source of each group. So there are many sources, and few
paths for a point: the near ones, which are nearly straight.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, dijkstra

GROUPS = 12  # of sources, at least
LEAST_KNOWN = 0.5, 1.0  # of the length of a path: how long the straight line may be
STEPS = 8  # of Gauss and Newton, from the closed form
NEAREST = 1e-9  # of the longest path: a shorter one counts no more
DAMPING = 1e-3


class Edges(NamedTuple):
  """Distances ``t`` between the points ``i`` and ``j``, ``(m,)`` each."""

  i: np.ndarray
  j: np.ndarray
  t: np.ndarray


def start(
  edges: Edges, n: int, dim: int, fixed: np.ndarray | None, initial: np.ndarray | None
) -> tuple[np.ndarray, np.bool_]:
  """``(n, dim)``, and whether the edges connect all points, or hang them on enough fixed ones."""
  graph = shortest_edges(edges, n)
  enough = np.bool_(True) if weakest_part(graph, fixed, dim) is None else np.bool_(False)
  known = np.zeros(n, bool) if initial is None else np.isfinite(initial).all(1)
  places = np.zeros((n, dim)) if initial is None else np.where(known[:, None], initial, 0)
  if known.all():
    return places, enough
  if known.sum() > dim:
    paths, sources = paths_from_groups(graph, np.flatnonzero(known), max(GROUPS, 2 * (dim + 1)))
    paths = paths * straightness(paths[known], sources[known], places, known)
    x = laterated(paths, places[sources])
  else:
    paths, landmarks = paths_from_landmarks(graph, min(n, max(GROUPS, 2 * (dim + 1))))
    of_landmarks = classical(paths[landmarks], dim)
    x = laterated(paths, np.broadcast_to(of_landmarks, (n, *of_landmarks.shape)))
    x = moved_onto(x, places, known)
  return np.where(known[:, None], places, x), enough


def shortest_edges(edges: Edges, n: int) -> csr_array:
  """Both directions; the shortest of several edges between two points, of which a sparse matrix would be the sum."""
  i, j = np.concatenate([edges.i, edges.j]), np.concatenate([edges.j, edges.i])
  # A zero is no edge for SciPy, and NaN no length.
  t = np.fmax(np.concatenate([edges.t, edges.t]), np.finfo(float).tiny)
  order = np.lexsort((t, j, i))
  i, j, t = i[order], j[order], t[order]
  first = np.ones(len(i), bool)
  first[1:] = (i[1:] != i[:-1]) | (j[1:] != j[:-1])
  return csr_array((t[first], (i[first], j[first])), shape=(n, n))


def weakest_part(graph: csr_array, fixed: np.ndarray | None, dim: int) -> tuple[np.ndarray, int] | None:
  """A part of the points that nothing tells where it is, and on how many fixed ones it hangs; None if there is none."""
  n = graph.shape[0]
  if fixed is None:
    count, part = connected_components(graph, directed=False)
    return None if count == 1 else (np.flatnonzero(part != part[0]), 0)
  free = np.flatnonzero(~fixed)
  count, part = connected_components(graph[free][:, free], directed=False)
  links = graph[free][:, np.flatnonzero(fixed)].tocoo()
  pairs = np.unique(np.stack([part[links.row], links.col]), axis=1)
  hangs_on = np.bincount(pairs[0], minlength=count) if n else np.zeros(0, int)
  weak = np.flatnonzero(hangs_on < dim)
  return (free[part == weak[0]], int(hangs_on[weak[0]])) if len(weak) else None


def paths_from_groups(graph: csr_array, sources: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
  """To the nearest source of each group, ``(n, groups)``; infinite for none."""
  paths, nearest = [], []
  for group in (sources[k::groups] for k in range(min(groups, len(sources)))):
    length, _, source = dijkstra(graph, indices=group, min_only=True, return_predecessors=True)
    paths.append(length)
    nearest.append(np.where(np.isfinite(length), source, group[0]))
  return np.stack(paths, 1), np.stack(nearest, 1)


def paths_from_landmarks(graph: csr_array, count: int) -> tuple[np.ndarray, np.ndarray]:
  """``(n, count)`` and the landmarks: each is the point that is farthest from those before it."""
  landmarks, paths = [0], []
  while True:
    paths.append(dijkstra(graph, indices=landmarks[-1]))
    if len(paths) == count:
      return np.stack(paths, 1), np.array(landmarks)
    to_nearest = np.min(paths, 0)
    landmarks.append(int(np.argmax(np.where(np.isfinite(to_nearest), to_nearest, -1))))


def straightness(paths: np.ndarray, sources: np.ndarray, places: np.ndarray, known: np.ndarray) -> float:
  """How long the straight line is beside a path, from those between points whose places are known."""
  lines = np.linalg.norm(places[known][:, None] - places[sources], axis=-1)
  some = np.isfinite(paths) & (paths > 0)
  return float(np.clip(np.median(lines[some] / paths[some]), *LEAST_KNOWN)) if some.any() else 1.0


def classical(paths: np.ndarray, dim: int) -> np.ndarray:
  """Classical MDS."""
  finite = np.isfinite(paths)
  D = np.where(finite, paths, paths[finite].max(initial=0)) ** 2
  D = (D + D.T) / 2
  D = D - D.mean(0)
  values, vectors = np.linalg.eigh(-(D - D.mean(1, keepdims=True)) / 2)
  return vectors[:, ::-1][:, :dim] * np.sqrt(np.maximum(values[::-1][:dim], 0))


def laterated(t: np.ndarray, p: np.ndarray) -> np.ndarray:
  """Points from their distances ``(n, k)`` to k points of their own each, ``(n, k, d)``; near ones count more."""
  tiny = np.finfo(float).tiny
  finite = np.isfinite(t)
  longest = t[finite].max(initial=0) or 1.0
  w = np.where(finite, 1 / np.maximum(np.where(finite, t, 1) / longest, NEAREST) ** 2, 0)
  t, w = np.where(finite, t, 0), w / np.maximum(w.sum(1, keepdims=True), tiny)
  centre = (w[..., None] * p).sum(1)
  q = p - centre[:, None]
  squares = (q**2).sum(-1) - t**2
  squares = squares - (w * squares).sum(1, keepdims=True)
  y = solved(q, w, (w * squares / 2)[..., None] * q)
  for _ in range(STEPS):
    away = y[:, None] - q
    r = np.maximum(np.linalg.norm(away, axis=-1), tiny)
    along = away / r[..., None]
    y = y - solved(along, w, (w * (r - t))[..., None] * along)
  return y + centre


def solved(a: np.ndarray, w: np.ndarray, terms: np.ndarray) -> np.ndarray:
  """``(A'WA)^{-1}`` of the sum of terms, damped where A'WA is nearly singular."""
  normal = np.einsum("nki,nk,nkj->nij", a, w, a)
  scale = np.einsum("nii->n", normal)
  scale = np.where(scale > 0, scale, 1)
  normal = normal + (DAMPING * scale)[:, None, None] * np.eye(a.shape[-1])
  return np.linalg.solve(normal, terms.sum(1)[..., None])[..., 0]


def moved_onto(x: np.ndarray, y: np.ndarray, known: np.ndarray) -> np.ndarray:
  """``x``, moved, turned and mirrored so that its known points come to those of ``y``."""
  if not known.any():
    return x
  centre_x, centre_y = x[known].mean(0), y[known].mean(0)
  u, _, vt = np.linalg.svd((x[known] - centre_x).T @ (y[known] - centre_y))
  return (x - centre_x) @ (u @ vt) + centre_y
