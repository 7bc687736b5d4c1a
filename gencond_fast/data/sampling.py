"""The order of a shuffled epoch, a pure function of seed and epoch, and each rank's share of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gencond_fast.system.rng import derive_seed

_STRETCHES = 8  # that a pool mixes at least


def epoch_order(
    labels: np.ndarray,
    *,
    seed: int,
    epoch: int,
    balanced: bool = False,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """The images of one epoch in random order.

    Plain, each image comes once. Balanced, each of the C classes that occur comes ceil(n / C)
    times, so that an epoch is as long as a plain one. The images of a class stand in a ring, in an
    order that the seed alone decides, and every epoch goes on around it where the last one stopped.
    So within an epoch, and within any number of epochs from the first on, the images of a class
    come equally often to within one: a small class in whole rounds, a large one in its turn.

    The order takes 8 bytes an image, and 50 for a moment while a balanced one is made.

    Args:
        labels: integer [N], values 0 … C-1.
        seed: of the run.
        epoch: pass over the images, from 0.
        balanced: whether classes come equally often, rather than images.
        rows: integer [n], the images to choose from, each once; None means all.

    Returns:
        int64 rows: [n], or balanced [C · ceil(n / C)].
    """
    rows = np.arange(len(labels)) if rows is None else rows.astype(np.int64)
    if balanced and len(rows):
        rows = _turn(rows, labels[rows], seed, epoch)
    rng = np.random.default_rng(derive_seed(seed, "order", epoch))
    rng.shuffle(rows)
    return rows


def _turn(rows: np.ndarray, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """What one epoch takes from the rings of the classes."""
    ring = np.random.default_rng(derive_seed(seed, "rings")).permutation(len(rows))
    keys = labels[ring].astype(np.min_scalar_type(int(labels.max())))  # short ones sort faster
    ring = ring[np.argsort(keys, kind="stable")]
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    share = -(-len(rows) // len(counts))
    places = (epoch * share + np.arange(share)) % counts[:, None]
    places += (np.cumsum(counts) - counts)[:, None]
    return rows[ring[places.ravel()]]


def in_pools(
    order: np.ndarray, edges: np.ndarray, largest: int, *, seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sorts an order into pools of few stretches, for images that are best read in stretches.

    The stretches are dealt to pools at random in every epoch, and a pool keeps the order that its
    images had: it is mixed as the whole was. One pool is the order as it was. Stretches are cut
    so that a pool has at least eight of them; what the order repeats counts as often as it comes.

    Args:
        order: int64 [n], as `epoch_order` gives it.
        edges: ascending int64 edges of the stretches, from 0 to at least the largest row + 1.
        largest: images in a pool, up to an eighth more.
        seed: of the run.
        epoch: pass over the images.

    Returns:
        int64 [n], the same rows, and int64 where each pool ends in them.
    """
    edges = _cut(edges, max(1, largest // _STRETCHES))
    stretch = np.searchsorted(edges, order, side="right") - 1
    sizes = np.bincount(stretch, minlength=len(edges) - 1)
    turn = np.random.default_rng(derive_seed(seed, "pools", epoch)).permutation(len(sizes))
    before = np.cumsum(sizes[turn]) - sizes[turn]
    pool = np.empty(len(sizes), dtype=np.int64)
    pool[turn] = before // largest
    pool_of = pool[stretch]
    counts = np.bincount(pool_of)
    return order[np.argsort(pool_of, kind="stable")], np.cumsum(counts[counts > 0])


def _cut(edges: np.ndarray, longest: int) -> np.ndarray:
    """Edges of stretches that are no longer than `longest`."""
    pairs = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    return np.concatenate([*(np.arange(a, b, longest) for a, b in pairs), edges[-1:]])


@dataclass(frozen=True, eq=False)
class Share:
    """What falls to one of several ranks: of every batch a part, equally large to within one image.

    Attributes:
        places: ascending int64 [m], of its images in the order of the epoch.
        edges: int64 [steps + 1], where its part of each step starts in them (and the last ends).
        done: int64 [steps], images of the epoch that all ranks have behind them after each step.
    """

    places: np.ndarray
    edges: np.ndarray
    done: np.ndarray


def share_of(length: int, batch_size: int, rank: int, world: int, start: int = 0) -> Share:
    """Deals the batches of an epoch to ranks, from image `start` of it on.

    All ranks together have the same images in a step however many they are, each of them once, and
    take the same number of steps.

    Args:
        length: images of the epoch.
        batch_size: images in a step of all ranks together; the last one may have fewer.
        rank: which of them, 0 … world - 1.
        world: how many there are.
        start: images of the epoch that are behind all ranks.
    """
    firsts = np.arange(start, length, batch_size)
    done = np.minimum(firsts + batch_size, length)
    starts, stops = (firsts + (done - firsts) * place // world for place in (rank, rank + 1))
    edges = np.append(0, np.cumsum(stops - starts))
    places = np.arange(edges[-1]) + np.repeat(starts - edges[:-1], stops - starts)
    return Share(places, edges, done)
