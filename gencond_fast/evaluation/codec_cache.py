"""Images encoded in threads; where that is slow, they are kept for the next evaluation."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import features

from gencond_fast.exporting.codecs import CodecName, Coded, encode
from gencond_fast.system.cache import cache_directory, cache_key, load_tensors, save_tensors
from gencond_fast.system.machine import own_cores

_SLOW = ("avif",)  # up to a quarter of a second for an image of 64 pixels


def encode_all(codec: CodecName, pixels: np.ndarray, quality: int) -> list[Coded]:
    """Encodes images, or finds them encoded.

    Args:
        codec: which.
        pixels: uint8 [n, S, S, channels].
        quality: from 1 to 100.

    Raises:
        OSError: the cache cannot be written.
    """
    path = _path(codec, pixels, quality) if codec in _SLOW else None
    found = _load(path) if path else None
    if found is not None:
        return found
    with ThreadPoolExecutor(own_cores()) as threads:
        coded = list(threads.map(partial(encode, codec, quality=quality), pixels))
    if path:
        _save(path, coded)
    return coded


def _path(codec: CodecName, pixels: np.ndarray, quality: int) -> Path:
    key = cache_key(
        kind="coded images",
        codec=codec,
        quality=quality,
        shape=pixels.shape,
        pixels=hashlib.sha256(pixels.tobytes()).hexdigest(),
        encoder=(PIL.__version__, features.version(codec)),
    )
    return cache_directory("coded") / f"{key}.safetensors"


def _load(path: Path) -> list[Coded] | None:
    tensors = load_tensors(path)
    if tensors is None:
        return None
    content = tensors["files"].numpy().tobytes()
    ends = [0, *accumulate(tensors["sizes"].tolist())]
    files = [content[start:end] for start, end in pairwise(ends)]
    return [Coded(*each) for each in zip(files, tensors["own"].tolist(), strict=True)]


def _save(path: Path, coded: list[Coded]) -> None:
    content = bytearray(b"".join(each.file for each in coded))
    tensors = {
        "files": torch.frombuffer(content, dtype=torch.uint8),
        "sizes": torch.tensor([len(each.file) for each in coded]),
        "own": torch.tensor([each.own for each in coded]),
    }
    save_tensors(path, tensors)
