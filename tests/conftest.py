"""What every test shares: an installed package, a seed, a cache of its own, one finished run."""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import TINY, call
from hypothesis import settings

if importlib.util.find_spec("gencond_fast") is None or (
    importlib.util.find_spec("gencond_fast.kernels") is None
):
    raise pytest.UsageError(
        "gencond_fast is not installed: the tests run on an installation, so first run "
        "`pip install --no-build-isolation -e .`"
    )

# read when a kernel is decorated, hence before any test imports one
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

settings.register_profile("gencond", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("gencond")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _same_start() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(2)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that the user has in their cache is read, and nothing is put there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENCOND_FAST_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> Path:
    """A finished run on the digits, which tests read and leave as it is."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    done = call("condense", "--data", "digits", "--out", run, *TINY)
    assert done.code == 0, done.err
    return run
