"""Sums with a cutoff: large clouds, the clouds that are hardest to prune, and what others take for them."""

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jax_edm
from benchmarks.timing import Side, medians

NEIGHBOURS = 50  # of a point, on average
CHECKED, TOLERANCE = 64, 2e-5  # rows that are compared with float64, and their error in the largest entry
N, LARGE, ADVERSARIES = 100_000, 1_000_000, 20_000
COMPILATIONS = 3

Function = Callable[..., jax.Array]  # of one pair


def spring(squared: jax.Array, cutoff: jax.Array) -> jax.Array:
  """Of soft spheres."""
  return jnp.square(1 - jax_edm.safe_root(squared) / cutoff)


def bump(squared: jax.Array, cutoff: jax.Array) -> jax.Array:
  """A kernel that ends at the cutoff, smooth where points nearly coincide."""
  return jnp.square(1 - squared / cutoff**2)


def near_sums(f: Function, x: jax.Array, cutoff: jax.Array) -> jax.Array:
  return jax_edm.pairwise_sum(f, x, args=(cutoff,), cutoff=cutoff)


def all_sums(f: Function, x: jax.Array, cutoff: jax.Array) -> jax.Array:
  """The same by the formula."""

  def where_near(squared: jax.Array, cutoff: jax.Array) -> jax.Array:
    return jnp.where(squared <= cutoff**2, f(squared, cutoff), 0)

  return jax_edm.pairwise_sum(where_near, x, args=(cutoff,))


def with_gradient(sums: Callable[..., jax.Array]) -> Callable[..., Any]:
  return jax.value_and_grad(lambda x, cutoff: sums(x, cutoff).sum())


def uniform(n: int, d: int = 3) -> np.ndarray:
  return np.random.default_rng(0).uniform(size=(n, d)).astype(np.float32)


def cutoff_of(x: np.ndarray) -> np.float32:
  """Between two distances, so that each point has about so many neighbours."""
  rows = exact_squared(x, some_rows(x))
  ordered = np.sort(rows.reshape(-1))
  return np.float32(np.sqrt(ordered[min(len(rows) * NEIGHBOURS, len(ordered) - 1)] * (1 + 1e-6)))


def exact_squared(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
  wide = x.astype(np.float64)
  return np.array([np.square(wide - wide[i]).sum(1) for i in rows])


def some_rows(x: np.ndarray) -> np.ndarray:
  return np.linspace(0, len(x) - 1, min(CHECKED, len(x))).astype(int)


def check(f: Function, name: str, x: np.ndarray, cutoff: np.float32, gradient: Any, sums: Any) -> None:
  """Of some rows, in float64."""
  rows = some_rows(x)
  squared = exact_squared(x, rows)
  with jax.enable_x64(True):
    c = jnp.float64(cutoff)
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(lambda D: f(D, c))))(jnp.asarray(squared.reshape(-1)))
  inside = squared <= np.float64(cutoff) ** 2
  terms, weights = (np.where(inside, np.asarray(a).reshape(squared.shape), 0) for a in (value, slope))
  force = 4 * (weights.sum(1)[:, None] * x[rows].astype(np.float64) - weights @ x.astype(np.float64))
  pairs = ((sums(x, cutoff)[rows], terms.sum(1)), (gradient(x, cutoff)[1][rows], force))
  for what, (found, right) in zip(("value", "gradient"), pairs, strict=True):
    scale = max(np.abs(right).max(), 1.0 if what == "value" else 1 / float(cutoff))
    error = np.abs(np.asarray(found, np.float64) - right).max() / scale
    if not error < TOLERANCE:
      raise SystemExit(f"{name}: {what} is wrong, by {error:.1e} of the largest entry. Not timed.")


def large(budget_s: float, sizes: tuple[int, ...] = (N, LARGE)) -> list[dict[str, Any]]:
  """Uniform clouds: ms, temporaries, and what others take."""
  rows = []
  for n in sizes:
    x = uniform(n)
    cutoff = np.float32((NEIGHBOURS / (n * 4 / 3 * np.pi)) ** (1 / 3))
    sums = partial(near_sums, spring)
    programs: dict[str, Callable[..., Any]] = {"value": sums, "value and gradient": with_gradient(sums)}
    compiled = {name: jax.jit(program).lower(x, cutoff).compile() for name, program in programs.items()}
    check(spring, f"n={n}", x, cutoff, compiled["value and gradient"], compiled["value"])
    work: dict[str, Side] = {name: partial(program, x, cutoff) for name, program in compiled.items()}
    if n == sizes[0]:
      work |= dict(others(x, cutoff))
    times = medians(work, budget_s)
    row: dict[str, Any] = {"n": n, "ms": {name: digits(1e3 * t) for name, t in times.items()}}
    memory: dict[str, float] = {}
    for name, program in compiled.items():
      analysis: Any = program.memory_analysis()
      memory[name] = analysis.temp_size_in_bytes / 2**20
    rows.append(row | {"MiB": {name: digits(size) for name, size in memory.items()}})
    print(f"  {rows[-1]}", flush=True)
  return rows


def others(x: np.ndarray, cutoff: np.float32) -> Iterator[tuple[str, Side]]:
  """All pairs; SciPy's tree, which makes the list of near pairs; JAX-MD, which keeps one of its own."""
  yield "all pairs, value and gradient", partial(jax.jit(with_gradient(partial(all_sums, spring))), x, cutoff)
  if importlib.util.find_spec("scipy"):
    from scipy.spatial import cKDTree

    def by_tree() -> Any:
      tree = cKDTree(x)
      return tree.sparse_distance_matrix(tree, float(cutoff), output_type="coo_matrix")

    yield "cKDTree, list of near pairs", by_tree
  if importlib.util.find_spec("jax_md"):
    yield "JAX-MD, energy and forces", soft_spheres_of_jax_md(x, cutoff)


def soft_spheres_of_jax_md(x: np.ndarray, cutoff: np.float32) -> Side:
  """With its cell list and neighbour list, updated in every call as after a step that moves all spheres."""
  from jax_md import energy, partition, space

  displacement, _ = space.periodic(1 + 2 * float(cutoff))  # so large that no sphere meets an image
  find, of_spheres = energy.soft_sphere_neighbor_list(
    displacement, 1 + 2 * float(cutoff), sigma=float(cutoff), dr_threshold=0.0, format=partition.OrderedSparse
  )
  neighbours = find.allocate(jnp.asarray(x))

  @jax.jit
  def run(x: jax.Array) -> Any:
    found = find.update(x, neighbours)
    return jax.value_and_grad(of_spheres)(x, neighbor=found), found.did_buffer_overflow

  (value, forces), overflow = run(jnp.asarray(x))
  mine, gradient = jax.jit(with_gradient(partial(near_sums, spring)))(x, cutoff)
  # Here each pair counts twice, each sphere with itself, and there is no factor of 1/2.
  apart = np.abs(np.asarray(gradient) / 4 - np.asarray(forces)).max() / np.abs(np.asarray(forces)).max()
  if overflow or abs((float(mine) - len(x)) / 4 / float(value) - 1) > 1e-4 or apart > 1e-4:
    raise SystemExit(f"JAX-MD and this package differ: {float(mine)}, {float(value)}, {apart}. Not timed.")
  return partial(run, jnp.asarray(x))


def clouds(n: int) -> Iterator[tuple[str, np.ndarray, np.float32]]:
  """The hardest ones, with their cutoffs."""
  rng = np.random.default_rng(0)
  base, normal = uniform(n), rng.normal(size=(n, 3))
  outlier = base.copy()
  outlier[n // 2] = 1e6
  side = int(np.ceil(n ** (1 / 3)))
  apart = np.concatenate([base[: n // 2], base[n // 2 :] + 5])
  named = {
    "uniform in a cube": base,
    "a sphere's surface": normal / np.linalg.norm(normal, axis=1, keepdims=True),
    "a curve": np.cos(np.linspace(0, 6, n)[:, None] * [1, 2, 3]),
    "10 tight clusters, wide gaps": 5 * rng.normal(size=(10, 3))[np.arange(n) % 10] + 0.1 * normal,
    "half duplicated": base[np.arange(n) // 2],
    "one outlier at 1e6": outlier,
    "two sets that do not overlap": apart,
    "n no multiple of a tile": base[: n - 13],
  }
  for name, points in named.items():
    x = points.astype(np.float32)
    yield name, x, cutoff_of(x)
  lattice = np.stack(np.unravel_index(np.arange(n), (side,) * 3), 1).astype(np.float32)
  yield "a lattice, its spacing", lattice, np.float32(1)
  yield "all equal", np.full((n, 3), 0.3, np.float32), np.float32(0.1)
  yield "cutoff larger than everything", base, np.float32(10)
  yield "clusters, cutoff larger than them", named["10 tight clusters, wide gaps"].astype(np.float32), np.float32(2)
  for d in (1, 2, 6, 16):
    x = uniform(n, d)
    yield f"uniform, d={d}", x, cutoff_of(x)


def adversaries(budget_s: float, n: int = ADVERSARIES) -> list[dict[str, Any]]:
  """Ms of near pairs, and how many times as long all pairs take, of the same formula."""
  rows = []
  for name, x, cutoff in clouds(n):
    work: dict[str, Side] = {}
    for kind, sums in (("near", partial(near_sums, bump)), ("all", partial(all_sums, bump))):
      for mode, program in (("value", sums), ("gradient", with_gradient(sums))):
        work[f"{kind} {mode}"] = partial(jax.jit(program), x, cutoff)
    sums = partial(near_sums, bump)
    check(bump, name, x, cutoff, jax.jit(with_gradient(sums)), jax.jit(sums))
    times = medians(work, budget_s)
    row: dict[str, Any] = {"cloud": name}
    for mode in ("value", "gradient"):
      near, both = times[f"near {mode}"], times[f"all {mode}"]
      row[mode] = [digits(1e3 * near), digits(both / near)]
    rows.append(row)
    print(f"  {row}", flush=True)
  return rows


def compilations(n: int = ADVERSARIES) -> list[dict[str, Any]]:
  """Seconds to trace and to compile: with a cutoff, and of all pairs by the formula; medians."""
  x, rows = uniform(n), []
  for mode, wrap in (("value", lambda sums: sums), ("value and gradient", with_gradient)):
    times: dict[str, list[float]] = {"near": [], "all": []}
    for _ in range(COMPILATIONS):
      for name, sums in (("near", partial(near_sums, bump)), ("all", partial(all_sums, bump))):
        jax.clear_caches()
        begin = time.perf_counter()
        jax.jit(wrap(sums)).lower(x, np.float32(0.1)).compile()
        times[name].append(time.perf_counter() - begin)
    rows.append({"mode": mode} | {name: digits(statistics.median(t)) for name, t in times.items()})
    print(f"  {rows[-1]}", flush=True)
  return rows


def measure(quick: bool) -> dict[str, Any]:
  print(f"\nuniform points in space, {NEIGHBOURS} neighbours each: ms, and MiB of temporaries")
  found = {"large": large(0.0, (N // 20,)) if quick else large(10.0)}
  print("\nseconds to trace and compile")
  found["compilations"] = compilations()
  print("\nhard clouds: ms, and how many times as long all pairs take")
  return found | {"adversaries": adversaries(0.0, 4_000) if quick else adversaries(3.0)}


def by_size(rows: list[dict[str, Any]]) -> list[str]:
  """One line for each number of points: ms of each side, and the most MiB."""
  names = list(dict.fromkeys(name for row in rows for name in row["ms"]))
  lines = [f"| n | {' | '.join(names)} | MiB |", "|" + "---|" * (2 + len(names))]
  for row in rows:
    cells = [f"{row['ms'][name]:,.3g}" if name in row["ms"] else "" for name in names]
    lines.append(f"| {row['n']:,} | {' | '.join(cells)} | {max(row['MiB'].values()):.0f} |")
  return lines


def tables(kept: dict[str, Any]) -> list[str]:
  lines = by_size(kept["large"])
  lines += [
    "",
    "| points | ms, value | all / near | ms, value and gradient | all / near |",
    "|" + "---|" * 5,
  ]
  for row in kept["adversaries"]:
    cells = [f"{row[mode][0]:.3g} | {row[mode][1]:.3g}x" for mode in ("value", "gradient")]
    lines.append(f"| {row['cloud']} | {' | '.join(cells)} |")
  return lines


def digits(number: float) -> float:
  return float(f"{number:.3g}")
