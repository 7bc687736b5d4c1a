"""`data check`, `data info`, --classes and --on-bad-image as their user meets them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from command_line import TINY, call, launch, options_of, refused
from image_builders import pictures, write_tree
from odd_images import BROKEN, ODD, PLAIN
from PIL import Image

import gencond_fast as gf
from gencond_fast.data import open_source
from gencond_fast.store.artifact import load

SHORT = (*TINY, "--steps", "6")
CLASSES = ("ant", "bee", "cow")


def split_tree(root, per_class=6, classes=CLASSES):
    write_tree(root / "train", pictures(per_class, classes))
    write_tree(root / "val", pictures(3, classes, seed=1))
    return root


@pytest.fixture
def clean(tmp_path):
    return split_tree(tmp_path / "set")


@pytest.fixture
def spoilt(clean):
    """Two broken training images, one broken test image."""
    (clean / "train" / "bee" / "0002.png").write_bytes(BROKEN["text.jpg"][0])
    (clean / "train" / "cow" / "cut.jpg").write_bytes(BROKEN["cut.jpg"][0])
    (clean / "val" / "ant" / "0001.png").write_bytes(b"")
    return clean


# data check


def test_a_clean_set_passes(clean):
    done = call("data", "check", clean, "--workers", 1)
    assert done.code == 0
    assert "train: 18 images" in done.out
    assert "val: 9 images" in done.out
    assert "unreadable: 0" in done.out
    assert "check 27/27" in done.err


def test_bad_and_odd_images_are_told(spoilt, tmp_path):
    for name, (data, _) in ODD.items():
        (spoilt / "train" / "ant" / name).write_bytes(data)
    done = call("data", "check", spoilt, "--json", tmp_path / "found.json", "--quiet")
    assert (done.code, done.err) == (1, "")
    assert "unreadable: 3" in done.out
    assert re.search(r"train/bee/0002.png is no image in a known format", done.out)
    assert re.search(r"val/ant/0001.png is empty \(0 bytes\)", done.out)
    assert f"unusual: {len(ODD)}" in done.out
    assert re.search(r"turned by its EXIF tag: 1\n +\S+turned.jpg \(orientation 6\)", done.out)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["images"] == {"train": 19 + len(ODD), "val": 9}
    assert {entry["where"].rpartition("/")[2] for entry in found["bad"]} == {
        "0002.png", "cut.jpg", "0001.png",
    }  # fmt: skip
    assert {each["kind"] for each in found["odd"]} == set.union(
        *(kinds for _, kinds in ODD.values())
    )


def test_a_sample_is_checked_and_leaves_no_list(spoilt, tmp_path, monkeypatch):
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))
    done = call("data", "check", spoilt, "--sample", 10, "--json", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert sum(found["images"].values()) == 10
    assert found["of"] == {"train": 19, "val": 9}
    assert done.code == (1 if found["bad"] else 0)
    assert f"train: 19 images, {found['images']['train']} checked" in done.out
    assert "check 10/10" in done.err
    assert "no list for --on-bad-image skip: leave out --sample" in done.out
    assert "check: never" in call("data", "info", spoilt).out
    every = call("data", "check", spoilt, "--sample", 1000)
    assert (every.code, "unreadable: 3" in every.out) == (1, True)


def test_check_of_what_cannot_be_opened(tmp_path):
    refused(call("data", "check", tmp_path / "none"), "none does not exist; give a folder")
    refused(call("data", "check", "digits", "--classes", "1,x"), "digits has no class 'x'")
    refused(call("data", "check", "digits", "--json", tmp_path / "no" / "a.json"), "does not exist")
    assert call("data", "check", "digits").code == 0


# data info


def test_info_counts(clean, tmp_path):
    write_tree(clean / "train", pictures(12, ("bee",), shape=(20, 30, 3)))
    (clean / "LOC_synset_mapping.txt").write_text("ant red ant\nbee wild bee, Apis\ncow cow\n")
    done = call("data", "info", clean, "--grid", tmp_path / "grid.png")
    assert done.code == 0, done.err
    for words in (
        "classes: 3",
        "ant (red ant), bee (wild bee, Apis), cow (cow)",
        "images: 24",
        "smallest class: ant (red ant): 6",
        "largest class: bee (wild bee, Apis): 12",
        "imbalance, largest over smallest: 2",
        "sampled: 24 headers of 24 training images",
        "width: 8 to 30, median 19",
        "formats: PNG 100 %",
        "check: never",
    ):
        assert words in done.out, words
    size = sum(path.stat().st_size for path in clean.rglob("*.png"))
    assert f"bytes: {size:,}" in done.out
    with Image.open(tmp_path / "grid.png") as grid:
        grid.load()
        assert grid.height > 100
    part = call("data", "info", clean, "--classes", "cow,ant")
    assert "classes: 2" in part.out
    assert "images: 12" in part.out


def test_info_of_arrays_and_of_a_checked_set(spoilt):
    digits = call("data", "info", "digits")
    assert "size: 8x8" in digits.out
    assert "colours: gray" in digits.out
    call("data", "check", spoilt)
    done = call("data", "info", spoilt)
    assert "check: 3 of 28 images cannot be read" in done.out
    assert "unreadable" in done.out


# --on-bad-image


def condense(out, data, *more):
    return call("condense", "--data", data, "--out", out, *SHORT, *more)


def test_a_bad_image_stops_a_run_or_is_left_out(spoilt, tmp_path, monkeypatch):
    # in which no check of the same contents has left a list
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))
    stopped = condense(tmp_path / "run", spoilt)
    refused(stopped, "--on-bad-image skip")
    done = condense(tmp_path / "run", spoilt, "--on-bad-image", "skip")
    assert done.code == 0, done.err
    for name in ("train/bee/0002.png is no image", "train/cow/cut.jpg cannot be decoded"):
        assert len(re.findall(rf"left out: \S+{name}", done.err)) == 1
    assert "left out 2 of 28 images" in done.err
    assert options_of(tmp_path / "run")["on_bad_image"] == "skip"

    judge = ("evaluate", tmp_path / "run", "--data", spoilt, "--seeds", 1, "--epochs", 1)
    refused_by_test = call(*judge)
    assert refused_by_test.code == 2
    assert "val/ant/0001.png is empty" in refused_by_test.err
    judged = call(*judge, "--on-bad-image", "skip", "--baseline", "random")
    assert judged.code == 0, judged.err
    assert "8 test images" in judged.out


def test_what_a_check_knows_changes_no_byte(spoilt, tmp_path, monkeypatch):
    products = []
    for name in ("met", "known"):
        monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / f"cache of {name}"))
        if name == "known":
            assert call("data", "check", spoilt).code == 1
        done = condense(tmp_path / name, spoilt, "--on-bad-image", "skip")
        assert done.code == 0, done.err
        assert f"{2 if name == 'met' else 0} found while reading" in done.err
        products.append((tmp_path / name / "condensed.safetensors").read_bytes())
    assert products[0] == products[1]


def test_a_run_that_met_a_bad_image_goes_on_without_it(clean, tmp_path):
    """The image goes bad when the run has begun: the same directory serves on."""
    assert condense(tmp_path / "run", clean, "--steps", "3").code == 0
    (tmp_path / "run" / "condensed.safetensors").unlink()
    again = condense(tmp_path / "run", clean, "--steps", "3", "--on-bad-image", "skip")
    assert again.code == 0, again.err


def test_the_statistics_count_what_was_measured(spoilt):
    done = call("stats", "--data", spoilt, *SHORT[4:-2], "--on-bad-image", "skip")
    assert done.code == 0, done.err
    assert re.search(r"images: 17\b", done.out)  # of 19


def test_a_class_of_bad_images_is_named(clean, tmp_path):
    for path in (clean / "train" / "bee").iterdir():
        path.write_bytes(b"")
    done = condense(tmp_path / "run", clean, "--on-bad-image", "skip")
    assert done.code == 2
    assert "has no image of the class 'bee' that can be decoded" in done.err
    part = condense(tmp_path / "run", clean, "--on-bad-image", "skip", "--classes", "ant,cow")
    assert part.code == 0, part.err


# --classes


def test_a_file_of_some_classes_is_tested_on_them_in_the_whole_set(clean, tmp_path):
    run = tmp_path / "run"
    done = condense(run, clean, "--classes", "cow,ant")
    assert done.code == 0, done.err
    assert gf.CondensedDataset(run).classes == ["ant", "cow"]
    options = ("--seeds", 1, "--epochs", 1)
    judged = call("evaluate", run, "--data", clean, *options, "--baseline", "random")
    assert judged.code == 0, judged.err
    assert "6 test images" in judged.out
    assert "note:" not in judged.err  # the same data, file for file


def test_labels_follow_names_where_the_data_has_another_order(tiny_run, tmp_path):
    """The digits as arrays whose classes stand in another order: every student does as well."""
    digits, order = open_source("digits"), np.random.default_rng(0).permutation(10)
    (tmp_path / "set").mkdir()
    for name, part in (("train", digits.train), ("test", digits.val)):
        images = next(part.split.read(np.arange(len(part)), len(part)))
        names = np.argsort(order).astype(str)  # the class k has become number order[k]
        np.savez(tmp_path / "set" / name, images=images, labels=order[part.labels], classes=names)
    found = []
    for data in ("digits", tmp_path / "set"):
        options = ("--seeds", 1, "--epochs", 2, "--json", tmp_path / "result.json")
        assert call("evaluate", tiny_run, "--data", data, *options).code == 0
        found.append(json.loads((tmp_path / "result.json").read_text())["rows"][0]["accuracies"])
    assert found[0] == found[1]
    assert found[0] != [0.1]


def test_evaluation_on_some_classes_of_the_file(tiny_run, tmp_path):
    file = tmp_path / "result.json"
    options = ("--seeds", 1, "--epochs", 3, "--json", file, "--baseline", "random")
    done = call("evaluate", tiny_run, "--data", "digits", "--classes", "7,1", *options)
    assert done.code == 0, done.err
    val = open_source("digits").val.labels
    assert json.loads(file.read_text())["test_images"] == int(np.isin(val, [1, 7]).sum())
    unknown = call("evaluate", tiny_run, "--data", "digits", "--classes", "7,x", *options)
    refused(unknown, "has no class 'x'")


def test_classes_from_a_file_and_unknown_ones(clean, tmp_path):
    (tmp_path / "names.txt").write_text("bee\ncow\n")
    run = tmp_path / "run"
    assert condense(run, clean, "--classes", tmp_path / "names.txt").code == 0
    assert options_of(run)["classes"] == ["bee", "cow"]
    assert load(run).metadata.class_names == ("bee", "cow")
    refused(condense(tmp_path / "b", clean, "--classes", "cow,bees"), "did you mean bee?")
    assert not (tmp_path / "b").exists()


def test_the_commands_explain_themselves():
    for name in ("check", "info"):
        done = call("data", name, "--help")
        assert done.code == 0
        assert re.search(rf"Examples:\s+gencond-fast data {name}", done.out)
    assert "check" in call("data", "--help").out
    assert "data" in call("--help").out


def test_the_exit_code_of_a_process_of_its_own(spoilt):
    done = launch("data", "check", spoilt)
    assert done.returncode == 1
    assert not re.search(r"[\x1b\r]", done.stdout + done.stderr)


def test_plain_images_are_not_odd(tmp_path):
    for kind in ("ant", "bee"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for name, data in PLAIN.items():
            (tmp_path / "set" / kind / name).write_bytes(data)
    done = call("data", "check", tmp_path / "set")
    assert done.code == 0
    assert "unusual: 0" in done.out


def test_the_grid_shows_twenty_classes_at_most(tmp_path):
    made = pictures(2, tuple(f"c{label:02d}" for label in range(25)))
    root = write_tree(tmp_path / "set", made)
    assert call("data", "info", root, "--grid", tmp_path / "g.png").code == 0
    with Image.open(tmp_path / "g.png") as grid:
        assert grid.height == 20 * (48 + 2) + 2
