"""How sure the points of a fit are, where the distances say so."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_edm._cli.edges import Edges
from jax_edm._cli.files import Distances
from jax_edm._cli.pairs import counted, free_coordinates
from jax_edm._cli.report import line
from jax_edm._mds.uncertainty import standard_errors

MOST_COORDINATES = 1500  # of all points, whose matrix is inverted
EXACT = 1e-5  # relative stress, below which the residuals are those of single precision
NOT_DETERMINED = 1.0  # of the spread of the points: no position is known so badly


class Certainty(NamedTuple):
  """The covariance of each point, ``(n, dim, dim)``, zero for anchors; and what the report says."""

  covariance: np.ndarray | None
  lines: list[str]


def of(points: np.ndarray, distances: Distances | Edges | None, stress: float) -> Certainty:
  """That of a minimum of the stress of ``distances``, in their unit; none where nothing can be said."""
  if distances is None or isinstance(distances, Edges) or distances.bounds is not None:
    return Certainty(None, [])
  n, dim = points.shape
  fixed = None if distances.anchors is None else distances.anchors.fixed
  more = int(counted(distances.pairs, fixed).sum()) - free_coordinates(n, dim, fixed)
  if n * dim > MOST_COORDINATES or stress < EXACT or more <= 0:
    return Certainty(None, [])
  with jax.enable_x64(True):
    known = ~np.isnan(distances.values)
    target = jnp.asarray(np.where(known, distances.values, 0))
    weights = jnp.asarray(known if distances.weights is None else distances.weights, float)
    found = standard_errors(jnp.asarray(points), target, weights=weights, fixed=fixed)
    covariance = np.asarray(found.covariance)
  free = np.ones(n, bool) if fixed is None else ~fixed
  with np.errstate(invalid="ignore"):
    error = float(np.sqrt(np.trace(covariance[free], axis1=1, axis2=2).mean()))
  spread = float(np.sqrt(((points - points.mean(0)) ** 2).sum(1).mean()))
  if not error < NOT_DETERMINED * spread:
    return Certainty(None, [line("standard error", "none: the distances do not determine all points")])
  return Certainty(
    covariance, [line("standard error", f"{error * distances.unit:.3g} of a position, root mean square")]
  )
