"""What the user reads when the data is wrong: what, where, and what to do about it."""

from __future__ import annotations

import io
import re
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_builders import (
    noise,
    pictures,
    tar_members,
    write_npz,
    write_parquet,
    write_tar,
    write_tree,
)

from gencond_fast.data import open_source, stream
from gencond_fast.errors import InputError

MADE = pictures(2)
PNGS = [p.png for p in MADE]
LABELS = [0, 0, 1, 1, 2, 2]


def folder(t, change=None):
    root = write_tree(t / "d", MADE)
    if change:
        change(root)
    return root


def write(path, data=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def arrays(t, **changes):
    """An .npz file; a change to None leaves the key out."""
    made = {"images": np.stack([p.pixels for p in MADE]), "labels": np.array(LABELS), **changes}
    np.savez(t / "d.npz", **{key: value for key, value in made.items() if value is not None})
    return t / "d.npz"


def with_nan(shape, dtype=np.float32):
    made = np.zeros(shape, dtype)
    made.flat[-1] = np.nan
    return made


def table(t, **columns):
    pq.write_table(pa.table(columns), t / "d.parquet")
    return t / "d.parquet"


def cut(path, keep):
    data = path.read_bytes()
    path.write_bytes(data[: keep if keep > 0 else len(data) + keep])
    return path


def spoil(path, at, data=b"\xff" * 16):
    whole = bytearray(path.read_bytes())
    whole[at : at + len(data)] = data
    path.write_bytes(whole)
    return path


def tar(t, extra=()):
    path = t / "d.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in tar_members(MADE).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in extra:
            archive.addfile(info)
    return path


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def two_splits(t, train, val):
    write_tree(t / "d" / "train", pictures(1, train))
    return write_tree(t / "d" / "val", pictures(1, val)).parent


def two_parquets(t, train, val, val_names=None):
    for name, labels, names in (("train", train, "a,b"), ("test", val, val_names or "a,b")):
        metadata = {"classes": names} if val_names else None
        write_parquet(t / "d" / f"{name}.parquet", PNGS[: len(labels)], labels, metadata)
    return t / "d"


def looped(root):
    (root / "ant" / "again").symlink_to(root)


BAD = {
    # the path itself
    "missing": (lambda t: t / "d", r"d does not exist; give a folder .*known name \(digits\)"),
    "unknown type": (lambda t: write(t / "d.csv"), r"d.csv is no known kind of data; give"),
    "compressed": (lambda t: write(t / "d.tar.gz"), r"d.tar.gz is compressed .*extract it"),
    # folders
    "empty directory": (lambda t: (t / "d").mkdir() or t / "d", r"d holds no images .*put them"),
    "no class folders": (
        lambda t: write(t / "d" / "a.png", PNGS[0]).parent,
        r"d has no class folders; put",
    ),
    "empty class folder": (
        lambda t: folder(t, lambda r: (r / "dog").mkdir()),
        r"class folder .*d/dog holds no images; add some or remove",
    ),
    "class without images": (
        lambda t: folder(t, lambda r: write(r / "dog" / "notes.txt")),
        r"class folder .*d/dog holds no images",
    ),
    "class only in val": (
        lambda t: two_splits(t, ("ant", "bee"), ("ant", "yak")),
        r"class 'yak' in val/ but not in train/; add training images",
    ),
    "only val": (
        lambda t: write_tree(t / "d" / "val", MADE).parent,
        r"d has val/ but no train/; add",
    ),
    "one class": (
        lambda t: write_tree(t / "d", pictures(2, ("ant",))),
        r"d has only one class, 'ant'; add images",
    ),
    "looped links": (lambda t: folder(t, looped), r"again links to a folder around it; remove"),
    "dangling link": (
        lambda t: folder(t, lambda r: (r / "ant" / "a.png").symlink_to("nowhere")),
        r"ant/a.png cannot be read \(No such file or directory\); repair or remove",
    ),
    # single images
    "text as jpg": (
        lambda t: folder(t, lambda r: write(r / "bee" / "x.jpg", b"hello")),
        r"d/bee/x.jpg is no image in a known format .*replace or remove it",
    ),
    "zero bytes": (
        lambda t: folder(t, lambda r: write(r / "bee" / "x.jpg")),
        r"d/bee/x.jpg is empty \(0 bytes\); replace or remove it",
    ),
    "cut short": (
        lambda t: folder(t, lambda r: cut(r / "bee" / "0000.png", 120)),
        r"d/bee/0000.png cannot be decoded \(.*\); replace or remove it",
    ),
    # tar
    "tar of nothing": (lambda t: write(t / "d.tar"), r"d.tar is damaged or no .tar file"),
    "tar of text": (lambda t: write(t / "d.tar", b"x" * 2000), r"d.tar is damaged or no .tar"),
    "tar cut in an image": (lambda t: cut(tar(t), 700), r"d.tar is damaged .*fetch or write it"),
    "tar cut in a header": (lambda t: cut(tar(t), 1100), r"d.tar is damaged .*fetch or write it"),
    "tar cut at a header": (lambda t: cut(tar(t), 1024), r"d.tar is damaged .*fetch or write it"),
    "tar header spoilt": (lambda t: spoil(tar(t), 1100), r"d.tar is damaged .*fetch or write it"),
    "tar link": (
        lambda t: tar(t, [member("ant/l.png", tarfile.SYMTYPE, "/etc/passwd")]),
        r"ant/l.png in .*d.tar is a link .*--dereference",
    ),
    "tar hard link": (
        lambda t: tar(t, [member("ant/l.png", tarfile.LNKTYPE, "ant/0000.png")]),
        r"ant/l.png in .*d.tar is a link .*--hard-dereference",
    ),
    "tar climbing out": (
        lambda t: tar(t, [member("../ant/l.png")]),
        r"\.\./ant/l.png in .*d.tar has a path that leaves the archive; write",
    ),
    "tar absolute": (lambda t: tar(t, [member("/ant/l.png")]), r"/ant/l.png in .* relative paths"),
    "tar empty class": (
        lambda t: tar(t, [member("dog", tarfile.DIRTYPE)]),
        r"class folder .*d.tar/dog holds no images",
    ),
    "tar bad image": (
        lambda t: write_tar(t / "d.tar", {**tar_members(MADE), "bee/x.jpg": b"hello"}),
        r"bee/x.jpg in .*d.tar is no image",
    ),
    # npz
    "npz of text": (lambda t: write(t / "d.npz", b"x" * 99), r"d.npz is damaged or no .npz file"),
    "npz cut": (lambda t: cut(arrays(t), -200), r"d.npz is damaged .*write it again"),
    "npz bits flipped": (lambda t: spoil(arrays(t), 400), r"d.npz is damaged .*write it again"),
    "npz without images": (
        lambda t: arrays(t, images=None, z=np.zeros(3)),
        r"no array `images` \(found: labels, z\); store `images` and `labels`",
    ),
    "npz without labels": (lambda t: arrays(t, labels=None), r"no array `labels` \(found: images"),
    "npz labels too few": (
        lambda t: arrays(t, labels=np.array(LABELS[:-1])),
        r"`labels` has the shape \(5,\) for 6 images; store one label per image",
    ),
    "npz labels two-dimensional": (
        lambda t: arrays(t, labels=np.array(LABELS)[:, None] * [1, 1]),
        r"`labels` has the shape \(6, 2\) for 6 images",
    ),
    "npz float images": (
        lambda t: arrays(t, images=np.zeros((6, 8, 8), np.float32)),
        r"`images` is float32; store pixels as uint8 from 0 to 255",
    ),
    "npz NaN images": (
        lambda t: arrays(t, images=with_nan((6, 8, 8))),
        r"`images` is float32 \(and holds NaN\); store pixels as uint8",
    ),
    "npz float labels": (
        lambda t: arrays(t, labels=np.zeros(6)),
        r"`labels` is float64; store integer labels",
    ),
    "npz NaN labels": (
        lambda t: arrays(t, labels=with_nan(6, np.float64)),
        r"`labels` is float64 \(and holds NaN\); store integer",
    ),
    "npz negative label": (
        lambda t: arrays(t, labels=np.array([0, 0, 1, 1, 2, -1])),
        r"negative label -1 in its train split; labels must be 0 or greater",
    ),
    "npz label without a name": (
        lambda t: arrays(t, classes=np.array(["a", "b"])),
        r"has the label 2 but names only 2 classes; correct",
    ),
    "npz name without images": (
        lambda t: arrays(t, classes=np.array(["a", "b", "c", "d"])),
        r"names the class 'd' but has no training image of it",
    ),
    "npz pickled images": (
        lambda t: arrays(t, images=np.array([{}] * 6, dtype=object)),
        r"`images` holds pickled Python objects, which are never loaded",
    ),
    "npz pickled labels": (
        lambda t: arrays(t, labels=np.array([0] * 6, dtype=object)),
        r"`labels` holds pickled Python objects",
    ),
    "npz pickled classes": (
        lambda t: arrays(t, classes=np.array(["a", "b", "c"], dtype=object)),
        r"`classes` holds pickled Python objects",
    ),
    "npz numbered classes": (
        lambda t: arrays(t, classes=np.arange(3)),
        r"`classes` is int64 of shape \(3,\); store a list of names",
    ),
    "npz of either order": (
        lambda t: arrays(t, images=noise(6, 3, 8, 3)),
        r"`images` has the shape \(6, 3, 8, 3\); store .* channels last",
    ),
    "npz flat colour images": (
        lambda t: arrays(t, images=noise(6, 192)),
        r"has the shape \(6, 192\)",
    ),
    "npz Fortran order": (
        lambda t: arrays(t, images=np.asfortranarray(noise(6, 8, 8))),
        r"Fortran order .*ascontiguousarray",
    ),
    "npz of no images": (
        lambda t: arrays(t, images=noise(0, 8, 8), labels=np.zeros(0, int)),
        r"holds no training images; add",
    ),
    "npz several": (
        lambda t: [write_npz(t / "d" / f"{n}.npz", MADE) for n in "ab"] and t / "d",
        r"d holds several .npz files for one split; keep one",
    ),
    # parquet
    "parquet of text": (lambda t: write(t / "d.parquet", b"x" * 99), r"d.parquet is damaged or no"),
    "parquet cut": (
        lambda t: cut(write_parquet(t / "d.parquet", PNGS, LABELS), -9),
        r"d.parquet is damaged .*fetch it again",
    ),
    "parquet without images": (
        lambda t: table(t, picture=["a"] * 6, label=LABELS),
        r"no column of images such as `image` or `img` \(found: picture, label\); rename",
    ),
    "parquet without labels": (
        lambda t: table(t, image=PNGS, y=LABELS),
        r"no column of labels such as `label` \(found: image, y\); name it with --label-column",
    ),
    "parquet of paths": (
        lambda t: table(t, image=["a"] * 6, label=LABELS),
        r"column `image` is string; store encoded images as binary",
    ),
    "parquet labels of fractions": (
        lambda t: table(t, image=PNGS, label=[0.5] * 6),
        r"column `label` is double; store integer labels or names of classes",
    ),
    "parquet null label": (
        lambda t: write_parquet(t / "d.parquet", PNGS, [0, 0, 1, 1, 2, None]),
        r"1 row without a label; fill them in or drop",
    ),
    "parquet null image": (
        lambda t: write_parquet(t / "d.parquet", [*PNGS[:4], None, PNGS[5]], LABELS),
        r"row 4 of .*d.parquet has no image; fill it in or drop the row",
    ),
    "parquet bad image": (
        lambda t: write_parquet(t / "d.parquet", [*PNGS[:5], b"hello"], LABELS),
        r"row 5 of .*d.parquet is no image in a known format",
    ),
    "parquet class only in test": (
        lambda t: two_parquets(t, [0, 1, 1], [0, 5]),
        r"label 5 in its test split but not in its training split",
    ),
    "parquet names differ": (
        lambda t: two_parquets(t, [0, 1], [0, 1], val_names="b,c"),
        r"test.parquet and .*train.parquet name different classes; write both",
    ),
    "parquet without train": (
        lambda t: write_parquet(t / "d" / "test-0.parquet", PNGS, LABELS).parent,
        r"d holds test-0.parquet but no training file; add train.parquet",
    ),
}


def read_everything(data):
    source = open_source(data)
    for split in (source.train, source.val):
        if split is not None:
            list(stream(split, channels=source.channels, image_size=8, batch_size=4))


@pytest.mark.parametrize("case", BAD)
def test_bad_data_is_named_with_its_remedy(tmp_path, case):
    build, message = BAD[case]
    data = str(build(tmp_path))
    with pytest.raises(InputError) as caught:
        read_everything(data)
    text = str(caught.value)
    assert re.search(message, text), text
    assert "\n" not in text
    assert text.endswith(".")


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_val_fraction_out_of_range(fraction):
    with pytest.raises(InputError, match=r"val_fraction is .*choose a share between 0 and 1"):
        open_source("digits", val_fraction=fraction)


def test_val_fraction_of_one_image_a_class(tmp_path):
    root = write_tree(tmp_path / "d", pictures(1))
    with pytest.raises(InputError, match="one image of each class, so val_fraction 0.5 cannot"):
        open_source(str(root), val_fraction=0.5)


def test_unreadable_folder(tmp_path, monkeypatch):
    root = write_tree(tmp_path / "d", MADE)

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("gencond_fast.data.formats.folder.os.scandir", forbidden)
    with pytest.raises(InputError, match=r"d cannot be read \(Permission denied\); repair"):
        open_source(str(root))
