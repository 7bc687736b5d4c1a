"""The fused losses as users call them, against the reference in float64."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import gencond_fast as gf
from gencond_fast import _ext
from gencond_fast.errors import InputError

KINDS = [("intra", kind) for kind in ("infonce", "rbf", "hinge", "nearest")]
KINDS += [("inter", kind) for kind in ("hinge", "infonce")]
OPTIONS = {"temperature": 0.3, "margin": 2.5}
OPTION_OF = {"infonce": "temperature", "rbf": "sigma", "hinge": "margin"}
LOSSES = {"intra": gf.intra_class_loss, "inter": gf.inter_class_loss}
DEVICES = [
    pytest.param(
        "cpu", marks=pytest.mark.skipif(not _ext.available(), reason="needs the C++ extension")
    ),
    pytest.param("cuda", marks=pytest.mark.gpu),
]
both = pytest.mark.parametrize(("which", "kind"), KINDS)
devices = pytest.mark.parametrize("device", DEVICES)


def of(*kinds: str, **options: float) -> dict[str, float]:
    """The options that these kinds take."""
    taken = {OPTION_OF.get(kind) for kind in kinds}
    return {name: value for name, value in (OPTIONS | options).items() if name in taken}


def value_and_gradient(
    which: str, kind: str, features: Tensor, labels: object, impl: str, **options: float
) -> tuple[Tensor, Tensor]:
    f = features.detach().requires_grad_()
    loss = LOSSES[which](f, labels, kind=kind, impl=impl, **of(kind, **options))
    (grad,) = torch.autograd.grad(loss * 0.7, f)
    return loss.detach().double().cpu(), grad.double().cpu()


def ragged(n: int, d: int, classes: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Unsorted classes of very different sizes, singletons among them, labels far apart."""
    labels = (torch.rand(n).square() * classes).long() * 2**40 - 7
    return torch.randn(n, d, device=device), labels.to(device)


def by_gram(
    which: str, kind: str, f: Tensor, labels: Tensor, margin: float, sigma: float
) -> Tensor:
    """The losses of distances in plain PyTorch through Gram matrices, which is the same maths."""
    groups = [f[labels == label] for label in labels.unique()]
    if which == "inter":
        groups = [torch.stack([x.mean(0) for x in groups])]
    total, pairs = f.sum() * 0, 0
    for x in groups:
        x = x - x.mean(0)
        square = (x * x).sum(1)
        d2 = (square[:, None] + square - 2 * x @ x.T).clamp(min=0)
        others = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
        d = torch.where(others & (d2 > 0), d2, 1).sqrt() * (d2 > 0)
        value = (margin - d).relu().square() if kind == "hinge" else torch.exp(-d2 / (2 * sigma**2))
        total = total + (value * others).sum()
        pairs += len(x) * (len(x) - 1)
    return total / max(pairs, 1)


def yardsticks(which: str, kind: str, f: Tensor, labels: Tensor, **options: float):
    """Losses and gradients in plain PyTorch, in several orders of summation."""
    for _ in range(4):
        columns = torch.randperm(f.shape[1], device=f.device)
        turned = f[:, columns].float().requires_grad_()
        back = columns.argsort().cpu()
        loss = LOSSES[which](turned, labels, kind=kind, impl="reference", **of(kind, **options))
        losses = [loss]
        if kind in ("rbf", "hinge"):
            sizes = {"margin": options["margin"], "sigma": options.get("sigma", 1.0)}
            losses.append(by_gram(which, kind, turned, labels, **sizes))
        for loss in losses:
            (grad,) = torch.autograd.grad(loss * 0.7, turned)
            yield loss.detach().double().cpu(), grad.double().cpu()[:, back]


def assert_as_good(which: str, kind: str, f: Tensor, labels: Tensor, **options: float) -> None:
    """At most twice the error of the same maths in PyTorch, and a rounding or two."""
    options = OPTIONS | options
    exact = value_and_gradient(which, kind, f.double(), labels, "reference", **options)
    ours = value_and_gradient(which, kind, f, labels, "fused", **options)
    theirs = list(yardsticks(which, kind, f, labels, **options))
    allowed = [2 * max((t[i] - exact[i]).abs().max() for t in theirs) for i in (0, 1)]
    eps = torch.finfo(torch.float32).eps
    # what rounding the features alone does to the loss, and the largest of the summed terms
    moved = (exact[1] * f.double().cpu()).abs().sum() / 0.7
    largest = {"infonce": 1 / options["temperature"], "nearest": 1.0}.get(kind, 0.0)
    allowed[0] += 4 * eps * (exact[0].abs() + moved + largest)
    allowed[1] += 16 * eps * exact[1].abs().max()
    for got, want, most in zip(ours, exact, allowed, strict=True):
        assert (got - want).abs().max() <= most


@pytest.fixture(autouse=True)
def _compile_anew() -> None:
    torch._dynamo.reset()


@devices
@both
@given(
    n=st.integers(0, 90),
    d=st.integers(1, 40),
    classes=st.integers(1, 12),
    scale=st.sampled_from([0.1, 1.0, 10.0]),
    seed=st.integers(0, 2**31),
)
def test_matches_float64(which, kind, device, n, d, classes, scale, seed) -> None:
    torch.manual_seed(seed)
    f, labels = ragged(n, d, classes, device)
    f = f * scale / d**0.5
    if n == 0:
        assert value_and_gradient(which, kind, f, labels, "fused")[0] == 0
    else:
        assert_as_good(which, kind, f, labels)


@pytest.mark.slow
@devices
@both
@pytest.mark.parametrize(("n", "d", "classes"), [(700, 33, 2), (2600, 24, 1), (1500, 130, 400)])
def test_larger_batches(which, kind, device, n, d, classes) -> None:
    f, labels = ragged(n, d, classes, device)
    assert_as_good(which, kind, f / d**0.5, labels)


@devices
@both
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(which, kind, device, dtype) -> None:
    f, labels = ragged(120, 48, 6, device)
    f = (f / 7).to(dtype)
    loss, grad = value_and_gradient(which, kind, f.double(), labels, "reference")
    ours = value_and_gradient(which, kind, f, labels, "fused", margin=2.5)
    eps = torch.finfo(dtype).eps
    assert (ours[0] - loss).abs() <= eps * (loss.abs() + 1)
    assert (ours[1] - grad).abs().max() <= 4 * eps * grad.abs().max()


@devices
@both
def test_any_strides(which, kind, device) -> None:
    f, labels = ragged(80, 30, 5, device)
    wide = torch.randn(160, 60, device=device)
    for view in (wide[::2, ::2], wide.T[:30, :80].T, wide[1:2, :30].expand(80, 30)):
        want = value_and_gradient(which, kind, view.contiguous(), labels, "fused")
        got = value_and_gradient(which, kind, view, labels, "fused")
        torch.testing.assert_close(got, want)


@devices
@pytest.mark.parametrize("kind", ["rbf", "hinge", "infonce"])
@pytest.mark.parametrize("closeness", [1e-2, 1e-3, 1e-4])
def test_gradient_of_near_duplicates(kind, device, closeness) -> None:
    f, labels = ragged(60, 64, 3, device)
    f[1::2] = f[::2] + closeness * torch.randn_like(f[::2])
    labels[1::2] = labels[::2]
    options = {"margin": 1.0, "sigma": closeness * 10, "temperature": 0.1}
    _, want = value_and_gradient("intra", kind, f.double(), labels, "reference", **options)
    _, got = value_and_gradient("intra", kind, f, labels, "fused", **options)
    assert ((got - want).norm(dim=1) <= 2e-2 * want.norm(dim=1) + 1e-12).all()


@devices
@pytest.mark.parametrize("kind", ["rbf", "hinge"])
def test_far_from_the_origin(kind, device) -> None:
    f, labels = ragged(300, 32, 4, device)
    f = f + 1000 * torch.randn(32, device=device)
    assert_as_good("intra", kind, f, labels, margin=9.0, sigma=5.0)


@devices
@both
@pytest.mark.parametrize("row", [0, 40])
def test_nan_in_gives_nan_out(which, kind, device, row) -> None:
    f, labels = ragged(80, 20, 5, device)
    labels[40] = 99  # alone in its class
    f[row, 3] = torch.nan
    assert value_and_gradient(which, kind, f, labels, "fused")[0].isnan()


@devices
@both
def test_duplicates_and_zeros(which, kind, device) -> None:
    f, labels = ragged(50, 20, 4, device)
    f[10:20] = f[0]
    labels[10:20] = labels[0]
    f[30:34] = 0
    loss, _ = value_and_gradient(which, kind, f.double(), labels, "reference")
    ours, grad = value_and_gradient(which, kind, f, labels, "fused")
    torch.testing.assert_close(ours, loss, rtol=1e-5, atol=1e-6)
    assert grad.isfinite().all()
    if which == "intra" and kind in ("infonce", "nearest"):
        assert not grad[30:34].any()
    if kind != "nearest":
        assert_as_good(which, kind, f, labels)


@devices
@both
def test_layout_serves_for_labels(which, kind, device) -> None:
    f, labels = ragged(90, 20, 7, device)
    want = value_and_gradient(which, kind, f, labels, "fused")
    layout = gf.ClassLayout.from_labels(labels)
    torch.testing.assert_close(value_and_gradient(which, kind, f, layout, "fused"), want)
    if device == "cuda":
        layout = gf.ClassLayout.from_labels(labels.cpu(), device=device)
        torch.testing.assert_close(value_and_gradient(which, kind, f, layout, "fused"), want)
    reference = value_and_gradient(which, kind, f, layout, "reference")
    torch.testing.assert_close(reference, want, rtol=1e-4, atol=1e-6)


@devices
def test_layout_of_sorted_classes(device) -> None:
    counts = [3, 0, 5, 1]
    layout = gf.ClassLayout.from_counts(counts, device=device)
    labels = torch.repeat_interleave(torch.tensor(counts)).to(device)
    f = torch.randn(9, 6, device=device)
    assert (layout.num_samples, layout.num_classes) == (9, 3)
    torch.testing.assert_close(layout.labels(), labels.unique(return_inverse=True)[1])
    torch.testing.assert_close(
        gf.intra_class_loss(f, layout), gf.intra_class_loss(f, labels, impl="reference")
    )
    with pytest.raises(ValueError, match="must not be negative, got -2"):
        gf.ClassLayout.from_counts([1, -2])
    with pytest.raises(ValueError, match=r"layout is for 9 samples .* got features .*\[8, 6\]"):
        gf.intra_class_loss(f[:8], layout)


@devices
@pytest.mark.parametrize("impl", ["fused", "reference"])
def test_both_losses_at_once(device, impl) -> None:
    f, labels = ragged(90, 20, 7, device)
    f.requires_grad_()
    for intra, inter in (("infonce", "hinge"), ("hinge", "infonce"), ("rbf", "hinge")):
        kinds = {"intra_kind": intra, "inter_kind": inter}
        losses = gf.class_losses(f, labels, **kinds, **of(intra, inter), impl=impl)
        apart = [
            gf.intra_class_loss(f, labels, kind=intra, **of(intra), impl=impl),
            gf.inter_class_loss(f, labels, kind=inter, **of(inter), impl=impl),
        ]
        torch.testing.assert_close(list(losses), apart)
        grads = [torch.autograd.grad(a + 2 * b, f)[0] for a, b in (losses, apart)]
        torch.testing.assert_close(grads[0], grads[1])


@devices
@both
def test_backward_again_and_with_other_weights(which, kind, device) -> None:
    f, labels = ragged(60, 20, 5, device)
    f.requires_grad_()
    loss = LOSSES[which](f, labels, kind=kind, impl="fused", **of(kind))
    first = torch.autograd.grad(loss, f, retain_graph=True)[0].clone()
    (second,) = torch.autograd.grad(loss, f, torch.tensor(3.0, device=device))
    torch.testing.assert_close(second, 3 * first)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@devices
@both
def test_compiles_whole(which, kind, device) -> None:
    def loss(f: Tensor, labels: object) -> Tensor:
        return LOSSES[which](f * 2, labels, kind=kind, impl="fused", **of(kind))

    f, labels = ragged(70, 20, 5, device)
    f.requires_grad_()
    layout = gf.ClassLayout.from_labels(labels)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for given_labels in (layout, labels) if device == "cpu" else (layout,):
        grads = [torch.autograd.grad(run(f, given_labels), f)[0] for run in (loss, compiled)]
        torch.testing.assert_close(grads[1], grads[0])


@devices
def test_compiles_with_inductor_for_changing_sizes(device) -> None:
    def loss(f: Tensor, labels: Tensor) -> Tensor:
        return sum(gf.class_losses(f.tanh(), labels, impl="fused"), start=f.sum() * 0)

    compiled = torch.compile(loss, fullgraph=True, dynamic=True)
    for n in (40, 56):
        f, labels = ragged(n, 16, 4, device)
        f.requires_grad_()
        grads = [torch.autograd.grad(run(f, labels), f)[0] for run in (loss, compiled)]
        torch.testing.assert_close(grads[1], grads[0])


@devices
@both
def test_same_bits_every_time(which, kind, device) -> None:
    f, labels = ragged(3000, 40, 20, device)
    first = value_and_gradient(which, kind, f, labels, "fused")
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        again = value_and_gradient(which, kind, f, labels, "fused")
        assert all(map(torch.equal, first, again))


@devices
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("present", [None, "centres"])
def test_ops_keep_their_contract(device, grad, present) -> None:
    f, labels = ragged(20, 6, 4, device)
    layout = gf.ClassLayout.from_labels(labels)
    tables = list(layout.tables)
    order, offsets = layout.order, layout.offsets
    gencond = torch.ops.gencond
    torch.library.opcheck(gencond.class_order.default, (labels,))
    torch.library.opcheck(gencond.class_centres.default, (f, order, offsets, tables))
    centres = gencond.class_centres(f, order, offsets, tables)
    arguments = (centres, order, offsets, torch.bfloat16)
    torch.library.opcheck(gencond.class_centres_backward.default, arguments)
    for kind in ("infonce", "rbf", "hinge", "nearest"):
        given_centres = centres if present else None
        arguments = (f, order, offsets, given_centres, tables, kind, 0.5, "ieee", grad)
        torch.library.opcheck(gencond.pair_loss.default, arguments)


@devices
@pytest.mark.slow
def test_a_million_samples_of_ten_thousand_classes(device) -> None:
    n, classes = 10**6, 10**4
    x = torch.randn(classes, n // classes, 3, device=device)
    order = torch.randperm(n, device=device)
    labels = torch.arange(classes, device=device).repeat_interleave(n // classes)[order]
    f = x.flatten(0, 1)[order].requires_grad_()
    loss = gf.intra_class_loss(f, labels, kind="rbf", impl="fused")
    (grad,) = torch.autograd.grad(loss, f)

    few = x[:50].double().requires_grad_()  # a class says nothing of the others
    kernel = torch.exp(-(few[:, :, None] - few[:, None]).square().sum(3) / 2)
    pairs = classes * (n // classes) * (n // classes - 1)
    (want,) = torch.autograd.grad((kernel.sum() - 50 * (n // classes)) / pairs, few)
    back = torch.empty_like(grad).index_copy(0, order, grad).view_as(x)
    torch.testing.assert_close(back[:50].double(), want, rtol=1e-4, atol=1e-4 * want.abs().max())
    inter = gf.inter_class_loss(f.detach(), labels, kind="infonce", impl="fused")
    centres = torch.nn.functional.normalize(x.double().mean(1), dim=1)
    logits = torch.cat([(part @ centres.T) / 0.1 for part in centres.split(1000)])
    logits.fill_diagonal_(-torch.inf)
    wanted = (logits.logsumexp(1) - torch.tensor(classes - 1.0).log()).mean()
    torch.testing.assert_close(inter.double(), wanted, rtol=1e-5, atol=1e-6)


PEAK = """
import resource, torch
import gencond_fast as gf
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
n, d = 12_000, 64
def run(n):
    f, labels = torch.randn(n, d, requires_grad=True), torch.arange(n) % 2
    for kind in ("infonce", "rbf", "hinge", "nearest"):
        loss = gf.intra_class_loss(f, labels, kind=kind, impl="fused") * 0.7
        loss.backward()
        f.grad = None
run(300)
before = peak()
run(n)
print(peak() - before - 4 * n * d / 2**20)
"""


@pytest.mark.skipif(not _ext.available(), reason="needs the C++ extension")
def test_memory_is_the_gradient_and_a_workspace() -> None:
    # two classes of 6000: their matrices of pairs would be 137 MB each
    out = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    n, d = 12_000, 64
    assert float(out.stdout) <= 4 * n * d / 2**20 + 64


@devices
@pytest.mark.parametrize("loss", [gf.intra_class_loss, gf.inter_class_loss, gf.class_losses])
def test_options_that_cannot_be(loss: Callable, device: str) -> None:
    f, labels = torch.zeros(3, 2, device=device), torch.zeros(3, dtype=torch.int64, device=device)
    with pytest.raises(ValueError, match="precision must be one of auto, .*, got 'fp8'"):
        loss(f, labels, precision="fp8")
    with pytest.raises(InputError, match="float64 features are served by impl='reference'"):
        loss(f.double(), labels, impl="fused")
    for precision in ("ieee", "tf32x3", "tf32", "bf16"):
        loss(f, labels, impl="fused", precision=precision)


def test_without_the_extension_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ext, "module", None)
    monkeypatch.setattr(_ext, "reason", "the compiler was on holiday.")
    f, labels = torch.randn(6, 3), torch.tensor([0, 0, 1, 1, 2, 2])
    with pytest.raises(InputError, match="impl='fused' cannot run: the compiler was on holiday"):
        gf.intra_class_loss(f, labels, impl="fused")
    assert torch.equal(
        gf.intra_class_loss(f, labels), gf.intra_class_loss(f, labels, impl="reference")
    )
