"""Functions of the distance, and their derivatives with respect to points to any number of digits, by mpmath."""

import jax.numpy as jnp
import mpmath
import numpy as np
from jax.scipy.special import xlogy

DIGITS = 120  # the derivatives of mpmath are quotients of differences
NEAR_ZERO = mpmath.mpf(10) ** -80  # a squared distance; what has a limit at zero has nearly reached it
ORDERS = range(4)
RADII = (0, 1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.2, 0.3, 0.5, 0.75, 1.25, 2, 5, 10, 100, 1000)
DIRECTION = np.array([0.6, -0.48, 0.64])
CUSP = None  # of an even function


def matern(p, lib, r):
  """The closed form for nu = p + 1/2, with ``lib.sqrt`` and ``lib.exp``."""
  u = lib.sqrt(lib.mpf(2 * p + 1)) * r if lib is mpmath else (2 * p + 1) ** 0.5 * r
  polynomial = (1, 1 + u, 1 + u + u * u / 3, 1 + u + 2 * u * u / 5 + u**3 / 15)[p]
  return polynomial * lib.exp(-u)


# As users write them with jax.numpy, the same with mpmath, and the order in points of the first derivative that does
# not exist at zero.
FUNCTIONS = {
  "Gauss": (lambda r: jnp.exp(-r * r), lambda r: mpmath.exp(-r * r), 9),
  "cosine": (jnp.cos, mpmath.cos, 9),
  "soft core": (lambda r: 1 / (1 + r**6), lambda r: 1 / (1 + r**6), 9),
  # Not jnp.sinc, whose second derivative is wrong by a third at r = 1e-3.
  "sinc": (lambda r: mean_of_cosines(r), lambda r: mpmath.sin(r) / r, 9),
  "Matern 1/2": (lambda r: matern(0, jnp, r), lambda r: matern(0, mpmath, r), 1),
  "Matern 3/2": (lambda r: matern(1, jnp, r), lambda r: matern(1, mpmath, r), 3),
  "Matern 5/2": (lambda r: matern(2, jnp, r), lambda r: matern(2, mpmath, r), 5),
  "Matern 7/2": (lambda r: matern(3, jnp, r), lambda r: matern(3, mpmath, r), 7),
  "Wendland": (lambda r: jnp.maximum(1 - r, 0) ** 4 * (4 * r + 1), lambda r: max(1 - r, 0) ** 4 * (4 * r + 1), 3),
  "Morse": (lambda r: (1 - jnp.exp(1 - r)) ** 2, lambda r: (1 - mpmath.exp(1 - r)) ** 2, 1),
  "identity": (lambda r: r, lambda r: r, 1),
  "cubic": (lambda r: r**3, lambda r: r**3, 3),
  # Whose derivatives at zero are zero where others tell the length on which f changes.
  "sine of the square": (lambda r: jnp.sin(r * r), lambda r: mpmath.sin(r * r), 9),
  "spring": (lambda r: r * r, lambda r: r * r, 9),
  "Epanechnikov": (lambda r: jnp.maximum(1 - r * r, 0), lambda r: max(1 - r * r, 0), 9),
  "Huber": (lambda r: jnp.where(r < 1, r * r / 2, r - 0.5), lambda r: r * r / 2 if r < 1 else r - mpmath.mpf(1) / 2, 9),
  "quintic": (lambda r: 1 + r * r + r**5, lambda r: 1 + r * r + r**5, 5),
  "thin plate": (lambda r: xlogy(r * r, r), lambda r: r * r * mpmath.log(r), 2),
}


# The quadrature has no more nodes, and the third derivative that JAX takes of 1 / (1 + r^6) overflows in float32.
LARGEST = {"sinc": 10, "soft core": 10}

POINTS, WEIGHTS = (np.polynomial.legendre.leggauss(20)[k] / 2 + (0.5, 0.0)[k] for k in (0, 1))


def mean_of_cosines(r):
  """``sin(r) / r``, the integral of ``cos(p r)`` over p from 0 to 1, for r up to 20."""
  return (WEIGHTS.astype(r.dtype) * jnp.cos(POINTS.astype(r.dtype) * r)).sum()


def derivatives(f, x):
  """The derivatives of ``f(|x|)`` up to the third, their terms, and the derivatives with respect to ``|x|^2``.

  The terms are the largest ones of which each derivative consists, and what a rounding of ``|x|^2`` multiplies.
  """
  with mpmath.workdps(DIGITS):
    x = [mpmath.mpf(float(v)) for v in x]
    D = sum(v * v for v in x) or NEAR_ZERO
    g = [c * mpmath.factorial(k) for k, c in enumerate(mpmath.taylor(lambda D: f(mpmath.sqrt(D)), D, 4))]
    one, axes = [[mpmath.mpf(i == j) for j in range(3)] for i in range(3)], range(3)
    exact = [
      [g[0]],
      [2 * g[1] * x[i] for i in axes],
      [4 * g[2] * x[i] * x[j] + 2 * g[1] * one[i][j] for i in axes for j in axes],
      [
        8 * g[3] * x[i] * x[j] * x[k] + 4 * g[2] * (x[i] * one[j][k] + x[j] * one[i][k] + x[k] * one[i][j])
        for i in axes for j in axes for k in axes
      ],
    ]  # fmt: skip
    r = mpmath.sqrt(D)
    size = [abs(value) for value in g[:4]] + [abs(g[4])]
    moved = [D * value for value in size[1:]]
    terms = [
      [size[0], moved[0]],
      [2 * size[1] * r, 2 * moved[1] * r],
      [4 * size[2] * D, 2 * size[1], 4 * moved[2] * D, 2 * moved[1]],
      [8 * size[3] * r**3, 12 * size[2] * r, 8 * moved[3] * r**3, 12 * moved[2] * r],
    ]
    return [[float(v) for v in e] for e in exact], [float(max(t)) for t in terms], [float(v) for v in size]
