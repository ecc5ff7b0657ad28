"""Registration: a large cloud of points is turned and moved onto another one, by the gradient of the Chamfer distance.

Two scans of one knot, of 100,000 and 80,000 different points and with noise; the second was turned by 0.6 radians and
shifted. The Chamfer distance is the mean squared distance of each point to the nearest point of the other cloud, both
ways: two calls of ``jax_edm.nearest``, which visit near points alone, and whose gradient goes through the chosen pairs
only. Needs optax; run ``python examples/chamfer.py``.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax_edm import nearest

NOISE = 0.01
SHOWN = 10  # steps between lines


def knot(rng, count):
  """Points of a trefoil, about 6 across, with noise."""
  t = rng.uniform(0, 2 * np.pi, count)
  curve = np.stack([np.sin(t) + 2 * np.sin(2 * t), np.cos(t) - 2 * np.cos(2 * t), -np.sin(3 * t)], 1)
  return curve + NOISE * rng.normal(size=curve.shape)


def rotation(axis):
  """The rotation about ``axis`` by its length, in radians."""
  x, y, z = axis
  return jax.scipy.linalg.expm(jnp.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]))


def chamfer(x, y):
  return nearest(x, y).squared.mean() + nearest(y, x).squared.mean()


def moved(motion, x):
  return x @ rotation(motion["axis"]).T + motion["shift"]


def main(steps=150, points=(100_000, 80_000)):
  rng = np.random.default_rng(0)
  truth = {"axis": jnp.array([0.3, -0.2, 0.48]), "shift": jnp.array([0.5, -0.4, 0.3])}
  fixed, loose = (jnp.asarray(knot(rng, count), jnp.float32) for count in points)
  fixed = moved(truth, fixed)
  optimizer = optax.adam(optax.cosine_decay_schedule(0.05, steps))

  @jax.jit
  def step(motion, state, loose, fixed):  # closed over, they would be constants, which XLA sorts while it compiles
    loss, gradient = jax.value_and_grad(lambda motion: chamfer(moved(motion, loose), fixed))(motion)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(motion, updates), state, loss

  motion = {"axis": jnp.zeros(3), "shift": jnp.zeros(3)}
  state, losses = optimizer.init(motion), []
  begin = time.perf_counter()
  for k in range(steps):
    motion, state, loss = step(motion, state, loose, fixed)
    losses.append(float(loss))
    if k % SHOWN == SHOWN - 1:
      print(f"step {k + 1:>4}, {time.perf_counter() - begin:>5.1f} s: Chamfer distance {losses[-1]:.5f}", flush=True)
  errors = {name: float(jnp.linalg.norm(motion[name] - truth[name])) for name in truth}
  print(f"Chamfer distance {losses[0]:.3f} before, {losses[-1]:.5f} after")
  print(f"error of the rotation {errors['axis']:.4f} radians, of the shift {errors['shift']:.4f}")
  return {"losses": losses, "errors": errors}


if __name__ == "__main__":
  main()
