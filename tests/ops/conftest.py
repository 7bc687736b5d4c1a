"""Tests of ops run on every instruction set of this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from moment_cases import ISAS, set_isa

from gencond_fast import _ext


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _ext.module.cpu_isa() if _ext.module is not None else ""
    set_isa(request.param)
    yield request.param
    set_isa(before)
