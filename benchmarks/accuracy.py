"""The error of each single entry, here and in other libraries, and what it costs to have all of them right."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import jax_edm
from benchmarks import losses, sides
from benchmarks.case import bound, data
from benchmarks.losses import Formula
from benchmarks.timing import Side, medians
from jax_edm._typing import Method

POINTS = 512
COORDINATES = (7, 16, 64, 128, 768)
METHODS: tuple[Method, ...] = (None, "difference")
SIDES: tuple[Literal["gram", "difference"], ...] = ("gram", "difference")
COST_POINTS, COST_COORDINATES = (256, 1024, 4096), (16, 64, 128)
MODES: dict[str, Callable[..., Any]] = {
  "value": lambda loss, f: partial(loss, f, y=None),
  "value and gradient": losses.gradient,
  "Hessian-vector product": losses.forward_over_reverse,
}
TOLERANCE = 1e-3  # of the largest entry of a result, before it is timed


def clouds(d: int) -> Iterator[tuple[str, np.ndarray]]:
  """Points in float64; what is measured is their rounding to float32."""
  x, near = data(POINTS, d).astype(np.float64), data(POINTS // 2, d, seed=1)
  centres = 100 * data(8, d, seed=2)
  duplicated, nearly = x.copy(), x.copy()
  duplicated[1::2] = x[::2]
  nearly[1::2] = x[::2] * (1 + 1e-5 * near)
  yield "Gaussian", x
  yield "unit vectors", x / np.linalg.norm(x, axis=1, keepdims=True)
  yield "8 tight clusters far apart", centres[np.arange(POINTS) % 8] + 1e-2 * x
  yield "each row twice", duplicated
  yield "each row nearly twice", nearly
  yield "at an offset of 1,000", x + 1e3


def exact(x: np.ndarray) -> np.ndarray:
  """By differences, in float64."""
  wide = x.astype(np.float64)
  return np.array([np.square(wide - row).sum(1) for row in wide])


def errors(coordinates: tuple[int, ...] = COORDINATES) -> list[dict[str, Any]]:
  """Relative errors of entries that are not zero, in float32: the largest, and the 99.9th percentile."""
  rows = []
  for d in coordinates:
    for cloud, points in clouds(d):
      x = points.astype(np.float32)
      right = exact(x)
      apart = right > 0
      row: dict[str, Any] = {"d": d, "cloud": cloud}
      ours = {f"method={method}": bound(partial(jax_edm.edm, method=method), x) for method in METHODS}
      for name, side in (ours | sides.libraries(x)).items():
        error = np.abs(np.asarray(side(), np.float64) - right)[apart] / right[apart]
        row[name] = [float(f"{number:.1e}") for number in (error.max(), np.quantile(error, 0.999))]
      rows.append(row)
      print(f"  {row}", flush=True)
  return rows


def costs(
  budget_s: float, sizes: tuple[int, ...] = COST_POINTS, coordinates: tuple[int, ...] = COST_COORDINATES
) -> list[dict[str, Any]]:
  """``exp(-D).sum()`` of wide points: products in ms, and how many times as long differences take."""
  rows = []
  for n in sizes:
    for d in coordinates:
      x, v = data(n, d) / np.float32(d**0.5), data(n, d, seed=1)
      row: dict[str, Any] = {"n": n, "d": d}
      for mode, make in MODES.items():
        given = (x, v) if make is losses.forward_over_reverse else (x,)
        work: dict[str, Side] = {name: bound(make(losses.gaussian, by_method(name)), *given) for name in SIDES}
        check(f"{mode}, d={d}, n={n}", work, make, given)
        times = medians(work, budget_s)
        row[mode] = [float(f"{number:.3g}") for number in (1e3 * times["gram"], times["difference"] / times["gram"])]
      rows.append(row)
      print(f"  {row}", flush=True)
  return rows


def by_method(method: Method) -> Formula:
  return losses.by_hand(partial(jax_edm.edm, method=method), partial(jax_edm.distances, method=method))


def check(name: str, work: dict[str, Side], make: Callable[..., Any], given: tuple[np.ndarray, ...]) -> None:
  with jax.enable_x64(True):
    wide = [jnp.asarray(a, jnp.float64) for a in given]
    right = [np.asarray(a) for a in jax.tree.leaves(jax.jit(make(losses.gaussian, losses.PLAIN["product"]))(*wide))]
  for side, run in work.items():
    for found, expected in zip(jax.tree.leaves(run()), right, strict=True):
      error = np.abs(np.asarray(found, np.float64) - expected).max() / np.abs(expected).max()
      if not error < TOLERANCE:
        raise SystemExit(f"{name}: {side} is wrong, by {error:.1e} of the largest entry. Not timed.")


def tables(kept: dict[str, Any]) -> list[str]:
  """Of errors, the largest and the percentile; and of costs."""
  names = [name for name in kept["errors"][0] if name not in ("d", "cloud")]
  lines = [
    f"| d | points | {' | '.join(f'`{n}`' if '=' in n else n for n in names)} |",
    "|" + "---|" * (2 + len(names)),
  ]
  for row in kept["errors"]:
    lines.append(f"| {row['d']} | {row['cloud']} | {' | '.join(_pair(*row[name]) for name in names)} |")
  lines += ["", f"| n | d | {' | '.join(MODES)} |", "|" + "---|" * (2 + len(MODES))]
  for row in kept["costs"]:
    cells = [f"{row[mode][0]:.3g} ms, {row[mode][1]:.2f}x" for mode in MODES]
    lines.append(f"| {row['n']:,} | {row['d']} | {' | '.join(cells)} |")
  return lines


def _pair(largest: float, most: float) -> str:
  return f"{largest:.1g}, {most:.1g}"
