"""Statistics of a set from which undecodable images are left out."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from image_builders import pictures, write_tree
from test_statistics import open_task

from gencond_fast.condensation import measure as measure_module
from gencond_fast.condensation.bank import build_bank
from gencond_fast.condensation.networks import build_networks
from gencond_fast.data.health.badlist import bad_list_path, write_bad_list
from gencond_fast.data.health.check import check
from gencond_fast.data.health.describe import open_parts
from gencond_fast.data.labels import shuffled_rank
from gencond_fast.data.skipping import BadImage
from gencond_fast.errors import InputError
from gencond_fast.system.progress import Reporter

BAD = {1, 6, 7, 8, 14, 22}  # of 24, in reading order; 6 … 8 fill a batch


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measure_module, "_BATCH", 3)
    return tmp_path / "cache"


@pytest.fixture
def spoilt(tmp_path):
    """Three classes of eight images, some of them text."""
    root = write_tree(tmp_path / "set", pictures(8))
    for place, path in enumerate(sorted(root.rglob("*.png"))):
        if place in BAD:
            path.write_bytes(b"no image")
    return str(root)


@pytest.fixture
def sound(tmp_path):
    """The same without those images."""
    root = write_tree(tmp_path / "sound", pictures(8))
    for place, path in enumerate(sorted(root.rglob("*.png"))):
        if place in BAD:
            path.unlink()
    return str(root)


def measured(data, *assignments, mode="skip", reporter=None):
    task = open_task(f"on_bad_image={mode}", "networks.trained=0", *assignments, data=data)
    if reporter is not None:
        object.__setattr__(task, "reporter", reporter)
    return build_bank(task, build_networks(task))


def test_the_counts_and_moments_are_those_of_the_decodable_images(spoilt, sound):
    (found,), (expected,) = measured(spoilt), measured(sound, mode="error")
    counts = [sum(p not in BAD for p in range(at, at + 8)) for at in (0, 8, 16)]
    assert found.count.tolist() == expected.count.tolist() == counts
    # the batches are others, so the sums differ by rounding
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.m2, expected.m2, rtol=1e-3, atol=1e-5)
    with pytest.raises(BadImage):
        measured(spoilt, mode="error")


def test_the_statistics_of_another_list_are_measured_anew(spoilt, cache):
    (met,) = measured(spoilt)
    opened, splits = open_parts(spoilt, None)
    found = check(splits, workers=1, reporter=Reporter())
    write_bad_list(bad_list_path(opened.digest, None), found.bad_list)
    before = set((cache / "statistics").iterdir())
    (known,) = measured(spoilt)
    assert len(set((cache / "statistics").iterdir()) - before) == 1
    for name in ("count", "mean", "m2"):
        assert torch.equal(getattr(met, name), getattr(known, name))


class Stopping(Reporter):
    """Ends the pass over the real images after a number of batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    @contextmanager
    def phase(self, name, total, done=0):
        stopping, pass_over = self, name == "real statistics"

        class Progress:
            def advance(self, amount=1, values=None):
                stopping.left -= pass_over
                if not stopping.left:
                    raise KeyboardInterrupt

        yield Progress()


@pytest.mark.parametrize("batches", [1, 2, 3, 4, 6])
def test_an_interrupted_pass_goes_on_behind_what_was_left_out(
    spoilt, tmp_path, monkeypatch, batches
):
    monkeypatch.setattr(measure_module, "_SAVE_EVERY", -1.0)
    with pytest.raises(KeyboardInterrupt):
        measured(spoilt, reporter=Stopping(batches))
    assert list((tmp_path / "cache").rglob("*.partial"))
    (continued,) = measured(spoilt)
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "another cache"))
    (whole,) = measured(spoilt)
    for name in ("count", "mean", "m2"):
        assert torch.equal(getattr(continued, name), getattr(whole, name))


def test_a_class_of_which_nothing_was_measured_is_named(spoilt):
    """All the images of a class that the limit chooses are bad, though not all that it has."""
    chosen = np.flatnonzero(shuffled_rank(np.repeat([0, 1, 2], 8), seed=0) < 1)
    paths = sorted(Path(spoilt).rglob("*.png"))
    paths[chosen[2]].write_bytes(b"no image")
    with pytest.raises(InputError, match="no image of the class 'cow' that can be decoded"):
        measured(spoilt, "networks.real_per_class=1", "networks.train_images=5")
