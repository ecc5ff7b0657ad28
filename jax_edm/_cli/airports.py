"""The main job: 3,376 airports on a sphere, from a tenth of their distances, with noise.

An error in the vertical direction hardly changes the distances to other points of a cap of the sphere: if the airports
may lie anywhere in space, their errors point up and down. The job knows that they lie on a sphere, but not how large
it is. So the last stage of the descent is over directions and *one* radius, from which a map makes the points.
"""

import csv
import time
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jax_edm._cli import descent, output, plots, report
from jax_edm._cli.report import line
from jax_edm._mds.procrustes import procrustes

RADIUS = 6371.0  # of the Earth, in km
FRACTION = 0.1  # of the distances is measured
FILES = ("points.csv", "map.png")
NOISE = 0.01  # standard deviation, relative to each distance


class Airports(NamedTuple):
  codes: list[str]
  names: list[str]
  positions: np.ndarray  # (n, 3), km


def run(
  folder: Path, seed: int, force: bool = False, count: int | None = None, fraction: float = FRACTION
) -> list[str]:
  """``python -m jax_edm``; the lines of the report. ``count`` takes only so many of the airports."""
  begin = time.perf_counter()
  with output.all_or_nothing(folder, FILES, picture=FILES[1], force=force) as place:
    airports = load(count)
    measured = measure(airports.positions, fraction, seed)
    target = descent.prepare(measured)
    with descent.progress(len(measured), ON_SPHERE) as bar:
      free = descent.recover(target, 3, seed, bar)
      points = descend_on_sphere(free, target, bar)
    free, points = free * target.unit, points * target.unit
    radius = fit_sphere(points)[1]
    aligned = align(points, airports.positions)
    errors = np.linalg.norm(aligned - airports.positions, axis=1)
    free_errors = np.linalg.norm(align(free, airports.positions) - airports.positions, axis=1)
    table, picture = (place / name for name in FILES)
    write_table(airports, aligned, errors, table)
    true, found = _degrees(airports.positions), _degrees(aligned)
    plots.draw_airports(true, found, errors, rms(errors), picture, output.mark(table))
    return [
      line("airports", f"{len(points):,} on a sphere of {RADIUS:,.0f} km, {report.about_pairs(measured)}"),
      line("noise", f"{NOISE:.0%} of each distance"),
      line("gradient check", report.gradient_check(points)),
      line("stress", f"{report.stress(points, measured):.2e} of the root mean square distance"),
      line("error", f"{rms(errors):.2f} km root mean square ({rms(free_errors):.2f} km before the sphere)"),
      line("radius", f"{radius:,.1f} km, {radius / RADIUS - 1:+.3%} off"),
      line("wrote", ", ".join(str(folder / name) for name in FILES)),
      line("time", f"{time.perf_counter() - begin:.1f} s"),
    ]


def load(count: int | None = None) -> Airports:
  """The airports, or ``count`` of them, evenly spread over the table."""
  with (resources.files("jax_edm._cli") / "data" / "us_airports.csv").open(encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
  rows = [rows[k] for k in np.linspace(0, len(rows) - 1, count or len(rows)).astype(int)]
  latitude, longitude = (np.radians([float(row[key]) for row in rows]) for key in ("latitude", "longitude"))
  level = np.cos(latitude)
  up = np.stack([level * np.cos(longitude), level * np.sin(longitude), np.sin(latitude)], 1)
  return Airports([row["iata"] for row in rows], [row["name"] for row in rows], RADIUS * up)


def measure(positions: np.ndarray, fraction: float, seed: int) -> np.ndarray:
  """A fraction of the distances, with normal noise; NaN where not measured."""
  n, random = len(positions), np.random.default_rng(seed)
  i, j = np.nonzero(np.triu(random.random((n, n)) < fraction, 1))
  exact = np.linalg.norm(positions[i] - positions[j], axis=1)
  measured = np.full((n, n), np.nan)
  measured[i, j] = measured[j, i] = np.abs(exact * (1 + NOISE * random.standard_normal(len(exact))))
  return measured


def rms(errors: np.ndarray) -> float:
  return float(np.sqrt(np.mean(errors**2)))


def descend_on_sphere(free: np.ndarray, target: descent.Target, bar: tqdm) -> np.ndarray:
  """Points of one sphere, of whatever radius fits the distances best, starting near ``free``."""
  centre, radius = fit_sphere(free)
  up = (free.mean(0) - centre) / np.linalg.norm(free.mean(0) - centre)
  frame = np.linalg.svd(up[None])[2]  # its first row is up, or down
  frame *= np.sign(frame[0] @ up)
  x = jnp.asarray((free - centre - radius * up) @ frame.T, jnp.float32)
  params = (_on_sphere((x, jnp.float32(radius))), jnp.float32(radius))

  def slope(radius: jax.Array) -> jax.Array:
    return jax.grad(lambda radius: descent.squared_stress(_on_sphere((params[0], radius)), target))(radius)

  curvature = (target.curvature, jax.jit(jax.grad(slope))(params[1]))
  params, _ = descent.descend(ON_SPHERE, jax.tree.map(lambda a: a[None], params), curvature, target, bar)
  return np.asarray(jax.vmap(_on_sphere)(params)[0], np.float64)


def _on_sphere(params: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Points moved straight up or down, onto the sphere of a radius whose top is the origin.

  A larger sphere has the same top: the points stay near their places while it bends them less. With a fixed centre
  they would all drift apart, and the descent would need hundreds of steps to find the radius.
  """
  points, radius = params
  up = jnp.eye(3, dtype=points.dtype)[0]
  from_centre = points + radius * up
  return radius * (from_centre / jnp.linalg.norm(from_centre, axis=1, keepdims=True) - up)


ON_SPHERE = descent.Stage(steps=100, momentum=0.9, dim=3, place=_on_sphere)


def fit_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
  """Centre and radius by linear least squares: ``|p|^2 = 2 <c, p> + (r^2 - |c|^2)``."""
  system = np.column_stack([2 * points, np.ones(len(points))])
  *centre, rest = np.linalg.lstsq(system, (points**2).sum(1))[0]
  return np.array(centre), float(np.sqrt(rest + np.dot(centre, centre)))


def align(points: np.ndarray, positions: np.ndarray) -> np.ndarray:
  """``points`` moved and turned, and mirrored where that is better, onto ``positions``; never scaled."""
  return np.asarray(procrustes(jnp.asarray(points), jnp.asarray(positions)).aligned, np.float64)


def write_table(airports: Airports, points: np.ndarray, errors: np.ndarray, file: Path) -> None:
  with file.open("w", newline="", encoding="utf-8") as out:
    table = csv.writer(out)
    table.writerow(["iata", "name", "x", "y", "z", "latitude", "longitude", "error_km"])
    columns = zip((*points.T, *_degrees(points).T, errors), (3, 3, 3, 5, 5, 3), strict=True)
    numbers = [[f"{k:.{digits}f}" for k in column] for column, digits in columns]
    table.writerows(zip(airports.codes, airports.names, *numbers, strict=True))


def _degrees(points: np.ndarray) -> np.ndarray:
  """Latitudes and longitudes, ``(n, 2)``."""
  x, y, z = points.T
  return np.degrees(np.stack([np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)], 1))
