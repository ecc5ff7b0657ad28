"""A triplet network with flax, trained on batches that contain the same sample several times.

A batch is drawn with replacement, as for augmented or balanced data, so that some of its embeddings coincide. The root of
a zero distance then makes every gradient NaN, and people add an epsilon below the root. ``distances`` needs none. A small
network of flax learns to map the digits of scikit-learn to a plane, by the triplet loss of the hardest positive and the
hardest negative. Needs flax, optax and scikit-learn, and matplotlib for the picture; run
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

TOLERANCE = 2e-3
BATCH, STEPS, TRAIN = 512, 300, 1200
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
  return nnx.Sequential(*layers, nnx.Linear(128, dimension, rngs=rngs))


# --8<-- [start:step]
@partial(nnx.jit, static_argnames="distances")
def train_step(network, optimizer, x, labels, distances=distances):
  loss, gradient = nnx.value_and_grad(lambda network: triplet_loss(network(x), labels, distances))(network)
  optimizer.update(network, gradient)
  return loss


# --8<-- [end:step]


# --8<-- [start:train]
def batches(x, labels, count):
  """With replacement, as for augmented or balanced data."""
  rng = np.random.default_rng(0)
  for _ in range(count):
    rows = rng.integers(len(x), size=BATCH)
    yield x[rows], labels[rows]


def train(x, labels, count, distances=distances):
  network = network_of(2)
  optimizer = nnx.Optimizer(network, optax.adam(1e-3), wrt=nnx.Param)
  losses = [float(train_step(network, optimizer, *batch, distances=distances)) for batch in batches(x, labels, count)]
  return network, losses


# --8<-- [end:train]


# --8<-- [start:recall]
def recall(network, x, labels):
  """How often the nearest other sample has the same label."""
  return float((labels[nearest(network(x)).indices[:, 0]] == labels).mean())


# --8<-- [end:recall]

if __name__ == "__main__":
  import time
  x, labels = load_digits(return_X_y=True)
  order = np.random.default_rng(1).permutation(len(x))
  x, labels = (x[order] / 16).astype(np.float32), labels[order]
  tr = x[:TRAIN], labels[:TRAIN]; te = x[TRAIN:], labels[TRAIN:]
  print(recall(lambda x: x, *te), recall(network_of(2), *te))
  for f in (distances, with_epsilon, by_product):
    t=time.time(); net, l = train(*tr, STEPS, f); print(l[::30], l[-1], recall(net,*te), recall(net,*tr), time.time()-t)
  b = next(batches(*tr, 1))
  z = network_of(2)(b[0])
  r0 = np.asarray(((b[0][:,None]-b[0][None])**2).sum(-1)); rz=np.asarray(((z[:,None]-z[None])**2).sum(-1))
  i = np.triu_indices(BATCH,1)
  print((r0[i]==0).sum(), (rz[i]==0).sum(), ((r0[i]==0)&(rz[i]!=0)).sum(), rz[i][r0[i]==0].max(), rz[i][r0[i]>0].min())
  for f in (plain, without_diagonal, with_epsilon, distances):
    g = jax.grad(triplet_loss)(z, jnp.asarray(b[1]), f); print(f.__name__, int(jnp.isnan(g).any(1).sum()), float(jnp.abs(g).max()))
