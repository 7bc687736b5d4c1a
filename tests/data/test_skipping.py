"""What is left out when images cannot be decoded: which, and that nothing else changes by it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_builders import encode, noise, pictures, write_parquet, write_tar, write_tree
from odd_images import BROKEN
from PIL import Image

from gencond_fast.data import draw_sample, open_source, stream
from gencond_fast.data.health.badlist import bad_list_path, write_bad_list
from gencond_fast.data.health.check import check
from gencond_fast.data.health.describe import open_parts
from gencond_fast.data.skipping import BadImage
from gencond_fast.data.stream import Batch
from gencond_fast.errors import InputError
from gencond_fast.system.progress import Reporter

CLASSES = ("ant", "bee", "cow")
BAD = list(BROKEN.values())


@pytest.fixture(autouse=True)
def _no_lists(tmp_path, monkeypatch):
    """Lists are kept by the contents of the data, which tests share."""
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))


def spoilt(root, bad, per_class=8, container="folder"):
    """A set of three classes; the images at `bad` places of reading order are broken."""
    made = {}
    for place, picture in enumerate(pictures(per_class, CLASSES)):
        data = BAD[place % len(BAD)][0] if place in bad else picture.png
        made[f"{picture.class_name}/{picture.name}"] = data
    if container == "tar":
        return str(write_tar(root / "d.tar", made))
    if container == "parquet":
        labels = [place // per_class for place in range(3 * per_class)]
        metadata = {"classes": ",".join(CLASSES)}
        return str(write_parquet(root / "d.parquet", list(made.values()), labels, metadata))
    for name, data in made.items():
        (root / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "d" / name).write_bytes(data)
    return str(root / "d")


def checked(data):
    """Lets a check leave its list."""
    opened, splits = open_parts(data, None)
    report = check(splits, workers=1, reporter=Reporter())
    write_bad_list(bad_list_path(opened.digest, None), report.bad_list)
    return report


def read(source, split="train", **options):
    options = {"channels": 3, "image_size": 8, "batch_size": 5, **options}
    return list(stream(getattr(source, split), **options))


def places(batches):
    return [row for batch in batches for row in batch.indices.tolist()]


@pytest.mark.parametrize("container", ["folder", "tar", "parquet"])
def test_an_undecodable_image_is_an_error_that_says_how_to_go_on(tmp_path, container):
    source = open_source(spoilt(tmp_path, {9}, container=container))
    with pytest.raises(BadImage) as caught:
        read(source)
    text = str(caught.value)
    assert text.startswith(source.train.where(9))
    assert "--on-bad-image skip" in text
    assert "gencond-fast data check" in text


@pytest.mark.parametrize("container", ["folder", "tar", "parquet"])
@pytest.mark.parametrize("known", [False, True])
def test_batches_are_those_of_the_whole_set_less_the_bad_images(tmp_path, container, known):
    bad = {0, 3, 10, 11, 12, 13, 14, 23}
    data = spoilt(tmp_path, bad, container=container)
    if known:
        assert len(checked(data).bad) == len(bad)
    told = []
    source = open_source(data, on_bad_image="skip", tell=told.append)
    assert told.pop(0).startswith("images: read with ")
    good = {p: picture for p, picture in enumerate(pictures(8, CLASSES)) if p not in bad}
    for workers in (1, 3):
        batches = read(source, workers=workers)
        expected = [[p for p in range(at, min(at + 5, 24)) if p in good] for at in range(0, 24, 5)]
        assert [batch.indices.tolist() for batch in batches] == [e for e in expected if e]
        # the batch 10 … 14 has nothing left, and does not appear
        assert [batch.done for batch in batches] == [5, 10, 20, 24]
        for batch in batches:
            assert batch.labels.tolist() == [p // 8 for p in batch.indices.tolist()]
            pixels = np.stack([good[p].pixels for p in batch.indices.tolist()])
            np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1), pixels)
    named = [line for row in sorted(bad) for line in told if source.train.where(row) in line]
    assert named == ([] if known else told)  # once each, in order
    assert len(told) == (0 if known else len(bad))
    count = []
    source.tell_left_out(count.append)
    numbers = "8 known" if known else "0 known"
    assert len(count) == 1
    assert count[0].startswith("left out 8 of 24 images")
    assert numbers in count[0]


def test_known_images_are_not_touched(tmp_path, monkeypatch):
    data = spoilt(tmp_path, {3, 12})
    checked(data)
    source = open_source(data, on_bad_image="skip")
    opened = []
    original = open

    def noted(path, *arguments, **options):
        opened.append(str(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr("builtins.open", noted)
    read(source)
    assert not {source.train.where(3), source.train.where(12)} & set(opened)
    assert source.train.where(4) in opened


def test_a_batch_may_be_resumed_where_it_stood(tmp_path):
    source = open_source(spoilt(tmp_path, {0, 1, 2, 3, 4, 12}), on_bad_image="skip")
    whole = read(source)
    for cut, batch in enumerate(whole):
        rest = read(source, indices=np.arange(batch.done, 24))
        assert places(rest) == places(whole[cut + 1 :])


def test_a_set_without_bad_images_is_the_same_either_way(tmp_path):
    data = spoilt(tmp_path, set())
    strict, lenient = (open_source(data, on_bad_image=mode) for mode in ("error", "skip"))
    assert strict.fingerprint == lenient.fingerprint
    for one, other in zip(read(strict), read(lenient), strict=True):
        assert torch.equal(one.images, other.images)
        assert one.done == other.done
    assert strict.left_out is None
    told = []
    lenient.tell_left_out(told.append)
    assert told == []


def test_the_list_is_part_of_the_key_and_not_of_the_fingerprint(tmp_path):
    data = spoilt(tmp_path, {3, 12})
    before = open_source(data, on_bad_image="skip")
    checked(data)
    after = open_source(data, on_bad_image="skip")
    assert before.left_out != after.left_out
    assert before.fingerprint == after.fingerprint  # an interrupted run is known again
    assert open_source(data).left_out is None


@pytest.mark.parametrize("known", [False, True])
def test_splits_and_classes_map_what_is_known(tmp_path, known):
    bad = {2, 9, 17, 20}
    data = spoilt(tmp_path, bad)
    if known:
        checked(data)
    options = {"val_fraction": 0.4, "seed": 1, "classes": ["cow", "ant"]}
    source = open_source(data, on_bad_image="skip", **options)
    seen = []
    for split in ("train", "val"):
        part = getattr(source, split)
        good = places(read(source, split))
        seen += part.origin(np.array(good)).tolist()
        expected = [p for p in bad if p in part.origin(np.arange(len(part)))]
        assert len(part.skip.known) == (len(expected) if known else 0)
        assert len(part.skip) == len(expected)
    assert sorted(seen) == [p for p in range(24) if p not in bad and p // 8 != 1]


def test_a_listed_test_image_is_not_looked_for_among_those_held_out(tmp_path):
    for part, bad in (("train", {3, 12}), ("val", {0, 1, 13})):
        (tmp_path / "d").mkdir(exist_ok=True)
        Path(spoilt(tmp_path / part, bad)).rename(tmp_path / "d" / part)
    data = str(tmp_path / "d")
    checked(data)
    source = open_source(data, on_bad_image="skip", val_fraction=0.5)
    known = [part.origin(part.skip.known) for part in (source.train, source.val)]
    assert sorted(np.concatenate(known).tolist()) == [3, 12]
    seen = [
        part.origin(np.array(places(read(source, name))))
        for part, name in ((source.train, "train"), (source.val, "val"))
    ]
    assert sorted(np.concatenate(seen).tolist()) == sorted(set(range(24)) - {3, 12})


def test_a_class_left_with_no_image_is_named(tmp_path):
    data = spoilt(tmp_path, set(range(8, 16)))
    met = open_source(data, on_bad_image="skip")
    message = r"d has no image of the class 'bee' that can be decoded; .*--classes"
    with pytest.raises(InputError, match=message):
        draw_sample(met, image_size=8, per_class=2, max_bytes=10**6, seed=0)
    checked(data)
    with pytest.raises(InputError, match=message):
        open_source(data, on_bad_image="skip")
    assert open_source(data, on_bad_image="skip", classes=["ant", "cow"]).channels == 3
    nothing = spoilt(tmp_path / "other", set(range(24)))
    with pytest.raises(InputError, match=r"d holds no image that can be decoded"):
        open_source(nothing, on_bad_image="skip")


@pytest.mark.parametrize("known", [False, True])
def test_the_next_images_stand_in_for_bad_ones_in_a_sample(tmp_path, known):
    bad = {0, 1, 2, 3, 4, 5, 9, 14, 23}
    whole = draw_sample(
        open_source(spoilt(tmp_path / "whole", set())),
        image_size=8, per_class=8, max_bytes=10**6, seed=7,
    )  # fmt: skip
    (tmp_path / "spoilt").mkdir()
    data = spoilt(tmp_path / "spoilt", bad)
    if known:
        checked(data)
    source = open_source(data, on_bad_image="skip")
    of = {picture.pixels.tobytes(): p for p, picture in enumerate(pictures(8, CLASSES))}
    order = [of[image.permute(1, 2, 0).numpy().tobytes()] for image in whole.images]
    for per_class in (1, 3, 8):
        sample = draw_sample(source, image_size=8, per_class=per_class, max_bytes=10**6, seed=7)
        got = [of[image.permute(1, 2, 0).numpy().tobytes()] for image in sample.images]
        expected = [
            [p for p in order if p // 8 == label and p not in bad][:per_class] for label in range(3)
        ]
        assert got == [p for part in expected for p in part]
        assert sample.labels.tolist() == [p // 8 for p in got]


@given(
    st.sets(st.integers(0, 23), max_size=20),
    st.sets(st.integers(0, 23)),
    st.integers(1, 9),
)
def test_a_read_gives_the_good_images_asked_for(tmp_path_factory, bad, wanted, batch_size):
    source = open_source(spoilt(tmp_path_factory.mktemp("set"), bad), on_bad_image="skip")
    rows = np.array(sorted(wanted), dtype=np.int64)
    batches: list[Batch] = read(source, indices=rows, batch_size=batch_size)
    assert places(batches) == [p for p in sorted(wanted) if p not in bad]
    for batch in batches:
        start = (batch.done - 1) // batch_size * batch_size
        part = rows[start : batch.done]
        assert batch.indices.tolist() == [p for p in part.tolist() if p not in bad]


def test_what_decides_on_channels_and_size_can_be_decoded(tmp_path):
    """The first image is larger, the only one in colour, and cut short."""
    root = write_tree(tmp_path / "d", pictures(3, ("ant", "bee"), shape=(8, 8)))
    photo = encode(Image.fromarray(noise(30, 30, 3)), "JPEG")
    (root / "ant" / "0.jpg").write_bytes(photo[:-300])
    strict = open_source(str(root))
    assert (strict.channels, strict.native_size) == (3, 30)  # by its header
    met = open_source(str(root), on_bad_image="skip")
    checked(str(root))
    known = open_source(str(root), on_bad_image="skip")
    for source in (met, known):
        assert (source.channels, source.native_size) == (1, 8)


def test_a_file_that_is_gone_is_an_error_in_both_modes(tmp_path):
    """It may come back: what it decides must not depend on the day."""
    data = spoilt(tmp_path, set())
    for mode in ("error", "skip"):
        source = open_source(data, on_bad_image=mode)
        with open(source.train.where(5), "rb") as file:
            kept = file.read()
        os.unlink(source.train.where(5))
        with pytest.raises(InputError, match="0005.png is gone since the source was opened"):
            read(source)
        with open(source.train.where(5), "wb") as file:
            file.write(kept)


def test_memory_that_runs_out_is_no_fault_of_the_image(tmp_path, monkeypatch):
    source = open_source(spoilt(tmp_path, set()), on_bad_image="skip", reader="threads")

    def starved(image):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", starved)
    with pytest.raises(MemoryError):
        read(source, image_size=4)


def test_the_error_travels_between_processes():
    error = BadImage("a.png", "is empty (0 bytes)", "drop the row")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.where, again.reason) == (str(error), error.where, error.reason)
