"""Published systems as presets, and combinations that none of them could be."""

from __future__ import annotations

import pytest
import torch
from command_line import call, metrics, options_of, refused, tree

import gencond_fast as gf
from gencond_fast.config import DISCREPANCY_NAMES, METHODS, PRESETS
from gencond_fast.config.options import resolve, share_networks
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
    plain = resolve(BASE, preset="quick")
    made = resolve(BASE, {"training": {"init": "noise"}}, preset="quick", method="dm")
    assert (made.networks.random, made.networks.trained) == (20, 0)
    assert made.networks.width == plain.networks.width
    assert made.training.steps == plain.training.steps
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


@pytest.mark.parametrize(
    ("method", "terms"),
    [
        ("dm", {"mean"}),
        ("m3d", {"mmd"}),
        ("ncfm", {"cf"}),
        ("sre2l", {"batchnorm", "cross_entropy"}),
        ("dim", {"logit"}),
    ],
)
def test_every_method_runs(tmp_path, method, terms):
    run = tmp_path / "run"
    counts = METHODS[method]["networks"]
    few = [
        f"networks.{name}=2" for name in ("random", "trained", "interpolated") if counts.get(name)
    ]
    sets = [part for text in few for part in (_, text)]
    done = call("condense", *EXAMPLE, "--out", run, "--method", method, *FEW, *sets)
    assert done.code == 0, done.err
    again = call("condense", *EXAMPLE, "--out", run, "--method", method, *FEW, *sets)
    assert "is finished: nothing to do" in again.err
    assert options_of(run)["losses"]["discrepancies"] == METHODS[method]["losses"]["discrepancies"]
    lines = [line for line in metrics(run) if line["stage"] == "match"]
    others = {"step", "stage", "images_per_second"}
    assert {name for line in lines for name in line} - others - {"cross_entropy"} == terms - {
        "cross_entropy"
    }
    assert len(gf.CondensedDataset(run)) % 10 == 0


def test_gradients_may_be_added_to_other_discrepancies(tmp_path):
    run = tmp_path / "run"
    both = ("--discrepancy", "gradient:0.01", "--discrepancy", "mmd", _, "networks.sample_batch=3")
    more = (_, "training.class_batch=3", _, "training.batch_per_class=2")
    assert call("condense", *EXAMPLE, "--out", run, *FEW, "--steps", 4, *both, *more).code == 0
    line = metrics(run)[-1]
    assert 0 < line["gradient"] < 0.01 * 2 * (3 * 8 + 10)  # a row is at most 2 away
    assert line["mmd"] > 0


REFUSED = {
    "logit of random networks": (
        ("--discrepancy", "logit", _, "networks.trained=0"),
        "discrepancy 'logit' needs trained networks, and networks.trained is 0: set it to 1",
    ),
    "batch norms that are not there": (
        ("--discrepancy", "batchnorm"),
        "discrepancy 'batchnorm' needs batch norms, and networks.model=convnet3 has none",
    ),
    "batch norms that a part of the networks has": (
        ("--discrepancy", "batchnorm", _, "networks.model=convnet3bn", _, "networks.mixture=[vit]"),
        "discrepancy 'batchnorm' needs batch norms, and networks.mixture=vit has none",
    ),
    "batch norms between in a mixture": (
        (_, "networks.interpolated=3", _, "networks.mixture=[resnet18]"),
        "networks.interpolated is 3, and the batch norms of 'resnet18' have no statistics",
    ),
    "an unknown model in a mixture": (
        (_, "networks.mixture=[vgg]"),
        "unknown model 'vgg'",
    ),
    "a mixture with itself": (
        (_, "networks.mixture=[vit,convnet3]"),
        "mixture has 'convnet3', which is model already",
    ),
    "a mixture that repeats": (
        (_, "networks.mixture=[vit,vit]"),
        "it names one of them twice",
    ),
    "easy for nobody": (
        (_, "training.selection=easy", _, "networks.trained=0"),
        "training.selection is easy, which trained networks decide on, and networks.trained is 0",
    ),
    "steps with nothing to minimise": (
        (
            *("--discrepancy", "logit", _, "losses.intra=0", _, "losses.inter=0"),
            *(_, "losses.cross_entropy=0"),
        ),
        "logit count for trained networks alone, and 2 of the networks are random",
    ),
    "near to random as well": (
        ("--method", "dim", _, "networks.trained=2", _, "networks.interpolated=4"),
        "logit count for trained networks alone, and 2 of the networks are random or nearly so",
    ),
    "between nothing": (
        (_, "networks.interpolated=3", _, "networks.trained=0"),
        "networks.interpolated is above 0 and networks.trained is 0",
    ),
    "batch norms between": (
        (_, "networks.interpolated=3", _, "networks.model=convnet3bn"),
        "networks.interpolated is 3, and the batch norms of 'convnet3bn' have no statistics",
    ),
    "a generator of real images": (
        (_, "training.init=real", _, "store.format=generator"),
        "training.init is real, but a generator cannot start from images",
    ),
    "frequencies of noise": (
        (_, "training.init=noise"),
        "training.init is noise, but dct starts",
    ),
    "a factor of codes": ((_, "store.factor=2"), "factor is for format=pixels"),
    "two sides": (
        (_, "store.format=pixels", _, "store.factor=2", _, "store.code_size=4"),
        "as factor or as code_size, not both",
    ),
    "unknown name": (
        ("--discrepancy", "gradients"),
        "unknown discrepancy 'gradients' in losses.discrepancies: choose from mean, moments, cf",
    ),
}


@pytest.mark.parametrize("command", ["condense", "stats"])
@pytest.mark.parametrize("case", REFUSED)
def test_impossible_combinations_are_refused_before_anything_is_written(tmp_path, case, command):
    arguments, words = REFUSED[case]
    out = ("--out", tmp_path / "run") if command == "condense" else ()
    refused(call(command, *EXAMPLE, *out, *arguments), words)
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
    from gencond_fast.data import open_source
    from gencond_fast.data.sample import draw_sample

    source = open_source("digits")
    sizes = {"image_size": 8, "per_class": 40, "max_bytes": 10**9}  # as in FEW
    images = draw_sample(source, **sizes, seed=0).images
    return images.unflatten(0, (10, 40))[:, :per_class].flatten(0, 1)
