"""The command line, ``python -m jax_edm``: parse, call, print.

Each command imports what it needs when it runs, so that Ctrl-C is handled then, too, and that ``--help`` is fast.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from jax_edm._cli import output, parser
from jax_edm._cli.errors import UserError

EXTRA = ("optax", "matplotlib", "tqdm", "pandas")  # pyproject.toml, "cli"
MISTAKE, SIGNAL = 2, 128  # exit codes; the first is also that of argparse, to the second the number is added


def main(arguments: Sequence[str] | None = None) -> int:
  """Run a command, and return its exit code."""
  if sys.stderr is None:  # it was closed
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
  try:
    with output.stopped_by_signals():
      options = parser.parse(arguments)
      lines = COMMANDS[options.command](options)
  except UserError as mistake:
    return _complain(str(mistake), MISTAKE)
  except ModuleNotFoundError as missing:
    if missing.name not in EXTRA:
      raise
    return _complain(f'{missing.name} is not installed. Run pip install "jax-edm[cli]".', MISTAKE)
  except KeyboardInterrupt as stop:
    number = stop.args[0] if stop.args else 2
    return _complain(f"{'interrupted' if number == 2 else 'terminated'}; nothing was written.", SIGNAL + number)
  except SystemExit as end:  # --help and --version, and what argparse found wrong
    if not _print([]):
      raise SystemExit(_complain("the text could not be printed.", MISTAKE)) from end
    raise
  except (MemoryError, RuntimeError) as problem:
    if not isinstance(problem, MemoryError) and "RESOURCE_EXHAUSTED" not in str(problem):
      raise
    return _complain("there is not enough memory for so many points; nothing was written.", MISTAKE)
  return 0 if _print(lines) else _complain("the files were written, but the report could not be printed.", MISTAKE)


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


def _complain(message: str, code: int) -> int:
  """One line on stderr, whatever stands in the names of files; returns the code."""
  try:
    print(f"jax_edm: {printable(message)}", file=sys.stderr, flush=True)
  except OSError:
    _forget(sys.stderr)
  return code


def _print(lines: Sequence[str]) -> bool:
  """Lines on stdout; False if it takes them no longer, as a full disk, or a pipe to a process that has ended."""
  if sys.stdout is None:
    return True
  try:
    encoding = sys.stdout.encoding or "utf-8"
    for text in lines:
      print(printable(text).encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()
  except OSError:
    _forget(sys.stdout)
    return False
  return True


def printable(text: str) -> str:
  """Line breaks, and what else would change the terminal, as escapes."""
  return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _forget(stream: TextIO) -> None:
  """Python flushes at its end, and would fail again: that goes nowhere."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
