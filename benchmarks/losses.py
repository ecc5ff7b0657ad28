"""What models do with squared distances: whole losses, each written once for every formula.

A formula gives the squared distances and the distances of one set (``y`` is None) or of two. Ours are ``jax_edm.edm``
and ``jax_edm.distances``. Plain ones are the formulas of ``sides.py``, with the root that users have to write: for one
set the diagonal is masked before and after it, or the derivative would be NaN.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jax_edm
from benchmarks import sides

JITTER = 1e-2  # on the diagonal of the Gaussian process: a Cholesky factor in float32 is safe
LABELS = 8  # classes of the contrastive loss; point i has the label i modulo 8
STEPS, DT = 200, 5e-3  # of the simulation


class Formula(NamedTuple):
  """How a side computes squared distances, distances, and the Matern kernel of 5/2."""

  squared: Callable[..., jax.Array]
  distances: Callable[..., jax.Array]
  kernel: Callable[..., jax.Array]


Loss = Callable[..., jax.Array]  # of a formula, x, y or None, and what else the loss needs
Function = Callable[..., Any]
State = tuple[jax.Array, jax.Array, jax.Array]  # of the simulation: points, velocities, forces


def plain(squared: sides.Matrix) -> Formula:
  def distances(x: jax.Array, y: jax.Array | None = None) -> jax.Array:
    if y is not None:
      return jnp.sqrt(squared(x, y))
    itself = jnp.eye(len(x), dtype=bool)
    return jnp.where(itself, 0, jnp.sqrt(jnp.where(itself, 1, squared(x))))

  return by_hand(squared, distances)


def by_hand(squared: Callable[..., jax.Array], distances: Callable[..., jax.Array]) -> Formula:
  """With a kernel of distances, as one writes it."""

  def kernel(x: jax.Array, y: jax.Array | None = None) -> jax.Array:
    u = 5**0.5 * distances(x, y)
    return (1 + u + u**2 / 3) * jnp.exp(-u)

  return Formula(squared, distances, kernel)


OURS = Formula(jax_edm.edm, jax_edm.distances, lambda x, y=None: jax_edm.matern(jax_edm.edm(x, y), 2.5))
PLAIN = {
  "broadcast": plain(sides.broadcast),
  "unrolled": plain(sides.unrolled),
  "product": plain(sides.product),
}


# Losses


def gaussian(f: Formula, x: jax.Array, y: jax.Array | None) -> jax.Array:
  return jnp.exp(-f.squared(x, y)).sum()


def matern(f: Formula, x: jax.Array, y: jax.Array | None) -> jax.Array:
  return f.kernel(x, y).sum()


def squared_stress(f: Formula, x: jax.Array, y: jax.Array | None, target: jax.Array) -> jax.Array:
  return ((f.squared(x, y) - target) ** 2).sum()


def stress(f: Formula, x: jax.Array, y: jax.Array | None, target: jax.Array) -> jax.Array:
  return ((f.distances(x, y) - target) ** 2).sum()


def contrastive(f: Formula, x: jax.Array, y: jax.Array | None, labels: jax.Array) -> jax.Array:
  """Minus the log-probability of the points with the same label, their mean; a point is not paired with itself."""
  squared, itself = f.squared(x, y), jnp.eye(len(x), dtype=bool)
  alike = (labels[:, None] == labels[None]) & ~itself
  near = jax.nn.logsumexp(jnp.where(itself, -jnp.inf, -squared), axis=1)
  return (near + jnp.where(alike, squared, 0).sum(1) / alike.sum(1)).sum()


def gaussian_process(f: Formula, x: jax.Array, y: jax.Array | None, observed: jax.Array) -> jax.Array:
  """The negative log-likelihood, but for a constant: Matern-3/2 of length 1."""
  r = 3**0.5 * f.distances(x, y)
  kernel = (1 + r) * jnp.exp(-r) + JITTER * jnp.eye(len(x))
  factor = jnp.linalg.cholesky(kernel)
  whitened = jax.scipy.linalg.solve_triangular(factor, observed, lower=True)
  return (whitened**2).sum() / 2 + jnp.log(jnp.diagonal(factor)).sum()


def lennard_jones(f: Formula, x: jax.Array) -> jax.Array:
  """The energy of particles: ``4 (r^-12 - r^-6)`` over all pairs."""
  itself = jnp.eye(len(x), dtype=bool)
  sixth = jnp.where(itself, 0, 1 / jnp.where(itself, 1, f.squared(x, None))) ** 3
  return 2 * (sixth**2 - sixth).sum()


# What is done with a loss. Each call returns a new function, so that nothing that is compiled is found in a cache.


def gradient(loss: Loss, f: Formula) -> Function:
  """Value and gradient of one set."""
  return jax.value_and_grad(lambda x, *extra: loss(f, x, None, *extra))


def gradient_of_both(loss: Loss, f: Formula) -> Function:
  """Value and gradient of two sets, with respect to both."""
  return jax.value_and_grad(lambda x, y, *extra: loss(f, x, y, *extra), argnums=(0, 1))


def batched_gradient(loss: Loss, f: Formula) -> Function:
  return jax.vmap(gradient(loss, f))


def forward_over_reverse(loss: Loss, f: Formula) -> Function:
  return lambda x, v, *extra: jax.jvp(jax.grad(lambda x: loss(f, x, None, *extra)), (x,), (v,))[1]


def reverse_over_reverse(loss: Loss, f: Formula) -> Function:
  return lambda x, v, *extra: jax.grad(lambda x: jnp.vdot(jax.grad(lambda x: loss(f, x, None, *extra))(x), v))(x)


def hessian(loss: Loss, f: Formula) -> Function:
  return jax.hessian(lambda x, *extra: loss(f, x, None, *extra))


def simulation(f: Formula) -> Function:
  """Velocity Verlet: where the particles are at the end, and their velocities."""

  def force(x: jax.Array) -> jax.Array:
    return -jax.grad(lambda x: lennard_jones(f, x))(x)

  def step(state: State, _: None) -> tuple[State, None]:
    x, v, before = state
    x = x + DT * v + DT**2 / 2 * before
    after = force(x)
    return (x, v + DT / 2 * (before + after), after), None

  def run(x: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    (x, v, _), _ = jax.lax.scan(step, (x, v, force(x)), None, length=STEPS)
    return x, v

  return run
