"""A file with a labeller, from the command that makes it to the students that learn from it."""

from __future__ import annotations

import json

import pytest
import torch
from command_line import TINY, call, refused
from torch.nn.functional import cross_entropy

import gencond_fast as gf
from gencond_fast.config.options import resolve
from gencond_fast.config.steps import LABELLER_SHARE, labeller_share
from gencond_fast.data import open_source
from gencond_fast.data.augment import augment, draw_from_policy
from gencond_fast.data.stream import stream
from gencond_fast.models.registry import build_classifier
from gencond_fast.store.artifact import load
from gencond_fast.system.rng import named_rng
from gencond_fast.system.runtime import choose_runtime
from gencond_fast.training.epochs import held
from gencond_fast.training.protocol import DC
from gencond_fast.training.trainer import Trainer

LABELLED = (*TINY, "--steps", "0", "--set", "labels.labeller=0.4", "--set", "teachers.epochs=2")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, _own_cache):
    run = tmp_path_factory.mktemp("runs") / "labelled"
    done = call("condense", "--data", "digits", "--out", run, *LABELLED)
    assert done.code == 0, done.err
    return run, done


def test_it_takes_its_share_of_the_bytes(labelled):
    run, done = labelled
    made = load(run)
    assert made.size <= 8000
    assert made.labeller.spec.bytes == 3200
    assert "labeller convnet3@" in done.out
    assert "--protocol soft" in done.out  # the evaluation that is proposed


def test_students_learn_its_labels_and_its_own_accuracy_is_told(labelled, tmp_path):
    run, _ = labelled
    options = ("--protocol", "soft", "--epochs", "2", "--seeds", "2", "--model", "convnet3@8")
    done = call("evaluate", run, "--data", "digits", *options)
    assert done.code == 0, done.err
    (out,) = run.glob("evaluation-soft-*.json")
    found = json.loads(out.read_text())
    assert f"labeller by itself: {100 * found['labeller_accuracy']:.2f} %" in done.out
    report = call("report", run, "--out", tmp_path / "page.html")
    assert report.code == 0, report.err
    told = f"labeller ({100 * found['labeller_accuracy']:.2f} % by itself)"
    assert told in (tmp_path / "page.html").read_text()
    assert found["labeller_accuracy"] == pytest.approx(_accuracy(run), abs=0.02)


def _accuracy(run):
    """Of the labeller on the test images, through the interface for users."""
    data = gf.CondensedDataset(run)
    reader = open_source("digits").val
    labels = torch.from_numpy(reader.labels)
    (batch,) = stream(reader, channels=1, image_size=8, batch_size=len(labels))
    images = (batch.images / 255 - data.mean[0]) / data.std[0]
    return float((data.labeller(images).argmax(1) == labels).float().mean())


def test_of_some_classes_it_labels_those_alone(labelled):
    run, _ = labelled
    chosen = ("--classes", "3,7,9")
    options = ("--protocol", "soft", "--epochs", "1", "--seeds", "1", "--model", "convnet3@8")
    done = call("evaluate", run, "--data", "digits", *options, *chosen)
    assert done.code == 0, done.err


def test_each_step_learns_the_label_of_what_it_sees():
    """Two steps by hand, with labels computed from the augmented images."""
    runtime = choose_runtime("cpu", "float32", "off", 8)
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    teacher = build_classifier("convnet3", 1, 3, 8, seed=5, width=8).eval()
    protocol = DC

    def label(views):
        with torch.no_grad():
            return teacher(views).softmax(1)

    student, by_hand = (build_classifier("convnet3", 1, 3, 8, seed=1, width=8) for _ in range(2))
    data = held(lambda epoch: images, torch.zeros(6, dtype=torch.int64), protocol)
    trainer = Trainer(
        student, data, protocol=protocol, epochs=4, seed=2, runtime=runtime, label_views=label
    )
    optimizer = torch.optim.SGD(
        by_hand.parameters(), lr=protocol.lr, momentum=0.9, weight_decay=5e-4
    )
    for epoch in range(2):
        trainer.run_epoch(epoch)
        rng = named_rng(2, "epoch", epoch)
        order = torch.randperm(6, generator=rng)
        transform = draw_from_policy(
            protocol.augmentation, rng, batch_size=6, device=torch.device("cpu")
        )
        views = augment(images[order], transform)
        optimizer.zero_grad()
        cross_entropy(by_hand.train()(views), label(views)).backward()
        optimizer.step()
    for one, other in zip(student.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_an_interrupted_run_gives_the_same_file(labelled, tmp_path):
    run, _ = labelled
    again = tmp_path / "again"
    done = call("condense", "--data", "digits", "--out", again, *LABELLED)
    assert done.code == 0, done.err
    one, other = (load(each / "condensed.safetensors") for each in (run, again))
    pairs = zip(
        one.labeller.to_storage().values(), other.labeller.to_storage().values(), strict=True
    )
    assert all(torch.equal(*pair) for pair in pairs)


def test_relabelling_keeps_it(labelled, tmp_path):
    run, _ = labelled
    out = tmp_path / "soft.safetensors"
    options = ("--soft-labels", "3", "--bytes", "20KB", "--out", out)
    done = call("relabel", run, "--data", "digits", *options)
    assert done.code == 0, done.err
    assert load(out).labeller.spec == load(run).labeller.spec


def test_too_small_a_share_is_refused(tmp_path):
    options = (*TINY, "--set", "labels.labeller=0.01")
    done = call("condense", "--data", "digits", "--out", tmp_path / "run", *options)
    refused(done, "labels.labeller=0.01 leaves 80 bytes")
    assert not (tmp_path / "run").exists()


def test_a_private_file_has_none(tmp_path):
    options = ("--dp-epsilon", "4", "--dp-delta", "1e-5", "--set", "labels.labeller=0.2")
    done = call("condense", "--data", "digits", "--out", tmp_path / "run", *options)
    refused(done, "labels.labeller is 0.2, which needs real images")


@pytest.mark.parametrize(
    ("side", "options", "share"),
    [
        (32, {}, 0.0),
        (64, {}, LABELLER_SHARE),
        (64, {"store": {"soft_labels": 3}}, 0.0),
        (32, {"labels": {"labeller": 0.2}}, 0.2),
    ],
)
def test_the_share_follows_from_the_side_and_the_labels(side, options, share):
    assert labeller_share(resolve({"data": "x", "out": "y"}, options), side) == share
