"""What tests of evaluations share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _own_baselines(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """Students of baselines are kept in the cache: no test meets those of another one."""
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path_factory.mktemp("baselines")))
