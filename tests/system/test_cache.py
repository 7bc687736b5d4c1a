"""The cache: where it is, how results are named, and damaged files that count as absent."""

from __future__ import annotations

import errno
import os
import pwd
import tempfile
import threading
from pathlib import Path

import pytest
import torch
from command_line import TINY, call
from hypothesis import given
from hypothesis import strategies as st
from store_builders import full_disk

from gencond_fast.errors import InputError
from gencond_fast.system.cache import (
    cache_directory,
    cache_key,
    exclusive,
    is_whole,
    load_tensors,
    save_json,
    save_tensors,
)

TENSORS = {"mean": torch.randn(3, 4), "count": torch.arange(3), "half": torch.randn(2).half()}


def test_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory("bank") == tmp_path / "own" / "bank"
    monkeypatch.delenv("GENCOND_FAST_CACHE")
    assert cache_directory("bank") == tmp_path / "xdg" / "gencond_fast" / "bank"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    found = cache_directory("bank")
    assert found == tmp_path / "home" / ".cache" / "gencond_fast" / "bank"
    assert found.is_dir()
    assert cache_directory("bank") == found


def test_a_user_without_a_home_has_it_among_the_temporary_files(tmp_path, monkeypatch):
    for name in ("GENCOND_FAST_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    found = cache_directory("bank")
    assert found == tmp_path / f"gencond_fast-{os.getuid()}" / "bank"
    assert found.parent.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    (tmp_path / "gencond_fast-4711").mkdir()
    with pytest.raises(PermissionError, match="another user"):
        cache_directory("bank")


parts = st.dictionaries(st.text("abc", min_size=1), st.integers() | st.text() | st.none())


@given(one=parts, other=parts)
def test_keys_tell_parts_apart(one, other):
    first, second = cache_key(**one), cache_key(**other)
    assert (first == second) == (one == other)
    assert len(first) == 24
    assert set(first) <= set("0123456789abcdef")


def test_keys_do_not_depend_on_the_order():
    assert cache_key(a=1, b={"x": 1, "y": 2}) == cache_key(b={"y": 2, "x": 1}, a=1)


def test_tensors_come_back(tmp_path):
    path = tmp_path / "made"
    save_tensors(path, {**TENSORS, "turned": torch.arange(6.0).view(2, 3).T})
    found = load_tensors(path)
    assert torch.equal(found.pop("turned"), torch.arange(6.0).view(2, 3).T)
    assert set(found) == set(TENSORS)
    assert all(torch.equal(found[name], value) for name, value in TENSORS.items())
    assert all(found[name].dtype == value.dtype for name, value in TENSORS.items())


def test_gradients_stay_behind(tmp_path):
    weight = torch.randn(3, requires_grad=True)
    save_tensors(tmp_path / "made", {"weight": weight * 2})
    assert torch.equal(load_tensors(tmp_path / "made")["weight"], (weight * 2).detach())


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99])
def test_a_cut_file_counts_as_absent(tmp_path, share):
    path = tmp_path / "made"
    save_tensors(path, TENSORS)
    assert is_whole(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert load_tensors(path) is None
    assert not is_whole(path)


def test_absent(tmp_path):
    assert load_tensors(tmp_path / "none") is None
    assert load_tensors(tmp_path) is None
    assert not is_whole(tmp_path / "none")
    assert not is_whole(tmp_path)


def test_a_lock_that_the_one_before_has_removed_keeps_others_out(tmp_path):
    """The second waits for the first; a third that comes when it is gone waits for the second."""
    path, inside, most = tmp_path / "table", [], []
    started, ended = threading.Event(), threading.Event()

    def enter(hold: threading.Event) -> None:
        with exclusive(path, lambda: started.set()):
            inside.append(1)
            most.append(len(inside))
            hold.wait(0.3)
            inside.pop()

    with exclusive(path, lambda: pytest.fail("nobody to wait for")):
        second = threading.Thread(target=enter, args=(ended,))
        second.start()
        assert started.wait(10)
    third = threading.Thread(target=enter, args=(ended,))
    third.start()
    second.join(10)
    third.join(10)
    assert most == [1, 1]
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_nothing(tmp_path):
    with full_disk(20), pytest.raises(OSError, match="too large"):
        save_tensors(tmp_path / "made", TENSORS)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_cache_that_may_not_be_written_names_the_variable(tmp_path, monkeypatch, error):
    def refuse(*arguments, **options):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    monkeypatch.setattr("gencond_fast.system.cache.write_json", refuse)
    for save in (save_json, save_tensors):
        with pytest.raises(InputError, match=r"the cache .* set GENCOND_FAST_CACHE to a folder"):
            save(tmp_path / "file", {})
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OSError, match=r"the cache .* cannot be written .*set GENCOND_FAST_CACHE"):
        cache_directory("networks")


def test_a_full_disk_is_no_matter_of_the_variable(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gencond_fast.system.cache.write_json", full)
    with pytest.raises(OSError, match="No space left") as caught:
        save_json(tmp_path / "file", {})
    assert not isinstance(caught.value, InputError)


def test_a_file_in_place_of_the_cache_stops_a_run_with_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "file"))
    done = call("condense", "--data", "digits", "--out", tmp_path / "run", *TINY, "--quiet")
    assert done.code == 2
    assert "set GENCOND_FAST_CACHE to a folder that can" in done.err
    assert "Traceback" not in done.err
