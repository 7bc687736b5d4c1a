"""Bad input on the command line: a sentence, exit code 2, nothing left behind.

One example for each place that refuses; tests of options, data and networks have the others.
"""

from __future__ import annotations

import numpy as np
import pytest
from command_line import TINY, call, refused, tree
from image_builders import encode, noise, pictures, write_tree
from PIL import Image

SHORT = (*TINY, "--steps", "6")
EXAMPLE = ("--data", "digits")


def folder(t, name="x.png", content=b""):
    """A folder of two classes, with one more file in the second."""
    root = write_tree(t / "set", pictures(6, ("ant", "bee")))
    (root / "bee" / name).write_bytes(content)
    return root


def file(path, content=""):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def without_labels(t):
    np.savez(t / "set.npz", images=noise(8, 8, 8))
    return t / "set.npz"


def filled(t, name):
    (t / name).mkdir()
    return file(t / name / "mine.txt", "precious").parent


JPEG = encode(Image.fromarray(noise(8, 8, 3)), "JPEG")
_ = "--set"

# what is wrong -> how the command ends, and words that must be on standard error
CONDENSE = {
    "no such data": (lambda t: ("--data", t / "none"), "none does not exist; give a folder"),
    "corrupt JPEG": (
        lambda t: ("--data", folder(t, "x.jpg", JPEG[: len(JPEG) // 2])),
        "bee/x.jpg cannot be decoded",
    ),
    "missing key": (lambda t: ("--data", without_labels(t)), "has no array `labels`"),
    "budget too small": (
        lambda t: (*EXAMPLE, "--bytes", "1KB"),
        "a budget of 1000 bytes is too small for 1 sample of each of 10 classes, which need ",
    ),
    "fixed sizes over the budget": (
        lambda t: (*EXAMPLE, _, "store.per_class=100000"),
        "too small for 100,000 samples",
    ),
    "unknown option": (
        lambda t: (*EXAMPLE, _, "networks.widht=3"),
        "unknown option 'networks.widht': did you mean 'networks.width'?",
    ),
    "bytes in words": (lambda t: (*EXAMPLE, "--bytes", "lots"), "'lots' is no amount of bytes"),
    "no GPU": (lambda t: (*EXAMPLE, "--device", "cuda"), "PyTorch sees no GPU here"),
    "out below a file": (
        lambda t: (*EXAMPLE, "--out", file(t / "f") / "run"),
        "give another --out",
    ),
    "out is a file": (lambda t: (*EXAMPLE, "--out", file(t / "f")), "f exists and is no run of"),
    "out is another folder": (
        lambda t: (*EXAMPLE, "--out", filled(t, "mine")),
        "mine exists and is no run of gencond-fast: give another --out",
    ),
    "broken config": (
        lambda t: (*EXAMPLE, "--config", file(t / "c.yaml", "a: [")),
        "c.yaml cannot be read as YAML",
    ),
}

USAGE = {
    "no command": ((), "Usage: gencond-fast"),
    "unknown command": (("distil",), "No such command 'distil'"),
    "unknown flag": (("condense", "--iqc", "1"), "No such option"),
    "no data": (("condense", "--out", "run"), "Missing option '--data'"),
    "bad preset": (("condense", *EXAMPLE, "--out", "run", "--preset", "x"), "'--preset'"),
    "text for a number": (("condense", *EXAMPLE, "--out", "r", "--steps", "x"), "'--steps'"),
    "none of a class": (("sample", "run", "--out", "o", "--per-class", "0"), "'--per-class'"),
    "bad format": (("sample", "run", "--out", "o", "--format", "gif"), "'--format'"),
    "bad baseline": (("evaluate", "run", *EXAMPLE, "--baseline", "all"), "'--baseline'"),
}


@pytest.mark.parametrize("case", CONDENSE)
def test_condense_refuses(tmp_path, case):
    build, words = CONDENSE[case]
    arguments = build(tmp_path)
    before = tree(tmp_path)
    # the later of two flags counts, so a case may give its own
    refused(call("condense", "--out", tmp_path / "run", *SHORT, "--quiet", *arguments), words)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("case", USAGE)
def test_usage_is_explained(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    arguments, words = USAGE[case]
    done = call(*arguments)
    assert done.code == 2
    assert words in done.err
    assert "Usage: gencond-fast" in done.err
    assert not tree(tmp_path)


def test_the_bytes_that_the_refusal_names_are_enough(tmp_path):
    small = call("condense", *EXAMPLE, "--out", tmp_path / "run", *SHORT, "--bytes", "1KB")
    needed = small.err.split("which need ")[1].split()[0]
    done = call("condense", *EXAMPLE, "--out", tmp_path / "run", *SHORT, "--bytes", needed)
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "condensed.safetensors").stat().st_size <= int(needed)
