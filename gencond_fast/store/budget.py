"""Bytes, bits per class and images per class; and how a stored set is sized to fill a budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from gencond_fast.config import StoreConfig
from gencond_fast.errors import InputError
from gencond_fast.store.blocks import block_side
from gencond_fast.store.label_coder import MOST_CODED
from gencond_fast.store.spec import MOST_LEVELS, StoreSpec
from gencond_fast.system.words import counted

_USED_SHARE = 0.8  # of the budget, the least that a chosen size uses
_WIDTHS = (4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)
_NETWORK_SHARE = 0.1  # weights of the synthesis network a byte of the budget
_WEIGHT_BYTES = 0.66  # that a weight takes before anything is learned
_BANDS = 14  # bands kept for each byte of a block
# bytes of a coded sample at IPC 1, over its side to a power, and how they grow with the budget;
# found by measurement, docs/develop/experiments.md
_SAMPLE_BYTES, _SIDE_POWER, _BUDGET_POWER = 0.44, 1.5, 1 / 3
_COEFFICIENTS = 11  # kept for each byte of a sample; three in four of them turn out zero
_LONGER_NUMBERS = 64  # bytes that they take in the header at most
_MOST_SAMPLES = 1_000_000  # of a class, the bound of StoreSpec


def ipc_to_bytes(ipc: int, num_classes: int, channels: int, image_size: int) -> int:
    """Bytes of `ipc` float32 images of each class, the field's meaning of IPC."""
    return ipc * num_classes * channels * image_size**2 * 4


def bytes_to_ipc(size: float, num_classes: int, channels: int, image_size: int) -> float:
    """Images per class that `size` bytes are worth as float32 pixels."""
    return size / (num_classes * channels * image_size**2 * 4)


def bits_per_class(size: int, num_classes: int) -> float:
    """8 * bytes / C."""
    return 8.0 * size / num_classes


def usual_sample_bytes(room: float, *, num_classes: int, channels: int, image_size: int) -> float:
    """What a coded sample takes where the options leave it open: 0.44 side^1.5 ipc^(1/3).

    Args:
        room: bytes of all samples, which are worth `ipc` float32 images of each class.
        num_classes: C.
        channels: 1 or 3.
        image_size: side in pixels.
    """
    ipc = bytes_to_ipc(room, num_classes, channels, image_size)
    return float(_SAMPLE_BYTES * image_size**_SIDE_POWER * ipc**_BUDGET_POWER)


def size_store(
    budget: int,
    options: StoreConfig,
    *,
    num_classes: int,
    channels: int,
    image_size: int,
    file_size: Callable[[StoreSpec], int],
    real: int = _MOST_SAMPLES,
) -> StoreSpec:
    """Chooses the sizes that the options leave open so that the file fills the budget.

    What is coded fills it to the last word. Pixels keep the full side; where whole samples would
    leave more than a fifth unused, the nearest image side that does not is taken.

    Args:
        budget: bytes of the whole file.
        options: sizes that are fixed by the user; None where they are to be chosen.
        num_classes: C.
        channels: 1 or 3.
        image_size: side in pixels.
        file_size: exact bytes of the written file for a description.
        real: training images of the largest class; frequencies of no more of them are kept.

    Raises:
        InputError: the budget is too small for one sample of each class, or there are too many
            labels to be coded.
    """

    def coded(spec: StoreSpec) -> StoreSpec:
        return with_label_bytes(spec, options)

    data = (num_classes, channels, image_size)
    spec = coded(_size_images(budget, options, data, lambda spec: file_size(coded(spec)), real))
    check_codable(spec)
    return spec


def with_label_bytes(spec: StoreSpec, options: StoreConfig) -> StoreSpec:
    """The description with the room that the options want for soft labels; 0 if they want none."""
    spec = replace(spec, label_bytes=0)
    if options.label_bytes is None:
        return spec
    wanted = 4 * math.ceil(spec.samples * options.label_bytes / 4)
    return replace(spec, label_bytes=max(wanted, spec.least_label_bytes))


def check_codable(spec: StoreSpec) -> None:
    """Raises InputError where soft labels are to be coded and are too many for it."""
    if spec.label_bytes and spec.samples * spec.num_classes > MOST_CODED:
        raise InputError(
            f"store.label_bytes codes soft labels, up to {MOST_CODED:,} probabilities before the "
            f"largest are chosen, and {spec.samples:,} samples of {spec.num_classes:,} classes "
            "have more: leave it out"
        )


def _size_images(
    budget: int,
    options: StoreConfig,
    data: tuple[int, int, int],
    file_size: Callable[[StoreSpec], int],
    real: int,
) -> StoreSpec:
    num_classes, channels, image_size = data
    if options.code_size and options.code_size > image_size:
        raise InputError(
            f"option 'store.code_size' is {options.code_size}, larger than the image side "
            f"{image_size}: make it smaller"
        )
    if options.format == "dct":
        return _size_frequencies(budget, options, data, file_size, real)
    if options.format == "generator":
        return _size_generator(budget, options, data, file_size, real)
    if options.factor is not None:
        side = math.ceil(image_size / options.factor)
        options = replace(options, code_size=side, factor=None)
    base = StoreSpec(
        format=options.format,
        num_classes=num_classes,
        per_class=options.per_class or 1,
        channels=channels,  # type: ignore[arg-type]
        image_size=image_size,
        width=_WIDTHS[0],
        code_channels=channels,
        code_size=options.code_size or image_size,
        soft_labels=min(options.soft_labels, num_classes),
    )
    file_size = cache(file_size)
    shapes = _pixel_shapes(base, options)
    fitting = [shape for shape in shapes if file_size(shape) <= budget]
    filled = fitting if options.per_class else [_fill(s, budget, file_size) for s in fitting]
    for shape in filled:
        if file_size(shape) >= _USED_SHARE * budget:
            return shape
    if not filled:
        least = min(file_size(shape) for shape in shapes)
        raise _too_small(budget, base.per_class, num_classes, least)
    return max(filled, key=file_size)


def _size_frequencies(
    budget: int,
    options: StoreConfig,
    data: tuple[int, int, int],
    file_size: Callable[[StoreSpec], int],
    real: int,
) -> StoreSpec:
    """As many samples as come to their usual bytes, and all bytes that are left for them.

    A file is smaller than its budget where there are no more real images, and a byte for each of
    their coefficients.
    """
    num_classes, channels, image_size = data
    values = channels * image_size**2
    if options.coefficients and options.coefficients > values:
        raise InputError(
            f"option 'store.coefficients' is {options.coefficients}, more than the {values} of an "
            f"image of {channels} x {image_size} x {image_size}: make it smaller"
        )
    empty = StoreSpec(
        format="dct",
        num_classes=num_classes,
        per_class=1,
        channels=channels,  # type: ignore[arg-type]
        image_size=image_size,
        width=1,
        code_channels=channels,
        code_size=image_size,
        coefficients=1,
        stream_bytes=4 * num_classes,
        soft_labels=min(options.soft_labels, num_classes),
    )
    labels = (
        file_size(replace(empty, per_class=201)) - file_size(empty)
    ) / 200  # of a sample a class
    room = max(budget - file_size(empty) - _LONGER_NUMBERS, 0)
    spec = _share_out(room, options, empty, labels, real)
    if file_size(spec) > budget and not options.coefficients:
        spec = _with_least_stream(empty, spec.per_class, 1)
    if file_size(spec) > budget:
        raise _too_small(budget, spec.per_class, num_classes, file_size(spec))
    most = max(spec.stream_bytes, 4 * math.ceil(spec.samples * spec.coefficients / 4))
    stream = min(spec.stream_bytes + (budget - file_size(spec)) // 4 * 4, most)
    while file_size(filled := replace(spec, stream_bytes=stream)) > budget:
        stream -= 4  # a longer number takes room itself
    return filled


def _size_generator(
    budget: int,
    options: StoreConfig,
    data: tuple[int, int, int],
    file_size: Callable[[StoreSpec], int],
    real: int,
) -> StoreSpec:
    """As many samples as come to their usual bytes; networks that take a small share of them."""
    num_classes, channels, image_size = data
    block = block_side(image_size)
    grid = -(-image_size // block)
    empty = StoreSpec(
        format="generator",
        num_classes=num_classes,
        per_class=1,
        channels=channels,  # type: ignore[arg-type]
        image_size=image_size,
        width=options.width or _network_width(budget, channels * block**2, num_classes),
        code_channels=channels,
        code_size=grid,
        coefficients=1,
        stream_bytes=2**40,
        soft_labels=min(options.soft_labels, num_classes),
    )
    # of a sample a class
    labels = (file_size(replace(empty, per_class=201)) - file_size(empty)) / 200
    empty = _with_least_levels(empty, 1, 1)
    shared = file_size(empty) - empty.stream_bytes + 4 * num_classes * grid**2
    room = max(budget - shared - _LONGER_NUMBERS, 0)
    usual = options.sample_bytes or usual_sample_bytes(
        room, num_classes=empty.num_classes, channels=empty.channels, image_size=empty.image_size
    )
    fitting = int(room / max(num_classes * usual + labels, 1.0))
    per_class = options.per_class or max(1, min(fitting, real, _MOST_SAMPLES))
    left = max(room - labels * per_class, 0.0) / (num_classes * per_class)
    most = channels * block**2
    fewest = options.coefficients or min(6 * channels, most)
    bands = options.coefficients or min(max(round(_BANDS * left / grid**2), fewest), most)
    choices = [(per_class, bands), (per_class, fewest), (options.per_class or 1, fewest)]
    for choice in choices:
        sized = _with_least_levels(empty, *choice)
        if file_size(sized) <= budget:
            break
    else:
        raise _too_small(budget, sized.per_class, num_classes, file_size(sized))
    stream = sized.stream_bytes + (budget - file_size(sized)) // 4 * 4
    while file_size(filled := replace(sized, stream_bytes=stream)) > budget:
        stream -= 4  # a longer number takes room itself
    return filled


def _with_least_levels(empty: StoreSpec, per_class: int, bands: int) -> StoreSpec:
    """With room for the networks before they learn, and the least for levels."""
    sized = replace(empty, per_class=per_class, coefficients=bands, stream_bytes=2**40)
    levels = sized.samples * bands * sized.blocks / MOST_LEVELS
    return replace(sized, stream_bytes=4 * math.ceil((levels + _WEIGHT_BYTES * sized.weights) / 4))


def _network_width(budget: int, coefficients: int, num_classes: int) -> int:
    """Channels of the synthesis network whose weights take a small share of the budget."""
    fitting = [
        width
        for width in _WIDTHS
        if width * (1.5 * coefficients + 27 * width + num_classes) <= _NETWORK_SHARE * budget
    ]
    return max(fitting, default=_WIDTHS[0])


def _share_out(
    room: int, options: StoreConfig, empty: StoreSpec, labels: float, real: int
) -> StoreSpec:
    """Samples and coefficients for so many bytes beyond the empty ones, with the least stream."""
    values = empty.channels * empty.image_size**2
    fixed = options.coefficients or 1
    usual = options.sample_bytes or usual_sample_bytes(
        room, num_classes=empty.num_classes, channels=empty.channels, image_size=empty.image_size
    )
    each = empty.num_classes * max(usual, fixed / MOST_LEVELS) + labels
    fitting = int((room - 2 * (fixed - 1)) / each)
    per_class = options.per_class or max(1, min(fitting, real, _MOST_SAMPLES))
    samples = empty.num_classes * per_class
    left = max(room - labels * per_class, 0.0)
    # each byte of the samples brings coefficients, and each coefficient takes two bytes itself
    wanted = round(_COEFFICIENTS * left / (samples + 2 * _COEFFICIENTS))
    kept = options.coefficients or min(max(wanted, 1), values)
    return _with_least_stream(empty, per_class, kept)


def _with_least_stream(empty: StoreSpec, per_class: int, kept: int) -> StoreSpec:
    samples = empty.num_classes * per_class
    words = max(empty.num_classes, math.ceil(samples * kept / (4 * MOST_LEVELS)))
    return replace(empty, per_class=per_class, coefficients=kept, stream_bytes=4 * words)


def _too_small(budget: int, per_class: int, num_classes: int, least: int) -> InputError:
    return InputError(
        f"a budget of {budget} bytes is too small for {counted(per_class, 'sample')} of each of "
        f"{num_classes} classes, which need {least} bytes: raise --bytes or --ipc"
    )


def _pixel_shapes(base: StoreSpec, options: StoreConfig) -> list[StoreSpec]:
    least = base.code_size if options.code_size else (base.image_size + 1) // 2
    return [replace(base, code_size=side) for side in range(base.code_size, least - 1, -1)]


def _fill(spec: StoreSpec, budget: int, file_size: Callable[[StoreSpec], int]) -> StoreSpec:
    """As many samples a class as the budget holds."""
    each = (file_size(replace(spec, per_class=1001)) - file_size(replace(spec, per_class=1))) / 1000
    per_class = int((budget - file_size(replace(spec, per_class=1))) / each) + 2
    per_class = min(per_class, _MOST_SAMPLES)
    while file_size(replace(spec, per_class=per_class)) > budget:
        per_class -= 1
    return replace(spec, per_class=per_class)
