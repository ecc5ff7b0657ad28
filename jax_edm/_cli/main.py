"""The command line, ``python -m jax_edm``: parse, call, print.

Each command imports what it needs when it runs, so that Ctrl-C is handled then, too, and that ``--help`` is fast.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from jax_edm._cli import output, parser
from jax_edm._cli.errors import UserError
from jax_edm._cli.terminal import complain, printable, write

EXTRA = ("optax", "matplotlib", "tqdm", "pandas")  # pyproject.toml, "cli"
INTERRUPTED = 130  # the exit code of Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
  """Run a command, and return its exit code."""
  if sys.stderr is None:  # it was closed, but progress bars write to it
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
  try:
    with output.stopped_by_signals():
      options = parser.parse(arguments)
      lines = COMMANDS[options.command](options)
      if write("".join(f"{printable(line)}\n" for line in lines), sys.stdout):
        return 0
      return complain("the files were written, but the report could not be printed.")
  except UserError as mistake:
    return complain(str(mistake))
  except ModuleNotFoundError as missing:
    if missing.name not in EXTRA:
      raise
    return complain(f'{missing.name} is not installed. Run pip install "jax-edm[cli]".')
  except MemoryError:
    return complain("there is not enough memory for so many points; nothing was written.")
  except KeyboardInterrupt:
    return complain("interrupted; nothing was written.", INTERRUPTED)


def _run_airports(options: Namespace) -> list[str]:
  from jax_edm._cli import airports

  return airports.run(options.output or Path("airports"), options.seed, options.force)


def _run_fit(options: Namespace) -> list[str]:
  from jax_edm._cli import fit, methods

  search = methods.Search(options.method, options.seed, options.restarts, options.max_steps, options.tolerance)
  return fit.run(
    fit.Job(
      options.file,
      options.dim,
      options.output or Path("fit"),
      search,
      weights=options.weights,
      lower=options.lower,
      upper=options.upper,
      anchors=options.anchors,
      squared=options.squared,
      picture=options.picture,
      format=options.format,
      force=options.force,
    )
  )


def _run_edm(options: Namespace) -> list[str]:
  from jax_edm._cli import matrix

  return matrix.run(options.file, options.output, distances=options.distances, index=options.index, force=options.force)


COMMANDS = {"airports": _run_airports, "fit": _run_fit, "edm": _run_edm}
