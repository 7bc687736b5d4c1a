"""The statistics on two processes that torchrun starts: the same tables, the same fate."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from command_line import launch
from safetensors.torch import load_file

OPTIONS = (
    *("stats", "--data", "digits", "--device", "cpu", "--discrepancy", "cf"),
    *("--set", "networks.width=8", "--set", "networks.train_steps=5"),
    *("--set", "networks.random=1", "--set", "networks.trained=1"),
    *("--set", "networks.augmentations=3", "--set", "networks.frequencies=16"),
    *("--set", "precision=float32", "--set", "compile=off"),
)
IMAGES = 1438
DRIVER = str(Path(__file__).with_name("ranked.py"))


def on_ranks(cache, what="none", rank=-1, batches=-1, world=2, read=None, options=OPTIONS):
    """The program under torchrun; `what` befalls a rank after so many batches."""
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(world)]
    line += ["--standalone", DRIVER, what, str(rank), str(batches), *options]
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


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The tables of one process."""
    cache = tmp_path_factory.mktemp("alone")
    environment = os.environ | {"GENCOND_FAST_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = launch(*OPTIONS, env=environment)
    assert done.returncode == 0, done.stderr
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

    again, _ = on_ranks(tmp_path / "cache", read=read)
    assert again.returncode == 0, again.stderr
    assert facts(again.stdout)["measured"] == "0"
    assert len(read.read_text().splitlines()) == IMAGES


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed_ends_all_and_the_rest_is_not_done_again(alone, tmp_path, victim):
    read, cache = tmp_path / "read", tmp_path / "cache"
    done, _ = on_ranks(cache, "kill", victim, 3, read=read)
    assert done.returncode != 0
    assert tables(cache) == {}
    assert len(left(cache)) >= 1
    before = Counter(read.read_text().splitlines())
    done, _ = on_ranks(cache, read=read)
    assert done.returncode == 0, done.stderr
    assert_same(tables(cache), alone)
    assert left(cache) == []
    after = Counter(read.read_text().splitlines())
    assert len(after) == IMAGES
    assert all(after[f"{victim} {row}"] == 1 for row in range(719 * victim, 719 * victim + 300))
    assert sum(before.values()) >= 300


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("fail", "error: picture.png cannot be decoded: repair it"),
        ("full", "error: cannot read or write /cache/table (No space left on device)"),
    ],
)
def test_an_error_of_one_rank_is_said_once(tmp_path, what, words):
    done, spoken = on_ranks(tmp_path, what, rank=1, batches=2)
    assert done.returncode != 0
    assert len(spoken) == 1, done.stderr
    assert spoken[0].startswith(words)
    assert done.stdout == ""
    assert "exitcode  : 2" in done.stderr  # torchrun's report on the ranks
    assert "exitcode  : 1 " not in done.stderr
    assert "Traceback" not in done.stderr.split("ChildFailedError")[0].split("error: ")[0]


def test_an_error_of_all_ranks_is_said_once(tmp_path):
    options = (*OPTIONS[:2], str(tmp_path / "none"), *OPTIONS[3:])
    done, spoken = on_ranks(tmp_path / "cache", options=options)
    assert done.returncode != 0
    assert len(spoken) == 1, done.stderr
    assert "none does not exist" in spoken[0]
    assert "exitcode  : 2" in done.stderr


def test_another_number_of_ranks_starts_clean(alone, tmp_path):
    done, _ = on_ranks(tmp_path, "kill", rank=1, batches=3)
    assert done.returncode != 0
    environment = os.environ | {"GENCOND_FAST_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = launch(*OPTIONS, env=environment)
    assert done.returncode == 0, done.stderr
    found = tables(tmp_path)
    assert found.keys() == alone.keys()
    assert all(
        torch.equal(found[name][key], alone[name][key]) for name in found for key in alone[name]
    )
    assert left(tmp_path) == []
