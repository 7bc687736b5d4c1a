"""The intra- and inter-class losses against loops over pairs, in float64, and their properties."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import gencond_fast as gf

INTRA = ("infonce", "rbf", "hinge", "nearest")
INTER = ("hinge", "infonce")
# a margin that some pairs of standard normal features reach and some do not
OPTIONS = {"temperature": 0.3, "sigma": 1.0, "margin": 2.5}
OPTION_OF = {"infonce": "temperature", "rbf": "sigma", "hinge": "margin"}
LOSSES = [("intra", kind) for kind in INTRA] + [("inter", kind) for kind in INTER]
both = pytest.mark.parametrize(("which", "kind"), LOSSES)


def loss_of(which: str, kind: str, **options) -> Callable[[Tensor, Tensor], Tensor]:
    function = gf.intra_class_loss if which == "intra" else gf.inter_class_loss
    given = OPTIONS | options
    mine = {name: given[name] for name in given if name == OPTION_OF.get(kind)}
    return lambda f, labels: function(f, labels, kind=kind, **mine)


def unit(v: np.ndarray) -> np.ndarray:
    norm = math.sqrt(float((v * v).sum()))
    return v / norm if norm > 0 else v


def brute_pair_loss(points: list[list[np.ndarray]], kind: str, t: float, s: float, m: float):
    """The formulas read aloud: points holds the samples of every group."""
    terms = []
    for group in points:
        if len(group) < 2:
            continue
        for i, a in enumerate(group):
            others = [b for j, b in enumerate(group) if j != i]
            if kind == "infonce":
                values = [math.exp(float(unit(a) @ unit(b)) / t) for b in others]
                terms.append(math.log(sum(values) / len(values)))
            elif kind == "nearest":
                terms.append(max(float(unit(a) @ unit(b)) for b in others))
            else:
                for b in others:
                    d = math.sqrt(float(((a - b) ** 2).sum()))
                    pair = {"rbf": math.exp(-d * d / (2 * s * s)), "hinge": max(0.0, m - d) ** 2}
                    terms.append(pair[kind])
    return sum(terms) / len(terms) if terms else 0.0


def brute_force(which: str, kind: str, f: Tensor, labels: Tensor) -> float:
    rows = f.detach().double().numpy()
    groups: dict[int, list[np.ndarray]] = {}
    for row, label in zip(rows, labels.tolist(), strict=True):
        groups.setdefault(label, []).append(row)
    points = list(groups.values())
    if which == "inter":
        points = [[np.mean(group, axis=0) for group in points]]
    return brute_pair_loss(points, kind, OPTIONS["temperature"], 1.0, OPTIONS["margin"])


def ragged(n: int = 17, d: int = 5, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Unsorted classes of several sizes, with a singleton and labels far apart."""
    labels = torch.tensor([7, -3, 2**40, 7, 7, -3, 0])[torch.randint(6, (n,))]
    labels[n // 2] = 11
    return torch.randn(n, d).to(dtype), labels


@both
@given(
    n=st.integers(0, 24),
    d=st.integers(1, 6),
    classes=st.integers(1, 8),
    scale=st.sampled_from([0.1, 1.0, 10.0]),
    copies=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_matches_brute_force(which, kind, n, d, classes, scale, copies, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    f = torch.randn(n, d, generator=generator, dtype=torch.float64) * scale
    labels = torch.randint(-classes, classes, (n,), generator=generator) // 2
    if copies:
        f[n // 2 :] = f[: n - n // 2].clone()
    want = brute_force(which, kind, f, labels)
    got = loss_of(which, kind)(f, labels)
    assert got.shape == ()
    assert got.dtype == torch.float64
    assert got.item() == pytest.approx(want, rel=1e-10, abs=1e-12)
    got = loss_of(which, kind)(f.float(), labels)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(want, rel=2e-5, abs=1e-5)


@both
def test_gradient_is_right(which: str, kind: str) -> None:
    f, labels = ragged()
    f.requires_grad_()
    assert torch.autograd.gradcheck(lambda f: loss_of(which, kind)(f, labels), f)


@both
def test_gradient_with_duplicates(which: str, kind: str) -> None:
    # ties make `nearest` kinked; everything else is smooth, or symmetric, at distance 0
    f, labels = ragged()
    f[5], labels[5] = f[0].clone(), labels[0]
    f[6], labels[6] = f[0].clone(), labels[0]
    f.requires_grad_()
    loss = loss_of(which, kind)(f, labels)
    (grad,) = torch.autograd.grad(loss, f)
    assert grad.isfinite().all()
    torch.testing.assert_close(grad[5], grad[0])
    torch.testing.assert_close(grad[6], grad[0])
    if kind != "nearest":
        assert torch.autograd.gradcheck(lambda f: loss_of(which, kind)(f, labels), f)


@both
def test_all_samples_equal(which: str, kind: str) -> None:
    f = torch.ones(6, 4, requires_grad=True)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    loss = loss_of(which, kind)(f, labels)
    want = {"infonce": 1 / 0.3, "rbf": 1.0, "hinge": 2.5**2, "nearest": 1.0}[kind]
    assert loss.item() == pytest.approx(want)
    (grad,) = torch.autograd.grad(loss, f)
    assert grad.abs().max() < 1e-5


@both
def test_zero_features(which: str, kind: str) -> None:
    f = torch.randn(8, 4, dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    f[1] = 0
    f[3:6] = 0
    f.requires_grad_()
    loss = loss_of(which, kind)(f, labels)
    assert loss.item() == pytest.approx(brute_force(which, kind, f, labels))
    (grad,) = torch.autograd.grad(loss, f)
    assert grad.isfinite().all()
    if kind in ("infonce", "nearest"):
        assert not grad[3:6].any()
    if which == "intra" and kind in ("infonce", "nearest"):
        assert not grad[1].any()


@pytest.mark.parametrize("n", [0, 1, 4])
@both
def test_nothing_to_compare_is_zero(which: str, kind: str, n: int) -> None:
    f = torch.randn(n, 3, requires_grad=True)
    labels = torch.arange(n) if which == "intra" else torch.full((n,), 9)
    loss = loss_of(which, kind)(f, labels)
    assert loss.item() == 0
    assert loss.dtype == torch.float32
    loss.backward()
    assert f.grad is not None
    assert f.grad.shape == f.shape
    assert not f.grad.any()


@pytest.mark.parametrize("row", [0, 8])
@both
def test_nan_in_gives_nan_out(which: str, kind: str, row: int) -> None:
    f, labels = ragged(dtype=torch.float32)
    assert (labels == labels[8]).sum() == 1
    f[row, 2] = torch.nan
    assert loss_of(which, kind)(f, labels).isnan()
    alone = loss_of(which, kind)(f[row : row + 1], labels[:1])
    assert alone.isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@both
def test_half_precision_is_summed_in_float32(which: str, kind: str, dtype: torch.dtype) -> None:
    f, labels = ragged(60, 40, dtype)
    wide = f.float().requires_grad_()
    f.requires_grad_()
    got, want = (
        loss_of(which, kind, margin=9.0)(f, labels),
        loss_of(which, kind, margin=9.0)(wide, labels),
    )
    assert got.dtype == torch.float32
    assert torch.equal(got, want)
    (got_grad,), (want_grad,) = torch.autograd.grad(got, f), torch.autograd.grad(want, wide)
    assert got_grad.dtype == dtype
    assert torch.equal(got_grad, want_grad.to(dtype))


@both
def test_autocast_changes_nothing(which: str, kind: str) -> None:
    f, labels = ragged(30, 20, torch.float32)
    want = loss_of(which, kind)(f, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss_of(which, kind)(f, labels), want)


@both
def test_order_and_names_of_classes_do_not_matter(which: str, kind: str) -> None:
    f, labels = ragged(30)
    want = loss_of(which, kind)(f, labels)
    order = torch.randperm(30)
    torch.testing.assert_close(loss_of(which, kind)(f[order], labels[order]), want)
    _, index = torch.unique(labels, return_inverse=True)
    names = torch.tensor([2**63 - 1, -(2**63), 5, -1, 0])
    torch.testing.assert_close(loss_of(which, kind)(f, names[index]), want)


@both
def test_moving_or_stretching_all_samples(which: str, kind: str) -> None:
    f, labels = ragged(30)
    want = loss_of(which, kind)(f, labels)
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))
    torch.testing.assert_close(loss_of(which, kind)(f @ rotation, labels), want)
    same = f * 3 if kind in ("infonce", "nearest") else f + 100
    torch.testing.assert_close(loss_of(which, kind)(same, labels), want)
    if which == "intra" and kind in ("infonce", "nearest"):
        stretched = f * torch.rand(30, 1, dtype=torch.float64).add(0.1)
        torch.testing.assert_close(loss_of(which, kind)(stretched, labels), want)


@pytest.mark.parametrize("kind", INTRA)
def test_intra_is_the_weighted_mean_over_classes(kind: str) -> None:
    f, labels = ragged(40)
    total, weights = 0.0, 0
    for c in labels.unique():
        mine = labels == c
        n = int(mine.sum())
        weight = n * (n - 1) if kind in ("rbf", "hinge") else n * (n > 1)
        total += weight * loss_of("intra", kind)(f[mine], labels[mine]).item()
        weights += weight
    assert loss_of("intra", kind)(f, labels).item() == pytest.approx(total / weights)


def test_squared_distances_are_a_variance() -> None:
    # sum over pairs of |x - y|^2 = 2 n m2; a wide rbf is 1 minus that mean over 2 sigma^2
    f, labels = ragged(50)
    _, index, count = torch.unique(labels, return_inverse=True, return_counts=True)
    m2 = gf.class_moments(f, index, len(count)).m2.sum(1)
    mean_square = (2 * count * m2).sum() / (count * (count - 1)).sum()
    sigma = 1e3
    loss = gf.intra_class_loss(f, labels, kind="rbf", sigma=sigma)
    torch.testing.assert_close((1 - loss) * 2 * sigma**2, mean_square, rtol=1e-4, atol=0)


@both
def test_far_from_the_origin(which: str, kind: str) -> None:
    f, labels = ragged(30, dtype=torch.float32)
    f = f + 1e4
    want = brute_force(which, kind, f, labels)
    assert loss_of(which, kind)(f, labels).item() == pytest.approx(want, rel=2e-3)


def test_defaults_and_sharp_temperature() -> None:
    f, labels = ragged(30, dtype=torch.float32)
    for loss, options in (
        (gf.intra_class_loss, {"kind": "infonce", "temperature": 0.1}),
        (gf.inter_class_loss, {"kind": "hinge", "margin": 1.0}),
    ):
        assert torch.equal(loss(f, labels), loss(f, labels, **options))
        torch.testing.assert_close(loss(f, labels), loss(f, labels, impl="reference"))
    f.requires_grad_()
    sharp = gf.intra_class_loss(f, labels, temperature=1e-3)
    (grad,) = torch.autograd.grad(sharp, f)
    assert sharp.isfinite()
    assert grad.isfinite().all()


@pytest.mark.parametrize("kind", INTRA)
def test_intra_compiles_whole(kind: str) -> None:
    f, labels = ragged(dtype=torch.float32)
    f.requires_grad_()
    loss = loss_of("intra", kind)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(f, labels), loss(f, labels))
    grads = [torch.autograd.grad(run(f, labels), f)[0] for run in (loss, compiled)]
    torch.testing.assert_close(grads[1], grads[0])


@pytest.mark.parametrize("loss", [gf.intra_class_loss, gf.inter_class_loss])
@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"features": torch.zeros(3, 2, 2)}, ValueError, r"got shape \[3, 2, 2\]"),
        ({"features": torch.zeros(3, 2).long()}, TypeError, "int64"),
        ({"labels": torch.zeros(3)}, TypeError, "integers, got torch.float32"),
        ({"labels": torch.zeros(3, dtype=torch.bool)}, TypeError, "integers, got torch.bool"),
        ({"labels": torch.zeros(2).long()}, ValueError, r"got shape \[2\]"),
        ({"labels": torch.zeros(3).long().to("meta")}, ValueError, "meta"),
        ({"kind": "cosine"}, ValueError, "'cosine'"),
        (
            {"kind": "infonce", "temperature": 0.0},
            ValueError,
            "temperature must be a positive number, got 0.0",
        ),
        ({"kind": "hinge", "margin": math.nan}, ValueError, "margin must be a positive number"),
        ({"impl": "gpu"}, ValueError, "auto, reference, fused, got 'gpu'"),
    ],
)
def test_wrong_arguments(loss: Callable, change: dict, error: type[Exception], said: str) -> None:
    arguments = {"features": torch.zeros(3, 2), "labels": torch.zeros(3, dtype=torch.int64)}
    with pytest.raises(error, match=said):
        loss(**(arguments | change))


def test_sigma_must_be_positive() -> None:
    f, labels = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="sigma must be a positive number, got -1"):
        gf.intra_class_loss(f, labels, kind="rbf", sigma=-1)


@pytest.mark.parametrize("kind", INTRA)
@pytest.mark.parametrize("option", ["temperature", "sigma", "margin"])
def test_an_option_of_another_kind_is_refused(kind: str, option: str) -> None:
    f, labels = ragged(dtype=torch.float32)
    taken = OPTION_OF.get(kind, "no such option")
    if option == taken:
        assert gf.intra_class_loss(f, labels, kind=kind, **{option: 0.5}).isfinite()
        return
    said = f"intra_class_loss: {option} does not apply to kind '{kind}', which takes {taken}; leave"
    with pytest.raises(ValueError, match=said):
        gf.intra_class_loss(f, labels, kind=kind, **{option: 0.5})
    with pytest.raises(ValueError, match="IntraClassLoss: " + said.partition(": ")[2]):
        gf.IntraClassLoss(kind=kind, **{option: 0.5})


def test_both_losses_take_the_options_of_their_kinds() -> None:
    f, labels = ragged(dtype=torch.float32)
    options = {"temperature": 0.5, "margin": 2.0}
    intra = gf.intra_class_loss(f, labels, temperature=0.5, impl="reference")
    inter = gf.inter_class_loss(f, labels, margin=2.0, impl="reference")
    assert gf.class_losses(f, labels, impl="reference", **options) == (intra, inter)
    with pytest.raises(ValueError, match="sigma does not apply to kind 'infonce' and 'hinge', whi"):
        gf.class_losses(f, labels, sigma=1.0)
    with pytest.raises(ValueError, match="which takes margin; leave it out"):
        gf.class_losses(f, labels, intra_kind="hinge", temperature=1.0)


INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint32]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_of_any_integer_dtype(dtype: torch.dtype) -> None:
    f, labels = torch.randn(12, 5), torch.arange(12) % 4
    other = labels.to(dtype)
    for impl in ("auto", "reference"):
        want = gf.class_losses(f, labels, impl=impl)
        assert gf.class_losses(f, other, impl=impl) == want
        assert gf.intra_class_loss(f, other, impl=impl) == want.intra
    layout = gf.ClassLayout.from_labels(other)
    assert torch.equal(layout.order, gf.ClassLayout.from_labels(labels).order)
    moments = gf.class_moments(f, labels, 4)
    assert torch.equal(gf.class_moments(f, other, 4).mean, moments.mean)
    updated = gf.ClassMoments.zeros(4, 5).update_(f, other)
    assert torch.equal(updated.count, moments.count)
    assert gf.moment_matching_loss(f + 1, other, moments) == pytest.approx(20, rel=1e-5)
    covariances = gf.class_covariances(f, other, 4)
    assert torch.equal(covariances.mean, gf.class_covariances(f, labels, 4).mean)


def test_a_layout_takes_integers_alone() -> None:
    with pytest.raises(TypeError, match="from_labels: labels must be integers, got torch.float32"):
        gf.ClassLayout.from_labels(torch.zeros(3))
    with pytest.raises(ValueError, match=r"one dimension \[N\], got shape \[2, 2\]"):
        gf.ClassLayout.from_labels(torch.zeros(2, 2, dtype=torch.int64))


@pytest.mark.parametrize("kind", INTRA)
def test_minimising_the_intra_class_loss_spreads_a_class(kind: str) -> None:
    f, labels = torch.randn(20, 3) * 0.3 + 1, torch.arange(20) % 2
    loss = loss_of("intra", kind)
    f.requires_grad_()
    loss(f, labels).backward()
    assert f.grad is not None
    apart = (f - 0.1 * f.grad / f.grad.norm()).detach()

    def spread(x: Tensor) -> Tensor:
        x = torch.nn.functional.normalize(x) if kind in ("infonce", "nearest") else x
        return gf.class_moments(x, labels, 2).m2.sum()

    assert spread(apart) > spread(f.detach())


@pytest.mark.parametrize("kind", INTER)
def test_minimising_the_inter_class_loss_moves_centres_apart(kind: str) -> None:
    f, labels = torch.randn(20, 3) * 0.3 + 1, torch.arange(20) % 2
    f.requires_grad_()
    loss_of("inter", kind)(f, labels).backward()
    assert f.grad is not None
    after = (f - 0.1 * f.grad / f.grad.norm()).detach()

    def distance(x: Tensor) -> Tensor:
        one, other = gf.class_moments(x, labels, 2).mean
        if kind == "infonce":
            return -torch.cosine_similarity(one, other, dim=0)
        return (one - other).norm()

    assert distance(after) > distance(f.detach())
