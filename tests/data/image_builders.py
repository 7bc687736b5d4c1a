"""Small data sets in every container, from one list of pictures."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


@dataclass(frozen=True)
class Picture:
    class_name: str
    name: str
    pixels: np.ndarray  # uint8 [H, W] or [H, W, 3]

    @property
    def png(self) -> bytes:
        return encode(Image.fromarray(self.pixels))


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def pictures(
    per_class: int, classes=("ant", "bee", "cow"), shape=(8, 8, 3), seed: int = 0
) -> list[Picture]:
    """Pictures class after class, the order in which a folder is read."""
    return [
        Picture(name, f"{place:04d}.png", noise(*shape, seed=seed * 1000 + label * 100 + place))
        for label, name in enumerate(classes)
        for place in range(per_class)
    ]


def write_tree(root: Path, made: list[Picture]) -> Path:
    for picture in made:
        folder = root / picture.class_name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / picture.name).write_bytes(picture.png)
    return root


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def tar_members(made: list[Picture], prefix: str = "") -> dict[str, bytes]:
    return {f"{prefix}{p.class_name}/{p.name}": p.png for p in made}


def write_parquet(
    path: Path,
    images: list[bytes | None],
    labels: list[int | None],
    metadata: dict[str, str] | None = None,
    column: str = "image",
    rows_per_group: int = 4,
) -> Path:
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [None if data is None else {"bytes": data, "path": None} for data in images]
    table = pa.table(
        {column: pa.array(cells, struct), "label": pa.array(labels, pa.int64())},
    ).replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=rows_per_group)
    return path


def write_npz(path: Path, made: list[Picture], compressed: bool = False) -> Path:
    names = sorted({p.class_name for p in made})
    path.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if compressed else np.savez)(
        path,
        images=np.stack([p.pixels for p in made]),
        labels=np.array([names.index(p.class_name) for p in made]),
        classes=np.array(names),
    )
    return path


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    import struct
    import zlib

    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + b"\x35\xaf\x06\x1e"
