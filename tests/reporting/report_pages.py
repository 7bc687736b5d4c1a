"""Runs to report on, and pages taken apart."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from gencond_fast.reporting.score import Score
from gencond_fast.store.artifact import FILE_NAME, load, save

VOID = {"meta", "img", "br", "link", "input", "hr"}


def copy_of(run: Path, target: Path) -> Path:
    shutil.copytree(run, target)
    return target


def rename_classes(run: Path, names: list[str]) -> None:
    """Gives the first classes of a condensed file other names."""
    artifact = load(run)
    kept = artifact.metadata.class_names
    metadata = replace(artifact.metadata, class_names=(*names, *kept[len(names) :]))
    save(run / FILE_NAME, artifact.store, metadata)


def result(size: int, *rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What `evaluate --json` writes."""
    plain = {
        "rows": [
            {
                "training_set": "stored",
                "model": "convnet3",
                "images_per_class": 12,
                "accuracies": [0.5, 0.6],
                "seconds": 1.0,
                "steps": 30,
            }
            | row
            for row in rows or ({},)
        ],
        "protocol": {"name": "dc"},
        "epochs": 20,
        "bytes": size,
        "ipc": 1.0,
        "ipc_uint8": 4.0,
        "bits_per_class": 1.0,
        "test_images": 359,
        "held_out": None,
        "environment": {},
    }
    return plain | changes


def write_result(run: Path, name: str, *rows: dict[str, Any], **changes: Any) -> None:
    size = (run / FILE_NAME).stat().st_size
    (run / name).write_text(json.dumps(result(size, *rows, **changes)))


def score(**changes: Any) -> Score:
    """A row of the table of accuracies."""
    plain = {
        "run": "r",
        "file": "f.json",
        "kind": "random" if changes.get("baseline") else "stored",
        "trained_on": "the condensed file",
        "baseline": False,
        "full": False,
        "images": "12",
        "model": "convnet3",
        "protocol": "dc",
        "epochs": 1,
        "steps": 1,
        "seeds": 2,
        "mean": 50.0,
        "std": 1.0,
        "tested_on": "9 test images",
        "held_out": False,
        "file_bytes": 122_880,
        "outdated": False,
        "augmented": True,
    }
    return Score(**(plain | changes))


class Page(HTMLParser):
    """The elements of a page, and whether they are nested as they should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source = text
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} stands twice"
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.append((self.open[-1], data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(data for tag, data in self.texts if tag not in ("style",)).split())
