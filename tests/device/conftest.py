"""All tests of the pretended device are slow, and share it."""

from __future__ import annotations

from pathlib import Path

import pytest
from dry_runs import PretendedDevice, obstacle


# before pytest itself selects by marks
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def pretended(_own_cache: None) -> PretendedDevice:
    """The device; the test is skipped where there is a real one, or no compiler."""
    if reason := obstacle():
        pytest.skip(reason)
    return PretendedDevice()
