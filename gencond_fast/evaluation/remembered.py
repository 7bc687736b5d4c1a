"""What students of controls scored, kept for the evaluations that have the same ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as validated

from gencond_fast.cache import cache_directory, cache_key
from gencond_fast.files import write_json


@validated(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Outcome:
    """One student.

    Attributes:
        accuracy: on all test images, as a fraction.
        attacked: on the attacked ones, by the name of the attack.
        steps: of its optimiser.
        seconds: that training and tests took.
    """

    accuracy: float
    attacked: dict[str, float]
    steps: int
    seconds: float


@dataclass(frozen=True)
class Remembered:
    """Outcomes in the cache.

    Attributes:
        shared: what all outcomes of an evaluation depend on.
        found: how many were there already, by the name of the control.
    """

    shared: Mapping[str, Any]
    found: dict[str, int] = field(default_factory=dict)

    def outcome(self, control: str, train: Callable[[], Outcome], **parts: Any) -> Outcome:
        """The outcome of these parts, which is trained for only if it is not there.

        Raises:
            OSError: the cache cannot be written.
        """
        key = cache_key(kind="control", control=control, **self.shared, **parts)
        path = cache_directory("controls") / f"{key}.json"
        known = _read(path)
        if known is not None:
            self.found[control] = self.found.get(control, 0) + 1
            return known
        made = train()
        write_json(path, asdict(made))
        return made


def _read(path: Path) -> Outcome | None:
    """None where there is none or it is damaged."""
    try:
        return TypeAdapter(Outcome).validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None
