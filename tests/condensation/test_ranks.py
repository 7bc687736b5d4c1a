"""The statistics on two processes that torchrun starts: the same tables, the same fate."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from command_line import call
from safetensors.torch import load_file

pytestmark = pytest.mark.slow  # every start of torchrun imports PyTorch three times

OPTIONS = (
    *("stats", "--data", "digits", "--device", "cpu", "--discrepancy", "cf"),
    *("--set", "networks.width=8", "--set", "networks.train_steps=5"),
    *("--set", "networks.random=1", "--set", "networks.trained=1"),
    *("--set", "networks.num_augmentations=3", "--set", "networks.frequencies=16"),
    *("--set", "precision=float32", "--set", "compile=off"),
)
IMAGES = 1438
DRIVER = str(Path(__file__).with_name("ranked.py"))


def on_ranks(cache, what="none", rank=-1, batches=-1, read=None):
    """The program on two ranks of torchrun; `what` befalls one of them after so many batches."""
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    line += ["--standalone", DRIVER, what, str(rank), str(batches), *OPTIONS]
    environment = os.environ | {"GENCOND_FAST_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    if read:
        environment["READ_BY_RANKS"] = str(read)
    done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=200)
    spoken = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    return done, spoken


def tables(cache):
    found = sorted((cache / "statistics").glob("*.safetensors"))
    return {path.name: load_file(path) for path in found}


def left(cache):
    """What else is in the cache."""
    return [p.name for p in (cache / "statistics").iterdir() if p.suffix != ".safetensors"]


def facts(out):
    return dict(line.split(": ", 1) for line in out.splitlines())


def on_one(cache):
    """The program in this process, with one thread as the ranks, so that networks are the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GENCOND_FAST_CACHE", str(cache))
            done = call(*OPTIONS, "--quiet")
    finally:
        torch.set_num_threads(threads)
    assert done.code == 0, done.err
    return facts(done.out)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The tables of one process."""
    cache = tmp_path_factory.mktemp("alone")
    on_one(cache)
    return tables(cache)


def assert_same(found, want):
    """To the rounding of float32: the order of summation is another one.

    A mean of n values is rounded once for every update of at most a batch, of which a class of
    the digits sees 15: 15 x 6e-8 of it at worst, and sums of squares as much of theirs.
    """
    assert found.keys() == want.keys()
    for name, table in found.items():
        assert table.keys() == want[name].keys()
        for part, value in table.items():
            expected = want[name][part]
            if not value.is_floating_point():
                assert torch.equal(value, expected)
                continue
            size = expected.abs().amax()
            torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6 * float(size))


def test_two_ranks_measure_what_one_does(alone, tmp_path):
    read = tmp_path / "read"
    done, _ = on_ranks(tmp_path / "cache", read=read)
    assert done.returncode == 0, done.stderr
    assert_same(tables(tmp_path / "cache"), alone)
    assert left(tmp_path / "cache") == []
    # every image once, each rank a half
    rows = [tuple(map(int, line.split())) for line in read.read_text().splitlines()]
    assert sorted(row for _, row in rows) == list(range(IMAGES))
    assert Counter(rank for rank, _ in rows) == {0: IMAGES // 2, 1: IMAGES // 2}
    # one of them prints
    assert facts(done.stdout)["ranks"] == "2"
    assert facts(done.stdout)["measured"] == "4"
    assert done.stderr.count("measuring 1,438 images under 2 networks x 3 augmentations") == 1
    assert done.stderr.count("real statistics 719/719") == 1

    assert on_one(tmp_path / "cache")["measured"] == "0"


def test_a_rank_that_is_killed_ends_all_and_its_work_is_not_done_again(alone, tmp_path):
    read, cache = tmp_path / "read", tmp_path / "cache"
    done, _ = on_ranks(cache, "kill", rank=1, batches=3, read=read)
    assert done.returncode != 0
    assert tables(cache) == {}
    assert len(left(cache)) >= 1
    shutil.copytree(cache, tmp_path / "copy")

    done, _ = on_ranks(cache, read=read)
    assert done.returncode == 0, done.stderr
    assert_same(tables(cache), alone)
    assert left(cache) == []
    times = Counter(read.read_text().splitlines())
    assert len(times) == IMAGES
    assert all(times[f"1 {row}"] == 1 for row in range(719, 1019))  # its three batches

    # another number of ranks makes nothing of what they left but room
    on_one(tmp_path / "copy")
    found = tables(tmp_path / "copy")
    assert found.keys() == alone.keys()
    for name, table in found.items():
        assert all(torch.equal(value, alone[name][part]) for part, value in table.items())
    assert left(tmp_path / "copy") == []


def test_an_error_of_one_rank_is_said_once(tmp_path):
    done, spoken = on_ranks(tmp_path, "fail", rank=1, batches=2)
    assert done.returncode != 0
    assert spoken == ["error: picture.png cannot be decoded: repair it"], done.stderr
    assert done.stdout == ""
    assert "exitcode  : 2" in done.stderr  # torchrun's report on the ranks
    assert "File " not in done.stderr.split("error: ")[0]
