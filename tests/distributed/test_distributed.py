"""Ranks over a real key-value store, each in a thread: what they share and how they end."""

from __future__ import annotations

import errno
import threading
import time
from datetime import timedelta

import numpy as np
import pytest
import torch
from command_line import call, refused
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed import TCPStore

from gencond_fast.distributed import ranks as distributed
from gencond_fast.distributed import rendezvous
from gencond_fast.distributed.collectives import RankLost
from gencond_fast.distributed.ranks import Ranks, torchrun
from gencond_fast.distributed.rendezvous import own_gpu, speaks, world_size
from gencond_fast.errors import InputError, RunError
from gencond_fast.system.interrupt import Terminated

NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "TORCHELASTIC_RUN_ID")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(distributed, "_HEAD_START", 0.0)
    return monkeypatch


def on_ranks(world, body):
    """What `body(ranks)` gives or raises on each of `world` ranks."""
    # the server is another handle than the clients: one handle serves one thread at a time
    server = TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=20))
    ended = [None] * world

    def run(rank):
        store = TCPStore("127.0.0.1", server.port, None, False, timedelta(seconds=20))
        try:
            ended[rank] = body(Ranks(rank, world, store))
        except BaseException as error:
            ended[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return ended


@given(st.integers(0, 40), st.integers(1, 9))
def test_every_row_falls_to_one_rank(length, world):
    rows = np.arange(length) * 3
    parts = [Ranks(rank, world).share(rows) for rank in range(world)]
    assert np.concatenate(parts).tolist() == rows.tolist()
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_nothing_is_waited_for():
    ranks = Ranks()
    ranks.barrier()
    ranks.check_failures()
    ranks.connect(torch.device("cpu"))
    with ranks.first_before_others():
        assert ranks.broadcast_object({"a": 1}) == {"a": 1}
    assert ranks.all_gather_object(3) == [3]
    assert ranks.max(5) == 5
    assert ranks.broadcast_state(state := {"a": torch.ones(2)}) is state
    tensor = torch.randn(3)
    assert ranks.gather(tensor)[0] is tensor
    ranks.all_reduce([added := tensor.clone()])
    assert torch.equal(added, tensor)
    assert not torch.distributed.is_initialized()


def test_the_first_one_tells_all():
    def body(ranks):
        return [
            ranks.broadcast_object(["x", ranks.rank]),
            ranks.broadcast_object(0.1 + ranks.rank),
            ranks.broadcast_object(None),
        ]

    assert on_ranks(3, body) == [[["x", 0], 0.1, None]] * 3


def test_all_know_what_each_has():
    def body(ranks):
        return [
            ranks.all_gather_object({"of": ranks.rank, "value": 0.1 * ranks.rank}),
            ranks.all_gather_object(None),
        ]

    told = [{"of": rank, "value": 0.1 * rank} for rank in range(3)]
    assert on_ranks(3, body) == [[told, [None] * 3]] * 3


def test_ranks_that_differ_are_refused():
    def body(ranks):
        ranks.check_same_data("set", "same")
        ranks.check_same_runtime("cpu" if ranks.rank < 2 else "cuda")

    first, second, third = on_ranks(3, body)
    assert (first, second) == (None, None)
    assert isinstance(third, InputError)
    assert str(third).startswith("rank 2 runs on cuda and the first one on cpu: give device")


def test_nobody_leaves_a_meeting_before_all_are_there():
    arrived = []

    def body(ranks):
        for _ in range(3):
            if ranks.rank == 1:
                time.sleep(0.2)
            arrived.append(ranks.rank)
            ranks.barrier()
            assert len(arrived) % 3 == 0
            ranks.barrier()

    assert on_ranks(3, body) == [None] * 3
    assert len(arrived) == 9


def test_the_first_before_the_others():
    order = []

    def body(ranks):
        with ranks.first_before_others():
            if ranks.is_main:
                time.sleep(0.3)
            order.append(ranks.is_main)

    assert on_ranks(3, body) == [None] * 3
    assert order == [True, False, False]


ERRORS = [
    InputError("x.png cannot be decoded"),
    OSError(errno.ENOSPC, "No space left on device", "/cache/table"),
    RunError("step 7: the term(s) mean are not finite"),
]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("waits", ["meet", "tell", "look"])
def test_an_error_of_one_rank_ends_all(monkeypatch, error, waits):
    monkeypatch.setattr(distributed, "_LOOK_EVERY", 0.0)

    def body(ranks):
        try:
            if ranks.rank == 2:
                raise error
            if waits == "look":
                while True:
                    ranks.check_failures()
            ranks.barrier() if waits == "meet" else [ranks.broadcast_object(1), ranks.barrier()]
        except BaseException as found:
            ranks.fail(found)
            raise

    start = time.monotonic()
    ended = on_ranks(3, body)
    assert [type(each) for each in ended] == [type(error)] * 3
    assert {str(each) for each in ended} == {str(error)}
    assert time.monotonic() - start < 10


def test_a_failure_that_nobody_foresaw_is_named():
    def body(ranks):
        try:
            if ranks.rank == 1:
                raise ValueError("a bug")
            ranks.barrier()
        except BaseException as found:
            ranks.fail(found)
            raise

    first, second = on_ranks(2, body)
    assert isinstance(second, ValueError)
    assert isinstance(first, RunError)
    assert str(first) == ("rank 1 ended (ValueError a bug): run the same command again to continue")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Terminated()])
def test_when_one_rank_is_asked_to_stop_all_are(error):
    def body(ranks):
        if ranks.rank == 0:
            ranks.fail(error)
            raise error
        ranks.barrier()

    assert [type(each) for each in on_ranks(3, body)] == [type(error)] * 3


def test_a_rank_that_torchrun_ends_says_what_another_one_failed_with(monkeypatch):
    def body(ranks):
        monkeypatch.setattr(distributed, "find_store", lambda: (1, ranks._store))
        with torchrun():
            raise Terminated

    server = TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=20))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "_LAST_WORDS", 0.0)
    asked = Ranks(1, 2, server)
    with pytest.raises(Terminated):
        body(asked)
    other = TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=20))
    Ranks(0, 2, other).fail(InputError("x.png cannot be decoded"))
    with pytest.raises(InputError, match=r"x.png cannot be decoded"):
        body(Ranks(1, 2, other))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Terminated(), RankLost("killed")])
def test_a_rank_that_is_asked_to_stop_or_lost_another_waits_for_nobody(error):
    """The others may have been killed."""

    def body(ranks):
        if ranks.rank == 0:
            start = time.monotonic()
            ranks.fail(error)
            return time.monotonic() - start
        return None

    assert on_ranks(2, body)[0] < 5


def test_without_torchrun_there_is_one(environment):
    assert world_size() == 1
    with torchrun() as ranks:
        assert (ranks.rank, ranks.world_size, ranks.is_main) == (0, 1, True)
    environment.setenv("WORLD_SIZE", "1")
    with torchrun() as ranks:
        assert ranks.world_size == 1


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "2"}, "RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK is '-1'"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK is 2 and WORLD_SIZE 2"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "rank 0 cannot reach the others at ?:?"),
        (
            {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
            "rank 1 cannot reach the others at 127.0.0.1:1 (",
        ),
    ],
)
def test_an_environment_that_is_not_complete(environment, variables, words):
    environment.setattr(rendezvous, "CONNECT", timedelta(seconds=1))
    for name, value in variables.items():
        environment.setenv(name, value)
    refused(call("stats", "--data", "digits", "--quiet"), words)


@pytest.mark.parametrize("command", ["relabel", "teachers", "sample", "info"])
def test_other_commands_run_on_one_rank(environment, command, tmp_path):
    environment.setenv("WORLD_SIZE", "2")
    environment.setenv("RANK", "1")
    done = call(command, "--data", "digits", "--out", tmp_path / "run")
    refused(done, "only condense, evaluate, stats run on several ranks, and WORLD_SIZE is 2")
    assert f"start {command} without torchrun" in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_for_every_rank(environment):
    environment.setenv("LOCAL_RANK", "1")
    assert own_gpu(2) == 1
    with pytest.raises(InputError, match="rank 1 of this machine has no GPU of its own") as caught:
        own_gpu(1)
    assert "--nproc-per-node 1" in str(caught.value)


def test_one_of_torchruns_ranks_speaks(environment):
    assert speaks()
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("MASTER_ADDR", "here")):
        environment.setenv(name, value)
        assert speaks()  # of others that were started in another way nothing is known
    environment.setenv("TORCHELASTIC_RUN_ID", "x")
    assert not speaks()
    environment.setenv("RANK", "0")
    assert speaks()
