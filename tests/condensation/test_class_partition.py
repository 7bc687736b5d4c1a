"""Who keeps which classes, and what steps draw of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_shared_steps import SPECS, on_ranks

from gencond_fast.condensation.checkpoint import (
    Checkpoint,
    load_checkpoint,
    open_checkpoint,
    save_checkpoint,
)
from gencond_fast.condensation.class_partition import ClassPartition
from gencond_fast.condensation.shards import deal_out, save_whole
from gencond_fast.condensation.state import materialise
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.stores import build_store
from gencond_fast.training.average import WeightAverage


def deals(spec, drawn, world, **options):
    return [
        ClassPartition(spec, drawn, ranks=Ranks(rank, world), **options) for rank in range(world)
    ]


@st.composite
def sizes(draw):
    """Numbers of classes, of those drawn in a step, and of ranks."""
    classes = draw(st.integers(1, 60))
    drawn = draw(st.integers(1, classes))
    return classes, drawn, draw(st.integers(1, drawn))


@given(sizes=sizes(), per_class=st.integers(1, 5), seed=st.integers(0, 99))
def test_every_class_has_one_owner_who_finds_all_that_is_drawn(sizes, per_class, seed):
    classes, drawn, world = sizes
    spec = StoreSpec("pixels", classes, per_class, 1, 8, 1, 1, 8)
    parts = deals(spec, drawn, world, seed=seed)
    owners = torch.cat([partition.kept for partition in parts])
    assert owners.sort().values.tolist() == list(range(classes))
    # as many draws as the others to within one, and as many classes as belong to so many draws
    draws = [partition.part.stop - partition.part.start for partition in parts]
    assert sum(draws) == drawn
    assert max(draws) - min(draws) <= 1
    for partition in parts:
        part = partition.part.stop - partition.part.start
        assert abs(len(partition.kept) - part * classes / drawn) < 1
        assert partition.kept_spec.samples == len(partition.kept) * per_class
    for step in range(3):
        found = [partition.draw(torch.Generator().manual_seed(step)) for partition in parts]
        assert all(torch.equal(each, found[0]) for each in found)
        assert len(set(found[0].tolist())) == drawn
        for partition in parts:
            own = found[0][partition.part]
            assert set(own.tolist()) <= set(partition.kept.tolist())
            samples = own[:, None] * per_class + torch.arange(per_class)
            rows = partition.rows(samples.flatten())
            assert torch.equal(partition.kept[rows // per_class], own.repeat_interleave(per_class))
            assert torch.equal(rows % per_class, samples.flatten() % per_class)
    every = torch.arange(spec.samples)
    assert torch.equal(
        sum(partition.is_own(every).int() for partition in parts), torch.ones_like(every)
    )


def test_every_class_is_drawn_as_often():
    partition = ClassPartition(StoreSpec("pixels", 12, 2, 1, 8, 1, 1, 8), 4)
    rng = torch.Generator().manual_seed(0)
    counts = torch.bincount(torch.cat([partition.draw(rng) for _ in range(6000)]), minlength=12)
    # a third of the steps each: 2000, with a standard deviation of 37
    assert (counts - 2000).abs().max() < 5 * 37


def test_neighbours_do_not_share_a_stretch():
    """Classes beside each other are often alike, and those of one stretch never meet in a step."""
    partition = ClassPartition(StoreSpec("pixels", 1000, 1, 1, 8, 1, 1, 8), 100)
    rng = torch.Generator().manual_seed(0)
    met = 0
    for _ in range(300):
        drawn = partition.draw(rng).sort().values
        met += int((drawn.diff() == 1).sum())
    # 999 pairs, each in a hundredth of the steps
    assert met > 0.8 * 300 * 999 / 100


def test_undivided_every_rank_keeps_all_and_has_a_part_of_the_work():
    parts = deals(SPECS["dct"], 7, 3, divided=False)
    every = torch.arange(60)
    for partition in parts:
        assert not partition.divided
        assert partition.kept.tolist() == list(range(10))
        assert torch.equal(partition.rows(every), every)
    assert torch.equal(
        sum(partition.is_own(every).int() for partition in parts), torch.ones_like(every)
    )


@pytest.mark.parametrize("format", SPECS)
@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("part", [1, 2**25])
def test_a_checkpoint_of_all_ranks_is_that_of_one(
    format, world, on_disk, part, tmp_path, monkeypatch
):
    """And it is cut to what each of another number of ranks keeps."""
    monkeypatch.setattr("gencond_fast.condensation.class_partition._PART", part)
    whole = build_store(SPECS[format], seed=2)
    optimizer = torch.optim.Adam(whole.parameter_groups())
    for _ in range(2):
        sum((each * torch.rand_like(each)).sum() for each in whole.parameters()).backward()
        optimizer.step()
    average = WeightAverage([each.detach() for each in whole.parameters()], 0.5)
    average.update()
    states = whole.state_dict(), optimizer.state_dict(), average.state_dict()
    saved = Checkpoint(2, "f", {}, *states)

    if on_disk:
        save_checkpoint(tmp_path, saved)
        saved = open_checkpoint(tmp_path)

    def through(ranks):
        partition = ClassPartition(SPECS[format], 7, ranks=ranks)
        store = build_store(partition.kept_spec)
        cut = deal_out({}, saved if ranks.is_main else None, store, partition)
        cut = Checkpoint(**materialise(vars(cut)))
        store.load_state_dict(cut.store)
        torch.optim.Adam(store.parameter_groups()).load_state_dict(cut.optimizer)
        save_whole(tmp_path / "back", cut, store, partition)
        return store, partition

    parts = on_ranks(world, through)
    assert_same(vars(load_checkpoint(tmp_path / "back")), materialise(vars(saved)))
    for store, partition in parts:
        images = store(partition.rows(samples_of(partition)))
        assert torch.equal(images, whole(samples_of(partition)))


def samples_of(partition):
    return (partition.kept[:, None] * 6 + torch.arange(6)).flatten()


def assert_same(one, other):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for each, its in zip(one, other, strict=True):
            assert_same(each, its)
    else:
        assert one == other
