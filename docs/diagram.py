"""The picture of docs/architecture.md: who calls whom. ``python docs/diagram.py``, from the root, with extra cli.

Every arrow is an import that stands in the code; an arrow without one is an error.
"""

import ast
import re
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).resolve().parents[1]
HEIGHT = 0.62
COLORS = {"_cli": "#ede7f6", "_mds": "#e3f2fd", "_pairwise": "#e8f5e9", "_core": "#fff8e1", "": "#eceff1"}
CLI = "_cli.main _cli.fit _cli.descent _cli.methods _cli.matrix"
PUBLIC = "_core.edm _core.jacobian _core.matern _core.radial"
# A box: the modules that it stands for, what it says, and its centre and width.
BOXES: dict[str, tuple[str, str, float, float, float]] = {
  "cli": (CLI, "_cli: python -m jax_edm", 5.0, 10.2, 9.6),
  "smacof": ("_mds.smacof _mds.edges _mds.place", "smacof, smacof_edges, place", 2.3, 9.1, 2.9),
  "spectral": ("_mds.classical _mds.procrustes _mds.sylvester", "classical_mds, procrustes", 8.75, 9.1, 2.1),
  "implicit": ("_mds.implicit", "implicit: derivative\nof a minimum", 1.1, 8.0, 1.75),
  "stress": ("_mds.stress _mds.forces", "stress,\nguttman_transform", 3.35, 8.0, 1.9),
  "sums": ("_pairwise.api", "pairwise_sum,\npairwise_logsumexp", 3.6, 6.8, 1.9),
  "nearest": ("_pairwise.nearest", "nearest", 6.5, 6.8, 1.1),
  "public": (PUBLIC, "edm, distances,\nmatern, radial", 8.55, 6.8, 1.7),
  "problem": ("_pairwise.problem _pairwise.reductions", "problem: the data;\nreductions of a block", 2.5, 5.7, 2.05),
  "execution": ("_pairwise.execution", "execution", 4.75, 5.7, 1.2),
  "pallas": ("_pairwise.pallas.sums _pairwise.pallas.rule", "pallas/:\nkernels", 3.0, 4.6, 1.35),
  "blocked": ("_pairwise.blocked", "blocked:\nrows, tiles", 4.6, 4.6, 1.35),
  "near": ("_pairwise.near.sums _pairwise.near.nearest", "near/: tiles\nof neighbours", 6.2, 4.6, 1.35),
  "ring": ("_pairwise.ring _pairwise.rounds", "ring, rounds:\nmany devices", 7.8, 4.6, 1.35),
  "points": ("_core.points", "points: two sets, or rows of one", 4.6, 3.55, 2.9),
  "derivatives": ("_core.derivatives", "derivatives: the rules of D, B and P", 6.05, 2.5, 7.3),
  "linear": ("_core.linear", "linear: the primitive,\nwith tangent and transpose", 2.1, 1.45, 3.8),
  "distance": ("_core.distance", "distance: D, B and P as array functions", 7.1, 1.45, 5.2),
  "all": (
    "_errors",
    "for all: _errors (checks, messages), _sharding (which device computes which rows)",
    5.0,
    0.4,
    9.6,
  ),
}
# "caller>callee x": the arrow goes straight down at x.
ARROWS = """cli>smacof 2.3, cli>spectral 8.5, cli>sums 5.0, cli>public 7.0, smacof>implicit 1.3, smacof>stress 3.3,
stress>sums 3.5, implicit>linear 0.6, sums>problem 2.9, sums>execution 4.4, nearest>near 6.3, nearest>ring 6.9,
execution>pallas 4.3, execution>blocked 4.6, execution>near 5.2, execution>ring 5.3, blocked>points 4.6,
points>derivatives 4.6, public>derivatives 8.9, spectral>derivatives 9.6, derivatives>linear 3.2,
derivatives>distance 7.1""".replace("\n", " ").split(", ")


def imported(module: str) -> set[str]:
  """The modules of the package that a module imports."""
  path = ROOT / "jax_edm" / Path(*module.split("."))
  found = set()
  for node in ast.walk(ast.parse(path.with_suffix(".py").read_text(encoding="utf-8"))):
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jax_edm":
      found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
  return {name.removeprefix("jax_edm.") for name in found if name}


def check(caller: str, callee: str) -> None:
  callers, callees = (BOXES[name][0].split() for name in (caller, callee))
  if not any(set(callees) & imported(module) for module in callers) and caller != "cli":  # that uses what users use
    raise ValueError(f"no module of {caller} imports one of {callee}")


def within(x: float, name: str) -> float:
  """The place on a box that is nearest to x."""
  _, _, centre, _, width = BOXES[name]
  return min(max(x, centre - width / 2 + 0.1), centre + width / 2 - 0.1)


def draw(file: Path) -> None:
  figure = Figure(figsize=(11, 8.4), layout="constrained")
  axes = figure.subplots()
  axes.set(xlim=(0, 10), ylim=(0, 10.7))
  axes.axis("off")
  for caller, callee, place in (re.split("[> ]", arrow) for arrow in ARROWS):
    check(caller, callee)
    start = within(float(place), caller), BOXES[caller][3] - HEIGHT / 2 - 0.05
    end = within(float(place), callee), BOXES[callee][3] + HEIGHT / 2 + 0.05
    style = {"arrowstyle": "-|>", "color": "0.45", "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=style, zorder=1)
  for modules, text, x, y, width in BOXES.values():
    part = modules.split(".")[0].split()[0]
    box = FancyBboxPatch((x - width / 2, y - HEIGHT / 2), width, HEIGHT, boxstyle="round,pad=0.05", linewidth=0.8)
    box.set(facecolor=COLORS.get(part, COLORS[""]), edgecolor="0.5", zorder=2)
    axes.add_patch(box)
    axes.text(x, y, text, ha="center", va="center", fontsize=9.5, zorder=3)
  for column, (part, color) in enumerate(list(COLORS.items())[1:4]):
    axes.text(5.2 + 0.75 * column, 8.0, part, backgroundcolor=color, fontsize=9, va="center")
  figure.savefig(file, dpi=110)


if __name__ == "__main__":
  draw(ROOT / "docs" / "architecture.png")
