"""A small network in the file that labels augmented views of the stored samples.

A stored label speaks of a sample as it is stored, but a student sees it cropped, turned and mixed
with others. A network of some tens of kilobytes labels each view anew (FKD, 2112.01528). Its
weights are whole steps behind the entropy coder, as fine as its share of the bytes allows.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from gencond_fast.errors import InputError
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import ConvNetName, build_classifier, usual_convnet
from gencond_fast.store import entropy, weights
from gencond_fast.store.spec import MOST_WEIGHTS, StoreSpec

_STREAM, _LAWS, _STEPS, _CHECK = "stream", "laws", "steps", "check"
_PREFIX = "labeller_"
_WEIGHT_BITS, _MOST_BITS = 2.8, 3.5  # of a weight
_WIDEST = 256
LEAST_WIDTH, USEFUL_WIDTH = 8, 24  # a narrower one knows less than the hard labels do
# steps in the deviation of a tensor of weights, from the finest that is tried to the coarsest
_COARSENESS = [2.0 ** (power / 16) for power in range(-64, 17)]
# Tensors of a small share of the weights cost little, and the first layer is one that accuracy
# hangs on: it sees neighbours that are nearly alike, and weighs their differences.
_FEW, _FINER = 0.02, 8.0


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LabellerSpec:
    """What fixes the shapes of a labeller.

    Attributes:
        model: a ConvNet.
        width: its channels.
        bytes: of its coded weights, in words of four.
    """

    model: ConvNetName
    width: Annotated[int, Field(ge=1, le=1024)]
    bytes: Annotated[int, Field(ge=4, le=2**31, multiple_of=4)]


class Labeller:
    """The network, as it is once it has been stored.

    Args:
        spec: of itself.
        store: of the samples: classes, channels, image side.

    Attributes:
        spec: likewise.
        network: in evaluation mode; its logits are of normalised images.

    Raises:
        ValueError: it has more than MOST_WEIGHTS weights in a byte.
    """

    def __init__(self, spec: LabellerSpec, store: StoreSpec) -> None:
        if _count_weights(spec, _shape(store)) > MOST_WEIGHTS * spec.bytes:
            raise ValueError(f"its labeller has more than {MOST_WEIGHTS} weights in a byte")
        self.spec = spec
        self.network = _build(spec, _shape(store)).eval().requires_grad_(False)
        self._stored: dict[str, Tensor] = {}

    def take(self, trained: Classifier) -> None:
        """Takes over a trained network of the same shapes, as finely as its bytes allow.

        Raises:
            InputError: its bytes are too few even for the coarsest steps, or the package that codes
                is not installed.
        """
        tensors = [each.detach().float().cpu().numpy() for each in trained.parameters()]
        few = _FEW * sum(each.size for each in tensors)
        deviations = [_deviation(each, _FINER if each.size < few else 1.0) for each in tensors]
        for coarseness in _COARSENESS:
            steps = np.float32(coarseness) * np.asarray(deviations, np.float32)
            whole = [_whole(*pair) for pair in zip(tensors, steps, strict=True)]
            stream, laws = weights.encode(whole)
            if len(stream) <= self.spec.bytes:
                break
        else:
            raise InputError(
                f"{self.spec.bytes:,} bytes are too few for the weights of a labeller "
                f"{self.spec.model}@{self.spec.width}: raise labels.labeller"
            )
        flat = np.concatenate([each.ravel() for each in whole])
        self._stored = {
            _STREAM: _bytes(stream.ljust(self.spec.bytes, b"\0")),
            _LAWS: torch.from_numpy(laws),
            _STEPS: torch.from_numpy(steps),
            _CHECK: _bytes(entropy.check_of(flat)),
        }
        self._put(whole, steps)

    def to_storage(self) -> dict[str, Tensor]:
        """The tensors of the file: stream uint8 [bytes], laws uint8 [2, T], steps float32 [T]."""
        return {_PREFIX + name: tensor for name, tensor in self._stored.items()}

    def load_storage(self, tensors: dict[str, Tensor]) -> None:
        """Takes over the tensors of a file, whose shapes and types are already checked.

        Raises:
            ValueError: they are damaged.
            InputError: the package that decodes is not installed.
        """
        stored = {name: tensors[_PREFIX + name] for name in (_STREAM, _LAWS, _STEPS, _CHECK)}
        lengths = [each.numel() for each in self.network.parameters()]
        stream = stored[_STREAM].numpy().tobytes()
        whole = weights.decode(stream, stored[_LAWS].numpy(), lengths)
        if entropy.check_of(np.concatenate(whole)) != stored[_CHECK].numpy().tobytes():
            raise ValueError("its labeller does not come out as it was put in")
        self._stored = stored
        self._put(whole, stored[_STEPS].numpy())

    @torch.no_grad()
    def _put(self, whole: list[np.ndarray], steps: np.ndarray) -> None:
        for parameter, each, step in zip(self.network.parameters(), whole, steps, strict=True):
            values = torch.from_numpy(each.astype(np.float32) * step)
            parameter.copy_(values.view(parameter.shape))


def labeller_layout(spec: LabellerSpec | None, store: StoreSpec) -> dict[str, Tensor]:
    """The tensors of a labeller as shapes and types alone, on the meta device."""
    if spec is None:
        return {}
    with torch.device("meta"):
        count = len(list(_build(spec, _shape(store)).parameters()))
        return {
            _PREFIX + _STREAM: torch.empty(spec.bytes, dtype=torch.uint8),
            _PREFIX + _LAWS: torch.empty(2, count, dtype=torch.uint8),
            _PREFIX + _STEPS: torch.empty(count, dtype=torch.float32),
            _PREFIX + _CHECK: torch.empty(4, dtype=torch.uint8),
        }


def choose_labeller(
    share: float, budget: int, num_classes: int, channels: int, image_size: int, *, least: int
) -> LabellerSpec | None:
    """The widest labeller that a share of the bytes holds; None where that is none.

    Args:
        share: of the budget.
        budget: bytes of the whole file.
        num_classes: C.
        channels: 1 or 3.
        image_size: side in pixels.
        least: its fewest channels.
    """
    room = int(share * budget) // 4 * 4
    name, found = usual_convnet(image_size), None
    for width in range(least, _WIDEST + 1, 4) if room else ():
        spec = LabellerSpec(name, width, room)
        count = _count_weights(spec, (channels, num_classes, image_size))
        if _WEIGHT_BITS * count > 8 * room:
            break
        found = replace(spec, bytes=min(room, 4 * math.ceil(_MOST_BITS * count / 32)))
    return found


def _count_weights(spec: LabellerSpec, shape: tuple[int, int, int]) -> int:
    """How many weights a labeller has, without building it."""
    with torch.device("meta"):
        return sum(each.numel() for each in _build(spec, shape).parameters())


def _shape(store: StoreSpec) -> tuple[int, int, int]:
    return store.channels, store.num_classes, store.image_size


def _build(spec: LabellerSpec, shape: tuple[int, int, int]) -> Classifier:
    return build_classifier(spec.model, *shape, seed=0, width=spec.width)


def _deviation(tensor: np.ndarray, finer: float) -> float:
    """What the steps of a tensor go by; 1 where all its values are 0."""
    spread = float(tensor.std()) / finer
    least = float(np.abs(tensor).max()) / entropy.LARGEST
    return max(spread, least / _COARSENESS[0]) or 1.0


def _whole(tensor: np.ndarray, step: float) -> np.ndarray:
    whole = np.rint(tensor / step).clip(-entropy.LARGEST, entropy.LARGEST)
    return whole.astype(np.int16)


def _bytes(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)
