"""Output in encodings that have not every character, and output that is closed."""

from __future__ import annotations

import io
import sys

import pytest

from gencond_fast.system.streams import make_streams_robust


def written(monkeypatch, text: str, encoding: str) -> bytes:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    make_streams_robust()
    print(text, end="", flush=True)
    return stream.buffer.getvalue()


@pytest.mark.parametrize(
    ("text", "encoding", "bytes_"),
    [
        ("59 ± 1 %", "ascii", b"59 +- 1 %"),
        ("59 ± 1 %", "latin-1", "59 ± 1 %".encode("latin-1")),
        ("59 ± 1 %", "utf-8", "59 ± 1 %".encode()),
        ("a…b × 日", "ascii", rb"a...b x \u65e5"),
        ("a 日本", "cp1252", rb"a \u65e5\u672c"),
        ("caf\udce9", "utf-8", rb"caf\udce9"),
        ("caf\udce9", "ascii", rb"caf\udce9"),
    ],
)
def test_what_is_written(monkeypatch, text, encoding, bytes_):
    assert written(monkeypatch, text, encoding) == bytes_


def test_streams_that_are_closed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    make_streams_robust()
    print("nowhere", flush=True)
    print("nowhere", file=sys.stderr, flush=True)


def test_a_stream_that_was_told_what_to_do_keeps_to_it(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    monkeypatch.setattr(sys, "stdout", stream)
    make_streams_robust()
    assert stream.errors == "replace"
