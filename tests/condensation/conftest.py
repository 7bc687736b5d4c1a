"""What tests of condensation share: a cache of their own, and data with classes of all sizes."""

from __future__ import annotations

import pytest
from image_builders import pictures, write_tree


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENCOND_FAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def ragged(tmp_path_factory):
    """Colour images in classes of 5, 9 and 1."""
    root = tmp_path_factory.mktemp("ragged")
    for name, count in (("ant", 5), ("bee", 9), ("cow", 1)):
        write_tree(root, pictures(count, (name,), seed=count))
    return str(root)
