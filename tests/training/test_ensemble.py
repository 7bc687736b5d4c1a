"""Students that learn at once against the same ones, one after another."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from command_line import call, refused

from gencond_fast.errors import RunError
from gencond_fast.models.registry import build_classifier
from gencond_fast.system.runtime import choose_runtime
from gencond_fast.training import train
from gencond_fast.training.ensemble import train_together
from gencond_fast.training.epochs import held
from gencond_fast.training.protocol import DC, MODERN, PROTOCOLS, SOFT
from gencond_fast.training.train import train_student

SEEDS = (11, 12, 13)


def students_of(model, size=8):
    width = 8 if model.startswith("convnet") else None
    return [build_classifier(model, 1, 3, size, seed=seed, width=width) for seed in SEEDS]


def sets(protocol, size=8, counts=(20, 20, 20)):
    """Other images and labels for every student, the last batch a smaller one."""
    rng = torch.Generator().manual_seed(1)
    made = []
    for count in counts:
        images = torch.randn(count, 1, size, size, generator=rng)
        labels = torch.randint(3, (count,), generator=rng)
        if protocol.soft:
            labels = torch.rand(count, 3, generator=rng).softmax(1)
        made.append(held(lambda epoch, images=images: images, labels, protocol))
    return made


def compare(model, protocol, *, epochs=3, switch="off", size=8, counts=(20, 20, 20)):
    """Largest distance of logits after training, in parts of how far they went; and steps.

    Not of weights: a bias in front of a norm has no gradient but rounding, of which AdamW takes the
    sign.
    """
    runtime = choose_runtime("cpu", "float32", switch, size)
    options = {"protocol": protocol, "epochs": epochs, "runtime": runtime}
    before, alone, group = (students_of(model, size) for _ in range(3))
    data, advanced = sets(protocol, size, counts), []
    steps = {
        train_student(student, each, seed=seed, advance=lambda n: None, **options)
        for student, each, seed in zip(alone, data, SEEDS, strict=True)
    }
    steps |= {train_together(group, data, seeds=SEEDS, advance=advanced.append, **options)}
    assert advanced == [3] * epochs
    images = torch.randn(40, 1, size, size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        rows = [[s.eval()(images).double() for s in each] for each in (before, alone, group)]
    distances = [
        float((together - want).norm() / (want - first).norm())
        for first, want, together in zip(*rows, strict=True)
    ]
    assert all(not torch.equal(rows[2][0], other) for other in rows[2][1:])
    return max(distances), steps


@pytest.mark.parametrize(
    "protocol",
    [DC, MODERN, SOFT, MODERN.without_augmentation()],
    ids=[*PROTOCOLS, "not augmented"],
)
def test_they_end_where_each_ends_alone(protocol):
    distance, steps = compare("convnet3", replace(protocol, batch_size=8))
    assert distance < 1e-4
    assert steps == {9}


@pytest.mark.parametrize(
    "model", ["resnet18", "mobilenetv2", "vit"]
)  # batch norm, channels alone, attention
def test_other_architectures(model):
    distance, _ = compare(model, replace(DC, batch_size=6), epochs=1, counts=[6] * 3)
    assert distance < 1e-3


@pytest.mark.slow
def test_compiled():
    distance, _ = compare("convnet3", replace(MODERN, batch_size=10), epochs=1, switch="on")
    assert distance < 1e-3


def test_a_student_that_diverges_is_told():
    runtime = choose_runtime("cpu", "float32", "off", 8)
    students = students_of("convnet3")
    with torch.no_grad():
        next(students[1].parameters()).fill_(float("nan"))
    options = {"protocol": DC, "epochs": 1, "seeds": SEEDS, "runtime": runtime}
    with pytest.raises(RunError, match="diverged"):
        train_together(students, sets(DC), advance=lambda n: None, **options)


def test_sets_of_other_sizes_do_not_learn_together():
    runtime = choose_runtime("cpu", "float32", "off", 8)
    small = replace(DC, batch_size=8)
    options = {"protocol": small, "epochs": 1, "seeds": SEEDS, "runtime": runtime}
    with pytest.raises(ValueError, match="as many each"):
        train_together(
            students_of("convnet3"), sets(small, counts=(20, 20, 30)), advance=len, **options
        )


def test_streamed_images_are_learned_from_one_after_another(monkeypatch):
    alone = []
    monkeypatch.setattr(train, "train_student", lambda *given, **options: alone.append(1) or 4)
    streams = [replace(each, held=False) for each in sets(DC)]
    options = {"protocol": DC, "epochs": 1, "runtime": None, "advance": None}
    assert train.train_students([None] * 3, streams, seeds=SEEDS, **options) == 4
    assert len(alone) == 3


def test_from_the_command_line(tiny_run, tmp_path, monkeypatch):
    groups = []
    whole = train.train_together

    def noted(students, *given, **options):
        groups.append(len(students))
        return whole(students, *given, **options)

    monkeypatch.setattr(train, "train_together", noted)

    def accuracies(*more):
        file = tmp_path / "result.json"
        common = ("--data", "digits", "--seeds", "3", "--epochs", "2", "--device", "cpu")
        switches = ("--set", "precision=float32", "--json", file)
        assert call("evaluate", tiny_run, *common, *switches, *more).code == 0
        return [row["accuracies"] for row in json.loads(file.read_text())["rows"]]

    alone = accuracies()
    assert groups == []
    together = accuracies("--parallel-students", "2")
    assert groups == [2]  # and one left over
    assert together[0] == pytest.approx(alone[0], abs=0.02)
    refused(
        call("evaluate", tiny_run, "--data", "digits", "--parallel-students", "0"),
        "parallel_students",
    )
