"""Passes over the real images: interrupted, side by side, ahead of time."""

from __future__ import annotations

import threading

import pytest
import torch
from command_line import TINY, call
from test_statistics import files, open_task

from gencond_fast.cache import exclusive
from gencond_fast.condensation import measure
from gencond_fast.condensation.bank import build_bank
from gencond_fast.condensation.networks import build_networks
from gencond_fast.progress import Reporter


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Interrupted(Exception):
    pass


def interrupting_stream(after: int, read: list[int]):
    """Like `stream`, but ends in an exception; counts the images that were read."""
    stream = measure.stream

    def batches(*arguments, **options):
        for number, batch in enumerate(stream(*arguments, **options)):
            if number == after:
                raise Interrupted
            read.extend(batch.indices.tolist())
            yield batch

    return batches


def test_an_interrupted_pass_goes_on_and_gives_the_same_bits(cache, monkeypatch):
    monkeypatch.setattr(measure, "_BATCH", 100)
    task = open_task()
    networks = build_networks(task)
    whole = build_bank(task, networks)
    for path in files(cache):
        path.unlink()

    monkeypatch.setattr(measure, "_SAVE_EVERY", 0.0)
    read: list[int] = []
    for after in (3, 1, 10):
        with monkeypatch.context() as patch:
            patch.setattr(measure, "stream", interrupting_stream(after, read))
            with pytest.raises(Interrupted):
                build_bank(task, networks)
        assert not files(cache)
    again = build_bank(task, networks)
    assert len(read) == len(set(read)) == 1400  # no image was read twice
    for one, other in zip(whole, again, strict=True):
        assert torch.equal(one.count, other.count)
        assert torch.equal(one.mean, other.mean)
        assert torch.equal(one.m2, other.m2)
    left = [path.name for path in (cache / "statistics").iterdir()]
    assert all(name.endswith(".safetensors") for name in left)


def test_other_networks_do_not_go_on_with_a_partial_pass(cache, monkeypatch):
    monkeypatch.setattr(measure, "_BATCH", 100)
    monkeypatch.setattr(measure, "_SAVE_EVERY", 0.0)
    task = open_task()
    networks = build_networks(task)
    with monkeypatch.context() as patch:
        patch.setattr(measure, "stream", interrupting_stream(3, []))
        with pytest.raises(Interrupted):
            build_bank(task, networks)
    other = open_task("networks.trained=1")
    assert build_bank(other, build_networks(other))[0].count.sum() == 1438


class Lines(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.waiting = threading.Event()

    def message(self, text: str) -> None:
        self.lines.append(text)
        self.waiting.set()


def test_the_second_waits_for_the_first(tmp_path):
    path, lines, order = tmp_path / "table", Lines(), []

    def second() -> None:
        with exclusive(path, lambda: lines.message("waiting")):
            order.append("second")

    with exclusive(path, lambda: lines.message("never")):
        thread = threading.Thread(target=second)
        thread.start()
        assert lines.waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert lines.lines == ["waiting"]


def test_without_locks_it_works_all_the_same(tmp_path, monkeypatch):
    def no_locks(handle: int, operation: int) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with exclusive(tmp_path / "table", lambda: pytest.fail("nobody to wait for")):
        (tmp_path / "table").write_text("made")


def test_condense_finds_what_stats_made(cache, tmp_path, monkeypatch):
    sets = TINY[TINY.index("--set") :]
    done = call("stats", "--data", "digits", "--quiet", *sets)
    assert done.code == 0, done.err
    assert "networks: 3" in done.out
    before = {path: path.stat().st_mtime_ns for path in files(cache) + files(cache, "networks")}

    def unread(*arguments, **options):
        raise AssertionError("the images were read again")

    monkeypatch.setattr(measure, "stream", unread)
    done = call("condense", "--data", "digits", "--out", tmp_path / "run", "--quiet", *TINY)
    assert done.code == 0, done.err
    assert before == {p: p.stat().st_mtime_ns for p in files(cache) + files(cache, "networks")}


def test_stats_says_what_it_made(cache):
    done = call("stats", "--data", "digits", "--preset", "quick", "--networks", "2", "--quiet")
    assert done.code == 0, done.err
    assert "networks: 2" in done.out
    assert "images: 1438" in done.out
    assert len(files(cache)) == 2
    assert call("stats", "--data", "digits", "--networks", "0").code == 2
