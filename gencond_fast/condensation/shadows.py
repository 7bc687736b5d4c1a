"""Condensations of random halves of the training images, for attacks that compare them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from gencond_fast.condensation.checkpoint import CHECKPOINTS
from gencond_fast.condensation.run import condense
from gencond_fast.config import Config
from gencond_fast.config.options import to_plain
from gencond_fast.data.labels import shuffled_rank
from gencond_fast.data.source import Source
from gencond_fast.system.cache import cache_directory, cache_key, exclusive
from gencond_fast.system.progress import Reporter
from gencond_fast.system.rng import derive_seed

_FREE = (
    "data",
    "out",
    "in_memory",
    "on_bad_image",
    "reader",
)  # what a run goes on with all the same


def halves(labels: np.ndarray, shadows: int, seed: int) -> np.ndarray:
    """Which image is in which shadow: each is in half of them, and each has half of every class.

    Shadows 2 i and 2 i + 1 are complements. Given all other pairs, an image is in either with
    equal probability, so what a pair is tested with says nothing about it.

    Args:
        labels: int64 [N], values 0 ... C-1.
        shadows: K, even.
        seed: chooses the halves.

    Returns:
        bool [K, N]. Of a class of an odd number a random one of the pair has one image more.
    """
    if shadows < 2 or shadows % 2:
        raise ValueError(f"shadows come in pairs, so their number must be even, not {shadows}")
    counts = np.bincount(labels)
    inside = np.empty((shadows, len(labels)), dtype=bool)
    for pair in range(shadows // 2):
        own = derive_seed(seed, "half", pair) % 2**32
        more = np.random.default_rng(own).integers(0, 2, len(counts))
        rank = shuffled_rank(labels, derive_seed(own, "order") % 2**32)
        inside[2 * pair] = rank < ((counts + more) // 2)[labels]
        inside[2 * pair + 1] = ~inside[2 * pair]
    return inside


def condense_shadow(
    config: Config, source: Source, rows: np.ndarray, number: int, reporter: Reporter
) -> Path:
    """Condenses some of the training images, or finds in the cache that it was done.

    An interrupted condensation goes on. Its checkpoints are removed at its end.

    Args:
        config: options of the run that it is a shadow of; `out` is of no account.
        source: the data set of that run.
        rows: ascending int64 rows of its training split.
        number: of the shadow; decides, with the seed of the run, on its seed.
        reporter: told of progress.

    Returns:
        The path of the condensed file.

    Raises:
        InputError, RunError: as `condense`.
        OSError: the cache cannot be written.
    """
    part = source.subset(rows, reporter.message)
    config = replace(config, seed=derive_seed(config.seed, "shadow", number) % 2**32)
    key = cache_key(
        kind="shadow",
        data=part.fingerprint,
        left_out=part.left_out,
        decoder=part.decoder,
        options={k: v for k, v in to_plain(config).items() if k not in _FREE},
    )
    directory = cache_directory("shadows") / key
    waiting = "another process condenses the same shadow: waiting for it"
    with exclusive(directory, lambda: reporter.message(waiting)):
        path = condense(replace(config, out=str(directory)), reporter, source=part)
        shutil.rmtree(directory / CHECKPOINTS, ignore_errors=True)
    return path
