"""Docstrings for the site: formulas, references to other functions and labels, from reStructuredText to Markdown."""

import re
from typing import Any

import griffe

FORMULA = re.compile(r"^([ \t]*)\.\. math::[ ]*(.*(?:\n\1[ \t]+\S.*)*)", re.M)
REFERENCE = re.compile(r":(?:func|class):`(?:jax_edm\.)?(\w+)`")
GUIDE = re.compile(r"``docs/(\w+)\.md``")
LABEL = re.compile(r"^(Shapes|Derivatives|Accuracy|Memory|Time|Devices|Cost|Compilation):", re.M)


class ToMarkdown(griffe.Extension):
  """Runs on every object that has a docstring."""

  def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
    if obj.docstring:
      obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
  text = FORMULA.sub(lambda found: f"{found[1]}$$\n{found[1]}{found[2].strip()}\n{found[1]}$$", text)
  text = GUIDE.sub(r"[\1](../\1.md)", text)
  text = REFERENCE.sub(r"[`\1`][jax_edm.\1]", text)
  text = re.sub(r"^Example:$", "Examples:", text, flags=re.M)
  return LABEL.sub(r"**\1:**", text)
