"""Procrustes: the rigid motion that brings one set of points onto another."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jax_edm import _errors
from jax_edm._core.batching import compiled
from jax_edm._core.derivatives import safe_root
from jax_edm._core.distance import dot
from jax_edm._core.operations import product
from jax_edm._mds import sylvester, units
from jax_edm._typing import ArrayLike


class Procrustes(NamedTuple):
  """The result of :func:`procrustes`: ``(..., n, d)``, ``(..., d, d)``, ``(..., d)``, ``(...)`` and ``(...)``."""

  aligned: jax.Array
  rotation: jax.Array
  translation: jax.Array
  scale: jax.Array
  rmsd: jax.Array


def procrustes(x: ArrayLike, y: ArrayLike, *, scale: bool = False, reflection: bool = True) -> Procrustes:
  r"""``x`` moved and turned onto ``y``: the rigid motion with the least sum of squared distances of matched points.

  .. math:: \min_{s, R, t} \sum_i \lVert s\, x_i R + t - y_i \rVert^2, \qquad R'R = I

  Shapes: ``n`` matched points; ``d`` coordinates; ``...`` leading batch axes, which broadcast.

  Args:
    x: the points to move, ``(..., n, d)``.
    y: the points to meet, ``(..., n, d)``.
    scale: whether x may also grow or shrink.
    reflection: whether x may be mirrored where that is better. Pass False for points with a handedness, such as
      molecules (Kabsch 1976): then the rotation is proper.

  Returns:
    ``Procrustes(aligned, rotation, translation, scale, rmsd)``, with ``aligned = scale * x @ rotation + translation``,
    and ``rmsd`` the root mean square distance between ``aligned`` and ``y``, in the unit of the points. The rotation is
    orthogonal for every x and y. Where several rotations are equally good (fewer points than coordinates, points on a
    line or in a plane), it is one of them, and a proper one if there is one among them. Of points near a line in space,
    thinner than about ``sqrt(eps)`` of its length, the turn about that line is rounding.

  Raises:
    ValueError: the shapes of x and y do not match, or there are no points.
    TypeError: as :func:`jax_edm.edm`.

  Derivatives: all modes, all orders; those of ``rmsd`` are zero where it is zero. They exist where the best motion is
  unique, except for rotations that leave both sets where they are: this includes singular values that repeat, fewer
  points than coordinates, and two sets that both lie in a plane or on a line. If only one of the sets does, they exist
  if it spans d - 1 dimensions and ``reflection=False``. Elsewhere several motions are equally good, there is no
  derivative, and the result is finite.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax_edm import procrustes
    >>> x = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> moved = x @ jnp.array([[0.0, 1.0], [-1.0, 0.0]]) + 5
    >>> found = procrustes(x, moved)
    >>> bool(jnp.allclose(found.aligned, moved, atol=1e-5)), found.translation.round(3)
    (True, Array([5., 5.], dtype=float32))
  """
  _errors.points("procrustes", "x", x)
  _errors.points("procrustes", "y", y)
  _errors.matched("procrustes", x, y)
  return Procrustes(*compiled(_procrustes, (x, y), "(n,d),(d,d),(d),(),()", bool(scale), bool(reflection)))


def _procrustes(x: jax.Array, y: jax.Array, scaled: bool, reflection: bool) -> tuple[jax.Array, ...]:
  (x, centre_x), (y, centre_y) = centred(x), centred(y)
  of_x, of_y = (units.power_of_two(jnp.abs(a).max()) for a in (x, y))
  either = units.positive(jnp.maximum(of_x, of_y))
  # With a scale, each set has a unit of its own, if its points do not coincide.
  of_x, of_y = (jnp.where(a == 0, either, a) if scaled else either for a in (of_x, of_y))
  x, y = x / of_x, y / of_y
  m = product(x, y, 0, 0)
  u, values, vt = jnp.linalg.svd(m)
  sign = _last_sign(*jax.lax.stop_gradient((x, y, u, values, vt)), scaled, reflection)
  u, values = u.at[:, -1].multiply(sign), values.at[-1].multiply(sign)
  rotation = sylvester.nearest_rotation(m, (u, values, vt.T))
  s = jnp.ones((), m.dtype)
  if scaled:
    size = (x * x).sum()
    s = jnp.where(size == 0, 1, jnp.maximum((rotation * m).sum(), 0) / jnp.where(size == 0, 1, size))
  moved = s * dot(x, rotation)
  rmsd = safe_root(((moved - y) ** 2).sum(1).mean()) * of_y
  s = s * (of_y / of_x)
  return moved * of_y + centre_y, rotation, centre_y - s * dot(centre_x, rotation), s, rmsd


def _last_sign(
  x: jax.Array, y: jax.Array, u: jax.Array, values: jax.Array, vt: jax.Array, scaled: bool, reflection: bool
) -> jax.Array:
  """Where the last axis of the singular vectors points: the other way where that makes the rotation proper and is asked
  for, or no worse.

  The last singular value is the square of the thickness of the sets: it may be rounding where the thickness is not. So
  the points themselves say which way is better.
  """
  one = jnp.ones((), u.dtype)
  mirrored = jnp.linalg.det(dot(u, vt)) < 0
  if not reflection:
    return jnp.where(mirrored, -one, one)
  free = values[-1] <= sylvester.rounding(values)

  def error(sign: jax.Array) -> jax.Array:
    turned = dot(x, dot(u.at[:, -1].multiply(sign), vt))
    s = (turned * y).sum() / jnp.maximum((turned * turned).sum(), float(jnp.finfo(x.dtype).tiny)) if scaled else one
    return jnp.sqrt(((s * turned - y) ** 2).sum())

  proper = jnp.where(mirrored, -one, one)
  rounding = 16 * float(jnp.finfo(x.dtype).eps) * jnp.sqrt((y * y).sum())
  return jnp.where(free, jnp.where(error(-proper) < error(proper) - rounding, -proper, proper), one)


def centred(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The points, centred, and their mean. Points that coincide become zero, however their mean is rounded.

  Twice: the mean of points far from the origin is rounded as they are, and that of what is left is not.
  """
  mean = jnp.where((x == x[0]).all(), x[0], x.mean(0))
  rest = (x - mean).mean(0)
  return x - mean - rest, mean + rest
