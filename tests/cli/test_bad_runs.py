"""Commands on a run, asked for what cannot be: a sentence, exit code 2, nothing left behind."""

from __future__ import annotations

import shutil

import pytest
from command_line import TINY, call, refused, tree
from image_builders import pictures, write_tree

MADE = pictures(6, ("ant", "bee"))
EXAMPLE = ("--data", "digits")
_ = "--set"


def file(path, content=""):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def with_val(t):
    write_tree(t / "set" / "train", MADE)
    return write_tree(t / "set" / "val", MADE).parent


def filled(t, name):
    (t / name).mkdir()
    return file(t / name / "mine.txt", "precious").parent


def damaged(run, t):
    return file(t / "d.safetensors", (run / "condensed.safetensors").read_bytes()[:-9])


def missing_product(run, t):
    shutil.copytree(run, t / "copy")
    (t / "copy" / "condensed.safetensors").unlink()
    return t / "copy"


def spoilt_config(run, t, text):
    shutil.copytree(run, t / "copy")
    file(t / "copy" / "config.yaml", text)
    return ("--out", t / "copy", *EXAMPLE)


# on a finished run
EVALUATE = {
    "no such run": (lambda r, t: (t / "none", *EXAMPLE), "none does not exist: condense first"),
    "no product yet": (
        lambda r, t: (missing_product(r, t), *EXAMPLE),
        "condensed.safetensors does not exist: condense first",
    ),
    "damaged file": (
        lambda r, t: (damaged(r, t), *EXAMPLE),
        "d.safetensors is no usable condensed file",
    ),
    "no val split": (
        lambda r, t: (r, "--data", write_tree(t / "set", pictures(2, tuple("0123456789")))),
        "has no validation split to test on: condense with --val-fraction 0.1",
    ),
    "other classes": (
        lambda r, t: (r, "--data", with_val(t)),
        "has other classes than",
    ),
    "json into nowhere": (
        lambda r, t: (r, *EXAMPLE, "--json", t / "none" / "a.json"),
        "the folder",
    ),
    "json into a folder": (lambda r, t: (r, *EXAMPLE, "--json", t), "is a folder"),
    "unknown student": (
        lambda r, t: (r, *EXAMPLE, "--model", "lenet"),
        "unknown model 'lenet': choose one of convnet3",
    ),
}
SAMPLE = {
    "more than stored": (
        lambda r, t: (r, "--out", t / "o", "--per-class", 5000),
        "--per-class 5000 is more",
    ),
    "out is not empty": (lambda r, t: (r, "--out", filled(t, "o")), "o is not empty: give another"),
    "out is a file": (lambda r, t: (r, "--out", file(t / "o")), "o is not empty: give another"),
    "out below a file": (lambda r, t: (r, "--out", file(t / "f") / "o"), "/f"),
    "npz out is a file": (lambda r, t: (r, "--out", file(t / "o"), "--format", "npz"), "/o"),
    "no such run": (lambda r, t: (t / "none", "--out", t / "o"), "none does not exist"),
}
CONFIGS = {
    "torn": ("data: [", "config.yaml cannot be read as YAML"),
    "of another program": ("data: a\nout: b\nhello: world\n", "unknown option 'hello'"),
    "empty": ("", "option 'data' is missing"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_condense_refuses_a_run_whose_config_is_damaged(tiny_run, tmp_path, case):
    text, words = CONFIGS[case]
    arguments = spoilt_config(tiny_run, tmp_path, text)
    before = tree(tmp_path)
    done = call("condense", *TINY, *arguments)
    refused(done, words)
    assert f"{tmp_path / 'copy' / 'config.yaml'} is damaged" in done.err
    assert tree(tmp_path) == before


@pytest.mark.parametrize("case", EVALUATE)
def test_evaluate_refuses(tiny_run, tmp_path, case):
    build, words = EVALUATE[case]
    arguments = build(tiny_run, tmp_path)
    before = tree(tmp_path)
    refused(call("evaluate", "--quiet", "--seeds", 1, "--epochs", 1, *arguments), words)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("case", SAMPLE)
def test_sample_refuses(tiny_run, tmp_path, case):
    build, words = SAMPLE[case]
    arguments = build(tiny_run, tmp_path)
    before = tree(tmp_path)
    refused(call("sample", *arguments), words)
    assert tree(tmp_path) == before
