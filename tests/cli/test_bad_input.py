"""Every kind of bad input: a sentence, exit code 2, nothing left behind."""

from __future__ import annotations

import numpy as np
import pytest
from command_line import TINY, call, refused, tree
from image_builders import encode, noise, pictures, write_tree
from PIL import Image

MADE = pictures(6, ("ant", "bee"))
SHORT = (*TINY, "--steps", "6")
EXAMPLE = ("--data", "digits")


def folder(t, name="x.png", content=b"", **more):
    """A folder of two classes, with one more file in the second."""
    root = write_tree(t / "set", pictures(6, ("ant", "bee"), **more))
    (root / "bee" / name).write_bytes(content)
    return root


def file(path, content=""):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def arrays(t, **changes):
    made = {"images": noise(8, 8, 8), "labels": np.array([0, 1] * 4), **changes}
    np.savez(t / "set.npz", **{key: value for key, value in made.items() if value is not None})
    return t / "set.npz"


def emptied(t):
    root = write_tree(t / "set", MADE)
    (root / "cow").mkdir()
    return root


def filled(t, name):
    (t / name).mkdir()
    return file(t / name / "mine.txt", "precious").parent


JPEG = encode(Image.fromarray(noise(8, 8, 3)), "JPEG")
_ = "--set"

# what is wrong -> how the command ends, and words that must be on standard error
CONDENSE = {
    "no such data": (lambda t: ("--data", t / "none"), "none does not exist; give a folder"),
    "no kind of data": (lambda t: ("--data", file(t / "a.doc", "x")), "a.doc is no known kind"),
    "compressed data": (lambda t: ("--data", file(t / "a.tar.gz", "x")), "extract it"),
    "empty folder": (lambda t: ("--data", (t / "e").mkdir() or t / "e"), "/e holds no images"),
    "empty class": (lambda t: ("--data", emptied(t)), "set/cow holds no images"),
    "one class": (
        lambda t: ("--data", write_tree(t / "set", pictures(3, ("ant",)))),
        "has only one class, 'ant'; add images of another",
    ),
    "corrupt JPEG": (
        lambda t: ("--data", folder(t, "x.jpg", JPEG[: len(JPEG) // 2])),
        "bee/x.jpg cannot be decoded",
    ),
    "text called .jpg": (
        lambda t: ("--data", folder(t, "x.jpg", b"hello")),
        "bee/x.jpg is no image in a known format",
    ),
    "labels of a wrong length": (
        lambda t: ("--data", arrays(t, labels=np.zeros(7, int))),
        "`labels` has the shape (7,) for 8 images",
    ),
    "NaN images": (
        lambda t: ("--data", arrays(t, images=np.full((8, 8, 8), np.nan))),
        "`images` is float64 (and holds NaN); store pixels as uint8",
    ),
    "missing key": (lambda t: ("--data", arrays(t, labels=None)), "has no array `labels`"),
    "pickled npz": (
        lambda t: ("--data", arrays(t, images=np.array([{}] * 8, dtype=object))),
        "`images` holds pickled Python objects, which are never loaded",
    ),
    "val fraction too large": (
        lambda t: (*EXAMPLE, "--val-fraction", 1.5),
        "option 'val_fraction' cannot be 1.5: Input should be less than 1",
    ),
    "budget too small": (
        lambda t: (*EXAMPLE, "--bytes", "1KB"),
        "a budget of 1000 bytes is too small for 1 sample of each of 10 classes, which need ",
    ),
    "fixed sizes over the budget": (
        lambda t: (*EXAMPLE, _, "store.per_class=100000"),
        "too small for 100,000 samples",
    ),
    "unknown model": (
        lambda t: (*EXAMPLE, _, "networks.model=vgg"),
        "unknown model 'vgg': choose one of convnet3",
    ),
    "unknown discrepancy": (
        lambda t: (*EXAMPLE, _, "losses.discrepancies.mmd3=1"),
        "unknown discrepancy 'mmd3' in losses.discrepancies: choose from mean, moments",
    ),
    "unknown discrepancy by its flag": (
        lambda t: (*EXAMPLE, "--discrepancy", "mmd3:2"),
        "unknown discrepancy 'mmd3' in losses.discrepancies: choose from mean, moments, cf",
    ),
    "no weight": (lambda t: (*EXAMPLE, "--discrepancy", "cf:x"), "'x' is no number, give NAME"),
    "endless weight": (lambda t: (*EXAMPLE, "--discrepancy", "cf:inf"), "discrepancies.cf"),
    "nothing to minimise": (
        lambda t: (
            *(*EXAMPLE, _, "losses.discrepancies={}", _, "losses.intra=0"),
            *(_, "losses.inter=0", _, "losses.cross_entropy=0"),
        ),
        "losses",
    ),
    "unknown option": (
        lambda t: (*EXAMPLE, _, "networks.widht=3"),
        "unknown option 'networks.widht': did you mean 'networks.width'?",
    ),
    "bad value": (
        lambda t: (*EXAMPLE, _, "training.steps=many"),
        "option 'training.steps' cannot be 'many'",
    ),
    "bad choice": (
        lambda t: (*EXAMPLE, _, "losses.intra_kind=cosine"),
        "option 'losses.intra_kind' cannot be 'cosine'",
    ),
    "no assignment": (lambda t: (*EXAMPLE, _, "seed"), "--set 'seed' is not of the form key=value"),
    "steps below zero": (
        lambda t: (*EXAMPLE, "--steps", -1),
        "option 'training.steps' cannot be -1",
    ),
    "size too large to store": (lambda t: (*EXAMPLE, _, "store.width=9999"), "store.width"),
    "no networks": (
        lambda t: (*EXAMPLE, _, "networks.random=0", _, "networks.trained=0"),
        "networks.random and networks.trained are both 0",
    ),
    "two budgets": (lambda t: (*EXAMPLE, "--ipc", 4), "give the budget as ipc or as bytes"),
    "bytes in words": (lambda t: (*EXAMPLE, "--bytes", "lots"), "'lots' is no amount of bytes"),
    "tiny images": (lambda t: (*EXAMPLE, "--image-size", 2), "option 'image_size' cannot be 2"),
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
    "no config": (lambda t: (*EXAMPLE, "--config", t / "c.yaml"), "c.yaml does not exist"),
    "config is a folder": (lambda t: (*EXAMPLE, "--config", t), "cannot be read as YAML"),
    "broken config": (
        lambda t: (*EXAMPLE, "--config", file(t / "c.yaml", "a: [")),
        "c.yaml cannot be read as YAML",
    ),
    "config of bytes": (
        lambda t: (*EXAMPLE, "--config", file(t / "c.yaml", b"\xff\xfe\x00")),
        "c.yaml cannot be read as YAML",
    ),
    "config is a list": (
        lambda t: (*EXAMPLE, "--config", file(t / "c.yaml", "- a\n")),
        "c.yaml must hold lines of `option: value`",
    ),
    "config of numbers": (
        lambda t: (*EXAMPLE, "--config", file(t / "c.yaml", "1: 2\n")),
        "option '1' cannot be 1",
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
