"""What the levels around a level say about it: features, and a small network with whole weights.

A level is coded after all lower bands, at every block, and after the blocks above and to the left
in its own band. From their sizes a network of some 1,500 weights gives the parameters of its law.

Whoever decodes needs the same parameters to the last bit. So features, weights and what lies
between are whole numbers, small enough that sums of products in float32 are exact: the order of
summation, threads, instruction sets and devices cannot change them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gencond_fast.store import law
from gencond_fast.store.blocks import Band
from gencond_fast.store.store import straight_through
from gencond_fast.store.weights import CodedWeight, coded_weights

OWN, EARLIER = 7, 14  # features of the own band, and of lower ones
MOST_SEEN = 16.0  # of the size of a level; larger ones look like this one
RECENT = 12  # bands
SEEN = ((0, -1), (-1, 0), (-1, -1), (-1, 1))  # blocks before, down and along
_SIZE = 16.0  # units of a feature: 1/16
_VALUE = 8.0
_WEIGHT = 64.0  # units of a weight: 1/64
_DEVIATION = 0.125  # of first weights, eight units
_MOST = 255.0  # of a feature and of a hidden value
_BAND, _CLASS, _HIDDEN = 6, 3, 24
_NEAR = ((-1, 0), (0, -1), (-1, -1), (-2, 0), (0, -2))


class ContextModel(nn.Module):
    """The laws of levels from those coded before.

    Args:
        bands: K, in the order of coding.
        num_classes: C.
    """

    related: Tensor
    rates: Tensor

    def __init__(self, bands: list[Band], num_classes: int) -> None:
        super().__init__()
        count, taken = len(bands), OWN + EARLIER + _BAND + _CLASS

        def weight(*shape: int, zero: bool = False) -> CodedWeight:
            return CodedWeight(shape, _DEVIATION, zero=zero)

        self.band, self.label = weight(count, _BAND), weight(num_classes, _CLASS)
        self.first, self.first_bias = weight(_HIDDEN, taken), weight(_HIDDEN)
        self.second, self.second_bias = weight(_HIDDEN, _HIDDEN), weight(_HIDDEN)
        self.last, self.last_bias = weight(3, _HIDDEN), weight(3)
        self.bias = weight(count, 2, zero=True)
        self.register_buffer("related", related(bands), persistent=False)
        rates = [round(256.0 / math.sqrt(1 + place)) for place in range(count)]
        self.register_buffer("rates", torch.tensor(rates).float().view(-1, 1, 1), persistent=False)

    def forward(self, levels: Tensor, labels: Tensor) -> law.Law:
        """The laws of all levels.

        Args:
            levels: float [n, K, g, g], whole or (while they are learned) not.
            labels: int64 [n].
        """
        before = self.first_sums(earlier(levels, self.related, self.rates), labels)
        own = torch.stack(own_band(levels), -1)
        return self.law_of(before, own)

    @torch.no_grad()
    def take_laws(self, laws: Tensor) -> None:
        """Gives each band one law, whatever lies around its levels.

        Args:
            laws: float32 [K, 2], log s and the logit.
        """
        for each in coded_weights(self):
            each.value.zero_()
        self.bias.value.copy_(laws)

    def first_sums(self, features: Tensor, labels: Tensor, band: int | None = None) -> Tensor:
        """What all but the own band adds to the first layer: [n, K, g, g, hidden].

        Args:
            features: [n, K, g, g, EARLIER], of all bands or of one.
            labels: [n].
            band: the one.
        """
        _, lower, of_band, of_label = _whole(self.first).split([OWN, EARLIER, _BAND, _CLASS], 1)
        bands = _whole(self.band) if band is None else _whole(self.band)[band : band + 1]
        fixed = bands @ of_band.T + _SIZE * _whole(self.first_bias)
        by_label = _whole(self.label)[labels] @ of_label.T
        return features @ lower.T + fixed[None, :, None, None, :] + by_label[:, None, None, None, :]

    def law_of(self, before: Tensor, own: Tensor, band: int | None = None) -> law.Law:
        """The laws, from both parts of the first layer's input."""
        hidden = _activate(before + own @ _whole(self.first)[:, :OWN].T)
        more = hidden @ _whole(self.second).T + _SIZE * _whole(self.second_bias)
        hidden = hidden + _activate(more)
        out = hidden @ _whole(self.last).T + _SIZE * _whole(self.last_bias)
        bias = _whole(self.bias) if band is None else _whole(self.bias)[band : band + 1]
        bias = _SIZE * bias.view(1, -1, *[1] * (out.dim() - 3), 2)
        unit = _SIZE * _WEIGHT
        return law.Law(
            out[..., 0] / unit,
            (out[..., 1] + bias[..., 0]) / unit,
            (out[..., 2] + bias[..., 1]) / unit,
        )


def _whole(weight: CodedWeight) -> Tensor:
    return weight() * _WEIGHT  # exact: a power of two


def _activate(sums: Tensor) -> Tensor:
    """A ramp from 0 to its end, in whole numbers, rounded straight through."""
    ramp = (sums / _WEIGHT).clamp(0.0, _MOST)
    return straight_through(ramp, ramp.floor())


def related(bands: list[Band]) -> Tensor:
    """For each band eight related ones that are coded before it, K where there is none: [8, K].

    The next lower frequencies of the same channel, the one mirrored at the diagonal, and the same
    frequency of the two channels before.
    """
    number = {band: place for place, band in enumerate(bands)}
    rows = []
    for place, (channel, row, column) in enumerate(bands):
        wanted = [Band(channel, row + down, column + along) for down, along in _NEAR]
        wanted += [Band(channel, column, row)]
        wanted += [Band(channel - back, row, column) for back in (1, 2)]
        found = [number.get(band, len(bands)) for band in wanted]
        rows.append([each if each < place else len(bands) for each in found])
    return torch.tensor(rows).T.contiguous()


def sizes_of(levels: Tensor) -> Tensor:
    """How large levels are, in units of a feature."""
    size = _SIZE * torch.log1p(2.0 * levels.abs().clamp(max=MOST_SEEN))
    return straight_through(size, size.round())


def values_of(levels: Tensor) -> Tensor:
    """Levels with their signs, in units of a feature."""
    return _VALUE * levels.clamp(-MOST_SEEN, MOST_SEEN)


def own_band(levels: Tensor) -> list[Tensor]:
    """The OWN features of all levels [n, K, g, g] from blocks above and to the left."""
    size, value = (F.pad(each, (1, 1, 1, 0)) for each in (sizes_of(levels), values_of(levels)))
    grid = levels.shape[-1]

    def at(x: Tensor, down: int, along: int) -> Tensor:
        return x[..., 1 + down : 1 + down + grid, 1 + along : 1 + along + grid]

    return [at(size, *each) for each in SEEN] + [at(value, *each) for each in SEEN[:3]]


def earlier(levels: Tensor, near: Tensor, rates: Tensor) -> Tensor:
    """The EARLIER features of all levels [n, K, g, g] from lower bands."""
    bands = levels.shape[1]
    size = sizes_of(levels)
    total = F.pad(size.cumsum(1), (0, 0, 0, 0, 1, 0))
    sizes, values = (F.pad(each, (0, 0, 0, 0, 0, 1)) for each in (size, values_of(levels)))
    recent = F.pad(total, (0, 0, 0, 0, RECENT, 0))[:, :bands]
    return assemble(
        [sizes[:, each] for each in near], values[:, near[6]], total[:, :bands], recent, rates
    )


def assemble(
    sizes: list[Tensor], value: Tensor, total: Tensor, before: Tensor, rates: Tensor
) -> Tensor:
    """Stacks the features of one or more bands.

    Args:
        sizes: of the eight related levels, [n, K, g, g] each.
        value: of the same frequency one channel before.
        total: of the sizes of all lower bands.
        before: the same without the last few of them.
        rates: [K, 1, 1], over which the total is taken.
    """
    energy = _down(total * rates, 256.0)
    mixed = [
        value,
        _down(_around(sizes[0] + sizes[1] + sizes[2]) * 7.0, 64.0),
        _down(_around(sizes[6] + sizes[7]) * 7.0, 64.0),
        energy,
        _down((total - before) * 21.0, 256.0),
        _down(_around(energy) * 7.0, 64.0),
    ]
    return torch.stack([*sizes, *mixed], -1).clamp(-_MOST, _MOST)


def _down(value: Tensor, by: float) -> Tensor:
    shared = value / by
    return straight_through(shared, shared.floor())


def _around(x: Tensor) -> Tensor:
    """Sums over the 3 x 3 blocks around each."""
    x = F.pad(x, (1, 1, 1, 1))
    rows = x[..., :-2, :] + x[..., 1:-1, :] + x[..., 2:, :]
    return rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
