from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
import torch
from image_builders import encode, noise, pictures, write_npz, write_tree
from PIL import Image

from gencond_fast.data import open_source, stream
from gencond_fast.errors import InputError


def decoding_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("gencond-decode")]


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "tree", pictures(7))


@pytest.mark.parametrize("batch_size", [1, 4, 21, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_order_and_short_last_batch(tree, batch_size, workers):
    split = open_source(str(tree)).train
    options = {"channels": 3, "image_size": 8, "batch_size": batch_size, "workers": workers}
    batches = list(stream(split, **options))
    assert [len(b.images) for b in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert 1 <= len(batches[-1].images) <= batch_size
    assert torch.cat([b.indices for b in batches]).tolist() == list(range(21))
    assert torch.cat([b.labels for b in batches]).tolist() == split.labels.tolist()
    for batch in batches:
        assert batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous()
        assert batch.labels.dtype == batch.indices.dtype == torch.int64
    images = torch.cat([b.images for b in batches]).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(images, np.stack([p.pixels for p in pictures(7)]))


def test_chosen_indices_come_in_ascending_order(tree):
    split = open_source(str(tree)).train
    got = list(stream(split, channels=3, image_size=8, batch_size=2, indices=np.array([9, 0, 20])))
    assert [b.indices.tolist() for b in got] == [[0, 9], [20]]
    np.testing.assert_array_equal(got[1].images[0].permute(1, 2, 0).numpy(), pictures(7)[20].pixels)


def test_no_indices_no_batches(tree):
    split = open_source(str(tree)).train
    empty = np.array([], dtype=np.int64)
    assert list(stream(split, channels=3, image_size=8, batch_size=2, indices=empty)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": 2},
        {"image_size": 0},
        {"batch_size": 0},
        {"workers": 0},
        {"indices": np.array([4, 4])},
        {"indices": np.array([21])},
        {"indices": np.array([-1])},
    ],
)
def test_wrong_arguments_fail_at_once(tree, wrong):
    split = open_source(str(tree)).train
    with pytest.raises(ValueError, match="must be|must not|not within"):
        stream(split, **{"channels": 3, "image_size": 8, "batch_size": 4, **wrong})


@pytest.mark.parametrize("end", ["close", "drop", "exhaust"])
def test_threads_end_with_the_iterator(tree, end):
    split = open_source(str(tree), reader="threads").train
    batches = stream(split, channels=3, image_size=5, batch_size=2, workers=3)
    next(batches)
    assert decoding_threads()
    if end == "close":
        batches.close()
    elif end == "exhaust":
        assert len(list(batches)) == 10
    del batches
    gc.collect()
    assert not decoding_threads()


def test_threads_end_and_the_error_arrives_when_an_image_is_bad(tree):
    (tree / "bee" / "0003.png").write_bytes(b"no image")
    split = open_source(str(tree), reader="threads").train
    batches = stream(split, channels=3, image_size=8, batch_size=4)
    assert next(batches).indices.tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match=r"bee/0003.png is no image"):
        list(batches)
    assert not decoding_threads()


def test_an_image_that_vanishes_or_may_not_be_read(tree, monkeypatch):
    split = open_source(str(tree)).train
    (tree / "ant" / "0002.png").unlink()
    with pytest.raises(InputError, match=r"ant/0002.png is gone .*restore it"):
        list(stream(split, channels=3, image_size=8, batch_size=4))

    def forbidden(path, mode):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("gencond_fast.data.formats.folder.open", forbidden, raising=False)
    with pytest.raises(InputError, match=r"ant/0000.png may not be read"):
        list(stream(split, channels=3, image_size=8, batch_size=4))


def test_arrays_are_cropped_or_resized_like_files(tmp_path):
    made = pictures(3, shape=(9, 12, 3))
    folder = open_source(str(write_tree(tmp_path / "tree", made))).train
    table = open_source(str(write_npz(tmp_path / "made.npz", made))).train
    for size in (9, 6, 20):
        for channels in (1, 3):
            options = {"channels": channels, "image_size": size, "batch_size": 9}
            one, other = next(stream(folder, **options)), next(stream(table, **options))
            assert torch.equal(one.images, other.images)


def hard_linked(root, count, data):
    for name in ("ant", "bee"):
        (root / name).mkdir(parents=True)
        first = root / name / "00000.jpg"
        first.write_bytes(data)
        for place in range(1, count // 2):
            os.link(first, root / name / f"{place:05d}.jpg")
    return root


def test_python_memory_does_not_grow_with_images(tmp_path):
    data = encode(Image.fromarray(noise(16, 16, 3)), "JPEG")
    peaks = {}
    for count in (400, 1600):
        root = hard_linked(tmp_path / str(count), count, data)
        tracemalloc.start()
        source = open_source(str(root))
        for _ in stream(source.train, channels=3, image_size=16, batch_size=32):
            pass
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # Scanning sorts one folder's entries at a time; nothing else is kept beyond ~60 bytes a file.
    assert peaks[1600] - peaks[400] < 1200 * 600


RESIDENT = """
import resource, sys
from gencond_fast.data import open_source, stream
for root in sys.argv[1:]:
    source = open_source(root)
    for batch in stream(source.train, channels=3, image_size=256, batch_size=16):
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_resident_memory_does_not_grow_with_images(tmp_path):
    data = encode(Image.fromarray(noise(256, 256, 3)), "JPEG", quality=50)
    roots = [str(hard_linked(tmp_path / str(n), n, data)) for n in (120, 480)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run(
        [sys.executable, "-c", RESIDENT, *roots],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    few, many = map(int, result.stdout.split())
    pixels_of_the_rest = 360 * 3 * 256 * 256 / 1024
    assert many - few < pixels_of_the_rest / 3
