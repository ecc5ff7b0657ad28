"""Gaussian processes of tinygp and GPJax with kernel matrices from jax_edm.

Both libraries evaluate a kernel pair by pair. Here they get the same matrices from ``matern(edm(x / scale), 2.5)``: in
tinygp by a kernel class, in GPJax by a compute engine. The log likelihoods and their gradients agree with those of the
libraries' own kernels, and the second derivatives are right where two points coincide, so slopes can be observations.
Needs tinygp, GPJax, and matplotlib for the picture; run ``python examples/gallery/gp_libraries.py``.
"""

import warnings
from functools import partial

import gpjax as gpx
import jax
import jax.numpy as jnp
import numpy as np
import tinygp
from gpjax.kernels.computations import AbstractKernelComputation
from gpjax.parameters import val
from tinygp.kernels.distance import L2Distance

from jax_edm import edm, matern

NOISE = 0.1  # variance of the observations
SLOPES_NOISE = 1e-4
TOLERANCE = 1e-3  # float32, through a Cholesky factor


# --8<-- [start:tinygp]
class Matern52(tinygp.kernels.Kernel):
  """The Matern kernel of order 5/2, with a length scale for each coordinate."""

  scale: jax.Array

  def evaluate(self, X1, X2):  # of one pair, for what tinygp does pair by pair
    return matern(jnp.square((X1 - X2) / self.scale).sum(), 2.5)

  def __call__(self, X1, X2=None):  # of all pairs, or of the diagonal
    if X2 is None:
      return jnp.ones(len(X1), X1.dtype)
    return matern(edm(X1 / self.scale, None if X2 is X1 else X2 / self.scale), 2.5)


# --8<-- [end:tinygp]


# --8<-- [start:gpjax]
class FromDistances(AbstractKernelComputation):
  """Matrices of GPJax's Matern kernels, from matrices of squared distances."""

  orders = {gpx.kernels.Matern12: 0.5, gpx.kernels.Matern32: 1.5, gpx.kernels.Matern52: 2.5}  # noqa: RUF012

  def _gram(self, kernel, x):
    return self._cross_covariance(kernel, x, None)

  def _cross_covariance(self, kernel, x, y):
    x, y = (None if a is None else kernel.slice_input(a) / val(kernel.lengthscale) for a in (x, y))
    return val(kernel.variance) * matern(edm(x, y), self.orders[type(kernel)])


# --8<-- [end:gpjax]


# --8<-- [start:before]
def own_tinygp(scale):
  return tinygp.transforms.Linear(1 / scale, tinygp.kernels.Matern52(distance=L2Distance()))


def own_gpjax(scale):
  return gpx.kernels.Matern52(lengthscale=scale)


# --8<-- [end:before]


# --8<-- [start:after]
def ours_tinygp(scale):
  return Matern52(scale)


def ours_gpjax(scale):
  return gpx.kernels.Matern52(lengthscale=scale, compute_engine=FromDistances())


# --8<-- [end:after]


# --8<-- [start:losses]
def loss_tinygp(kernel, scale, x, y):
  """The negative log likelihood."""
  return -tinygp.GaussianProcess(kernel(scale), x, diag=NOISE).log_probability(y)


def loss_gpjax(kernel, scale, x, y):
  prior = gpx.gps.Prior(mean_function=gpx.mean_functions.Zero(), kernel=kernel(scale))
  model = prior * gpx.likelihoods.Gaussian(obs_stddev=jnp.sqrt(NOISE))
  return -gpx.objectives.conjugate_mll(model, gpx.Dataset(x, y[:, None]))


# --8<-- [end:losses]


# --8<-- [start:by_hand]
def by_hand(scale):
  """A kernel of one's own in tinygp, as one writes it at first."""

  def evaluate(x, y):
    r = 5**0.5 * jnp.linalg.norm((x - y) / scale)
    return (1 + r + r**2 / 3) * jnp.exp(-r)

  return tinygp.kernels.Custom(evaluate)


# --8<-- [end:by_hand]


# --8<-- [start:slopes]
class WithSlopes(tinygp.kernels.Kernel):
  """Covariances of values, ``i = 0``, and of slopes along the coordinates ``i = 1, 2, ...``."""

  kernel: tinygp.kernels.Kernel

  def evaluate(self, X1, X2):
    (x, i), (y, j) = X1, X2

    def of_y(x):
      return jnp.append(self.kernel.evaluate(x, y), jax.grad(self.kernel.evaluate, 1)(x, y))

    return jnp.vstack([of_y(x), jax.jacfwd(of_y)(x).T])[i, j]


# --8<-- [end:slopes]


def data(n, d):
  rng = np.random.default_rng(0)
  x = rng.uniform(-2, 2, (n, d))
  y = np.sin(2 * x[:, 0]) * np.cos(x[:, 1]) + NOISE**0.5 * rng.normal(size=n)
  return jnp.linspace(0.8, 1.5, d), jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)


def gradient(loss, kernel):
  return jax.jit(jax.value_and_grad(partial(loss, kernel), (0, 1)))


def agreement():
  """Of log likelihoods and gradients, for inputs of which each tenth one is a copy; and how many numbers are NaN."""
  scale, x, y = data(300, 3)
  x = x.at[1::10].set(x[::10])
  found = {}
  for name, loss, ours, own in (
    ("tinygp", loss_tinygp, ours_tinygp, own_tinygp),
    ("GPJax", loss_gpjax, ours_gpjax, own_gpjax),
  ):
    a, b = (jax.tree.leaves(gradient(loss, kernel)(scale, x, y)) for kernel in (ours, own))
    for what, p, q in zip(("log likelihood", "gradient in scales", "gradient in inputs"), a, b, strict=True):
      found[f"{name}, {what}: largest relative difference"] = float(jnp.abs(p - q).max() / jnp.abs(q).max())
    found[f"{name}, gradient in inputs, jax_edm: NaN"] = int(jnp.isnan(a[2]).sum())
  hand = gradient(loss_tinygp, by_hand)(scale, x, y)[1]
  found["gradient in scales, a kernel by hand: NaN of 3"] = int(jnp.isnan(hand[0]).sum())
  found["gradient in inputs, a kernel by hand: NaN of 900"] = int(jnp.isnan(hand[1]).sum())
  return found


def hills(p):
  """A function of the plane."""
  return jnp.sin(2 * p[0]) * jnp.cos(p[1]) + 0.5 * p[1]


# --8<-- [start:fit]
@jax.jit
def fit_slopes(kernel, x, values, slopes, grid):
  """The prediction on a grid from values and slopes; the log likelihood, and the covariance."""
  points = jnp.repeat(x, 3, axis=0), jnp.tile(jnp.arange(3), len(x))  # of each point its value and two slopes
  observed = jnp.hstack([values[:, None], slopes]).ravel()
  process = tinygp.GaussianProcess(WithSlopes(kernel), points, diag=SLOPES_NOISE)
  predicted = process.predict(observed, (grid, jnp.zeros(len(grid), int)))
  return predicted, process.log_probability(observed), process.covariance


# --8<-- [end:fit]


@jax.jit
def fit_values(kernel, x, values, grid):
  return tinygp.GaussianProcess(kernel, x, diag=SLOPES_NOISE).predict(values, grid)


def fits():
  """Of values and slopes at 14 points: predictions on a grid and their errors, and the smallest eigenvalues."""
  x = jnp.asarray(np.random.default_rng(3).uniform(-1.9, 1.9, (14, 2)), jnp.float32)
  axis = jnp.linspace(-2, 2, 31)
  grid = jnp.stack(jnp.meshgrid(axis, axis), -1).reshape(-1, 2)
  truth = jax.vmap(hills)(grid)
  values, slopes = jax.vmap(jax.value_and_grad(hills))(x)
  scale = jnp.full(2, 1.5)
  alone = fit_values(Matern52(scale), x, values, grid)
  predicted, likelihood, covariance = fit_slopes(Matern52(scale), x, values, slopes, grid)
  _, likelihood_own, covariance_own = fit_slopes(own_tinygp(scale), x, values, slopes, grid)
  found = {
    "root mean square error, values alone": rms(alone - truth),
    "root mean square error, values and slopes": rms(predicted - truth),
    "covariance with slopes, smallest eigenvalue, jax_edm": smallest(covariance),
    "covariance with slopes, smallest eigenvalue, tinygp's own kernel": smallest(covariance_own),
    "log likelihood with slopes, jax_edm": float(likelihood),
    "log likelihood with slopes, tinygp's own kernel": float(likelihood_own),
  }
  return found, (x, axis, truth, alone, predicted)


def rms(error):
  return float(jnp.sqrt(jnp.square(error).mean()))


def smallest(covariance):
  return float(np.linalg.eigvalsh(np.asarray(covariance, np.float64))[0])


KERNELS = {
  "tinygp's own": own_tinygp(jnp.ones(2)).evaluate,
  "GPJax's own": own_gpjax(1.0),
  "matern of jax_edm": Matern52(jnp.ones(2)).evaluate,
}


def errors(r):
  """Of the covariance of slopes, a 2 x 2 matrix, for points at distance r, relative to its entries at 0."""
  x, direction = jnp.asarray([0.3, 0.4], jnp.float32), np.asarray([0.8, 0.6])
  y = (np.asarray(x) + np.asarray(r)[:, None] * direction).astype(np.float32)
  apart = np.asarray(x, np.float64) - y.astype(np.float64)
  a = np.sqrt(5) * np.linalg.norm(apart, axis=1)[:, None, None]
  exact = 5 / 3 * np.exp(-a) * ((1 + a) * np.eye(2) - 5 * apart[:, :, None] * apart[:, None])
  found = {}
  for name, kernel in KERNELS.items():
    mixed = jax.jit(jax.vmap(jax.jacfwd(jax.grad(kernel), 1), (None, 0)))(x, y)
    found[name] = np.abs(np.asarray(mixed) - exact).max((1, 2)) / (5 / 3)
  return np.linalg.norm(apart, axis=1), found


def main(picture="gp_libraries.png"):
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*not of type float64")  # GPJax, about each Dataset of float32
    found = agreement()
  of_fit, fit = fits()
  r, of_kernels = errors([0.0, *np.geomspace(1e-6, 2, 120)])
  found |= of_fit
  found |= {f"covariance of slopes at one point, relative error, {k}": float(v[0]) for k, v in of_kernels.items()}
  for name, value in found.items():
    print(f"{name}: {value:.3g}")
  if picture:
    draw(picture, fit, r, of_kernels)
  return found


def draw(file, fit, r, of_kernels):
  """The function, two fits and the errors of the kernels."""
  from matplotlib.figure import Figure

  x, axis, truth, alone, predicted = map(np.asarray, fit)
  figure = Figure(figsize=(12, 3.3), layout="constrained")
  *maps, curves = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.25))
  titles = ("The function", "From 14 values", "From 14 values and slopes")
  for axes, title, f in zip(maps, titles, (truth, alone, predicted), strict=True):
    levels = np.linspace(-2, 2, 17)
    axes.contourf(axis, axis, f.reshape(len(axis), -1), levels, cmap="RdBu_r", extend="both")
    axes.contour(axis, axis, truth.reshape(len(axis), -1), levels[::2], colors="black", linewidths=0.5)
    axes.plot(*x.T, "ko", ms=4)
    axes.set(title=title, aspect="equal", xticks=[], yticks=[])
  for name, color in zip(of_kernels, ("tab:blue", "tab:orange", "black"), strict=True):
    curves.loglog(r[1:], of_kernels[name][1:], color=color, label=name, lw=1.2)
    curves.plot(1e-7, of_kernels[name][0], "o" if color != "tab:orange" else "x", color=color, zorder=3)
  curves.set(xlabel="distance of the points", title="Error of the covariance of slopes", ylim=(5e-9, 5))
  curves.set_xticks([1e-7, 1e-5, 1e-3, 1e-1], ["0", "1e-5", "1e-3", "0.1"])
  curves.legend(loc="upper right", fontsize=9)
  figure.savefig(file, dpi=110)
  print(f"wrote {file}")


def sides():
  rows = {}
  for n, d in ((2000, 3), (2000, 8)):
    scale, x, _ = data(n, d)
    v = jnp.asarray(np.random.default_rng(1).normal(size=(n, n)), jnp.float32)
    work = f"matrix and gradient, n={n:,}, d={d}"
    rows[f"tinygp, {work}"] = pair(weighted_tinygp, "tinygp", (scale, x, v))
    rows[f"GPJax, {work}"] = pair(weighted_gpjax, "GPJax", (scale, x, v))
  args = data(1000, 3)
  rows["tinygp, negative log likelihood and gradient, n=1,000, d=3"] = pair(loss_tinygp, "tinygp", args)
  rows["GPJax, negative log likelihood and gradient, n=1,000, d=3"] = pair(loss_gpjax, "GPJax", args)
  return rows


def weighted_tinygp(kernel, scale, x, v):
  """A weighted sum of the entries of the kernel matrix."""
  return jnp.vdot(v, kernel(scale)(x, x))


def weighted_gpjax(kernel, scale, x, v):
  return jnp.vdot(v, kernel(scale).gram(x).as_matrix())


def pair(loss, library, args):
  """Both sides of a row: value, and gradient in the scales and the inputs."""
  ours, own = {"tinygp": (ours_tinygp, own_tinygp), "GPJax": (ours_gpjax, own_gpjax)}[library]
  return {
    "jax_edm": partial(gradient(loss, ours), *args),
    f"{library}, its Matern52": partial(gradient(loss, own), *args),
  }


if __name__ == "__main__":
  main()
