"""The parts of the optimisation: guard, schedule, targets, checkpoints."""

from __future__ import annotations

import hashlib
import io
import math
import os
import pickle
import struct
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from store_builders import full_disk

from gencond_fast.condensation.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from gencond_fast.condensation.guard import NonFiniteGuard
from gencond_fast.condensation.selection import choose_targets
from gencond_fast.condensation.stage import Stage
from gencond_fast.errors import RunError

NAN, INF = float("nan"), float("inf")


def guarded(*steps: dict[str, float]) -> NonFiniteGuard:
    guard = NonFiniteGuard(torch.device("cpu"))
    for step, values in enumerate(steps):
        guard.watch(step, {name: torch.tensor(value) for name, value in values.items()})
    return guard


def test_guard_is_silent_about_finite_numbers():
    NonFiniteGuard(torch.device("cpu")).check()
    guarded({"mean": 1e38, "intra": -3.0}, {"mean": 0.0}).check()


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_guard_names_step_and_term(bad):
    guard = guarded({"mean": 1.0, "intra": 2.0}, {"mean": 1.0, "intra": bad}, {"mean": 1.0})
    with pytest.raises(RunError, match=r"step 1: the term\(s\) intra are not finite"):
        guard.check()


def test_guard_blames_the_first_step_only():
    guard = guarded(
        {"mean": 1.0, "intra": 1.0, "inter": 1.0},
        {"mean": NAN, "intra": 1.0, "inter": INF},
        {"mean": NAN, "intra": NAN, "inter": NAN},
    )
    with pytest.raises(RunError, match=r"step 1: the term\(s\) mean, inter are not"):
        guard.check()


def test_guard_remembers_what_was_finite_again_later():
    guard = guarded({"mean": 1.0}, {"mean": NAN}, {"mean": 1.0}, {"other": NAN})
    for _ in range(2):
        with pytest.raises(RunError, match="step 1: .* mean are"):
            guard.check()


def test_guard_sees_terms_that_come_late():
    guard = guarded({"mean": 1.0}, {"mean": 1.0, "cross_entropy": NAN})
    with pytest.raises(RunError, match="step 1: .*cross_entropy"):
        guard.check()


def test_guard_keeps_no_graph():
    value = torch.tensor(1.0, requires_grad=True)
    guard = NonFiniteGuard(torch.device("cpu"))
    guard.watch(0, {"mean": value * 2})
    guard.check()
    (value * 2).backward()
    assert value.grad.item() == 2.0


class _Steps(Stage):
    name = "test"

    def terms(self, step):
        return {}

    @property
    def images_per_step(self):
        return 0


@given(steps=st.integers(1, 5000), rate=st.floats(1e-6, 1.0))
def test_schedule(steps, rate):
    stage = _Steps(steps, rate)
    rates = np.array([stage.lr_at(step) for step in range(steps)])
    top = int(rates.argmax())
    assert rates.max() == pytest.approx(rate)
    assert (rates > 0).all()
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) <= 0).all()
    assert top <= 0.05 * steps + 1


def test_schedule_by_its_formula():
    stage = _Steps(1000, 0.4)
    assert [stage.lr_at(s) for s in (0, 24, 49)] == pytest.approx([0.008, 0.2, 0.4])
    half, end = 50 + 475, 999
    assert stage.lr_at(half) == pytest.approx(0.2)
    assert stage.lr_at(end) == pytest.approx(0.2 * (1 + math.cos(math.pi * 949 / 950)))


def test_targets_are_the_first_images_of_each_class():
    images = torch.randint(256, (9, 3, 4, 5), dtype=torch.uint8)
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2])
    got = choose_targets(images, labels, 2)
    assert got.dtype == torch.uint8
    assert torch.equal(got, images[[0, 1, 3, 4, 7, 8]])


@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=4), per_class=st.integers(1, 12))
def test_few_images_come_again_moved(counts, per_class):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    images = torch.randint(256, (len(labels), 3, 16, 16), dtype=torch.uint8)
    got = choose_targets(images, labels, per_class).view(len(counts), per_class, 3, 16, 16)
    for c, count in enumerate(counts):
        own = images[labels == c]
        for i in range(per_class):
            found, source = got[c, i], own[i % count]
            if i < count:
                assert torch.equal(found, source)
            else:  # the inside lies elsewhere, by at most an eighth of the side
                assert not torch.equal(found, source)
                moves = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
                inside = found[:, 2:14, 2:14]
                assert any(
                    torch.equal(inside, source[:, 2 - y : 14 - y, 2 - x : 14 - x]) for y, x in moves
                )
        # as long as there are places, no two of an image are alike
        assert len({found.numpy().tobytes() for found in got[c]}) == per_class


def checkpoint(step: int, fill: float = 0.5) -> Checkpoint:
    weights = {"codes": torch.full((50, 4), fill), "decoder.bias": torch.randn(3)}
    state = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.randn(4)}}}
    return Checkpoint(step, "f" * 32, {}, weights, state | {"param_groups": [{"lr": 0.1}]})


def same(one: Checkpoint, other: Checkpoint) -> bool:
    return _plain(asdict(one)) == _plain(asdict(other))


def _plain(value):
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value.tolist() if isinstance(value, torch.Tensor) else value


def test_checkpoints_come_back(tmp_path):
    assert load_checkpoint(tmp_path / "none") is None
    assert load_checkpoint(tmp_path) is None
    saved = checkpoint(7)
    save_checkpoint(tmp_path / "new" / "folder", saved)
    assert same(load_checkpoint(tmp_path / "new" / "folder"), saved)


def test_the_last_two_are_kept(tmp_path):
    for step in (1, 2, 30, 400):
        save_checkpoint(tmp_path, checkpoint(step))
    assert sorted(os.listdir(tmp_path)) == ["step-00000030.pt", "step-00000400.pt"]
    assert load_checkpoint(tmp_path).step == 400


def test_the_newest_is_chosen_by_its_step(tmp_path):
    for step in (9, 10, 99, 100):
        save_checkpoint(tmp_path, checkpoint(step))
        assert load_checkpoint(tmp_path).step == step


def two(folder: Path) -> Path:
    """Writes two checkpoints and returns the path of the newer one."""
    save_checkpoint(folder, checkpoint(100))
    save_checkpoint(folder, checkpoint(200))
    return folder / "step-00000200.pt"


def test_a_cut_checkpoint_gives_way_to_the_one_before(tmp_path):
    path = two(tmp_path)
    whole = path.read_bytes()
    for end in {0, 1, 2, 4, 30, len(whole) // 2, len(whole) - 100, len(whole) - 1}:
        path.write_bytes(whole[:end])
        assert load_checkpoint(tmp_path).step == 100, end


def test_a_checkpoint_of_noise_gives_way_to_the_one_before(tmp_path):
    path = two(tmp_path)
    noise = np.random.default_rng(0)
    for size in [1, 2, 3, 5, 10, 100] * 20:
        path.write_bytes(noise.bytes(size))
        assert load_checkpoint(tmp_path).step == 100
    path.write_bytes(b"\x80\x02" + noise.bytes(50))  # the start of a pickle
    assert load_checkpoint(tmp_path).step == 100


def test_damaged_bytes_are_noticed_or_harmless(tmp_path):
    path = two(tmp_path)
    whole = path.read_bytes()
    saved = load_checkpoint(tmp_path)
    noise = np.random.default_rng(0)
    for _ in range(150):
        spoiled = bytearray(whole)
        spoiled[int(noise.integers(len(whole)))] ^= 1 << int(noise.integers(8))
        path.write_bytes(spoiled)
        found = load_checkpoint(tmp_path)
        assert found.step == 100 or same(found, saved)


class _Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


def test_a_checkpoint_executes_nothing(tmp_path):
    path = two(tmp_path)
    made = io.BytesIO()
    torch.save({**asdict(checkpoint(200)), "fingerprint": _Trap()}, made)
    for outline in (made.getvalue(), pickle.dumps(_Trap(), protocol=2)):
        # with and without the length and the digest that checkpoints have
        for content in (struct.pack("<Q", len(outline)) + outline, outline):
            for ending in (hashlib.sha256(content).digest(), b""):
                path.write_bytes(content + ending)
                assert load_checkpoint(tmp_path).step == 100


def test_other_contents_give_way_too(tmp_path):
    path = two(tmp_path)
    for content in ({"step": 200}, [1, 2], torch.zeros(3), None):
        torch.save(content, path)
        assert load_checkpoint(tmp_path).step == 100


def test_other_files_are_left_alone(tmp_path):
    for name in ("notes.txt", ".step-00000900.pt.x", "step-00000900.pt.bak"):
        (tmp_path / name).write_text("mine")
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, checkpoint(step))
    assert load_checkpoint(tmp_path).step == 3
    assert len(os.listdir(tmp_path)) == 5


def test_a_full_disk_keeps_the_older_ones(tmp_path):
    two(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with full_disk(500), pytest.raises(OSError, match="too large"):
        save_checkpoint(tmp_path, checkpoint(300))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
