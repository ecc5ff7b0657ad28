"""Optimal transport: one cloud flows into another along the gradient of the Sinkhorn divergence.

The entropic transport cost of two clouds comes from Sinkhorn's updates in logarithms, each of them a
``jax_edm.pairwise_logsumexp``: the matrix of costs is never made. At the fixed point the potential of the other side is
optimal, so the gradient needs the last update alone (Danskin). The divergence, OT(x, y) - OT(x, x)/2 - OT(y, y)/2, is
zero where the clouds are equal: Feydy et al., "Interpolating between optimal transport and MMD using Sinkhorn
divergences", 2019. Run ``python examples/sinkhorn.py``.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jax_edm import pairwise_logsumexp

BLUR = 0.15  # the square root of the temperature, in the unit of the points
UPDATES = 100


def soft_minimum(x, y, potential):
  """``-eps log mean_j exp((potential_j - |x_i - y_j|^2 / 2) / eps)``: the potential of x that belongs to that of y."""
  eps = BLUR**2
  total = pairwise_logsumexp(lambda squared, g: (g - squared / 2) / eps, x, y, args=(potential[None, :],))
  return -eps * (total - jnp.log(len(y)))


def transport(x, y):
  """The entropic cost of carrying the uniform measure on x to that on y."""
  fixed_x, fixed_y = jax.lax.stop_gradient((x, y))

  def update(potentials, _):
    f, g = potentials
    halfway = (f + soft_minimum(fixed_x, fixed_y, g)) / 2, (g + soft_minimum(fixed_y, fixed_x, f)) / 2
    return halfway, None

  start = jnp.zeros(len(x)), jnp.zeros(len(y))
  f, g = jax.lax.stop_gradient(jax.lax.scan(update, start, length=UPDATES)[0])
  return soft_minimum(x, fixed_y, g).mean() + soft_minimum(y, fixed_x, f).mean()


def divergence(x, y):
  return transport(x, y) - transport(x, x) / 2 - transport(y, y) / 2


def main(steps=30):
  rng = np.random.default_rng(0)
  angle = rng.uniform(0, np.pi, 240)
  side = np.sign(rng.normal(size=240))
  moons = np.stack([np.cos(angle) - side / 2, side * (np.sin(angle) - 0.25)], 1) + 0.05 * rng.normal(size=(240, 2))
  y = jnp.asarray(moons, jnp.float32)
  x = jnp.asarray(0.3 * rng.normal(size=(200, 2)), jnp.float32)

  @jax.jit
  def step(x):
    value, gradient = jax.value_and_grad(divergence)(x, y)
    return x - 0.5 * len(x) * gradient, value  # each point has the weight 1 / n

  values = []
  for _ in range(steps):
    x, value = step(x)
    values.append(float(value))
  print(f"Sinkhorn divergence {values[0]:.4f} before, {values[-1]:.6f} after {steps} steps")
  return {"values": values, "x": np.asarray(x), "y": np.asarray(y)}


if __name__ == "__main__":
  main()
