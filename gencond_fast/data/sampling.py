"""The order of a shuffled epoch, a function of seed and epoch alone, and the share of a rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gencond_fast.system.rng import derive_seed

_STRETCHES = 8  # the fewest that a pool mixes


def epoch_order(
    labels: np.ndarray,
    *,
    seed: int,
    epoch: int,
    balanced: bool = False,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """The images of one epoch in random order.

    In a plain epoch each image comes once. In a balanced epoch each of the C classes that occur
    comes ceil(n / C) times, so the epoch is about as long as a plain one. For example, with 2 ants
    and 10 bees a balanced epoch has 6 ants, each ant three times, and 6 of the bees; the next epoch
    begins with the other 4 bees.

    In general, the images of a class stand in a ring, in an order that depends on the seed alone,
    and every epoch goes on around the ring where the last one stopped. So in one epoch, and in the
    first k epochs together, the images of a class come equally often to within one.

    Memory: 8 bytes an image, and 50 while a balanced order is made.

    Args:
        labels: integer [N], values 0 … C-1.
        seed: of the run.
        epoch: pass over the images, from 0.
        balanced: True makes classes come equally often instead of images.
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
    """The images that one balanced epoch takes from the rings of the classes, see `epoch_order`."""
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
    """Sorts an order into pools, for images that are only cheap to read in stretches.

    Every epoch deals the stretches to pools at random. Within a pool the images keep the order that
    they had, which is random. If all images fit into one pool, the order does not change. Long
    stretches are cut, so that a pool has at least eight. An image that the order repeats counts as
    often as it comes.

    Args:
        order: int64 [n], as `epoch_order` gives it.
        edges: ascending int64 edges of the stretches, from 0 to at least the largest row + 1.
        largest: images in a pool; a pool may have an eighth more.
        seed: of the run.
        epoch: pass over the images.

    Returns:
        The same rows, int64 [n], and the places at which pools end in them, int64 [pools].
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
    """The images of one rank: its share of every batch, as large as any other to within one image.

    Attributes:
        places: ascending int64 [m], the places of its images in the order of the epoch.
        edges: int64 [steps + 1]; its images of step s are `places[edges[s]:edges[s + 1]]`.
        done: int64 [steps], images of the epoch that all ranks together have done after each step.
    """

    places: np.ndarray
    edges: np.ndarray
    done: np.ndarray


def share_of(length: int, batch_size: int, rank: int, world: int, start: int = 0) -> Share:
    """Deals the batches of an epoch to ranks, from image `start` of the epoch on.

    The images of a step do not depend on the number of ranks. Each of them falls to one rank, and
    all ranks take the same number of steps.

    Args:
        length: images of the epoch.
        batch_size: images in a step of all ranks together; the last step may have fewer.
        rank: which rank, 0 … world - 1.
        world: how many ranks there are.
        start: images of the epoch that all ranks together have done already.
    """
    firsts = np.arange(start, length, batch_size)
    done = np.minimum(firsts + batch_size, length)
    starts, stops = (firsts + (done - firsts) * place // world for place in (rank, rank + 1))
    edges = np.append(0, np.cumsum(stops - starts))
    places = np.arange(edges[-1]) + np.repeat(starts - edges[:-1], stops - starts)
    return Share(places, edges, done)
