"""Baselines of image codecs: real images, as many as fit, stored as they are counted."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from command_line import call
from hypothesis import given, settings
from hypothesis import strategies as st
from image_builders import Picture, write_npz
from PIL import Image

from gencond_fast.config import EvaluateConfig
from gencond_fast.config.options import parse
from gencond_fast.data import draw_sample, open_source
from gencond_fast.errors import InputError
from gencond_fast.evaluation import evaluate, training_sets
from gencond_fast.evaluation.codec_baseline import fit_coded, usual_quality
from gencond_fast.evaluation.codecs import encode
from gencond_fast.store.artifact import load
from gencond_fast.system.rng import derive_seed
from gencond_fast.training import train as train_module

MEMORY = 10**8


def made(root, counts, channels=3, side=12):
    """Classes of so many images, smooth ones and noisy ones, whose sizes as JPEG differ."""
    rng = np.random.default_rng(0)
    pictures = []
    for label, count in enumerate(counts):
        for place in range(count):
            spread = rng.choice([0, 8, 255])
            noise = rng.integers(0, spread + 1, (side, side, channels))
            pixels = (rng.integers(0, 256 - spread, channels) + noise).astype(np.uint8)
            pixels = pixels[..., 0] if channels == 1 else pixels
            pictures.append(Picture("abcdef"[label], f"{place}.png", pixels))
    return open_source(str(write_npz(root / "set.npz", pictures)))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return made(tmp_path_factory.mktemp("ragged"), [40, 7, 23])


def saved(image: torch.Tensor, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(image.permute(1, 2, 0).numpy().squeeze())
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def file_of(image: torch.Tensor, codec: str = "jpeg", **options) -> bytes:
    """An ordinary file."""
    quality = {"quality": usual_quality(codec)}
    if codec == "avif":
        colour = {"subsampling": "4:4:4" if len(image) == 3 else "4:0:0"}
        rgb = image.expand(3, -1, -1)
        return saved(rgb, "AVIF", **quality, **colour, speed=0, max_threads=1, **options)
    colour = {"subsampling": 2} if len(image) == 3 else {}
    return saved(image, "JPEG", **quality, **colour, **options)


@settings(max_examples=15)
@given(max_bytes=st.integers(0, 16_000), seed=st.integers(0, 5))
def test_as_many_of_each_class_as_fit_and_no_more(source, max_bytes, seed):
    options = {"image_size": 12, "max_memory": MEMORY, "seed": seed}
    found = fit_coded(source, "jpeg", quality=20, max_bytes=max_bytes, **options)
    sample = draw_sample(source, image_size=12, per_class=99, max_bytes=MEMORY, seed=seed)
    classes = [sample.images[sample.labels == label] for label in range(3)]
    tables = len(file_of(classes[0][0], streamtype=1)) - 2

    def weight(per_class):
        kept = (image for images in classes for image in images[:per_class])
        # a stream without tables begins with a marker that the tables have already
        return tables + sum(len(file_of(image, streamtype=2)) - 2 for image in kept)

    expected = max((n for n in range(1, 41) if weight(n) <= max_bytes), default=0)
    assert found.per_class == expected
    counts = torch.bincount(found.labels, minlength=3).tolist()
    assert counts == [min(expected, len(images)) for images in classes]
    assert found.size == (weight(expected) if expected else 0)


@pytest.mark.parametrize("codec", ["jpeg", "avif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_those_of_ordinary_files_of_this_quality(tmp_path, codec, channels):
    source = made(tmp_path, [9, 9], channels)
    options = {"image_size": 12, "max_bytes": 10**6, "max_memory": MEMORY, "seed": 1}
    found = fit_coded(source, codec, quality=usual_quality(codec), **options)
    sample = draw_sample(source, image_size=12, per_class=9, max_bytes=MEMORY, seed=1)
    assert torch.equal(found.labels, sample.labels)
    images = found.decoded()
    assert images.dtype == torch.uint8
    for image, original in zip(images, sample.images, strict=True):
        with Image.open(io.BytesIO(file_of(original, codec))) as picture:
            mode = "L" if channels == 1 else "RGB"
            expected = np.array(picture.convert(mode)).reshape(12, 12, channels)
        assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)
    assert not torch.equal(images, sample.images)
    some = found.first(4)
    assert torch.equal(some.decoded(), images[[0, 1, 2, 3, 9, 10, 11, 12]])
    assert some.labels.tolist() == [0] * 4 + [1] * 4


@settings(max_examples=10)
@given(side=st.integers(8, 40), quality=st.integers(5, 90), seed=st.integers(0, 99))
def test_what_avif_files_have_in_common_is_the_same_for_all(side, quality, seed):
    """Taken off are container and sequence header: only sizes in them tell images apart."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (2, side, side, 3)).astype(np.uint8)
    pixels[1] //= 9
    files = [encode("avif", each, quality) for each in pixels]
    heads = [each.file[: each.shared] for each in files]
    assert abs(len(heads[0]) - len(heads[1])) <= 1  # a size may take another byte
    if len(heads[0]) == len(heads[1]):
        differing = [i for i, (a, b) in enumerate(zip(*heads, strict=True)) if a != b]
        assert len(differing) <= 10
    # the rest is all there is of a picture: without it nothing can be decoded
    for each in files:
        with (
            pytest.raises(Exception, match=r".*"),
            Image.open(io.BytesIO(each.file[: -each.own])) as picture,
        ):
            picture.load()


def test_memory_bounds_what_is_drawn(source):
    options = {"image_size": 12, "max_bytes": 10**6, "max_memory": 5 * 3 * 432, "seed": 0}
    found = fit_coded(source, "jpeg", quality=20, **options)
    assert found.per_class == 5


# in an evaluation


def judge(run, **options):
    given = {"run": str(run), "data": "digits", "seeds": 2, "epochs": 1, "device": "cpu"}
    return evaluate(parse(EvaluateConfig, given | options))


@pytest.fixture
def learned(monkeypatch):
    """What students were given, in place of training them."""
    given = []
    held = training_sets.held

    def noted(images_of, labels, protocol):
        given.append((images_of(0), labels))
        return held(images_of, labels, protocol)

    monkeypatch.setattr(training_sets, "held", noted)
    monkeypatch.setattr(train_module, "train_student", lambda *given, **options: 1)
    return given


def test_the_baseline_fills_the_bytes_of_the_file(tiny_run, learned):
    result = judge(tiny_run, baselines=["jpeg"], seeds=3)
    row = result.rows[1]
    assert (row.training_set, len(row.accuracies)) == ("jpeg", 3)
    size = (tiny_run / "condensed.safetensors").stat().st_size
    options = {"image_size": 8, "max_bytes": size, "max_memory": MEMORY}
    seeds = [derive_seed(seed, "random control") % 2**32 for seed in range(3)]
    options |= {"quality": 20}
    fitting = [fit_coded(open_source("digits"), "jpeg", seed=seed, **options) for seed in seeds]
    assert row.images_per_class == min(each.per_class for each in fitting) > 3
    mean, std = load(tiny_run).metadata.mean[0], load(tiny_run).metadata.std[0]
    for each, (images, labels) in zip(fitting, learned[3:], strict=True):
        kept = each.first(row.images_per_class)
        assert kept.size <= size
        assert labels.tolist() == kept.labels.tolist()
        expected = (kept.decoded() / 255 - mean) / std
        torch.testing.assert_close(images, expected, rtol=1e-5, atol=1e-5)


def test_some_classes_have_their_share_of_the_bytes(tiny_run, learned):
    whole, part = (
        judge(tiny_run, baselines=["jpeg"], **options).rows[1].images_per_class
        for options in ({}, {"classes": ["3", "8"]})
    )
    assert whole // 2 <= part <= whole  # the tables are shared by fewer images
    assert set(learned[-1][1].tolist()) == {0, 1}


def test_too_few_bytes_are_told_before_anyone_is_taught(tiny_run, tmp_path, learned, monkeypatch):
    monkeypatch.setattr(
        training_sets,
        "fit_coded",
        lambda *given, max_bytes, **options: fit_coded(
            *given, max_bytes=max_bytes // 20, **options
        ),
    )
    with pytest.raises(
        InputError, match="too few for one image of each of 10 classes as JPEG of quality"
    ):
        judge(tiny_run, baselines=["jpeg"])
    assert not learned


def test_the_command_line_has_it(tiny_run):
    done = call(
        "evaluate", tiny_run, "--data", "digits", "--seeds", 1, "--epochs", 1, "--baseline", "jpeg"
    )
    assert done.code == 0, done.err
    assert "jpeg" in done.out
    assert "--set baseline.quality=Q" in " ".join(call("evaluate", "--help").out.split())


def test_other_qualities_and_raw_images(tmp_path, tiny_run, learned):
    coarse, fine = (
        judge(tiny_run, baselines=["avif"], baseline={"quality": quality}).rows[1].images_per_class
        for quality in (10, 90)
    )
    assert coarse > fine
    row = judge(tiny_run, baselines=["raw"]).rows[1]
    assert row.images_per_class == load(tiny_run).metadata.store.per_class
    images, labels = learned[-1]
    mean, std = load(tiny_run).metadata.mean[0], load(tiny_run).metadata.std[0]
    levels = (images * std + mean) * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)
    assert torch.bincount(labels).tolist() == [row.images_per_class] * 10
