"""Where the devices of a building are, with intervals: a Bayesian model of distances in numpyro, sampled by NUTS.

The prior of a device is the room that it is in, and the chains start at its mean: devices of one room start at one
place. There the root of a squared distance has no derivative, and numpyro refuses to start. With ``distances`` it
samples. Needs numpyro and matplotlib; run ``python examples/gallery/numpyro_latent.py``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.diagnostics import summary
from numpyro.infer import MCMC, NUTS, init_to_mean, init_to_uniform
from numpyro.infer.util import initialize_model, potential_energy

from jax_edm import distances, safe_root

TOLERANCE = 1e-4
ROOM = 6.0, 4.0  # metres
NOISE, RANGE = 0.15, 6.0  # of a measured distance; two devices that are farther apart do not hear each other
CHAINS, WARMUP, SAMPLES = 4, 300, 300


class Building(NamedTuple):
  """What was measured, and the truth."""

  anchors: np.ndarray  # (4, 2), the corners, whose places are known
  rooms: np.ndarray  # (n, 2), the centre of the room of each device
  heard: np.ndarray  # (4 + n, 4 + n) booleans: the pairs that were measured, each once
  measured: np.ndarray  # (4 + n, 4 + n), the distances; zero where none was measured
  devices: np.ndarray  # (n, 2), where they are


def building(across, along, in_a_room, seed):
  """A grid of rooms, with as many devices in each."""
  rng, size = np.random.default_rng(seed), np.array(ROOM)
  corners = np.array([[0, 0], [across, 0], [0, along], [across, along]]) * size
  grid = np.stack(np.meshgrid(np.arange(across), np.arange(along), indexing="ij"), -1).reshape(-1, 2)
  rooms = np.repeat((grid + 0.5) * size, in_a_room, axis=0)
  devices = rooms + 0.45 * size * rng.uniform(-1, 1, rooms.shape)
  everyone = np.concatenate([corners, devices])
  true = np.sqrt(np.square(everyone[:, None] - everyone).sum(-1))
  heard = np.triu(true < RANGE, 1)
  heard[:4, :4] = False
  measured = np.where(heard, true + NOISE * rng.normal(size=true.shape), 0)
  return Building(*(a.astype(np.float32) for a in (corners, rooms)), heard, measured.astype(np.float32), devices)


# --8<-- [start:model]
def model(b, measure=distances):
  noise = numpyro.sample("noise", dist.HalfNormal(0.5))
  devices = numpyro.sample("devices", dist.Normal(b.rooms, 2.0).to_event(2))  # somewhere in its room
  r = measure(jnp.concatenate([b.anchors, devices]))
  numpyro.sample("ranges", dist.Normal(r, noise).mask(b.heard), obs=b.measured)


# --8<-- [end:model]


# --8<-- [start:before]
def broadcast(x):
  return jnp.sqrt(jnp.square(x[:, None] - x).sum(-1))


def with_epsilon(x):
  return jnp.sqrt(jnp.square(x[:, None] - x).sum(-1) + 1e-12)


# --8<-- [end:before]


def only_pairs(b, root):
  """The same model with a list of the pairs that were measured."""
  i, j = np.nonzero(b.heard)
  target = b.measured[i, j]

  def listed(b):
    noise = numpyro.sample("noise", dist.HalfNormal(0.5))
    devices = numpyro.sample("devices", dist.Normal(b.rooms, 2.0).to_event(2))
    x = jnp.concatenate([b.anchors, devices])
    r = root(jnp.square(x[i] - x[j]).sum(-1))
    numpyro.sample("ranges", dist.Normal(r, noise), obs=target)

  return listed


# --8<-- [start:sample]
def sample(b):
  """Four chains, which start at the centres of the rooms."""
  kernel = NUTS(model, init_strategy=init_to_mean)
  chains = MCMC(
    kernel, num_warmup=WARMUP, num_samples=SAMPLES, num_chains=CHAINS, chain_method="vectorized", progress_bar=False
  )
  chains.run(jax.random.key(1), b)
  return chains


# --8<-- [end:sample]


def attempts(b):
  """What numpyro says to each way to write the distances, from each start."""
  ways = {
    "jax_edm": lambda b: model(b, distances),
    "broadcast": lambda b: model(b, broadcast),
    "list of pairs": only_pairs(b, jnp.sqrt),
    "list of pairs, safe_root": only_pairs(b, safe_root),
    "broadcast, epsilon under the root": lambda b: model(b, with_epsilon),
  }
  starts = {"the room centres": init_to_mean, "random places": init_to_uniform}
  return {f"{way}, from {start}": attempt(ways[way], starts[start], b) for way in ways for start in starts}


def attempt(model, strategy, b):
  try:
    initialize_model(jax.random.key(0), model, init_strategy=strategy, model_args=(b,))
  except RuntimeError as error:
    return f"{type(error).__name__}: {error}"
  return "starts"


def main(picture="numpyro_latent.png"):
  b = building(2, 2, 4, seed=20)
  found = {"devices": len(b.devices), "measured distances": int(b.heard.sum())} | attempts(b)
  chains = sample(b)
  found["largest r_hat"] = max(float(np.max(site["r_hat"])) for site in summary(chains.get_samples(True)).values())
  found["divergent transitions"] = int(chains.get_extra_fields()["diverging"].sum())
  samples = {name: np.asarray(values, float) for name, values in chains.get_samples().items()}
  error = samples["devices"].mean(0) - b.devices
  found["coordinates within their 90 % interval, of 32"] = within(b, samples["devices"])
  found["error of a coordinate, root mean square, m"] = rms(error)
  found["posterior deviation of a coordinate, root mean square, m"] = rms(samples["devices"].std(0))
  found["distance of a coordinate from the room centre, root mean square, m"] = rms(b.rooms - b.devices)
  found["noise of a distance, posterior mean, m"] = float(samples["noise"].mean())
  for name, value in found.items():
    print(f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}")
  if picture:
    draw(picture, b, samples["devices"])
  return found


def within(b, samples):
  """How many coordinates lie in their 90 % intervals."""
  low, high = np.quantile(samples, [0.05, 0.95], axis=0)
  return int(((low < b.devices) & (b.devices < high)).sum())


def coverage(seeds):
  """The share of them over many buildings, which take some seconds each."""
  buildings = [building(2, 2, 4, seed) for seed in seeds]
  return np.mean([within(b, sample(b).get_samples()["devices"]) / b.devices.size for b in buildings])


def rms(error):
  return float(np.sqrt(np.square(error).mean()))


def sides():
  few, many = building(2, 2, 4, seed=20), building(5, 5, 40, seed=1)
  return {
    f"log density and gradient, {len(b.devices):,} devices, {b.heard.sum():,} measured distances": {
      "jax_edm": density(lambda b: model(b, distances), b),
      "list of pairs, safe_root of jax_edm": density(only_pairs(b, safe_root), b),
      "broadcast, epsilon": density(lambda b: model(b, with_epsilon), b),
      "list of pairs, epsilon": density(only_pairs(b, lambda squared: jnp.sqrt(squared + 1e-12)), b),
    }
    for b in (few, many)
  }


def density(model, b):
  """What a step of HMC computes: the log density of numpyro's parameters and its gradient, at places near the truth."""
  places = b.devices + 0.1 * np.random.default_rng(5).normal(size=b.devices.shape)
  parameters = {"devices": jnp.asarray(places, jnp.float32), "noise": jnp.log(NOISE)}
  compiled = jax.jit(jax.value_and_grad(lambda parameters, b: potential_energy(model, (b,), {}, parameters)))
  b = jax.tree.map(jnp.asarray, b)
  return lambda: compiled(parameters, b)


def draw(file, b, samples):
  """The posterior of each device on the floor plan; and the intervals of the coordinates, without the truth."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(11, 4.6), layout="constrained")
  plan, intervals = figure.subplots(1, 2, width_ratios=(2.3, 1))
  everyone = np.concatenate([b.anchors, b.devices])
  for i, j in np.argwhere(b.heard):
    plan.plot(*everyone[[i, j]].T, color="0.9", linewidth=0.6, zorder=0)
  plan.axvline(ROOM[0], color="0.5", linewidth=2, zorder=0)
  plan.axhline(ROOM[1], color="0.5", linewidth=2, zorder=0)
  for k, cloud in enumerate(samples.swapaxes(0, 1)):
    plan.scatter(*cloud[::4].T, s=3, color=f"C{k % 10}", alpha=0.35, linewidths=0)
  plan.plot(*b.devices.T, "k+", markersize=8, label="where a device is")
  plan.plot(*np.unique(b.rooms, axis=0).T, "s", color="0.35", markersize=7, label="where the four chains start")
  plan.plot(*b.anchors.T, "k^", markersize=11, clip_on=False, label="anchors, whose places are known")
  plan.set(xlim=(0, 2 * ROOM[0]), ylim=(0, 2 * ROOM[1]), aspect="equal", xlabel="m", title="Posterior of the places")
  plan.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False)
  off = (samples - b.devices).reshape(len(samples), -1)
  low, middle, high = np.quantile(off[:, np.argsort(np.median(off, 0))], [0.05, 0.5, 0.95], axis=0)
  outside = (low > 0) | (high < 0)
  for colour, chosen in (("C0", ~outside), ("C3", outside)):
    k = np.flatnonzero(chosen)
    intervals.errorbar(k, middle[k], [(middle - low)[k], (high - middle)[k]], fmt="o", color=colour, markersize=3)
  intervals.axhline(0, color="k", linewidth=0.8)
  intervals.set(title="90 % intervals less the truth, m", xlabel="coordinates, sorted")
  figure.savefig(file, dpi=110)
  print(f"wrote {file}")


if __name__ == "__main__":
  main()
