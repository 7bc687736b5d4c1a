"""Architectures on the command line: names, all of them, and networks of the user's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import call, launch, refused
from store_builders import write_set

from gencond_fast.models.registry import MODEL_NAMES

NETS = """
from torch import nn

def mine(channels, num_classes, image_size):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(8 * (image_size - 2) ** 2, num_classes),
    )

def wide(channels, num_classes, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(image_size**2, num_classes + 1))
"""
BRIEF = ("--data", "digits", "--seeds", 1, "--epochs", 1)


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


def test_a_network_of_ones_own_from_the_current_folder(tiny_run, nets):
    options = ("--model", "nets:mine", "--model", "convnet3", "--json", "result.json")
    done = launch("evaluate", tiny_run, *BRIEF, *options, cwd=nets)
    assert done.returncode == 0, done.stderr
    rows = json.loads((nets / "result.json").read_text())["rows"]
    assert [row["model"] for row in rows] == ["nets:mine", "convnet3"]
    assert rows[0]["mean"] > 0.1  # of one epoch; no network at all would name a tenth rightly


@pytest.mark.slow
def test_the_installed_program_finds_it_as_well(tiny_run, nets):
    script = Path(sys.executable).with_name("gencond-fast")
    if not script.exists():
        pytest.skip("the package is installed without its program")
    arguments = [script, "evaluate", tiny_run, *map(str, BRIEF), "--model", "nets:wide"]
    done = subprocess.run(arguments, cwd=nets, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "makes [2, 11] and not [2, 10]: let it return logits" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_of_each_kind(tmp_path):
    file, run = tmp_path / "result.json", tmp_path / "few"
    sizes = {"num_classes": 10, "per_class": 2, "channels": 1, "image_size": 8, "code_size": 8}
    write_set(run, "pixels", tuple("0123456789"), **sizes)
    options = ("--model", "all", "--set", "precision=float32", "--json", file)
    done = call("evaluate", run, *BRIEF, *options)
    assert done.code == 0, done.err
    rows = json.loads(file.read_text())["rows"]
    names = ["convnet3", "resnet18", "vgg11", "alexnet", "vit"]
    assert [row["model"] for row in rows] == names
    assert "students 5/5" in done.err


@pytest.mark.parametrize("command", ["evaluate", "teachers", "score", "audit"])
def test_the_help_names_every_model(command):
    words = call(command, "--help").out.replace(",", " ").split()
    assert set(MODEL_NAMES) <= set(words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none_such:mine", "there is no module 'none_such' in "),
        ("resnet19", "or write module:function for one of your own"),
        ("resnet18in", "needs images of 9 pixels or more, and image_size is 8"),
    ],
)
def test_models_that_cannot_be_had(tiny_run, tmp_path, monkeypatch, name, words):
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = tmp_path / "result.json"
    refused(call("evaluate", tiny_run, *BRIEF, "--model", name, "--json", file), words)
    refused(call("teachers", "--data", "digits", "--model", name), words)
    assert not file.exists()
