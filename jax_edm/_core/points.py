"""Two sets of points, or some rows of one set and all of it: the data from which every matrix of pairs is made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_edm._core import derivatives, distance
from jax_edm._core.batching import map_batch
from jax_edm._core.distance import Form, Side


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, kw_only=True)
class PointSets:
  """Points of the rows and points of the columns, and which of them exist."""

  x: jax.Array  # (..., n, d), the points of the rows
  y: jax.Array  # (..., m, d), those of the columns; the same array where there is one set
  x_mask: jax.Array | None  # (..., n) booleans; None: all exist
  y_mask: jax.Array | None  # (..., m) booleans
  row_offset: jax.Array | None  # (...), the column index of the point in the first row; None: the rows are all points
  form: Form = field(metadata={"static": True})  # how entries and contractions are computed
  one_set: bool = field(metadata={"static": True})  # the points of the rows are among those of the columns
  sides: tuple[Side, Side] | None = None  # the two as ``distance`` takes them, once they are ``prepared``
  places: tuple[jax.Array, jax.Array] | None = None  # of both, among all points of one set: in tiles, out of order

  def roles(self) -> Any:
    """What the axes of each array are: ``n`` rows, ``m`` columns, ``d`` anything else; leading axes are a batch."""
    roles: Any = {"x": "nd", "y": "md", "x_mask": "n", "y_mask": "m", "row_offset": "", "sides": None, "places": None}
    return replace(self, **roles)

  def leaves(self) -> tuple[list[jax.Array], list[str]]:
    """The arrays that are there, and their roles."""
    roles = self.roles()
    pairs: list[tuple[Any, str]] = []
    for name in (f.name for f in fields(self) if not f.metadata.get("static")):
      array, role = getattr(self, name), getattr(roles, name)
      pairs += zip(array, role, strict=True) if isinstance(array, tuple) else [(array, role)]
    return [a for a, _ in pairs if a is not None], [role for a, role in pairs if a is not None]

  def with_leaves(self, arrays: Sequence[jax.Array], row_offset: jax.Array | None = None) -> Self:
    """The same with other arrays; of the rows from ``row_offset`` on, where that is given."""
    other = jax.tree.unflatten(jax.tree.structure(self), arrays)
    return other if row_offset is None else replace(other, row_offset=row_offset)

  def map_batch(self, function: Callable[[Self], Any], results: str) -> Any:
    """``function`` of each member of the batch; ``results`` are the axes of its results, as for ``jnp.vectorize``."""
    arrays, roles = self.leaves()
    return map_batch(lambda *own: function(self.with_leaves(own)), arrays, [*map(len, roles)], results)

  def without_infinite_points(self) -> Self:
    """In which points that are not finite do not exist."""

    def finite(x: jax.Array, mask: jax.Array | None) -> jax.Array:
      there = jnp.isfinite(x).all(-1)
      return there if mask is None else there & mask

    x_mask = finite(self.x, self.x_mask)
    return replace(self, x_mask=x_mask, y_mask=x_mask if self.all_rows else finite(self.y, self.y_mask))

  # Of one member of a batch:

  @property
  def all_rows(self) -> bool:
    """The rows are all points of one set."""
    return self.one_set and self.row_offset is None and self.places is None

  def with_finite_points(self) -> Self:
    """With finite points in the place of those that do not exist."""
    x = _replace_masked(self.x, self.x_mask)
    return replace(self, x=x, y=x if self.all_rows else _replace_masked(self.y, self.y_mask))

  def prepared(self) -> Self:
    """With finite points, and with what ``distance`` computes once for each point."""
    filled = self.with_finite_points()
    sides = distance.prepared(self.form, (filled.x,) if self.all_rows else (filled.x, filled.y))
    return replace(filled, sides=(sides[0], sides[-1]))

  def squared(self) -> jax.Array:
    """``(n, m)``, of points that are prepared."""
    assert self.sides is not None
    entries = derivatives.edm_of_sides(self.form, self.sides[:1] if self.all_rows else self.sides)
    if self.one_set and self.row_offset is not None:
      entries = jnp.where(self.on_diagonal(), 0, entries)
    return entries

  def on_diagonal(self) -> jax.Array:
    """Where the point of the row is the point of the column."""
    if self.places is not None:
      return self.places[0][:, None] == self.places[1][None, :]
    # Of two vectors: a loop would keep matrices of indices, and read them.
    i, j = (lax.iota(np.int32, a.shape[0]) for a in (self.x, self.y))
    return (i if self.row_offset is None else i + self.row_offset)[:, None] == j[None, :]

  def pair_mask(self) -> jax.Array | None:
    """The pairs of which both points exist; None: all."""
    row = None if self.x_mask is None else self.x_mask[:, None]
    column = None if self.y_mask is None else self.y_mask[None, :]
    return column if row is None else row if column is None else row & column


def _replace_masked(x: jax.Array, mask: jax.Array | None) -> jax.Array:
  """The first point that exists replaces those that do not: it is finite, and does not move the centre."""
  if mask is None or x.shape[0] == 0:
    return x
  first = lax.stop_gradient(x[jnp.argmax(mask)])[None, :]
  return jnp.where(mask[:, None], x, jnp.where(mask.any() & jnp.isfinite(first), first, 0))
