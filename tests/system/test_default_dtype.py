"""After `torch.set_default_dtype(torch.float64)` everything computes as before."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from store_builders import write_set

import gencond_fast as gf
from gencond_fast.store.artifact import FILE_NAME
from gencond_fast.system.default_dtype import float32_default

DTYPES = [torch.float64, torch.float16, torch.bfloat16]


@pytest.fixture(params=DTYPES, ids=str)
def other(request) -> Iterator[torch.dtype]:
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(torch.float32)


def test_inside_and_after(other):
    with float32_default, float32_default:
        assert torch.zeros(1).dtype == torch.float32
    with pytest.raises(ZeroDivisionError), float32_default:
        raise ZeroDivisionError
    assert torch.get_default_dtype() == other


def test_threads_that_overlap(other):
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with float32_default:
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(10)
    with float32_default:
        leave.set()
        thread.join()
        assert torch.get_default_dtype() == torch.float32
    assert torch.get_default_dtype() == other


@pytest.mark.parametrize("format", ["generator", "pixels", "dct"])
@pytest.mark.parametrize("sampling", ["fixed", "fresh"])
def test_a_condensed_file(tmp_path, format, sampling):
    if (format, sampling) == ("pixels", "fresh"):
        pytest.skip("pixels have no fresh samples")
    write_set(tmp_path / FILE_NAME, format=format)
    pictures = []
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        torch.manual_seed(0)
        try:
            data = gf.CondensedDataset(tmp_path, sampling=sampling)
            pictures.append(data[:4])
            assert data[0][0].dtype == torch.float32
            assert data.soft_targets([0]).dtype == torch.float32
        finally:
            torch.set_default_dtype(torch.float32)
    for one, another in zip(*pictures, strict=True):
        assert torch.equal(one, another)


def test_a_condensation_and_an_evaluation(tmp_path):
    options = {"bytes": 4000, "training": {"steps": 3}, "networks": {"width": 4, "train_steps": 2}}
    files = []
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            path = gf.condense("digits", out=tmp_path / str(dtype), preset="quick", **options)
            result = gf.evaluate(path, data="digits", models=["convnet3@4"], seeds=1, epochs=1)
            gf.export(path, tmp_path / f"npz-{dtype}", format="npz")
        finally:
            torch.set_default_dtype(torch.float32)
        files.append((gf.load(path).store(torch.arange(10)), result.rows[0].accuracies))
    assert torch.equal(files[0][0], files[1][0])
    assert files[0][1] == files[1][1]


def test_losses_of_float32_features(other):
    x = torch.randn(24, 8, dtype=torch.float32)
    labels = torch.arange(24) % 3
    target = gf.class_moments(x, labels, 3)
    for impl in ("auto", "reference"):
        found = [
            gf.intra_class_loss(x, labels, impl=impl),
            gf.inter_class_loss(x, labels, impl=impl),
            gf.moment_matching_loss(x, labels, target, impl=impl),
            gf.batchnorm_matching_loss([x], [target.mean[0]], [target.m2[0]], impl=impl),
            gf.class_moments(x, labels, 3, impl=impl).m2,
            gf.channel_moments(x, impl=impl).m2,
        ]
        assert {each.dtype for each in found} == {torch.float32}
        assert all(each.isfinite().all() for each in found)
