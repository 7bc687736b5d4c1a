"""The rival does our work by the published formula; the parts of a step are where its time goes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import breakdown, condense, run
from benchmarks.breakdown import PARTS, Stopwatch
from benchmarks.peers import dm_loop as peer
from benchmarks.peers.dm_loop import DmLoop, mean_distance
from gencond_fast.condensation import match as match_module
from gencond_fast.condensation.sharing import deal_classes
from gencond_fast.condensation.stage import build_optimizer
from gencond_fast.config.options import resolve
from gencond_fast.data.augment import Augmentation
from gencond_fast.discrepancy import Generated, Real, build_discrepancy
from gencond_fast.distributed.ranks import Ranks
from gencond_fast.functional.moments import class_moments
from gencond_fast.models.registry import build_classifier

NETWORKS = {"random": 1, "trained": 0, "real_per_class": 8, "width": 8}
OPTIONS = {
    "data": "digits",
    "out": "",
    "bytes": 8000,
    "device": "cpu",
    "compile": "off",
    "networks": NETWORKS,
    "training": {"batch_per_class": 3},
}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # such small networks gain nothing from two


@pytest.fixture
def small(monkeypatch):
    """Little to measure: few real images, a narrow network."""
    monkeypatch.setattr(condense, "REAL_BATCH", 8)
    monkeypatch.setattr(condense, "_NETWORKS", NETWORKS)


# the rival


@settings(max_examples=25)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), min_size=1, max_size=5),
    width=st.integers(1, 7),
    seed=st.integers(0, 2**31),
)
def test_the_loop_is_the_published_formula_and_our_mean_discrepancy(sizes, width, seed):
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(4, width))
    real, generated = ([rng.normal(size=(pair[k], 4)) for pair in sizes] for k in (0, 1))
    gaps = [
        (g @ weight).mean(0) - (r @ weight).mean(0) for r, g in zip(real, generated, strict=True)
    ]
    expected = sum(float((gap**2).sum()) for gap in gaps)

    leaves = [torch.from_numpy(g).requires_grad_() for g in generated]
    pairs = list(zip(map(torch.from_numpy, real), leaves, strict=True))
    loss = mean_distance(lambda x: x @ torch.from_numpy(weight), pairs)
    gradients = torch.autograd.grad(loss, leaves)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    for gap, gradient in zip(gaps, gradients, strict=True):
        wanted = np.tile(2 * gap @ weight.T / len(gradient), (len(gradient), 1))
        np.testing.assert_allclose(gradient.numpy(), wanted, rtol=1e-9, atol=1e-12)

    n = sizes[0][1]
    equal = [torch.from_numpy(rng.normal(size=(n, 4)) @ weight) for _ in sizes]
    features, labels = torch.cat(equal), torch.arange(len(sizes)).repeat_interleave(n)
    rows = torch.cat([torch.from_numpy(r @ weight) for r in real])
    of_real = torch.arange(len(sizes)).repeat_interleave(torch.tensor([r for r, _ in sizes]))
    discrepancy = build_discrepancy("mean")
    discrepancy.prepare(Real(class_moments(rows, of_real, len(sizes))))
    moments = class_moments(features, labels, len(sizes))
    ours = discrepancy.loss(Generated(features, labels, moments, n, n))
    theirs = mean_distance(
        lambda x: x, zip((torch.from_numpy(r @ weight) for r in real), equal, strict=True)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_a_step_of_the_rival_is_one_of_gradient_descent_under_a_new_network(monkeypatch):
    identity = Augmentation("identity", torch.zeros(1, 3))
    monkeypatch.setattr(peer, "draw_from_policy", lambda *given, **options: identity)
    seeds = []

    def build(seed):
        seeds.append(seed)
        return build_classifier("convnet3", 1, 2, 8, seed=seed, width=4)

    images = torch.randn(9, 1, 8, 8)
    loop = DmLoop(images, [5, 4], generated=3, real_batch=10, build=build)
    start = loop.pixels.detach().clone()
    assert torch.equal(start, images[[0, 1, 2, 5, 6, 7]])
    loop()
    pixels = start.requires_grad_()
    pairs = [(images[:5], pixels[:3]), (images[5:], pixels[3:])]
    network = build_classifier("convnet3", 1, 2, 8, seed=0, width=4)
    mean_distance(network.features, pairs).backward()
    assert pixels.grad.abs().max() > 0
    torch.testing.assert_close(loop.pixels.detach(), (pixels - pixels.grad).detach())
    loop()
    assert seeds == [0, 1]


def test_every_class_has_one_augmentation_for_both_sides(monkeypatch):
    seen = []

    def noted(images, augmentation):
        seen.append((augmentation, len(images)))
        return images

    monkeypatch.setattr(peer, "augment", noted)
    loop = DmLoop(
        torch.randn(12, 1, 8, 8), [6, 6], 2, 4,
        lambda seed: build_classifier("convnet3", 1, 2, 8, seed=seed, width=4),
    )  # fmt: skip
    for _ in range(8):
        loop()
    assert [count for _, count in seen] == [4, 2] * 16
    pairs = list(zip(seen[::2], seen[1::2], strict=True))
    assert all(real is generated for (real, _), (generated, _) in pairs)
    assert len({real.operation for (real, _), _ in pairs}) > 2


# the runner


def call(*arguments: str):
    given = ("condense", "--data", "digits", "--ipc", "10", "--generated", "3", *arguments)
    return CliRunner().invoke(run.main, given)


def test_nothing_is_timed_that_disagrees(monkeypatch):
    condense.check_agreement("digits")
    monkeypatch.setattr(condense, "mean_distance", lambda *given: 1.001 * mean_distance(*given))
    with pytest.raises(AssertionError, match="DM, loop over classes: the loss is off by 1.0e-03"):
        next(condense.cases("digits", 10, (3,)))


def test_a_check_writes_nothing(monkeypatch, tmp_path, small):
    monkeypatch.setattr(run, "_RESULTS", tmp_path)
    done = call("--check", "--threads", "1")
    assert done.exit_code == 0, done.output
    for kind in ("dct", "pixels", "generator"):
        assert f"agreed: data digits  ipc 10  format {kind}  generated 3" in done.output
    assert not list(tmp_path.iterdir())


def test_speed_memory_and_parts_are_written_down(monkeypatch, tmp_path: Path, small):
    monkeypatch.setattr(run, "_RESULTS", tmp_path)
    done = call("--rounds", "3", "--threads", "1")
    assert done.exit_code == 0, done.output
    with (tmp_path / "condense.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert {row["format"] for row in rows} == {"dct", "generator", "pixels"}
    for row in rows:
        median = float(row["median_ms"])
        assert float(row["steps_per_second"]) == pytest.approx(1e3 / median, rel=1e-3)
        assert float(row["images_per_second"]) == pytest.approx(3e4 / median, rel=1e-3)
        parts = [row[f"{part}_ms"] for part in PARTS]
        if row["provider"] == "gencond_fast (table)":
            assert all(float(value) > 0 for value in parts)
        else:
            assert parts == [""] * len(PARTS)


# the parts of a step


def test_a_watched_step_is_the_step():
    plain, other = (condense._Parts(resolve(OPTIONS)) for _ in range(2))
    deal = deal_classes(plain.task, plain.store.spec, plain.networks, Ranks())
    match = match_module.Match(
        plain.task, plain.store, plain.networks, plain.bank, steps=10, partition=deal
    )
    optimizer = build_optimizer(plain.store, match)
    watched = other.step(Stopwatch())
    for number in range(3):
        optimizer.zero_grad()
        sum(match.terms(number).values()).backward()
        torch.nn.utils.clip_grad_norm_(plain.store.parameters(), 1.0)
        optimizer.step()
        watched()
    for ours, theirs in zip(plain.store.parameters(), other.store.parameters(), strict=True):
        assert torch.equal(ours, theirs)


class Clock:
    """A clock that stands still but for what is told to take time."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Slow(torch.autograd.Function):
    """The identity, which takes a second on the way there and two on the way back."""

    @staticmethod
    def forward(ctx, x, clock):
        clock.now += 1.0
        ctx.clock = clock
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.clock.now += 2.0
        return gradient, None


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", ["dct", "generator", "pixels"])
def test_time_is_told_where_it_was_spent(monkeypatch, kind, part):
    made = condense._Parts(resolve(OPTIONS, {"store": {"format": kind}}))
    watch, clock = Stopwatch(), Clock()
    monkeypatch.setattr(breakdown, "time", clock)

    def slowed(function):
        return lambda *given, **options: Slow.apply(function(*given, **options), clock)

    def late(function):
        def call(*given, **options):
            clock.now += 3.0
            return function(*given, **options)

        return call

    if part == "generator":
        made.store.forward = slowed(made.store.forward)
    elif part == "augmentation":
        monkeypatch.setattr(match_module, "augment", slowed(match_module.augment))
    elif part == "features":
        resident = made.networks._in_place
        forward = resident.forward

        def slow_forward(images):
            features, normed = forward(images)
            return Slow.apply(features, clock), normed

        resident.forward = slow_forward
    elif part == "losses":
        moments = match_module.class_moments
        monkeypatch.setattr(
            match_module, "class_moments", lambda x, *more: moments(Slow.apply(x, clock), *more)
        )
    elif part == "data":
        monkeypatch.setattr(match_module.Match, "_draw", late(match_module.Match._draw))
    else:
        monkeypatch.setattr(torch.optim.Adam, "step", late(torch.optim.Adam.step))
    step = made.step(watch)
    for _ in range(2):
        step()
    assert watch.steps == [dict.fromkeys(PARTS, 0.0) | {part: 3.0}] * 2
    assert watch.medians(2)[part] == 3e3
