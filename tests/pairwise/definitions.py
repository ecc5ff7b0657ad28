"""A sum over pairs with everything in it, and its derivatives from the definitions, in NumPy and float64."""

import jax
import jax.numpy as jnp
import numpy as np

import oracle

EPS = float(np.finfo(np.float32).eps)
THETA = 0.3

# The arguments that f takes: of all kinds; or numbers alone, so that the matrix of one set is symmetric.
ARGS = {"everything": ("pair", "row", "column", "scalar"), "symmetric": ("scalar",)}
# Which f; one set or two; whether the pair of a point with itself counts.
VARIANTS = {
  "two sets": ("everything", False, True),
  "one set": ("everything", True, True),
  "one symmetric set": ("symmetric", True, True),
  "no diagonal": ("everything", True, False),
  "symmetric, no diagonal": ("symmetric", True, False),
}


def problem(rng, n, m, d, k=2, dtype=np.float32):
  shapes = {"x": (n, d), "y": (m, d), "pair": (n, m), "row": (n, 1), "column": (1, m), "scalar": (), "values": (m, k)}
  shapes |= {"g": (n, k)}
  scale = {"x": d**-0.5, "y": d**-0.5}
  return {name: (scale.get(name, 1) * rng.normal(size=shape)).astype(dtype) for name, shape in shapes.items()}


def of_variant(p, variant):
  """The arrays of a variant. One set of n points has the n first columns of what belongs to m points."""
  kind, one_set, _ = VARIANTS[variant]
  n = len(p["x"])
  if one_set:
    assert n <= p["values"].shape[0]
    p = p | {"pair": p["pair"][:, :n], "column": p["column"][:, :n], "values": p["values"][:n]}
  return {name: p[name] for name in ("x", *(() if one_set else ("y",)), *ARGS[kind], "values")}


def sum_and_cotangents(pairwise_sum, p, theta, g, variant, **options):
  """The sum, and the cotangents of all arrays and of ``theta``, which f closes over."""
  kind, _, diagonal = VARIANTS[variant]
  options = options if diagonal else options | {"diagonal": False}

  def run(p, theta):
    def everything(D, pair, row, column, scalar):
      return pair * jnp.exp(-theta * D) + scalar * row * column * D

    def symmetric(D, scalar):
      return scalar * jnp.exp(-theta * D)

    f = everything if kind == "everything" else symmetric
    args = tuple(p[name] for name in ARGS[kind])
    return pairwise_sum(f, p["x"], p.get("y"), args=args, values=p["values"], **options)

  out, back = jax.vjp(run, p, theta)
  of_arrays, of_theta = back(g)
  return out, of_arrays | {"theta": of_theta}


def expected(p, g, variant, pairs=1.0):
  """The same, from the definitions; of the pairs where ``pairs`` is 1."""
  kind, one_set, diagonal = VARIANTS[variant]
  p = {name: np.asarray(a, np.float64) for name, a in p.items()}
  y = None if one_set else p["y"]
  D = oracle.edm(p["x"], y)
  pairs = np.broadcast_to(pairs, D.shape) * (1 if diagonal else 1 - np.eye(len(D)))
  decay = np.exp(-THETA * D)
  if kind == "everything":
    linear = p["scalar"] * p["row"] * p["column"]
    f, slope = p["pair"] * decay + linear * D, linear - THETA * p["pair"] * decay
    partials = {
      "pair": decay,
      "row": p["scalar"] * p["column"] * D,
      "column": p["scalar"] * p["row"] * D,
      "scalar": p["row"] * p["column"] * D,
      "theta": -p["pair"] * D * decay,
    }
  else:
    f, slope = p["scalar"] * decay, -THETA * p["scalar"] * decay
    partials = {"scalar": decay, "theta": -p["scalar"] * D * decay}
  f, cotangent, size = f * pairs, (g @ p["values"].T) * pairs, np.abs(g) @ np.abs(p["values"].T)
  shapes = {name: np.shape(p.get(name, 0.0)) for name in partials}
  bars = {name: _summed(cotangent * a, shapes[name]) for name, a in partials.items()}
  sizes = {name: _summed(size * np.abs(a), shapes[name]) for name, a in partials.items()}
  bars |= dict(zip("xy", oracle.vjp(cotangent * slope, p["x"], y), strict=False)) | {"values": f.T @ g}
  sizes |= {name: np.abs(a).max() for name, a in bars.items() if name in "xy"} | {"values": np.abs(f).T @ np.abs(g)}
  return f @ p["values"], bars, sizes


def agree(actual, wanted, message=""):
  """Within 64 roundings of the sizes of the terms that are summed."""
  (out, bars), (value, gradients, sizes) = actual, wanted
  np.testing.assert_allclose(out, value, atol=64 * EPS * np.abs(value).max(), err_msg=message)
  assert set(bars) == set(gradients)
  for name, e in gradients.items():
    assert bars[name].shape == e.shape
    error = np.abs(np.asarray(bars[name], np.float64) - e)
    assert (error <= 64 * EPS * sizes[name]).all(), (message, name, (error / sizes[name]).max() / EPS)


def _summed(a, shape):
  """Over the axes that an argument of that shape does not have."""
  for axis in (0, 1):
    if len(shape) < 2 or shape[axis] == 1:
      a = a.sum(axis, keepdims=True)
  return a.reshape(shape)
