"""Passes over the real images: interrupted, side by side, ahead of time."""

from __future__ import annotations

import os
import signal
import subprocess
import threading

import pytest
import torch
from command_line import TINY, call, command, refused
from image_builders import pictures, write_tree
from test_statistics import files, open_task

from gencond_fast.condensation import measure
from gencond_fast.condensation.bank import build_bank
from gencond_fast.condensation.networks import build_networks
from gencond_fast.system.cache import exclusive
from gencond_fast.system.interrupt import Terminated
from gencond_fast.system.progress import Reporter

pytestmark = pytest.mark.usefixtures("cache")


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


def save_every_batch(monkeypatch):
    monkeypatch.setattr(measure, "_BATCH", 100)
    monkeypatch.setattr(measure, "_SAVE_EVERY", 0.0)
    monkeypatch.setattr(measure, "_SAVE_SHARE", float("inf"))


@pytest.mark.parametrize("discrepancy", ["mean", "cf"])
def test_an_interrupted_pass_goes_on_and_gives_the_same_bits(cache, monkeypatch, discrepancy):
    monkeypatch.setattr(measure, "_BATCH", 100)
    task = open_task(f"losses.discrepancies={{{discrepancy}: 1}}")
    networks = build_networks(task)
    whole = build_bank(task, networks)
    for path in files(cache):
        path.unlink()

    save_every_batch(monkeypatch)
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
        if discrepancy == "cf":
            assert torch.equal(one.waves.real, other.waves.real)
            assert torch.equal(one.waves.imaginary, other.waves.imaginary)
    left = [path.name for path in (cache / "statistics").iterdir()]
    assert all(name.endswith(".safetensors") for name in left)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_costs_no_work(cache, monkeypatch, number):
    """The pass is far from the time of its next save."""
    monkeypatch.setattr(measure, "_BATCH", 100)
    task = open_task()
    networks = build_networks(task)
    stream, read = measure.stream, []

    def signalling(*arguments, **options):
        for place, batch in enumerate(stream(*arguments, **options)):
            if place == 3:
                os.kill(os.getpid(), number)
            read.extend(batch.indices.tolist())
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(measure, "stream", signalling)
        with pytest.raises((KeyboardInterrupt, Terminated)):
            build_bank(task, networks)
    assert len(read) == 400
    monkeypatch.setattr(measure, "stream", interrupting_stream(99, read))
    build_bank(task, networks)
    assert len(read) == len(set(read)) == 1438


def test_large_tables_are_saved_less_often(monkeypatch, tmp_path):
    now = [1000.0]

    def slow(path, tensors):
        now[0] += 30

    monkeypatch.setattr(measure.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(measure, "save_tensors", slow)
    partial = measure._Partial(tmp_path / "partial", [], [])
    now[0] += 61
    assert partial.due()
    partial.save(1)
    for more, due in ((61, False), (530, False), (20, True)):
        now[0] += more
        assert partial.due() is due


def test_killed_among_the_finished_tables_it_measures_none_again(cache, monkeypatch):
    """The images have all been read, and one of the tables is written."""
    save_every_batch(monkeypatch)
    task = open_task("losses.discrepancies={cf: 1}")
    networks = build_networks(task)
    whole = build_bank(task, networks)
    for path in files(cache):
        path.unlink()
    save, kept = measure.save_tensors, []

    def interrupted(path, tensors):
        if path.suffix == ".safetensors":
            if kept:
                raise Interrupted
            kept.append(path)
        save(path, tensors)

    with monkeypatch.context() as patch:
        patch.setattr(measure, "save_tensors", interrupted)
        with pytest.raises(Interrupted):
            build_bank(task, networks)
    assert files(cache) == kept
    monkeypatch.setattr(measure, "stream", interrupting_stream(99, read := []))
    for one, other in zip(whole, build_bank(task, networks), strict=True):
        assert torch.equal(one.mean, other.mean)
        assert torch.equal(one.waves.real, other.waves.real)
    assert read == []


def test_other_networks_do_not_go_on_with_a_partial_pass(cache, monkeypatch):
    save_every_batch(monkeypatch)
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


def said(out):
    return dict(line.split(": ", 1) for line in out.splitlines())


def test_stats_says_what_it_made(cache):
    options = ("--preset", "quick", "--networks", "2", "--set", "networks.train_steps=5")
    done = call("stats", "--data", "digits", *options, "--quiet")
    assert done.code == 0, done.err
    facts = said(done.out)
    want = {"networks": "2", "augmentations": "7", "images": "1438", "classes": "10"}
    want |= {"features": "1024", "frequencies": "-", "image_size": "8", "measured": "2"}
    assert facts.items() >= (want | {"ranks": "1", "cache": str(cache / "statistics")}).items()
    assert float(facts["seconds"]) > 0
    sizes = sum(path.stat().st_size for path in files(cache))
    assert facts["bytes"].startswith(f"{sizes:,} (")
    assert len(files(cache)) == 2
    again = said(call("stats", "--data", "digits", *options, "--quiet").out)
    assert again["measured"] == "0"
    more = said(call("stats", "--data", "digits", *options, "--discrepancy", "cf", "--quiet").out)
    assert (more["measured"], more["frequencies"]) == ("2", "256")
    assert call("stats", "--data", "digits", "--networks", "0").code == 2


@pytest.mark.slow
def test_two_at_once_share_the_work_of_one(cache):
    """Whoever comes second, to the networks or to the tables, waits and finds them."""
    sets = TINY[TINY.index("--set") :]
    line = command("stats", "--data", "digits", *sets, "--quiet")
    both = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(int(said(out)["measured"]) for out in outs) == 3
    made = {path.name: path.read_bytes() for path in files(cache)}
    left = [path for kind in ("statistics", "networks") for path in (cache / kind).iterdir()]
    assert all(path.suffix == ".safetensors" for path in left)
    for path in left:
        path.unlink()
    subprocess.run(line, check=True, stdout=subprocess.PIPE)
    assert made == {path.name: path.read_bytes() for path in files(cache)}


SMALL = (
    *("--set", "networks.width=8", "--set", "networks.random=1", "--set", "networks.trained=0"),
    *(
        "--set",
        "networks.num_augmentations=2",
        "--set",
        "precision=float32",
        "--set",
        "compile=off",
    ),
)


def test_data_that_has_changed_is_measured_again(tmp_path):
    root = write_tree(tmp_path / "set", pictures(4, ("ant", "bee")))
    one = root / "bee" / "0002.png"

    def measured():
        done = call("stats", "--data", root, *SMALL, "--quiet")
        assert done.code == 0, done.err
        return said(done.out)["measured"]

    assert (measured(), measured()) == ("1", "0")
    status = one.stat()
    os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000))
    assert measured() == "0"  # touched: its contents are the same
    one.write_bytes(pictures(1, ("bee",), seed=9)[0].png)
    assert (measured(), measured()) == ("1", "0")  # replaced
    (root / "ant" / "more.png").write_bytes(one.read_bytes())
    assert (measured(), measured()) == ("1", "0")  # added
    one.unlink()
    assert (measured(), measured()) == ("1", "0")  # removed


def test_the_policy_is_an_option():
    common = ("stats", "--data", "digits", *SMALL, "--quiet")
    first = said(call(*common).out)
    assert first["measured"] == "1"
    some = (*common, "--augmentation", "crop", "--augmentation", "scale")
    assert said(call(*some).out)["measured"] == "1"
    assert said(call(*some).out)["measured"] == "0"
    turned = (*common, "--augmentation", "scale", "--augmentation", "crop")
    assert said(call(*turned).out)["measured"] == "1"
    task = open_task("networks.augmentation=[crop, scale]", "networks.num_augmentations=5")
    names = [t.operation for t in build_bank(task, build_networks(task))[0].augmentations]
    assert names == ["identity", "crop", "scale", "identity", "crop"]
    twice = call(*common, "--augmentation", "crop", "--augmentation", "crop")
    refused(twice, "it names one of them twice")
    refused(call(*common, "--set", "networks.augmentation=[]"), "option 'networks.augmentation'")
    assert call(*common, "--augmentation", "spin").code == 2
