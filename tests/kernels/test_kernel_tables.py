"""Tile tables: every pair of a class is covered once, and no tile reaches into another class."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from gencond_fast.kernels import tiles
from gencond_fast.kernels.tiles import CHUNK, PACK, TILE, Group, Numbers, Tables
from hypothesis import example, given
from hypothesis import strategies as st

sizes_of_classes = st.lists(
    st.one_of(
        st.integers(0, 1000), st.sampled_from([0, 1, 2, 9, 16, 32, 33, 64, 65, 128, 129, 512])
    ),
    max_size=12,
)
caps = st.sampled_from([2, 8, 18, 2048])


def made(sizes: list[int], cap: int = 2048) -> tuple[Numbers, list[Group], Tables]:
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    tables = tiles.tile_tables(offsets, int(offsets[-1]) + 3, "cpu", cap)
    assert tables[0].dtype == torch.int64
    assert all(table.dtype == torch.int32 for table in tables[1:])
    assert all(table.storage_offset() * 4 % 16 == 0 for table in tables[1:])
    return tiles.unpack(tables)


@given(sizes_of_classes)
@example([1, 2, 32, 1, 32, 21, 21, 2, 21, 16, 5, 16])
def test_small_classes_are_packed_whole(sizes: list[int]) -> None:
    _, _, tables = made(sizes)
    offsets = np.cumsum([0, *sizes])
    seen: dict[int, set[int]] = {}
    for row, (positions, segments) in enumerate(
        zip(tables.positions, tables.segments, strict=True)
    ):
        filled = [(int(p), int(s)) for p, s in zip(positions, segments, strict=True) if p >= 0]
        assert filled
        for c in {s for _, s in filled}:
            places = [i for i, s in enumerate(segments.tolist()) if s == c]
            assert positions[places].tolist() == list(range(offsets[c], offsets[c + 1]))
            # nearest neighbours are found by their distance in the tile
            assert places == list(range(places[0], places[0] + sizes[c]))
            seen.setdefault(c, set()).add(row)
        assert (segments[positions < 0] == -1).all()
    assert set(seen) == {c for c, n in enumerate(sizes) if 0 < n <= PACK}
    assert all(len(rows) == 1 for rows in seen.values())


@given(sizes_of_classes)
def test_means_take_every_row_once(sizes: list[int]) -> None:
    _, _, tables = made(sizes)
    offsets = np.cumsum([0, *sizes])
    chunks = tables.chunks.tolist()
    for c, n in enumerate(sizes):
        own = [chunk for chunk in chunks if chunk[2] == c]
        assert [p for begin, end, *_ in own for p in range(begin, end)] == list(
            range(offsets[c], offsets[c + 1])
        )
        assert all(end - begin <= CHUNK for begin, end, *_ in own)
        merge = [row for row in tables.merges.tolist() if row[0] == c]
        if len(own) == 1:
            assert own[0][3] == -1
            assert not merge
        else:
            targets = [chunk[3] for chunk in own]
            assert merge == [[c, targets[0], len(own), n]]
            assert targets == list(range(targets[0], targets[0] + len(own)))
    partials = [chunk[3] for chunk in chunks if chunk[3] >= 0]
    assert partials == list(range(len(partials)))


@given(sizes_of_classes)
def test_sweeps_of_a_row_tile_cover_its_class_in_order(sizes: list[int]) -> None:
    numbers, _, tables = made(sizes)
    classes = tables.classes.tolist()
    assert [end - begin for begin, end, *_ in classes] == sorted(
        (n for n in sizes if n > PACK), reverse=True
    )
    assert numbers.operand_rows == sum(n for n in sizes if n > PACK)
    expected_first = 0
    rows = set()
    for tiled_class, tile, first, count in tables.row_tiles.tolist():
        begin, end, *_ = classes[tiled_class]
        rows.update(range(begin + tile * TILE, min(begin + (tile + 1) * TILE, end)))
        assert first == expected_first
        expected_first += count
        columns: list[int] = []
        for c, i, j0, j1 in tables.sweeps[first : first + count].tolist():
            assert (c, i) == (tiled_class, tile)
            columns += range(j0, j1)
        assert columns == list(range(-(-(end - begin) // TILE)))
    assert rows == set(range(numbers.operand_rows))
    assert expected_first == len(tables.sweeps)


@given(sizes_of_classes, caps)
@example([400, 70, 1000, 300, 300], 8)
def test_weights_and_gradients_take_every_pair_of_tiles_once(sizes: list[int], cap: int) -> None:
    """Plays the launches: weights fill slots, gradients find in them what they expect."""
    numbers, groups, tables = made(sizes, cap)
    counts = [-(-(end - begin) // TILE) for begin, end, *_ in tables.classes.tolist()]
    assert numbers.slots <= cap
    weighed: Counter[tuple[int, int, int]] = Counter()
    used: Counter[tuple[int, int, int]] = Counter()
    for g in groups:
        slots: dict[int, tuple[int, int, int]] = {}
        for entry in tables.weights[g.weights_begin : g.weights_end].tolist():
            c, i, j = entry[0] + g.tiled_class, entry[1] + g.row_block, entry[2] + g.column_block
            assert i <= j
            if j < counts[c]:
                weighed[c, i, j] += 1
                assert entry[3] not in slots
                slots[entry[3]] = (c, i, j)
                slots[entry[4]] = (c, j, i)
        assert all(slot < numbers.slots for slot in slots)
        launches = [(g.row_block, g.column_block, 0)]
        if g.row_block != g.column_block:
            launches.append((g.column_block, g.row_block, numbers.slots // 2))
        for row_block, column_block, base in launches:
            for c, i, width, slot in tables.gradients[g.gradient_begin : g.gradient_end].tolist():
                c, i = c + g.tiled_class, i + row_block
                if i >= counts[c]:
                    continue
                for j in range(min(width, counts[c] - column_block)):
                    assert slots[base + slot + j] == (c, i, column_block + j)
                    # parts of a row's gradient after the first are added, so they come in order
                    assert used[c, i, column_block + j] == 0
                    assert column_block == 0 or used[c, i, column_block - 1] == 1
                    used[c, i, column_block + j] += 1
    assert weighed == Counter(
        (c, i, j) for c, n in enumerate(counts) for i in range(n) for j in range(i, n)
    )
    assert used == Counter(
        (c, i, j) for c, n in enumerate(counts) for i in range(n) for j in range(n)
    )


def test_counts_and_too_many_rows() -> None:
    numbers, _, _ = made([1, 0, 3, 100])
    assert numbers[:5] == (107, 4, 104, 6 + 9900, 103)
    with pytest.raises(ValueError, match="2147483648"):
        tiles.tile_tables(torch.tensor([0, 1]), 2**31, "cpu")


def test_tables_of_a_large_class_grow_with_its_rows() -> None:
    small, large = (made([n])[2] for n in (30_000, 240_000))
    for before, after in zip(small, large, strict=True):
        assert after.numel() <= 9 * before.numel() + 64
