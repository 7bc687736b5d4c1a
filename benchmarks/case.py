"""What a benchmark hands to the runner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.timing import Timing

Measure = Callable[[Mapping[str, Timing]], Mapping[str, Mapping[str, float | None]]]


@dataclass(frozen=True)
class Case:
    """Rivals for one task, made known only once their results agree.

    Attributes:
        key: the columns that tell the case from others.
        providers: what to call, by name; ours first.
        skipped: why a provider is not called, by name.
        floor_ms: the least time that any provider could take, if that is known.
        columns: further columns, that do not tell cases apart.
        yardsticks: columns that say which share of a provider's time another one would take, by
            the name of the column: that of the other one, and by what its time is multiplied.
        measure: gives further columns of each provider, once the times are known; None measures
            the memory of a call (peak_mb).
    """

    key: dict[str, object]
    providers: dict[str, Callable[[], object]]
    skipped: dict[str, str] = field(default_factory=dict)
    floor_ms: float | None = None
    columns: dict[str, object] = field(default_factory=dict)
    yardsticks: dict[str, tuple[str, float]] = field(default_factory=dict)
    measure: Measure | None = None
