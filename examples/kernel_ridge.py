"""Kernel ridge regression (the mean of a Gaussian process) with learned length scales, and no kernel matrix.

The kernel times a vector is one ``jax_edm.pairwise_sum``; conjugate gradients solve with it, and JAX differentiates
the solution implicitly, with respect to the length scale of each coordinate and to the ridge. They are learned in a
jitted loop from the error on held-out points. The target does not depend on the last of the three coordinates: its
length scale grows. Needs optax; run ``python examples/kernel_ridge.py``.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.sparse.linalg import cg

from jax_edm import pairwise_sum


def kernel_times(x, y, v):
  """``K v`` for the Gaussian kernel ``K_ij = exp(-|x_i - y_j|^2 / 2)``; one set for ``y=None``."""
  return pairwise_sum(lambda squared: jnp.exp(-squared / 2), x, y, values=v)


def predict(parameters, train, x):
  """The prediction at ``x`` from the points and targets ``train``."""
  points, targets = train
  scale = jnp.exp(-parameters["log_length"])
  ridge = jnp.exp(parameters["log_ridge"])
  weights, _ = cg(lambda v: kernel_times(points * scale, None, v) + ridge * v, targets, tol=1e-4, maxiter=100)
  return kernel_times(x * scale, points * scale, weights)


def main(steps=60):
  rng = np.random.default_rng(0)
  x = rng.uniform(-2, 2, (500, 3)).astype(np.float32)
  y = np.sin(3 * x[:, 0]) * np.cos(x[:, 1])
  noisy = (y + 0.05 * rng.normal(size=500)).astype(np.float32)
  train, held_out, test = (x[:250], noisy[:250]), (x[250:400], noisy[250:400]), (x[400:], y[400:])
  optimizer = optax.adam(0.1)

  @jax.jit
  def step(parameters, state):
    def loss(parameters):
      return ((predict(parameters, train, held_out[0]) - held_out[1]) ** 2).mean()

    value, gradient = jax.value_and_grad(loss)(parameters)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(parameters, updates), state, value

  parameters = {"log_length": jnp.zeros(3), "log_ridge": jnp.asarray(-2.0)}
  state, losses = optimizer.init(parameters), []
  for _ in range(steps):
    parameters, state, value = step(parameters, state)
    losses.append(float(value))
  length = np.exp(parameters["log_length"])
  error = float(np.sqrt(np.mean((predict(parameters, train, test[0]) - test[1]) ** 2)))
  before, after = losses[0] ** 0.5, losses[-1] ** 0.5
  print(f"error on held-out points {before:.3f} before, {after:.3f} after; of the test {error:.3f}")
  print("length scales:", ", ".join(f"{a:.2f}" for a in length))
  return {"losses": losses, "length": length, "error": error}


if __name__ == "__main__":
  main()
