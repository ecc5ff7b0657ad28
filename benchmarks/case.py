"""What is measured: one line of work, and what goes into it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import Side


class Case(NamedTuple):
  """One line of work: its sides, the right answer, and the ratios that are to be reached."""

  name: str
  sides: dict[str, Side]
  expected: Callable[[], Any]  # what every side must return, in float64
  goals: dict[str, float]  # side, or "best autodiff": at least so many times our time
  limits: dict[str, Side]  # the physical limit: nothing does the work in less


def data(*shape: int, seed: int = 0) -> np.ndarray:
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def bound(function: Callable[..., Any], *arguments: Any) -> Side:
  """Compiled, with the arguments on the device."""
  compiled, on_device = jax.jit(function), [jnp.asarray(a) for a in arguments]
  return lambda: compiled(*on_device)
