"""A part of the classes, chosen by name."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_builders import pictures, write_npz, write_tree
from test_data_source import CONTAINERS, read_all

from gencond_fast.data import open_source
from gencond_fast.data.classes import parse_classes, select
from gencond_fast.data.formats.arrays import ArraySplit
from gencond_fast.errors import InputError


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_images_of_the_chosen_classes_are_read(tmp_path, container):
    data = str(container(tmp_path / "made", pictures(4), pictures(2, seed=1)))
    whole = open_source(data)
    source = open_source(data, classes=["cow", "ant"])
    assert source.class_names == ("ant", "cow")  # the order of the data
    for split in ("train", "val"):
        images, labels = read_all(whole, split)
        chosen, numbers = read_all(source, split)
        assert torch.equal(chosen, images[labels != 1])
        assert torch.equal(numbers, labels[labels != 1] // 2)
    given_order = open_source(data, classes=["cow", "ant"], in_given_order=True)
    assert given_order.class_names == ("cow", "ant")
    assert given_order.val.labels.tolist() == [1, 1, 0, 0]


@given(
    st.lists(st.integers(0, 6), max_size=60),
    st.lists(st.integers(0, 6), min_size=1, unique=True),
    st.randoms(),
)
def test_selection_against_a_loop(labels, kept, random):
    labels = np.array(labels, dtype=np.int64)
    base = ArraySplit(np.arange(len(labels) or 1, dtype=np.uint8)[: len(labels), None, None, None],
                      labels, "made")  # fmt: skip
    part = select(base, kept, 7)
    rows = [row for row, label in enumerate(labels) if label in kept]
    assert part.labels.tolist() == [kept.index(labels[row]) for row in rows]
    assert part.origin(np.arange(len(part))).tolist() == rows
    edges = part.pieces()
    assert edges[0] == 0
    assert edges[-1] == len(rows)
    wanted = np.array(sorted(random.sample(range(len(rows)), len(rows) // 2)), dtype=np.int64)
    read = [int(i) for block in part.read(wanted, 3) for i in block.ravel()]
    assert read == [rows[row] for row in wanted]


def test_fingerprints_tell_choices_apart_and_all_classes_are_no_choice(tmp_path):
    data = str(write_npz(tmp_path / "set.npz", pictures(3)))
    prints = {
        classes: open_source(data, classes=classes).fingerprint
        for classes in (None, ("ant", "bee"), ("bee", "ant"), ("ant", "cow"), ("cow", "bee", "ant"))
    }
    assert prints[None] == prints["cow", "bee", "ant"]
    assert prints["ant", "bee"] == prints["bee", "ant"]
    assert len(set(prints.values())) == 3


def test_the_same_images_are_set_apart_whichever_classes_are_chosen(tmp_path):
    data = str(write_npz(tmp_path / "set.npz", pictures(10)))
    options = {"val_fraction": 0.3, "seed": 4}
    whole, part = open_source(data, **options), open_source(data, classes=["bee", "cow"], **options)
    for split in ("train", "val"):
        images, labels = read_all(whole, split)
        assert torch.equal(read_all(part, split)[0], images[labels > 0])


def test_gray_classes_of_a_colour_set_are_gray(tmp_path):
    root = write_tree(tmp_path / "set", pictures(2, ("ant", "bee"), shape=(8, 8)))
    write_tree(root, pictures(2, ("cow",)))
    assert open_source(str(root)).channels == 3
    assert open_source(str(root), classes=["ant", "bee"]).channels == 1


def test_names_between_commas_or_in_a_file(tmp_path):
    assert parse_classes("n01, n02,,n01") == ("n01", "n02")
    file = tmp_path / "names.txt"
    file.write_text("golden retriever\n\n cat, tabby \ngolden retriever\n")
    assert parse_classes(str(file)) == ("golden retriever", "cat, tabby")
    file.write_text("\n")
    for empty in (str(file), " , "):
        with pytest.raises(InputError, match="names no class; give names between commas or a file"):
            parse_classes(empty)
    for content in (b"", b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"names.txt' names no class"):
            parse_classes(str(file))
    file.write_bytes(pictures(1)[0].png)
    with pytest.raises(InputError, match=r"names.txt is no text; give a file with one name a line"):
        parse_classes(str(file))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (("ant", "bees"), r"set has no class 'bees'; did you mean bee \(wild bee\)\?"),
        (("ant", "Wild bee"), r"no class 'Wild bee'; did you mean bee \(wild bee\)\?"),
        (("ant", "zebra"), r"no class 'zebra'; it has 3, such as ant, bee, cow\."),
        (("ant", "ant"), r"only the class 'ant' is chosen; choose at least two"),
    ],
)
def test_a_class_that_is_not_there(tmp_path, wanted, message):
    root = write_tree(tmp_path / "set", pictures(2))
    (root / "classes.txt").write_text("red ant\nwild bee\ncow\n")
    with pytest.raises(InputError, match=message):
        open_source(str(root), classes=wanted)


def test_dozens_of_names_are_no_path(tmp_path):
    names = [f"n{k:08d}" for k in range(60)]
    assert parse_classes(",".join(names)) == tuple(names)
    assert parse_classes("~nobody/x,b") == ("~nobody/x", "b")


FORMS = {
    "a mark of UTF-8": "ant\r\nthé\r\n".encode("utf-8-sig"),
    "UTF-16": "ant\nthé\n".encode("utf-16"),
    "Latin-1": "ant\nthé".encode("latin-1"),
    "é of two characters": "ant\nthe\u0301\n".encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_files_of_names_that_other_systems_wrote_are_read(tmp_path, form):
    (tmp_path / "classes.txt").write_bytes(FORMS[form])
    assert parse_classes(str(tmp_path / "classes.txt")) == ("ant", "thé")


@pytest.mark.parametrize("folder", [b"the\xcc\x81", b"th\xc3\xa9", b"th\xe9"])
@pytest.mark.parametrize("wanted", ["thé", "the\u0301"])
def test_a_class_is_found_however_its_name_is_encoded(tmp_path, folder, wanted):
    for name in (b"ant", b"bee", folder):
        path = os.path.join(os.fsencode(tmp_path), b"d", name)
        os.makedirs(path)
        with open(os.path.join(path, b"0.png"), "wb") as file:
            file.write(pictures(1)[0].png)
    source = open_source(str(tmp_path / "d"), classes=parse_classes(f"{wanted},ant"))
    assert source.class_names == ("ant", "thé")


def test_two_folders_of_one_name_in_two_encodings_are_refused(tmp_path):
    for name in ("the\u0301", "th\u00e9", "ant"):
        write_tree(tmp_path / "d" / name, pictures(1, (".",)))
    with pytest.raises(InputError, match="are two folders of one class; put their images into one"):
        open_source(str(tmp_path / "d"))


def test_all_classes_of_a_title_are_proposed(tmp_path):
    write_tree(tmp_path / "train", pictures(2))
    (tmp_path / "LOC_synset_mapping.txt").write_text("ant crane, machine\nbee crane\ncow kite\n")
    with pytest.raises(InputError, match=r"did you mean ant \(crane, machine\) or bee \(crane\)"):
        open_source(str(tmp_path), classes=["crane", "cow"])
