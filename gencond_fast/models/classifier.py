"""What every classifier shares: an embedding and one linear layer on top of it."""

from __future__ import annotations

from torch import Tensor, nn


class Classifier(nn.Module):
    """A `body` that embeds images and a linear `classifier` on the embedding.

    Args:
        body: maps normalised images [B, channels, H, W] to maps [B, width, h, w].
        feature_dim: numbers in one flattened map.
        num_classes: outputs of the linear layer.

    Attributes:
        classifier: that layer; the identity where the embedding is the logits.
    """

    def __init__(self, body: nn.Module, feature_dim: int, num_classes: int) -> None:
        super().__init__()
        self.body = body
        self.feature_dim = feature_dim
        self.classifier: nn.Module = nn.Linear(feature_dim, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Embeds normalised images [B, channels, H, W] as [B, feature_dim]."""
        return self.body(images).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, num_classes] of normalised images [B, channels, H, W]."""
        return self.classifier(self.features(images))


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms of a network, in the order in which they were built."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
