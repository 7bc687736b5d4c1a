"""The mechanism behind a guarantee: clipping, sensitivity, noise and its amount."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from fractions import Fraction

import dp_accounting
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from gencond_fast.condensation.bank import draw_augmentations
from gencond_fast.condensation.networks import build_networks
from gencond_fast.condensation.private import guarantee, release
from gencond_fast.condensation.private.bank import build_private_bank
from gencond_fast.condensation.private.features import Frame, measure_frame
from gencond_fast.condensation.private.gaussian import secret_gaussian
from gencond_fast.condensation.private.proxy_images import draw_stand_in
from gencond_fast.condensation.private.task import open_private_task
from gencond_fast.condensation.task import open_config, set_up
from gencond_fast.config.options import resolve
from gencond_fast.data.augment import augment
from gencond_fast.system.progress import Reporter

OPTIONS = {
    "privacy": {"epsilon": 2.0, "delta": 1e-5, "clip": 0.7},
    "networks": {"width": 8, "random": 2, "num_augmentations": 3},
    "precision": "float32",
}


def private_task(data="digits", **more):
    config = resolve({"data": str(data), "out": ""}, OPTIONS, more)
    source = open_config(config, Reporter())
    return open_private_task(set_up(config, source, 8, Reporter()))


@pytest.fixture(scope="module")
def digits(_own_cache):
    task = private_task()
    return task, build_networks(task)


def frames_of(task, networks):
    frames = []
    for place, plan in enumerate(networks.plans):
        networks.select(place)
        frames.append(measure_frame(task, networks, draw_augmentations(task, plan.index)))
    return frames


def sums_of(task, networks, frames, grid):
    rows = np.arange(len(task.images))
    with torch.no_grad():
        return release.clean_sums(task, networks, frames, rows, grid).numpy()


# how much noise


def closed_form(deviation, epsilon):
    """Delta of a Gaussian mechanism of sensitivity 1 (Balle and Wang, 1805.06530, theorem 8)."""
    half, far = 0.5 / deviation, epsilon * deviation
    return stats.norm.cdf(half - far) - math.exp(epsilon + stats.norm.logcdf(-half - far))


@given(
    epsilon=st.floats(0.01, 50.0),
    delta=st.floats(1e-12, 1e-2),
)
def test_the_noise_is_the_least_that_the_closed_form_allows(epsilon, delta):
    least = optimize.brentq(lambda s: closed_form(s, epsilon) / delta - 1.0, 1e-3, 1e4)
    multiplier = guarantee.noise_multiplier(epsilon, delta)
    assert multiplier == pytest.approx(least, rel=1e-5)
    assert closed_form(multiplier, epsilon) <= delta * (1 + 1e-9)


@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 1e-6), (1.0, 1e-5), (8.0, 1e-5)])
def test_an_accountant_of_another_kind_gives_the_same_epsilon(epsilon, delta):
    event = dp_accounting.GaussianDpEvent(guarantee.noise_multiplier(epsilon, delta))
    told = dp_accounting.pld.PLDAccountant().compose(event).get_epsilon(delta)
    assert told == pytest.approx(epsilon, rel=1e-3)
    assert dp_accounting.rdp.RdpAccountant().compose(event).get_epsilon(delta) >= epsilon


# what one image can do


@given(
    seed=st.integers(0, 2**32 - 1),
    tables=st.integers(1, 4),
    width=st.integers(1, 40),
    size=st.sampled_from([1e-30, 1e-3, 1.0, 1e4, 1e30]),
    clip=st.floats(1e-3, 1e3),
    fineness=st.integers(2, 40),
    odd=st.sampled_from([0.0, math.nan, math.inf, -math.inf, 3e38]),
)
def test_what_an_image_adds_to_all_tables_is_bounded(
    seed, tables, width, size, clip, fineness, odd
):
    rng = torch.Generator().manual_seed(seed)
    grid = clip * 2.0**-fineness
    frame = Frame(
        torch.randn(tables, width, generator=rng), torch.rand(tables, generator=rng) + 0.1
    )
    square = [Fraction(0)] * 5
    for table in range(tables):
        features = torch.randn(5, width, generator=rng) * size
        features[1] = 0.0
        features[2, 0] = odd
        clipped = frame.clipped(features.double(), table, clip)
        whole = release.to_whole(clipped, grid)
        for row, values in enumerate(whole.tolist()):
            square[row] += sum(v * v for v in values)
            if not features[row].isfinite().all():
                assert not any(values)
        far = (features[3].double() - frame.origin[table]) / frame.unit[table]
        expected = far * min(1.0, clip / float(far.norm()))
        torch.testing.assert_close(clipped[3], expected, rtol=1e-6, atol=1e-9 * clip)
    # exact arithmetic: not a bit above the bound
    assert all(s * Fraction(grid) ** 2 <= Fraction(clip) ** 2 * tables for s in square)


def test_clipping_passes_gradients():
    frame = Frame(torch.zeros(1, 3, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    features = torch.tensor([[3.0, 4.0, 0.0], [0.1, 0.2, 0.3]], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda f: frame.clipped(f, 0, 2.0), features.requires_grad_(True)
    )


@pytest.mark.parametrize("other", ["white", "black", "noise"])
def test_one_image_replaced_moves_the_sums_by_no_more_than_the_sensitivity(tmp_path, cache, other):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 8, 8), dtype=np.uint8)
    labels = np.arange(20) % 3
    changed = images.copy()
    changed[7] = {"white": 255, "black": 0, "noise": rng.integers(0, 256, (8, 8))}[other]
    grid, found = 1e-7, []
    for name, pixels in (("one", images), ("two", changed)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "train.npz", images=pixels, labels=labels)
        task = private_task(tmp_path / name, privacy={"delta": 1e-3})
        networks = build_networks(task)
        found.append(sums_of(task, networks, frames_of(task, networks), grid))
    moved = (found[0] - found[1]) * grid
    assert 0.0 < np.linalg.norm(moved) <= guarantee.sensitivity(task.config)
    assert not moved[:, :, np.arange(3) != labels[7]].any()


def test_the_sums_are_those_of_a_loop_over_images(digits):
    task, networks = digits
    frames = frames_of(task, networks)
    images = next(task.images.split.read(np.arange(200), 200))
    images = torch.as_tensor(images).permute(0, 3, 1, 2)
    small = replace(task, images=task.images.subset(np.arange(200), print))
    grid = 1e-6
    sums = sums_of(small, networks, frames, grid) * grid
    expected = np.zeros(sums.shape)
    with torch.no_grad():
        for network, plan in enumerate(networks.plans):
            networks.select(network)
            for place, transform in enumerate(draw_augmentations(task, plan.index)):
                for row, image in enumerate(images):
                    features = networks.features(
                        augment(task.normalisation(image[None]), transform)
                    )[0].double()
                    vector = (features - frames[network].origin[place]) / frames[network].unit[
                        place
                    ]
                    vector *= min(1.0, 0.7 / float(vector.norm()))
                    expected[network, place, task.images.labels[row]] += vector.numpy()
    np.testing.assert_allclose(sums, expected, atol=1e-3)


# the noise


def test_secret_noise_is_standard_normal_and_never_the_same():
    one, other = secret_gaussian(100, 2000), secret_gaussian(100, 2000)
    for draw in (one, other):
        assert stats.kstest(draw.ravel(), "norm").pvalue > 1e-6
        assert abs(np.corrcoef(draw.ravel()[1:], draw.ravel()[:-1])[0, 1]) < 0.012
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.012
    assert len(np.unique(np.concatenate((one, other)))) == 400_000


@pytest.mark.parametrize("byte", [b"\x00", b"\xff"])
def test_secret_noise_is_finite_whatever_the_bytes(monkeypatch, byte):
    monkeypatch.setattr(os, "urandom", lambda count: byte * count)
    assert np.isfinite(secret_gaussian(3)).all()


def test_a_seed_decides_nothing_of_the_noise():
    np.random.seed(0)
    torch.manual_seed(0)
    one = secret_gaussian(8)
    np.random.seed(0)
    torch.manual_seed(0)
    assert not (one == secret_gaussian(8)).any()


def test_what_is_released_is_the_mean_and_noise_of_the_stated_size(digits, tmp_path):
    task, networks = digits
    deviation = 2.0 * 0.7 * math.sqrt(6) * guarantee.noise_multiplier(2.0, 1e-5)
    clean = sums_of(task, networks, frames_of(task, networks), 1e-6) * 1e-6
    count = np.bincount(task.images.labels)[:, None]
    noise = []
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        made = release.release(task, networks, tmp_path / run)
        assert made.count.tolist() == count[:, 0].tolist()
        noise.append(((made.mean.numpy() * count - clean) / deviation).ravel())
    bound = 5.0 / math.sqrt(len(noise[0]))
    for values in noise:
        assert len(values) == 6 * 10 * networks.feature_dim(0)
        assert abs(values.std() - 1.0) < bound / math.sqrt(2)
        assert abs(values.mean()) < bound
        assert stats.kstest(values, "norm").pvalue > 1e-6
    assert abs(np.corrcoef(*noise)[0, 1]) < bound


def test_generated_features_are_compared_in_the_frame_of_the_release(digits, tmp_path):
    task, networks = digits
    entries = build_private_bank(task, networks, tmp_path)
    again = build_private_bank(task, networks, tmp_path)
    frames = frames_of(task, networks)
    features = torch.randn(4, networks.feature_dim(0), dtype=torch.float64) * 5
    for entry, same, frame in zip(entries, again, frames, strict=True):
        torch.testing.assert_close(entry.mean, same.mean, rtol=0, atol=0)
        for place in range(3):
            expected = frame.clipped(features, place, 0.7)
            torch.testing.assert_close(entry.scaled(features, place), expected)
        assert not entry.m2.any()


# what stands for real images


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 32), (3, 5)])
def test_stand_ins_are_noise_with_the_spectrum_of_photographs(channels, size):
    sample = draw_stand_in(3, channels, size, 100, seed=5)
    assert sample.images.shape == (300, channels, size, size)
    assert sample.images.dtype == torch.uint8
    assert sample.labels.tolist() == sorted([0, 1, 2] * 100)
    assert len(sample.images.flatten(1).unique(dim=0)) == 300
    again = draw_stand_in(3, channels, size, 100, seed=5)
    assert torch.equal(sample.images, again.images)
    assert not torch.equal(sample.images, draw_stand_in(3, channels, size, 100, seed=6).images)
    power = torch.fft.rfft2(sample.images.float()).abs().square().mean((0, 1))
    assert power[0, 1] > 2.0 * power[0, 2] > 0.0
