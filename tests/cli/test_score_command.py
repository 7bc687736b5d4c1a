"""`score`: what it prints is what its network says, and it is found in the cache again."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
from command_line import TINY, call, refused
from store_builders import write_set

from gencond_fast.data.normalise import measure
from gencond_fast.data.sample import draw_sample
from gencond_fast.data.source import open_source
from gencond_fast.evaluation.manifold import manifold_scores
from gencond_fast.models.registry import build_classifier
from gencond_fast.store.artifact import load
from gencond_fast.system.cache import cache_directory, load_tensors

NETWORK = ("--width", 4, "--epochs", 3, "--set", "precision=float32", "--set", "compile=off")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))


def scored(run, tmp_path, *more) -> dict:
    file = tmp_path / "scores.json"
    done = call("score", run, "--data", "digits", *NETWORK, "--json", file, *more)
    assert done.code == 0, done.err
    found = json.loads(file.read_text())
    for name in ("coverage", "density", "precision", "recall", "frechet_distance"):
        assert f"{name.replace('_', ' ')}: {found[name]:.4f}\n" in done.out
    assert "in 64 features of convnet3 trained for 3 epochs" in done.out
    return found


def test_scores_are_those_of_the_features_of_the_network_in_the_cache(tiny_run, tmp_path, cache):
    found = scored(tiny_run, tmp_path)
    store, source = load(tiny_run).store, open_source("digits")
    assert (found["generated"], found["real"]) == (store.spec.samples, len(source.val))
    network = build_classifier("convnet3", 1, 10, 8, seed=0, width=4).eval()
    (file,) = cache_directory("teachers").glob("*.safetensors")
    network.load_state_dict(load_tensors(file))
    real = torch.from_numpy(next(source.val.split.read(np.arange(len(source.val)), 10**6)))
    sample = draw_sample(source, image_size=8, per_class=1000, max_bytes=2**29, seed=0)
    normalise = measure(sample.images)
    with torch.no_grad():
        generated = network.features(normalise(store(torch.arange(store.spec.samples))))
        images = normalise(real.permute(0, 3, 1, 2))
        features = network.features(images)
        right = (network(images).argmax(1).numpy() == source.val.labels).mean()
    manifold = manifold_scores(features, generated)
    for name, value in vars(manifold).items():
        assert found[name] == pytest.approx(value, abs=0.005)
    assert found["accuracy"] == pytest.approx(right, abs=0.005)
    x, y = features.double().numpy(), generated.double().numpy()
    shared = np.sqrt(np.linalg.eigvals(np.cov(x.T) @ np.cov(y.T)).real.clip(min=0)).sum()
    want = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x.T) + np.cov(y.T)) - 2 * shared
    assert found["frechet_distance"] == pytest.approx(want, rel=1e-3)


def test_the_network_is_that_of_teachers(tiny_run, tmp_path, cache):
    assert call("teachers", "--data", "digits", *NETWORK).code == 0
    (before,) = cache_directory("teachers").glob("*")
    stamp = before.stat().st_mtime_ns
    one = scored(tiny_run, tmp_path)
    assert list(cache_directory("teachers").glob("*")) == [before]
    assert before.stat().st_mtime_ns == stamp
    assert scored(tiny_run, tmp_path) == one


def test_real_images_score_better_than_noise(tmp_path, cache):
    names = tuple("0123456789")
    sizes = {"num_classes": 10, "per_class": 20, "channels": 1, "image_size": 8, "code_size": 8}
    noise = write_set(tmp_path / "noise", "pixels", names, **sizes)
    sample = draw_sample(open_source("digits"), image_size=8, per_class=20, max_bytes=2**29, seed=0)
    noise.init_from_images(sample.images)
    from gencond_fast.store import artifact

    artifact.save(tmp_path / "real", noise, load(tmp_path / "noise").metadata)
    real, random = (
        scored(tmp_path / name, tmp_path, "--images", 150) for name in ("real", "noise")
    )
    assert real["generated"] == random["generated"] == 150
    assert real["real"] == 150
    assert real["coverage"] > 0.6 > 0.3 > random["coverage"]
    assert real["frechet_distance"] < 0.2 * random["frechet_distance"]


def test_what_was_set_apart_is_what_is_compared_with(tmp_path, cache):
    run = tmp_path / "run"
    split = ("--val-fraction", 0.2, "--seed", 3)
    assert call("condense", "--data", "digits", "--out", run, *TINY, "--steps", 4, *split).code == 0
    found = scored(run, tmp_path)
    assert found["real"] == len(open_source("digits", val_fraction=0.2, seed=3).val)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--k", 359), "option 'k' is 359, and {} stored images are compared"),
        (("--images", 10, "--k", 10), "it must be lower than both"),
        (("--model", "x"), "unknown model 'x'"),
        (("--width", 600), "has 9,600 features of 8 pixels"),
        (("--images", 0), "option 'images' cannot be 0"),
        (("--set", "seeds=3"), "unknown option 'seeds'"),
        (("--json", "none/such.json"), "does not exist"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(tiny_run, cache, options, words):
    stored = load(tiny_run / "condensed.safetensors").metadata.store.samples
    refused(call("score", tiny_run, "--data", "digits", *options), words.format(stored))
    assert os.listdir(cache_directory("teachers")) == []


def test_what_nobody_asked_to_be_written_lies_beside_the_run_where_report_finds_it(
    tiny_run, tmp_path, cache
):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    done = call("score", run, "--data", "digits", *NETWORK)
    assert done.code == 0, done.err
    (file,) = run.glob("score-*.json")
    assert done.out.endswith(f"result: {file}\n")
    page = tmp_path / "page.html"
    assert call("report", run, "--out", page).code == 0
    median = json.loads(file.read_text())["nearest"]["stored"]
    assert f"stored samples lies {median:.4f} from the nearest training image" in page.read_text()
