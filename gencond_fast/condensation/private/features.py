"""Features that no image can move far: less a public origin, in a public unit, clipped."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gencond_fast.condensation.networks import FeatureNetworks
from gencond_fast.condensation.task import Task
from gencond_fast.data.augment import Augmentation, augment

_IMAGES = 2048  # of noise, behind origin and unit
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Frame:
    """Where the features of one network lie for images of noise, under each of A augmentations.

    Attributes:
        origin: float32 [A, D], their mean.
        unit: float32 [A], the root mean square of their distance from it.
    """

    origin: Tensor
    unit: Tensor

    def clipped(self, features: Tensor, augmentation: int, clip: float) -> Tensor:
        """Features [B, D] in this frame, shortened to the norm `clip`; differentiable."""
        vectors = (features - self.origin[augmentation]) / self.unit[augmentation]
        norms = vectors.norm(dim=1, keepdim=True)
        return vectors * (clip / norms.clamp(min=clip))


@torch.no_grad()
def measure_frame(task: Task, networks: FeatureNetworks, transforms: list[Augmentation]) -> Frame:
    """The frame of the network in place, from the sample of the task, which is noise."""
    images = task.sample.images
    places = torch.linspace(0, len(images) - 1, min(_IMAGES, len(images))).long()
    origins, units = [], []
    for transform in transforms:
        parts = [
            networks.features(
                augment(task.normalisation(images[part].to(task.runtime.device)), transform)
            )
            for part in places.split(_BATCH)
        ]
        features = torch.cat(parts).double()
        origin = features.mean(0)
        unit = (features - origin).square().sum(1).mean().sqrt()
        origins.append(origin.float())
        units.append(torch.where(unit > 0, unit, 1.0).float())
    return Frame(torch.stack(origins), torch.stack(units))
