"""A hundred thousand soft spheres find room for each other: energies and forces of near pairs alone.

Spheres that overlap repel each other like springs, and spheres that do not overlap do not see each other: a sum with
``cutoff=`` the diameter. Nobody keeps a list of neighbours, none can overflow, and the forces are one gradient. The
spheres start at random places, fill 58 % of a cube with soft walls, and move down the gradient with momentum until
hardly any of them overlap. Needs matplotlib for the picture, of which it writes a file; run
``python examples/soft_spheres.py``.
"""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm import pairwise_sum, safe_root

FILLED = 0.58  # of the volume; spheres at random places jam at 0.64
STEPS, AT_A_TIME = 120, 10


def diameter(n):
  """Of n spheres in a cube of side 1."""
  return float((6 * FILLED / (np.pi * n)) ** (1 / 3))


def energy(x, diameter):
  """Of each pair ``(1 - r / diameter)^2 / 2``, and of the walls, per sphere."""

  def spring(squared):
    return jnp.square(1 - safe_root(squared) / diameter)

  pairs = pairwise_sum(spring, x, diagonal=False, cutoff=diameter).sum() / 4  # each pair stands in two rows
  outside = jnp.maximum(jnp.maximum(diameter / 2 - x, x - 1 + diameter / 2), 0) / diameter
  return (pairs + jnp.square(outside).sum()) / len(x)


def overlaps(x, diameter):
  """With how many others each sphere overlaps by more than a twentieth of the diameter."""
  return pairwise_sum(lambda squared: squared >= 0, x, diagonal=False, cutoff=0.95 * diameter)


@jax.jit
def descend(x, velocity, diameter):
  """Ten steps down the gradient, with momentum; the energies before each."""

  def step(state, _):
    x, velocity = state
    value, gradient = jax.value_and_grad(energy)(x, diameter)
    velocity = 0.85 * velocity - 0.3 * diameter**2 * len(x) * gradient
    return (x + velocity, velocity), value

  (x, velocity), energies = lax.scan(step, (x, velocity), length=AT_A_TIME)
  return x, velocity, energies


def main(n=100_000, steps=STEPS, picture="soft_spheres.png"):
  begin, size = time.perf_counter(), diameter(n)
  first = x = jnp.asarray(np.random.default_rng(0).uniform(size / 2, 1 - size / 2, (n, 3)), jnp.float32)
  velocity, energies = jnp.zeros_like(x), []
  for done in range(0, steps, AT_A_TIME):
    x, velocity, values = descend(x, velocity, size)
    energies += values.tolist()
    print(f"\rstep {done + AT_A_TIME} of {steps}, energy {energies[-1]:.2e}", end="", file=sys.stderr, flush=True)
  print(file=sys.stderr)
  before, after = (np.asarray(jax.jit(overlaps)(points, size)) for points in (first, x))
  print(f"energy of a sphere {energies[0]:.3f} at first, {energies[-1]:.1e} after {steps} steps")
  print(f"spheres that overlap: {(before > 0).mean():.1%} at first, {(after > 0).mean():.1%} at the end")
  print(f"{n:,} spheres, {time.perf_counter() - begin:.0f} s")
  if picture:
    draw(picture, size, energies, (first, before), (x, after))
  return {"energies": energies, "before": before, "after": after, "x": np.asarray(x)}


def draw(file, size, energies, *states):
  """A slice of the cube, before and after; and the energies."""
  from matplotlib.collections import EllipseCollection
  from matplotlib.figure import Figure

  figure = Figure(figsize=(13, 4.4), layout="constrained")
  *slices, curve = figure.subplots(1, 3)
  for axes, title, (x, count) in zip(slices, ("at random places", "after"), states, strict=True):
    x, height = np.asarray(x), np.asarray(x)[:, 2] - 0.5
    cut = (np.abs(height) < size / 2) & (x[:, 0] < 16 * size) & (x[:, 1] < 16 * size)
    width = 2 * np.sqrt(size**2 / 4 - height[cut] ** 2)
    circles = EllipseCollection(width, width, 0, units="xy", offsets=x[cut, :2], offset_transform=axes.transData)
    circles.set(array=count[cut], clim=(0, 6), cmap="viridis", alpha=0.8)
    axes.add_collection(circles)
    axes.set(xlim=(0, 16 * size), ylim=(0, 16 * size), aspect="equal", xticks=[], yticks=[])
    axes.set_title(f"A corner of a slice, {title}")
  figure.colorbar(circles, ax=slices, label="spheres that it overlaps with")
  curve.semilogy(energies)
  curve.set(xlabel="step", title="Energy of a sphere")
  figure.savefig(file, dpi=110)
  print(f"wrote {file}")


if __name__ == "__main__":
  main()
