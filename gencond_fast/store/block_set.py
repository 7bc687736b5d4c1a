"""Levels of the block transforms of samples, and the two networks that all of them share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gencond_fast.store import entropy, level_coder
from gencond_fast.store.blocks import Band, BlockTransform, bands_of, block_side
from gencond_fast.store.colours import mean_of, principal_axes
from gencond_fast.store.context import ContextModel, related
from gencond_fast.store.levels import finest_step
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.store import StoredSet, straight_through
from gencond_fast.store.synthesis import Synthesis
from gencond_fast.store.zone import cosines, even_zone, strongest_zone

STEPS_PER_DOUBLING, STEP_OFFSET = 16, 160  # of the coded step of a band
_PART = 256  # images at a time
_PROBED = 512  # images that decide the first step
_FIRST_STEP = 0.35  # of levels, before images are known
_FIRST_PRICE = 5e-6  # the same
_PLAIN_BYTES = 1.6  # bytes without context and optimised levels, over those with them
_SLOPE = 1.0  # of the logarithm of the error over that of the bytes


class BlockSet(StoredSet):
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
        self.register_buffer("price", torch.tensor(_FIRST_PRICE))
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
        return torch.exp2((coded - STEP_OFFSET) / STEPS_PER_DOUBLING)

    def _coded_steps(self) -> Tensor:
        value = self.log_steps * STEPS_PER_DOUBLING + STEP_OFFSET
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
        count = min(_PROBED, len(images))
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


def rounded(codes: Tensor) -> Tensor:
    """Whole levels within bounds, straight through."""
    bounded = codes.clamp(-level_coder.LARGEST, level_coder.LARGEST)
    return straight_through(codes, bounded.round())
