"""Stored samples against training images: copies are found, strangers are not taken for them."""

from __future__ import annotations

import numpy as np
import torch

from gencond_fast.data import open_source, stream
from gencond_fast.evaluation.nearest import nearest_images


def made(tmp_path, count=300, side=8):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, side, side, 3)).astype(np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(count) % 3)
    return open_source(str(tmp_path / "set.npz")), images


def test_against_brute_force(tmp_path):
    source, _ = made(tmp_path)
    (batch,) = stream(source.train, channels=3, image_size=8, batch_size=300)
    real = batch.images.flatten(1).double() / 255
    samples = torch.rand(20, 3, 8, 8)
    found = nearest_images(samples, torch.arange(100, 120), source)
    distances = torch.cdist(samples.flatten(1).double(), real) / 192**0.5
    for each in found.neighbours:
        row = int(distances[each.sample - 100].argmin())
        assert each.image == source.train.split.where(row)
        assert abs(each.distance - float(distances[each.sample - 100, row])) < 1e-4
    assert [n.distance for n in found.neighbours] == sorted(n.distance for n in found.neighbours)
    between = torch.cdist(real, real) / 192**0.5
    between.fill_diagonal_(9.0)
    assert abs(found.training - float(between.min(1).values.median())) < 0.01


def test_copies_show(tmp_path):
    source, _ = made(tmp_path)
    (batch,) = stream(source.train, channels=3, image_size=8, batch_size=300)
    copies = batch.images[:30].float() / 255 + 0.01 * torch.randn(30, 3, 8, 8)
    found = nearest_images(copies, torch.arange(30), source)
    assert found.closer == 1.0
    assert found.stored < 0.1 * found.training
    want = {source.train.split.where(int(row)) for row in batch.indices[:30]}
    assert {each.image for each in found.neighbours} == want
    strangers = nearest_images(torch.zeros(30, 3, 8, 8), torch.arange(30), source)
    assert strangers.closer == 0.0
