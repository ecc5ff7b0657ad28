"""A Gaussian process on 20,000 points whose kernel matrix is never formed, with lineax and optax.

The kernel times a vector is one ``jax_edm.pairwise_sum``; ``lineax.CG`` solves with it, and the prediction at new
points is another such sum. The length scale is learned first, on a part of the points, from the error on held-out
ones: the gradient goes through the solution. Needs lineax, optax and scikit-learn, and matplotlib for the picture; run
``python examples/gallery/gaussian_process.py``.
"""

import functools

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optax
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from jax_edm import pairwise_sum

POINTS, LEARNED_FROM, HELD_OUT = 20_000, 2_000, 1_000
NOISE = 0.2  # of the values, a standard deviation that is known
VARIANCE = NOISE**2
LANDMARKS, JITTER = 300, 1e-4
TOLERANCE = 2e-3


# --8<-- [start:product]
def kernel(squared, length):
  return jnp.exp(-squared / (2 * length**2))


def product(length, x, y, v):
  """The kernel between ``x`` and ``y``, or of ``x`` for ``y=None``, times the vector ``v``."""
  return pairwise_sum(lambda squared: kernel(squared, length), x, y, values=v)


# --8<-- [end:product]


# --8<-- [start:matrix]
def matrix(length, x, y):
  return kernel(jnp.square(x[:, None] - y[None]).sum(-1), length)


def plain_product(length, x, y, v):
  return matrix(length, x, x if y is None else y) @ v


# --8<-- [end:matrix]


# --8<-- [start:solve]
def solve(times, length, x, y):
  """``(K + VARIANCE I)^-1 y``, and the number of steps; ``times(v)`` is ``K v``."""
  # Divided by the variance, all eigenvalues are at least 1: CG of lineax takes smaller ones for zero if n is large.
  operator = symmetric(lambda v: times(v) / VARIANCE + v, y)
  near_inverse = nystrom(*jax.lax.stop_gradient((length, x)))
  solver = lx.CG(rtol=1e-3, atol=1e-3, max_steps=300)
  solution = lx.linear_solve(operator, y, solver, options={"preconditioner": symmetric(near_inverse, y)})
  return solution.value / VARIANCE, solution.stats["num_steps"]


def symmetric(function, y):
  return lx.FunctionLinearOperator(function, jax.eval_shape(lambda: y), lx.positive_semidefinite_tag)


def nystrom(length, x):
  """The inverse of ``K / VARIANCE + I`` with an approximation of K from a few points, the first ones."""
  some = x[:LANDMARKS]
  root = jnp.linalg.cholesky(matrix(length, some, some) + JITTER * jnp.eye(len(some)))
  half = jax.scipy.linalg.solve_triangular(root, matrix(length, some, x), lower=True) / NOISE
  inner = jax.scipy.linalg.cho_factor(half @ half.T + jnp.eye(len(some)))
  return lambda v: v - half.T @ jax.scipy.linalg.cho_solve(inner, half @ v)


# --8<-- [end:solve]


# --8<-- [start:predict]
def predict(log_length, train, x):
  """The mean of the process at ``x``, given the points and values ``train``; and the steps that it took."""
  length = jnp.exp(log_length)
  points, values = train
  weights, steps = solve(lambda v: product(length, points, None, v), length, points, values)
  return product(length, x, points, weights), steps


# --8<-- [end:predict]


def predict_kept(log_length, train, x):
  """The same by the same solver, with a matrix that is made once and kept."""
  length = jnp.exp(log_length)
  points, values = train
  kept = matrix(length, points, points)
  weights, steps = solve(lambda v: kept @ v, length, points, values)
  return plain_product(length, x, points, weights), steps


# --8<-- [start:cholesky]
def predict_cholesky(log_length, train, x):
  length = jnp.exp(log_length)
  points, values = train
  factor = jax.scipy.linalg.cho_factor(matrix(length, points, points) + VARIANCE * jnp.eye(len(points)))
  return matrix(length, x, points) @ jax.scipy.linalg.cho_solve(factor, values), 0


# --8<-- [end:cholesky]


# --8<-- [start:learn]
def held_out_error(predict, log_length, train, held_out):
  x, y = held_out
  # No mean: the absolute tolerance of the solver holds for the gradient too, which must not be small.
  return jnp.square(predict(log_length, train, x)[0] - y).sum()


def learn(train, held_out, steps=15):
  """The logarithm of the length scale that predicts held-out points best, and the errors on the way."""
  optimizer = optax.adam(optax.cosine_decay_schedule(0.15, steps), b1=0.7)

  @jax.jit
  def step(log_length, state):
    loss = functools.partial(held_out_error, predict)
    error, gradient = jax.value_and_grad(loss)(log_length, train, held_out)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(log_length, updates), state, error

  log_length = jnp.log(1.0)
  state, errors = optimizer.init(log_length), []
  for _ in range(steps):
    log_length, state, error = step(log_length, state)
    errors.append((float(error) / len(held_out[1])) ** 0.5)
  return log_length, errors


# --8<-- [end:learn]


def truth(x):
  return jnp.sin(4 * x[:, 0] + 2 * x[:, 1] ** 2) * jnp.cos(3 * x[:, 1]) + 0.5 * x[:, 2]


def data(count, seed=0):
  rng = np.random.default_rng(seed)
  x = jnp.asarray(rng.uniform(-1, 1, (count, 3)), jnp.float32)
  return x, truth(x) + jnp.asarray(NOISE * rng.normal(size=count), jnp.float32)


def part(train, count):
  return jax.tree.map(lambda a: a[:count], train)


def exact(log_length, train, x):
  """The prediction of scikit-learn, by a Cholesky factor in float64."""
  process = GaussianProcessRegressor(RBF(float(jnp.exp(log_length))), alpha=VARIANCE, optimizer=None)
  return process.fit(*jax.tree.map(lambda a: np.asarray(a, np.float64), train)).predict(np.asarray(x, np.float64))


def plane(side=100):
  """Points of the plane in which the third coordinate is zero."""
  line = jnp.linspace(-1, 1, side)
  first, second = (a.ravel() for a in jnp.meshgrid(line, line))
  return jnp.stack([first, second, jnp.zeros_like(first)], 1)


def main(picture="gaussian_process.png"):
  train, held_out, x = data(POINTS), data(HELD_OUT, seed=1), plane()
  log_length, errors = learn(part(train, LEARNED_FROM), held_out)
  few, _ = jax.jit(predict)(log_length, part(train, LEARNED_FROM), x)
  compiled = jax.jit(predict).lower(log_length, train, x).compile()
  mean, steps = compiled(log_length, train, x)
  kept = jax.jit(predict_kept).lower(log_length, train, x).compile()
  wrong = {
    count: float(jnp.sqrt(jnp.square(z - truth(x)).mean())) for count, z in ((LEARNED_FROM, few), (POINTS, mean))
  }
  found = {
    "length scale": float(jnp.exp(log_length)),
    "error on held-out points before": errors[0],
    "error on held-out points after": errors[-1],
    "largest difference from scikit-learn, 2,000 points": float(
      np.abs(np.asarray(few)[::10] - exact(log_length, part(train, LEARNED_FROM), x[::10])).max()
    ),
    "steps of CG, 20,000 points": int(steps),
    "error of the mean from 2,000 points": wrong[LEARNED_FROM],
    "error of the mean from 20,000 points": wrong[POINTS],
    "memory of a prediction from 20,000 points, streamed, MiB": compiled.memory_analysis().temp_size_in_bytes / 2**20,
    "memory of a prediction from 20,000 points, matrix kept, MiB": kept.memory_analysis().temp_size_in_bytes / 2**20,
  }
  for name, value in found.items():
    print(f"{name}: {value:,.3g}")
  if picture:
    draw(picture, x, mean, errors)
  return found


def sides():
  log_length = jnp.log(0.4)
  train, held_out = data(POINTS), data(HELD_OUT, seed=1)
  ways = {"jax_edm": predict, "jax.numpy, matrix kept": predict_kept, "jax.numpy, Cholesky": predict_cholesky}
  rows = {"kernel times a vector, n=20,000": {}, "solve and predict, n=8,000": {}}
  rows |= {f"held-out error, value and gradient, n={count:,}": {} for count in (4000, 8000)}
  multiply, predicted, learned, learned_large = rows.values()
  for name, times in {"jax_edm": product, "jax.numpy, matrix made anew": plain_product}.items():
    multiply[name] = functools.partial(jax.jit(times), jnp.asarray(0.4), train[0], None, train[1])
  for name, way in ways.items():
    mean = jax.jit(lambda *arguments, way=way: way(*arguments)[0])
    predicted[name] = functools.partial(mean, log_length, part(train, 8000), held_out[0])
    error = jax.jit(jax.value_and_grad(functools.partial(held_out_error, way)))
    learned[name] = functools.partial(error, log_length, part(train, 4000), held_out)
    if way is not predict_cholesky:  # the derivative of its factor takes too long
      learned_large[name] = functools.partial(error, log_length, part(train, 8000), held_out)
  return rows


def draw(file, x, mean, errors):
  """The mean in a plane, its difference from the truth, and the errors while learning."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(13, 3.9), layout="constrained")
  left, middle, right = figure.subplots(1, 3)
  side = round(len(x) ** 0.5)
  for axes, title, z, limit in (
    (left, "Mean from 20,000 values, in a plane", mean, 1.0),
    (middle, "Difference from the true function", mean - truth(x), 0.1),
  ):
    image = axes.imshow(np.asarray(z).reshape(side, side), extent=(-1, 1, -1, 1), origin="lower", cmap="RdBu_r")
    image.set_clim(-limit, limit)
    axes.set(title=title, xlabel="first coordinate", ylabel="second coordinate")
    figure.colorbar(image, ax=axes, extend="both")
  right.plot(np.arange(len(errors)), errors, "o-", markersize=3)
  right.axhline(NOISE, color="0.5", linestyle="--", label="noise of the data")
  right.set(xlabel="step", title="Error on held-out points")
  right.legend()
  figure.savefig(file, dpi=110)
  print(f"wrote {file}")


if __name__ == "__main__":
  main()
