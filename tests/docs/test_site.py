"""What the site consists of: every name, every page of the gallery, every block; ``.ci/run`` builds it."""

import re
from pathlib import Path

import pytest

import jax_edm
from test_docs import BLOCK, PART, ROOT, table_lines

DOCS = ROOT / "docs"
SCRIPTS = sorted((ROOT / "examples" / "gallery").glob("*.py"))


def text_of(path):
  return Path(path).read_text(encoding="utf-8")


def test_every_public_name_is_in_the_reference_once():
  shown = [
    name for page in (DOCS / "api").glob("*.md") for name in re.findall(r"^::: jax_edm\.(\w+)$", text_of(page), re.M)
  ]
  assert sorted(shown) == sorted(jax_edm.__all__)
  listed = re.findall(r"\[`\w+`\]\[jax_edm\.(\w+)\]", text_of(DOCS / "api" / "index.md"))
  assert sorted(listed) == sorted(jax_edm.__all__)


def test_help_names_everything():
  words = set(re.findall(r"\w+", jax_edm.__doc__.split("Matrices of distances:")[1]))
  assert set(jax_edm.__all__) <= words


def test_every_page_is_in_the_navigation():
  pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} | {"index.md", "changelog.md"}
  named = re.findall(r"(?:- |: )([\w/]+\.md)$", text_of(ROOT / "mkdocs.yml"), re.M)
  assert sorted(named) == sorted(pages)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_page_of_the_gallery_is_whole(script):
  """A picture, a test that runs the script, code from the script alone, and the figures that were kept."""
  from benchmarks import gallery
  from benchmarks.table import kept_part

  page = DOCS / "gallery" / f"{script.stem}.md"
  assert f"({script.stem}.png)" in text_of(page)
  assert f'"{script.stem}"' in text_of(ROOT / "tests" / "gallery" / f"test_{script.stem}.py")
  assert f"({script.stem}.md)" in text_of(DOCS / "gallery" / "index.md")
  figures = set(filter(bool, gallery.tables(kept_part("gallery")["pages"][script.stem])))
  assert figures <= set(table_lines(page)), "python -m benchmarks --part gallery"


def test_code_of_the_gallery_is_that_of_scripts():
  pages = [path for path in DOCS.rglob("*.md") if "--8<--" in text_of(path)]
  assert len(pages) >= len(SCRIPTS)
  for page in pages:
    for block in BLOCK.finditer(text_of(page)):
      parts = PART.findall(block["code"])
      assert parts, f"{page.name} has code that no test runs"
      assert PART.sub("", block["code"]) == ""
      for path, name in parts:
        assert f"--8<-- [start:{name}]" in text_of(ROOT / path)
        assert f"--8<-- [end:{name}]" in text_of(ROOT / path)


def test_architecture_shows_calls_that_exist(tmp_path):
  """The picture is drawn from imports, and an arrow without one is refused."""
  import runpy

  diagram = runpy.run_path(str(DOCS / "diagram.py"))
  diagram["draw"](tmp_path / "architecture.png")
  with pytest.raises(ValueError, match="imports"):
    diagram["check"]("distance", "cli")


def test_figures_of_the_readme_are_those_that_were_kept():
  from benchmarks.table import readme_table

  lines = readme_table()
  assert len(lines) >= 10
  assert set(lines) <= set(table_lines("README.md")), "python -m benchmarks --table"
