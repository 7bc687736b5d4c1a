"""Images as quantised, entropy-coded frequencies: learned codes for a decoder that costs nothing.

The codes are the lowest coefficients of the discrete cosine transform of an image, as FreD
(2311.08819) learns them, in whole steps as JPEG keeps them; an entropy coder stores them in about
as many bits as they carry, most of them being zero. docs/reference/format.md describes the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gencond_fast.store import entropy
from gencond_fast.store.colours import mean_of, principal_axes
from gencond_fast.store.levels import coded_size, finest_step, pack
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.store import Add, StoredSet, as_it_is, straight_through
from gencond_fast.store.zone import cosines, even_zone, lowest, strongest_zone
from gencond_fast.system.upload import upload

_PRICE = 1e-4  # of a bit of one sample, in units of the loss: where its search begins
_PULL, _DRIFT = 40.0, 1.0  # of that search: on the spot, and for good
_LEAST_SCALE = 2e-3  # of a coefficient that is zero everywhere
_PART = 256  # images at a time
_COUNTED = 4096  # samples at a time
_BITS_OF_LEVEL = 30.0  # the most a level may seem to cost, where its gradient ends
_BOUND = 1e6  # of what a file says of its colours; a sane one stays below its image side


class FrequencySet(StoredSet):
    """Levels of the lowest frequencies of each sample, in an orthogonal colour space.

    With the levels q of a sample, the orthonormal DCT-II D [S, S], the offset o and the colour axes
    A of the set, its image is clamp(o + A (D^T (step q) D)), the product with A over channels.

    A bit has a price in the loss, which is moved until the coded levels fill the bytes that the
    description leaves for them, as in learned compression (1802.01436) and its use for
    condensation (2507.17221).

    Attributes:
        codes: float32 [n, K] in units of the step; rounded in every forward pass.
        zone: int32 [channels], how many of the lowest frequencies of each channel are kept; they
            are the columns of `codes`, channel after channel.
        offset: float32 [channels], o.
        colours: float32 [channels, channels], A; its columns are the axes.
        step: float32 [1].
        scales: float32 [K], mean size of the levels of each column, when they were last weighed.
        price: float32 scalar, of a bit of a sample, in units of the loss.
        base: float32 scalar, the logarithm of the price at which the bytes are just used.

    Args:
        spec: its sizes; `coefficients` is K.
        seed: of the codes, which mean little before images are adopted or a file is loaded.

    Raises:
        InputError: the package that codes is not installed.
    """

    owned = frozenset({"codes"})
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
        entropy.require_coder()  # not only when hours of work are to be written
        channels, kept = spec.channels, spec.coefficients
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.codes = nn.Parameter(torch.randn(spec.samples, kept).mul_(0.5))
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
            self._lay_out(even_zone(kept, channels))

    def _lay_out(self, zone: Tensor) -> None:
        """Prepares the transform for so many frequencies of each channel.

        Raises:
            ValueError: there are not so many.
        """
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
        return self._decode(_rounded(self.codes[index]))

    def sample_around(self, index: Tensor, rng: torch.Generator) -> Tensor:
        """Moves each code up to half-way to another code of its class, uniformly at random."""
        other, share = self._partners(index, rng)
        codes = torch.lerp(_rounded(self.codes[index]), _rounded(self.codes[other]), share[:, None])
        return self._decode(codes)

    @torch.no_grad()
    def init_from_images(self, images: Tensor) -> None:
        """See `StoredSet.init_from_images`. Chooses colours, zone and step as well.

        The colours are the principal axes of all pixels (the Karhunen-Loeve transform), the zone
        has the strongest frequencies of all channels together, and the step is the finest that the
        bytes allow, the same for all, as is best for squared errors at a high rate.
        """
        spec = self.spec
        self.offset.copy_(mean_of(images))
        self.colours.copy_(principal_axes(images, self.offset))
        full = cosines(spec.image_size, spec.image_size).to(images.device)
        power = torch.zeros(images.shape[1:], device=images.device)
        for part in images.split(_PART):
            power += self._spectrum(part, full).square().sum(0)
        self._lay_out(strongest_zone(power, spec.coefficients))
        for start, part in enumerate(images.split(_PART)):
            spectrum = self._spectrum(part, self.basis).flatten(1)
            self.codes[start * _PART : start * _PART + len(part)] = spectrum[:, self.places]
        self.step.fill_(finest_step(self.codes.cpu().numpy(), spec.stream_bytes))
        self.codes.div_(self.step)
        self._measure_scales(self._count())

    def _spectrum(self, images: Tensor, basis: Tensor) -> Tensor:
        """The frequencies [B, channels, f, f] of uint8 images, in the colours of the set."""
        centred = images.float() / 255.0 - self.offset[:, None, None]
        turned = torch.einsum("ij,nihw->njhw", self.colours, centred)
        return basis @ turned @ basis.T

    def rate(self, index: Tensor) -> Tensor:
        """See `StoredSet.rate`: the price of the bits of the samples.

        A level is taken to have the mass that a Laplace distribution has within half a step of its
        code; its scale is the mean size of the levels of the column.
        """
        size = self.codes[index].abs()
        scale = self.scales
        # written without differences of near numbers
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
        return self.price * bits.sum()

    @torch.no_grad()
    def update_price(self, add: Add = as_it_is) -> None:
        """See `StoredSet.update_price`."""
        counts = self._count(add)
        used = coded_size(counts) / self.spec.stream_bytes
        self.base.add_(_DRIFT * (used - 1.0)).clamp_(-30.0, 0.0)
        self.price.copy_((self.base + _PULL * (used - 1.0)).clamp(-30.0, 0.0).exp())
        self._measure_scales(counts)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Steps are large where pixels and codes lie in [0, 1]: levels learn faster than both."""
        return [{"params": [self.codes], "scale": 30.0, "betas": (0.9, 0.99)}]

    def images_to_storage(self) -> dict[str, Tensor]:
        """The tensors of docs/reference/format.md.

        `stream` uint8 [stream_bytes], its `odds` uint8 [2, K] and `check` uint8 [4], `zone` int32
        [channels], and `colours` float32 [1 + channels + channels^2]: step, offset, axes.
        """
        colours = torch.cat((self.step, self.offset, self.colours.flatten()))
        return self._streams() | {"zone": self.zone.clone(), "colours": colours}

    def load_images(self, tensors: dict[str, Tensor]) -> None:
        """See `StoredSet.load_images`.

        Raises:
            ValueError: the tensors do not go together, or are damaged.
        """
        spec, channels = self.spec, self.spec.channels
        zone, colours = tensors["zone"], tensors["colours"]
        if int(zone.min()) < 0 or int(zone.sum()) != spec.coefficients:
            raise ValueError("its frequencies are not as many as it states")
        if float(colours.abs().max()) > _BOUND:
            raise ValueError("its colours are out of bounds")
        self._lay_out(zone)
        stream, check = (tensors[name].numpy().tobytes() for name in ("stream", "check"))
        levels = entropy.decode(stream, tensors["odds"].numpy(), spec.samples, check)
        self.step.copy_(colours[:1])
        self.offset.copy_(colours[1 : 1 + channels])
        self.colours.copy_(colours[1 + channels :].view(channels, channels))
        with torch.no_grad():
            self.codes.copy_(torch.from_numpy(levels))
            self._measure_scales(entropy.count(levels))

    def _streams(self) -> dict[str, Tensor]:
        spec = self.spec
        if self.codes.is_meta:
            shapes = {"stream": (spec.stream_bytes,), "odds": (2, spec.coefficients), "check": (4,)}
            return {name: torch.empty(shape, dtype=torch.uint8) for name, shape in shapes.items()}
        packed = pack(self.codes.detach().cpu().numpy(), spec.stream_bytes)
        return {name: torch.from_numpy(value) for name, value in packed._asdict().items()}

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

    def _count(self, add: Add = as_it_is) -> entropy.Counts:
        """Of the levels of all parts; one that is no number, of which the loop warns, is zero."""
        codes = self.codes.detach()
        others = codes.new_zeros(codes.shape[1], dtype=torch.float64)
        total = torch.zeros_like(others)
        for part in codes.split(_COUNTED):  # all at once would take several times their memory
            sizes = _rounded(part).nan_to_num(0.0).abs()
            others += sizes.count_nonzero(0)
            total += sizes.sum(0, dtype=torch.float64)
        counts = torch.cat((others.new_full((1,), len(codes)), others, total))
        add([counts])
        rows, others, total = counts.cpu().split([1, len(others), len(total)])
        return entropy.Counts(int(rows), others.numpy(), total.numpy())

    def _measure_scales(self, counts: entropy.Counts) -> None:
        sizes = torch.from_numpy(counts.total / counts.rows)
        self.scales.copy_(upload(sizes.clamp(min=_LEAST_SCALE), self.scales.device))


def _rounded(codes: Tensor) -> Tensor:
    bounded = codes.clamp(-entropy.LARGEST, entropy.LARGEST)
    return straight_through(codes, bounded.round())
