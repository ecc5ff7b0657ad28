"""The pictures of the command line: of a fit, and of the airports."""

import warnings
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from jax_edm._cli import report
from jax_edm._cli.anchors import Anchors
from jax_edm._cli.edges import Edges
from jax_edm._cli.files import Distances
from jax_edm._cli.pairs import Pairs

DRAWN_PAIRS = 20_000  # in the Shepard diagram
DRAWN_EIGENVALUES = 12
DRAWN_LINES = 5_000  # up to so many pairs of an edge list are drawn between the points
SCALE = {1: 1.95996, 2: 2.44775}  # deviations that hold 95 % of a normal distribution in so many dimensions
ELLIPSE_CORNERS = 61
NUMBERED_POINTS = 40  # up to so many points get their label, or their number
LABEL_WIDTH = 24  # characters of a label are shown
EXAGGERATION = 20  # of the errors in the map
# Of the maps: longitudes, east of Greenwich, and latitudes. Longitudes begin in Asia: the Pacific is not cut.
WESTMOST = 90
ALL = ((WESTMOST, 300), (-20, 75))
CONTIGUOUS = ((234, 294), (24, 50))


def draw_fit(
  points: np.ndarray,
  known: Distances | Edges,
  file: Path,
  metadata: dict[str, str],
  covariance: np.ndarray | None = None,
) -> None:
  """The points along two axes, the spectrum or the residuals, and the Shepard diagram: fitted over measured distances.

  ``covariance``, ``(n, dim, dim)``, draws an ellipse around each point.
  """
  figure = Figure(figsize=(16, 5.4), layout="constrained")
  left, middle, right = figure.subplots(1, 3, width_ratios=(1.2, 0.8, 1))
  pairs = known.pairs
  fitted = pairs.fitted(points)
  _draw_points(left, points, known.labels, known.anchors)
  if isinstance(known, Edges):
    _draw_pairs(left, _flat(points, known.anchors), pairs)
    _draw_residuals(middle, fitted - pairs.values)
  else:
    _draw_spectrum(middle, report.spectrum(points, known.values)[:DRAWN_EIGENVALUES], points.shape[1])
  if covariance is not None:
    _draw_ellipses(left, _flat(points, known.anchors), covariance)
  if isinstance(known, Edges) or known.bounds is None:
    _draw_shepard(right, fitted, pairs.values)
  else:
    _draw_bounds(right, fitted, *(bound[pairs.i, pairs.j] for bound in known.bounds))
  for axes in (left, middle, right):
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
  if left.get_legend_handles_labels()[0]:
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=3, frameon=False)  # below, where no points are
  if known.unit != 1:
    figure.suptitle(f"lengths in units of {known.unit:g}")
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Glyph .* missing from")  # of labels in scripts that the font does not have
    figure.savefig(file, dpi=150, metadata=metadata)


def _flat(points: np.ndarray, anchors: Anchors | None) -> np.ndarray:
  """The two coordinates that are drawn, in the coordinates of the anchors."""
  points = points if anchors is None else points + anchors.centre
  return points[:, :2] if points.shape[1] > 1 else np.pad(points, ((0, 0), (0, 1)))


def _draw_points(axes: Axes, points: np.ndarray, labels: list[str] | None, anchors: Anchors | None = None) -> None:
  n, flat = len(points), _flat(points, anchors)
  size, fixed = np.clip(4000 / n, 2, 40), np.zeros(n, bool) if anchors is None else anchors.fixed
  axes.scatter(flat[~fixed, 0], flat[~fixed, 1], s=size, color="C0", linewidths=0, rasterized=n > NUMBERED_POINTS)
  if anchors is not None:
    size = 2 * max(size, 4)
    x, y = flat[fixed].T
    axes.scatter(x, y, s=size, color="C1", marker="^", linewidths=0, zorder=3, label="anchor")
  for k, point in enumerate(flat if n <= NUMBERED_POINTS else []):
    name = labels[k][:LABEL_WIDTH] if labels else str(k + 1)
    text = axes.annotate(name, point, (4, 4), textcoords="offset points", fontsize=8, parse_math=False)
    text.set_in_layout(False)  # a long label must not make the axes small
  names = ("first principal axis", "second principal axis") if anchors is None else ("x1", "x2")
  axes.set(title=f"{n - fixed.sum():,} recovered points", xlabel=names[0], ylabel=names[1])
  axes.set_aspect("equal", "datalim")
  axes.ticklabel_format(useOffset=False, scilimits=(-4, 8))  # coordinates of anchors may be far from 0
  axes.locator_params(axis="x", nbins=6)


def _draw_pairs(axes: Axes, flat: np.ndarray, pairs: Pairs) -> None:
  if len(pairs.i) <= DRAWN_LINES:
    lines = np.stack([flat[pairs.i], flat[pairs.j]], 1)
    axes.add_collection(LineCollection(list(lines), colors="0.8", linewidths=0.6, zorder=0.6, label="measured"))


def _draw_ellipses(axes: Axes, flat: np.ndarray, covariance: np.ndarray) -> None:
  dim = min(covariance.shape[1], 2)
  values, axes_of = np.linalg.eigh(covariance[:, :dim, :dim])
  radii = SCALE[dim] * np.sqrt(np.maximum(values, 0))
  turn = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS)
  circle = np.stack([np.cos(turn), np.sin(turn)][:dim], 1)
  outline = np.einsum("nij,nj,cj->nci", axes_of, radii, circle)
  outline = np.pad(outline, ((0, 0), (0, 0), (0, 2 - dim))) + flat[:, None]
  known = radii.any(1)  # an anchor has none
  text = "95 % confidence"
  axes.add_collection(
    LineCollection(list(outline[known]), colors="C0", linewidths=0.7, alpha=0.7, zorder=1, label=text)
  )


def _draw_spectrum(axes: Axes, eigenvalues: np.ndarray, dim: int) -> None:
  numbers = range(1, len(eigenvalues) + 1)
  axes.bar(numbers, eigenvalues, color=["C0" if k <= dim else "0.7" for k in numbers])
  axes.axhline(0, color="0.4", linewidth=0.8)
  axes.set(title="Spectrum: is the dimension right?", xlabel="eigenvalue", ylabel="variance along the axis")
  axes.set_xticks(numbers)


def _draw_residuals(axes: Axes, residuals: np.ndarray) -> None:
  axes.hist(residuals, bins=60, color="C0", log=True)  # a few large ones should be seen
  axes.axvline(0, color="0.4", linewidth=0.8)
  axes.set(title="Residuals", xlabel="fitted less measured distance", ylabel="pairs")


def _draw_shepard(axes: Axes, fitted: np.ndarray, measured: np.ndarray) -> None:
  some = _some(len(measured))
  axes.plot([0, measured.max()], [0, measured.max()], color="0.6", linewidth=1, zorder=0)
  size = np.clip(40_000 / len(some), 2, 20)
  axes.scatter(measured[some], fitted[some], s=size, color="C3", alpha=0.5, linewidths=0, rasterized=True)
  _name_shepard(axes, "Shepard diagram", "measured distance", len(some), len(measured))


def _draw_bounds(axes: Axes, fitted: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
  """Each pair as a line from its lower to its upper bound, and its fitted distance on the diagonal."""
  some = _some(len(fitted))
  fitted, lower, upper = fitted[some], lower[some], upper[some]
  most = 1.05 * max(fitted.max(), lower.max(), upper[np.isfinite(upper)].max(initial=0))
  axes.plot([0, most], [0, most], color="0.6", linewidth=1, zorder=0)
  width = float(np.clip(300 / len(some), 0.1, 1.5))
  axes.hlines(fitted, lower, np.minimum(upper, most), color="C0", linewidth=width, alpha=0.6, rasterized=True)
  axes.scatter(
    fitted, fitted, s=np.clip(40_000 / len(some), 2, 20), color="C3", linewidths=0, rasterized=True, zorder=3
  )
  _name_shepard(axes, "Bounds", "from the lower to the upper bound", len(some), len(fitted))


def _some(count: int) -> np.ndarray:
  return np.random.default_rng(0).permutation(count)[:DRAWN_PAIRS]


def _name_shepard(axes: Axes, title: str, x: str, drawn: int, count: int) -> None:
  shown = "" if drawn == count else f", {drawn:,} of {count:,} pairs"
  axes.set(title=f"{title}{shown}", xlabel=x, ylabel="distance of the recovered points")
  axes.set_aspect("equal", "datalim")


def draw_airports(
  true: np.ndarray, found: np.ndarray, errors: np.ndarray, rms: float, file: Path, metadata: dict[str, str]
) -> None:
  """Recovered over true: the lower 48 states with exaggerated errors, all airports, and how large the errors are.

  ``true`` and ``found`` are latitudes and longitudes, ``(n, 2)``, in degrees; ``errors`` are in km.
  """
  figure = Figure(figsize=(12, 11.5), layout="constrained")
  panels = figure.subplot_mosaic("AA;BC", height_ratios=(2.1, 1), width_ratios=(1.7, 1))
  true, found = _for_map(true), _for_map(found)
  (x, y), (found_x, found_y) = true.T, found.T

  axes = panels["A"]
  ends = true + EXAGGERATION * (found - true)
  axes.plot(*np.stack([true, ends], 1).transpose(2, 1, 0), color="C3", linewidth=0.6, zorder=1)
  axes.plot([], [], color="C3", linewidth=0.6, label=f"error, {EXAGGERATION} times as long")
  axes.scatter(x, y, s=14, facecolors="none", edgecolors="0.55", linewidths=0.6, zorder=2, label="true")
  axes.scatter(found_x, found_y, s=4, color="C0", linewidths=0, zorder=3, label="recovered")
  axes.legend(loc="lower left", framealpha=1, markerscale=2)
  _as_map(axes, *CONTIGUOUS, step=10)
  axes.set_title("The contiguous United States")

  axes = panels["B"]
  axes.scatter(x, y, s=10, facecolors="none", edgecolors="0.55", linewidths=0.5)
  axes.scatter(found_x, found_y, s=2, color="C0", linewidths=0)
  _as_map(axes, *ALL, step=30)
  axes.set_title(f"All {len(true):,} airports")

  axes = panels["C"]
  axes.hist(errors, bins=40, color="C0")
  axes.axvline(rms, color="C3", label=f"root mean square {rms:.2f} km")
  axes.legend()
  axes.set(title="Errors", xlabel="km", ylabel="airports")
  figure.savefig(file, dpi=150, metadata=metadata)


def _for_map(degrees: np.ndarray) -> np.ndarray:
  """Longitudes from ``WESTMOST`` on and latitudes, ``(n, 2)``."""
  latitude, longitude = degrees.T
  return np.stack([(longitude - WESTMOST) % 360 + WESTMOST, latitude], 1)


def _as_map(axes: Axes, longitudes: tuple[int, int], latitudes: tuple[int, int], step: int) -> None:
  axes.set(xlim=longitudes, ylim=latitudes)
  east, north = (np.arange(-(-low // step) * step, high + 1, step) for low, high in (longitudes, latitudes))
  axes.set_xticks(east, [f"{min(k, 360 - k)}°{'E' if k <= 180 else 'W'}" for k in east])
  axes.set_yticks(north, [f"{abs(k)}°{'N' if k > 0 else 'S' if k < 0 else ''}" for k in north])
  axes.set_aspect(1 / np.cos(np.radians(np.mean(latitudes))))
  axes.grid(color="0.9")
  axes.set_axisbelow(True)
