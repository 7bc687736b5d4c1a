"""Accuracies of many settings: each row is condensed and evaluated, once.

Both are commands of `gencond-fast` in processes of their own. What is finished is not done again
unless its options change, and an interrupted condensation continues.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import click

from benchmarks.accuracy_rows import Row, read_rows
from benchmarks.accuracy_table import markdown
from gencond_fast.config import Config, EvaluateConfig
from gencond_fast.config.options import parse, to_plain
from gencond_fast.errors import InputError
from gencond_fast.store.artifact import FILE_NAME
from gencond_fast.system.files import write_json, write_text
from gencond_fast.system.interrupt import Terminated


class RowFailed(Exception):
    """A command of a row has failed; says which and how."""


@dataclass(frozen=True)
class Runner:
    """Runs rows into a folder.

    Attributes:
        out: holds `NAME.json` of every finished row, `NAME.log` and `runs/`.
        root: the folder of all data sets.
        own_cache: whether a condensation has networks and statistics of its own to make, in
            place of finding those of others in the user's cache.
    """

    out: Path
    root: Path
    own_cache: bool

    def commands(self, row: Row) -> tuple[list[str], list[str]]:
        """The arguments of `gencond-fast` that condense, and those that evaluate."""
        return row.commands(self.root, self._run_directory(row), self._evaluation(row))

    def finished(self, row: Row) -> dict[str, Any] | None:
        """The result of a row if it has one for the options of today."""
        record = _read_json(self.out / f"{row.name}.json")
        try:
            options = record["options"]
            same = parse(Config, options["condense"]) == row.config
            same &= parse(EvaluateConfig, options["evaluate"]) == row.evaluation
        except (InputError, KeyError, TypeError):
            return None
        return record if same else None

    def run(self, row: Row) -> None:
        """Condenses, evaluates and writes the result.

        Raises:
            RowFailed: a command failed.
        """
        (self.out / "runs").mkdir(parents=True, exist_ok=True)
        condense, evaluate = self.commands(row)
        condensing = self._condense(row, condense)
        start = time.perf_counter()
        self._call(row, evaluate)
        seconds = time.perf_counter() - start
        found = _read_json(self._evaluation(row))
        result = {
            "name": row.name,
            "data": row.data,
            "format": row.config.store.format,
            "commands": [shlex.join(["gencond-fast", *each]) for each in (condense, evaluate)],
            "options": {"condense": to_plain(row.config), "evaluate": to_plain(row.evaluation)},
            **found,
            "condense": condensing | {"own_cache": self.own_cache},
            "evaluate": {"seconds": seconds},
        }
        write_json(self.out / f"{row.name}.json", result)

    def _condense(self, row: Row, arguments: list[str]) -> dict[str, Any]:
        """Wall seconds of all starts together, but for those of one that was killed."""
        run = self._run_directory(row)
        path = run.with_name(f"{run.name}.json")
        record = _read_json(path) or {"seconds": 0.0, "starts": 0, "finished": False}
        if record["finished"] and (run / FILE_NAME).exists():
            return record
        record["starts"] += 1
        write_json(path, record)
        start = time.perf_counter()
        try:
            self._call(row, arguments)
            record["finished"] = True
        finally:
            record["seconds"] += time.perf_counter() - start
            write_json(path, record)
        return record

    def _call(self, row: Row, arguments: list[str]) -> None:
        click.echo(f"{row.name}: {arguments[0]}")
        log = self.out / f"{row.name}.log"
        environment = dict(os.environ)
        if self.own_cache:
            environment["GENCOND_FAST_CACHE"] = str(self._run_directory(row)) + ".cache"
        with log.open("a", encoding="utf-8") as file:
            # a session of its own: Ctrl-C is for this process, which passes it on
            child = subprocess.Popen(
                [sys.executable, "-m", "gencond_fast", *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            try:
                code = child.wait()
            except BaseException:
                child.terminate()
                child.wait()
                raise
        if code:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            said = lines[-1].removeprefix("error: ") if lines else "it said nothing"
            raise RowFailed(f"{arguments[0]} ended with code {code}: {said} ({log})")

    def _run_directory(self, row: Row) -> Path:
        return self.out / "runs" / row.key

    def _evaluation(self, row: Row) -> Path:
        return self.out / f"{row.name}.evaluation.json"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/accuracy"),
    show_default=True,
    help="Folder of results: NAME.json for each row, table.md, logs and run directories.",
)
@click.option("--only", multiple=True, help="Name of a row; may be given several times.")
@click.option(
    "--data-root",
    "root",
    type=click.Path(path_type=Path),
    default=Path(),
    show_default=True,
    help="Folder of the data sets that rows name.",
)
@click.option(
    "--own-cache",
    is_flag=True,
    help="Let every condensation make its networks and statistics itself, so that its time does "
    "not depend on which row came first.",
)
@click.option("--list", "listed", is_flag=True, help="Print the rows and their commands only.")
def main(
    file: Path, out: Path, only: tuple[str, ...], root: Path, own_cache: bool, listed: bool
) -> None:
    """Condense and evaluate the rows of a YAML FILE that are not finished yet.

    Exit code 1 if a row failed, 2 if the file cannot be used, 130 and 143 if asked to stop.
    """
    try:
        rows = read_rows(file)
        chosen = _chosen(rows, only)
    except InputError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    runner = Runner(out, root, own_cache)
    if listed:
        for row in chosen:
            lines = [shlex.join(["gencond-fast", *each]) for each in runner.commands(row)]
            click.echo("\n    ".join([row.name, *lines]))
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.exit(1 if _run_all(runner, rows, chosen) else 0)
    except (KeyboardInterrupt, Terminated) as stop:
        click.echo("error: asked to stop; run the same command again to continue", err=True)
        sys.exit(130 if isinstance(stop, KeyboardInterrupt) else 143)
    finally:
        signal.signal(signal.SIGTERM, before)


def _chosen(rows: list[Row], only: tuple[str, ...]) -> list[Row]:
    names = [row.name for row in rows]
    for name in only:
        if name not in names:
            raise InputError(f"--only {name}: there is no such row, choose from {', '.join(names)}")
    return [row for row in rows if not only or row.name in only]


def _run_all(runner: Runner, rows: list[Row], chosen: list[Row]) -> int:
    """Runs what is not finished, and returns how many rows failed."""
    failed = 0
    runner.out.mkdir(parents=True, exist_ok=True)
    for row in chosen:
        if runner.finished(row):
            click.echo(f"{row.name}: finished")
            continue
        try:
            runner.run(row)
        except RowFailed as error:
            failed += 1
            click.echo(f"error: {row.name}: {error}", err=True)
        _write_table(runner, rows)
    click.echo(_write_table(runner, rows), nl=False)
    return failed


def _write_table(runner: Runner, rows: list[Row]) -> str:
    table = markdown([result for row in rows if (result := runner.finished(row))])
    write_text(runner.out / "table.md", table)
    return table


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


if __name__ == "__main__":
    main()
