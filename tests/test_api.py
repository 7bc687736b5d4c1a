"""The verbs of the package do what the commands of the command line do."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import call

import gencond_fast as gf
from gencond_fast import api, planning
from gencond_fast.config import LossConfig
from gencond_fast.config.options import read_yaml
from gencond_fast.evaluation.result import EvaluationResult, Row
from gencond_fast.store.artifact import FILE_NAME, load
from gencond_fast.system.progress import PlainReporter, Reporter, RichReporter

# what TINY says on the command line
OPTIONS = {
    "bytes": "8KB",
    "training": {"steps": 40},
    "networks": {"width": 8, "train_steps": 5, "random": 1, "trained": 2},
}


@pytest.fixture
def taken(monkeypatch):
    """The config that a condensation would be started with."""
    found = []
    monkeypatch.setattr(
        "gencond_fast.condensation.condense",
        lambda config, reporter: found.append(config) or Path(config.out),
    )
    return found


def test_condense_gives_the_file_of_the_command_line(tiny_run, tmp_path):
    path = gf.condense("digits", tmp_path / "run", **OPTIONS)
    assert path == tmp_path / "run" / FILE_NAME
    assert path.read_bytes() == (tiny_run / FILE_NAME).read_bytes()
    mine, theirs = (read_yaml(run / "config.yaml") for run in (tmp_path / "run", tiny_run))
    assert mine | {"out": ""} == theirs | {"out": ""}
    before = path.stat().st_mtime_ns
    assert gf.condense("digits", out=str(tmp_path / "run"), **OPTIONS) == path
    assert path.stat().st_mtime_ns == before


def test_a_ready_config_is_taken_as_it_is(taken):
    config = gf.Config(data="digits", out="somewhere", ipc=3)
    assert gf.condense(config) == Path("somewhere")
    assert taken == [config]
    for beside in ({"ipc": 3}, {"out": "else"}, {"preset": "quick"}, {"config": {}}):
        with pytest.raises(
            gf.InputError, match=f"a ready Config has all .* {next(iter(beside))!r}"
        ):
            gf.condense(config, **beside)


def test_layers_lie_in_the_order_of_the_command_line(taken, tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text(yaml.dump({"seed": 3, "networks": {"width": 16, "random": 1}, "ipc": 2}))
    gf.condense(
        "digits",
        tmp_path,
        preset="accurate",
        method="dim",
        objective="robust",
        config=file,
        networks={"width": 24},
        losses=LossConfig(inter=0.5),
    )
    gf.condense("digits", tmp_path, config={"seed": 3, "out": "not this"}, ipc=5)
    one, other = taken
    assert (one.seed, one.ipc, one.networks.width, one.networks.random) == (3, 2, 24, 1)
    assert one.networks.trained == 6  # of the method
    assert one.training.steps == 4000  # of the method
    assert one.store.soft_labels == 10  # of the objective
    assert one.losses.inter == 0.5
    assert (other.seed, other.ipc, other.out) == (3, 5, str(tmp_path))


def test_short_forms_mean_what_they_mean_on_the_command_line(taken):
    gf.condense("digits", "x", networks=6, bytes="1.5KiB", classes="2, 1")
    gf.condense("digits", "x", networks=6, privacy={"epsilon": 4.0, "delta": 1e-6})
    short, private = taken
    assert (short.networks.random, short.networks.trained) == (2, 4)
    assert (short.bytes, short.classes) == (1536, ("2", "1"))
    assert (private.networks.random, private.networks.trained) == (6, 0)


def test_paths_of_any_kind_become_absolute(taken, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for data in ("data", Path("data"), "~/data", tmp_path / "data"):
        for out in ("run", Path("run"), "~/run", Path("~/run")):
            gf.condense(data, out)
    gf.condense(config={"data": "~/data", "out": Path("run")})
    assert {(each.data, each.out) for each in taken} == {
        (str(tmp_path / "data"), str(tmp_path / "run"))
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ips": 1}, "unknown option 'ips': did you mean 'ipc'"),
        ({"losses": {"intr": 1.0}}, "unknown option 'losses.intr': did you mean 'losses.intra'"),
        (
            {"soft_labels": 5},
            r"unknown option 'soft_labels': did you mean store=\{'soft_labels': 5\}",
        ),
        ({"steps": 5}, r"did you mean training=\{'steps': 5\} or trajectory=\{'steps': 5\}"),
        ({"seed": "a"}, "option 'seed' cannot be 'a'"),
        ({"bytes": "many"}, "'many' is no amount of bytes"),
        ({"preset": "best"}, "unknown preset 'best': choose one of standard, quick, accurate"),
        ({"out": None}, "option 'out' is missing"),
        ({"config": "nothing.yaml"}, "config file nothing.yaml does not exist"),
        ({"networks": 0}, "there must be at least 1 feature network"),
    ],
)
def test_what_condense_cannot_take(options, said):
    with pytest.raises(gf.InputError, match=said):
        gf.condense("digits", **({"out": "x"} | options))


def test_an_input_error_is_a_value_error():
    assert issubclass(gf.InputError, ValueError)
    with pytest.raises(ValueError, match="does not exist"):
        gf.CondensedDataset("nowhere")


def test_evaluate_gives_the_numbers_of_the_command_line(tiny_run, tmp_path):
    options = ("--seeds", "2", "--epochs", "2", "--baseline", "random", "--json", tmp_path / "r")
    assert call("evaluate", tiny_run, "--data", "digits", *options).code == 0
    result = gf.evaluate(tiny_run, data="digits", seeds=2, epochs=2, baselines=["random"])
    theirs = json.loads((tmp_path / "r").read_text())
    mine = json.loads(json.dumps(result.to_dict()))
    for rows in (mine["rows"], theirs["rows"]):
        for row in rows:
            del row["seconds"]
    assert mine == theirs
    ready = gf.EvaluateConfig(
        run=str(tiny_run), data="digits", seeds=2, epochs=2, baselines=("random",)
    )
    assert [row.accuracies for row in gf.evaluate(ready).rows] == [
        row.accuracies for row in result.rows
    ]
    with pytest.raises(gf.InputError, match="unknown option 'sedes': did you mean 'seeds'"):
        gf.evaluate(tiny_run, data="digits", sedes=2)
    with pytest.raises(gf.InputError, match=r"did you mean attack=\{'epsilon': 8\}"):
        gf.evaluate(tiny_run, data="digits", epsilon=8)


def result_of(*rows: Row) -> EvaluationResult:
    return EvaluationResult(
        rows=rows,
        protocol={},
        epochs=5,
        bytes=1234,
        ipc=0.25,
        ipc_uint8=1.0,
        bits_per_class=987.2,
        test_images=70,
        held_out=None,
        environment={},
    )


def test_the_table_of_a_result():
    rows = (
        Row("stored", "convnet3", 10, (0.5, 0.6), 1.0, 3),
        Row("random", "resnet18", 1, (0.25,), 2.0, 3, augmented=False),
    )
    assert result_of(*rows).table().splitlines() == [
        "trained on     images per class  model     seeds  accuracy %",
        "stored         10                convnet3  2      55.00 ± 7.07",
        "random, plain  1                 resnet18  1      25.00",
        "tested on 70 images of the test split",
    ]
    attacked = dataclasses.replace(rows[0], attacked={"clean": (0.5, 0.5), "pgd": (0.0, 0.1)})
    assert result_of(attacked).table().splitlines()[1].endswith("50.00 ± 0.00  5.00 ± 7.07")


def test_relabel_export_and_report(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = gf.relabel(
        tiny_run, "digits", out="soft", store={"soft_labels": 3}, bytes="40KB", config={}
    )
    assert out == tmp_path / "soft"
    assert load(out).metadata.store.soft_labels == 3
    folder = gf.export("soft", Path("pictures"), format="npz", per_class=2)
    with np.load(folder) as arrays:
        assert len(arrays["images"]) == 20
    pages = gf.report(tiny_run, out="page.html", data="digits")
    assert pages[0] == tmp_path / "page.html"
    assert pages[0].stat().st_size > 1000
    with pytest.raises(gf.InputError, match=r"did you mean store=\{'soft_labels': 3\}"):
        gf.relabel(tiny_run, "digits", out="soft", soft_labels=3)


@pytest.mark.parametrize(
    ("verb", "home", "kind"),
    [
        (gf.score, "gencond_fast.evaluation.score.score", gf.ScoreConfig),
        (gf.audit, "gencond_fast.evaluation.auditing.audit", gf.AuditConfig),
    ],
)
def test_score_and_audit_take_options_or_a_config(verb, home, kind, monkeypatch, tmp_path):
    monkeypatch.setattr(home, lambda config, reporter: config)
    monkeypatch.chdir(tmp_path)
    got = verb("run", "digits", epochs=3, config={"epochs": 2, "images": 50})
    assert got == kind(run=str(tmp_path / "run"), data="digits", epochs=3, images=50)
    assert verb(got) is got
    with pytest.raises(gf.InputError, match="unknown option 'epoch': did you mean 'epochs'"):
        verb("run", "digits", epoch=3)


def test_plan_takes_the_options_of_condense(monkeypatch):
    monkeypatch.setattr(planning, "plan", lambda config: config)
    config = gf.plan("digits", ipc=1, preset="accurate")
    assert (config.data, config.ipc, config.trajectory.steps) == ("digits", 1, 1000)
    assert gf.plan(config) is config


def notebook(shows_widgets: bool, monkeypatch) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: object() if shows_widgets else None
    )


def test_progress_is_shown_where_there_is_a_place_for_it(monkeypatch):
    assert type(api.make_reporter(None)) is Reporter
    assert type(api.make_reporter(True)) is PlainReporter
    with monkeypatch.context() as patch:
        patch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
        assert type(api.make_reporter(None)) is RichReporter
        assert type(api.make_reporter(False)) is Reporter
    with monkeypatch.context() as patch:
        notebook(True, patch)
        assert type(api.make_reporter(None)) is RichReporter
    with monkeypatch.context() as patch:
        notebook(False, patch)
        assert type(api.make_reporter(None)) is Reporter
        assert type(api.make_reporter(True)) is PlainReporter


def test_a_verb_is_silent_without_a_terminal(tiny_run, capfd):
    gf.evaluate(tiny_run, data="digits", seeds=1, epochs=1)
    assert capfd.readouterr() == ("", "")
    gf.evaluate(tiny_run, data="digits", seeds=1, epochs=1, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "students 1/1" in err
