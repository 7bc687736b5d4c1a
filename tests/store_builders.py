"""Small stored sets and their descriptions, and condensed files made by hand."""

from __future__ import annotations

import json
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gencond_fast.store import artifact
from gencond_fast.store.artifact import Metadata
from gencond_fast.store.blocks import block_side
from gencond_fast.store.spec import StoreSpec
from gencond_fast.store.store import StoredSet
from gencond_fast.store.stores import build_store


def spec_of(format: str = "generator", **changes: Any) -> StoreSpec:
    """Three classes of five 12-pixel colour images."""
    sizes = {"num_classes": 3, "per_class": 5, "channels": 3, "image_size": 12, "width": 8}
    sizes |= {"code_channels": changes.get("channels", 3), "code_size": 12} | changes
    if format == "dct":
        sizes = {"coefficients": 16, "stream_bytes": 400} | sizes
    if "code_size" not in changes:
        sizes["code_size"] = sizes["image_size"]
    if format == "generator":
        sizes = _with_blocks(sizes) | changes
    return StoreSpec(format=format, **sizes)


def _with_blocks(sizes: dict[str, Any]) -> dict[str, Any]:
    """With as many blocks as there are, and room for the weights and levels of a fresh set."""
    grid = -(-sizes["image_size"] // block_side(sizes["image_size"]))
    sizes = {"coefficients": 16} | sizes | {"code_size": grid}
    levels = sizes["num_classes"] * sizes["per_class"] * sizes["coefficients"] * grid**2
    words = 1500 + 115 * sizes["width"] + 3 * sizes["num_classes"] + levels // 8
    return {"stream_bytes": 4 * words} | sizes


def metadata_of(spec: StoreSpec, names: tuple[str, ...] | None = None, **made: Any) -> Metadata:
    return Metadata(
        store=spec,
        class_names=names or tuple(f"class {c}" for c in range(spec.num_classes)),
        mean=tuple(0.1234 + 0.2 * c for c in range(spec.channels)),
        std=tuple(0.2345 + 0.1 * c for c in range(spec.channels)),
        budget=123_456,
        made=made,
    )


def write_set(
    path: Path, format: str = "generator", names: tuple[str, ...] | None = None, **changes: Any
) -> StoredSet:
    """Writes a condensed file and returns what is in it."""
    spec = spec_of(format, **changes)
    store = build_store(spec, seed=7)
    artifact.save(path, store, metadata_of(spec, names, options={"seed": 7}))
    return store


def split_file(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file, by its published layout."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join_file(header: dict[str, Any] | bytes, data: bytes, length: int | None = None) -> bytes:
    """The opposite; `length` states another header length than the true one."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@contextmanager
def full_disk(room: int = 0) -> Iterator[None]:
    """Within it no file can grow beyond `room` bytes; writing more raises OSError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
