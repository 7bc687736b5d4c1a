"""How many steps there are where nobody says."""

from __future__ import annotations

import pytest

from gencond_fast.config.options import resolve
from gencond_fast.config.steps import coding_steps, matching_steps, with_steps
from gencond_fast.errors import InputError

BASE = {"data": "digits", "out": "run"}
GENERATOR = {"store": {"format": "generator"}}
NOISE = GENERATOR | {"training": {"init": "noise"}}
PRIVATE = {"privacy": {"epsilon": 4.0, "delta": 1e-5}}


def steps(layer, size=32, **named):
    return matching_steps(resolve(BASE, layer, **named), size)


def test_as_many_as_students_repay():
    assert [steps({}, size) for size in (8, 32, 33, 64, 224)] == [100, 100, 0, 0, 0]
    assert steps({"store": {"format": "pixels"}}, 64) == 0
    assert [steps(GENERATOR, size) for size in (8, 64)] == [100, 0]


def test_codes_are_fitted_to_real_images_alone():
    def coding(*layers, samples=1140):
        return coding_steps(resolve(BASE, *layers), samples)

    assert [coding(GENERATOR, samples=samples) for samples in (10, 4800, 8000)] == [
        1200,
        1200,
        2000,
    ]
    assert coding(GENERATOR, {"training": {"coding_steps": 7}}) == 7
    for layers in ((), (NOISE,), (GENERATOR, PRIVATE), ({"store": {"format": "pixels"}},)):
        assert coding(*layers) == 0
    for layers in ((NOISE,), (GENERATOR, PRIVATE), ()):
        with pytest.raises(InputError, match=r"training\.coding_steps is for the codes"):
            coding(*layers, {"training": {"coding_steps": 7}})


@pytest.mark.parametrize(
    "layer", [NOISE, PRIVATE, GENERATOR | PRIVATE], ids=["noise", "private", "private generator"]
)
def test_what_starts_as_noise_needs_thousands(layer):
    assert [steps(layer, size) for size in (8, 128)] == [4000, 4000]


def test_a_preset_a_method_and_the_user_say_otherwise():
    assert steps({}, 64, preset="quick") == 0
    assert steps({}, 64, method="dm") == 4000
    assert steps({}, 64, method="dm", preset="quick") == 4000
    assert steps({"training": {"steps": 7}}, 64, preset="quick") == 7
    assert steps({"training": {"steps": None}}, 8, preset="quick") == 100


def test_a_config_gets_the_number():
    config = resolve(BASE)
    assert config.training.steps is None
    assert with_steps(config, 8).training.steps == 100
    assert with_steps(with_steps(config, 8), 64).training.steps == 100


@pytest.mark.parametrize(
    "layer",
    [
        NOISE,
        {"store": {"format": "pixels"}, "training": {"init": "noise"}},
        PRIVATE,
    ],
)
def test_noise_is_not_left_as_it_is(layer):
    training = layer.get("training", {}) | {"steps": 0}
    with pytest.raises(InputError, match=r"training\.steps is 0, and samples that do not start"):
        resolve(BASE, layer | {"training": training})
