"""Private runs as their user meets them: one look at the images, no other way to them."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal

import pytest
import stopped
import torch
from command_line import Outcome, call, refused, tree

import gencond_fast as gf
from gencond_fast.condensation.private import guarantee
from gencond_fast.condensation.private.task import Sealed
from gencond_fast.condensation.state import load_state
from gencond_fast.config import Config, NetworkConfig, PrivacyConfig
from gencond_fast.data.formats.arrays import ArraySplit
from gencond_fast.data.source import open_source
from gencond_fast.errors import InputError
from gencond_fast.store.artifact import load

PRODUCT, RELEASED = "condensed.safetensors", "released.pt"
SMALL = (
    *("--bytes", "8KB", "--steps", "20", "--networks", "2"),
    *("--set", "networks.width=8", "--set", "training.checkpoint_every=5"),
    *("--set", "training.log_every=1"),
    *("--dp-epsilon", "4", "--dp-delta", "1e-5"),
)


def arguments(run, more=()):
    return ["condense", "--data", "digits", "--out", str(run), *SMALL, *map(str, more)]


def condense(run, more=()):
    return call(*arguments(run, more))


def stop(place, run):
    """In this process: a run that gets SIGTERM at a place."""
    before, err = signal.getsignal(signal.SIGTERM), io.StringIO()
    try:
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            stopped.run(signal.SIGTERM, place, arguments(run))
    except SystemExit as end:
        return Outcome(end.code, "", err.getvalue())
    finally:
        signal.signal(signal.SIGTERM, before)
    raise AssertionError("the program did not end")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, _own_cache):
    run = tmp_path_factory.mktemp("private") / "run"
    done = condense(run)
    assert done.code == 0, done.err
    return run, done


# the guarantee is told


def test_the_guarantee_is_in_the_file_and_printed(finished):
    run, done = finished
    told = load(run).metadata.made["privacy"]
    assert (told["epsilon"], told["delta"], told["clip"], told["tables"]) == (4.0, 1e-5, 1.0, 2)
    assert told["noise_multiplier"] == pytest.approx(
        guarantee.noise_multiplier(4.0, 1e-5), abs=1e-6
    )
    assert told["sensitivity"] == pytest.approx(2.0 * 2**0.5, abs=1e-6)
    assert told["accountant"].startswith("dp-accounting 0.")
    info = call("info", run)
    for out in (done.out, info.out):
        for name, value in told.items():
            assert f"  {name}: {value}\n" in out
    assert "replace one" in told["neighbours"]
    assert "images of each class" in told["assumptions"]
    page = run / "report.html"
    assert call("report", run).code == 0
    assert "noise multiplier" in page.read_text()
    page.unlink()


def test_the_run_tells_nothing_of_the_images_beside_the_release(finished):
    run, _ = finished
    content = (run / PRODUCT).read_bytes()
    source = open_source("digits")
    assert source.fingerprint.encode() not in content
    metadata = load(run).metadata
    assert (metadata.mean, metadata.std) == ((0.5,), (0.5,))
    assert "data" not in metadata.made
    assert not (run / "real.png").exists()
    assert gf.CondensedDataset(run)[0][0].shape == (1, 8, 8)


def test_an_ordinary_file_claims_no_guarantee(tiny_run):
    assert "privacy" not in load(tiny_run).metadata.made


def test_info_tells_private_files_from_others(finished, tiny_run):
    run, _ = finished
    private, ordinary = call("info", run), call("info", tiny_run)
    assert (private.code, ordinary.code) == (0, 0)
    assert "privacy: none" in ordinary.out
    assert "privacy: none" not in private.out
    assert "privacy:\n" in private.out


def test_evaluation_does_not_miss_the_fingerprint(finished):
    run, _ = finished
    options = ("--epochs", 1, "--seeds", 1, "--model", "convnet3")
    done = call("evaluate", run, "--data", "digits", *options)
    assert done.code == 0
    assert "not, file for file" not in done.err


# one look


def test_every_image_is_read_once_and_none_after_the_release(tmp_path, monkeypatch):
    read, genuine = [], ArraySplit.read

    def counted(self, indices, block):
        assert not (tmp_path / "run" / RELEASED).exists()
        read.extend(indices.tolist())
        return genuine(self, indices, block)

    monkeypatch.setattr(ArraySplit, "read", counted)
    assert condense(tmp_path / "run").code == 0
    assert len(read) == len(set(read)) == 1438


@pytest.mark.parametrize("place", ["write step-00000005.pt", "matching 13"])
def test_an_interrupted_run_goes_on_without_the_images(tmp_path, monkeypatch, place):
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert stop(place, run).code == 143
    released = (run / RELEASED).read_bytes()
    whole.mkdir()
    for name in ("config.yaml", RELEASED):
        shutil.copy(run / name, whole)
    monkeypatch.setattr(ArraySplit, "read", None)  # whoever calls it fails
    for each in (run, whole):
        assert condense(each).code == 0
        assert (each / RELEASED).read_bytes() == released
    assert (run / PRODUCT).read_bytes() == (whole / PRODUCT).read_bytes()


@pytest.mark.parametrize("place", ["release 512", f"write {RELEASED}"])
def test_a_run_stopped_before_its_release_keeps_no_sums(tmp_path, monkeypatch, place):
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    assert stop(place, run).code == 143
    assert sorted(tree(run)) == ["config.yaml", "environment.json"]
    assert not (tmp_path / "cache" / "statistics").exists()
    assert condense(run).code == 0


def test_two_runs_of_one_seed_have_different_noise(finished, tmp_path):
    run, _ = finished
    assert condense(tmp_path / "run").code == 0
    one, other = (load_state(each / RELEASED)["mean"] for each in (run, tmp_path / "run"))
    assert one.shape == other.shape
    assert not (one == other).any()


@pytest.mark.parametrize("what", ["damaged", "gone"])
def test_a_lost_release_is_not_drawn_again(tmp_path, what):
    run = tmp_path / "run"
    assert stop("matching 13", run).code == 143
    path = run / RELEASED
    if what == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-40] + bytes(40))
    done = condense(run)
    assert done.code == 2
    last = done.err.splitlines()[-1]
    assert f"{path}, the noised statistics of this run, is {what}" in last
    assert "spend the privacy budget twice" in last
    assert path.exists() == (what == "damaged")


def test_sealed_images_cannot_be_read():
    split = open_source("digits").train.split
    sealed = Sealed(split)
    assert sealed.labels is split.labels
    with pytest.raises(RuntimeError, match="real images were asked for"):
        sealed.read(torch.arange(1).numpy(), 1)


# what is refused


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--set", "networks.trained=2"), "networks.trained is 2"),
        (
            ("--set", "networks.trained=1", "--set", "networks.interpolated=1"),
            "set networks.trained=0",
        ),
        (("--set", "networks.model=nets:mine"), "networks.model is nets:mine"),
        (("--set", "training.selection=herding"), "training.selection is herding"),
        (("--set", "networks.mixture=[vit]"), "the table is of one architecture"),
        (("--set", "networks.real_batch=8"), "set networks.real_batch=null"),
        (("--discrepancy", "mean", "--discrepancy", "mmd:0.5"), "losses.discrepancies is mmd"),
        (("--discrepancy", "cf"), "use --discrepancy mean alone"),
        (("--set", "training.init=real"), "samples start as random noise"),
        (("--set", "trajectory.steps=5"), "set trajectory.steps=0"),
        (("--soft-labels", 3), "set store.soft_labels=0"),
        (("--on-bad-image", "skip"), "on_bad_image is skip"),
        (("--method", "dm"), "leave --method out"),
        (("--preset", "accurate"), "leave --preset out"),
        (("--dp-delta", 0.01), "not below one over the 1,438 training images"),
        (("--dp-epsilon", 0), "privacy.epsilon"),
        (("--set", "privacy=3"), "'privacy'"),
        (("--dp-delta", 1.5), "privacy.delta"),
    ],
)
def test_what_would_look_again_is_refused(tmp_path, more, words):
    refused(condense(tmp_path / "run", more), words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", [("--dp-epsilon", 1), ("--dp-delta", 1e-5)])
def test_epsilon_and_delta_go_together(tmp_path, option):
    done = call("condense", "--data", "digits", "--out", tmp_path / "run", *option)
    refused(done, "give both --dp-epsilon and --dp-delta")


def test_the_package_that_accounts_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(guarantee, "find_spec", lambda name: None)
    refused(condense(tmp_path / "run"), "pip install dp-accounting")
    assert not (tmp_path / "run").exists()


def test_stats_keeps_no_tables_of_a_private_run():
    privacy = ("--set", "privacy.epsilon=1", "--set", "privacy.delta=1e-5")
    refused(call("stats", "--data", "digits", *privacy), "stats keeps tables without noise")


def test_a_private_file_gets_no_labels_by_teachers(finished, tmp_path):
    run, _ = finished
    before = tree(run)
    done = call("relabel", run, "--data", "digits", "--soft-labels", 2, "--bytes", "20KB")
    refused(done, f"{run} is differentially private")
    assert tree(run) == before


def test_a_config_made_by_hand_is_held_to_the_same(tmp_path):
    with pytest.raises(ValueError, match=r"networks\.trained is 4"):
        Config(data="digits", out=str(tmp_path), privacy=PrivacyConfig(1.0, 1e-5))
    networks = NetworkConfig(random=1, trained=0)
    with pytest.raises(InputError, match="not below one over"):
        gf.condense(
            Config(
                data="digits", out=str(tmp_path), networks=networks, privacy=PrivacyConfig(1.0, 0.5)
            )
        )


def test_several_ranks_do_not_draw_several_times(tmp_path, monkeypatch):
    networks = NetworkConfig(random=1, trained=0)
    config = Config(
        data="digits",
        out=str(tmp_path / "run"),
        networks=networks,
        privacy=PrivacyConfig(1.0, 1e-5),
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="once, in one process"):
        gf.condense(config)
    assert not (tmp_path / "run").exists()


# other formats and starts


@pytest.mark.parametrize(
    "more",
    [
        ("--set", "store.format=generator"),
        ("--set", "store.format=pixels"),
        ("--set", "store.format=pixels", "--set", "training.init=noise"),
    ],
)
def test_every_format_starts_from_noise(tmp_path, monkeypatch, more):
    run = tmp_path / "run"
    assert condense(run, (*more, "--steps", 10)).code == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["stage"] == "match"
    assert "mean" in lines[-1]
