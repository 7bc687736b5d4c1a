"""Data that was moved or copied between two starts is the same; changed data is not."""

from __future__ import annotations

import os
import shutil
import signal

import numpy as np
import pytest
from command_line import options_of
from image_builders import pictures, tar_members, write_npz, write_tar, write_tree
from stopping import PRODUCT, condense, stop

from gencond_fast.data import digest, open_source

MADE = pictures(6, ("ant", "bee"))


def as_tree(root):
    return write_tree(root / "set", MADE)


def as_tar(root):
    root.mkdir(exist_ok=True)
    return write_tar(root / "set.tar", tar_members(MADE))


def as_npz(root):
    return write_npz(root / "set.npz", MADE)


def touch(path):
    for each in (path, *path.rglob("*")):
        os.utime(each, (1, 1))


@pytest.mark.parametrize("make", [as_tree, as_tar, as_npz])
def test_a_run_goes_on_with_data_that_lies_elsewhere(tmp_path, make):
    data, run = make(tmp_path), tmp_path / "run"
    whole = tmp_path / "whole"
    assert condense(whole, data).code == 0
    assert stop(signal.SIGTERM, "matching 22", run, data).code == 143
    moved = data.rename(tmp_path / f"elsewhere{data.suffix}")
    touch(moved)
    done = condense(run, moved)
    assert done.code == 0, done.err
    assert f"the data lay in {data} before; it is the same (compared: names and con" in done.err
    assert (run / PRODUCT).read_bytes() == (whole / PRODUCT).read_bytes()
    done = condense(run, moved)
    assert "nothing to do" in done.err


def test_a_run_that_has_computed_nothing_takes_any_data(tmp_path, cache):
    data, run = as_tree(tmp_path), tmp_path / "run"
    assert stop(signal.SIGTERM, "feature networks 3", run, data).code == 143
    other = write_tree(tmp_path / "other", pictures(6, ("ant", "bee"), seed=3))
    done = condense(run, other)
    assert done.code == 0, done.err
    assert "it is the same" not in done.err
    assert options_of(run)["data"] == str(other)


@pytest.mark.parametrize("finished", [True, False])
def test_other_data_elsewhere_is_refused(tmp_path, finished):
    data, run = as_tree(tmp_path), tmp_path / "run"
    if finished:
        assert condense(run, data).code == 0
    else:
        assert stop(signal.SIGTERM, "matching 22", run, data).code == 143
    other = write_tree(tmp_path / "other", pictures(6, ("ant", "bee"), seed=3))
    done = condense(run, other)
    assert done.code == 2
    assert f"data is {other}, was {data}" in done.err


def test_changed_data_in_its_place_says_what_was_compared(tmp_path):
    data, run = as_tree(tmp_path), tmp_path / "run"
    assert stop(signal.SIGTERM, "matching 22", run, data).code == 143
    file = data / "ant" / "0000.png"
    file.write_bytes(pictures(1, seed=9)[0].png)
    done = condense(run, data)
    assert done.code == 2
    assert "has changed since" in done.err
    assert "(compared: names and contents)" in done.err


@pytest.mark.parametrize("make", [as_tree, as_tar, as_npz])
def test_large_data_is_compared_by_samples(tmp_path, make, monkeypatch):
    monkeypatch.setattr(digest, "WHOLE_BYTES", 100)
    monkeypatch.setattr(digest, "_SAMPLE_BYTES", 8)
    monkeypatch.setattr(digest, "_SAMPLED_FILES", 3)
    monkeypatch.setattr(digest, "_SAMPLED_PLACES", 5)
    first = open_source(str(make(tmp_path)))
    assert first.compared == "names, sizes and samples of the contents"
    copy = make(tmp_path / "copy")
    touch(copy)
    assert open_source(str(copy)).fingerprint == first.fingerprint
    largest = max((p for p in (copy, *copy.rglob("*")) if p.is_file()), key=lambda p: p.name)
    content = np.frombuffer(largest.read_bytes(), np.uint8)
    shutil.copy(largest, tmp_path / "kept")
    largest.write_bytes(content.tobytes() + b"\0" * 512)
    if make is as_tree:
        assert open_source(str(copy)).fingerprint != first.fingerprint
    largest.write_bytes((content ^ 1).tobytes())
    compared = digest.files_digest([largest], largest.parent)
    assert compared != digest.files_digest([tmp_path / "kept"], tmp_path)
