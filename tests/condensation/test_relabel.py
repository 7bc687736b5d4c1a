"""Soft labels by teachers: what they are, and how a file gets them."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
import stopped
import torch
from command_line import TINY, call, refused
from image_builders import Picture, write_npz
from store_builders import full_disk

import gencond_fast as gf
from gencond_fast.condensation import relabel as relabelled
from gencond_fast.condensation.labels import pool_teachers, with_soft_labels
from gencond_fast.condensation.networks import build_networks, network_key
from gencond_fast.condensation.task import Task, open_config, open_task, set_up
from gencond_fast.config.options import resolve
from gencond_fast.data import open_source
from gencond_fast.data.augment import Augmentation, augment, draw_augmentation
from gencond_fast.models.registry import build_classifier
from gencond_fast.store import artifact
from gencond_fast.store.artifact import load
from gencond_fast.store.soft_labels import SoftLabels
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.stores import build_store
from gencond_fast.system.cache import cache_directory, load_tensors
from gencond_fast.system.progress import Reporter
from gencond_fast.system.rng import named_rng

PRODUCT = "condensed.safetensors"
SHORT = (*TINY, "--steps", "10")
NETWORKS = {"width": 8, "train_steps": 5, "random": 1, "trained": 2, "train_images": 20}


def task_of(**options) -> Task:
    given = {"data": "digits", "out": "", "device": "cpu", "networks": NETWORKS, "compile": "off"}
    config = resolve(given, options)
    source = open_config(config, Reporter())
    return open_task(set_up(config, source, 8, Reporter()))


def store_of(task: Task, **changes):
    sizes = {"coefficients": 20, "stream_bytes": 8000}
    spec = StoreSpec("generator", 10, changes.pop("per_class", 3), 1, 8, 8, 1, 1, **sizes)
    return build_store(spec, seed=1), replace(spec, **changes)


# what the labels are


@pytest.mark.parametrize(
    ("temperature", "hard", "augmentations"), [(1.0, 0.1, 16), (3.0, 0.0, 1), (0.5, 0.75, 8)]
)
def test_labels_are_the_mean_of_what_teachers_say(monkeypatch, temperature, hard, augmentations):
    monkeypatch.setattr(SoftLabels, "compress", lambda self: None)
    labels = {
        "temperature": temperature,
        "hard_label_weight": hard,
        "num_augmentations": augmentations,
    }
    task = task_of(labels=labels, seed=4)
    store, spec = store_of(task, soft_labels=10, per_class=17)  # 170 samples: two batches
    rng = np.random.default_rng(0)
    weights = torch.from_numpy(rng.normal(0, 0.3, (2, 64, 10)))

    def teacher(weight):
        return lambda images: (images.flatten(1).double() @ weight).float()

    made = with_soft_labels(task, store, spec, [teacher(weight) for weight in weights])
    names = task.config.networks.augmentation
    transforms = [Augmentation("identity", torch.zeros(1, 3))]
    transforms += [
        draw_augmentation(names[place % 6], named_rng(4, "soft labels", place))
        for place in range(augmentations - 1)
    ]
    # a file's images are those of levels that fit into its bytes
    stored = build_store(store.spec)
    stored.load_storage(store.to_storage())
    with torch.no_grad():
        images = (stored(torch.arange(170)) - task.normalisation.mean[0]) / task.normalisation.std[
            0
        ]
    want = np.zeros((170, 10))
    for weight in weights.numpy():
        for transform in transforms:
            logits = augment(images, transform).flatten(1).double().numpy() @ weight / temperature
            odds = np.exp(logits - logits.max(1, keepdims=True))
            want += odds / odds.sum(1, keepdims=True) / (2 * augmentations)
    want = (1 - hard) * want + hard * np.repeat(np.eye(10), 17, 0)
    got = made.targets(torch.arange(170)).double().numpy()
    assert np.abs(got - want).max() < 1 / 510 + 10 / 510 * want.max()
    levels = made.soft_labels.to_storage()["soft_values"].numpy()
    assert (np.abs(levels - 255 * want) < 0.5 + 0.01).all()
    for name, tensor in store.images_to_storage().items():
        assert torch.equal(made.images_to_storage()[name], tensor)


def test_the_pool_is_the_trained_networks_of_the_run():
    task = task_of()
    networks = build_networks(task)
    teachers = pool_teachers(networks)
    assert len(teachers) == 2
    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for teacher, plan in zip(teachers, networks.plans[1:], strict=True):
        network = build_classifier("convnet3", 1, 10, 8, seed=0, width=8).eval()
        file = cache_directory("networks") / f"{network_key(task, plan)}.safetensors"
        network.load_state_dict(load_tensors(file))
        with torch.no_grad(), task.runtime.autocast():
            want = network.features(images).float()
            want = want @ network.classifier.weight.T + network.classifier.bias
        torch.testing.assert_close(teacher(images), want, rtol=2e-2, atol=2e-2)


# runs


@pytest.fixture(scope="module")
def soft_run(tmp_path_factory, _own_cache):
    run = tmp_path_factory.mktemp("soft") / "run"
    done = call("condense", "--data", "digits", "--out", run, *SHORT, "--soft-labels", 4)
    assert done.code == 0, done.err
    return run


def test_a_run_ends_with_labels_within_its_budget(soft_run):
    made = load(soft_run)
    assert made.metadata.store.soft_labels == 4
    assert made.size <= 8000
    assert made.metadata.made["options"]["store.soft_labels"] == 4
    targets = gf.CondensedDataset(soft_run).soft_targets(slice(None))
    assert ((targets > 0.01).sum(1) > 1).any()  # soft
    own = targets.gather(1, made.store.labels(torch.arange(len(targets)))[:, None])
    assert (own >= 0.09).all()  # a tenth is the hard label


def test_a_run_stopped_while_labels_are_given_goes_on_to_the_same_bits(soft_run, tmp_path):
    run = tmp_path / "run"
    line = ["condense", "--data", "digits", "--out", str(run), *SHORT, "--soft-labels", "4"]
    before = signal.getsignal(signal.SIGTERM)
    err = io.StringIO()
    try:
        with (
            contextlib.redirect_stderr(err),
            contextlib.redirect_stdout(io.StringIO()),
            pytest.raises(SystemExit) as end,
        ):
            stopped.run(signal.SIGTERM, "soft labels 1", line)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 143
    assert "run the same command again" in err.getvalue()
    assert not (run / PRODUCT).exists()
    assert call(*line).code == 0
    assert (run / PRODUCT).read_bytes() == (soft_run / PRODUCT).read_bytes()


def test_relabelling_gives_the_labels_of_the_run(soft_run, tmp_path):
    out = tmp_path / "again"
    done = call("relabel", soft_run, "--data", "digits", "--out", out)
    assert done.code == 0, done.err
    assert out.read_bytes() == (soft_run / PRODUCT).read_bytes()


def test_labels_are_coded_in_the_bytes_that_they_are_given(soft_run, tmp_path):
    run, again = tmp_path / "run", tmp_path / "again"
    line = ("condense", "--data", "digits", *SHORT, "--soft-labels", 4)
    done = call(*line, "--out", run, "--set", "store.label_bytes=1.5")
    assert done.code == 0, done.err
    tight, whole = load(run), load(soft_run)
    assert 7500 <= tight.size <= 8000
    spec = tight.metadata.store
    assert 0 < spec.label_bytes <= 1.5 * spec.samples + 4
    assert f"soft labels: {spec.label_bytes:,} bytes, {8 * spec.samples:,} before" in done.err
    # else as many bytes are reserved as plain labels take, and those that are saved are left over
    loose = whole.metadata.store
    assert spec.per_class > loose.per_class
    assert spec.label_bytes / spec.samples < loose.label_bytes / loose.samples < 8
    assert whole.size < 8000 - 500
    assert call("relabel", run, "--data", "digits", "--out", again).code == 0
    assert again.read_bytes() == (run / PRODUCT).read_bytes()
    options = ("--set", "store.label_bytes=2.5", "--bytes", "20KB")
    assert call("relabel", run, "--data", "digits", "--out", again, *options).code == 0
    finer = load(again).metadata
    assert spec.label_bytes < finer.store.label_bytes <= 2.5 * spec.samples + 4
    assert finer.made["options"]["store.label_bytes"] == 2.5


def test_a_hard_file_gets_labels_over_itself(tiny_run, tmp_path):
    file = tmp_path / "made"
    file.write_bytes((tiny_run / PRODUCT).read_bytes())
    before = load(file)
    options = (
        "--soft-labels",
        3,
        "--set",
        "labels.num_augmentations=2",
        "--set",
        "labels.hard_label_weight=0",
    )
    done = call("relabel", file, "--data", "digits", *options)
    refused(done, "would weigh")
    assert load(file).size == before.size
    enough = re.search(r"--bytes (\d+)", done.err)[1]
    done = call("relabel", file, "--data", "digits", *options, "--bytes", enough)
    assert done.code == 0, done.err
    assert "3 class probabilities each" in done.out
    made = load(file)
    assert os.listdir(tmp_path) == ["made"]
    assert made.size <= made.metadata.budget == int(enough)
    assert made.metadata.made["options"] == before.metadata.made["options"] | {
        "store.soft_labels": 3,
        "labels.num_augmentations": 2,
        "labels.hard_label_weight": 0.0,
    }
    index = torch.arange(before.metadata.store.samples)
    assert torch.equal(made.store(index), before.store(index))
    # once it has soft labels, they are given anew with the options that it was relabelled with
    content = file.read_bytes()
    assert call("relabel", file, "--data", "digits").code == 0
    assert file.read_bytes() == content
    done = call("evaluate", file, "--data", "digits", "--protocol", "soft", "--epochs", 1)
    assert done.code == 0, done.err
    assert "protocol soft: " in done.out


def test_what_cannot_be_relabelled_is_refused(tiny_run, tmp_path):
    def attempt(*more, data="digits", run=tiny_run):
        return call("relabel", run, "--data", data, *more)

    refused(attempt(), "has no soft labels yet: say with --soft-labels")
    enough = ("--soft-labels", 2, "--bytes", "1MB")
    refused(attempt(*enough, "--out", tmp_path), "is a folder")
    refused(attempt(*enough, "--out", tmp_path / "a" / "b"), "does not exist")
    refused(attempt(run=tmp_path / "none"), "does not exist: condense first")
    refused(attempt(*enough, "--set", "networks.trained=0"), "no network gives soft labels")
    refused(
        attempt(*enough, "--set", "labels.hard_label_weight=2"),
        "option 'labels.hard_label_weight' cannot be 2",
    )
    unknown = ("--source", "full_data", "--set", "teachers.model=x")
    refused(attempt(*enough, *unknown), "unknown model 'x'")
    gray = np.zeros((8, 8), np.uint8)
    pictures = [Picture(name, f"{i}.png", gray) for i in range(6) for name in "ab"]
    refused(attempt(*enough, data=write_npz(tmp_path / "set.npz", pictures)), "no class '0'")
    assert os.listdir(tmp_path) == ["set.npz"]


def test_a_full_disk_leaves_the_file(tiny_run, tmp_path):
    file = tmp_path / "made"
    file.write_bytes((tiny_run / PRODUCT).read_bytes())
    with full_disk(2000), pytest.raises(OSError, match="too large"):
        relabelled(file, "digits", {"store": {"soft_labels": 2}, "bytes": 10**6})
    assert file.read_bytes() == (tiny_run / PRODUCT).read_bytes()
    assert os.listdir(tmp_path) == ["made"]


def test_images_that_were_set_apart_are_not_learned(tmp_path, monkeypatch):
    """Some classes, and a part set apart: the pool is trained on the rest, as it was in the run."""
    digits = open_source("digits").train
    pixels = next(digits.split.read(np.arange(300), 300))[..., 0]
    made = [
        Picture(str(label), f"{place}.png", image)
        for place, (image, label) in enumerate(zip(pixels, digits.labels[:300], strict=True))
    ]
    data = write_npz(tmp_path / "set.npz", made)
    options = ("--val-fraction", 0.25, "--seed", 3, "--classes", "7,2,5")
    done = call("condense", "--data", data, "--out", tmp_path / "run", *SHORT, *options)
    assert done.code == 0, done.err
    monkeypatch.setattr("gencond_fast.condensation.networks._train", None)  # all are in the cache
    more = ("--soft-labels", 3, "--bytes", "1MB", "--out", tmp_path / "soft")
    done = call("relabel", tmp_path / "run", "--data", data, *more)
    assert done.code == 0, done.err
    assert "note:" not in done.err
    assert load(tmp_path / "soft").metadata.class_names == ("2", "5", "7")


def test_what_a_stranger_wrote_into_the_file_is_checked(tiny_run, tmp_path):
    old = load(tiny_run)
    file = tmp_path / "made"
    for options, words in (
        ([1], "has no soft labels yet"),
        ({"networks.width": "x"}, "option 'networks.width' cannot be 'x'"),
        ({"networks.x.y": 1}, "unknown option 'networks.x'"),
        ({"data": "/etc", "out": "/etc"}, "has no soft labels yet"),
    ):
        artifact.save(file, old.store, replace(old.metadata, made={"options": options}))
        refused(call("relabel", file, "--data", "digits"), words)


@pytest.mark.parametrize("option", ["networks.model", "networks.mixture", "teachers.model"])
def test_a_file_does_not_say_which_code_is_run(tiny_run, tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = f"of_a_stranger_{option.replace('.', '_')}"
    (tmp_path / f"{module}.py").write_text(
        "from pathlib import Path\nPath('was_run').touch()\n"
        "from gencond_fast.models.convnet import convnet as net\n"
    )
    old = load(tiny_run)
    named = f"{module}:net"
    options = old.metadata.made["options"] | {option: [named] if "mixture" in option else named}
    artifact.save(tmp_path / "made", old.store, replace(old.metadata, made={"options": options}))
    words = ("--data", "digits", "--soft-labels", 2, "--bytes", "20KB")
    refused(call("relabel", "made", *words), "no file decides on code to run")
    assert call("info", "made").code == 0
    assert call("sample", "made", "--out", "pictures").code == 0
    assert not (tmp_path / "was_run").exists()
    value = f"[{named}]" if "mixture" in option else named
    said = ("--set", f"{option}={value}", "--set", "networks.trained=2")
    source = "full_data" if "teachers" in option else "pool"
    said += ("--source", source, "--set", "teachers.epochs=1", "--set", "networks.random=0")
    done = call("relabel", "made", *words, *said)
    assert done.code == 0, done.err
    assert (tmp_path / "was_run").exists()
