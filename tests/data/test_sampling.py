"""The order of an epoch and its shares, against counting by hand."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencond_fast.data.sampling import epoch_order, in_pools, share_of

SETS = st.lists(st.integers(0, 6), min_size=1, max_size=60).map(np.array)
EPOCHS = st.integers(0, 1000)


def order_of(labels, seed=0, epoch=0, **options):
    return epoch_order(labels, seed=seed, epoch=epoch, **options).tolist()


@given(SETS, EPOCHS)
def test_every_image_once(labels, epoch):
    order = epoch_order(labels, seed=1, epoch=epoch)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(len(labels)))


def test_seed_and_epoch_decide():
    labels = np.arange(100) % 7
    for balanced in (False, True):
        made = {(s, e): order_of(labels, s, e, balanced=balanced) for s in (0, 1) for e in (0, 1)}
        assert len({tuple(order) for order in made.values()}) == 4
        assert order_of(labels, 1, 1, balanced=balanced) == made[1, 1]


def test_every_order_is_equally_likely():
    seen = Counter(tuple(order_of(np.zeros(4, int), epoch=epoch)) for epoch in range(2400))
    assert set(seen) == set(permutations(range(4)))
    assert all(50 < times < 150 for times in seen.values())  # 100, of deviation 9.8


@given(SETS, EPOCHS, st.data())
def test_chosen_rows_alone(labels, epoch, data):
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, len(labels) - 1)))), dtype=np.int64)
    given_rows = rows.copy()
    assert sorted(order_of(labels, epoch=epoch, rows=rows)) == rows.tolist()
    balanced = order_of(labels, epoch=epoch, rows=rows, balanced=True)
    assert set(balanced) <= set(rows.tolist())
    if len(rows):
        counts = Counter(labels[balanced].tolist())
        assert set(counts) == set(labels[rows].tolist())
        assert len(set(counts.values())) == 1
    assert np.array_equal(rows, given_rows)


@given(SETS, st.integers(1, 9))
def test_balanced_classes_come_equally_often_and_so_do_the_images_of_a_class(labels, epochs):
    sizes = Counter(labels.tolist())
    share = -(-len(labels) // len(sizes))
    seen = Counter()
    for epoch in range(epochs):
        order = order_of(labels, epoch=epoch, balanced=True)
        assert Counter(labels[order].tolist()) == dict.fromkeys(sizes, share)
        now = Counter(order)
        seen += now
        for row, label in enumerate(labels.tolist()):
            assert now[row] - share // sizes[label] in (0, 1)
            assert seen[row] - (epoch + 1) * share // sizes[label] in (0, 1)


def test_nothing_to_order():
    for balanced in (False, True):
        assert order_of(np.zeros(0, int), balanced=balanced) == []
    share = share_of(0, 4, 0, 2)
    assert (len(share.places), share.edges.tolist(), len(share.done)) == (0, [0], 0)


@given(
    st.integers(0, 50), st.integers(1, 13), st.integers(1, 5), st.integers(0, 50), st.integers(0, 9)
)
def test_ranks_share_every_batch(length, batch_size, world, start, seed):
    shares = [share_of(length, batch_size, rank, world, start) for rank in range(world)]
    order = np.random.default_rng(seed).permutation(length)
    batches = [order[a : a + batch_size].tolist() for a in range(start, length, batch_size)]
    for step, batch in enumerate(batches):
        parts = [order[s.places[s.edges[step] : s.edges[step + 1]]].tolist() for s in shares]
        assert sorted(sum(parts, [])) == sorted(batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for share in shares:
        assert len(share.done) == len(batches)
        ends = [min(start + (n + 1) * batch_size, length) for n in range(len(batches))]
        assert share.done.tolist() == ends
        assert (np.diff(share.places) > 0).all()


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 80), EPOCHS, st.booleans()
)
def test_pools_are_whole_stretches_in_the_order_of_the_epoch(sizes, largest, epoch, repeats):
    edges = np.cumsum([0, *sizes])
    order = epoch_order(np.zeros(edges[-1], int), seed=0, epoch=epoch)
    if repeats:
        order = np.concatenate((order, order[::2]))
    pooled, ends = in_pools(order, edges, largest, seed=0, epoch=epoch)
    assert Counter(pooled.tolist()) == Counter(order.tolist())
    assert ends[-1] == len(order)
    pools = np.split(pooled, ends[:-1])
    found = [set(pool.tolist()) for pool in pools]
    assert sum(map(len, found)) == edges[-1]  # an image is in one pool
    most = largest + max(1, largest // 8)
    assert all(0 < len(rows) <= most for rows in found)
    for pool, rows in zip(pools, found, strict=True):
        assert pool.tolist() == [row for row in order.tolist() if row in rows]
    if len(order) <= largest:
        assert pooled.tolist() == order.tolist()


@pytest.mark.parametrize("edges", [[0, 1000], [*range(0, 1001, 10)]])
def test_a_pool_mixes_distant_stretches_and_others_in_every_epoch(edges):
    labels = np.zeros(1000, int)
    pools = []
    for epoch in (0, 1):
        order = epoch_order(labels, seed=0, epoch=epoch)
        pooled, ends = in_pools(order, np.array(edges), 160, seed=0, epoch=epoch)
        assert len(ends) == 7
        parts = [set((part // 20).tolist()) for part in np.split(pooled, ends[:-1])]
        assert min(len(part) for part in parts[:-1]) >= 8
        assert all(max(part) - min(part) > 20 for part in parts[:-1])
        pools.append(parts)
    assert pools[0] != pools[1]
