"""What a row of ``models.py`` costs each side: the time to compile and to run, and the compiler's count of temporaries.

Each side is traced, lowered and compiled several times, from a new function and with empty caches. The median counts,
and the last program is what runs. Results are compared with those of the product form in float64 before they are timed:
a plain formula that is wrong is reported and left out. So is, after a few calls, one that takes three times as long as
the fastest.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.losses import OURS, PLAIN, Formula, Function
from benchmarks.models import Model, models
from benchmarks.timing import LONG_S, Side, first_seconds, medians

US = "jax_edm"
HOPELESS = 3.0  # times as long as the fastest plain formula
SLOWER = 0.95  # a row below this ratio is listed at the end

Result = dict[str, Any]


class Plan(NamedTuple):
  """What is measured of each row."""

  budget_s: float = 1.0  # for the time to run
  compilations: int = 3  # of each side
  compiles: bool = True  # whether the time to compile is kept
  runs: bool = True  # whether sides are compared with the reference, and timed
  at_once: bool = False  # all programs are compiled before the first is run, on all cores
  others: tuple[tuple[str, Formula], ...] = ()  # further sides: another version of the package


def measure_all(only: str, plan: Plan, rows: Iterable[Model] | None = None) -> list[Result]:
  """All rows whose name contains a word, each printed when it is known, and the summary."""
  jax.config.update("jax_enable_compilation_cache", False)
  compiled(partial(jnp.add, 1.0), [jnp.zeros(3)])  # the first compilation of a process starts the compiler
  chosen = [
    model
    for model in (models() if rows is None else rows)
    if only in model.name and (model.compiles if not plan.runs else model.runs or plan.compiles)
  ]
  results = []
  for result in measured_at_once(chosen, plan) if plan.at_once else (measure(model, plan) for model in chosen):
    results.append(result)
    print(line(result), flush=True)
  print("\n".join(summary(results)))
  return results


def measured_at_once(rows: list[Model], plan: Plan) -> Iterator[Result]:
  """Nothing is timed before everything is compiled."""

  def compiled_side(side: tuple[Model, Formula | None]) -> Any:
    model, formula = side
    if formula is None:
      return exact(model)
    shapes = [jax.ShapeDtypeStruct(a.shape, jax.dtypes.canonicalize_dtype(a.dtype)) for a in model.arguments()]
    return jax.jit(model.make(formula)).lower(*shapes).compile()

  formulas = {model.name: {US: OURS} | dict(plan.others) | model.formulas for model in rows}
  sides = [(model, f) for model in rows for f in (None, *formulas[model.name].values())]
  with ThreadPoolExecutor(os.cpu_count()) as pool:
    programs = iter(list(pool.map(compiled_side, sides)))
  for model in rows:
    reference = next(programs)
    yield _measured(model, reference, {name: next(programs) for name in formulas[model.name]}, {}, plan)


def measure(model: Model, plan: Plan) -> Result:
  arguments = [jnp.asarray(a) for a in model.arguments()]
  compiled = compile_sides(model, {US: OURS} | dict(plan.others) | model.formulas, arguments, plan)
  return _measured(model, exact(model) if plan.runs else None, *compiled, plan)


def _measured(
  model: Model, reference: Any, programs: dict[str, Any], compile_ms: dict[str, float], plan: Plan
) -> Result:
  arguments = [jnp.asarray(a) for a in model.arguments()]
  sides = {name: partial(program, *arguments) for name, program in programs.items()}
  calls = {name: first_call(side) for name, side in sides.items()}
  wrong = check(model, reference, {name: result for name, (result, _) in calls.items()}) if plan.runs else {}
  sides = {name: side for name, side in sides.items() if name not in wrong}
  first = {name: calls[name][1] for name in sides}
  plain = [name for name in model.formulas if name in sides]
  fastest, times = min(plain, key=lambda name: first[name], default=None), {}
  if model.runs and plan.runs:
    left_out = [name for name in plain if fastest and first[name] > HOPELESS * first[fastest]]
    times = first | medians({name: side for name, side in sides.items() if name not in left_out}, plan.budget_s)
    fastest = min(plain, key=lambda name: times[name], default=None)
  temporaries = {name: temporary_bytes(program) for name, program in programs.items()}
  return {
    "work": model.name,
    "group": model.group,
    "fastest plain": fastest,
    "ms": {name: 1e3 * t for name, t in times.items()},
    "compile ms": compile_ms,
    "temporaries": temporaries,
    "wrong": wrong,
    "ratio": times[fastest] / times[US] if times and fastest else None,
    "compile ratio": compile_ms[US] / compile_ms[fastest] if compile_ms and fastest else None,
    "least temporaries of plain": min((temporaries[name] for name in plain), default=None),
  }


def compile_sides(
  model: Model, formulas: dict[str, Formula], arguments: list[jax.Array], plan: Plan
) -> tuple[dict[str, Any], dict[str, float]]:
  """The program of each side, and the milliseconds to make it, where they are kept."""
  kept = plan.compiles and model.compiles
  seconds: dict[str, list[float]] = {name: [] for name in formulas}
  programs = {}
  for _ in range(plan.compilations if kept else 1):
    for name, formula in formulas.items():
      programs[name], took = compiled(model.make(formula), arguments)
      seconds[name].append(took)
  return programs, {name: 1e3 * statistics.median(s) for name, s in seconds.items()} if kept else {}


def compiled(function: Function, arguments: list[jax.Array]) -> tuple[Any, float]:
  """The compiled program, and the seconds to trace, lower and compile it, with nothing cached."""
  jax.clear_caches()
  before = time.perf_counter()
  program = jax.jit(function).lower(*arguments).compile()
  return program, time.perf_counter() - before


def first_call(side: Side) -> tuple[Any, float]:
  """The result, and about what a call takes: where the first takes long, it is the only one."""
  before = time.perf_counter()
  result = jax.block_until_ready(side())
  took = time.perf_counter() - before
  return result, took if took > LONG_S else first_seconds(side)


def temporary_bytes(program: Any) -> int:
  return int(program.memory_analysis().temp_size_in_bytes)


def exact(model: Model) -> Any:
  """The program of the product form, in float64."""
  with jax.enable_x64(True):
    return jax.jit(model.make(PLAIN["product"])).lower(*_wide(model)).compile()


def _wide(model: Model) -> list[jax.Array]:
  return [jnp.asarray(a, jnp.float64 if a.dtype == np.float32 else None) for a in model.arguments()]


def check(model: Model, reference: Any, results: dict[str, Any]) -> dict[str, float]:
  """The errors of the sides that are wrong; ours must not be."""
  with jax.enable_x64(True):
    expected = [np.asarray(a) for a in jax.tree.leaves(reference(*_wide(model)))]
  wrong = {}
  for name, result in results.items():
    error = max(_error(a, b) for a, b in zip(jax.tree.leaves(result), expected, strict=True))
    if not error < model.tolerance:
      wrong[name] = error
  if US in wrong:
    raise SystemExit(f"{model.name}: {US} is wrong, by {wrong[US]:.1e} of the largest entry. Not timed.")
  return wrong


def _error(actual: jax.Array, expected: np.ndarray) -> float:
  """Of the largest entry, or of 1: a gradient may be zero but for rounding, where its terms are of order one."""
  return float(np.max(np.abs(np.asarray(actual, np.float64) - expected)) / max(1.0, np.max(np.abs(expected))))


# What is printed


def line(result: Result) -> str:
  fastest, parts = result["fastest plain"], [f"{result['work']:<66}"]
  if result["ms"]:
    parts.append(f"{result['ms'][US]:>9.3f} ms {number(result['ratio'])}x {fastest}")
    others = [name for name in result["ms"] if name not in (US, *PLAIN)]
    parts += [f"{name} {result['ms'][name] / result['ms'][US]:.2f}x" for name in others]
  if result["compile ms"]:
    parts.append(f"compile {result['compile ms'][US]:.0f} ms {number(result['compile ratio'])}x")
  parts.append(f"temporaries {megabytes(result, US)} / {megabytes(result, fastest)} MB")
  parts += [f"{name} is WRONG by {error:.0e}" for name, error in result["wrong"].items()]
  return " | ".join(parts)


def number(ratio: float | None) -> str:
  return "-" if ratio is None else f"{ratio:.2f}"


def megabytes(result: Result, side: str | None) -> str:
  return "-" if side is None else f"{result['temporaries'][side] / 1e6:.3g}"


def summary(results: list[Result]) -> list[str]:
  lines = ["", "medians: plain / ours of the time to run, ours / plain of the time to compile"]
  groups = list(dict.fromkeys(result["group"] for result in results))
  for kind in dict.fromkeys(group.split(",")[0] for group in groups):
    of_kind = [group for group in groups if group.split(",")[0] == kind]
    for name in [kind] if of_kind == [kind] else [f"all of {kind}", *of_kind]:
      found = [r for r in results if name in (f"all of {kind}", r["group"]) and r["group"] in of_kind]
      parts = [f"{key} {_median(found, key)}" for key in ("ratio", "compile ratio")]
      lines.append(f"  {name:<30}{', '.join(parts)} ({len(found)} rows)")
  lines += _listed(f"below {SLOWER}x", results, lambda r: r["ratio"] is not None and r["ratio"] < SLOWER)
  lines += _listed("more temporaries than the fastest plain formula", results, lambda r: _more(r, r["fastest plain"]))
  least = [r for r in results if r["temporaries"][US] > (r["least temporaries of plain"] or 0)]
  lines.append(f"more temporaries than the plain formula with the fewest: {len(least)} rows")
  return lines


def _median(results: list[Result], key: str) -> str:
  ratios = [r[key] for r in results if r[key] is not None]
  return f"{statistics.median(ratios):.2f}x" if ratios else "-"


def _more(result: Result, side: str | None) -> bool:
  return side is not None and result["temporaries"][US] > result["temporaries"][side]


def _listed(title: str, results: list[Result], chosen: Callable[[Result], bool]) -> list[str]:
  found = [line(r) for r in results if chosen(r)]
  return [f"{title}: {len(found)} rows", *(f"  {text}" for text in found)]
