r"""The derivative of an EDM itself, as arrays: the question that this project started from, answered in code.

.. math:: \frac{\partial D_{ij}}{\partial x_{kl}} = 2\,(\delta_{ik} - \delta_{jk})\,(x_{il} - x_{jl})

``edm_jacobian`` is this tensor; ``edm_jvp`` and ``edm_vjp`` contract it with a tangent and with a cotangent, in closed
form, without ever making it. ``jax_edm._core.derivatives`` derives the two; ``docs/derivation.md`` says more.
"""

from typing import Any, overload

import jax
import jax.numpy as jnp

from jax_edm import _errors
from jax_edm._core import derivatives
from jax_edm._core.batching import compiled
from jax_edm._core.distance import Form
from jax_edm._core.edm import check, choose_form
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
  check("edm_jacobian", x, y)
  if y is None:
    return compiled(_of_one_set, (x,), "(p,q,r,s)")
  return compiled(_of_two_sets, (x, y), "(p,q,r,s),(p,q,t,s)")


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
  check("edm_jvp", x, y)
  _errors.same_shape("edm_jvp", "v", v, jnp.shape(x), "x")
  if (y is None) != (w is None):
    advice = "Pass both, or neither for one set"
    raise _errors.error("edm_jvp", "y and its tangent w go together", "one of them", advice)
  if y is not None:
    _errors.same_shape("edm_jvp", "w", w, jnp.shape(y), "y")
  z: Any
  z, tangents = ([x], [v]) if y is None else ([x, y], [v, w])
  return compiled(_jvp, (*z, *tangents), "(p,q)", _form(z), typed_by=len(z))


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
  batch = check("edm_vjp", x, y)
  z: Any = [x] if y is None else [x, y]
  _errors.same_shape("edm_vjp", "g", g, (*batch, jnp.shape(x)[-2], jnp.shape(z[-1])[-2]), "the matrix")
  return compiled(_vjp, (*z, g), "(p,q)" if y is None else "(p,q),(r,q)", _form(z), typed_by=len(z))


def _form(z: Any) -> Form:
  return choose_form(None, jnp.shape(z[0])[-2], jnp.shape(z[-1])[-2], jnp.shape(z[0])[-1])


# Of one member of a batch:


def _of_one_set(x: jax.Array) -> jax.Array:
  of_x, of_y = _of_two_sets(x, x)
  return jnp.where(jnp.eye(x.shape[0], dtype=bool)[:, :, None, None], 0, of_x + of_y)


def _of_two_sets(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
  difference = 2 * (x[:, None] - y[None])[:, :, None, :]  # 2 (x_il - y_jl)
  # Selected, not multiplied by 0: a point that is not finite stays in its own rows.
  of_x = jnp.where(jnp.eye(x.shape[0], dtype=bool)[:, None, :, None], difference, 0)
  of_y = jnp.where(jnp.eye(y.shape[0], dtype=bool)[None, :, :, None], -difference, 0)
  return of_x, of_y


def _jvp(*points_tangents_form: Any) -> jax.Array:
  *arrays, form = points_tangents_form
  half = len(arrays) // 2
  return jax.jvp(lambda *z: derivatives.edm(form, z), arrays[:half], arrays[half:])[1]


def _vjp(*points_cotangent_form: Any) -> Any:
  *z, g, form = points_cotangent_form
  cotangents = jax.vjp(lambda *z: derivatives.edm(form, z), *z)[1](g)
  return cotangents[0] if len(z) == 1 else cotangents
