"""What a process and all below it take, as Linux counts it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_INTERVAL = 0.05  # seconds
_PARENT, _TIMES = 1, slice(11, 15)  # fields of stat behind the name; times end with dead children


def cpu_seconds(pid: int) -> float:
    """Time on all cores so far, in user and kernel, dead children included; 10 ms steps."""
    return sum(sum(int(tick) for tick in stat[_TIMES]) for stat in _tree(pid).values()) / _TICKS


def own_bytes(pid: int) -> int:
    """Memory that is not of files; what several processes share counts once."""
    return sum(_own(each) for each in _tree(pid))


def descendants(pid: int) -> list[int]:
    """All processes below a process."""
    return [each for each in _tree(pid) if each != pid]


@contextmanager
def peak_of(pid: int) -> Iterator[Callable[[], tuple[int, int]]]:
    """Watches `own_bytes` for as long as the context lasts; it gives the first and the highest."""
    first = highest = own_bytes(pid)
    ended = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not ended.wait(_INTERVAL):
            highest = max(highest, own_bytes(pid))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: (first, highest)
    finally:
        ended.set()
        watcher.join()


def _tree(pid: int) -> dict[int, list[str]]:
    """The status of a process and of all below it."""
    found = {int(path.name): _stat(path) for path in _PROC.iterdir() if path.name.isdigit()}
    stats = {each: stat for each, stat in found.items() if stat}
    tree: dict[int, list[str]] = {}
    new = {pid} & stats.keys()
    while new:
        tree |= {each: stats[each] for each in new}
        new = {each for each, stat in stats.items() if int(stat[_PARENT]) in new}
    return tree


def _stat(path: Path) -> list[str]:
    try:
        # the name, in brackets, may hold anything
        return (path / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _own(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    sizes = (line.split() for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
    return sum(int(size) for _, size, _ in sizes) * 1024
