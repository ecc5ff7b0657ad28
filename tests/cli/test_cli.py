"""The command line, in process: what it writes, and that a mistake gets one line, exit code 2 and leaves nothing."""

import csv
import runpy
import sys

import numpy as np
import pytest
from command import matrix, one_line, procrustes_rms, saved

import jax_edm
import oracle
from jax_edm._cli import airports, descent, methods, output, plots, report
from jax_edm._cli import main as command_line


def changed(*index, value):
  d = matrix()
  d[index] = value
  return d


def all_missing():
  d = np.full((6, 6), np.nan)
  np.fill_diagonal(d, 0)
  return d


def too_few():
  d = np.full((6, 6), np.nan)
  for i in range(5):  # a chain
    d[i, i + 1] = d[i + 1, i] = 1
  return d


def two_parts():
  d = matrix()
  d[:3, 3:] = d[3:, :3] = np.nan
  return d


# file contents, or None for no file; what the one line must say
MISTAKES = {
  "no such file": (None, "No such file"),
  "ragged": ("0,1\n1\n", "all rows must have the same number of entries"),
  "not square": (matrix()[:, :4], "square"),
  "asymmetric": (changed(0, 1, value=9.0), "symmetric"),
  "negative": (changed((0, 1), (1, 0), value=-1.0), "negative"),
  "infinite": (changed((0, 1), (1, 0), value=np.inf), "finite"),
  "diagonal": (changed(2, 2, value=3.0), "itself"),
  "text": ("0,a\nb,0\n", "numbers"),
  "empty": ("", "no numbers"),
  "all missing": (np.full((6, 6), np.nan), "some distances must be measured"),
  "all missing but the diagonal": (all_missing(), "every point must have a measured distance"),
  "too few": (too_few(), "need at least 9 distances"),
  "two parts": (two_parts(), "2 separate parts"),
  "all zero": (np.zeros((6, 6)), "some points must differ"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_the_distances(case, tmp_path, capsys):
  content, expected = MISTAKES[case]
  file = tmp_path / "distances.csv"
  if isinstance(content, str):
    file.write_text(content)
  elif content is not None:
    saved(file, content)
  output = tmp_path / "new" / "fit"
  assert command_line.main(["fit", str(file), "--dim", "2", "--output", str(output)]) == 2
  assert expected in one_line(capsys)
  assert not output.parent.exists()


@pytest.mark.parametrize(
  ("name", "array", "dim", "expected"),
  [
    ("d.txt", matrix(), 2, "must end in .npy or .csv"),
    ("d.npy", matrix(), 6, "less than the number of points"),
    ("d.npy", matrix(), 0, "at least 1"),
    ("d.npy", np.array([["a"]]), 1, "real numbers"),
    ("d.npy", matrix()[0, :5], 1, "matrix"),
    ("d.npy", matrix()[None], 1, "matrix"),
  ],
)
def test_other_mistakes(name, array, dim, expected, tmp_path, capsys):
  file = tmp_path / name
  if file.suffix == ".npy":
    np.save(file, array)
  else:
    np.savetxt(file, array)
  assert command_line.main(["fit", str(file), "--dim", str(dim), "--output", str(tmp_path / "out")]) == 2
  assert expected in one_line(capsys)
  assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
  (tmp_path / "file").write_text("")
  points = saved(tmp_path / "points.npy", np.ones((3, 2)))
  assert command_line.main(["edm", str(points), "--output", str(tmp_path / "file" / "d.npy")]) == 2
  assert "writable" in one_line(capsys)
  assert command_line.main(["--output", str(tmp_path / "file")]) == 2
  assert "writable" in one_line(capsys)


def test_the_spectrum_tells_the_dimension():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(30, 3)) * 100
  d = oracle.distances(x)
  d[rng.random((30, 30)) < 0.3] = np.nan
  d = np.fmin(d, d.T)
  values = report.spectrum(x - x.mean(0), d)
  moments = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2 / 30
  np.testing.assert_allclose(values[:3], moments, rtol=1e-4)
  np.testing.assert_allclose(values[3:], 0, atol=1e-4 * moments[0])


def test_the_package_is_a_command(capsys, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["jax_edm", "--version"])
  with pytest.raises(SystemExit) as ended:
    runpy.run_module("jax_edm", run_name="__main__")
  assert ended.value.code == 0
  assert capsys.readouterr().out == f"jax_edm {jax_edm.__version__}\n"


def test_an_unknown_option_is_a_mistake_too(capsys):
  with pytest.raises(SystemExit) as ended:
    command_line.main(["fit"])
  assert ended.value.code == 2


def test_an_interrupted_fit_leaves_nothing(tmp_path, capsys, monkeypatch):
  file = saved(tmp_path / "d.npy", matrix())

  def interrupt(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(methods, "find", lambda *_: methods.Found(np.eye(6, 2), ""))
  monkeypatch.setattr(plots, "draw_fit", interrupt)  # the last thing that happens: the points are written by then
  assert command_line.main(["fit", str(file), "--dim", "2", "--output", str(tmp_path / "out")]) == 130
  assert "interrupted" in one_line(capsys, skip_progress=True)
  assert not (tmp_path / "out").exists()


def test_a_missing_extra_says_what_to_install(capsys, monkeypatch):
  monkeypatch.setitem(sys.modules, "pandas", None)  # to import it is an error now
  monkeypatch.delitem(sys.modules, "jax_edm._cli.fit", raising=False)
  monkeypatch.delattr(jax_edm._cli, "fit", raising=False)
  assert command_line.main(["fit", "d.npy", "--dim", "2"]) == 2
  assert one_line(capsys) == 'jax_edm: pandas is not installed. Run pip install "jax-edm[cli]".'


@pytest.mark.parametrize(
  ("dim", "suffix", "squared", "method"),
  [(2, ".npy", False, "gradient"), pytest.param(3, ".csv", True, "smacof", marks=pytest.mark.slow)],
)
def test_fit_finds_the_points(dim, suffix, squared, method, tmp_path, capsys, monkeypatch):
  """From three quarters of the distances, of which some stand in one triangle only."""
  monkeypatch.setattr(descent, "MOST_STEPS", 2)
  rng = np.random.default_rng(0)
  truth = 100 * rng.normal(size=(24, dim))
  d = oracle.edm(truth) if squared else oracle.distances(truth)
  i, j = np.triu_indices(24, 1)
  missing = rng.random(len(i)) < 0.25
  d[i[missing], j[missing]] = d[j[missing], i[missing]] = np.nan
  d[j[::3], i[::3]] = np.nan
  file, output = saved(tmp_path / f"d{suffix}", d), tmp_path / "out"
  arguments = ["fit", str(file), "--dim", str(dim), "--output", str(output), *(["--squared"] if squared else [])]
  arguments += ["--method", method]
  assert command_line.main(arguments) == 0
  points = np.loadtxt(output / "points.csv", delimiter=",", skiprows=1)
  assert procrustes_rms(points, truth) < 0.1
  assert sorted(p.name for p in output.iterdir()) == ["fit.png", "points.csv"]
  assert "gradient check" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_edm_writes_the_matrix(suffix, tmp_path):
  x = np.random.default_rng(1).normal(size=(7, 3)) + 1e6  # centred before it becomes float32
  points = saved(tmp_path / "points.csv", x)
  for flag, expected in (([], oracle.edm(x)), (["--distances"], oracle.distances(x))):
    output = tmp_path / f"matrix{len(flag)}{suffix}"
    assert command_line.main(["edm", str(points), "--output", str(output), *flag]) == 0
    written = np.load(output) if suffix == ".npy" else np.loadtxt(output, delimiter=",")
    np.testing.assert_allclose(written, expected, rtol=1e-5)


def test_the_main_job_on_a_tenth_of_the_airports(tmp_path, monkeypatch):
  """More of the distances, since each airport has fewer: the same number for each."""
  monkeypatch.setattr(descent, "MOST_STEPS", 1)
  report = "\n".join(airports.run(tmp_path / "out", seed=0, count=338, fraction=1.0))
  for word in ("gradient check", "root mean square", "radius", "time"):
    assert word in report
  with (tmp_path / "out" / "points.csv").open(encoding="utf-8", newline="") as file:
    table = list(csv.DictReader(file))
  assert len(table) == 338
  assert np.sqrt(np.mean([float(row["error_km"]) ** 2 for row in table])) < 5.5
  radii = np.linalg.norm([[float(row[k]) for k in "xyz"] for row in table], axis=1)
  np.testing.assert_allclose(np.median(radii), airports.RADIUS, rtol=2e-3)
  assert (tmp_path / "out" / "map.png").stat().st_size > 10_000
  again = {"picture": airports.FILES[1], "inputs": (), "force": False}
  output._check(tmp_path / "out", airports.FILES, **again)  # the job may run again
