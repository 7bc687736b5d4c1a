"""Decoding in processes: the same batches as in threads, and nothing left when it ends."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_builders import (
    encode,
    noise,
    pictures,
    tar_members,
    write_npz,
    write_parquet,
    write_tar,
    write_tree,
)
from odd_images import BROKEN, ODD, PLAIN
from PIL import Image

from gencond_fast.data import open_source
from gencond_fast.data.crop import RandomCrop
from gencond_fast.data.readers import processes
from gencond_fast.data.readers.batch import Form, in_order
from gencond_fast.data.readers.processes import read_in_processes
from gencond_fast.data.readers.threads import read_in_threads
from gencond_fast.data.skipping import BadImage
from gencond_fast.errors import InputError, RunError
from gencond_fast.system.interrupt import Interrupts

SMALL = Form(3, 8)


def read(split, form=SMALL, rows=None, batch_size=4, workers=2, reader=read_in_processes):
    rows = np.arange(len(split)) if rows is None else rows
    with in_order(split.split, rows, batch_size) as pairs:
        yield from reader(split, form, pairs, workers)


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for name in ("images", "labels", "indices"):
            assert torch.equal(getattr(a, name), getattr(b, name))
            assert getattr(a, name).is_contiguous()
        assert a.done == b.done


def shared_mappings():
    with open("/proc/self/maps") as maps:
        return sum("/dev/zero (deleted)" in line for line in maps)


def nothing_is_left():
    gc.collect()
    fetchers = [t for t in threading.enumerate() if t.name.startswith("gencond-fetch")]
    return not (multiprocessing.active_children() or fetchers or shared_mappings())


@pytest.fixture(autouse=True)
def _clean():
    yield
    assert nothing_is_left()


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "tree", pictures(7))


@pytest.fixture
def many_tasks(monkeypatch):
    """Tasks of two images, of which few are under way: slots are used again and again."""
    monkeypatch.setattr(processes, "_TASK_IMAGES", (1, 2))
    monkeypatch.setattr(processes, "_BATCHES_AHEAD", 1)
    monkeypatch.setattr(processes, "_TASKS_PER_WORKER", 1)


@pytest.fixture(scope="module")
def odd_source(tmp_path_factory):
    """Images of every kind, undecodable ones among them."""
    root = tmp_path_factory.mktemp("odd") / "d"
    found = PLAIN | {n: data for n, (data, _) in ODD.items() if n != "long.png"}
    found |= {name: data for name, (data, _) in BROKEN.items()}
    for kind in ("ant", "bee"):
        (root / kind).mkdir(parents=True)
        for name, data in found.items():
            (root / kind / name).write_bytes(data)
    return str(root)


# what comes out


@pytest.mark.parametrize("container", ["folder", "tar", "parquet"])
def test_the_pixels_labels_and_order_are_those_of_the_files(tmp_path, container, many_tasks):
    made = pictures(7)
    if container == "folder":
        data = write_tree(tmp_path / "tree", made)
    elif container == "tar":
        data = write_tar(tmp_path / "d.tar", tar_members(made))
    else:
        labels = [place // 7 for place in range(21)]
        data = write_parquet(tmp_path / "d.parquet", [p.png for p in made], labels)
    batches = list(read(open_source(str(data)).train, batch_size=5))
    # all of them at once, so none may lie in memory that is used again
    assert torch.cat([b.indices for b in batches]).tolist() == list(range(21))
    assert torch.cat([b.labels for b in batches]).tolist() == [row // 7 for row in range(21)]
    assert [len(b.images) for b in batches] == [5, 5, 5, 5, 1]
    assert [b.done for b in batches] == [5, 10, 15, 20, 21]
    images = torch.cat([b.images for b in batches]).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(images, np.stack([p.pixels for p in made]))


@settings(max_examples=15)
@given(
    st.sampled_from([1, 3]),
    st.integers(1, 40),
    st.one_of(st.none(), st.builds(RandomCrop, st.integers(0, 9), st.integers(0, 9))),
    st.data(),
)
def test_whatever_is_asked_for_it_is_what_threads_give(odd_source, channels, size, crop, data):
    told = {}
    batches = {}
    source = open_source(odd_source)
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, len(source.train) - 1)))), np.int64)
    batch_size, workers = data.draw(st.integers(1, 50)), data.draw(st.integers(1, 4))
    for reader in (read_in_threads, read_in_processes):
        told[reader] = []
        split = open_source(odd_source, on_bad_image="skip", tell=told[reader].append).train
        form = Form(channels, size, crop)
        batches[reader] = list(read(split, form, rows, batch_size, workers, reader))
    same(*batches.values())
    assert told[read_in_threads] == told[read_in_processes]


def test_nothing_wanted_starts_nothing(tree, monkeypatch):
    split = open_source(str(tree)).train
    monkeypatch.setattr(processes, "forked", None)
    assert list(read(split, rows=np.arange(0))) == []


def test_arrays_are_resized_without_processes(tmp_path, monkeypatch):
    split = open_source(str(write_npz(tmp_path / "d.npz", pictures(5)))).train
    monkeypatch.setattr(processes, "forked", None)
    form = Form(1, 5)
    same(list(read(split, form)), list(read(split, form, reader=read_in_threads)))


def test_it_works_beside_the_main_thread(tree):
    split = open_source(str(tree)).train
    found = []
    thread = threading.Thread(target=lambda: found.extend(read(split)))
    thread.start()
    thread.join(30)
    same(found, list(read(split, reader=read_in_threads)))


# bad images


@pytest.mark.parametrize("reader", [read_in_threads, read_in_processes])
def test_the_first_bad_image_is_named(tree, reader, many_tasks):
    for place in (3, 5):
        (tree / "bee" / f"000{place}.png").write_bytes(b"no image")
    batches = read(open_source(str(tree)).train, reader=reader)
    assert [next(batches).done for _ in range(2)] == [4, 8]
    with pytest.raises(BadImage, match=r"bee/0003.png is no image") as caught:
        next(batches)
    assert caught.value.reason.startswith("is no image in a known format")


def test_rows_without_an_image_are_bad_and_files_that_go_away_are_errors(tmp_path, tree):
    cells = [p.png for p in pictures(4, ("ant", "bee"))]
    cells[5] = None
    path = write_parquet(tmp_path / "d.parquet", cells, [0] * 4 + [1] * 4)
    source = open_source(str(path), on_bad_image="skip")
    assert [b.indices.tolist() for b in read(source.train)] == [[0, 1, 2, 3], [4, 6, 7]]
    with pytest.raises(BadImage, match=r"row 5 of .*d.parquet has no image"):
        list(read(open_source(str(path)).train))
    split = open_source(str(tree), on_bad_image="skip").train
    (tree / "ant" / "0002.png").unlink()
    with pytest.raises(InputError, match=r"ant/0002.png is gone .*restore it"):
        list(read(split))


# how it ends


@pytest.mark.parametrize("end", ["close", "drop", "exhaust", "error", "interrupt"])
def test_processes_threads_and_memory_go_with_the_iterator(tree, end, many_tasks):
    batches = read(open_source(str(tree)).train, batch_size=2)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    assert shared_mappings() == 1
    if end == "close":
        batches.close()
    elif end == "exhaust":
        assert len(list(batches)) == 10
    elif end in ("error", "interrupt"):
        kind = ValueError if end == "error" else KeyboardInterrupt
        with pytest.raises(kind), closing(batches):
            raise kind
    del batches
    assert nothing_is_left()


def test_a_process_that_dies_is_a_failed_run_that_names_its_images(tree, monkeypatch):
    decode = processes.decode_block

    def dying(split, form, block, rows, *others):
        if 9 in rows:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(split, form, block, rows, *others)

    monkeypatch.setattr(processes, "decode_block", dying)
    split = open_source(str(tree)).train
    with pytest.raises(RunError, match=r"images \d+ to \d+ \(from .*png\)") as caught:
        list(read(split))
    assert "memory may have run out: try --reader threads" in str(caught.value)


def test_memory_that_runs_out_in_a_process_is_a_failed_run(tree, monkeypatch):
    def starved(*arguments):
        raise MemoryError

    monkeypatch.setattr(processes, "decode_block", starved)
    with pytest.raises(RunError, match=r"images 0 to 3 \(from .*ant/0000.png\)"):
        list(read(open_source(str(tree)).train))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_waited_goes_to_whoever_handles_it_else(number):
    seen = []
    before = signal.signal(number, lambda *arguments: seen.append(arguments[0]))
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), number)
        assert interrupts.pending
        assert seen == []
        interrupts.pass_on()
        assert seen == [number]
        Interrupts().pass_on()
        assert seen == [number]
    finally:
        signal.signal(number, before)


ENDLESS = """
import signal, sys, numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
from gencond_fast.data import open_source
from gencond_fast.data.readers.batch import Form, in_order
from gencond_fast.data.readers.processes import read_in_processes
split = open_source(sys.argv[1]).train
with in_order(split.split, np.arange(len(split)), 64) as pairs:
    for batch in read_in_processes(split, Form(3, 200), pairs, 2):
        print(batch.done, flush=True)
"""


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_one_that_made_them(tmp_path, stop):
    data = encode(Image.fromarray(noise(300, 300, 3)))
    for name in ("ant", "bee"):
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / "0.png").write_bytes(data)
        for place in range(1, 4000):
            os.link(tmp_path / "d" / name / "0.png", tmp_path / "d" / name / f"{place}.png")
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, tmp_path / "d"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "64\n"
        workers = children(process.pid)
        assert len(workers) == 2
        if stop == signal.SIGINT:  # from the keyboard it reaches the workers as well
            os.killpg(process.pid, stop)
        else:
            process.send_signal(stop)
        error = process.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.wait()
    assert error.count("Traceback") == (stop == signal.SIGINT)  # the parent's own
    until = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, workers))
