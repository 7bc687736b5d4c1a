"""A statistics bank of released tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gencond_fast.condensation.bank import BankEntry, draw_augmentations
from gencond_fast.condensation.networks import FeatureNetworks
from gencond_fast.condensation.private.features import Frame
from gencond_fast.condensation.private.release import release
from gencond_fast.condensation.private.task import PrivateTask


@dataclass(frozen=True, eq=False, kw_only=True)
class PrivateEntry(BankEntry):
    """The released table of one network, which has means alone.

    Attributes:
        frame: in which features are clipped.
        clip: the norm that they are clipped to.
    """

    frame: Frame
    clip: float

    def scaled(self, features: Tensor, augmentation: int) -> Tensor:
        """Features [B, D] as those behind the table were: clipped in the frame."""
        return self.frame.clipped(features, augmentation, self.clip)


def build_private_bank(
    task: PrivateTask, networks: FeatureNetworks, directory: Path
) -> list[BankEntry]:
    """The entries of all networks, from the release of the run.

    Raises:
        InputError, OSError: as `release`.
    """
    released, device = release(task, networks, directory), task.runtime.device
    entries: list[BankEntry] = []
    for place, plan in enumerate(networks.plans):
        mean = released.mean[place].to(device)
        frame = Frame(released.origin[place].to(device), released.unit[place].to(device))
        entry = PrivateEntry(
            augmentations=draw_augmentations(task, plan.index),
            count=released.count.to(device),
            mean=mean,
            m2=torch.zeros_like(mean),
            scale=torch.ones((), device=device),
            centre=mean[:, released.count > 0].mean(1),
            frame=frame,
            clip=task.config.privacy.clip,
        )
        entries.append(entry)
    return entries
