"""The average of the stored set: what is averaged, what is written, and how it is resumed."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from stopping import PRODUCT, checkpoints, condense, stop, without_speed

from gencond_fast.condensation.checkpoint import CHECKPOINTS, load_checkpoint
from gencond_fast.condensation.class_partition import ClassPartition
from gencond_fast.condensation.loop import Loop
from gencond_fast.condensation.stage import Stage
from gencond_fast.condensation.state import load_state, save_state
from gencond_fast.config.options import resolve
from gencond_fast.errors import InputError
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.stores import build_store
from gencond_fast.system.progress import Reporter

SPEC = StoreSpec("generator", 3, 4, 1, 8, 8, 1, 1, coefficients=20, stream_bytes=4000)


class Pull(Stage):
    """Draws images towards noise and prices their bits; notes the parameters before each step."""

    name = "pull"
    images_per_step = 12

    def __init__(self, store, steps):
        super().__init__(steps, 0.05)
        self._store, self.seen = store, {}

    def terms(self, step):
        self.seen[step] = [value.detach().double().clone() for value in self._store.parameters()]
        rng = torch.Generator().manual_seed(step)
        target = torch.rand(12, 1, 8, 8, generator=rng)
        pull = (self._store(torch.arange(12)) - target).square().sum()
        return {"pull": pull, "rate": self._store.rate(torch.arange(12))}


def run(folder, ema, saved=None, steps=(7, 6)):
    """Two stages of a loop; the stored set afterwards, and its parameters on the way."""
    training = {"ema_decay": ema, "checkpoint_every": 4}
    task = SimpleNamespace(
        config=resolve({"data": "digits", "out": "", "training": training}),
        runtime=SimpleNamespace(device=torch.device("cpu")),
        reporter=Reporter(),
        source=SimpleNamespace(fingerprint="f"),
    )
    store = build_store(SPEC, seed=3)
    stages = [Pull(store, each) for each in steps]
    folder.mkdir(exist_ok=True)
    Loop(task, store, stages, folder, saved, ClassPartition(SPEC, SPEC.num_classes)).run()
    return store, [values for stage in stages for values in stage.seen.values()]


def last_checkpoint(folder):
    return load_checkpoint(folder / CHECKPOINTS)


def same_states(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("ema", [0.3, 0.95])
def test_the_average_is_that_of_its_formula(tmp_path, ema):
    store, seen = run(tmp_path, ema)
    live = build_store(SPEC)
    live.load_state_dict(last_checkpoint(tmp_path).store)
    seen.append([value.detach().double() for value in live.parameters()])
    assert len(seen) == 14
    want = seen[0]
    for update, values in enumerate(seen[1:]):
        decay = min(ema, (1 + update) / (10 + update))
        want = [decay * a + (1 - decay) * b for a, b in zip(want, values, strict=True)]
    for found, mean, last in zip(store.parameters(), want, seen[-1], strict=True):
        torch.testing.assert_close(found.detach().double(), mean, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(mean, last, atol=1e-4)


def test_averaging_changes_none_of_the_steps(tmp_path):
    plain, seen = run(tmp_path / "plain", 0.0)
    averaged, others = run(tmp_path / "averaged", 0.9)
    for one, other in zip(seen, others, strict=True):
        assert all(map(torch.equal, one, other))
    ends = [last_checkpoint(tmp_path / name) for name in ("plain", "averaged")]
    assert same_states(ends[0].store, ends[1].store)
    assert same_states(plain.state_dict(), ends[0].store)
    assert not same_states(averaged.state_dict(), ends[1].store)
    assert ends[0].average == {}


@pytest.mark.parametrize("step", [4, 7, 8, 13])
def test_it_goes_on_from_a_checkpoint_with_the_same_bits(tmp_path, monkeypatch, step):
    monkeypatch.setattr("gencond_fast.condensation.checkpoint._KEPT", 9)
    whole, _ = run(tmp_path, 0.9)
    for path in (tmp_path / CHECKPOINTS).iterdir():
        if int(path.stem[5:]) > step:
            path.unlink()
    saved = last_checkpoint(tmp_path)
    assert saved.step == step
    store, seen = run(tmp_path / "resumed", 0.9, saved)
    assert len(seen) == 13 - step
    assert same_states(store.state_dict(), whole.state_dict())


def test_a_checkpoint_from_before_there_were_averages_is_read(tmp_path):
    run(tmp_path, 0.0)
    saved = last_checkpoint(tmp_path)
    path = tmp_path / CHECKPOINTS / "step-00000099.pt"
    values = vars(saved) | {"step": 99}
    save_state(path, {name: value for name, value in values.items() if name != "average"})
    assert "average" not in load_state(path)
    found = last_checkpoint(tmp_path)
    assert (found.step, found.average) == (99, {})
    with pytest.raises(InputError, match="checkpoint of step 99 does not fit this run"):
        run(tmp_path / "other", 0.9, found)
    save_state(path, values | {"average": [1]})
    assert last_checkpoint(tmp_path).step == 13


@pytest.mark.parametrize("format", ["dct", "generator", "pixels"])
def test_the_file_holds_the_average_within_its_budget(tmp_path, format):
    more = ("--set", f"store.format={format}", "--set", "training.ema_decay=0.9")
    if format == "generator":
        more += ("--set", "training.coding_steps=20")
    whole, again = tmp_path / "whole", tmp_path / "again"
    assert condense(whole, more=more).code == 0
    saved = last_checkpoint(whole)
    spec = StoreSpec(**saved.spec)
    store = build_store(spec)
    store.load_state_dict(saved.store)
    last = store.to_storage()
    with torch.no_grad():
        for value, mean in zip(store.parameters(), saved.average["mean"], strict=True):
            value.copy_(mean)
    written, want = load_file(whole / PRODUCT), store.to_storage()
    assert written.keys() == want.keys()
    assert all(torch.equal(tensor, want[name]) for name, tensor in written.items())
    assert not all(torch.equal(tensor, last[name]) for name, tensor in written.items())
    assert os.path.getsize(whole / PRODUCT) <= 8000
    assert asdict(spec)["format"] == format
    # and however it was interrupted
    assert stop(signal.SIGTERM, "matching 7", again, more=more).code == 143
    assert stop(signal.SIGTERM, "matching 33", again, more=more).code == 143
    assert condense(again, more=more).code == 0
    assert (again / PRODUCT).read_bytes() == (whole / PRODUCT).read_bytes()
    assert without_speed(again) == without_speed(whole)
    assert checkpoints(again)[-1] == checkpoints(whole)[-1]


@pytest.mark.parametrize("ema", [-0.1, 1.0, float("nan")])
def test_a_decay_outside_of_its_range_is_refused(ema):
    with pytest.raises(InputError, match=r"training\.ema_decay"):
        resolve({"data": "digits", "out": "", "training": {"ema_decay": ema}})
