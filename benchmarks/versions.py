"""Another version of the package beside this one: ``python -m benchmarks --part versions --against PATH``.

PATH is a checkout, a directory with ``jax_edm/`` in it. Both versions run in one process, interleaved. The goals: sums
over pairs, nearest and SMACOF at most 5 % slower than the other version, and 10 % for two sets.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jax_edm
from benchmarks import points
from benchmarks.case import Case, bound, data
from benchmarks.oracles import exact_neighbours, exact_rows

PACKAGE = "jax_edm"
ONE_SET, TWO_SETS = 0.95, 0.90  # the goals


def load_other(path: str | Path) -> ModuleType:
  """The package of another checkout, as a module; ``import jax_edm`` gives what it gave before.

  What the other package imports later, inside its functions, it would take from this one: version 0.1 does so for
  Pallas kernels only, which nothing here runs.
  """
  ours = _taken_out()
  sys.path.insert(0, str(path))
  importlib.invalidate_caches()
  try:
    other = importlib.import_module(PACKAGE)
  finally:
    sys.path.remove(str(path))
    _taken_out()
    sys.modules.update(ours)
  found = Path(other.__file__ or "").resolve()
  if not found.is_relative_to(Path(path).resolve()):
    raise SystemExit(f"--against: there is no package {PACKAGE} in {path}. Found {found}. Pass a checkout.")
  return other


def name_of(other: ModuleType) -> str:
  return f"version {other.__version__}"


def _taken_out() -> dict[str, ModuleType]:
  """The modules of the package, which are no longer imported."""
  names = [name for name in sys.modules if name == PACKAGE or name.startswith(PACKAGE + ".")]
  return {name: sys.modules.pop(name) for name in names}


# What differs between the versions: operands are ``args`` now, and SMACOF takes distances.


def pairwise(module: ModuleType, name: str, f: Any, x: Any, y: Any = None, args: Any = (), values: Any = None) -> Any:
  reduce = getattr(module, name)
  options = {} if values is None else {"values": values}
  return reduce(f, x, y, args=args, **options) if _is_new(module) else reduce(f, x, y, *args, **options)


def smacof(module: ModuleType, target: jax.Array, start: jax.Array, weights: jax.Array | None) -> jax.Array:
  """The stress after as many steps as in ``points.py``."""
  solve, given = (module.smacof, target) if _is_new(module) else (module.points_from_edm, target**2)
  stress: jax.Array = solve(given, 2, weights=weights, initial=start, max_steps=points.STEPS, tolerance=0.0).stress
  return stress


def _is_new(module: ModuleType) -> bool:
  return hasattr(module, "smacof")


# The rows


def cases(other: ModuleType, scale: int = 1) -> Iterator[Case]:
  """``scale`` divides the numbers of points, for a test that all of this runs."""
  yield from sum_cases(other, scale)
  yield from nearest_cases(other, scale)
  yield from smacof_cases(other, scale)


def sum_cases(other: ModuleType, scale: int) -> Iterator[Case]:
  """Value and gradient of the total of a reduction."""
  row = partial(reduction, other)
  n = 10240 // scale
  for d in (3, 16, 64):
    yield row(f"Gaussian energy, d={d}, n={n}", gaussian, [wide(n, d)])
  n, m = 8192 // scale, 4096 // scale
  for d in (3, 16):
    yield row(f"Gaussian energy, two sets, d={d}, n={n}, m={m}", gaussian, [wide(n, d), wide(m, d, seed=1)])
  name = f"Gaussian sums of values (m, 4), two sets, d=3, n={n}, m={m}"
  yield row(name, gaussian, [wide(n, 3), wide(m, 3, seed=1)], values=data(m, 4, seed=2))
  sets, target = [wide(n, 3)], np.abs(data(n, n, seed=1))
  yield row(f"stress, operand (n, n), d=3, n={n}", lambda D, t: (D - t) ** 2, sets, args=[target])
  sets = [wide(n, 3), wide(n, 3, seed=1)]
  yield row(f"soft minimum, two sets, d=3, n={n}", lambda D: -10 * D, sets, kind="pairwise_logsumexp")


def gaussian(D: jax.Array) -> jax.Array:
  return jnp.exp(-D)


def wide(n: int, d: int, seed: int = 0) -> np.ndarray:
  return data(n, d, seed=seed) / np.float32(d**0.5)


def reduction(
  other: ModuleType,
  name: str,
  f: Callable[..., jax.Array],
  sets: list[np.ndarray],
  args: Any = (),
  values: np.ndarray | None = None,
  kind: str = "pairwise_sum",
) -> Case:
  def total(module: ModuleType) -> Callable[..., jax.Array]:
    def of(x: jax.Array, *rest: jax.Array) -> jax.Array:
      y, rest = (rest[0], rest[1:]) if len(sets) == 2 else (None, rest)
      given = {"args": rest} if values is None else {"values": rest[0]}
      return pairwise(module, kind, f, x, y, **given).sum()

    return of

  def rows(D: jax.Array, *rest: jax.Array) -> jax.Array:
    if kind == "pairwise_logsumexp":
      return jax.nn.logsumexp(f(D), axis=1)
    return f(D, *rest) if values is None else f(D) @ rest[0]

  arrays = [*sets, *args] if values is None else [*sets, values]
  argnums = 0 if len(sets) == 1 else (0, 1)
  modules = {PACKAGE: jax_edm, name_of(other): other}
  sides = {key: bound(jax.value_and_grad(total(m), argnums=argnums), *arrays) for key, m in modules.items()}
  goal = ONE_SET if len(sets) == 1 else TWO_SETS
  return Case(name, sides, partial(exact_rows, rows, len(sets), *arrays), {name_of(other): goal}, {})


def nearest_cases(other: ModuleType, scale: int) -> Iterator[Case]:
  n = 20_000 // scale
  for d in (3, 64):
    x = data(n, d)
    sides = {PACKAGE: bound(lambda x: jax_edm.nearest(x, k=10).squared, x)}
    sides[name_of(other)] = bound(lambda x: other.nearest(x, k=10).squared, x)
    yield Case(f"nearest, k=10, d={d}, n={n}", sides, partial(exact_neighbours, x, 10), {name_of(other): ONE_SET}, {})


def smacof_cases(other: ModuleType, scale: int) -> Iterator[Case]:
  for n, weighted in ((1000 // scale, False), (300 // scale, True)):
    x, start, weights = data(n, 5), data(n, 2, seed=1), None
    target = np.sqrt(np.square(x[:, None].astype(np.float64) - x[None]).sum(-1)).astype(np.float32)
    if weighted:
      upper = np.triu(np.random.default_rng(2).uniform(0.5, 1.5, (n, n)), 1).astype(np.float32)
      weights = upper + upper.T
    given = (target, start) if weights is None else (target, start, weights)
    sides = {PACKAGE: bound(partial(_stress, jax_edm), *given), name_of(other): bound(partial(_stress, other), *given)}
    name = f"SMACOF, {points.STEPS} steps, d=2, n={n}{', weighted' if weighted else ''}"
    yield Case(name, sides, partial(points.exact, *given), {name_of(other): ONE_SET}, {})


def _stress(module: ModuleType, target: jax.Array, start: jax.Array, weights: jax.Array | None = None) -> jax.Array:
  return smacof(module, target, start, weights)
