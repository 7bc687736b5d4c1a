"""A network that learns alongside to tell real images of a class from generated ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gencond_fast.condensation.task import Task
from gencond_fast.discrepancy import RealImages
from gencond_fast.discrepancy.stack import labels_of
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.functional.moments import class_moments

_BETAS = (0.5, 0.999)
_EPS = 1e-6  # below it a gradient is rounding, which must not become a step: ranks round otherwise


class Discriminator:
    """The adversary of `losses.adversarial`, of the architecture of the feature networks.

    D(x, c) is the logit of class c: a projection discriminator (1802.05637, eq. 3) whose part
    without a class lies in the class vectors. It learns by the hinge loss (1705.02894)

        mean over classes of E[max(0, 1 - D(real, c))] + E[max(0, 1 + D(generated, c))]

    and the stored set by -E[D(generated, c)]. Both sides have the same augmentation, so that it
    cannot learn the few stored images by heart (2006.10738).

    Every rank has a copy, which stays the same: gradients are summed over what ranks own.

    Args:
        task: data, options, machine.
        ranks: those that share the work.
    """

    def __init__(self, task: Task, ranks: Ranks) -> None:
        network = task.classifier(task.config.networks.model, "discriminator")
        # batch norms stay the identity that they begin as: a rank alone would have other statistics
        self._network = task.runtime.place(network).eval()
        self._forward = task.runtime.compile(self._network)
        self._runtime = task.runtime
        self._ranks = ranks
        self._optimizer = torch.optim.Adam(
            self._network.parameters(),
            lr=task.config.losses.adversarial_lr,
            betas=_BETAS,
            eps=_EPS,
            fused=True,
        )

    def learn(self, real: RealImages, generated: Tensor, classes: Tensor, share: float) -> None:
        """One step on both sides.

        Args:
            real: images of the classes that this rank has, of each at least one.
            generated: [n C', channels, S, S], normalised and augmented alike, class after class, n
                of each; no gradient flows back to them.
            classes: [C'] int64, which these are.
            share: of this rank in the loss of all.
        """
        self._network.requires_grad_(True)
        labels = labels_of(real.counts, classes.device)
        known = F.relu(1.0 - self._scores(real.images, classes[labels]))
        made = F.relu(1.0 + self._scores_of_generated(generated.detach(), classes))
        means = class_moments(known[:, None], labels, len(classes)).mean
        loss = share * (means.mean() + made.mean())
        self._optimizer.zero_grad()
        loss.backward()
        self._ranks.all_reduce(
            [each.grad for each in self._network.parameters() if each.grad is not None]
        )
        self._optimizer.step()
        self._network.requires_grad_(False)

    def loss(self, generated: Tensor, classes: Tensor) -> Tensor:
        """-E[D]: a scalar, lower the more real the images seem.

        Args:
            generated: as in `learn`; gradients flow back to them.
            classes: likewise.
        """
        return -self._scores_of_generated(generated, classes).mean()

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from."""
        return {
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a saved state."""
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])

    def _scores_of_generated(self, images: Tensor, classes: Tensor) -> Tensor:
        return self._scores(images, classes.repeat_interleave(len(images) // len(classes)))

    def _scores(self, images: Tensor, classes: Tensor) -> Tensor:
        with self._runtime.autocast():
            logits = self._forward(self._runtime.arrange(images))
        return logits.float().gather(1, classes[:, None]).squeeze(1)
