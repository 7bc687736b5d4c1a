"""The example runs as it stands, in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "train.py"
# under which a condensation of the digits takes a second
TINY = {
    "bytes": 8000,
    "training": {"steps": 40},
    "networks": {"width": 8, "train_steps": 5, "random": 1, "trained": 2},
}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, EXAMPLE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_from_the_data_to_a_network_that_has_learned(tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.dump(TINY))
    out = tmp_path / "run"
    done = run("digits", "--out", out, "--config", tmp_path / "tiny.yaml", "--epochs", 5)
    assert done.returncode == 0, done.stderr
    size, accuracy = done.stdout.splitlines()
    assert re.fullmatch(r"[78],\d{3} bytes, \d+ images of 10 classes", size), done.stdout
    said = re.fullmatch(r"(\d+\.\d\d) % of 359 test images", accuracy)
    assert said is not None, done.stdout
    assert float(said[1]) > 60
    assert (out / "condensed.safetensors").is_file()


def test_it_says_what_it_cannot_use(tmp_path):
    done = run(tmp_path / "nothing", "--out", tmp_path / "run")
    assert done.returncode == 1
    assert re.search(r"InputError: \S*nothing ", done.stderr.splitlines()[-1]), done.stderr


def test_data_without_a_test_split_are_told_before_any_work(tmp_path):
    images, labels = np.zeros((6, 8, 8), np.uint8), np.arange(6) % 2
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    done = run(tmp_path / "set.npz", "--out", tmp_path / "run")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "has no test split" in line
    assert not (tmp_path / "run").exists()
