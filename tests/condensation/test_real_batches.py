"""Real statistics measured in every step, against the table they are an alternative to."""

from __future__ import annotations

import pytest
import torch
from command_line import TINY, call, metrics

from gencond_fast.condensation.bank import build_bank
from gencond_fast.condensation.networks import build_networks
from gencond_fast.condensation.real_batches import RealBatches, statistics_of
from gencond_fast.condensation.task import open_config, open_task, set_up
from gencond_fast.config.options import resolve
from gencond_fast.system.progress import Reporter


@pytest.fixture(scope="module")
def parts():
    """A task whose sample holds all images, its networks and their tables."""
    networks = {"width": 8, "random": 1, "trained": 0, "num_augmentations": 3, "frequencies": 5}
    config = resolve(
        {"data": "digits", "out": "", "networks": networks | {"real_per_class": None}},
        {"losses": {"discrepancies": {"mean": 1.0, "cf": 1.0}}},
    )
    source = open_config(config, Reporter())
    task = open_task(set_up(config, source, source.native_size, Reporter()))
    networks = build_networks(task)
    return task, networks, build_bank(task, networks)[0]


@pytest.mark.parametrize("augmentation", [0, 1, 2])
def test_of_all_images_it_is_the_table(parts, augmentation):
    task, networks, entry = parts
    live = RealBatches(task, networks, per_class=10**6)
    networks.select(0)
    classes = torch.tensor([7, 2, 9])
    samples = live.samples(
        entry, augmentation, classes, slice(0, 3), torch.Generator().manual_seed(0)
    )
    real = statistics_of(samples, entry)
    table = entry.real(augmentation, classes)
    assert torch.equal(real.moments.count, table.moments.count)
    # sums of about 150 float32 numbers of a size of at most 1, in another order
    torch.testing.assert_close(real.moments.mean, table.moments.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(real.moments.m2, table.moments.m2, rtol=1e-4, atol=1e-5)
    for name in ("real", "imaginary"):
        found, wanted = getattr(real.characteristic, name), getattr(table.characteristic, name)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_draws_without_repetition_and_of_the_right_classes(parts):
    task, networks, _ = parts
    live = RealBatches(task, networks, per_class=20)
    classes = torch.tensor([3, 0])
    rng = torch.Generator().manual_seed(1)
    seen = [live._draw(classes, slice(0, 2), rng) for _ in range(2)]
    for rows, counts in seen:
        assert counts == (20, 20)
        assert len(set(rows.tolist())) == 40
        assert torch.equal(task.sample.labels[rows], classes.repeat_interleave(20))
    assert not torch.equal(seen[0][0], seen[1][0])


def test_smaller_classes_give_what_they_have(parts):
    task, networks, entry = parts
    networks.select(0)
    counts = torch.bincount(task.sample.labels)
    between = int(counts.sort().values[4])
    live = RealBatches(task, networks, per_class=between)
    samples = live.samples(
        entry, 0, torch.arange(10), slice(0, 10), torch.Generator().manual_seed(2)
    )
    assert samples.counts == tuple(counts.clamp(max=between).tolist())
    assert torch.equal(statistics_of(samples, entry).moments.count, counts.clamp(max=between))
    assert len(set(counts.clamp(max=between).tolist())) > 1


def test_from_the_command_line(tmp_path):
    out = tmp_path / "run"
    more = ("--set", "networks.real_batch=5")
    assert call("condense", "--data", "digits", "--out", out, *TINY, *more).code == 0
    assert all(line["mean"] > 0 for line in metrics(out) if line["stage"] == "match")
