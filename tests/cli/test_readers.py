"""Readers and memory from the command line: other ways to the same results."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest
from command_line import TINY, call, options_of, refused
from image_builders import pictures, write_tree

from gencond_fast.data.readers.threads import read_in_threads
from gencond_fast.store.artifact import load

SHORT = (*TINY, "--steps", "4", "--set", "training.checkpoint_every=2")
JUDGED = ("--seeds", 2, "--epochs", 1, "--baseline", "random")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos") / "d"
    write_tree(root / "train", pictures(8, ("ant", "bee"), (12, 15, 3)))
    write_tree(root / "val", pictures(4, ("ant", "bee"), (12, 15, 3), seed=1))
    return root


@pytest.fixture
def dali(monkeypatch):
    """A reader by that name."""
    module = ModuleType("dali")
    module.dali_obstacle = lambda: None
    module.read_with_dali = read_in_threads
    monkeypatch.setitem(sys.modules, "gencond_fast.data.readers.dali", module)
    return module


def condense(out, data, *more):
    return call("condense", "--data", data, "--out", out, *SHORT, *more)


@pytest.mark.parametrize("data", ["digits", "photos"])
def test_the_way_of_reading_changes_no_bit(tmp_path, monkeypatch, data, photos):
    ways = {
        "plain": ("--reader", "threads", "--set", "in_memory=off"),
        "other": ("--reader", "processes", "--set", "in_memory=on"),
    }
    products, tables = {}, {}
    for name, way in ways.items():
        monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / f"cache of {name}"))
        place = photos if data == "photos" else data
        done = condense(tmp_path / name, place, *way)
        assert done.code == 0, done.err
        kind = "threads" if name == "plain" else "processes"
        assert (f"{kind} (as asked for" in done.err) == (data == "photos")
        assert ("waited for data " in done.err) == (data == "digits")  # a batch of photos is all
        products[name] = (tmp_path / name / "condensed.safetensors").read_bytes()
        file = tmp_path / f"{name}.json"
        judged = call(
            "evaluate", tmp_path / "plain", "--data", place, *JUDGED, *way, "--json", file
        )
        assert judged.code == 0, judged.err
        rows = json.loads(file.read_text())["rows"]
        tables[name] = [row["accuracies"] for row in rows]
    assert products["plain"] == products["other"]
    assert tables["plain"] == tables["other"]


def test_statistics_made_in_processes_are_found_again(tmp_path, monkeypatch, photos):
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))
    ahead = call("stats", "--data", photos, *TINY[4:], "--reader", "processes")
    assert ahead.code == 0, ahead.err
    assert "processes (as asked for; --reader changes it)" in ahead.err
    done = condense(tmp_path / "run", photos, "--reader", "threads")
    assert done.code == 0, done.err
    assert "measuring" not in done.err


def stopped(run):
    """Takes a run back to before its product was written."""
    (run / "condensed.safetensors").unlink()
    sorted((run / "checkpoint").iterdir())[-1].unlink()


def test_an_interrupted_run_goes_on_in_another_way(tmp_path, photos):
    run = tmp_path / "run"
    first = condense(run, photos, "--reader", "threads")
    assert first.code == 0, first.err
    product = (run / "condensed.safetensors").read_bytes()
    stopped(run)
    again = condense(run, photos, "--reader", "processes", "--set", "in_memory=off")
    assert again.code == 0, again.err
    assert (run / "condensed.safetensors").read_bytes() == product
    assert options_of(run)["reader"] == "threads"


def test_a_run_does_not_change_its_decoder(tmp_path, photos, dali):
    run = tmp_path / "run"
    assert condense(run, photos, "--reader", "threads").code == 0
    done = condense(run, photos, "--reader", "dali")
    assert done.code == 2
    assert "reader is dali, was threads" in done.err


def test_the_file_names_a_decoder_other_than_pillow(tmp_path, photos, dali):
    assert condense(tmp_path / "one", photos, "--reader", "dali").code == 0
    assert condense(tmp_path / "two", photos, "--reader", "threads").code == 0
    assert load(tmp_path / "one").metadata.made["decoder"].startswith("dali")
    assert "decoder" not in load(tmp_path / "two").metadata.made


def test_dali_that_cannot_be_used_is_refused(tmp_path, photos, dali):
    dali.dali_obstacle = lambda: "it has no room here"
    words = "DALI is not used: it has no room here: use --reader auto"
    refused(condense(tmp_path / "run", photos, "--reader", "dali"), words)
    assert not (tmp_path / "run").exists()
    refused(call("stats", "--data", photos, "--reader", "dali"), words)


def test_unknown_readers_and_switches_are_refused(tmp_path, photos):
    unknown = condense(tmp_path / "run", photos, "--reader", "magick")
    assert unknown.code == 2
    assert "dali" in unknown.err
    refused(condense(tmp_path / "run", photos, "--set", "reader=magick"), "reader")
    refused(condense(tmp_path / "run", photos, "--set", "in_memory=maybe"), "in_memory")


@pytest.mark.parametrize("name", ["condense", "stats", "evaluate"])
def test_the_help_names_the_readers(name):
    assert "--reader [auto|dali|processes|threads]" in call(name, "--help").out
