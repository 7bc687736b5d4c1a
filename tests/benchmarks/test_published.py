"""The published evaluation, written out, against what `evaluate` does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor

from benchmarks import published
from gencond_fast.models.registry import build_classifier
from gencond_fast.system.runtime import choose_runtime
from gencond_fast.training.epochs import held
from gencond_fast.training.protocol import DC
from gencond_fast.training.trainer import Trainer

SIDE = 32


@pytest.fixture(scope="module")
def noise() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(20, 3, SIDE, SIDE, generator=rng), torch.arange(20) % 10


@pytest.fixture
def student():
    return build_classifier("convnet3", 3, 10, SIDE, seed=3)


@pytest.fixture
def plain(student):
    network = published.convnet(3, 10, SIDE)
    pairs = zip(network.parameters(), student.parameters(), strict=True)
    with torch.no_grad():
        for mine, its in pairs:
            mine.copy_(its)
    return network


def test_the_network_is_the_student(noise, student, plain):
    torch.testing.assert_close(plain(noise[0]), student(noise[0]))


def test_the_first_steps_are_those_of_a_student(noise, student, plain):
    """All at the full rate: three of six epochs there, of two and one there."""
    images, labels = noise
    protocol = DC.without_augmentation()
    trainer = Trainer(
        student,
        held(lambda epoch: images, labels, protocol),
        protocol=protocol,
        epochs=6,
        seed=0,
        runtime=choose_runtime("cpu", "float32", "off", SIDE),
    )
    for epoch in range(3):
        trainer.run_epoch(epoch)
    published.train(plain, images, labels, 2)
    for mine, its in zip(plain.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-3, atol=1e-5)


def test_accuracy_counts_what_is_right(noise):
    network = torch.nn.Flatten()
    images = torch.eye(6).view(6, 1, 1, 6)
    assert published.accuracy(network, images, torch.tensor([0, 1, 2, 3, 4, 4])) == 100 * 5 / 6


def test_from_the_command_line(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for number in range(60):
        part = "train" if number < 40 else "val"
        folder = tmp_path / "data" / part / f"c{number % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    monkeypatch.setattr(published, "_RESULTS", tmp_path / "found.csv")
    command = [str(tmp_path / "data"), "--ipc", "2", "--seeds", "2", "--epochs", "1"]
    for _ in range(2):  # the same again
        done = CliRunner().invoke(published.main, command, catch_exceptions=False)
        assert done.exit_code == 0
    *values, last = done.output.split("\n")[:3]
    assert last.split(" +- ")[0] == f"{np.mean([float(v) for v in values]):.2f}"
    assert (tmp_path / "found.csv").read_text().count("published data") == 1
