"""Error against bytes of an image: image codecs, and stored sets of the same images."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from gencond_fast.condensation import condense
from gencond_fast.config import Config
from gencond_fast.config.options import parse
from gencond_fast.data.sample import sample_rows
from gencond_fast.data.source import Source, open_source
from gencond_fast.data.stream import stream
from gencond_fast.evaluation.codecs import Coded, encode
from gencond_fast.store.artifact import load
from gencond_fast.system.machine import own_cores

# bytes an image of ours, by the side up to which they hold
_BUDGETS = {8: (12, 20, 30), 32: (60, 80, 110), 64: (190, 270, 400), 4096: (600, 900, 1400)}
_QUALITIES = {"jpeg": (5, 10, 20, 35), "webp": (5, 20, 45, 70), "avif": (10, 20, 30, 45)}
OURS: dict[str, dict[str, Any]] = {
    "dct": {"store": {"format": "dct"}},
    "generator": {"store": {"format": "generator"}},
}
"""Options of each of our formats, by the name that its rows have."""
_WEBP_HEADER = 27  # RIFF, chunk, start code and size, RFC 9649
_BOUND = 2**31
Row = dict[str, object]


def measure(
    data: str, image_size: int | None, images: int, formats: Iterable[str]
) -> Iterator[Row]:
    """A row for each codec and quality, and for each of our formats and budgets.

    All have the same images, as many of each class. Of codecs, headers that all images share are
    left out; of ours, the whole file counts. The peak signal-to-noise ratio is over all values of
    all images, from 0 to 1.

    Args:
        data: path or name of a data set.
        image_size: S; None takes that of the images.
        images: how many.
        formats: names of `OURS`.
    """
    source = open_source(data)
    side = image_size or source.native_size
    if side is None:
        raise ValueError("the images have several sizes: give --image-size")
    per_class = max(1, images // len(source.class_names))
    rows = sample_rows(source, image_size=side, per_class=per_class, max_bytes=_BOUND, seed=0)
    part = source.subset(np.sort(rows), lambda line: None)
    options: Any = {"channels": part.channels, "image_size": side, "batch_size": len(rows)}
    (batch,) = stream(part.train, **options)
    pixels = batch.images.permute(0, 2, 3, 1).contiguous().numpy()
    same: Row = {"data": Path(data).name, "image_size": side, "images": len(pixels)}
    for codec, quality, coded in _codecs(pixels):
        error = [_error(each.file, image) for each, image in zip(coded, pixels, strict=True)]
        bytes_ = sum(each.own for each in coded) / len(coded)
        yield same | _row(codec, quality, bytes_, float(np.mean(error)))
    budgets = next(each for most, each in _BUDGETS.items() if side <= most)
    for name in formats:
        for budget in budgets:
            size, error_ = _ours(part, side, per_class, budget * len(pixels), OURS[name])
            yield same | _row(name, budget, size / len(pixels), error_)


def _row(codec: str, setting: int, bytes_: float, error: float) -> Row:
    ratio = -10 * np.log10(error)
    return {
        "codec": codec,
        "setting": setting,
        "bytes_per_image": round(bytes_, 2),
        "psnr_db": round(float(ratio), 3),
    }


def _codecs(pixels: np.ndarray) -> Iterator[tuple[str, int, list[Coded]]]:
    ways: dict[str, tuple[str, Callable[[np.ndarray, int], Coded]]] = {
        "jpeg": ("jpeg", partial(encode, "jpeg")),
        "webp": ("webp", _webp),
        "avif 4:2:0, speed 6": ("avif", partial(encode, "avif", usual=True)),
        "avif 4:4:4, speed 0": ("avif", partial(encode, "avif")),
    }
    with ThreadPoolExecutor(own_cores()) as threads:
        for name, (codec, coded) in ways.items():
            for quality in _QUALITIES[codec]:
                yield name, quality, list(threads.map(coded, pixels, repeat(quality)))


def _webp(pixels: np.ndarray, quality: int) -> Coded:
    file = io.BytesIO()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    picture.convert("RGB").save(file, "WEBP", quality=quality, method=6)
    return Coded(file.getvalue(), len(file.getvalue()) - _WEBP_HEADER)


def _error(file: bytes, pixels: np.ndarray) -> float:
    with Image.open(io.BytesIO(file)) as picture:
        decoded = np.array(picture.convert("L" if pixels.shape[2] == 1 else "RGB"))
    difference = decoded.reshape(pixels.shape) / 255.0 - pixels / 255.0
    return float(np.square(difference).mean())


def _ours(
    source: Source, side: int, per_class: int, budget: int, options: dict[str, Any]
) -> tuple[int, float]:
    """Bytes of the whole file, and the error of its samples to the images that they are of."""
    with tempfile.TemporaryDirectory(prefix="gencond-codec-") as place:
        given = {"data": "part", "out": place, "bytes": budget, "image_size": side}
        store = options["store"] | {"per_class": per_class}
        config = parse(Config, given | {"store": store, "training": {"steps": 0}})
        artifact = load(condense(config, source=source))
        size = (Path(place) / "condensed.safetensors").stat().st_size
    store_ = artifact.store
    with torch.no_grad():
        samples = torch.cat([store_(part) for part in torch.arange(store_.spec.samples).split(256)])
    labels = store_.labels(torch.arange(store_.spec.samples))
    form: Any = {"channels": source.channels, "image_size": side, "batch_size": len(samples)}
    (batch,) = stream(source.train, **form)
    real = batch.images.float() / 255
    errors = []
    for label in labels.unique():
        # the file does not say in which order the images of a class were taken
        own = torch.cdist(
            samples[labels == label].flatten(1), real[batch.labels == label].flatten(1)
        )
        errors.append(own.min(1).values.square() / real[0].numel())
    return size, float(torch.cat(errors).mean())
