"""Soft spheres beside JAX-MD: the same energy and forces, and JAX-MD's minimizer driven by them.

JAX-MD writes an energy as a function of positions, and its minimizers and integrators take any such function. Here it
is one call of ``pairwise_sum``, of all pairs or of near pairs alone. It is compared with ``soft_sphere_pair`` and with
``soft_sphere_neighbor_list`` of JAX-MD, and then FIRE of JAX-MD packs 3,000 discs in a bowl, once with each energy.
Needs jax-md, and matplotlib for the picture; run ``python examples/gallery/jax_md_forces.py``.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax_md import energy, minimize, space

from jax_edm import pairwise_sum, safe_root

TOLERANCE = 1e-4
DISCS, SIDE, STIFFNESS = 3000, 80.0, 4e-4
CHUNKS, AT_A_TIME = 20, 20

displacement, shift = space.free()


# --8<-- [start:near]
def spring(squared):
  """Of two spheres of diameter 1 that overlap."""
  return jnp.square(1 - safe_root(squared)) / 2


def near_pairs(x):
  return pairwise_sum(spring, x, diagonal=False, cutoff=1.0).sum() / 2  # each pair stands in two rows


# --8<-- [end:near]


# --8<-- [start:all]
def all_pairs(x):
  return pairwise_sum(lambda squared: jnp.where(squared < 1, spring(squared), 0), x, diagonal=False).sum() / 2


# --8<-- [end:all]
near_forces, all_forces = jax.jit(jax.value_and_grad(near_pairs)), jax.jit(jax.value_and_grad(all_pairs))


# --8<-- [start:bowl]
def bowl(x):
  """A weak spring to the middle of the box holds the discs together."""
  return STIFFNESS * jnp.square(x - SIDE / 2).sum() / 2


# --8<-- [end:bowl]


# --8<-- [start:fire]
def total(x):
  return near_pairs(x) + bowl(x)


start, descend = minimize.fire_descent(total, shift)


@jax.jit
def relax(state):
  return lax.fori_loop(0, AT_A_TIME, lambda _, state: descend(state), state)


def pack(x):
  state, energies = jax.jit(start)(x), [float(jax.jit(total)(x))]
  for _ in range(CHUNKS):
    state = relax(state)
    energies.append(float(jax.jit(total)(state.position)))
  return state.position, energies


# --8<-- [end:fire]


# --8<-- [start:fire_list]
find, of_list = energy.soft_sphere_neighbor_list(displacement, SIDE)
start_listed, descend_listed = minimize.fire_descent(lambda x, neighbor: of_list(x, neighbor) + bowl(x), shift)


@jax.jit
def relax_listed(state, neighbors):
  def step(_, carry):
    state, neighbors, rebuilt = carry
    fresh = neighbors.update(state.position)
    rebuilt += jnp.any(fresh.reference_position != neighbors.reference_position)
    return descend_listed(state, neighbor=fresh), fresh, rebuilt

  return lax.fori_loop(0, AT_A_TIME, step, (state, neighbors, 0))


def pack_listed(x):
  neighbors, lists, allocated = find.allocate(x), 0, 1
  state, energies = jax.jit(start_listed)(x, neighbor=neighbors), [float(jax.jit(total)(x))]
  while len(energies) <= CHUNKS:
    moved, neighbors, rebuilt = relax_listed(state, neighbors)
    if neighbors.did_buffer_overflow:  # the list was too short: these steps are taken again
      neighbors, allocated = find.allocate(state.position), allocated + 1
      continue
    state, lists = moved, lists + int(rebuilt)
    energies.append(float(jax.jit(total)(state.position)))
  return state.position, energies, lists, allocated


# --8<-- [end:fire_list]


def cube(n, neighbours):
  """``n`` points in a cube where each has so many within a distance of 1, and the side of the cube."""
  side = float((n * 4 / 3 * np.pi / neighbours) ** (1 / 3))
  return jnp.asarray(np.random.default_rng(0).uniform(0, side, (n, 3)), jnp.float32), side


def main(picture="jax_md_forces.png"):
  x, _ = cube(4000, 6)
  value, gradient = all_forces(x)
  value_near, gradient_near = near_forces(x)
  value_md, gradient_md = jax.jit(jax.value_and_grad(energy.soft_sphere_pair(displacement)))(x)
  found = {
    "energy of 4,000 spheres, jax_edm": float(value),
    "energy of 4,000 spheres, JAX-MD": float(value_md),
    "largest difference of the forces, all pairs": apart(gradient, gradient_md),
    "largest difference of the forces, near pairs": apart(gradient_near, gradient_md),
    "difference of the energies, near pairs": abs(float(value_near / value_md) - 1),
  }
  first = discs()
  last, energies = pack(first)
  _, energies_listed, lists, allocated = pack_listed(first)
  found |= {
    "energy of the discs at first": energies[0],
    "energy after FIRE, driven by jax_edm": energies[-1],
    "energy after FIRE, driven by JAX-MD": energies_listed[-1],
    "steps of FIRE": CHUNKS * AT_A_TIME,
    "steps that rebuilt JAX-MD's list": lists,
    "allocations of JAX-MD's list": allocated,
  }
  for name, number in found.items():
    print(f"{name}: {number}")
  draw(picture, first, last, energies, energies_listed)
  return found


def apart(a, b):
  """The largest difference, relative to the largest entry."""
  return float(jnp.abs(a - b).max() / jnp.abs(b).max())


def discs():
  """At random places in a square around the middle of the box."""
  half = 0.5 * DISCS**0.5
  return jnp.asarray(SIDE / 2 + np.random.default_rng(0).uniform(-half, half, (DISCS, 2)), jnp.float32)


def sides():
  rows = {}
  for n in (1000, 3000, 6000):
    x, _ = cube(n, 6)
    theirs = jax.jit(jax.value_and_grad(energy.soft_sphere_pair(displacement)))
    rows[f"all pairs, n={n:,}"] = {
      "jax_edm": partial(all_forces, x),
      "JAX-MD, soft_sphere_pair": partial(theirs, x),
    }
  for neighbours in (6, 50):
    rows[f"near pairs, n=20,000, {neighbours} neighbours"] = near_sides(*cube(20_000, neighbours))
  return rows


def near_sides(x, side):
  """JAX-MD's list as it is between two rebuilds, and a list that is rebuilt because the spheres have moved."""
  find, of_list = energy.soft_sphere_neighbor_list(displacement, side)
  old = find.allocate(x[::-1])  # the same places in another order: of equal length, and out of date
  given = jax.jit(jax.value_and_grad(of_list))
  rebuilt = jax.jit(jax.value_and_grad(lambda x, neighbors: of_list(x, neighbors.update(x))))
  return {
    "jax_edm": partial(near_forces, x),
    "JAX-MD, list is given": partial(given, x, jax.jit(find.update)(x, old)),
    "JAX-MD, list is rebuilt": partial(rebuilt, x, old),
  }


def draw(file, first, last, energies, energies_listed):
  from matplotlib import colormaps
  from matplotlib.collections import EllipseCollection
  from matplotlib.figure import Figure
  from PIL import Image

  figure = Figure(figsize=(12.5, 4.2), layout="constrained")
  *places, curve = figure.subplots(1, 3)
  count = jax.jit(lambda x: pairwise_sum(lambda squared: squared >= 0, x, diagonal=False, cutoff=1.4))
  colors = colormaps["coolwarm"].resampled(7)
  for axes, title, x in zip(
    places, ("at random places", f"after {CHUNKS * AT_A_TIME} steps"), (first, last), strict=True
  ):
    circles = EllipseCollection(1, 1, 0, units="xy", offsets=np.asarray(x), offset_transform=axes.transData)
    circles.set(array=np.asarray(count(x)), clim=(2.5, 9.5), cmap=colors, edgecolor="black", linewidth=0.15)
    axes.add_collection(circles)
    axes.set(xlim=(9, SIDE - 9), ylim=(9, SIDE - 9), aspect="equal", xticks=[], yticks=[])
    axes.set_title(f"{DISCS:,} discs {title}")
  figure.colorbar(circles, ax=places, label="neighbours within 1.4 diameters", extend="both")
  steps = AT_A_TIME * np.arange(CHUNKS + 1)
  curve.semilogy(steps, energies_listed, "o", mfc="none", color="tab:orange", label="soft_sphere_neighbor_list")
  curve.semilogy(steps, energies, color="tab:blue", label="pairwise_sum(..., cutoff=1)")
  curve.set(xlabel="step of FIRE", title="Energy, springs and bowl")
  curve.legend(frameon=False)
  figure.savefig(file, dpi=110)
  Image.open(file).convert("RGB").quantize(96).save(file, optimize=True)  # a quarter of the bytes
  print(f"wrote {file}")


if __name__ == "__main__":
  main()
