"""Two processes train one set of points, with ``jax.distributed`` and a mesh over all their devices, and nothing else.

Each process starts with two CPU devices, and holds half of the points and of the distances that they shall have. Each
step streams the stress and its gradient over a mesh of four devices. The result is that of one process with one device.
On a cluster every process runs what is ``worker`` here. Run ``python examples/two_processes.py``.
"""

import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from jax_edm import pairwise_sum, safe_root

POINTS, STEPS, PROCESSES, DEVICES = 64, 60, 2, 2


def problem():
  """Where the points begin, and the distances that they shall have."""
  rng = np.random.default_rng(0)
  goal = rng.normal(size=(POINTS, 3))
  target = np.linalg.norm(goal[:, None] - goal[None], axis=-1)
  return (goal + 0.5 * rng.normal(size=goal.shape)).astype(np.float32), target.astype(np.float32)


def stress(x, target):
  """Each pair once; a device computes the rows of its own points."""
  return pairwise_sum(lambda D, t: (safe_root(D) - t) ** 2, x, args=(target,)).sum() / 2


@jax.jit
def step(x, target):
  value, gradient = jax.value_and_grad(stress)(x, target)
  return x - gradient / (2 * POINTS), value  # a Guttman transform


def train(place):
  """``place`` puts an array where it belongs."""
  x, target = map(place, problem())
  values = []
  for _ in range(STEPS):
    x, value = step(x, target)
    values.append(float(value))  # waits: no step begins before the last one has ended in both processes
  return x, np.array(values)


def worker(process, port, result):
  """What each process of a cluster runs."""
  jax.config.update("jax_num_cpu_devices", DEVICES)
  jax.distributed.initialize(f"127.0.0.1:{port}", PROCESSES, process)
  mesh = jax.make_mesh((jax.device_count(),), ("i",))
  rows = jax.NamedSharding(mesh, jax.P("i"))
  x, values = train(lambda a: jax.make_array_from_callback(a.shape, rows, lambda index: a[index]))
  x = jax.jit(lambda x: x, out_shardings=jax.NamedSharding(mesh, jax.P()))(x)
  if process == 0:
    np.savez(result, x=x, values=values, devices=jax.device_count())


def main():
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  with tempfile.TemporaryDirectory() as folder:
    result = Path(folder) / "result.npz"
    command = [sys.executable, __file__, str(port), str(result)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([*command, str(i)], **pipes) for i in range(PROCESSES)]
    try:
      errors = [process.communicate(timeout=120)[1] for process in started]
    finally:
      for process in started:
        process.kill()
    if any(process.returncode for process in started):
      raise SystemExit("\n".join(errors))
    together = dict(np.load(result))
  x, values = train(jax.numpy.asarray)
  print(f"{PROCESSES} processes, {together['devices']} devices: stress {values[0]:.2f} before, ", end="")
  print(f"{together['values'][-1]:.2e} after; in one process {values[-1]:.2e}")
  print(f"the points are the same to {np.abs(together['x'] - x).max():.1e}")
  return {"together": together, "x": np.asarray(x), "values": values}


if __name__ == "__main__":
  if len(sys.argv) == 1:
    main()
  else:
    worker(int(sys.argv[3]), sys.argv[1], sys.argv[2])
