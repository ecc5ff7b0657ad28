"""What MkDocs builds beside the pages in this folder: the home page, the changelog, and the renderer of formulas.

The home page is README.md and the changelog is CHANGELOG.md, so that each text stands once. MathJax comes out of a
package, so that nothing is fetched from a network.
"""

import importlib.util
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"index.md": "README.md", "changelog.md": "CHANGELOG.md"}  # of the site: the file at the root
MATHJAX = "static/mathjax/tex-svg-full.js"  # one file, fonts included
LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
  for page, source in PAGES.items():
    text = (ROOT / source).read_text(encoding="utf-8")
    text = re.sub(r"<!-- not on the site -->.*?<!-- end -->\n?", "", text, flags=re.S)
    files.append(File.generated(config, page, content=LINK.sub(from_root, text)))
  files.append(File.generated(config, "mathjax.js", abs_src_path=str(mathjax())))
  return files


def from_root(link: re.Match[str]) -> str:
  """A link of a file at the root, as it is from the folder of the pages."""
  return link[1] + (posixpath.relpath(link[2], "docs"))


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
  """Links that leave this folder, as to an example, lead to the repository; those to README and CHANGELOG stay."""
  folder = posixpath.dirname(page.file.src_uri)

  def replaced(link: re.Match[str]) -> str:
    path = posixpath.normpath(posixpath.join("docs", folder, link[2]))
    for name, source in PAGES.items():
      if path == source:
        return link[1] + posixpath.relpath(name, folder)
    if path.startswith("docs/") or not (ROOT / path).exists():
      return link[0]
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"{link[1]}{config.extra['repository']}/{kind}/main/{path}"

  return LINK.sub(replaced, markdown)


def mathjax() -> Path:
  found = importlib.util.find_spec("sphinx-mathjax-offline")
  if found is None or found.origin is None:
    raise SystemExit("The package sphinx-mathjax-offline is not installed. Run pip install -e '.[docs]'.")
  return Path(found.origin).parent / MATHJAX
