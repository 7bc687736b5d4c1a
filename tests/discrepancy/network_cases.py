"""Small networks in float64, and batches of images for them."""

from __future__ import annotations

import torch
from torch import Tensor

import gencond_fast as gf
from gencond_fast.discrepancy import Generated, Network, Real, RealImages, RealSamples
from gencond_fast.models.registry import build_classifier

CLASSES, OUTPUTS, SIDE = 3, 5, 6
CHOSEN = torch.tensor([4, 0, 2])  # the outputs of the network for the classes of a batch


def network(name: str = "convnet3", seed: int = 0) -> Network:
    """Of five outputs, three of which stand for the classes; its batch norms remember something."""
    classifier = build_classifier(name, 1, OUTPUTS, SIDE, seed=seed, width=4).double()
    rng = torch.Generator().manual_seed(seed)
    for module in classifier.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(4, generator=rng))
            module.running_var.copy_(torch.rand(4, generator=rng) + 0.5)
    scale = torch.tensor(2.5, dtype=torch.float64)
    return Network(classifier.requires_grad_(False).eval(), CHOSEN, scale)


def draw(counts: list[int], seed: int) -> tuple[Tensor, Tensor]:
    """Images class after class, and their labels."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.int64))
    images = torch.randn(len(labels), 1, SIDE, SIDE, generator=rng, dtype=torch.float64)
    return images + 0.3 * labels[:, None, None, None], labels


def shuffled(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return images[order], labels[order]


def real_side(net: Network, images: Tensor, labels: Tensor) -> Real:
    """Everything that a discrepancy may need, of images that lie class after class."""
    counts = tuple(torch.bincount(labels, minlength=CLASSES).tolist())
    with torch.no_grad():
        features = net.classifier.features(images) / net.scale
    return Real(
        gf.class_moments(features, labels, CLASSES),
        samples=RealSamples(features, counts, torch.Generator()),
        images=RealImages(images, counts),
        network=net,
    )


def generated_side(
    net: Network, images: Tensor, labels: Tensor, most: int | None = None
) -> Generated:
    """A batch, with what went into the batch norms."""
    normed: list[Tensor] = []
    norms = [m for m in net.classifier.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    hooks = [m.register_forward_pre_hook(lambda _, x: normed.append(x[0])) for m in norms]
    features = net.classifier.features(images) / net.scale
    for hook in hooks:
        hook.remove()
    moments = gf.class_moments(features, labels, CLASSES)
    return Generated(features, labels, moments, 9, most, images, normed)
