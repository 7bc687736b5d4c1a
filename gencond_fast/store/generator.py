"""The conditional generator with learned codes (2309.07698): block transform, context, synthesis.

A code is the quantised block DCT of one sample. One network of about 2,000 weights says how
probable each level is, so that few bytes hold it; another one, R(., y), adds to the image what the
levels leave out. All classes share both. docs/reference/format.md describes the file.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gencond_fast.errors import RunError
from gencond_fast.store import entropy, law, level_coder, weights
from gencond_fast.store.blocks import Band, BlockTransform, bands_of, block_side
from gencond_fast.store.colours import mean_of, principal_axes
from gencond_fast.store.context import ContextModel, related
from gencond_fast.store.fitting import fit_levels
from gencond_fast.store.level_coder import Streams
from gencond_fast.store.levels import finest_step
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.store import Add, StoredSet, as_it_is, straight_through
from gencond_fast.store.synthesis import Synthesis
from gencond_fast.store.zone import cosines, even_zone, strongest_zone

_PRICE, _MATCHING_PRICE = 5e-6, 1e-4  # of a bit of one sample: where its search begins
_GAIN, _LEAD, _MOST_GAIN = 0.6, 4.0, 0.3  # of that search, see `update_price`
_FILLED = 0.99  # of the bytes; the last ones are filled when the file is written
_PART = 256  # images at a time
_WEIGHED = 512  # samples whose coded size stands for all, while it is learned
_STEPS_PER_DOUBLING, _STEP_OFFSET = 16, 160  # of the coded step of a band
_FIRST_STEP = 0.35  # of levels, before images are known
_PLAIN_BYTES = 1.6  # bytes without context and optimised levels, over those with them
_SLOPE = 1.0  # of the logarithm of the error over that of the bytes
_BOUND = 1e6  # of what a file says of its colours; a sane one stays below its image side
_WORD = 4  # bytes, that the coder fills up
_COARSER_BY, _COARSER = 0.25, 64  # powers of two by which steps grow where levels do not fit


class _Filled(NamedTuple):
    """A set whose levels fit, the tensors in which they are coded, and whether none was changed."""

    store: Generator
    coded: dict[str, Tensor]
    whole: bool


class Generator(StoredSet):
    """Levels of the bands of each sample, and the networks that all samples share.

    With the levels q of a sample of class y, the steps s of the bands, the inverse block transform
    T, the offset o and the colour axes A, its image is clamp(o + A (T (s q + R1(q, y)) + R2)),
    where R1 corrects coefficients and R2 pixels (`Synthesis`).

    Attributes:
        codes: float32 [n, K, g, g], levels; rounded in every forward pass.
        zone: int32 [channels], how many of the lowest frequencies of each channel are kept.
        offset: float32 [channels], o.
        colours: float32 [channels, channels], A; its columns are the axes.
        log_steps: float32 [K], log2 of the step of each band.
        price: float32 scalar, of a bit of a sample, in units of the loss.
        used: float32 scalar, logarithm of coded bytes over those there are, when last weighed.

    Args:
        spec: its sizes; `coefficients` is K, `width` the channels of R.
        seed: of the codes and networks.

    Raises:
        InputError: the package that codes is not installed.
    """

    owned = frozenset({"codes", "context.label.value", "synthesis.label.value"})
    zone: Tensor
    offset: Tensor
    colours: Tensor
    price: Tensor
    used: Tensor

    def __init__(self, spec: StoreSpec, *, seed: int = 0) -> None:
        super().__init__(spec)
        entropy.require_coder()  # not only when hours of work are to be written
        self.transform = BlockTransform(spec.channels, spec.image_size, block_side(spec.image_size))
        grid = self.transform.grid
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.codes = nn.Parameter(torch.randn(spec.samples, spec.coefficients, grid, grid))
        self.log_steps = nn.Parameter(torch.full((spec.coefficients,), math.log2(_FIRST_STEP)))
        with torch.device("cpu"):
            zone = even_zone(spec.coefficients, spec.channels).tolist()
        self.register_buffer("zone", torch.tensor(zone, dtype=torch.int32))
        self.register_buffer("offset", torch.full((spec.channels,), 0.5))
        self.register_buffer("colours", torch.eye(spec.channels))
        self.register_buffer("price", torch.tensor(_PRICE))
        self.register_buffer("used", torch.zeros(()))
        bands = bands_of(zone, self.transform.block)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.context = ContextModel(bands, spec.num_classes)
            self.synthesis = Synthesis(
                self._places(bands),
                self.transform,
                spec.num_classes,
                width=spec.width,
                pixel_width=spec.width,
            )

    def _lay_out(self, zone: Sequence[int]) -> None:
        """Takes so many frequencies of each channel; the networks stay, whose shapes are the same.

        Raises:
            ValueError: there are not so many.
        """
        bands = bands_of(zone, self.transform.block)
        if len(bands) != self.spec.coefficients:
            raise ValueError("its frequencies are not as many as it states")
        self.context.related = related(bands).to(self.codes.device)
        self.synthesis.places.copy_(self._places(bands))
        self.zone.copy_(torch.tensor(zone))

    def _places(self, bands: Sequence[Band]) -> Tensor:
        """Of bands among the coefficients."""
        block = self.transform.block
        return torch.tensor([(c * block + row) * block + column for c, row, column in bands])

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Takes over a state, and the zone that is part of it."""
        self._lay_out(state_dict["zone"].tolist())
        return super().load_state_dict(state_dict, strict, assign)

    def forward(self, index: Tensor) -> Tensor:
        """See `StoredSet.forward`."""
        return self.decode(rounded(self.codes[index]), self.labels(index))

    def sample_around(self, index: Tensor, rng: torch.Generator) -> Tensor:
        """Moves each code up to half-way to another code of its class, uniformly at random."""
        other, share = self._partners(index, rng)
        codes = torch.lerp(
            rounded(self.codes[index]), rounded(self.codes[other]), share[:, None, None, None]
        )
        return self.decode(codes, self.labels(index))

    def decode(self, levels: Tensor, labels: Tensor) -> Tensor:
        """Images [B, channels, S, S] in [0, 1] of levels [B, K, g, g] of classes [B]."""
        images = self.decode_unclamped(levels, labels)
        return straight_through(images, images.clamp(0.0, 1.0))

    def decode_unclamped(self, levels: Tensor, labels: Tensor) -> Tensor:
        """The same before numbers outside [0, 1] are moved to its ends."""
        with torch.autocast(levels.device.type, enabled=False):
            images = self.synthesis(levels, labels, self.steps())
            images = torch.einsum("ij,njhw->nihw", self.colours, images)
            return images + self.offset[:, None, None]

    def steps(self) -> Tensor:
        """The step of each band [K], as the file gives it back."""
        coded = self._coded_steps()
        return torch.exp2((coded - _STEP_OFFSET) / _STEPS_PER_DOUBLING)

    def _coded_steps(self) -> Tensor:
        value = self.log_steps * _STEPS_PER_DOUBLING + _STEP_OFFSET
        return straight_through(value, value.clamp(0.0, 255.0).round())

    @torch.no_grad()
    def init_from_images(self, images: Tensor) -> None:
        """See `StoredSet.init_from_images`. Chooses colours and bands as well.

        The colours are the principal axes of all pixels (the Karhunen-Loeve transform), and the
        bands are the strongest ones. Levels are coefficients in units of the first step; the stage
        `CodeFit` makes them few and whole.
        """
        spec, block = self.spec, self.transform.block
        self.offset.copy_(mean_of(images))
        self.colours.copy_(principal_axes(images, self.offset))
        power = torch.zeros(spec.channels * block * block, device=images.device)
        for part in images.split(_PART):
            power += self.spectrum(part).square().sum((0, 2, 3))
        power = power.view(spec.channels, block, block)
        self._lay_out(strongest_zone(power, spec.coefficients).tolist())
        step, price = self._first_step(images)
        self.log_steps.fill_(math.log2(step))
        self.price.fill_(price)
        steps = self.steps().view(-1, 1, 1)
        for start, part in enumerate(images.split(_PART)):
            levels = self.spectrum(part)[:, self.synthesis.places] / steps
            self.codes[start * _PART : start * _PART + len(part)] = levels

    def _first_step(self, images: Tensor) -> tuple[float, float]:
        """The step at which a plain transform of whole images takes so many times the bytes.

        And the price at which a bit, on the curve of error over bits, is worth what it costs.
        """
        count = min(_WEIGHED, len(images))
        some = images[torch.arange(count) * len(images) // count]
        side = self.spec.image_size
        full = cosines(side, side).to(images.device)
        spectra = [full @ self._centred(part) @ full.T for part in some.split(_PART)]
        whole = torch.cat(spectra).flatten(1)
        each = self.spec.stream_bytes / len(self.codes)
        step = finest_step(whole.cpu().numpy(), round(_PLAIN_BYTES * each * count))
        error = float(((whole / step).round() * step - whole).square().mean())
        return step, _SLOPE * error / (8 * each)

    def spectrum(self, images: Tensor) -> Tensor:
        """Coefficients [B, channels * b * b, g, g] of uint8 images, in the colours of the set."""
        return self.transform(self._centred(images))

    def _centred(self, images: Tensor) -> Tensor:
        """uint8 images in the colours of the set, float32."""
        centred = images.float() / 255.0 - self.offset[:, None, None]
        return torch.einsum("ij,nihw->njhw", self.colours, centred)

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
            self.log_steps.copy_((tensors["steps"].float() - _STEP_OFFSET) / _STEPS_PER_DOUBLING)


def rounded(codes: Tensor) -> Tensor:
    """Whole levels within bounds, straight through."""
    bounded = codes.clamp(-level_coder.LARGEST, level_coder.LARGEST)
    return straight_through(codes, bounded.round())


def _bytes(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)
