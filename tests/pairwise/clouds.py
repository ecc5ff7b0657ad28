"""The clouds of points that are hardest to divide into tiles."""

import numpy as np


def clouds(d, n):
  """The adversaries: name -> points, (n, d), float32."""
  rng = np.random.default_rng(0)
  uniform, normal = rng.uniform(size=(n, d)), rng.normal(size=(n, d))
  angle = np.linspace(0, 6, n)[:, None] * np.arange(1, d + 1)
  clusters = 1e3 * rng.normal(size=(10, d))[np.arange(n) % 10] + 0.1 * normal
  outlier = uniform.copy()
  outlier[7] = 1e6
  side = int(np.ceil(n ** (1 / d)))
  lattice = np.stack(np.unravel_index(np.arange(n), (side,) * d), 1).astype(float)
  return {
    "uniform": uniform,
    "a surface": normal / np.linalg.norm(normal, axis=1, keepdims=True),
    "a curve": np.cos(angle),
    "tight clusters": clusters,
    "all equal": np.full((n, d), 0.3),
    "half duplicated": uniform[np.arange(n) // 2],
    "an outlier": outlier,
    "a lattice": lattice,
    "two that do not overlap": np.concatenate([uniform[: n // 2], uniform[n // 2 :] + 5]),
  }
