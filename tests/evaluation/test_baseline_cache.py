"""Students of baselines are trained once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command_line import call

from gencond_fast.config import EvaluateConfig
from gencond_fast.config.options import parse
from gencond_fast.evaluation import evaluate
from gencond_fast.training import train


@pytest.fixture
def trained(monkeypatch):
    """A number for every student that is trained."""
    whole, numbers = train.train_student, []

    def noted(*given, **options):
        numbers.append(len(numbers))
        return whole(*given, **options)

    monkeypatch.setattr(train, "train_student", noted)
    return numbers


def judge(run, **options):
    given = {"run": str(run), "data": "digits", "seeds": 2, "epochs": 1, "device": "cpu"}
    return evaluate(parse(EvaluateConfig, given | {"baselines": ["random"]} | options))


def kept():
    return sorted(Path(os.environ["GENCOND_FAST_CACHE"], "controls").glob("*.json"))


def test_only_the_condensed_set_is_paid_twice(tiny_run, trained):
    first = judge(tiny_run)
    assert len(trained) == 4
    again = judge(tiny_run)
    assert len(trained) == 6
    assert again.rows[1] == first.rows[1]  # the seconds of then included
    assert again.rows[0].accuracies == first.rows[0].accuracies
    more = judge(tiny_run, seeds=3)
    assert len(trained) == 10
    assert more.rows[1].accuracies[:2] == first.rows[1].accuracies


@pytest.mark.parametrize(
    ("options", "students"),
    [
        ({}, 2),
        ({"protocol": "modern"}, 4),
        ({"epochs": 2}, 4),
        ({"models": ["convnet4"]}, 4),
        ({"precision": "float32"}, 4),
        ({"classes": ["3", "5"]}, 4),
        ({"baselines": ["jpeg"]}, 4),
        ({"attack": {"names": ["fgsm"], "images": 20}}, 4),
        ({"without_augmentation": True}, 6),  # 2 augmented and 2 plain of the file, 2 of random
    ],
)
def test_it_is_another_student_where_anything_is_different(tiny_run, trained, options, students):
    judge(tiny_run, precision="bfloat16")
    del trained[:]
    judge(tiny_run, **({"precision": "bfloat16"} | options))
    assert len(trained) == students


@pytest.mark.parametrize("content", ["", "{}", '{"accuracy": "0.5"}', "[1"])
def test_what_is_damaged_is_trained_again(tiny_run, trained, content):
    first = judge(tiny_run, seeds=1)
    (file,) = kept()
    file.write_text(content)
    again = judge(tiny_run, seeds=1)
    assert len(trained) == 4
    assert again.rows[1].accuracies == first.rows[1].accuracies


def test_the_log_says_so(tiny_run):
    options = ("--data", "digits", "--epochs", 1, "--seeds", 2, "--baseline", "random")
    first, again = (call("evaluate", tiny_run, *options) for _ in range(2))
    words = "random: 2 students of an earlier evaluation reused"
    assert words not in first.err + first.out
    assert words in again.err + again.out
