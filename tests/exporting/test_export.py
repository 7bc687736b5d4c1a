"""Exports, read back with other programs' readers."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from store_builders import full_disk, write_set

from gencond_fast.data.contract import Split
from gencond_fast.data.source import open_source
from gencond_fast.data.stream import stream
from gencond_fast.errors import InputError
from gencond_fast.exporting import FORMATS, export
from gencond_fast.store import artifact

NAMES = ("a cow", "ant", "日本")


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
    assert format not in ("imagefolder", "pt") or os.listdir(tmp_path) == []


def test_permissions_follow_the_umask(run, tmp_path):
    before = os.umask(0o027)
    try:
        out = export(run, tmp_path / "out", per_class=1)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (out, out / "ant")}
    assert modes == {0o750}
    assert stat.S_IMODE((out / "ant" / "00000.png").stat().st_mode) == 0o640


# formats for other programs


def test_pt(run, tmp_path):
    out = export(run, tmp_path / "out", format="pt")
    assert out == tmp_path / "out"
    assert files(out) == ["images.pt", "labels.pt"]
    images = torch.load(out / "images.pt", weights_only=True)
    labels = torch.load(out / "labels.pt", weights_only=True)
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    assert (labels.dtype, labels.tolist()) == (torch.int64, [0] * 5 + [1] * 5 + [2] * 5)
    made = artifact.load(run)
    with torch.no_grad():
        decoded = made.store(torch.arange(15)).double()
    mean, std = (
        torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1)
        for v in (made.metadata.mean, made.metadata.std)
    )
    assert torch.allclose(images.double(), (decoded - mean) / std, atol=1e-5)
    # nothing is stored beside the numbers themselves
    assert (out / "images.pt").stat().st_size < images.numel() * 4 + 2000


def test_a_pt_folder_is_not_mixed_with_others(run, tmp_path):
    export(run, tmp_path / "out", format="pt")
    before = files(tmp_path)
    with pytest.raises(InputError, match="out is not empty: give another --out"):
        export(run, tmp_path / "out", format="pt")
    assert files(tmp_path) == before


def test_webdataset_by_tarfile(run, tmp_path):
    out = export(run, tmp_path / "out", format="webdataset", per_class=2)
    assert out == tmp_path / "out" / "samples.tar"
    want = stored(run)[:, :2].reshape(6, *stored(run).shape[2:])
    with tarfile.open(out) as archive:
        found = {m.name: archive.extractfile(m).read() for m in archive}
    assert list(found)[:3] == ["00000000.png", "00000000.cls", "00000000.txt"]
    assert len(found) == 18
    for place in range(6):
        with Image.open(io.BytesIO(found[f"{place:08d}.png"])) as image:
            assert np.array_equal(np.asarray(image).reshape(want.shape[1:]), want[place])
        assert found[f"{place:08d}.cls"] == str(place // 2).encode()
        assert found[f"{place:08d}.txt"].decode() == NAMES[place // 2]
    again = export(run, tmp_path / "again", format="webdataset", per_class=2)
    assert again.read_bytes() == out.read_bytes()


def test_webdataset_by_webdataset(run, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    out = export(run, tmp_path / "out", format="webdataset")
    want = stored(run)
    mode = "rgb8" if want.shape[-1] == 3 else "l8"
    read = webdataset.WebDataset(str(out), shardshuffle=False).decode(mode)
    samples = list(read.to_tuple("png", "cls", "txt"))
    images = np.stack([image for image, _, _ in samples]).reshape(want.shape)
    assert np.array_equal(images, want)
    assert [label for _, label, _ in samples] == [0] * 5 + [1] * 5 + [2] * 5
    assert [name for _, _, name in samples[::5]] == list(NAMES)


def test_parquet(run, tmp_path):
    out = export(run, tmp_path / "out", format="parquet")
    table = pq.read_table(out)
    assert table.column_names == ["image", "label"]
    assert table["label"].to_pylist() == [0] * 5 + [1] * 5 + [2] * 5
    want = stored(run)
    for place, cell in enumerate(table["image"].to_pylist()):
        with Image.open(io.BytesIO(cell["bytes"])) as image:
            pixels = np.asarray(image).reshape(want.shape[2:])
        assert np.array_equal(pixels, want[place // 5, place % 5])
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"]["_type"] == "Image"
    assert features["label"] == {"_type": "ClassLabel", "names": list(NAMES)}
    for path in (out, out.parent):  # the file, and the folder as the hub has it
        source = open_source(str(path))
        assert source.class_names == NAMES
        images, labels = all_images(source.train, want.shape[-1])
        assert np.array_equal(images, want.reshape(15, *want.shape[2:]))
        assert labels == [0] * 5 + [1] * 5 + [2] * 5


def test_soft_labels_go_with_the_samples(tmp_path):
    store = write_set(tmp_path / "made", names=NAMES, soft_labels=2)
    store.soft_labels.keep(torch.arange(15), torch.rand(15, 3).softmax(1))
    artifact.save(tmp_path / "made", store, artifact.load(tmp_path / "made").metadata)
    want = store.targets(torch.arange(15)).reshape(3, 5, 3)[:, :4].reshape(12, 3).numpy()
    assert len(np.unique(want)) > 12

    def made(format):
        return export(tmp_path / "made", tmp_path / format, format=format, per_class=4)

    with np.load(made("npz")) as arrays:
        assert np.array_equal(arrays["soft_labels"], want)
    pt = torch.load(made("pt") / "soft_labels.pt", weights_only=True)
    assert pt.dtype == torch.float32
    assert np.array_equal(pt.numpy(), want)
    column = pq.read_table(made("parquet"))["soft_label"].to_pylist()
    assert np.array_equal(np.array(column, dtype=np.float32), want)
    with tarfile.open(made("webdataset")) as archive:
        rows = [
            np.load(io.BytesIO(archive.extractfile(f"{i:08d}.soft.npy").read())) for i in range(12)
        ]
    assert np.array_equal(np.stack(rows), want)
    for format in ("imagefolder", "grid"):
        assert not [name for name in files(made(format).parent / format) if "soft" in name]


@pytest.mark.parametrize("format", ["webdataset", "parquet", "pt"])
def test_more_than_one_batch_of_other_formats(tmp_path, format):
    store = write_set(tmp_path / "made", "pixels", num_classes=7, per_class=41, channels=1)
    out = export(tmp_path / "made", tmp_path / "out", format=format, per_class=40)
    index = (torch.arange(7)[:, None] * 41 + torch.arange(40)).flatten()
    with torch.no_grad():
        want = (store(index) * 255).round().to(torch.uint8).squeeze(1).numpy()
    if format == "pt":
        metadata = artifact.load(tmp_path / "made").metadata
        images = torch.load(out / "images.pt", weights_only=True) * metadata.std[0]
        got = ((images + metadata.mean[0]) * 255).round().to(torch.uint8).squeeze(1).numpy()
    elif format == "parquet":
        cells = pq.read_table(out)["image"].to_pylist()
        got = np.stack([np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in cells])
    else:
        with tarfile.open(out) as archive:
            members = [m for m in archive if m.name.endswith(".png")]
            got = np.stack([np.asarray(Image.open(archive.extractfile(m))) for m in members])
    assert np.array_equal(got, want)


@pytest.mark.parametrize(
    "names",
    [
        ("1", "2", "10"),
        ("zebra", "ant", "bee"),
        ("a", "B", "c"),  # capitals come first
        ("nïne", "nine", "eight"),
    ],
)
def test_folders_that_sort_otherwise_than_the_classes_are_told(tmp_path, names):
    write_set(tmp_path / "made", names=names)
    told: list[str] = []
    out = export(tmp_path / "made", tmp_path / "out", tell=told.append)
    ordered = sorted(path.name for path in out.iterdir())  # as torchvision numbers them
    (line,) = told
    wrong = next(place for place, name in enumerate(ordered) if name != names[place])
    assert f"class {wrong} is {ordered[wrong]!r}" in line
    assert f"class {names.index(ordered[wrong])} of the file" in line
    with pytest.warns(UserWarning, match="sort classes by name"):
        export(tmp_path / "made", tmp_path / "again")


@pytest.mark.parametrize("names", [("0", "1", "2"), ("B", "a", "c"), ("00", "01", "10")])
def test_folders_that_sort_as_the_classes_need_no_word(tmp_path, names):
    write_set(tmp_path / "made", names=names)
    told: list[str] = []
    export(tmp_path / "made", tmp_path / "out", tell=told.append)
    export(tmp_path / "made", tmp_path / "npz", format="npz", tell=told.append)
    assert told == []


@pytest.mark.parametrize("format", FORMATS)
def test_class_names_that_are_no_utf_8(tmp_path, format):
    names = tuple(os.fsdecode(name) for name in (b"caf\xe9", b"th\xe9", "日本".encode("euc-jp")))
    write_set(tmp_path / "made", names=names)
    out = export(tmp_path / "made", tmp_path / "out", format=format, tell=lambda line: None)
    if format == "imagefolder":
        assert {os.fsencode(name) for name in os.listdir(out)} == set(map(os.fsencode, names))
    if format == "webdataset":
        with tarfile.open(out) as archive:
            texts = [archive.extractfile(m).read() for m in archive if m.name.endswith(".txt")]
        assert set(texts) == set(map(os.fsencode, names))
