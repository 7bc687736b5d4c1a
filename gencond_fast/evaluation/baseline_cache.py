"""What students of baselines scored, kept for the evaluations that have the same ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as validated

from gencond_fast.distributed.ranks import Ranks
from gencond_fast.system.cache import cache_directory, cache_key, load_json, save_json


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


class BaselineCache:
    """Outcomes in the cache.

    Args:
        shared: what all outcomes of an evaluation depend on.

    Attributes:
        found: how many were there already, by the name of the baseline.
    """

    def __init__(self, shared: Mapping[str, Any]) -> None:
        self._shared = shared
        self.found: Counter[str] = Counter()

    def find(self, baseline: str, **parts: Any) -> Outcome | None:
        """What is known of the student that these parts tell from others; None if nothing is."""
        outcome = _read(self._path(baseline, parts))
        if outcome is not None:
            self.found[baseline] += 1
        return outcome

    def keep(self, outcome: Outcome, baseline: str, **parts: Any) -> None:
        """Lets later evaluations find it under the same parts.

        Raises:
            OSError: the cache cannot be written.
        """
        save_json(self._path(baseline, parts), asdict(outcome))

    def share(self, ranks: Ranks) -> None:
        """Adds up `found` over ranks."""
        self.found = sum(map(Counter, ranks.all_gather_object(self.found)), Counter())

    def _path(self, baseline: str, parts: Mapping[str, Any]) -> Path:
        key = cache_key(kind="control", control=baseline, **self._shared, **parts)
        return cache_directory("controls") / f"{key}.json"


def _read(path: Path) -> Outcome | None:
    """None where there is none or it is damaged."""
    try:
        return TypeAdapter(Outcome).validate_json(json.dumps(load_json(path)))
    except ValueError:
        return None
