"""Files appear whole or not at all, with the permissions that the user's umask asks for."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from pathlib import Path

import pytest
from store_builders import full_disk

from gencond_fast.errors import InputError
from gencond_fast.system.files import expanded, write_atomic, write_json, write_text


def test_content(tmp_path):
    write_text(tmp_path / "a.txt", "grüße\n")
    assert (tmp_path / "a.txt").read_bytes() == b"gr\xc3\xbc\xc3\x9fe\n"
    write_json(tmp_path / "b.json", {"b": [1, 2.5, None], "a": "日"})
    assert json.loads((tmp_path / "b.json").read_text()) == {"b": [1, 2.5, None], "a": "日"}
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.json"]


def test_replaces(tmp_path):
    path = tmp_path / "a"
    write_text(path, "long before")
    write_text(path, "now")
    assert path.read_text() == "now"


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    seen = []

    def write(temporary):
        temporary.write_text("half")
        seen.append(path.read_text())
        temporary.write_text("whole")

    write_atomic(path, write)
    assert seen == ["old"]
    assert path.read_text() == "whole"


def test_a_reader_never_sees_half(tmp_path):
    path = tmp_path / "a"
    texts = {letter: letter * 50_000 for letter in "ab"}
    write_text(path, texts["a"])
    stop = threading.Event()
    found: set[str] = set()

    def read():
        while not stop.is_set():
            found.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(50):
        for text in texts.values():
            write_text(path, text)
    stop.set()
    reader.join()
    assert found <= set(texts.values())


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(5, "I/O")])
def test_an_error_leaves_all_as_it_was(tmp_path, error):
    path = tmp_path / "a"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("half")
        raise error

    with pytest.raises(type(error)):
        write_atomic(path, write)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_a_full_disk_names_the_file_that_was_wanted(tmp_path):
    path = tmp_path / "report.json"
    with full_disk(10), pytest.raises(OSError, match="report.json") as caught:
        write_json(path, list(range(1000)))
    assert caught.value.errno == errno.EFBIG
    assert os.listdir(tmp_path) == []


def test_a_failed_rename_leaves_no_temporary(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "inside").touch()
    with pytest.raises(OSError, match="directory"):
        write_text(tmp_path / "a", "text")
    assert os.listdir(tmp_path) == ["a"]


def test_json_that_cannot_be_written(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "a", {"x": object()})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002, 0o000])
def test_permissions_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a", "text")
        assert os.umask(mask) == mask  # and it is not changed
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "none" / "a", "text")


def test_a_home_that_is_not_there(monkeypatch):
    assert expanded("~/x") == Path.home() / "x"
    assert expanded("x~") == Path("x~")
    with pytest.raises(InputError, match="no such home folder .*in full"):
        expanded("~nobody-of-this-name/x")
