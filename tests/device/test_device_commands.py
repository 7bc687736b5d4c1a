"""Whole commands on a pretended CUDA device: they end, and mix tensors of no two devices."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dry_runs import PATHS, SMALL_NETWORKS, PretendedDevice, succeed
from safetensors.torch import load_file
from stopping import PRODUCT

DATA = ("--data", "digits", "--device", "cuda", "--set", "compile=off")
SMALL = (*DATA, *SMALL_NETWORKS, "--bytes", "8KB", "--steps", "4", "--set", "training.log_every=1")
STUDENT = ("--model", "convnet3@8", "--seeds", "1", "--epochs", "1")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pretended")


def condensed(pretended: PretendedDevice, out: Path, *options: str) -> Path:
    """A finished run, made once."""
    if not (out / PRODUCT).exists():
        succeed(pretended.run("condense", "--out", out, *SMALL, *options))
    return out


@pytest.fixture
def dct(pretended: PretendedDevice, runs: Path) -> Path:
    return condensed(pretended, runs / "dct")


@pytest.fixture
def soft(pretended: PretendedDevice, runs: Path) -> Path:
    return condensed(pretended, runs / "soft", "--soft-labels", "4", *PATHS)


@pytest.mark.parametrize("format", ["generator", "pixels"])
def test_files_of_every_format_are_made_and_scored(
    pretended: PretendedDevice, runs: Path, format: str
) -> None:
    few = ("--set", "training.coding_steps=20") if format == "generator" else ()
    options = ("--set", f"store.format={format}", *few)
    run = condensed(pretended, runs / format, *options)
    succeed(pretended.run("score", run, *DATA, "--width", "8", "--epochs", "1", "--images", "100"))


def test_students_train_on_frequencies_and_on_baselines(
    pretended: PretendedDevice, dct: Path
) -> None:
    baselines = ("--baseline", "random", "--baseline", "full", "--without-augmentation")
    succeed(pretended.run("evaluate", dct, *DATA, *STUDENT, *baselines))


def test_students_train_in_parallel_and_are_attacked(pretended: PretendedDevice, dct: Path) -> None:
    attacks = ("--attack", "pgd", "--attack-images", "20", "--protocol", "modern")
    parallel = (
        "--model",
        "convnet3@8",
        "--seeds",
        "2",
        "--epochs",
        "1",
        "--parallel-students",
        "2",
    )
    succeed(pretended.run("evaluate", dct, *DATA, *STUDENT, *attacks))
    succeed(pretended.run("evaluate", dct, *DATA, *parallel))


def test_trajectories_and_soft_labels_lead_to_students(
    pretended: PretendedDevice, soft: Path
) -> None:
    succeed(pretended.run("evaluate", soft, *DATA, *STUDENT, "--protocol", "soft"))


def test_a_file_is_relabelled_and_audited(
    pretended: PretendedDevice, dct: Path, tmp_path: Path
) -> None:
    out = tmp_path / "relabelled.safetensors"
    labels = ("--soft-labels", "3", "--bytes", "20KB", "--out", out)
    succeed(pretended.run("relabel", dct, *DATA, *labels))
    succeed(pretended.run("audit", dct, *DATA, *STUDENT, "--images", "50", "--shadows", "6"))


def test_a_stopped_run_goes_on_to_the_same_bits(
    pretended: PretendedDevice, dct: Path, tmp_path: Path
) -> None:
    command = ("condense", "--out", tmp_path / "run", *SMALL)
    stopped = pretended.run("--stop", "matching 2", *command)
    assert stopped.returncode == 143, stopped.stderr[-3000:]
    succeed(pretended.run(*command))
    whole, resumed = load_file(dct / PRODUCT), load_file(tmp_path / "run" / PRODUCT)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


@pytest.mark.parametrize(
    "options",
    [
        "--discrepancy moments --discrepancy cf --discrepancy mmd --discrepancy sliced_wasserstein "
        "--discrepancy gradient --discrepancy logit --set losses.adversarial=0.1",
        "--discrepancy batchnorm:0.05 --discrepancy mean --set networks.model=convnet3bn "
        "--set networks.real_batch=20",
        "--dp-epsilon 10 --dp-delta 1e-5 --set networks.trained=0 --set networks.random=2",
        "--set training.selection=herding --set training.class_batch=4 "
        "--set training.ema_decay=0.9 --set training.micro_batch=40",
    ],
    ids=["discrepancies", "real-batches", "private", "herding"],
)
def test_losses_of_every_kind_are_computed(
    pretended: PretendedDevice, tmp_path: Path, options: str
) -> None:
    succeed(pretended.run("condense", "--out", tmp_path / "run", *SMALL, *options.split()))
