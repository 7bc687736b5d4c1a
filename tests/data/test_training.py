"""Shuffled epochs: every image once, the same for any number of ranks, gone on with exactly."""

from __future__ import annotations

import gc
import os
import threading
import tracemalloc
from collections import Counter
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_builders import (
    encode,
    noise,
    pictures,
    tar_members,
    write_npz,
    write_parquet,
    write_tar,
    write_tree,
)
from PIL import Image

from gencond_fast.data import RandomCrop, open_source, stream, training, training_batches
from gencond_fast.data.formats.arrays import ArraySplit
from gencond_fast.data.formats.opening import open_data
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.errors import InputError

KINDS = ("tree", "tar", "parquet", "npz", "npz compressed")
OPTIONS = {"channels": 3, "image_size": 8, "batch_size": 5, "seed": 0, "epoch": 0}
PER_CLASS = 11
N = 3 * PER_CLASS


def written(root, kind, made):
    if kind == "tree":
        return write_tree(root / "tree", made)
    if kind == "tar":
        return write_tar(root / "made.tar", tar_members(made))
    if kind == "parquet":
        names = sorted({p.class_name for p in made})
        labels = [names.index(p.class_name) for p in made]
        about = {"classes": ",".join(names)}
        return write_parquet(root / "made.parquet", [p.png for p in made], labels, about)
    return write_npz(root / "made.npz", made, compressed="compressed" in kind)


@pytest.fixture(params=KINDS)
def split(request, tmp_path):
    return open_source(str(written(tmp_path, request.param, pictures(PER_CLASS)))).train


@pytest.fixture
def small_pools(monkeypatch):
    """Pools of about a dozen of the pictures, in arrays and encoded."""
    monkeypatch.setattr(training, "_POOL_BYTES", 12 * 8 * 8 * 3)


def epoch_of(split, **options):
    return list(training_batches(split, **(OPTIONS | options)))


def rows_of(batches):
    return [row for batch in batches for row in batch.indices.tolist()]


def images_of(batches):
    return {
        row: image
        for batch in batches
        for row, image in zip(batch.indices.tolist(), batch.images, strict=True)
    }


def gencond_threads():
    return [t.name for t in threading.enumerate() if t.name.startswith("gencond-")]


# one rank


@pytest.mark.parametrize("pools", ["small", "one"])
def test_every_image_once_with_its_pixels_and_label(split, pools, request):
    if pools == "small":
        request.getfixturevalue("small_pools")
    orders = set()
    for epoch in (0, 1):
        batches = epoch_of(split, epoch=epoch)
        assert [len(batch.labels) for batch in batches] == [5] * 6 + [3]
        assert [batch.done for batch in batches] == [5, 10, 15, 20, 25, 30, 33]
        rows = rows_of(batches)
        assert sorted(rows) == list(range(N))
        assert rows != sorted(rows)
        orders.add(tuple(rows))
        for batch in batches:
            assert batch.indices.tolist() == sorted(batch.indices.tolist())
            assert batch.labels.tolist() == split.labels[batch.indices].tolist()
        made = pictures(PER_CLASS)
        for row, image in images_of(batches).items():
            assert np.array_equal(image.permute(1, 2, 0).numpy(), made[row].pixels)
    assert len(orders) == 2
    assert rows_of(epoch_of(split, epoch=1)) == rows


def test_pools_are_mixed(tmp_path, monkeypatch):
    made = pictures(64, classes=("ant", "bee", "cow", "dog"))
    for kind in ("parquet", "npz"):
        split = open_source(str(written(tmp_path, kind, made))).train
        monkeypatch.setattr(training, "_POOL_BYTES", 64 * split.split.serial_bytes)
        rows = np.array(rows_of(epoch_of(split, batch_size=1)))
        assert sorted(rows) == list(range(256))
        # four images of a stretch are in one pool, and apart in it
        place = np.argsort(rows)
        apart = [np.ptp(place[at : at + 4]) for at in range(0, 256, 4)]
        assert max(apart) < 72
        assert np.median(apart) > 16
        # batches of a sorted source are not of one class
        classes = [len(set(split.labels[rows[at : at + 16]])) for at in range(0, 256, 16)]
        assert np.mean(classes) > 3


def test_no_image_no_batch():
    none = ArraySplit(np.zeros((0, 4, 4, 1), np.uint8), np.zeros(0, np.int64), "nothing")
    empty = ImageReader(none)
    assert epoch_of(empty, channels=1, image_size=4) == []
    assert epoch_of(empty, channels=1, image_size=4, balanced=True) == []


def test_one_image(tmp_path):
    split = ImageReader(ArraySplit(noise(1, 4, 4, 3), np.zeros(1, np.int64), "one"))
    (batch,) = epoch_of(split, image_size=4)
    assert (batch.indices.tolist(), batch.done) == ([0], 1)


def test_chosen_classes_alone(tmp_path, split, small_pools):
    kind = "tree" if (tmp_path / "tree").exists() else next(tmp_path.glob("made.*")).name
    some = open_source(str(tmp_path / kind), classes=["ant", "cow"]).train
    assert (some.split.serial_bytes is None) == (split.split.serial_bytes is None)
    batches = epoch_of(some)
    assert sorted(rows_of(batches)) == list(range(2 * PER_CLASS))
    made = [p for p in pictures(PER_CLASS) if p.class_name != "bee"]
    for row, image in images_of(batches).items():
        assert np.array_equal(image.permute(1, 2, 0).numpy(), made[row].pixels)


@pytest.mark.parametrize("kind", ["tree", "parquet"])
def test_balanced_classes_repeat_their_images(tmp_path, kind, small_pools):
    made = pictures(2, classes=("ant",)) + pictures(20, classes=("bee", "cow"), seed=1)
    split = open_source(str(written(tmp_path, kind, made))).train
    seen = Counter()
    for epoch in range(3):
        batches = epoch_of(split, balanced=True, batch_size=9, epoch=epoch, crop=True)
        rows = rows_of(batches)
        assert np.bincount(split.labels[rows]).tolist() == [14, 14, 14]
        assert {Counter(rows)[row] for row in (0, 1)} == {7}
        assert [len(batch.images) for batch in batches] == [9] * 4 + [6]
        assert any(len(set(b.indices.tolist())) < len(b.indices) for b in batches)
        plain = images_of(epoch_of(split, crop=RandomCrop(0, epoch)))
        for batch in batches:
            assert batch.labels.tolist() == split.labels[batch.indices].tolist()
            for row, image in zip(batch.indices.tolist(), batch.images, strict=True):
                assert torch.equal(image, plain[row])
        seen.update(rows)
    assert {seen[row] for row in range(2, 42)} == {2, 3}  # 42 of 20


# ranks


@settings(max_examples=25)
@given(
    st.integers(1, 40),
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(0, 99),
    st.booleans(),
    st.booleans(),
)
def test_ranks_have_the_steps_of_one(count, batch_size, world, epoch, serial, balanced):
    labels = np.arange(count) % 3
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None]
    split = ImageReader(ArraySplit(pixels, labels, "numbers"))
    split.split.serial_bytes = training._POOL_BYTES // 10 if serial else None
    options = {"channels": 1, "image_size": 1, "batch_size": batch_size, "epoch": epoch}
    alone = epoch_of(split, balanced=balanced, **options)
    ranks = [
        epoch_of(split, balanced=balanced, rank=rank, world=world, **options)
        for rank in range(world)
    ]
    assert {len(batches) for batches in ranks} == {len(alone)}
    for whole, *parts in zip(alone, *ranks, strict=True):
        assert {part.done for part in parts} == {whole.done}
        assert sorted(rows_of(parts)) == sorted(rows_of([whole]))
        sizes = [len(part.labels) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        for part in parts:
            assert part.images.shape == (len(part.labels), 1, 1, 1)
            assert part.images.flatten().tolist() == part.indices.tolist()
    if not balanced:
        assert sorted(rows_of(alone)) == list(range(count))


def test_ranks_of_every_source_see_the_same_windows(split, small_pools):
    whole = images_of(epoch_of(split, crop=True))
    parts = [images_of(epoch_of(split, crop=True, rank=rank, world=3)) for rank in range(3)]
    assert sum(map(len, parts)) == N
    for part in parts:
        for row, image in part.items():
            assert torch.equal(image, whole[row])


# going on


@pytest.mark.parametrize("balanced", [False, True])
def test_the_rest_is_what_it_would_have_been(split, small_pools, balanced):
    options = {"crop": True, "balanced": balanced, "epoch": 4}
    whole = epoch_of(split, **options)
    for step, batch in enumerate(whole):
        rest = epoch_of(split, start=batch.done, **options)
        assert len(rest) == len(whole) - step - 1
        for got, want in zip(rest, whole[step + 1 :], strict=True):
            assert torch.equal(got.indices, want.indices)
            assert torch.equal(got.images, want.images)
            assert got.done == want.done
    done = whole[2].done
    others = epoch_of(split, start=done, rank=0, world=2, batch_size=4, **options)
    others += epoch_of(split, start=done, rank=1, world=2, batch_size=4, **options)
    assert sorted(rows_of(others)) == sorted(rows_of(whole[3:]))


# bad images


def spoilt(tmp_path, bad):
    made = [p.png for p in pictures(PER_CLASS)]
    for row in bad:
        made[row] = b"no image"
    labels = [row // PER_CLASS for row in range(N)]
    return write_parquet(tmp_path / "spoilt.parquet", made, labels)


def test_a_bad_image_is_named(tmp_path):
    split = open_source(str(spoilt(tmp_path, [20]))).train
    with pytest.raises(InputError, match=r"row 20 of .*spoilt.parquet is no image"):
        epoch_of(split)
    assert not gencond_threads()


def test_a_missing_image_is_named_or_left_out(tmp_path):
    made = [p.png for p in pictures(PER_CLASS)]
    made[7] = None
    path = write_parquet(tmp_path / "m.parquet", made, [row // PER_CLASS for row in range(N)])
    with pytest.raises(InputError, match=r"row 7 of .*m.parquet has no image"):
        epoch_of(open_source(str(path)).train)
    split = open_source(str(path), on_bad_image="skip").train
    assert sorted(rows_of(epoch_of(split))) == [row for row in range(N) if row != 7]


def test_bad_images_leave_holes_and_every_rank_its_steps(tmp_path):
    sound = open_source(str(spoilt(tmp_path, []))).train
    order = [batch.indices.tolist() for batch in epoch_of(sound, batch_size=4)]
    bad = [*order[2], order[5][0]]  # a whole step, and one image of another
    split = open_source(str(spoilt(tmp_path, bad)), on_bad_image="skip").train
    for _ in range(2):  # first met, then known
        alone = epoch_of(split, batch_size=4)
        want = [[row for row in step if row not in bad] for step in order]
        assert [batch.indices.tolist() for batch in alone] == [step for step in want if step]
        ranks = [epoch_of(split, batch_size=4, rank=rank, world=2) for rank in (0, 1)]
        for step, *parts in zip(want, *ranks, strict=True):
            assert sorted(rows_of(parts)) == step
        assert {len(batch.images) for batch in (ranks[0][2], ranks[1][2])} == {0}
        assert ranks[0][2].images.shape == (0, 3, 8, 8)
        assert ranks[0][2].done == 12
        balanced = epoch_of(split, balanced=True, batch_size=4)
        assert not set(rows_of(balanced)) & set(bad)
    assert sorted(split.skip.found) == sorted(bad)


# what is open, and what is held


def open_files(path):
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # threads of libraries open and close files as well
            target = os.readlink(f"/proc/self/fd/{number}")
            found += [number] if target == os.path.realpath(path) else []
    return found


@pytest.mark.parametrize("kind", ["tar", "parquet", "npz"])
@pytest.mark.parametrize("end", ["close", "drop", "exhaust"])
def test_files_and_threads_end_with_the_iterator(tmp_path, kind, end, small_pools):
    path = written(tmp_path, kind, pictures(60))
    split = open_source(str(path), reader="threads").train
    batches = training_batches(split, **OPTIONS, crop=True, workers=2)
    for step, _ in enumerate(batches):
        assert len(open_files(path)) <= 5  # those of the few batches ahead
        if step == 8 and end != "exhaust":
            assert gencond_threads()
            break
    if end == "close":
        batches.close()
    del batches
    gc.collect()
    assert not gencond_threads()
    assert not open_files(path)


def test_a_pool_is_all_that_is_held(tmp_path, monkeypatch):
    """Also of a few classes of many, whose neighbours are read but not kept."""
    image = encode(Image.fromarray(noise(100, 100, 3)))  # 30 kB
    count = 960
    labels = [row % 12 for row in range(count)]
    path = write_parquet(tmp_path / "large.parquet", [image] * count, labels, rows_per_group=20)
    monkeypatch.setattr(training, "_POOL_BYTES", 40 * len(image))
    for classes, wanted in ((None, count), (["0", "1"], count // 6)):
        split = open_source(str(path), classes=classes, reader="threads").train
        split.split.serial_bytes = len(image)  # the file itself holds equal images once
        tracemalloc.start()
        before = pa.total_allocated_bytes()
        seen, arrow = 0, 0
        for batch in training_batches(split, **(OPTIONS | {"image_size": 16})):
            seen += len(batch.labels)
            arrow = max(arrow, pa.total_allocated_bytes() - before)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seen == wanted
        # two pools of up to an eighth more, the batches ahead, and a row group
        assert peak + arrow < (2 * 45 + 3 * 5 + 20) * len(image) + 2**20


def test_the_average_size_of_parquet_images_is_known(tmp_path):
    images = [noise(size).tobytes() for size in range(1000, 3000, 40)]
    labels = [row % 2 for row in range(50)]
    path = write_parquet(tmp_path / "sizes.parquet", images, labels, rows_per_group=50)
    assert open_data(str(path)).train.serial_bytes == pytest.approx(1980, rel=0.05)


def test_stream_and_training_agree(split):
    (whole,) = stream(split, channels=3, image_size=6, batch_size=N)
    for row, image in images_of(epoch_of(split, image_size=6)).items():
        assert torch.equal(image, whole.images[row])


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": 2},
        {"image_size": 0},
        {"batch_size": 0},
        {"workers": 0},
        {"epoch": -1},
        {"start": -1},
        {"rank": 1},
        {"rank": -1, "world": 2},
    ],
)
def test_wrong_arguments_fail_at_once(split, wrong):
    with pytest.raises(ValueError, match="must be|out of range"):
        training_batches(split, **(OPTIONS | wrong))
