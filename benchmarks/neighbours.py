"""The nearest points: large clouds, the clouds that are hardest to divide, and what others take for them."""

import importlib.util
import statistics
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.near import (
  ADVERSARIES,
  COMPILATIONS,
  LARGE,
  N,
  by_size,
  clouds,
  digits,
  exact_squared,
  some_rows,
  uniform,
)
from benchmarks.timing import Side, medians
from jax_edm import nearest
from jax_edm._pairwise.near import nearest as by_tiles

MANY, ONE, TOLERANCE = 10, 1, 1e-5  # neighbours of each point; of squared distances

Program = Any  # compiled


def program(k: int, x: np.ndarray, tiles: bool = True) -> Program:
  """Compiled: as users get it, or always among all pairs."""
  pays = by_tiles.pays
  if not tiles:
    by_tiles.pays = lambda *_: False
  try:
    jax.clear_caches()
    return jax.jit(lambda x: nearest(x, k=k)).lower(x).compile()
  finally:
    by_tiles.pays = pays


def check(name: str, x: np.ndarray, k: int, found: Any) -> None:
  """Of some rows, in float64."""
  rows = some_rows(x)
  squared = exact_squared(x, rows)
  squared[np.arange(len(rows)), rows] = np.inf
  right = np.sort(squared, 1)[:, :k]
  error = np.abs(np.asarray(found.squared)[rows] - right).max() / right.max() if right.max() else 0.0
  if not error < TOLERANCE:
    raise SystemExit(f"{name}: wrong, by {error:.1e} of the largest squared distance. Not timed.")


def large(budget_s: float, sizes: tuple[int, ...] = (N, LARGE)) -> list[dict[str, Any]]:
  """Uniform clouds in space, sizes interleaved: ms, temporaries, and what others take."""
  work: dict[tuple[int, str], Side] = {}
  memory: dict[int, dict[str, float]] = {}
  for n in sizes:
    x = uniform(n)
    programs = {f"k={k}": program(k, x) for k in (ONE, MANY)}
    for (name, compiled), k in zip(programs.items(), (ONE, MANY), strict=True):
      work[n, name] = partial(compiled, x)
      check(f"n={n}, {name}", x, k, work[n, name]())
    if n == sizes[0]:
      work[n, "all pairs, k=10"] = partial(program(MANY, x, tiles=False), x)
    work |= {(n, name): side for name, side in others(x, n == sizes[0])}
    bytes_of = {name: compiled.memory_analysis().temp_size_in_bytes for name, compiled in programs.items()}
    memory[n] = {name: digits(size / 2**20) for name, size in bytes_of.items()}
  names = {f"{n}, {name}": (n, name) for n, name in work}
  times = medians({label: work[key] for label, key in names.items()}, budget_s)
  rows = []
  for n in sizes:
    ms = {name: digits(1e3 * times[label]) for label, (size, name) in names.items() if size == n}
    rows.append({"n": n, "ms": ms, "MiB": memory[n]})
    print(f"  {rows[-1]}", flush=True)
  return rows


def others(x: np.ndarray, small: bool) -> Iterator[tuple[str, Side]]:
  """Trees, made in every call; a point finds itself, so there is one neighbour more."""
  if importlib.util.find_spec("scipy"):
    from scipy.spatial import cKDTree

    yield "cKDTree, 2 workers, k=10", lambda: cKDTree(x).query(x, k=MANY + 1, workers=2)
  if importlib.util.find_spec("jaxkd") and small:
    import jaxkd

    run = jax.jit(lambda x: jaxkd.build_and_query(x, x, k=MANY + 1))
    found, mine = np.sort(np.asarray(run(x)[1])[:, 1:], 1), np.sqrt(np.asarray(nearest(x, k=MANY).squared))
    if not np.allclose(found, mine, rtol=1e-4):
      raise SystemExit("jaxkd and this package differ. Not timed.")
    yield "jaxkd, k=10", partial(run, jnp.asarray(x))


def adversaries(budget_s: float, n: int = ADVERSARIES) -> list[dict[str, Any]]:
  """Ms of ten neighbours, and how many times as long it takes among all pairs."""
  rows = []
  for name, x, _ in clouds(n):
    work: dict[str, Side] = {
      side: partial(program(MANY, x, tiles), x) for side, tiles in (("near", True), ("all", False))
    }
    check(name, x, MANY, work["near"]())
    for a, b in zip(work["near"](), work["all"](), strict=True):
      if not np.array_equal(a, b):
        raise SystemExit(f"{name}: near tiles and all pairs differ. Not timed.")
    times = medians(work, budget_s)
    rows.append({"cloud": name, "ms": digits(1e3 * times["near"]), "ratio": digits(times["all"] / times["near"])})
    print(f"  {rows[-1]}", flush=True)
  return rows


def compilations(n: int = ADVERSARIES) -> dict[str, float]:
  """Seconds to trace and to compile, medians."""
  x, found = uniform(n), {}
  for name, tiles in (("near", True), ("all", False)):
    times = []
    for _ in range(COMPILATIONS):
      begin = time.perf_counter()
      program(MANY, x, tiles)
      times.append(time.perf_counter() - begin)
    found[name] = digits(statistics.median(times))
  print(f"  {found}", flush=True)
  return found


def measure(quick: bool) -> dict[str, Any]:
  print("\nneighbours of uniform points in space: ms, and MiB of temporaries")
  found: dict[str, Any] = {"large": large(0.0, (N // 10,)) if quick else large(10.0)}
  print("\nseconds to trace and compile")
  found["compilations"] = compilations()
  print("\nhard clouds, ten neighbours: ms, and how many times as long all pairs take")
  return found | {"adversaries": adversaries(0.0, 8_000) if quick else adversaries(3.0)}


def tables(kept: dict[str, Any]) -> list[str]:
  lines = [*by_size(kept["large"]), "", "| points | ms | all / near |", "|" + "---|" * 3]
  return [*lines, *(f"| {row['cloud']} | {row['ms']:.3g} | {row['ratio']:.3g}x |" for row in kept["adversaries"])]
