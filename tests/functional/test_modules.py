"""The losses as modules give what the functions of the same options give."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import gencond_fast as gf

INTRA = [
    {},
    {"kind": "infonce", "temperature": 0.5},
    {"kind": "rbf", "sigma": 2.0},
    {"kind": "hinge", "margin": 3.0},
    {"kind": "nearest", "impl": "reference"},
]
INTER = [{}, {"kind": "hinge", "margin": 3.0}, {"kind": "infonce", "temperature": 0.5}]
BOTH = [{}, {"intra_kind": "rbf", "inter_kind": "infonce", "sigma": 2.0, "temperature": 0.5}]


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(24, 6, requires_grad=True), torch.arange(24) % 5


@pytest.mark.parametrize(
    ("module", "function", "options"),
    [
        *((gf.IntraClassLoss, gf.intra_class_loss, options) for options in INTRA),
        *((gf.InterClassLoss, gf.inter_class_loss, options) for options in INTER),
    ],
)
def test_a_loss_of_classes(module, function, options) -> None:
    features, labels = batch()
    loss = module(**options)
    assert isinstance(loss, nn.Module)
    assert not list(loss.parameters())
    want = function(features, labels, **options)
    for given in (labels, labels.int(), gf.ClassLayout.from_labels(labels)):
        assert torch.equal(loss(features, given), want)
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert torch.equal(twin(features, labels), want)
    (want_gradient,) = torch.autograd.grad(want, features)
    loss(features, labels).backward()
    assert torch.equal(features.grad, want_gradient)


@pytest.mark.parametrize("options", BOTH)
def test_both_losses_at_once(options) -> None:
    features, labels = batch()
    found, want = (
        gf.IntraInterClassLoss(**options)(features, labels),
        gf.class_losses(features, labels, **options),
    )
    assert torch.equal(found.intra, want.intra)
    assert torch.equal(found.inter, want.inter)


def test_matching_of_moments() -> None:
    features, labels = batch()
    target = gf.class_moments(torch.randn(40, 6), torch.arange(40) % 5, 5)
    options = {"mean_weight": 2.0, "std_weight": 0.5, "stored": 9}
    want = gf.moment_matching_loss(features, labels, target, **options)
    assert torch.equal(gf.MomentMatchingLoss(**options)(features, labels, target), want)


def test_matching_of_batch_norms() -> None:
    features = [torch.randn(8, 3, 4, 4), torch.randn(8, 5)]
    means, variances = [torch.zeros(3), torch.ones(5)], [torch.ones(3), torch.ones(5)]
    want = gf.batchnorm_matching_loss(features, means, variances, weights=[10.0, 1.0])
    loss = gf.BatchNormMatchingLoss(weights=[10.0, 1.0])
    assert torch.equal(loss(features, means, variances), want)


def test_the_options_are_shown() -> None:
    assert repr(gf.IntraClassLoss()) == "IntraClassLoss(kind='infonce', temperature=0.1)"
    assert repr(gf.IntraClassLoss(kind="nearest")) == "IntraClassLoss(kind='nearest')"
    assert "inter_kind='hinge'" in repr(gf.IntraInterClassLoss())
    assert repr(gf.BatchNormMatchingLoss()) == "BatchNormMatchingLoss(weights=None)"


@pytest.mark.parametrize(
    ("module", "options", "error", "said"),
    [
        (gf.IntraClassLoss, {"kind": "cosine"}, ValueError, "IntraClassLoss: kind must be one of"),
        (gf.InterClassLoss, {"kind": "rbf"}, ValueError, "kind must be one of hinge, infonce"),
        (gf.InterClassLoss, {"temperature": 1.0}, ValueError, "does not apply to kind 'hinge'"),
        (gf.InterClassLoss, {"impl": "gpu"}, ValueError, "impl must be one of"),
        (gf.IntraClassLoss, {"precision": "fp8"}, ValueError, "precision must be one of auto"),
        (gf.IntraClassLoss, {"temperature": 0.0}, ValueError, "must be a positive number, got 0"),
        (gf.IntraInterClassLoss, {"inter_kind": "rbf"}, ValueError, "inter_kind must be one of"),
        (gf.MomentMatchingLoss, {"stored": 1.5}, TypeError, "stored must be an int"),
        (gf.MomentMatchingLoss, {"std_weight": float("nan")}, ValueError, "must be a finite"),
        (gf.BatchNormMatchingLoss, {"impl": "gpu"}, ValueError, "impl must be one of"),
    ],
)
def test_wrong_options_are_refused_when_the_module_is_made(module, options, error, said) -> None:
    with pytest.raises(error, match=said):
        module(**options)
