"""A step of DM (2110.04181) as scripts of the field take it: class by class, eager, float32."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from gencond_fast.config import OPERATIONS
from gencond_fast.data.augment import augment, draw_from_policy
from gencond_fast.models.classifier import Classifier
from gencond_fast.system.rng import named_rng

_RATE, _MOMENTUM = 1.0, 0.5  # of SGD on pixels


def mean_distance(
    features: Callable[[Tensor], Tensor], pairs: Iterable[tuple[Tensor, Tensor]]
) -> Tensor:
    """sum_c |mean f(real_c) - mean f(generated_c)|^2 (eq. 4), with gradient to the generated.

    Args:
        features: embeds images as [n, D].
        pairs: real and generated images of each class.
    """
    loss = torch.zeros(())
    for real, generated in pairs:
        with torch.no_grad():
            target = features(real).mean(0)
        loss = loss + (target - features(generated).mean(0)).square().sum()
    return loss


class DmLoop:
    """Steps of SGD on pixels, each under a new random network.

    Every class has an augmentation of its own in every step, which its real and generated images
    share (DSA 2102.08259).

    Args:
        images: normalised real images [M, channels, S, S] float32, class after class, on the
            device that all of the step runs on.
        counts: real images of each class.
        generated: images of a class that are learned; they start as real ones.
        real_batch: real images of a class in a step, or all there are.
        build: makes a random network of a seed.
    """

    def __init__(
        self,
        images: Tensor,
        counts: list[int],
        generated: int,
        real_batch: int,
        build: Callable[[int], Classifier],
    ) -> None:
        self._real = images.split(counts)
        self._generated = generated
        self._real_batch = real_batch
        self._build = build
        start = [each[torch.arange(generated) % len(each)] for each in self._real]
        self.pixels = torch.cat(start).requires_grad_()
        self._optimizer = torch.optim.SGD([self.pixels], lr=_RATE, momentum=_MOMENTUM)
        self._steps = 0

    def __call__(self) -> None:
        """One step."""
        rng = named_rng(0, "DM", self._steps)
        network = self._build(self._steps).to(self.pixels.device).requires_grad_(False).eval()
        loss = mean_distance(network.features, self._pairs(rng))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._steps += 1

    def _pairs(self, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        for label, images in enumerate(self._real):
            chosen = torch.randperm(len(images), generator=rng)[: self._real_batch]
            transform = draw_from_policy(OPERATIONS, rng, device=images.device)
            first = label * self._generated
            learned = self.pixels[first : first + self._generated]
            real = images[chosen.to(images.device)]
            yield augment(real, transform), augment(learned, transform)
