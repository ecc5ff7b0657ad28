"""A molecule from bounds of its distances, as from a spectrum: bounds, embedding, and what the bounds leave open.

A chain of 60 atoms is folded into a ball. Its bonds and angles are known, so distances to the next two atoms are exact.
Pairs nearer than 6 Angstrom are seen, and have an upper bound of 5 or 6 Angstrom; no other atoms come nearer than 2.9.
Of ten pairs that are far from each other, as of two labels, the distance is known to one Angstrom.
``smooth_bounds`` says what follows by the triangle inequality, and ``smacof`` finds points between the bounds. Beside
it stands distance geometry as people write it with SciPy: bounds smoothed by ``floyd_warshall``, the embedding of a
random metric matrix, and L-BFGS-B on the violations. Needs scipy and matplotlib; run
``python examples/gallery/molecule.py``.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
from scipy.sparse.csgraph import floyd_warshall
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from jax_edm import distances, procrustes, smacof, smooth_bounds

ATOMS, STARTS, MOLECULES = 60, 6, 12
BOND, ANGLE, BALL = 1.5, np.radians(111), 7.0  # Angstrom
NEAREST, SEEN, CLOSE = 2.9, 6.0, 5.0  # of atoms that are not bonded: the least distance, and the two upper bounds
LABELLED, APART, WITHIN = 10, 9.0, 1.0  # pairs of labels, how far they are from each other, and how sure that is
LIGHT = 0.1  # the weight of a pair with a least distance alone; there are many, and with weight 1 they slow the search
MAX_STEPS = 3000
TOLERANCE = None  # the bounds leave room, so that two structures without a violation need not agree


def molecule(seed=0):
  """A chain with fixed bonds and angles and random torsions, that stays in a ball and avoids itself."""
  random = np.random.default_rng(seed)
  x = [(0.0, 0.0, 0.0), (BOND, 0.0, 0.0), (BOND * (1 - np.cos(ANGLE)), BOND * np.sin(ANGLE), 0.0)]
  x = list(np.array(x) - np.mean(x, 0))
  while len(x) < ATOMS:
    for torsion in random.uniform(-np.pi, np.pi, 30):
      atom = next_atom(*x[-3:], torsion)
      if np.linalg.norm(atom) < BALL and np.linalg.norm(np.array(x[:-2]) - atom, axis=1).min() > 1.03 * NEAREST:
        x.append(atom)
        break
    else:
      x = x[: max(3, len(x) - int(random.integers(3, 10)))]
  return np.array(x)


def next_atom(a, b, c, torsion):
  along = (c - b) / BOND
  normal = np.cross(b - a, along)
  normal /= np.linalg.norm(normal)
  across = np.cos(torsion) * np.cross(normal, along) + np.sin(torsion) * normal
  return c + BOND * (np.sin(ANGLE) * across - np.cos(ANGLE) * along)


def measured_bounds(x):
  """Lower and upper bounds of all distances, the weights, and how many are exact and seen."""
  r, atom = cdist(x, x), np.arange(len(x))
  exact = np.abs(atom[:, None] - atom) <= 2
  seen = (r < SEEN) & ~exact
  lower = np.where(exact, r, NEAREST)
  upper = np.where(exact, r, np.where(seen, np.where(r < CLOSE, CLOSE, SEEN), np.inf))
  far = np.argwhere(np.triu(r > APART))
  i, j = far[np.random.default_rng(0).choice(len(far), LABELLED, replace=False)].T
  for a, b in ((i, j), (j, i)):
    lower[a, b], upper[a, b] = r[a, b] - WITHIN, r[a, b] + WITHIN
  measured = np.isfinite(upper)
  return lower, upper, np.where(measured, 1, LIGHT), (exact.sum() - len(x)) // 2, seen.sum() // 2


# --8<-- [start:fold]
@jax.jit
def fold(lower, upper, weights):
  """A structure between the bounds; its start, from the middle of the bounds, has a fourth coordinate at first."""
  return smacof(None, dim=3, lower=lower, upper=upper, weights=weights, max_steps=MAX_STEPS)


@jax.jit
def refine(lower, upper, weights, starts):
  """Structures from starts in space, (..., n, 3), as one batch."""
  return smacof(None, dim=3, lower=lower, upper=upper, weights=weights, initial=starts, max_steps=MAX_STEPS)


# --8<-- [end:fold]


# --8<-- [start:smooth]
def smooth_today(lower, upper):
  """The upper bounds are shortest paths; the lower ones, one intermediate atom after the other (Dress and Havel)."""
  upper = floyd_warshall(upper)
  for k in range(len(lower)):
    through = lower[k] - upper[:, k : k + 1]
    lower = np.maximum(lower, np.maximum(through, through.T))
  return lower, upper


# --8<-- [end:smooth]


# --8<-- [start:today]
def embed_today(lower, upper, random):
  """Classical MDS of random distances between the bounds: the embedding of a metric matrix (Crippen and Havel)."""
  share = np.triu(random.random(lower.shape), 1)
  squared = (lower + (share + share.T) * (upper - lower)) ** 2
  centred = squared - squared.mean(0) - squared.mean(1)[:, None] + squared.mean()
  values, vectors = np.linalg.eigh(-centred / 2)
  return vectors[:, -3:] * np.sqrt(np.maximum(values[-3:], 0))


def fold_today(lower, upper, weights, start):
  """The same stress, with its gradient by hand, from this start."""

  def violation(v):
    x = v.reshape(-1, 3)
    difference = x[:, None] - x
    r = np.sqrt((difference**2).sum(2))
    error = r - np.clip(r, lower, upper)
    ratio = weights * np.divide(error, r, out=np.zeros_like(r), where=r > 0)
    return (weights * error**2).sum() / 2, 2 * (ratio.sum(1)[:, None] * x - ratio @ x).ravel()

  with threadpool_limits(1):  # the threads of BLAS cost more than such small matrices gain
    return minimize(violation, start.ravel(), jac=True, method="L-BFGS-B").x.reshape(-1, 3)


def embedded_today(lower, upper, weights):
  return fold_today(lower, upper, weights, embed_today(lower, upper, np.random.default_rng(1)))


# --8<-- [end:today]


def main(picture="molecule.png"):
  x = molecule()
  raw_lower, raw_upper, weights, exact, seen = measured_bounds(x)
  lower, upper, weights = (jnp.asarray(a, jnp.float32) for a in (raw_lower, raw_upper, weights))
  # --8<-- [start:then]
  lower, upper = smooth_bounds(lower, upper)
  found = fold(lower, upper, weights)
  # Distances do not tell a structure from its mirror image.
  mirrored = procrustes(found.points, jnp.asarray(x, jnp.float32))
  # --8<-- [end:then]
  as_found = procrustes(found.points, jnp.asarray(x, jnp.float32), reflection=False)
  d = np.asarray(distances(found.points))
  numbers = {
    "exact distances": int(exact),
    "upper bounds that were seen": int(seen),
    **smoothed_beside(raw_lower, raw_upper, lower, upper),
    "converged": str(bool(found.converged)),
    "stress, square Angstrom": float(found.stress),
    "largest violation of a bound, Angstrom": largest_violation(d, raw_lower, raw_upper),
    "RMSD to the truth or its mirror image, Angstrom": float(mirrored.rmsd),
    "RMSD without a reflection, Angstrom": float(as_found.rmsd),
    **over_molecules(),
    **from_the_same_starts(x, lower, upper, weights, raw_lower, raw_upper),
  }
  print("\n".join(f"{name}: {value}" for name, value in numbers.items()))
  if picture:
    draw(picture, x, np.asarray(mirrored.aligned), np.asarray(upper - lower), np.abs(d - cdist(x, x)))
  return numbers


def largest_violation(d, lower, upper):
  return float(np.maximum(lower - d, d - upper)[~np.eye(len(d), dtype=bool)].max().clip(0))


def rmsd(points, x):
  return float(procrustes(jnp.asarray(points, jnp.float32), jnp.asarray(x, jnp.float32)).rmsd)


def smoothed_beside(raw_lower, raw_upper, lower, upper):
  theirs = smooth_today(raw_lower, raw_upper)
  return {
    "largest upper bound, after smoothing, Angstrom": float(upper.max()),
    "lower bounds that smoothing raised": int((np.asarray(lower) > raw_lower + 1e-3).sum()) // 2,
    "largest difference of an upper bound from floyd_warshall, Angstrom": float(np.abs(theirs[1] - upper).max()),
    "largest difference of a lower bound from Dress and Havel, Angstrom": float(
      np.abs(theirs[0] - lower)[~np.eye(ATOMS, dtype=bool)].max()
    ),
  }


def from_the_same_starts(x, lower, upper, weights, raw_lower, raw_upper):
  """Structures from embedded metric matrices, refined by both."""
  low, high, w = (np.asarray(a, np.float64) for a in (lower, upper, weights))
  random = np.random.default_rng(1)
  starts = np.stack([embed_today(low, high, random) for _ in range(STARTS)])
  ours = refine(lower, upper, weights, jnp.asarray(starts, jnp.float32)).points
  theirs = [fold_today(low, high, w, start) for start in starts]
  bounds, truths = [(raw_lower, raw_upper)] * STARTS, [x] * STARTS
  return {
    **quality(f"smacof, {STARTS} embedded starts", ours, truths, bounds),
    **quality(f"L-BFGS-B, {STARTS} embedded starts", theirs, truths, bounds),
  }


def over_molecules():
  """One structure of each of several molecules, by both from the smoothed bounds alone."""
  truths = [molecule(seed) for seed in range(MOLECULES)]
  measured = [measured_bounds(x)[:3] for x in truths]
  bounds = [(lower, upper) for lower, upper, _ in measured]
  *both, weights = (jnp.asarray(np.stack(a), jnp.float32) for a in zip(*measured, strict=True))
  lower, upper = smooth_bounds(*both)
  random, theirs, not_smoothed = np.random.default_rng(2), [], []
  for k, (low, high, w) in enumerate(zip(*(np.asarray(a, np.float64) for a in (lower, upper, weights)), strict=True)):
    start = embed_today(low, high, random)  # needs finite bounds
    theirs.append(fold_today(low, high, w, start))
    not_smoothed.append(fold_today(*bounds[k], w, start))
  return {
    **quality(f"smacof, {MOLECULES} molecules", fold(lower, upper, weights).points, truths, bounds),
    **quality(f"smacof, {MOLECULES} molecules, not smoothed", fold(*both, weights).points, truths, bounds),
    **quality(f"embedding and L-BFGS-B, {MOLECULES} molecules", theirs, truths, bounds),
    **quality(f"embedding and L-BFGS-B, {MOLECULES} molecules, not smoothed", not_smoothed, truths, bounds),
  }


def quality(name, structures, truths, bounds):
  structures = [np.asarray(p, np.float64) for p in structures]
  off = np.array([largest_violation(cdist(p, p), *b) for p, b in zip(structures, bounds, strict=True)])
  return {
    f"{name}: bounds kept within 0.01 Angstrom": int((off < 0.01).sum()),
    f"{name}: RMSD, median, Angstrom": float(np.median([rmsd(p, x) for p, x in zip(structures, truths, strict=True)])),
  }


def sides():
  """Both in double precision, since L-BFGS-B computes in no other."""
  *raw, weights = measured_bounds(molecule())[:3]
  low, high = smooth_today(*raw)
  np.fill_diagonal(low, 0)
  random = np.random.default_rng(1)
  starts = np.stack([embed_today(low, high, random) for _ in range(STARTS)])
  with jax.enable_x64(True):
    both, ours = ([jnp.asarray(a) for a in arrays] for arrays in (raw, (low, high, weights)))
    many = [*ours, jnp.asarray(starts)]
  smooth = jax.jit(smooth_bounds)

  def double(call, args):
    with jax.enable_x64(True):
      return call(*args)

  return {
    "bounds smoothed": {
      "jax_edm": lambda: double(smooth, both),
      "scipy floyd_warshall and NumPy": lambda: smooth_today(*raw),
    },
    "a structure from smoothed bounds": {
      "jax_edm": lambda: double(fold, ours).points,
      "NumPy embedding, scipy L-BFGS-B": lambda: embedded_today(low, high, weights),
    },
    f"{STARTS} structures, from the same embedded starts": {
      "jax_edm": lambda: double(refine, many).points,
      "scipy L-BFGS-B": lambda: np.stack([fold_today(low, high, weights, start) for start in starts]),
    },
  }


def draw(file, x, found, room, error):
  """The structure over the truth; and what the bounds leave open beside what the structure is off."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(10.5, 4.9), layout="constrained")
  chain = figure.add_subplot(1, 2, 1, projection="3d")
  chain.plot(*x.T, "-", color="0.6", linewidth=4, alpha=0.6, label="truth")
  chain.plot(*found.T, "-", color="tab:blue", linewidth=1.5, label="found from bounds")
  chain.scatter(*found.T, c=np.arange(ATOMS), cmap="viridis", s=22, depthshade=False)
  chain.set(xlabel="Angstrom", aspect="equal")
  chain.set_title(f"{ATOMS} atoms, RMSD {np.sqrt(((found - x) ** 2).sum(1).mean()):.2f} Angstrom")
  chain.legend(loc="upper left", frameon=False)
  pairs = figure.add_subplot(1, 2, 2)
  upper = np.triu(np.ones_like(room, dtype=bool))
  image = pairs.imshow(np.where(upper, room, error), cmap="magma_r", vmin=0, vmax=np.percentile(room, 99))
  pairs.plot([0, ATOMS - 1], [0, ATOMS - 1], "k-", linewidth=0.5)
  pairs.set(xlabel="atom", ylabel="atom")
  pairs.set_title("Above: upper less lower bound\nBelow: distance found less true one")
  figure.colorbar(image, ax=pairs, label="Angstrom", shrink=0.85)
  figure.savefig(file, dpi=110)
  print(f"wrote {file}")


if __name__ == "__main__":
  main()
