"""Runs on the digits that something happens to, again and again, and what is left of them.

    python -m tests.robustness.faults killed --times 100
    python -m tests.robustness.faults writes --fault kill
    python -m tests.robustness.faults writes --fault full

`killed` sends SIGKILL at random moments and starts the same command again, until so many kills have
hit; `writes` lets one operation on files after the other go wrong, each in a run of its own, which
is then continued. Whatever happened, the product must have the bits of a run that nothing
happened to. A run is a forked copy of this process, so that a start costs no import.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import torch

from gencond_fast.cli import main as cli
from gencond_fast.data.formats.arrays import open_digits
from tests.robustness.faulty_files import Fault, faulty

PRODUCT = "condensed.safetensors"
OPTIONS = (
    *("--data", "digits", "--bytes", "8KB", "--steps", "40", "--device", "cpu"),
    *("--set", "networks.width=8", "--set", "networks.train_steps=5"),
    *("--set", "networks.random=1", "--set", "networks.trained=2"),
    *("--set", "training.checkpoint_every=10", "--set", "training.log_every=1"),
)
# a stage more, and networks trained on the whole split, which have states and caches of their own
LONG = (
    *(
        "--set",
        "trajectory.steps=6",
        "--set",
        "trajectory.epochs=2",
        "--set",
        "trajectory.max_start_epoch=1",
    ),
    *("--set", "trajectory.experts=1"),
    *("--soft-labels", "3", "--set", "labels.source=full_data", "--set", "teachers.epochs=2"),
    *("--set", "teachers.width=8", "--set", "teachers.count=1"),
)
_IMPORTED = ("gencond_fast.cli.condense", "gencond_fast.condensation.run")
FAULTS = {"full": errno.ENOSPC, "read-only": errno.EROFS, "broken": errno.EIO}


class Sandbox:
    """A run directory and a cache of its own, below one folder that can be emptied."""

    def __init__(self, root: Path, options: tuple[str, ...]) -> None:
        self.root = root
        self.run, self.cache, self.said = root / "run", root / "cache", root.parent / "said"
        self._options = options

    def empty(self) -> None:
        """As before the first start."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()

    def start(self, fault: Fault | None = None) -> int:
        """Forks a run and returns its process."""
        child = os.fork()
        if child:
            return child
        code = 70
        try:
            handle = os.open(self.said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            os.environ["GENCOND_FAST_CACHE"] = str(self.cache)
            with faulty(self.root, fault) if fault else nullcontext():
                cli.main(["condense", "--out", str(self.run), *self._options, "--quiet"])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 70
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def finish(self, fault: Fault | None = None) -> int:
        """Runs to the end: the exit code, negative for the number of a signal."""
        return _ended(self.start(fault))

    def errors(self) -> list[str]:
        """The lines that the last run printed."""
        return self.said.read_text().splitlines()

    def leftovers(self, folder: Path) -> list[Path]:
        """Temporary files that nobody has removed."""
        return sorted(path for path in folder.rglob(".*") if path.is_file())


def _ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def sandbox(options: tuple[str, ...]) -> Iterator[Sandbox]:
    """A sandbox in a temporary folder, removed with it."""
    with tempfile.TemporaryDirectory(prefix="gencond-faults-") as folder:
        made = Sandbox(Path(folder) / "box", options)
        made.empty()
        yield made


def kill_at_random(box: Sandbox, times: int, rng: random.Random) -> dict[str, Any]:
    """Kills runs at random moments until so many kills have hit.

    Raises:
        AssertionError: something was lost, or a product has other bits than the undisturbed one.
    """
    started = time.monotonic()
    assert box.finish() == 0, box.errors()
    length = time.monotonic() - started
    whole = (box.run / PRODUCT).read_bytes()
    box.empty()
    found: Counter[str] = Counter()
    while found["killed"] < times:
        before = _newest(box.run)
        child = box.start()
        time.sleep(rng.uniform(0.0, length))
        os.kill(child, signal.SIGKILL)
        code = _ended(child)
        assert code in (0, -signal.SIGKILL), box.errors()
        assert _newest(box.run) >= before, "a checkpoint is lost"
        found["killed"] += code != 0
        found["within a write"] += bool(box.leftovers(box.root))
        if (box.run / PRODUCT).exists():
            found["finished"] += 1
            assert (box.run / PRODUCT).read_bytes() == whole, "the product has other bits"
            box.empty()
    assert box.finish() == 0, box.errors()
    assert (box.run / PRODUCT).read_bytes() == whole, "the product has other bits"
    found["finished"] += 1
    return dict(found)


def fail_each_write(box: Sandbox, kind: str, every: int) -> dict[str, Any]:
    """Lets each `every`-th operation on files go wrong, each in a run of its own.

    Args:
        box: where.
        kind: `kill`, or one of FAULTS, which stays from that operation on.
        every: 1 for all of them.

    Raises:
        AssertionError: something was lost, half-written or not said, or the continued run gives
            other bits.
    """
    names = _operations(box)
    whole = (box.run / PRODUCT).read_bytes()
    found: Counter[str] = Counter()
    for place in range(0, len(names), every):
        box.empty()
        code = box.finish(_counting(partial(_strike, kind, place)))
        where = f"{kind} at {names[place]} ({place})"
        if kind == "kill":
            assert code == -signal.SIGKILL, (where, box.errors())
        elif code:
            lines = box.errors()
            assert code == 2, (where, lines)
            assert len(lines) == 1, (where, lines)
            assert lines[0].startswith("error: "), (where, lines)
            assert not box.leftovers(box.root), (where, box.leftovers(box.root))
        found["went on" if code == 0 else "stopped"] += 1
        product = box.run / PRODUCT
        assert not product.exists() or product.read_bytes() == whole, (where, "half a product")
        assert box.finish() == 0, (where, box.errors())
        assert product.read_bytes() == whole, (where, "the product has other bits")
        assert not box.leftovers(box.run), (where, box.leftovers(box.run))
    return {"operations": len(names), **found}


def _operations(box: Sandbox) -> list[str]:
    """The names of all operations on files of a whole run."""
    log = box.said.with_name("operations")

    def note(number: int, name: str) -> None:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"{name}\n".encode())
        os.close(handle)

    assert box.finish(_counting(note)) == 0, box.errors()
    return log.read_text().splitlines()


def _counting(act: Callable[[int, str], None]) -> Fault:
    count = -1

    def fault(name: str) -> None:
        nonlocal count
        count += 1
        act(count, name)

    return fault


def _strike(kind: str, place: int, number: int, name: str) -> None:
    if number == place and kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if number >= place:
        raise OSError(FAULTS[kind], os.strerror(FAULTS[kind]))


def _newest(run: Path) -> int:
    """The step of the newest checkpoint, 0 where there is none."""
    steps = (int(path.stem.partition("-")[2]) for path in run.glob("checkpoint/step-*.pt"))
    return max(steps, default=0)


def _warm_up() -> None:
    """Imports what runs need, without starting a thread, which a fork would lose."""
    torch.set_num_threads(1)
    open_digits()
    for name in _IMPORTED:
        import_module(name)


@click.group()
def main() -> None:
    """Faults at every moment of a run; any that costs something is an AssertionError."""
    _warm_up()


@main.command()
@click.option("--times", default=100, show_default=True, help="Kills that have hit.")
@click.option("--seed", default=0, show_default=True)
@click.option("--long", is_flag=True, help="With trajectories and teachers.")
def killed(times: int, seed: int, long: bool) -> None:
    """SIGKILL at random moments."""
    with sandbox(OPTIONS + LONG * long) as box:
        _tell(kill_at_random(box, times, random.Random(seed)))


@main.command()
@click.option("--fault", type=click.Choice(["kill", *FAULTS]), default="full", show_default=True)
@click.option("--every", default=1, show_default=True, help="1 for all operations.")
@click.option("--long", is_flag=True, help="With trajectories and teachers.")
def writes(fault: str, every: int, long: bool) -> None:
    """A fault at one operation on files after the other."""
    with sandbox(OPTIONS + LONG * long) as box:
        _tell(fail_each_write(box, fault, every))


def _tell(found: dict[str, Any]) -> None:
    print(", ".join(f"{name}: {number}" for name, number in found.items()))


if __name__ == "__main__":
    main()
