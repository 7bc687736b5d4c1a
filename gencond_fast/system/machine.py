"""What of this machine falls to this process: the ranks of a job share its cores and its memory."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_MEMORY = Path("/proc/meminfo")
_MEMBERSHIP = Path("/proc/self/cgroup")

# names in the two versions of baseline groups: limit, usage, and what of it can be given up
_UNIFIED = ("memory.max", "memory.current", "inactive_file")
_LEGACY = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_UNIFIED_CPU = "cpu.max"
_LEGACY_CPU = ("cpu.cfs_quota_us", "cpu.cfs_period_us")


def own_cores() -> int:
    """Cores that this process may keep busy, at least 1.

    A container may have a share of the time of more cores, which counts as so many cores.
    """
    allowed = [len(os.sched_getaffinity(0)), *map(math.ceil, _quotas())]
    return max(1, min(allowed) // _ranks_here())


def own_memory() -> int:
    """Bytes that this process may still take without anything being swapped out or killed."""
    return min([_free(), *_left_in_groups()]) // _ranks_here()


def _ranks_here() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _free() -> int:
    return 1024 * _values(_MEMORY)["MemAvailable:"]


def _left_in_groups() -> Iterator[int]:
    """What is left in each baseline group around this process that has a limit."""
    for group, legacy in _groups("memory"):
        yield from _left(group, *(_LEGACY if legacy else _UNIFIED))


def _quotas() -> Iterator[float]:
    """The quota, in cores, of each control group around this process that has one."""
    for group, legacy in _groups("cpu"):
        try:
            if legacy:
                quota, period = ((group / name).read_text() for name in _LEGACY_CPU)
            else:
                quota, period = (group / _UNIFIED_CPU).read_text().split()
            cores = int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue  # the root of all groups has none, and `max` is no number
        if cores > 0:  # the older version has -1 for no quota
            yield cores


def _groups(controller: str) -> Iterator[tuple[Path, bool]]:
    """The control groups around this process, and whether they are of the older version."""
    if not _MEMBERSHIP.exists():
        return
    for line in _MEMBERSHIP.read_text().splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        roots = {_GROUPS / name for name in (controller, controllers)} if controllers else {_GROUPS}
        for root in sorted(root for root in roots if root.is_dir()):
            innermost = root / place.lstrip("/")
            for group in (innermost, *innermost.parents):
                if group.is_relative_to(root):
                    yield group, bool(controllers)


def _left(group: Path, limit: str, usage: str, spare: str) -> Iterator[int]:
    try:
        most, used = (group / limit).read_text(), int((group / usage).read_text())
        kept = used - _values(group / "memory.stat").get(spare, 0)
    except FileNotFoundError:
        return  # the root of all groups, and groups that a container cannot see, have no limit
    if most.strip() != "max":
        yield max(0, int(most) - kept)


def _values(path: Path) -> dict[str, int]:
    return {line.split()[0]: int(line.split()[1]) for line in path.read_text().splitlines()}
