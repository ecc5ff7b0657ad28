"""A geometry of OTT whose log-sum-exp is ``pairwise_logsumexp``: Sinkhorn's algorithm without the matrix of costs.

``StreamedCloud`` is OTT's ``PointCloud`` with one method replaced. The solvers, the Sinkhorn divergence and the
gradients of OTT run on it unchanged. A disc of coloured points moves onto a ring with four dots, along the gradient of
the divergence. Needs ott-jax and matplotlib; run ``python examples/gallery/ott_geometry.py``.
"""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import ott.utils
from ott.geometry import costs, pointcloud
from ott.solvers import linear
from ott.tools import sinkhorn_divergence

from jax_edm import pairwise_logsumexp, safe_root

TOLERANCE = 1e-4
EPSILON = 0.1
BATCH_SIZE = 128  # the fastest of 32, 64, 128, 256, 512, 1,024 and 2,048 for 6,000 points on two CPU cores
ITERATIONS = 20
FLOW_EPSILON, STEP, STEPS = 0.05, 0.25, 14

# --8<-- [start:geometry]
COSTS = {costs.SqEuclidean: lambda squared: squared, costs.Euclidean: safe_root}


@jax.tree_util.register_pytree_node_class
class StreamedCloud(pointcloud.PointCloud):
  """OTT's point cloud, for costs that are functions of the distance, with O(n + m) memory."""

  def apply_lse_kernel(self, f, g, eps, vec=None, axis=0):
    x, y, potential = (self.x, self.y, g) if axis == 1 else (self.y, self.x, f)
    cost = COSTS[type(self.cost_fn)]

    def exponent(squared, potential):  # of one pair
      return (potential - self.inv_scale_cost * cost(squared)) / eps

    size, sign = pairwise_logsumexp(exponent, x, y, args=(potential,), weights=vec, return_sign=True)
    return eps * size, sign

  # --8<-- [end:geometry]


# --8<-- [start:solve]
def transport_cost(x, y, geometry=StreamedCloud, **options):
  """The entropic cost of carrying the points x to the points y, which all have the same weight."""
  clouds = geometry(x, y, epsilon=EPSILON, **options)
  return linear.solve(clouds, min_iterations=ITERATIONS, max_iterations=ITERATIONS, threshold=0.0).reg_ot_cost


streamed = jax.jit(jax.value_and_grad(transport_cost))
# --8<-- [end:solve]


# --8<-- [start:before]
@jax.jit
def dense(x, y):
  return jax.value_and_grad(transport_cost)(x, y, geometry=pointcloud.PointCloud)


@jax.jit
def online(x, y):
  return jax.value_and_grad(transport_cost)(x, y, geometry=pointcloud.PointCloud, batch_size=BATCH_SIZE)


# --8<-- [end:before]


def repair_online():
  """OTT 0.6.0 looks for a function where JAX 0.9 has it no longer: https://github.com/ott-jax/ott/pull/701."""
  if not hasattr(ott.utils.batching, "is_vmappable"):
    ott.utils.batching = importlib.import_module("jax._src.interpreters.batching")


# --8<-- [start:flow]
@jax.jit
def within(y):
  return linear.solve(StreamedCloud(y, epsilon=FLOW_EPSILON)).reg_ot_cost


@jax.jit
def move(x, y, within_y):
  """A step down the gradient of the Sinkhorn divergence; the divergence before it."""

  def divergence(x):
    return sinkhorn_divergence.sinkhorn_divergence(
      StreamedCloud, x, y, epsilon=FLOW_EPSILON, static_b=True, offset_static_b=within_y
    )[0]

  value, gradient = jax.value_and_grad(divergence)(x)
  return x - STEP * len(x) * gradient, value


# --8<-- [end:flow]


def clouds(n, d=3):
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(n, d)), 1 + rng.normal(size=(n, d))
  return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)


def disc(n):
  """Points that fill a disc of radius 1: a sunflower."""
  i = np.arange(n) + 0.5
  radius, angle = np.sqrt(i / n), np.pi * (1 + 5**0.5) * i
  return jnp.asarray(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), jnp.float32)


def ring_and_dots(n):
  """Three quarters of the points in a ring, the others in four dots around it."""
  rng = np.random.default_rng(1)
  angle, radius = rng.uniform(0, 2 * np.pi, n), 1.2 + 0.25 * np.sqrt(rng.uniform(size=n))
  quarter = np.pi / 4 + np.pi / 2 * rng.integers(0, 4, n)
  ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
  dots = 2.3 * np.stack([np.cos(quarter), np.sin(quarter)], 1) + 0.12 * rng.normal(size=(n, 2))
  return jnp.asarray(np.where((np.arange(n) % 4 == 0)[:, None], dots, ring), jnp.float32)


def difference(a, b):
  """The largest one, relative to the largest entry."""
  return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max())


def compare(n=1000):
  """What OTT computes on both geometries: cost, gradient, transported points, the gradient of a potential."""
  x, y = clouds(n)
  found = {}
  (cost, gradient), (ott_cost, ott_gradient) = streamed(x, y), dense(x, y)
  found["relative difference of the costs"] = difference(cost, ott_cost)
  found["relative difference of the gradients"] = difference(gradient, ott_gradient)

  @jax.jit
  def carried(geometry):
    solution = linear.solve(geometry, threshold=1e-4)
    return n * solution.apply(geometry.y.T, axis=1).T, solution.transport_cost_at_geom(geometry)

  mine, theirs = carried(StreamedCloud(x, y, epsilon=1.0)), carried(pointcloud.PointCloud(x, y, epsilon=1.0))
  found["relative difference of the transported points"] = difference(mine[0], theirs[0])
  found["relative difference of the costs without the entropy"] = difference(mine[1], theirs[1])
  few_x, few_y = x[:200], y[:200]
  kinds = StreamedCloud, pointcloud.PointCloud
  unrolled, theirs = (potential_gradient(few_x, few_y, kind, implicit_diff=None) for kind in kinds)
  found["relative difference of the gradients through the iterations"] = difference(unrolled, theirs)
  implicit = potential_gradient(few_x, few_y, StreamedCloud)
  found["relative difference of the implicit gradient and that through the iterations"] = difference(implicit, unrolled)
  of_itself = jax.jit(jax.grad(lambda geometry: linear.solve(geometry).reg_ot_cost))
  mine, theirs = (of_itself(kind(few_x, epsilon=EPSILON, cost_fn=costs.Euclidean())).x for kind in kinds)
  found["relative difference of the gradients, Euclidean cost of a cloud and itself"] = difference(mine, theirs)
  return found


def potential_gradient(x, y, kind, **options):
  """Of a function of the potential, which has a derivative of its own: through all iterations, or implicit."""

  def loss(x):
    f = linear.solve(kind(x, y, epsilon=1.0), threshold=1e-5, max_iterations=100, **options).f
    return jnp.square(f - f.mean()).sum()

  return jax.jit(jax.grad(loss))(x)


def memory(n):
  """Of the compiled value and gradient, in MiB, without the points and the results."""
  points = jax.ShapeDtypeStruct((n, 3), jnp.float32)
  sides = {"jax_edm": streamed, "OTT, dense": dense, "OTT, online": online}
  sizes = {name: side.lower(points, points).compile().memory_analysis() for name, side in sides.items()}
  return {
    f"MiB of temporaries for {n:,} points, {name}": size.temp_size_in_bytes / 2**20 for name, size in sizes.items()
  }


def far_away(offset=1000.0, n=1000):
  """The largest error of a log-sum-exp of clouds that are far from the origin, in units of the result."""
  x, y = (np.asarray(points + offset) for points in clouds(n))
  squared = np.square(x[:, None].astype(float) - y[None]).sum(-1)
  truth = -EPSILON * np.log(np.exp(-squared / EPSILON).sum(1))
  zero = jnp.zeros(n)
  apply = jax.jit(lambda geometry: -geometry.apply_lse_kernel(zero, zero, EPSILON, axis=1)[0])
  kinds = {"jax_edm": StreamedCloud, "OTT": pointcloud.PointCloud}
  errors = {
    name: np.abs(np.asarray(apply(kind(jnp.asarray(x), jnp.asarray(y)))) - truth).max() for name, kind in kinds.items()
  }
  return {f"largest error of the soft minimum at an offset of 1,000, {name}": float(e) for name, e in errors.items()}


def flow():
  x, y = disc(600), ring_and_dots(750)
  within_y, states, values = within(y), [x], []
  for _ in range(STEPS):
    x, value = move(x, y, within_y)
    states.append(x)
    values.append(float(value))
  return states, y, values


def main(picture="ott_geometry.png"):
  repair_online()
  found = compare() | far_away() | memory(20_000)
  states, y, values = flow()
  found |= {"divergence at first": values[0], f"divergence after {STEPS - 1} steps": values[-1]}
  for name, value in found.items():
    print(f"{name}: {value:.3g}")
  if picture:
    draw(picture, states, y, values)
  return found


def sides():
  repair_online()
  (x, y), (few_x, few_y) = clouds(6000), clouds(3000)
  f, g = 0.3 * x[:, 0], 0.3 * y[:, 0]
  apply = jax.jit(lambda geometry: geometry.apply_lse_kernel(f, g, EPSILON, axis=1)[0])
  geometries = {
    "jax_edm": StreamedCloud(x, y, epsilon=EPSILON),
    "OTT, online": pointcloud.PointCloud(x, y, epsilon=EPSILON, batch_size=BATCH_SIZE),
    "OTT, dense": pointcloud.PointCloud(x, y, epsilon=EPSILON),
  }
  solvers = {"jax_edm": streamed, "OTT, online": online, "OTT, dense": dense}
  return {
    "one log-sum-exp, n = m = 6,000": {
      name: lambda geometry=geometry: apply(geometry) for name, geometry in geometries.items()
    },
    "20 iterations of Sinkhorn and the gradient, n = m = 3,000": {
      name: lambda solver=solver: solver(few_x, few_y) for name, solver in solvers.items()
    },
  }


def draw(file, states, y, values):
  """The points on their way, coloured by where they began; and the divergence."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(12, 3.4), layout="constrained")
  *maps, curve = figure.subplots(1, 4)
  start, y = np.asarray(states[0]), np.asarray(y)
  colour = np.arctan2(start[:, 1], start[:, 0])
  for axes, step in zip(maps, (0, 2, STEPS), strict=True):
    x = np.asarray(states[step])
    axes.scatter(*y.T, s=5, color="0.8", linewidths=0)
    axes.scatter(*x.T, s=5, c=colour, cmap="hsv", linewidths=0)
    axes.set(xlim=(-2.3, 2.3), ylim=(-2.3, 2.3), aspect="equal", xticks=[], yticks=[])
    axes.set_title(f"after {step} steps" if step else "at first; the target is grey")
  curve.semilogy(values)
  curve.set(xlabel="step", xticks=range(0, STEPS, 4), title="Sinkhorn divergence")
  figure.savefig(file, dpi=110)
  print(f"wrote {file}")


if __name__ == "__main__":
  main()
