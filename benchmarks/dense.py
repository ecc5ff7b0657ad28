"""The matrix itself: forward, the VJP of a cotangent that is handed in, and the price of a call."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import jax_edm
from benchmarks import sides
from benchmarks.case import Case, bound, data
from benchmarks.oracles import exact_edm, exact_pull


def cases() -> Iterator[Case]:
  yield from vjp_cases()
  yield from forward_cases()
  yield from call_cases()


def vjp_cases() -> Iterator[Case]:
  goals = {(3, 1024): 3.5, (3, 4096): 9, (16, 1024): 4, (16, 4096): 7, (128, 1024): 1.7, (128, 4096): 2}
  for (d, n), goal in goals.items():
    x, g = data(n, d), data(n, n, seed=1)
    work = {"jax_edm": bound(sides.pull(sides.ours), x, g)}
    work |= {name: bound(sides.pull(f), x, g) for name, f in sides.plain(d).items()}
    limits = {
      "limit: g read twice": bound(lambda g: (g.sum(1), g.sum(0)), g),
      "limit: the two products": bound(lambda x, g: (g @ x, jnp.dot(x.T, g)), x, g),
    }
    yield Case(f"VJP, d={d}, n={n}", work, partial(exact_pull, x, g), {"best autodiff": goal}, limits)


def forward_cases() -> Iterator[Case]:
  for n in (256, 1024, 4096):
    for d in (3, 16, 128, 768):
      x = data(n, d)
      work = {"jax_edm": bound(sides.ours, x)} | sides.libraries(x)
      work["plain, broadcast"] = bound(sides.broadcast, x)
      if d * n * n > 5e9:  # minutes, for nothing learned
        work.pop("scipy", None)
        work.pop("plain, broadcast")
      goals: dict[str, float] = {name: 1.0 for name in ("scipy", "scikit-learn", "torch", "pykeops") if name in work}
      limits = {
        "limit: result written once": bound(lambda x: jnp.broadcast_to(x[:, :1], (x.shape[0],) * 2) + 1, x),
        "limit: the product": bound(lambda x: x @ x.T, x),
      }
      yield Case(f"forward, d={d}, n={n}", work, partial(exact_edm, x), goals, limits)


def call_cases() -> Iterator[Case]:
  x = jnp.asarray(data(16, 3))
  jitted = jax.jit(jax_edm.edm)
  work = {"jax_edm": lambda: jax_edm.edm(x), "jax.jit(edm)": lambda: jitted(x)}
  yield Case("un-jitted call, d=3, n=16", work, partial(exact_edm, np.asarray(x)), {"jax.jit(edm)": 1 / 3}, {})
