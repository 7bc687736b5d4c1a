"""CutMix against pasting by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from gencond_fast.data import Mixing, cutmix, draw_cutmix


def rng_of(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pasted(images, mixing):
    """As in the paper's code, image by image: the mixed images and the share that each keeps."""
    images = images.detach().numpy()
    mixed, shares = images.copy(), []
    height, width = images.shape[-2:]
    for place, partner in enumerate(mixing.partners.tolist()):
        side, y, x = mixing.draws[place % len(mixing.draws)]
        high, wide = int(height * side), int(width * side)
        y, x = int(height * y), int(width * x)
        top, bottom = np.clip([y - high // 2, y + high // 2], 0, height)
        left, right = np.clip([x - wide // 2, x + wide // 2], 0, width)
        mixed[place, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
        shares.append(1 - (bottom - top) * (right - left) / (height * width))
    return torch.from_numpy(mixed), torch.tensor(shares)


@given(
    st.integers(1, 7),
    st.integers(1, 20),
    st.integers(1, 20),
    st.booleans(),
    st.floats(0.1, 5.0),
    st.integers(0, 1000),
)
def test_boxes_are_pasted_and_the_share_is_that_of_the_pixels(count, high, wide, each, alpha, seed):
    mixing = draw_cutmix(rng_of(seed), batch_size=count, alpha=alpha, each=each)
    # each image is its own number, so that pixels can be counted
    images = torch.arange(float(count))[:, None, None, None].expand(count, 3, high, wide)
    labels = torch.arange(count) + 10
    mixed, own, other, share = cutmix(images, labels, mixing)
    want, shares = pasted(images.contiguous(), mixing)
    assert torch.equal(mixed, want)
    assert torch.equal(own, labels)
    assert torch.equal(other, mixing.partners + 10)
    assert share.dtype == torch.float32
    torch.testing.assert_close(share, shares.float(), rtol=0, atol=6e-8)
    kept = (mixed[:, 0] == images[:, 0]).double().mean((1, 2)).float()
    apart = mixing.partners != torch.arange(count)
    assert torch.equal(share[apart], kept[apart])
    assert sorted(mixing.partners.tolist()) == list(range(count))


def test_the_draws_follow_the_paper():
    for alpha in (1.0, 0.3):
        sides = draw_cutmix(rng_of(), batch_size=20_000, alpha=alpha, each=True).draws[:, 0]
        kept = 1 - sides.double() ** 2  # Beta(alpha, alpha)
        assert abs(kept.mean() - 0.5) < 0.02
        assert kept.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)
    draws = draw_cutmix(rng_of(), batch_size=20_000, each=True).draws
    for uniform in (1 - draws[:, 0] ** 2, draws[:, 1], draws[:, 2]):
        counts = torch.histc(uniform, 20, 0, 1)
        assert ((counts - 1000) ** 2 / 1000).sum() < 45  # chi squared of 19, p = 7e-4
    shared = draw_cutmix(rng_of(), batch_size=5)
    assert shared.draws.shape == (1, 3)


def test_the_generator_decides():
    one, same = (draw_cutmix(rng_of(3), batch_size=9, each=True) for _ in range(2))
    other = draw_cutmix(rng_of(4), batch_size=9, each=True)
    assert torch.equal(one.draws, same.draws)
    assert torch.equal(one.partners, same.partners)
    assert not torch.equal(one.draws, other.draws)
    assert not torch.equal(one.partners, other.partners)


def test_gradients_go_to_whose_pixel_it_is():
    mixing = draw_cutmix(rng_of(1), batch_size=4, each=True)
    images = torch.randn(4, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: cutmix(x, torch.arange(4), mixing)[0], (images,))
    mixed = cutmix(images, torch.arange(4), mixing)[0]
    weights = torch.randn_like(mixed)
    (mixed * weights).sum().backward()
    torch.testing.assert_close((images.grad * images).sum(), (mixed * weights).sum())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8])
def test_any_dtype_and_layout(dtype):
    mixing = draw_cutmix(rng_of(2), batch_size=6)
    images = torch.randint(0, 256, (6, 3, 9, 8)).to(dtype)
    want = cutmix(images.float(), torch.arange(6), mixing)[0]
    mixed = cutmix(images, torch.arange(6), mixing)[0]
    assert mixed.dtype == dtype
    assert torch.equal(mixed.float(), want)
    last = cutmix(images.to(memory_format=torch.channels_last), torch.arange(6), mixing)[0]
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, mixed)


def test_one_image_keeps_itself():
    images = torch.randn(1, 3, 8, 8)
    mixed, own, other, share = cutmix(
        images, torch.tensor([4]), draw_cutmix(rng_of(), batch_size=1)
    )
    assert torch.equal(mixed, images)
    assert own.tolist() == other.tolist() == [4]
    assert 0 <= share.item() <= 1


def test_the_loss_of_the_docstring_is_that_of_soft_labels():
    mixing = draw_cutmix(rng_of(5), batch_size=8, each=True)
    labels, logits = torch.arange(8) % 5, torch.randn(8, 5)
    images, own, other, share = cutmix(torch.randn(8, 1, 10, 10), labels, mixing)
    losses = [F.cross_entropy(logits, each, reduction="none") for each in (own, other)]
    loss = torch.lerp(losses[1], losses[0], share).mean()
    soft = share[:, None] * F.one_hot(own, 5) + (1 - share)[:, None] * F.one_hot(other, 5)
    torch.testing.assert_close(loss, F.cross_entropy(logits, soft))
    # labels may be soft already
    given = F.one_hot(labels, 5).float()
    assert torch.equal(cutmix(images, given, mixing)[2], given[mixing.partners])


@pytest.mark.slow
@pytest.mark.parametrize("each", [False, True])
def test_compiles_whole(each):
    torch.compiler.reset()
    images = torch.randn(6, 3, 12, 12)
    compiled = torch.compile(cutmix, fullgraph=True)
    for seed in range(3):
        mixing = draw_cutmix(rng_of(seed), batch_size=6, each=each)
        want = cutmix(images, torch.arange(6), mixing)
        for got, expected in zip(compiled(images, torch.arange(6), mixing), want, strict=True):
            assert torch.equal(got, expected)


def test_what_does_not_fit_is_refused():
    mixing = draw_cutmix(rng_of(), batch_size=3, each=True)
    with pytest.raises(ValueError, match="a mixing of 3 images does not fit 2"):
        cutmix(torch.zeros(2, 1, 4, 4), torch.zeros(2), mixing)
    with pytest.raises(ValueError, match="does not fit"):
        cutmix(torch.zeros(3, 1, 4, 4), torch.zeros(3), replace(mixing, draws=mixing.draws[:2]))
    for alpha in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="alpha must be positive"):
            draw_cutmix(rng_of(), batch_size=3, alpha=alpha)
    assert isinstance(mixing, Mixing)
