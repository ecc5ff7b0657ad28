"""The files that a command writes: all of them or none, and nothing of the user's is lost.

A file that is there already is replaced if an earlier run made it, or with ``--force``; never if it is the input. What
an earlier run made is known from the picture beside it: the picture holds the SHA-256 digest of the points that it was
drawn with. So points that were edited since then are the user's.
"""

import hashlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from jax_edm._cli.errors import error

MARK = "jax_edm"  # the key in the metadata of a picture
STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


_unfinished: list[Callable[[], None]] = []  # what removes the places that are being written into
_written: list[Path] = []


@contextmanager
def stopped_by_signals() -> Iterator[None]:
  """A signal that should end the process ends it at once, after what was begun has been removed.

  No exception is raised: a callback of XLA, in which the signal may arrive, would swallow it.
  """
  _written.clear()
  with _signals(_stop):
    yield


def _stop(number: int, frame: object) -> None:
  for remove in _unfinished:
    remove()
  verb = "interrupted" if number == signal.SIGINT else "terminated"
  text = f"jax_edm: {verb}; {'the files were' if _written else 'nothing was'} written.\n"
  with suppress(OSError):  # past the buffer, which may just be in use; on a line of its own, below a progress bar
    os.write(2, (os.linesep * ("tqdm" in sys.modules) + text).encode())
  os._exit(128 + number)


@contextmanager
def all_or_nothing(
  folder: Path, names: Sequence[str], *, inputs: Sequence[Path] = (), picture: str = "", force: bool = False
) -> Iterator[Path]:
  """A place to write into, made before the work starts; its files move to ``folder`` once everything has succeeded.

  If anything fails, or a signal ends the process, nothing has changed: no file, and no folder that was not there.
  """
  new: list[Path] = []
  place = folder / f".jax_edm_{os.getpid()}"

  def remove() -> None:
    shutil.rmtree(place, ignore_errors=True)
    for parent in new:
      with suppress(OSError):
        parent.rmdir()

  try:
    _unfinished.append(remove)
    try:
      _check(folder, names, inputs, picture, force)
      new.extend(parent for parent in (folder, *folder.parents) if not parent.exists())
      folder.mkdir(parents=True, exist_ok=True)
      place.mkdir(exist_ok=True)
      yield place
      with _signals(signal.SIG_IGN):
        _check(folder, names, inputs, picture, force)  # again: time has passed
        _move(place, folder, names)
        _written.extend(folder / name for name in names)
        shutil.rmtree(place, ignore_errors=True)
    except BaseException:
      remove()
      raise
    finally:
      _unfinished.remove(remove)
  except OSError as problem:
    got = f"{folder / names[0]}: {problem.strerror or problem}"
    raise error("--output", "the place must be writable", got, "Choose another one") from problem


def write_array(path: Path, array: np.ndarray) -> None:
  """An array as .npy, or as .csv with as many digits as its type holds."""
  if path.suffix.lower() == ".npy":
    with path.open("wb") as file:  # numpy.save would add .npy to .NPY
      np.save(file, array)
  else:
    np.savetxt(path, array, "%.9g" if array.dtype == np.float32 else "%.17g", delimiter=",")


def mark(points: Path) -> dict[str, str]:
  """Metadata for the picture of these points."""
  return {"Software": "jax_edm", MARK: hashlib.sha256(points.read_bytes()).hexdigest()}


def _check(folder: Path, names: Sequence[str], inputs: Sequence[Path], picture: str, force: bool) -> None:
  advice = "Choose another place"
  for target in (folder / name for name in names):
    if not os.path.lexists(target):
      continue
    if target.exists() and any(file.exists() and target.samefile(file) for file in inputs):
      raise error("--output", "the input must not be overwritten", f"{target}, which is read", advice)
    if target.exists() and not target.is_file():
      raise error("--output", "only files are replaced", f"{target}, which is no file", advice)
    if not (force or (target.exists() and _is_made(target, folder / picture))):
      expected = f"a file that {'no earlier run made' if picture else 'is there'} is replaced only with --force"
      got = f"{target}, which is there already"
      raise error("--output", expected, got, "Add --force, or choose another place")


def _is_made(target: Path, picture: Path) -> bool:
  """Whether this is a picture with a mark, or the points that the picture was drawn with."""
  digest = "" if target == picture else hashlib.sha256(target.read_bytes()).hexdigest()
  return picture.is_file() and f"{MARK}\0{digest}".encode() in picture.read_bytes()


def _move(place: Path, folder: Path, names: Sequence[str]) -> None:
  """All files, or none: those that they replace wait in ``place`` until all have moved."""
  moved = []
  try:
    for name in names:
      moved.append(name)
      if os.path.lexists(folder / name):
        os.rename(folder / name, place / f"{name}.before")
      os.rename(place / name, folder / name)
  except BaseException:
    for name in moved:
      if os.path.lexists(place / f"{name}.before"):
        os.replace(place / f"{name}.before", folder / name)
      elif not os.path.lexists(place / name):
        os.unlink(folder / name)
    raise


@contextmanager
def _signals(handler: Callable[[int, object], None] | signal.Handlers) -> Iterator[None]:
  """Signals that would end the process are handled by ``handler`` inside the block."""
  before = {}
  if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
    before = {number: signal.getsignal(number) for number in STOPPING}
    before = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}  # not of nohup
  try:
    for number in before:
      signal.signal(number, handler)
    yield
  finally:
    for number, old in before.items():
      signal.signal(number, old)
