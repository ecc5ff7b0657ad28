"""Medians of interleaved sides.

A round visits every side once. There it makes one call that does not count, so that no side pays for the memory that
the one before it has used, and then a few that do: more of a side that takes less than 2 ms, one of a side that takes
0.1 s and more, and without the call before it where that takes half a second. What a side costs is the median over all
rounds.
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

Side = Callable[[], Any]
TIMED_CALLS, MOST_CALLS = 3, 30
SHORT_S, LONG_S, SLOW_S = 2e-3, 0.1, 0.5


def medians(sides: dict[str, Side], budget_s: float = 3.0, least_rounds: int = 5) -> dict[str, float]:
  """Seconds for each side, from as many rounds as the budget allows, and at least a few."""
  first = {name: first_seconds(side) for name, side in sides.items()}
  times: dict[str, list[float]] = {name: [] for name in sides}
  start, rounds = time.perf_counter(), 0
  while rounds < least_rounds or (time.perf_counter() - start < budget_s and rounds < 60):
    for name, side in sides.items():
      if first[name] <= SLOW_S:
        jax.block_until_ready(side())
      times[name] += [_seconds(side) for _ in range(_calls(first[name]))]
    rounds += 1
  return {name: statistics.median(t) for name, t in times.items()}


def first_seconds(side: Side) -> float:
  """About what a call takes: the shorter of two, where they are short, after one that compiles."""
  jax.block_until_ready(side())
  took = _seconds(side)
  return took if took > LONG_S else min(took, _seconds(side))


def _calls(seconds: float) -> int:
  """In one round."""
  if seconds >= LONG_S:
    return 1
  if seconds >= SHORT_S:
    return TIMED_CALLS
  return min(MOST_CALLS, math.ceil(TIMED_CALLS * SHORT_S / seconds))


def _seconds(side: Side) -> float:
  before = time.perf_counter()
  jax.block_until_ready(side())
  return time.perf_counter() - before
