"""Where the classes of a batch lie: made once from the labels, used by every loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gencond_fast.functional import ops
from gencond_fast.functional.checks import check_labels


@dataclass(frozen=True, eq=False)
class ClassLayout:
    """Rows sorted by class, which the losses take in place of labels.

    Make it once for many batches whose labels are the same. That reads the class sizes on the host,
    so that the losses need not: they trace without graph breaks, and on a GPU they do not wait for
    the device and can be captured in a CUDA graph.

    Attributes:
        order: [N] int64, the row numbers class after class.
        offsets: [C' + 1] int64, where each of the C' classes starts in order.
        tables: tile tables of the GPU kernels; empty on a CPU.
        centres: the layout of the C' class centres as one class, for the inter-class loss.
    """

    order: Tensor
    offsets: Tensor
    tables: tuple[Tensor, ...] = ()
    centres: ClassLayout | None = None

    @classmethod
    def from_labels(
        cls, labels: Tensor, *, device: torch.device | str | None = None
    ) -> ClassLayout:
        """The layout of samples in any order.

        Args:
            labels: [N] integers, any values in any order. On a GPU this waits for the device once;
                labels still on the CPU cost no wait.
            device: where the features will be; default: where the labels are.

        Raises:
            TypeError: labels are no tensor of integers.
            ValueError: labels have another number of dimensions than one.
        """
        labels = check_labels("ClassLayout.from_labels", labels)
        order, padded = ops.class_order(labels)
        starts = padded.cpu()
        present = int(torch.searchsorted(starts, labels.shape[0]))
        return _build(order, starts[: present + 1], torch.device(device or labels.device))

    @classmethod
    def from_counts(
        cls, counts: Sequence[int], *, device: torch.device | str = "cpu"
    ) -> ClassLayout:
        """The layout of samples that are stored class after class.

        Args:
            counts: samples of each class, 0 or more.
            device: where the features will be.

        Raises:
            ValueError: a count is negative.
        """
        if any(count < 0 for count in counts):
            raise ValueError(f"ClassLayout: counts must not be negative, got {min(counts)}.")
        sizes = torch.tensor([0, *(count for count in counts if count)], dtype=torch.int64)
        starts = sizes.cumsum(0)
        return _build(torch.arange(int(starts[-1])), starts, torch.device(device))

    @property
    def num_samples(self) -> int:
        """N."""
        return self.order.shape[0]

    @property
    def num_classes(self) -> int:
        """C', the number of classes that have a sample."""
        return self.offsets.shape[0] - 1

    def labels(self) -> Tensor:
        """[N] int64, for each row the number of its class, 0 ... C' - 1."""
        position = torch.arange(self.num_samples, device=self.order.device)
        classes = torch.searchsorted(self.offsets[1:], position, right=True)
        return torch.empty_like(self.order).scatter(0, self.order, classes)


def _build(order: Tensor, starts: Tensor, device: torch.device) -> ClassLayout:
    classes = starts.shape[0] - 1
    whole = torch.tensor([0, classes])
    centres = ClassLayout(
        torch.arange(classes, device=device),
        whole.to(device, non_blocking=True),
        _tables(whole, classes, device),
    )
    return ClassLayout(
        order.to(device, non_blocking=True),
        starts.to(device, non_blocking=True),
        _tables(starts, order.shape[0], device),
        centres,
    )


def _tables(starts: Tensor, rows: int, device: torch.device) -> tuple[Tensor, ...]:
    from gencond_fast.kernels import triton_status

    if device.type != "cuda" or not triton_status().available:
        return ()
    from gencond_fast.kernels.tiles import tile_tables

    return tuple(tile_tables(starts, rows, device))
