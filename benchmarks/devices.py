"""What points over many devices cost: ``python -m benchmarks.devices`` prints the tables of docs/devices.md.

One step is the value and the gradient of ``sum f(D)`` for one set of n points in d coordinates, in float32, on p
devices. ``tests/pairwise/test_device_traffic.py`` compares these formulas with the compiler's accounting, at sizes that
run there.
"""

from typing import NamedTuple

BLOCK = 2**20  # entries of a block


class Cost(NamedTuple):
  """Of one device and one step."""

  memory: float  # bytes, at most at one time
  moved: float  # bytes received
  flops: float  # of the distances and the contractions; f itself comes on top


def dense(n: float, d: int, p: int) -> Cost:
  """``edm`` of points sharded by rows: D and its cotangent are sharded by rows, too."""
  return Cost(2 * 4 * n * n / p, _gather(n, d, p) + _all_reduce(n, d, p), _flops(n, d, p))


def rows(n: float, d: int, p: int) -> Cost:
  """``pairwise_sum``: all points on each device, centred, with a column of ones, their keys, and their gradient."""
  return Cost(4 * min(BLOCK, n * n / p) + 20 * n * (d + 1), _gather(n, d, p) + _all_reduce(n, d, p), _flops(n, d, p))


def ring(n: float, d: int, p: int) -> Cost:
  """``pairwise_sum(..., axis_name=)``: the same of its share, and of the block that visits."""
  share = n / p
  moved = 4 * share * d * (3 * (p - 1) + (p > 1))  # the block forward, the block and its gradient backward, and home
  return Cost(4 * min(BLOCK, share**2) + (1 + (p > 1)) * 20 * share * (d + 1), moved, _flops(n, d, p))


def _gather(n: float, d: int, p: int) -> float:
  return 4 * n * d * (p - 1) / p


def _all_reduce(n: float, d: int, p: int) -> float:
  return 2 * 4 * n * d * (p - 1) / p


def _flops(n: float, d: int, p: int) -> float:
  """A distance by differences takes 3 d, forward and again backward, and the two contractions 2 (d + 1) each.

  To see which points coincide takes 2 d, or a few operations where d is large.
  """
  return n * n / p * (6 * d + 2 * min(d, 6) + 4 * (d + 1))


class Device(NamedTuple):
  """As its maker gives it: bytes of memory, float32 operations and bytes received from its neighbours in a second."""

  name: str
  memory: float
  flops: float
  link: float


def table(d: int) -> list[str]:
  """Memory, traffic and work of a device in one step."""
  head = ["n", "p", "memory: dense", "rows", "ring", "received: dense, rows", "ring", "operations"]
  lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
  for n in (1e4, 1e5, 1e6, 1e7, 1e8):
    for p in (1, 8, 64, 512, 4096):
      costs = [scheme(n, d, p) for scheme in (dense, rows, ring)]
      cells = [f"{n:.0e}".replace("e+0", "e"), str(p), *(amount(cost.memory) for cost in costs)]
      cells += [amount(costs[1].moved), amount(costs[2].moved), f"{costs[1].flops:.1e}".replace("e+", "e")]
      lines.append(f"| {' | '.join(cells)} |")
  return lines


def limits(device: Device, d: int) -> list[str]:
  """Up to how many points each scheme fits, and from how many on its traffic takes less time than its work."""
  most = {
    "dense": lambda p: (device.memory * p / 8) ** 0.5,
    "rows": lambda p: device.memory / (20 * (d + 1)),
    "ring": lambda p: p * device.memory / (20 * (1 + (p > 1)) * (d + 1)),
  }
  hidden = 12 * d / device.link / ((10 * d + 4) / device.flops)
  lines = [f"| {device.name}, d={d} | p=1 | 8 | 64 | 512 | 4096 |", "|" + "---|" * 6]
  for name, of in most.items():
    lines.append(f"| {name} fits up to n = | " + " | ".join(f"{of(p):.1e}" for p in (1, 8, 64, 512, 4096)) + " |")
  return [
    *lines,
    f"| work outweighs traffic from n = | {' | '.join(f'{hidden * p:.0f}' for p in (1, 8, 64, 512, 4096))} |",
  ]


def amount(count: float) -> str:
  units = ("B", "kB", "MB", "GB", "TB", "PB")
  power = next((k for k in range(len(units)) if count < 1000 ** (k + 1)), len(units) - 1)
  return f"{count / 1000**power:.3g} {units[power]}"


# H100: NVIDIA's data sheet; NVLink in one direction. TPU: Google's documentation; one link of six, in one direction,
# and six passes in bfloat16 for a product in float32.
H100 = Device("H100 SXM", 80e9, 67e12, 450e9)
V5P = Device("TPU v5p", 95e9, 459e12 / 6, 100e9)


def everything() -> list[str]:
  return [*table(64), "", *limits(H100, 64), "", *limits(V5P, 64)]


if __name__ == "__main__":
  print("\n".join(everything()))
