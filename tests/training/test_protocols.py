"""Protocols against loops and formulas written out."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from command_line import call, refused
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import gencond_fast as gf
from gencond_fast.data.augment import augment, draw_augmentation
from gencond_fast.data.mixing import cutmix, draw_cutmix
from gencond_fast.models.classifier import Classifier
from gencond_fast.models.registry import build_classifier
from gencond_fast.system.rng import named_rng
from gencond_fast.system.runtime import choose_runtime
from gencond_fast.training import mixed as mixed_module
from gencond_fast.training.average import WeightAverage
from gencond_fast.training.epochs import held
from gencond_fast.training.mixed import mixed_loss
from gencond_fast.training.optimiser import lr_at
from gencond_fast.training.protocol import DC, MODERN, PROTOCOLS, SOFT, Protocol
from gencond_fast.training.train import train_student
from gencond_fast.training.trainer import Trainer

RUNTIME = choose_runtime("cpu", "float32", "off", 8)
SMALL = 16  # images in a step


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def noise() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(3)
    return torch.randn(40, 1, 8, 8, generator=rng), torch.randint(3, (40,), generator=rng)


def student_of(model: str = "convnet3") -> Classifier:
    width = 8 if model == "convnet3" else None
    return build_classifier(model, 1, 3, 8, seed=5, width=width)


def trained(protocol: Protocol, images: Tensor, targets: Tensor, epochs: int, **options):
    student = options.pop("student", None) or student_of()
    protocol = replace(protocol, batch_size=SMALL)
    given = {"epochs": epochs, "seed": 11, "runtime": RUNTIME, "advance": lambda n: None}
    data = held(lambda epoch: images, targets, protocol)
    return student, train_student(student, data, protocol=protocol, **(given | options))


def states(student: nn.Module) -> Tensor:
    return torch.cat([value.flatten().double() for value in student.state_dict().values()])


def test_the_published_numbers_of_each_protocol():
    assert set(PROTOCOLS) == {"dc", "modern", "soft"}
    assert (MODERN.optimizer, MODERN.lr, MODERN.weight_decay) == ("adamw", 1e-3, 0.05)
    assert (MODERN.schedule, MODERN.cutmix, MODERN.ema_decay) == ("cosine", 0.5, 0.99)
    assert MODERN.augmentation == DC.augmentation
    assert replace(SOFT, name="modern", soft=False) == MODERN
    assert (DC.cutmix, DC.ema_decay, DC.soft) == (0.0, None, False)


def test_dc_has_the_bits_of_a_plain_loop(noise):
    images, labels = noise
    want = student_of()
    optimizer = torch.optim.SGD(want.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    want.train()
    for epoch in range(4):
        if epoch == 3:
            for group in optimizer.param_groups:
                group["lr"] = 0.01 / 10
        rng = named_rng(11, "epoch", epoch)
        for index in torch.randperm(40, generator=rng).split(SMALL):
            names = ("color", "crop", "cutout", "flip", "scale", "rotate")
            operation = names[int(torch.randint(6, (), generator=rng))]
            transform = draw_augmentation(operation, rng, batch_size=len(index))
            loss = F.cross_entropy(want(augment(images[index], transform)), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    got, steps = trained(DC, images, labels, 4)
    assert torch.equal(states(got), states(want))
    assert steps == 12


@pytest.mark.parametrize(
    ("model", "soft"), [("convnet3", False), ("convnet3", True), ("resnet18", True)]
)
def test_modern_and_soft_are_what_they_say(noise, model, soft):
    """Rates by formula, losses pixel by pixel, the average in float64 over the weights noted."""
    images, labels = noise
    rows = torch.rand(40, 3, generator=torch.Generator().manual_seed(1)).softmax(1)
    one_hot = F.one_hot(labels, 3).float()
    shares = rows if soft else one_hot
    epochs, total = 3, 9
    want = student_of(model)
    optimizer = torch.optim.AdamW(want.parameters(), lr=1.0, weight_decay=0.05)
    average, mixes = states(want), 0
    want.train()
    for number in range(total):
        epoch, place = divmod(number, 3)
        if place == 0:
            rng = named_rng(11, "epoch", epoch)
            parts = torch.randperm(40, generator=rng).split(SMALL)
        index = parts[place]
        operation = DC.augmentation[int(torch.randint(6, (), generator=rng))]
        batch = augment(images[index], draw_augmentation(operation, rng, batch_size=len(index)))
        target = shares[index]
        if torch.rand((), generator=rng) < 0.5:
            mixing = draw_cutmix(rng, batch_size=len(index))
            batch, own, other, share = cutmix(batch, target, mixing)
            target = share[:, None] * own + (1 - share[:, None]) * other
            mixes += 1
        loss = -(target * want(batch).log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        # one step of warm-up (5 % of 9 is less), then half a cosine over the other eight
        rate = 1.0 if number == 0 else 0.5 * (1 + math.cos(math.pi * (number - 1) / 8))
        optimizer.param_groups[0]["lr"] = 1e-3 * rate
        optimizer.step()
        decay = min(0.99, (1 + number) / (10 + number))
        average = decay * average + (1 - decay) * states(want)
    assert 0 < mixes < total
    targets = shares if soft else labels
    got, steps = trained(
        SOFT if soft else MODERN, images, targets, epochs, student=student_of(model)
    )
    assert steps == total
    counters = [k for k, v in got.state_dict().items() if not v.is_floating_point()]
    for name in counters:  # of batches seen by a batch norm: counted, not averaged
        assert int(got.state_dict()[name]) == total
    weights = torch.cat(
        [torch.full((v.numel(),), k not in counters) for k, v in got.state_dict().items()]
    )
    # rounding differs, and Adam enlarges that of small gradients; the last weights are far off
    error, away = ((states(got) - each)[weights].norm() for each in (average, states(want)))
    assert error < 0.1 * away
    assert error < 2e-3 * (average - states(student_of(model)))[weights].norm()


@given(st.integers(1, 30), st.integers(1, 12), st.floats(0.0, 0.9))
def test_the_rate_rises_then_follows_half_a_cosine(epochs, steps, warm_up):
    protocol = replace(MODERN, warm_up=warm_up)
    rates = [
        lr_at(protocol, epoch, step, epochs=epochs, steps=steps)
        for epoch in range(epochs)
        for step in range(steps)
    ]
    total = epochs * steps
    ramp = max(1, round(warm_up * total))
    done = np.arange(total)
    with np.errstate(divide="ignore", invalid="ignore"):
        fall = 0.5 * (1 + np.cos(np.pi * (done - ramp) / (total - ramp)))
    want = 1e-3 * np.where(done < ramp, (done + 1) / ramp, fall)
    np.testing.assert_allclose(rates, want, rtol=1e-12, atol=1e-18)
    assert max(rates) == 1e-3
    if total > 100 * ramp:
        assert rates[-1] < 1e-6


@given(st.integers(1, 9), st.integers(2, 6), st.integers(0, 2**31))
def test_the_gradient_of_the_mixed_loss_is_that_of_the_divergence(batch, classes, seed):
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(0, 3, (batch, classes)), requires_grad=True)
    own, other = (torch.tensor(rng.dirichlet([0.3] * classes, batch)) for _ in range(2))
    share = torch.tensor(rng.random(batch))
    loss = mixed_loss(logits, own, other, share)
    loss.backward()
    mixed = share[:, None] * own + (1 - share[:, None]) * other
    want = (logits.detach().softmax(1) - mixed) / batch
    torch.testing.assert_close(logits.grad, want)
    divergence = F.kl_div(logits.detach().log_softmax(1), own, reduction="none").sum(1)
    entropy = -torch.special.xlogy(own, own).sum(1)
    alone = mixed_loss(logits.detach(), own, other, torch.ones(batch, dtype=torch.float64))
    torch.testing.assert_close(alone, (divergence + entropy).mean())


def test_hard_labels_are_one_hot_probabilities():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 4, generator=rng, dtype=torch.float64)
    own, other = torch.randint(4, (2, 7), generator=rng)
    share = torch.rand(7, generator=rng, dtype=torch.float64)
    soft = [F.one_hot(each, 4).double() for each in (own, other)]
    torch.testing.assert_close(
        mixed_loss(logits, own, other, share), mixed_loss(logits, *soft, share)
    )


def test_half_of_the_batches_are_mixed_and_none_by_dc(noise, monkeypatch):
    images, labels = noise
    mixed = []

    def noted(*arguments):
        mixed.append(len(arguments[0]))
        return cutmix(*arguments)

    monkeypatch.setattr(mixed_module, "cutmix", noted)
    trained(DC, images, labels, 3)
    assert not mixed
    _, steps = trained(MODERN, images, labels, 60)
    assert steps == 180
    assert abs(len(mixed) - 90) < 4 * math.sqrt(180 * 0.25)


@pytest.mark.parametrize("protocol", [DC, MODERN])
@pytest.mark.parametrize("stop", [1, 2])
def test_a_training_goes_on_with_the_same_bits(noise, protocol, stop):
    images, labels = noise
    whole, _ = trained(protocol, images, labels, 4)
    protocol = replace(protocol, batch_size=SMALL)
    data = held(lambda epoch: images, labels, protocol)
    options = {"protocol": protocol, "epochs": 4, "seed": 11, "runtime": RUNTIME}
    first = Trainer(student_of(), data, **options)
    for epoch in range(stop):
        first.run_epoch(epoch)
    written = io.BytesIO()
    torch.save(first.state_dict(), written)
    written.seek(0)
    student = student_of()
    second = Trainer(student, data, **options)
    second.load_state_dict(torch.load(written, weights_only=True))
    for epoch in range(stop, 4):
        second.run_epoch(epoch)
    second.finish()
    assert torch.equal(states(student), states(whole))


def test_the_average_starts_fast_and_slows_down():
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 100.0)
    average, want = WeightAverage([network.weight.detach()], 0.9), 100.0
    for update in range(200):
        value = math.sin(update)
        nn.init.constant_(network.weight, value)
        average.update()
        decay = min(0.9, (1 + update) / (10 + update))
        want = decay * want + (1 - decay) * value
    average.put_in_place()
    assert network.weight.item() == pytest.approx(want, abs=1e-5)


def test_students_learn_by_modern(noise):
    images, labels = noise
    student, _ = trained(replace(MODERN, augmentation=("flip",)), images, labels, 100)
    with torch.no_grad():
        assert (student.eval()(images).argmax(1) == labels).double().mean() > 0.9


def test_the_command_prints_every_number_and_the_steps(tiny_run):
    options = ("--data", "digits", "--seeds", 1, "--epochs", 7, "--protocol", "modern", "--quiet")
    done = call("evaluate", tiny_run, *options)
    assert done.code == 0, done.err
    steps = 7 * math.ceil(len(gf.CondensedDataset(tiny_run)) / 256)
    assert f"optimiser steps of a student: {steps} on stored\n" in done.out
    assert "protocol modern: batch size 256, optimiser adamw, learning rate 0.001" in done.out
    assert "flip+scale+rotate, CutMix 0.5, moving average 0.99, hard labels" in done.out


def test_an_unknown_protocol_is_refused(tiny_run):
    done = call("evaluate", tiny_run, "--data", "digits", "--set", "protocol=new")
    refused(done, "option 'protocol' cannot be 'new'")
