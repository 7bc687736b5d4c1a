"""Options: layers, presets, assignments, and sentences for what cannot be."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gencond_fast import config
from gencond_fast.config import Config, EvaluateConfig
from gencond_fast.config.options import (
    changed_options,
    differences,
    parse,
    parse_assignments,
    parse_discrepancies,
    read_yaml,
    resolve,
    to_plain,
)
from gencond_fast.errors import InputError

BASE = {"data": "digits", "out": "run"}


def resolved(*layers, preset="standard") -> Config:
    return resolve(BASE, *layers, preset=preset)


def assigned(*pairs) -> Config:
    return resolved(parse_assignments(pairs))


def test_defaults_alone():
    made = resolved()
    assert made == Config(**BASE)
    assert made.ipc == 10
    assert made.bytes is None
    assert made.training == config.TrainingConfig()


def test_later_layers_win_option_by_option():
    made = resolved(
        {"seed": 1, "training": {"steps": 10, "clip": 2.0}},
        {"training": {"steps": 20}, "networks": {"width": 8}},
        {"seed": 3},
    )
    assert (made.seed, made.training.steps, made.training.clip) == (3, 20, 2.0)
    assert made.networks.width == 8
    assert made.networks.random == config.NetworkConfig().random


def test_layers_are_left_as_they_are():
    lower, upper = {"training": {"steps": 10}}, {"training": {"clip": 2.0}}
    resolved(lower, upper)
    assert (lower, upper) == ({"training": {"steps": 10}}, {"training": {"clip": 2.0}})
    assert resolved() == resolved()


def test_a_preset_lies_between_defaults_and_layers():
    quick = resolved(preset="quick")
    wanted = config.PRESETS["quick"]["networks"]["width"]
    assert quick.networks.width == wanted != resolved().networks.width
    assert resolved({"networks": {"width": 7}}, preset="quick").networks.width == 7
    over = resolved({"networks": {"train_steps": 3}}, preset="quick").networks
    assert (over.width, over.train_steps) == (wanted, 3)


def test_unknown_preset():
    with pytest.raises(InputError, match="unknown preset 'best': choose one of standard, quick"):
        resolved(preset="best")


def test_named_discrepancies_replace_the_default():
    made = resolved({"losses": {"discrepancies": {"moments": 0.5}}})
    assert made.losses.discrepancies == {"moments": 0.5}
    made = resolved({"losses": {"discrepancies": {"moments": 0.5}}}, {"losses": {"intra": 0.0}})
    assert made.losses.discrepancies == {"moments": 0.5}
    assert resolved().losses.discrepancies == {"mean": 1.0}


@pytest.mark.parametrize(
    ("texts", "weights"),
    [
        ((), {}),
        (("cf",), {"cf": 1.0}),
        (("mean:0.5", "cf:-2"), {"mean": 0.5, "cf": -2.0}),
        (("cf:1e-3",), {"cf": 0.001}),
    ],
)
def test_discrepancies_by_name_and_weight(texts, weights):
    assert parse_discrepancies(texts) == weights


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (("cf:", "mean"), "'cf:': '' is no number, give NAME or NAME:WEIGHT"),
        (("cf:much",), "'cf:much': 'much' is no number"),
        (("cf:1:2",), "'1:2' is no number"),
        (("cf", "mean", "cf:2"), "cf is given twice"),
    ],
)
def test_discrepancies_that_are_not_understood(texts, words):
    with pytest.raises(InputError, match=words):
        parse_discrepancies(texts)


def test_several_discrepancies_on_the_command_line():
    made = assigned("losses.discrepancies.mean=1", "losses.discrepancies.moments=0.5")
    assert made.losses.discrepancies == {"mean": 1.0, "moments": 0.5}
    assert assigned("losses.discrepancies={moments: -2}").losses.discrepancies == {"moments": -2.0}


def test_assignments_are_nested_yaml():
    made = parse_assignments(
        ["a=1", "b.c=2.5", "b.d.e=x y", "b.c=3", "f=null", "g=[1, 2]", "h={i: true}", "j=", "k=a=b"]
    )
    assert made == {
        "a": 1,
        "b": {"c": 3, "d": {"e": "x y"}},
        "f": None,
        "g": [1, 2],
        "h": {"i": True},
        "j": None,
        "k": "a=b",
    }


@pytest.mark.parametrize(
    ("pair", "section", "option", "value"),
    [
        ("training.match_lr=1e-3", "training", "match_lr", 1e-3),  # a text in YAML 1.1
        ("training.match_lr=0.5", "training", "match_lr", 0.5),
        ("training.steps=30", "training", "steps", 30),
        ("training.batch_per_class=null", "training", "batch_per_class", None),
        ("losses.intra=-0.5", "losses", "intra", -0.5),
        ("store.format=pixels", "store", "format", "pixels"),
    ],
)
def test_values_on_the_command_line(pair, section, option, value):
    assert getattr(getattr(assigned(pair), section), option) == value


@pytest.mark.parametrize("switch", ["on", "off", "auto"])
def test_switches_on_the_command_line_and_in_a_file(tmp_path, switch):
    assert assigned(f"compile={switch}").compile == switch
    path = tmp_path / "c.yaml"
    path.write_text(f"compile: {switch}\n")
    assert resolved(read_yaml(path)).compile == switch


@pytest.mark.parametrize("pair", ["steps", "=3", " =3", ""])
def test_no_assignment(pair):
    with pytest.raises(InputError, match="is not of the form key=value"):
        parse_assignments([pair])


@pytest.mark.parametrize("pair", ["a=[1", "a={", "a='x", "a=@b"])
def test_no_value(pair):
    with pytest.raises(InputError, match="cannot be read as a value"):
        parse_assignments([pair])


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        ("sed=1", "unknown option 'sed': did you mean 'seed'?"),
        ("training.stps=1", "unknown option 'training.stps': did you mean 'training.steps'?"),
        ("losses.interclass=1", "unknown option 'losses.interclass'"),
        ("zzzzzz=1", "unknown option 'zzzzzz'"),
        ("training.steps.x=1", "option 'training.steps' cannot be {'x': 1}"),
    ],
)
def test_unknown_options(pair, sentence):
    with pytest.raises(InputError) as caught:
        assigned(pair)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ipc", 0),
        ("seed", -1),
        ("image_size", 3),
        ("image_size", 1025),
        ("val_fraction", 0.0),
        ("val_fraction", 1.0),
        ("device", "tpu"),
        ("precision", "float16"),
        ("training.steps", -1),
        ("training.steps", "many"),
        ("training.warm_start", 1.01),
        ("training.match_lr", 0.0),
        ("training.match_lr", float("inf")),
        ("losses.intra", float("nan")),
        ("losses.intra_kind", "cosine"),
        ("losses.temperature", 0.0),
        ("losses.discrepancies.mean", float("inf")),
        ("store.format", "jpeg"),
        ("store.per_class", 0),
        ("store.width", 9999),
    ],
)
def test_values_out_of_range(option, value):
    layer = value
    for part in reversed(option.split(".")):
        layer = {part: layer}
    with pytest.raises(InputError) as caught:
        resolved(layer)
    message = str(caught.value)
    assert message.startswith(f"option {option!r} cannot be {value!r}: ")
    assert "\n" not in message


def test_one_budget_only():
    with pytest.raises(InputError, match="give the budget as ipc or as bytes, not both"):
        resolved({"ipc": 1, "bytes": 1000})
    assert resolved({"bytes": 1000}).ipc is None
    assert resolved({"ipc": 3}).ipc == 3


def test_nothing_to_minimise():
    terms = ("discrepancies={}", "intra=0", "inter=0", "cross_entropy=0")
    with pytest.raises(InputError, match="losses"):
        assigned(*(f"losses.{term}" for term in terms))


def test_no_network_at_all():
    with pytest.raises(InputError, match="networks.random and networks.trained are both 0"):
        assigned("networks.random=0", "networks.trained=0")


def test_missing_option():
    with pytest.raises(InputError, match="option 'data'"):
        resolve({"out": "run"})


layers = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 10**9),
        "bytes": st.integers(1, 10**9),
        "compile": st.sampled_from(["on", "off"]),
        "val_fraction": st.floats(0.01, 0.99),
        "training": st.fixed_dictionaries({}, optional={"clip": st.floats(1e-6, 1e6)}),
        "losses": st.fixed_dictionaries(
            {"discrepancies": st.dictionaries(st.text("ab", min_size=1), st.floats(-9, 9))}
        ),
        "store": st.fixed_dictionaries({"format": st.just("pixels"), "per_class": st.none()}),
    },
)


@given(layer=layers)
def test_plain_values_round_trip(layer):
    made = resolved(layer)
    plain = to_plain(made)
    assert parse(Config, plain) == made
    assert parse(Config, json.loads(json.dumps(plain))) == made
    assert parse(Config, yaml.safe_load(yaml.safe_dump(plain))) == made


def test_evaluation_options_round_trip():
    made = parse(EvaluateConfig, {"run": "r", "data": "d", "models": ["convnet3", "resnet18"]})
    assert made.models == ("convnet3", "resnet18")
    assert parse(EvaluateConfig, json.loads(json.dumps(to_plain(made)))) == made
    with pytest.raises(InputError, match="option 'epochs' cannot be 0"):
        parse(EvaluateConfig, {"run": "r", "data": "d", "epochs": 0})


def test_changed_options():
    assert changed_options(resolved()) == {"data": "digits", "out": "run", "ipc": 10}
    made = resolved({"bytes": 9, "training": {"clip": 2.5}, "store": {"format": "pixels"}})
    assert changed_options(made) == {
        "data": "digits",
        "out": "run",
        "bytes": 9,
        "training.clip": 2.5,
        "store.format": "pixels",
    }


def test_differences_in_sentences():
    one, other = (
        resolved({"seed": 1, "training": {"steps": 7}}),
        resolved({"training": {"steps": 5}}),
    )
    assert differences(one, other) == ["seed is 1, was 0", "training.steps is 7, was 5"]
    assert differences(one, one) == []
    moments = resolved({"losses": {"discrepancies": {"moments": 1.0}}})
    assert differences(moments, resolved()) == [
        "losses.discrepancies.mean is None, was 1.0",
        "losses.discrepancies.moments is 1.0, was None",
    ]


def test_yaml_files(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("seed: 4\ntraining:\n  steps: 9\n")
    assert read_yaml(path) == {"seed": 4, "training": {"steps": 9}}
    path.write_text("")
    assert read_yaml(path) == {}
    path.write_text("training:\nseed: 4\n")  # a section whose lines are all commented out
    assert read_yaml(path) == {"seed": 4}


@pytest.mark.parametrize(
    "content",
    [b"- a\n- b\n", b"text", b"a: [1\n", b"\xff\xfe\x00", b"!!python/object:os.system {}"],
)
def test_files_that_hold_no_options(tmp_path, content):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(
        InputError, match="c.yaml (must hold lines|cannot be read as YAML)"
    ) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


def test_a_file_of_numbers(tmp_path):
    (tmp_path / "c.yaml").write_text("1: 2\n")
    with pytest.raises(InputError, match="option '1' cannot be 1"):
        resolved(read_yaml(tmp_path / "c.yaml"))


def test_no_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        read_yaml(tmp_path)


def test_paths_may_be_paths(tmp_path):
    config = Config(data=tmp_path / "set", out=tmp_path / "run")
    assert (config.data, config.out) == (str(tmp_path / "set"), str(tmp_path / "run"))
    assert EvaluateConfig(run=tmp_path, data=tmp_path).run == str(tmp_path)
