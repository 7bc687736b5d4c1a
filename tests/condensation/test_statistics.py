"""The statistics bank against the definition of what it holds; networks; memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from image_builders import pictures, write_tree
from PIL import Image

from gencond_fast.condensation import measure as measure_module
from gencond_fast.condensation.bank import build_bank
from gencond_fast.condensation.networks import build_networks
from gencond_fast.condensation.task import Task
from gencond_fast.config.options import parse_assignments, resolve
from gencond_fast.data.augment import augment
from gencond_fast.data.normalise import measure
from gencond_fast.data.sample import draw_sample
from gencond_fast.data.source import open_source
from gencond_fast.system.progress import Reporter
from gencond_fast.system.runtime import choose_runtime

pytestmark = pytest.mark.usefixtures("cache")

SMALL = (
    *("networks.width=8", "networks.train_steps=6", "networks.random=1", "networks.trained=2"),
    *("precision=float32", "compile=off", "device=cpu"),
)


def open_task(*assignments, data="digits"):
    config = resolve({"data": data, "out": "."}, parse_assignments([*SMALL, *assignments]))
    source = open_source(data, seed=config.seed, on_bad_image=config.on_bad_image)
    side = source.native_size
    sample = draw_sample(
        source,
        image_size=side,
        per_class=config.networks.train_images,
        max_bytes=10**8,
        seed=config.seed,
    )
    runtime = choose_runtime(config.device, config.precision, config.compile, side)
    return Task(config, source, side, runtime, Reporter(), sample, measure(sample.images))


def files(cache, kind="statistics"):
    return sorted((cache / kind).glob("*.safetensors"))


def images_one_by_one(task):
    """The training images, read from their files by another way than the bank's."""
    for row, label in enumerate(task.source.train.labels):
        with Image.open(task.source.train.where(row)) as picture:
            image = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
        yield task.normalisation(image[None]), int(label)


def brute_force(task, networks, index, transform):
    """count [C], mean [C, D] and sum of squared deviations [C, D] of the features, in float64."""
    found = [[] for _ in range(task.num_classes)]
    networks.select(index)
    with torch.no_grad():
        for image, label in images_one_by_one(task):
            found[label].append(networks.features(augment(image, transform))[0].double())
    stacked = [torch.stack(rows) for rows in found]
    mean = torch.stack([rows.mean(0) for rows in stacked])
    m2 = torch.stack([(rows - rows.mean(0)).square().sum(0) for rows in stacked])
    return torch.tensor([len(rows) for rows in stacked]), mean, m2


@pytest.mark.parametrize("place", range(7))
def test_the_table_is_the_moments_of_all_features(ragged, place):
    task = open_task("networks.trained=1", data=ragged)
    networks = build_networks(task)
    bank = build_bank(task, networks)
    for index, entry in enumerate(bank):
        assert len(entry.augmentations) == 7
        count, mean, m2 = brute_force(task, networks, index, entry.augmentations[place])
        scale = entry.scale.double()
        moments = entry.moments(place, torch.arange(task.num_classes))
        assert torch.equal(moments.count, count)
        torch.testing.assert_close(moments.mean.double() * scale, mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(moments.m2.double() * scale**2, m2, rtol=1e-3, atol=1e-4)


def test_features_are_scaled_to_unit_variance_and_centred_on_the_classes(ragged):
    for entry in build_bank(task := open_task(data=ragged), build_networks(task)):
        within = entry.m2[0].double().sum() / entry.count.sum()
        assert within == pytest.approx(1.0, rel=1e-4)
        torch.testing.assert_close(entry.centre, entry.mean.mean(1))
        assert entry.augmentations[0].operation == "identity"


def test_the_batch_of_the_stream_changes_nothing(cache, monkeypatch):
    task = open_task()
    networks = build_networks(task)
    whole = build_bank(task, networks)
    for path in files(cache):
        path.unlink()
    monkeypatch.setattr(measure_module, "_BATCH", 37)
    for entry, other in zip(whole, build_bank(task, networks), strict=True):
        assert torch.equal(entry.count, other.count)
        torch.testing.assert_close(entry.mean, other.mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(entry.m2, other.m2, rtol=1e-3, atol=1e-5)


def test_a_second_bank_reads_no_image(monkeypatch):
    task = open_task()
    networks = build_networks(task)
    first = build_bank(task, networks)

    def unreadable(*arguments, **options):
        raise AssertionError("the images were read again")

    monkeypatch.setattr(measure_module, "stream", unreadable)
    for entry, other in zip(first, build_bank(task, networks), strict=True):
        assert torch.equal(entry.mean, other.mean)
        assert torch.equal(entry.m2, other.m2)
        assert torch.equal(entry.scale, other.scale)
    # objectives and steps do not touch the statistics
    build_bank(open_task("training.steps=9", "losses.intra=3", "store.per_class=8"), networks)
    with pytest.raises(AssertionError, match="read again"):
        build_bank(open_task("seed=1"), networks)


@pytest.mark.parametrize("kind", ["networks", "statistics"])
@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_cache_is_made_again(cache, kind, damage):
    task = open_task()
    first = build_bank(task, build_networks(task))
    before = [path.read_bytes() for path in files(cache, kind)]
    victim = files(cache, kind)[1]
    content = victim.read_bytes()
    victim.write_bytes({"cut": content[:-5], "empty": b"", "text": b"hello"}[damage])
    second = build_bank(task, build_networks(task))
    assert [path.read_bytes() for path in files(cache, kind)] == before
    for entry, other in zip(first, second, strict=True):
        assert torch.equal(entry.mean, other.mean)


def test_the_same_number_of_images_of_each_class(ragged):
    task = open_task("networks.real_per_class=4", data=ragged)
    counts = build_bank(task, build_networks(task))[0].count
    assert counts.tolist() == [4, 4, 1]
    rows = measure_module.chosen_images(task)
    assert len(set(rows.tolist())) == 9
    other = measure_module.chosen_images(
        open_task("networks.real_per_class=4", "seed=3", data=ragged)
    )
    assert rows.tolist() != other.tolist()


def weights(networks):
    return [
        torch.cat([each[name].flatten() for name in sorted(each)]) for each in networks._weights
    ]


def test_networks_depend_on_the_seed_alone_and_survive_the_cache(cache):
    task = open_task()
    first = weights(build_networks(task))
    from_cache = weights(build_networks(task))
    for path in files(cache, "networks"):
        path.unlink()
    torch.manual_seed(7)  # the global state does not matter
    again = weights(build_networks(task))
    other = weights(build_networks(open_task("seed=1")))
    for a, b, c, d in zip(first, from_cache, again, other, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
        assert not torch.equal(a, d)


def test_networks_are_trained_for_longer_and_longer():
    task = open_task("networks.trained=3", "networks.train_steps=100")
    networks = build_networks(task)
    assert [plan.steps for plan in networks.plans] == [0, 10, 32, 100]
    images = task.normalisation(task.sample.images)
    right = []
    for index in range(len(networks)):
        networks.select(index)
        with torch.no_grad():
            logits = networks.logits(networks.features(images))
        right.append(float((logits.argmax(1) == task.sample.labels).float().mean()))
    assert right[0] < 0.3
    assert right[3] > 0.9
    assert right[1] < right[3]


PEAK = """
import resource, sys
from gencond_fast.cli import main as cli
try:
    cli.main(sys.argv[1:])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


@pytest.mark.slow
def test_memory_is_flat_in_the_number_of_images(tmp_path):
    made = pictures(8, ("ant", "bee"), shape=(64, 64, 3))
    originals = write_tree(tmp_path / "originals", made)

    def peak(images: int) -> float:
        """Megabytes at most, of a run on a tree of so many images of 64 pixels."""
        root = tmp_path / f"{images}"
        for picture in made:
            (root / picture.class_name).mkdir(parents=True, exist_ok=True)
            for copy in range(images // len(made)):
                link = root / picture.class_name / f"{copy}-{picture.name}"
                os.link(originals / picture.class_name / picture.name, link)
        options = ("--bytes", "12KB", "--steps", "2", "--quiet", "--no-check")
        sets = (
            *SMALL,
            "networks.train_images=20",
            "networks.trained=0",
            "networks.num_augmentations=1",
            "networks.real_per_class=null",  # the pass reads all of them
        )
        line = [sys.executable, "-c", PEAK, "condense", "--data", root, *options]
        line += ["--discrepancy", "mean", "--discrepancy", "cf"]
        line += ["--out", tmp_path / f"run {images}", *(f"--set={s}" for s in sets)]
        environment = os.environ | {"GENCOND_FAST_CACHE": str(tmp_path / f"cache {images}")}
        done = subprocess.run(line, capture_output=True, text=True, check=True, env=environment)
        return int(done.stderr.split()[-1]) / 1024

    # the smaller one is more than the batches that are prepared ahead; what the allocator keeps for
    # the threads that decode differs by tens of megabytes from run to run, whatever the number
    few, many = peak(3200), peak(25600)
    additional = (25600 - 3200) * 64 * 64 * 3 / 2**20  # megabytes of pixels, 262
    assert many - few < additional / 3, json.dumps({"few": few, "many": many})
