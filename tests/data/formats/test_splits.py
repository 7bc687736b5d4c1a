"""Which folders and files are splits, by their names, and what is done about those that are not."""

from __future__ import annotations

import numpy as np
import pytest
from image_builders import (
    noise,
    pictures,
    tar_members,
    write_npz,
    write_parquet,
    write_tar,
    write_tree,
)

from gencond_fast.data import open_source
from gencond_fast.data.formats.splits import choose_test, kind_of, kind_within
from gencond_fast.errors import InputError

CLASSES = ("ant", "bee", "cow")
TRAIN, TEST = pictures(3), pictures(2, seed=1)

NAMES = {
    "train": "train", "Training": "train", "TRAIN_SET": "train", "train2017": "train",
    "trainImages": "train", "val": "val", "Valid": "val", "dev": "val", "validation_data": "val",
    "TEST": "test", "testing": "test", "eval": "test", "test-images": "test",
    "trainer": None, "test_tube": None, "contest": None, "ant": None, "train_val": None, "": None,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_name_says_a_split(name):
    assert kind_of(name) == NAMES[name]


def test_a_word_of_a_name_says_a_split_if_no_other_does():
    assert kind_within("cifar10-test") == "test"
    assert kind_within("seg_train.X1") == "train"
    assert kind_within("train_test_split") is None
    assert kind_within("contestants") is None


def in_folders(root, train, test):
    write_tree(root / train, TRAIN)
    return write_tree(root / test, TEST).parents[len(test.split("/")) - 1]


def in_a_tar(root, train, test):
    root.mkdir()
    members = tar_members(TRAIN, f"{train}/") | tar_members(TEST, f"{test}/")
    return write_tar(root / "made.tar", members)


def in_tables(root, train, test):
    for name, made in ((train, TRAIN), (test, TEST)):
        labels = [CLASSES.index(p.class_name) for p in made]
        names = {"classes": ",".join(CLASSES)}
        write_parquet(root / f"{name}.parquet", [p.png for p in made], labels, names)
    return root


def in_arrays(root, train, test):
    write_npz(root / f"{train}.npz", TRAIN)
    write_npz(root / f"{test}.npz", TEST)
    return root


PAIRS = (
    ("TRAINING", "TESTING"),
    ("Train_Set", "Validation_Set"),
    ("flowers_train", "flowers_test"),
    ("train", "eval"),
    ("trainData", "testData"),
    ("train2017", "val2017"),
)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("container", [in_folders, in_a_tar, in_tables, in_arrays])
def test_keywords_of_splits_are_read_in_any_container(tmp_path, container, pair):
    source = open_source(str(container(tmp_path / "made", *pair)))
    assert source.class_names == CLASSES
    assert np.bincount(source.train.labels).tolist() == [3, 3, 3]
    assert np.bincount(source.val.labels).tolist() == [2, 2, 2]


@pytest.mark.parametrize("inner", ["images/", "training/", "Train/images/"])
def test_a_split_may_lie_in_a_folder_of_its_folder(tmp_path, inner):
    test = inner.replace("training", "testing").replace("Train", "Test")
    made = tmp_path / "made" / "outer" / "more"
    write_tree(made / "train" / inner, TRAIN)
    write_tree(made / "test" / test, TEST)
    source = open_source(str(tmp_path / "made"))
    assert source.class_names == CLASSES
    assert (len(source.train), len(source.val)) == (9, 6)


@pytest.mark.parametrize("name", ["test_tube", "steam_train", "dev_board", "wind-up-train"])
def test_a_class_may_have_a_keyword_in_its_name(tmp_path, name):
    made = [*pictures(2), *pictures(2, (name,))]
    write_tree(tmp_path / "flat", made)
    assert open_source(str(tmp_path / "flat")).class_names == tuple(sorted((*CLASSES, name)))
    write_tree(tmp_path / "split" / "train", made)
    write_tree(tmp_path / "split" / "test", made)
    source = open_source(str(tmp_path / "split"))
    assert source.class_names == tuple(sorted((*CLASSES, name)))
    assert len(source.val) == 8


@pytest.mark.parametrize("names", [("art", "photo"), ("part_a", "part_b"), ("2019", "2020")])
def test_classes_that_hold_the_same_classes_are_refused(tmp_path, names):
    for name in names:
        write_tree(tmp_path / "d" / name, pictures(2))
    with pytest.raises(InputError, match=r"ant/ and bee/ both in .*which are the classes is not"):
        open_source(str(tmp_path / "d"))


@pytest.mark.parametrize("holders", [CLASSES, ("bee",)])
def test_classes_that_hold_splits_are_refused(tmp_path, holders):
    for name in CLASSES:
        inner = ("Train", "testing") if name in holders else ("Train",)
        write_tree(tmp_path / "d" / name, pictures(2, inner))
    with pytest.raises(InputError, match=rf"folders of splits inside {holders[0]}/; put each"):
        open_source(str(tmp_path / "d"))


def test_a_class_that_is_called_as_a_split_is_told(tmp_path):
    told = []
    made = pictures(2, ("ant", "bee", "test"))
    assert len(open_source(str(write_tree(tmp_path / "d", made)), tell=told.append).train) == 6
    assert any("test is read as a class; if it is a split" in line for line in told)


def test_parts_of_a_training_split_are_read_together_and_told(tmp_path):
    """As ImageNet-100 on Kaggle: train.X1 … train.X4 with other classes each, and val.X."""
    for place, name in enumerate(CLASSES):
        write_tree(tmp_path / "d" / f"train.X{place + 1}", pictures(2, (name,)))
    write_tree(tmp_path / "d" / "val.X", TEST)
    told = []
    source = open_source(str(tmp_path / "d"), tell=told.append)
    assert source.class_names == CLASSES
    assert (len(source.train), len(source.val)) == (6, 6)
    assert any("one training split: train.X1, train.X2, train.X3" in line for line in told)


def test_two_training_splits_of_the_same_classes_are_refused(tmp_path):
    for name in ("train", "training"):
        write_tree(tmp_path / "d" / name, TRAIN)
    with pytest.raises(InputError, match=r"train/ant' and .*training/ant' are two folders of one"):
        open_source(str(tmp_path / "d"))


def three(root):
    for name, made in (("train", TRAIN), ("test", TEST), ("dev", pictures(1, seed=2))):
        write_tree(root / name, made)
    return root


WANTED = {None: ("dev", 3), "dev": ("dev", 3), "val": ("dev", 3), "TEST": ("test", 6)}


@pytest.mark.parametrize("wanted", WANTED)
def test_the_split_to_test_on_is_chosen_and_named(tmp_path, wanted):
    source = open_source(str(three(tmp_path / "d")), test_split=wanted)
    assert (source.tested_on, len(source.val)) == WANTED[wanted]
    assert source.test_splits == ("dev", "test")
    assert source.fingerprint == open_source(str(tmp_path / "d")).fingerprint
    assert bool(source.test_identity) == (source.tested_on == "test")


def test_a_chosen_split_takes_the_place_of_a_held_out_part(tmp_path):
    root = str(three(tmp_path / "d"))
    held_out = open_source(root, val_fraction=0.34)
    assert held_out.tested_on is None
    chosen = open_source(root, val_fraction=0.34, test_split="test")
    assert chosen.tested_on == "test"
    assert len(chosen.val) == 6
    assert chosen.train.labels.tolist() == held_out.train.labels.tolist()


def test_a_split_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no one split 'final' to test on; it has dev, test"):
        open_source(str(three(tmp_path / "d")), test_split="final")
    assert choose_test(["val_matched", "val_mismatched"], "val") is None
    assert choose_test(["val_matched", "val_mismatched"], "val_matched") == "val_matched"


UNLABELLED = ("test/0.png", "test/images/0.png", "test/unknown/0.png", "Testing/deep/er/0.png")


@pytest.mark.parametrize("path", UNLABELLED)
@pytest.mark.parametrize("validated", [True, False])
def test_a_test_split_without_labels_stops_nothing(tmp_path, path, validated):
    root = tmp_path / "d"
    write_tree(root / "train", TRAIN)
    if validated:
        write_tree(root / "val", TEST)
    (root / path).parent.mkdir(parents=True)
    (root / path).write_bytes(TEST[0].png)
    told = []
    source = open_source(str(root), tell=told.append)
    assert len(source.train) == 9
    assert source.tested_on == ("val" if validated else None)
    (line,) = [line for line in told if "left out" in line]
    assert "1 image in" in line
    assert path.split("/")[0] in line
    with pytest.raises(InputError, match=r"cannot be tested on .*no class folders"):
        open_source(str(root), test_split=path.split("/")[0])


@pytest.mark.parametrize("labels", [[-1, -1, -1], [None, None, None], [0, -1, None]])
def test_a_table_without_some_labels_of_tests_stops_nothing(tmp_path, labels):
    write_parquet(
        tmp_path / "d" / "train.parquet", [p.png for p in TRAIN], [0, 0, 0, 1, 1, 1, 2, 2, 2]
    )
    write_parquet(tmp_path / "d" / "test.parquet", [p.png for p in TEST[:3]], labels)
    told = []
    source = open_source(str(tmp_path / "d"), tell=told.append)
    assert (None if source.val is None else len(source.val)) == (1 if 0 in labels else None)
    assert any("left out" in line and "no label" in line for line in told)


def test_an_array_file_without_some_labels_of_tests_stops_nothing(tmp_path):
    images, labels = noise(6, 8, 8), np.arange(6) % 3
    none = np.full((6, 1), -1)
    np.savez(
        tmp_path / "d.npz", x_train=images, y_train=labels, x_val=images, y_val=labels,
        x_test=images, y_test=none,
    )  # fmt: skip
    source = open_source(str(tmp_path / "d.npz"))
    assert (source.tested_on, source.test_splits) == ("val", ("val",))
    assert "no label" in source.unusable["test"]


def test_images_outside_of_class_folders_are_told(tmp_path):
    root = in_folders(tmp_path / "d", "train", "val")
    write_tree(root / "extra", pictures(2))
    (root / "cover.png").write_bytes(TEST[0].png)
    told = []
    assert len(open_source(str(root), tell=told.append).train) == 9
    assert any("left out: 7 images outside of all class folders" in line for line in told)
