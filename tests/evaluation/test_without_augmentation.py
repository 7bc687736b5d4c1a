"""Students without augmentation, and the augmentation-robust score that they give."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from command_line import call
from torch import Tensor

from gencond_fast.config import EvaluateConfig
from gencond_fast.config.options import parse
from gencond_fast.evaluation import evaluate
from gencond_fast.evaluation.result import EvaluationResult, Row
from gencond_fast.models.registry import build_classifier
from gencond_fast.system.rng import named_rng
from gencond_fast.system.runtime import choose_runtime
from gencond_fast.training import trainer as trainer_module
from gencond_fast.training.epochs import held
from gencond_fast.training.mixed import mix
from gencond_fast.training.protocol import DC, MODERN, PROTOCOLS
from gencond_fast.training.train import train_student

RUNTIME = choose_runtime("cpu", "float32", "off", 8)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def judge(run, **options):
    given = {"run": str(run), "data": "digits", "seeds": 1, "epochs": 2, "device": "cpu"}
    return evaluate(parse(EvaluateConfig, given | {"without_augmentation": True} | options))


@pytest.fixture
def seen(monkeypatch):
    """The images of every step, as they were and as the student saw them."""
    whole, steps = trainer_module.mix, []

    def noted(images, targets, protocol, rng):
        mixed = whole(images, targets, protocol, rng)
        steps.append((images, mixed.images))
        return mixed

    monkeypatch.setattr(trainer_module, "mix", noted)
    return steps


def ordered(images: list[Tensor]) -> Tensor:
    """All images of some steps, in an order that depends on nothing but their pixels."""
    rows = torch.cat(images).flatten(1)
    return torch.stack(sorted(rows, key=lambda row: row.tolist()))


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_nothing_is_changed_and_nothing_drawn(protocol):
    images, targets = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    rng = named_rng(1, "any")
    before = rng.get_state()
    mixed = mix(images, targets, replace(protocol, cutmix=1.0).without_augmentation(), rng)
    assert torch.equal(mixed.images, images)
    assert torch.equal(mixed.own, targets)
    assert mixed.other is None
    assert torch.equal(rng.get_state(), before)


def test_everything_else_of_the_protocol_stays():
    plain = MODERN.without_augmentation()
    again = replace(plain, augmentation=MODERN.augmentation, cutmix=MODERN.cutmix)
    assert again == MODERN


def test_dc_without_augmentation_has_the_bits_of_a_plain_loop():
    rng = torch.Generator().manual_seed(2)
    images, labels = torch.randn(20, 1, 8, 8, generator=rng), torch.arange(20) % 3
    want, got = (build_classifier("convnet3", 1, 3, 8, seed=5, width=8) for _ in range(2))
    optimizer = torch.optim.SGD(want.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    want.train()
    for epoch in range(3):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 if epoch < 2 else 0.001
        for index in torch.randperm(20, generator=named_rng(11, "epoch", epoch)).split(8):
            optimizer.zero_grad()
            F.cross_entropy(want(images[index]), labels[index]).backward()
            optimizer.step()
    protocol = replace(DC, batch_size=8).without_augmentation()
    train_student(
        got,
        held(lambda epoch: images, labels, protocol),
        protocol=protocol,
        epochs=3,
        seed=11,
        runtime=RUNTIME,
        advance=lambda n: None,
    )
    for one, other in zip(got.state_dict().values(), want.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("protocol", ["dc", "modern"])
def test_students_see_the_images_themselves(tiny_run, seen, protocol):
    result = judge(tiny_run, baselines=["random"], protocol=protocol)
    kinds = [(row.training_set, row.augmented) for row in result.rows]
    assert kinds == [("stored", True), ("random", True), ("stored", False), ("random", False)]
    steps = len(seen) // 4
    assert steps * 4 == len(seen)
    parts = [seen[place * steps : (place + 1) * steps] for place in range(4)]
    for part, (_, augmented) in zip(parts, kinds, strict=True):
        untouched = [torch.equal(before, after) for before, after in part]
        assert not any(untouched) if augmented else all(untouched)
    for with_it, without in zip(parts[:2], parts[2:], strict=True):  # the same images both times
        before, after = ([images for images, _ in part] for part in (with_it, without))
        assert torch.equal(ordered(before), ordered(after))


def test_all_real_images_are_not_learned_twice(tiny_run):
    result = judge(tiny_run, epochs=1, baselines=["full", "jpeg"], sampling="fresh")
    kinds = [(row.training_set, row.augmented) for row in result.rows]
    assert kinds[:3] == [("fresh", True), ("full", True), ("jpeg", True)]
    assert kinds[3:] == [("fresh", False), ("jpeg", False)]
    assert result.augmentation_robust_scores == {}  # it is compared with random images


def test_what_was_trained_is_not_taken_for_the_other(tiny_run):
    first = judge(tiny_run, baselines=["random"], seeds=2)
    again = judge(tiny_run, baselines=["random"], seeds=2)
    # all of the baselines were remembered, the seconds of then included
    assert [again.rows[k] for k in (1, 3)] == [first.rows[k] for k in (1, 3)]
    alone = judge(tiny_run, baselines=["random"], seeds=2, without_augmentation=False)
    assert alone.rows == (replace(again.rows[0], seconds=alone.rows[0].seconds), again.rows[1])


def result_of(rows, soft=False) -> EvaluationResult:
    made = (Row(k, m, 1, found, 0.0, 1, augmented=way) for k, m, way, found in rows)
    return EvaluationResult(tuple(made), {"soft": soft}, 1, 80, 1.0, 4.0, 64.0, 10, None, {})


ROWS = [
    ("stored", "a", True, (0.6, 0.8)),
    ("stored", "b", True, (0.9,)),
    ("random", "a", True, (0.5, 0.5)),
    ("random", "b", True, (0.4,)),
    ("full", "a", True, (0.9,)),
    ("stored", "a", False, (0.5, 0.7)),
    ("stored", "b", False, (0.9,)),
    ("random", "a", False, (0.3, 0.3)),
    ("jpeg", "b", False, (0.1,)),
]


def test_the_score_by_hand():
    # a: 0.5 (0.7 - 0.5) + 0.5 (0.6 - 0.3) = 0.25; e^0.25 = 1.284025; b has no random one without
    want = {"a": pytest.approx((1.284025 - 0.367879) / 2.350403, abs=1e-6)}
    result = result_of(ROWS)
    assert result.augmentation_robust_scores == want
    assert result.to_dict()["augmentation_robust_scores"] == want
    # HLR = 0.9 - 0.7 and IOR = 0.7 - 0.5, whatever is known of students without augmentation
    assert result.label_robust_scores == {"a": pytest.approx((1 - 0.367879) / 2.350403, abs=1e-6)}
    assert result_of(ROWS, soft=True).augmentation_robust_scores == {}
    assert result_of(ROWS[:5]).augmentation_robust_scores == {}
    assert result_of(ROWS[5:]).augmentation_robust_scores == {}
    stream = [(k.replace("stored", "fresh"), *rest) for k, *rest in ROWS]
    assert result_of(stream).augmentation_robust_scores == want


def test_results_are_read_back_and_old_ones_too():
    result = result_of(ROWS)
    plain = json.loads(json.dumps(result.to_dict()))
    assert EvaluationResult.from_dict(plain) == result
    for row in plain["rows"]:
        del row["augmented"]
    del plain["augmentation_robust_scores"]
    old = EvaluationResult.from_dict(plain)
    assert all(row.augmented for row in old.rows)
    assert old.augmentation_robust_scores == {}


def test_the_command_prints_it_beside_the_label_robust_score(tiny_run, tmp_path):
    baselines = ("--baseline", "random", "--baseline", "full")
    options = ("--epochs", 1, "--seeds", 1, "--attack", "fgsm", "--attack-images", 20)
    file = tmp_path / "result.json"
    given = ("--data", "digits", *baselines, *options, "--json", file)
    done = call("evaluate", tiny_run, *given, "--without-augmentation")
    assert done.code == 0, done.err
    plain = json.loads(file.read_text())
    means = {(row["training_set"], row["augmented"]): row["mean"] for row in plain["rows"]}
    gains = [means["stored", way] - means["random", way] for way in (True, False)]
    score = (math.exp(sum(gains) / 2) - 1 / math.e) / (math.e - 1 / math.e)
    assert f"augmentation-robust score of convnet3 (2505.13300, gamma = 0.5): {score:.4f}\n" in (
        done.out
    )
    assert "\nlabel-robust score of convnet3" in done.out
    assert done.out.count("│ stored, plain ") == 2  # accuracies, and those under attack
    assert "plain: the same protocol without its augmentation and CutMix" in done.out
    assert "students 7/7" in done.err  # epochs: two random students need two for as many steps
    again = call("evaluate", tiny_run, *given)
    assert "plain" not in again.out
    assert "augmentation-robust" not in again.out
