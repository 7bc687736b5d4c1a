"""Tests of ops run on every instruction set of this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from moment_cases import ISAS, set_isa

from gencond_fast import _ext


@pytest.fixture(autouse=True)
def _same_isa() -> Iterator[None]:
    before = _ext.module.cpu_isa() if _ext.module is not None else ""
    yield
    set_isa(before)


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    set_isa(request.param)
    return request.param
