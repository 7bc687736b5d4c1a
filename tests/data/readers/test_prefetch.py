"""Items made ahead: the same as without, never too many of them, and nothing left at the end."""

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
from hypothesis import given
from hypothesis import strategies as st
from image_builders import pictures, write_parquet, write_tree

from gencond_fast.data import open_source, stream, training_batches
from gencond_fast.data.formats.arrays import ArraySplit
from gencond_fast.data.readers.batch import Form
from gencond_fast.data.readers.image_cache import ImageCache
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.data.readers.prefetch import ahead
from gencond_fast.data.skipping import BadImage

COUNTS = st.integers(1, 4)


def gencond_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("gencond")]


@pytest.fixture(autouse=True)
def _clean():
    yield
    gc.collect()
    assert not gencond_threads()
    assert not multiprocessing.active_children()


class Making:
    """An iterator of the numbers below `length`, which can be held up and looked at.

    Attributes:
        begun: how many items were begun.
        threads: who made each.
        closed: whether it was closed or came to its end.
        go: cleared, nothing is made.
    """

    def __init__(self, length, error_at=None, error=None):
        self.begun, self.threads, self.closed = 0, [], False
        self.go = threading.Event()
        self.go.set()
        self._length, self._error_at, self._error = length, error_at, error

    def items(self):
        try:
            for number in range(self._length):
                self.begun += 1
                self.threads.append(threading.get_ident())
                assert self.go.wait(10)
                if number == self._error_at:
                    raise self._error
                yield number
        finally:
            self.closed = True

    def settled(self):
        """How many items are begun once no more are."""
        before = None
        while before != self.begun:
            before = self.begun
            time.sleep(0.05)
        return before


# what comes out


@given(st.integers(0, 12), COUNTS)
def test_the_items_and_their_order_are_the_same(length, count):
    making = Making(length)
    assert list(ahead(making.items(), count)) == list(range(length))
    assert making.closed
    assert making.begun == length


@pytest.mark.parametrize("slow", ["making", "using"])
def test_neither_pace_changes_the_order(slow):
    def items():
        for number in range(12):
            time.sleep(0.01 * (slow == "making"))
            yield number

    seen = []
    for number in ahead(items()):
        time.sleep(0.01 * (slow == "using"))
        seen.append(number)
    assert seen == list(range(12))


@given(st.integers(0, 8), COUNTS, st.sampled_from([BadImage("a.png", "is bad"), KeyError()]))
def test_an_error_comes_in_the_place_of_its_item(place, count, error):
    making, seen = Making(9, place, error), []
    with pytest.raises(type(error)) as caught:
        seen.extend(ahead(making.items(), count))
    assert caught.value is error
    # `extend` keeps what came before the error
    assert seen == list(range(place))
    assert making.closed
    assert making.begun == place + 1


def test_a_keyboard_interrupt_of_the_items_reaches_the_user():
    items = ahead(Making(5, 2, KeyboardInterrupt()).items())
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(KeyboardInterrupt):
        next(items)


# how far ahead, and who


@given(COUNTS, st.integers(1, 6))
def test_no_more_than_so_many_are_made_ahead(count, used):
    making = Making(20)
    with closing(ahead(making.items(), count)) as items:
        for _ in range(used):
            next(items)
        assert making.settled() == used + count


def test_the_first_item_is_made_by_who_asks_and_the_others_by_one_thread():
    making = Making(6)
    assert not gencond_threads()
    items = ahead(making.items())
    assert (making.begun, gencond_threads()) == (0, [])
    list(items)
    assert making.threads[0] == threading.get_ident()
    assert threading.get_ident() not in making.threads[1:]
    assert len(set(making.threads[1:])) == 1


@pytest.mark.gpu
def test_items_are_made_on_the_stream_of_the_user():
    def items():
        while True:
            yield torch.cuda.current_stream()

    torch.cuda.init()
    for user in (torch.cuda.current_stream(), torch.cuda.Stream()):
        with torch.cuda.stream(user), closing(ahead(items())) as made:
            assert [next(made) for _ in range(3)] == [user] * 3


def test_whoever_takes_longer_than_the_making_does_not_wait():
    """Items take 20 ms and their use 60 ms, in which nothing needs the interpreter."""

    def items():
        for number in range(12):
            time.sleep(0.02)
            yield number

    waits = []
    with closing(ahead(items())) as made:
        next(made)
        for _ in range(11):
            time.sleep(0.06)
            asked = time.perf_counter()
            next(made)
            waits.append(time.perf_counter() - asked)
    # a busy machine may hold up one or the other
    assert np.median(waits) < 0.002


def test_what_stands_still_is_made_up_for():
    """Items that were made ahead bridge one that takes long."""
    making = Making(10)
    with closing(ahead(making.items(), 3)) as items:
        assert next(items) == 0
        assert making.settled() == 4
        making.go.clear()
        assert [next(items) for _ in range(3)] == [1, 2, 3]
        making.go.set()
        assert list(items) == [4, 5, 6, 7, 8, 9]


# how it ends


@pytest.mark.parametrize("end", ["close", "drop", "error", "interrupt"])
@pytest.mark.parametrize("used", [0, 1, 3])
def test_it_ends_with_its_user(end, used):
    making = Making(100)
    items = ahead(making.items())
    for _ in range(used):
        next(items)
    if end == "close":
        items.close()
    elif end in ("error", "interrupt"):
        kind = ValueError if end == "error" else KeyboardInterrupt
        with pytest.raises(kind), closing(items):
            raise kind
    del items
    assert not gencond_threads()
    assert making.closed == (used > 0)
    assert making.begun <= used + 2


def test_what_is_being_made_is_waited_for():
    making = Making(100)
    items = ahead(making.items())
    next(items)
    making.settled()
    making.go.clear()
    next(items)
    assert making.settled() == 4  # in the middle of it
    threading.Timer(0.2, making.go.set).start()
    items.close()
    assert making.closed
    assert making.begun == 4


LEFT_OPEN = """
import os, signal, sys
from gencond_fast.data import open_source, stream
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
split = open_source(sys.argv[1], reader=sys.argv[2]).train
batches = stream(split, channels=3, image_size=64, batch_size=4)
print(next(batches).done, flush=True)
if sys.argv[3] == "error":
    raise KeyError("of the user")
if sys.argv[3] == "interrupt":
    os.killpg(0, signal.SIGINT)  # from the keyboard it reaches all processes
    list(batches)
"""


@pytest.mark.parametrize("reader", [pytest.param("threads", marks=pytest.mark.slow), "processes"])
@pytest.mark.parametrize(
    "end", [*(pytest.param(end, marks=pytest.mark.slow) for end in ("end", "error")), "interrupt"]
)
def test_an_interpreter_exits_while_it_is_open(tmp_path, reader, end):
    data = write_tree(tmp_path / "d", pictures(50))
    done = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN, str(data), reader, end],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )
    assert done.stdout == "4\n"
    assert done.returncode == {"end": 0, "error": 1, "interrupt": -signal.SIGINT}[end]
    assert done.stderr.count("Traceback") == (end != "end"), done.stderr


# where it is used


OPTIONS = {"channels": 3, "image_size": 8, "batch_size": 4, "workers": 2}


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "tree", pictures(7))


def both(split, **options):
    options = OPTIONS | options
    yield lambda: stream(split, **options)
    yield lambda: training_batches(split, seed=0, epoch=0, **options)


def has_threads(read):
    """Whether there are any while batches are used."""
    with closing(read()) as batches:
        next(batches)
        found = {thread.name.rpartition("_")[0] for thread in gencond_threads()}
    return "gencond-ahead" in found


@pytest.mark.parametrize("reader", ["threads", "processes"])
def test_files_are_decoded_ahead(tree, reader):
    split = open_source(str(tree), reader=reader).train
    assert all(has_threads(read) for read in both(split))


def test_what_is_in_memory_is_not(tree, tmp_path):
    split = open_source(str(tree), reader="threads").train
    split = split.with_cache(ImageCache(Form(3, 8), np.arange(21)))
    assert all(has_threads(read) for read in both(split))
    assert len(list(stream(split, **OPTIONS))) == 6
    assert not any(has_threads(read) for read in both(split))
    assert all(has_threads(read) for read in both(split, image_size=7))
    zeros = ArraySplit(np.zeros((21, 8, 8, 3), np.uint8), np.zeros(21, np.int64), "zeros")
    arrays = ImageReader(zeros)
    assert not any(has_threads(read) for read in both(arrays))
    assert all(has_threads(read) for read in both(arrays, image_size=7))


def test_pools_are_read_ahead_whether_their_images_are_kept_or_not(tmp_path):
    labels = [place // 7 for place in range(21)]
    data = write_parquet(tmp_path / "d.parquet", [p.png for p in pictures(7)], labels)
    split = open_source(str(data), reader="threads").train
    split = split.with_cache(ImageCache(Form(3, 8), np.arange(21)))
    list(stream(split, **OPTIONS))
    streamed, trained = map(has_threads, both(split))
    assert (streamed, trained) == (False, True)


def test_processes_begin_beside_the_user_where_the_first_images_are_kept(tree):
    """They are then forked by another thread than that of the user, who is at work."""
    want = list(stream(open_source(str(tree), reader="threads").train, **OPTIONS))
    for _ in range(5):
        split = open_source(str(tree), reader="processes").train
        split = split.with_cache(ImageCache(Form(3, 8), np.arange(21)))
        list(stream(split, **(OPTIONS | {"indices": np.arange(8)})))
        got = []
        for batch in stream(split, **OPTIONS):
            torch.randn(300, 300) @ torch.randn(300, 300)
            got.append(batch.images)
        assert torch.equal(torch.cat(got), torch.cat([batch.images for batch in want]))


@pytest.mark.parametrize("reader", ["threads", "processes"])
def test_bad_images_are_errors_in_their_place(tree, reader):
    (tree / "bee" / "0003.png").write_bytes(b"no image")  # the eleventh
    batches = stream(open_source(str(tree), reader=reader).train, **OPTIONS)
    assert [next(batches).done for _ in range(2)] == [4, 8]
    with pytest.raises(BadImage, match=r"bee/0003.png is no image"):
        next(batches)
    assert not gencond_threads()


@pytest.mark.parametrize("reader", ["threads", "processes"])
@pytest.mark.parametrize("used", [1, 2, 5])
def test_an_epoch_goes_on_behind_what_was_used(tree, reader, used):
    """Not behind what was made ahead."""
    split = open_source(str(tree), reader=reader).train
    options = OPTIONS | {"seed": 3, "epoch": 1, "crop": True}
    whole = list(training_batches(split, **options))
    with closing(training_batches(split, **options)) as batches:
        (*_, last) = (next(batches) for _ in range(used))
    rest = list(training_batches(split, **options, start=last.done))
    assert [batch.done for batch in rest] == [batch.done for batch in whole[used:]]
    for one, other in zip(rest, whole[used:], strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.indices, other.indices)
