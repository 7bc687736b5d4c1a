"""Published systems as presets, and combinations that none of them could be."""

from __future__ import annotations

import re

import pytest
import torch
from command_line import call, metrics, options_of, refused, tree

import gencond_fast as gf
from gencond_fast.condensation.validate import check_choices
from gencond_fast.config import DISCREPANCY_NAMES, METHODS, PRESETS
from gencond_fast.config.options import parse_assignments, resolve, share_networks
from gencond_fast.data import open_source
from gencond_fast.data.sample import draw_sample
from gencond_fast.discrepancy import DISCREPANCIES
from gencond_fast.errors import InputError

BASE = {"data": "digits", "out": "run"}
EXAMPLE = ("--data", "digits")
_ = "--set"
FEW = (
    *("--bytes", "8KB", "--steps", "3", _, "networks.width=8", _, "networks.train_steps=5"),
    *(_, "networks.train_images=40", _, "networks.real_per_class=20", _, "training.log_every=1"),
)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_valid_with_every_preset(method):
    for preset in PRESETS:
        made = resolve(BASE, preset=preset, method=method)
        assert method == "gencond" or made.trajectory.steps == 0
        assert made.networks.random + made.networks.trained > 0
    assert resolve(BASE, method="gencond") == resolve(BASE)


def test_a_method_lies_over_the_preset_and_under_the_options():
    plain = resolve(BASE, preset="accurate")
    made = resolve(BASE, {"training": {"init": "noise"}}, preset="accurate", method="dm")
    assert (made.networks.random, made.networks.trained) == (20, 0)
    assert made.networks.width == plain.networks.width
    assert (made.training.steps, plain.training.steps) == (4000, None)
    assert (made.training.init, made.training.warm_start) == ("noise", 0.0)
    named = resolve(BASE, {"losses": {"discrepancies": {"cf": 1.0}}}, method="m3d")
    assert named.losses.discrepancies == {"cf": 1.0}


def test_unknown_method():
    with pytest.raises(InputError, match="unknown method 'dmm': choose one of gencond, dm"):
        resolve(BASE, method="dmm")


@pytest.mark.parametrize(
    ("total", "method", "shares"),
    [
        (6, "gencond", (2, 4, 0)),
        (1, "gencond", (0, 1, 0)),
        (7, "dm", (7, 0, 0)),
        (6, "ncfm", (0, 2, 4)),
        (1, "ncfm", (0, 1, 0)),
        (3, "sre2l", (0, 3, 0)),
    ],
)
def test_a_number_of_networks_is_shared_as_the_method_has_them(total, method, shares):
    made = share_networks(total, method)
    assert (made["random"], made["trained"], made["interpolated"]) == shares
    assert resolve(BASE, {"networks": made}, method=method).networks.random == shares[0]


def test_the_names_in_the_help_are_those_that_exist():
    assert tuple(DISCREPANCIES) == DISCREPANCY_NAMES
    text = " ".join(call("condense", "--help").out.split())
    assert ", ".join(DISCREPANCY_NAMES) in text


def test_a_method_runs_to_its_end_and_is_known_again(tmp_path):
    run = tmp_path / "run"
    command = ("condense", *EXAMPLE, "--out", run, "--method", "sre2l", *FEW)
    done = call(*command)
    assert done.code == 0, done.err
    assert "is finished: nothing to do" in call(*command).err
    assert options_of(run)["losses"]["discrepancies"] == {"batchnorm": 0.05}
    lines = metrics(run)
    assert {line["stage"] for line in lines} == {"match"}
    terms = {name for line in lines for name in line} - {"step", "stage", "images_per_second"}
    assert terms == {"batchnorm", "cross_entropy"}
    assert len(gf.CondensedDataset(run)) % 10 == 0


# assignments, and words of the refusal
REFUSED = {
    "logit of random networks": (
        "losses.discrepancies={logit: 1}; networks.trained=0",
        "discrepancy 'logit' needs trained networks, and networks.trained is 0: set it to 1",
    ),
    "batch norms that are not there": (
        "losses.discrepancies={batchnorm: 1}",
        "discrepancy 'batchnorm' needs batch norms, and networks.model=convnet3 has none",
    ),
    "batch norms that a part of the networks has": (
        "losses.discrepancies={batchnorm: 1}; networks.model=convnet3bn; networks.mixture=[vit]",
        "discrepancy 'batchnorm' needs batch norms, and networks.mixture=vit has none",
    ),
    "batch norms between in a mixture": (
        "networks.interpolated=3; networks.mixture=[resnet18]",
        "networks.interpolated is 3, and the batch norms of 'resnet18' have no statistics",
    ),
    "an unknown model in a mixture": (
        "networks.mixture=[vgg]",
        "unknown model 'vgg'",
    ),
    "a mixture with itself": (
        "networks.mixture=[vit,convnet3]",
        "mixture has 'convnet3', which is model already",
    ),
    "a mixture that repeats": (
        "networks.mixture=[vit,vit]",
        "it names one of them twice",
    ),
    "easy for nobody": (
        "training.selection=easy; networks.trained=0",
        "training.selection is easy, which trained networks decide on, and networks.trained is 0",
    ),
    "steps with nothing to minimise": (
        "losses.discrepancies={logit: 1}; losses.intra=0; losses.inter=0; losses.cross_entropy=0",
        "logit count for trained networks alone, and 2 of the networks are random",
    ),
    "near to random as well": (
        "method=dim; networks.trained=2; networks.interpolated=4",
        "logit count for trained networks alone, and 2 of the networks are random or nearly so",
    ),
    "between nothing": (
        "networks.interpolated=3; networks.trained=0",
        "networks.interpolated is above 0 and networks.trained is 0",
    ),
    "batch norms between": (
        "networks.interpolated=3; networks.model=convnet3bn",
        "networks.interpolated is 3, and the batch norms of 'convnet3bn' have no statistics",
    ),
    "codes of nothing real": (
        "training.coding_steps=9; training.init=noise; store.format=generator",
        "training.coding_steps is for the codes of a generator that starts from real images",
    ),
    "codes of frequencies": (
        "training.coding_steps=9; store.format=dct",
        "training.coding_steps is for the codes of a generator",
    ),
    "frequencies of noise": (
        "training.init=noise",
        "training.init is noise, but dct starts",
    ),
    "a factor of codes": (
        "store.factor=2",
        "factor is for format=pixels",
    ),
    "two sides": (
        "store.format=pixels; store.factor=2; store.code_size=4",
        "as factor or as code_size, not both",
    ),
    "unknown name": (
        "losses.discrepancies={gradients: 1}",
        "unknown discrepancy 'gradients' in losses.discrepancies: choose from mean, moments, cf",
    ),
}


@pytest.fixture(scope="module")
def digits():
    return open_source("digits")


@pytest.mark.parametrize("case", REFUSED)
def test_impossible_combinations_are_refused(digits, case):
    assignments, words = REFUSED[case]
    layer = parse_assignments(assignments.split("; "))
    method = layer.pop("method", "gencond")
    with pytest.raises(InputError, match=re.escape(words)):
        check_choices(resolve(BASE, layer, method=method), digits, 8)


@pytest.mark.parametrize("command", ["condense", "stats"])
def test_they_are_refused_before_anything_is_written(tmp_path, command):
    out = ("--out", tmp_path / "run") if command == "condense" else ()
    words = "discrepancy 'batchnorm' needs batch norms"
    refused(call(command, *EXAMPLE, *out, "--discrepancy", "batchnorm"), words)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(("factor", "per_class"), [(1, 3), (2, 5)])
def test_pixels_start_as_real_images(tmp_path, factor, per_class):
    """With a rate too small to leave them, at full size and at half of it."""
    run = tmp_path / "run"
    sets = ("store.format=pixels", "training.init=real", "training.warm_start=0")
    sets += ("training.match_lr=1e-9", f"store.per_class={per_class}", f"store.factor={factor}")
    sets += ("networks.trained=0", "networks.random=1")
    flat = [part for text in sets for part in (_, text)]
    done = call("condense", *EXAMPLE, "--out", run, *FEW, *flat, "--steps", 1)
    assert done.code == 0, done.err
    stored = gf.load(run).store.to_storage()["images"]
    real = _sample(per_class).double()
    side = 8 // factor
    means = real.reshape(10 * per_class, 1, side, factor, side, factor).mean((3, 5))
    assert stored.shape == means.shape
    assert (stored.double() - means).abs().max() <= 0.501  # rounded to whole levels


def _sample(per_class: int) -> torch.Tensor:
    source = open_source("digits")
    sizes = {"image_size": 8, "per_class": 40, "max_bytes": 10**9}  # as in FEW
    images = draw_sample(source, **sizes, seed=0).images
    return images.unflatten(0, (10, 40))[:, :per_class].flatten(0, 1)
