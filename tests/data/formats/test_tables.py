"""Tables in the layouts that people have: files, columns and labels of any kind."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_builders import pictures
from test_data_source import read_all

from gencond_fast.data import open_source
from gencond_fast.errors import InputError

CLASSES = ("ant", "bee", "cow")
MADE = pictures(2)
NUMBERS = [0, 0, 1, 1, 2, 2]
KIND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def table(path, labels=NUMBERS, names=CLASSES, image="image", label="label", features=(), **more):
    """A file of the six pictures; `features` says the hub's types of further columns."""
    cells = pa.array([{"bytes": p.png, "path": None} for p in MADE], KIND)
    made = {image: {"_type": "Image"}} | dict(features)
    if names is not None:
        made[label] = {"_type": "ClassLabel", "names": list(names)}
    described = {"huggingface": json.dumps({"info": {"features": made}})}
    columns = {image: cells, label: labels} | more
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata(described), path)
    return path


LAYOUTS = {
    "plain_text": (
        "plain_text/train-00000-of-00001.parquet", "plain_text/test-00000-of-00001.parquet",
    ),
    "the hub's own conversion": ("default/train/0000.parquet", "default/test/0000.parquet"),
    "folders of splits": ("data/Train/0000.parquet", "data/validation/0000.parquet"),
    "the name of the set": ("beans-train.parquet", "beans-validation.parquet"),
    "Spark": (
        "train.parquet/part-00000-ab12.snappy.parquet", "val.parquet/part-00000-cd34.c000.parquet",
    ),
    "upper case": ("TRAIN.PARQUET", "TEST.PARQUET"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_the_hub_and_of_spark_are_read(tmp_path, layout):
    for path in LAYOUTS[layout]:
        table(tmp_path / "d" / path)
    for name in ("_SUCCESS", "README.md", "dataset_infos.json"):
        (tmp_path / "d" / name).write_text("")
    source = open_source(str(tmp_path / "d"))
    assert source.class_names == CLASSES
    for split in ("train", "val"):
        images, labels = read_all(source, split)
        assert labels.tolist() == NUMBERS
        np.testing.assert_array_equal(images[3].permute(1, 2, 0).numpy(), MADE[3].pixels)


def test_the_folder_of_a_configuration_or_of_a_split_can_be_given_itself(tmp_path):
    for path in LAYOUTS["plain_text"] + LAYOUTS["the hub's own conversion"]:
        table(tmp_path / "d" / path)
    with pytest.raises(InputError, match=r"several configurations \(default, plain_text\); give"):
        open_source(str(tmp_path / "d"))
    for part, tested in (("plain_text", 6), ("default", 6), ("default/train", None)):
        source = open_source(str(tmp_path / "d" / part))
        assert (len(source.train), source.val and len(source.val)) == (6, tested)


LABELS = {
    "texts": (["cow", "cow", "ant", "ant", "bee", "bee"], CLASSES, [2, 2, 0, 0, 1, 1]),
    "large texts": (pa.array([*"bbbaaa"], pa.large_string()), ("a", "b"), [1, 1, 1, 0, 0, 0]),
    "truth": ([True, False, True, True, False, False], ("False", "True"), [1, 0, 1, 1, 0, 0]),
    "categories": (
        pa.array([*"xyxyxy"]).dictionary_encode(), ("x", "y"), [0, 1, 0, 1, 0, 1],
    ),
    "small numbers": (pa.array([7, 9, 7, 9, 7, 9], pa.uint8()), ("7", "9"), [0, 1, 0, 1, 0, 1]),
}  # fmt: skip


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_type_are_classes(tmp_path, kind):
    stored, names, labels = LABELS[kind]
    source = open_source(str(table(tmp_path / "train.parquet", stored, names=None)))
    assert source.class_names == names
    assert source.train.labels.tolist() == labels


def test_texts_of_several_files_share_one_numbering(tmp_path):
    table(tmp_path / "train-0.parquet", ["cow"] * 3 + ["bee"] * 3, names=None)
    table(tmp_path / "train-1.parquet", ["ant"] * 3 + ["bee"] * 3, names=None)
    table(tmp_path / "test.parquet", ["cow"] * 6, names=None)
    source = open_source(str(tmp_path))
    assert source.class_names == CLASSES
    assert source.train.labels.tolist() == [2] * 3 + [1] * 3 + [0] * 3 + [1] * 3
    assert source.val.labels.tolist() == [2] * 6


COLUMNS = [("img", "fine_label"), ("pixel_values", "labels"), ("jpg", "cls"), ("photo", "kind")]


@pytest.mark.parametrize("columns", COLUMNS)
def test_columns_of_other_names_are_found(tmp_path, columns):
    path = table(tmp_path / "train.parquet", image=columns[0], label=columns[1])
    assert open_source(str(path)).class_names == CLASSES


def test_of_two_columns_of_labels_one_is_chosen_and_the_other_told(tmp_path):
    coarse = {"coarse_label": {"_type": "ClassLabel", "names": ["animal", "plant"]}}
    path = table(
        tmp_path / "train.parquet", label="fine_label", features=coarse, coarse_label=[0, 1] * 3
    )
    told = []
    assert open_source(str(path), tell=told.append).class_names == CLASSES
    assert any("from the column fine_label; coarse_label would do" in line for line in told)
    source = open_source(str(path), label_column="coarse_label")
    assert source.class_names == ("animal", "plant")
    with pytest.raises(InputError, match=r"no column 'kind' \(found: image, fine_label, coarse"):
        open_source(str(path), label_column="kind")


@pytest.mark.parametrize("other", ["train-1.parquet", "test.parquet"])
def test_files_that_list_the_classes_in_another_order_are_renumbered(tmp_path, other):
    table(tmp_path / "train-0.parquet")
    table(tmp_path / other, names=("cow", "ant", "bee"))
    source = open_source(str(tmp_path))
    assert source.class_names == CLASSES
    labels = [source.train.labels, *([] if source.val is None else [source.val.labels])]
    assert np.concatenate(labels).tolist() == [*NUMBERS, 2, 2, 0, 0, 1, 1]


def test_files_that_list_other_classes_are_refused(tmp_path):
    table(tmp_path / "train-0.parquet")
    table(tmp_path / "train-1.parquet", names=("ant", "bee", "dog"))
    with pytest.raises(InputError, match=r"train-1.parquet and .*train-0.parquet name different"):
        open_source(str(tmp_path))


def test_two_classes_of_one_name_stay_two(tmp_path):
    told = []
    path = table(tmp_path / "train.parquet", names=("crane", "hen", "crane"))
    source = open_source(str(path), tell=told.append)
    assert source.class_names == ("crane (0)", "hen", "crane (2)")
    assert any("2 classes are called 'crane'" in line for line in told)


SHARDS = {
    "one lost": (
        [0, 2],
        "3",
        r"2 of 3 shards, such as train-00000-of-00003.parquet, without number 1;",
    ),
    "the last lost": ([0, 1], "3", r"2 of 3 shards, .* without number 2;"),
    "counted from one": ([2, 3], "3", r"2 of 3 shards, .* without number 1;"),
}


@pytest.mark.parametrize("case", SHARDS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_shards_that_are_not_there_are_missed(tmp_path, case, split):
    numbers, total, message = SHARDS[case]
    table(tmp_path / f"{'test' if split == 'train' else 'train'}.parquet")
    for number in numbers:
        table(tmp_path / f"{split}-{number:05d}-of-{int(total):05d}.parquet")
    with pytest.raises(InputError, match=message.replace("train", split)):
        open_source(str(tmp_path))


def test_shards_of_two_sets_are_refused(tmp_path):
    for name in ("train-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"):
        table(tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match="shards of different sets"):
        open_source(str(tmp_path))


def test_shards_with_the_hash_that_the_hub_once_gave_them_are_read(tmp_path):
    hashes = ("a09b74b3ef9c3b56", "1234567890123456", "deadbeefdeadbeef")
    for split in ("train", "test"):
        for number, end in enumerate(hashes):
            table(tmp_path / "data" / f"{split}-{number:05d}-of-00003-{end}.parquet")
    source = open_source(str(tmp_path))
    assert (len(source.train), len(source.val), source.tested_on) == (18, 18, "test")
    (tmp_path / "data" / f"test-00001-of-00003-{hashes[1]}.parquet").unlink()
    with pytest.raises(InputError, match=r"2 of 3 shards, .* without number 1;"):
        open_source(str(tmp_path))


def test_all_shards_counted_from_one_are_read(tmp_path):
    for number in (1, 2):
        table(tmp_path / f"train-{number:05d}-of-00002.parquet")
    assert len(open_source(str(tmp_path)).train) == 12


def test_what_is_not_read_or_read_together_is_told(tmp_path):
    for name in ("train_a-0", "train_b-0", "train_b-3", "train_b-4", "extra", "sub/train"):
        table(tmp_path / f"{name}.parquet")
    told = []
    assert len(open_source(str(tmp_path), tell=told.append).train) == 24
    text = "\n".join(told)
    assert "one training split: train_a, train_b" in text
    assert "1 file whose names say no split, such as extra.parquet" in text
    assert "left out: 1 file in sub" in text
