"""A start around the means of classes: their colours and spectrum, and no training image."""

from __future__ import annotations

import pytest
import torch
from command_line import TINY, call, refused

from gencond_fast.condensation.class_means import draw_around_means
from gencond_fast.store.artifact import load


@pytest.fixture(scope="module")
def images():
    """Two classes: soft blobs that are bright on the left, or reddish all over."""
    rng = torch.Generator().manual_seed(3)
    made = 90 + 40 * torch.randn(600, 3, 8, 8, generator=rng).cumsum(2).cumsum(3) / 8
    made[:300, :, :, :4] += 60
    made[300:, 0] += 50
    labels = torch.arange(600) // 300
    return made.clamp(0, 255).to(torch.uint8), labels


def test_means_and_spectra_are_those_of_each_class(images):
    pixels, labels = images
    drawn = draw_around_means(pixels, labels, 2000, seed=0).double()
    own = torch.arange(len(drawn)) // 2000
    for label in (0, 1):
        real, made = pixels[labels == label].double(), drawn[own == label]
        torch.testing.assert_close(made.mean(0), real.mean(0), rtol=0.0, atol=5.0)
        # neighbours go together as they do in photographs
        for shift in ((0, 1), (1, 0)):
            pair = [
                (each - each.mean(0)) * (each - each.mean(0)).roll(shift, (2, 3))
                for each in (real, made)
            ]
            one, other = (float(each[..., 1:, 1:].mean()) for each in pair)
            assert abs(one - other) < 0.35 * abs(one)


def test_no_drawn_image_is_near_a_training_image(images):
    pixels, labels = images
    drawn = draw_around_means(pixels, labels, 50, seed=1)
    away = torch.cdist(drawn.flatten(1).float(), pixels.flatten(1).float()).min(1).values
    among = torch.cdist(pixels.flatten(1).float(), pixels.flatten(1).float())
    among.fill_diagonal_(torch.inf)
    assert away.min() > 0.5 * among.min(1).values.median()


def test_a_seed_fixes_the_draw_and_another_changes_it(images):
    pixels, labels = images
    one, again, other = (draw_around_means(pixels, labels, 5, seed=s) for s in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_class_of_one_image_gives_that_mean_alone():
    pixels = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    drawn = draw_around_means(pixels, torch.arange(3), 2, seed=0)
    away = (drawn.view(3, 2, 1, 8, 8).int() - pixels[:, None].int()).abs()
    assert away.max() <= 1


@pytest.mark.parametrize("format", ["dct", "generator", "pixels"])
def test_a_file_says_that_it_started_so(tmp_path, format):
    small = ("--set", "training.coding_steps=5") if format == "generator" else ()
    options = ("--format", format, "--set", "training.init=class_mean", *small)
    run = tmp_path / "run"
    done = call("condense", "--data", "digits", "--out", run, *TINY, *options, "--steps", "4")
    assert done.code == 0, done.err
    assert "started as draws around class means" in done.out
    assert load(run).metadata.made["options"]["training.init"] == "class_mean"


def test_what_does_not_go_with_it_is_refused(tmp_path):
    start = ("--set", "training.init=class_mean")
    for more, words in (
        (("--set", "training.selection=herding"), "training.selection=herding chooses real images"),
        (("--dp-epsilon", "4", "--dp-delta", "1e-5"), "training.init is class_mean"),
    ):
        done = call("condense", "--data", "digits", "--out", tmp_path / "run", *start, *more)
        refused(done, words)
