"""Which split is tested on: chosen, and said in the log, the table, the JSON and the report."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import TINY, call
from image_builders import encode
from PIL import Image

from gencond_fast import api

TRAIN, VAL, TEST = 40, 12, 20


def arrays(count, seed, wrong=False):
    """Classes that differ in brightness; `wrong` swaps their labels."""
    labels = np.arange(count) % 2
    noise = np.random.default_rng(seed).normal(0, 10, (count, 8, 8))
    images = np.clip(100 * labels[:, None, None] + 50 + noise, 0, 255).astype(np.uint8)
    return images, 1 - labels if wrong else labels


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Students that learn the training images get all of val right and all of test wrong."""
    path = tmp_path_factory.mktemp("data") / "set.npz"
    parts = {"train": arrays(TRAIN, 0), "val": arrays(VAL, 1), "test": arrays(TEST, 2, wrong=True)}
    named = {f"{kind}_{name}": array for name, pair in parts.items()
             for kind, array in zip("xy", pair, strict=True)}  # fmt: skip
    np.savez(path, **named)
    return str(path)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    done = call("condense", "--data", data, "--out", run, *TINY)
    assert done.code == 0, done.err
    return run


def evaluated(run, data, tmp_path, *more):
    file = tmp_path / "result.json"
    options = ("--epochs", 60, "--seeds", 1, "--json", file)
    done = call("evaluate", run, "--data", data, *options, *more)
    assert done.code == 0, done.err
    return done, json.loads(file.read_text())


@pytest.mark.parametrize(("wanted", "split"), [((), "val"), (("--test-split", "testing"), "test")])
def test_the_split_is_said_everywhere(run, data, tmp_path, wanted, split):
    done, result = evaluated(run, data, tmp_path, *wanted)
    count, other = (VAL, "test") if split == "val" else (TEST, "val")
    assert f"tested on {split}, {count} images" in done.out
    assert f"tested on {split}, {count} images; there is also {other}" in done.err
    assert (result["tested_on"], result["test_images"]) == (split, count)
    accuracy = result["rows"][0]["accuracies"][0]
    assert accuracy > 0.8 if split == "val" else accuracy < 0.2


def test_python_and_the_report_say_it(run, data, tmp_path):
    result = api.evaluate(run, data, epochs=1, seeds=1, test_split="test", progress=False)
    assert result.table().endswith(f"tested on test, {TEST} images")
    (run / "evaluation.json").write_text(json.dumps(result.to_dict()))
    page = call("report", run, "--out", tmp_path / "page.html")
    assert page.code == 0, page.err
    assert f"{TEST} test images (test)" in (tmp_path / "page.html").read_text()


def test_baselines_of_one_split_are_not_taken_for_those_of_another(run, data, tmp_path):
    options = ("--baseline", "random")
    first = evaluated(run, data, tmp_path, *options)[1]["rows"][1]["mean"]
    second = evaluated(run, data, tmp_path, *options, "--test-split", "test")[1]["rows"][1]["mean"]
    assert first > 0.8
    assert second < 0.2


def test_a_held_out_part_gives_way_to_a_chosen_split(data, tmp_path):
    run = tmp_path / "run"
    done = call("condense", "--data", data, "--out", run, *TINY, "--val-fraction", 0.25)
    assert done.code == 0, done.err
    done, result = evaluated(run, data, tmp_path)
    assert (result["tested_on"], result["held_out"], result["test_images"]) == (None, 0.25, 10)
    assert "tested on 10 images held out from training" in done.out
    result = evaluated(run, data, tmp_path, "--test-split", "test")[1]
    assert (result["tested_on"], result["held_out"], result["test_images"]) == ("test", None, TEST)


@pytest.mark.parametrize("command", ["evaluate", "score", "audit"])
def test_a_split_that_is_not_there_is_refused(run, data, command):
    done = call(command, run, "--data", data, "--test-split", "final")
    assert done.code == 2
    assert "no one split 'final' to test on; it has val, test" in done.err


def test_nothing_to_test_on_says_why(run, data, tmp_path):
    images, labels = arrays(TRAIN, 0)
    np.savez(tmp_path / "d.npz", x_train=images, y_train=labels, x_test=images, y_test=labels - 5)
    done = call("evaluate", run, "--data", tmp_path / "d.npz", "--epochs", 1)
    assert done.code == 2
    assert f"no validation split to test on ({TRAIN} images of the split test" in done.err


def test_a_file_is_tested_by_the_labels_it_was_made_from(tmp_path):
    images, labels = arrays(TRAIN, 0)
    pngs = [encode(Image.fromarray(image)) for image in images]
    columns = {"image": pngs, "fine_label": np.arange(TRAIN) % 4, "coarse": labels}
    for name in ("train", "test"):
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    run = tmp_path / "run"
    options = ("--data", tmp_path, "--label-column", "coarse")
    done = call("condense", *options, "--out", run, *TINY)
    assert done.code == 0, done.err
    result = evaluated(run, tmp_path, tmp_path)[1]
    assert result["rows"][0]["mean"] > 0.8


def test_classes_without_test_images_are_told(run, tmp_path):
    (images, labels), few = arrays(TRAIN, 0), tmp_path / "few.npz"
    kept = np.flatnonzero(labels == 1)[:7]
    names = {"train_images": images, "train_labels": labels}
    np.savez(few, **names, test_images=images[kept], test_labels=labels[kept])
    done = call("evaluate", run, "--data", few, "--epochs", 1, "--seeds", 1)
    assert done.code == 0, done.err
    assert "tested on test, 7 images; no test image of 1 of 2 classes, such as 0" in done.err
