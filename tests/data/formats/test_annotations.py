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


def labelled(root, classes, files, text):
    """Labels by name of the images `files` in val/, each of which is that of its place."""
    write_tree(root / "train", pictures(1, classes))
    for place, file in enumerate(files):
        path = root / "val" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pictures(1, ("x",), seed=place)[0].png)
    (root / "val_annotations.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    source = open_source(str(root))
    names = {source.val.split.file_name(row): int(k) for row, k in enumerate(source.val.labels)}
    return {file: source.class_names[label] for file, label in names.items()}


NUMBERED = [str(k) for k in range(1, 13)]
UNCLEAR_NUMBERS = {
    "class0 to class11": [f"class{k}" for k in range(12)],
    "two places of digits": [f"a{k}b{j}" for k in (1, 2) for j in (1, 2, 10)],
    "upper and lower case": ["Ant", "bee", "Cow"],
}


@pytest.mark.parametrize("case", UNCLEAR_NUMBERS)
def test_places_among_names_of_several_orders_are_refused(tmp_path, case):
    names = UNCLEAR_NUMBERS[case]
    files = [f"of_{k}.png" for k in range(len(names))]
    text = "\n".join(f"of_{k}.png\t{k}" for k in range(len(names)))
    with pytest.raises(InputError, match=r"numbers the classes, .*have several orders, so which"):
        labelled(tmp_path / "d", names, files, text)


def test_folders_that_are_numbers_are_meant_by_name(tmp_path):
    files = [f"{name}.png" for name in NUMBERED]
    text = "\n".join([*(f"{name}.png\t{name}" for name in NUMBERED), "gone.png\t0"])
    assert labelled(tmp_path / "a", NUMBERED, files, text) == dict(
        zip(files, NUMBERED, strict=True)
    )
    with pytest.raises(InputError, match="names the class '0', of which there are no training"):
        labelled(tmp_path / "b", NUMBERED, [*files, "gone.png"], text)


def test_numbers_that_may_start_from_one_are_refused(tmp_path):
    with pytest.raises(InputError, match="numbers classes from 1, perhaps up from 1, so which"):
        labelled(tmp_path / "d", CLASSES, ["a.png", "b.png"], "a.png 1\nb.png 2")


def test_padded_numbers_have_one_order(tmp_path):
    names = [f"class{k:02d}" for k in range(12)]
    files = [f"of_{k}.png" for k in range(12)]
    text = "\n".join(f"of_{k}.png {k}" for k in range(12))
    assert labelled(tmp_path / "d", names, files, text) == dict(zip(files, names, strict=True))


FILES = {
    "extensions tell": (["a.png", "a.jpg"], "a.png n01\na.jpg n02", ["n01", "n02"]),
    "stems are enough": (["a.png", "b.jpg"], "a n01\nb.jpeg n02", ["n01", "n02"]),
    "folders tell": (["x/a.png", "y/a.png"], "x/a.png n01\ny/a.png n02", ["n01", "n02"]),
    "folders from the root": (["a.png"], "val/a.png n10", ["n10"]),
    "folders of elsewhere": (["a.png", "a.jpg"], "/me/a.png n10\n/me/a.jpg n01", ["n10", "n01"]),
    "a mark and CRLF": (
        ["a.png", "b.png"], b"\xef\xbb\xbfa.png\tn01\r\nb.png\tn02\r\n", ["n01", "n02"],
    ),
    "UTF-16": (["a.png"], "a.png\tn02\n".encode("utf-16"), ["n02"]),
    "é of two characters": (["e\u0301.png"], "\u00e9.png n01", ["n01"]),
    "é of one character": (["\u00e9.png"], "e\u0301.png n01", ["n01"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_lines_find_their_file(tmp_path, case):
    files, text, kinds = FILES[case]
    found = labelled(tmp_path / "d", CLASSES, files, text)
    if len(found) == len(files):
        expected = dict(zip((file.split("/")[-1] for file in files), kinds, strict=True))
        assert found == expected
    else:  # of one name
        source = open_source(str(tmp_path / "d"))
        assert [source.class_names[k] for k in source.val.labels] == kinds


UNCLEAR = {
    "a shared stem": (["a.png", "a.jpg"], "a n01", "a line of .* could mean several images"),
    "a shared name": (["x/a.png", "y/a.png"], "a.png n01", "could mean several images"),
    "two lines": (["a.png"], "a.png n01\na.png n02", "says n01 and n02 of a.png; keep one line"),
    "two lines of a stem": (["a.png"], "a.jpg n01\na.bmp n02", "says n01 and n02 of a.png"),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_lines_that_are_not_clear_are_refused(tmp_path, case):
    files, text, message = UNCLEAR[case]
    with pytest.raises(InputError, match=message):
        labelled(tmp_path / "d", CLASSES, files, text)
