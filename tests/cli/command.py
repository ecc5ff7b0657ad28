"""What the tests of the command line share."""

import numpy as np

import oracle
from jax_edm._cli import main as command_line


def run(*arguments):
  """The exit code, of argparse too."""
  try:
    return command_line.main([str(a) for a in arguments])
  except SystemExit as end:
    return end.code


def refused(capsys, *arguments):
  """The one line that a command line is refused with."""
  capsys.readouterr()
  assert run(*arguments) == 2, arguments
  return one_line(capsys)


def one_line(capsys, skip_progress=False):
  captured = capsys.readouterr()
  lines = captured.err.splitlines()[-1 if skip_progress else 0 :]
  assert len(lines) == 1, lines
  assert lines[0].startswith("jax_edm: ")
  assert captured.out == ""
  return lines[0]


def saved(path, array):
  if path.suffix.lower() == ".npy":
    with path.open("wb") as file:
      np.save(file, array)
  else:
    np.savetxt(path, array, "%.17g", delimiter=",")
  return path


def matrix(n=6, dim=2):
  return oracle.distances(np.random.default_rng(3).normal(size=(n, dim)))


def procrustes_rms(points, truth):
  """After the best translation, rotation and reflection."""
  points, truth = points - points.mean(0), truth - truth.mean(0)
  left, _, right = np.linalg.svd(points.T @ truth)
  return np.sqrt(np.mean(np.sum((points @ left @ right - truth) ** 2, 1)))
