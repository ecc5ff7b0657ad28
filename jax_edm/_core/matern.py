r"""The Matern kernel, as a function of squared distances.

With :math:`u = \sqrt{2 \nu D}`, :math:`\nu = p + 1/2` and

.. math:: M_p(u) = \frac{2^{1-\nu}}{\Gamma(\nu)} u^\nu K_\nu(u)
    = \frac{p!}{(2p)!} \sum_{i=0}^p \frac{(p+i)!}{i!\,(p-i)!} (2u)^{p-i} e^{-u}

the derivative is a function of the same family, since that of ``u^nu K_nu(u)`` is ``-u^nu K_{nu-1}(u)``:

.. math:: \frac{d M_p}{dD} = -\frac{\nu}{2 (\nu - 1)} M_{p-1}, \qquad \frac{d M_p}{dt} = -\frac{M_{p-1}}{2 (2p - 1)},
    \quad t = u^2 \qquad (p \ge 1).

No step divides by a distance. So nothing cancels, and nothing is singular, up to the order at which the kernel itself
is: ``M_0 = exp(-u)`` has a cusp, and there the convention of ``distances`` holds, zero.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jax_edm import _errors
from jax_edm._core.batching import dtypes, with_all_digits
from jax_edm._core.derivatives import safe_root
from jax_edm._typing import ArrayLike

# Of u^0, u^1, ..., by p.
POLYNOMIALS = ((1.0,), (1.0, 1.0), (1.0, 1.0, 1 / 3), (1.0, 1.0, 2 / 5, 1 / 15))
ORDERS = {p + 0.5: p for p in range(len(POLYNOMIALS))}
LARGEST = 1e3  # exp(-1000) is zero in every dtype, and a power of it is finite


def matern(D: ArrayLike, nu: float) -> jax.Array:
  r"""The Matern kernel of squared distances, with the right derivatives where two points coincide.

  .. math:: k(r) = \frac{2^{1-\nu}}{\Gamma(\nu)} u^\nu K_\nu(u), \quad u = \sqrt{2 \nu}\, r, \quad r = \sqrt D

  (Rasmussen and Williams, Gaussian Processes for Machine Learning, equation 4.14). With any root that is safe at zero
  the first derivative of the kernel of 5/2 with respect to D is 5/3 there, in place of -5/6, and a Hessian with respect
  to points has the wrong sign; here they are right.

  Args:
    D: squared distances of points that are divided by the length scale, any shape: ``edm(x / scale)``.
    nu: the smoothness, a Python number: 0.5, 1.5, 2.5 or 3.5. The kernel has 2 nu - 1 derivatives at zero, with
      respect to the points.

  Returns:
    The same shape; 1 at zero and 0 at infinity. Integers become the default floating type.

  Raises:
    ValueError: another nu. TypeError: D does not hold real numbers.

  Derivatives: all modes, all orders. Where the kernel has none, at zero, they are zero, as those of
  :func:`jax_edm.distances`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jax_edm import edm, matern
    >>> x = jnp.array([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    >>> [f"{k:.3f}" for k in matern(edm(x / 10), 2.5)[0]]
    ['1.000', '1.000', '0.829']
    >>> float(jax.grad(lambda D: matern(D, 2.5))(0.0)) + 5 / 6 < 1e-6
    True
  """
  _errors.numbers_of_pairs("matern", "D", D)
  if not isinstance(nu, (float, np.floating)) or float(nu) not in ORDERS:
    raise _errors.error("matern", "nu must be 0.5, 1.5, 2.5 or 3.5", repr(nu), "Pass one of these Python numbers")
  nu, (result, compute) = float(nu), dtypes(D)
  return _normalised(2 * nu * jnp.asarray(with_all_digits(D)).astype(compute), ORDERS[nu]).astype(result)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _normalised(t: jax.Array, p: int) -> jax.Array:
  """``M_p`` of ``t = u^2``."""
  u = jnp.minimum(jnp.sqrt(t), LARGEST)  # nobody differentiates it
  polynomial = jnp.full_like(u, POLYNOMIALS[p][-1])
  for coefficient in POLYNOMIALS[p][-2::-1]:
    polynomial = polynomial * u + coefficient
  return polynomial * jnp.exp(-u)


@_normalised.defjvp
def _derivative(p: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
  (t,), (dt,) = primals, tangents
  if p == 0:
    return jax.jvp(lambda t: jnp.exp(-safe_root(t)), (t,), (dt,))
  return _normalised(t, p), -dt * _normalised(t, p - 1) / (2 * (2 * p - 1))
