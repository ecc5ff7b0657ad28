"""Every Python block of the documents runs, and every docstring example prints what it says."""

import ast
import doctest
import graphlib
import importlib
import itertools
import pkgutil
import re
from pathlib import Path

import jax
import pytest

import jax_edm

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LONG = {"getting_started.md", "maps.md", "replace.md", "streaming.md"}  # documents whose blocks compile many programs
FOUND = [module.name for module in pkgutil.walk_packages(jax_edm.__path__, "jax_edm.")]
MODULES = ["jax_edm", *sorted(name for name in FOUND if not name.endswith("__main__"))]
BLOCK = re.compile(r"(?ms)^```python[^\n]*\n(?P<code>.*?)^```[ \t]*$")
# A block of the gallery is a part of a script, which tests/gallery runs.
PART = re.compile(r'--8<-- "(examples/gallery/\w+\.py):(\w+)"\n')


@pytest.fixture
def x64_restored():
  """What a document does to the setting stays in that document."""
  before = jax.config.jax_enable_x64
  yield
  jax.config.update("jax_enable_x64", before)


@pytest.fixture
def x64_off(x64_restored):
  """The docstring examples print ``dtype=float32``."""
  jax.config.update("jax_enable_x64", False)


def blocks(text):
  """The code of each block, moved down to its own line of the document, so that a traceback points there."""
  code = [("\n" * text.count("\n", 0, b.start("code")), b["code"]) for b in BLOCK.finditer(text)]
  return [lines + block for lines, block in code if not PART.match(block)]


def test_blocks_are_found_where_they_stand():
  part = '```python\n--8<-- "examples/gallery/tsne.py:loss"\n```\n'
  text = f"a\n```python\nx = 1\n```\n{part}```sh\nls\n```\n```python\ny = x\n# 1\n```\n"
  assert blocks(text) == ["\n" * 2 + "x = 1\n", "\n" * 11 + "y = x\n# 1\n"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tables_are_whole(path):
  """A blank line inside a table would end it, and show its other rows as text."""
  lines = ["", *path.read_text(encoding="utf-8").splitlines(), ""]
  for before, line, after in zip(lines, lines[1:], lines[2:], strict=False):
    if line.startswith("|") and not before.startswith("|"):
      assert re.fullmatch(r"\|[-|]+\|", after), line


@pytest.mark.parametrize(
  "path",
  [pytest.param(path, marks=pytest.mark.slow) if path.name in LONG else path for path in DOCUMENTS],
  ids=lambda path: str(path.relative_to(ROOT)),
)
def test_python_blocks_run(path, x64_restored, tmp_path, monkeypatch):
  text = path.read_text(encoding="utf-8")
  found = len(BLOCK.findall(text))
  assert found == len(re.findall(r"```\s*py", text)), "a Python block is indented, not closed, or not called python"
  monkeypatch.chdir(tmp_path)  # a document may write files
  namespace = {"__name__": "__main__"}
  for code in blocks(text):
    exec(compile(code, str(path), "exec"), namespace)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_print_what_they_say(name, x64_off):
  assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", [name for name in jax_edm.__all__ if name[0].islower()])
def test_public_name_has_an_example(name):
  """An example in the docstring, and in the module that the test above reads."""
  thing = getattr(jax_edm, name)
  assert thing.__module__ in MODULES
  assert any(test.examples for test in doctest.DocTestFinder(recurse=False).find(thing))


def table_lines(path):
  return [line for line in (ROOT / path).read_text(encoding="utf-8").splitlines() if line.startswith("|")]


def test_figures_in_the_documents_are_those_that_were_kept():
  from benchmarks.table import kept, kept_models, models_tables, table

  measured, models = table(kept()), [line for line in models_tables(kept_models()) if line]
  matern = list(itertools.takewhile(bool, models_tables(kept_models("matern"))))  # the table of sizes
  for lines in (measured, models, matern):
    assert set(lines) <= set(table_lines("docs/performance.md")), "python -m benchmarks --table"


def test_errors_and_costs_in_the_documents_are_those_that_were_kept():
  from benchmarks import accuracy
  from benchmarks.table import kept_part

  assert set(filter(bool, accuracy.tables(kept_part("accuracy")))) <= set(table_lines("docs/numerics.md"))


def test_times_of_near_pairs_in_the_documents_are_those_that_were_kept():
  from benchmarks import near, neighbours
  from benchmarks.table import kept_part

  wanted = [*near.tables(kept_part("near")), *neighbours.tables(kept_part("neighbours"))]
  assert set(filter(bool, wanted)) <= set(table_lines("docs/performance.md"))


def test_the_rates_in_the_documents_are_those_that_were_kept():
  from benchmarks.table import kept

  rates = " | ".join(str(row["recovered"]) for row in kept()["recovered"])
  assert f"| recovered | {rates} |" in (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


def test_pictures_of_the_documents_exist():
  for path in DOCUMENTS:
    for name in re.findall(r"!\[[^]]*\]\((?!http)([^)]+)\)", path.read_text(encoding="utf-8")):
      assert (path.parent / name).stat().st_size > 10_000


def test_tables_of_devices_are_those_of_the_formulas():
  from benchmarks import devices

  text = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8").splitlines()
  assert set(devices.everything()) <= set(text), "python -m benchmarks.devices"


PARTS = ["_typing", "_errors", "_sharding", "_core", "_pairwise", "_mds", "_cli"]  # from the bottom


def imported(path):
  """The modules of the package that a file imports, inside its functions too."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
    if isinstance(node, ast.ImportFrom):
      module = "." * node.level + (node.module or "")  # with a dot in front it is relative, and of no part
      if module.split(".")[0] in ("jax_edm", ""):
        found |= {f"{module}.{alias.name}" for alias in node.names}
    elif isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "jax_edm"}
  return found


def upward(package):
  """The imports from a part to a part above it, and from any part to the package as a whole; files of no part."""
  wrong = []
  for path in sorted(package.rglob("*.py")):
    own = path.relative_to(package).with_suffix("").parts[0]
    if own in ("__init__", "__main__"):  # above all parts
      continue
    if own not in PARTS:
      wrong.append(f"{path.relative_to(package)} is of no part")
      continue
    for name in sorted(imported(path)):
      other = name.split(".")[1] if "." in name else ""
      above = other not in PARTS or PARTS.index(other) > PARTS.index(own)
      if above and not (own == "_cli" and other not in PARTS):  # the command line uses what users use
        wrong.append(f"{path.relative_to(package)} imports {name}")
  return wrong


def test_imports_point_down():
  assert upward(ROOT / "jax_edm") == []


@pytest.mark.slow
def test_imports_inside_a_part_have_no_cycle():
  package = ROOT / "jax_edm"
  for part in PARTS[3:]:
    files = {".".join(p.relative_to(package).with_suffix("").parts): p for p in (package / part).rglob("*.py")}
    graph = {
      name: {other for other in files for i in imported(p) if f"{i}.".startswith(f"jax_edm.{other}.")}
      for name, p in files.items()
      if not name.endswith("__init__")
    }
    list(graphlib.TopologicalSorter({n: {o for o in others if o != n} for n, others in graph.items()}).static_order())


def test_an_upward_import_is_found(tmp_path):
  (tmp_path / "_core").mkdir()
  (tmp_path / "_core" / "low.py").write_text("def f():\n  from jax_edm._mds import stress\n")
  (tmp_path / "_core" / "near.py").write_text("from . import low\nfrom jax_edm._errors import error\nimport numpy\n")
  (tmp_path / "_typing.py").write_text("import jax_edm\nfrom jax_edm import _errors\n")
  (tmp_path / "new.py").write_text("")
  assert upward(tmp_path) == [
    "_core/low.py imports jax_edm._mds.stress",
    "_core/near.py imports ..low",
    "_typing.py imports jax_edm",
    "_typing.py imports jax_edm._errors",
    "new.py is of no part",
  ]
