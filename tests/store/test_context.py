"""The laws of levels against the text of docs/reference/format.md, in whole numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gencond_fast.store.blocks import bands_of
from gencond_fast.store.context import ContextModel
from gencond_fast.store.level_coder import _whole_laws


def features(levels: np.ndarray, bands: list, k: int, row: int, column: int) -> list[int]:
    """The 25 first numbers of the input of one level of one sample [K, g, g]."""
    count, grid = levels.shape[:2]
    place = {tuple(band): number for number, band in enumerate(bands)}

    def z(band: int, at: int, along: int) -> int:
        if not (0 <= band < count and 0 <= at < grid and 0 <= along < grid):
            return 0
        return round(16 * math.log(1 + 2 * min(abs(int(levels[band, at, along])), 16)))

    def v(band: int, at: int, along: int) -> int:
        if not (0 <= band < count and 0 <= at < grid and 0 <= along < grid):
            return 0
        return 8 * min(max(int(levels[band, at, along]), -16), 16)

    def total(end: int, at: int, along: int) -> int:
        return sum(z(band, at, along) for band in range(end))

    def around(of) -> int:
        return sum(of(row + down, column + side) for down in (-1, 0, 1) for side in (-1, 0, 1))

    def energy(at: int, along: int) -> int:
        return round(256 / math.sqrt(1 + k)) * total(k, at, along) // 256

    channel, down, along = bands[k]
    wanted = [
        *((channel, down - 1, along), (channel, down, along - 1), (channel, down - 1, along - 1)),
        *((channel, down - 2, along), (channel, down, along - 2), (channel, along, down)),
        *((channel - 1, down, along), (channel - 2, down, along)),
    ]
    found = [place.get(each, -1) for each in wanted]
    near = [each if each < k else -1 for each in found]
    own = [z(k, row, column - 1), z(k, row - 1, column)]
    own += [z(k, row - 1, column - 1), z(k, row - 1, column + 1)]
    own += [v(k, row, column - 1), v(k, row - 1, column), v(k, row - 1, column - 1)]
    recent = total(k, row, column) - total(max(0, k - 12), row, column)
    lower = [
        *(z(each, row, column) for each in near),
        v(near[6], row, column),
        7 * around(lambda *at: sum(z(each, *at) for each in near[:3])) // 64,
        7 * around(lambda *at: sum(z(each, *at) for each in near[6:])) // 64,
        energy(row, column),
        21 * recent // 256,
        7 * around(energy) // 64,
    ]
    return own + [min(max(each, -255), 255) for each in lower]


def numbers(model: ContextModel, x: list[int], k: int, label: int) -> list[int]:
    """Those of the law of one level."""

    def whole(weight) -> np.ndarray:
        return weight.whole().numpy()

    x = np.array([*x, *whole(model.band)[k], *whole(model.label)[label]])
    hidden = (whole(model.first) @ x + 16 * whole(model.first_bias)).clip(0, 64 * 255) // 64
    more = whole(model.second) @ hidden + 16 * whole(model.second_bias)
    hidden = hidden + np.minimum(more.clip(0) // 64, 255)
    u = whole(model.last) @ hidden
    u = u + 16 * (whole(model.last_bias) + np.array([0, *whole(model.bias)[k]]))
    bounds = zip(u.tolist(), (4, 8, 4), (60, 32, 32), strict=True)
    return [min(max((2 * each * d + 1024) // 2048, -b), b) for each, d, b in bounds]


@pytest.mark.parametrize("size", [0.7, 4.0])
def test_laws_are_those_of_the_text(size):
    torch.manual_seed(3)
    bands = bands_of([14, 8, 5], 8)
    model = ContextModel(bands, 3)
    with torch.no_grad():
        model.bias.value.normal_(std=0.5)
        model.first.value.mul_(0.5)
    levels = (size * torch.randn(2, 27, 3, 3)).round().short()
    labels = torch.tensor([2, 0])
    with torch.no_grad():
        laws = np.stack(_whole_laws(model, levels, labels), -1) - np.array([60, 32, 32])
    seen = set()
    for sample, k, row, column in np.ndindex(2, 27, 3, 3):
        x = features(levels[sample].numpy(), bands, k, row, column)
        want = numbers(model, x, k, int(labels[sample]))
        assert laws[sample, k, row, column].tolist() == want
        seen.add(tuple(want))
    assert len(seen) > 50
