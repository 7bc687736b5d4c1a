"""Arrays under the names and in the shapes that people store."""

from __future__ import annotations

import numpy as np
import pytest
from image_builders import noise
from test_data_source import read_all

from gencond_fast.data import open_source
from gencond_fast.data.formats.array_names import Form, form_of
from gencond_fast.errors import InputError

LABELS = np.arange(12) % 3

NAMES = {
    "Keras": ("x_train", "y_train", "x_test", "y_test"),
    "Keras, capital": ("X_train", "Y_train", "X_val", "Y_val"),
    "MedMNIST": ("train_images", "train_labels", "val_images", "val_labels"),
    "split first": ("trainX", "trainY", "validX", "validY"),
    "targets": ("train_data", "train_targets", "dev_data", "dev_targets"),
}


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_other_tools_are_read(tmp_path, kind):
    train, test = noise(12, 8, 8, 3), noise(6, 8, 8, 3, seed=1)
    names, arrays = NAMES[kind], (train, LABELS[:, None], test, LABELS[:6])
    np.savez(tmp_path / "d.npz", **dict(zip(names, arrays, strict=True)))
    source = open_source(str(tmp_path / "d.npz"))
    for split, images, labels in (("train", train, LABELS), ("val", test, LABELS[:6])):
        found = read_all(source, split)
        np.testing.assert_array_equal(found[0].permute(0, 2, 3, 1).numpy(), images)
        assert found[1].tolist() == labels.tolist()


@pytest.mark.parametrize("names", [("x", "y"), ("data", "target"), ("image", "label")])
def test_one_split_goes_by_many_names(tmp_path, names):
    np.savez(tmp_path / "d.npz", **dict(zip(names, (noise(12, 8, 8), LABELS), strict=True)))
    assert open_source(str(tmp_path / "d.npz")).train.labels.tolist() == LABELS.tolist()


SHAPES = {
    "planes": (lambda x: x.transpose(0, 3, 1, 2), 3),
    "planes of rows": (lambda x: x.transpose(0, 3, 1, 2).reshape(12, 3, 64), 3),
    "rows of colours": (lambda x: x.reshape(12, 64, 3), 3),
    "one plane": (lambda x: x[:, None, :, :, 0], 1),
    "flat gray": (lambda x: x[..., 0].reshape(12, 64), 1),
    "one flat plane": (lambda x: x[..., 0].reshape(12, 1, 64), 1),
    "gray": (lambda x: x[..., 0], 1),
}


@pytest.mark.parametrize("compress", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_that_are_clear_are_read(tmp_path, shape, compress):
    change, channels = SHAPES[shape]
    images = noise(12, 8, 8, 3)
    compress(tmp_path / "d.npz", images=np.ascontiguousarray(change(images)), labels=LABELS)
    source = open_source(str(tmp_path / "d.npz"))
    assert source.channels == channels
    found = read_all(source)[0].permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(found, images[..., :channels])


def test_the_form_of_an_array_is_found_or_none():
    assert form_of((9, 28, 28)) == Form((28, 28, 1), False)
    assert form_of((9, 3, 1024)) == Form((32, 32, 3), True)
    assert form_of((9, 784)) == Form((28, 28, 1), False)
    assert form_of((9, 30, 32)) == Form((30, 32, 1), False)
    for unclear in ((9, 3072), (9, 3, 8, 3), (9, 1, 8, 1), (9, 8, 8, 4), (9,), (9, 0, 8), (9, 2)):
        assert form_of(unclear) is None


def test_labels_may_be_names_or_truth(tmp_path):
    texts = np.array([b"caf\xe9", b"the", b"water"])[LABELS]
    np.savez(tmp_path / "a.npz", images=noise(12, 8, 8), labels=texts)
    assert open_source(str(tmp_path / "a.npz")).class_names == ("café", "the", "water")
    np.savez(tmp_path / "b.npz", images=noise(12, 8, 8), labels=LABELS == 1)
    assert open_source(str(tmp_path / "b.npz")).class_names == ("False", "True")


def test_class_names_in_old_encodings_are_read(tmp_path):
    np.savez(
        tmp_path / "d.npz", images=noise(12, 8, 8), labels=LABELS,
        classes=np.array([b"caf\xe9", "thé".encode(), b"tea"]),
    )  # fmt: skip
    assert open_source(str(tmp_path / "d.npz")).class_names == ("café", "thé", "tea")


def test_arrays_that_are_not_read_are_told(tmp_path):
    told = []
    more = {"soft_labels": np.zeros((12, 3)), "masks": np.zeros(2)}
    np.savez(tmp_path / "d.npz", images=noise(12, 8, 8), labels=LABELS, **more)
    open_source(str(tmp_path / "d.npz"), tell=told.append)
    assert any("left out: the arrays masks, soft_labels" in line for line in told)


def test_files_of_splits_may_order_their_classes_otherwise(tmp_path):
    for name, classes in (("train", "abc"), ("test", "cab")):
        np.savez(
            tmp_path / f"{name}.npz", images=noise(12, 8, 8), labels=LABELS, classes=[*classes]
        )
    source = open_source(str(tmp_path))
    assert source.val.labels.tolist() == [2, 0, 1] * 4


def test_several_labels_an_image_are_refused(tmp_path):
    np.savez(tmp_path / "d.npz", images=noise(12, 8, 8), labels=np.zeros((12, 14), int))
    with pytest.raises(InputError, match=r"shape \(12, 14\) for 12 images; store one label"):
        open_source(str(tmp_path / "d.npz"))
