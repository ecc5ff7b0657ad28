r"""The Laplacian of weights, ``V = diag(W1) - W``: its pseudoinverse, and the solution of ``V s = f``.

Weights may span many decades, as ``1 / D`` does for clusters far apart. Then most digits of the degrees on the diagonal
belong to near neighbours, those of the links between clusters are rounded away, and a Cholesky factorization of V knows
nothing of these. Elimination by the weights alone loses no digit, because it has no subtraction (Grassmann, Taksar and
Heyman 1985): to eliminate a point k is to connect its neighbours,

.. math:: w_{ij} \leftarrow w_{ij} + w_{ik} w_{kj} / \delta_k, \qquad \delta_k = \sum_{j > k} w_{kj}.

So ``V = L diag(delta) L'`` with ``L' = I - U``, ``U_kj = w_kj / delta_k``, and delta of the last point zero. With the
root ``R = diag(delta)^{-1/2} L^{-1}``, of which every entry is a sum of positive terms, ``R'R`` is a symmetric
generalized inverse of V, and ``V^+`` is that, centred. But ``R'(R f)`` has a small error in the norm of V, where the
product with ``V^+`` has not: the entries of ``V^+`` are as large as the inverse of the smallest weight, and the
differences between near neighbours are lost in their last digits.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm._core.distance import dot, transposed
from jax_edm._core.linear import Arrays, LinearMap, Tangents, linear
from jax_edm._mds.units import unit_of

BLOCK = 64  # points that are eliminated between two products of matrices


def laplacian(w: jax.Array, s: jax.Array) -> jax.Array:
  """``V s``, ``(n, k)``, for symmetric weights with a zero diagonal."""
  return w.sum(1)[:, None] * s - dot(w, s)


def laplacian_inverse(w: jax.Array) -> jax.Array:
  """``V^+``, ``(n, n)``, for weights that connect all points; neither their diagonal nor their asymmetry counts."""
  w = jnp.where(jnp.eye(w.shape[0], dtype=bool), 0, w)
  unit = unit_of(w)
  w = w / unit
  return linear(_INVERSE, [(w + w.T) / 2])[0] / unit


def solve_laplacian(w: jax.Array, root: jax.Array, f: jax.Array) -> jax.Array:
  """``V^+ f``, ``(n, k)``, where the columns of f have the sum zero; ``root`` is ``root_of_inverse(w)``."""
  return lax.custom_linear_solve(lambda s: laplacian(w, s), f, lambda _, f: apply_root(root, f), symmetric=True)


def apply_root(root: jax.Array, f: jax.Array) -> jax.Array:
  """``R'(R f)``, centred before and after, so that it is symmetric: a cotangent need not have the sum zero."""
  s = transposed(dot(dot(root, f - f.mean(0)).T, root))
  return s - s.mean(0)


def root_of_inverse(w: jax.Array) -> jax.Array:
  """``R``, lower triangular; without derivatives."""
  n = w.shape[0]
  if n == 0:
    return w
  u, degrees = eliminated(w)
  identity = jnp.eye(n, dtype=w.dtype)
  inverse = lax.linalg.triangular_solve(identity - u.T, identity, left_side=True, lower=True, unit_diagonal=True)
  return jnp.where(degrees > 0, lax.rsqrt(jnp.where(degrees > 0, degrees, 1)), 0)[:, None] * inverse


def eliminated(w: jax.Array) -> tuple[jax.Array, jax.Array]:
  """``U``, strictly upper triangular, and ``delta``, ``(n,)``, which is zero for the last point of each part."""
  n = w.shape[0]
  block = min(BLOCK, n)
  more = -n % block  # points without weights
  index = jnp.arange(n + more)

  def eliminate_block(b: jax.Array, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    w, u, degrees = state
    start = b * block

    def eliminate_point(k: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
      rows, degrees = state
      row = jnp.where(index > start + k, rows[k], 0)
      degree = row.sum()
      share = row / jnp.where(degree == 0, 1, degree)
      # Weights are symmetric: this part of the row is the column, too.
      column = jnp.where(jnp.arange(block) > k, lax.dynamic_slice_in_dim(row, start, block), 0)
      return (rows + column[:, None] * share).at[k].set(share), degrees.at[k].set(degree)

    rows = lax.dynamic_slice_in_dim(w, start, block)
    shares, own = lax.fori_loop(0, block, eliminate_point, (rows, jnp.zeros(block, w.dtype)))
    return (
      w + dot((own[:, None] * shares).T, shares),
      lax.dynamic_update_slice_in_dim(u, shares, start, 0),
      lax.dynamic_update_slice_in_dim(degrees, own, start, 0),
    )

  w = jnp.pad(w, (0, more))
  state = (w, jnp.zeros_like(w), jnp.zeros(n + more, w.dtype))
  _, u, degrees = lax.fori_loop(0, (n + more) // block, eliminate_block, state)
  return u[:n, :n], degrees[:n]


def _inverse_of(w: jax.Array) -> Arrays:
  root = root_of_inverse(w)
  inverse = dot(root.T, root)
  inverse = inverse - inverse.mean(0)
  return [inverse - inverse.mean(1, keepdims=True)]


def _tangent_of_inverse(constants: Arrays, _: Arrays, tangents: Tangents) -> Arrays:
  """``dV^+ = -V^+ dV V^+``, since the kernel of V, constant vectors, stays."""
  (w,), (dw,) = constants, tangents
  assert dw is not None  # nothing else has a tangent
  inverse = laplacian_inverse(w)
  return [-dot(inverse, laplacian(dw, inverse))]


_INVERSE = LinearMap(_inverse_of, _tangent_of_inverse)
