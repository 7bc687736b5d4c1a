"""The DALI reader gives what the reader in threads gives: images, order and what is left out."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_builders import encode, noise, pictures, write_npz, write_parquet, write_tar
from odd_images import (
    BROKEN,
    ODD,
    PHOTO,
    PLAIN,
    damaged_inside,
    interrupted,
    turned,
)
from PIL import Image

from gencond_fast.data import open_source
from gencond_fast.data.contract import Split
from gencond_fast.data.crop import RandomCrop
from gencond_fast.data.decode import decode
from gencond_fast.data.readers import pipeline as pipelines
from gencond_fast.data.readers.batch import Form, Part, in_order
from gencond_fast.data.readers.decoding import pixels, shapes
from gencond_fast.data.readers.image_reader import ImageReader
from gencond_fast.data.readers.jpeg import plain_size
from gencond_fast.data.readers.threads import read_in_threads
from gencond_fast.data.skipping import BadImage, Skipping

pytest.importorskip("nvidia.dali")

from gencond_fast.data.readers.dali import dali_obstacle, read_with_dali

EXACT = not torch.cuda.is_available()
GRAY = encode(PHOTO.convert("L"), "JPEG")
JPEGS = {
    "420.jpg": encode(PHOTO, "JPEG", subsampling=2),
    "422.jpg": encode(PHOTO, "JPEG", subsampling=1, quality=95),
    "444.jpg": encode(PHOTO, "JPEG", subsampling=0),
    "restarts.jpg": encode(PHOTO, "JPEG", restart_marker_blocks=3),
    "progressive.jpg": encode(PHOTO, "JPEG", progressive=True),
    "gray.jpg": GRAY,
    "tagged.jpg": turned(1),
    "tall.jpg": encode(PHOTO.resize((61, 150)), "JPEG"),
    "wide.jpg": encode(PHOTO.resize((151, 60)), "JPEG"),
    "tiny.jpg": encode(PHOTO.resize((3, 2)), "JPEG"),
}
FOR_PILLOW = {
    **{name: data for name, (data, _) in ODD.items() if name != "gray.jpg"},
    **{f"turned{each}.jpg": turned(each) for each in range(2, 9)},
    **{kind: encode(PHOTO, kind) for kind in ("PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")},
    "rgb.jpg": encode(PHOTO, "JPEG", keep_rgb=True),
    "several.jpg": encode(PHOTO, "MPO", save_all=True, append_images=[PHOTO.rotate(90)]),
    "turned.png": turned(6, "PNG"),
    "turned.webp": turned(3, "WEBP"),
    "wide.png": encode(Image.fromarray(noise(20, 30).astype(np.uint16) * 257)),
    "bits.png": encode(PHOTO.convert("1")),
}
DAMAGED = [  # as DALI meets them, not their header
    damaged_inside(PLAIN["plain.jpg"], 0xDB),
    damaged_inside(PLAIN["progressive.jpg"], 0xC4),
    damaged_inside(PLAIN["progressive.jpg"], 0xDB),
]


class Listed(Split):
    """Files in memory."""

    def __init__(self, files):
        self.names, self.files = list(files), list(files.values())
        self.labels = np.arange(len(self.files)) % 3

    def read(self, indices, block):
        for at in range(0, len(indices), block):
            yield [partial(self.files.__getitem__, row) for row in indices[at : at + block]]

    def where(self, index):
        return self.names[index]


def listed(files, told=None, known=()):
    """A reader of files in memory; with a list `told` it skips what cannot be decoded."""
    known = np.array(known, dtype=np.int64)
    return ImageReader(Listed(files), skip=None if told is None else Skipping(known, told.append))


def numbered(files) -> dict[str, bytes]:
    return {f"{place:03d}.jpg": data for place, data in enumerate(files)}


def read(split, form, rows=None, batch_size=5, workers=2, reader=read_with_dali):
    """As `stream` does it, by the reader asked for."""
    rows = np.arange(len(split)) if rows is None else rows
    with in_order(split.split, rows, batch_size) as pairs:
        for batch in reader(split, form, pairs, workers):
            yield replace(batch, images=batch.images.cpu())


def assert_alike(batches, expected, mean=0.35, most=20):
    """Everything equal, and the pixels too or, of gray and on a GPU, nearly.

    That is in levels, on average and at most.
    """
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert torch.equal(batch.indices, other.indices)
        assert torch.equal(batch.labels, other.labels)
        assert batch.done == other.done
        assert batch.images.shape == other.images.shape
        assert batch.images.dtype == torch.uint8
        off = (batch.images.int() - other.images.int()).abs().float()
        if EXACT and batch.images.shape[1] == 3:
            mean = most = 0
        assert off.mean() <= mean
        assert off.max() <= most


def assert_as_threads(split, form, mean=0.35, most=20, **options):
    """Both readers on one split; whether it was the error that was alike."""
    expected = list(read(split, form, reader=read_in_threads, **options))
    assert_alike(list(read(split, form, **options)), expected, mean, most)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [24, 60, 80, 131])
def test_jpegs_are_those_of_pillow(channels, size):
    """Below 24, Pillow decodes some at a fraction; 60 and 80 are the shorter side of some."""
    assert_as_threads(listed(JPEGS), Form(channels, size))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 24, 60, 131])
@pytest.mark.parametrize("crop", [None, RandomCrop(3, 1), RandomCrop(4, 2, (0.5, 2.0))])
def test_windows_of_jpegs_are_those_of_the_whole_image(channels, size, crop):
    """Against Pillow on images decoded at their full size."""
    split = listed(JPEGS)
    (batch,) = read(split, Form(channels, size, crop), batch_size=len(split))
    off = []
    for row, got in enumerate(batch.images):
        whole = decode(split.split.files[row], channels=channels, where="")
        height, width = whole.shape[:2]
        side = min(width, height)
        if crop is None:
            if EXACT and side >= 4 * size:
                continue  # Pillow decodes it at a fraction
            left, top = (width - side) // 2, (height - side) // 2
            box = (left, top, left + side, top + side)
        else:
            draws = crop.draws(np.array([row]))
            box = tuple(crop.windows(draws, np.array([width]), np.array([height]))[0])
        image = Image.fromarray(whole.squeeze(2) if channels == 1 else whole)
        cut = image.crop(tuple(int(edge) for edge in box))
        resized = np.asarray(cut.resize((size, size), Image.Resampling.BICUBIC))
        expected = torch.from_numpy(resized.reshape(size, size, channels).copy()).permute(2, 0, 1)
        off.append((got.int() - expected.int()).abs().float())
    assert torch.stack(off).mean() <= (1 if size == 8 else 0.35)
    # where pixels are clipped between them, it matters which direction comes first
    assert torch.stack(off).max() <= (8 if EXACT and channels == 3 else 20)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [7, 80, 100])
@pytest.mark.parametrize("crop", [None, RandomCrop(0, 0)])
def test_what_is_not_for_dali_is_what_pillow_decodes(channels, size, crop):
    split, form = listed(FOR_PILLOW), Form(channels, size, crop)
    rows = np.arange(0, len(split))
    for batch in read(split, form, batch_size=len(split)):
        for row, got in zip(rows, batch.images, strict=True):
            (shape,) = shapes(form, rows[row : row + 1])
            load = partial(split.split.files.__getitem__, row)
            expected = pixels(load, split, int(row), form, shape)
            np.testing.assert_array_equal(got.permute(1, 2, 0), expected, split.split.names[row])


@given(
    st.lists(
        st.sampled_from([*JPEGS.values(), *list(FOR_PILLOW.values())[4:], *DAMAGED]), max_size=12
    ),
    st.data(),
    st.integers(1, 13),
    st.integers(1, 3),
)
def test_any_images_in_any_batches(files, draw, batch_size, workers):
    rows = draw.draw(st.sets(st.sampled_from(range(len(files))))) if files else set()
    known = draw.draw(st.sets(st.sampled_from(range(len(files))))) if files else set()
    got = []
    for reader in (read_with_dali, read_in_threads):
        told = []
        split = listed(numbered(files), told, sorted(known))
        options = {"batch_size": batch_size, "workers": workers, "reader": reader}
        wanted = np.array(sorted(rows), dtype=np.int64)
        got.append((list(read(split, Form(3, 33), wanted, **options)), told))
    (batches, told), (expected, expected_told) = got
    assert_alike(batches, expected, mean=1)
    assert told == expected_told


@pytest.mark.parametrize("container", ["tar", "parquet", "folder"])
@pytest.mark.parametrize("batch_size", [1, 4, 9, 100])
def test_every_container_in_order(tmp_path, container, batch_size):
    files = {
        f"{name}/{place}.jpg": encode(Image.fromarray(noise(40, 50, 3, seed=place)), "JPEG")
        for name in ("ant", "bee", "cow")
        for place in range(3)
    }
    if container == "tar":
        data = write_tar(tmp_path / "d.tar", files)
    elif container == "parquet":
        labels = [place // 3 for place in range(9)]
        metadata = {"classes": "ant,bee,cow"}
        data = write_parquet(tmp_path / "d.parquet", list(files.values()), labels, metadata)
    else:
        data = tmp_path / "d"
        for name, encoded in files.items():
            (data / name).parent.mkdir(parents=True, exist_ok=True)
            (data / name).write_bytes(encoded)
    split = open_source(str(data)).train
    batches = list(read(split, Form(3, 40), batch_size=batch_size))
    assert torch.cat([b.indices for b in batches]).tolist() == list(range(9))
    assert torch.cat([b.labels for b in batches]).tolist() == split.labels.tolist()
    assert [b.done for b in batches] == [min(at + batch_size, 9) for at in range(0, 9, batch_size)]
    assert [len(b.images) for b in batches[:-1]] == [batch_size] * (len(batches) - 1)
    decoded = [decode(data, channels=3, where="", image_size=40) for data in files.values()]
    images = torch.cat([b.images for b in batches]).permute(0, 2, 3, 1).numpy()
    assert np.abs(images.astype(int) - np.stack(decoded)).mean() <= 0.35


def test_no_images_no_batches():
    assert list(read(listed({}), Form(3, 8))) == []


def test_arrays_have_nothing_to_decode(tmp_path):
    split = open_source(str(write_npz(tmp_path / "d.npz", pictures(3)))).train
    assert_as_threads(split, Form(3, 5), mean=0, most=0)


def test_batches_may_grow():
    split = listed(numbered(list(JPEGS.values()) * 2))
    edges = [0, 1, 2, 9, 13, 20]

    def pairs():
        for start, stop in pairwise(edges):
            rows = np.arange(start, stop)
            yield Part(rows, stop), next(split.split.read(rows, stop - start))

    batches = list(read_with_dali(split, Form(3, 24), pairs(), 2))
    assert [batch.done for batch in batches] == edges[1:]
    alike = list(read(split, Form(3, 24), batch_size=20, reader=read_in_threads))[0]
    images = torch.cat([batch.images.cpu() for batch in batches])
    assert (images.int() - alike.images.int()).abs().float().mean() <= 0.35


def test_large_images_are_decoded_a_few_at_a_time(monkeypatch):
    split = listed(numbered(list(JPEGS.values()) * 2))
    whole = list(read(split, Form(3, 24), batch_size=7))
    monkeypatch.setattr(pipelines, "_PIXELS_AT_ONCE", 9000)
    assert_alike(list(read(split, Form(3, 24), batch_size=7)), whole, mean=0, most=0)


BAD = [*(data for data, _ in BROKEN.values()), *DAMAGED, interrupted(PLAIN["plain.jpg"])]


@pytest.mark.parametrize(
    "places", [{0}, {2}, {4}, {5}, {14}, {3, 4, 5, 6}, {5, 6, 7, 8, 9}, set(range(15))], ids=str
)
@pytest.mark.parametrize("first", range(0, len(BAD), 3))
def test_bad_images_are_left_out_as_by_the_other_reader(places, first):
    good = list(JPEGS.values())
    files = [good[place % 7] for place in range(15)]
    for turn, place in enumerate(sorted(places)):
        files[place] = BAD[(first + turn) % len(BAD)]
    told = [[], []]
    splits = [listed(numbered(files), lines) for lines in told]
    batches = list(read(splits[0], Form(3, 24)))
    assert_alike(batches, list(read(splits[1], Form(3, 24), reader=read_in_threads)))
    assert told[0] == told[1]
    assert sorted(splits[0].skip.found) == sorted(places)
    kept = [row for batch in batches for row in batch.indices.tolist()]
    assert kept == [place for place in range(15) if place not in places]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("place", [0, 7, 14])
def test_a_bad_image_is_an_error_after_the_batches_before_it(bad, place):
    files = [PLAIN["plain.jpg"]] * 15
    files[place] = bad
    split, seen = listed(numbered(files)), []
    with pytest.raises(BadImage) as caught:
        seen.extend(read(split, Form(3, 24)))
    assert len(seen) == place // 5
    with pytest.raises(BadImage) as expected:
        list(read(split, Form(3, 24), reader=read_in_threads))
    assert str(caught.value) == str(expected.value)
    assert caught.value.where == f"{place:03d}.jpg"


def damaged(jpeg: bytes, draws: np.random.Generator) -> bytes:
    """A JPEG that is damaged anywhere, and ends as a whole one."""
    start, length = draws.integers(2, len(jpeg) - 2), draws.integers(1, 300)
    stop = min(start + length, len(jpeg) - 2)
    marker = bytes([0xFF, draws.integers(0xC0, 0x100), 0, draws.integers(20)])
    put = draws.choice(["", "zeros", "noise", "marker", "copy"])
    between = {
        "": b"",
        "zeros": bytes(stop - start),
        "noise": draws.bytes(int(length)),
        "marker": marker,
        "copy": jpeg[start // 2 : start // 2 + length],
    }[put]
    after = draws.choice([start, stop, len(jpeg) - 2], p=[0.3, 0.5, 0.2])
    return jpeg[:start] + between + jpeg[after:]


@pytest.mark.parametrize(
    "name", ["420.jpg", "444.jpg", "restarts.jpg", "progressive.jpg", "gray.jpg"]
)
def test_damage_is_not_hidden(name):
    """DALI fails where Pillow does; where it does not, it gives the same pixels."""
    form, draws = Form(3, 80), np.random.default_rng(0)
    ours = pipelines.Pipelines(form, 1)
    size, window = np.array([[96, 80]]), np.array([[8, 0, 88, 80]])
    seen = set()
    for _ in range(300):
        data = damaged(JPEGS[name], draws)
        if plain_size(data) != (96, 80):
            continue
        taken = ours.feed([np.frombuffer(data, np.uint8)], size, window, 1).take()
        try:
            expected = decode(data, channels=3, where="", image_size=80)
        except BadImage:
            expected = None
        seen.add((taken is None, expected is None))
        if taken is not None:
            assert expected is not None
            image = taken[0][:, 8:88] if isinstance(taken, list) else taken[0].cpu().numpy()
            assert np.abs(image.astype(int) - expected).max() <= (0 if EXACT else 2)
    ours.close()
    assert (False, False) in seen


def test_known_bad_images_are_not_touched():
    files = numbered([PLAIN["plain.jpg"]] * 12)
    told = []
    split = listed(files, told, known=[3, 4, 11])
    for row in (3, 4, 11):
        split.split.files[row] = None  # neither bytes nor an image
    batches = list(read(split, Form(3, 24)))
    rows = [row for batch in batches for row in batch.indices.tolist()]
    assert rows == [0, 1, 2, 5, 6, 7, 8, 9, 10]
    assert told == []


def test_what_is_no_fault_of_an_image_is_told(monkeypatch):
    def failing(self):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(pipelines.Pipeline, "_images" if EXACT else "_squares", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(read(listed(JPEGS), Form(3, 24)))


def native_threads() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("end", ["close", "drop", "exhaust", "error"])
def test_threads_end_with_the_iterator(end):
    list(read(listed(JPEGS), Form(3, 24)))  # what is started once, and stays
    before = native_threads()
    files = [PLAIN["plain.jpg"]] * 40
    if end == "error":
        files[39] = BROKEN["text.jpg"][0]  # DALI is still at work then
    batches = read(listed(numbered(files)), Form(3, 24), workers=3)
    next(batches)
    assert native_threads() > before + 3
    if end == "close":
        batches.close()
    elif end == "exhaust":
        assert len(list(batches)) == 7
    elif end == "error":
        with pytest.raises(BadImage) as caught:
            list(batches)
        assert caught.tb  # which keeps the reader's frames
    del batches
    assert native_threads() <= before


def test_batches_stay_as_they_are_after_the_reader_is_gone():
    split = listed(numbered(list(JPEGS.values()) * 4))
    batches, copies = [], []
    with in_order(split.split, np.arange(len(split)), 3) as pairs:
        for batch in read_with_dali(split, Form(3, 64), pairs, 2):
            assert batch.images.is_contiguous(memory_format=torch.channels_last)
            batches.append(batch)
            copies.append(batch.images.clone())
    gc.collect()
    assert sum(len(b.images) for b in read(split, Form(3, 64), batch_size=3)) == len(split)
    for batch, copy in zip(batches, copies, strict=True):
        assert torch.equal(batch.images, copy)


SIGNALS = """
import os, signal, sys
import numpy as np
import gencond_fast.data.readers.dali as dali
from gencond_fast.data import open_source
from gencond_fast.data.readers.batch import Form, in_order
assert "nvidia.dali" not in sys.modules  # which takes seconds
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
split = open_source(sys.argv[1]).train
with in_order(split.split, np.arange(len(split)), 2) as pairs:
    batches = dali.read_with_dali(split, Form(3, 16), pairs, 2)
    next(batches)
    assert before == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    try:
        os.kill(os.getpid(), signal.SIGINT)
        list(batches)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    batches.close()
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_signals_arrive(tmp_path):
    files = {f"{name}/{n}.jpg": PLAIN["plain.jpg"] for name in ("a", "b") for n in range(9)}
    data = write_tar(tmp_path / "d.tar", files)
    done = subprocess.run(
        [sys.executable, "-c", SIGNALS, str(data)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.returncode) == ("interrupted\n", -15), done.stderr


def test_nothing_stands_in_the_way_of_dali():
    assert dali_obstacle() is None


def test_what_stands_in_the_way_of_dali(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.partition(".")[0] == "nvidia"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "nvidia").mkdir()
    (tmp_path / "nvidia" / "__init__.py").touch()
    assert dali_obstacle() == "it is not installed (the extra `dali`)"
    monkeypatch.delitem(sys.modules, "nvidia")
    (tmp_path / "nvidia" / "dali").mkdir()
    failing = tmp_path / "nvidia" / "dali" / "__init__.py"
    failing.write_text("raise OSError('libcuda.so.1: no such file\\nand more')")
    assert dali_obstacle() == "it cannot be imported (libcuda.so.1: no such file)"
