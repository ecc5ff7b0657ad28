"""t-SNE of the 1,797 handwritten digits of scikit-learn, from two functions of jax_edm and one gradient.

The affinities in 64 dimensions come from the 90 nearest neighbours of each image. The divergence in the plane has one
term for these neighbours, and one for all pairs: a streamed sum, which needs O(n) memory. Its gradient is
``jax.grad``, and the whole descent is one compiled loop. ``sklearn.manifold.TSNE`` makes the same map beside it.
Needs scikit-learn, and matplotlib for the picture; run ``python examples/gallery/tsne.py``.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from sklearn.datasets import load_digits
from sklearn.manifold import TSNE, trustworthiness

from jax_edm import edm, nearest, pairwise_sum, procrustes

PERPLEXITY, STEPS = 30, 500
EXAGGERATION, EXAGGERATED_STEPS = 12.0, 250  # as in scikit-learn, and so is the step size
TOLERANCE = None  # two maps differ as points, and are equally good: main() says how good


# --8<-- [start:affinities]
def affinities(x, perplexity=PERPLEXITY):
  """The nearest neighbours of each point, ``(n, k)``, and the probability of each, with the given perplexity."""
  near = nearest(x, k=3 * perplexity)

  def probability(log_precision):
    return jax.nn.softmax(-jnp.exp(log_precision)[:, None] * near.squared, axis=1)

  def halve(_, bounds):  # the entropy falls with the precision
    low, high = bounds
    p = probability((low + high) / 2)
    wide = jax.scipy.special.entr(p).sum(1) > jnp.log(perplexity)
    return jnp.where(wide, (low + high) / 2, low), jnp.where(wide, high, (low + high) / 2)

  scale = -jnp.log(near.squared.mean(1))
  low, high = lax.fori_loop(0, 30, halve, (scale - 10, scale + 10))
  return near.indices, probability((low + high) / 2)


# --8<-- [end:affinities]


# --8<-- [start:divergence]
def divergence(z, neighbours, p, exaggeration=1.0):
  """The Kullback-Leibler divergence, without the part that does not depend on the map ``z``."""
  near = jnp.square(z[:, None] - z[neighbours]).sum(-1)
  attraction = (p * jnp.log1p(near)).sum() / len(z)
  normaliser = pairwise_sum(lambda squared: 1 / (1 + squared), z, diagonal=False).sum()
  return exaggeration * attraction + jnp.log(normaliser)


# --8<-- [end:divergence]


# --8<-- [start:plain]
def plain_divergence(z, neighbours, p, exaggeration=1.0):
  """The same with the matrix of all pairs."""
  squared = jnp.square(z[:, None] - z[None]).sum(-1)
  near = jnp.take_along_axis(squared, neighbours, axis=1)
  attraction = (p * jnp.log1p(near)).sum() / len(z)
  normaliser = (1 / (1 + squared)).sum() - len(z)
  return exaggeration * attraction + jnp.log(normaliser)


# --8<-- [end:plain]


# --8<-- [start:fit]
@functools.partial(jax.jit, static_argnames="steps")
def fit(x, steps=STEPS):
  """A map of ``x``, ``(n, 2)``, by gradient descent with momentum, and with a step size for each coordinate."""
  neighbours, p = affinities(x)
  rate = max(len(x) / EXAGGERATION / 4, 50.0)

  def step(state, k):
    z, velocity, gains = state
    early = k < EXAGGERATED_STEPS
    gradient = jax.grad(divergence)(z, neighbours, p, jnp.where(early, EXAGGERATION, 1.0))
    gains = jnp.maximum(jnp.where(velocity * gradient < 0, gains + 0.2, gains * 0.8), 0.01)
    velocity = jnp.where(early, 0.5, 0.8) * velocity - rate * gains * gradient
    return (z + velocity, velocity, gains), None

  z = principal_components(x)
  (z, _, _), _ = lax.scan(step, (z, jnp.zeros_like(z), jnp.ones_like(z)), jnp.arange(steps))
  return z


def principal_components(x):
  """The first two, so small that the points are near to each other at the start."""
  centred = x - x.mean(0)
  z = centred @ jnp.linalg.eigh(centred.T @ centred)[1][:, :-3:-1]
  return 1e-4 * z / z[:, 0].std()


# --8<-- [end:fit]


# --8<-- [start:today]
def fit_sklearn(x, steps=STEPS):
  return TSNE(perplexity=PERPLEXITY, max_iter=steps, init="pca", random_state=0).fit_transform(x)


# --8<-- [end:today]


def quality(x, labels, z, neighbours, p):
  """The whole divergence, in float64, by one formula for every map, and how well neighbours stay together."""
  joint = np.zeros((len(z), len(z)))
  np.put_along_axis(joint, np.asarray(neighbours), np.asarray(p, np.float64), axis=1)
  joint = (joint + joint.T) / (2 * len(z))
  near = 1 / (1 + np.asarray(edm(z), np.float64))
  np.fill_diagonal(near, 0)
  pairs = joint > 0
  same = labels[np.asarray(nearest(z).indices[:, 0])] == labels
  return {
    "Kullback-Leibler divergence": float((joint[pairs] * np.log(joint[pairs] * near.sum() / near[pairs])).sum()),
    "nearest point has the same digit": float(same.mean()),
    "trustworthiness": float(trustworthiness(x, np.asarray(z), n_neighbors=5)),
  }


def spread(count):
  """Points in the plane with neighbours and probabilities, to time one gradient."""
  z = jax.random.normal(jax.random.key(0), (count, 2)) * 20
  return z, *jax.jit(affinities)(z)


def data():
  digits = load_digits()
  return digits.data.astype(np.float32), digits.target


def main(picture="tsne.png"):
  x, labels = data()
  neighbours, p = jax.jit(affinities)(x)
  maps = {"jax_edm": fit(x), "scikit-learn": jnp.asarray(fit_sklearn(x))}
  maps["jax_edm"] = procrustes(maps["jax_edm"], maps["scikit-learn"]).aligned  # turned, to look alike
  found = {"points": len(x), "steps": STEPS}
  for name, z in maps.items():
    found |= {f"{what}, {name}": value for what, value in quality(x, labels, z, neighbours, p).items()}

  (z, *near), functions = spread(2000), (divergence, plain_divergence)
  ours, plain = (np.asarray(jax.jit(jax.grad(f))(z, *near)) for f in functions)
  found["largest difference of the gradients"] = float(np.abs(ours - plain).max() / np.abs(plain).max())
  memory = [jax.jit(jax.grad(f)).lower(z, *near).compile().memory_analysis() for f in functions]
  for form, analysis in zip(("jax_edm", "matrix of all pairs"), memory, strict=True):
    found[f"memory of a gradient of 2,000 points, {form}, MiB"] = analysis.temp_size_in_bytes / 2**20
  for name, value in found.items():
    print(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value:.3g}")
  if picture:
    draw(picture, labels, maps)
  return found


def sides():
  x, _ = data()
  rows = {
    f"t-SNE of {len(x):,} digits, {STEPS} steps": {
      "jax_edm": lambda: fit(x),
      "scikit-learn, Barnes-Hut": lambda: fit_sklearn(x),
    }
  }
  for count in (len(x), 8000):
    arguments = spread(count)
    ours, plain = (jax.jit(jax.value_and_grad(f)) for f in (divergence, plain_divergence))
    rows[f"value and gradient of the divergence, n={count:,}"] = {
      "jax_edm": functools.partial(ours, *arguments),
      "jax.numpy, matrix of all pairs": functools.partial(plain, *arguments),
    }
  return rows


def draw(file, labels, maps):
  """The maps side by side, coloured by digit."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(10, 4.8), layout="constrained")
  for axes, (name, z) in zip(figure.subplots(1, 2), maps.items(), strict=True):
    z = np.asarray(z)
    for digit in range(10):
      axes.scatter(*z[labels == digit].T, s=2.5, color=f"C{digit}", alpha=0.8, linewidths=0)
      place = np.median(z[labels == digit], axis=0)
      axes.text(
        *place,
        str(digit),
        ha="center",
        va="center",
        fontsize=11,
        weight="bold",
        bbox={"fc": "w", "pad": 1.5, "ec": "none", "alpha": 0.75},
      )
    axes.set(title=name, xticks=[], yticks=[], aspect="equal")
  figure.savefig(file, dpi=110)
  print(f"wrote {file}")


if __name__ == "__main__":
  main()
