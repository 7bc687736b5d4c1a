"""Evaluation: what students learn from, what they are tested on, what is written down."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from command_line import TINY, call
from image_builders import write_npz

import gencond_fast as gf
from gencond_fast.config import EvaluateConfig
from gencond_fast.config.options import parse
from gencond_fast.data import open_source, stream
from gencond_fast.data.data_timer import DataTimer
from gencond_fast.data.normalise import Normalisation
from gencond_fast.errors import InputError
from gencond_fast.evaluation import evaluate, training_sets
from gencond_fast.evaluation import run as run_module
from gencond_fast.evaluation import student_runner as runner_module
from gencond_fast.models.registry import build_classifier
from gencond_fast.store.artifact import load, save
from gencond_fast.store.budget import ipc_to_bytes
from gencond_fast.store.stores import build_store
from gencond_fast.system.progress import Reporter
from gencond_fast.system.runtime import choose_runtime
from gencond_fast.training import train as train_module
from gencond_fast.training.epochs import held, streamed
from gencond_fast.training.protocol import DC
from gencond_fast.training.train import accuracy


def judge(run, **options):
    given = {"run": str(run), "data": "digits", "seeds": 2, "epochs": 2, "device": "cpu"}
    return evaluate(parse(EvaluateConfig, given | options))


def rows(result):
    return {(row.training_set, row.model): row for row in result.rows}


@pytest.fixture(scope="module")
def judged(tiny_run):
    return judge(tiny_run, baselines=["random"], epochs=3)


@pytest.fixture
def draws(monkeypatch):
    """What the random control drew, in order."""
    drawn = []
    draw = training_sets.draw_sample

    def noted(*arguments, **options):
        drawn.append((options, draw(*arguments, **options)))
        return drawn[-1][1]

    monkeypatch.setattr(training_sets, "draw_sample", noted)
    return drawn


# the same, and not the same


def test_the_same_evaluation_gives_the_same_accuracies(tiny_run, judged):
    torch.manual_seed(5)
    again = judge(tiny_run, baselines=["random"], epochs=3)
    for row, other in zip(judged.rows, again.rows, strict=True):
        assert row.accuracies == other.accuracies


def test_seeds_are_different_students(judged):
    assert len(set(rows(judged)["random", "convnet3"].accuracies)) == 2


def test_more_seeds_keep_the_first_ones(tiny_run, judged):
    one = judge(tiny_run, seeds=1, epochs=3)
    assert one.rows[0].accuracies == judged.rows[0].accuracies[:1]


# the training sets


def test_the_baseline_has_the_images_of_the_budget_and_others_for_each_seed(tiny_run, draws):
    result = judge(tiny_run, baselines=["random"], epochs=1, seeds=3)
    ipc = round(8000 / ipc_to_bytes(1, 10, 1, 8))
    assert rows(result)["random", "convnet3"].images_per_class == ipc == 3
    assert len(draws) == 3
    for _, sample in draws:
        assert torch.bincount(sample.labels).tolist() == [ipc] * 10
    images = [sample.images for _, sample in draws]
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[1], images[2])


def test_real_images_teach_and_the_condensed_row_is_the_file(tiny_run, judged):
    table = rows(judged)
    assert table["stored", "convnet3"].images_per_class == len(gf.CondensedDataset(tiny_run)) // 10
    assert table["random", "convnet3"].mean > 0.3


def test_the_full_baseline_learns_from_all_real_images(tiny_run):
    row = rows(judge(tiny_run, baselines=["full"], epochs=1))["full", "convnet3"]
    assert row.images_per_class == 144  # 1,438 in ten classes
    assert row.mean > 0.3
    assert len(set(row.accuracies)) == 2
    again = rows(judge(tiny_run, baselines=["full"], epochs=1, seeds=1))["full", "convnet3"]
    assert again.accuracies == row.accuracies[:1]


def test_streamed_epochs_are_all_images_in_new_orders():
    source = open_source("digits")
    (whole,) = stream(source.train, channels=1, image_size=8, batch_size=len(source.train))
    told = []
    normalisation = Normalisation((0.25,), (0.5,))
    waiting = DataTimer()
    device = torch.device("cpu")
    data = streamed(
        source, 8, normalisation, DC, seed=1, device=device, tell=told.append, waiting=waiting
    )
    epochs = []
    for number in range(2):
        before = torch.get_rng_state()
        batches = list(data.batches(number, torch.Generator()))
        assert torch.equal(torch.get_rng_state(), before)
        assert [len(labels) for _, labels in batches] == [256] * 5 + [158]
        epochs.append([torch.cat(each) for each in zip(*batches, strict=True)])
    assert data.steps == 6
    assert told == [256, 512, 768, 1024, 1280, 1438, 0] * 2
    assert waiting.passed > 0
    (images, labels), (others, _) = epochs
    assert not torch.equal(images, others)

    def as_set(images, labels):
        return Counter(zip((i.numpy().tobytes() for i in images), labels.tolist(), strict=True))

    want = as_set(normalisation(whole.images), whole.labels)
    assert as_set(images, labels) == want == as_set(*epochs[1])


def epochs_seen(run, sampling, monkeypatch):
    seen = []

    def note(images_of, labels, protocol):
        seen.append((labels, [images_of(epoch) for epoch in range(2)]))
        return held(images_of, labels, protocol)

    monkeypatch.setattr(training_sets, "held", note)
    monkeypatch.setattr(train_module, "train_student", lambda *given, **options: 1)
    judge(run, sampling=sampling, seeds=2)
    return seen


def test_the_stored_set_stays_and_the_stream_moves(tiny_run, monkeypatch):
    artifact = load(tiny_run)
    mean, std = torch.tensor(artifact.metadata.mean), torch.tensor(artifact.metadata.std)
    data = gf.CondensedDataset(tiny_run)
    wanted = (data.images(list(range(len(data)))) - mean) / std
    for labels, epochs in epochs_seen(tiny_run, "fixed", monkeypatch):
        assert labels.tolist() == data.targets
        for images in epochs:
            torch.testing.assert_close(images, wanted)
    (_, first), (_, second) = epochs_seen(tiny_run, "fresh", monkeypatch)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], second[0])
    assert first[0].shape == wanted.shape


def batches_seen(run, sampling, monkeypatch):
    """Of two epochs of two students."""
    seen = []

    def noted(student, data, *, seed, **options):
        rng = torch.Generator().manual_seed(seed)
        seen.append([list(data.batches(number, rng)) for number in range(2)])
        return 1

    monkeypatch.setattr(train_module, "train_student", noted)
    judge(run, sampling=sampling, seeds=2)
    return seen


def test_what_is_too_much_to_be_held_is_decoded_batch_by_batch(tiny_run, monkeypatch):
    stored = batches_seen(tiny_run, "fixed", monkeypatch)
    fresh = batches_seen(tiny_run, "fresh", monkeypatch)
    monkeypatch.setattr(training_sets, "_HELD_BYTES", 1)
    monkeypatch.setattr(training_sets._Decoded, "all", None)  # is not called
    again = batches_seen(tiny_run, "fixed", monkeypatch)
    torch.testing.assert_close(again, stored)
    others = batches_seen(tiny_run, "fresh", monkeypatch)
    (first, second), (another, _) = others
    for one, two in ((first, second), (first, another)):
        assert not torch.equal(one[0][0], two[0][0])
    for student, wanted in zip(others, fresh, strict=True):  # the same classes of other images
        for epoch, want in zip(student, wanted, strict=True):
            for (images, labels), (held_images, held_labels) in zip(epoch, want, strict=True):
                assert torch.equal(labels, held_labels)
                assert images.shape == held_images.shape
    torch.testing.assert_close(batches_seen(tiny_run, "fresh", monkeypatch), others)


@pytest.mark.parametrize("sampling", ["fixed", "fresh"])
def test_the_soft_protocol_teaches_what_is_stored_and_baselines_hard_labels(
    tiny_run, tmp_path, monkeypatch, sampling
):
    """The probabilities of the classes asked for are shared among these alone."""
    old = load(tiny_run)
    spec = replace(old.metadata.store, soft_labels=4)
    store = build_store(spec)
    store.load_images(old.store.images_to_storage())
    rows = torch.rand(spec.samples, 10, generator=torch.Generator().manual_seed(0)) ** 8
    rows[0] = torch.eye(10)[9]  # has none of the classes below
    store.soft_labels.keep(torch.arange(spec.samples), rows / rows.sum(1, keepdim=True))
    file = tmp_path / "soft"
    save(file, store, replace(old.metadata, store=spec))
    seen = []

    def noted(student, data, *, protocol, **options):
        assert protocol.soft
        seen.append(next(iter(data.batches(0, torch.Generator().manual_seed(0))))[1])
        return 1

    monkeypatch.setattr(train_module, "train_student", noted)
    options = {"protocol": "soft", "sampling": sampling, "baselines": ["random"], "seeds": 1}
    judge(file, **options)
    judge(file, **options, classes=["5", "0", "2"])
    order = torch.randperm(spec.samples, generator=torch.Generator().manual_seed(0))[:256]
    torch.testing.assert_close(seen[0], store.targets(order))
    some = torch.cat([torch.arange(spec.per_class) + c * spec.per_class for c in (0, 2, 5)])
    order = torch.randperm(len(some), generator=torch.Generator().manual_seed(0))[:256]
    kept = store.targets(some[order])[:, [0, 2, 5]]
    want = kept / kept.sum(1, keepdim=True)
    without = kept.sum(1) == 0  # keep their own class
    assert without[order == 0].all()
    want[without] = torch.eye(3)[order[without] // spec.per_class]
    torch.testing.assert_close(seen[2], want)
    assert seen[1].dtype == seen[3].dtype == torch.int64


def test_a_file_of_hard_labels_has_nothing_for_the_soft_protocol(tiny_run):
    with pytest.raises(InputError, match="holds hard labels alone: add soft ones with"):
        judge(tiny_run, protocol="soft")


def test_rows_are_named_after_their_set_and_architecture(tiny_run):
    models = ["convnet3", "convnet4"]
    result = judge(
        tiny_run, sampling="fresh", models=models, baselines=["random"], epochs=1, seeds=1
    )
    assert [(row.training_set, row.model) for row in result.rows] == [
        ("fresh", "convnet3"),
        ("fresh", "convnet4"),
        ("random", "convnet3"),
        ("random", "convnet4"),
    ]


# what is tested on


def test_the_accuracy_is_the_share_of_the_validation_images(tiny_run):
    source = open_source("digits")
    runtime = choose_runtime("cpu", "float32", "off", 8)
    normalisation = Normalisation((0.3,), (0.4,))
    student = build_classifier("convnet3", 1, 10, 8, seed=0)
    images = torch.from_numpy(next(source.val.split.read(np.arange(len(source.val)), 10**6)))
    with torch.no_grad():
        guesses = student.eval()(normalisation(images.permute(0, 3, 1, 2))).argmax(1).numpy()
    expected = float((guesses == source.val.labels).mean())
    assert accuracy(student, source, 8, normalisation, runtime) == pytest.approx(expected)


@pytest.fixture(scope="module")
def unsplit(tmp_path_factory, _own_cache):
    """The digits as arrays without a validation split, each image marked by a corner; a run."""
    from image_builders import Picture

    root = tmp_path_factory.mktemp("unsplit")
    digits = open_source("digits").train
    pixels = next(digits.split.read(np.arange(200), 200))[..., 0].copy()
    pixels[:, 0, 0] = np.arange(200)
    made = [
        Picture(str(label), f"{place}.png", image)
        for place, (image, label) in enumerate(zip(pixels, digits.labels[:200], strict=True))
    ]
    data = write_npz(root / "set.npz", made)
    run = root / "run"
    options = ("--val-fraction", 0.25, "--seed", 3)
    done = call("condense", "--data", data, "--out", run, *options, *TINY)
    assert done.code == 0, done.err
    return data, run


def marks(images):
    return set(images[:, 0, 0, 0].tolist())


def test_the_share_set_apart_for_the_run_is_the_test(unsplit, draws, monkeypatch):
    data, run = unsplit
    tested = []
    opened = run_module.open_source

    def noted(*arguments, **options):
        tested.append(opened(*arguments, **options))
        return tested[-1]

    monkeypatch.setattr(run_module, "open_source", noted)
    result = judge(run, data=str(data), baselines=["random"], epochs=1)
    trained = open_source(str(data), val_fraction=0.25, seed=3)
    assert np.array_equal(tested[0].val.labels, trained.val.labels)
    apart = marks(next(trained.val.split.read(np.arange(len(trained.val)), 10**6)))
    kept = marks(next(trained.train.split.read(np.arange(len(trained.train)), 10**6)))
    assert result.test_images == len(apart) == pytest.approx(50, abs=5)
    assert result.held_out == 0.25
    assert len(apart | kept) == 200
    assert not apart & kept
    for _, sample in draws:
        assert marks(sample.images) <= kept


def test_another_split_cannot_slip_in(unsplit, tmp_path):
    """The file remembers the split, so it does not depend on where the run lies."""
    data, run = unsplit
    shutil.copy(run / "condensed.safetensors", tmp_path / "a.safetensors")
    here, there = (
        judge(where, data=str(data), seeds=1) for where in (run, tmp_path / "a.safetensors")
    )
    assert here.rows[0].accuracies == there.rows[0].accuracies
    assert here.test_images == there.test_images


def test_a_held_out_part_is_tested_on_in_place_of_the_test_split(tiny_run, tmp_path, monkeypatch):
    artifact = load(tiny_run)
    run = tmp_path / "a.safetensors"
    made = {"options": {"val_fraction": 0.1}}
    save(run, artifact.store, replace(artifact.metadata, made=made))
    tested = []
    judged_by = runner_module.accuracy

    def noted(student, source, *more):
        tested.append(source.val)
        return judged_by(student, source, *more)

    monkeypatch.setattr(runner_module, "accuracy", noted)
    result = judge(run, epochs=1, seeds=1)
    split = open_source("digits", val_fraction=0.1)
    assert (result.test_images, result.held_out) == (len(split.val), 0.1)
    assert len(split.train) + len(split.val) == len(open_source("digits").train)
    (val,) = tested
    rows = np.arange(len(val))
    images = [next(tested.split.read(rows, 10**6)) for tested in (val, split.val)]
    assert np.array_equal(*images)


# the protocol


def test_the_student_of_the_last_epoch_is_judged(tiny_run, monkeypatch):
    """One test a student, when all its epochs are done: no epoch is chosen by the test."""
    order = []

    class Noted(Reporter):
        def phase(self, name, total, done=0):
            from contextlib import nullcontext

            class Progress:
                def advance(self, amount=1, values=None):
                    order.append("epoch")

            return nullcontext(Progress())

    def tested(*arguments):
        order.append("test")
        return 0.5

    monkeypatch.setattr(runner_module, "accuracy", tested)
    given = {"run": str(tiny_run), "data": "digits", "seeds": 2, "epochs": 3, "device": "cpu"}
    result = evaluate(parse(EvaluateConfig, given), Noted())
    assert order == ["epoch", "epoch", "epoch", "test"] * 2
    assert (result.rows[0].mean, result.rows[0].std) == (0.5, 0.0)


# what is written


def test_the_result_says_what_the_file_weighs(tiny_run, judged, tmp_path):
    size = (tiny_run / "condensed.safetensors").stat().st_size
    plain = json.loads(json.dumps(judged.to_dict()))
    assert plain["bytes"] == size
    assert plain["bits_per_class"] == 8 * size / 10
    assert plain["ipc"] == pytest.approx(size / (10 * 8 * 8 * 4))
    assert plain["ipc_uint8"] == pytest.approx(4 * plain["ipc"])
    assert (plain["test_images"], plain["held_out"]) == (359, None)
    assert plain["epochs"] == 3
    assert plain["protocol"]["name"] == "dc"
    assert plain["protocol"]["batch_size"] == 256
    # 81 or so stored and 3 random images of ten classes, in batches of 256, three times
    per_class = [row["images_per_class"] for row in plain["rows"]]
    assert [row["steps"] for row in plain["rows"]] == [3 * -(-10 * per_class[0] // 256)] * 2
    assert plain["environment"]["versions"]["torch"] == torch.__version__
    for row in plain["rows"]:
        assert row["mean"] == pytest.approx(np.mean(row["accuracies"]))
        assert row["std"] == pytest.approx(np.std(row["accuracies"], ddof=1))
        assert row["seconds"] > 0


def test_the_library_refuses_as_the_command_does(tiny_run, tmp_path):
    with pytest.raises(InputError, match="does not exist: condense first"):
        judge(tmp_path / "none")
    with pytest.raises(InputError, match="unknown model 'x'"):
        judge(tiny_run, models=["x"])


@pytest.mark.parametrize("options", [[1], "x", {"seed": "x"}, {"seed": -1}, {"val_fraction": 7}])
def test_what_a_stranger_wrote_into_the_file_is_checked(tiny_run, tmp_path, options):
    artifact = load(tiny_run)
    file = tmp_path / "a.safetensors"
    save(file, artifact.store, replace(artifact.metadata, made={"options": options}))
    if isinstance(options, dict):
        with pytest.raises(InputError, match="option '(seed|val_fraction)' cannot be"):
            judge(file, epochs=1, seeds=1)
    else:
        assert judge(file, epochs=1, seeds=1).rows
