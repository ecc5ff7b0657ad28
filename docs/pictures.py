"""The pictures of README and of the guides: ``python docs/pictures.py``, from the root, with extra cli."""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from benchmarks.points import problem  # noqa: E402
from jax_edm import classical_mds, distances, matern, procrustes, radial, safe_root, smacof  # noqa: E402

DELETED = 110
CONTIGUOUS = ((-126, -66), (24, 50))  # degrees of longitude and latitude
RESULTS = ROOT / "benchmarks" / "results" / "x86_64-2cores-jax0.10.1-points.json"


def overview(file: Path) -> None:
  """Points with the gradient of a loss, also where two coincide; their distances; and points from distances."""
  random, sets = np.random.default_rng(2), np.repeat(np.arange(3), 8)
  x = 2.2 * np.array([[0, 1], [-0.9, -0.5], [0.9, -0.5]])[sets] + random.normal(size=(24, 2)) * 0.75
  x[5], x[13] = x[4], x[12]  # the same point twice
  same = sets[:, None] == sets

  def loss(x: jax.Array) -> jax.Array:  # near each other in a set, and 5 apart otherwise
    r = distances(x)
    return jnp.where(same, r, jnp.maximum(5 - r, 0)).sum()

  down = -np.asarray(jax.jit(jax.grad(loss))(x.astype(np.float32)))
  assert np.isfinite(down).all()
  figure = Figure(figsize=(13, 3.5), layout="constrained")
  points, matrix, map_ = figure.subplots(1, 3, width_ratios=(1, 1.05, 1.6))
  points.quiver(*x.T, *down.T, color="0.55", width=0.006)
  points.scatter(*x.T, c=[f"C{k}" for k in sets], zorder=3)
  points.scatter(*x[[4, 12]].T, s=130, facecolors="none", edgecolors="k", label="two points at one place")
  points.set(title="a loss of distances(x), and its gradient", aspect="equal", xticks=[], yticks=[])
  points.margins(0.15)
  points.legend(loc="upper left", fontsize=8)
  figure.colorbar(matrix.imshow(np.asarray(distances(x.astype(np.float32)))), shrink=0.85)
  matrix.set(title="distances(x)", xticks=[], yticks=[])
  places = airports()
  map_.scatter(*places[:, :2].T, s=2.5)
  error = np.sqrt(np.mean(places[:, 2] ** 2))
  map_.set(xlim=CONTIGUOUS[0], ylim=CONTIGUOUS[1], aspect=1.25, xticks=[], yticks=[])
  map_.set_title(f"{len(places):,} airports from 10 % of their distances, {error:.1f} km off")
  figure.savefig(file, dpi=110)


def airports() -> np.ndarray:
  """Longitude, latitude and error in km of each airport, as the main job finds them."""
  with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.executable, "-m", "jax_edm", "--output", folder], check=True, capture_output=True, cwd=ROOT)
    with open(Path(folder) / "points.csv", encoding="utf-8") as lines:
      rows = [[row["longitude"], row["latitude"], row["error_km"]] for row in csv.DictReader(lines)]
  return np.asarray(rows, np.float64)


def recovery(file: Path) -> None:
  """A matrix with 110 of its 190 pairs deleted, the points, and how often points are recovered, by deleted pairs."""
  squared, known = problem(3, DELETED)
  truth = classical_mds(squared, 2).points
  found = smacof(np.sqrt(squared), 2, weights=known, key=jax.random.key(0), restarts=10)
  aligned = procrustes(found.points, truth).aligned
  figure = Figure(figsize=(13, 4.2), layout="constrained")
  matrix, places, rate = figure.subplots(1, 3)
  image = matrix.imshow(np.where(known, np.sqrt(squared), np.nan))
  figure.colorbar(image, label="distance")
  matrix.set_title(f"{190 - DELETED} of 190 distances are known")
  for i, j in np.argwhere(np.triu(known)):
    places.plot(*np.asarray(truth)[[i, j]].T, color="0.85", linewidth=0.7, zorder=0)
  places.scatter(*np.asarray(truth).T, s=90, facecolors="none", edgecolors="0.4", label="true")
  places.scatter(*np.asarray(aligned).T, s=14, color="C0", label="recovered")
  places.legend()
  places.set_aspect("equal", "datalim")
  places.set_title("smacof, aligned by procrustes")
  rows = json.loads(RESULTS.read_text())["recovered"]
  deleted = [row["deleted"] for row in rows]
  rate.plot(deleted, [row["recovered"] for row in rows], "o-", color="C0", label="10 starts")
  rate.set(ylim=(0, 104), xlabel="deleted pairs, of 190", ylabel="problems recovered, of 100", title="How often")
  figure.savefig(file, dpi=110)


def methods(file: Path) -> None:
  """Spectrum and error of classical MDS and of SMACOF, for noise that grows with the distance."""
  x = np.random.default_rng(0).normal(size=(80, 2)) * [2, 1]
  figure = Figure(figsize=(11, 4.2), layout="constrained")
  spectrum, error = figure.subplots(1, 2)
  levels = [0.0, 0.02, 0.05, 0.1, 0.2, 0.3]
  errors = {"classical_mds": [], "smacof": [], "smacof, weights 1 / target²": []}
  exact = np.asarray(distances(jnp.asarray(x)), np.float64)
  for level in levels:
    noise = np.random.default_rng(1).normal(size=exact.shape)
    target = np.abs(exact * (1 + level * np.triu(noise, 1) + level * np.triu(noise, 1).T))
    classical = classical_mds(target**2, 2)
    weights = np.where(target > 0, 1 / np.maximum(target**2, 1e-3), 0)
    for name, points in (
      ("classical_mds", classical.points),
      ("smacof", smacof(target, 2).points),
      ("smacof, weights 1 / target²", smacof(target, 2, weights=weights).points),
    ):
      errors[name].append(float(procrustes(points, x).rmsd))
    if level in (0.0, 0.1, 0.3):
      spectrum.plot(range(1, 11), classical.eigenvalues[:10] / 80, "o-", label=f"noise {level:.0%}")
  spectrum.axhline(0, color="0.5", linewidth=0.8)
  spectrum.set(title="Eigenvalues of classical MDS", xlabel="eigenvalue", ylabel="variance along the axis")
  spectrum.legend()
  for name, values in errors.items():
    error.plot([100 * level for level in levels], values, "o-", label=name)
  error.set(title="80 points in the plane", xlabel="noise, % of each distance", ylabel="root mean square error")
  error.legend()
  figure.savefig(file, dpi=110)
  print({name: [round(value, 4) for value in values] for name, values in errors.items()})


def derivatives_of_a_kernel(file: Path) -> None:
  """Errors of the derivatives of the Matern kernel of 5/2 with respect to the squared distance, in float32."""
  D = (np.logspace(-12, 1.5, 400) ** 2).astype(np.float32)
  u = np.sqrt(5 * D.astype(np.float64))
  exact = [-5 / 6 * (1 + u) * np.exp(-u), 25 / 12 * np.exp(-u)]

  def by_hand(r: jax.Array) -> jax.Array:
    return (1 + 5**0.5 * r + 5 / 3 * r**2) * jnp.exp(-(5**0.5) * r)

  sides = {
    "by hand, with safe_root": lambda D: by_hand(safe_root(D)),
    "radial": radial(by_hand),
    "matern": lambda D: matern(D, 2.5),
  }
  figure = Figure(figsize=(11, 4.2), layout="constrained")
  for axes, order in zip(figure.subplots(1, 2), (1, 2), strict=True):
    for color, (name, kernel) in zip(("C3", "C1", "C0"), sides.items(), strict=True):
      derivative = jax.grad(kernel) if order == 1 else jax.grad(jax.grad(kernel))
      found = np.asarray(jax.jit(jax.vmap(derivative))(D), np.float64)
      error = np.nan_to_num(np.abs(found / exact[order - 1] - 1), nan=np.inf)
      axes.loglog(np.sqrt(D), np.clip(error, 1e-8, 1e12), ".", markersize=3, color=color, label=name)
    axes.axhline(float(np.finfo(np.float32).eps), color="0.5", linewidth=0.8)
    title = f"{('first', 'second')[order - 1]} derivative with respect to the squared distance"
    axes.set(title=title, xlabel="distance", ylabel="relative error", ylim=(5e-9, 2e12))
    axes.legend()
  figure.savefig(file, dpi=110)


if __name__ == "__main__":
  overview(ROOT / "docs" / "overview.png")
  derivatives_of_a_kernel(ROOT / "docs" / "radial_error.png")
  recovery(ROOT / "docs" / "points_recovery.png")
  methods(ROOT / "docs" / "points_methods.png")
