"""A run without matching steps stores coded real images, and trains no feature networks for it."""

from __future__ import annotations

import os

import torch
from command_line import TINY, call, options_of

import gencond_fast as gf
from gencond_fast.data.sample import draw_sample
from gencond_fast.data.source import open_source
from gencond_fast.system.cache import cache_directory

WITHOUT = tuple(part for part in TINY if part not in ("--steps", "40"))


def condense(run, *more):
    return call("condense", "--data", "digits", "--out", run, *WITHOUT, *more)


def test_the_file_holds_real_images_and_no_network_was_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))
    done = condense(tmp_path / "run", "--steps", 0, "--format", "pixels")
    assert done.code == 0, done.err
    assert os.listdir(cache_directory("networks")) == []
    sample = draw_sample(
        open_source("digits"), image_size=8, per_class=1000, max_bytes=2**30, seed=0
    )
    real = sample.images.flatten(1) / 255
    data = gf.CondensedDataset(tmp_path / "run")
    stored = data.images(list(range(len(data)))).flatten(1)
    distance, nearest = torch.cdist(stored, real).min(1)
    assert distance.max() < 0.02 * stored.norm(dim=1).mean()
    assert torch.equal(sample.labels[nearest], torch.tensor(data.targets))


def test_a_finished_run_without_steps_is_left_alone_and_reported(tmp_path):
    run = tmp_path / "run"
    assert condense(run, "--steps", 0).code == 0
    again = condense(run, "--steps", 0)
    assert again.code == 0
    assert "is finished: nothing to do" in again.err
    assert call("report", run).code == 0


def test_trajectories_alone(tmp_path):
    options = ("trajectory.steps=2", "trajectory.epochs=2", "trajectory.experts=1")
    options += ("trajectory.max_start_epoch=1", "trajectory.parts=1", "trajectory.span=1")
    sets = [part for option in options for part in ("--set", option)]
    done = condense(tmp_path / "run", "--steps", 0, *sets)
    assert done.code == 0, done.err
    assert "matching 2/2" in done.err


def test_steps_that_nobody_gave_are_noted(tmp_path):
    run = tmp_path / "run"
    options = ("--image-size", 40, "--bytes", "20KB", "--set", "teachers.epochs=1")
    done = condense(run, *options)
    assert done.code == 0, done.err
    assert options_of(run)["training"]["steps"] == 0
    assert gf.load(run).metadata.made["options"]["training.steps"] == 0
    assert "nothing to do" in condense(run, *options).err
