"""The lines that a command prints at its end, and the numbers in them."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_edm._cli.descent import root_mean_square
from jax_edm._cli.pairs import Pairs
from jax_edm._core.edm import edm
from jax_edm._mds.classical import classical_mds

CHECKED = 12  # points in the gradient check


def stress(points: np.ndarray, known: Pairs | np.ndarray) -> float:
  """Root mean square of the residuals, relative to that of the distances; float64."""
  pairs = _pairs(known)
  fitted, targets, w = pairs.fitted(points), pairs.values, pairs.weights
  return float(np.sqrt(np.average((fitted - targets) ** 2, weights=w) / np.average(targets**2, weights=w)))


def spectrum(points: np.ndarray, measured: np.ndarray) -> np.ndarray:
  """Eigenvalues over n of the Gram matrix of the measured distances, the missing ones taken from the points."""
  known, unit = ~np.isnan(measured), root_mean_square(measured)
  D = np.array(edm(jnp.asarray(points / unit, jnp.float32)))
  D[known] = (measured[known] / unit) ** 2
  return np.asarray(classical_mds(jnp.asarray(D), 1).eigenvalues, np.float64) * unit**2 / len(D)


def _pairs(known: Pairs | np.ndarray) -> Pairs:
  """The pairs, or those of a matrix with NaN where a distance is missing."""
  return known if isinstance(known, Pairs) else Pairs.of(known)


def gradient_check(points: np.ndarray) -> str:
  """The gradient of ``edm`` against forward mode of the plain formula, on a few of the points."""
  few = np.linspace(0, len(points) - 1, min(len(points), CHECKED)).astype(int)
  x = jnp.asarray(points[few], jnp.float32)
  hand = jax.jacrev(edm)(x)
  reference = jax.jacfwd(lambda x: ((x[:, None] - x[None]) ** 2).sum(-1))(x)
  difference, scale = float(jnp.abs(hand - reference).max()), float(jnp.abs(reference).max())
  return (
    f"hand rule against jax.jacfwd, {len(few)} points: "
    f"largest difference {difference:.1e}, entries up to {scale:.1e} ({difference / scale:.1e})"
  )


def line(label: str, text: str) -> str:
  return f"{label:<15} {text}"


def about_pairs(known: Pairs | np.ndarray, what: str = "") -> str:
  pairs = _pairs(known)
  count, most = len(pairs.i), pairs.n * (pairs.n - 1) // 2
  percent = 100 * count / most
  return f"from {what}{count:,} of their {most:,} distances ({percent:{'.0f' if percent >= 1 else '.1g'}}%)"
