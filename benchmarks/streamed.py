"""Reductions over all pairs without their matrix, against the dense forms, KeOps and scikit-learn."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import jax_edm
from benchmarks import sides
from benchmarks.case import Case, bound, data
from benchmarks.oracles import exact_energy, exact_neighbours, exact_part_of_energy, exact_stress


def cases() -> Iterator[Case]:
  yield from energy_cases()
  yield from stress_cases()
  yield from nearest_cases()
  x = data(100_000, 3)
  work = {"jax_edm": bound(sides.part_of_streamed_energy, x)}
  name = "streamed Gaussian energy, value and gradient, d=3, n=100000"
  yield Case(name, work, partial(exact_part_of_energy, x), {}, {})


def energy_cases() -> Iterator[Case]:
  goals = {3: (10, 6), 16: (10, 2.5), 64: (15, None)}
  for d, (keops, autodiff) in goals.items():
    x = data(10240, d) / np.float32(d**0.5)
    work = {"jax_edm": bound(sides.streamed_energy, x), "jax_edm, dense": bound(sides.energy(sides.ours), x)}
    work |= {
      name: bound(sides.energy(f), x) for name, f in sides.plain(d).items() if name == "autodiff, product" or d == 3
    }
    wanted: dict[str, float] = {"best autodiff": autodiff} if autodiff else {}
    if side := sides.keops_energy(x):
      work["KeOps"] = side
      wanted["KeOps"] = keops
    # A symmetric matrix: half of it, forward and again backward.
    exponentials = bound(lambda t: jax.lax.fori_loop(0, 100, lambda _, t: jnp.exp(-t), t), data(1024, 1024))
    limits = {"limit: n x n exponentials": exponentials}
    name = f"streamed Gaussian energy, value and gradient, d={d}, n=10240"
    yield Case(name, work, partial(exact_energy, x), wanted, limits)


def stress_cases() -> Iterator[Case]:
  x, target = data(8192, 3), np.abs(data(8192, 8192, seed=1))
  work = {
    "jax_edm": bound(sides.streamed_stress, x, target),
    "jax_edm, dense": bound(sides.stress(sides.ours), x, target),
  }
  work |= {name: bound(sides.stress(f), x, target) for name, f in sides.plain(3).items()}
  limits = {"limit: target read twice": bound(lambda t: (t.min(), t.max()), target)}
  name = "streamed stress, value and gradient, d=3, n=8192"
  yield Case(name, work, partial(exact_stress, x, target), {"best autodiff": 8}, limits)


def nearest_cases() -> Iterator[Case]:
  for d in (3, 64):
    x = data(20_000, d)
    work = {"jax_edm": bound(lambda x: jax_edm.nearest(x, k=10).squared, x)}
    wanted = {}
    if side := sides.neighbours(x, 10):
      work["scikit-learn"] = side
      wanted = {"scikit-learn": 1.0}
    yield Case(f"nearest, k=10, d={d}, n=20000", work, partial(exact_neighbours, x, 10), wanted, {})
