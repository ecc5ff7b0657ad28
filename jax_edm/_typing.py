"""Words that several modules share."""

from typing import Literal

from jax.typing import ArrayLike

Method = Literal["difference", "gram"] | None
Implementation = Literal["xla", "pallas"]
AxisName = str | tuple[str, ...]

__all__ = ["ArrayLike", "AxisName", "Implementation", "Method"]
