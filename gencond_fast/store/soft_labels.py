"""Class probabilities stored with each sample: the largest few, in a byte each or coded."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencond_fast.store import entropy, label_coder
from gencond_fast.store.label_coder import MOST_CODED
from gencond_fast.store.spec import StoreSpec

VALUES, CLASSES = "soft_values", "soft_classes"
STREAM, CHECK = "soft_stream", "soft_check"
_LEVELS = 255
# of coded labels, each as much coarser that it shows in the bytes
_SCALES = (_LEVELS, 192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)
_CHECKED = 5  # bytes: the scale, and a check of the levels
_HARD = 0  # the scale of labels for which there was no room
_HEADER = 128  # bytes that coded labels may take more there than plain ones


class SoftLabels(nn.Module):
    """The k = `spec.soft_labels` largest probabilities of every sample; with k = 0 none.

    A kept probability p is stored as round(255 p), which is within 1/510 of it; what they leave of
    1 is spread evenly over the other classes, and all are divided by their sum. That sum is 1
    unless roundings add up beyond it, or, where all classes are kept, do not add up to it: then
    every probability changes by at most the share k/510 of itself. The largest is at least 1/255.

    Coded labels (`spec.label_bytes` above 0) add up to 1 or less, which may round a probability to
    the farther of its two neighbours. Steps may be larger than 1/255, and what rounds to zero is
    not kept: it has its part of what is spread.

    Until they are set, labels are hard.

    Args:
        spec: of the stored set; samples are ordered by class.

    Attributes:
        spec: the same, with the bytes of the labels once they are coded.
    """

    values: Tensor
    classes: Tensor

    def __init__(self, spec: StoreSpec) -> None:
        super().__init__()
        self.spec = spec
        self._scale = _LEVELS
        shape = (spec.samples if spec.soft_labels else 0, spec.soft_labels)
        # no part of a checkpoint, which holds what is optimised
        self.register_buffer("values", torch.empty(shape, dtype=torch.uint8), persistent=False)
        self.register_buffer("classes", torch.empty(shape, dtype=torch.int32), persistent=False)
        if not self.values.is_meta:  # where arithmetic takes seconds to be imported
            self._harden()

    def _harden(self) -> None:
        """Sets every label to the sample's own class."""
        spec, kept = self.spec, self.spec.soft_labels
        own = torch.arange(len(self.values))[:, None] // spec.per_class
        # the sample's own class and those that follow it; all of them stand in order
        first = torch.zeros_like(own) if kept == spec.num_classes else own
        classes = (first + torch.arange(kept)) % spec.num_classes
        self.values.copy_(_LEVELS * (classes == own).to(torch.uint8))
        self.classes.copy_(classes)

    def forward(self, index: Tensor) -> Tensor:
        """Probabilities float32 [B, C] of the samples `index` [B] int64; rows add up to 1."""
        count = self.spec.num_classes
        if not self.spec.soft_labels:
            return F.one_hot(index // self.spec.per_class, count).float()
        kept = self.values[index].float()
        total = kept.sum(1, keepdim=True)
        stated = kept > 0 if self.spec.label_bytes else torch.ones_like(kept, dtype=torch.bool)
        others = count - stated.sum(1, keepdim=True)
        rest = (self._scale - total).clamp_min(0.0) * (others > 0)
        spread = rest / others.clamp_min(1)
        values = torch.where(stated, kept, spread)
        labels = spread.expand(-1, count).scatter(1, self.classes[index].long(), values)
        return labels / (total + rest)

    @torch.no_grad()
    def keep(self, index: Tensor, probabilities: Tensor) -> None:
        """Keeps the largest probabilities of samples, in steps of 1/255.

        Args:
            index: int64 [B], which samples.
            probabilities: float [B, C], rows that add up to 1.
        """
        largest, classes = probabilities.topk(self.spec.soft_labels, dim=1)
        values = (largest * _LEVELS).round()
        values[:, 0].clamp_min_(1)  # of a thousand equal classes none would be left
        if self.spec.soft_labels == self.spec.num_classes:  # their order says which they are
            classes, order = classes.sort(dim=1)
            values = values.gather(1, order)
        self.values[index] = values.to(torch.uint8)
        self.classes[index] = classes.int()

    def compress(self) -> None:
        """Codes the labels that were kept.

        Where the description has no bytes for coded labels, they are coded if that makes the file
        smaller. Else they are rounded to the smallest steps with which they fit into these bytes,
        in the worst case to hard labels. The description then has the bytes that they take.

        Raises:
            InputError: the package that codes is not installed.
        """
        spec = self.spec
        room = spec.label_bytes or self.plain_bytes - _CHECKED - _HEADER
        if spec.samples * spec.num_classes > MOST_CODED or room < spec.least_label_bytes:
            return
        levels = self._table()
        scales = _SCALES if spec.label_bytes else _SCALES[:1]
        found = bisect_left(
            scales, True, key=lambda scale: len(_encode(_coarser(levels, scale), scale)) <= room
        )
        if found == len(scales) and not spec.label_bytes:
            return
        scale = (*scales, _HARD)[found]
        levels = _coarser(levels, scale) if scale else _hard(spec)
        taken = max(len(_encode(levels, scale)), spec.least_label_bytes)
        self.spec = replace(spec, label_bytes=taken)
        self._put(levels, scale)

    @property
    def plain_bytes(self) -> int:
        """Of the labels if they are not coded."""
        return sum(each.numel() * each.element_size() for each in self._plain().values())

    def describe(self) -> str:
        """A line about their bytes and their steps."""
        coded, plain = self.spec.label_bytes, self.plain_bytes
        if not coded:
            return f"soft labels: {plain:,} bytes, not coded"
        steps = f"in steps of 1/{self._scale}" if self._scale else "hard for want of room"
        return f"soft labels: {coded:,} bytes, {plain:,} before they were coded; {steps}"

    def to_storage(self) -> dict[str, Tensor]:
        """The tensors of the file.

        Plain labels are values uint8 [n, k] and, where k < C, classes [n, k] of uint8, uint16 or
        int32, whichever holds C. Coded ones are a stream uint8 [`label_bytes`] and a check of it
        uint8 [5].
        """
        if not self.spec.soft_labels:
            return {}
        if not self.spec.label_bytes:
            return self._plain()
        if self.values.is_meta:
            shapes = {STREAM: self.spec.label_bytes, CHECK: _CHECKED}
            return {name: torch.empty(n, dtype=torch.uint8) for name, n in shapes.items()}
        levels = self._table()
        stream = _encode(levels, self._scale).ljust(self.spec.label_bytes, b"\0")
        check = bytes([self._scale]) + entropy.check_of(levels)
        return {
            name: torch.frombuffer(bytearray(content), dtype=torch.uint8)
            for name, content in ((STREAM, stream), (CHECK, check))
        }

    def _plain(self) -> dict[str, Tensor]:
        if self.spec.soft_labels == self.spec.num_classes:
            return {VALUES: self.values}
        return {VALUES: self.values, CLASSES: self.classes.to(_class_type(self.spec))}

    def load_storage(self, tensors: dict[str, Tensor]) -> None:
        """Takes over the tensors of a file, which `check_soft_labels` has seen.

        Raises:
            ValueError: coded labels are damaged.
        """
        if not self.spec.soft_labels:
            return
        if self.spec.label_bytes:
            self._decode(tensors[STREAM].numpy().tobytes(), tensors[CHECK].numpy().tobytes())
            return
        self.values.copy_(tensors[VALUES])
        if CLASSES in tensors:
            self.classes.copy_(tensors[CLASSES].int())
        else:
            self.classes.copy_(torch.arange(self.spec.num_classes))

    def _decode(self, stream: bytes, check: bytes) -> None:
        spec, scale = self.spec, check[0]
        if scale:
            levels = label_coder.decode(stream, spec.num_classes, spec.per_class, scale)
        else:
            levels = _hard(spec)
        if entropy.check_of(levels) != check[1:]:
            raise ValueError("its soft labels do not come out as they were put in")
        kept = np.count_nonzero(levels, axis=2)
        if kept.min() == 0:
            raise ValueError("a soft label of it has no probability above 0")
        if kept.max() > spec.soft_labels:
            raise ValueError("a soft label of it has more probabilities than it states")
        self._put(levels, scale)

    def _table(self) -> np.ndarray:
        """Levels uint8 [C, per_class, C] of all classes, 0 of those that are not kept."""
        spec = self.spec
        table = torch.zeros(spec.samples, spec.num_classes, dtype=torch.uint8)
        table.scatter_(1, self.classes.long().cpu(), self.values.cpu())
        return table.view(spec.num_classes, spec.per_class, spec.num_classes).numpy()

    def _put(self, levels: np.ndarray, scale: int) -> None:
        """The opposite, of levels of which no more than k of a sample are above 0."""
        table = torch.from_numpy(levels).view(self.spec.samples, -1)
        values, classes = table.topk(self.spec.soft_labels, dim=1)
        self.values.copy_(values)
        self.classes.copy_(classes)
        self._scale = scale


def check_soft_labels(spec: StoreSpec, tensors: dict[str, Tensor]) -> None:
    """Raises ValueError unless tensors of the right shapes and types are soft labels.

    Coded ones are looked at when they are decoded, if they are not too many for it.
    """
    if spec.label_bytes and spec.samples * spec.num_classes > MOST_CODED:
        raise ValueError("it has more soft labels than are ever coded")
    if not spec.soft_labels or spec.label_bytes:
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


def _encode(levels: np.ndarray, scale: int) -> bytes:
    return label_coder.encode(levels, scale) if scale else b""


def _coarser(levels: np.ndarray, scale: int) -> np.ndarray:
    """Levels of another scale, which add up to it at most, from levels in steps of 1/255.

    Probabilities go to the nearest level. Where these add up to more than the scale, those that
    were rounded up by most are rounded down.
    """
    whole = np.maximum(levels.sum(2, dtype=np.int64, keepdims=True), _LEVELS)
    exact = scale * levels.astype(np.int64)  # in parts of a level
    coarse, part = exact // whole, exact % whole
    up = 2 * part >= whole
    excess = (coarse + up).sum(2, keepdims=True) - scale
    order = np.where(up, part, whole).argsort(2, kind="stable").argsort(2)
    coarse += up & (order >= excess)
    none = ~coarse.any(2)
    coarse[none, levels[none].argmax(1)] = 1
    return coarse.astype(np.uint8)


def _hard(spec: StoreSpec) -> np.ndarray:
    own = np.eye(spec.num_classes, dtype=np.uint8)[:, None]
    return np.repeat(own, spec.per_class, axis=1)
