"""What is compared: our functions, the formulas that users write in JAX, and other libraries where installed."""

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jax_edm

Matrix = Callable[..., jax.Array]  # of x, and of y where there are two sets


def broadcast(x: jax.Array, y: jax.Array | None = None) -> jax.Array:
  """The line that users write."""
  y = x if y is None else y
  return ((x[:, None] - y[None]) ** 2).sum(-1)


def unrolled(x: jax.Array, y: jax.Array | None = None) -> jax.Array:
  """The broadcast form without its third axis: the best plain formula for few coordinates."""
  columns = [x[:, k] for k in range(x.shape[1])]
  others = columns if y is None else [y[:, k] for k in range(y.shape[1])]
  squares = [(a[:, None] - b[None]) ** 2 for a, b in zip(columns, others, strict=True)]
  return sum(squares[1:], start=squares[0])


def product(x: jax.Array, y: jax.Array | None = None) -> jax.Array:
  """``|x|^2 + |y|^2 - 2 <x, y>``, uncentred and unclipped: the cheapest formula whose gradient is right."""
  squares = (x * x).sum(-1)
  others, y = (squares, x) if y is None else ((y * y).sum(-1), y)
  return squares[:, None] + others[None] - 2 * jnp.dot(x, y.T, precision="highest")


def plain(d: int) -> dict[str, Matrix]:
  """The formulas whose autodiff may be the best; the unrolled one stops being so long before 16 coordinates."""
  formulas: dict[str, Matrix] = {"autodiff, product": product}
  if d <= 16:
    formulas["autodiff, unrolled"] = unrolled
  if d <= 32:
    formulas["autodiff, broadcast"] = broadcast
  return formulas


def ours(x: jax.Array) -> jax.Array:
  return jax_edm.edm(x)


def pull(f: Matrix) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """The VJP for a given cotangent."""
  return lambda x, g: jax.vjp(f, x)[1](g)[0]


def stress(f: Matrix) -> Callable[[jax.Array, jax.Array], Any]:
  """Value and gradient of the sum of squared differences to a target."""
  return jax.value_and_grad(lambda x, target: ((f(x) - target) ** 2).sum())


def energy(f: Matrix) -> Callable[[jax.Array], Any]:
  """Value and gradient of a Gaussian energy, through the matrix."""
  return jax.value_and_grad(lambda x: jnp.exp(-f(x)).sum())


def streamed_energy(x: jax.Array) -> Any:
  return jax.value_and_grad(lambda x: jax_edm.pairwise_sum(lambda squared: jnp.exp(-squared), x).sum())(x)


def part_of_streamed_energy(x: jax.Array) -> Any:
  """The same; what it returns is short enough to be compared with a float64 oracle."""

  def total(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    sums = jax_edm.pairwise_sum(lambda squared: jnp.exp(-squared), x)
    return sums.sum(), sums

  (_, sums), gradient = jax.value_and_grad(total, has_aux=True)(x)
  return sums[:512], gradient[:512]


def streamed_stress(x: jax.Array, target: jax.Array) -> Any:
  def loss(x: jax.Array) -> jax.Array:
    return jax_edm.pairwise_sum(lambda squared, t: (squared - t) ** 2, x, args=(target,)).sum()

  return jax.value_and_grad(loss)(x)


def keops() -> bool:
  return bool(importlib.util.find_spec("torch") and importlib.util.find_spec("pykeops"))


def keops_sums(points: Any) -> Any:
  """The Gaussian sum of points on torch, by KeOps."""
  from pykeops.torch import LazyTensor

  squared = ((LazyTensor(points[:, None, :]) - LazyTensor(points[None, :, :])) ** 2).sum(-1)
  return (-squared).exp().sum(1)


def keops_energy(x: np.ndarray) -> Callable[[], Any] | None:
  """The Gaussian energy by KeOps, on torch."""
  if not keops():
    return None
  import torch

  points = torch.from_numpy(x).requires_grad_()

  def side() -> Any:
    total = keops_sums(points).sum()
    return total.detach().numpy(), torch.autograd.grad(total, points)[0].numpy()

  return side


def neighbours(x: np.ndarray, k: int) -> Callable[[], Any] | None:
  """The k nearest other points by scikit-learn, brute force: squared distances in ascending order."""
  if not importlib.util.find_spec("sklearn"):
    return None
  from sklearn.neighbors import NearestNeighbors

  return lambda: np.square(NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x).kneighbors()[0])


def libraries(x: np.ndarray) -> dict[str, Callable[[], Any]]:
  """Squared distances of one set, by other libraries, on the same two cores."""
  sides: dict[str, Callable[[], Any]] = {}
  if importlib.util.find_spec("scipy"):
    from scipy.spatial.distance import cdist

    sides["scipy"] = lambda: cdist(x, x, "sqeuclidean")
  if importlib.util.find_spec("sklearn"):
    from sklearn.metrics.pairwise import euclidean_distances

    sides["scikit-learn"] = lambda: euclidean_distances(x, squared=True)
  if importlib.util.find_spec("torch"):
    import torch

    points = torch.from_numpy(x)
    sides["torch"] = lambda: torch.cdist(points, points).square_()
  return sides
