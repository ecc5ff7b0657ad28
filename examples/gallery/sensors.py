"""Sensors that hear their neighbours, and a few of them whose places are known: a map, and how sure it is.

A hundred sensors lie in a square. Each measures the distances to those within reach, with an error of 5 %. Nine of them
are anchors: their places are known. ``smacof`` finds the other 91, ``standard_errors`` says how sure each of them is,
and the derivative of the map says how far an error of an anchor moves the others. Beside it stands what people write
with ``scipy.optimize.least_squares``. Needs scipy and matplotlib; run ``python examples/gallery/sensors.py``.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import least_squares
from scipy.sparse import csr_array, hstack
from scipy.sparse.csgraph import shortest_path

from jax_edm import distances, smacof, standard_errors

N, ANCHORS, REACH, NOISE = 100, 9, 0.25, 0.05
REPETITIONS = 40
INSIDE_95 = -2 * np.log(0.05)  # the quantile of a chi square with two degrees of freedom
TOLERANCE = 1e-3


def network():
  """The true places, which of them are anchors, which pairs are within reach, and the measured distances."""
  random = np.random.default_rng(
    1
  )  # the first in which each sensor hears five others; one that hears two has two possible places
  grid = np.array([(a, b) for a in (0.1, 0.5, 0.9) for b in (0.1, 0.5, 0.9)])
  x = np.concatenate([grid, random.random((N - ANCHORS, 2))])
  r = np.linalg.norm(x[:, None] - x, axis=2)
  known = (r < REACH) & ~np.eye(N, dtype=bool)
  return x, np.arange(N) < ANCHORS, known, measured(x, known, random)


def measured(x, known, random):
  """Distances with noise, each pair once; 0 where there is none."""
  r = np.linalg.norm(x[:, None] - x, axis=2)
  e = np.triu(random.normal(size=(N, N)))
  return np.where(known, r * (1 + NOISE * (e + e.T)), 0)


# --8<-- [start:fit]
@jax.jit
def locate(target, known, anchors, places):
  """The sensors, and the weights of the distances; ``places`` has NaN for all sensors that are no anchors."""
  first = smacof(target, dim=2, weights=known, fixed=anchors, initial=places)
  # The error is a share of the distance, and a distance that was measured too short must not get a larger weight.
  weights = jnp.where(known, 1 / jnp.where(known, distances(first.points), 1) ** 2, 0)
  return first.points, weights, refit(target, weights, anchors, first.points)


def refit(target, weights, anchors, start):
  return smacof(target, dim=2, weights=weights, fixed=anchors, initial=start)


# --8<-- [end:fit]


# --8<-- [start:spread]
@jax.jit
def spread(target, weights, anchors, points):
  """How far each sensor moves along each axis when an anchor moves along each axis: (n, 2, anchors, 2)."""

  def map_of(places):
    return refit(target, weights, anchors, points.at[:ANCHORS].set(places)).points

  return jax.jacfwd(map_of)(points[:ANCHORS])


# --8<-- [end:spread]


# --8<-- [start:repeated]
@jax.jit
def repeated(targets, weights, anchors, start):
  """Maps from many repetitions of the measurement, as one batch, and their standard errors."""
  points = refit(targets, weights, anchors, start).points
  return points, standard_errors(points, targets, weights=weights, fixed=anchors).covariance


# --8<-- [end:repeated]


# --8<-- [start:today]
def problem(target, weights, anchors, places):
  """Residuals of the measured pairs and their sparse Jacobian, in the coordinates of the sensors that are free."""
  i, j = np.nonzero(np.triu(weights))
  pair, free, root = np.arange(len(i)), np.flatnonzero(~anchors), np.sqrt(weights[i, j])
  ends = csr_array((np.repeat([1.0, -1.0], len(i)), (np.tile(pair, 2), np.concatenate([i, j]))), (len(i), len(places)))
  ends_of_free = csr_array(ends[:, free])

  def along(v):
    x = places.copy()
    x[free] = v.reshape(2, -1).T
    return x[i] - x[j]

  def residuals(v):
    return root * (np.linalg.norm(along(v), axis=1) - target[i, j])

  def jacobian(v):
    a = along(v)
    u = a * (root / np.linalg.norm(a, axis=1))[:, None]
    return hstack([ends_of_free.multiply(u[:, k : k + 1]) for k in (0, 1)], format="csr")

  return residuals, jacobian, places[free].T.ravel()


def start_today(target, known, anchors, places):
  """Classical MDS of the lengths of shortest paths, turned and moved so that the anchors are where they are."""
  paths = shortest_path(np.where(known, target, 0), directed=False)
  centring = np.eye(len(paths)) - 1 / len(paths)
  values, vectors = np.linalg.eigh(-centring @ paths**2 @ centring / 2)
  x = vectors[:, -2:] * np.sqrt(values[-2:])
  own, wanted = x[anchors].mean(0), places[anchors].mean(0)
  turn, _ = orthogonal_procrustes(x[anchors] - own, places[anchors] - wanted)
  return np.where(anchors[:, None], places, (x - own) @ turn + wanted)


def by_scipy(target, weights, anchors, start, **options):
  residuals, jacobian, v = problem(target, weights, anchors, start)
  x = start.copy()
  x[~anchors] = least_squares(residuals, v, jacobian, **options).x.reshape(2, -1).T
  return x


# --8<-- [end:today]


def by_scipy_dense(target, weights, anchors, start):
  """With the method of MINPACK, which takes a dense Jacobian."""
  residuals, jacobian, v = problem(target, weights, anchors, start)
  x = start.copy()
  x[~anchors] = least_squares(residuals, v, lambda v: jacobian(v).toarray(), method="lm").x.reshape(2, -1).T
  return x


def by_scipy_differences(target, weights, anchors, start):
  """Without a Jacobian, but with the pattern of its zeros."""
  residuals, jacobian, v = problem(target, weights, anchors, start)
  x = start.copy()
  x[~anchors] = least_squares(residuals, v, jac_sparsity=jacobian(v)).x.reshape(2, -1).T
  return x


def spread_by_refits(target, weights, anchors, points, step=1e-3):
  """The derivative by central differences: two fits for each coordinate of an anchor."""
  out = np.zeros((N, 2, ANCHORS, 2))
  for anchor, axis in np.ndindex(ANCHORS, 2):
    ends = []
    for sign in (1, -1):
      start = points.copy()
      start[anchor, axis] += sign * step
      ends.append(by_scipy(target, weights, anchors, start, ftol=1e-12, xtol=1e-12, gtol=1e-12))
    out[:, :, anchor, axis] = (ends[0] - ends[1]) / (2 * step)
  return out


def main(picture="sensors.png"):
  x, anchors, known, target = network()
  places = jnp.asarray(np.where(anchors[:, None], x, np.nan), jnp.float32)
  first, weights, fit = locate(jnp.asarray(target, jnp.float32), known, anchors, places)
  sure = standard_errors(fit.points, jnp.asarray(target, jnp.float32), weights=weights, fixed=anchors)
  influence = np.asarray(spread(jnp.asarray(target, jnp.float32), weights, anchors, fit.points), np.float64)
  points, w, covariance = (np.asarray(a, np.float64) for a in (fit.points, weights, sure.covariance))
  found = {
    "measured pairs": int(known.sum()) // 2,
    "converged": str(bool(fit.converged)),
    "error of the sensors, root mean square": rms(points - x),
    "noise of the distances, as estimated": float(sure.variance) ** 0.5,
    "share of the sensors inside their ellipse of 95 %": inside(points - x, covariance),
    **beside_scipy(x, known, target, w, anchors, np.asarray(first, np.float64), points, covariance),
    **from_other_starts(target, known, w, anchors, np.asarray(places, np.float64), points),
    **in_repetitions(x, known, anchors, w),
    "largest move of a sensor, for a unit of any anchor": float(np.linalg.norm(influence, 2, (1, 3))[ANCHORS:].max()),
    "derivative, and what a refit with an anchor moved says, differ by": checked(target, w, anchors, points, influence),
  }
  print("\n".join(f"{name}: {value}" for name, value in found.items()))
  if picture:
    draw(picture, x, known, points, covariance, influence)
  return found


def rms(error):
  """Of the free sensors, of their distances to where they are."""
  return float(np.sqrt((error[..., ANCHORS:, :] ** 2).sum(-1).mean()))


def inside(error, covariance):
  """The share of the free sensors whose ellipse of 95 % has the true place in it."""
  e, c = error[..., ANCHORS:, :, None], covariance[..., ANCHORS:, :, :]
  return float(((e * np.linalg.solve(c, e)).sum((-1, -2)) < INSIDE_95).mean())


def beside_scipy(x, known, target, weights, anchors, start, points, covariance):
  """The same fit, and the covariance that people compute from the Jacobian of least squares."""
  theirs = by_scipy(target, weights, anchors, start)
  residuals, jacobian, v = problem(target, weights, anchors, theirs)
  jacobian, freedom = jacobian(v).toarray(), len(residuals(v)) - len(v)
  variance = (residuals(v) ** 2).sum() / freedom
  errors = np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian)) * variance).reshape(2, -1).T
  ours = np.sqrt(np.diagonal(covariance[ANCHORS:], axis1=1, axis2=2))
  worst = np.unravel_index((ours / errors).argmax(), ours.shape)
  return {
    "largest difference of a place from that of least_squares": float(np.abs(theirs - points).max()),
    "standard errors beside those of J'J, median of the ratios": float(np.median(ours / errors)),
    "standard errors beside those of J'J, largest ratio": float((ours / errors).max()),
    "that standard error": float(ours[worst]),
    "the same by J'J": float(errors[worst]),
    "the same, by 400 repetitions": float(deviations(x, known, anchors, weights)[worst]),
  }


def deviations(x, known, anchors, weights, count=400):
  """Of the coordinates of the free sensors, in repetitions of the measurement."""
  random = np.random.default_rng(6)
  targets = np.stack([measured(x, known, random) for _ in range(count)]).astype(np.float32)
  points = refit(targets, jnp.asarray(weights, jnp.float32), anchors, jnp.asarray(x, jnp.float32)).points
  return np.asarray(points, np.float64)[:, ANCHORS:].std(0)


def from_other_starts(target, known, weights, anchors, places, points, tries=5):
  """Random places, and shortest paths: whether least squares ends at the map."""
  random, lost = np.random.default_rng(3), 0
  for _ in range(tries):
    start = np.where(anchors[:, None], places, random.random((N, 2)))
    lost += int(np.abs(by_scipy(target, weights, anchors, start) - points).max() > 0.01)
  paths = by_scipy(target, weights, anchors, start_today(target, known, anchors, places))
  return {
    f"of {tries} random starts of least_squares, end elsewhere": lost,
    "largest difference of a place from that of least_squares, from shortest paths": float(
      np.abs(paths - points).max()
    ),
  }


def in_repetitions(x, known, anchors, weights):
  """Of new measurements of the same sensors: errors, ellipses, and the least error that any method can have."""
  random = np.random.default_rng(4)
  targets = np.stack([measured(x, known, random) for _ in range(REPETITIONS)]).astype(np.float32)
  points, covariance = repeated(targets, jnp.asarray(weights, jnp.float32), anchors, jnp.asarray(x, jnp.float32))
  error = np.asarray(points, np.float64) - x
  return {
    f"error in {REPETITIONS} repetitions, root mean square": rms(error),
    "the same, beside the bound of Cramer and Rao": rms(error) / least_error(x, known, anchors),
    "share inside their ellipses of 95 %, in all repetitions": inside(error, np.asarray(covariance, np.float64)),
  }


def least_error(x, known, anchors):
  """The bound of Cramer and Rao; the second term, since the size of the noise tells about the distance, too."""
  r = np.linalg.norm(x[:, None] - x, axis=2)
  information = np.where(known, (1 / NOISE**2 + 2) / np.where(known, r, 1) ** 2, 0)
  _, jacobian, v = problem(r, information, anchors, x)
  jacobian = jacobian(v).toarray()
  return float(np.sqrt(np.trace(np.linalg.inv(jacobian.T @ jacobian)) / (~anchors).sum()))


def checked(target, weights, anchors, points, influence, anchor=4, step=1e-3):
  """How far the derivative is from two fits with an anchor moved along the first axis, beside its largest entry."""
  moved = [points.copy(), points.copy()]
  for start, sign in zip(moved, (1, -1), strict=True):
    start[anchor, 0] += sign * step
  ends = [by_scipy(target, weights, anchors, start, ftol=1e-12, xtol=1e-12, gtol=1e-12) for start in moved]
  own = influence[:, :, anchor, 0]
  return float(np.abs((ends[0] - ends[1]) / (2 * step) - own).max() / np.abs(own).max())


def sides():
  """Both in double precision, since SciPy computes in no other."""
  x, anchors, known, target = network()
  random = np.random.default_rng(5)
  targets = np.stack([measured(x, known, random) for _ in range(REPETITIONS)])
  places = jnp.asarray(np.where(anchors[:, None], x, np.nan), jnp.float32)
  first, weights, fit = locate(jnp.asarray(target, jnp.float32), known, anchors, places)
  first, weights, points = (np.asarray(a, np.float64) for a in (first, weights, fit.points))
  with jax.enable_x64(True):
    ours = [jnp.asarray(a) for a in (target, weights, anchors, first)]
    at_minimum = [*ours[:3], jnp.asarray(points)]
    many = [jnp.asarray(targets), *at_minimum[1:]]
  theirs = target, weights, anchors, first
  points_of = jax.jit(lambda *a: refit(*a).points)

  def double(call, args):
    with jax.enable_x64(True):
      return call(*args)

  return {
    "91 sensors, the weighted fit": {
      "jax_edm": lambda: double(points_of, ours),
      "scipy least_squares, sparse Jacobian": lambda: by_scipy(*theirs),
      "scipy least_squares, dense Jacobian, lm": lambda: by_scipy_dense(*theirs),
      "scipy least_squares, differences": lambda: by_scipy_differences(*theirs),
    },
    f"{REPETITIONS} repetitions": {
      "jax_edm": lambda: double(points_of, many),
      "scipy least_squares, sparse Jacobian": lambda: np.stack(
        [by_scipy(t, weights, anchors, points) for t in targets]
      ),
    },
    "derivative with respect to 9 anchors": {
      "jax_edm": lambda: double(spread, at_minimum),
      "scipy least_squares, sparse Jacobian": lambda: spread_by_refits(target, weights, anchors, points),
    },
  }


def draw(file, x, known, points, covariance, influence, anchor=4):
  """The map with its ellipses; and what an error of the anchor in the middle does to the others."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(12, 6.2), layout="constrained")
  places, moves = figure.subplots(1, 2, width_ratios=(1.15, 1))
  draw_map(places, x, known, points, covariance)
  draw_moves(figure, moves, points, influence, anchor)
  for axes in (places, moves):
    axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal", xticks=[], yticks=[])
  figure.savefig(file, dpi=110)
  print(f"wrote {file}")


def draw_map(axes, x, known, points, covariance):
  from matplotlib.collections import EllipseCollection, LineCollection

  i, j = np.nonzero(np.triu(known))
  axes.add_collection(
    LineCollection(np.stack([x[i], x[j]], 1), colors="0.93", linewidths=0.5, antialiaseds=False, zorder=0)
  )
  values, vectors = np.linalg.eigh(covariance[ANCHORS:])
  height, width = 2 * np.sqrt(INSIDE_95 * values.T)
  angle = np.degrees(np.arctan2(vectors[:, 1, 1], vectors[:, 0, 1]))
  ellipses = EllipseCollection(width, height, angle, units="xy", offsets=points[ANCHORS:], transOffset=axes.transData)
  ellipses.set(facecolor="lightskyblue", edgecolor="tab:blue", linewidth=0.8)
  axes.add_collection(ellipses)
  axes.plot([], [], "o", color="tab:blue", markerfacecolor="lightskyblue", label="found: ellipses of 95 %")
  axes.plot(*x[ANCHORS:].T, "k.", markersize=3, label="truth")
  axes.plot(*x[:ANCHORS].T, "^", color="tab:red", markersize=8, label="anchors")
  axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, frameon=False)
  axes.set_title(f"{N - ANCHORS} sensors found from noisy distances")


def draw_moves(figure, axes, points, influence, anchor):
  move = influence[:, :, anchor, 0]
  size = np.linalg.norm(move, axis=1)
  arrows = axes.quiver(*points.T, *(0.15 * move.T), size, angles="xy", scale_units="xy", scale=1, cmap="viridis_r")
  arrows.set_clim(0, 1)
  axes.plot(*points[ANCHORS:].T, ".", color="0.7", markersize=3, zorder=0)
  axes.plot(*points[:ANCHORS].T, "^", color="tab:red", markersize=8, alpha=0.5)
  axes.set_title("If the anchor in the middle moves right")
  figure.colorbar(arrows, ax=axes, label="move of the sensor / move of the anchor", shrink=0.85)


if __name__ == "__main__":
  main()
