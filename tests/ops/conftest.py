"""What tests of several ops share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gencond_fast import _ext

# without the extension the ops are the reference, and the same must hold for them
ISAS = _ext.build_info().get("cpu_isas", "none").split(",")


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set of this machine."""
    if _ext.module is None:
        yield request.param
        return
    before = _ext.module.cpu_isa()
    _ext.module.set_cpu_isa(request.param)
    yield request.param
    _ext.module.set_cpu_isa(before)
