"""What the package says of itself to those who install it."""

import re
import tomllib
from pathlib import Path

import jax_edm

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_package_says_who_made_it_and_where():
  project = PROJECT["project"]
  assert project["authors"] == [{"name": "jax_edm developers"}]
  assert {"Homepage", "Documentation", "Changelog", "Issues"} <= set(project["urls"])
  least = project["requires-python"].removeprefix(">=")
  assert f"Programming Language :: Python :: {least}" in project["classifiers"]


def test_links_of_the_readme_work_outside_the_repository():
  """Each link of README is of a file that is there, and the package's copy of README has an address in its place."""
  text = (ROOT / "README.md").read_text(encoding="utf-8")
  links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith(("http", "#"))]
  assert links
  for link in links:
    assert (ROOT / link.split("#")[0]).exists(), link
  for rule in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
    text = re.sub(rule["pattern"], rule["replacement"], text)
  targets = re.findall(r"\]\(([^)]+)\)", text)
  assert all(link.startswith(("https://", "#")) for link in targets)
  repository = PROJECT["project"]["urls"]["Homepage"].removeprefix("https://github.com")
  moved = [link for link in targets if f"{repository}/blob/main/" in link or f"com{repository}/main/" in link]
  assert len(moved) == len(links)


def test_the_source_distribution_has_what_the_tests_need():
  """The folders and files that stand at the top, and are no part of the workshop."""
  included = {name.strip("/") for name in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]}
  there = {p.name for p in ROOT.iterdir() if not p.name.startswith(".") and p.name not in ("build", "dist")}
  needed = {"jax_edm", "tests", "benchmarks", "docs", "examples", "README.md", "CHANGELOG.md", "LICENSE", "mkdocs.yml"}
  assert needed <= included
  assert needed <= there


def test_one_version_everywhere():
  version = PROJECT["project"]["version"]
  assert jax_edm.__version__ == version
  for path, form in {"CITATION.cff": f"version: {version}\n", "docs/cite.md": f"{{{version}}}"}.items():
    assert form in (ROOT / path).read_text(encoding="utf-8"), path
