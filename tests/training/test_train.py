"""Students: they learn, they are judged after the last epoch, and a seed fixes them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gencond_fast.data.normalise import Normalisation
from gencond_fast.data.source import open_source
from gencond_fast.errors import RunError
from gencond_fast.evaluation.result import EvaluationResult, Row
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import build_classifier
from gencond_fast.system.runtime import choose_runtime
from gencond_fast.training.epochs import held
from gencond_fast.training.protocol import DC, Protocol
from gencond_fast.training.train import accuracy, train_student

RUNTIME = choose_runtime("cpu", "float32", "off", 8)
PLAIN = Normalisation((0.0,), (1.0,))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # such small networks gain nothing from two


def stripes(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Upright and level stripes [n, 1, 8, 8] with noise: two classes that flips keep apart."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    level = torch.tensor([1.0, 1, -1, -1] * 2).view(1, 1, 8, 1).expand(n, 1, 8, 8)
    images = torch.where((labels == 1).view(-1, 1, 1, 1), level, level.transpose(2, 3))
    return images + 0.3 * torch.randn(n, 1, 8, 8, generator=rng), labels


def student_of(seed: int = 0) -> Classifier:
    return build_classifier("convnet3", 1, 2, 8, seed=seed, width=8)


def train(student: Classifier, images_of, labels: Tensor, **options) -> Classifier:
    """Trains with the published protocol but for small batches; options go to the function."""
    fixed = {"protocol": replace(DC, batch_size=16), "epochs": 4, "seed": 0, "runtime": RUNTIME}
    options = fixed | {"advance": lambda n: None} | options
    train_student(student, held(images_of, labels, options["protocol"]), **options)
    return student


def right(student: Classifier, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((student.eval()(images).argmax(1) == labels).double().mean())


def weights(student: Classifier) -> Tensor:
    return torch.cat([p.detach().flatten() for p in student.parameters()])


@pytest.mark.parametrize("model", ["convnet3", "resnet18"])
def test_learns_what_is_easy(model):
    images, labels = stripes(64)
    width = 8 if model == "convnet3" else None
    student = build_classifier(model, 1, 2, 8, seed=0, width=width)
    train(student, lambda epoch: images, labels, epochs=8 if model == "convnet3" else 3)
    assert right(student, *stripes(100, seed=1)) > 0.95


def test_what_the_last_epochs_show_is_what_counts():
    images, labels = stripes(64)
    student = train(student_of(), lambda epoch: images, labels, epochs=8)
    assert right(student, images, labels) > 0.95
    swapped = images.transpose(2, 3)
    student = train(student_of(), lambda e: images if e < 2 else swapped, labels, epochs=16)
    assert right(student, images, labels) < 0.1


def test_epochs_are_asked_for_in_turn_and_counted():
    images, labels = stripes(20)
    asked, advanced = [], []

    def images_of(epoch):
        asked.append(epoch)
        return images

    train(student_of(), images_of, labels, epochs=5, advance=advanced.append)
    assert asked == [0, 1, 2, 3, 4]
    assert advanced == [1] * 5


class _Watched(nn.Module):
    """Counts the images that come by and keeps the batches' sizes."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.sizes, self.modes = inner, [], []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        self.modes.append(self.training)
        return self.inner(images)


def test_every_image_is_seen_once_an_epoch():
    images, labels = stripes(20)
    student = student_of()
    student.body = watched = _Watched(student.body)
    train(student.eval(), lambda epoch: images, labels, epochs=2)
    assert watched.sizes == [16, 4, 16, 4]
    assert all(watched.modes)  # trained in training mode, whatever the mode before


@pytest.mark.parametrize(("epochs", "first"), [(1, None), (2, None), (4, 3), (5, 3), (10, 6)])
def test_the_rate_drops_to_a_tenth_after_half(monkeypatch, epochs, first):
    seen = []
    step = torch.optim.SGD.step

    def watched(self, *args, **kwargs):
        group = self.param_groups[0]
        seen.append((group["lr"], group["momentum"], group["weight_decay"]))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    images, labels = stripes(8)
    train(student_of(), lambda epoch: images, labels, epochs=epochs)
    drop = epochs if first is None else first
    rates = [0.01] * drop + [0.001] * (epochs - drop)
    assert [s[0] for s in seen] == pytest.approx(rates)
    assert {s[1:] for s in seen} == {(0.9, 5e-4)}


def test_the_published_protocol():
    assert Protocol() == DC
    assert (DC.batch_size, DC.lr, DC.momentum, DC.weight_decay) == (256, 0.01, 0.9, 5e-4)
    assert set(DC.augmentation) == {"color", "crop", "cutout", "flip", "scale", "rotate"}


def test_a_seed_fixes_the_student():
    images, labels = stripes(40)
    trained = []
    for seed, state in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(state)  # the global state has no say
        trained.append(weights(train(student_of(), lambda e: images, labels, seed=seed)))
    assert torch.equal(trained[0], trained[1])
    assert not torch.allclose(trained[0], trained[2], atol=1e-4)


def test_augmentation_can_be_left_out():
    images, labels = stripes(8)
    plain = replace(DC, augmentation=("identity",), momentum=0.0, weight_decay=0.0)
    student = train(student_of(), lambda e: images, labels, protocol=plain, epochs=1)
    want = student_of()
    loss = nn.functional.cross_entropy(want(images), labels)
    loss.backward()
    with torch.no_grad():
        for p in want.parameters():
            p -= 0.01 * p.grad
    assert torch.allclose(weights(student), weights(want), atol=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_divergence_is_an_error(bad):
    images, labels = stripes(20)
    spoiled = images.clone()
    spoiled[3, 0, 2, 2] = bad
    with pytest.raises(RunError, match="a student diverged"):
        train(student_of(), lambda e: spoiled if e == 1 else images, labels)


def test_accuracy_on_the_validation_split(tmp_path):
    class Brightness(nn.Module):
        """Names a picture by how bright it is: dark 0, bright 1."""

        def forward(self, images):
            assert not self.training
            bright = images.mean((1, 2, 3))
            return torch.stack((0.5 - bright, bright - 0.5), 1)

    rng = np.random.default_rng(0)
    levels = np.array([20, 30, 40, 200, 210, 220, 230])
    pixels = np.broadcast_to(levels[:, None, None], (7, 8, 8)).astype(np.uint8)
    labels = np.array([0, 0, 1, 1, 1, 0, 1])  # two of the seven are named wrongly
    order = rng.permutation(7)
    for split in ("train", "val"):
        np.savez(tmp_path / f"{split}.npz", images=pixels[order], labels=labels[order])
    source = open_source(str(tmp_path))
    got = accuracy(Brightness(), source, 8, PLAIN, RUNTIME)
    assert got == pytest.approx(5 / 7)
    dark = accuracy(Brightness(), source, 8, Normalisation((0.9,), (1.0,)), RUNTIME)
    assert dark == pytest.approx(3 / 7)


def row_of(*accuracies: float) -> Row:
    return Row("stored", "convnet3", 10, accuracies, 1.5, 12)


def test_mean_and_deviation_over_seeds():
    row = row_of(0.5, 0.7, 0.6, 0.4)
    assert row.mean == pytest.approx(0.55)
    assert row.std == pytest.approx(math.sqrt((0.0025 + 0.0225 + 0.0025 + 0.0225) / 3))
    assert (row_of(0.3).mean, row_of(0.3).std) == (0.3, 0.0)
    assert row_of(0.4, 0.4, 0.4).std == 0.0


def test_results_as_json():
    made = EvaluationResult(
        rows=(row_of(0.5, 0.75), Row("random", "resnet18", 1, (0.25,), 2.0, 3)),
        protocol={"augmentation": ("flip",), "rate": 0.01},
        epochs=5,
        bytes=1234,
        ipc=0.25,
        ipc_uint8=1.0,
        bits_per_class=987.2,
        test_images=70,
        held_out=None,
        environment={"machine": {"gpu": None}},
    )
    plain = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    first, second = plain["rows"]
    assert (first["mean"], first["accuracies"]) == (0.625, [0.5, 0.75])
    assert first["std"] == pytest.approx(0.125 * math.sqrt(2))
    assert (second["training_set"], second["model"], second["std"]) == ("random", "resnet18", 0.0)
    assert (plain["bytes"], plain["test_images"], plain["epochs"]) == (1234, 70, 5)
    assert plain["environment"] == {"machine": {"gpu": None}}
