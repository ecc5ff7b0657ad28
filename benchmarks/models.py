"""The rows of ``python -m benchmarks --part models``: what models do, with the public functions only.

Points are normal. "Narrow": as they are, so that in many dimensions few entries of ``exp(-D)`` off the diagonal count.
"Wide": divided by sqrt(d). Losses without one of these words have wide points.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks import losses
from benchmarks.case import data
from benchmarks.losses import Formula, Function, Loss

SIZES, COORDINATES = (256, 1024, 4096), (3, 16, 32, 128)
BATCHES = ((10000, 2, 16), (10000, 5, 3), (4096, 8, 8), (1024, 16, 16), (1024, 32, 3), (256, 64, 3), (256, 64, 32))
PARTICLES = (8, 15, 30, 100)
LARGEST_COMPILED = 1024  # points; the time to compile hardly depends on their number
LARGEST_HVP = 1024
LARGEST_PROCESS = 1024  # the Cholesky factor of more hides everything else
LARGEST_BROADCAST = 6e8  # entries of the third axis: 2.4 GB
LARGEST_UNROLLED = 16  # coordinates
LEAST_EXACT = 3e-2  # tolerance of any row

Arrays = tuple[np.ndarray, ...]


class Model(NamedTuple):
  """One row: what is made of a formula, its arguments, and how exact it must be."""

  name: str
  group: str
  make: Callable[[Formula], Function]  # a new function in each call
  arguments: Callable[[], Arrays]
  formulas: dict[str, Formula]  # the plain ones
  tolerance: float  # of the largest entry of a result, or of 1, where all entries are smaller
  compiles: bool  # whether the time to compile is measured
  runs: bool = True  # whether the time to run is


class Work(NamedTuple):
  """A loss, and its data."""

  name: str
  loss: Loss
  extra: Callable[..., Arrays]  # of the numbers of points, and of whether they are of two sets
  spread: float = 0.5  # points are divided by d to the power of this: 0 for narrow, 1/2 for wide
  tolerance: float = 1e-4


def nothing(n: int, two: bool = False) -> Arrays:
  return ()


def target(n: int, two: bool = False) -> Arrays:
  """Like the distances of one set, symmetric and of zero diagonal, or of two sets."""
  entries = np.abs(data(n, n, seed=5))
  if two:
    return (entries,)
  upper = np.triu(entries, 1)
  return (upper + upper.T,)


def labels(n: int, two: bool = False) -> Arrays:
  return (np.arange(n, dtype=np.int32) % losses.LABELS,)


def observed(n: int, two: bool = False) -> Arrays:
  return (data(n, seed=6),)


GAUSSIAN = Work("sum exp(-D), wide", losses.gaussian, nothing)
NARROW = Work("sum exp(-D), narrow", losses.gaussian, nothing, spread=0.0)
MATERN = Work("sum of Matern 5/2", losses.matern, nothing)
SQUARED_STRESS = Work("squared stress", losses.squared_stress, target)
STRESS = Work("stress of distances", losses.stress, target, tolerance=1e-3)
CONTRASTIVE = Work("contrastive loss", losses.contrastive, labels)
PROCESS = Work("Gaussian process", losses.gaussian_process, observed, tolerance=1e-2)


def models(sizes: tuple[int, ...] = SIZES, coordinates: tuple[int, ...] = COORDINATES) -> Iterator[Model]:
  yield from gradients(sizes, coordinates)
  yield from gradients_of_both(sizes, coordinates)
  yield from products(sizes, coordinates)
  yield from hessians()
  yield from batches()
  yield from simulations()


def few() -> Iterator[Model]:
  """For a device that is lent for minutes."""
  for model in models((1024, 4096), (3, 128)):
    loss = "wide" in model.name or (model.group == "gradient" and "stress of distances" in model.name)
    if "sum exp(-D)" not in model.name and model.group == "gradient, batch":
      continue
    if model.group == "gradient, two sets" and "n=1024" in model.name:
      continue
    if (loss and model.group != "Hessian") or model.name.endswith(f" {PARTICLES[-1]} particles"):
      yield model


def gradients(sizes: tuple[int, ...], coordinates: tuple[int, ...]) -> Iterator[Model]:
  for work in (GAUSSIAN, NARROW, MATERN, SQUARED_STRESS, STRESS, CONTRASTIVE, PROCESS):
    for n in sizes:
      for d in coordinates:
        if work is PROCESS and n > LARGEST_PROCESS:
          continue
        yield Model(
          f"gradient, {work.name}, d={d}, n={n}",
          "gradient",
          partial(losses.gradient, work.loss),
          partial(one_set, work, n, d),
          plain(n * n, d),
          work.tolerance,
          n <= LARGEST_COMPILED,
        )


def gradients_of_both(sizes: tuple[int, ...], coordinates: tuple[int, ...]) -> Iterator[Model]:
  for work in (GAUSSIAN, NARROW, SQUARED_STRESS, STRESS):
    for n in sizes:
      for d in coordinates:
        yield Model(
          f"gradient, two sets, {work.name}, d={d}, n={n}",
          "gradient, two sets",
          partial(losses.gradient_of_both, work.loss),
          partial(two_sets, work, n, d),
          plain(n * n, d),
          work.tolerance,
          n <= LARGEST_COMPILED,
        )


def products(sizes: tuple[int, ...], coordinates: tuple[int, ...]) -> Iterator[Model]:
  """Hessian-vector products; of the Gaussian process in the cheaper order only."""
  orders = {"forward over reverse": losses.forward_over_reverse, "reverse over reverse": losses.reverse_over_reverse}
  for order, make in orders.items():
    for work in (GAUSSIAN, NARROW, MATERN, SQUARED_STRESS, STRESS, CONTRASTIVE, PROCESS):
      if work is PROCESS and make is losses.reverse_over_reverse:
        continue
      for n in (n for n in sizes if n <= LARGEST_HVP):
        for d in coordinates:
          yield Model(
            f"HVP, {order}, {work.name}, d={d}, n={n}",
            f"HVP, {order}",
            partial(make, work.loss),
            partial(one_set, work, n, d, True),
            plain(n * n, d),
            min(10 * work.tolerance, LEAST_EXACT),
            True,
          )


def hessians() -> Iterator[Model]:
  for work in (GAUSSIAN, SQUARED_STRESS, STRESS):
    make, arguments = partial(losses.hessian, work.loss), partial(one_set, work, 16, 3)
    formulas = plain(16 * 16, 3)
    yield Model(f"Hessian, {work.name}, d=3, n=16", "Hessian", make, arguments, formulas, 1e-3, True, runs=False)


def batches() -> Iterator[Model]:
  for work in (GAUSSIAN, SQUARED_STRESS):
    for sets, n, d in BATCHES:
      yield Model(
        f"gradient, batch, {work.name}, {sets} sets of {n}, d={d}",
        "gradient, batch",
        partial(losses.batched_gradient, work.loss),
        partial(batch, work, sets, n, d),
        plain(sets * n * n, d),
        work.tolerance,
        True,
      )


def simulations() -> Iterator[Model]:
  for n in PARTICLES:
    name = f"simulation, {losses.STEPS} steps, {n} particles"
    yield Model(name, "simulation", losses.simulation, partial(particles, n), plain(n * n, 3), 1e-3, True)


def plain(pairs: int, d: int) -> dict[str, Formula]:
  """The formulas that may be the fastest, and fit."""
  found = dict(losses.PLAIN)
  if d > LARGEST_UNROLLED:
    del found["unrolled"]
  if pairs * d > LARGEST_BROADCAST:
    del found["broadcast"]
  return found


def one_set(work: Work, n: int, d: int, product: bool = False) -> Arrays:
  """Points, the vector of a Hessian-vector product, and what else the loss needs."""
  x = data(n, d) / np.float32(d**work.spread)
  return (x, *((data(n, d, seed=2),) if product else ()), *work.extra(n))


def two_sets(work: Work, n: int, d: int) -> Arrays:
  scale = np.float32(d**work.spread)
  return data(n, d) / scale, data(n, d, seed=1) / scale, *work.extra(n, True)


def batch(work: Work, sets: int, n: int, d: int) -> Arrays:
  x = data(sets, n, d) / np.float32(d**work.spread)
  return (x, *(np.repeat(a[None], sets, 0) for a in work.extra(n)))


def particles(n: int) -> Arrays:
  """Near the sites of a cubic lattice, and slow: over 200 steps nothing of that is chaotic."""
  side = 1 + round(n ** (1 / 3))
  sites = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n]
  return (1.12 * sites + 0.02 * data(n, 3)).astype(np.float32), 0.1 * data(n, 3, seed=1)
