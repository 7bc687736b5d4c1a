"""Characteristic functions in the bank: their values, their frequencies, when they are measured."""

from __future__ import annotations

import pytest
import torch
from command_line import TINY, call, metrics
from image_builders import pictures, write_tree
from test_statistics import files, images_one_by_one, open_task

from gencond_fast.condensation import measure
from gencond_fast.condensation.bank import build_bank, fill_bank
from gencond_fast.condensation.frequencies import draw_frequencies, estimate_spread
from gencond_fast.condensation.networks import build_networks
from gencond_fast.data.augment import augment

pytestmark = pytest.mark.usefixtures("cache")

CF = "losses.discrepancies={cf: 1}"


def test_the_table_is_the_mean_of_complex_exponentials(ragged):
    task = open_task(CF, "networks.trained=1", "networks.frequencies=6", data=ragged)
    networks = build_networks(task)
    for index, entry in enumerate(build_bank(task, networks)):
        networks.select(index)
        for place, transform in enumerate(entry.augmentations):
            found = entry.characteristic(place, torch.arange(3))
            total = torch.zeros(3, 6, dtype=torch.complex128)
            count = torch.zeros(3, 1)
            with torch.no_grad():
                for image, label in images_one_by_one(task):
                    feature = networks.features(augment(image, transform))[0] / entry.scale
                    angle = found.frequencies.double() @ feature.double()
                    total[label] += torch.exp(1j * angle)
                    count[label] += 1
            got = torch.complex(found.real, found.imaginary).to(torch.complex128)
            torch.testing.assert_close(got, total / count, rtol=0, atol=1e-4)


def test_chosen_classes_and_one_augmentation():
    task = open_task(CF, "networks.frequencies=3")
    entry = build_bank(task, build_networks(task))[0]
    whole = entry.characteristic(2, torch.arange(10))
    some = entry.characteristic(2, torch.tensor([7, 1]))
    assert torch.equal(some.real, whole.real[[7, 1]])
    assert torch.equal(some.imaginary, whole.imaginary[[7, 1]])
    assert not torch.equal(whole.real, entry.characteristic(3, torch.arange(10)).real)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_angles_vary_within_a_class_by_the_scale(scale):
    """Without the spread of the features, known before the pass, they would by that much more."""
    task = open_task(CF, "networks.frequencies=400", f"networks.frequency_scale={scale}")
    networks = build_networks(task)
    for index in range(len(networks)):
        spread = estimate_spread(task, networks, index)
        chosen = draw_frequencies(task, networks, index, spread)
        networks.select(index)
        with torch.no_grad():
            images = task.normalisation(task.sample.images)
            angles = networks.features(images) @ chosen.T
        within = [angles[task.sample.labels == c].var(0).mean() for c in range(10)]
        assert float(torch.stack(within).mean()) ** 0.5 == pytest.approx(scale, rel=0.15)


def test_images_without_variance_have_frequencies(tmp_path):
    white = torch.full((8, 8, 3), 255, dtype=torch.uint8).numpy()
    made = [type(p)(p.class_name, p.name, white) for p in pictures(3, ("ant", "bee"))]
    task = open_task(CF, "networks.frequencies=3", data=str(write_tree(tmp_path / "set", made)))
    for entry in build_bank(task, build_networks(task)):
        assert entry.waves.frequencies.isfinite().all()
        size = entry.waves.real.square() + entry.waves.imaginary.square()
        torch.testing.assert_close(size, torch.ones_like(size), rtol=0, atol=1e-4)


def test_frequencies_depend_on_the_seed_alone(cache):
    first = build_bank(task := open_task(CF), build_networks(task))
    for path in files(cache):
        path.unlink()
    torch.manual_seed(7)
    again = build_bank(task, build_networks(task))
    other = build_bank(task := open_task(CF, "seed=1"), build_networks(task))
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a.waves.frequencies, b.waves.frequencies)
        assert torch.equal(a.waves.real, b.waves.real)
        assert not torch.equal(a.waves.frequencies, c.waves.frequencies)


def test_measured_when_it_is_needed_and_only_then(cache, monkeypatch):
    networks = build_networks(plain := open_task())
    assert build_bank(plain, networks)[0].waves is None
    before = {path: path.stat().st_mtime_ns for path in files(cache)}
    assert len(before) == 3
    zero = "losses.discrepancies={mean: 1, cf: 0}"
    assert fill_bank(open_task(zero), networks).measured == 0
    assert fill_bank(task := open_task(CF), networks).measured == 3
    assert fill_bank(task, networks).measured == 0
    after = {path: path.stat().st_mtime_ns for path in files(cache)}
    assert len(after) == 6
    assert before.items() <= after.items()  # the moments were left alone
    for change in ("networks.frequencies=7", "networks.frequency_scale=2"):
        assert fill_bank(open_task(CF, change), networks).measured == 3
    entry = build_bank(open_task(CF, "networks.frequencies=7"), networks)[0]
    assert entry.waves.frequencies.shape == (7, networks.feature_dim(0))
    assert entry.waves.real.shape == (7, 10, 7)


def test_one_pass_for_both(monkeypatch):
    opened = []
    stream = measure.stream

    def counting(*arguments, **options):
        opened.append(1)
        return stream(*arguments, **options)

    monkeypatch.setattr(measure, "stream", counting)
    task = open_task(CF)
    assert fill_bank(task, build_networks(task)).measured == 6
    assert len(opened) == 1


def test_a_run_that_minimises_it(tmp_path):
    run = tmp_path / "run"
    options = ("--discrepancy", "mean", "--discrepancy", "cf:0.5", "--quiet")
    done = call("condense", "--data", "digits", "--out", run, *TINY, *options)
    assert done.code == 0, done.err
    values = [line["cf"] for line in metrics(run) if line["stage"] == "match"]
    assert values
    assert all(value > 0 for value in values)
    assert {"mean", "cf"} <= metrics(run)[-1].keys()
