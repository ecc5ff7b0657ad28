"""Medians of interleaved sides.

A round visits every side once. There it makes one call that does not count, so that no side pays for the memory that
the one before it has used, and then a few that do; of a side that takes half a second and more, one that counts. What
a side costs is the median over all rounds.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax

Side = Callable[[], Any]
TIMED_CALLS = 3
SLOW_S = 0.5


def medians(sides: dict[str, Side], budget_s: float = 3.0, least_rounds: int = 5) -> dict[str, float]:
  """Seconds for each side, from as many rounds as the budget allows, and at least a few."""
  slow = set()
  for name, side in sides.items():
    jax.block_until_ready(side())  # compiles
    if _seconds(side) > SLOW_S:
      slow.add(name)
  times: dict[str, list[float]] = {name: [] for name in sides}
  start, rounds = time.perf_counter(), 0
  while rounds < least_rounds or (time.perf_counter() - start < budget_s and rounds < 60):
    for name, side in sides.items():
      if name not in slow:
        jax.block_until_ready(side())
      times[name] += [_seconds(side) for _ in range(1 if name in slow else TIMED_CALLS)]
    rounds += 1
  return {name: statistics.median(t) for name, t in times.items()}


def _seconds(side: Side) -> float:
  before = time.perf_counter()
  jax.block_until_ready(side())
  return time.perf_counter() - before
