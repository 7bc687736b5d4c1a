"""Networks of timm and torchvision, which stand-ins replace."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from gencond_fast.errors import InputError
from gencond_fast.models.registry import build_classifier, model_identity


def small(channels: int, classes: int) -> nn.Module:
    layers = (nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(4, classes))


def build(name, channels=3, classes=5, side=8, seed=0):
    return build_classifier(name, channels, classes, side, seed=seed)


@pytest.fixture
def timm(monkeypatch):
    """A stand-in that knows `plain`, of any side, and `patchy`, which is built for one."""
    library, asked = ModuleType("timm"), []

    def create_model(name, pretrained=True, num_classes=1000, in_chans=3, **more):
        asked.append((name, pretrained, more))
        if name not in ("plain", "patchy"):
            raise RuntimeError(f"Unknown model ({name})")
        if name == "plain" and more:
            raise TypeError("unexpected keyword argument 'img_size'")
        return small(in_chans, num_classes)

    library.create_model, library.asked, library.__version__ = create_model, asked, "9.1"
    monkeypatch.setitem(sys.modules, "timm", library)
    return library


@pytest.fixture
def torchvision(monkeypatch):
    library, asked = ModuleType("torchvision"), []

    def get_model(name, weights="some", num_classes=1000, **more):
        asked.append((name, weights, more))
        return small(3, num_classes)

    classifiers = ["resnet50", "vit_b_16"]
    library.models = SimpleNamespace(get_model=get_model, list_models=lambda module: classifiers)
    library.asked = asked
    monkeypatch.setitem(sys.modules, "torchvision", library)
    return library


@pytest.mark.parametrize("name", ["plain", "patchy"])
def test_a_network_of_timm(timm, name):
    network = build(f"timm:{name}", channels=1)
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 5)
    last = {} if name == "plain" else {"img_size": 8}
    assert timm.asked[-1] == (name, False, last)  # without weights from elsewhere
    one, two, other = (build(f"timm:{name}", seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["body.0.weight"], other["body.0.weight"])


@pytest.mark.parametrize("name", ["resnet50", "vit_b_16"])
def test_a_network_of_torchvision(torchvision, name):
    network = build(f"torchvision:{name}")
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 5)
    assert torchvision.asked == [(name, None, {"image_size": 8} if "vit" in name else {})]


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_library_that_is_not_installed(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not there
    monkeypatch.delitem(sys.modules, library)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])
    for ask in (build, model_identity):
        with pytest.raises(InputError, match=f"not installed: pip install {library}$"):
            ask(f"{library}:resnet50")


def test_names_that_no_library_has(timm, torchvision):
    with pytest.raises(InputError, match=r"raises RuntimeError: Unknown model \(none_such\)"):
        build("timm:none_such")
    with pytest.raises(InputError, match="torchvision has no such classifier"):
        build("torchvision:fcn_resnet50")
    for name in ("timm:", "timm:hf-hub:some/model", "timm:a/b"):
        with pytest.raises(InputError, match="write timm:NAME, as in timm:resnet50"):
            build(name)


def test_torchvision_has_no_gray_networks(torchvision):
    with pytest.raises(InputError, match="takes images of 3 channels, and these have 1"):
        build("torchvision:resnet50", channels=1)


def test_its_identity_is_that_of_the_version(timm):
    assert model_identity("timm:plain") == "timm:plain 9.1"
