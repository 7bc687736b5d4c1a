"""The frequencies at which characteristic functions are measured."""

from __future__ import annotations

import torch
from torch import Tensor

from gencond_fast.condensation.networks import FeatureNetworks
from gencond_fast.condensation.task import Task
from gencond_fast.functional.moments import ClassMoments
from gencond_fast.system.rng import named_rng

_IMAGES = 2048  # enough that the spread of a network's features is known to a few percent
_BATCH = 256


def draw_frequencies(task: Task, networks: FeatureNetworks, network: int, spread: float) -> Tensor:
    """Frequencies for one network, isotropic Gaussian, [K, D] float32 on the device of the task.

    Their standard deviation is `networks.frequency_scale` over the spread of the features. So the
    angle t.f has this deviation within a class, about, whatever the network and its width, and
    at 1 the characteristic function of a Gaussian class is 0.6 in absolute value: far from 1,
    where all distributions are alike, and from 0, where none can be told from noise.

    Args:
        task: options and seed.
        networks: the feature networks.
        network: the index of one.
        spread: of its features, see `estimate_spread`.
    """
    options = task.config.networks
    index = networks.plans[network].index
    rng = named_rng(task.config.seed, "frequencies", index)
    drawn = torch.randn(options.frequencies, networks.feature_dim(network), generator=rng)
    return (drawn * (options.frequency_scale / spread)).to(task.runtime.device)


def estimate_spread(task: Task, networks: FeatureNetworks, network: int) -> float:
    """Root of the within-class variance of a network's features, summed over features.

    Estimated from images in memory: the frequencies must be known before the pass over all
    images, which alone could give the value itself. 1 where no class has two images.
    """
    labels = task.sample.labels
    per_class = max(2, _IMAGES // task.num_classes)
    first = torch.searchsorted(labels, torch.arange(task.num_classes))
    chosen = torch.nonzero(torch.arange(len(labels)) - first[labels] < per_class).flatten()
    device = task.runtime.device
    table = ClassMoments.zeros(task.num_classes, networks.feature_dim(network), device=device)
    networks.select(network)
    with torch.no_grad():
        for part in chosen.split(_BATCH):
            images = task.normalisation(task.sample.images[part].to(device))
            table.update_(networks.features(images), labels[part].to(device))
    freedom = int((table.count - 1).clamp(min=0).sum())
    spread = float(table.m2.double().sum() / max(freedom, 1)) ** 0.5
    return spread if spread > 0 else 1.0
