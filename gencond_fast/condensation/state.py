"""States of long jobs on the disk: whole or absent, and damage is noticed.

A file holds the length of an outline, the outline (plain values, and tensors without content, as
`torch.save` writes them), the content of one tensor after the other, and a SHA-256 of all that. So
only one tensor at a time needs to be in memory.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from gencond_fast.system.files import write_atomic

_LENGTH = struct.Struct("<Q")  # of the outline, in bytes
_DIGEST = 32  # bytes of SHA-256 at the end: damage that unpickling would not notice
_PART = 2**20  # bytes


@dataclass(frozen=True, eq=False)
class LazyTensor:
    """A tensor that is still to be fetched.

    Attributes:
        outline: a tensor of its shape, strides and dtype on the device `meta`.
        fetch: gives it; OSError where it cannot be read.
    """

    outline: Tensor
    fetch: Callable[[], Tensor]


def save_state(path: Path, values: dict[str, Any]) -> None:
    """Writes tensors and plain values atomically, a tensor at a time.

    Args:
        path: of the file.
        values: in nested dicts, lists and tuples; a `LazyTensor` is fetched when
            its turn has come.

    Raises:
        OSError: the directory cannot be written or the disk is full; an older state stays.
    """
    write_atomic(path, lambda temporary: _write(temporary, values))


def load_state(path: Path) -> dict[str, Any] | None:
    """What `save_state` wrote, on the CPU; None where it is missing, damaged or no such state.

    Nothing in it is executed: `weights_only` builds tensors and plain values alone.
    """
    values = open_state(path)
    return None if values is None else materialise(values)


def open_state(path: Path) -> dict[str, Any] | None:
    """The same with each tensor a `LazyTensor`, to be fetched while the file is there."""
    try:
        with path.open("rb") as file:
            values = _outlined(file)
    except Exception:  # of another version, or made by hand: unpickling raises what it likes
        return None
    if not isinstance(values, dict):
        return None
    places = iter(_places(values))
    return mapped(values, lambda each: LazyTensor(each, partial(_read, path, next(places), each)))


def materialise(values: Any) -> Any:
    """Nested dicts, lists and tuples, or a tensor, with each `LazyTensor` fetched."""
    return mapped(values, lambda each: each.fetch() if isinstance(each, LazyTensor) else each)


def meta_like(values: Any) -> Any:
    """The same with tensors without content, on the device `meta`."""
    return mapped(values, _outline)


def mapped(values: Any, change: Callable[[Any], Any]) -> Any:
    """Nested dicts, lists and tuples with their tensors, there or to be fetched, changed."""
    if isinstance(values, Tensor | LazyTensor):
        return change(values)
    if isinstance(values, dict):
        return {name: mapped(value, change) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(mapped(value, change) for value in values)
    return values


def _outline(tensor: Tensor | LazyTensor) -> Tensor:
    # of one with gaps or overlaps the strides are those of a copy
    held = tensor.outline if isinstance(tensor, LazyTensor) else tensor.detach()
    return torch.empty_like(held, device="meta")


def _write(path: Path, values: dict[str, Any]) -> None:
    content = io.BytesIO()
    torch.save(meta_like(values), content)
    digest = hashlib.sha256()
    with path.open("wb") as file:

        def put(part: Any) -> None:
            file.write(part)
            digest.update(part)

        put(_LENGTH.pack(content.tell()))
        put(content.getbuffer())
        mapped(values, lambda each: put(_bytes_of(_dense(materialise(each)))))
        file.write(digest.digest())


def _outlined(file: BinaryIO) -> Any:
    """The outline that a file begins with; None where the rest of the file does not fit it."""
    length = _intact_length(file)
    if length is None:
        return None
    file.seek(0)
    (outlined,) = _LENGTH.unpack(file.read(_LENGTH.size))
    if outlined > length:
        return None
    content = io.BytesIO(file.read(outlined))
    values = torch.load(content, map_location="cpu", weights_only=True)
    tensors: list[Tensor] = []
    mapped(values, tensors.append)
    sizes = [each.nbytes for each in tensors if _is_outline(each)]
    fits = len(sizes) == len(tensors) and _LENGTH.size + outlined + sum(sizes) == length
    return values if fits else None


def _is_outline(tensor: Tensor) -> bool:
    if not tensor.is_meta or tensor.layout != torch.strided:
        return False
    # no gaps and no overlaps, of which an empty tensor has none whatever its strides
    return tensor.numel() == 0 or tensor.stride() == torch.empty_like(tensor).stride()


def _places(values: dict[str, Any]) -> Iterator[int]:
    """For each tensor, how many bytes of content come from its first one on."""
    sizes: list[int] = []
    mapped(values, lambda each: sizes.append(each.nbytes))
    left = sum(sizes)
    for size in sizes:
        yield left
        left -= size


def _read(path: Path, left: int, form: Tensor) -> Tensor:
    held = torch.empty_strided(form.shape, form.stride(), dtype=form.dtype)
    content = memoryview(_bytes_of(held))
    with path.open("rb") as file:
        file.seek(-_DIGEST - left, os.SEEK_END)
        if file.readinto(content) < len(content):
            raise OSError(f"{path} has become shorter while it was read")
    return held


def _dense(tensor: Tensor) -> Tensor:
    """On the CPU, laid out as its outline."""
    held = tensor.detach().cpu()
    if held.stride() == _outline(held).stride():
        return held
    return torch.empty_like(held).copy_(held)


def _bytes_of(tensor: Tensor) -> Any:
    """The memory of a tensor without gaps, as uint8."""
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy()


def _intact_length(file: BinaryIO) -> int | None:
    """Bytes before the digest, if there is one of them; the file must be at its begin."""
    length = os.fstat(file.fileno()).st_size - _DIGEST
    digest, left = hashlib.sha256(), length
    if length < _LENGTH.size:
        return None
    while left:
        part = file.read(min(_PART, left))
        if not part:
            return None
        digest.update(part)
        left -= len(part)
    return length if digest.digest() == file.read() else None
