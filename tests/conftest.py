"""What every test shares: an installed package, a seed, a cache of its own, one finished run."""

from __future__ import annotations

import os

# one thread for each pytest worker and for every process that a test starts, set before torch is
# imported: workers do not fight over cores, and both kinds of process compute the same bits
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import importlib.util
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

settings.register_profile("all", deadline=None, derandomize=True, max_examples=40)
settings.register_profile("quick", settings.get_profile("all"), max_examples=10)

BENCHMARKS = Path(__file__).parent / "benchmarks"


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("quick" if config.option.markexpr == "not slow" else "all")


# before pytest itself selects by marks
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if BENCHMARKS in item.path.parents:
            item.add_marker(pytest.mark.slow)
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _same_start() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests read nothing from the user's cache and put nothing there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENCOND_FAST_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _tiny_run_as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """Removes the results that an evaluation leaves in the run that tests share."""
    shared = "tiny_run" in request.fixturenames
    run: Path | None = request.getfixturevalue("tiny_run") if shared else None
    yield
    for path in run.glob("evaluation-*.json") if run else ():
        path.unlink()


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> Path:
    """A finished run on the digits, which tests read and leave as it is."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    done = call("condense", "--data", "digits", "--out", run, *TINY)
    assert done.code == 0, done.err
    return run
