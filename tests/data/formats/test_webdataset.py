"""Shards of a WebDataset, also those that this program exports."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
from command_line import call
from image_builders import pictures, write_tar
from test_data_source import read_all

import gencond_fast as gf
from gencond_fast.data import open_source
from gencond_fast.errors import InputError

MADE = pictures(4)
NUMBERS = [0] * 4 + [1] * 4 + [2] * 4


def shard(path, rows, label=lambda row: {".cls": str(NUMBERS[row])}, folder=""):
    members = {}
    for row in rows:
        members[f"{folder}{row:06d}.png"] = MADE[row].png
        members |= {f"{folder}{row:06d}{s}": t.encode() for s, t in label(row).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_tar(path, members)


def check(source, rows, split="train"):
    images, labels = read_all(source, split)
    np.testing.assert_array_equal(
        images.permute(0, 2, 3, 1).numpy(), np.stack([MADE[row].pixels for row in rows])
    )
    assert labels.tolist() == [NUMBERS[row] for row in rows]


@pytest.mark.parametrize("folder", ["", "./", "a/b/"])
def test_one_shard_is_read(tmp_path, folder):
    source = open_source(str(shard(tmp_path / "set.tar", range(12), folder=folder)))
    assert source.class_names == ("0", "1", "2")
    check(source, range(12))
    assert "000003.png in " in source.train.where(3)
    assert source.train.split.file_name(3) == "000003.png"


LAYOUTS = [("train-{:06d}.tar", "val-{:06d}.tar"), ("train/{:05d}.tar", "test/{:05d}.tar"),
           ("imagenet-train-{:06d}.tar", "imagenet-validation-{:06d}.tar")]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_of_shards_is_read(tmp_path, layout):
    for number in range(3):
        shard(tmp_path / "d" / layout[0].format(number), range(number, 12, 3))
    shard(tmp_path / "d" / layout[1].format(0), range(5))
    source = open_source(str(tmp_path / "d"))
    check(source, [row for number in range(3) for row in range(number, 12, 3)])
    check(source, range(5), "val")


LABELS = {
    "names": (lambda row: {".cls": MADE[row].class_name}, ("ant", "bee", "cow")),
    "numbers in JSON": (
        lambda row: {".json": json.dumps({"label": NUMBERS[row]})}, ("0", "1", "2"),
    ),
    "names in JSON": (
        lambda row: {".json": json.dumps({"cls": MADE[row].class_name, "w": 8})},
        ("ant", "bee", "cow"),
    ),
    "numbers and their names": (
        lambda row: {".cls": str(NUMBERS[row]), ".txt": MADE[row].class_name},
        ("ant", "bee", "cow"),
    ),
    "numbers and captions": (
        lambda row: {".cls": str(NUMBERS[row]), ".txt": f"picture {row}"}, ("0", "1", "2"),
    ),
    "a line's end": (lambda row: {".cls": f"{NUMBERS[row]}\r\n"}, ("0", "1", "2")),
}  # fmt: skip


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_numbers_or_names(tmp_path, kind):
    label, names = LABELS[kind]
    source = open_source(str(shard(tmp_path / "set.tar", range(12), label)))
    assert source.class_names == names
    check(source, range(12))


def test_images_without_labels_are_refused_in_training_and_left_out_in_tests(tmp_path):
    def some(row):
        return {} if row == 3 else {".cls": str(NUMBERS[row])}

    shard(tmp_path / "d" / "test.tar", range(5), some)
    shard(tmp_path / "d" / "train.tar", range(12))
    told = []
    assert len(open_source(str(tmp_path / "d"), tell=told.append).val) == 4
    assert any("1 image of the split test" in line for line in told)
    with pytest.raises(InputError, match=r"000003.png in .*train.tar has no label; add 000003.cls"):
        open_source(str(shard(tmp_path / "train.tar", range(12), some)))


def test_the_first_image_may_be_the_one_without_a_label(tmp_path):
    some = lambda row: {".cls": str(NUMBERS[row])} if row else {}  # noqa: E731
    with pytest.raises(InputError, match=r"000000.png in .* has no label; add 000000.cls"):
        open_source(str(shard(tmp_path / "set.tar", range(12), some)))


def test_two_images_of_one_sample_are_refused(tmp_path):
    path = shard(tmp_path / "set.tar", range(12))
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("000003.mask.png")
        info.size = len(MADE[0].png)
        archive.addfile(info, io.BytesIO(MADE[0].png))
    with pytest.raises(InputError, match=r"000003.mask.png in .* is the second image of its samp"):
        open_source(str(path))


def test_lost_shards_are_missed(tmp_path):
    for number in (0, 2):
        shard(tmp_path / "a" / f"train-{number:05d}-of-00003.tar", range(12))
        shard(tmp_path / "b" / f"train-{number:05d}.tar", range(12))
    with pytest.raises(InputError, match="2 of 3 shards, .* without number 1"):
        open_source(str(tmp_path / "a"))
    told = []
    open_source(str(tmp_path / "b"), tell=told.append)
    assert any("has no file number 1" in line for line in told)


@pytest.mark.parametrize("format", ["webdataset", "parquet", "npz", "imagefolder"])
def test_what_this_program_exports_is_read_back(tiny_run, tmp_path, format):
    done = call("sample", tiny_run, "--out", tmp_path / "out", "--format", format)
    assert done.code == 0, done.err
    stored = gf.CondensedDataset(tiny_run)
    source = open_source(str(tmp_path / "out"))
    assert source.class_names == tuple(str(digit) for digit in range(10))
    images, labels = read_all(source)
    expected = [stored[row] for row in range(len(stored))]
    assert labels.tolist() == [int(label) for _, label in expected]
    assert len(images) == len(stored)
