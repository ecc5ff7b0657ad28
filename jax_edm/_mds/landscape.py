"""The stress of a matrix of distances as a function of points, of which some may be fixed; the Guttman transform."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_edm._mds import forces, stress
from jax_edm._mds.forces import Pairs
from jax_edm._mds.laplacian import apply_root, root_of_inverse

Apply = Callable[[jax.Array], jax.Array]


class DenseLandscape(NamedTuple):
  """What :class:`newton.Landscape` says."""

  pairs: Pairs
  fixed: jax.Array | None  # (n,) booleans
  root: jax.Array | None  # of V^+, or of that in which all fixed points are one more, the last
  precise: bool = False  # forces by differences, whatever the weights: they compile faster, and take longer

  @classmethod
  def of(cls, pairs: Pairs, fixed: jax.Array | None) -> "DenseLandscape":
    w = pairs.weights
    if fixed is not None:
      w = grounded(jnp.ones_like(pairs.lower) if w is None else w, fixed)
    return cls(pairs, fixed, None if w is None else root_of_inverse(w))

  def half_stress(self, x: jax.Array) -> jax.Array:
    return stress.raw_stress(x, self.pairs) / 2

  def squares(self) -> jax.Array:
    return self.pairs.squares()

  def forces(self, x: jax.Array) -> jax.Array:
    half_gradient = forces.half_gradient
    if self.precise and self.pairs.weights is not None:
      half_gradient = forces.half_gradient_by_differences
    return free_rows(half_gradient(x, self.pairs), self.fixed)

  def guttman(self, f: jax.Array) -> jax.Array:
    if self.root is None:
      return f / f.shape[0]
    return scaled_forces(self.root, f, self.fixed)


def scaled_forces(root: jax.Array, f: jax.Array, fixed: jax.Array | None) -> jax.Array:
  """``V^+ f``; with fixed points, the inverse of the block of V that belongs to the free ones."""
  if fixed is None:
    return apply_root(root, f)
  f = free_rows(f, fixed)
  s = apply_root(root, jnp.concatenate([f, -f.sum(0, keepdims=True)]))
  return free_rows(s[:-1] - s[-1], fixed)


def free_rows(f: jax.Array, fixed: jax.Array | None) -> jax.Array:
  return f if fixed is None else jnp.where(fixed[:, None], 0, f)


def grounded(w: jax.Array, fixed: jax.Array) -> jax.Array:
  """Weights of ``n + 1`` points, ``(n + 1, n + 1)``: the last stands for all fixed points, which hang on it alone."""
  free = ~fixed
  to_ground = jnp.where(free, jnp.where(fixed, w, 0).sum(1), 1)
  inner = jnp.where(free[:, None] & free, w, 0)
  inner = jnp.where(jnp.eye(len(w), dtype=bool), 0, inner)
  return jnp.block([[inner, to_ground[:, None]], [to_ground[None], jnp.zeros((1, 1), w.dtype)]])


def dense_forces(x: jax.Array, pairs: Pairs) -> jax.Array:
  """Of the derivative: not whichever the weights need, since JAX cannot transpose a lax.cond of which the members of a
  batch take both branches.
  """
  exact = forces.half_gradient_by_products if pairs.weights is None else forces.half_gradient_by_differences
  return exact(x, pairs)


def dense_scales(pairs: Pairs, fixed: jax.Array | None, n: int) -> tuple[Apply | None, Any]:
  """``V^+`` as a preconditioner, or none for unit weights; and the mean degree of a point."""
  w = pairs.weights
  if w is None and fixed is None:
    return None, n
  w = jnp.ones_like(pairs.lower) if w is None else w
  multiple = w.sum() / n
  root = root_of_inverse(w if fixed is None else grounded(w, fixed))
  # The rows of fixed points have the multiple on the diagonal.
  return lambda f: scaled_forces(root, f, fixed) + (f - free_rows(f, fixed)) / multiple, multiple
