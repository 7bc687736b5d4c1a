"""What waits for a GPU, in the order of its worth, within the time that one is at hand.

    python -m benchmarks.device --data FOLDER --out DIR --seconds 540
    python -m benchmarks.device --data FOLDER --out DIR --only losses --only accuracy-ipc1

The checks stand in `benchmarks/device.yaml`: commands, each with a limit of its own. One that fails
or runs into its limit leaves its output in `DIR/NAME.log`, and the next one starts; one that passed
is not run again, so that a second call goes on with what is left.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import click
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from gencond_fast.config.options import parse, read_yaml
from gencond_fast.errors import InputError
from gencond_fast.system.environment import describe
from gencond_fast.system.files import write_json

CHECKS = Path(__file__).with_suffix(".yaml")
_STRICT = ConfigDict(extra="forbid")
_TAIL = 1500  # characters of the output that are kept in the summary
_MERCY = 10.0  # seconds to end in, once asked to


@dataclass(frozen=True, config=_STRICT)
class Check:
    """One command.

    Attributes:
        name: of its log.
        seconds: the most it may take.
        command: for bash; {data} and {out} stand for the two folders.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    seconds: Annotated[float, Field(gt=0)]
    command: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, config=_STRICT)
class _Checks:
    checks: Annotated[tuple[Check, ...], Field(min_length=1)]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a check ended.

    Attributes:
        name: of the check.
        code: exit code; None where the time was up.
        seconds: that it took.
        tail: the end of what it printed.
    """

    name: str
    code: int | None
    seconds: float
    tail: str


def read_checks(path: Path) -> tuple[Check, ...]:
    """The checks of a file, in order.

    Raises:
        InputError: it is no such file, or a name stands there twice.
    """
    checks = parse(_Checks, read_yaml(path)).checks
    names = [check.name for check in checks]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path} has several checks with the name {name!r}: rename them")
    return checks


def run_check(check: Check, data: Path, out: Path, seconds: float) -> Outcome:
    """Runs a command for so many seconds at most; its output goes to a file in `out`."""
    command = check.command.replace("{data}", str(data)).replace("{out}", str(out))
    log = out / f"{check.name}.log"
    start = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        # a group of its own, so that what it has started ends with it
        child = subprocess.Popen(
            ["bash", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(child)
    tail = log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
    return Outcome(check.name, code, time.monotonic() - start, tail)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Asks a command and all that it has started to end, and then makes them."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(_MERCY)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def run_checks(
    checks: tuple[Check, ...], data: Path, out: Path, seconds: float
) -> dict[str, Outcome]:
    """Runs those that have not passed yet while there is time, and writes `out/summary.json`.

    Returns:
        The outcomes of all that were run, now or before, by name.
    """
    out.mkdir(parents=True, exist_ok=True)
    summary = out / "summary.json"
    found = _before(summary)
    end = time.monotonic() + seconds
    for check in checks:
        if check.name in found and found[check.name].code == 0:
            click.echo(f"{check.name}: passed before")
            continue
        left = end - time.monotonic()
        if left <= 0:
            click.echo(f"{check.name}: no time left")
            continue
        outcome = run_check(check, data, out, min(check.seconds, left))
        found[check.name] = outcome
        click.echo(f"{check.name}: {_word(outcome)} after {outcome.seconds:.0f} s")
        plain = {name: dataclasses.asdict(each) for name, each in found.items()}
        write_json(summary, {"environment": describe(), "checks": plain})
    return found


def _before(summary: Path) -> dict[str, Outcome]:
    if not summary.exists():
        return {}
    checks: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))["checks"]
    return {name: Outcome(**values) for name, values in checks.items()}


def _word(outcome: Outcome) -> str:
    if outcome.code is None:
        return "time was up"
    return "passed" if outcome.code == 0 else f"failed with code {outcome.code}"


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of data sets: cifar10 and imagenette128.tar.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of results.")
@click.option("--seconds", type=float, default=540.0, show_default=True, help="In all.")
@click.option("--only", multiple=True, help="Name of a check; may be given several times.")
@click.option("--list", "listed", is_flag=True, help="Print the checks only.")
def main(data: Path, out: Path, seconds: float, only: tuple[str, ...], listed: bool) -> None:
    """Run the checks that wait for a GPU. Exit code 1 if one that was run has not passed."""
    checks = read_checks(CHECKS)
    names = {check.name for check in checks}
    if unknown := set(only) - names:
        raise click.UsageError(f"there is no check {', '.join(sorted(unknown))}: see --list")
    chosen = tuple(check for check in checks if not only or check.name in only)
    if listed:
        for check in chosen:
            click.echo(f"{check.name} ({check.seconds:.0f} s)\n    {check.command.strip()}")
        return
    if not torch.cuda.is_available():
        raise click.UsageError("PyTorch finds no CUDA device here")
    found = run_checks(chosen, data, out, seconds)
    sys.exit(any(found[c.name].code != 0 for c in chosen if c.name in found))


if __name__ == "__main__":
    main()
