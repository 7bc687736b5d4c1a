"""Folders of `datasets.save_to_disk`, written here as that does."""

from __future__ import annotations

import json
import random

import numpy as np
import pyarrow as pa
import pytest
from image_builders import pictures
from test_data_source import read_all

from gencond_fast.data import open_source
from gencond_fast.errors import InputError

CLASSES = ("ant", "bee", "cow")
MADE = pictures(4)
NUMBERS = [CLASSES.index(p.class_name) for p in MADE]
KIND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def saved(folder, made=MADE, shards=1, state=None, stream=True, column="image"):
    """A split, in `shards` files of batches of two rows."""
    folder.mkdir(parents=True)
    label = {"_type": "ClassLabel", "names": list(CLASSES)}
    features = {column: {"_type": "Image"}, "label": label}
    schema = pa.schema([(column, KIND), ("label", pa.int64())]).with_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    files = [f"data-{number:05d}-of-{shards:05d}.arrow" for number in range(shards)]
    for number, name in enumerate(files):
        part = made[number * len(made) // shards : (number + 1) * len(made) // shards]
        cells = pa.array([p.png and {"bytes": p.png, "path": None} for p in part], KIND)
        labels = pa.array([CLASSES.index(p.class_name) for p in part], pa.int64())
        table = pa.table([cells, labels], schema=schema)
        new = pa.ipc.new_stream if stream else pa.ipc.new_file
        with pa.OSFile(str(folder / name), "wb") as file, new(file, schema) as out:
            out.write_table(table, max_chunksize=2)
    about = {"_data_files": [{"filename": name} for name in files]} | (state or {})
    (folder / "state.json").write_text(json.dumps(about))
    (folder / "dataset_info.json").write_text("{}")
    return folder


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_split_is_read(tmp_path, shards, stream):
    source = open_source(str(saved(tmp_path / "d", shards=shards, stream=stream, column="img")))
    assert source.class_names == CLASSES
    images, labels = read_all(source)
    assert labels.tolist() == NUMBERS
    np.testing.assert_array_equal(
        images.permute(0, 2, 3, 1).numpy(), np.stack([p.pixels for p in MADE])
    )
    assert "row 1 of " in source.train.where(5 if shards == 3 else 1)


def test_splits_are_read(tmp_path):
    saved(tmp_path / "d" / "train", shards=2)
    saved(tmp_path / "d" / "validation", MADE[:5])
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    source = open_source(str(tmp_path / "d"))
    assert (source.tested_on, len(source.train), len(source.val)) == ("validation", 12, 5)
    assert read_all(source, "val")[1].tolist() == NUMBERS[:5]


def test_files_that_the_state_names_are_missed(tmp_path):
    folder = saved(tmp_path / "d", shards=2, state={"_data_files": [{"filename": "data-9.arrow"}]})
    with pytest.raises(InputError, match=r"d lacks data-9.arrow, which state.json names"):
        open_source(str(folder))
    (saved(tmp_path / "e", shards=3) / "data-00001-of-00003.arrow").unlink()
    with pytest.raises(InputError, match="2 of 3 shards, .* without number 1"):
        open_source(str(tmp_path / "e"))


def test_a_choice_of_rows_is_refused(tmp_path):
    folder = saved(tmp_path / "d", state={"_indices_data_files": [{"filename": "indices.arrow"}]})
    with pytest.raises(InputError, match=r"holds a choice of rows .*flatten_indices\(\)"):
        open_source(str(folder))


@pytest.mark.parametrize("spoil", [lambda data: data[: len(data) // 2], lambda data: b"x" * 99])
def test_damaged_files_are_refused(tmp_path, spoil):
    file = saved(tmp_path / "d") / "data-00000-of-00001.arrow"
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(InputError, match="is damaged or no Arrow file"):
        open_source(str(tmp_path / "d"))


def test_spoilt_bytes_give_images_or_an_input_error(tmp_path):
    folder = saved(tmp_path / "d")
    (folder / "state.json").unlink()
    file = folder / "data-00000-of-00001.arrow"
    good, rng = file.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(100):
        data = bytearray(good)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        file.write_bytes(data)
        try:
            read_all(open_source(str(folder), reader="threads"))
        except InputError:
            refused += 1
    assert refused > 10
