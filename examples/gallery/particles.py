"""A hundred thousand particles with forces between near pairs: two balls of soft spheres collide.

The energy is one call of ``pairwise_sum`` with a cutoff, the forces are its gradient, and all steps run inside one
jitted scan. Beside it stands what people write today: a list of near pairs from SciPy's k-d tree, which is made on the
host after each step, and a sum over that list in JAX. Needs SciPy, and matplotlib for the picture; run
``python examples/gallery/particles.py``.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.spatial import cKDTree

from jax_edm import pairwise_sum, safe_root

TOLERANCE = 1e-4
SPACING, RADIUS = 1.02, 23.3  # a ball of this radius holds about 50,000 places of a cubic lattice
SPEED, TIME_STEP = 0.6, 0.35
CHUNKS, AT_A_TIME = 2, 50


# --8<-- [start:energy]
def spring(squared):
  """Of two spheres of diameter 1 that overlap."""
  return jnp.square(1 - safe_root(squared)) / 2


def energy(x):
  return pairwise_sum(spring, x, diagonal=False, cutoff=1.0).sum() / 2  # each pair stands in two rows


energy_and_gradient = jax.jit(jax.value_and_grad(energy))
# --8<-- [end:energy]


# --8<-- [start:steps]
@jax.jit
def fly(x, velocity):
  """Steps of leapfrog; the elastic and the kinetic energy in the middle of each."""

  def step(state, _):
    x, velocity = state
    x = x + TIME_STEP / 2 * velocity
    elastic, gradient = jax.value_and_grad(energy)(x)
    middle = velocity - TIME_STEP / 2 * gradient
    velocity = middle - TIME_STEP / 2 * gradient
    return (x + TIME_STEP / 2 * velocity, velocity), (elastic, jnp.square(middle).sum() / 2)

  (x, velocity), energies = lax.scan(step, (x, velocity), length=AT_A_TIME)
  return x, velocity, jnp.stack(energies)


# --8<-- [end:steps]


# --8<-- [start:list]
def list_of_pairs(x, capacity):
  """On the host. It is padded to one length, so that the sum compiles once."""
  pairs = cKDTree(np.asarray(x)).query_pairs(1.0, output_type="ndarray")
  if len(pairs) > capacity:
    raise ValueError(f"{len(pairs)} near pairs, and room for {capacity}")
  i, j = np.zeros(capacity, np.int32), np.ones(capacity, np.int32)  # not (0, 0): a root at zero has no derivative
  i[: len(pairs)], j[: len(pairs)] = pairs.T
  return i, j, np.arange(capacity) < len(pairs)


@jax.jit
@jax.value_and_grad
def energy_of_list(x, i, j, exists):
  """The gradient of reading x[i] and x[j] is a segment sum."""
  r = jnp.sqrt(jnp.square(x[i] - x[j]).sum(-1))
  return jnp.where(exists, jnp.square(1 - r) / 2, 0).sum()


# --8<-- [end:list]


# --8<-- [start:balls]
def balls():
  """Two balls of a cubic lattice, side by side, and the velocities with which they meet."""
  side = SPACING * (np.arange(-25, 25) + 0.25)
  lattice = np.stack(np.meshgrid(side, side, side), -1).reshape(-1, 3)
  ball = lattice[np.square(lattice).sum(1) < RADIUS**2]
  centre, velocity = np.array([0.95 * RADIUS, RADIUS / 3, 0]), np.full_like(ball, [-SPEED, 0, 0])
  x, velocity = np.concatenate([ball + centre, ball - centre]), np.concatenate([velocity, -velocity])
  return jnp.asarray(x, jnp.float32), jnp.asarray(velocity, jnp.float32)


# --8<-- [end:balls]


@jax.jit
def overlaps(x):
  """With how many others each sphere overlaps."""
  return pairwise_sum(lambda squared: squared >= 0, x, diagonal=False, cutoff=1.0)


def main(picture="particles.png"):
  x, velocity = balls()
  states, energies = [(x, velocity)], []
  for _ in range(CHUNKS):
    x, velocity, of_steps = fly(x, velocity)
    states.append((x, velocity))
    energies.append(np.asarray(of_steps))
  elastic, kinetic = np.concatenate(energies, 1)
  total = elastic + kinetic
  value, gradient = energy_and_gradient(x)
  i, j, exists = list_of_pairs(x, 2_000_000)
  expected, other = energy_of_list(x, i, j, exists)
  count = np.asarray(overlaps(x))
  found = {
    "particles": len(x),
    "steps": len(total),
    "pairs that overlap at the end, jax_edm": int(count.sum()) // 2,
    "pairs that overlap at the end, cKDTree": int(exists.sum()),
    "difference of the energies at the end": abs(float(value / expected) - 1),
    "largest difference of the forces at the end": float(jnp.abs(gradient - other).max() / jnp.abs(other).max()),
    "energy at first": float(total[0]),
    "largest relative change of the energy": float(np.abs(total / total[0] - 1).max()),
    "share that was elastic at most": float((elastic / total).max()),
    "mean velocity at the end": float(np.abs(np.asarray(velocity, np.float64).mean(0)).max()),
  }
  for name, number in found.items():
    print(f"{name}: {number}")
  draw(picture, states, elastic, kinetic)
  return found


def sides():
  rows = {}
  for neighbours in (6, 50):
    n, side = 100_000, (100_000 * 4 / 3 * np.pi / neighbours) ** (1 / 3)
    x = jnp.asarray(np.random.default_rng(0).uniform(0, side, (n, 3)), jnp.float32)
    capacity = int(0.55 * n * neighbours)
    given = jax.device_put(list_of_pairs(x, capacity))
    rows[f"energy and forces, n={n:,}, {neighbours} neighbours"] = {
      "jax_edm": partial(energy_and_gradient, x),
      "cKDTree and a sum over its list": partial(by_tree, x, capacity),
      "sum over a list that is given": partial(energy_of_list, x, *given),
    }
  return rows


def by_tree(x, capacity):
  return energy_of_list(x, *list_of_pairs(x, capacity))


def draw(file, states, elastic, kinetic):
  """Slices through the middle, coloured by the speed, and the energies."""
  from matplotlib.collections import EllipseCollection
  from matplotlib.figure import Figure
  from PIL import Image

  figure = Figure(figsize=(14, 3.9), layout="constrained")
  *slices, curve = figure.subplots(1, len(states) + 1)
  for k, (axes, (x, velocity)) in enumerate(zip(slices, states, strict=True)):
    x, speed = np.asarray(x), np.linalg.norm(velocity, axis=1)
    cut = np.abs(x[:, 2]) < 0.5
    width = 2 * np.sqrt(0.25 - x[cut, 2] ** 2)
    circles = EllipseCollection(width, width, 0, units="xy", offsets=x[cut, :2], offset_transform=axes.transData)
    circles.set(array=speed[cut], clim=(0, SPEED), cmap="viridis", linewidth=0)
    axes.add_collection(circles)
    axes.set(xlim=(-48, 48), ylim=(-48, 48), aspect="equal", xticks=[], yticks=[])
    axes.set_title(f"A slice after {k * AT_A_TIME} steps")
  figure.colorbar(circles, ax=slices, label="speed")
  lines = (kinetic + elastic, "total", "black"), (kinetic, "kinetic", "tab:blue"), (elastic, "elastic", "tab:orange")
  for values, name, color in lines:
    curve.plot(values / len(states[0][0]), color=color, label=name)
  curve.set(xlabel="step", title="Energy of a particle", ylim=(0, None))
  curve.legend(frameon=False)
  figure.savefig(file, dpi=110)
  Image.open(file).convert("RGB").quantize(255).save(file, optimize=True)  # a third of the bytes
  print(f"wrote {file}")


if __name__ == "__main__":
  main()
