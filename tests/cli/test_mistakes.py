"""Mistakes on the command line and broken files: one line, exit code 2, no traceback."""

import importlib.abc
import io
import os
import subprocess
import sys

import numpy as np
from command import matrix, one_line, refused, run, saved

import jax_edm


def test_values_of_options(tmp_path, capsys):
  file = saved(tmp_path / "d.npy", matrix())
  for option, value, expected in (
    ("--seed", "x", "a whole number from 0 to 4294967295. Got 'x'"),
    ("--seed", "-1", "Got '-1'"),
    ("--seed", "99999999999999999999999", "Got '99999999999999999999999'"),
    ("--seed", "²", "Got '²'"),
    ("--dim", "two", "a whole number. Got 'two'"),
    ("--restarts", "0", "at least 1. Got '0'"),
    ("--max-steps", "1e3", "at least 1. Got '1e3'"),
    ("--tolerance", "nan", "from 0 to less than 1. Got 'nan'"),
    ("--method", "magic", "invalid choice: 'magic'"),
    ("--format", "xlsx", "invalid choice: 'xlsx'"),
    ("--output", "", "the name of a file or folder. Got ''"),
    ("--output", "a\0b", r"the name of a file or folder. Got 'a\x00b'"),
  ):
    line = refused(capsys, "fit", file, "--dim", 2, option, value)
    assert line.startswith(f"jax_edm: {option}: "), line
    assert expected in line
    assert "fit --help" in line
  assert "--seed: it must be" in refused(capsys, "--seed", "x")
  assert "required: DISTANCES, --dim" in refused(capsys, "fit")
  assert "--output: " in refused(capsys, "edm", file, "--output", "/" + "x" * 300 + ".npy")
  assert "must be readable" in refused(capsys, "edm", "x" * 300 + ".npy", "--output", tmp_path / "new.npy")
  assert r"a\nb.npy: the file must be readable" in refused(capsys, "edm", "a\nb.npy", "--output", tmp_path / "new.npy")
  assert "--index: it is for tables" in refused(capsys, "edm", file, "--index", "--output", tmp_path / "new.npy")


def header(**changes):
  file = io.BytesIO()
  fields = {"descr": "<f8", "fortran_order": False, "shape": (6, 6)} | changes
  np.lib.format.write_array_header_1_0(file, fields)
  return file.getvalue()


def archive():
  file = io.BytesIO()
  np.savez(file, d=matrix())
  return file.getvalue()


def test_broken_arrays(tmp_path, capsys):
  whole = saved(tmp_path / "d.npy", matrix()).read_bytes()
  for name, data, expected in (
    ("a truncated archive", archive()[:200], "Got an archive of several arrays"),
    ("an archive", archive(), "Got an archive of several arrays"),
    ("a truncated array", whole[:300], "Got one that cannot be read"),
    ("a truncated header", whole[:20], "Got one that cannot be read"),
    ("a broken header", whole[:10] + b"{'descr': [[[(((, " + whole[28:], "Got one that cannot be read"),
    ("another header", whole.replace(b"'shape'", b"'shale'"), "Got one that cannot be read"),
    ("1e16 entries", header(shape=(10**8, 10**8)) + bytes(64), "Got one that cannot be read"),
    ("a negative shape", header(shape=(-3, 4)) + bytes(64), "Got one that cannot be read"),
    ("Python objects", header(descr="|O") + bytes(64), "Got one that cannot be read"),
    ("complex numbers", header(descr="<c16") + bytes(6 * 6 * 16), "real numbers. Got dtype complex128"),
    ("no entries", header(shape=(0, 0)), "a matrix. Got shape (0, 0)"),
    ("nothing", b"", "Got something else"),
    ("text", b"0,1\n1,0\n", "Got something else"),
  ):
    file = tmp_path / "broken.npy"
    file.write_bytes(data)
    for arguments in (("edm", file), ("fit", file, "--dim", 1)):
      line = refused(capsys, *arguments, "--output", tmp_path / "new.npy")
      assert expected in line, name
      assert str(file) in line
  assert not (tmp_path / "new.npy").exists()


def test_ctrl_c_during_imports(tmp_path, capsys, monkeypatch):
  class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
      if name == "jax_edm._cli.matrix":
        raise KeyboardInterrupt

  monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
  monkeypatch.delitem(sys.modules, "jax_edm._cli.matrix", raising=False)
  monkeypatch.delattr(jax_edm._cli, "matrix", raising=False)
  assert run("edm", saved(tmp_path / "x.npy", np.ones((3, 2))), "--output", tmp_path / "d.npy") == 130
  assert one_line(capsys) == "jax_edm: interrupted; nothing was written."


def test_a_stdout_that_takes_nothing(tmp_path):
  """In processes of their own: a pipe that nobody reads, and a full disk."""
  points = saved(tmp_path / "x.npy", np.ones((3, 2)))
  reader, writer = os.pipe()
  os.close(reader)
  with open(os.devnull if not os.path.exists("/dev/full") else "/dev/full", "w") as full:
    for stdout, arguments, expected in (
      (writer, ["edm", points, "--output", tmp_path / "d.npy"], "the files were written, but the report"),
      (full, ["--help"], "the text could not be printed"),
    ):
      command = [sys.executable, "-m", "jax_edm", *map(str, arguments)]
      ended = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
      assert ended.returncode == 2
      assert expected in ended.stderr
      assert len(ended.stderr.splitlines()) == 1
  os.close(writer)
  assert np.load(tmp_path / "d.npy").shape == (3, 3)
