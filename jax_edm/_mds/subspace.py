r"""The largest eigenvalues of a large symmetric matrix and their eigenvectors, without all others.

Block Krylov subspaces with restarts: for a block Q, the best eigenvectors (Rayleigh and Ritz) in the span of
``Q, B Q, B^2 Q, ...`` are the next Q. The result is taken if its residual ``B Q - Q diag(theta)`` is as small as
rounding leaves that of a full decomposition. Otherwise, as where many eigenvalues lie near the last that is kept, the
full decomposition is computed.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jax_edm._core.distance import dot

Spectrum = tuple[jax.Array, jax.Array]  # eigenvalues, (k,), and eigenvectors, (n, k)

SMALL = 512  # points, up to which the full decomposition is as fast
MORE = 8  # vectors of a block in addition to those that are wanted
POWERS = 4  # blocks that make a subspace, Q itself among them
RESTARTS = 30  # as much work as a full decomposition
RESIDUAL = 16  # eps of the largest eigenvalue: full decompositions of 2,000 points have 2 to 75


def largest_eigenvalues(B: jax.Array, k: int, exact: bool = True) -> Spectrum:
  """The ``k`` largest eigenvalues, descending, and their eigenvectors, ``(n, k)``; without derivatives.

  Unless they are to be exact, a residual of the root of eps is enough, and no full decomposition replaces a larger one.
  """
  B = lax.stop_gradient(B)
  n, width = B.shape[0], k + MORE
  if n <= SMALL or 4 * POWERS * width > n:
    return all_eigenvalues(B, k)

  def restart(state: tuple[jax.Array, jax.Array, jax.Array, Any]) -> tuple[jax.Array, jax.Array, jax.Array, Any]:
    q, _, _, count = state
    blocks = [q]
    for _ in range(POWERS - 1):
      power = dot(B, blocks[-1])
      size = jnp.linalg.norm(power, axis=0)
      blocks.append(power / jnp.where(size == 0, 1, size))
    basis = jnp.linalg.qr(jnp.concatenate(blocks, 1))[0]
    image = dot(B, basis)
    inner = dot(basis.T, image)
    theta, vectors = (a[..., ::-1] for a in jnp.linalg.eigh((inner + inner.T) / 2))
    q, residual = dot(basis, vectors[:, :width]), dot(image, vectors[:, :k])
    residual = jnp.linalg.norm(residual - q[:, :k] * theta[:k], axis=0).max()
    return q, theta[:k], residual / jnp.abs(theta).max(), count + 1

  eps = float(jnp.finfo(B.dtype).eps)
  limit = RESIDUAL * eps if exact else eps**0.5
  start = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (n, width), B.dtype))[0]
  state = (start, jnp.zeros(k, B.dtype), jnp.full((), jnp.inf, B.dtype), jnp.int32(0))
  q, theta, residual, _ = lax.while_loop(lambda s: (s[2] > limit) & (s[3] < RESTARTS), restart, state)
  if not exact:
    return theta, q[:, :k]
  # What is not a number is not small: then all eigenvalues say so.
  return lax.cond(residual <= limit, lambda: (theta, q[:, :k]), lambda: all_eigenvalues(B, k))


def all_eigenvalues(B: jax.Array, k: int | None = None) -> Spectrum:
  """All eigenvalues, descending, and their eigenvectors; or the first ``k`` of them."""
  values, vectors = (a[..., ::-1] for a in jnp.linalg.eigh(B))
  return values[:k], vectors[:, :k]
