"""A triplet network with flax, trained on batches that contain the same sample several times.

A batch is drawn with replacement, so that some of its embeddings coincide. The root of a zero distance then makes the
gradient NaN, and people add an epsilon below the root. ``distances`` needs none. A small network of flax learns to map
the digits of scikit-learn to eight coordinates, by the triplet loss of the hardest positive and the hardest negative of
each sample. Needs flax, optax and scikit-learn, and matplotlib for the picture; run
``python examples/gallery/triplets.py``.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits

from jax_edm import distances, nearest

TOLERANCE = 2e-3  # a bias whose gradient is nearly zero moves by a small share of the step of Adam
BATCH, DIMENSION, STEPS, TRAIN = 256, 8, 300, 1200
EPSILON = 1e-12


# --8<-- [start:loss]
def triplet_loss(z, labels, distances=distances):
  """Batch-hard: for each sample the farthest of its class should be nearer than the nearest of the others."""
  r = distances(z)
  same = labels[:, None] == labels[None, :]
  positive = jnp.max(r, 1, where=same, initial=0)
  negative = jnp.min(r, 1, where=~same, initial=jnp.inf)
  return nnx.softplus(positive - negative).mean()


# --8<-- [end:loss]


# --8<-- [start:plain]
def plain(z):
  return jnp.sqrt(((z[:, None] - z[None]) ** 2).sum(-1))


# --8<-- [end:plain]


# --8<-- [start:diagonal]
def without_diagonal(z):
  """The diagonal is replaced before the root, so that its derivative is finite."""
  diagonal = jnp.eye(len(z), dtype=bool)
  squared = jnp.where(diagonal, 1, ((z[:, None] - z[None]) ** 2).sum(-1))
  return jnp.where(diagonal, 0, jnp.sqrt(squared))


# --8<-- [end:diagonal]


# --8<-- [start:epsilon]
def with_epsilon(z):
  return jnp.sqrt(((z[:, None] - z[None]) ** 2).sum(-1) + EPSILON)


# --8<-- [end:epsilon]


# --8<-- [start:product]
def by_product(z):
  norms = jnp.square(z).sum(-1)
  squared = norms[:, None] + norms[None, :] - 2 * jnp.matmul(z, z.T, precision="highest")
  return jnp.sqrt(jnp.maximum(squared, EPSILON))


# --8<-- [end:product]


def network_of(dimension):
  rngs = nnx.Rngs(0)
  layers = nnx.Linear(64, 128, rngs=rngs), nnx.relu, nnx.Linear(128, 128, rngs=rngs), nnx.relu
  return nnx.Sequential(*layers, nnx.Linear(128, dimension, use_bias=False, rngs=rngs))  # no distance depends on it


def optimizer_of(network):
  # With the eps of 1e-8, Adam follows the sign of a gradient that is nothing but rounding.
  return nnx.Optimizer(network, optax.adam(1e-3, eps=1e-5), wrt=nnx.Param)


# --8<-- [start:train]
def batches(x, labels, count):
  """With replacement, so that some samples stand in a batch more than once."""
  rng = np.random.default_rng(0)
  for _ in range(count):
    rows = rng.integers(len(x), size=BATCH)
    yield x[rows], labels[rows]


def update(network, optimizer, x, labels, distances):
  loss, gradient = nnx.value_and_grad(lambda network: triplet_loss(network(x), labels, distances))(network)
  optimizer.update(network, gradient)
  return loss


def train(x, labels, steps, distances=distances):
  network = network_of(DIMENSION)
  optimizer, step = optimizer_of(network), nnx.jit(partial(update, distances=distances))
  return network, [float(step(network, optimizer, *batch)) for batch in batches(x, labels, steps)]


# --8<-- [end:train]


# --8<-- [start:recall]
def recall(z, labels):
  """How often the nearest other sample has the same label."""
  return float((labels[nearest(z).indices[:, 0]] == labels).mean())


# --8<-- [end:recall]


def digits():
  """Images and labels, to train on and held out."""
  x, labels = load_digits(return_X_y=True)
  order = np.random.default_rng(1).permutation(len(x))
  x, labels = (x[order] / 16).astype(np.float32), labels[order]
  return (x[:TRAIN], labels[:TRAIN]), (x[TRAIN:], labels[TRAIN:])


def main(picture="triplets.png"):
  known, (x, labels) = digits()
  untrained = network_of(DIMENSION)
  found = of_one_batch(untrained, *next(batches(*known, 1))) | without_duplicates(untrained, *known)
  network, losses = train(*known, STEPS)
  network_epsilon, losses_epsilon = train(*known, STEPS, with_epsilon)
  weights = jnp.concatenate([jnp.ravel(a) for a in jax.tree.leaves(nnx.state(train(*known, 1, plain)[0]))])
  found |= {
    "first loss": losses[0],
    "last loss": losses[-1],
    "last loss, epsilon": losses_epsilon[-1],
    "weights of the network": weights.size,
    "weights that are NaN after one step, plain": int(jnp.isnan(weights).sum()),
    "recall@1 of the pixels": recall(x, labels),
    "recall@1 before training": recall(untrained(x), labels),
    "recall@1 after training": recall(network(x), labels),
    "recall@1 after training, epsilon": recall(network_epsilon(x), labels),
  }
  for name, number in found.items():
    print(f"{name}: {number}")
  draw(picture, labels, untrained(x), network(x), losses, losses_epsilon)
  return found


def of_one_batch(network, x, labels):
  """How many pairs of a batch coincide, and of how many samples the gradient is not a number."""
  z = network(x)
  first, second = np.triu_indices(len(z), 1)
  equal = np.asarray((z[first] == z[second]).all(1))
  found = {"samples of a batch": len(z), "pairs of a batch that coincide": int(equal.sum())}
  ways = {"plain": plain, "without the diagonal": without_diagonal, "epsilon": with_epsilon, "jax_edm": distances}
  for name, way in ways.items():
    gradient = jax.grad(triplet_loss)(z, labels, way)
    found[f"samples with a NaN gradient, {name}"] = int(jnp.isnan(gradient).any(1).sum())
  return found


def without_duplicates(network, x, labels):
  """How far the loss and its gradient are from those with epsilon, where each sample stands in the batch once."""
  z = network(x[:BATCH])
  (loss, gradient), (expected, other) = (
    jax.value_and_grad(triplet_loss)(z, labels[:BATCH], way) for way in (distances, with_epsilon)
  )
  return {
    "difference of the losses, no duplicates": abs(float(loss / expected) - 1),
    "largest difference of the gradients, no duplicates": float(jnp.abs(gradient - other).max() / jnp.abs(other).max()),
  }


WAYS = {"jax_edm": distances, "broadcast form, epsilon": with_epsilon, "product form, epsilon": by_product}


def sides():
  rng, rows = np.random.default_rng(0), {}
  for n in (512, 1024):
    for d in (64, 128):
      z, labels = jnp.asarray(rng.normal(size=(n, d)) / d**0.5, jnp.float32), jnp.asarray(rng.integers(10, size=n))
      rows[f"loss and gradient, batch of {n:,}, d={d}"] = {
        name: partial(jax.jit(jax.value_and_grad(partial(triplet_loss, distances=way))), z, labels)
        for name, way in WAYS.items()
      }
  x, labels = (jnp.asarray(part[:512]) for part in digits()[0])
  rows["training step, batch of 512, d=64"] = {name: partial(pure_step(way), x, labels) for name, way in WAYS.items()}
  return rows


def pure_step(distances):
  """From the same state in each call: the loss, and the state of the network and of Adam after it."""
  network = network_of(64)
  graph, state = nnx.split((network, optimizer_of(network)))

  @jax.jit
  def step(state, x, labels):
    network, optimizer = nnx.merge(graph, state)
    return update(network, optimizer, x, labels, distances), nnx.state((network, optimizer))

  return partial(step, state)


def draw(file, labels, before, after, losses, losses_epsilon):
  from matplotlib.figure import Figure

  figure = Figure(figsize=(12.5, 4.2), layout="constrained")
  *planes, curve = figure.subplots(1, 3)
  for axes, title, z in zip(planes, ("before", "after"), (before, after), strict=True):
    x, y = (np.asarray(z - z.mean(0)) @ np.linalg.svd(z - z.mean(0))[2][:2].T).T
    dots = axes.scatter(x, y, c=labels, cmap="tab10", vmin=-0.5, vmax=9.5, s=9, linewidth=0)
    axes.set(xticks=[], yticks=[], title=f"Held-out digits {title}: recall@1 {recall(z, labels):.1%}")
  figure.colorbar(dots, ax=planes, ticks=range(10))
  curve.plot(losses_epsilon, color="tab:orange", lw=4, alpha=0.5, label="broadcast form, epsilon")
  curve.plot(losses, color="tab:blue", lw=1, label="jax_edm.distances")
  curve.plot(0, losses[0], "x", color="tab:red", ms=10, mew=2, label="plain root: a NaN network after one step")
  curve.set(xlabel="step", title="Triplet loss of a batch", ylim=(0, None))
  curve.legend(frameon=False)
  figure.savefig(file, dpi=110)
  print(f"wrote {file}")


if __name__ == "__main__":
  main()
