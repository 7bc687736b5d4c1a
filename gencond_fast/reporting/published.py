"""Published accuracies of other methods, with their papers: `published.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from gencond_fast.store.budget import ipc_to_bytes
from gencond_fast.store.spec import StoreSpec


@dataclass(frozen=True)
class Method:
    """What one paper states for one data set.

    Attributes:
        name: of the method.
        paper: its arXiv number.
        points: bytes of float32 pixels at the paper's images a class, with the accuracy in per
            cent of a network trained from scratch on them.
    """

    name: str
    paper: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Published:
    """What papers state for one data set.

    Attributes:
        title: its name.
        methods: in the order of the file.
    """

    title: str
    methods: tuple[Method, ...]


def published_for(data_name: str, spec: StoreSpec) -> Published | None:
    """What is known of a data set, which is told by its name and its shape; None if nothing is.

    Args:
        data_name: last part of the path, or known name.
        spec: of the stored set; with other classes or another size nothing can be compared.
    """
    shape = {"classes": spec.num_classes, "channels": spec.channels, "image_size": spec.image_size}
    stem = data_name.lower().partition(".")[0]
    for entry in _read().values():
        if stem in entry["names"] and all(entry[name] == size for name, size in shape.items()):
            return Published(entry["title"], tuple(_method(row, entry) for row in entry["rows"]))
    return None


def _method(row: dict[str, Any], entry: dict[str, Any]) -> Method:
    shape = (entry["classes"], entry["channels"], entry["image_size"])
    points = (
        (ipc_to_bytes(ipc, *shape), accuracy)
        for ipc, accuracy in zip(entry["ipc"], row["accuracy"], strict=True)
        if accuracy is not None
    )
    return Method(row["method"], row["paper"], tuple(points))


@cache
def _read() -> dict[str, Any]:
    text = resources.files("gencond_fast.reporting").joinpath("published.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
