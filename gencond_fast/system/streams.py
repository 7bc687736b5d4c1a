"""Output that never fails for a character: results of hours must not be lost to one."""

from __future__ import annotations

import codecs
import io
import os
import sys

_HANDLER = "gencond_fast.spelled"
_SPELLED = {"±": "+-", "…": "...", "–": "-", "—": "-", "×": "x", "\N{REPLACEMENT CHARACTER}": "?"}


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_SPELLED.get(c, ascii(c)[1:-1]) for c in text), error.end


codecs.register_error(_HANDLER, _spell)


def make_streams_robust() -> None:
    """Lets stdout and stderr spell what their encoding has no bytes for, and stand in where closed.

    `±` becomes `+-`, other characters their escapes, and so do the bytes of names that are no
    UTF-8. A process that was started without stdout or stderr writes to nowhere.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors=_HANDLER)
