"""What is there and is not read is told in one line, and what Pillow reads is read."""

from __future__ import annotations

import io
import os
import tarfile

import numpy as np
import pytest
from image_builders import (
    encode,
    noise,
    pictures,
    tar_members,
    write_parquet,
    write_tar,
    write_tree,
)
from PIL import Image

from gencond_fast.data import open_source, stream
from gencond_fast.data.formats.names import IMAGE_SUFFIXES
from gencond_fast.errors import InputError

FORMATS = {
    ".jpe": "JPEG", ".jfif": "JPEG", ".jpg": "JPEG", ".mpo": "MPO", ".apng": "PNG", ".dib": "DIB",
    ".pgm": "PPM", ".pbm": "PPM", ".pnm": "PPM", ".tif": "TIFF", ".qoi": "QOI", ".pcx": "PCX",
    ".ico": "ICO", ".sgi": "SGI", ".jp2": "JPEG2000", ".avif": "AVIF", ".webp": "WEBP",
}  # fmt: skip


def opened(data, **options):
    told = []
    source = open_source(str(data), tell=told.append, **options)
    return source, [line for line in told if "left out" in line]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("upper", [False, True])
def test_what_pillow_reads_is_read(tmp_path, suffix, upper):
    assert suffix in IMAGE_SUFFIXES
    root = write_tree(tmp_path / "d", pictures(2, ("ant", "bee"), shape=(16, 16, 3)))
    name = f"x{suffix.upper() if upper else suffix}"
    mode = {".pbm": "1", ".pgm": "L"}.get(suffix, "RGB")
    image = Image.fromarray(noise(16, 16, 3)).convert(mode)
    (root / "ant" / name).write_bytes(encode(image, FORMATS[suffix]))
    source, lines = opened(root)
    assert len(source.train) == 5
    assert not lines
    (batch,) = stream(source.train, channels=3, image_size=16, batch_size=9)
    assert len(batch.images) == 5


OTHERS = ("a.heic", "b.HEIC", "c.tga", "d.psd", "e.npy", "noname")


def as_tree(root, files, folders):
    write_tree(root, pictures(2))
    for path in (*files, *(f"{folder}/x.png" for folder in folders)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(pictures(1)[0].png)
    return root


def as_tar(root, files, folders):
    members = tar_members(pictures(2))
    for folder in folders:
        members[f"{folder}/x.png"] = b""
    with tarfile.open(root.with_suffix(".tar"), "w") as archive:
        for name, data in (members | dict.fromkeys(files, b"")).items():
            for path, kind in ((name.rpartition("/")[0], tarfile.DIRTYPE), (name, tarfile.REGTYPE)):
                info = tarfile.TarInfo(path)
                info.type, info.size = kind, len(data) if kind == tarfile.REGTYPE else 0
                if path and (kind == tarfile.REGTYPE or path not in archive.getnames()):
                    archive.addfile(info, io.BytesIO(data))
    return root.with_suffix(".tar")


@pytest.mark.parametrize("container", [as_tree, as_tar])
def test_files_of_unknown_formats_are_counted(tmp_path, container):
    files = [f"ant/{name}" for name in OTHERS]
    _, (line,) = opened(container(tmp_path / "d", files, ()))
    assert "6 files of no known image format (2 .heic, " in line
    assert "1 without a suffix" in line or ", …" in line


@pytest.mark.parametrize("container", [as_tree, as_tar])
@pytest.mark.parametrize("name", ["@eaDir", ".thumbnails", "#recycle", "$RECYCLE.BIN", "__MACOSX",
                                  ".ipynb_checkpoints", "lost+found"])  # fmt: skip
def test_folders_of_systems_are_left_out_and_told(tmp_path, container, name):
    source, (line,) = opened(container(tmp_path / "d", (), (name, f"bee/{name}")))
    assert source.class_names == ("ant", "bee", "cow")
    assert len(source.train) == 6
    assert f"2 hidden or system folders ({name}/)" in line


def test_texts_and_files_of_desktops_are_not_worth_a_line(tmp_path):
    names = (
        "readme.md",
        "ant/labels.csv",
        "ant/Thumbs.db",
        ".DS_Store",
        "ant/._0000.png",
        "a.json",
    )
    assert opened(as_tree(tmp_path / "d", names, ()))[1] == []


def test_hidden_images_are_told(tmp_path):
    assert "1 hidden image" in opened(as_tree(tmp_path / "d", ("ant/.x.png",), ()))[1][0]


def test_a_kept_index_tells_it_again(tmp_path):
    root = as_tree(tmp_path / "d", ("ant/x.heic",), ("@eaDir",))
    for path in [root, *root.rglob("*")]:
        os.utime(path, ns=(10**18, 10**18))
    first = opened(root)[1]
    assert first
    assert opened(root)[1] == first


def test_of_members_of_one_path_the_last_one_counts_and_it_is_told(tmp_path):
    made, later = pictures(2), pictures(1, ("bee",), seed=5)[0]
    path = write_tar(tmp_path / "d.tar", tar_members(made))
    with tarfile.open(path, "a") as archive:
        for name in ("bee/0000.png", "./bee/0000.png"):
            info = tarfile.TarInfo(name)
            info.size = len(later.png)
            archive.addfile(info, io.BytesIO(later.png))
    source, (line,) = opened(path)
    assert "2 images that a later member of the same path replaces" in line
    assert source.train.labels.tolist() == [0, 0, 1, 2, 2, 1]
    (batch,) = stream(source.train, channels=3, image_size=8, batch_size=9)
    np.testing.assert_array_equal(batch.images[-1].permute(1, 2, 0).numpy(), later.pixels)


def test_archives_written_one_behind_another_are_refused(tmp_path):
    first = write_tar(tmp_path / "a.tar", tar_members(pictures(2)))
    second = write_tar(tmp_path / "b.tar", tar_members(pictures(2, ("dog",))))
    (tmp_path / "c.tar").write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(InputError, match=r"c.tar goes on behind its end.*tar --ignore-zeros"):
        open_source(str(tmp_path / "c.tar"))
    (tmp_path / "d.tar").write_bytes(first.read_bytes() + bytes(1 << 20))
    assert len(open_source(str(tmp_path / "d.tar")).train) == 6


def test_an_archive_of_archives_says_what_to_do(tmp_path):
    inner = write_tar(tmp_path / "n01.tar", {"0.png": pictures(1)[0].png}).read_bytes()
    path = write_tar(tmp_path / "train.tar", {"n01.tar": inner, "n02.tar": inner})
    with pytest.raises(InputError, match=r"holds 2 archives, such as n01.tar, and no images; extr"):
        open_source(str(path))
    (tmp_path / "d").mkdir()
    for name in ("a.tar", "b.tar"):
        (tmp_path / "d" / name).write_bytes(path.read_bytes())
    with pytest.raises(
        InputError, match=r"d holds 2 archives .*; a.tar holds further archives; give"
    ):
        open_source(str(tmp_path / "d"))


def test_a_folder_of_archives_of_classes_says_what_to_do(tmp_path):
    (tmp_path / "d").mkdir()
    for name in ("n01", "n02"):
        write_tar(tmp_path / "d" / f"{name}.tar", {"0.png": pictures(1)[0].png})
    message = r"2 archives \(n01.tar, n02.tar\) without labels beside their images; give one of"
    with pytest.raises(InputError, match=message):
        open_source(str(tmp_path / "d"))


@pytest.mark.parametrize("data", ["", "  ", "\n"])
def test_no_path_is_not_the_current_folder(tmp_path, monkeypatch, data):
    write_tree(tmp_path, pictures(2))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="which is no path; give a folder"):
        open_source(data)


def test_an_archive_beside_its_content_is_left_out(tmp_path):
    root = write_tree(tmp_path / "d" / "train", pictures(2)).parent
    write_tar(root / "train.tar", tar_members(pictures(3)))
    source, (line,) = opened(root)
    assert len(source.train) == 6
    assert "1 .tar" in line


def test_a_picture_beside_tables_does_not_hide_them(tmp_path):
    made = pictures(2)
    for name in ("aa", "zz"):
        (tmp_path / f"{name}.png").write_bytes(made[0].png)
    write_parquet(tmp_path / "train.parquet", [p.png for p in made], [0, 0, 1, 1, 2, 2])
    assert len(open_source(str(tmp_path)).train) == 6
