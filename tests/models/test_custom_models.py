"""Networks of the user's own, as module:function."""

from __future__ import annotations

import itertools
import sys

import pytest
import torch
from torch import nn

from gencond_fast.errors import InputError
from gencond_fast.models.registry import build_classifier, has_width, model_identity

NUMBERS = itertools.count()
GOOD = """
from torch import nn
def net(channels, num_classes, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, num_classes))
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a module into the current folder and returns its name, always another one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def make(text: str, name: str | None = None) -> str:
        name = name or f"convnet_of_mine_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return make


def build(name, classes=4, side=6, seed=0, **options):
    return build_classifier(name, 1, classes, side, seed=seed, **options)


def complaint(name, **options) -> str:
    with pytest.raises(InputError) as caught:
        build(name, **options)
    said = str(caught.value)
    assert "\n" not in said
    assert repr(name) in said
    return said


def test_a_module_becomes_a_classifier(write):
    network = build(f"{write(GOOD)}:net")
    images = torch.randn(3, 1, 6, 6)
    inner = network.body[1]
    want = images.flatten(1) @ inner.weight.T + inner.bias
    assert torch.allclose(network(images), want, atol=1e-6)
    assert torch.equal(network.features(images), network(images))
    assert network.feature_dim == 4
    assert network.training


def test_a_classifier_is_left_as_it_is(write):
    name = write("from gencond_fast.models.alexnet import alexnet as net")
    network = build(f"{name}:net", side=16)
    assert network.feature_dim == 192 * 4
    assert isinstance(network.classifier, nn.Linear)


def test_the_seed_decides_on_the_weights(write):
    name = f"{write(GOOD)}:net"
    torch.manual_seed(9)
    state = torch.get_rng_state()
    one, two, other = (build(name, seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["body.1.weight"], other["body.1.weight"])


def test_a_lazy_network_has_its_weights_from_the_seed_too(write):
    name = write(
        "from torch import nn\ndef net(c, n, s): return nn.Sequential(nn.Flatten(), "
        "nn.LazyLinear(n))"
    )
    one, two = (build(f"{name}:net", seed=5).state_dict() for _ in range(2))
    assert one["body.1.weight"].shape == (4, 36)
    assert torch.equal(one["body.1.weight"], two["body.1.weight"])


def test_in_a_package_that_imports_its_neighbour(write, tmp_path):
    (tmp_path / "pack_of_mine").mkdir()
    write(GOOD, "pack_of_mine/inner")
    write("from .inner import net as other", "pack_of_mine/outer")
    assert build("pack_of_mine.outer:other").feature_dim == 4


@pytest.mark.parametrize("name", ["a:", ":b", "a:b:c", "../a:b", "a/b:c", ".a:b", "a b:c", "a:b.c"])
def test_what_is_no_module_and_function(write, name):
    assert "write module:function" in complaint(name)


def test_what_is_missing(write, tmp_path):
    assert f"there is no module 'none_such' in {tmp_path}" in complaint("none_such:net")
    name = write(GOOD)
    assert "has no function 'nets'" in complaint(f"{name}:nets")
    assert "has no function '__doc__'" in complaint(f"{name}:__doc__")
    assert f"there is no module '{name}.py'" in complaint(f"{name}.py:net")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import none_such_either", "the module raises ModuleNotFoundError: No module named"),
        ("def net(:", "the module raises SyntaxError"),
        ("\n\n1 / 0", "line 3)"),
        ("def net(a, b): pass", "the function raises TypeError"),
        ("def net(a, b, c):\n    raise ValueError('two\\nlines')", "ValueError: two lines ("),
        ("def net(a, b, c): return [1]", "the function returns list"),
        (
            "from torch.nn import Linear\ndef net(a, b, c): return Linear(5, 5)",
            "the network raises",
        ),
        ("from torch.nn import Flatten\ndef net(a, b, c): return Flatten()", "[2, 36] and not [2,"),
        ("from torch.nn import LSTM\ndef net(a, b, c): return LSTM(6, 6)", "the network raises"),
    ],
)
def test_what_goes_wrong_is_one_sentence(write, text, words):
    assert words in complaint(f"{write(text)}:net")


def test_an_output_that_is_no_tensor(write):
    name = write(
        "from torch import nn\nclass Two(nn.Module):\n    def forward(self, x): return x, x\n"
        "def net(a, b, c): return Two()"
    )
    assert "makes tuple and not [2, 4]" in complaint(f"{name}:net")


def test_a_network_that_would_be_trained_twice(write):
    name = write(GOOD + "ONE = net(1, 4, 6)\ndef same(c, n, s): return ONE")
    build(f"{name}:same")
    assert "returns the same network again" in complaint(f"{name}:same")


def test_a_width_is_no_option_of_it(write):
    name = f"{write(GOOD)}:net"
    assert not has_width(name)
    assert "has a fixed width" in complaint(name, width=8)


def test_its_identity_changes_with_its_file(write, tmp_path):
    name = write(GOOD)
    one = model_identity(f"{name}:net")
    assert one == model_identity(f"{name}:net")
    assert one.startswith(f"{name}:net ")
    write(GOOD + "#", name)
    assert model_identity(f"{name}:net") != one
    assert model_identity("convnet3") == "convnet3"
