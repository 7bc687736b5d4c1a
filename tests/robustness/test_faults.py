"""Faults at random moments and at every kind of write, damaged caches, clocks that jump."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command_line import refused
from image_builders import pictures, write_tree
from stopping import PRODUCT, condense, without_speed

from gencond_fast.data.formats.index import read_index
from gencond_fast.data.formats.scan import scan
from gencond_fast.system.cache import load_json, load_tensors, save_json, save_tensors

ROOT = Path(__file__).parents[2]


def faults(*arguments) -> dict[str, int]:
    """What the tool counted; it fails where anything was lost."""
    line = [sys.executable, "-m", "tests.robustness.faults", *map(str, arguments)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {n: int(v) for n, v in (part.split(": ") for part in done.stdout.strip().split(", "))}


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing():
    assert faults("killed", "--times", 3)["killed"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "full"])
def test_faults_at_writes_lose_nothing(fault):
    found = faults("writes", "--fault", fault, "--every", 91)
    assert found["operations"] > 100
    assert found["stopped"] >= 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to, and the cache that it filled."""
    root = tmp_path_factory.mktemp("whole")
    torch.set_num_threads(1)  # as in the tests, which bits depend on
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENCOND_FAST_CACHE", str(root / "cache"))
        assert condense(root / "run").code == 0
        yield root


@pytest.mark.parametrize("kind", ["networks", "statistics"])
@pytest.mark.parametrize("damage", ["cut", "one bit"])
def test_a_damaged_cache_is_made_again(whole, tmp_path, kind, damage):
    files = sorted((whole / "cache" / kind).iterdir())
    before = {path: path.read_bytes() for path in files}
    for path, content in before.items():
        spoilt = bytearray(content)
        spoilt[-9] ^= 64
        path.write_bytes(content[:-9] if damage == "cut" else bytes(spoilt))
    assert condense(tmp_path / "run").code == 0
    assert (tmp_path / "run" / PRODUCT).read_bytes() == (whole / "run" / PRODUCT).read_bytes()
    assert {path: path.read_bytes() for path in files} == before


def test_one_flipped_bit_of_a_cached_tensor(tmp_path):
    file = tmp_path / "a"
    save_tensors(file, {"x": torch.arange(20.0), "y": torch.tensor(3), "z": torch.ones(0)})
    content = file.read_bytes()
    for place in range(0, 300, 7):
        spoilt = bytearray(content)
        spoilt[place % len(content)] ^= 4
        file.write_bytes(spoilt)
        found = load_tensors(file)
        sound = found is None or (torch.equal(found["x"], torch.arange(20.0)) and found["y"] == 3)
        assert sound, f"byte {place}"


def test_one_changed_digit_of_cached_values(tmp_path):
    values = {"accuracy": 0.75, "attacked": {"pgd": 0.25}}
    save_json(tmp_path / "a", values)
    assert load_json(tmp_path / "a") == values
    text = (tmp_path / "a").read_text()
    (tmp_path / "a").write_text(text.replace("0.75", "0.95"))
    assert load_json(tmp_path / "a") is None
    (tmp_path / "a").write_text(text[:-9])
    assert load_json(tmp_path / "a") is None
    (tmp_path / "a").write_text(json.dumps(values))  # from before there were checks
    assert load_json(tmp_path / "a") == values


def test_a_damaged_checkpoint_is_told_of(whole, tmp_path):
    run = tmp_path / "run"
    assert condense(run).code == 0
    (run / PRODUCT).unlink()
    newest = run / "checkpoint" / "step-00000040.pt"
    newest.write_bytes(newest.read_bytes()[:-1])
    done = condense(run)
    assert f"{newest} is damaged or of another version: not used" in done.err
    assert "resuming at step 30" in done.err


def test_a_checkpoint_of_other_shapes_is_refused(whole, tmp_path):
    from gencond_fast.condensation.checkpoint import load_checkpoint, save_checkpoint

    run = tmp_path / "run"
    assert condense(run).code == 0
    (run / PRODUCT).unlink()
    saved = load_checkpoint(run / "checkpoint")
    saved.store["codes"] = torch.zeros(1, 1)
    save_checkpoint(run / "checkpoint", saved)
    refused(condense(run, more=["--quiet"]), "the checkpoint of step 40 does not fit this run")


@pytest.mark.parametrize("way", [-1e9, 1e9])
def test_a_clock_that_jumps(whole, tmp_path, monkeypatch, way):
    """Whoever asks what time it is hears another day each time."""
    rng, true = random.Random(0), time.time()
    monkeypatch.setattr(time, "time", lambda: true + way * rng.random())
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * (true + way * rng.random())))
    assert condense(tmp_path / "run").code == 0
    assert (tmp_path / "run" / PRODUCT).read_bytes() == (whole / "run" / PRODUCT).read_bytes()
    assert without_speed(tmp_path / "run") == without_speed(whole / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["images_per_second"] > 0 for line in lines)


@pytest.mark.parametrize("way", [-1e18, 1e18])
def test_an_index_under_a_clock_that_jumps(tmp_path, monkeypatch, way):
    root = write_tree(tmp_path / "set", pictures(2))
    monkeypatch.setattr(time, "time_ns", lambda: int(1.7e18 + way))
    read_index(root)
    time.sleep(0.05)  # over a tick of the clock of files
    write_tree(root, pictures(3, seed=1))
    assert read_index(root).digest == scan(root).digest
