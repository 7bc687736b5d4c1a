"""Validation labels and readable names from text files beside the images."""

from __future__ import annotations

import numpy as np
import pytest
from image_builders import pictures, tar_members, write_tar, write_tree

from gencond_fast.data import open_source
from gencond_fast.errors import InputError

CLASSES = ("n01", "n02", "n10")
TRAIN = pictures(3, CLASSES)
LABELS = [2, 0, 0, 1, 2]  # of val_0 … val_4


def flat_val(root, texts, below="", train=TRAIN):
    """A tree whose validation images lie in one folder, with text files at the given paths."""
    write_tree(root / "train", train)
    (root / "val" / below).mkdir(parents=True)
    for place, picture in enumerate(pictures(len(LABELS), ("x",), seed=1)):
        (root / "val" / below / f"val_{place}.png").write_bytes(picture.png)
    for path, text in texts.items():
        (root / path).write_text(text)
    return root


def lines(form):
    return "\n".join(form(place, label) for place, label in enumerate(LABELS)) + "\n"


TINY_IMAGENET = lines(lambda place, label: f"val_{place}.png\t{CLASSES[label]}\t0\t32\t44\t62")
CAFFE = lines(lambda place, label: f"val_{place}.png {label}")
KAGGLE = "ImageId,PredictionString\n" + lines(
    lambda place, label: f"val_{place},{CLASSES[label]} 85 1 499 272 {CLASSES[label]} 1 2 3 4 "
)
LAYOUTS = {
    "Tiny-ImageNet": ("images", {"val/val_annotations.txt": TINY_IMAGENET}),
    "Caffe": ("", {"ILSVRC2012_val.txt": CAFFE}),
    "Caffe, in val": ("", {"val/ILSVRC2012_val.txt": CAFFE}),
    "Kaggle": ("", {"LOC_val_solution.csv": KAGGLE}),
    "Kaggle, shuffled": (
        "",
        {"LOC_val_solution.csv": "\n".join(sorted(KAGGLE.split("\n"), key=lambda s: s[::-1]))},
    ),
    "lines of other files": ("", {"ILSVRC2012_val.txt": f"gone.png 1\n\n{CAFFE}\n"}),
    "the file in val goes first": (
        "",
        {"val/val_annotations.txt": TINY_IMAGENET, "ILSVRC2012_val.txt": "val_0.png 0\n"},
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_flat_validation_folder_is_labelled_by_its_file(tmp_path, name):
    below, texts = LAYOUTS[name]
    source = open_source(str(flat_val(tmp_path / "d", texts, below)))
    assert source.class_names == CLASSES
    found = {source.val.where(row).rpartition("/")[2]: label for row, label in enumerate(LABELS)}
    assert sorted(found) == [f"val_{place}.png" for place in range(5)]
    assert source.val.labels.tolist() == LABELS


def test_a_flat_validation_folder_in_an_archive(tmp_path):
    members = tar_members(TRAIN, "outer/train/")
    for place, picture in enumerate(pictures(len(LABELS), ("x",), seed=1)):
        members[f"outer/val/images/val_{place}.png"] = picture.png
    members["outer/val/val_annotations.txt"] = TINY_IMAGENET.encode()
    members["outer/words.txt"] = b"n01\tone, first\nn02\ttwo\nn03\tno class\nn10\tten\n"
    source = open_source(str(write_tar(tmp_path / "d.tar", members)))
    assert source.val.labels.tolist() == LABELS
    assert source.titles == ("one, first", "two", "ten")


def test_images_of_a_class_may_lie_deeper(tmp_path):
    """Tiny-ImageNet: train/WNID/images/*.JPEG."""
    for name in CLASSES:
        write_tree(tmp_path / "d" / "train" / name, pictures(2, ("images",)))
    source = open_source(str(tmp_path / "d"))
    assert source.class_names == CLASSES
    assert np.bincount(source.train.labels).tolist() == [2, 2, 2]


def test_other_labels_are_another_data_set(tmp_path):
    root = flat_val(tmp_path / "d", {"ILSVRC2012_val.txt": CAFFE})
    first = open_source(str(root)).fingerprint
    assert open_source(str(root)).fingerprint == first
    (root / "ILSVRC2012_val.txt").write_text(CAFFE.replace("val_1.png 0", "val_1.png 1"))
    source = open_source(str(root))
    assert source.val.labels.tolist() == [2, 1, 0, 1, 2]
    assert source.fingerprint != first


def test_class_folders_need_no_file_and_ignore_one(tmp_path):
    root = write_tree(tmp_path / "d" / "train", TRAIN).parent
    write_tree(root / "val", pictures(1, CLASSES))
    (root / "ILSVRC2012_val.txt").write_text("nonsense")
    assert open_source(str(root)).val.labels.tolist() == [0, 1, 2]


REFUSED = {
    "the development kit's order": (
        {"val/ILSVRC2012_validation_ground_truth.txt": "490\n361\n"},
        r"ILSVRC2012_validation_ground_truth.txt, whose numbers follow .*give ILSVRC2012_val.txt",
    ),
    "an image without a line": (
        {"ILSVRC2012_val.txt": CAFFE.replace("val_3", "val_9")},
        r"d/val: ILSVRC2012_val.txt has no line for val_3.png; add it",
    ),
    "more classes than folders": (
        {"ILSVRC2012_val.txt": CAFFE.replace("val_3.png 1", "val_3.png 3")},
        r"numbers classes up to 3, but there are 3 folders",
    ),
    "an unknown class": (
        {"val/val_annotations.txt": TINY_IMAGENET.replace("n02", "n77")},
        r"val/val_annotations.txt names the class 'n77', of which there are no training images",
    ),
    "an empty file": (
        {"ILSVRC2012_val.txt": ""},
        r"ILSVRC2012_val.txt has no line for val_0.png",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_labels_that_cannot_be_trusted_are_refused(tmp_path, case):
    texts, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as caught:
        open_source(str(flat_val(tmp_path / "d", texts)))
    assert str(caught.value).endswith(".")


TITLES = {
    "LOC_synset_mapping.txt": ("n01 tench, Tinca tinca\nn02 goldfish\nn10 a shark\n", True),
    "words.txt": ("n00\tentity\nn10\ta shark\nn02\tgoldfish\nn01\ttench, Tinca tinca", True),
    "classes.txt": ("tench, Tinca tinca\ngoldfish\n\na shark\n", True),
    "classes.txt of pairs": ("n02 goldfish\nn01 tench, Tinca tinca\nn10\ta shark", True),
    "classes.txt of another set": ("tench\ngoldfish", False),
    "LOC_synset_mapping.txt that lacks one": ("n01 tench\nn02 goldfish\n", False),
}


@pytest.mark.parametrize("name", TITLES)
def test_readable_names_are_for_display_alone(tmp_path, name):
    text, fits = TITLES[name]
    root = write_tree(tmp_path / "d", TRAIN)
    plain = open_source(str(root))
    (root / name.split()[0]).write_text(text)
    source = open_source(str(root))
    assert source.class_names == CLASSES
    assert source.titles == (("tench, Tinca tinca", "goldfish", "a shark") if fits else CLASSES)
    assert source.fingerprint == plain.fingerprint
