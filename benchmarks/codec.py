"""Error against bytes of an image: image codecs, and stored sets of the same images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from gencond_fast.condensation import condense
from gencond_fast.config import Config
from gencond_fast.config.options import parse
from gencond_fast.data.sample import sample_rows
from gencond_fast.data.source import Source, open_source
from gencond_fast.data.stream import stream
from gencond_fast.errors import InputError
from gencond_fast.exporting.codecs import Coded, as_picture, avif, decode, jpeg, saved
from gencond_fast.store.artifact import load
from gencond_fast.system.machine import own_cores

# bytes an image of ours, by the side up to which they hold
_BUDGETS = {8: (12, 20, 30), 32: (60, 80, 110), 64: (190, 270, 400), 4096: (600, 900, 1400)}
OURS: dict[str, dict[str, Any]] = {
    "dct": {"store": {"format": "dct"}},
    "generator": {"store": {"format": "generator"}},
}
"""Options of each of our formats, by the name that its rows have."""
_WEBP_HEADER = 27  # RIFF, chunk, start code and size, RFC 9649
_BOUND = 2**31
Row = dict[str, object]


def _webp(pixels: np.ndarray, quality: int) -> Coded:
    file = saved(as_picture(pixels).convert("RGB"), "WEBP", quality=quality, method=6)
    return Coded(file, len(file) - _WEBP_HEADER)


CODECS: dict[str, tuple[Callable[[np.ndarray, int], Coded], tuple[int, ...]]] = {
    "jpeg": (jpeg, (5, 10, 20, 35)),
    "webp": (_webp, (5, 20, 45, 70)),
    "avif 4:2:0, speed 6": (partial(avif, subsampling="4:2:0", speed=6), (10, 20, 30, 45)),
    "avif 4:2:0, speed 0": (partial(avif, subsampling="4:2:0"), (15, 25, 45)),
    "avif 4:4:4, speed 0": (avif, (15, 25, 45)),
    "avif 4:4:4, speed 0, for the error": (partial(avif, tuning="error"), (10, 20, 35)),
}
"""How images are encoded, and at which qualities, by the name that the rows have."""
NAMES = (*CODECS, *OURS)


def measure(
    data: str, image_size: int | None, images: int, only: Collection[str] = NAMES
) -> Iterator[Row]:
    """A row for each codec and quality, and for each of our formats and budgets.

    All have the same images, as many of each class. Of codecs, headers that all images share are
    left out; of ours, the whole file counts. The peak signal-to-noise ratio is over all values of
    all images, from 0 to 1.

    Args:
        data: path or name of a data set.
        image_size: S; None takes that of the images.
        images: how many.
        only: names of `CODECS` and `OURS`.
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
    with ThreadPoolExecutor(own_cores()) as threads:
        for name, (encode, qualities) in CODECS.items():
            for quality in qualities if name in only else ():
                coded = list(threads.map(encode, pixels, repeat(quality)))
                errors = [_error(*pair) for pair in zip(coded, pixels, strict=True)]
                size = sum(each.own for each in coded)
                yield same | _row(name, quality, size / len(pixels), float(np.mean(errors)))
    budgets = next(each for most, each in _BUDGETS.items() if side <= most)
    for name, options in OURS.items():
        for budget in budgets if name in only else ():
            try:
                size, error = _ours(part, side, per_class, budget * len(pixels), options)
            except InputError as reason:  # networks alone may take more
                yield same | {"codec": name, "setting": budget, "skipped": str(reason)}
            else:
                yield same | _row(name, budget, size / len(pixels), error)


def _row(codec: str, setting: int, bytes_: float, error: float) -> Row:
    ratio = -10 * np.log10(error)
    return {
        "codec": codec,
        "setting": setting,
        "bytes_per_image": round(bytes_, 2),
        "psnr_db": round(float(ratio), 3),
    }


def _error(coded: Coded, pixels: np.ndarray) -> float:
    decoded = decode(coded.file, pixels.shape[2])
    return float(np.square(decoded / 255.0 - pixels / 255.0).mean())


def _ours(
    source: Source, side: int, per_class: int, budget: int, options: dict[str, Any]
) -> tuple[int, float]:
    """Bytes of the whole file, and the error of its samples to the images that they are of."""
    with tempfile.TemporaryDirectory(prefix="gencond-codec-") as place:
        given = {"data": "part", "out": place, "bytes": budget, "image_size": side}
        sizes = {"store": options["store"] | {"per_class": per_class}, "training": {"steps": 0}}
        config = parse(Config, given | sizes)
        artifact = load(condense(config, source=source))
        size = (Path(place) / "condensed.safetensors").stat().st_size
    store = artifact.store
    index = torch.arange(store.spec.samples)
    with torch.no_grad():
        samples = torch.cat([store(some) for some in index.split(256)])
    labels = store.labels(index)
    form: Any = {"channels": source.channels, "image_size": side, "batch_size": len(samples)}
    (batch,) = stream(source.train, **form)
    real = batch.images.float() / 255
    errors = [_least_error(samples[labels == k], real[batch.labels == k]) for k in labels.unique()]
    return size, float(np.mean(np.concatenate(errors)))


def _least_error(samples: torch.Tensor, real: torch.Tensor) -> np.ndarray:
    """Of each sample to its own image: the file does not say in which order images were taken."""
    distance = torch.cdist(samples.flatten(1).double(), real.flatten(1).double()).square().numpy()
    return distance[linear_sum_assignment(distance)] / real[0].numel()
