"""Images as quantised, entropy-coded frequencies: learned codes for a decoder that costs nothing.

The codes are the lowest coefficients of the discrete cosine transform of an image, as FreD
(2311.08819) learns them, in whole steps as JPEG keeps them; an entropy coder stores them in about
as many bits as they carry, most of them being zero.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gencond_fast.models import entropy
from gencond_fast.models.spec import StoreSpec
from gencond_fast.models.store import StoredSet, straight_through
from gencond_fast.models.zone import cosines, lowest

_PRICE = 1e-4  # of a bit of one sample, in units of the loss: where its search begins
_PULL, _DRIFT = 40.0, 1.0  # of that search: on the spot, and for good
_LEAST_SCALE = 2e-3  # of a coefficient that is zero everywhere
_PART = 256  # images at a time
_BITS_OF_LEVEL = 30.0  # the most a level may seem to cost, where its gradient ends


class FrequencySet(StoredSet):
    """Levels of the lowest frequencies of each sample, in an orthogonal colour space.

    A bit has a price in the loss, which is moved until the coded levels fill the bytes that the
    description leaves for them, as in learned compression (1802.01436) and its use for
    condensation (2507.17221).

    Attributes:
        codes: [n, K] in units of the step; rounded in every forward pass.
        zone: [channels] int32, how many of the lowest frequencies of each channel are kept.
    """

    zone: Tensor
    offset: Tensor
    colours: Tensor
    step: Tensor
    scales: Tensor
    price: Tensor
    base: Tensor
    places: Tensor
    basis: Tensor

    def __init__(self, spec: StoreSpec, *, seed: int = 0) -> None:
        super().__init__(spec)
        channels, kept = spec.channels, spec.coefficients
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.codes = nn.Parameter(0.5 * torch.randn(spec.samples, kept))
        self.register_buffer("zone", torch.zeros(channels, dtype=torch.int32))
        self.register_buffer("offset", torch.full((channels,), 0.5))
        self.register_buffer("colours", torch.eye(channels))
        self.register_buffer("step", torch.ones(1))
        self.register_buffer("scales", torch.ones(kept))
        self.register_buffer("price", torch.tensor(_PRICE))
        self.register_buffer("base", torch.tensor(math.log(_PRICE)))
        # these follow from the zone
        self.register_buffer("places", torch.zeros(kept, dtype=torch.int64), persistent=False)
        self.register_buffer("basis", torch.zeros(1, spec.image_size), persistent=False)
        if not self.codes.is_meta:
            self._lay_out(_even_zone(spec))

    def _lay_out(self, zone: Tensor) -> None:
        """Prepares the transform for so many frequencies of each channel."""
        frequencies = [lowest(int(count), self.spec.image_size) for count in zone]
        self._side = 1 + max(int(each.max()) for each in frequencies if len(each))
        places = [
            (channel * self._side + each[:, 0]) * self._side + each[:, 1]
            for channel, each in enumerate(frequencies)
        ]
        device = self.codes.device
        self.zone.copy_(zone)
        self.places = torch.cat(places).to(device)
        self.basis = cosines(self._side, self.spec.image_size).to(device)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Takes over a state, and the zone that is part of it."""
        self._lay_out(state_dict["zone"].cpu())
        return super().load_state_dict(state_dict, strict, assign)

    def forward(self, index: Tensor) -> Tensor:
        """See `StoredSet.forward`."""
        return self._decode(self._levels(self.codes[index]))

    def fresh(self, index: Tensor, rng: torch.Generator) -> Tensor:
        """Moves each code up to half-way to another code of its class, uniformly at random."""
        other, share = self._partners(index, rng)
        codes = torch.lerp(
            self._levels(self.codes[index]), self._levels(self.codes[other]), share[:, None]
        )
        return self._decode(codes)

    @torch.no_grad()
    def adopt(self, images: Tensor) -> None:
        """See `StoredSet.adopt`. Chooses colours, zone and step as well."""
        spec = self.spec
        self.offset.copy_(_mean(images))
        self.colours.copy_(_principal_axes(images, self.offset))
        full = cosines(spec.image_size, spec.image_size).to(images.device)
        power = torch.zeros(images.shape[1:], device=images.device)
        for part in images.split(_PART):
            power += self._spectrum(part, full).square().sum(0)
        self._lay_out(_zone_of(power, spec.coefficients))
        codes = [
            self._spectrum(part, self.basis).flatten(1)[:, self.places]
            for part in images.split(_PART)
        ]
        self.codes.copy_(torch.cat(codes))
        self.step.fill_(self._step_for(self.codes.cpu().numpy()))
        self.codes.div_(self.step)
        self._measure_scales()

    def _spectrum(self, images: Tensor, basis: Tensor) -> Tensor:
        """The frequencies [B, channels, f, f] of uint8 images, in the colours of the set."""
        centred = images.float() / 255.0 - self.offset[:, None, None]
        turned = torch.einsum("ij,nihw->njhw", self.colours, centred)
        return basis @ turned @ basis.T

    def cost(self, index: Tensor) -> Tensor:
        """See `StoredSet.cost`."""
        size = self.codes[index].abs()
        scale = self.scales
        # the mass of a Laplace distribution on one level, without differences of near numbers
        inside = 1.0 - 0.5 * (
            torch.exp((size - 0.5).clamp(max=0.0) / scale) + torch.exp(-(size + 0.5) / scale)
        )
        outside = -torch.expm1(-1.0 / scale)
        tail = (size - 0.5).clamp(min=0.0) / scale
        bits = torch.where(
            size < 0.5,
            -inside.clamp(min=2.0**-_BITS_OF_LEVEL).log2(),
            (1.0 - outside.log2() + tail / math.log(2.0)).clamp(max=_BITS_OF_LEVEL),
        )
        return self.price * bits.sum(1).mean()

    @torch.no_grad()
    def weigh(self) -> None:
        """See `StoredSet.weigh`."""
        levels = self._quantised()
        used = entropy.size(levels, entropy.fit(levels)) / self.spec.stream_bytes
        self.base.add_(_DRIFT * (used - 1.0)).clamp_(-30.0, 0.0)
        self.price.copy_((self.base + _PULL * (used - 1.0)).clamp(-30.0, 0.0).exp())
        self._measure_scales()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Steps are large where pixels and codes lie in [0, 1]: levels learn faster than both."""
        return [{"params": [self.codes], "scale": 30.0, "betas": (0.9, 0.99)}]

    def images_to_storage(self) -> dict[str, Tensor]:
        """`stream` uint8, its `odds` uint8 [2, K], `zone` int32, and `colours` float32."""
        spec = self.spec
        if self.codes.is_meta:
            stream, odds, check = (
                torch.empty(size, dtype=torch.uint8)
                for size in ((spec.stream_bytes,), (2, spec.coefficients), (4,))
            )
        else:
            stream, odds, check = self._coded()
        colours = torch.cat((self.step, self.offset, self.colours.flatten()))
        return {
            "stream": stream,
            "odds": odds,
            "check": check,
            "zone": self.zone.clone(),
            "colours": colours,
        }

    def load_images(self, tensors: dict[str, Tensor]) -> None:
        """See `StoredSet.load_images`."""
        spec, channels = self.spec, self.spec.channels
        zone = tensors["zone"]
        if int(zone.min()) < 0 or int(zone.sum()) != spec.coefficients:
            raise ValueError("its frequencies are not as many as it states")
        odds = tensors["odds"].numpy()
        levels = entropy.decode(tensors["stream"].numpy().tobytes(), odds, spec.samples)
        if zlib.crc32(levels.tobytes()) != int.from_bytes(tensors["check"].numpy().tobytes()):
            raise ValueError("its codes do not come out as they were put in")
        self._lay_out(zone)
        self.step.copy_(tensors["colours"][:1])
        self.offset.copy_(tensors["colours"][1 : 1 + channels])
        self.colours.copy_(tensors["colours"][1 + channels :].view(channels, channels))
        with torch.no_grad():
            self.codes.copy_(torch.from_numpy(levels))

    def _levels(self, codes: Tensor) -> Tensor:
        bounded = codes.clamp(-entropy.LARGEST, entropy.LARGEST)
        return straight_through(codes, bounded.round())

    def _decode(self, levels: Tensor) -> Tensor:
        """Levels [B, K] to images [B, channels, S, S]."""
        spec, side = self.spec, self._side
        with torch.autocast(levels.device.type, enabled=False):
            box = levels.new_zeros(len(levels), spec.channels * side * side)
            box = box.index_copy(1, self.places, levels * self.step)
            box = box.view(-1, spec.channels, side, side)
            turned = self.basis.T @ box @ self.basis
            images = torch.einsum("ij,njhw->nihw", self.colours, turned)
            images = images + self.offset[:, None, None]
            return straight_through(images, images.clamp(0.0, 1.0))

    def _quantised(self) -> np.ndarray:
        return self._levels(self.codes.detach()).to(torch.int8).cpu().numpy()

    def _measure_scales(self) -> None:
        self.scales.copy_(self._levels(self.codes.detach()).abs().mean(0).clamp(min=_LEAST_SCALE))

    def _step_for(self, codes: np.ndarray) -> float:
        """The finest step at which codes fit into the stream."""
        # not so fine that a level would leave its bounds
        low, high = max(1e-6, float(np.abs(codes).max()) / entropy.LARGEST), 1e3
        for _ in range(40):
            middle = math.sqrt(low * high)
            bound = entropy.LARGEST
            levels = np.clip(np.rint(codes / middle), -bound, bound).astype(np.int8)
            fits = entropy.size(levels, entropy.fit(levels)) + 8 <= self.spec.stream_bytes
            low, high = (low, middle) if fits else (middle, high)
        return high

    def _coded(self) -> tuple[Tensor, Tensor, Tensor]:
        """Stream, odds and checksum; the least levels give way until they fit."""
        codes = self.codes.detach().cpu().numpy()
        low, high = 0.5, float(entropy.LARGEST)
        best = _code(codes, low)
        if len(best[0]) > self.spec.stream_bytes:
            for _ in range(20):
                middle = 0.5 * (low + high)
                tried = _code(codes, middle)
                if len(tried[0]) > self.spec.stream_bytes:
                    low = middle
                else:
                    high, best = middle, tried
        stream, odds, levels = best
        padded = stream + bytes(self.spec.stream_bytes - len(stream))
        check = zlib.crc32(levels.tobytes()).to_bytes(4)
        return (
            torch.frombuffer(bytearray(padded), dtype=torch.uint8),
            torch.from_numpy(odds),
            torch.frombuffer(bytearray(check), dtype=torch.uint8),
        )


def _code(codes: np.ndarray, threshold: float) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Codes as levels, those below the threshold as zero; their stream, odds, and they."""
    bound = entropy.LARGEST
    levels = np.clip(np.rint(codes), -bound, bound).astype(np.int8)
    levels[np.abs(codes) < threshold] = 0
    odds = entropy.fit(levels)
    return entropy.encode(levels, odds), odds, levels


def _even_zone(spec: StoreSpec) -> Tensor:
    """Coefficients shared out evenly over the channels, before images are known."""
    each, more = divmod(spec.coefficients, spec.channels)
    return torch.tensor([each + (c < more) for c in range(spec.channels)], dtype=torch.int32)


def _zone_of(power: Tensor, count: int) -> Tensor:
    """How many of the `count` strongest coefficients each channel has, from [channels, S, S]."""
    strongest = power.flatten().argsort(descending=True, stable=True)[:count]
    channel = strongest // power[0].numel()
    return torch.bincount(channel, minlength=len(power)).to(torch.int32).cpu()


def _mean(images: Tensor) -> Tensor:
    """Of each channel of uint8 images, as float32 in [0, 1]."""
    return images.sum((0, 2, 3)).double().div(images[:, 0].numel() * 255.0).float()


def _principal_axes(images: Tensor, offset: Tensor) -> Tensor:
    """Orthonormal columns [channels, channels], that of the largest variance first."""
    product = torch.zeros(len(offset), len(offset), dtype=torch.float64, device=images.device)
    for part in images.split(_PART):
        pixels = (part / 255.0 - offset[:, None, None]).transpose(0, 1).flatten(1).double()
        product += pixels @ pixels.T
    axes = torch.linalg.eigh(product)[1].flip(1)
    return (
        axes * torch.where(axes.sum(0) < 0, -1.0, 1.0)
    ).float()  # they have no sign of their own
