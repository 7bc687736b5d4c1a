"""Baselines of image codecs: real images, as many as fit, stored as they are counted."""

from __future__ import annotations

import io
import re

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
from gencond_fast.evaluation import codec_cache, evaluate, training_sets
from gencond_fast.evaluation.codec_baseline import choose_quality, fit_coded, quality_of
from gencond_fast.evaluation.codec_cache import encode_all
from gencond_fast.exporting.codecs import Coded, avif, decode, encode
from gencond_fast.store.artifact import load
from gencond_fast.system.rng import derive_seed
from gencond_fast.training import train as train_module

MEMORY = 10**8
QUALITY = 20
MARKERS = b"\xff\xd8", b"\xff\xd9"  # that begin and end a JPEG file


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
    quality = {"quality": QUALITY}
    if codec == "avif":
        colour = {"subsampling": "4:4:4" if len(image) == 3 else "4:0:0"}
        rgb = image.expand(3, -1, -1)
        return saved(rgb, "AVIF", **quality, **colour, speed=0, max_threads=1, **options)
    colour = {"subsampling": 2} if len(image) == 3 else {}
    return saved(image, "JPEG", **quality, **colour, **options)


def scan_of(file: bytes) -> bytes:
    """What follows the last header of a JPEG file; codes never hold this marker."""
    start = file.rindex(b"\xff\xda") + 2
    return file[start + int.from_bytes(file[start : start + 2]) : -len(MARKERS[1])]


@settings(max_examples=15)
@given(max_bytes=st.integers(0, 16_000), seed=st.integers(0, 5))
def test_as_many_of_each_class_as_fit_and_no_more(source, max_bytes, seed):
    options = {"image_size": 12, "max_memory": MEMORY, "seed": seed}
    found = fit_coded(source, "jpeg", quality=20, max_bytes=max_bytes, **options)
    sample = draw_sample(source, image_size=12, per_class=99, max_bytes=MEMORY, seed=seed)
    classes = [sample.images[sample.labels == label] for label in range(3)]

    def weight(per_class):
        kept = (image for images in classes for image in images[:per_class])
        return sum(len(scan_of(file_of(image))) for image in kept)

    expected = max((n for n in range(1, 41) if weight(n) <= max_bytes), default=0)
    assert found.per_class == expected
    counts = torch.bincount(found.labels, minlength=3).tolist()
    assert counts == [min(expected, len(images)) for images in classes]
    assert found.size == weight(expected)


@pytest.mark.parametrize("codec", ["jpeg", "avif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_those_of_ordinary_files_of_this_quality(tmp_path, codec, channels):
    source = made(tmp_path, [9, 9], channels)
    options = {"image_size": 12, "max_bytes": 10**6, "max_memory": MEMORY, "seed": 1}
    found = fit_coded(source, codec, quality=QUALITY, **options)
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


def pair(side: int, channels: int, seed: int) -> np.ndarray:
    """Two images that have nothing in common: uint8 [2, side, side, channels]."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (2, side, side, channels)).astype(np.uint8)
    pixels[1] //= 9
    return pixels


SIDES, QUALITIES = st.integers(8, 40), st.integers(5, 90)
CHANNELS, SEEDS = st.sampled_from([1, 3]), st.integers(0, 99)


@settings(max_examples=10)
@given(side=SIDES, quality=QUALITIES, channels=CHANNELS, seed=SEEDS)
def test_a_jpeg_file_is_that_of_another_image_but_for_what_is_counted(
    side, quality, channels, seed
):
    pixels = pair(side, channels, seed)
    one, other = (encode("jpeg", each, quality) for each in pixels)
    assert one.own == len(scan_of(one.file))
    scan = scan_of(other.file)
    assert len(scan) == other.own
    mixed = one.file[: -one.own - 2] + scan + MARKERS[1]
    assert np.array_equal(decode(mixed, channels), decode(other.file, channels))


def unit(size: int) -> bytes:
    """The header of an AV1 frame of so many bytes: type 6, with a size in groups of seven bits."""
    groups = [size & 127]
    while size := size >> 7:
        groups.append(size & 127)
    return bytes([6 << 3 | 2, *(each | 128 for each in groups[:-1]), groups[-1]])


def with_frame(file: bytes, old: int, frame: bytes) -> bytes:
    """An AVIF file with another frame in place of its own, the last `old` bytes."""
    before = file[: -old - len(unit(old))]
    assert file[len(before) : -old] == unit(old)
    content = before.index(b"mdat") + 4
    stream = before[content:] + unit(len(frame)) + frame
    locations = before.index(b"iloc") - 4
    last = locations + int.from_bytes(before[locations : locations + 4])  # a size ends the box
    size = len(stream)
    return b"".join(
        (
            before[: last - 4],
            size.to_bytes(4),
            before[last : content - 8],
            (size + 8).to_bytes(4),
            b"mdat",
            stream,
        )
    )


@settings(max_examples=10)
@given(side=SIDES, quality=QUALITIES, channels=CHANNELS, seed=SEEDS)
def test_an_avif_file_is_that_of_another_image_but_for_its_frame_and_sizes(
    side, quality, channels, seed
):
    pixels = pair(side, channels, seed)
    one, other = (encode("avif", each, quality) for each in pixels)
    assert with_frame(one.file, one.own, one.file[-one.own :]) == one.file
    mixed = with_frame(one.file, one.own, other.file[-other.own :])
    assert mixed == other.file
    assert not np.array_equal(decode(mixed, channels), decode(one.file, channels))


def test_avif_tuned_for_the_error_has_less_of_it_at_the_same_bytes():
    row, column = np.mgrid[:32, :32] / 32
    waves = [np.sin(9 * row * place + 5 * column) for place in (1, 2, 3)]
    rng = np.random.default_rng(0)
    pixels = 128 + 60 * np.stack(waves, -1) + rng.normal(size=(32, 32, 3)) * 12
    pixels = pixels.clip(0, 255).astype(np.uint8)

    def measured(quality, tuning):
        coded = avif(pixels, quality, tuning=tuning)
        return coded.own, np.square(decode(coded.file, 3) / 255.0 - pixels / 255.0).mean()

    usual, tuned = (
        np.log([measured(quality, tuning) for quality in range(20, 60, 5)])
        for tuning in ("eye", "error")
    )
    sizes = np.linspace(max(usual[0, 0], tuned[0, 0]), min(usual[-1, 0], tuned[-1, 0]), 9)
    assert (np.interp(sizes, *tuned.T) < np.interp(sizes, *usual.T)).all()


@pytest.mark.parametrize("codec", ["jpeg", "avif"])
def test_quality_is_the_best_that_images_may_weigh(source, codec):
    sample = draw_sample(source, image_size=12, per_class=3, max_bytes=MEMORY, seed=0)
    pixels = sample.images.permute(0, 2, 3, 1).numpy()

    def mean(quality):
        return np.mean([encode(codec, each, quality).own for each in pixels])

    assert quality_of(codec, pixels, 1.0) == 5
    assert quality_of(codec, pixels, 1e6) == 95
    for wanted in (mean(40), mean(40) + 1e-6, mean(80) + 0.1):
        found = quality_of(codec, pixels, wanted)
        assert mean(found) <= wanted < mean(found + 5)


def test_quality_grows_with_the_bytes_and_fills_them(source):
    options = {"image_size": 12, "max_memory": MEMORY, "seed": 0}
    chosen = [
        choose_quality(source, "jpeg", max_bytes=size, **options) for size in (300, 3000, 30_000)
    ]
    assert chosen == sorted(chosen)
    assert chosen[0] < chosen[-1]
    # all 70 images fit: the bytes would be left over at a lower quality
    found = fit_coded(source, "jpeg", quality=chosen[-1], max_bytes=30_000, **options)
    assert len(found.images) == 70


def test_what_was_encoded_is_found_again(monkeypatch):
    pixels = np.concatenate([pair(16, 3, 0), pair(16, 3, 1)])
    first = encode_all("avif", pixels, 30)
    assert first == [encode("avif", each, 30) for each in pixels]

    def refuse(*given, **options):
        raise AssertionError

    monkeypatch.setattr(codec_cache, "encode", refuse)
    assert encode_all("avif", pixels, 30) == first
    assert isinstance(first[0], Coded)
    for others, quality in ((pixels, 31), (pixels[::-1], 30), (pixels[:3], 30)):
        with pytest.raises(AssertionError):
            encode_all("avif", others, quality)


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
    chosen = choose_quality(open_source("digits"), "jpeg", seed=seeds[0], **options)
    assert row.quality == chosen
    options |= {"quality": chosen}
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
        judge(tiny_run, baselines=["jpeg"], baseline={"quality": 20}, **options).rows[1]
        for options in ({}, {"classes": ["3", "8"]})
    )
    assert abs(whole.images_per_class - part.images_per_class) <= whole.images_per_class / 4
    assert (whole.quality, part.quality) == (20, 20)
    assert set(learned[-1][1].tolist()) == {0, 1}


def test_too_few_bytes_are_told_before_anyone_is_taught(tiny_run, tmp_path, learned, monkeypatch):
    monkeypatch.setattr(
        training_sets,
        "fit_coded",
        lambda *given, max_bytes, **options: fit_coded(
            *given, max_bytes=max_bytes // 100, **options
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
    assert re.search(r"^jpeg: quality \d+$", done.out, re.MULTILINE)
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
