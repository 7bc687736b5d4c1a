"""Text that people and other systems wrote: byte order marks, old encodings, two forms of é."""

from __future__ import annotations

import codecs
import os
import unicodedata

_MARKS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def decode_text(data: bytes) -> str:
    """The text of a small file: UTF-8 or UTF-16 with or without a mark, else Latin-1; NFC."""
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return unicodedata.normalize("NFC", text)


def clean_name(name: str | bytes) -> str:
    """The name of a class as all systems show it: NFC, and Latin-1 where it is no UTF-8.

    macOS writes the é of a file name as two characters, Linux and Windows as one.
    """
    try:
        return decode_text(name if isinstance(name, bytes) else os.fsencode(name))
    except UnicodeEncodeError:  # half a character, which no file system has
        return decode_text(name.encode(errors="replace") if isinstance(name, str) else name)
