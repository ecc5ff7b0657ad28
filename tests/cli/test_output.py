"""What is written: all or nothing, and nothing of the user's is lost."""

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from command import matrix, refused, run, saved

from jax_edm._cli import files, methods, plots

X = np.random.default_rng(1).normal(size=(6, 2))


@pytest.fixture
def quick(monkeypatch):
  """A fit whose search takes no time."""
  monkeypatch.setattr(methods, "find", lambda *_: methods.Found(X, ""))


def listing(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def fit_arguments(tmp_path, *more):
  return ["fit", saved(tmp_path / "d.npy", matrix()), "--dim", 2, "--output", tmp_path / "out", *more]


def test_the_input_is_never_overwritten(tmp_path, capsys):
  points = saved(tmp_path / "x.npy", X)
  (tmp_path / "link.npy").symlink_to(points)
  os.link(points, tmp_path / "hard.npy")
  before = points.read_bytes()
  for target in (points, tmp_path / "link.npy", tmp_path / "hard.npy", tmp_path / ".." / tmp_path.name / "x.npy"):
    assert "the input must not be overwritten" in refused(capsys, "edm", points, "--output", target, "--force")
  distances = saved(tmp_path / "points.csv", matrix())
  line = refused(capsys, "fit", distances, "--dim", 2, "--output", tmp_path, "--force")
  assert "the input must not be overwritten" in line
  other = saved(tmp_path / "d.csv", matrix())
  line = refused(capsys, "fit", other, "--dim", 2, "--weights", distances, "--output", tmp_path, "--force")
  assert "the input must not be overwritten" in line
  assert points.read_bytes() == before
  np.testing.assert_array_equal(np.loadtxt(distances, delimiter=","), matrix())


def test_a_file_that_is_there_needs_force(tmp_path, capsys):
  points, target = saved(tmp_path / "x.npy", X), tmp_path / "d.csv"
  target.write_text("mine")
  assert "Add --force" in refused(capsys, "edm", points, "--output", target)
  assert target.read_text() == "mine"
  assert run("edm", points, "--output", target, "--force") == 0
  assert np.loadtxt(target, delimiter=",").shape == (6, 6)
  target = tmp_path / "dangling.npy"
  target.symlink_to(tmp_path / "nowhere")
  assert "Add --force" in refused(capsys, "edm", points, "--output", target)
  (tmp_path / "folder.npy").mkdir()
  line = refused(capsys, "edm", points, "--output", tmp_path / "folder.npy", "--force")
  assert "only files are replaced" in line


def test_a_fit_replaces_what_a_fit_made(tmp_path, capsys, quick):
  arguments, out = fit_arguments(tmp_path), tmp_path / "out"
  assert run(*arguments) == 0
  assert run(*arguments) == 0
  for name in ("points.csv", "fit.png"):
    made = listing(out)
    (out / name).write_text("edited")
    assert "points.csv, which is there already" in refused(capsys, *arguments)  # the picture said who made it
    assert listing(out) == made | {name: b"edited"}
    assert run(*arguments, "--force") == 0
  (out / "fit.png").unlink()  # nothing says any more who made the points
  assert "points.csv, which is there already" in refused(capsys, *arguments)
  assert sorted(listing(out)) == ["points.csv"]


def test_a_file_that_appears_during_the_work_is_kept(tmp_path, capsys, monkeypatch):
  def find(*_):
    (tmp_path / "out" / "fit.png").write_text("mine")
    return methods.Found(X, "")

  monkeypatch.setattr(methods, "find", find)
  assert "fit.png, which is there already" in refused(capsys, *fit_arguments(tmp_path))
  assert listing(tmp_path / "out") == {"fit.png": b"mine"}


def test_if_the_second_file_cannot_be_moved_the_first_is_as_before(tmp_path, capsys, monkeypatch, quick):
  arguments, out = fit_arguments(tmp_path), tmp_path / "out"
  rename = os.rename

  def fail(source, target):
    if str(target).endswith(os.path.join("out", "fit.png")):
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    rename(source, target)

  monkeypatch.setattr(os, "rename", fail)
  assert "No space left on device" in refused(capsys, *arguments)
  assert not out.exists()
  monkeypatch.setattr(os, "rename", rename)
  assert run(*arguments) == 0
  made = listing(out)
  monkeypatch.setattr(os, "rename", fail)
  assert "No space left on device" in refused(capsys, *arguments)
  assert listing(out) == made


def test_a_full_disk_leaves_nothing(tmp_path, capsys, monkeypatch, quick):
  def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  points, arguments = saved(tmp_path / "x.npy", X), fit_arguments(tmp_path)
  monkeypatch.setattr(np, "save", full)
  monkeypatch.setattr(plots, "draw_fit", full)
  line = refused(capsys, "edm", points, "--output", tmp_path / "new" / "d.npy")
  assert "new/d.npy: No space left on device" in line
  assert "out/points.csv: No space left on device" in refused(capsys, *arguments)
  assert sorted(path.name for path in tmp_path.iterdir()) == ["d.npy", "x.npy"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(number, tmp_path, capfd, monkeypatch):
  """Also where it arrives in a callback that swallows exceptions, as those of XLA do."""

  def find(*_):
    assert (tmp_path / "out").exists()
    os.kill(os.getpid(), number)
    raise AssertionError("the signal did nothing")

  def end(code):
    assert not (tmp_path / "out").exists()
    raise SystemExit(code)  # in the place of the end of the process

  if signal.getsignal(number) == signal.SIG_IGN:  # under nohup, which the command respects
    signal.signal(number, signal.SIG_DFL)
  before = signal.getsignal(number)
  monkeypatch.setattr(methods, "find", find)
  monkeypatch.setattr(os, "_exit", end)
  assert run(*fit_arguments(tmp_path)) == 128 + number
  verb = "interrupted" if number == signal.SIGINT else "terminated"
  assert capfd.readouterr().err.strip() == f"jax_edm: {verb}; nothing was written."
  assert signal.getsignal(number) == before


def test_sigterm_ends_the_process_at_once(tmp_path):
  """In a process of its own, while XLA works and a place to write into is there."""
  arguments = [*fit_arguments(tmp_path, "--max-steps", 9_000_000)]
  command = [sys.executable, "-m", "jax_edm", *map(str, arguments)]
  with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
    while "loss" not in process.stderr.readline(300):
      assert process.poll() is None
    assert (tmp_path / "out").exists()
    process.terminate()
    assert process.stderr.read().splitlines()[-1] == "jax_edm: terminated; nothing was written."
  assert process.returncode == 128 + signal.SIGTERM
  assert not (tmp_path / "out").exists()


def test_a_signal_while_files_move_comes_too_late(tmp_path, monkeypatch, quick):
  rename = os.rename

  def interrupted(source, target):
    os.kill(os.getpid(), signal.SIGTERM)
    rename(source, target)

  monkeypatch.setattr(os, "rename", interrupted)
  assert run(*fit_arguments(tmp_path)) == 0
  assert sorted(listing(tmp_path / "out")) == ["fit.png", "points.csv"]


def test_labels_reach_the_points_and_the_picture(tmp_path, monkeypatch, quick):
  """Labels that are markup, that no font has, or that are long must not disturb the picture."""
  labels = ["$\\frac$", "北京", "long " * 60, "New York", "=1;1", '"']
  pd.DataFrame(matrix(), labels, labels).to_csv(tmp_path / "d.csv")
  shown = []
  draw = plots._draw_points
  monkeypatch.setattr(
    plots, "_draw_points", lambda axes, *rest: (draw(axes, *rest), shown.extend(t.get_text() for t in axes.texts))
  )
  assert run("fit", tmp_path / "d.csv", "--dim", 2, "--output", tmp_path / "out") == 0
  table = pd.read_csv(tmp_path / "out" / "points.csv", keep_default_na=False)
  assert table.columns.tolist() == ["label", "x1", "x2"]
  assert table["label"].tolist() == [label.strip() for label in labels]
  assert [text[:9] for text in shown] == [label[:9] for label in labels]
  found = files.read_points(tmp_path / "out" / "points.csv")  # `edm` reads what `fit` writes
  np.testing.assert_allclose(found.values, X, rtol=1e-6)


def test_options_of_the_output(tmp_path, capsys, quick):
  assert run(*fit_arguments(tmp_path, "--no-picture", "--format", "npy")) == 0
  assert sorted(listing(tmp_path / "out")) == ["points.npy"]
  np.testing.assert_allclose(np.load(tmp_path / "out" / "points.npy"), X)
  assert "fit.png" not in capsys.readouterr().out
  assert "points.npy, which is there already" in refused(capsys, *fit_arguments(tmp_path, "--format", "npy"))


def test_the_report_of_an_index_says_so(tmp_path, capsys):
  pd.DataFrame(X).to_csv(tmp_path / "x.csv")
  assert run("edm", tmp_path / "x.csv", "--output", tmp_path / "d.npy") == 0
  assert "the first column holds labels, and is not a coordinate" in capsys.readouterr().out
  assert np.load(tmp_path / "d.npy")[0, 1] == pytest.approx(((X[0] - X[1]) ** 2).sum(), rel=1e-5)
