"""What a type checker must understand of the public functions. It is checked, by mypy and pyright, and never run."""

from typing import assert_type

import jax
import jax.numpy as jnp
import numpy as np

import jax_edm as je

x, X = jnp.ones((4, 3)), np.ones((4, 3))
mask = np.ones(4, bool)
matrix = np.ones((4, 4))

assert_type(je.edm(x), jax.Array)
assert_type(je.edm(X, x, where=mask, where_y=mask, method="gram"), jax.Array)
assert_type(je.distances(X, method=None), jax.Array)
assert_type(je.pdist(X), jax.Array)
assert_type(je.squareform(matrix), jax.Array)
assert_type(je.safe_root(matrix), jax.Array)
assert_type(je.edm_jacobian(X), jax.Array)
assert_type(je.edm_jacobian(X, x), tuple[jax.Array, jax.Array])
assert_type(je.edm_jvp(X, X, x, x), jax.Array)
assert_type(je.edm_vjp(X, matrix), jax.Array)
assert_type(je.edm_vjp(X, matrix, x), tuple[jax.Array, jax.Array])

assert_type(je.pairwise_sum(lambda D: jnp.exp(-D), X), jax.Array)
assert_type(je.pairwise_sum(lambda D, t: D * t, x, X, args=(matrix,), values=mask, where=mask), jax.Array)
assert_type(je.pairwise_logsumexp(lambda D: -D, X, weights=mask), jax.Array)
assert_type(je.pairwise_logsumexp(lambda D: -D, X, return_sign=True), tuple[jax.Array, jax.Array])
assert_type(je.nearest(X, x, k=2), je.Nearest)
assert_type(je.nearest(X).indices, jax.Array)

assert_type(je.smacof(matrix, 2, weights=matrix), je.SMACOFResult)
assert_type(je.classical_mds(matrix, 2), je.ClassicalMDS)
assert_type(je.procrustes(X, x).rmsd, jax.Array)
assert_type(je.stress(X, matrix), jax.Array)
assert_type(je.guttman_transform(X, matrix), jax.Array)
assert_type(je.gram_from_edm(matrix), jax.Array)
assert_type(je.is_edm(matrix), jax.Array)

je.edm(x, method="wrong")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
je.edm(x, x, x)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
je.nearest(x, k="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
