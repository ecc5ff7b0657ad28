"""Points that are fixed: the checks of ``fixed``, and whether the others hang on enough of them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_edm import _errors
from jax_edm._core import validation
from jax_edm._mds.units import power_of_two


def centre(x: jax.Array, fixed: jax.Array) -> jax.Array:
  """The mean of the fixed points, ``(d,)``."""
  return jnp.where(fixed[:, None], x, 0).sum(0) / jnp.maximum(fixed.sum(), 1).astype(x.dtype)


def unit(of_distances: jax.Array, x: jax.Array, fixed: jax.Array) -> jax.Array:
  """A power of two that is about as large as the largest distance or place of a fixed point, centred."""
  of_places = power_of_two(jnp.where(fixed[:, None], jnp.abs(x), 0).max(initial=0))
  return jnp.maximum(of_distances, of_places)


def check(function: str, fixed: Any, initial: Any, matrix: Any, weights: Any, dim: int) -> None:
  """One boolean for each point, places for those that are fixed, and enough of them for the others to hang on."""
  check_places(function, fixed, initial, matrix.shape[:-1])
  if validation.is_concrete(fixed, weights):
    shape = np.broadcast_shapes(fixed.shape[:-1], () if weights is None else weights.shape[:-2])
    for index in np.ndindex(shape):
      own = np.broadcast_to(fixed, (*shape, fixed.shape[-1]))[index]
      w = None if weights is None else np.broadcast_to(weights, (*shape, *weights.shape[-2:]))[index]
      _check_parts(function, own, None if w is None else w != 0, dim)


def check_places(function: str, fixed: Any, initial: Any, shape: tuple[int, ...]) -> None:
  """``fixed`` is boolean, and belongs to points of this ``shape``; the places of those that are fixed are known."""
  _errors.array(function, "fixed", fixed, (np.bool_,), "be boolean, True for a point that stays", "Pass fixed != 0")
  if fixed.shape[-1:] != shape[-1:]:
    got, advice = f"fixed {fixed.shape} for {shape[-1]} points", f"Give it the shape {shape}"
    raise _errors.error(function, "fixed must have one entry for each point", got, advice)
  _errors.leading(function, "fixed", fixed.shape[:-1], shape[:-1])
  if initial is None:
    got, advice = "fixed without initial", "Pass initial=, with NaN for points that are not known"
    raise _errors.error(function, "fixed points need places", got, advice)
  if not validation.is_concrete(fixed, initial):
    return
  fixed, finite = np.broadcast_arrays(fixed, np.isfinite(np.asarray(initial, np.float64)).all(-1))
  if (fixed & ~finite).any():
    i = int(np.argwhere(fixed & ~finite)[0][-1])
    got, advice = f"other numbers for point {i}", "Complete them, or let the point be free"
    raise _errors.error(function, "initial must be finite where points are fixed", got, advice)


def _check_parts(function: str, fixed: np.ndarray, pairs: np.ndarray | None, dim: int) -> None:
  """Each part of the free points has distances to as many fixed ones as there are coordinates."""
  free = np.flatnonzero(~fixed)
  if pairs is None:
    pairs = np.ones((len(fixed), len(fixed)), bool)
  for part in validation.connected_parts(pairs[np.ix_(free, free)]):
    points = free[part]
    links = int((pairs[points][:, fixed]).any(0).sum())
    if links < dim:
      raise turning(function, points, links, dim)


def turning(function: str, points: np.ndarray, links: int, dim: int) -> ValueError:
  """Of a part of the free points that hangs on few fixed ones."""
  expected = f"free points must have distances to at least {dim} fixed ones, or be connected with such as have"
  got = f"{links} for the points {listed(points)}, which can turn about them"
  return _errors.error(function, expected, got, "Add distances, fix more points, or leave these out")


def listed(points: np.ndarray) -> str:
  more = ", ..." if len(points) > validation.LISTED else ""
  return f"({', '.join(map(str, points[: validation.LISTED]))}{more})"
