"""Teachers: trained once, resumed after an interruption, tested on what they have not seen."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from command_line import TINY, call, refused
from image_builders import Picture, write_npz

from gencond_fast.condensation import teachers as module
from gencond_fast.condensation import train_teachers
from gencond_fast.config.options import resolve
from gencond_fast.data import open_source
from gencond_fast.data.normalise import measure
from gencond_fast.errors import RunError
from gencond_fast.models.registry import build_classifier
from gencond_fast.store.artifact import load
from gencond_fast.system.cache import load_tensors
from gencond_fast.training.trainer import Trainer

SMALL = {"width": 8, "epochs": 3, "count": 1}


def train(data="digits", more=None, **teachers):
    given = {"data": data, "out": "", "device": "cpu", "teachers": SMALL | teachers}
    return train_teachers(resolve(given, {"compile": "off", "precision": "float32"}, more or {}))


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> str:
    """Six hundred digits without a validation split."""
    digits = open_source("digits").train
    pixels = next(digits.split.read(np.arange(600), 600))[..., 0]
    made = [
        Picture(str(label), f"{place}.png", image)
        for place, (image, label) in enumerate(zip(pixels, digits.labels[:600], strict=True))
    ]
    return str(write_npz(tmp_path_factory.mktemp("few") / "set.npz", made))


@pytest.fixture
def epochs(monkeypatch):
    """The epochs that were trained, and the number of images in each."""
    seen = []
    run = Trainer.run_epoch

    def noted(self, epoch, *rest):
        batches = self._data.batches
        counted = []

        def counting(*arguments):
            for images, targets in batches(*arguments):
                counted.append(len(targets))
                yield images, targets

        object.__setattr__(self._data, "batches", counting)
        steps = run(self, epoch, *rest)
        object.__setattr__(self._data, "batches", batches)
        seen.append((epoch, sum(counted)))
        return steps

    monkeypatch.setattr(Trainer, "run_epoch", noted)
    return seen


def test_teachers_see_every_training_image_and_are_kept(few, cache, epochs):
    made = train(few, count=2)
    assert epochs == [(epoch, 600) for epoch in range(3)] * 2
    assert (made.images, made.epochs, made.accuracies) == (600, 3, None)
    assert len(set(made.files)) == 2
    assert sorted(os.listdir(cache / "teachers")) == sorted(file.name for file in made.files)
    first, second = map(load_tensors, made.files)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    epochs.clear()
    assert train(few, count=2).files == made.files
    assert train(few).files == made.files[:1]
    assert epochs == []
    assert train(few, epochs=1).files != made.files[:1]
    assert epochs == [(0, 600)]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_teacher_goes_on_after_the_last_whole_epoch(few, tmp_path, monkeypatch, damaged):
    def weights(cache):
        monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / cache))
        return load_tensors(train(few).files[0])

    whole = weights("whole")
    run = Trainer.run_epoch
    trained = []

    def stopping(self, epoch, *rest):
        if trained == [0, 1]:
            trained.append("stop")
            raise KeyboardInterrupt
        trained.append(epoch)
        return run(self, epoch, *rest)

    monkeypatch.setattr(Trainer, "run_epoch", stopping)
    with pytest.raises(KeyboardInterrupt):
        weights("stopped")
    (state,) = (tmp_path / "stopped" / "teachers").iterdir()
    assert state.suffix == ".pt"
    if damaged:
        state.write_bytes(state.read_bytes()[:-40] + b"damaged!" * 5)
    resumed = weights("stopped")
    assert trained == [0, 1, "stop", *((0, 1, 2) if damaged else (2,))]
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not state.exists()


def test_a_diverging_teacher_is_not_kept(few, cache, monkeypatch):
    run = Trainer.run_epoch

    def spoiled(self, epoch, *rest):
        steps = run(self, epoch, *rest)
        self._loss = torch.tensor(float("nan"))
        return steps

    monkeypatch.setattr(Trainer, "run_epoch", spoiled)
    for _ in range(2):  # nor is the state that it went on from
        with pytest.raises(RunError, match="a teacher diverged"):
            train(few)
        assert list((cache / "teachers").iterdir()) == []


def test_the_accuracy_is_that_on_what_was_set_apart(few, cache, epochs):
    made = train(few, {"val_fraction": 0.25, "seed": 3}, epochs=20, width=16)
    source = open_source(few, val_fraction=0.25, seed=3)
    assert epochs[0] == (0, len(source.train))
    assert made.images == len(source.train) < 500
    network = build_classifier("convnet3", 1, 10, 8, seed=0, width=16).eval()
    network.load_state_dict(load_tensors(made.files[0]))
    train_images, images = (
        torch.from_numpy(next(images.split.read(np.arange(len(images)), 10**6))).permute(0, 3, 1, 2)
        for images in (source.train, source.val)
    )
    with torch.no_grad():
        guesses = network(measure(train_images)(images)).argmax(1).numpy()
    assert made.accuracies == (pytest.approx((guesses == source.val.labels).mean(), abs=0.01),)
    assert made.accuracies[0] > 0.5


def test_the_test_split_is_never_looked_at(cache, monkeypatch):
    monkeypatch.setattr(module, "accuracy", None)
    assert train(epochs=1).accuracies is None


# on the command line


def test_teachers_give_the_labels_of_a_run(cache, tmp_path, epochs):
    options = ("--width", 8, "--epochs", 2, "--quiet")
    done = call("teachers", "--data", "digits", *options)
    assert done.code == 0, done.err
    assert "accuracies: -" in done.out
    (file,) = (cache / "teachers").glob("*.safetensors")
    assert str(file) in done.out
    assert len(epochs) == 2
    labels = (
        "--soft-labels",
        10,
        "--set",
        "labels.source=full_data",
        "--set",
        "labels.hard_label_weight=0",
    )
    same = ("--set", "teachers.width=8", "--set", "teachers.epochs=2")
    run = tmp_path / "run"
    quietly = (*labels, *same, "--quiet")  # else a student is timed for the hint at the end
    done = call("condense", "--data", "digits", "--out", run, *TINY, "--steps", 4, *quietly)
    assert done.code == 0, done.err
    assert len(epochs) == 2  # they were in the cache
    assert load(run).metadata.made["options"]["labels.source"] == "full_data"
    out = tmp_path / "again"
    done = call("relabel", run, "--data", "digits", "--out", out)
    assert done.code == 0, done.err
    assert out.read_bytes() == (run / "condensed.safetensors").read_bytes()
    pool = tmp_path / "pool"
    done = call("relabel", run, "--data", "digits", "--source", "pool", "--out", pool)
    assert done.code == 0, done.err
    index = torch.arange(10)
    assert not torch.equal(load(pool).store.targets(index), load(out).store.targets(index))


def test_the_accuracy_is_printed_where_a_part_was_set_apart(few, cache):
    options = ("--width", 8, "--epochs", 1, "--val-fraction", 0.2, "--count", 2, "--quiet")
    done = call("teachers", "--data", few, *options)
    assert done.code == 0, done.err
    line = next(line for line in done.out.splitlines() if line.startswith("accuracies: "))
    assert line.count(" %") == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model", "x"), "unknown model 'x'"),
        (("--count", 0), "option 'teachers.count' cannot be 0"),
        (("--val-fraction", 1.5), "option 'val_fraction' cannot be 1.5"),
    ],
)
def test_wrong_options_are_refused(options, words):
    refused(call("teachers", "--data", "digits", *options), words)
