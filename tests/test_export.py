"""Exports, read back with other programs' readers."""

from __future__ import annotations

import os
import stat

import numpy as np
import pytest
import torch
from PIL import Image
from store_builders import full_disk, write_set

from gencond_fast import artifact
from gencond_fast.data.contract import Split
from gencond_fast.data.source import open_source
from gencond_fast.data.stream import stream
from gencond_fast.errors import InputError
from gencond_fast.export import FORMATS, export

NAMES = ("ant", "日本", "a cow")


@pytest.fixture(scope="module", params=[1, 3])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    write_set(folder / artifact.FILE_NAME, names=NAMES, channels=request.param)
    return folder


def stored(run) -> np.ndarray:
    """uint8 [C, per_class, S, S, channels]."""
    with torch.no_grad():
        images = artifact.load(run).store(torch.arange(15))
    pictures = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pictures.reshape(3, 5, *pictures.shape[1:])


def all_images(split: Split, channels: int) -> tuple[np.ndarray, list[int]]:
    batches = list(stream(split, channels=channels, image_size=12, batch_size=4))
    images = torch.cat([b.images for b in batches]).permute(0, 2, 3, 1).numpy()
    return images, torch.cat([b.labels for b in batches]).tolist()


def files(folder) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


def test_image_folder(run, tmp_path):
    out = export(run, tmp_path / "new" / "out")
    assert out == tmp_path / "new" / "out"
    assert files(out) == sorted(f"{name}/{i:05d}.png" for name in NAMES for i in range(5))
    want = stored(run)
    for c, name in enumerate(NAMES):
        for i in range(5):
            with Image.open(out / name / f"{i:05d}.png") as image:
                pixels = np.asarray(image).reshape(want.shape[2:])
            assert np.array_equal(pixels, want[c, i])
    assert os.listdir(tmp_path / "new") == ["out"]


def test_image_folder_is_a_source(run, tmp_path):
    out = export(run, tmp_path / "out")
    source = open_source(str(out))
    want = stored(run)
    channels = want.shape[-1]
    assert source.channels == channels
    assert set(source.class_names) == set(NAMES)
    images, labels = all_images(source.train, channels)
    order = [NAMES.index(source.class_names[label]) * 5 for label in labels]
    place = [start + i % 5 for i, start in enumerate(order)]
    assert np.array_equal(images, want.reshape(15, 12, 12, channels)[place])


def test_npz(run, tmp_path):
    out = export(run, tmp_path / "out", format="npz")
    assert out == tmp_path / "out" / "samples.npz"
    want = stored(run)
    with np.load(out) as data:  # without pickle
        assert set(data) == {"images", "labels", "classes"}
        assert data["images"].dtype == np.uint8
        assert data["labels"].dtype == np.int64
        assert np.array_equal(data["images"], want.reshape(15, *want.shape[2:]))
        assert data["labels"].tolist() == [0] * 5 + [1] * 5 + [2] * 5
        assert tuple(data["classes"]) == NAMES
    source = open_source(str(out))
    assert source.class_names == NAMES
    assert np.array_equal(all_images(source.train, want.shape[-1])[0], want.reshape(15, 12, 12, -1))


def test_grid(run, tmp_path):
    out = export(run, tmp_path / "out", format="grid")
    assert out == tmp_path / "out" / "samples.png"
    with Image.open(out) as image:
        assert image.height == 3 * 50 + 2
        right = np.asarray(image)[2:50:4, -50:-2:4]  # the last sample of the first class
    assert np.array_equal(right, np.broadcast_to(stored(run)[0, 4], (12, 12, 3)))


def test_some_of_each_class(run, tmp_path):
    want = stored(run)[:, :2]
    folder = export(run, tmp_path / "a", per_class=2)
    assert files(folder) == sorted(f"{n}/{i:05d}.png" for n in NAMES for i in range(2))
    with Image.open(folder / NAMES[2] / "00001.png") as image:
        assert np.array_equal(np.asarray(image).reshape(want.shape[2:]), want[2, 1])
    with np.load(export(run, tmp_path / "b", format="npz", per_class=2)) as data:
        assert np.array_equal(data["images"], want.reshape(6, *want.shape[2:]))
        assert data["labels"].tolist() == [0, 0, 1, 1, 2, 2]
    wide = Image.open(export(run, tmp_path / "c", format="grid"))
    narrow = Image.open(export(run, tmp_path / "d", format="grid", per_class=2))
    assert wide.width - narrow.width == 3 * 50


def test_more_than_one_batch(tmp_path):
    write_set(tmp_path / "made", "pixels", num_classes=7, per_class=41, channels=1, code_size=3)
    with np.load(export(tmp_path / "made", tmp_path / "out", format="npz")) as data:
        assert data["images"].shape == (287, 12, 12, 1)
        assert data["labels"].tolist() == [c for c in range(7) for _ in range(41)]
    assert len(files(export(tmp_path / "made", tmp_path / "folder"))) == 287


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("count", "sentence"), [(6, "holds 5 samples"), (0, "1 or more"), (-1, "1 or")]
)
def test_samples_that_are_not_there(run, tmp_path, format, count, sentence):
    with pytest.raises(InputError, match=sentence):
        export(run, tmp_path / "out", format=format, per_class=count)
    assert os.listdir(tmp_path) == []


def test_unknown_format_and_missing_file(run, tmp_path):
    with pytest.raises(InputError, match="unknown format 'jpeg': choose one of imagefolder, npz"):
        export(run, tmp_path / "out", format="jpeg")
    with pytest.raises(InputError, match="does not exist"):
        export(tmp_path / "none", tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_an_image_folder_is_not_mixed_with_others(run, tmp_path):
    export(run, tmp_path / "out", per_class=1)
    before = files(tmp_path)
    with pytest.raises(InputError, match="out is not empty: give another --out"):
        export(run, tmp_path / "out")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="give another --out"):
        export(run, tmp_path / "file")
    assert files(tmp_path) == sorted([*before, "file"])
    (tmp_path / "empty").mkdir()
    assert len(files(export(run, tmp_path / "empty"))) == 15


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "/etc/x", "a/b", "a\0b"])
def test_class_names_that_lead_elsewhere(tmp_path, name):
    write_set(tmp_path / "made", names=("a", name, "b"))
    with pytest.raises(InputError, match="makes no folder: use --format npz"):
        export(tmp_path / "made", tmp_path / "out")
    assert os.listdir(tmp_path) == ["made"]
    assert export(tmp_path / "made", tmp_path / "out", format="npz").exists()


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_leaves_nothing_half_written(run, tmp_path, format):
    out = tmp_path / "out"
    with full_disk(100), pytest.raises(OSError, match="too large"):
        export(run, out, format=format)
    assert files(tmp_path) == []
    assert format != "imagefolder" or os.listdir(tmp_path) == []


def test_permissions_follow_the_umask(run, tmp_path):
    before = os.umask(0o027)
    try:
        out = export(run, tmp_path / "out", per_class=1)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (out, out / "ant")}
    assert modes == {0o750}
    assert stat.S_IMODE((out / "ant" / "00000.png").stat().st_mode) == 0o640
