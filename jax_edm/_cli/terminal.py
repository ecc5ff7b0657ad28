"""What the commands print, and what happens where it cannot be printed."""

import os
import sys
from typing import TextIO

MISTAKE = 2  # the exit code, which is also that of argparse


def write(text: str, stream: TextIO | None) -> bool:
  """False if the stream does not take the text: a full disk, or a pipe to a process that has ended."""
  if stream is None:  # it was closed
    return True
  encoding = stream.encoding or "utf-8"
  try:
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()
  except OSError:
    # Python flushes at its end, and would fail again: that goes nowhere.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return False
  return True


def complain(message: str, code: int = MISTAKE) -> int:
  """One line on stderr, whatever stands in the names of files; returns the exit code."""
  write(f"jax_edm: {printable(message)}\n", sys.stderr)
  return code


def printable(text: str) -> str:
  """Line breaks, and what else would change the terminal, as escapes."""
  return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
