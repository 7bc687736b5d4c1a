"""The conditional generator with learned codes (2309.07698): block transform, context, synthesis.

A code is the quantised block DCT of one sample. One network of about 2,000 weights says how
probable each level is, so that few bytes hold it; another one, R(., y), adds to the image what the
levels leave out. All classes share both. docs/reference/format.md describes the file.
"""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gencond_fast.errors import RunError
from gencond_fast.store import law, level_coder, weights
from gencond_fast.store.block_set import STEP_OFFSET, STEPS_PER_DOUBLING, BlockSet, rounded
from gencond_fast.store.fitting import fit_levels
from gencond_fast.store.level_coder import Streams
from gencond_fast.store.store import Add, as_it_is

_MATCHING_PRICE = 1e-4  # of a bit of one sample: where its search begins when matching does
_GAIN, _LEAD, _MOST_GAIN = 0.6, 4.0, 0.3  # of that search, see `update_price`
_FILLED = 0.99  # of the bytes; the last ones are filled when the file is written
_PART = 256  # images at a time
_WEIGHED = 512  # samples whose coded size stands for all, while it is learned
_BOUND = 1e6  # of what a file says of its colours; a sane one stays below its image side
_WORD = 4  # bytes, that the coder fills up
_COARSER_BY, _COARSER = 0.25, 64  # powers of two by which steps grow where levels do not fit


class _Filled(NamedTuple):
    """A set whose levels fit, the tensors in which they are coded, and whether none was changed."""

    store: Generator
    coded: dict[str, Tensor]
    whole: bool


class Generator(BlockSet):
    """Coded levels: their rate, the price of a bit while they are learned, and their file."""

    def rate(self, index: Tensor) -> Tensor:
        """See `StoredSet.rate`: the price of the bits of the samples, by the context model."""
        codes = self.codes[index]
        return self.price * law.bits(codes, self.context(codes, self.labels(index))).sum()

    def weight_bits(self, add: Add = as_it_is) -> tuple[Tensor, Tensor]:
        """About what network weights cost: those of the whole set, and those of its classes.

        Args:
            add: puts sums over all parts into tensors; of its classes each part has its own bits.
        """
        of_classes = [self.context.label, self.synthesis.label]
        alone = {id(each) for each in of_classes}
        shared = [each for each in weights.coded_weights(self) if id(each) not in alone]
        sizes = torch.stack([each.size() for each in of_classes])
        add([sizes])
        own = [each.bits(size) for each, size in zip(of_classes, sizes, strict=True)]
        return torch.stack([each.bits() for each in shared]).sum(), torch.stack(own).sum()

    def start_price(self) -> None:
        """See `StoredSet.start_price`."""
        self.price.fill_(_MATCHING_PRICE)
        self.used.zero_()

    @torch.no_grad()
    def update_price(self, add: Add = as_it_is, late: float = 0.0) -> None:
        """See `StoredSet.update_price`.

        Args:
            add: puts sums over all parts into tensors.
            late: logarithm of the bytes that may be used now over those there are.
        """
        used = math.log(max(self.coded_size(add) / (_FILLED * self.spec.stream_bytes), 1e-3))
        used -= late
        before = float(self.used) if float(self.used) else used
        # levels follow the price slowly: it looks ahead to where they are going
        change = _GAIN * (used + _LEAD * (used - before))
        self.price.mul_(math.exp(min(max(change, -_MOST_GAIN), _MOST_GAIN))).clamp_(1e-12, 1.0)
        self.used.fill_(used)

    @torch.no_grad()
    def coded_size(self, add: Add = as_it_is) -> float:
        """About the bytes of weights and levels, from some of the samples."""
        count = min(_WEIGHED, len(self.codes))
        index = torch.arange(count, device=self.codes.device) * len(self.codes) // count
        bits = self.log_steps.new_zeros((), dtype=torch.float64)
        for part in index.split(_PART):
            levels = rounded(self.codes[part])
            bits += law.bits(levels, self.context(levels, self.labels(part))).double().sum()
        shared, own = self.weight_bits(add)
        sums = (bits * len(self.codes) / count + own).view(1)
        add([sums])
        return (float(sums) + float(shared)) / 8

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Levels learn faster than pixels or weights, whose steps are large and small."""
        networks = [*self.context.parameters(), *self.synthesis.parameters(), self.log_steps]
        return [
            {"params": [self.codes], "scale": 30.0, "betas": (0.9, 0.99)},
            {"params": networks, "scale": 1.0},
        ]

    def images_to_storage(self) -> dict[str, Tensor]:
        """The tensors of docs/reference/format.md.

        `stream` uint8 [stream_bytes] holds weights, flags and values, whose `lengths` are int32
        [3] words; `odds` uint8 [2, T] are those of the T weight tensors, `steps` uint8 [K] those
        of the bands, `check` uint8 [4], `zone` int32 [channels] and `colours` float32 [channels +
        channels^2]: offset, axes.
        """
        if self.codes.is_meta:
            coded = {
                "stream": torch.empty(self.spec.stream_bytes, dtype=torch.uint8),
                "lengths": torch.empty(3, dtype=torch.int32),
                "odds": torch.empty(2, len(weights.coded_weights(self)), dtype=torch.uint8),
                "check": torch.empty(4, dtype=torch.uint8),
            }
            return coded | self._shared_tensors()
        filled = self._filled()
        return filled.coded | filled.store._shared_tensors()

    def _shared_tensors(self) -> dict[str, Tensor]:
        return {
            "zone": self.zone.clone(),
            "colours": torch.cat((self.offset, self.colours.flatten())),
            "steps": self._coded_steps().detach().to(torch.uint8),
        }

    def _filled(self) -> _Filled:
        """A copy of the set whose levels fit the bytes.

        Networks that have learned too little cost more than they save: where levels must give way,
        plain levels in larger steps may come nearer to what is wanted.
        """
        wanted = copy.deepcopy(self).cpu()
        filled = wanted._fill()
        if filled and filled.whole:
            return filled
        alone = copy.deepcopy(wanted)
        alone._forget_context()
        plain = copy.deepcopy(wanted)
        plain._forget_networks()
        found = [each for each in (filled, alone._fill(), plain._fill()) if each]
        if not found:
            raise RunError(
                f"the {self.spec.stream_bytes} bytes of the codes are too few for the networks and "
                f"{self.spec.samples} samples of the generator: raise --bytes or --ipc"
            )
        return min(found, key=lambda each: wanted._distance(each.store))

    def _fill(self) -> _Filled | None:
        """A copy whose levels fit the bytes, and these coded; None if none do."""
        store = copy.deepcopy(self)
        whole = [each.whole().numpy() for each in weights.coded_weights(store)]
        networks, odds = weights.encode(whole)
        room = self.spec.stream_bytes - len(networks)
        labels = torch.arange(self.spec.samples) // self.spec.per_class
        codes, steps = self.codes.detach(), self.steps().detach()
        fitted = fit_levels(store.context, codes, steps, labels, room)
        if fitted is None:
            return None
        with torch.no_grad():
            store.codes.copy_(fitted.levels)
        parts = (networks, fitted.streams.flags, fitted.streams.values)
        stream = b"".join(parts).ljust(self.spec.stream_bytes, b"\0")
        coded = {
            "stream": _bytes(stream),
            "lengths": torch.tensor([len(each) // _WORD for each in parts], dtype=torch.int32),
            "odds": torch.from_numpy(odds),
            "check": _bytes(fitted.streams.check),
        }
        return _Filled(store, coded, fitted.whole)

    def _forget_context(self) -> float:
        """Codes levels without their neighbours; returns about their bytes."""
        laws, size = law.best_of_bands(rounded(self.codes.detach()))
        self.context.take_laws(laws)
        return size

    @torch.no_grad()
    def _forget_networks(self) -> None:
        """Leaves plain levels, in steps so large that they are few bytes."""
        self.synthesis.forget()
        for _ in range(_COARSER):
            if self._forget_context() <= self.spec.stream_bytes:
                break
            self.codes.div_(2**_COARSER_BY)
            self.log_steps.add_(_COARSER_BY)

    @torch.no_grad()
    def _distance(self, other: Generator) -> float:
        """Sum of squared differences of the images of two sets of the same samples."""
        parts = torch.arange(self.spec.samples).split(_PART)
        return sum(float((self(part) - other(part)).square().sum()) for part in parts)

    def load_images(self, tensors: dict[str, Tensor]) -> None:
        """See `StoredSet.load_images`.

        Raises:
            ValueError: the tensors do not go together, or are damaged.
        """
        spec, channels = self.spec, self.spec.channels
        zone, colours, lengths = tensors["zone"], tensors["colours"], tensors["lengths"].tolist()
        if int(zone.min()) < 0 or int(zone.sum()) != spec.coefficients:
            raise ValueError("its frequencies are not as many as it states")
        if float(colours.abs().max()) > _BOUND:
            raise ValueError("its colours are out of bounds")
        if min(lengths) < 0 or _WORD * sum(lengths) > spec.stream_bytes:
            raise ValueError("its streams are longer than it states")
        self._lay_out(zone.tolist())
        content = tensors["stream"].numpy().tobytes()
        ends = np.cumsum([0, *lengths]) * _WORD
        networks, flags, values = (
            content[start:end] for start, end in zip(ends[:-1], ends[1:], strict=True)
        )
        coded = weights.coded_weights(self)
        found = weights.decode(
            networks, tensors["odds"].numpy(), [each.value.numel() for each in coded]
        )
        for each, whole in zip(coded, found, strict=True):
            each.take(torch.from_numpy(whole))
        streams = Streams(flags, values, tensors["check"].numpy().tobytes())
        labels = torch.arange(spec.samples) // spec.per_class
        levels = level_coder.decode(self.context, streams, labels, self.transform.grid)
        self.offset.copy_(colours[:channels])
        self.colours.copy_(colours[channels:].view(channels, channels))
        with torch.no_grad():
            self.codes.copy_(levels)
            self.log_steps.copy_((tensors["steps"].float() - STEP_OFFSET) / STEPS_PER_DOUBLING)


def _bytes(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)
