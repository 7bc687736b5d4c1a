"""Every kind of file that is read, sound ones to begin with, and how the program reads it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
import yaml
from PIL import Image
from pydantic import TypeAdapter

from gencond_fast.condensation.checkpoint import Checkpoint, load_checkpoint
from gencond_fast.condensation.state import save_state
from gencond_fast.config import Config
from gencond_fast.config.options import parse, read_yaml, to_plain
from gencond_fast.data import open_source
from gencond_fast.data.decode import decode
from gencond_fast.data.formats.index import read_index
from gencond_fast.data.formats.scan import scan
from gencond_fast.data.stream import stream
from gencond_fast.store import artifact
from gencond_fast.store.artifact import Metadata
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.stores import build_store
from tests.robustness.hostile import EDITS, Edit, tar_field, words


@dataclass(frozen=True)
class Target:
    """A reader, and what it is to be given.

    Attributes:
        file: what the file is called.
        seeds: sound contents.
        read: reads the file.
        edits: what may be done to the contents.
        seal: makes checksums right again, so that what is behind them is reached.
    """

    file: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    edits: tuple[Edit, ...] = EDITS
    seal: Callable[[bytes], bytes] = bytes


def files_within(folder: Path) -> set[str]:
    """The paths of all files at and below a folder."""
    return {os.path.join(at, name) for at, _, names in os.walk(folder) for name in names}


def _pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(6)]


def _encoded(kind: str, picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind)
    return file.getvalue()


def _images() -> list[bytes]:
    kinds = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP")
    return [_encoded(kind, _pictures()[0]) for kind in kinds]


def _tars() -> list[bytes]:
    made = []
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
            for place, picture in enumerate(_pictures()):
                data = _encoded("PNG", picture)
                name = (
                    f"{'ant' if place % 2 else 'bee'}/{'x' * (120 if place == 3 else 1)}{place}.png"
                )
                info = tarfile.TarInfo(name if kind != tarfile.USTAR_FORMAT else name[-40:])
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        made.append(file.getvalue())
    return made


def _npzs() -> list[bytes]:
    pictures = np.stack(_pictures())
    labels, names = np.arange(6) % 2, np.array(["ant", "bee"])
    made = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, images=pictures, labels=labels, classes=names)
        made.append(file.getvalue())
    return made + [_npz_that_lies(shape, kind) for shape, kind in _LIES]


# headers of `images` in archives that are otherwise sound
_LIES = (
    ("(6, -8, -8, 3)", "|u1"), ("(-6, 8, 8, -3)", "|u1"), ("(6, 100000, 100000, 3)", "|u1"),
    ("(10000000000, 8, 8)", "|u1"), ("(6, 8, 8, 3), []: 1", "|u1"), ("(" * 4000, "|u1"),
    ("(6, 8, 8, 3)", "O"), ("(6, 8, 8, 3)", "V1"), ("(True, 8, 8, 3)", "|u1"), ("6", "|u1"),
)  # fmt: skip


def _npz_that_lies(shape: str, kind: str) -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        lead = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
        archive.writestr("images.npy", lead + np.stack(_pictures()).tobytes())
        labels = io.BytesIO()
        np.save(labels, np.arange(6) % 2)
        archive.writestr("labels.npy", labels.getvalue())
    return file.getvalue()


def _parquets() -> list[bytes]:
    images = [{"bytes": _encoded("PNG", picture), "path": None} for picture in _pictures()]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, kind), "label": pa.array([0, 1] * 3)})
    about = '{"info": {"features": {"label": {"names": ["ant", "bee"]}}}}'
    made = []
    for compression in ("none", "snappy", "gzip"):
        file = io.BytesIO()
        named = table.replace_schema_metadata({"huggingface": about})
        pq.write_table(named, file, row_group_size=3, compression=compression)
        made.append(file.getvalue())
    return made


def _read_data(path: Path) -> None:
    source = open_source(str(path), reader="threads", device="cpu")
    for split in (source.train, source.val):
        if split is not None:
            for _ in stream(split, channels=3, image_size=8, batch_size=4, workers=1):
                pass


def _read_image(path: Path) -> None:
    data = path.read_bytes()
    decode(data, channels=3, where=str(path))
    decode(data, channels=1, where=str(path), image_size=4)


def _artifacts() -> list[bytes]:
    shapes = {"num_classes": 3, "per_class": 5, "channels": 3, "image_size": 12, "width": 8}
    made = []
    for format, sizes in (
        ("dct", {"coefficients": 16, "stream_bytes": 400, "code_channels": 3, "code_size": 12}),
        ("dct", {"coefficients": 9, "stream_bytes": 200, "code_channels": 3, "code_size": 12}),
        (
            "generator",
            {"coefficients": 16, "stream_bytes": 6000, "code_channels": 3, "code_size": 2},
        ),
        ("pixels", {"code_channels": 3, "code_size": 12}),
    ):
        spec = StoreSpec(format=format, soft_labels=2, **shapes | sizes)  # type: ignore[arg-type]
        if sizes.get("coefficients") == 9:
            spec = replace(spec, soft_labels=0)
        about = Metadata(spec, ("a", "b", "c"), (0.5,) * 3, (0.2,) * 3, 9999)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "made"
            artifact.save(path, build_store(spec, seed=1), about)
            made.append(path.read_bytes())
    return [*made, _coded_labels(about)]


def _coded_labels(about: Metadata) -> bytes:
    """Of a file whose soft labels went through the coder."""
    spec = replace(about.store, per_class=20, label_bytes=400)
    store = build_store(spec, seed=1)
    odds = torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    store.soft_labels.keep(torch.arange(60), odds / odds.sum(1, keepdim=True))
    store.compress_labels()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made"
        artifact.save(path, store, replace(about, store=store.spec))
        return path.read_bytes()


def _seal_artifact(content: bytes) -> bytes:
    """With a checksum that fits the content, where that can still be read."""
    try:
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        fields = json.loads(header["__metadata__"]["gencond_fast"])
        about: Metadata = TypeAdapter(Metadata).validate_python(fields)
        fields["checksum"] = artifact._checksum(about, safetensors.torch.load(content))
        header["__metadata__"]["gencond_fast"] = json.dumps(fields)
    except Exception:
        return content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def _states() -> list[bytes]:
    codes = torch.arange(12.0).view(3, 4)
    optimizer = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": codes}}, "param_groups": []}
    checkpoint = Checkpoint(10, "f" * 32, {"width": 8}, {"codes": codes}, optimizer)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        save_state(path, vars(checkpoint))
        return [path.read_bytes()[: -hashlib.sha256().digest_size]]


def _seal_state(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


def _trees() -> list[bytes]:
    """The kept index of a tree that lies beside it."""
    root = _tree()
    before = files_within(Path(os.environ["GENCOND_FAST_CACHE"]))
    read_index(root)
    (made,) = files_within(Path(os.environ["GENCOND_FAST_CACHE"])) - before or [_kept()]
    return [Path(made).read_bytes()]


def _tree() -> Path:
    root = Path(os.environ["GENCOND_FAST_CACHE"]) / "tree"
    for place, picture in enumerate(_pictures()):
        path = root / ("ant" if place % 2 else "bee") / f"{place}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_encoded("PNG", picture))
        os.utime(path, (1e9, 1e9))
        os.utime(path.parent, (1e9, 1e9))
    os.utime(root, (1e9, 1e9))
    return root


def _kept() -> str:
    return str(next(Path(os.environ["GENCOND_FAST_CACHE"]).glob("index/*.safetensors")))


def _read_kept_index(path: Path) -> None:
    """A damaged index is left, never believed."""
    root = _tree()
    shutil.copyfile(path, _kept())
    assert read_index(root).digest == scan(root).digest


# of which each stands for nine of the one before
_ALIASES = b", ".join(b"&l%d [%s]" % (n + 1, b",".join([b"*l%d" % n] * 9)) for n in range(12))
_YAML = (
    b"&a [*a]", b"!!python/object/apply:os.system [touch escaped]", b"!!timestamp 2001-99-99",
    b"!!int x", b"!!float x", b"!!bool x", b"!!binary x", b"2001-99-99", b"[" * 5000, b"{" * 3000,
    b"9" * 5000, b"1:59:59:59:59", b".inf", b".nan", b"-1", b"null", b"[]", b"{}", b"? {a: b}: c",
    b"&b {x: *b}", b"\xff\xfe", b"!!set {a, b}", b"1e999", b"0x", b"<<: [1]", b"\x1b[2J", b"3: 4",
    b"[&l0 [1], " + _ALIASES + b"]", b"data: [&l0 [1], " + _ALIASES + b"]",
)  # fmt: skip


def _configs() -> list[bytes]:
    options = to_plain(Config(data="digits", out="run"))
    return [yaml.safe_dump(options, sort_keys=False).encode(), b"data: digits\nout: x\nsteps: 3\n"]


def _read_config(path: Path) -> None:
    parse(Config, read_yaml(path))


TARGETS = {
    "artifact": Target("made.safetensors", _artifacts, artifact.load),
    "artifact, checksum right": Target(
        "made.safetensors", _artifacts, artifact.load, seal=_seal_artifact
    ),
    "checkpoint": Target(
        "step-00000010.pt", _states, lambda path: load_checkpoint(path.parent), seal=_seal_state
    ),
    "config": Target("config.yaml", _configs, _read_config, (*EDITS, *[words(_YAML)] * 9)),
    "image": Target("image.jpg", _images, _read_image),
    "index": Target("kept", _trees, _read_kept_index),
    "npz": Target("data.npz", _npzs, _read_data),
    "parquet": Target("data.parquet", _parquets, _read_data),
    "tar": Target("data.tar", _tars, _read_data, (*EDITS, *[tar_field] * 9)),
}
