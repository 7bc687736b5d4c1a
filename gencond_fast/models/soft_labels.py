"""Class probabilities stored with each sample: the largest few, in a byte each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencond_fast.models.spec import StoreSpec

VALUES, CLASSES = "soft_values", "soft_classes"
_LEVELS = 255


class SoftLabels(nn.Module):
    """The k = `spec.soft_labels` largest probabilities of every sample; with k = 0 none.

    A kept probability p is stored as round(255 p), which is within 1/510 of it; what they leave of
    1 is spread evenly over the other classes, and all are divided by their sum. That sum is 1
    unless roundings add up beyond it, or, where all classes are kept, do not add up to it: then
    every probability changes by at most the share k/510 of itself. The largest is at least 1/255.

    Until they are set, labels are hard.

    Args:
        spec: of the stored set; samples are ordered by class.
    """

    values: Tensor
    classes: Tensor

    def __init__(self, spec: StoreSpec) -> None:
        super().__init__()
        self._spec = spec
        shape = (spec.samples if spec.soft_labels else 0, spec.soft_labels)
        # no part of a checkpoint, which holds what is optimised
        self.register_buffer("values", torch.empty(shape, dtype=torch.uint8), persistent=False)
        self.register_buffer("classes", torch.empty(shape, dtype=torch.int32), persistent=False)
        if not self.values.is_meta:  # where arithmetic takes seconds to be imported
            self._harden()

    def _harden(self) -> None:
        """Sets every label to the sample's own class."""
        spec, kept = self._spec, self._spec.soft_labels
        own = torch.arange(len(self.values))[:, None] // spec.per_class
        # the sample's own class and those that follow it; all of them stand in order
        first = torch.zeros_like(own) if kept == spec.num_classes else own
        classes = (first + torch.arange(kept)) % spec.num_classes
        self.values.copy_(_LEVELS * (classes == own).to(torch.uint8))
        self.classes.copy_(classes)

    def forward(self, index: Tensor) -> Tensor:
        """Probabilities float32 [B, C] of the samples `index` [B] int64; rows add up to 1."""
        count = self._spec.num_classes
        if not self._spec.soft_labels:
            return F.one_hot(index // self._spec.per_class, count).float()
        kept = self.values[index].float()
        total = kept.sum(1, keepdim=True)
        others = count - self._spec.soft_labels
        rest = (_LEVELS - total).clamp_min(0.0) if others else torch.zeros_like(total)
        spread = (rest / max(others, 1)).expand(-1, count)
        return spread.scatter(1, self.classes[index].long(), kept) / (total + rest)

    @torch.no_grad()
    def keep(self, index: Tensor, probabilities: Tensor) -> None:
        """Keeps the largest probabilities of samples.

        Args:
            index: int64 [B], which samples.
            probabilities: float [B, C], rows that add up to 1.
        """
        largest, classes = probabilities.topk(self._spec.soft_labels, dim=1)
        values = (largest * _LEVELS).round()
        values[:, 0].clamp_min_(1)  # of a thousand equal classes none would be left
        if self._spec.soft_labels == self._spec.num_classes:  # their order says which they are
            classes, order = classes.sort(dim=1)
            values = values.gather(1, order)
        self.values[index] = values.to(torch.uint8)
        self.classes[index] = classes.int()

    def to_storage(self) -> dict[str, Tensor]:
        """The tensors of the file: values uint8 [n, k] and, where k < C, classes [n, k].

        Classes are uint8, uint16 or int32, whichever holds C.
        """
        if not self._spec.soft_labels:
            return {}
        if self._spec.soft_labels == self._spec.num_classes:
            return {VALUES: self.values}
        return {VALUES: self.values, CLASSES: self.classes.to(_class_type(self._spec))}

    def load_storage(self, tensors: dict[str, Tensor]) -> None:
        """Takes over the tensors of a file, which are already checked."""
        if not self._spec.soft_labels:
            return
        self.values.copy_(tensors[VALUES])
        if CLASSES in tensors:
            self.classes.copy_(tensors[CLASSES].int())
        else:
            self.classes.copy_(torch.arange(self._spec.num_classes))


def check_soft_labels(spec: StoreSpec, tensors: dict[str, Tensor]) -> None:
    """Raises ValueError unless tensors of the right shapes and types are soft labels."""
    if not spec.soft_labels:
        return
    if not tensors[VALUES].any(1).all():
        raise ValueError("a soft label of it has no probability above 0")
    if CLASSES not in tensors:
        return
    ordered = tensors[CLASSES].int().sort(dim=1).values
    if ordered.min() < 0 or ordered.max() >= spec.num_classes:
        raise ValueError("a soft label of it names a class that is not there")
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        raise ValueError("a soft label of it names a class twice")


def _class_type(spec: StoreSpec) -> torch.dtype:
    if spec.num_classes <= 2**8:
        return torch.uint8
    return torch.uint16 if spec.num_classes <= 2**16 else torch.int32
