"""The pictures of the command line: of a fit, and of the airports."""

import warnings
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jax_edm._cli import report
from jax_edm._cli.files import Distances

DRAWN_PAIRS = 20_000  # in the Shepard diagram
DRAWN_EIGENVALUES = 12
NUMBERED_POINTS = 40  # up to so many points get their label, or their number
LABEL_WIDTH = 24  # characters of a label are shown
EXAGGERATION = 20  # of the errors in the map
# Of the maps: longitudes, east of Greenwich, and latitudes. Longitudes begin in Asia: the Pacific is not cut.
WESTMOST = 90
ALL = ((WESTMOST, 300), (-20, 75))
CONTIGUOUS = ((234, 294), (24, 50))


def draw_fit(points: np.ndarray, distances: Distances, file: Path, metadata: dict[str, str]) -> None:
  """The points along their first two axes, the spectrum, and the Shepard diagram: fitted over measured distances."""
  eigenvalues = report.spectrum(points, distances.values)
  fitted, measured = report.pairs(points, distances.values)
  figure = Figure(figsize=(16, 5.4), layout="constrained")
  left, middle, right = figure.subplots(1, 3, width_ratios=(1.2, 0.8, 1))
  _draw_points(left, points, distances.labels)
  _draw_spectrum(middle, eigenvalues[:DRAWN_EIGENVALUES], points.shape[1])
  _draw_shepard(right, fitted, measured)
  for axes in (left, middle, right):
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
  if distances.unit != 1:
    figure.suptitle(f"lengths in units of {distances.unit:g}")
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Glyph .* missing from")  # of labels in scripts that the font does not have
    figure.savefig(file, dpi=150, metadata=metadata)


def _draw_points(axes: Axes, points: np.ndarray, labels: list[str] | None) -> None:
  n, dim = points.shape
  flat = points[:, :2] if dim > 1 else np.pad(points, ((0, 0), (0, 1)))
  axes.scatter(flat[:, 0], flat[:, 1], s=np.clip(4000 / n, 2, 40), color="C0", linewidths=0)
  for k, point in enumerate(flat if n <= NUMBERED_POINTS else []):
    name = labels[k][:LABEL_WIDTH] if labels else str(k + 1)
    text = axes.annotate(name, point, (4, 4), textcoords="offset points", fontsize=8, parse_math=False)
    text.set_in_layout(False)  # a long label must not make the axes small
  axes.set(title=f"{n:,} recovered points", xlabel="first principal axis", ylabel="second principal axis")
  axes.set_aspect("equal", "datalim")


def _draw_spectrum(axes: Axes, eigenvalues: np.ndarray, dim: int) -> None:
  numbers = range(1, len(eigenvalues) + 1)
  axes.bar(numbers, eigenvalues, color=["C0" if k <= dim else "0.7" for k in numbers])
  axes.axhline(0, color="0.4", linewidth=0.8)
  axes.set(title="Spectrum: is the dimension right?", xlabel="eigenvalue", ylabel="variance along the axis")
  axes.set_xticks(numbers)


def _draw_shepard(axes: Axes, fitted: np.ndarray, measured: np.ndarray) -> None:
  some = np.random.default_rng(0).permutation(len(measured))[:DRAWN_PAIRS]
  axes.plot([0, measured.max()], [0, measured.max()], color="0.6", linewidth=1, zorder=0)
  size = np.clip(40_000 / len(some), 2, 20)
  axes.scatter(measured[some], fitted[some], s=size, color="C3", alpha=0.5, linewidths=0, rasterized=True)
  shown = "" if len(some) == len(measured) else f", {len(some):,} of {len(measured):,} pairs"
  axes.set(title=f"Shepard diagram{shown}", xlabel="measured distance", ylabel="distance of the recovered points")
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
