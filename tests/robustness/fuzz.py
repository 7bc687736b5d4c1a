"""Readers of files from strangers, given spoilt ones.

    python -m tests.robustness.fuzz --seconds 120
    python -m tests.robustness.fuzz npz --seconds 600 --seed 7

Of a reader only `InputError` may come, within a few seconds, within a bound of memory, and nothing
may be written beside the file. What breaks that is kept and named.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType

import click
import torch

from gencond_fast.errors import InputError
from tests.robustness.hostile import spoil
from tests.robustness.readable import TARGETS, Target, files_within

MEMORY = 3 << 29  # bytes beyond what the process has; an image of MAX_PIXELS takes most of it
SECONDS = 10.0  # of a core, for one file


class TooLong(BaseException):
    """A reader is at it for too long; nothing that readers catch."""


def attempt(target: Target, content: bytes, folder: Path) -> bool:
    """Reads one content; whether it was taken.

    Args:
        target: who reads.
        content: of the file.
        folder: empty but for that file.

    Raises:
        BaseException: what a reader must not raise, or AssertionError where files appeared.
    """
    place = folder / target.file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    before = files_within(folder.parent)
    try:
        with _alarm(SECONDS):
            target.read(place)
        taken = True
    except InputError:
        taken = False
    added = files_within(folder.parent) - before
    assert not added, f"written: {sorted(added)}"
    return taken


@contextmanager
def bounded(memory: int = MEMORY) -> Iterator[None]:
    """Within it the process cannot take more than so many bytes beyond those it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + memory, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise TooLong(f"not done after {seconds} s")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def _work(target: Target, seconds: float, seed: int, folder: Path) -> None:
    rng, seeds = Random(seed), target.seeds()
    for content in seeds:  # what every file shares is imported before memory is bounded
        attempt(target, target.seal(content), folder)
    files = taken = 0
    slowest, end = 0.0, time.monotonic() + seconds
    with bounded():
        while time.monotonic() < end:
            content = target.seal(spoil(rng.choice(seeds), rng, target.edits))
            start = time.monotonic()
            taken += attempt(target, content, folder)
            slowest = max(slowest, time.monotonic() - start)
            files += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"  {files:,} files, {taken:,} taken, slowest {slowest:.2f} s, peak {peak:.0f} MB in all",
        flush=True,
    )


def _in_a_process(name: str, seconds: float, seed: int, keep: Path) -> bool:
    """Whether a reader stood it: in a process of its own, which hostile bytes might end."""
    print(name, flush=True)
    with tempfile.TemporaryDirectory(prefix="gencond-fuzz-") as place:
        folder = Path(place) / "given" / "file"
        folder.mkdir(parents=True)
        child = os.fork()
        if not child:
            os.environ["GENCOND_FAST_CACHE"] = f"{place}/cache"
            code = 1
            try:
                _work(TARGETS[name], seconds, seed, folder)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            keep.mkdir(parents=True, exist_ok=True)
            kept = keep / f"{name.partition(',')[0]}-{random.randrange(10**6)}"
            shutil.copyfile(folder / TARGETS[name].file, kept)
            print(f"  ended with {code}; the file is {kept}", flush=True)
        return code == 0


@click.command()
@click.argument("names", nargs=-1)
@click.option("--seconds", default=120.0, show_default=True, help="For each reader.")
@click.option("--seed", default=0, show_default=True)
@click.option("--keep", default="fuzz", show_default=True, help="Folder for what breaks a reader.")
def main(names: tuple[str, ...], seconds: float, seed: int, keep: str) -> None:
    """Gives spoilt files to readers: NAMES, or all of them."""
    torch.set_num_threads(1)
    stood = [_in_a_process(name, seconds, seed, Path(keep)) for name in names or TARGETS]
    sys.exit(not all(stood))


if __name__ == "__main__":
    main()
