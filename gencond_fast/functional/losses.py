"""The public intra- and inter-class losses over features of labelled samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gencond_fast import _ext
from gencond_fast.errors import InputError
from gencond_fast.functional import ops, reference
from gencond_fast.functional.checks import (
    IMPLS,
    NO_TRANSFORM,
    Impl,
    check_choice,
    check_features,
    check_positive,
    check_samples,
)
from gencond_fast.functional.layout import ClassLayout
from gencond_fast.functional.transforms import transformed

IntraKind = Literal["infonce", "rbf", "hinge", "nearest"]
InterKind = Literal["hinge", "infonce"]
Precision = Literal["auto", "ieee", "tf32x3", "tf32", "bf16"]

PRECISIONS = ("auto", "ieee", "tf32x3", "tf32", "bf16")
# the number that each kind takes, and its default
_OPTION = {"infonce": "temperature", "rbf": "sigma", "hinge": "margin", "nearest": None}
_DEFAULT = {"temperature": 0.1, "sigma": 1.0, "margin": 1.0}
# what loses no more than a matrix product in the dtype of the features does
_AUTO = {torch.float32: "tf32x3", torch.float16: "tf32", torch.bfloat16: "bf16"}


class ClassLosses(NamedTuple):
    """The two losses of one batch, each a scalar."""

    intra: Tensor
    inter: Tensor


def intra_class_loss(
    features: Tensor,
    labels: Tensor | ClassLayout,
    *,
    kind: IntraKind = "infonce",
    temperature: float | None = None,
    sigma: float | None = None,
    margin: float | None = None,
    impl: Impl = "auto",
    precision: Precision = "auto",
) -> Tensor:
    """How close samples of one class lie together: minimising it *spreads* each class.

    Losses of metric learning pull a class together: give this one a negative weight for that.

    With u_i = f_i / |f_i|, n_c the size of class c and P = sum_c n_c (n_c - 1):

    - infonce: mean over i with n_c >= 2 of log(1/(n_c - 1) sum_{j != i} exp(u_i . u_j / t)), t the
      temperature
    - rbf: 1/P sum_{i != j} exp(-|f_i - f_j|^2 / (2 sigma^2))
    - hinge: 1/P sum_{i != j} max(0, margin - |f_i - f_j|)^2
    - nearest: mean over i with n_c >= 2 of max_{j != i} u_i . u_j

    where i and j are always of one class. Nothing to compare gives 0 with zero gradient, and |0|
    has gradient 0 (so u of a zero feature is 0). A NaN or an infinity anywhere gives NaN, and so
    does a square that overflows. Where several partners are nearest alike, the fused versions
    follow the first of them, the reference shares.

    The fused versions have no second derivative, and `create_graph=True` raises RuntimeError.
    Transforms of torch.func and forward mode take the reference by themselves; `torch.func.vmap`
    works over features, not over labels.

    The fused versions hold no matrix of all pairs: next to the gradient (4 N D bytes, made in the
    forward pass when one is wanted) they take a bounded workspace. The same bits come out at every
    call, on a CPU whatever the number of threads.

    Args:
        features: [N, D] float32, float16, bfloat16 or float64; N may be 0. Gradients flow back to
            it, once, in its own dtype.
        labels: [N] integers, any values in any order; or the ClassLayout made of them beforehand.
        kind: one of the four above.
        temperature: > 0, for infonce alone; default 0.1.
        sigma: > 0, for rbf alone; default 1.
        margin: > 0, for hinge alone; default 1.
        impl: "auto" takes the fused version where it can run (C++ on a CPU, Triton on a GPU; not
            for float64), else plain PyTorch; "fused" and "reference" insist.
        precision: the least exact arithmetic that matrix products on a GPU may use: "ieee" float32,
            "tf32x3" (about as exact), "tf32" (11 bits), "bf16" (8 bits); "auto" goes by the dtype
            of features: tf32x3 for float32, tf32 for float16, bf16 for bfloat16. Sums are always
            float32, and so is everything on a CPU and in the reference.

    Returns:
        A scalar, float32 (float64 for float64 features), summed in that precision.

    Raises:
        TypeError: an argument is of the wrong type or dtype.
        ValueError: a shape does not fit, or an option is not allowed or is not one of this kind.
        InputError: impl="fused" where the fused version cannot run.

    Source: infonce is a reconstruction of the intra-class loss of arXiv 2309.07698; nearest is the
    diversity term of arXiv 2311.15529.
    """
    name = "intra_class_loss"
    _check(name, features, labels, impl, precision)
    check_choice(name, "kind", kind, reference.INTRA_KINDS)
    options = loss_options(name, (kind,), temperature=temperature, sigma=sigma, margin=margin)
    if not _fused(name, impl, features):
        return reference.intra_class_loss(features, _labels(labels), kind=kind, **options)
    return _pairs(features, _layout(labels), None, kind, options, precision)


def inter_class_loss(
    features: Tensor,
    labels: Tensor | ClassLayout,
    *,
    kind: InterKind = "hinge",
    temperature: float | None = None,
    margin: float | None = None,
    impl: Impl = "auto",
    precision: Precision = "auto",
) -> Tensor:
    """How close the class centres lie together: minimising it moves them apart.

    With m_c the mean of f over class c, C' the number of classes present and v_c = m_c / |m_c|:

    - hinge: 1/(C' (C' - 1)) sum_{c != c'} max(0, margin - |m_c - m_c'|)^2
    - infonce: mean over c of log(1/(C' - 1) sum_{c' != c} exp(v_c . v_c' / t)), t the temperature

    Fewer than two classes give 0 with zero gradient, and |0| has gradient 0. A NaN or an infinity
    anywhere gives NaN, and so does a square that overflows. The fused versions read the features
    once and hold no C' x C' matrix. Derivatives: see `intra_class_loss`.

    Args:
        features: [N, D] float32, float16, bfloat16 or float64; N may be 0. Gradients flow back to
            it, once, in its own dtype.
        labels: [N] integers, any values in any order; or the ClassLayout made of them beforehand.
        kind: one of the two above.
        temperature: > 0, for infonce alone; default 0.1.
        margin: > 0, for hinge alone; default 1.
        impl: see `intra_class_loss`.
        precision: see `intra_class_loss`; centres are kept in float32.

    Returns:
        A scalar, float32 (float64 for float64 features), summed in that precision.

    Raises:
        TypeError: an argument is of the wrong type or dtype.
        ValueError: a shape does not fit, or an option is not allowed or is not one of this kind.
        InputError: impl="fused" where the fused version cannot run.

    Source: hinge is a reconstruction of the inter-class loss of arXiv 2309.07698.
    """
    name = "inter_class_loss"
    _check(name, features, labels, impl, precision)
    check_choice(name, "kind", kind, reference.INTER_KINDS)
    options = loss_options(name, (kind,), temperature=temperature, margin=margin)
    if not _fused(name, impl, features):
        _check_not_batched(name, labels)
        return reference.inter_class_loss(features, _labels(labels), kind=kind, **options)
    layout = _layout(labels)
    centres = ops.class_centres(features, layout.order, layout.offsets, layout.tables)
    return _pairs(centres, _layout_of_centres(layout), None, kind, options, precision)


def class_losses(
    features: Tensor,
    labels: Tensor | ClassLayout,
    *,
    intra_kind: IntraKind = "infonce",
    inter_kind: InterKind = "hinge",
    temperature: float | None = None,
    sigma: float | None = None,
    margin: float | None = None,
    impl: Impl = "auto",
    precision: Precision = "auto",
) -> ClassLosses:
    """Both losses of one batch, from one layout and one computation of the class centres.

    Minimising `intra` spreads each class, minimising `inter` moves the class centres apart.
    Equivalent to `intra_class_loss(..., kind=intra_kind)` and `inter_class_loss(...,
    kind=inter_kind)`, up to rounding; see there for arguments and errors. Each loss takes the
    options of its kind, and an option of neither kind is refused.

    Returns:
        ClassLosses(intra, inter).
    """
    name = "class_losses"
    _check(name, features, labels, impl, precision)
    check_choice(name, "intra_kind", intra_kind, reference.INTRA_KINDS)
    check_choice(name, "inter_kind", inter_kind, reference.INTER_KINDS)
    kinds = (intra_kind, inter_kind)
    options = loss_options(name, kinds, temperature=temperature, sigma=sigma, margin=margin)
    if not _fused(name, impl, features):
        _check_not_batched(name, labels)
        classes, of_inter = _labels(labels), {k: v for k, v in options.items() if k != "sigma"}
        intra = reference.intra_class_loss(features, classes, kind=intra_kind, **options)
        inter = reference.inter_class_loss(features, classes, kind=inter_kind, **of_inter)
        return ClassLosses(intra, inter)
    layout = _layout(labels)
    centres = ops.class_centres(features, layout.order, layout.offsets, layout.tables)
    intra = _pairs(features, layout, centres.detach(), intra_kind, options, precision)
    inter = _pairs(centres, _layout_of_centres(layout), None, inter_kind, options, precision)
    return ClassLosses(intra, inter)


def option_of(kind: str) -> str | None:
    """The name of the number that a kind takes: temperature, sigma, margin or none."""
    return _OPTION[kind]


def loss_options(name: str, kinds: Sequence[str], **given: float | None) -> dict[str, float]:
    """The numbers that losses of these kinds take: those given, defaults for the others.

    Args:
        name: of the caller, for messages.
        kinds: of the losses, already checked.
        given: numbers by name, None for one that was not given.

    Raises:
        ValueError: a number is not positive, or none of the kinds takes it.
    """
    taken = [option for option in map(option_of, kinds) if option is not None]
    for option, value in given.items():
        if value is None:
            continue
        if option not in taken:
            wanted = " and ".join(dict.fromkeys(taken)) or "no such option"
            raise ValueError(
                f"{name}: {option} does not apply to kind {' and '.join(map(repr, kinds))}, "
                f"which takes {wanted}; leave it out."
            )
        check_positive(name, option, value)
    return {
        option: _DEFAULT[option] if (value := given.get(option)) is None else value
        for option in taken
    }


def _check(
    name: str, features: Tensor, labels: Tensor | ClassLayout, impl: str, precision: str
) -> None:
    if isinstance(labels, ClassLayout):
        check_features(name, features)
        if features.shape[0] != labels.num_samples or features.device != labels.order.device:
            raise ValueError(
                f"{name}: the layout is for {labels.num_samples} samples on {labels.order.device}, "
                f"got features of shape {list(features.shape)} on {features.device}."
            )
    else:
        check_samples(name, features, labels)
    check_choice(name, "impl", impl, IMPLS)
    check_choice(name, "precision", precision, PRECISIONS)


def _fused(name: str, impl: str, features: Tensor) -> bool:
    """Whether the fused version is to be used; InputError if it is asked for and cannot run."""
    if impl == "reference":
        return False
    reason = _obstacle(features)
    if reason and impl == "fused":
        raise InputError(f"{name}: impl='fused' cannot run: {reason}")
    return not reason


def _check_not_batched(name: str, labels: Tensor | ClassLayout) -> None:
    """Refuse labels of torch.func.vmap, which may have as many classes as they like."""
    if isinstance(labels, Tensor) and torch._C._functorch.is_batchedtensor(labels):
        raise ValueError(f"{name}: torch.func.vmap works over features alone, not over labels.")


def _obstacle(features: Tensor) -> str:
    if transformed(features):
        return NO_TRANSFORM
    if features.dtype == torch.float64:
        return "float64 features are served by impl='reference'."
    if features.device.type == "cpu":
        return "" if _ext.available() else _ext.reason
    if features.device.type == "cuda":
        return _triton_obstacle()
    return f"there are no kernels for {features.device}."


def _triton_obstacle() -> str:
    if torch.compiler.is_compiling():
        return ""  # not for a trace to ask; without Triton the op itself says so
    from gencond_fast.kernels import triton_status

    status = triton_status()
    return "" if status.available else status.reason


def _labels(labels: Tensor | ClassLayout) -> Tensor:
    return labels.labels() if isinstance(labels, ClassLayout) else labels.to(torch.int64)


def _layout(labels: Tensor | ClassLayout) -> ClassLayout:
    if isinstance(labels, ClassLayout):
        return labels
    labels = labels.to(torch.int64)
    if torch.compiler.is_compiling():
        # the number of classes is not known to a trace: offsets for as many classes as samples
        return ClassLayout(*ops.class_order(labels))
    return ClassLayout.from_labels(labels)


def _layout_of_centres(layout: ClassLayout) -> ClassLayout:
    if layout.centres is not None:
        return layout.centres
    present = (layout.offsets.diff() > 0).sum()
    offsets = torch.stack([torch.zeros_like(present), present])
    return ClassLayout(torch.arange(layout.num_classes, device=offsets.device), offsets)


def _pairs(
    rows: Tensor,
    layout: ClassLayout,
    centres: Tensor | None,
    kind: str,
    options: Mapping[str, float],
    precision: str,
) -> Tensor:
    option = option_of(kind)
    return ops.pair_loss(
        rows,
        layout.order,
        layout.offsets,
        centres,
        layout.tables,
        kind=kind,
        parameter=1.0 if option is None else float(options[option]),
        precision=_AUTO[rows.dtype] if precision == "auto" else precision,
    )
