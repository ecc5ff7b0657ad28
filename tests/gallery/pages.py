"""Runs a page of the gallery as its reader would, and compares its sides; skips it where a client is not installed."""

import importlib
import warnings

import pytest

from benchmarks import gallery


def run(name, folder, *clients):
  """What the page finds: its picture is drawn, and all its sides give the same result."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of the clients are not ours
    for client in clients:
      try:
        importlib.import_module(client)
      except ImportError as problem:
        pytest.skip(f"the page {name} needs {client}, of the extra gallery: {problem}")
    page = gallery.load(name)
    picture = folder / f"{name}.png"
    found = page.main(picture=str(picture))
    assert picture.stat().st_size > 10_000
    for work, sides in page.sides().items():
      gallery.check(work, sides, page.TOLERANCE)
  return found
