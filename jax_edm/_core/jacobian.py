r"""The derivative of an EDM itself, as arrays: the question that this project started from, answered in code.

.. math:: \frac{\partial D_{ij}}{\partial x_{kl}} = 2\,(\delta_{ik} - \delta_{jk})\,(x_{il} - x_{jl})

``edm_jacobian`` is this tensor; ``edm_jvp`` and ``edm_vjp`` contract it with a tangent and with a cotangent, in closed
form, without ever making it. ``jax_edm._core.derivatives`` derives the two; ``docs/derivation.md`` says more.
"""

from collections.abc import Callable
from typing import Any, overload

import jax
import jax.numpy as jnp

from jax_edm import _errors
from jax_edm._core import derivatives
from jax_edm._core.distance import Points
from jax_edm._core.edm import choose_form, dtypes
from jax_edm._typing import ArrayLike


@overload
def edm_jacobian(x: ArrayLike, y: None = None) -> jax.Array: ...
@overload
def edm_jacobian(x: ArrayLike, y: ArrayLike) -> tuple[jax.Array, jax.Array]: ...
def edm_jacobian(x: ArrayLike, y: ArrayLike | None = None) -> jax.Array | tuple[jax.Array, jax.Array]:
  r"""The dense derivative of ``edm(x)``, or of ``edm(x, y)``.

  .. math:: J_{ijkl} = \partial D_{ij} / \partial x_{kl} = 2\,(\delta_{ik} - \delta_{jk})\,(x_{il} - x_{jl})

  Shapes: ``n``, ``m`` points; ``d`` coordinates; ``...`` leading batch axes.

  Args:
    x: points, ``(..., n, d)``.
    y: points, ``(..., m, d)``, or ``None`` for one set.

  Returns:
    ``(..., n, n, n, d)``; for two sets the pair of ``(..., n, m, n, d)``, the derivative with respect to ``x``, and
    ``(..., n, m, m, d)``, with respect to ``y``. It is dense and nearly all zeros: for looking at and for tests. A
    program wants :func:`edm_jvp`, :func:`edm_vjp`, or ``jax.grad`` of a function of ``edm``.

  Raises:
    ValueError, TypeError: as :func:`jax_edm.edm`.

  Derivatives: all modes, by JAX itself; it is linear in the points. Rows of coincident points are zero.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import edm_jacobian
    >>> edm_jacobian(jnp.array([[0.0, 0.0], [3.0, 4.0]]))[0, 1]
    Array([[-6., -8.],
           [ 6.,  8.]], dtype=float32)
  """
  _errors.points("edm_jacobian", "x", x)
  if y is not None:
    _errors.points("edm_jacobian", "y", y)
    _errors.pair("edm_jacobian", x, y)
  return _jacobian(x, y)


def edm_jvp(x: ArrayLike, v: ArrayLike, y: ArrayLike | None = None, w: ArrayLike | None = None) -> jax.Array:
  r"""How ``edm(x)`` moves when ``x`` moves by ``v``; of ``edm(x, y)`` when ``y`` moves by ``w`` as well.

  .. math:: dD_{ij} = 2\,\langle x_i - y_j,\; v_i - w_j \rangle

  Shapes: ``n``, ``m`` points; ``d`` coordinates; ``...`` leading batch axes.

  Args:
    x: points, ``(..., n, d)``.
    v: tangent of ``x``, of its shape.
    y: points, ``(..., m, d)``, or ``None`` for one set.
    w: tangent of ``y``, of its shape; required with ``y``.

  Returns:
    ``(..., n, m)``, equal to ``jax.jvp(edm, (x, y), (v, w))[1]``; zero where points coincide.

  Raises:
    ValueError, TypeError: as :func:`jax_edm.edm`; a tangent that is not of the shape of its points.

  Derivatives: all modes, all orders.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import edm_jvp
    >>> x = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    >>> edm_jvp(x, jnp.array([[1.0, 0.0], [0.0, 0.0]]))[0, 1]
    Array(-6., dtype=float32)
  """
  _errors.points("edm_jvp", "x", x)
  _errors.same_shape("edm_jvp", "v", v, jnp.shape(x), "x")
  if (y is None) != (w is None):
    raise _errors.error(
      "edm_jvp", "y and its tangent w go together", "one of them", "Pass both, or neither for one set"
    )
  if y is not None:
    _errors.points("edm_jvp", "y", y)
    _errors.pair("edm_jvp", x, y)
    _errors.same_shape("edm_jvp", "w", w, jnp.shape(y), "y")
  return _jvp((x,) if y is None else (x, y), (v,) if w is None else (v, w))


@overload
def edm_vjp(x: ArrayLike, g: ArrayLike, y: None = None) -> jax.Array: ...
@overload
def edm_vjp(x: ArrayLike, g: ArrayLike, y: ArrayLike) -> tuple[jax.Array, jax.Array]: ...
def edm_vjp(x: ArrayLike, g: ArrayLike, y: ArrayLike | None = None) -> jax.Array | tuple[jax.Array, jax.Array]:
  r"""The gradient with respect to ``x`` of ``<g, edm(x)>``: what reverse mode runs.

  .. math:: \bar X = 2\,(\operatorname{diag}(G1 + G'1) - G - G')\,X

  and for two sets :math:`\bar X = 2\,(\operatorname{diag}(G1)X - GY)`,
  :math:`\bar Y = 2\,(\operatorname{diag}(G'1)Y - G'X)`.

  Shapes: ``n``, ``m`` points; ``d`` coordinates; ``...`` leading batch axes.

  Args:
    x: points, ``(..., n, d)``.
    g: cotangent of ``edm(x)``, ``(..., n, n)``, or of ``edm(x, y)``, ``(..., n, m)``.
    y: points, ``(..., m, d)``, or ``None`` for one set.

  Returns:
    ``(..., n, d)``, equal to ``jax.vjp(edm, x)[1](g)[0]``; for two sets a pair, ``(..., n, d)`` and ``(..., m, d)``.
    One for each matrix: not summed over leading axes along which ``x`` or ``y`` was broadcast.
    Its columns sum to zero, and the diagonal of ``g`` does not matter (one set). Coincident points contribute nothing.

  Raises:
    ValueError, TypeError: as :func:`jax_edm.edm`; a cotangent that is not of the shape of the matrix.

  Derivatives: all modes, all orders.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import edm_vjp
    >>> x = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    >>> edm_vjp(x, jnp.array([[0.0, 1.0], [0.0, 0.0]]))
    Array([[-6., -8.],
           [ 6.,  8.]], dtype=float32)
  """
  _errors.points("edm_vjp", "x", x)
  if y is not None:
    _errors.points("edm_vjp", "y", y)
    _errors.pair("edm_vjp", x, y)
  (*of_x, n, _), (*of_y, m, _) = jnp.shape(x), jnp.shape(x if y is None else y)
  _errors.same_shape("edm_vjp", "g", g, (*jnp.broadcast_shapes(tuple(of_x), tuple(of_y)), n, m), "the matrix")
  return _vjp(g, (x,) if y is None else (x, y))


@jax.jit
def _jacobian(x: Any, y: Any) -> Any:
  def of_one_set(x: jax.Array) -> jax.Array:
    of_x, of_y = of_two_sets(x, x)
    return jnp.where(jnp.eye(x.shape[0], dtype=bool)[:, :, None, None], 0, of_x + of_y)

  def of_two_sets(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    difference = 2 * (x[:, None] - y[None])[:, :, None, :]  # 2 (x_il - y_jl)
    # Selected, not multiplied by 0: a point that is not finite stays in its own rows.
    of_x = jnp.where(jnp.eye(x.shape[0], dtype=bool)[:, None, :, None], difference, 0)
    of_y = jnp.where(jnp.eye(y.shape[0], dtype=bool)[None, :, :, None], -difference, 0)
    return of_x, of_y

  if y is None:
    return _of_each(of_one_set, "(n,d)->(n,n,n,d)", (x,), x)
  return _of_each(of_two_sets, "(n,d),(m,d)->(n,m,n,d),(n,m,m,d)", (x, y), x, y)


@jax.jit
def _jvp(z: tuple[Any, ...], w: tuple[Any, ...]) -> Any:
  form = choose_form(None, z[0].shape[-2], z[-1].shape[-2], z[0].shape[-1])

  def of_one(*points_and_tangents: jax.Array) -> jax.Array:
    half = len(points_and_tangents) // 2
    return jax.jvp(lambda *z: derivatives.edm(form, z), points_and_tangents[:half], points_and_tangents[half:])[1]

  signature = "(n,d),(n,d)->(n,n)" if len(z) == 1 else "(n,d),(m,d),(n,d),(m,d)->(n,m)"
  return _of_each(of_one, signature, z, *z, *w)


@jax.jit
def _vjp(g: Any, z: tuple[Any, ...]) -> Any:
  form = choose_form(None, z[0].shape[-2], z[-1].shape[-2], z[0].shape[-1])

  def of_one(g: jax.Array, *z: jax.Array) -> jax.Array | Points:
    bars = jax.vjp(lambda *z: derivatives.edm(form, z), *z)[1](g)
    return bars[0] if len(z) == 1 else bars

  signature = "(n,n),(n,d)->(n,d)" if len(z) == 1 else "(n,m),(n,d),(m,d)->(n,d),(m,d)"
  return _of_each(of_one, signature, z, g, *z)


def _of_each(function: Callable[..., Any], signature: str, z: Points, *arrays: jax.Array) -> Any:
  """``function`` of each member of the batch, computed and returned in the dtypes that go with the points ``z``."""
  result, compute = dtypes(*z)
  return jax.tree.map(
    lambda a: a.astype(result), jnp.vectorize(function, signature=signature)(*(a.astype(compute) for a in arrays))
  )
