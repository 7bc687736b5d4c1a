"""The commands end to end: what they write, what they print, what they leave alone."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import TINY, call, launch, metrics, options_of
from PIL import Image

import gencond_fast as gf

COMMANDS = (
    *("condense", "evaluate", "relabel", "sample", "info", "teachers", "report"),
    *("score", "audit", "plan"),
)
SHORT = (*TINY, "--steps", "6")


def condense(out, *more, data="digits"):
    return call("condense", "--data", data, "--out", out, *more)


# what a run leaves


def test_a_run_leaves_its_product_and_its_record(tiny_run):
    names = {path.name for path in tiny_run.iterdir()}
    assert names >= {
        "condensed.safetensors",
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "samples.png",
        "checkpoint",
    }
    assert not [name for name in names if name.startswith(".")]
    assert options_of(tiny_run)["training"]["steps"] == 40
    assert json.loads((tiny_run / "environment.json").read_text())["versions"]["torch"]
    with Image.open(tiny_run / "samples.png") as picture:
        picture.load()
    assert 0 < (tiny_run / "condensed.safetensors").stat().st_size <= 8000


def test_each_logged_step_stands_once_in_the_metrics(tiny_run):
    lines = metrics(tiny_run)
    assert [line["step"] for line in lines] == [10, 20, 30, 40]
    assert [line["stage"] for line in lines] == ["match"] * 4
    assert {"mean", "intra", "inter"} <= lines[-1].keys()
    assert all(math.isfinite(v) for line in lines for v in line.values() if not isinstance(v, str))


def test_a_generator_is_fitted_before_it_is_matched(tmp_path):
    options = (*SHORT, "--set", "store.format=generator", "--set", "training.log_every=1")
    from_images = ("--set", "training.coding_steps=3")
    assert condense(tmp_path / "run", *options, *from_images).code == 0
    stages = [line["stage"] for line in metrics(tmp_path / "run")]
    assert stages == ["coding"] * 3 + ["match"] * 6
    assert condense(tmp_path / "noise", *options, "--set", "training.init=noise").code == 0
    stages = [line["stage"] for line in metrics(tmp_path / "noise")]
    assert stages == ["warm start"] * 3 + ["match"] * 3


def test_the_last_two_checkpoints_are_kept(tmp_path):
    assert condense(tmp_path / "run", *SHORT, "--set", "training.checkpoint_every=1").code == 0
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoint").iterdir())
    assert kept == ["step-00000005.pt", "step-00000006.pt"]


def test_a_finished_run_is_left_alone(tiny_run):
    def state():
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in tiny_run.rglob("*")}

    before = state()
    again = condense(tiny_run, *TINY)
    assert again.code == 0
    assert "is finished: nothing to do" in again.err
    size = (tiny_run / "condensed.safetensors").stat().st_size
    assert f"{size:,} bytes" in again.out
    assert state() == before


def test_the_same_options_give_the_same_bytes_and_another_seed_others(tmp_path, monkeypatch):
    def product(name, *more):
        monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / f"cache of {name}"))
        assert condense(tmp_path / name, *SHORT, *more).code == 0
        return (tmp_path / name / "condensed.safetensors").read_bytes()

    assert product("a") == product("b")
    assert product("c", "--seed", 1) != product("a2", "--seed", 2)


def test_other_options_are_refused_by_name(tiny_run):
    before = (tiny_run / "config.yaml").read_bytes()
    other = condense(tiny_run, *TINY, "--steps", 50, "--seed", 3, "--set", "losses.intra=0.5")
    assert other.code == 2
    assert other.err.startswith(f"error: {tiny_run} is a run with other options (")
    for difference in (
        "training.steps is 50, was 40",
        "seed is 3, was 0",
        "losses.intra is 0.5, was ",
    ):
        assert difference in other.err
    assert "another --out" in other.err
    assert "networks" not in other.err
    assert (tiny_run / "config.yaml").read_bytes() == before


def test_a_run_is_known_again_from_elsewhere_and_after_a_move(tiny_run, tmp_path, monkeypatch):
    shutil.copytree(tiny_run, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    again = condense("moved", *TINY)
    assert again.code == 0
    assert "nothing to do" in again.err


@pytest.mark.parametrize("damage", ["lost", "cut", "empty"])
def test_a_damaged_product_is_made_again(tiny_run, tmp_path, damage):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    product, original = run / "condensed.safetensors", tiny_run / "condensed.safetensors"
    if damage == "lost":
        product.unlink()
    else:
        product.write_bytes(original.read_bytes()[:-7] if damage == "cut" else b"")
    assert condense(run, *TINY).code == 0
    assert product.read_bytes() == original.read_bytes()
    assert metrics(run) == metrics(tiny_run)


# the other commands


def test_info_describes_a_run_and_its_file(tiny_run):
    file = tiny_run / "condensed.safetensors"
    of_run, of_file = call("info", tiny_run), call("info", file)
    assert of_run.out == of_file.out
    assert of_run.code == 0
    assert f"{file.stat().st_size:,} bytes" in of_run.out
    assert "10 classes x" in of_run.out
    assert f"{8 * file.stat().st_size / 10:,.0f} bits per class" in of_run.out
    assert re.search(r"training.steps.*40", of_run.out)
    assert of_run.out.count(str(tiny_run)) == 1  # where the file is now, not where it was made
    assert "lossy copies of training images" in of_run.out


def test_info_describes_the_installation():
    about = call("info")
    assert (about.code, about.err) == (0, "")
    assert re.search(rf"gencond_fast.*{re.escape(gf.__version__)}", about.out)
    assert re.search(r"cores.*\d", about.out)


def test_samples_are_written_as_folders_arrays_and_a_grid(tiny_run, tmp_path):
    folder = call("sample", tiny_run, "--out", tmp_path / "f", "--per-class", 2)
    assert (folder.code, folder.out.strip()) == (0, str(tmp_path / "f"))
    images = sorted(p.relative_to(tmp_path / "f") for p in (tmp_path / "f").rglob("*.png"))
    assert [str(p) for p in images[:3]] == ["0/00000.png", "0/00001.png", "1/00000.png"]
    assert len(images) == 20

    arrays = call("sample", tiny_run, "--out", tmp_path / "n", "--format", "npz")
    with np.load(arrays.out.strip()) as found:
        assert len(found["images"]) == len(gf.CondensedDataset(tiny_run))
        assert (np.bincount(found["labels"]) == len(found["labels"]) // 10).all()
        with Image.open(tmp_path / "f" / "3" / "00001.png") as picture:
            third = found["images"][found["labels"] == 3]
            np.testing.assert_array_equal(np.asarray(picture), third[1].squeeze())

    grid = call("sample", tiny_run, "--out", tmp_path / "g", "--format", "grid")
    assert grid.out.strip().endswith("samples.png")


def test_samples_can_be_condensed_again(tiny_run, tmp_path):
    call("sample", tiny_run, "--out", tmp_path / "set", "--per-class", 3)
    again = condense(tmp_path / "run", *SHORT, data=tmp_path / "set")
    assert again.code == 0, again.err


def test_evaluate_prints_a_table_and_writes_json(tiny_run, tmp_path):
    options = ("--seeds", 2, "--epochs", 2, "--baseline", "random")
    file = tmp_path / "result.json"
    done = call("evaluate", tiny_run, "--data", "digits", *options, "--json", file)
    assert done.code == 0, done.err
    rows = json.loads(file.read_text())["rows"]
    assert [row["training_set"] for row in rows] == ["stored", "random"]
    for row in rows:
        assert f"{100 * row['mean']:.2f} ± {100 * row['std']:.2f}" in done.out
    assert re.search(r"epochs: 2 on stored, \d+ on random, last epoch, 359 test images", done.out)


def test_evaluate_with_all_real_images(tiny_run, tmp_path):
    options = ("--seeds", 1, "--epochs", 2, "--baseline", "random", "--baseline", "full")
    file = tmp_path / "result.json"
    done = call("evaluate", tiny_run, "--data", "digits", *options, "--json", file)
    assert done.code == 0, done.err
    result = json.loads(file.read_text())
    rows = result["rows"]
    score = result["label_robust_scores"]["convnet3"]
    assert f"label-robust score of convnet3 (2505.13300, w = 0.5): {score:.4f}\n" in done.out
    assert [row["training_set"] for row in rows] == ["stored", "random", "full"]
    assert rows[2]["images_per_class"] == 144
    assert rows[2]["mean"] > rows[1]["mean"]
    assert re.search(r"full +│ +\d+ to \d+ │ convnet3", done.out)
    assert re.search(r"students (\d+)/\1\n", done.err)


def test_evaluate_on_the_stream(tiny_run):
    options = ("--seeds", 1, "--epochs", 2, "--sampling", "fresh")
    done = call("evaluate", tiny_run, "--data", "digits", *options)
    assert done.code == 0, done.err
    assert "fresh" in done.out


# the program around the commands


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_explains_itself_by_examples(name, flag):
    help_text = call(name, flag)
    assert (help_text.code, help_text.err) == (0, "")
    examples = help_text.out.split("Examples:")[1]
    assert re.search(rf"^ *gencond-fast {name}", examples, re.MULTILINE)


def test_the_program_lists_its_commands_and_knows_its_version():
    listed = call("--help")
    assert all(name in listed.out for name in COMMANDS)
    assert call("--version").out == f"gencond-fast, version {gf.__version__}\n"
    assert call().code == 2


def test_quiet_prints_the_result_only(tmp_path):
    done = condense(tmp_path / "run", *SHORT, "--quiet")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(str(tmp_path / "run" / "condensed.safetensors"))
    options = ("--seeds", 1, "--epochs", 1, "--quiet")
    judged = call("evaluate", tmp_path / "run", "--data", "digits", *options)
    assert (judged.code, judged.err) == (0, "")
    assert "stored" in judged.out


def test_module_and_script_in_a_process_of_their_own(tmp_path):
    run = tmp_path / "run"
    done = launch("condense", "--data", "digits", "--out", run, *SHORT)
    assert done.returncode == 0, done.stderr
    assert f"next: gencond-fast evaluate {run} --data digits" in done.stdout
    # no terminal: lines, no colours and no bars
    assert "matching 6/6" in done.stderr
    assert not re.search(r"[\x1b\r]", done.stdout + done.stderr)
    script = Path(sys.executable).with_name("gencond-fast")
    if script.exists():
        import subprocess

        shown = subprocess.run([script, "info", run], capture_output=True, text=True, check=True)
        assert "10 classes x" in shown.stdout


def test_a_folder_called_like_a_known_set_does_not_hide_it(tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    done = condense("run", *SHORT)
    assert done.code == 0, done.err
    assert options_of(tmp_path / "run")["data"] == "digits"
