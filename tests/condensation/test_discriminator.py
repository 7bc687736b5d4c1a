"""The adversary that learns along: its losses, its state, and what cannot be with it."""

from __future__ import annotations

import signal

import pytest
import torch
from command_line import call, metrics, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from stopping import PRODUCT, condense, stop, without_speed
from test_interpolated import task_of

from gencond_fast.condensation.checkpoint import load_checkpoint
from gencond_fast.condensation.discriminator import Discriminator
from gencond_fast.condensation.state import save_state
from gencond_fast.discrepancy import RealImages
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.models.registry import build_classifier

WITH = ("--set", "losses.adversarial=0.1")
RATE = 5e-4


@pytest.fixture(scope="module")
def task(_own_cache):
    return task_of(random=1, trained=0)


def network_of(discriminator):
    """The same network in float64."""
    network = build_classifier("convnet3", 1, 10, 8, seed=0, width=8)
    network.load_state_dict(discriminator.state_dict()["network"])
    return network.double()


def score(network, image, of):
    return network(image[None].double())[0, int(of)]


@settings(max_examples=15, deadline=None)
@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    each=st.integers(1, 3),
    share=st.sampled_from([1.0, 0.25]),
    seed=st.integers(0, 2**31),
)
def test_a_step_is_that_of_the_hinge_loss(task, counts, each, share, seed):
    rng = torch.Generator().manual_seed(seed)
    classes = torch.randperm(10, generator=rng)[: len(counts)]
    real = torch.randn(sum(counts), 1, 8, 8, generator=rng)
    made = torch.randn(each * len(counts), 1, 8, 8, generator=rng, requires_grad=True)
    judge = Discriminator(task, Ranks())
    network = network_of(judge)

    total, row = 0.0, 0
    for place, (of, count) in enumerate(zip(classes, counts, strict=True)):
        known = [1 - score(network, image, of) for image in real[row : row + count]]
        row += count
        false = [1 + score(network, made[place * each + i], of) for i in range(each)]
        for scores in (known, false):
            total = total + torch.stack(scores).clamp(min=0).mean() / len(counts)
    gradients = torch.autograd.grad(share * total, list(network.parameters()))

    judge.learn(RealImages(real, tuple(counts)), made, classes, share)
    assert made.grad is None
    moved = network_of(judge)
    for before, after, gradient in zip(
        network.parameters(), moved.parameters(), gradients, strict=True
    ):
        clear = gradient.abs() > 1e-4 * gradient.abs().max().clamp(min=1e-2)
        step = RATE * gradient / (gradient.abs() + 1e-6)  # the first one of Adam
        torch.testing.assert_close((before - after)[clear], step[clear], rtol=1e-2, atol=1e-7)

    loss = judge.loss(made, classes)
    assert loss.requires_grad
    want = -sum(score(moved, image, classes[i // each]) for i, image in enumerate(made)) / len(made)
    assert float(loss.detach()) == pytest.approx(float(want.detach()), rel=1e-4, abs=1e-5)
    (found,) = torch.autograd.grad(loss, made)
    (wanted,) = torch.autograd.grad(want, made)
    assert float((found - wanted).norm()) <= 1e-4 * float(wanted.norm()) + 1e-7


def test_it_learns_to_tell_images_from_noise(task):
    judge, classes = Discriminator(task, Ranks()), torch.arange(10)
    sample = task.sample
    rng = torch.Generator().manual_seed(0)
    counts = torch.bincount(sample.labels, minlength=10)
    first = counts.cumsum(0) - counts

    def drawn():
        rows = torch.cat(
            [first[c] + torch.randperm(int(counts[c]), generator=rng)[:8] for c in classes]
        )
        return task.normalisation(sample.images[rows])

    for _ in range(60):
        judge.learn(
            RealImages(drawn(), (8,) * 10), torch.randn(80, 1, 8, 8, generator=rng), classes, 1.0
        )
    noise = float(judge.loss(torch.randn(80, 1, 8, 8, generator=rng), classes))
    images = drawn()
    real = float(judge.loss(images, classes))
    wrong = float(judge.loss(images, classes.roll(1)))  # of another class
    assert real < -0.5
    assert noise > 0.5
    assert wrong > real + 0.5


@pytest.mark.slow
def test_it_goes_on_with_the_same_bits(tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert condense(whole, more=WITH).code == 0
    assert all("adversarial" in line for line in metrics(whole))
    for place in ("matching 7", "matching 23"):
        assert stop(signal.SIGTERM, place, run, more=WITH).code == 143
    assert condense(run, more=WITH).code == 0
    assert (run / PRODUCT).read_bytes() == (whole / PRODUCT).read_bytes()
    assert without_speed(run) == without_speed(whole)
    # and it is no run without
    without = tmp_path / "without"
    assert condense(without).code == 0
    assert (without / PRODUCT).read_bytes() != (whole / PRODUCT).read_bytes()
    assert load_checkpoint(without / "checkpoint").stage == {}


def test_a_checkpoint_that_does_not_know_it_is_refused(tmp_path):
    run = tmp_path / "run"
    assert stop(signal.SIGTERM, "matching 7", run, more=WITH).code == 143
    (path,) = (run / "checkpoint").iterdir()
    saved = vars(load_checkpoint(run / "checkpoint"))
    save_state(path, saved | {"stage": {}})
    done = condense(run, more=WITH)
    assert done.code == 2
    assert "does not fit this run" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--set", "training.micro_batch=8"), "training.micro_batch"),
        (("--set", "losses.adversarial_lr=0"), "losses.adversarial_lr"),
        (("--dp-epsilon", "4", "--dp-delta", "1e-5"), "losses.adversarial"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, more, words):
    run = tmp_path / "run"
    refused(call("condense", "--data", "digits", "--out", run, *WITH, *more), words)
    assert not run.exists()


def test_it_may_be_all_that_is_minimised(tmp_path):
    alone = ("intra", "inter", "cross_entropy", "discrepancies.mean")
    zero = [text for name in alone for text in ("--set", f"losses.{name}=0")]
    run = tmp_path / "run"
    assert condense(run, more=(*WITH, *zero)).code == 0
    assert {"adversarial"} == metrics(run)[-1].keys() & {"adversarial", "mean", "intra", "inter"}
