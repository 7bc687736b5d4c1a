"""Cases for the kernels: class layouts, float64 references, memory that shows what is unset."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from gencond_fast.kernels.pair_loss import pair_loss
from gencond_fast.kernels.tiles import tile_tables
from torch import Tensor

from gencond_fast.functional import reference

KINDS = ("infonce", "rbf", "hinge", "nearest")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Layout(NamedTuple):
    """Rows sorted by class; labels of rows of no class are -1."""

    labels: Tensor
    order: Tensor
    offsets: Tensor


def layout(sizes: Sequence[int], ignored: int = 0) -> Layout:
    """Classes of these sizes, 0 included, with their rows in random places."""
    N = sum(sizes) + ignored
    shuffled = torch.randperm(N)
    labels = torch.full((N,), -1)
    counts = torch.tensor(sizes, dtype=torch.int64)
    labels[shuffled[: N - ignored]] = torch.arange(len(sizes)).repeat_interleave(counts)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    last = torch.where(labels < 0, len(sizes), labels)
    return Layout(labels, last.argsort(stable=True), offsets)


def parameter(kind: str, x: Tensor) -> float:
    """A temperature, or a sigma or margin on the scale of the distances."""
    spread = math.sqrt(2 * float(x.double().var(0).sum()))
    return {"infonce": 0.2, "nearest": 1.0, "rbf": spread, "hinge": 1.3 * spread}[kind]


def expected(x: Tensor, labels: Tensor, kind: str, value: float) -> tuple[Tensor, Tensor]:
    """Loss and gradient in float64, rows of no class left out."""
    rows = labels >= 0
    f = x.double().requires_grad_()
    options = {"temperature": value, "sigma": value, "margin": value}
    loss = reference.intra_class_loss(f[rows], labels[rows], kind=kind, **options)
    return loss.detach(), torch.autograd.grad(loss, f)[0]


def run(
    x: Tensor,
    classes: Layout,
    kind: str,
    value: float,
    *,
    precision: str = "ieee",
    cap: int | None = None,
    centres: Tensor | None = None,
    need_grad: bool = True,
) -> tuple[Tensor, Tensor]:
    """Loss and gradient of the kernels, brought to the CPU."""
    options = {} if cap is None else {"workspace_tiles": cap}
    tables = tile_tables(classes.offsets, len(x), DEVICE, **options)
    given = (x.to(DEVICE), classes.order.to(DEVICE), classes.offsets.to(DEVICE))
    centres = None if centres is None else centres.to(DEVICE)
    with unset_memory():
        loss, grad = pair_loss(*given, centres, tables, kind, value, precision, need_grad)
    return loss.cpu(), grad.cpu()


def check(x: Tensor, classes: Layout, kind: str, tolerance: float = 5e-5, **options: Any) -> None:
    """Compare loss and every row of the gradient with the reference."""
    value = options.pop("value", None) or parameter(kind, x)
    loss, grad = run(x, classes, kind, value, **options)
    wanted, wanted_grad = expected(x, classes.labels, kind, value)
    assert loss.dtype == grad.dtype == torch.float32
    assert grad.shape == x.shape
    # losses of cosines pass through 0
    torch.testing.assert_close(loss.double(), wanted, rtol=tolerance, atol=tolerance / 10)
    size = wanted_grad.norm(dim=1)
    # rows with next to no gradient are held to a hundredth of the others' error
    error = (grad.double() - wanted_grad).norm(dim=1) / size.clamp(min=size.mean() / 100 + 1e-30)
    assert float(error.max()) < tolerance, f"row {int(error.argmax())}: {float(error.max())}"


@contextlib.contextmanager
def unset_memory() -> Iterator[None]:
    """Fill new memory with NaN, or with a number that is no index, so that unset results show."""

    def filled(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def wrapper(*args: Any, **kwargs: Any) -> Tensor:
            made = make(*args, **kwargs)
            return made.fill_(torch.nan if made.is_floating_point() else 77)

        return wrapper

    with pytest.MonkeyPatch.context() as patch:
        for place, name in ((torch, "empty"), (torch, "empty_like"), (Tensor, "new_empty")):
            patch.setattr(place, name, filled(getattr(place, name)))
        yield
