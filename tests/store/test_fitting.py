"""Levels that must fit their bytes."""

from __future__ import annotations

import pytest
import torch

from gencond_fast.store import level_coder
from gencond_fast.store.blocks import Band
from gencond_fast.store.context import ContextModel
from gencond_fast.store.fitting import fit_levels

BANDS = [Band(0, row, column) for row in range(3) for column in range(3)]
STEPS = torch.linspace(0.5, 2.0, len(BANDS))


def problem(seed: int = 0) -> tuple[ContextModel, torch.Tensor, torch.Tensor]:
    """A context of one law, codes of 30 samples of a Laplace law, and labels."""
    torch.manual_seed(seed)
    context = ContextModel(BANDS, 3)
    context.take_laws(torch.tensor([[0.5, 4.0]]).expand(len(BANDS), 2))
    spread = torch.distributions.Laplace(0.0, torch.linspace(4.0, 0.5, len(BANDS)).view(-1, 1, 1))
    codes = spread.sample((30,)).expand(30, len(BANDS), 4, 4).clone()
    codes += torch.rand_like(codes)
    return context, codes, torch.arange(30) // 10


def size_of(context, levels, labels) -> int:
    streams = level_coder.encode(context, levels, labels)
    return len(streams.flags) + len(streams.values)


def error_of(levels, codes) -> float:
    return float(((levels - codes) * STEPS.view(-1, 1, 1)).square().sum())


def by_size_alone(context, codes, labels, room) -> torch.Tensor:
    """The largest values as they are, all others zero, as many as fit."""
    levels = codes.round()
    values = (levels * STEPS.view(-1, 1, 1)).abs()
    for bound in values.unique():
        kept = torch.where(values > bound, levels, 0.0).to(torch.int16)
        if size_of(context, kept, labels) <= room:
            return kept
    raise AssertionError("even zeros do not fit")


def test_levels_that_fit_stay():
    context, codes, labels = problem()
    whole = codes.round().to(torch.int16)
    fitted = fit_levels(context, codes, STEPS, labels, size_of(context, whole, labels))
    assert fitted is not None
    assert fitted.whole
    assert torch.equal(fitted.levels, whole)


@pytest.mark.parametrize("share", [0.97, 0.8, 0.5, 0.3])
def test_levels_that_do_not_fit_give_way_with_little_error(share):
    context, codes, labels = problem()
    room = int(share * size_of(context, codes.round().to(torch.int16), labels))
    fitted = fit_levels(context, codes, STEPS, labels, room)
    assert fitted is not None
    assert not fitted.whole
    taken = len(fitted.streams.flags) + len(fitted.streams.values)
    assert 0.9 * room < taken <= room
    decoded = level_coder.decode(context, fitted.streams, labels, 4)
    assert torch.equal(decoded, fitted.levels)
    assert (fitted.levels.abs() <= codes.round().abs()).all()
    rival = by_size_alone(context, codes, labels, room)
    assert error_of(fitted.levels, codes) < error_of(rival, codes)


def test_room_for_zeros_alone_gives_zeros_and_less_gives_nothing():
    context, codes, labels = problem()
    least = size_of(context, torch.zeros_like(codes, dtype=torch.int16), labels)
    fitted = fit_levels(context, codes, STEPS, labels, least)
    assert fitted is not None
    assert not fitted.levels.any()
    assert fit_levels(context, codes, STEPS, labels, least - 4) is None
