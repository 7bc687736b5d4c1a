"""Shuffled epochs in processes of their own: killed and started again, and as ranks of torchrun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import trainee
from image_builders import pictures, write_parquet, write_tree

from gencond_fast.data import open_source, training, training_batches

pytestmark = pytest.mark.slow  # every process imports PyTorch

SCRIPT = str(Path(__file__).with_name("trainee.py"))
MADE = pictures(90, shape=(30, 40, 3))
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    "OMP_NUM_THREADS": "1",
}


def data_of(kind, root):
    if kind == "parquet":
        labels = [row // 90 for row in range(270)]
        return write_parquet(root / "made.parquet", [p.png for p in MADE], labels)
    return write_tree(root / "tree", MADE)


def uninterrupted(data, monkeypatch):
    monkeypatch.setattr(training, "_POOL_BYTES", trainee.POOL_BYTES)
    batches = training_batches(open_source(str(data)).train, **trainee.OPTIONS)
    return [seen for batch in batches for seen in trainee.crcs(batch)]


def lines_of(path):
    return [tuple(map(int, line.split())) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", ["tree", "parquet"])
def test_killed_in_the_middle_it_goes_on_exactly(kind, tmp_path, monkeypatch):
    data = data_of(kind, tmp_path)
    want = uninterrupted(data, monkeypatch)
    position = tmp_path / "0.position"
    consumed, behind = [], 0
    for stop in (60, 140, None):
        process = subprocess.Popen(
            [sys.executable, SCRIPT, str(data), str(tmp_path)], env=ENVIRONMENT
        )
        try:
            while stop and not (position.exists() and int(position.read_text()) >= stop):
                assert process.poll() is None
                time.sleep(0.002)
            if stop:
                process.send_signal(signal.SIGKILL)
            assert process.wait(100) == (-signal.SIGKILL if stop else 0)
        finally:
            process.kill()
        (log,) = tmp_path.glob(f"{process.pid}.0.seen")
        before, behind = behind, int(position.read_text())
        consumed += [line for line in lines_of(log) if before < line[0] <= behind]
        assert not stop or stop <= behind < 270
    assert consumed == want
    assert sorted(row for _, row, _ in consumed) == list(range(270))


@pytest.mark.parametrize("kind", ["tree", "parquet"])
def test_two_ranks_of_torchrun_see_each_image_once(kind, tmp_path, monkeypatch):
    data = data_of(kind, tmp_path)
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*line, SCRIPT, str(data), str(tmp_path)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    ranks = [lines_of(next(tmp_path.glob(f"*.{rank}.seen"))) for rank in (0, 1)]
    assert sorted(ranks[0] + ranks[1]) == sorted(uninterrupted(data, monkeypatch))
    for seen in ranks:
        steps = Counter(behind for behind, _, _ in seen)
        assert set(steps) == {*range(7, 270, 7), 270}
        assert {steps[behind] for behind in range(7, 270, 7)} <= {3, 4}
    assert {(tmp_path / f"{rank}.position").read_text() for rank in (0, 1)} == {"270"}
