"""What every test shares: an installed package, a seed, two threads and Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os
import random

import numpy as np
import pytest
import torch
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
