"""The command line, ``python -m jax_edm``: parse, call, print."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import jax_edm
from jax_edm._cli import files

MISSING: str | None = None
try:
  from jax_edm._cli import airports, fit
except ModuleNotFoundError as error:  # optax, matplotlib and tqdm are an extra; the command `edm` needs none of them
  MISSING = error.name

MISTAKE, INTERRUPTED = 2, 130  # exit codes; the first is also that of argparse

DESCRIPTION = """\
Points from distances, by gradient descent through differentiable Euclidean distance matrices.

Without a command: recovers 3,376 airports from 10 % of their distances, with 1 % noise, starting from random
positions. Writes points.csv and map.png, and takes less than a minute on two cores.
"""


def main(arguments: Sequence[str] | None = None) -> int:
  """Run a command, and return its exit code."""
  options = _parser().parse_args(arguments)
  try:
    if MISSING is not None and options.run is not _run_edm:
      raise files.UserError(f'{MISSING} is not installed. Run pip install "jax-edm[cli]".')
    for text in options.run(options):
      print(text)
  except files.UserError as mistake:
    print(f"jax_edm: {mistake}", file=sys.stderr)
    return MISTAKE
  except KeyboardInterrupt:
    print("jax_edm: interrupted; nothing was written.", file=sys.stderr)
    return INTERRUPTED
  return 0


def _run_airports(options: argparse.Namespace) -> list[str]:
  return airports.run(options.output or Path("airports"), options.seed)


def _run_fit(options: argparse.Namespace) -> list[str]:
  output = options.output or Path("fit")
  return fit.run(options.file, options.dim, options.squared, output, options.seed, options.method)


def _run_edm(options: argparse.Namespace) -> list[str]:
  files.check_suffix("--output", options.output)
  points = files.read_points(options.file)
  with files.all_or_nothing(options.output.parent) as place:
    # Centred while still in double precision: what is far from the origin keeps its digits.
    x = jnp.asarray(points - points.mean(0))
    matrix = np.asarray(jax_edm.distances(x) if options.distances else jax_edm.edm(x))
    if not np.isfinite(matrix).all():
      raise files.error(options.file, "distances must fit single precision", "infinity", "Choose a larger unit")
    files.write(place / options.output.name, matrix)
  return [f"{'distances' if options.distances else 'squared distances'} {matrix.shape}, wrote {options.output}"]


def _parser() -> argparse.ArgumentParser:
  form = argparse.RawDescriptionHelpFormatter
  parser = argparse.ArgumentParser("python -m jax_edm", description=DESCRIPTION, formatter_class=form)
  parser.set_defaults(run=_run_airports)
  parser.add_argument("--version", action="version", version=f"jax_edm {jax_edm.__version__}")
  parser.add_argument("--output", metavar="DIR", type=Path, help="folder for the files (default: airports)")
  parser.add_argument("--seed", type=seed, default=0, help="of the noise and of the random positions (default: 0)")
  commands = parser.add_subparsers(title="commands", metavar="{fit,edm}")

  text = """Recovers points from your own distances. Writes points.csv, the points along their principal axes, and
    fit.png, a picture of them beside the spectrum and the Shepard diagram."""
  fit = commands.add_parser("fit", help="points from your own distances", description=text)
  fit.set_defaults(run=_run_fit)
  text = """a square matrix, .npy or .csv (with or without a header line). NaN or an empty entry: not measured; one of
    the two entries of a pair is enough"""
  fit.add_argument("file", metavar="DISTANCES", type=Path, help=text)
  fit.add_argument("--dim", type=int, required=True, help="number of coordinates to recover")
  text = "gradient: descent from random positions; smacof: majorization from classical MDS (default: gradient)"
  fit.add_argument("--method", choices=("gradient", "smacof"), default="gradient", help=text)
  fit.add_argument("--squared", action="store_true", help="the entries are squared distances")
  # No defaults: they would overwrite what the user wrote before the command.
  none = argparse.SUPPRESS
  fit.add_argument("--output", metavar="DIR", type=Path, default=none, help="folder for the files (default: fit)")
  fit.add_argument("--seed", type=seed, default=none, help="of the random positions to start from (default: 0)")

  text = "Computes the matrix of squared distances between your own points, in single precision."
  edm = commands.add_parser("edm", help="the distance matrix of your own points", description=text)
  edm.set_defaults(run=_run_edm)
  text = "one row of coordinates for each point, .npy or .csv (with or without a header line)"
  edm.add_argument("file", metavar="POINTS", type=Path, help=text)
  edm.add_argument("--output", metavar="FILE", type=Path, required=True, help="the matrix, .npy or .csv")
  edm.add_argument("--distances", action="store_true", help="distances instead of their squares")
  return parser


def seed(text: str) -> int:
  if (value := int(text)) < 0:
    raise argparse.ArgumentTypeError("it must not be negative")
  return value
