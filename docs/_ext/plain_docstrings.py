"""Docstrings are plain text with `code`: what reStructuredText would read as markup is escaped."""

import re
from typing import Any

from sphinx.application import Sphinx

_CODE = re.compile(r"(``.+?``|`[^`]+`)")
_MARKUP = re.compile(r"[*|\\]|(?<=\w)_(?!\w)")


def escaped(line: str) -> str:
    """The line with every character of markup outside of backticks escaped."""
    pieces = _CODE.split(line)
    pieces[::2] = [_MARKUP.sub(lambda found: "\\" + found[0], piece) for piece in pieces[::2]]
    return "".join(pieces)


def plain(lines: list[str]) -> list[str]:
    """Docstring lines as reStructuredText; an indented block after a colon is kept as it is."""
    made: list[str] = []
    literal: int | None = None  # indentation of the line before a literal block
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if literal is not None and line.strip() and indent <= literal:
            literal = None
        if literal is not None:
            made.append(line)
            continue
        following = next((i for i in range(number + 1, len(lines)) if lines[i].strip()), None)
        if line.rstrip().endswith(":") and following is not None and following > number + 1:
            after = lines[following]
            if len(after) - len(after.lstrip()) > indent:
                literal = indent
                made.append(escaped(line.rstrip()) + ":")
                continue
        made.append(escaped(line))
    return made


def _process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = plain(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    """Runs before napoleon, which reads the sections of a docstring."""
    app.connect("autodoc-process-docstring", _process, priority=100)
    return {"parallel_read_safe": True}
