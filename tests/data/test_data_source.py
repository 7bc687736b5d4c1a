"""Every kind of source gives the same images, labels and classes."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
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
from sklearn.datasets import load_digits

from gencond_fast.data import inspection, open_source, stream
from gencond_fast.data.decode import header

CLASSES = ("ant", "bee", "cow")


def read_all(source, split="train", size=8):
    batches = list(
        stream(getattr(source, split), channels=source.channels, image_size=size, batch_size=4)
    )
    return torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches])


def numbers(made):
    return [CLASSES.index(p.class_name) for p in made]


def as_folder(root, train, val):
    write_tree(root / "train", train)
    write_tree(root / "val", val)
    return root


def as_tar(root, train, val, prefix=""):
    root.mkdir()
    members = tar_members(train, f"{prefix}train/") | tar_members(val, f"{prefix}val/")
    return write_tar(root / "made.tar", members)


def as_tar_in_a_folder(root, train, val):
    return as_tar(root, train, val, prefix="./outer/")


def as_parquet(root, train, val):
    metadata = {"classes": ",".join(CLASSES)}
    cut = len(train) // 2
    for name, part in (
        ("train-00000-of-00002", train[:cut]),
        ("train-00001-of-00002", train[cut:]),
        ("test-00000-of-00001", val),
    ):
        images = [p.png for p in part]
        write_parquet(root / "data" / f"{name}.parquet", images, numbers(part), metadata)
    return root


def as_npz(root, train, val, compressed=False):
    write_npz(root / "train.npz", train, compressed)
    write_npz(root / "test.npz", val, compressed)
    return root


def as_compressed_npz(root, train, val):
    return as_npz(root, train, val, compressed=True)


CONTAINERS = [as_folder, as_tar, as_tar_in_a_folder, as_parquet, as_npz, as_compressed_npz]


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8), (12, 10, 3)])
@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_agree(tmp_path, container, shape):
    train, val = pictures(5, shape=shape), pictures(2, shape=shape, seed=1)
    source = open_source(str(container(tmp_path / "made", train, val)))
    assert source.class_names == CLASSES
    assert source.channels == (3 if len(shape) == 3 else 1)
    assert source.native_size == min(shape[:2])
    plain = open_source(str(as_folder(tmp_path / "plain", train, val)))
    for split, made in (("train", train), ("val", val)):
        images, labels = read_all(source, split)
        assert labels.tolist() == numbers(made)
        np.testing.assert_array_equal(getattr(source, split).labels, numbers(made))
        assert torch.equal(images, read_all(plain, split)[0])
        if shape[:2] == (8, 8):
            pixels = np.stack([p.pixels.reshape(8, 8, -1) for p in made])
            np.testing.assert_array_equal(images.permute(0, 2, 3, 1).numpy(), pixels)


@pytest.mark.parametrize("container", CONTAINERS)
def test_sparse_reading_agrees_with_reading_all(tmp_path, container):
    train = pictures(9)
    source = open_source(str(container(tmp_path / "made", train, pictures(1))))
    wanted = np.array([0, 1, 5, 6, 7, 13, 22, 26])
    images, _ = read_all(source)
    got = stream(source.train, channels=3, image_size=8, batch_size=3, indices=wanted)
    assert torch.equal(torch.cat([b.images for b in got]), images[wanted])


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_fraction_comes_out_of_the_training_split_alone(tmp_path, container):
    train, test = pictures(10), pictures(4, seed=1)
    data = str(container(tmp_path / "made", train, test))
    own = open_source(data)
    source = open_source(data, val_fraction=0.3, seed=3)
    assert np.bincount(source.train.labels).tolist() == [7, 7, 7]
    assert np.bincount(source.val.labels).tolist() == [3, 3, 3]
    together = torch.cat([read_all(source)[0], read_all(source, "val")[0]])
    assert sorted(map(bytes, together.numpy())) == sorted(map(bytes, read_all(own)[0].numpy()))
    assert source.fingerprint != own.fingerprint


def single_split(kind, root, made):
    root.mkdir()
    if kind == "folder":
        return write_tree(root / "flat", made)
    if kind == "tar":
        return write_tar(root / "flat.tar", tar_members(made))
    if kind == "tar in a folder":
        return write_tar(root / "flat.tar", tar_members(made, "outer/"))
    if kind == "parquet":
        return write_parquet(root / "any.parquet", [p.png for p in made], numbers(made))
    return write_npz(root / "any.npz", made)


@pytest.mark.parametrize("kind", ["folder", "tar", "tar in a folder", "parquet", "npz"])
def test_val_fraction_sets_the_same_images_apart(tmp_path, kind):
    made = pictures(10)
    data = str(single_split(kind, tmp_path / "one", made))
    whole = open_source(data)
    assert whole.val is None
    images, labels = read_all(whole)
    source = open_source(data, val_fraction=0.2, seed=3)
    assert np.bincount(source.val.labels).tolist() == [2, 2, 2]
    assert np.bincount(source.train.labels).tolist() == [8, 8, 8]
    together = torch.cat([read_all(source)[0], read_all(source, "val")[0]])
    assert sorted(map(bytes, together.numpy())) == sorted(map(bytes, images.numpy()))
    flat = open_source(
        str(single_split("folder", tmp_path / "two", made)), val_fraction=0.2, seed=3
    )
    assert torch.equal(read_all(source, "val")[0], read_all(flat, "val")[0])
    prints = {
        whole.fingerprint,
        source.fingerprint,
        open_source(data, val_fraction=0.2, seed=4).fingerprint,
        open_source(data, val_fraction=0.3, seed=3).fingerprint,
    }
    assert len(prints) == 4


def test_digits_are_those_of_scikit_learn():
    source = open_source("digits")
    assert source.class_names == tuple("0123456789")
    assert (source.channels, source.native_size) == (1, 8)
    assert (len(source.train), len(source.val)) == (1438, 359)
    digits = load_digits()
    expected = {}
    for image, label in zip(digits.images, digits.target, strict=True):
        pixels = bytes(round(v * 255 / 16) for v in image.ravel())
        expected.setdefault(pixels, []).append(int(label))
    found = {}
    for split in ("train", "val"):
        for image, label in zip(*read_all(source, split), strict=True):
            found.setdefault(bytes(image.numpy()), []).append(int(label))
    assert found == expected
    share = np.bincount(source.val.labels) / np.bincount(digits.target)
    assert np.abs(share - 0.2).max() < 0.005
    assert open_source("digits", seed=5).fingerprint == source.fingerprint


def test_huggingface_class_names(tmp_path):
    info = {"info": {"features": {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}}}
    made = pictures(2)
    path = write_parquet(
        tmp_path / "train.parquet",
        [p.png for p in made],
        numbers(made),
        {"huggingface": json.dumps(info)},
        column="img",
    )
    assert open_source(str(path)).class_names == CLASSES


def test_gaps_in_labels_are_closed(tmp_path):
    made = pictures(2)
    labels = [10 * n + 4 for n in numbers(made)]
    path = write_parquet(tmp_path / "train.parquet", [p.png for p in made], labels)
    source = open_source(str(path))
    assert source.class_names == ("4", "14", "24")
    assert source.train.labels.tolist() == numbers(made)


def test_channels_follow_every_image_of_both_splits(tmp_path):
    gray, colour = pictures(3, shape=(8, 8)), pictures(3)
    assert open_source(str(as_folder(tmp_path / "a", gray, gray))).channels == 1
    assert open_source(str(as_folder(tmp_path / "b", gray, colour))).channels == 3
    assert open_source(str(as_folder(tmp_path / "c", [*gray[:-1], colour[-1]], gray))).channels == 3
    assert open_source(str(as_npz(tmp_path / "d", gray, colour))).channels == 3
    wide = tmp_path / "a" / "train" / "ant" / "wide.png"
    wide.write_bytes(encode(Image.fromarray(noise(8, 8).astype(np.uint16))))
    (tmp_path / "a" / "train" / "ant" / "la.png").write_bytes(encode(Image.new("LA", (8, 8))))
    assert open_source(str(tmp_path / "a")).channels == 1


def test_only_images_count_and_deeper_folders_belong_to_their_class(tmp_path):
    root = write_tree(tmp_path / "tree", pictures(2))
    (root / "ant" / "notes.txt").write_text("not an image")
    (root / "ant" / ".hidden.png").write_bytes(b"")
    (root / ".cache").mkdir()
    (root / "readme.md").write_text("about")
    (root / "bee" / "more" / "yet").mkdir(parents=True)
    (root / "bee" / "more" / "yet" / "loud.JPEG").write_bytes(
        encode(Image.fromarray(noise(8, 8, 3)), "JPEG")
    )
    source = open_source(str(root))
    assert source.class_names == CLASSES
    assert source.train.labels.tolist() == [0, 0, 1, 1, 1, 2, 2]


def test_a_flat_tree_may_have_a_class_called_train(tmp_path):
    source = open_source(str(write_tree(tmp_path / "tree", pictures(2, ("bus", "train")))))
    assert source.class_names == ("bus", "train")


def test_validation_goes_before_test_and_may_lack_classes(tmp_path):
    root = write_tree(tmp_path / "tree" / "train", pictures(2)).parent
    write_tree(root / "validation", pictures(3, CLASSES[1:]))
    write_tree(root / "test", pictures(1))
    assert open_source(str(root)).val.labels.tolist() == [1, 1, 1, 2, 2, 2]


def test_linked_folders_and_odd_names_are_read(tmp_path):
    elsewhere = write_tree(tmp_path / "elsewhere", pictures(2))
    root = tmp_path / "tree"
    root.mkdir()
    for name in CLASSES:
        (root / name).symlink_to(elsewhere / name)
    odd = os.fsencode(root / "ant") + b"/\xff \xc3\xa9.png"
    with open(odd, "wb") as file:
        file.write(pictures(1)[0].png)
    images, labels = read_all(open_source(str(root)))
    assert labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert len(images) == 7


@pytest.mark.parametrize("container", CONTAINERS)
def test_fingerprint_follows_the_files(tmp_path, container):
    data = container(tmp_path / "made", pictures(2), pictures(1))
    first = open_source(str(data)).fingerprint
    assert first == open_source(str(data)).fingerprint
    assert len(first) == 32
    moved = tmp_path / "moved"
    if data.is_dir():
        shutil.copytree(data, moved)
    else:
        moved.mkdir()
        moved = shutil.copy2(data, moved / data.name)
    assert open_source(str(moved)).fingerprint == first
    some_file = data if data.is_file() else next(f for f in data.rglob("*") if f.is_file())
    status = some_file.stat()
    os.utime(some_file, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    assert open_source(str(data)).fingerprint == first
    renamed = data.rename(data.with_name(f"renamed{data.suffix}"))
    assert open_source(str(renamed)).fingerprint == first


def test_that_a_set_is_gray_is_found_once(tmp_path, monkeypatch):
    """To find no colour every header is read, which nobody wants at each start."""
    root = write_tree(tmp_path / "tree", pictures(4, shape=(9, 8)))
    monkeypatch.setattr(inspection, "_WORTH_KEEPING", 10)
    reads = []

    def noted(data, where):
        reads.append(where)
        return header(data, where)

    monkeypatch.setattr(inspection, "header", noted)
    for _ in range(2):
        source = open_source(str(root))
        assert (source.channels, source.native_size) == (1, 8)
        assert len(reads) == 12
    (root / "cow" / "9.png").write_bytes(pictures(1)[0].png)
    assert open_source(str(root)).channels == 3
    assert len(reads) == 12 + 13
