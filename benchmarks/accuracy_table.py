"""Finished rows as a Markdown table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_COLUMNS = (
    *("name", "data", "trained on", "model", "format", "samples a class", "bytes", "bits a class"),
    *("accuracy %", "seeds", "epochs", "protocol", "tested on", "condense min", "evaluate min"),
)
_CONDENSED = ("stored", "fresh")


def markdown(results: Iterable[Mapping[str, Any]]) -> str:
    """One line for every training set and architecture of every result.

    Controls have no format and no bytes of their own; minutes of condensing stand once a result.
    """
    lines = [_line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
    for result in results:
        lines += [_line(_cells(result, place)) for place in range(len(result["rows"]))]
    return "\n".join(lines) + "\n"


def _cells(result: Mapping[str, Any], place: int) -> list[str]:
    row = result["rows"][place]
    condensed = row["training_set"] in _CONDENSED
    held_out = result["held_out"]
    return [
        result["name"],
        result["data"],
        row["training_set"] + ("" if row.get("augmented", True) else ", plain"),
        row["model"],
        result["format"] if condensed else "",
        str(row["images_per_class"]),
        f"{result['bytes']:,}" if condensed else "",
        f"{result['bits_per_class']:,.0f}" if condensed else "",
        f"{100 * row['mean']:.2f} ± {100 * row['std']:.2f}",
        str(len(row["accuracies"])),
        str(result["epochs"]),
        result["protocol"]["name"],
        "test" if held_out is None else f"{held_out:.0%} of train",
        f"{result['condense']['seconds'] / 60:.1f}" if place == 0 else "",
        f"{row['seconds'] / 60:.1f}",
    ]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
