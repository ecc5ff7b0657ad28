"""Kernels against everything else, on a GPU or a TPU: ``python -m benchmarks.kernels [--quick] [--few] [--sweep]``.

The Gaussian sum of one set and its gradient, by ``implementation="pallas"``, by XLA's blocks, through the matrix where
it fits, and by KeOps where it is installed with a torch for this GPU. Each result is compared with a float64 oracle
before it is timed. The physical limit comes from rates that are measured in the same run. Results, with versions,
device and commit, are kept as JSON in ``benchmarks/results/``.
"""

import argparse
import functools
import itertools
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import jax_edm
from benchmarks import sides
from benchmarks.__main__ import environment, name_of, show
from benchmarks.case import bound, data
from benchmarks.oracles import exact_part_of_energy
from benchmarks.table import RESULTS
from benchmarks.timing import Side, medians
from jax_edm._pairwise.pallas import mosaic
from jax_edm._pairwise.pallas.backend import TileSize
from jax_edm._pairwise.pallas.rule import BACKENDS

SIZES, COORDINATES = (10_000, 100_000, 1_000_000), (3, 16, 64, 128)
MOST_DENSE = 20_000  # points whose matrix, cotangent and exponentials fit
LONGEST_S = 4.0  # a side that will take longer, going by a smaller size, is left out
MOST_WORK = 2e13  # pairs times coordinates of one row
SHOWN = 128  # rows that are compared with the oracle
GOALS = {"XLA": 5.0, "KeOps": 1.0}
LIMIT = 0.5  # the goal for the share of the physical limit
SWEPT = 50_000  # points, for the sweep
SIDES, WARPS = (16, 32, 64, 128, 256), (2, 4, 8)  # of tiles, for the sweep
LARGEST_TILE = 2**13  # entries on a GPU; larger ones do not fit in registers, and take minutes to compile


def streamed(implementation: Literal["xla", "pallas"]) -> Callable[[jax.Array], jax.Array]:
  return lambda x: jax_edm.pairwise_sum(lambda squared: jnp.exp(-squared), x, implementation=implementation)


def dense(x: jax.Array) -> jax.Array:
  return jnp.exp(-jax_edm.edm(x)).sum(1)


def with_gradient(f: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
  """The sums, and the gradient of their total."""

  def run(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    sums, back = jax.vjp(f, x)
    return sums, back(jnp.ones_like(sums))[0]

  return run


def keops(x: np.ndarray, gradient: bool) -> Side | None:
  if not sides.keops():
    return None
  import torch

  if not torch.cuda.is_available():
    return None
  points = torch.from_numpy(x).cuda().requires_grad_(gradient)

  def side() -> Any:
    sums = sides.keops_sums(points)
    out = (sums, torch.autograd.grad(sums.sum(), points)[0]) if gradient else sums
    torch.cuda.synchronize()
    return out

  return side


def rates() -> dict[str, float]:
  """Operations in a second: exponentials, float32 multiplications and additions, those of products in full float32."""
  chain, many, side = 256, 2**22, 4096

  def exponentials(t: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, chain, lambda _, t: jnp.exp(-t), t, unroll=True)

  def additions(t: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, chain, lambda _, t: t * t + 0.25, t, unroll=True)

  t, a = np.full(many, 0.5, np.float32), data(side, side)
  work = {
    "exponentials": (bound(exponentials, t), chain * many),
    "additions": (bound(additions, t), 2 * chain * many),
    "products": (bound(lambda a: jnp.dot(a, a, precision="highest"), a), 2 * side**3),
  }
  times = medians({name: side for name, (side, _) in work.items()})
  return {name: count / times[name] for name, (_, count) in work.items()}


def limit(n: int, d: int, gradient: bool, rates: dict[str, float]) -> float:
  """Seconds below which no program gets: every pair once in each pass, one half of a symmetric matrix."""
  pairs, passes = n * n / 2, 1 + gradient
  work = pairs * (passes * (3 * d if d <= 6 else 2 * d) + gradient * 4 * d)
  kind = "additions" if d <= 6 else "products"
  return max(passes * pairs / rates["exponentials"], work / rates[kind])


Key = tuple[int, int, bool]  # the number of points, that of their coordinates, and whether there is a gradient


def points(n: int, d: int) -> np.ndarray:
  return data(n, d) / np.float32(d**0.5)


def lowered(f: Callable[[jax.Array], jax.Array], n: int, d: int, gradient: bool) -> Any:
  return jax.jit(with_gradient(f) if gradient else f).lower(jax.ShapeDtypeStruct((n, d), jnp.float32))


def compiled(programs: dict[Any, Any]) -> dict[Any, Any]:
  """All at once, on all cores: on a GPU this takes longer than to measure them. None: the compiler refuses."""

  def program(name: Any) -> Any:
    try:
      return programs[name].compile()
    except jax.errors.JaxRuntimeError:  # more registers, or memory, than there are
      return None

  with ThreadPoolExecutor(os.cpu_count()) as pool:
    return dict(zip(programs, pool.map(program, programs), strict=True))


def formulas(n: int) -> dict[str, Callable[[jax.Array], jax.Array]]:
  return {"jax_edm": streamed("pallas"), "XLA": streamed("xla")} | ({"dense": dense} if n <= MOST_DENSE else {})


def sides_of(programs: dict[Any, Any], key: Key) -> dict[str, Side]:
  n, d, gradient = key
  x = points(n, d)
  on_device = jnp.asarray(x)
  found: dict[str, Side] = {name: partial(programs[key, name], on_device) for name in formulas(n)}
  if side := keops(x, gradient):
    found["KeOps"] = side
  return found


@functools.cache
def exact(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
  return exact_part_of_energy(points(n, d), SHOWN)


def check(name: str, n: int, d: int, side: Side) -> None:
  """A fast wrong answer is no answer."""
  expected = exact(n, d)
  out = side()
  for actual, right in zip(out if isinstance(out, tuple) else (out,), expected, strict=False):
    rows = actual[:SHOWN].detach().cpu().numpy() if hasattr(actual, "detach") else np.asarray(actual[:SHOWN])
    error = np.max(np.abs(rows.reshape(right.shape) - right)) / np.max(np.abs(right))
    if not error < 2e-5:
      raise SystemExit(f"{name}, d={d}, n={n}: wrong, by {error:.1e} of the largest entry. Not timed.")


def measure(key: Key, found: dict[str, Side], rates: dict[str, float], before: dict[str, float]) -> dict[str, Any]:
  """One line of work; ``before`` are the seconds per pair that each side took at a smaller size."""
  n, d, gradient = key
  left_out = {name: before[name] * n * n for name in found if before.get(name, 0.0) * n * n > LONGEST_S}
  found = {name: side for name, side in found.items() if name not in left_out}
  for name, side in found.items():
    check(name, n, d, side)
  times = medians(found, least_rounds=2 if n > 10 * SIZES[0] else 5)
  before |= {name: t / n / n for name, t in times.items()}
  mine = times.get("jax_edm", left_out.get("jax_edm", 0.0))
  work = f"Gaussian sum{' and gradient' if gradient else ''}, d={d}, n={n}"
  rows = [
    {"against": name, "ratio": t / mine, "goal": GOALS.get(name), "ms": 1e3 * t}
    for name, t in times.items()
    if name != "jax_edm"
  ]
  least = limit(n, d, gradient, rates)
  rows.append({"against": "limit", "ratio": least / mine, "goal": LIMIT, "ms": 1e3 * least})
  return {"work": work, "ms": 1e3 * mine, "rows": rows, "left out, s": left_out}


def sweep(n: int, d: int, gradient: bool, platform: str) -> list[dict[str, Any]]:
  """With other tiles, the fastest first; tiles that do not compile are left out."""
  kept, programs = BACKENDS[platform], {}
  for_tpu = isinstance(kept, mosaic.Mosaic)
  try:
    for a, b, warps in itertools.product(SIDES, SIDES, (1,) if for_tpu else WARPS):
      if min(a, b) < mosaic.LANES if for_tpu else a * b > LARGEST_TILE:
        continue
      sides: dict[str, Any] = {"sides": (a, b)} if for_tpu else {"size": TileSize(a, b, warps)}
      BACKENDS[platform] = replace(kept, **sides)
      programs[str((a, b, warps))] = lowered(streamed("pallas"), n, d, gradient)
  finally:
    BACKENDS[platform] = kept
  x = jnp.asarray(points(n, d))
  found: dict[str, Side] = {tile: partial(program, x) for tile, program in compiled(programs).items() if program}
  for tile, side in found.items():
    check(f"tiles {tile}", n, d, side)
  times = medians(found, least_rounds=2)
  return [{"tile": tile, "ms": 1e3 * t} for tile, t in sorted(times.items(), key=lambda item: item[1])]


def results(sizes: tuple[int, ...], rates: dict[str, float]) -> list[dict[str, Any]]:
  keys = [key for key in itertools.product(sizes, COORDINATES, (False, True)) if key[0] ** 2 * key[1] <= MOST_WORK]
  programs = compiled({(key, name): lowered(f, *key) for key in keys for name, f in formulas(key[0]).items()})
  found = []
  for d, gradient in itertools.product(COORDINATES, (False, True)):
    before: dict[str, float] = {}
    for key in keys:
      if key[1:] != (d, gradient):
        continue
      found.append(measure(key, sides_of(programs, key), rates, before))
      show(found[-1])
      for name, seconds in found[-1]["left out, s"].items():
        print(f"  {name:<40}left out: it would take {seconds:.0f} s")
  return found


def main() -> int:
  parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__.splitlines()[0])
  parser.add_argument("--quick", action="store_true", help="the smallest size: to see that it runs, nothing is kept")
  parser.add_argument("--few", action="store_true", help="without the largest size: for a device lent for minutes")
  parser.add_argument("--sweep", action="store_true", help="also measure other tiles, with n = 50,000")
  options = parser.parse_args()
  device = jax.devices()[0]
  platform = "cuda" if device.platform == "gpu" else device.platform
  if platform not in BACKENDS:
    print(f"kernels are for GPUs (CUDA) and TPUs; this machine has {device.device_kind}", file=sys.stderr)
    return 1
  found: dict[str, Any] = environment()
  print("times of one call; a ratio above 1 means that jax_edm is faster, that of the limit is its share of our time")
  print(found)
  found["rates"] = rates()
  print("operations in a second: " + ", ".join(f"{name} {rate:.2e}" for name, rate in found["rates"].items()))
  found["results"] = results(SIZES[:1] if options.quick else SIZES[:2] if options.few else SIZES, found["rates"])
  if options.sweep:
    found["sweep"] = {}
    for d, gradient in itertools.product(COORDINATES, (False, True)):
      name = f"d={d}{', with the gradient' if gradient else ''}"
      found["sweep"][name] = sweep(SIZES[0] if options.quick else SWEPT, d, gradient, platform)
      print(f"\n{name}: the fastest tiles (output side, input side, warps)")
      for row in found["sweep"][name][:5]:
        print(f"  {row['tile']:<20}{row['ms']:>10.3f} ms")
  if not options.quick:
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name_of(device)}-jax{jax.__version__}-kernels.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"kept in {path}")
  return 0


if __name__ == "__main__":
  sys.exit(main())
