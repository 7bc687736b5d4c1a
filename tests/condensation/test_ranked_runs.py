"""Whole runs on processes that torchrun starts: the file of one process, whatever befalls them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import command, metrics
from stopping import PRODUCT, checkpoints

from gencond_fast.condensation.checkpoint import load_checkpoint
from gencond_fast.store.artifact import load

pytestmark = pytest.mark.slow  # every start of torchrun imports PyTorch several times

DRIVER = str(Path(__file__).with_name("ranked_steps.py"))
CODING, STEPS = 12, 24  # those of the codes, and all
OPTIONS = (
    *("--data", "digits", "--bytes", "8KB", "--steps", str(STEPS - CODING), "--device", "cpu"),
    *("--set", "networks.width=8", "--set", "networks.train_steps=5"),
    *("--set", "networks.random=1", "--set", "networks.trained=2"),
    *("--set", "store.format=generator", "--set", f"training.coding_steps={CODING}"),
    *("--set", "training.class_batch=7"),
    *("--set", "training.ema_decay=0.5"),
    *("--set", "training.checkpoint_every=10", "--set", "training.log_every=1"),
    *("--set", "precision=float32", "--set", "compile=off"),
)


def environment(cache):
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return os.environ | threads | {"GENCOND_FAST_CACHE": str(cache)}


def on_ranks(world, run, cache, *befalls, restarts=0):
    """`condense` on ranks of torchrun, and the errors that were said."""
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(world)]
    line += ["--standalone", "--max-restarts", str(restarts), DRIVER]
    line += [*map(str, befalls or ("none", -1, -1)), "condense", "--out", str(run), *OPTIONS]
    done = subprocess.run(line, capture_output=True, text=True, env=environment(cache), timeout=300)
    spoken = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    return done, spoken


def on_one(run, cache):
    line = command("condense", "--out", run, *OPTIONS)
    options = {"capture_output": True, "text": True, "timeout": 100}
    return subprocess.run(line, check=True, env=environment(cache), **options)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of one process, and its cache."""
    root = tmp_path_factory.mktemp("alone")
    on_one(root / "run", root / "cache")
    return root / "run", root / "cache"


def codes(run):
    """The stored set and its average as the last checkpoint has them, before they are rounded."""
    last = load_checkpoint(run / "checkpoint")
    return last.store | dict(enumerate(last.average["mean"]))


def assert_same(run, whole):
    """To rounding: sums over ranks have another order, 1e-7 of a gradient.

    Adam takes steps of about the rate whatever the size of a gradient, so that where a gradient
    is rounding alone its number may move by one: 30 * 1e-3 a step at the most. Levels are then
    rounded, which hides such moves or makes them one level.
    """
    lines, wanted = metrics(run), metrics(whole)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    for line, want in zip(lines, wanted, strict=True):
        for each in (line, want):
            each.pop("images_per_second")
            each.pop("stage")
        assert line == pytest.approx(want, rel=1e-4, abs=1e-6)
    found, expected = codes(run), codes(whole)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        size = float(expected[name].abs().max())
        close = (value - expected[name]).abs() <= 1e-4 * size
        assert float(close.float().mean()) > 0.999, name
    product, want = (load(each / PRODUCT).store.state_dict() for each in (run, whole))
    for name, value in product.items():
        away = (value - want[name]).abs() > 1e-3 * float(want[name].abs().max())
        assert float(away.float().mean()) < 1e-2, name


def test_a_killed_rank_costs_what_was_done_since_the_checkpoint(alone, tmp_path):
    whole, _ = alone
    run = tmp_path / "run"
    # with a cache of its own: networks, tables and steps are all made on two ranks
    done, spoken = on_ranks(2, run, tmp_path / "cache", "kill", 1, 18, restarts=1)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("resuming at step 12") == 1  # where the coding ends
    assert all("another rank has ended" in text for text in spoken)
    assert done.stdout.count("10 classes x") == 1
    assert_same(run, whole)


@pytest.mark.parametrize("world", [1, 4])
def test_asked_to_stop_it_goes_on_with_another_number_of_ranks(alone, tmp_path, world):
    whole, cache = alone
    run = tmp_path / "run"
    done, spoken = on_ranks(2, run, cache, "terminate", 1, 7)
    assert done.returncode != 0
    assert spoken == ["error: asked to stop; run the same command again to continue"], done.stderr
    assert not (run / PRODUCT).exists()
    (checkpoint,) = checkpoints(run)
    done = on_one(run, cache) if world == 1 else on_ranks(world, run, cache)[0]
    assert done.returncode == 0, done.stderr
    assert f"resuming at step {int(checkpoint[5:-3])}" in done.stderr
    assert_same(run, whole)


def test_an_error_of_one_rank_is_said_once(alone, tmp_path):
    _, cache = alone
    done, spoken = on_ranks(2, tmp_path / "run", cache, "fail", 1, 12)
    assert done.returncode != 0
    assert spoken == ["error: picture.png cannot be decoded: repair it"], done.stderr
    assert done.stdout == ""
    assert "exitcode  : 2" in done.stderr  # torchrun's report on the ranks
    assert checkpoints(tmp_path / "run") == ["step-00000010.pt"]
