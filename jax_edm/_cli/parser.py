"""The options of the command line, and what is wrong with them."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax_edm
from jax_edm._cli import terminal
from jax_edm._cli.errors import error

MOST_SEED = 2**32 - 1
METHODS = ("gradient", "smacof", "classical")
# The options that a method has beside those of all methods.
OPTIONS = {
  "gradient": ("weights", "restarts", "max_steps"),
  "smacof": ("weights", "lower", "upper", "anchors", "restarts", "max_steps", "tolerance"),
  "classical": (),
}
OF_MATRICES = ("weights", "lower", "upper", "restarts")  # that edge lists do not have
FEWEST_STEPS = 50  # of the gradient method: one call of each of its two stages

DESCRIPTION = """\
Points from distances, by gradient descent through differentiable Euclidean distance matrices.

Without a command: recovers 3,376 airports from 10 % of their distances, with 1 % noise, starting from random
positions. Writes points.csv and map.png, and takes less than a minute on two cores.
"""
EPILOG = """\
examples:
  {prog} fit distances.csv --dim 2                    points.csv and fit.png in the folder fit
  {prog} fit distances.csv --dim 2 --anchors known.csv
  {prog} edm points.csv --output distances.npy --distances
  {prog} fit --help                                   all options of a command
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
  options = _parser().parse_args(arguments)
  if options.command == "fit":
    _check_fit(options)
  return options


def _check_fit(options: argparse.Namespace) -> None:
  """There are distances or bounds, and the method can do what is asked."""
  from jax_edm._cli import edges  # here, because `--help` needs none of it

  bounds = options.lower or options.upper
  missing = [
    name for name, there in (("DISTANCES", options.file or bounds), ("--dim", options.dim is not None)) if not there
  ]
  if missing:
    options.parser.error(f"the following arguments are required: {', '.join(missing)}")
  if options.file and options.lower and options.upper:
    got, advice = "DISTANCES, --lower and --upper", "Leave out DISTANCES, or the bound that the distances are"
    raise error("DISTANCES", "a pair has two bounds, of which DISTANCES may be one", got, advice)
  are_edges = options.file is not None and edges.is_edge_list(options.file)
  for name in OF_MATRICES if are_edges else ():
    if getattr(options, name) is not None:
      advice = f"Leave out --{name}"
      raise error(f"--{name}", "it needs a matrix of distances", f"the edge list {options.file}", advice)
  for name in ("lower", "upper", "weights"):
    if (file := getattr(options, name)) is not None and edges.is_edge_list(file):
      raise error(f"--{name}", "it must be a matrix", f"the edge list {file}", "Write it as the distances are written")
  if options.method is None:
    options.method = "smacof" if are_edges or bounds or options.anchors else "gradient"
  if are_edges and options.method != "smacof":
    got = f"--method {options.method}"
    raise error(options.file, "an edge list needs --method smacof", got, "Leave out --method")
  _check_method(options)


class _Parser(argparse.ArgumentParser):
  """Says in one line what is wrong."""

  def error(self, message: str) -> NoReturn:
    message = message.removeprefix("argument ").rstrip(".")
    raise SystemExit(terminal.complain(f"{message}. Run {self.prog} --help for all options."))

  def _print_message(self, message: str, file: Any = None) -> None:
    if not terminal.write(message, file or sys.stderr):  # argparse would say nothing
      raise SystemExit(terminal.complain("the text could not be printed."))


def _parser() -> _Parser:
  prog = "jax-edm" if Path(sys.argv[0]).stem == "jax-edm" else "python -m jax_edm"
  form = argparse.RawDescriptionHelpFormatter
  parser = _Parser(
    prog, description=DESCRIPTION, epilog=EPILOG.format(prog=prog), formatter_class=form, allow_abbrev=False
  )
  parser.set_defaults(command="airports")
  parser.add_argument("--version", action="version", version=f"jax_edm {jax_edm.__version__}")
  parser.add_argument("--output", metavar="DIR", type=_path, help="folder for the files (default: airports)")
  parser.add_argument("--seed", type=_seed, default=0, help="of the noise and of the random positions (default: 0)")
  text = "replace files that no earlier run made, too"
  parser.add_argument("--force", action="store_true", help=text)
  commands = parser.add_subparsers(title="commands", metavar="{fit,edm}")
  _add_fit(commands)
  _add_edm(commands)
  return parser


def _add_fit(commands: "argparse._SubParsersAction[_Parser]") -> None:
  text = """Recovers points from your own distances. Writes points.csv, the points along their principal
    axes or in the coordinates of anchors, and
    fit.png, a picture of them beside the spectrum and the Shepard diagram."""
  usage = """%(prog)s DISTANCES --dim DIM [options]
       %(prog)s --lower FILE --upper FILE --dim DIM [options]"""
  about = "points from your own distances"
  fit = commands.add_parser("fit", help=about, description=text, usage=usage, allow_abbrev=False)
  fit.set_defaults(command="fit", parser=fit)
  text = """a square matrix, a triangle of it, or its condensed form as one column, .npy or .csv, as NumPy, pandas, R
    and spreadsheets write them, with or without labels of rows and columns. NaN, NA or an empty entry: not measured;
    one of the two entries of a pair is enough. Or an edge list, for what is too large for a matrix: .csv with the
    columns i, j, distance and perhaps weight, and a line for each measured pair, of which i and j are the labels"""
  fit.add_argument("file", metavar="DISTANCES", type=_path, nargs="?", help=text)
  fit.add_argument("--dim", type=_whole, help="number of coordinates to recover")
  fit.add_argument("--squared", action="store_true", help="the distances, and bounds of them, are squared")
  text = """weights of the distances, a matrix like DISTANCES; 0: not measured. The best weight is the inverse of the
    variance"""
  fit.add_argument("--weights", metavar="FILE", type=_path, help=text)
  text = """bounds of the distances, matrices like DISTANCES; NaN, NA or an empty entry: no bound. A bound without a
    file is DISTANCES, which may be left out"""
  fit.add_argument("--lower", metavar="FILE", type=_path, help=text)
  fit.add_argument("--upper", metavar="FILE", type=_path, help="as --lower; inf: no bound")
  text = """points whose positions are known, and in whose coordinates the others are written: the label and the
    coordinates of each, or without labels one row for each point, empty where the position is not known"""
  fit.add_argument("--anchors", metavar="FILE", type=_path, help=text)
  text = """gradient: descent from random positions; smacof: majorization from classical MDS and random positions;
    classical: classical MDS, in closed form, of all distances (default: gradient, or smacof with bounds, anchors or an
    edge list, which the others cannot use)"""
  fit.add_argument("--method", choices=METHODS, help=text)
  text = "number of starts, of which the best counts (default: 1 to 16, more for fewer points)"
  fit.add_argument("--restarts", type=_positive, metavar="K", help=text)
  text = """steps from each start, at most (default: smacof 3000, 200 of an edge list; gradient 600 to 7200, more for
    fewer points)"""
  fit.add_argument("--max-steps", type=_positive, metavar="N", help=text)
  text = "smacof stops where a step moves the points by less, relative to their spread (default: 1e-6)"
  fit.add_argument("--tolerance", type=_tolerance, metavar="T", help=text)
  # No defaults: they would overwrite what the user wrote before the command.
  none = argparse.SUPPRESS
  fit.add_argument("--seed", type=_seed, default=none, help="of the random positions to start from (default: 0)")
  fit.add_argument("--output", metavar="DIR", type=_path, default=none, help="folder for the files (default: fit)")
  text = "of the points: points.csv, or points.npy without labels (default: csv)"
  fit.add_argument("--format", choices=("csv", "npy"), default="csv", help=text)
  fit.add_argument("--no-picture", dest="picture", action="store_false", help="write the points only")
  text = "replace files that no earlier run of fit made, or that have changed since"
  fit.add_argument("--force", action="store_true", default=none, help=text)


def _add_edm(commands: "argparse._SubParsersAction[_Parser]") -> None:
  text = "Computes the matrix of squared distances between your own points, in single precision."
  edm = commands.add_parser("edm", help="the distance matrix of your own points", description=text, allow_abbrev=False)
  edm.set_defaults(command="edm")
  text = """one row of coordinates for each point, .npy or .csv, as NumPy, pandas, R and spreadsheets write them, with
    or without a header line"""
  edm.add_argument("file", metavar="POINTS", type=_path, help=text)
  edm.add_argument("--output", metavar="FILE", type=_path, required=True, help="the matrix, .npy or .csv")
  edm.add_argument("--distances", action="store_true", help="distances instead of their squares")
  text = "the first column holds labels, or it is a coordinate (default: labels if it holds text or has their header)"
  edm.add_argument("--index", action=argparse.BooleanOptionalAction, help=text)
  edm.add_argument(
    "--force", action="store_true", default=argparse.SUPPRESS, help="replace FILE if it is there already"
  )


def _check_method(options: argparse.Namespace) -> None:
  """The options that were given are those of the method."""
  for name in OPTIONS["smacof"]:  # which has them all
    if getattr(options, name) is not None and name not in OPTIONS[options.method]:
      takers = " or ".join(method for method, names in OPTIONS.items() if name in names)
      option = f"--{name.replace('_', '-')}"
      raise error(option, f"it needs --method {takers}", f"--method {options.method}", f"Leave out {option}")
  if options.method == "gradient" and options.max_steps is not None and options.max_steps < FEWEST_STEPS:
    expected = f"the gradient method takes at least {FEWEST_STEPS} steps"
    raise error("--max-steps", expected, str(options.max_steps), "Allow more, or use --method smacof")


def _path(text: str) -> Path:
  if not text or "\0" in text:
    raise argparse.ArgumentTypeError(f"it must be the name of a file or folder. Got {text!r}")
  return Path(text)


def _seed(text: str) -> int:
  if not text.isdecimal() or len(text) > 10 or int(text) > MOST_SEED:
    raise argparse.ArgumentTypeError(f"it must be a whole number from 0 to {MOST_SEED}. Got {text[:40]!r}")
  return int(text)


def _whole(text: str) -> int:
  if not text.removeprefix("-").isdecimal() or len(text) > 9:
    raise argparse.ArgumentTypeError(f"it must be a whole number. Got {text[:40]!r}")
  return int(text)


def _positive(text: str) -> int:
  if not text.isdecimal() or len(text) > 9 or int(text) < 1:
    raise argparse.ArgumentTypeError(f"it must be a whole number, at least 1. Got {text[:40]!r}")
  return int(text)


def _tolerance(text: str) -> float:
  try:
    value = float(text)
  except ValueError:
    value = -1.0
  if not 0 <= value < 1:
    raise argparse.ArgumentTypeError(f"it must be a number from 0 to less than 1. Got {text[:40]!r}")
  return value
