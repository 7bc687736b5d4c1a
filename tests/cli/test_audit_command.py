"""`audit`: planted leaks are found, noise is not, and what was done is not done again."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from command_line import TINY, call, refused
from PIL import Image
from store_builders import write_set

from gencond_fast.config import AuditConfig
from gencond_fast.data.sample import draw_sample
from gencond_fast.data.source import open_source
from gencond_fast.evaluation.audit_queries import asked_images
from gencond_fast.evaluation.auditing import audit
from gencond_fast.evaluation.inference import attack_rows
from gencond_fast.store import artifact
from gencond_fast.store.artifact import load
from gencond_fast.system.cache import cache_directory

FAST = ("--set", "precision=float32", "--set", "compile=off")
DIGITS = {"num_classes": 10, "per_class": 20, "channels": 1, "image_size": 8, "code_size": 8}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def noise(tmp_path):
    """Images and labels without sense: to know those of the training split is to remember them."""
    rng = np.random.default_rng(0)
    for name, count in (("train", 120), ("test", 240)):
        images = rng.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(count) % 3)
    return tmp_path


def audited(run, data, *more) -> tuple[dict, str]:
    file = run.parent / "audit.json"
    done = call("audit", run, "--data", data, *FAST, "--json", file, *more)
    assert done.code == 0, done.err
    return json.loads(file.read_text()), done.out


def test_a_file_that_stores_its_images_is_found_out(noise):
    source = open_source(str(noise))
    sizes = {"num_classes": 3, "per_class": 40, "channels": 1, "image_size": 8, "code_size": 8}
    store = write_set(noise / "file", "pixels", source.class_names, **sizes)
    sample = draw_sample(source, image_size=8, per_class=40, max_bytes=2**20, seed=0)
    store.init_from_images(sample.images)
    artifact.save(noise / "file", store, load(noise / "file").metadata)
    options = ("--protocol", "modern", "--epochs", 50, "--seeds", 1)
    found, out = audited(noise / "file", noise, *options)
    (row,) = found["rows"]
    assert (row["attack"], row["target"]) == ("loss", "file")
    assert (row["members"], row["non_members"]) == (120, 240)
    assert row["tpr"]["0.01"][0] > 0.5
    assert row["auc"][0] > 0.95
    assert row["tpr"]["0.001"] is None
    assert "240 non-members are too few for a false positive rate of 0.1 %" in out.replace(
        "\n", " "
    )
    assert "does not prove privacy" in out


def test_a_file_of_noise_says_nothing_of_the_digits(tmp_path):
    write_set(tmp_path / "file", "pixels", tuple("0123456789"), **DIGITS)
    found, _ = audited(tmp_path / "file", "digits", "--epochs", 8)
    (row,) = found["rows"]
    assert len(row["auc"]) == 3
    assert max(abs(auc - 0.5) for auc in row["auc"]) < 4 * row["chance"]
    m, n = row["members"], row["non_members"]
    assert row["chance"] == pytest.approx(np.sqrt((m + n + 1) / (12 * m * n)))


def test_answers_are_those_of_an_evaluated_student(tiny_run, tmp_path, monkeypatch):
    """The student of a seed is that of `evaluate`, so it names as many test images rightly."""
    taken = []

    def seen(own, *rest):
        taken.append(own)
        return attack_rows(own, *rest)

    monkeypatch.setattr("gencond_fast.evaluation.auditing.attack_rows", seen)
    options = ("--data", "digits", "--epochs", 3, "--seeds", 1, *FAST)
    assert call("audit", tiny_run, *options).code == 0
    file = tmp_path / "result.json"
    assert call("evaluate", tiny_run, *options, "--json", file).code == 0
    ((accuracy,),) = [row["accuracies"] for row in json.loads(file.read_text())["rows"]]
    asked = asked_images(open_source("digits"), 10_000)
    confidence = taken[0][0, len(asked.members) :]
    # p_y of more than a half is right, and right is no less than one in ten
    assert (
        (confidence > 0).sum()
        <= round(accuracy * len(confidence))
        <= (confidence > -np.log(9)).sum()
    )


@pytest.mark.slow
def test_shadows_find_a_planted_leak_and_are_not_made_again(noise, monkeypatch):
    pixels = ("--set", "store.format=pixels", "--bytes", "6KB", "--steps", 1)
    run = noise / "run"
    assert call("condense", "--data", noise, "--out", run, *TINY, *pixels).code == 0
    more = ("--shadows", 6, "--protocol", "modern", "--epochs", 30, "--seeds", 1)
    found, out = audited(run, noise, *more)
    rows = {(row["attack"], row["target"]): row for row in found["rows"]}
    assert len(rows) == 5
    for row in rows.values():
        assert row["auc_mean"] > 0.8, row
    online = rows["lira online", "shadows"]
    assert len(online["auc"]) == 6
    assert (online["members"], online["non_members"]) == (60, 60)
    assert "too few" in out
    folders = list(cache_directory("shadows").iterdir())
    assert len(folders) == 6
    assert not any((folder / "checkpoint").exists() for folder in folders)

    # a shadow and some answers lost: made again to the same bits
    before = {f: (f / "condensed.safetensors").stat().st_mtime_ns for f in folders}
    shutil.rmtree(folders[0])
    for lost in list(cache_directory("answers").iterdir())[:3]:
        lost.unlink()
    again, _ = audited(run, noise, *more)
    assert again == found
    after = {f: (f / "condensed.safetensors").stat().st_mtime_ns for f in folders}
    assert [f for f in folders if after[f] != before[f]] == [folders[0]]


def test_classes_are_asked_about_in_the_same_shares():
    source = open_source("digits")
    labels = np.concatenate([np.repeat(c, 4 + 3 * c) for c in range(10)])
    source.val.split.labels = labels  # rare and frequent ones
    asked = asked_images(source, 100)
    others = np.bincount(source.val.labels[asked.others], minlength=10)
    members = np.bincount(source.train.labels[asked.members], minlength=10)
    assert len(asked.others) == 100
    assert 0.9 * 100 <= len(asked.members) <= 100
    assert (abs(members - others * len(asked.members) / 100) <= 1).all()
    assert (np.diff(asked.members) > 0).all()
    assert (np.diff(asked.others) > 0).all()
    all_of_them = asked_images(source, 10**6)
    assert len(all_of_them.others) == len(labels)
    members = np.bincount(source.train.labels[all_of_them.members], minlength=10)
    share = members / np.bincount(labels)
    assert share.max() - share.min() < 0.3
    assert (members <= np.bincount(source.train.labels)).all()


def test_images_that_cannot_be_decoded_are_asked_about_in_no_attack(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 5)):
        for name in "ab":
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
            (folder / "0.png").write_bytes((folder / "0.png").read_bytes()[:50])
    skip = ("--on-bad-image", "skip")
    run, data = tmp_path / "run", tmp_path / "data"
    made = call("condense", "--data", data, "--out", run, *TINY, "--steps", 2, *skip)
    assert made.code == 0, made.err
    found, _ = audited(run, data, "--epochs", 1, "--seeds", 1, *skip)
    (row,) = found["rows"]
    # the first image of all is met before images are chosen, that of class b when it is asked about
    assert (row["members"], row["non_members"]) == (9, 8)
    refused(call("audit", run, "--data", data, "--quiet"), "cannot be decoded")


def test_python_has_it_too(tiny_run):
    import gencond_fast as gf

    config = AuditConfig(run=str(tiny_run), data="digits", epochs=1, seeds=1, precision="float32")
    assert gf.audit(config).rows == audit(config).rows
    assert gf.AuditConfig is AuditConfig


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--shadows", 4), "shadows must be 0 or an even number from 6 on, not 4"),
        (("--shadows", 7), "shadows must be 0 or an even number from 6 on, not 7"),
        (("--shadows", -6), "option 'shadows' cannot be -6"),
        (("--model", "all"), "unknown model 'all'"),
        (("--model", "all", "--shadows", 6), "unknown model 'all'"),
        (("--protocol", "soft"), "holds hard labels alone"),
        (("--images", 0), "option 'images' cannot be 0"),
        (("--set", "baselines=full"), "unknown option 'baselines'"),
        (("--json", "none/such.json"), "does not exist"),
    ],
)
def test_what_cannot_be_is_refused(tiny_run, options, words):
    refused(call("audit", tiny_run, "--data", "digits", *options), words)
    for kind in ("answers", "shadows"):
        assert not list(cache_directory(kind).iterdir())


def test_a_file_alone_has_no_shadows(tiny_run):
    file = tiny_run / "condensed.safetensors"
    words = "config.yaml does not exist, and shadows are condensed with its options"
    refused(call("audit", file, "--data", "digits", "--shadows", 6), words)


def test_a_class_of_one_image_cannot_be_halved(tmp_path):
    rng = np.random.default_rng(0)
    for name, labels in (("train", [0] * 9 + [1]), ("test", [0, 1, 1])):
        images = rng.integers(0, 256, (len(labels), 8, 8, 1), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels)
    run = tmp_path / "run"
    made = call("condense", "--data", tmp_path, "--out", run, *TINY, "--steps", 2)
    assert made.code == 0, made.err
    done = call("audit", run, "--data", tmp_path, "--shadows", 6)
    refused(done, "has one training image of the class '1', which cannot be halved")
